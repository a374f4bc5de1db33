import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';

import { ApiClient, FreshkeyError, TokenManager, type TokenManagerOptions } from '../src/index.js';
import { REFRESH, expire, generation, patiently, signedUp, startWorld, until, type World } from './world.js';

const ME = 'GET /api/v1/users/me';
let world: World;

beforeAll(async () => {
  world = await startWorld();
});
beforeEach(() => {
  world.proxy.requests.length = 0;
  world.proxy.set({ only: REFRESH });
});
afterEach(() => {
  vi.useRealTimers();
});
afterAll(() => world.stop());

async function client(options?: TokenManagerOptions) {
  const user = await signedUp(world, options);
  return { ...user, api: new ApiClient(world.url, user.tokens) };
}

/** Replaces the access token by one that the server refuses, although it has not expired. */
function spoil(tokens: TokenManager): Promise<void> {
  return tokens.setTokens({ ...tokens.getTokens()!, access_token: 'spoilt' });
}

/** Makes the access token expire in so many minutes, as far as the client knows. */
function left(tokens: TokenManager, minutes: number): Promise<void> {
  return tokens.setTokens({ ...tokens.getTokens()!, expires_at: Math.floor(Date.now() / 1000) + minutes * 60 });
}

describe('one refresh', () => {
  test('serves 100 parallel calls over an expiry', async () => {
    const { tokens, api, credentials } = await client();
    await expire(tokens);
    const users = await Promise.all(Array.from({ length: 100 }, () => patiently(() => api.me())));
    expect(new Set(users.map(({ email }) => email))).toEqual(new Set([credentials.email]));
    expect(world.answered(REFRESH, 200)).toBe(1);
    expect(world.answered(ME, 401)).toBe(0);
    expect(generation(tokens)).toBe(2);
  });

  test('serves 100 parallel calls that were answered 401', async () => {
    const { tokens, api } = await client();
    await spoil(tokens);
    await Promise.all(Array.from({ length: 100 }, () => patiently(() => api.me())));
    expect(world.answered(REFRESH, 200)).toBe(1);
    expect(world.answered(ME, 401)).toBeGreaterThan(1);
    expect(world.answered(ME, 200)).toBe(100);
  });

  test('serves a call whose 401 arrives after it', async () => {
    const { tokens, api } = await client();
    await spoil(tokens);
    world.proxy.set({ only: ME });
    world.proxy.next('hold');
    const late = api.me();
    await until(() => world.count(ME) === 1);
    await api.me();
    world.proxy.release();
    await late;
    expect(world.count(REFRESH)).toBe(1);
  });

  test('is made ahead of expiry, and the call is sent with the new token', async () => {
    const { tokens, api } = await client();
    const before = tokens.getAccessToken();
    await left(tokens, 4);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }); // the call would not wait longer than two seconds
    await api.me();
    vi.useRealTimers();
    expect(world.count(REFRESH)).toBe(1);
    expect(world.sent(ME, 'authorization')).toEqual([`Bearer ${tokens.getAccessToken()}`]);
    expect(tokens.getAccessToken()).not.toBe(before);
  });
});

