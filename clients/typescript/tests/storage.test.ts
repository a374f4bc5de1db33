import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';

import { ApiClient, TokenManager, type StoredSession, type TokenManagerOptions } from '../src/index.js';
import { Browser, webLocks } from './browser.js';
import { fileStorage } from './files.js';
import { REFRESH, claims, expire, generation, signedUp, startWorld, until, type World } from './world.js';

let world: World;
let browser: Browser;

beforeAll(async () => {
  world = await startWorld();
});
beforeEach(() => {
  world.proxy.requests.length = 0;
  world.proxy.set({ only: REFRESH });
  browser = new Browser();
});
afterEach(() => browser.close());
afterAll(() => world.stop());

/** The name of an item of the API at `url`. */
const item = (what: string, url = world.url) => `freshkey ${url} ${what}`;

/** The items that apps keep without naming the API. */
function bareItems(tokens: TokenManager): Record<string, string> {
  const { access_token, refresh_token } = tokens.getTokens()!;
  return { access_token, refresh_token: refresh_token! };
}

/** A client in a new tab. */
function page(options: TokenManagerOptions = {}, url = world.url): TokenManager {
  return browser.inTab(() => new TokenManager(url, { storage: 'localStorage', ...options }));
}

describe('localStorage', () => {
  test('holds the session in one item, which survives a reload and is removed by a logout', async () => {
    const { tokens } = await browser.inTab(() => signedUp(world, { storage: 'localStorage' }));
    expect(JSON.parse(browser.item(item('session'))!)).toMatchObject(tokens.getTokens()!);
    const back = page();
    expect(back.isSignedIn).toBe(true);
    expect(back.getTokens()).toEqual(tokens.getTokens());
    await back.refreshTokens();
    expect(generation(back)).toBe(2);
    await back.logout();
    expect(browser.items()).toEqual([item('device_token')]);
  });

  test('shows nobody signed in with only an access token that has expired', () => {
    browser.set({ [item('session')]: JSON.stringify({ access_token: 'x.y.z', expires_at: 1, key: 'k' }) });
    expect(page().isSignedIn).toBe(false);
  });

  test.each(['', 'null', '1', '{', '{}'])('shows nobody signed in if the item is %j', (text) => {
    browser.set({ [item('session')]: text });
    expect(page().isSignedIn).toBe(false);
  });

  test('loses nothing in a crash before any write of a refresh', async () => {
    let isDead = true;
    for (let writes = 0; isDead; writes++) {
      browser = new Browser();
      const { tokens } = await browser.inTab(() => signedUp(world, { storage: 'localStorage' }));
      browser.allowWrites(writes);
      await tokens.refreshTokens();
      isDead = browser.isDead;
      tokens.close();
      browser.allowWrites(Infinity);
      const back = page();
      for (let rotation = 0; rotation < 3; rotation++) await back.refreshTokens();
      expect(back.isSignedIn, `after ${writes} writes`).toBe(true);
      back.close();
    }
  });

  test('is memory if there is no page, and so is the cookie', async () => {
    for (const storage of ['localStorage', 'cookie'] as const) {
      const tokens = new TokenManager(world.url, { storage });
      await tokens.ready;
      expect(tokens.isSignedIn).toBe(false);
    }
  });

  test('is memory if the browser forbids it', async () => {
    const forbidden = Object.defineProperty(new EventTarget(), 'localStorage', {
      get() {
        throw new DOMException('Access is denied.', 'SecurityError');
      },
    });
    vi.stubGlobal('window', forbidden);
    const { tokens } = await signedUp(world, { storage: 'localStorage' });
    await tokens.refreshTokens();
    expect(generation(tokens)).toBe(2);
    vi.unstubAllGlobals();
  });
});

