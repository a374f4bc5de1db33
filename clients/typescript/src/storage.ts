// Where tokens are kept. Each storage holds one session, or none.

import { json } from './http.js';

/** What is held of a session. */
export interface Tokens {
  access_token: string;
  /** Absent in cookie mode, where the browser keeps it. */
  refresh_token?: string;
  /** When the access token expires, in milliseconds since the epoch, by this machine's clock. */
  expires_at: number;
}

/**
 * What a storage keeps: one record, so that it cannot tear.
 *
 * `key` is the `Idempotency-Key` of the refresh token's rotation: random, made as soon as the token is there and long
 * before it is sent, and replaced only with it. So every tab, and every later process, sends this token with this key,
 * and all of that is one attempt. It is also the token's name: records with the same key hold the same refresh token,
 * which can be told even where the token itself is in a cookie.
 */
export interface StoredSession extends Tokens {
  /** Absent only in what something else has written; then one is made when it is read. */
  key?: string;
}

/** A storage of one's own: a file, a keychain, IndexedDB. */
export interface TokenStorage {
  /** The record that was saved last; `null` where there is none. */
  load(): StoredSession | null | Promise<StoredSession | null>;
  /** Replaces the record, as a whole and durably; `null` when signed out. Whoever loads finds the old or the new one. */
  save(session: StoredSession | null): void | Promise<void>;
  /** Calls back when another tab or process has saved something; returns what ends that. */
  subscribe?(listener: () => void): () => void;
  /** The device token, which survives a logout. It is in memory only, unless this is an accessor that stores it. */
  deviceToken?: string | null;
}

/** Keeps it as long as the object lives. */
export function memoryStorage(): TokenStorage {
  let held: StoredSession | null = null;
  return {
    load: () => held,
    save: (session) => void (held = session),
  };
}

/**
 * Keeps it in `localStorage`, as the items that many an app has there already: `access_token`, `refresh_token` and
 * `token_expiry`. Three items and the key cannot be written at once, so the order counts, wherever it is cut off or
 * read by another tab:
 *
 * - The key comes before its token, beside the key of the token that is still there. Whoever reads a refresh token
 *   finds its key; a token that may have been sent is never without.
 * - The access token goes first and comes last. So it never stands beside another user's refresh token, and when its
 *   `storage` event tells the other tabs, everything is in place.
 */
export function webStorage(local: Storage): TokenStorage {
  const keys = () => (json(local.getItem('refresh_key') ?? '') ?? {}) as Record<string, string>;
  const put = (item: string, value: string | undefined) =>
    value ? local.setItem(item, value) : local.removeItem(item);

  return {
    load() {
      const access_token = local.getItem('access_token') ?? '';
      const refresh_token = local.getItem('refresh_token') ?? '';
      const expires_at = moment(local.getItem('token_expiry')) ?? expiryOf(access_token) ?? 0;
      if (!refresh_token && !(access_token && expires_at > Date.now())) return null;
      const key = keys()[signatureOf(refresh_token)];
      return { access_token, expires_at, ...(refresh_token && { refresh_token }), ...(key && { key }) };
    },
    save(session) {
      const before = signatureOf(local.getItem('refresh_token') ?? '');
      const kept = keys()[before];
      const after = session && { [signatureOf(session.refresh_token ?? '')]: session.key };
      local.removeItem('access_token');
      if (after) put('refresh_key', JSON.stringify({ [before]: kept, ...after }));
      put('refresh_token', session?.refresh_token);
      put('token_expiry', session ? String(session.expires_at) : undefined);
      put('access_token', session?.access_token);
      if (!after) local.removeItem('refresh_key');
    },
    subscribe: (listener) =>
      onStorage(local, listener, ({ key, newValue }) =>
        key === 'refresh_token' ? newValue === null : key === 'access_token' && newValue !== null,
      ),
    get deviceToken() {
      return local.getItem('device_token');
    },
    set deviceToken(token) {
      put('device_token', token ?? undefined);
    },
  };
}

/**
 * For a refresh token in a cookie. The access token is in memory alone. The key of the cookie's refresh token is in
 * `localStorage`, and that it is there says that somebody is signed in: a new visitor costs no request, and a logout
 * whose request was lost is not undone by a reload.
 *
 * Each access token is told to the other tabs. Where that does not arrive in time, another key without a token is what
 * they find, and they refresh for themselves.
 */
export function cookieStorage(local: Storage): TokenStorage {
  let channel: BroadcastChannel | undefined = new BroadcastChannel('freshkey');
  let saved: StoredSession | null = null;
  let heard: StoredSession | null = null;
  return {
    load() {
      const key = local.getItem('refresh_key');
      if (!key) return null;
      return [saved, heard].find((session) => session?.key === key) ?? { access_token: '', expires_at: 0, key };
    },
    save(session) {
      saved = session;
      if (session?.key) local.setItem('refresh_key', session.key);
      else local.removeItem('refresh_key');
      if (!session || session.access_token) channel?.postMessage(session);
    },
    subscribe(listener) {
      channel!.onmessage = ({ data }) => {
        heard = data;
        listener();
      };
      // The message can come before what it tells of is to be read here.
      const ignore = onStorage(
        local,
        listener,
        ({ key, newValue }) => key === 'refresh_key' && (newValue === null || newValue === heard?.key),
      );
      return () => {
        ignore();
        channel?.close();
        channel = undefined;
      };
    },
  };
}

/** The page's `localStorage`; `undefined` on a server, and where the browser forbids it. */
export function pageStorage(): Storage | undefined {
  try {
    return typeof window === 'undefined' ? undefined : window.localStorage;
  } catch {
    return undefined;
  }
}

/** When an access token expires, in milliseconds since the epoch, by the server's clock; `undefined` if it is no JWT. */
export function expiryOf(token: string): number | undefined {
  const { exp } = claims(token);
  return exp && exp * 1000;
}

/** For how long an access token is good in all, in milliseconds; `undefined` if it is no JWT. */
export function lifetimeOf(token: string): number | undefined {
  const { exp, iat } = claims(token);
  return exp && iat && (exp - iat) * 1000;
}

/** What a JWT says, unverified; nothing, if it is none. */
export function claims(token: string): { exp?: number; iat?: number; sid?: string } {
  try {
    return JSON.parse(atob((token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/'))) ?? {};
  } catch {
    return {};
  }
}

function signatureOf(token: string): string {
  return token.slice(token.lastIndexOf('.') + 1);
}

/** A moment as apps write it: seconds or milliseconds since the epoch, or a date. */
function moment(text: string | null): number | undefined {
  if (!text) return undefined;
  const number = Number(text);
  const ms = Number.isNaN(number) ? Date.parse(text) : number < 1e11 ? number * 1000 : number;
  return Number.isNaN(ms) ? undefined : ms;
}

/** Calls back for the `storage` events that count; `key` is `null` when everything was cleared. */
function onStorage(local: Storage, listener: () => void, counts: (event: StorageEvent) => boolean): () => void {
  const heard = (event: StorageEvent) => {
    if (event.storageArea === local && (event.key === null || counts(event))) listener();
  };
  const page = window;
  page.addEventListener('storage', heard);
  return () => page.removeEventListener('storage', heard);
}
