// The session of one user: its tokens, and how they are refreshed without ending it by accident.
//
// Three rules, which docs/clients.md explains. A refresh token is always sent with the same random key, stored beside it
// before it is sent. An answer is adopted only while the token that was sent is still the stored one. And only the server's
// explicit refusal of the refresh token ends the session.

import { FreshkeyError } from './errors.js';
import { ask, failure, join, pause, post, type Answer, type Patience } from './http.js';
import { checkRuntime, throwIfAborted } from './runtime.js';
import {
  apiOf,
  cookieStorage,
  expiryOf,
  isLast,
  lifetimeOf,
  memoryStorage,
  nameOf,
  newKey,
  now,
  pageItems,
  webStorage,
  type StoredSession,
  type TokenStorage,
  type Tokens,
} from './storage.js';

/** The routes and bodies that the server speaks: its own, or those of a Symfony backend. */
export type Dialect = 'v1' | 'lexik';

/**
 * Why the user was signed out: by the app (`logged_out`), in another tab (`logged_out_elsewhere`), or because the server
 * refused the refresh token, which has expired or was revoked (`session_ended`).
 */
export type SignedOutReason = 'logged_out' | 'logged_out_elsewhere' | 'session_ended';

export interface TokenManagerOptions<D extends Dialect = 'v1'> {
  /** `v1` by default. */
  dialect?: D;
  /**
   * Where the tokens are kept. `memory`, the default: in this object. `localStorage`: shared by all tabs; without a page
   * (on a server) it is memory. `cookie`: the refresh token is in a cookie that no script can read; for browsers, and
   * only if the server is configured for it. Or a storage of your own.
   */
  storage?: 'memory' | 'localStorage' | 'cookie' | TokenStorage;
  /**
   * Refresh by sending `x-refresh-token` with every call instead of at the endpoint: for an API whose functions all have
   * the middleware. In v1 only, and not with a cookie. `false` by default.
   */
  headerRefresh?: boolean;
  /**
   * Take over the `localStorage` items `access_token`, `refresh_token`, `token_expiry`, `refresh_key` and `device_token`,
   * which the app's own code or an earlier version left, and remove them. This happens once in each browser. `false` by
   * default, because these names do not tell which back end the tokens belong to.
   */
  adoptLegacyItems?: boolean;
  /** Replaces the global `fetch`. */
  fetch?: typeof globalThis.fetch;
  /** Called when the tokens have changed: after a login, and after a refresh by this client or by another tab. */
  onTokens?(tokens: Tokens): void;
  /** Called when the user has been signed out. This is the place to show the login page. */
  onSignedOut?(reason: SignedOutReason): void;
}

export interface Credentials {
  email: string;
  password: string;
}

export interface Registration extends Credentials {
  first_name?: string;
  last_name?: string;
  phone?: string;
  user_type?: string;
  avatar?: string;
}

/** The user in the answer to a login in the lexik dialect. */
export interface LexikUser {
  id: string;
  email: string;
  firstName: string | null;
  lastName: string | null;
  phone: string | null;
  roles: string[];
  userType: string | null;
  isActive: boolean;
  avatar: string | null;
}

/** The answer to a login in the v1 dialect, and to a registration in both. */
export interface V1LoginAnswer {
  access_token: string;
  /** Absent in cookie mode. */
  refresh_token?: string;
  token_type: 'Bearer';
  /** The seconds until the access token expires. */
  expires_in: number;
  /** The seconds until the refresh token expires. */
  refresh_expires_in: number;
  user_id: string;
  /** For a device that sent none. Absent in cookie mode. */
  device_token?: string;
}

/** The answer to a login in the lexik dialect. */
export interface LexikLoginAnswer {
  /** The access token. */
  token: string;
  /** Absent in cookie mode. */
  refresh_token?: string;
  /** For a device that sent none. Absent in cookie mode. */
  device_token?: string;
  user: LexikUser;
}

/** The answer to a login in a dialect. */
export type LoginAnswer<D extends Dialect = Dialect> = { v1: V1LoginAnswer; lexik: LexikLoginAnswer }[D];

