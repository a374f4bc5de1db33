// The session of one user: its tokens, and their rotation, so that it does not end before its time.
//
// What the server asks of a client (its docs tell why): a refresh token is always sent with the same random key, stored
// beside it before it leaves; an answer is adopted only while the token that was sent is still the one that is stored;
// and only the server's own word that the token is invalid ends the session. Everything here serves these three.

import { FreshkeyError } from './errors.js';
import { ask, failure, join, pause, type Answer, type Patience } from './http.js';
import {
  cookieStorage,
  expiryOf,
  lifetimeOf,
  memoryStorage,
  pageStorage,
  webStorage,
  type StoredSession,
  type TokenStorage,
  type Tokens,
} from './storage.js';

/** The words of the server: its own, or those of a Symfony backend. */
export type Dialect = 'v1' | 'lexik';

/**
 * Why nobody is signed in any more: the app said so (`logged_out`), another tab is (`logged_out_elsewhere`), or the
 * server refused the refresh token (`session_ended`): it has expired, or was revoked.
 */
export type SignedOutReason = 'logged_out' | 'logged_out_elsewhere' | 'session_ended';

export interface TokenManagerOptions {
  /** `v1` by default. */
  dialect?: Dialect;
  /**
   * `memory` by default: gone with the page. `localStorage`: shared by all tabs; where there is none (on a server) it is
   * memory. `cookie`: the refresh token is in a cookie that no script can read; for browsers, and the server must be set
   * to it. Or an object of your own.
   */
  storage?: 'memory' | 'localStorage' | 'cookie' | TokenStorage;
  /** Used in place of the global one. */
  fetch?: typeof globalThis.fetch;
  /** Other tokens are held than before: after a login, and after a refresh by this client or by another tab. */
  onTokens?(tokens: Tokens): void;
  /** Nobody is signed in any more. This is the place to show the login page. */
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

/** What the server answers to register and login. In cookie mode it has no `refresh_token` and no `device_token`. */
export interface LoginAnswer {
  access_token?: string;
  refresh_token?: string;
  token_type?: 'Bearer';
  /** Seconds. */
  expires_in?: number;
  /** Seconds. */
  refresh_expires_in?: number;
  user_id?: string;
  device_token?: string;
  /** The access token, in the lexik dialect. */
  token?: string;
  /** In the lexik dialect. */
  user?: LexikUser;
}

/** What a call is sent with; made by {@link TokenManager.authorize}. */
export interface Authorization {
  /** The headers to send: none when nobody is signed in. */
  readonly headers: Readonly<Record<string, string>>;
  /** What was held when the call left. */
  readonly session: Readonly<StoredSession> | null;
}

const REGISTER = '/api/v1/auth/register';
const LOGOUT = '/api/v1/auth/logout';
const ME = '/api/v1/users/me';

/** The routes of each dialect, and its definitive word that a refresh token is invalid. */
const DIALECTS = {
  v1: {
    login: '/api/v1/auth/login',
    refresh: '/api/v1/auth/refresh',
    refuses: ({ status, body }: Answer) =>
      status === 401 && (body as { error?: string } | undefined)?.error === 'invalid_refresh_token',
  },
  lexik: {
    login: '/api/auth',
    refresh: '/api/token/refresh',
    // 401 is for a request that brought no token: the cookie is gone.
    refuses: ({ status, body }: Answer, isCookie: boolean) => {
      const { code, message } = (body ?? {}) as { code?: number; message?: string };
      return (
        code === status && ((status === 400 && message === 'Invalid refresh token') || (isCookie && status === 401))
      );
    },
  },
};

/** A login is not repeated, and the server takes up to half a minute for it. */
const ONCE: Patience = { tries: 1, timeout: 30_000 };
const REFRESHING: Patience = { tries: 5, timeout: 10_000 };
const LEAVING: Patience = { tries: 3, timeout: 5_000 };

/** How long a call waits for a refresh at most while its access token is still good, in milliseconds. */
const AHEAD = 2_000;

/** How long to wait for the tab that holds the lock, in milliseconds. */
const WAIT = 15_000;
/** The same for the cookie, where it is longer than any refresh takes: only a frozen tab holds the lock then. */
const COOKIE_WAIT = 180_000;

/** How long the access token that another tab got may be on its way to this one, in milliseconds. */
const MESSAGE = 50;

/** Holds the tokens of one user, and refreshes them. */
export class TokenManager {
  /** Fulfilled once the storage has been read and, in cookie mode, the session resumed. Never rejected. */
  readonly ready: Promise<void>;
  /** The address of the API. */
  readonly baseUrl: string;
  /** The words of the server. */
  readonly dialect: Dialect;
  /** Whether the refresh token is in a cookie. */
  readonly isCookie: boolean;