describe('several back ends on one origin', () => {
  test('share neither tokens nor a sign-out', async () => {
    const other = await startWorld();
    try {
      const { tokens: a } = await browser.inTab(() => signedUp(world, { storage: 'localStorage' }));
      const b = page({}, other.url);
      await b.ready;
      expect(b.isSignedIn).toBe(false);
      const { tokens: signedInToB } = await browser.inTab(() => signedUp(other, { storage: 'localStorage' }));
      expect(signedInToB.getTokens()).not.toEqual(a.getTokens());
      expect(other.sent('POST /api/v1/auth/register', 'x-device-token')).toEqual([undefined]);
      await signedInToB.logout();
      await a.refreshTokens();
      expect(page().getTokens()).toEqual(a.getTokens());
    } finally {
      await other.stop();
    }
  });

  test('are told apart by origin and path, however the address is written', async () => {
    const { tokens } = await browser.inTab(() => signedUp(world, { storage: 'localStorage' }));
    const { port } = new URL(world.url);
    for (const other of [`${world.url}/stage`, `http://127.0.0.1:${Number(port) + 1}`, `https://127.0.0.1:${port}`]) {
      expect(page({}, other).isSignedIn, other).toBe(false);
    }
    for (const same of [`${world.url}/`, `${world.url}//`, world.url.replace('http', 'HTTP')]) {
      expect(page({}, same).getTokens(), same).toEqual(tokens.getTokens());
    }
  });

  test('are also told apart by relative addresses', async () => {
    vi.stubGlobal('location', { href: `${world.url}/deep/page.html?query#part` });
    const { tokens } = await browser.inTab(() => signedUp(world, { storage: 'localStorage' }));
    expect(page({}, '').getTokens()).toEqual(tokens.getTokens());
    expect(page({}, '/').getTokens()).toEqual(tokens.getTokens());
    expect(page({}, '/stage').isSignedIn).toBe(false);
    // Pages of an app in a web view, whose scheme gives them no origin.
    for (const app of ['one', 'other']) {
      vi.stubGlobal('location', { href: `capacitor://${app}/index.html` });
      await page({}, '').setTokens({ access_token: 'a', refresh_token: 'r' });
      expect(browser.item(item('session', `capacitor://${app}`))).not.toBe(null);
    }
    vi.unstubAllGlobals();
  });

  test('share no lock', async () => {
    const locks = webLocks();
    vi.stubGlobal('navigator', { locks });
    const { tokens } = await browser.inTab(() => signedUp(world, { storage: 'localStorage' }));
    await tokens.refreshTokens();
    expect(locks.names).toEqual([expect.stringMatching(new RegExp(`^freshkey ${world.url} [0-9a-f]{32}$`))]);
    vi.unstubAllGlobals();
  });
});

