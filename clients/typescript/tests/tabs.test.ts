import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';

import { ApiClient, TokenManager, type StoredSession, type TokenManagerOptions } from '../src/index.js';
import { cookieStorage, type Items } from '../src/storage.js';
import { Browser, webLocks } from './browser.js';
import { REFRESH, expire, generation, signedUp, startWorld, until, type World } from './world.js';

const ORIGIN = 'https://app.example.com';

let world: World;
let browser: Browser;
let open: TokenManager[];

beforeEach(() => {
  world.proxy.requests.length = 0;
  world.proxy.set({ only: REFRESH });
  browser = new Browser();
  open = [];
});
afterEach(() => {
  vi.useRealTimers();
  for (const tokens of open) tokens.close();
  browser.close();
  vi.unstubAllGlobals();
});
afterAll(() => world.stop());

/** Web Locks that a frozen tab holds. `waitFor` lets the time pass after which the client no longer waits. */
function frozenLocks() {
  let waiting = 0;
  const request = (_name: string, { signal }: { signal?: AbortSignal }) => {
    waiting++;
    return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error)));
  };
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  vi.stubGlobal('navigator', { locks: { request } });
  return {
    async waitFor(ms: number) {
      while (waiting === 0) await new Promise(setImmediate);
      vi.advanceTimersByTime(ms);
      vi.useRealTimers();
    },
  };
}

/** A new tab of the page, and the callbacks that it has received. */
function tab(options: TokenManagerOptions) {
  const told: string[] = [];
  const tokens = browser.inTab(
    () =>
      new TokenManager(world.url, {
        onTokens: () => void told.push('tokens'),
        onSignedOut: (reason) => void told.push(reason),
        ...options,
      }),
  );
  open.push(tokens);
  return { tokens, told, api: new ApiClient(world.url, tokens) };
}

describe('with localStorage', () => {
  beforeAll(async () => {
    world = await startWorld();
    return () => world.stop();
  });

  const storage = 'localStorage';

  async function twoTabs() {
    const { tokens } = await browser.inTab(() => signedUp(world, { storage }));
    tokens.close();
    return [tab({ storage }), tab({ storage })] as const;
  }

  test('two tabs refresh once, one after the other', async () => {
    vi.stubGlobal('navigator', { locks: webLocks() });
    const [a, b] = await twoTabs();
    await Promise.all([a.tokens.refreshTokens(), b.tokens.refreshTokens()]);
    expect(world.count(REFRESH)).toBe(1);
    expect(b.tokens.getTokens()).toEqual(a.tokens.getTokens());
    expect(generation(b.tokens)).toBe(2);
  });

  test('a frozen tab that holds the lock does not block the others', async () => {
    const [a] = await twoTabs();
    const locks = frozenLocks();
    const refreshed = a.tokens.refreshTokens();
    await locks.waitFor(15_000);
    await refreshed;
    expect(generation(a.tokens)).toBe(2);
  });

  test('two tabs without locks refresh with the same key and receive the same refresh token', async () => {
    vi.stubGlobal('navigator', {});
    const [a, b] = await twoTabs();
    for (let rotation = 2; rotation < 12; rotation++) {
      await Promise.all([expire(a.tokens), expire(b.tokens)]);
      await Promise.all([a.api.me(), b.api.me()]);
      expect(generation(a.tokens)).toBe(rotation);
      expect(b.tokens.getTokens()).toEqual(a.tokens.getTokens());
    }
    expect(new Set(world.sent(REFRESH, 'idempotency-key')).size).toBe(10);
  });

  test('a tab whose refresh hangs adopts the tokens that another tab has received meanwhile', async () => {
    vi.stubGlobal('navigator', {});
    const [a, b] = await twoTabs();
    world.proxy.next('hold');
    const late = a.tokens.refreshTokens();
    await until(() => world.count(REFRESH) === 1);
    await b.tokens.refreshTokens();
    await b.tokens.refreshTokens();
    const newest = b.tokens.getTokens();
    world.proxy.release();
    expect(await late).toEqual(newest);
    expect(generation(a.tokens)).toBe(3);
  });

  test('the other tabs learn of a refresh, a logout and a login', async () => {
    const [a, b] = await twoTabs();
    await a.tokens.refreshTokens();
    await until(() => b.told.length === 1);
    expect(b.tokens.getTokens()).toEqual(a.tokens.getTokens());
    await a.tokens.logout();
    await until(() => !b.tokens.isSignedIn);
    const other = await signedUp(world);
    await a.tokens.login(other.credentials);
    await until(() => b.tokens.isSignedIn);
    expect(b.told).toEqual(['tokens', 'logged_out_elsewhere', 'tokens']);
    expect((await b.api.me()).email).toBe(other.credentials.email);
  });
});