  readonly #options: TokenManagerOptions;
  readonly #fetch: typeof globalThis.fetch;
  readonly #storage: TokenStorage;
  /** Whether other tabs use the storage, too. */
  readonly #isShared: boolean;
  readonly #unsubscribe: () => void;
  readonly #listeners = new Set<() => void>();
  #isByHeader = false;

  /** What the storage holds, as far as is known. */
  #held: StoredSession | null = null;
  /** Aborted when the app itself replaces what is held: then nothing that was under way may touch it. */
  #life = new AbortController();
  /** The refresh under way. */
  #flight: Promise<Tokens> | undefined;
  /** The last use of the storage: they take turns. */
  #turn: Promise<unknown> = Promise.resolve();

  /**
   * @throws TypeError for `cookie` in a browser without Web Locks (before 2022, or a page on plain http): a browser picks
   * the cookie as the request leaves, so two tabs must never refresh at once.
   */
  constructor(baseUrl: string, options: TokenManagerOptions = {}) {
    const { storage = 'memory', dialect = 'v1' } = options;
    const page = pageStorage();
    this.dialect = dialect;
    this.isCookie = storage === 'cookie';
    if (this.isCookie && page && !globalThis.navigator?.locks) throw new TypeError('Cookie storage needs Web Locks.');
    this.baseUrl = baseUrl;
    this.#options = options;
    this.#fetch = (...request) => (options.fetch ?? globalThis.fetch)(...request); // a browser's wants no `this`
    if (typeof storage === 'object') this.#storage = storage;
    else if (storage === 'memory' || !page) this.#storage = memoryStorage();
    else this.#storage = this.isCookie ? cookieStorage(page) : webStorage(page);
    this.#isShared = typeof storage === 'object' || (storage !== 'memory' && page !== undefined);
    this.#unsubscribe = this.#storage.subscribe?.(() => void this.#sync().catch(() => {})) ?? (() => {});
    if (typeof storage === 'string') this.#held = this.#storage.load() as StoredSession | null;
    this.ready = this.#restore();
  }

  /** Whether somebody is signed in, as far as is known: the server has the last word. */
  get isSignedIn(): boolean {
    return this.#held !== null;
  }

  /**
   * Signs in. A wrong password changes nothing that is held.
   *
   * @throws FreshkeyError `invalid_credentials`, `rate_limited`, `network` and others.
   */
  login({ email, password }: Credentials): Promise<LoginAnswer> {
    return this.#enter(DIALECTS[this.dialect].login, { email, password });
  }

  /**
   * Makes a user, and signs in.
   *
   * @throws FreshkeyError `email_taken`, `validation_failed` with its `fields`, and others.
   */
  register(user: Registration): Promise<LoginAnswer> {
    return this.#enter(REGISTER, user);
  }