/** What a call is sent with, from {@link TokenManager.authorize}. */
export interface Authorization {
  /** The headers to send; empty when nobody is signed in. */
  readonly headers: Readonly<Record<string, string>>;
  /** The session whose tokens they contain. */
  readonly session: Readonly<StoredSession> | null;
}

const REGISTER = '/api/v1/auth/register';
const LOGOUT = '/api/v1/auth/logout';
const ME = '/api/v1/users/me';

interface Said {
  error?: unknown;
  code?: unknown;
  message?: unknown;
}

const saidBy = ({ body }: Answer): Said => (body ?? {}) as Said;

/** Whether an answer has the form that the lexik dialect gives to errors. A gateway's own errors do not have it. */
const isLexikError = (answer: Answer) => saidBy(answer).code === answer.status;

/**
 * The routes of each dialect, and what its answers mean:
 * - `deniesLogin`: the password is wrong, where the answer has no code that says so
 * - `endsSession`: the refresh token is invalid, definitively
 * - `lacksToken`: the request arrived without its refresh token, for example because a proxy lost the body. This says
 *   nothing about the session. In cookie mode there is no body to lose: the cookie is gone, and the session with it.
 */
const DIALECTS = {
  v1: {
    login: '/api/v1/auth/login',
    refresh: '/api/v1/auth/refresh',
    deniesLogin: () => false,
    endsSession: (answer: Answer) => answer.status === 401 && saidBy(answer).error === 'invalid_refresh_token',
    lacksToken: (answer: Answer) => answer.status === 400 && saidBy(answer).error === 'invalid_request',
  },
  lexik: {
    login: '/api/auth',
    refresh: '/api/token/refresh',
    deniesLogin: (answer: Answer) => answer.status === 401 && isLexikError(answer),
    endsSession: (answer: Answer, isCookie: boolean) =>
      isLexikError(answer) &&
      ((answer.status === 400 && saidBy(answer).message === 'Invalid refresh token') ||
        (answer.status === 401 && isCookie)),
    lacksToken: (answer: Answer, isCookie: boolean) => answer.status === 401 && isLexikError(answer) && !isCookie,
  },
};

/** A login is not repeated, and the server may take half a minute for it. */
export const ONCE: Patience = { tries: 1, timeout: 30_000 };
const REFRESHING: Patience = { tries: 5, timeout: 10_000 };
const LEAVING: Patience = { tries: 3, timeout: 5_000 };

/** How long a call waits for a refresh while its access token is still valid, in milliseconds. */
const AHEAD = 2_000;

/** How long to wait for another tab that holds the lock, in milliseconds. */
const WAIT = 15_000;
/** The same for the cookie: longer than any refresh takes, so that only a frozen tab still holds the lock. */
const COOKIE_WAIT = 180_000;

/** How long to wait for the access token that another tab received, in milliseconds. */
const MESSAGE = 50;

/** Below this, a time is in seconds since the epoch; above, it can only be in milliseconds. */
const SECONDS = 1e11;

/** Holds the tokens of one user, and refreshes them. */
export class TokenManager<D extends Dialect = 'v1'> {
  /** Fulfilled when the storage has been read and, in cookie mode, the session has been resumed. Never rejected. */
  readonly ready: Promise<void>;
  /** The address of the API. */
  readonly baseUrl: string;
  /** The dialect of the server. */
  readonly dialect: D;
  /** Whether the refresh token is in a cookie. */
  readonly isCookie: boolean;

  readonly #options: TokenManagerOptions<D>;
  readonly #fetch: typeof globalThis.fetch;
  readonly #storage: TokenStorage;
  /** Whether other tabs may use the storage too. */
  readonly #isShared: boolean;
  readonly #isByHeader: boolean;
  readonly #unsubscribe: () => void;
  readonly #listeners = new Set<() => void>();

  /** The stored session, as it was last read. */
  #held: StoredSession | null = null;
  /** Aborted when the app replaces the session, so that operations under way no longer touch it. */
  #life: AbortController;
  /** The refresh in progress. */
  #flight: Promise<Tokens> | undefined;
  /** The last use of the storage. One use at a time. */
  #turn: Promise<unknown> = Promise.resolve();

