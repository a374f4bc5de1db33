// Where tokens are kept. Each storage holds one session, or none.

import { join, json } from './http.js';

/** The tokens of a session. */
export interface Tokens {
  access_token: string;
  /** Absent in cookie mode, where the browser keeps it. */
  refresh_token?: string;
  /** When the access token expires, in whole seconds since the epoch, by this machine's clock. */
  expires_at: number;
}

/**
 * The record that a storage keeps.
 *
 * `key` is the `Idempotency-Key` for rotating the refresh token: random, made when the token arrives and before it is
 * sent, and replaced together with it. All tabs and later processes therefore send this token with this key, and the
 * server sees one attempt. It also identifies the token: records with the same key hold the same refresh token, even
 * where the token itself is in a cookie.
 */
export interface StoredSession extends Tokens {
  /** Absent only in a record that other code wrote. Then the client adds one when it reads the record. */
  key?: string;
  /** Whether the access token lasts until the session's absolute end, where the tokens themselves do not tell. */
  is_last?: boolean;
  /**
   * In cookie mode: nothing is known about the cookie, so the server must be asked.
   *
   * @internal
   */
  is_unconfirmed?: boolean;
}

/** A storage that the app provides: a file, a keychain, IndexedDB. */
export interface TokenStorage {
  /** Returns the record that was saved last; `null` if there is none. */
  load(): StoredSession | null | Promise<StoredSession | null>;
  /**
   * Replaces the record, atomically and durably; `null` means signed out. A concurrent `load` returns the old or the new
   * record, never a mixture.
   */
  save(session: StoredSession | null): void | Promise<void>;
  /** Calls back when another tab or process has saved something. Returns the function that stops it. */
  subscribe?(listener: () => void): () => void;
  /** The device token, which survives a logout. It stays in memory unless this is an accessor that stores it. */
  deviceToken?: string | null;
}

/** Keeps the session as long as the object lives. */
export function memoryStorage(): TokenStorage {
  let held: StoredSession | null = null;
  return {
    load: () => held,
    save: (session) => void (held = session),
  };
}

/** Keeps the session of the API `api` in `localStorage`, shared by all tabs: one item, so that it is written at once. */
export function webStorage(items: Items, api: string, adoptLegacyItems = false): TokenStorage {
  const SESSION = nameOf(api, 'session');
  const DEVICE_TOKEN = nameOf(api, 'device_token');

  const storage: TokenStorage = {
    load() {
      const session = json(items.get(SESSION) ?? '') as StoredSession | null | undefined;
      const isUsable = session?.refresh_token || (session?.access_token && session.expires_at > now());
      return isUsable ? session : null;
    },
    save: (session) => items.set(SESSION, session && JSON.stringify(session)),
    subscribe: (listener) => items.watch(SESSION, () => listener()),
    get deviceToken() {
      return items.get(DEVICE_TOKEN);
    },
    set deviceToken(token) {
      items.set(DEVICE_TOKEN, token ?? null);
    },
  };
  if (adoptLegacyItems) adopt(items, storage, nameOf(api, 'adopted'));
  return storage;
}

/** The items that apps, and the first version of this client, kept without naming the API. */
const LEGACY_ITEMS = ['access_token', 'refresh_token', 'token_expiry', 'refresh_key', 'device_token'];

/** Moves the legacy items to `storage`, once per browser: after that they may belong to another back end. */
function adopt(items: Items, storage: TokenStorage, mark: string): void {
  if (items.get(mark) !== null) return;
  const [access_token, refresh_token, expiry, keys, device_token] = LEGACY_ITEMS.map((name) => items.get(name) ?? '');
  if (!storage.load() && (access_token || refresh_token)) {
    const key = ((json(keys!) ?? {}) as Record<string, string>)[signatureOf(refresh_token!)];
    void storage.save({
      access_token: access_token!,
      expires_at: secondsOf(expiry!) ?? expiryOf(access_token!) ?? 0,
      ...(refresh_token && { refresh_token }),
      ...(key && { key }),
    });
  }
  if (device_token) storage.deviceToken ||= device_token;
  items.set(mark, 'true');
  for (const name of LEGACY_ITEMS) items.set(name, null);
}

/**
 * For a refresh token in a cookie. The access token is in memory only. `localStorage` holds the key of the cookie's
 * refresh token, or a mark that the user has signed out: then a logout whose request was lost is not undone by a reload.
 * Without either (a first visit, or Safari has deleted the script-writable storage and kept the cookie) only the server
 * knows, and it is asked.
 *
 * Each access token is sent to the other tabs. A tab that it does not reach in time finds a new key without a token, and
 * refreshes for itself.
 */