describe('a refresh is repeated with the same key', () => {
  test.each(['dropRequest', 'dropAnswer', 'tooMany', 'limited', 'unavailable'])('after %s', async (fault) => {
    const { tokens, told } = await client();
    world.proxy.next(fault);
    await tokens.refreshTokens();
    expect(generation(tokens)).toBe(2);
    const keys = world.sent(REFRESH, 'idempotency-key');
    expect(keys).toHaveLength(2);
    expect(keys[0]).toMatch(/^[0-9a-f]{32}$/);
    expect(keys[1]).toBe(keys[0]);
    expect(told).toEqual(['tokens', 'tokens']);
  });

  test('not before Retry-After', async () => {
    const { tokens } = await client();
    world.proxy.next('unavailable');
    const start = Date.now();
    await tokens.refreshTokens();
    expect(Date.now() - start).toBeGreaterThanOrEqual(1000);
  });

  test('if an answer with status 200 is not the server’s', async () => {
    let answers = 0;
    const portal: typeof fetch = async (url, init) => {
      const answer = await fetch(url, init);
      return String(url).endsWith('/refresh') && answers++ === 0 ? new Response('<h1>Welcome to our hotel') : answer;
    };
    const { tokens } = await client({ fetch: portal });
    await tokens.refreshTokens();
    expect(answers).toBe(2);
    expect(generation(tokens)).toBe(2);
  });

  test('if a request hangs, even if it cannot be aborted', async () => {
    let requests = 0;
    const hanging: typeof fetch = (url, init) =>
      String(url).endsWith('/refresh') && requests++ === 0 ? new Promise(() => {}) : fetch(url, init);
    const { tokens } = await client({ fetch: hanging });
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const refreshed = tokens.refreshTokens();
    while (requests === 0) await new Promise(setImmediate);
    vi.advanceTimersByTime(10_000);
    while (requests === 1) {
      await new Promise(setImmediate);
      vi.advanceTimersByTime(50);
    }
    vi.useRealTimers();
    await refreshed;
    expect(generation(tokens)).toBe(2);
  });

  test('by the next call, if all tries have failed', async () => {
    const { tokens, api, told } = await client();
    await expire(tokens);
    world.proxy.set({ only: REFRESH, dropAnswer: 1 });
    await expect(api.me()).rejects.toMatchObject({ name: 'FreshkeyError', code: 'network', status: 0 });
    expect(world.count(REFRESH)).toBe(5);
    expect(tokens.isSignedIn).toBe(true);
    world.proxy.set({ only: REFRESH });
    await api.me();
    expect(generation(tokens)).toBe(2);
    expect(new Set(world.sent(REFRESH, 'idempotency-key')).size).toBe(1);
    expect(told).not.toContain('session_ended');
  });

  test('and each refresh token has its own key', async () => {
    const { tokens } = await client();
    for (let rotation = 0; rotation < 5; rotation++) await tokens.refreshTokens();
    expect(new Set(world.sent(REFRESH, 'idempotency-key')).size).toBe(5);
  });
});

describe('a refresh ahead of expiry', () => {
  test.each(['dropRequest', 'unavailable'])('that fails by %s does not fail the call', async (fault) => {
    const { tokens, api } = await client();
    await left(tokens, 4);
    world.proxy.set({ only: REFRESH, [fault]: 1 });
    const { access_token } = tokens.getTokens()!;
    await api.me();
    expect(world.sent(ME, 'authorization')).toEqual([`Bearer ${access_token}`]);
    expect(tokens.isSignedIn).toBe(true);
    await tokens.clearTokens(); // ends the tries, which go on
  });

  test('is not made with an access token that lasts until the session’s absolute end', async () => {
    const brief = await startWorld({ SESSION_ABSOLUTE_EXPIRE_DAYS: String(120 / 86_400) });
    try {
      const { tokens } = await signedUp(brief);
      const api = new ApiClient(brief.url, tokens);
      await tokens.setTokens({ ...tokens.getTokens()!, expires_at: Math.floor(Date.now() / 1000) + 60 });
      expect(tokens.shouldRefreshToken()).toBe(false);
      await api.me();
      expect(brief.count(REFRESH)).toBe(0);
      await spoil(tokens);
      await api.me(); // a 401 is another matter
      await expire(tokens);
      expect(tokens.shouldRefreshToken()).toBe(true);
      expect(brief.count(REFRESH)).toBe(1);
    } finally {
      await brief.stop();
    }
  });

  test.each(['memory', 'cookie'] as const)(
    'compares the lifetimes in the answer where the tokens do not tell, with %s',
    async (storage) => {
      const answering = (expires_in: number): typeof fetch => {
        const refresh_token = storage === 'memory' ? { refresh_token: 'r' } : {};
        return async () => Response.json({ access_token: 'a', expires_in, refresh_expires_in: 60, ...refresh_token });
      };
      for (const [expires_in, isDue] of [
        [59, true],
        [60, false],
        [61, false],
      ] as const) {
        const tokens = new TokenManager(world.url, { storage, fetch: answering(expires_in) });
        await tokens.register({ email: 'ada@example.com', password: 'correct horse battery' });
        expect(tokens.shouldRefreshToken(), `${expires_in}`).toBe(isDue);
      }
    },
  );

  test('begins when at most half of the lifetime, here an hour, is left', async () => {
    const { tokens } = await client();
    await left(tokens, 31);
    expect(tokens.shouldRefreshToken(60)).toBe(false);
    await left(tokens, 29);
    expect(tokens.shouldRefreshToken(60)).toBe(true);
    expect(tokens.shouldRefreshToken()).toBe(false);
    await left(tokens, 4);
    expect(tokens.shouldRefreshToken()).toBe(true);
    expect(tokens.isTokenExpired()).toBe(false);
  });
});