  /**
   * @throws TypeError if the runtime lacks something that the client needs, which the message names; for `cookie` in a
   * browser without Web Locks (before 2022, or a page on plain http): a browser picks the cookie as the request leaves, so
   * two tabs must never refresh at once; for `headerRefresh` in the lexik dialect or with a cookie; and for
   * `adoptLegacyItems` with another storage than `localStorage`.
   */
  constructor(baseUrl: string, options: TokenManagerOptions<D> = {}) {
    const { storage = 'memory', dialect = 'v1' as D, headerRefresh = false, adoptLegacyItems = false } = options;
    checkRuntime(options.fetch ?? globalThis.fetch);
    this.#life = new AbortController();
    const items = pageItems();
    this.dialect = dialect;
    this.isCookie = storage === 'cookie';
    if (this.isCookie && items && !globalThis.navigator?.locks) throw new TypeError('Cookie storage needs Web Locks.');
    if (headerRefresh && (this.isCookie || dialect !== 'v1'))
      throw new TypeError('headerRefresh works only in the v1 dialect, and not with a cookie.');
    if (adoptLegacyItems && storage !== 'localStorage')
      throw new TypeError('adoptLegacyItems works only with the storage `localStorage`.');
    this.baseUrl = baseUrl;
    this.#options = options;
    this.#isByHeader = headerRefresh;
    this.#fetch = (...request) => (options.fetch ?? globalThis.fetch)(...request); // browsers refuse another `this`
    if (typeof storage === 'object') this.#storage = storage;
    else if (storage === 'memory' || !items) this.#storage = memoryStorage();
    else if (this.isCookie) this.#storage = cookieStorage(items, apiOf(baseUrl));
    else this.#storage = webStorage(items, apiOf(baseUrl), adoptLegacyItems);
    this.#isShared = typeof storage === 'object' || (storage !== 'memory' && items !== undefined);
    this.#unsubscribe = this.#storage.subscribe?.(() => void this.#sync().catch(() => {})) ?? (() => {});
    if (typeof storage === 'string') this.#held = this.#storage.load() as StoredSession | null;
    this.ready = this.#restore();
  }