describe('items that do not name the API', () => {
  test('are neither read nor removed without the option', async () => {
    const { tokens } = await signedUp(world);
    browser.set({ ...bareItems(tokens), device_token: 'x', refresh_key: '{}', token_expiry: '1' });
    const before = browser.items();
    const { tokens: moved } = await browser.inTab(() => signedUp(world, { storage: 'localStorage' }));
    expect(world.sent('POST /api/v1/auth/register', 'x-device-token').at(-1)).toBeUndefined();
    await moved.logout();
    expect(browser.items()).toEqual([...before, item('device_token')]);
    expect(page().isSignedIn).toBe(false);
  });

  const soon = Math.floor(Date.now() / 1000) + 1800;
  test.each([
    ['in milliseconds', String(soon * 1000 + 500), soon],
    ['in seconds', String(soon), soon],
    ['as a date', new Date(soon * 1000).toISOString(), soon],
    ['that cannot be read', 'soon', undefined],
    ['that is missing', null, undefined],
  ])('are taken over, with an expiry %s, and removed', async (_, expiry, expected) => {
    const { tokens, credentials } = await signedUp(world);
    browser.set({ ...bareItems(tokens), ...(expiry && { token_expiry: expiry }) });
    const moved = page({ adoptLegacyItems: true });
    expect(moved.isSignedIn).toBe(true);
    expect(moved.getTokens()?.expires_at).toBe(expected ?? claims(tokens.getAccessToken()).exp);
    expect(browser.items().filter((name) => !name.startsWith('freshkey '))).toEqual([]);
    await moved.refreshTokens();
    expect(generation(moved)).toBe(2);
    expect((await new ApiClient(world.url, moved).me()).email).toBe(credentials.email);
  });

  test('include the key of a refresh whose answer was lost, and the device token', async () => {
    const { tokens } = await signedUp(world);
    const { refresh_token } = tokens.getTokens()!;
    const key = 'f'.repeat(32);
    const headers = { 'content-type': 'application/json', 'idempotency-key': key };
    const lost = { method: 'POST', headers, body: JSON.stringify({ refresh_token }) };
    expect((await fetch(`${world.url}/api/v1/auth/refresh`, lost)).status).toBe(200);
    const refresh_key = JSON.stringify({ [refresh_token!.split('.')[2]!]: key });
    browser.set({ ...bareItems(tokens), refresh_key, device_token: 'eyJ' });
    const moved = page({ adoptLegacyItems: true });
    await moved.refreshTokens();
    expect(generation(moved)).toBe(2);
    expect(browser.item(item('device_token'))).toBe('eyJ');
  });

  test('are read once, because later ones may belong to another back end', async () => {
    const { tokens } = await signedUp(world);
    page({ adoptLegacyItems: true }).close();
    browser.set(bareItems(tokens));
    expect(page({ adoptLegacyItems: true }).isSignedIn).toBe(false);
    expect(browser.item('refresh_token')).toBe(tokens.getTokens()!.refresh_token);
  });

  test('do not replace a session of the client', async () => {
    const { tokens: stale } = await signedUp(world);
    const { tokens } = await browser.inTab(() => signedUp(world, { storage: 'localStorage' }));
    browser.set(bareItems(stale));
    expect(page({ adoptLegacyItems: true }).getTokens()).toEqual(tokens.getTokens());
    expect(browser.item('refresh_token')).toBe(null);
  });

  test('are not lost in a crash before any write of the move', async () => {
    let isDead = true;
    for (let writes = 0; isDead; writes++) {
      browser = new Browser();
      const { tokens } = await signedUp(world);
      browser.set({ ...bareItems(tokens), device_token: 'eyJ' });
      browser.allowWrites(writes);
      try {
        page({ adoptLegacyItems: true }).close();
      } catch {
        // The page has died.
      }
      isDead = browser.isDead;
      browser.allowWrites(Infinity);
      const back = page({ adoptLegacyItems: true });
      expect(back.getTokens(), `after ${writes} writes`).toMatchObject(bareItems(tokens));
      await back.refreshTokens();
      expect(generation(back)).toBe(2);
      back.close();
    }
  });

  test('need the storage `localStorage`', () => {
    for (const storage of ['memory', 'cookie', { load: () => null, save: () => {} }] as const) {
      expect(() => new TokenManager(world.url, { storage, adoptLegacyItems: true })).toThrow('adoptLegacyItems');
    }
  });
});

describe('a full localStorage', () => {
  test.each([0, 3000])('with room for %i characters: the session is in memory, and no call fails', async (room) => {
    browser.room = room;
    const { tokens, credentials } = await browser.inTab(() => signedUp(world, { storage: 'localStorage' }));
    const api = new ApiClient(world.url, tokens);
    browser.room = 0;
    await expire(tokens);
    for (let calls = 0; calls < 5; calls++) expect((await api.me()).email).toBe(credentials.email);
    expect(world.count(REFRESH)).toBe(1);
    await tokens.refreshTokens();
    expect(generation(tokens)).toBe(3);
    await tokens.login(credentials);
    expect(world.sent('POST /api/v1/auth/login', 'x-device-token').at(-1)).toMatch(/^eyJ/);
  });

  test('does not keep a spent token', async () => {
    const { tokens } = await browser.inTab(() => signedUp(world, { storage: 'localStorage' }));
    browser.room = 0;
    await tokens.refreshTokens();
    expect(browser.item(item('session'))).toBe(null);
    expect(tokens.isSignedIn).toBe(true);
  });

  test('makes room for the new session by removing the old one', async () => {
    const { tokens } = await browser.inTab(() => signedUp(world, { storage: 'localStorage' }));
    // Like a browser that cannot replace a value in place when the storage is full.
    browser.isReplacing = false;
    browser.room = browser.items().reduce((sum, name) => sum + name.length + browser.item(name)!.length, 0) + 10;
    await tokens.refreshTokens();
    expect(page().getTokens()).toEqual(tokens.getTokens());
  });

  test('stores the session again as soon as there is room', async () => {
    browser.room = 0;
    const { tokens } = await browser.inTab(() => signedUp(world, { storage: 'localStorage' }));
    browser.room = Infinity;
    await tokens.refreshTokens();
    expect(page().getTokens()).toEqual(tokens.getTokens());
    await tokens.logout();
    expect(page().isSignedIn).toBe(false);
  });
});

