// Calls of the API with the access token.

import { FreshkeyError } from './errors.js';
import {
  discard,
  failure,
  isStream,
  join,
  json,
  persist,
  post,
  unlessAborted,
  type Answer,
  type Patience,
} from './http.js';
import { isInstance, throwIfAborted } from './runtime.js';
import { newKey } from './storage.js';
import {
  ONCE,
  TokenManager,
  type Authorization,
  type Credentials,
  type Dialect,
  type LoginAnswer,
  type Registration,
  type TokenManagerOptions,
} from './tokens.js';

/** The user. Times are RFC 3339, in UTC. */
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
  /** Whether the user has proven that the address is theirs. Absent if the server sends no mail. */
  email_verified?: boolean;
}

/** A device on which the user is signed in. Times are RFC 3339, in UTC. */
export interface Session {
  id: string;
  created_at: string;
  last_used_at: string;
  expires_at: string;
  ip: string;
  user_agent: string;
  /** Whether it is the session of this client. */
  current: boolean;
}

export interface ApiClientOptions {
  /** Replaces the global `fetch`. */
  fetch?: typeof globalThis.fetch;
}

export interface RequestOptions extends Omit<RequestInit, 'body'> {
  /** Sent as JSON, unless `fetch` accepts it: a string, `FormData`, `URLSearchParams`, a `Blob`, bytes or a stream. */
  body?: unknown;
}

/** How often a call is tried that may be repeated. */
const TRIES = 3;

/**
 * A client for the API at `baseUrl`, with a token manager of its own.
 *
 * @throws TypeError as the constructor of {@link TokenManager} does.
 */
export function createClient<D extends Dialect = 'v1'>(
  baseUrl: string,
  options: TokenManagerOptions<D> = {},
): ApiClient<D> {
  return new ApiClient(baseUrl, new TokenManager(baseUrl, options), options);
}

/** Calls an API with the tokens of a {@link TokenManager}. */
export class ApiClient<D extends Dialect = 'v1'> {
  /** Holds the tokens. */
  readonly tokenManager: TokenManager<D>;
  readonly #baseUrl: string;
  readonly #fetch: typeof globalThis.fetch;
  /** The token of the last link, and its `Idempotency-Key`. */
  #link: { token: string; key: string } | undefined;

  constructor(baseUrl: string, tokenManager: TokenManager<D>, options: ApiClientOptions = {}) {
    this.tokenManager = tokenManager;
    this.#baseUrl = baseUrl;
    this.#fetch = (...request) => (options.fetch ?? globalThis.fetch)(...request); // browsers refuse another `this`
  }

  /** Signs in, as {@link TokenManager.login} does. */
  login(credentials: Credentials): Promise<LoginAnswer<D>> {
    return this.tokenManager.login(credentials);
  }

  /** Creates a user and signs in, as {@link TokenManager.register} does. */
  register(user: Registration): Promise<LoginAnswer<'v1'>> {
    return this.tokenManager.register(user);
  }

  /** Signs out, as {@link TokenManager.logout} does. */
  logout(): Promise<void> {
    return this.tokenManager.logout();
  }

  /**
   * `fetch` with the access token, which is refreshed before it expires. After a 401 it is refreshed and the call is
   * repeated once. GET, HEAD and calls with an `Idempotency-Key` are also repeated after 429, after a 5xx that may pass,
   * and if no answer arrives. Others are not, since the server may have acted. A body that is a stream cannot be sent
   * twice: then the first answer is the answer.
   *
   * @throws FreshkeyError `network`; or, if the access token has expired, why it could not be refreshed. No status is an
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
   * Makes a call and returns the JSON of the answer: its text if it is not JSON, `undefined` if it is empty.
   *
   * @throws FreshkeyError for a status outside 2xx, and as {@link fetch} does.
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
      throwIfAborted(options.signal);
      throw new FreshkeyError('The answer was truncated.', { code: 'network', cause });
    });
    const answer = json(text);
    if (!response.ok) throw failure({ status, headers: response.headers, body: answer });
    return (answer === undefined && text ? text : answer) as T;
  }

  /** Makes a GET {@link request}. */
  get<T>(path: string, options?: RequestOptions): Promise<T> {
    return this.request<T>(path, { ...options, method: 'GET' });
  }

  /** Makes a POST {@link request}. */
  post<T>(path: string, body?: unknown, options?: RequestOptions): Promise<T> {
    return this.request<T>(path, { ...options, method: 'POST', body });
  }

  /** Makes a PUT {@link request}. */
  put<T>(path: string, body?: unknown, options?: RequestOptions): Promise<T> {
    return this.request<T>(path, { ...options, method: 'PUT', body });
  }

  /** Makes a PATCH {@link request}. */
  patch<T>(path: string, body?: unknown, options?: RequestOptions): Promise<T> {
    return this.request<T>(path, { ...options, method: 'PATCH', body });
  }

  /** Makes a DELETE {@link request}. */
  delete<T>(path: string, options?: RequestOptions): Promise<T> {
    return this.request<T>(path, { ...options, method: 'DELETE' });
  }

  /** Returns the user. */
  me(): Promise<User> {
    return this.get('/api/v1/users/me');
  }

  /**
   * Changes the password and ends every other session.
   *
   * @throws FreshkeyError `validation_failed` with the field `current_password` or `new_password`.
   */
  changePassword(current_password: string, new_password: string): Promise<void> {
    const init = this.tokenManager.deviceInit;
    return this.put('/api/v1/users/me/password', { current_password, new_password }, init as RequestOptions);
  }