  /** Whether a user is signed in, as far as this client knows. The server may have ended the session. */
  get isSignedIn(): boolean {
    return isConfirmed(this.#held);
  }

  /**
   * Signs in. If that fails, the tokens held before are kept.
   *
   * @throws FreshkeyError `invalid_credentials`, `rate_limited`, `network` and others.
   */
  login({ email, password }: Credentials): Promise<LoginAnswer<D>> {
    return this.#enter(DIALECTS[this.dialect].login, { email, password });
  }

  /**
   * Creates a user and signs in.
   *
   * @throws FreshkeyError `email_taken`, `validation_failed` with its `fields`, and others.
   */
  register(user: Registration): Promise<LoginAnswer<'v1'>> {
    return this.#enter(REGISTER, user);
  }

  /**
   * Refreshes now. Concurrent calls, in all tabs, share one request; if another tab has just refreshed, there is none.
   * With `headerRefresh` the server decides whether it is time, so the tokens may stay the same.
   *
   * @throws FreshkeyError `invalid_refresh_token` if the server has ended the session, `not_signed_in` if there is none.
   * After any other error the user is still signed in, and a later try may succeed.
   */
  refreshTokens(): Promise<Tokens> {
    if (this.#flight) return this.#flight;
    const flight = this.#refresh().finally(() => {
      if (this.#flight === flight) this.#flight = undefined;
    });
    return (this.#flight = flight);
  }

  /** Signs out. The client drops the tokens at once, even if the server cannot be reached. */
  async logout(): Promise<void> {
    const session = await this.#sync().catch(() => this.#held);
    const forgotten = this.clearTokens();
    if (!session || !this.#isRefreshable(session)) return forgotten;
    const tell = () => this.#post(LOGOUT, this.#bodyOf(session), LEAVING, { keepalive: true });
    // A refresh at the same time could put a cookie back.
    const told = this.isCookie ? this.#exclusive(session, tell) : tell();
    await Promise.all([forgotten, told.catch(() => {})]);
  }

  /**
   * Signs in with tokens that were obtained elsewhere. `expires_at` is in seconds since the epoch, `expires_in` in seconds
   * from now. Without both the expiry is read from the access token.
   *
   * @throws RangeError if `expires_at` can only be in milliseconds.
   */
  setTokens(tokens: {
    access_token: string;
    refresh_token?: string;
    expires_in?: number;
    expires_at?: number;
  }): Promise<void> {
    const { access_token, refresh_token, expires_in, expires_at } = tokens;
    if (expires_at && expires_at >= SECONDS)
      return Promise.reject(new RangeError('expires_at must be in seconds since the epoch, not in milliseconds.'));
    const expiry = expires_at ?? (expires_in === undefined ? expiryOf(access_token) : now() + expires_in);
    const isSame = this.isCookie || this.#held?.refresh_token === refresh_token; // only the server changes the cookie
    const key = (isSame && this.#held?.key) || newKey();
    const session = { access_token, expires_at: Math.floor(expiry ?? 0), key, ...(refresh_token && { refresh_token }) };
    return this.#replace(session);
  }

  /** Drops the tokens without telling the server. */
  clearTokens(): Promise<void> {
    return this.#replace(null);
  }

  /** The tokens; `null` when signed out, and in cookie mode until the session is resumed. */
  getTokens(): Tokens | null {
    if (!this.#held?.access_token) return null;
    const { access_token, refresh_token, expires_at } = this.#held;
    return { access_token, expires_at, ...(refresh_token && { refresh_token }) };
  }

  /** The access token, expired or not. */
  getAccessToken(): string | null {
    return this.#held?.access_token || null;
  }

  /** Whether the access token has expired, or there is none. */
  isTokenExpired(): boolean {
    return !this.#held || this.#held.expires_at <= now();
  }

  /**
   * Whether the access token has expired or expires within `bufferMinutes`, of which at most half its lifetime counts.
   * False if there is no refresh token, and while the access token is valid until the session's absolute end: then a
   * refresh would gain nothing.
   */
  shouldRefreshToken(bufferMinutes = 5): boolean {
    if (!this.#held || !this.#isRefreshable(this.#held)) return false;
    if (this.isTokenExpired()) return true;
    if (isLast(this.#held)) return false;
    const { access_token, expires_at } = this.#held;
    const buffer = Math.min(bufferMinutes * 60, (lifetimeOf(access_token) ?? Infinity) / 2);
    return expires_at - now() <= buffer;
  }

  /** Calls back when the tokens change. Returns the function that stops it. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Stops listening to the other tabs. */
  close(): void {
    this.#unsubscribe();
  }

  /**
   * Returns what to send a call with, for any HTTP library; {@link ApiClient} uses it too. Refreshes first if it is time.
   * Pass the answer to {@link settle}.
   *
   * @throws FreshkeyError if the access token has expired and cannot be refreshed, unless that ended the session.
   */
  async authorize(): Promise<Authorization> {
    await this.#sync();
    if (!this.#isByHeader && this.shouldRefreshToken()) {
      const refreshed = this.refreshTokens().catch((error) => {
        if (this.#held && this.isTokenExpired()) throw error;
      });
      await this.#whileGood(refreshed);
    }
    const session = this.#held;
    return { session, headers: session?.access_token ? this.#headersOf(session) : {} };
  }

  /**
   * Handles what the answer to an authorised call says about the tokens. Returns whether to send the call again, once,
   * after another {@link authorize}.
   *
   * @throws FreshkeyError after a 401, if the refresh failed and the user is still signed in.
   */
  async settle(sent: Authorization, answer: { status: number; headers: Pick<Headers, 'get'> }): Promise<boolean> {
    if (!sent.session) return false;
    if (this.#isByHeader && (await this.#adoptHeaders(sent.session, answer.headers))) return false;
    if (answer.status !== 401) return false;
    const held = await this.#sync();
    if (held?.access_token === sent.session.access_token) {
      await this.refreshTokens().catch((error) => {
        if (this.isSignedIn) throw error;
      });
    }
    const now = this.getAccessToken();
    return now !== null && now !== sent.session.access_token;
  }

  /**
   * The part of a request that identifies the device, and lets the answer set the cookie of the device: for a login, and
   * for changes of the password and of the address.
   *
   * @internal
   */
  get deviceInit(): RequestInit {
    if (this.isCookie) return COOKIE;
    const token = this.#storage.deviceToken;
    return { headers: token ? { 'x-device-token': token } : {} };
  }

  /**
   * Keeps the device token of an answer, if it has one.
   *
   * @internal
   */
  async keepDeviceToken(token: string | undefined): Promise<void> {
    if (token) await this.#stored(() => void (this.#storage.deviceToken = token));
  }

  /** Waits for a refresh, but not for all of the time for which the access token is still valid. */
  async #whileGood(refreshed: Promise<unknown>): Promise<void> {
    if (this.isTokenExpired()) return void (await refreshed);
    const left = (this.#held!.expires_at - now()) * 1000;
    const waited = new AbortController();
    await Promise.race([refreshed, pause(Math.min(AHEAD, left / 2), waited.signal)]);
    waited.abort();
  }

  async #restore(): Promise<void> {
    try {
      const held = await this.#sync();
      if (held && !held.access_token) await this.refreshTokens();
    } catch {
      // The first call that needs the storage or the server reports it.
    }
  }

  #enter<A extends LoginAnswer>(path: string, body: object): Promise<A> {
    return this.#exclusive(this.#held, async () => {
      const answer = await this.#post(path, body, ONCE, this.deviceInit);
      const { deniesLogin } = DIALECTS[this.dialect];
      if (answer.status >= 300) throw failure(answer, deniesLogin(answer) ? 'invalid_credentials' : undefined);
      await this.#replace(this.#read(answer, null));
      const said = answer.body as A;
      await this.keepDeviceToken(said.device_token);
      return said;
    });
  }

  async #refresh(): Promise<Tokens> {
    const { signal } = this.#life;
    try {
      const had = await this.#sync();
      await this.#exclusive(had, () => this.#rotate(had, signal), signal);
    } catch (error) {
      // If the app has replaced the session meanwhile, this is no failure of the new one.
      if (!signal.aborted) throw error;
    }
    const tokens = this.getTokens();
    if (!tokens) throw notSignedIn();
    return tokens;
  }

  async #rotate(had: StoredSession | null, signal: AbortSignal): Promise<void> {
    let sent = await this.#sync();
    const isAnother = sent?.key !== had?.key; // another tab was first
    if (isAnother && !sent?.access_token) {
      await pause(MESSAGE, signal);
      sent = await this.#sync();
    }
    throwIfAborted(signal);
    if (!sent) throw notSignedIn();
    if (isAnother && sent.expires_at > now()) return;
    if (!this.#isRefreshable(sent)) {
      await this.#adopt(sent, null);
      throw notSignedIn();
    }
    const { refresh, endsSession, lacksToken } = DIALECTS[this.dialect];
    const isPast = async () => (await this.#sync())?.key !== sent.key;
    // Between two tries this tab may have been frozen, or a tab without a lock may have refreshed twice. Sending the token
    // again would then look like a theft.
    const before = async () => {
      if (await isPast()) throw notSignedIn();
    };
    const isDamaged = (answer: Answer) => lacksToken(answer, this.isCookie);
    const patience = { ...REFRESHING, signal, before, isDamaged };
    // A tab can get the lock before it sees what the other tab has written. So this key may be older than the cookie. That
    // does no harm as long as no other key is sent with this cookie, so it is written again, over the other tab's.
    if (this.isCookie) await this.#inTurn(() => this.#save(sent));
    let answer: Answer;
    try {
      answer = this.#isByHeader
        ? await ask(
            this.#fetch,
            join(this.baseUrl, ME),
            { headers: this.#headersOf(sent), redirect: 'error' },
            patience,
          )
        : await this.#post(refresh, this.#bodyOf(sent), patience, { headers: { 'idempotency-key': sent.key! } });
    } catch (error) {
      if (await isPast()) return this.#rotate(sent, signal);
      throw error;
    }
    if (this.#isByHeader && (await this.#adoptHeaders(sent, answer.headers))) return;
    if (endsSession(answer, this.isCookie)) {
      await this.#adopt(sent, null);
      if (!this.#held) throw failure(answer, 'invalid_refresh_token');
      return; // the token was spent, and another tab has its successor
    }
    if (answer.status >= 300) throw failure(answer, isDamaged(answer) ? 'invalid_request' : undefined);
    if (!this.#isByHeader) await this.#adopt(sent, this.#read(answer, sent));
  }

  /** Adopts the tokens in the middleware's headers. Returns whether there were any. */
  async #adoptHeaders(sent: StoredSession, headers: Pick<Headers, 'get'>): Promise<boolean> {
    const access_token = headers.get('x-new-access-token');
    const refresh_token = headers.get('x-new-refresh-token');
    if (!access_token || !refresh_token) return false;
    const expires_at = expiryFrom(Number(headers.get('x-new-expires-in')), access_token);
    await this.#adopt(sent, { access_token, refresh_token, expires_at, key: keyAfter(sent, refresh_token) });
    return true;
  }

  /** Returns the session in an answer; `sent` is the one that was presented. */
  #read(answer: Answer, sent: StoredSession | null): StoredSession {
    const said = (answer.body ?? {}) as Partial<V1LoginAnswer & LexikLoginAnswer>;
    const { access_token, token = access_token, refresh_token, expires_in, refresh_expires_in } = said;
    if (!token || !(this.isCookie || refresh_token)) throw failure(answer);
    const expires_at = expiryFrom(expires_in, token);
    const is_last = Boolean(expires_in && refresh_expires_in && expires_in >= refresh_expires_in);
    const session = { access_token: token, expires_at, ...(is_last && { is_last }) };
    if (this.isCookie || !refresh_token) return { ...session, key: newKey() };
    return { ...session, refresh_token, key: keyAfter(sent, refresh_token) };
  }

  /** Replaces what was sent by `next`, unless the storage holds something else by now, which is newer. */
  #adopt(sent: StoredSession, next: StoredSession | null): Promise<void> {
    return this.#inTurn(async (signal) => {
      const stored = await this.#load();
      const isCurrent = stored?.key === sent.key;
      if (isCurrent) await this.#save(next);
      if (signal.aborted) return;
      if (isCurrent) this.#hold(next, 'session_ended');
      else this.#hold(stored, 'logged_out_elsewhere');
    });
  }

  /** Replaces the session by order of the app. Operations under way no longer change it. */
  #replace(session: StoredSession | null): Promise<void> {
    this.#life.abort();
    this.#life = new AbortController();
    this.#flight = undefined;
    // Queued before the listeners run: one that calls the API reads the storage after this.
    const saved = this.#inTurn(() => this.#save(session));
    this.#hold(session, 'logged_out');
    return saved;
  }

  /** Reads the storage, which another tab may have changed. */
  #sync(): Promise<StoredSession | null> {
    return this.#inTurn(async (signal) => {
      const stored = await this.#load();
      if (!signal.aborted) this.#hold(stored, 'logged_out_elsewhere');
      return this.#held;
    });
  }

  /** Reads the storage. A session without a key gets one, which is stored before anything is sent. */
  async #load(): Promise<StoredSession | null> {
    const stored = await this.#stored(() => this.#storage.load());
    if (!stored || stored.key) return stored;
    const session = { ...stored, key: keyAfter(this.#held, stored.refresh_token) };
    await this.#save(session);
    return session;
  }

  #save(session: StoredSession | null): Promise<void> {
    return this.#stored(() => this.#storage.save(session));
  }

  /** Uses the storage. @throws FreshkeyError `storage` if the app's own storage fails. */
  async #stored<T>(use: () => T | Promise<T>): Promise<T> {
    try {
      return await use();
    } catch (cause) {
      throw new FreshkeyError('The token storage failed.', { code: 'storage', cause });
    }
  }