describe('a storage of the app', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'freshkey-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  test('restores the session, and the key of a refresh whose answer was lost', async () => {
    const storage = fileStorage(join(folder, 'lost.json'));
    const { tokens } = await signedUp(world, { storage });
    world.proxy.set({ only: REFRESH, dropAnswer: 1 });
    await expect(tokens.refreshTokens()).rejects.toMatchObject({ code: 'network' });
    world.proxy.set({ only: REFRESH });
    const back = new TokenManager(world.url, { storage: fileStorage(join(folder, 'lost.json')) });
    await back.ready;
    expect(back.getTokens()).toEqual(tokens.getTokens());
    await back.refreshTokens();
    expect(generation(back)).toBe(2);
    expect(new Set(world.sent(REFRESH, 'idempotency-key')).size).toBe(1);
  });

  test('may contain tokens without a key, which get one before they are sent', async () => {
    const { tokens } = await signedUp(world);
    let record: StoredSession | null = tokens.getTokens();
    const keys: unknown[] = [];
    const storage = { load: () => record, save: (session: StoredSession | null) => void (record = session) };
    const spying: typeof fetch = (url, init) => {
      keys.push(record?.key, (init?.headers as Record<string, string>)['idempotency-key']);
      return fetch(url, init);
    };
    await new TokenManager(world.url, { storage, fetch: spying }).refreshTokens();
    expect(keys[0]).toBe(keys[1]);
    expect(record?.key).not.toBe(keys[0]);
  });

  test('may drop the key, which then stays in memory', async () => {
    let record: StoredSession | null = null;
    const storage = {
      load: () => record,
      save(session: StoredSession | null) {
        const { key: _, ...tokens } = session ?? {};
        record = session && (tokens as StoredSession);
      },
    };
    const { tokens, told } = await signedUp(world, { storage });
    world.proxy.next('dropAnswer');
    for (let rotation = 0; rotation < 3; rotation++) await tokens.refreshTokens();
    expect(generation(tokens)).toBe(4);
    expect(new Set(world.sent(REFRESH, 'idempotency-key')).size).toBe(3);
    expect(told).toEqual(['tokens', 'tokens', 'tokens', 'tokens']);
  });

  test('may serve two clients without a lock, which use the same keys', async () => {
    const path = join(folder, 'two.json');
    const { tokens } = await signedUp(world, { storage: fileStorage(path) });
    const other = new TokenManager(world.url, { storage: fileStorage(path) });
    await other.ready;
    for (let rotation = 2; rotation < 22; rotation++) {
      world.proxy.requests.length = 0;
      world.proxy.next('hold', 'hold');
      const refreshed = Promise.all([tokens.refreshTokens(), other.refreshTokens()]);
      await until(() => world.count(REFRESH) === 2); // both have read the same tokens
      world.proxy.release();
      await refreshed;
      expect(new Set(world.sent(REFRESH, 'idempotency-key')).size).toBe(1);
      const held = (await fileStorage(path).load())?.refresh_token;
      expect(claims(held).gen).toBe(rotation);
    }
  });

  test('may serve two clients of which one is still trying a token that the other has spent', async () => {
    const path = join(folder, 'spent.json');
    let tries = 0;
    let lose = () => {};
    const losing: typeof fetch = (url, init) => {
      if (!String(url).endsWith('/refresh') || tries++ > 0) return fetch(url, init);
      return new Promise((_, reject) => (lose = () => reject(new TypeError('The connection was lost.'))));
    };
    const { tokens, told } = await signedUp(world, { storage: fileStorage(path), fetch: losing });
    const other = new TokenManager(world.url, { storage: fileStorage(path) });
    const slow = tokens.refreshTokens();
    await until(() => tries === 1);
    await other.refreshTokens();
    await other.refreshTokens();
    lose();
    expect(await slow).toEqual(other.getTokens());
    expect(tries).toBe(1);
    expect(told).not.toContain('session_ended');
    await tokens.refreshTokens();
    expect(generation(tokens)).toBe(4);
  });

  test('may be one of many users’, who do not wait for each other', async () => {
    vi.stubGlobal('navigator', { locks: webLocks() });
    try {
      const { tokens } = await signedUp(world, { storage: fileStorage(join(folder, 'ada.json')) });
      const { tokens: bob, credentials } = await signedUp(world, { storage: fileStorage(join(folder, 'bob.json')) });
      world.proxy.next('hold');
      const held = tokens.refreshTokens();
      await until(() => world.count(REFRESH) === 1);
      await bob.refreshTokens();
      await new TokenManager(world.url, { storage: fileStorage(join(folder, 'new.json')) }).login(credentials);
      expect(generation(bob)).toBe(2);
      world.proxy.release();
      await held;
    } finally {
      vi.unstubAllGlobals();
    }
  });

  test('that fails leaves the session as it was, and the next refresh repeats the attempt', async () => {
    let record: StoredSession | null = null;
    let isFull = false;
    const storage = {
      load: async () => record,
      save: async (session: StoredSession | null) => {
        if (isFull) throw new Error('The disk is full.');
        record = session;
      },
    };
    const { tokens } = await signedUp(world, { storage });
    isFull = true;
    const cause = new Error('The disk is full.');
    await expect(tokens.refreshTokens()).rejects.toMatchObject({ name: 'FreshkeyError', code: 'storage', cause });
    isFull = false;
    await tokens.refreshTokens();
    expect(generation(tokens)).toBe(2);
  });

  test('may be slow: a logout while new tokens are being saved wins', async () => {
    let record: StoredSession | null = null;
    const gate = { isShut: false, waiting: 0, open: () => {} };
    const storage = {
      load: async () => record,
      save: async (session: StoredSession | null) => {
        if (gate.isShut && session) {
          gate.waiting++;
          await new Promise<void>((resolve) => (gate.open = resolve));
        }
        record = session;
      },
    };
    const { tokens, told } = await signedUp(world, { storage });
    gate.isShut = true;
    const refused = expect(tokens.refreshTokens()).rejects.toMatchObject({ code: 'not_signed_in' });
    await until(() => gate.waiting === 1);
    const left = tokens.clearTokens();
    gate.open();
    await Promise.all([refused, left]);
    expect(tokens.isSignedIn).toBe(false);
    expect(record).toBe(null);
    expect(told).toEqual(['tokens', 'logged_out']);
  });

  test('may keep the device token', async () => {
    const storage = { load: () => null, save: () => {}, deviceToken: null as string | null };
    await signedUp(world, { storage });
    expect(storage.deviceToken).toMatch(/^eyJ/);
  });
});

