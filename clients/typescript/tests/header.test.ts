import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';

import { ApiClient, TokenManager } from '../src/index.js';
import { REFRESH, claims, expire, generation, signedUp, startWorld, until, type World } from './world.js';

const ME = 'GET /api/v1/users/me';
let world: World;

beforeAll(async () => {
  world = await startWorld();
});
beforeEach(() => {
  world.proxy.requests.length = 0;
  world.proxy.set({ only: ME });
});
afterAll(() => world.stop());

async function client() {
  const user = await signedUp(world, { headerRefresh: true });
  return { ...user, api: new ApiClient(world.url, user.tokens) };
}

/** Lets the access token expire, for the server and for the client. */
async function expired(tokens: TokenManager): Promise<void> {
  const headers = { 'content-type': 'application/json' };
  const body = JSON.stringify({ advance_seconds: 3600 });
  await fetch(`${world.url}/.local/clock`, { method: 'POST', headers, body });
  await expire(tokens);
}

describe('with headerRefresh', () => {
  test('20 parallel calls over an expiry succeed with one rotation, without the endpoint', async () => {
    const { tokens, api, told } = await client();
    const { access_token } = tokens.getTokens()!;
    await expired(tokens);
    await Promise.all(Array.from({ length: 20 }, () => api.me()));
    expect(generation(tokens)).toBe(2);
    expect(told).toEqual(['tokens', 'tokens']);
    expect(claims(tokens.getAccessToken()).sid).toBe(claims(access_token).sid);
    expect(world.count(ME)).toBe(20);
    expect(world.count(REFRESH)).toBe(0);
  });

  test('the session survives many expiries, with lost requests and answers', async () => {
    const { tokens, api } = await client();
    for (let rotation = 2; rotation < 5; rotation++) {
      await expired(tokens);
      world.proxy.next('dropAnswer', 'dropRequest');
      const users = await Promise.all(Array.from({ length: 5 }, () => api.me()));
      expect(users).toHaveLength(5);
      expect(generation(tokens)).toBe(rotation);
    }
    expect(world.count(REFRESH)).toBe(0);
  });

  test('refreshTokens uses the header too', async () => {
    const { tokens } = await client();
    const held = tokens.getTokens();
    expect(await tokens.refreshTokens()).toEqual(held);
    await expired(tokens);
    await tokens.refreshTokens();
    expect(generation(tokens)).toBe(2);
    expect(world.count(REFRESH)).toBe(0);
  });

  test('a session that was ended elsewhere ends here too', async () => {
    const { tokens, api, told } = await client();
    const other = new TokenManager(world.url);
    await other.setTokens(tokens.getTokens()!);
    await other.logout();
    await expired(tokens);
    const answers = await Promise.all(Array.from({ length: 20 }, () => api.fetch('/api/v1/users/me')));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([401]));
    expect(told).toEqual(['tokens', 'session_ended']);
    expect(world.count(REFRESH)).toBe(0);
  });

  test('a call that was overtaken by another one adopts no older tokens', async () => {
    const { tokens, api } = await client();
    await expired(tokens);
    const { refresh_token } = tokens.getTokens()!;
    const other = new TokenManager(world.url);
    world.proxy.next('hold');
    const late = api.me();
    await until(() => world.count(ME) === 1);
    await api.me();
    await other.setTokens(tokens.getTokens()!);
    const newest = tokens.getTokens();
    world.proxy.release();
    await late;
    expect(tokens.getTokens()).toEqual(newest);
    expect(newest?.refresh_token).not.toBe(refresh_token);
  });

  test('each try of a call sends the tokens that are held by then', async () => {
    const { tokens, api } = await client();
    await expired(tokens);
    world.proxy.next('unavailable');
    const again = api.me();
    await until(() => world.proxy.requests.some(({ status }) => status === 503));
    await api.me();
    await again;
    expect(world.sent(ME, 'x-refresh-token').map((token) => claims(String(token)).gen)).toEqual([1, 1, 2]);
  });

  test('the token manager is refused in the lexik dialect, and with a cookie', () => {
    for (const options of [{ dialect: 'lexik' }, { storage: 'cookie' }] as const) {
      expect(() => new TokenManager(world.url, { ...options, headerRefresh: true })).toThrow('headerRefresh');
    }
  });

  test('it is an option of the token manager, so calls by `authorize` alone carry the refresh token', async () => {
    const { tokens } = await signedUp(world, { headerRefresh: true });
    const { headers } = await tokens.authorize();
    expect(headers['x-refresh-token']).toBe(tokens.getTokens()!.refresh_token);
  });
});