  /**
   * Refreshes now. However many ask at once, in however many tabs, there is one request; where another tab has just
   * refreshed, there is none. With `headerRefresh` the server decides whether it is time, so the tokens may stay.
   *
   * @throws FreshkeyError `invalid_refresh_token`: signed out; `not_signed_in`; any other: still signed in, and a later
   * try may succeed.
   */
  refreshTokens(): Promise<Tokens> {
    if (this.#flight) return this.#flight;
    const flight = this.#refresh().finally(() => {
      if (this.#flight === flight) this.#flight = undefined;
    });
    return (this.#flight = flight);
  }

  /** Signs out. This client forgets the tokens at once, and whether or not the server can be told. */
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
   * Signs in with tokens that came another way. Without `expires_at` (milliseconds since the epoch) and `expires_in`
   * (seconds) the access token tells.
   */
  setTokens(tokens: {
    access_token: string;
    refresh_token?: string;
    expires_in?: number;
    expires_at?: number;
  }): Promise<void> {
    const { access_token, refresh_token, expires_in, expires_at } = tokens;
    const expiry = expires_at ?? (expires_in === undefined ? expiryOf(access_token) : Date.now() + expires_in * 1000);
    const isSame = this.isCookie || this.#held?.refresh_token === refresh_token; // only the server changes the cookie
    const key = (isSame && this.#held?.key) || newKey();
    return this.#replace({ access_token, expires_at: expiry ?? 0, key, ...(refresh_token && { refresh_token }) });
  }

  /** Forgets the tokens, without a word to the server. */
  clearTokens(): Promise<void> {
    return this.#replace(null);
  }

  /** What is held now; `null` when signed out, and in cookie mode until the session is resumed. */
  getTokens(): Tokens | null {
    if (!this.#held?.access_token) return null;
    const { access_token, refresh_token, expires_at } = this.#held;
    return { access_token, expires_at, ...(refresh_token && { refresh_token }) };
  }

  /** The access token that is held now, expired or not. */
  getAccessToken(): string | null {
    return this.#held?.access_token || null;
  }

  /** Whether there is no access token that is still good. */
  isTokenExpired(): boolean {
    return !this.#held || this.#held.expires_at <= Date.now();
  }

  /**
   * Whether the access token expires within that time, which is never taken for more than half its lifetime. Never
   * where there is nothing to refresh with.
   */
  shouldRefreshToken(bufferMinutes = 5): boolean {
    if (!this.#held || !this.#isRefreshable(this.#held)) return false;
    const { access_token, expires_at } = this.#held;
    const buffer = Math.min(bufferMinutes * 60_000, (lifetimeOf(access_token) ?? Infinity) / 2);
    return expires_at - Date.now() <= buffer;
  }

  /** Calls back at any change of what is held; returns what ends that. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Listens to the other tabs no more. */
  close(): void {
    this.#unsubscribe();
  }

  /**
   * What to send a call with, whatever sends it: {@link ApiClient} does, and so can any HTTP library. Refreshed first
   * where it is time; a refresh that fails is an error only once the access token has expired. Give the answer to
   * {@link settle}.
   */
  async authorize(): Promise<Authorization> {
    await this.#sync();
    if (!this.#isByHeader && this.shouldRefreshToken()) {
      const refreshed = this.refreshTokens().catch((error) => {
        if (this.isSignedIn && this.isTokenExpired()) throw error;
      });
      await this.#whileGood(refreshed);
    }
    const session = this.#held;
    return { session, headers: session?.access_token ? this.#headersOf(session) : {} };
  }

  /**
   * Takes what the answer to an authorised call says about the tokens. True: send it again, once, with a new
   * {@link authorize}.
   *
   * @throws FreshkeyError after a 401, where the refresh failed and yet nobody is signed out.
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
   * What a request is sent with that is to show the device: a login, or a change of the password.
   *
   * @internal
   */
  get deviceInit(): RequestInit {
    if (this.isCookie) return COOKIE;
    const token = this.#storage.deviceToken;
    return { headers: token ? { 'x-device-token': token } : {} };
  }

  /**
   * From now on refreshes by `x-refresh-token` alone: the two ways would be two attempts with the same token.
   *
   * @internal
   */
  refreshByHeader(): void {
    if (this.isCookie || this.dialect !== 'v1') throw new TypeError('headerRefresh is for v1, and not with a cookie.');
    this.#isByHeader = true;
  }

  /** Waits for a refresh, or for some of the time in which the access token is still good. */
  async #whileGood(refreshed: Promise<unknown>): Promise<void> {
    if (this.isTokenExpired()) return void (await refreshed);
    const left = this.#held!.expires_at - Date.now();
    const waited = new AbortController();
    await Promise.race([refreshed, pause(Math.min(AHEAD, left / 2), waited.signal)]);
    waited.abort();
  }

  async #restore(): Promise<void> {
    try {
      const held = await this.#sync();
      if (held && !held.access_token) await this.refreshTokens();
    } catch {
      // The first call that needs the storage or the server says so.
    }
  }

  #enter(path: string, body: object): Promise<LoginAnswer> {
    return this.#exclusive(this.#held, async () => {
      const answer = await this.#post(path, body, ONCE, this.deviceInit);
      if (answer.status >= 300) throw failure(answer, answer.status === 401 ? 'invalid_credentials' : undefined);
      const said = answer.body as LoginAnswer;
      const session = this.#read(answer, null);
      if (said.device_token) this.#storage.deviceToken = said.device_token;
      await this.#replace(session);
      return said;
    });
  }