test('tokens that are set again keep their key', async () => {
  const { tokens } = await signedUp(world);
  world.proxy.set({ only: REFRESH, dropAnswer: 1 });
  await expect(tokens.refreshTokens()).rejects.toMatchObject({ code: 'network' });
  world.proxy.set({ only: REFRESH });
  await tokens.setTokens(tokens.getTokens()!);
  await tokens.refreshTokens();
  expect(generation(tokens)).toBe(2);
});

test('a refresh token that is issued again, within a reuse interval, keeps its key', async () => {
  const lenient = await startWorld({ REFRESH_REUSE_INTERVAL_SECONDS: '60' });
  try {
    let record: StoredSession | null = null;
    const storage = { load: () => record, save: (session: StoredSession | null) => void (record = session) };
    const { tokens } = await signedUp(lenient, { storage });
    // The first rotation does not wait for the interval.
    await tokens.refreshTokens();
    const before = record as StoredSession | null;
    await tokens.refreshTokens();
    expect(record).toMatchObject({ refresh_token: before?.refresh_token, key: before?.key });
    expect(record).not.toMatchObject({ access_token: before?.access_token });
  } finally {
    await lenient.stop();
  }
});

test('a subscriber is called at each change until it unsubscribes', async () => {
  const { tokens } = await signedUp(world);
  const listener = vi.fn();
  const end = tokens.subscribe(listener);
  await tokens.refreshTokens();
  expect(listener).toHaveBeenCalledTimes(1);
  end();
  await tokens.refreshTokens();
  expect(listener).toHaveBeenCalledTimes(1);
});
