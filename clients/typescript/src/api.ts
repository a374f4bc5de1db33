// Calls of the API, by whoever is signed in.

import { FreshkeyError } from './errors.js';
import { discard, failure, isStream, join, json, persist, unlessAborted } from './http.js';
import type { Authorization, TokenManager } from './tokens.js';

/** Who is signed in. Times are RFC 3339, UTC. */
export interface User {
  id: string;
  email: string;
  first_name: string | null;
  last_name: string | null;
  phone: string | null;
  roles: string[];
  user_type: string | null;
  is_active: boolean;
  avatar: string | null;
  created_at: string;
}

/** One place where the user is signed in. Times are RFC 3339, UTC. */
export interface Session {
  id: string;
  created_at: string;
  last_used_at: string;
  expires_at: string;
  ip: string;
  user_agent: string;
  /** Whether it is this one. */
  current: boolean;
}

export interface ApiClientOptions {
  /**
   * Refresh by sending `x-refresh-token` with every call, never at the endpoint: for an API whose functions all have the
   * middleware. In v1 only, and not with a cookie. It holds for the token manager and all its clients.
   */
  headerRefresh?: boolean;
  /** Used in place of the global one. */
  fetch?: typeof globalThis.fetch;
}

export interface RequestOptions extends Omit<RequestInit, 'body'> {
  /** Sent as JSON, unless `fetch` takes it as it is: a string, `FormData`, `URLSearchParams`, a `Blob`, bytes, a stream. */
  body?: unknown;
}

/** How often a GET or HEAD is tried at most. */
const TRIES = 3;

/** Calls an API with the tokens of a {@link TokenManager}. */
export class ApiClient {
  /** Who holds the tokens. */
  readonly tokenManager: TokenManager;
  readonly #baseUrl: string;
  readonly #fetch: typeof globalThis.fetch;

  /** @throws TypeError for `headerRefresh` with a cookie or in the lexik dialect. */
  constructor(baseUrl: string, tokenManager: TokenManager, options: ApiClientOptions = {}) {
    this.tokenManager = tokenManager;
    this.#baseUrl = baseUrl;
    this.#fetch = (...request) => (options.fetch ?? globalThis.fetch)(...request); // a browser's wants no `this`
    if (options.headerRefresh) tokenManager.refreshByHeader();
  }

