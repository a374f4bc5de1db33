import { decode, generation } from './jwt.js';

/** The sender of a request: the real client, a thief, a client without Idempotency-Keys, or another device of the user. */
export type Actor = 'client' | 'thief' | 'naive' | 'device';

/** One request and its outcome. It holds no secret, because tabs send it to each other. */
export interface Exchange {
  id: string;
  tab: number;
  actor: Actor;
  method: string;
  path: string;
  /** When it was sent, in milliseconds since the epoch. */
  at: number;
  /** How long it took, in milliseconds. */
  ms?: number;
  /** The first characters of its Idempotency-Key. */
  key?: string;
  /** Whether an earlier request had the same key. */
  isRetry: boolean;
  /** `lost`: the server answered, but the page dropped the answer. `failed`: no answer arrived. */
  state: 'pending' | 'answered' | 'lost' | 'failed';
  status?: number;
  /** The generation of the refresh token in the request. */
  presented?: number;
  /** The session, and the generation of the refresh token, in the answer. */
  session?: string;
  issued?: number;
}

/** The members of an answer that the page looks at. */
export interface TokenAnswer {
  access_token?: string;
  refresh_token?: string;
}

export const REFRESH = '/api/v1/auth/refresh';

/**
 * The connection between the clients of this page and the network. It reports
 * each exchange, and can lose an answer of the server.
 */
export class Wire {
  readonly #tab: number;
  readonly #report: (exchange: Exchange) => void;
  /** The generation in the cookie, which no script can read. */
  readonly #counted: () => number | undefined;
  readonly #keys = new Set<string>();
  #lose: ((answer: TokenAnswer) => void) | undefined;

  constructor(tab: number, counted: () => number | undefined, report: (exchange: Exchange) => void) {
    this.#tab = tab;
    this.#counted = counted;
    this.#report = report;
  }

  /** Loses the next answer to a refresh of any sender. Resolves with the lost answer. */
  loseNextAnswer(): Promise<TokenAnswer> {
    return new Promise((resolve) => (this.#lose = resolve));
  }

  /** Returns a `fetch` whose requests are sent by `actor`. */
  as(actor: Actor): typeof fetch {
    return (input, init) => this.#send(actor, new Request(input, init));
  }

  async #send(actor: Actor, request: Request): Promise<Response> {
    const path = new URL(request.url).pathname;
    const key = request.headers.get('idempotency-key');
    const exchange: Exchange = {
      id: crypto.randomUUID(),
      tab: this.#tab,
      actor,
      method: request.method,
      path,
      at: Date.now(),
      isRetry: key !== null && this.#keys.has(key),
      state: 'pending',
    };
    if (key !== null) {
      this.#keys.add(key);
      exchange.key = key.slice(0, 4);
    }
    if (path === REFRESH) {
      const body = (await read(request.clone())) as TokenAnswer;
      const presented = generation(body.refresh_token) ?? this.#counted();
      if (presented !== undefined) exchange.presented = presented;
    }
    this.#report(exchange);

    const started = performance.now();
    const finish = (state: Exchange['state']) => {
      this.#report({ ...exchange, state, ms: performance.now() - started });
    };
    let response: Response;
    try {
      response = await fetch(request);
    } catch (error) {
      finish('failed');
      throw error;
    }
    exchange.status = response.status;
    const answer = (response.ok ? await read(response.clone()) : {}) as TokenAnswer;
    if (answer.access_token) {
      const { sid } = decode(answer.access_token).claims;
      if (typeof sid === 'string') exchange.session = sid;
      exchange.issued = generation(answer.refresh_token) ?? (exchange.presented ?? 0) + 1;
    }
    if (this.#lose && path === REFRESH) {
      this.#lose(answer);
      this.#lose = undefined;
      finish('lost');
      throw new TypeError('The page lost this answer on purpose.');
    }
    finish('answered');
    return response;
  }
}

async function read(body: Body): Promise<unknown> {
  try {
    return (await body.json()) ?? {};
  } catch {
    return {};
  }
}
