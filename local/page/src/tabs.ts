import type { Exchange } from './wire.js';

type Message =
  | { type: 'who' }
  | { type: 'here'; tab: number }
  | { type: 'exchange'; exchange: Exchange }
  | { type: 'refresh'; at: number }
  | { type: 'refreshed'; generation: number | undefined }
  | { type: 'seen'; experiment: string; text: string; isRight: boolean };

type Of<T extends Message['type']> = Extract<Message, { type: T }>;

/** How long to wait for another tab, in milliseconds. */
const PATIENCE = 15_000;
/** How long it takes at most, in milliseconds, until another tab has a message, even if it is still loading. */
const DELIVERY = 300;

/** Waits for a moment, in milliseconds since the epoch. */
export function moment(at: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, at - Date.now()));
}

/** The tabs of this page in one browser. They see each other's requests, and can ask each other to refresh. */
export class Tabs {
  /** The number of this tab, from 1. */
  readonly tab = Number(/^#tab=(\d)$/.exec(location.hash)?.[1] ?? 1);
  readonly #channel = new BroadcastChannel('freshkey-page');
  readonly #listeners = new Set<(message: Message) => void>();

  constructor() {
    window.name = `freshkey-${this.tab}`;
    this.#channel.onmessage = ({ data }) => {
      for (const listener of this.#listeners) listener(data as Message);
    };
  }

  /** Sends a message to the other tabs. */
  tell(message: Message): void {
    this.#channel.postMessage(message);
  }

  /** Calls `listener` with each message of a type from another tab. Returns a function that stops this. */
  on<T extends Message['type']>(type: T, listener: (message: Of<T>) => void): () => void {
    const listen = (message: Message) => {
      if (message.type === type) listener(message as Of<T>);
    };
    this.#listeners.add(listen);
    return () => this.#listeners.delete(listen);
  }

  /** Waits for the next message of a type. Rejects if none arrives within `PATIENCE`. */
  next<T extends Message['type']>(type: T): Promise<Of<T>> {
    return new Promise((resolve, reject) => {
      const end = () => {
        clearTimeout(timer);
        forget();
      };
      const timer = setTimeout(() => {
        end();
        reject(new Error('The second tab does not answer. Did the browser block it?'));
      }, PATIENCE);
      const forget = this.on(type, (message) => {
        end();
        resolve(message);
      });
    });
  }

  /** Asks the other tab to refresh at a moment that both tabs can keep, and waits for it. */
  async askToRefresh(): Promise<void> {
    const at = Date.now() + DELIVERY;
    this.tell({ type: 'refresh', at });
    await moment(at);
  }

  /** Opens the second tab if it is not open, and waits until it is signed in. */
  async open(): Promise<void> {
    const other = this.tab === 1 ? 2 : 1;
    const here = this.next('here');
    window.open(`${location.pathname}#tab=${other}`, `freshkey-${other}`);
    this.tell({ type: 'who' });
    await here;
  }
}
