// Requests that end: each within a time, repeated a few times where that can help.

import { FreshkeyError, type FieldError } from './errors.js';

/** An answer that was read to its end. */
export interface Answer {
  status: number;
  headers: Headers;
  /** The JSON of its body; `undefined` where that is not JSON. */
  body: unknown;
}

/** How long to try. */
export interface Patience {
  /** How often at most. */
  tries: number;
  /** How long one try may take, in milliseconds. */
  timeout: number;
  /** Ends it from outside: then the signal's reason is thrown. */
  signal?: AbortSignal;
  /** Called before each try; what it throws ends them. */
  before?: () => Promise<void>;
}

/** The longest `Retry-After` that is waited for, in milliseconds. */
const LONGEST_WAIT = 30_000;

/** The most that the first wait between two tries takes, in milliseconds; each later one may take twice as long. */
const FIRST_WAIT = 250;

/** The address of a path of the API. A path never leads to another host, whatever it begins with. */
export function join(baseUrl: string, path: string): string {
  return baseUrl.replace(/\/+$/, '') + path.replace(/^[/\\\s]*/, '/');
}

/**
 * A request and its answer, body and all. An answer that was cut short or is not what the server says (a captive
 * portal's page with status 200) counts as lost, and is asked for again.
 */
export function ask(fetch: typeof globalThis.fetch, url: string, init: RequestInit, patience: Patience) {
  const { tries, timeout, signal, before } = patience;
  const attempt = () =>
    within(timeout, signal, async (signal) => {
      const response = await fetch(url, { ...init, signal });
      const answer: Answer = { status: response.status, headers: response.headers, body: json(await response.text()) };
      if (response.ok && response.status !== 204 && answer.body === undefined)
        throw new Error('The answer is not JSON.');
      return answer;
    });
  return persist(tries, signal, attempt, before);
}

/**
 * What `attempt` answers; tried again where it throws, and where it answers 429, 500, 502, 503 or 504, after
 * `Retry-After` or a random wait that doubles. The last answer is returned whatever it is.
 *
 * @throws FreshkeyError `network` where no answer came in all the tries; the signal's reason once it is aborted; and
 * what `before`, which is called before each try, throws.
 */
export async function persist<T extends { status: number; headers: Headers; body: unknown }>(
  tries: number,
  signal: AbortSignal | null | undefined,
  attempt: () => Promise<T>,
  before?: () => Promise<void>,
): Promise<T> {
  for (let tried = 1; ; tried++) {
    signal?.throwIfAborted();
    await before?.();
    let answer: T | undefined;
    let cause: unknown;
    try {
      answer = await attempt();
      if (!isPassing(answer.status)) return answer;
    } catch (error) {
      signal?.throwIfAborted();
      cause = error;
    }
    const asked = ((answer && retryAfter(answer.headers)) ?? 0) * 1000;
    if (tried >= tries || asked > LONGEST_WAIT) {
      if (answer) return answer;
      throw new FreshkeyError('No answer came from the server.', { code: 'network', cause });
    }
    if (answer && isStream(answer.body)) discard(answer.body);
    await pause(asked + Math.random() * FIRST_WAIT * 2 ** (tried - 1), signal);
  }
}

/** Ends after some milliseconds, or as soon as the signal is aborted. */
export function pause(ms: number, signal?: AbortSignal | null): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done);
    if (signal?.aborted) done();
  });
}

/** What the server says is wrong, in either dialect, or in API Gateway's own words; `code` where it has none itself. */
export function failure({ status, headers, body }: Answer, code?: string): FreshkeyError {
  const said = (typeof body === 'object' && body !== null ? body : {}) as Partial<{
    error: string;
    detail: string;
    message: string;
    errors: FieldError[];
    request_id: string;
  }>;
  return new FreshkeyError(said.detail ?? said.message ?? `The server answered ${status}.`, {
    code: said.error ?? code ?? (status < 400 ? 'unreadable' : (CODES[status] ?? `http_${status}`)),
    status,
    fields: said.errors,
    retryAfter: retryAfter(headers),
    requestId: said.request_id,
  });
}

/** The codes of answers that bring none: those of the lexik dialect and of API Gateway. */
const CODES: Record<number, string> = {
  400: 'invalid_request',
  401: 'invalid_token',
  404: 'not_found',
  413: 'payload_too_large',
  415: 'unsupported_media_type',
  422: 'validation_failed',
  429: 'rate_limited',
  500: 'internal',
  502: 'temporarily_unavailable',
  503: 'temporarily_unavailable',
  504: 'temporarily_unavailable',
};

/** Whether an answer of that status may be another one in a moment. */
function isPassing(status: number): boolean {
  return [429, 500, 502, 503, 504].includes(status);
}

/** `Retry-After` in seconds (RFC 9110, 10.2.3: a number, or a date). */
function retryAfter(headers: Headers): number | undefined {
  const value = headers.get('retry-after');
  if (!value) return undefined;
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds);
}

/** The JSON of a text; `undefined` if it is none. */
export function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Whether it can be read only once. Not every runtime has streams. */
export function isStream(body: unknown): body is ReadableStream {
  return typeof ReadableStream !== 'undefined' && body instanceof ReadableStream;
}

/** Reads no more of an answer; one that was cut short meanwhile is nobody's error. */
export function discard(body: ReadableStream | null): void {
  body?.cancel().catch(() => {});
}

/** What `promise` comes to; the signal's reason is thrown if it is aborted first. */
export function unlessAborted<T>(signal: AbortSignal | null | undefined, promise: Promise<T>): Promise<T> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason as Error);
    signal.addEventListener('abort', abort);
    if (signal.aborted) abort();
    void promise.then(resolve, reject).then(() => signal.removeEventListener('abort', abort));
  });
}

/** Runs with a signal that is aborted after some milliseconds, or by the outer one; and waits no longer than that. */
async function within<T>(ms: number, outer: AbortSignal | undefined, run: (signal: AbortSignal) => Promise<T>) {
  const controller = new AbortController();
  const abort = () => controller.abort();
  const timer = setTimeout(abort, ms);
  try {
    return await unlessAborted(outer, unlessAborted(controller.signal, run(controller.signal)));
  } finally {
    clearTimeout(timer);
    abort();
  }
}