  #hold(next: StoredSession | null, reason: SignedOutReason): void {
    const before = this.#held;
    this.#held = next;
    if (before?.key === next?.key && before?.access_token === next?.access_token) return;
    for (const listener of [...this.#listeners]) call(listener);
    const tokens = this.getTokens();
    if (tokens && tokens.access_token !== before?.access_token) call(() => this.#options.onTokens?.(tokens));
    if (isConfirmed(before) && !isConfirmed(next)) call(() => this.#options.onSignedOut?.(reason));
  }

  /** Uses the storage when it is free, with a signal that is aborted once the app has replaced the session. */
  #inTurn<T>(use: (signal: AbortSignal) => T | Promise<T>): Promise<T> {
    const { signal } = this.#life;
    const turn = this.#turn.then(() => use(signal));
    this.#turn = turn.catch(() => {});
    return turn;
  }

  /**
   * Runs one at a time across all tabs, where there are Web Locks. Without them the shared key is enough, and it must be
   * enough too if the system has frozen the tab that holds the lock, perhaps for hours: the wait has a limit. There is one
   * lock for the cookie. Otherwise the lock belongs to the refresh token, identified by its key, since one process may
   * hold the sessions of many users.
   */
  async #exclusive<T>(session: StoredSession | null, run: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const locks = this.#isShared ? globalThis.navigator?.locks : undefined;
    if (!locks || !(this.isCookie || session?.key)) return run();
    const name = nameOf(apiOf(this.baseUrl), this.isCookie ? undefined : session?.key);
    const waiting = new AbortController();
    const giveUp = () => waiting.abort();
    const timer = setTimeout(giveUp, this.isCookie ? COOKIE_WAIT : WAIT);
    signal?.addEventListener('abort', giveUp);
    let isOurs = false;
    try {
      return await locks.request(name, { signal: waiting.signal }, () => {
        isOurs = true;
        clearTimeout(timer);
        return run();
      });
    } catch (error) {
      if (isOurs || !waiting.signal.aborted || signal?.aborted) throw error;
      return run();
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', giveUp);
    }
  }

  #isRefreshable(session: StoredSession): boolean {
    return this.isCookie || session.refresh_token !== undefined;
  }

