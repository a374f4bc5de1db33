import { count } from './format.js';
import { type Actor, type Exchange, REFRESH } from './wire.js';

/** How a generation came to be spent. */
export interface Rotation {
  /** The beginning of the attempt's Idempotency-Key, if it had one. */
  key?: string;
  /** Answers that did not arrive. */
  lost: number;
  /** Whether one arrived. */
  arrived: boolean;
}

/** A spent generation that was presented again. */
export interface Replay {
  generation: number;
  actor: Actor;
}

/** What is known of one session's refresh tokens, generation after generation. */
export class Chain {
  readonly session: string;
  /** The newest generation that the server made. */
  newest: number;
  /** The one that the client holds. */
  held: number;
  /** By the generation that was spent. */
  readonly rotations = new Map<number, Rotation>();
  replay: Replay | undefined;
  isOver = false;
  /** What happened last, and why, in a sentence or two. */
  story: string;

  constructor(session: string, generation: number) {
    this.session = session;
    this.newest = this.held = generation;
    this.story =
      generation === 1
        ? 'Signed in: a new session begins, with generation 1 of its refresh token.'
        : `Still signed in: generation ${generation} of the refresh token is in force.`;
  }

  /** The client holds this generation now. */
  holds(generation: number): void {
    this.held = generation;
    this.newest = Math.max(this.newest, generation);
  }

  /** A refresh has come to its end. */
  refreshed(exchange: Exchange): void {
    const { actor, presented, issued, state, status, key } = exchange;
    if (exchange.path !== REFRESH || presented === undefined || this.isOver) return;
    if (issued === undefined) {
      if (state === 'failed') this.#unanswered(presented, key);
      else if (status === 401) this.#refused(presented, actor);
      return;
    }
    if (issued === presented) {
      this.story = `Generation ${presented} came back as it is: the reuse interval is on, and it was just made.`;
      return;
    }
    const rotation = this.rotations.get(presented) ?? { lost: 0, arrived: false };
    const isAgain = this.rotations.has(presented);
    if (key !== undefined) rotation.key = key;
    this.rotations.set(presented, rotation);
    this.newest = Math.max(this.newest, issued);
    if (state === 'lost') {
      rotation.lost += 1;
      this.story = `The server made generation ${issued}, but its answer was lost. The client still holds ${presented}.`;
      return;
    }
    rotation.arrived = true;
    if (!isAgain) this.story = `Generation ${presented} became ${issued}. ${presented} is spent.`;
    else if (key !== undefined)
      this.story = `The same Idempotency-Key: so this is the same attempt, whose answer was lost. The server gives the very same generation ${issued} again. A thief would not know the key.`;
    else this.story = `Generation ${issued} came again: the reuse interval is on.`;
  }

  /** The session is over, for this reason. */
  ended(story: string): void {
    if (!this.isOver) this.story = story;
    this.isOver = true;
  }

  /** All of it in words, for who cannot see the picture. */
  describe(): string {
    const { newest, replay } = this;
    const words = [
      newest === 1
        ? `A chain of refresh tokens with generation 1 alone.`
        : `A chain of refresh tokens, generations 1 to ${newest}.`,
    ];
    for (const [generation, { lost, arrived, key }] of this.rotations) {
      if (lost === 0 || generation >= newest) continue;
      const after = arrived ? `, and the retry with the same key arrived at ${generation + 1} again` : '';
      words.push(
        `From ${generation} to ${generation + 1}, ${key === undefined ? 'without a key, ' : ''}` +
          `${count(lost, 'answer')} ${lost === 1 ? 'was' : 'were'} lost${after}.`,
      );
    }
    if (replay) {
      words.push(`From generation ${replay.generation}, ${WHO[replay.actor]} branches off, and is refused.`);
    }
    words.push(this.isOver ? 'The session has ended.' : `Generation ${newest} is in force.`);
    return words.join(' ');
  }

  #unanswered(generation: number, key: string | undefined): void {
    const rotation = this.rotations.get(generation) ?? { lost: 0, arrived: false };
    this.rotations.set(generation, { ...rotation, ...(key !== undefined && { key }), lost: rotation.lost + 1 });
    this.story = `No answer came: the request or its answer was lost. The client still holds generation ${generation}, and tries again.`;
  }

  #refused(generation: number, actor: Actor): void {
    if (actor === 'client' || generation >= this.newest) {
      this.ended(`Generation ${generation} was refused: the session has ended, or the server does not know it.`);
      return;
    }
    this.replay = { generation, actor };
    this.ended(
      actor === 'thief'
        ? `Generation ${generation} is spent, and somebody presents it again. Two hold this session now; one of them is a thief, and the server cannot tell which. So it ends for both, and you sign in again.`
        : `Generation ${generation} is spent, and comes again with no key to say that it is the same attempt. A thief’s request looks just like that. So the session ends.`,
    );
  }
}

/** Who sends, in words. */
export const WHO: Record<Actor, string> = {
  client: 'the client',
  thief: 'a thief',
  naive: 'a client without a key',
  device: 'another device',
};