  /**
   * `fetch` with the access token, refreshed before it expires; after a 401 it is refreshed and the call repeated, once.
   * GET and HEAD are also repeated where no answer came and after 429 and 5xx; anything else may have been done, and is
   * not. A stream as body cannot be sent twice: then the 401 is the answer.
   *
   * @throws FreshkeyError `network`, or why the access token, which has expired, could not be refreshed. No status is an
   * error.
   */
  async fetch(path: string, init: RequestInit = {}): Promise<Response> {
    const { sent, answer } = await this.#send(path, init);
    const isRepeated = await unlessAborted(init.signal, this.tokenManager.settle(sent, answer));
    if (!isRepeated || isStream(init.body)) return answer;
    discard(answer.body);
    return (await this.#send(path, init)).answer;
  }

  /**
   * A call, and the JSON of its answer (text, if it is something else; `undefined`, if it is empty).
   *
   * @throws FreshkeyError unless the status is 2xx; also as {@link fetch} does.
   */
  async request<T>(path: string, options: RequestOptions = {}): Promise<T> {
    const { body, ...rest } = options;
    const headers = new Headers(options.headers);
    const init: RequestInit = { ...rest, headers };
    if (isSendable(body)) init.body = body;
    else if (body !== undefined) {
      init.body = JSON.stringify(body);
      if (!headers.has('content-type')) headers.set('content-type', 'application/json');
    }
    const response = await this.fetch(path, init);
    const { status } = response;
    const text = await response.text().catch((cause: unknown) => {
      options.signal?.throwIfAborted();
      throw new FreshkeyError('The answer was cut short.', { code: 'network', cause });
    });
    const answer = json(text);
    if (!response.ok) throw failure({ status, headers: response.headers, body: answer });
    return (answer === undefined && text ? text : answer) as T;
  }

  /** A GET {@link request}. */
  get<T>(path: string, options?: RequestOptions): Promise<T> {
    return this.request<T>(path, { ...options, method: 'GET' });
  }

  /** A POST {@link request}. */
  post<T>(path: string, body?: unknown, options?: RequestOptions): Promise<T> {
    return this.request<T>(path, { ...options, method: 'POST', body });
  }

  /** A PUT {@link request}. */
  put<T>(path: string, body?: unknown, options?: RequestOptions): Promise<T> {
    return this.request<T>(path, { ...options, method: 'PUT', body });
  }

  /** A PATCH {@link request}. */
  patch<T>(path: string, body?: unknown, options?: RequestOptions): Promise<T> {
    return this.request<T>(path, { ...options, method: 'PATCH', body });
  }

  /** A DELETE {@link request}. */
  delete<T>(path: string, options?: RequestOptions): Promise<T> {
    return this.request<T>(path, { ...options, method: 'DELETE' });
  }

  /** Who is signed in. */
  me(): Promise<User> {
    return this.get('/api/v1/users/me');
  }

  /**
   * Changes the password, and ends every other session.
   *
   * @throws FreshkeyError `validation_failed`, naming `current_password` or `new_password`.
   */
  changePassword(current_password: string, new_password: string): Promise<void> {
    const init = this.tokenManager.deviceInit;
    return this.put('/api/v1/users/me/password', { current_password, new_password }, init as RequestOptions);
  }

  /** The places where the user is signed in. */
  async sessions(): Promise<Session[]> {
    return (await this.get<{ sessions: Session[] }>('/api/v1/auth/sessions')).sessions;
  }

  /**
   * Signs out one of them. Its access token is good until it expires.
   *
   * @throws FreshkeyError `not_found`
   */
  revokeSession(id: string): Promise<void> {
    return this.delete(`/api/v1/auth/sessions/${encodeURIComponent(id)}`);
  }

  /** Signs out everywhere; with `exceptCurrent`, everywhere but here. */
  async logoutEverywhere({ exceptCurrent = false } = {}): Promise<void> {
    await this.delete(`/api/v1/auth/sessions${exceptCurrent ? '?except=current' : ''}`);
    if (!exceptCurrent) await this.tokenManager.logout();
  }

  /** Each try is authorised anew: the one before may have waited for long, and its tokens be spent by now. */
  async #send(path: string, init: RequestInit): Promise<{ sent: Authorization; answer: Response }> {
    let sent!: Authorization;
    const authorize = async () => {
      sent = await unlessAborted(init.signal, this.tokenManager.authorize());
    };
    const attempt = () => {
      const headers = new Headers(init.headers);
      for (const [name, value] of Object.entries(sent.headers)) headers.set(name, value);
      return this.#fetch(join(this.#baseUrl, path), {
        ...init,
        headers,
        // A redirect takes every header along, but for Authorization, to whatever host it leads to.
        ...(headers.has('x-refresh-token') && { redirect: 'error' }),
        ...(isStream(init.body) && { duplex: 'half' }), // `fetch` takes no stream without it
      });
    };
    const isRepeatable = /^(get|head)$/i.test(init.method ?? 'GET');
    const answer = await persist(isRepeatable ? TRIES : 1, init.signal, attempt, authorize);
    return { sent, answer };
  }
}

/** Whether `fetch` takes it as a body. */
function isSendable(body: unknown): body is NonNullable<RequestInit['body']> {
  return (
    typeof body === 'string' ||
    body instanceof FormData ||
    body instanceof URLSearchParams ||
    body instanceof Blob ||
    body instanceof ArrayBuffer ||
    ArrayBuffer.isView(body) ||
    isStream(body)
  );
}