describe('with a cookie', () => {
  beforeAll(async () => {
    world = await startWorld({ REFRESH_TOKEN_TRANSPORT: 'both' }, ['--allow-origin', ORIGIN]);
    return () => world.stop();
  });
  beforeEach(() => {
    vi.stubGlobal('navigator', { locks: webLocks() });
  });

  let flights = 0;
  let mostFlights = 0;
  /** The name of the one item of the cookie transport. */
  let COOKIE: string;
  beforeEach(() => {
    COOKIE = `freshkey ${world.url} cookie`;
    mostFlights = 0;
  });

  function page() {
    const plain = browser.fetchFrom(ORIGIN);
    const counting: typeof fetch = async (url, init) => {
      if (!String(url).endsWith('/refresh')) return plain(url, init);
      mostFlights = Math.max(mostFlights, ++flights);
      return plain(url, init).finally(() => flights--);
    };
    return tab({ storage: 'cookie', fetch: counting });
  }

  async function signedIn() {
    const { credentials } = await signedUp(world);
    const first = page();
    await first.tokens.login(credentials);
    return { ...first, credentials };
  }

  test('scripts do not see the refresh token', async () => {
    const { tokens } = await signedIn();
    expect(tokens.getTokens()).not.toHaveProperty('refresh_token');
    expect(browser.cookies()).toContain('__Host-refresh_token');
    expect(browser.items()).toEqual([COOKIE]);
  });

  test('the key stays when the app sets tokens: only the server changes the cookie', async () => {
    const { tokens } = await signedIn();
    const mark = browser.item(COOKIE);
    await tokens.setTokens({ access_token: tokens.getAccessToken()!, refresh_token: 'an old one' });
    expect(browser.item(COOKIE)).toBe(mark);
  });

  test('a reload resumes the session', async () => {
    const { tokens, credentials } = await signedIn();
    tokens.close();
    world.proxy.requests.length = 0;
    const back = page();
    expect(back.tokens.isSignedIn).toBe(true);
    await back.tokens.ready;
    expect((await back.api.me()).email).toBe(credentials.email);
    expect(world.count(REFRESH)).toBe(1);
  });

  test('for a new visitor the client asks the server once, and does not report a session that has ended', async () => {
    for (let visits = 0; visits < 3; visits++) {
      const { tokens, told, api } = page();
      expect(tokens.isSignedIn).toBe(false);
      await tokens.ready;
      await expect(api.me()).rejects.toMatchObject({ status: 401, code: 'invalid_token' });
      expect(told).toEqual([]);
      expect(tokens.isSignedIn).toBe(false);
      tokens.close();
    }
    expect(world.count(REFRESH)).toBe(1);
  });

  test('a session outlives the script storage, as long as the cookie does', async () => {
    const { tokens, credentials } = await signedIn();
    tokens.close();
    browser.wipe();
    world.proxy.requests.length = 0;
    const back = page();
    await back.tokens.ready;
    expect(back.tokens.isSignedIn).toBe(true);
    expect((await back.api.me()).email).toBe(credentials.email);
    expect(world.count(REFRESH)).toBe(1);
    expect(back.told).toEqual(['tokens']);
  });

  test('tabs that open at once after the script storage was wiped all resume the session', async () => {
    const { tokens, credentials } = await signedIn();
    tokens.close();
    browser.wipe();
    world.proxy.requests.length = 0;
    const tabs = Array.from({ length: 5 }, page);
    await Promise.all(tabs.map(({ tokens }) => tokens.ready));
    for (const { tokens, api, told } of tabs) {
      expect(tokens.isSignedIn).toBe(true);
      expect((await api.me()).email).toBe(credentials.email);
      expect(told).not.toContain('session_ended');
    }
    expect(mostFlights).toBe(1);
  });

  test('an open page keeps its session when the script storage is wiped', async () => {
    const { tokens, told, api, credentials } = await signedIn();
    world.proxy.requests.length = 0;
    browser.wipe();
    expect((await api.me()).email).toBe(credentials.email);
    expect(world.count(REFRESH)).toBe(0);
    await tokens.refreshTokens();
    expect(told).toEqual(['tokens', 'tokens']);
  });

  test('if the server does not answer whether there is a session, the client asks again with the same key', async () => {
    const { tokens, credentials } = await signedIn();
    tokens.close();
    browser.wipe();
    world.proxy.requests.length = 0;
    world.proxy.set({ only: REFRESH, dropAnswer: 1 });
    const offline = page();
    await offline.tokens.ready;
    expect(offline.tokens.isSignedIn).toBe(false);
    await expect(offline.api.me()).rejects.toMatchObject({ code: 'network' });
    expect(offline.told).toEqual([]);
    offline.tokens.close();
    world.proxy.set({ only: REFRESH });
    const back = page();
    expect((await back.api.me()).email).toBe(credentials.email);
    expect(back.told).toEqual(['tokens']);
    expect(new Set(world.sent(REFRESH, 'idempotency-key')).size).toBe(1);
  });

  test('a full localStorage keeps the key in memory, and no call fails', async () => {
    browser.room = 0;
    const { tokens, api, credentials } = await signedIn();
    for (let rotation = 0; rotation < 3; rotation++) await tokens.refreshTokens();
    world.proxy.requests.length = 0;
    for (let calls = 0; calls < 3; calls++) expect((await api.me()).email).toBe(credentials.email);
    expect(world.count(REFRESH)).toBe(0);
  });

  test('another back end shares neither the item, the lock nor the channel', async () => {
    const locks = webLocks();
    vi.stubGlobal('navigator', { locks });
    const channels: string[] = [];
    const Channel = BroadcastChannel;
    vi.stubGlobal(
      'BroadcastChannel',
      class extends Channel {
        constructor(name: string) {
          super(name);
          channels.push(name);
        }
      },
    );
    await signedIn();
    expect(channels).toEqual([`freshkey ${world.url}`]);
    expect(locks.names).toEqual([`freshkey ${world.url}`]);
    expect(browser.items()).toEqual([COOKIE]);
    const other = browser.inTab(() => new TokenManager(`${world.url}/stage`, { storage: 'cookie' }));
    open.push(other);
    expect(channels[1]).toBe(`freshkey ${world.url}/stage`);
    expect(other.isSignedIn).toBe(false);
  });

  test('a reload after a lost answer sends the same key', async () => {
    const { tokens, credentials } = await signedIn();
    world.proxy.set({ only: REFRESH, dropAnswer: 1 });
    await expect(tokens.refreshTokens()).rejects.toMatchObject({ code: 'network' });
    tokens.close();
    world.proxy.set({ only: REFRESH });
    const back = page();
    expect((await back.api.me()).email).toBe(credentials.email);
    expect(new Set(world.sent(REFRESH, 'idempotency-key')).size).toBe(1);
  });

  test('ten tabs that refresh at once take turns, and all stay signed in', async () => {
    const { credentials } = await signedIn();
    const tabs = Array.from({ length: 10 }, page);
    await Promise.all(tabs.map(({ tokens }) => tokens.ready));
    for (let round = 0; round < 5; round++) {
      await Promise.all(tabs.map(({ tokens }) => tokens.refreshTokens()));
    }
    expect(mostFlights).toBe(1);
    for (const { api, told } of tabs) {
      expect((await api.me()).email).toBe(credentials.email);
      expect(told).not.toContain('session_ended');
    }
  });

  test('the tabs that waited use the tokens of the first', async () => {
    const { tokens, api } = await signedIn();
    const other = page();
    await other.tokens.ready;
    await until(() => tokens.getAccessToken() === other.tokens.getAccessToken());
    const before = world.count(REFRESH);
    world.proxy.next('hold');
    const first = tokens.refreshTokens();
    await until(() => world.count(REFRESH) === before + 1);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }); // the other waits for word of the tokens, however long
    const second = other.tokens.refreshTokens();
    world.proxy.release();
    const { access_token } = await first;
    await until(() => other.tokens.getAccessToken() === access_token);
    vi.advanceTimersByTime(100);
    vi.useRealTimers();
    expect((await second).access_token).toBe(access_token);
    expect(world.count(REFRESH)).toBe(before + 1);
    await Promise.all([api.me(), other.api.me()]);
  });

  test('a session is not forgotten while the next one has been heard of, but its mark has not been seen', async () => {
    const marks = new Map<string, string | null>();
    const items: Items = { get: (name) => marks.get(name) ?? null, set: () => {}, watch: () => () => {} };
    const heard: (string | undefined)[] = [];
    const [here, there] = [
      cookieStorage(items, ORIGIN),
      cookieStorage({ ...items, set: (...mark) => marks.set(...mark) }, ORIGIN),
    ];
    const close = here.subscribe!(() => void heard.push((here.load() as StoredSession).access_token));
    there.save({ access_token: 'one', expires_at: 1, key: 'k1' });
    await until(() => heard.length === 1);
    const seen = new Map(marks);
    there.save({ access_token: 'two', expires_at: 1, key: 'k2' });
    for (const mark of seen) marks.set(...mark);
    await until(() => heard.length === 2);
    expect(heard).toEqual(['one', 'one']);
    close();
    there.subscribe!(() => {})();
  });

  test('a logout removes the cookie and signs out the other tabs', async () => {
    const { tokens, told } = await signedIn();
    const other = page();
    await other.tokens.ready;
    await tokens.logout();
    expect(browser.cookies()).not.toContain('__Host-refresh_token');
    expect(told).toContain('logged_out');
    await until(() => other.told.includes('logged_out_elsewhere'));
    expect(other.tokens.getAccessToken()).toBe(null);
  });

  test('a logout waits for the refresh of another tab, which would set the cookie again', async () => {
    const { tokens } = await signedIn();
    const other = page();
    await other.tokens.ready;
    const before = world.count(REFRESH);
    world.proxy.next('hold');
    const refused = expect(other.tokens.refreshTokens()).rejects.toMatchObject({ code: 'not_signed_in' });
    await until(() => world.count(REFRESH) === before + 1);
    const left = tokens.logout();
    await until(() => !other.tokens.isSignedIn);
    world.proxy.release();
    await Promise.all([refused, left]);
    expect(browser.cookies()).not.toContain('__Host-refresh_token');
    expect(browser.item(COOKIE)).toBe('{"signed_out":true}');
  });

  test('a logout whose request was lost is not undone by a reload', async () => {
    const { tokens } = await signedIn();
    world.proxy.set({ dropRequest: 1 });
    await tokens.logout();
    world.proxy.set({});
    world.proxy.requests.length = 0;
    const back = page();
    await back.tokens.ready;
    expect(back.tokens.isSignedIn).toBe(false);
    expect(world.count(REFRESH)).toBe(0);
  });

  test('a frozen tab that holds the lock does not block the others forever', async () => {
    const { tokens, credentials } = await signedIn();
    const before = tokens.getAccessToken();
    let locks = frozenLocks();
    const refreshed = tokens.refreshTokens();
    await locks.waitFor(180_000);
    await refreshed;
    expect(tokens.getAccessToken()).not.toBe(before);
    locks = frozenLocks();
    const entered = tokens.login(credentials);
    await locks.waitFor(180_000);
    await entered;
  });

  test('a cookie that is gone ends the session', async () => {
    const { tokens, told } = await signedIn();
    tokens.close();
    const other = tab({ storage: 'cookie', fetch: new Browser().fetchFrom(ORIGIN) });
    await other.tokens.ready;
    expect(other.told).toEqual(['session_ended']);
    expect(told).toEqual(['tokens']);
  });

  test('a browser without Web Locks is refused', () => {
    vi.stubGlobal('navigator', {});
    expect(page).toThrow('Web Locks');
  });
});
