import { count } from './format.js';
import { type Actor, type Exchange, REFRESH } from './wire.js';

/** How a generation was spent. */
export interface Rotation {
  /** The first characters of the attempt's Idempotency-Key, if it had one. */
  key?: string;
  /** How many answers to its requests were lost. */
  lost: number;
  /** Whether an answer has arrived. */
  arrived: boolean;
}

/** A spent generation that was used again. */
export interface Replay {
  generation: number;
  actor: Actor;
}

/** What the page knows about one session's refresh tokens, by generation. */
export class Chain {
  readonly session: string;
  /** The newest generation that the server has issued. */
  newest: number;
  /** The generation that the client holds. */
  held: number;
  /** The rotations, by the generation that was spent. */
  readonly rotations = new Map<number, Rotation>();
  replay: Replay | undefined;
  isOver = false;
  /** What happened last, and why. */
  story: string;

  constructor(session: string, generation: number) {
    this.session = session;
    this.newest = this.held = generation;
    this.story =
      generation === 1
        ? 'Signed in: a new session starts with generation 1 of its refresh token.'
        : `Still signed in: generation ${generation} of the refresh token is valid.`;
  }

  /** Records that the client now holds this generation. */
  holds(generation: number): void {
    this.held = generation;
    this.newest = Math.max(this.newest, generation);
  }

  /** Records a request that has ended, if it was a refresh. */
  refreshed(exchange: Exchange): void {
    const { actor, presented, issued, state, status, key } = exchange;
    if (exchange.path !== REFRESH || presented === undefined || this.isOver) return;
    if (issued === undefined) {
      if (state === 'failed') this.#unanswered(presented, key);
      else if (status === 401) this.#refused(presented, actor);
      return;
    }
    if (issued === presented) {
      this.story = `The server returned generation ${presented} again: it was issued a moment ago, and a reuse interval is set.`;
      return;
    }
    const rotation = this.rotations.get(presented) ?? { lost: 0, arrived: false };
    const isAgain = this.rotations.has(presented);
    if (key !== undefined) rotation.key = key;
    this.rotations.set(presented, rotation);
    this.newest = Math.max(this.newest, issued);
    if (state === 'lost') {
      rotation.lost += 1;
      this.story = `The server issued generation ${issued}, but the answer was lost. The client still holds generation ${presented}.`;
      return;
    }
    rotation.arrived = true;
    if (!isAgain) this.story = `Generation ${issued} replaced generation ${presented}, which is now spent.`;
    else if (key !== undefined)
      this.story = `The Idempotency-Key is the same, so this is a retry after a lost answer. The server returns the same generation ${issued} again. A thief would not know the key.`;
    else this.story = `The server returned generation ${issued} again: a reuse interval is set.`;
  }

  /** Records that the session has ended, and why. */
  ended(story: string): void {
    if (!this.isOver) this.story = story;
    this.isOver = true;
  }

  /** Describes the picture in words, for screen readers. */
  describe(): string {
    const { newest, replay } = this;
    const words = [
      newest === 1
        ? `A chain of refresh tokens with one generation.`
        : `A chain of refresh tokens, generations 1 to ${newest}.`,
    ];
    for (const [generation, { lost, arrived, key }] of this.rotations) {
      if (lost === 0 || generation >= newest) continue;
      const after = arrived ? `, and the retry with the same key got generation ${generation + 1} again` : '';
      words.push(
        `From ${generation} to ${generation + 1}, ${key === undefined ? 'without a key, ' : ''}` +
          `${count(lost, 'answer')} ${lost === 1 ? 'was' : 'were'} lost${after}.`,
      );
    }
    if (replay) {
      words.push(
        `A request with generation ${replay.generation} from ${WHO[replay.actor]} branches off and is refused.`,
      );
    }
    words.push(this.isOver ? 'The session has ended.' : `Generation ${newest} is valid.`);
    return words.join(' ');
  }

  #unanswered(generation: number, key: string | undefined): void {
    const rotation = this.rotations.get(generation) ?? { lost: 0, arrived: false };
    this.rotations.set(generation, { ...rotation, ...(key !== undefined && { key }), lost: rotation.lost + 1 });
    this.story = `The request or its answer was lost. The client still holds generation ${generation} and tries again.`;
  }

  #refused(generation: number, actor: Actor): void {
    if (actor === 'client' || generation >= this.newest) {
      this.ended(`Generation ${generation} was refused: the session has ended, or the server does not know the token.`);
      return;
    }
    this.replay = { generation, actor };
    this.ended(
      actor === 'thief'
        ? `Generation ${generation} is spent, and somebody used it again. So two clients hold tokens of this session, one of them is a thief, and the server cannot tell which. It ends the session for both, and you have to log in again.`
        : `Generation ${generation} is spent, and was used again without a key that would identify a retry. A thief’s request looks exactly like that, so the session ends.`,
    );
  }
}

/** The sender of a request, in words. */
export const WHO: Record<Actor, string> = {
  client: 'the client',
  thief: 'a thief',
  naive: 'a client without a key',
  device: 'another device',
};