describe('the session ends', () => {
  test('when the server refuses the refresh token, and the call returns its 401', async () => {
    const { tokens, api, told } = await client();
    const { refresh_token } = tokens.getTokens()!;
    const thief = new TokenManager(world.url);
    await thief.setTokens({ access_token: '', refresh_token: refresh_token! });
    await thief.refreshTokens();
    await expire(tokens);
    const answer = await api.fetch('/api/v1/users/me');
    expect(answer.status).toBe(401);
    expect(tokens.isSignedIn).toBe(false);
    expect(tokens.getTokens()).toBe(null);
    expect(told).toEqual(['tokens', 'session_ended']);
    await expect(tokens.refreshTokens()).rejects.toMatchObject({ code: 'not_signed_in' });
    await expect(thief.refreshTokens()).rejects.toMatchObject({ code: 'invalid_refresh_token', status: 401 });
  });

  test('for all calls that wait for the refresh, and onSignedOut is called once', async () => {
    const { tokens, api, told } = await client();
    await api.logoutEverywhere({ exceptCurrent: true });
    const other = new TokenManager(world.url);
    await other.setTokens(tokens.getTokens()!);
    await other.logout();
    await expire(tokens);
    const answers = await Promise.all(Array.from({ length: 20 }, () => api.fetch('/api/v1/users/me')));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([401]));
    expect(told.filter((what) => what !== 'tokens')).toEqual(['session_ended']);
    expect(world.count(REFRESH)).toBe(1);
  });

  test.each<[string, number, string | null, HeadersInit, object]>([
    ['401 of a gateway', 401, '{"message":"Unauthorized"}', {}, { code: 'invalid_token' }],
    ['401 without a body', 401, null, {}, { code: 'invalid_token' }],
    ['400 of a proxy', 400, '<h1>Bad Request</h1>', {}, { code: 'invalid_request' }],
    ['429 for an hour', 429, null, { 'retry-after': '3600' }, { code: 'rate_limited', retryAfter: 3600 }],
    ['200 without tokens', 200, '{}', {}, { code: 'unreadable' }],
  ])('not after an answer that says nothing about it: %s', async (_, status, body, headers, error) => {
    const forbidding: typeof fetch = async (url, init) =>
      String(url).endsWith('/refresh') ? new Response(body, { status, headers }) : fetch(url, init);
    const { tokens, told } = await client({ fetch: forbidding });
    const held = tokens.getTokens();
    await expect(tokens.refreshTokens()).rejects.toMatchObject({ status, ...error });
    expect(tokens.getTokens()).toEqual(held);
    expect(told).toEqual(['tokens']);
  });

  test('not after a redirect, which is not followed', async () => {
    let followed = 0;
    const elsewhere = createServer((_, response) => void response.end(String(followed++))).listen(0, '127.0.0.1');
    await once(elsewhere, 'listening');
    const location = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}`;
    const redirecting = createServer((_, response) => void response.writeHead(307, { location }).end());
    await once(redirecting.listen(0, '127.0.0.1'), 'listening');
    const { port } = redirecting.address() as AddressInfo;
    const { tokens } = await client({
      fetch: (url, init) => fetch(String(url).endsWith('/refresh') ? `http://127.0.0.1:${port}` : url, init),
    });
    await expect(tokens.refreshTokens()).rejects.toMatchObject({ code: 'network' });
    expect(tokens.isSignedIn).toBe(true);
    expect(followed).toBe(0);
    for (const server of [elsewhere, redirecting]) {
      server.closeAllConnections();
      server.close();
    }
  });

  test('with a 401 if there is no refresh token', async () => {
    const { tokens } = await client();
    const told: string[] = [];
    const bare = new TokenManager(world.url, { onSignedOut: (reason) => void told.push(reason) });
    await bare.setTokens({ access_token: tokens.getAccessToken()! });
    const api = new ApiClient(world.url, bare);
    await left(bare, 1);
    expect(bare.shouldRefreshToken()).toBe(false);
    expect((await api.fetch('/api/v1/users/me')).status).toBe(200);
    await spoil(bare);
    expect((await api.fetch('/api/v1/users/me')).status).toBe(401);
    expect(told).toEqual(['session_ended']);
  });
});