export function cookieStorage(items: Items, api: string): TokenStorage {
  const COOKIE = nameOf(api, 'cookie');
  const unknown: StoredSession = { access_token: '', expires_at: 0, key: newKey(), is_unconfirmed: true };
  let channel: BroadcastChannel | undefined = new BroadcastChannel(nameOf(api));
  // The last that were saved here or heard of, the newest first. A tab can hear of a session before it sees its mark.
  let known: (StoredSession | null)[] = [];
  const learn = (session: StoredSession | null) => (known = [session, ...known].slice(0, 3));
  const find = (key: string) => known.find((session) => session?.key === key);
  const markOf = (text: string | null) =>
    json(text ?? '') as { key: string; is_unconfirmed?: true } | { signed_out: true } | undefined;
  return {
    load() {
      const mark = markOf(items.get(COOKIE));
      if (!mark) return known[0] ?? unknown;
      if ('signed_out' in mark) return null;
      return find(mark.key) ?? { access_token: '', expires_at: 0, ...mark };
    },
    save(session) {
      learn(session);
      const { key, is_unconfirmed } = session ?? {};
      items.set(COOKIE, JSON.stringify(session ? { key, is_unconfirmed } : { signed_out: true }));
      if (!session || session.access_token) channel?.postMessage(session);
    },
    subscribe(listener) {
      channel!.onmessage = ({ data }) => {
        learn(data as StoredSession | null);
        listener();
      };
      // A new key is of use only once its access token has been heard.
      const ignore = items.watch(COOKIE, (text) => {
        const mark = markOf(text);
        if (!mark || 'signed_out' in mark || find(mark.key)) listener();
      });
      return () => {
        ignore();
        channel?.close();
        channel = undefined;
      };
    },
  };
}

/** Named texts. */
export interface Items {
  get(name: string): string | null;
  /** `null` removes the item. */
  set(name: string, value: string | null): void;
  /** Calls back with what another tab has made of the item. Returns the function that stops it. */
  watch(name: string, listener: (value: string | null) => void): () => void;
}

/**
 * The page's `localStorage`; `undefined` on a server and in React Native. An item that cannot be stored, because the
 * storage is full or the browser forbids it, is held in memory, where only this tab sees it.
 */
export function pageItems(): Items | undefined {
  if (typeof window === 'undefined') return undefined;
  const page = window;
  let local: Storage | undefined;
  try {
    local = page.localStorage;
    if (!local) return undefined;
  } catch {
    // The browser forbids it.
  }
  const unsaved = new Map<string, string>();

  return {
    get: (name) => local?.getItem(name) ?? unsaved.get(name) ?? null,
    set(name, value) {
      unsaved.delete(name);
      if (value === null) return local?.removeItem(name);
      if (!store(local, name, value)) unsaved.set(name, value);
    },
    watch(name, listener) {
      const heard = ({ key, newValue, storageArea }: StorageEvent) => {
        // Both are null when everything was cleared.
        if (storageArea === local && (key === null || key === name)) listener(newValue);
      };
      page.addEventListener('storage', heard);
      return () => page.removeEventListener('storage', heard);
    },
  };
}

/**
 * Whether an item could be stored. Where it could not, its old value is gone too: another tab, or the next page, would
 * present a refresh token that is spent. Removing it can also be what makes room for the new one.
 */
function store(local: Storage | undefined, name: string, value: string): boolean {
  if (!local) return false;
  try {
    local.setItem(name, value);
    return true;
  } catch {
    try {
      local.removeItem(name);
      local.setItem(name, value);
      return true;
    } catch {
      return false;
    }
  }
}

/** The origin and the path of an API, which keep apart what the clients of several back ends store on one origin. */
export function apiOf(baseUrl: string): string {
  const page = globalThis.document?.baseURI ?? globalThis.location?.href;
  const { protocol, host, pathname } = new URL(join(baseUrl, '/'), page);
  return `${protocol}//${host}${pathname.replace(/\/+$/, '')}`;
}

/** The name of an item, a lock or a channel of this API. */
export function nameOf(api: string, what = ''): string {
  return `freshkey ${api} ${what}`.trimEnd();
}

/** 128 random bits. `randomUUID` does not exist on plain http. */
export function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** The time, in seconds since the epoch. */
export function now(): number {
  return Date.now() / 1000;
}

/** When an access token expires, in seconds since the epoch, by the server's clock; `undefined` if it is not a JWT. */
export function expiryOf(token: string): number | undefined {
  return claims(token).exp;
}

/** The whole lifetime of an access token, in seconds; `undefined` if it is not a JWT. */
export function lifetimeOf(token: string): number | undefined {
  const { exp, iat } = claims(token);
  return exp && iat && exp - iat;
}

/** Whether the access token lasts until the session's absolute end. Then a refresh would gain nothing. */
export function isLast({ access_token, refresh_token, is_last = false }: StoredSession): boolean {
  const { abs } = claims(refresh_token ?? '');
  const exp = expiryOf(access_token);
  return abs && exp ? exp >= abs : is_last;
}

/** The claims of a JWT, unverified; none if it is not a JWT. */
export function claims(token: string): { exp?: number; iat?: number; abs?: number; sid?: string } {
  try {
    return JSON.parse(atob((token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/'))) ?? {};
  } catch {
    return {};
  }
}

function signatureOf(token: string): string {
  return token.slice(token.lastIndexOf('.') + 1);
}

/** A time as apps write it (seconds or milliseconds since the epoch, or a date), in whole seconds since the epoch. */
function secondsOf(text: string): number | undefined {
  if (!text) return undefined;
  const number = Number(text);
  const seconds = Number.isNaN(number) ? Date.parse(text) / 1000 : number < 1e11 ? number : number / 1000;
  return Number.isNaN(seconds) ? undefined : Math.floor(seconds);
}