  async #refresh(): Promise<Tokens> {
    const { signal } = this.#life;
    try {
      const had = await this.#sync();
      await this.#exclusive(had, () => this.#rotate(had, signal), signal);
    } catch (error) {
      // What was being refreshed may be held no more: then its refresh has not failed.
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
    signal.throwIfAborted();
    if (!sent) throw notSignedIn();
    if (isAnother && sent.expires_at > Date.now()) return;
    if (!this.#isRefreshable(sent)) {
      await this.#adopt(sent, null);
      throw notSignedIn();
    }
    const { refresh, refuses } = DIALECTS[this.dialect];
    const isPast = async () => (await this.#sync())?.key !== sent.key;
    // This tab may have been frozen between two tries, or another one have had no lock. A token that was spent meanwhile,
    // and its successor too, must not be sent again: that is what a theft looks like.
    const before = async () => {
      if (await isPast()) throw notSignedIn();
    };
    const patience = { ...REFRESHING, signal, before };
    // A tab sees late what another has written, later than the lock comes. So this may be the key before the cookie's, and
    // that does no harm, as long as no other is sent with this cookie: it is written again, after the other tab's.
    if (this.isCookie) await this.#inTurn(() => this.#storage.save(sent));
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
    if (refuses(answer, this.isCookie)) {
      await this.#adopt(sent, null);
      if (!this.#held) throw failure(answer, 'invalid_refresh_token');
      return; // it was spent: another tab has its successor
    }
    if (answer.status >= 300) throw failure(answer);
    if (!this.#isByHeader) await this.#adopt(sent, this.#read(answer, sent));
  }

  /** Adopts the tokens of the middleware's headers, if there are any. */
  async #adoptHeaders(sent: StoredSession, headers: Pick<Headers, 'get'>): Promise<boolean> {
    const access_token = headers.get('x-new-access-token');
    const refresh_token = headers.get('x-new-refresh-token');
    if (!access_token || !refresh_token) return false;
    const expires_at = expiryFrom(Number(headers.get('x-new-expires-in')), access_token);
    await this.#adopt(sent, { access_token, refresh_token, expires_at, key: keyAfter(sent, refresh_token) });
    return true;
  }

  /** The session that an answer brings; `sent` is the one that was presented. */
  #read(answer: Answer, sent: StoredSession | null): StoredSession {
    const { access_token, token = access_token, refresh_token, expires_in } = (answer.body ?? {}) as LoginAnswer;
    if (!token || !(this.isCookie || refresh_token)) throw failure(answer);
    const expires_at = expiryFrom(expires_in, token);
    if (this.isCookie || !refresh_token) return { access_token: token, expires_at, key: newKey() };
    return { access_token: token, refresh_token, expires_at, key: keyAfter(sent, refresh_token) };
  }

  /** Puts `next` in the place of what was sent, unless something else is stored by now: that is newer, and is held. */
  #adopt(sent: StoredSession, next: StoredSession | null): Promise<void> {
    return this.#inTurn(async (signal) => {
      const stored = await this.#load();
      const isCurrent = stored?.key === sent.key;
      if (isCurrent) await this.#storage.save(next);
      if (signal.aborted) return;
      if (isCurrent) this.#hold(next, 'session_ended');
      else this.#hold(stored, 'logged_out_elsewhere');
    });
  }

  /** What the app itself decides: whatever is under way comes too late. */
  #replace(session: StoredSession | null): Promise<void> {
    this.#life.abort();
    this.#life = new AbortController();
    this.#flight = undefined;
    // In the queue before whoever is told now: a listener that calls the API reads the storage after this.
    const saved = this.#inTurn(() => this.#storage.save(session));
    this.#hold(session, 'logged_out');
    return saved;
  }

  /** Holds what is stored, which another tab may have changed. */
  #sync(): Promise<StoredSession | null> {
    return this.#inTurn(async (signal) => {
      const stored = await this.#load();
      if (!signal.aborted) this.#hold(stored, 'logged_out_elsewhere');
      return this.#held;
    });
  }

  /** What is stored, with a key of its own before anything is sent. */
  async #load(): Promise<StoredSession | null> {
    const stored = await this.#storage.load();
    if (!stored || stored.key) return stored;
    const session = { ...stored, key: keyAfter(this.#held, stored.refresh_token) };
    await this.#storage.save(session);
    return session;
  }

  #hold(next: StoredSession | null, reason: SignedOutReason): void {
    const before = this.#held;
    this.#held = next;
    if (before?.key === next?.key && before?.access_token === next?.access_token) return;
    for (const listener of [...this.#listeners]) call(listener);
    const tokens = this.getTokens();
    if (tokens && tokens.access_token !== before?.access_token) call(() => this.#options.onTokens?.(tokens));
    if (before && !next) call(() => this.#options.onSignedOut?.(reason));
  }

  /** One use of the storage at a time; with a signal that tells whether the app has replaced what is held since. */
  #inTurn<T>(use: (signal: AbortSignal) => T | Promise<T>): Promise<T> {
    const { signal } = this.#life;
    const turn = this.#turn.then(() => use(signal));
    this.#turn = turn.catch(() => {});
    return turn;
  }

  /**
   * One at a time across all tabs, where there are Web Locks. Elsewhere the keys, which are the same, must do; and so
   * they must when the system has frozen the tab that holds the lock, which it may do for hours: nobody waits for ever.
   * The lock is that of the cookie, of which there is one; else of this refresh token, named by its key, since a
   * process may hold those of many users.
   */
  async #exclusive<T>(session: StoredSession | null, run: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const locks = this.#isShared ? globalThis.navigator?.locks : undefined;
    const name = this.isCookie ? 'freshkey' : session?.key && `freshkey ${session.key}`;
    if (!locks || !name) return run();
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
    const headers = {
      ...(body && { 'content-type': 'application/json' }),
      ...(this.isCookie && COOKIE.headers),
      ...(init.headers as Record<string, string>),
    };
    return ask(
      this.#fetch,
      join(this.baseUrl, path),
      {
        ...(this.isCookie && COOKIE),
        ...init,
        method: 'POST',
        headers,
        redirect: 'error',
        ...(body && { body: JSON.stringify(body) }),
      },
      patience,
    );
  }
}

/** What the server wants of a request that uses the cookie. */
const COOKIE = {
  credentials: 'include',
  headers: { 'x-requested-with': 'fetch', 'x-token-transport': 'cookie' },
} as const;

/** 128 random bits; `randomUUID` is not there on plain http. */
function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * When an access token that has just arrived expires, by this machine's clock, which may be wrong: it is told from now
 * on, in seconds; where it is not, the token was made just now, for its whole lifetime.
 */
function expiryFrom(expires_in: number | undefined, access_token: string): number {
  return Date.now() + (expires_in ? expires_in * 1000 : (lifetimeOf(access_token) ?? 0));
}

/** The key of a refresh token: a new one, unless it is held already. Within a reuse interval the same one can come again. */
function keyAfter(held: StoredSession | null, refresh_token: string | undefined): string {
  return (held?.refresh_token === refresh_token && held?.key) || newKey();
}

function notSignedIn(): FreshkeyError {
  return new FreshkeyError('Nobody is signed in.', { code: 'not_signed_in' });
}

/** Calls what the app has given us; what it throws is its own affair. */
function call(callback: () => void): void {
  try {
    callback();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