  #headersOf({ access_token, refresh_token }: StoredSession): Record<string, string> {
    const authorization = `Bearer ${access_token}`;
    return this.#isByHeader && refresh_token ? { authorization, 'x-refresh-token': refresh_token } : { authorization };
  }

  #bodyOf({ refresh_token }: StoredSession): object | undefined {
    return this.isCookie ? undefined : { refresh_token };
  }

  #post(path: string, body: object | undefined, patience: Patience, init: RequestInit): Promise<Answer> {
    const headers = { ...(this.isCookie && COOKIE.headers), ...(init.headers as Record<string, string>) };
    const sent = { ...(this.isCookie && COOKIE), ...init, headers };
    return post(this.#fetch, join(this.baseUrl, path), body, sent, patience);
  }
}

/** What the server requires of a request that uses the cookie. */
const COOKIE = {
  credentials: 'include',
  headers: { 'x-requested-with': 'fetch', 'x-token-transport': 'cookie' },
} as const;

/** Whether a session exists as far as is known, rather than perhaps. */
function isConfirmed(session: StoredSession | null): boolean {
  return session !== null && !session.is_unconfirmed;
}

/**
 * When an access token that has just arrived expires, by this machine's clock, which may be wrong. So it is counted from
 * now: by `expires_in`, in seconds, or by the token's whole lifetime if the answer does not say.
 */
function expiryFrom(expires_in: number | undefined, access_token: string): number {
  return Math.floor(now() + (expires_in || (lifetimeOf(access_token) ?? 0)));
}

/** The key for a refresh token. A token that is held already keeps its key: within a reuse interval it can come again. */
function keyAfter(held: StoredSession | null, refresh_token: string | undefined): string {
  return (held?.refresh_token === refresh_token && held?.key) || newKey();
}

function notSignedIn(): FreshkeyError {
  return new FreshkeyError('Nobody is signed in.', { code: 'not_signed_in' });
}

/** Calls a callback of the app. Its errors are reported as uncaught, and do not disturb the client. */
function call(callback: () => void): void {
  try {
    callback();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
