import { byId, html, say } from './dom.js';
import { type Bench, type Experiment, EXPERIMENTS, type Seen } from './experiments.js';

interface Card {
  experiment: Experiment;
  element: HTMLElement;
  button: HTMLButtonElement;
  seen: HTMLElement;
}

/** The experiments, each with its button, what should happen, and what happened. */
export class Lab {
  readonly #bench: Bench;
  readonly #cards = new Map<string, Card>();
  #isBusy = false;
  #isSignedIn = false;
  /** The card that waits for the access token to expire, and what its button does then. */
  #waiting: { card: Card; then: NonNullable<Seen['then']>; isDue: boolean } | undefined;

  constructor(bench: Bench) {
    this.#bench = bench;
    const list = byId('experiments').querySelector('ol') as HTMLElement;
    for (const experiment of EXPERIMENTS) {
      const button = html('button', { type: 'button', id: `try-${experiment.id}` }, experiment.title);
      const seen = html('p', { class: 'seen', role: 'status' });
      const element = html('li', { class: 'card' }, button, html('p', {}, experiment.expect), seen);
      const card = { experiment, element, button, seen };
      button.addEventListener('click', () => void this.#press(card));
      this.#cards.set(experiment.id, card);
      list.append(element);
    }
    bench.tabs.on('seen', ({ experiment, ...seen }) => {
      const card = this.#cards.get(experiment);
      if (card) show(card, seen);
    });
  }

  /** Enables and disables the buttons, depending on the mode and on whether a user is signed in. */
  update(isSignedIn: boolean): void {
    this.#isSignedIn = isSignedIn;
    if (!isSignedIn) this.#stopWaiting();
    const isCookie = this.#bench.client.mode === 'cookie';
    for (const { experiment, element, button, seen } of this.#cards.values()) {
      element.hidden = experiment.isForCookie === true && !isCookie;
      const whyNot = isCookie ? experiment.withCookie : undefined;
      if (whyNot) say(seen, whyNot);
      const isWaiting = this.#waiting?.card.experiment === experiment && !this.#waiting.isDue;
      // Not `disabled`, because a button that becomes disabled loses the focus.
      const isOff = this.#isBusy || !isSignedIn || whyNot !== undefined || isWaiting;
      button.setAttribute('aria-disabled', String(isOff));
    }
  }

  /** Called regularly with the time that the access token has left, in milliseconds. */
  tick(left: number): void {
    if (!this.#waiting || this.#waiting.isDue === left <= 0) return;
    if (left > 0) {
      this.#stopWaiting(); // another call has refreshed the token
    } else {
      this.#waiting.isDue = true;
      say(this.#waiting.card.button, this.#waiting.then.title);
    }
    this.update(this.#isSignedIn);
  }

  async #press(card: Card): Promise<void> {
    if (card.button.getAttribute('aria-disabled') === 'true') return;
    const then = this.#waiting?.card === card ? this.#waiting.then : undefined;
    this.#stopWaiting();
    this.#isBusy = true;
    card.element.classList.add('busy');
    this.update(this.#isSignedIn);
    const seen = await this.#run(() => (then ?? card.experiment).run(this.#bench));
    this.#isBusy = false;
    card.element.classList.remove('busy');
    show(card, seen);
    const { text, isRight } = seen;
    this.#bench.tabs.tell({ type: 'seen', experiment: card.experiment.id, text, isRight });
    if (seen.then) this.#waiting = { card, then: seen.then, isDue: false };
    this.update(this.#isSignedIn);
  }

  async #run(run: () => Promise<Seen>): Promise<Seen> {
    try {
      return await run();
    } catch (error) {
      return { isRight: false, text: (error as Error).message };
    }
  }

  #stopWaiting(): void {
    if (!this.#waiting) return;
    const { button, experiment } = this.#waiting.card;
    say(button, experiment.title);
    this.#waiting = undefined;
  }
}

function show({ element, seen }: Card, { text, isRight }: Pick<Seen, 'text' | 'isRight'>): void {
  element.classList.toggle('right', isRight);
  element.classList.toggle('wrong', !isRight);
  say(seen, text);
}