  /**
   * Asks for a mail with a link to set a new password. It succeeds for every address, whether or not it has an account.
   *
   * @throws FreshkeyError `validation_failed` if it cannot be an address, `rate_limited`, `not_found` if the server sends
   * no mail.
   */
  async requestPasswordReset(email: string): Promise<void> {
    const answer = await this.#post('/api/v1/auth/password/forgot', { email }, ONCE);
    if (answer.status !== 202) throw failure(answer);
  }

  /**
   * Sets a new password with the token of a mailed link, and ends all of the user's sessions. Nobody is signed in by it;
   * if the session of this client was that user's, it has ended. Call it again if it fails with `network` or a 5xx: with
   * the same arguments that is the same attempt, which succeeds although its first answer was lost.
   *
   * @throws FreshkeyError `invalid_link`; `validation_failed` with the field `new_password`, and the link stays good.
   */
  async resetPassword(token: string, new_password: string): Promise<void> {
    const body = { token, new_password };
    const answer = await this.#post('/api/v1/auth/password/reset', body, { ...ONCE, tries: TRIES }, this.#keyOf(token));
    if (answer.status !== 204) throw failure(answer);
    await this.tokenManager.refreshTokens().catch(() => {}); // finds out whether the session has ended
  }

  /**
   * Sends the mail by which the user confirms the address once more.
   *
   * @throws FreshkeyError `rate_limited`: once a minute, ten times a day.
   */
  async resendVerification(): Promise<void> {
    await this.post('/api/v1/users/me/email/verification');
  }

  /**
   * Asks for a mail with a link to a new address of the user. The address changes when {@link confirmEmail} gets its
   * token. It succeeds whether or not the address is another account's.
   *
   * @throws FreshkeyError `validation_failed` with the field `email` or `password`; `rate_limited`.
   */
  async changeEmail(email: string, password: string): Promise<void> {
    await this.put('/api/v1/users/me/email', { email, password }, this.tokenManager.deviceInit as RequestOptions);
  }

  /**
   * Confirms the user's address, or changes it, with the token of a mailed link; returns the user. A change ends every
   * other session. Call it again if it fails with `network` or a 5xx: it is the same attempt.
   *
   * @throws FreshkeyError `invalid_link`, also for a link of another user; `email_taken` if somebody has registered the
   * new address meanwhile.
   */
  async confirmEmail(token: string): Promise<User> {
    const path = '/api/v1/users/me/email/confirm';
    const { headers, ...init } = this.tokenManager.deviceInit as RequestOptions;
    const options = { ...init, headers: { ...(headers as Record<string, string>), ...this.#keyOf(token) } };
    const { device_token, ...user } = await this.post<User & { device_token?: string }>(path, { token }, options);
    await this.tokenManager.keepDeviceToken(device_token);
    return user;
  }

  /** Lists the user's sessions: the devices on which the user is signed in. */
  async sessions(): Promise<Session[]> {
    return (await this.get<{ sessions: Session[] }>('/api/v1/auth/sessions')).sessions;
  }

  /**
   * Ends one session. Its access token stays valid until it expires.
   *
   * @throws FreshkeyError `not_found` if the user has no such session.
   */
  revokeSession(id: string): Promise<void> {
    return this.delete(`/api/v1/auth/sessions/${encodeURIComponent(id)}`);
  }

  /** Ends all of the user's sessions, or all but this one. */
  async logoutEverywhere({ exceptCurrent = false } = {}): Promise<void> {
    await this.delete(`/api/v1/auth/sessions${exceptCurrent ? '?except=current' : ''}`);
    if (!exceptCurrent) await this.tokenManager.logout();
  }

  /** Makes a call without the tokens. */
  #post(path: string, body: object, patience: Patience, headers: Record<string, string> = {}): Promise<Answer> {
    return post(this.#fetch, join(this.#baseUrl, path), body, { headers }, patience);
  }

  /** The `Idempotency-Key` for a link: the same each time, so an answer that was lost comes again. */
  #keyOf(token: string): Record<string, string> {
    if (this.#link?.token !== token) this.#link = { token, key: newKey() };
    return { 'idempotency-key': this.#link.key };
  }

  /** Authorises each try separately: the tokens of the one before may be spent by now. */
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
        // A redirect to another host would carry along every header except Authorization.
        ...(headers.has('x-refresh-token') && { redirect: 'error' }),
        ...(isStream(init.body) && { duplex: 'half' }), // `fetch` requires it for a stream
      });
    };
    const isRepeatable = /^(get|head)$/i.test(init.method ?? 'GET') || new Headers(init.headers).has('idempotency-key');
    const tries = isRepeatable && !isStream(init.body) ? TRIES : 1;
    const answer = await persist({ tries, signal: init.signal, attempt, before: authorize });
    return { sent, answer };
  }
}

/** Whether `fetch` accepts a value as a body. */
function isSendable(body: unknown): body is NonNullable<RequestInit['body']> {
  return (
    typeof body === 'string' ||
    isInstance(body, 'FormData') ||
    isInstance(body, 'URLSearchParams') ||
    isInstance(body, 'Blob') ||
    body instanceof ArrayBuffer ||
    ArrayBuffer.isView(body) ||
    isStream(body)
  );
}