describe('a request that arrives without its refresh token', () => {
  /** Loses the body of the first `losses` refreshes; the answer is the server's to such a request. */
  function losing(losses: number, dialect: 'v1' | 'lexik'): typeof fetch {
    return async (url, init) => {
      if (!String(url).endsWith('/refresh') || losses-- <= 0) return fetch(url, init);
      return Response.json(lost[dialect], { status: lost[dialect].status });
    };
  }
  const lost = {
    v1: { status: 400, error: 'invalid_request', detail: 'The refresh token is missing.' },
    lexik: { status: 401, code: 401, message: 'An authentication exception occurred.' },
  };

  test.each(['v1', 'lexik'] as const)('is sent again, with the same key, in the %s dialect', async (dialect) => {
    const { tokens, told } = await signedUp(world, { dialect, fetch: losing(2, dialect) });
    await tokens.refreshTokens();
    expect(generation(tokens)).toBe(2);
    expect(told).toEqual(['tokens', 'tokens']);
  });

  test.each(['v1', 'lexik'] as const)('signs nobody out, however often, in the %s dialect', async (dialect) => {
    const { tokens, told } = await signedUp(world, { dialect, fetch: losing(5, dialect) });
    const held = tokens.getTokens();
    await expect(tokens.refreshTokens()).rejects.toMatchObject({ code: 'invalid_request' });
    expect(tokens.getTokens()).toEqual(held);
    expect(told).toEqual(['tokens']);
    await tokens.refreshTokens();
    expect(generation(tokens)).toBe(2);
  });
});

describe('an answer that comes too late', () => {
  test('does not undo a logout', async () => {
    const { tokens, told } = await client();
    world.proxy.next('hold');
    const refused = expect(tokens.refreshTokens()).rejects.toMatchObject({ code: 'not_signed_in' });
    await until(() => world.count(REFRESH) === 1);
    await tokens.logout();
    await refused;
    world.proxy.release();
    expect(tokens.isSignedIn).toBe(false);
    expect(told).toEqual(['tokens', 'logged_out']);
  });

  test('does not replace the tokens of a new login', async () => {
    const { tokens, credentials } = await client();
    world.proxy.next('hold');
    const refreshed = tokens.refreshTokens();
    await until(() => world.count(REFRESH) === 1);
    await tokens.login(credentials);
    const held = tokens.getTokens();
    world.proxy.release();
    expect(await refreshed).toEqual(held);
    expect(tokens.getTokens()).toEqual(held);
    await tokens.refreshTokens();
    expect(generation(tokens)).toBe(2);
  });
});

