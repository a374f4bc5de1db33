import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';

import { ApiClient, TokenManager, createClient } from '../src/index.js';
import { claims, expire, generation, signedUp, startWorld, type World } from './world.js';

const REFRESH = 'POST /api/token/refresh';
let world: World;

beforeAll(async () => {
  world = await startWorld();
});
beforeEach(() => {
  world.proxy.requests.length = 0;
  world.proxy.set({ only: REFRESH });
});
afterAll(() => world.stop());

async function client() {
  const { credentials } = await signedUp(world);
  const told: string[] = [];
  const tokens = new TokenManager(world.url, { dialect: 'lexik', onSignedOut: (reason) => void told.push(reason) });
  const answer = await tokens.login(credentials);
  return { tokens, told, credentials, answer, api: new ApiClient(world.url, tokens) };
}

describe('the lexik dialect', () => {
  test('signs in, returns the user, and reads the lifetime from the token', async () => {
    const { tokens, answer, credentials } = await client();
    expect(answer.user.email).toBe(credentials.email);
    expect(answer.token).toBe(tokens.getAccessToken());
    const { iat, exp } = claims(answer.token) as { iat: number; exp: number };
    const left = tokens.getTokens()!.expires_at - Date.now() / 1000;
    expect(left).toBeLessThanOrEqual(exp - iat);
    expect(left).toBeGreaterThan(exp - iat - 5);
  });

  test('refreshes with one key when answers are lost', async () => {
    const { tokens, api, credentials } = await client();
    await expire(tokens);
    world.proxy.next('dropAnswer', 'dropRequest');
    expect((await api.me()).email).toBe(credentials.email);
    expect(generation(tokens)).toBe(2);
    expect(new Set(world.sent(REFRESH, 'idempotency-key')).size).toBe(1);
    expect(world.count(REFRESH)).toBe(3);
  });

  test('ends the session on the server’s 400', async () => {
    const { tokens, told } = await client();
    const other = new TokenManager(world.url);
    await other.setTokens(tokens.getTokens()!);
    await other.logout();
    await expect(tokens.refreshTokens()).rejects.toMatchObject({ code: 'invalid_refresh_token', status: 400 });
    expect(told).toEqual(['session_ended']);
  });

  test('registers', async () => {
    const tokens = new TokenManager(world.url, { dialect: 'lexik' });
    await tokens.register({ email: `${crypto.randomUUID()}@example.com`, password: 'correct horse battery' });
    await tokens.refreshTokens();
    expect(generation(tokens)).toBe(2);
  });

  test('keeps the device token of a login, and sends it with the next one', async () => {
    const { credentials } = await signedUp(world);
    const giving: typeof fetch = async (url, init) => {
      const answer = await fetch(url, init);
      return Response.json({ ...(await answer.json()), device_token: 'eyJ' });
    };
    const client = createClient(world.url, { dialect: 'lexik', fetch: giving });
    const answer = await client.login(credentials);
    expect(answer.device_token).toBe('eyJ');
    await client.tokenManager.clearTokens();
    await client.login(credentials);
    expect(world.sent('POST /api/auth', 'x-device-token')).toEqual([undefined, 'eyJ']);
  });

  test('reports a wrong password as invalid_credentials', async () => {
    const { tokens, credentials } = await client();
    const wrong = tokens.login({ ...credentials, password: 'wrong horse battery' });
    await expect(wrong).rejects.toMatchObject({ code: 'invalid_credentials', status: 401 });
    expect(tokens.isSignedIn).toBe(true);
  });
});
