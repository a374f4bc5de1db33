// Requests with a time limit, repeated where that can help.

import { FreshkeyError, type FieldError } from './errors.js';
import { isInstance, reasonOf, throwIfAborted } from './runtime.js';

/** An answer whose body was read completely. */
export interface Answer {
  status: number;
  headers: Headers;
  /** The parsed JSON body; `undefined` if the body is not JSON. */
  body: unknown;
}

/** How long to try. */
export interface Patience {
  /** The number of tries. */
  tries: number;
  /** The time limit of one try, in milliseconds. */
  timeout: number;
  /** Ends all tries when aborted. */
  signal?: AbortSignal;
  /** Called before each try. An error it throws ends all tries. */
  before?: () => Promise<void>;
  /** Whether an answer means that the request was damaged on its way, so that it is sent again. */
  isDamaged?: (answer: Answer) => boolean;
}

/** The longest `Retry-After` that the client waits for, in milliseconds. */
const LONGEST_WAIT = 30_000;

/** The longest random wait before the second try, in milliseconds. It doubles with each further try. */
const FIRST_WAIT = 250;

/** The address of a path of the API. No path leads to another host, whatever it begins with. */
export function join(baseUrl: string, path: string): string {
  return baseUrl.replace(/\/+$/, '') + path.replace(/^[/\\\s]*/, '/');
}

/**
 * Sends a request and reads its answer completely. A truncated answer, or a success that is not JSON (the page of a
 * captive portal), counts as lost, and the request is repeated.
 *
 * @throws FreshkeyError `network` if no try was answered; the signal's reason; what `before` throws.
 */
export function ask(fetch: typeof globalThis.fetch, url: string, init: RequestInit, patience: Patience) {
  const { timeout, signal, isDamaged } = patience;
  const attempt = () =>
    within(timeout, signal, async (signal) => {
      const response = await fetch(url, { ...init, signal });
      const answer: Answer = { status: response.status, headers: response.headers, body: json(await response.text()) };
      if (response.ok && response.status !== 204 && answer.body === undefined)
        throw new Error('The answer is not JSON.');
      return answer;
    });
  return persist({ ...patience, attempt, isRetried: (answer) => isPassing(answer) || isDamaged?.(answer) === true });
}

/** Sends JSON by POST, and reads the answer as {@link ask} does. A redirect is an error: it would carry the body along. */
export function post(
  fetch: typeof globalThis.fetch,
  url: string,
  body: object | undefined,
  init: RequestInit,
  patience: Patience,
): Promise<Answer> {
  const headers = { ...(body && { 'content-type': 'application/json' }), ...(init.headers as Record<string, string>) };
  const content = body && { body: JSON.stringify(body) };
  return ask(fetch, url, { ...init, method: 'POST', headers, redirect: 'error', ...content }, patience);
}

/**
 * Calls `attempt` until it succeeds: again when it throws, and when it answers 429, 500, 502, 503 or 504 (or what
 * `isRetried` says), after `Retry-After` or a random wait that doubles. Returns the last answer, whatever its status.
 *
 * @throws FreshkeyError `network` if no try was answered; the signal's reason; what `before` throws.
 */
export async function persist<T extends { status: number; headers: Headers; body: unknown }>({
  tries,
  signal,
  attempt,
  before,
  isRetried = isPassing,
}: {
  tries: number;
  signal?: AbortSignal | null | undefined;
  attempt: () => Promise<T>;
  before?: (() => Promise<void>) | undefined;
  isRetried?: (answer: T) => boolean;
}): Promise<T> {
  for (let tried = 1; ; tried++) {
    throwIfAborted(signal);
    await before?.();
    let answer: T | undefined;
    let cause: unknown;
    try {
      answer = await attempt();
      if (!isRetried(answer)) return answer;
    } catch (error) {
      throwIfAborted(signal);
      cause = error;
    }
    const asked = ((answer && retryAfter(answer.headers)) ?? 0) * 1000;
    if (tried >= tries || asked > LONGEST_WAIT) {
      if (answer) return answer;
      throw new FreshkeyError('The server did not answer.', { code: 'network', cause });
    }
    if (answer && isStream(answer.body)) discard(answer.body);
    await pause(asked + Math.random() * FIRST_WAIT * 2 ** (tried - 1), signal);
  }
}

/** Waits some milliseconds, or until the signal is aborted. */
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

/**
 * The error that an answer reports: a problem document's, the lexik dialect's or API Gateway's. `code` is for an answer
 * without one of its own; by default it follows from the status, as `clients/statuses.json` lists.
 */
export function failure({ status, headers, body }: Answer, code?: string): FreshkeyError {
  const said = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>;
  return new FreshkeyError(text(said.detail) ?? text(said.message) ?? `The server answered ${status}.`, {
    code: text(said.error) ?? code ?? (status < 400 ? 'unreadable' : (CODES[status] ?? `http_${status}`)),
    status,
    fields: Array.isArray(said.errors) ? (said.errors as FieldError[]) : undefined,
    retryAfter: retryAfter(headers),
    requestId: text(said.request_id),
  });
}

const CODES: Record<number, string> = {
  400: 'invalid_request',
  401: 'invalid_token',
  403: 'forbidden',
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

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

/** Whether the same request may succeed in a moment. */
function isPassing({ status }: { status: number }): boolean {
  return [429, 500, 502, 503, 504].includes(status);
}

/** `Retry-After` in seconds (RFC 9110, section 10.2.3: a number of seconds, or a date). */
function retryAfter(headers: Headers): number | undefined {
  const value = headers.get('retry-after');
  if (!value) return undefined;
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds);
}

/** Parses JSON; `undefined` if the text is not JSON. */
export function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Whether a body can be read only once. */
export function isStream(body: unknown): body is ReadableStream {
  return isInstance(body, 'ReadableStream');
}

/** Stops reading an answer. Errors that this causes are ignored. */
export function discard(body: ReadableStream | null | undefined): void {
  body?.cancel().catch(() => {});
}

/** Waits for `promise`; throws the signal's reason if it is aborted first. */
export function unlessAborted<T>(signal: AbortSignal | null | undefined, promise: Promise<T>): Promise<T> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(reasonOf(signal) as Error);
    signal.addEventListener('abort', abort);
    if (signal.aborted) abort();
    void promise.then(resolve, reject).then(() => signal.removeEventListener('abort', abort));
  });
}

/** Runs with a signal that is aborted after `ms` milliseconds, or with `outer`; stops waiting at that moment. */
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
