import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';

import { ApiClient, TokenManager, type StoredSession } from '../src/index.js';
import { webStorage } from '../src/storage.js';
import { Browser, webLocks } from './browser.js';
import { fileStorage } from './files.js';
import { REFRESH, claims, generation, signedUp, startWorld, until, type World } from './world.js';

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

describe('localStorage', () => {
  test('keeps its items under the names that apps use', async () => {
    const { tokens } = await browser.inTab(() => signedUp(world, { storage: 'localStorage' }));
    const { access_token, refresh_token, expires_at } = tokens.getTokens()!;
    expect(browser.item('access_token')).toBe(access_token);
    expect(browser.item('refresh_token')).toBe(refresh_token);
    expect(browser.item('token_expiry')).toBe(String(expires_at));
    await tokens.logout();
    expect(browser.items()).toEqual(['device_token']);
  });

  test('signs in whoever comes back, at once', async () => {
    const { tokens } = await browser.inTab(() => signedUp(world, { storage: 'localStorage' }));
    tokens.close();
    const back = browser.inTab(() => new TokenManager(world.url, { storage: 'localStorage' }));
    expect(back.isSignedIn).toBe(true);
    expect(back.getTokens()).toEqual(tokens.getTokens());
    await back.refreshTokens();
    expect(generation(back)).toBe(2);
  });

  const soon = Date.now() + 1_800_000;
  test.each([
    ['in milliseconds', String(soon), soon],
    ['in seconds', String(Math.floor(soon / 1000)), Math.floor(soon / 1000) * 1000],
    ['as a date', new Date(soon).toISOString(), soon],
    ['that cannot be read', 'soon', undefined],
    ['that is not there', null, undefined],
  ])('takes over the tokens of an app that kept them there, with an expiry %s', async (_, expiry, expected) => {
    const { tokens, credentials } = await signedUp(world);
    const { access_token, refresh_token } = tokens.getTokens()!;
    browser.set({ access_token, refresh_token: refresh_token!, ...(expiry && { token_expiry: expiry }) });
    const moved = browser.inTab(() => new TokenManager(world.url, { storage: 'localStorage' }));
    expect(moved.isSignedIn).toBe(true);
    expect(moved.getTokens()?.expires_at).toBe(expected ?? (claims(access_token).exp as number) * 1000);
    await moved.refreshTokens();
    expect(generation(moved)).toBe(2);
    expect((await new ApiClient(world.url, moved).me()).email).toBe(credentials.email);
  });

  test('has nobody signed in by an access token that has expired', () => {
    browser.set({ access_token: 'x.y.z', token_expiry: '1' });
    const tokens = browser.inTab(() => new TokenManager(world.url, { storage: 'localStorage' }));
    expect(tokens.isSignedIn).toBe(false);
  });

  // Whatever dies with the page: the token that has been sent is never without its key, and no key is another token's.
  test('loses nothing by a crash between any two writes', async () => {
    let cut = 0;
    for (let isWhole = false; !isWhole; cut++) {
      browser = new Browser();
      const { tokens } = await browser.inTab(() => signedUp(world, { storage: 'localStorage' }));
      browser.allowWrites(cut);
      isWhole = await tokens.refreshTokens().then(
        () => true,
        () => false,
      );
      tokens.close();
      browser.allowWrites(Infinity);
      const back = browser.inTab(() => new TokenManager(world.url, { storage: 'localStorage' }));
      for (let rotation = 0; rotation < 3; rotation++) await back.refreshTokens();
      expect(back.isSignedIn, `after ${cut} writes`).toBe(true);
      back.close();
    }
    expect(cut).toBeGreaterThan(4);
  });

  test('lets no reader see a refresh token without its key, or beside another user’s access token', () => {
    const local = browser.window().localStorage as Storage;
    const storage = webStorage(local);
    const session = (user: string): StoredSession => ({
      access_token: `${user}.access`,
      refresh_token: `${user}.refresh-${user}`,
      expires_at: Date.now() + 1000,
      key: `key of ${user}`,
    });
    const seen: StoredSession[] = [];
    browser.onWrite = () => {
      const read = webStorage(local).load() as StoredSession | null;
      if (read) seen.push(read);
    };
    storage.save(session('ada'));
    storage.save(session('bob'));
    storage.save(null);
    for (const { refresh_token, access_token, key } of seen) {
      if (!refresh_token) continue;
      const [user] = refresh_token.split('.');
      expect(key).toBe(`key of ${user}`);
      expect(['', `${user}.access`]).toContain(access_token);
    }
    expect(seen.length).toBeGreaterThan(4);
  });

  test('is memory where there is no page, and so is a cookie', async () => {
    for (const storage of ['localStorage', 'cookie'] as const) {
      const tokens = new TokenManager(world.url, { storage });
      await tokens.ready;
      expect(tokens.isSignedIn).toBe(false);
    }
  });
});

describe('a storage of one’s own', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'freshkey-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  test('brings back the session, and the key of a refresh whose answer was lost', async () => {
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

  test('may have tokens without a key: it gets one before they are sent', async () => {
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

  test('may keep the tokens alone: the key is kept with the token that is held', async () => {
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

  test('may serve two clients without a lock: the keys are the same', async () => {
    const path = join(folder, 'two.json');
    const { tokens } = await signedUp(world, { storage: fileStorage(path) });
    const other = new TokenManager(world.url, { storage: fileStorage(path) });
    await other.ready;
    for (let rotation = 2; rotation < 22; rotation++) {
      await Promise.all([tokens.refreshTokens(), other.refreshTokens()]);
      const held = (await fileStorage(path).load())?.refresh_token;
      expect(claims(held).gen).toBe(rotation);
    }
    expect(new Set(world.sent(REFRESH, 'idempotency-key')).size).toBe(20);
  });

  test('may serve a client that goes on while another one is still trying: it does not send what was spent', async () => {
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

  test('may be of one of many users: nobody waits for another one', async () => {
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
    await expect(tokens.refreshTokens()).rejects.toThrow('The disk is full.');
    isFull = false;
    await tokens.refreshTokens();
    expect(generation(tokens)).toBe(2);
  });

  test('may be slow: a logout while new tokens are being saved is the last word', async () => {
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

test('a refresh token that comes again, within a reuse interval, keeps its key', async () => {
  const lenient = await startWorld({ REFRESH_REUSE_INTERVAL_SECONDS: '60' });
  try {
    let record: StoredSession | null = null;
    const storage = { load: () => record, save: (session: StoredSession | null) => void (record = session) };
    const { tokens } = await signedUp(lenient, { storage });
    const before = record as StoredSession | null;
    await tokens.refreshTokens();
    expect(record).toMatchObject({ refresh_token: before?.refresh_token, key: before?.key });
    expect(record).not.toMatchObject({ access_token: before?.access_token });
  } finally {
    await lenient.stop();
  }
});

test('a subscriber hears of each change, until it ends that', async () => {
  const { tokens } = await signedUp(world);
  const listener = vi.fn();
  const end = tokens.subscribe(listener);
  await tokens.refreshTokens();
  expect(listener).toHaveBeenCalledTimes(1);
  end();
  await tokens.refreshTokens();
  expect(listener).toHaveBeenCalledTimes(1);
});
