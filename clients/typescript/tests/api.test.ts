import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';

import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';

import { ApiClient, TokenManager, createClient } from '../src/index.js';
import { expire, generation, signedUp, somebody, startWorld, until, type World } from './world.js';

const ME = 'GET /api/v1/users/me';
const REFRESH = 'POST /api/v1/auth/refresh';
let world: World;

beforeAll(async () => {
  world = await startWorld();
});
beforeEach(() => {
  world.proxy.requests.length = 0;
  world.proxy.set({});
});
afterAll(() => world.stop());

async function client() {
  const user = await signedUp(world);
  world.proxy.requests.length = 0;
  return { ...user, api: new ApiClient(world.url, user.tokens) };
}

/** Runs `use` with the address of a server whose answers a Freshkey server would not give. */
async function serving<T>(listener: RequestListener, use: (url: string) => Promise<T>): Promise<T> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  try {
    return await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test('createClient makes a client with a token manager of its own', async () => {
  const client = createClient(world.url);
  const ada = somebody();
  await client.register(ada);
  expect((await client.me()).email).toBe(ada.email);
  await client.logout();
  expect(client.tokenManager.isSignedIn).toBe(false);
  expect(await client.login(ada)).toMatchObject({ token_type: 'Bearer' });
  expect((await client.me()).email).toBe(ada.email);
});

test('createClient passes its options to the token manager, and `fetch` to both', async () => {
  const asked: string[] = [];
  const noting: typeof fetch = (url, init) => {
    asked.push(new URL(String(url)).pathname);
    return fetch(url, init);
  };
  const { credentials } = await signedUp(world);
  const onTokens = vi.fn();
  const client = createClient(world.url, { dialect: 'lexik', fetch: noting, onTokens });
  await client.login(credentials);
  await client.me();
  expect(asked).toEqual(['/api/auth', '/api/v1/users/me']);
  expect(onTokens).toHaveBeenCalledTimes(1);
});

describe('a call', () => {
  test('reads and changes the user', async () => {
    const { api, credentials } = await client();
    const changed = await api.patch<{ first_name: string }>('/api/v1/users/me', { first_name: 'Ada' });
    expect(changed.first_name).toBe('Ada');
    expect(await api.me()).toMatchObject({ email: credentials.email, first_name: 'Ada' });
  });

  test.each(['dropRequest', 'dropAnswer', 'tooMany', 'limited', 'unavailable'])(
    'that only reads is repeated after %s',
    async (fault) => {
      const { api } = await client();
      world.proxy.next(fault);
      await api.me();
      expect(world.count(ME)).toBe(2);
    },
  );

  test('that only reads fails with the last answer after three tries', async () => {
    const { api } = await client();
    world.proxy.set({ tooMany: 1 });
    await expect(api.me()).rejects.toMatchObject({ status: 429, code: 'rate_limited' });
    expect(world.count(ME)).toBe(3);
  });

  test.each(['dropAnswer', 'unavailable'])('that changes something is never repeated after %s', async (fault) => {
    const { api } = await client();
    world.proxy.next(fault);
    const code = expect.stringMatching(/^(network|temporarily_unavailable)$/);
    await expect(api.patch('/api/v1/users/me', { first_name: 'Ada' })).rejects.toMatchObject({ code });
    expect(world.count('PATCH /api/v1/users/me')).toBe(1);
  });

  test('that changes something is repeated after a 401, with its body', async () => {
    const { api, tokens } = await client();
    const { refresh_token } = tokens.getTokens()!;
    await tokens.setTokens({ access_token: 'spoilt', refresh_token: refresh_token!, expires_in: 3600 });
    expect(await api.patch('/api/v1/users/me', { first_name: 'Ada' })).toMatchObject({ first_name: 'Ada' });
    expect(world.count('PATCH /api/v1/users/me')).toBe(2);
    expect(generation(tokens)).toBe(2);
  });

  test('with a stream as its body is not repeated: the 401 is the answer', async () => {
    const { api, tokens } = await client();
    const { refresh_token } = tokens.getTokens()!;
    await tokens.setTokens({ access_token: 'spoilt', refresh_token: refresh_token!, expires_in: 3600 });
    const body = new Blob(['{"first_name":"Ada"}']).stream();
    const headers = { 'content-type': 'application/json' };
    await expect(api.patch('/api/v1/users/me', body, { headers })).rejects.toMatchObject({ status: 401 });
    expect(world.count('PATCH /api/v1/users/me')).toBe(1);
    expect(generation(tokens)).toBe(2);
    const stream = new Blob(['{"first_name":"Ada"}']).stream();
    expect(await api.patch('/api/v1/users/me', stream, { headers })).toMatchObject({ first_name: 'Ada' });
  });

  test('succeeds after a 401 whose body was truncated', async () => {
    const { api, tokens, credentials } = await client();
    const { refresh_token } = tokens.getTokens()!;
    await tokens.setTokens({ access_token: 'spoilt', refresh_token: refresh_token!, expires_in: 3600 });
    const cutting: typeof fetch = async (url, init) => {
      const answer = await fetch(url, init);
      if (answer.status !== 401) return answer;
      return new Response(new ReadableStream({ start: (body) => body.error(new Error('cut')) }), { status: 401 });
    };
    const unhandled = vi.fn();
    process.on('unhandledRejection', unhandled);
    const others = process.listeners('unhandledRejection').filter((listener) => listener !== unhandled);
    for (const other of others) process.off('unhandledRejection', other);
    const answer = await new ApiClient(world.url, tokens, { fetch: cutting }).fetch('/api/v1/users/me');
    await new Promise(setImmediate);
    process.off('unhandledRejection', unhandled);
    for (const other of others) process.on('unhandledRejection', other);
    expect(await answer.json()).toMatchObject({ email: credentials.email });
    expect(unhandled).not.toHaveBeenCalled();
    expect(await api.me()).toMatchObject({ email: credentials.email });
  });

  test('fails with the second 401', async () => {
    const { tokens } = await client();
    let calls = 0;
    const listener: RequestListener = (_, response) => {
      calls++;
      response.writeHead(401, { 'content-type': 'application/json' }).end('{"error":"invalid_token"}');
    };
    await serving(listener, async (url) => {
      const failed = new ApiClient(url, tokens).post('/orders', {});
      await expect(failed).rejects.toMatchObject({ status: 401, code: 'invalid_token' });
    });
    expect(calls).toBe(2);
    expect(world.count(REFRESH)).toBe(1);
    expect(tokens.isSignedIn).toBe(true);
  });

  test('ends as soon as its signal is aborted', async () => {
    const { api } = await client();
    const controller = new AbortController();
    world.proxy.next('hold');
    const failed = expect(api.get('/api/v1/users/me', { signal: controller.signal })).rejects.toThrow('enough');
    await until(() => world.count(ME) === 1);
    controller.abort(new Error('enough'));
    await failed;
    world.proxy.release();
    expect(world.count(ME)).toBe(1);
  });

  test('stops waiting for a refresh when its signal is aborted, and the refresh goes on', async () => {
    const { api, tokens } = await client();
    await expire(tokens);
    const controller = new AbortController();
    world.proxy.set({ only: REFRESH });
    world.proxy.next('hold');
    const failed = expect(api.get('/api/v1/users/me', { signal: controller.signal })).rejects.toThrow('enough');
    const other = api.me();
    await until(() => world.count(REFRESH) === 1);
    controller.abort(new Error('enough'));
    await failed;
    world.proxy.release();
    await other;
    expect(generation(tokens)).toBe(2);
    expect(world.count(REFRESH)).toBe(1);
  });

  test('is sent without a token when nobody is signed in', async () => {
    const api = new ApiClient(world.url, new TokenManager(world.url));
    await expect(api.me()).rejects.toMatchObject({ status: 401, code: 'invalid_token' });
    expect(world.sent(ME, 'authorization')).toEqual([undefined]);
  });

  test('never leads to another host, whatever its path', async () => {
    const { tokens } = await client();
    const asked: string[] = [];
    const noting: typeof fetch = async (url) => {
      asked.push(String(url));
      return new Response(null, { status: 204 });
    };
    for (const base of ['https://api.example.com', 'https://api.example.com/', '']) {
      const api = new ApiClient(base, tokens, { fetch: noting });
      const host = 'evil.example';
      for (const prefix of ['@', '//', '/\\', '.', ':1@', '\t/', '/\n/', ' //']) await api.get(prefix + host);
    }
    const hosts = asked.map((url) => new URL(url, 'https://api.example.com').host);
    expect(new Set(hosts)).toEqual(new Set(['api.example.com']));
  });

  test('returns text if the answer is not JSON, and undefined if it is empty', async () => {
    const { tokens } = await client();
    const listener: RequestListener = (request, response) => void response.end(request.url?.slice(1));
    await serving(listener, async (url) => {
      const api = new ApiClient(url, tokens);
      expect(await api.get('/plain')).toBe('plain');
      expect(await api.get('/null')).toBe(null);
      expect(await api.get('/')).toBe(undefined);
    });
  });
});

describe('Retry-After', () => {
  const limited = (retryAfter: string, use: (url: string, calls: () => number) => Promise<void>) => {
    let calls = 0;
    return serving(
      (_, response) => {
        if (calls++ === 0) response.writeHead(503, { 'retry-after': retryAfter }).end('{}');
        else response.end('{}');
      },
      (url) => use(url, () => calls),
    );
  };

  test('may be a date', () =>
    limited(new Date(Date.now() + 2000).toUTCString(), async (url, calls) => {
      const start = Date.now();
      await new ApiClient(url, new TokenManager(url)).get('/');
      expect(Date.now() - start).toBeGreaterThan(500);
      expect(calls()).toBe(2);
    }));

  test('above 30 seconds is reported at once', () =>
    limited('31', async (url, calls) => {
      const failed = new ApiClient(url, new TokenManager(url)).get('/');
      await expect(failed).rejects.toMatchObject({ code: 'temporarily_unavailable', status: 503, retryAfter: 31 });
      expect(calls()).toBe(1);
    }));
});

describe('sessions', () => {
  async function twoSessions() {
    const first = await client();
    const tokens = new TokenManager(world.url);
    await tokens.login(first.credentials);
    return [first, { tokens, api: new ApiClient(world.url, tokens) }] as const;
  }

  test('are listed with the current one marked, and can be revoked', async () => {
    const [here, there] = await twoSessions();
    const sessions = await here.api.sessions();
    expect(sessions.map(({ current }) => current).sort()).toEqual([false, true]);
    await here.api.revokeSession(sessions.find(({ current }) => !current)!.id);
    await expect(there.tokens.refreshTokens()).rejects.toMatchObject({ code: 'invalid_refresh_token' });
    await here.tokens.refreshTokens();
    await expect(here.api.revokeSession('nobody’s')).rejects.toMatchObject({ status: 404, code: 'not_found' });
  });

  test('end everywhere', async () => {
    const [here, there] = await twoSessions();
    await here.api.logoutEverywhere();
    expect(here.told).toEqual(['tokens', 'logged_out']);
    await expect(there.tokens.refreshTokens()).rejects.toMatchObject({ code: 'invalid_refresh_token' });
  });

  test('end everywhere but here', async () => {
    const [here, there] = await twoSessions();
    await here.api.logoutEverywhere({ exceptCurrent: true });
    await expire(here.tokens);
    expect(await here.api.sessions()).toHaveLength(1);
    await expect(there.tokens.refreshTokens()).rejects.toMatchObject({ code: 'invalid_refresh_token' });
  });

  test('end elsewhere when the password changes on this device', async () => {
    const [here, there] = await twoSessions();
    const wrong = here.api.changePassword('wrong horse battery', 'correct horse stable');
    await expect(wrong).rejects.toMatchObject({ status: 422, fields: [{ field: 'current_password' }] });
    await here.api.changePassword(here.credentials.password, 'correct horse stable');
    expect(world.sent('PUT /api/v1/users/me/password', 'x-device-token')[1]).toMatch(/^eyJ/);
    await here.tokens.refreshTokens();
    await expect(there.tokens.refreshTokens()).rejects.toMatchObject({ code: 'invalid_refresh_token' });
  });
});