describe('clocks', () => {
  test.each([-24, -1, 1, 24])('may be %i hours off', async (hours) => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + hours * 3_600_000 });
    const { tokens, api } = await client();
    expect(tokens.isTokenExpired()).toBe(false);
    await api.me();
    expect(world.count(REFRESH)).toBe(0);
    vi.setSystemTime(Date.now() + 3_600_000);
    expect(tokens.isTokenExpired()).toBe(true);
    await api.me();
    expect(world.count(REFRESH)).toBe(1);
  });
});

describe('a login', () => {
  test('with a wrong password keeps the tokens', async () => {
    const { tokens, credentials, told } = await client();
    const held = tokens.getTokens();
    const failed = tokens.login({ ...credentials, password: 'wrong horse battery' });
    await expect(failed).rejects.toMatchObject({ code: 'invalid_credentials', status: 401 });
    expect(tokens.getTokens()).toEqual(held);
    expect(told).toEqual(['tokens']);
  });

  test('sends the device token of the last one, which survives a logout', async () => {
    const { tokens, credentials } = await client();
    await tokens.logout();
    expect(await tokens.login(credentials)).not.toHaveProperty('device_token');
    expect(world.sent('POST /api/v1/auth/login', 'x-device-token')[0]).toMatch(/^eyJ/);
  });

  test('names the invalid fields', async () => {
    const tokens = new TokenManager(world.url);
    const error: FreshkeyError = await tokens.register({ email: 'x', password: 'y' }).catch((error) => error);
    expect(error).toBeInstanceOf(FreshkeyError);
    expect(error.code).toBe('validation_failed');
    expect(error.fields.map(({ field }) => field)).toContain('email');
    expect(error.requestId).toBeTruthy();
    expect(tokens.isSignedIn).toBe(false);
  });
});

describe('a logout', () => {
  test('ends the session on the server', async () => {
    const { tokens, told } = await client();
    const { refresh_token } = tokens.getTokens()!;
    await tokens.logout();
    expect(told).toEqual(['tokens', 'logged_out']);
    const other = new TokenManager(world.url);
    await other.setTokens({ access_token: '', refresh_token: refresh_token! });
    await expect(other.refreshTokens()).rejects.toMatchObject({ code: 'invalid_refresh_token' });
  });

  test('drops the tokens at once, even if the server cannot be reached', async () => {
    const { tokens } = await client();
    world.proxy.set({ dropRequest: 1 });
    const done = tokens.logout();
    await until(() => !tokens.isSignedIn);
    await done;
    expect(world.count('POST /api/v1/auth/logout')).toBe(3);
  });
});

describe('expires_at', () => {
  test('is in whole seconds since the epoch', async () => {
    const inAnHour = () => Math.floor(Date.now() / 1000 + 3600);
    const earliest = inAnHour();
    const { tokens } = await client();
    const { access_token, expires_at } = tokens.getTokens()!;
    expect(expires_at).toBeGreaterThanOrEqual(earliest);
    expect(expires_at).toBeLessThanOrEqual(inAnHour());
    expect(Number.isInteger(expires_at)).toBe(true);
    await tokens.setTokens({ access_token, expires_in: 1.5 });
    expect(Number.isInteger(tokens.getTokens()!.expires_at)).toBe(true);
  });

  test('in milliseconds is refused, and changes nothing', async () => {
    const { tokens } = await client();
    const held = tokens.getTokens()!;
    await expect(tokens.setTokens({ ...held, expires_at: Date.now() })).rejects.toThrow(RangeError);
    expect(tokens.getTokens()).toEqual(held);
  });
});

test('an error in a callback does not stop the refresh', async () => {
  const thrown: unknown[] = [];
  const caught = (error: unknown) => void thrown.push(error);
  const others = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException').on('uncaughtException', caught);
  const { tokens } = await client({
    onTokens() {
      throw new Error('of the app');
    },
  });
  await until(() => thrown.length === 1);
  process.removeAllListeners('uncaughtException');
  for (const other of others) process.on('uncaughtException', other);
  expect(tokens.isSignedIn).toBe(true);
});
