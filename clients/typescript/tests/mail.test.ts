// The mails of the real system: a forgotten password, and the proof of an address.

import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';

import { ApiClient, TokenManager, type TokenManagerOptions } from '../src/index.js';
import { Browser, webLocks } from './browser.js';
import { claims, generation, linked, signedUp, somebody, startWorld, type World } from './world.js';

const NEW = 'a quiet river under seven bridges';
const RESET = 'POST /api/v1/auth/password/reset';
const CONFIRM = 'POST /api/v1/users/me/email/confirm';
const ORIGIN = 'https://app.example.com';
let world: World;

beforeAll(async () => {
  world = await startWorld({ REFRESH_TOKEN_TRANSPORT: 'both' }, ['--allow-origin', ORIGIN]);
});
beforeEach(() => {
  world.proxy.requests.length = 0;
  world.proxy.set({});
});
afterAll(() => world.stop());

/** A client, and another one on which the same user is signed in. */
async function clients(options: TokenManagerOptions = {}) {
  const user = await signedUp(world, options);
  const there = new TokenManager(world.url);
  await there.login(user.credentials);
  return { ...user, there, api: new ApiClient(world.url, user.tokens), email: user.credentials.email };
}

const ended = { code: 'invalid_refresh_token' };

describe('a forgotten password', () => {
  test('is reset by the link of a mail, which ends every session', async () => {
    const { api, tokens, told, there, email, credentials } = await clients();
    await api.requestPasswordReset(email.toUpperCase());
    const token = await linked(world, email, 'reset');
    const fields = [{ field: 'new_password', code: 'password_too_short' }];
    await expect(api.resetPassword(token, 'short')).rejects.toMatchObject({ code: 'validation_failed', fields });
    expect(tokens.isSignedIn).toBe(true);
    await api.resetPassword(token, NEW);
    expect(told.at(-1)).toBe('session_ended');
    await expect(there.refreshTokens()).rejects.toMatchObject(ended);
    await expect(api.login(credentials)).rejects.toMatchObject({ code: 'invalid_credentials' });
    await api.login({ email, password: NEW });
    expect(await api.me()).toMatchObject({ email, email_verified: true });
    for (const spent of [token, 'x'.repeat(43), '']) {
      const again = api.resetPassword(spent, 'four friendly foxes and a hen');
      await expect(again).rejects.toMatchObject({ status: 400, code: 'invalid_link' });
    }
  });

  test.each(['dropRequest', 'dropAnswer', 'tooMany', 'limited', 'unavailable'])(
    'is reset in spite of %s',
    async (fault) => {
      const { api, email } = await clients();
      await api.requestPasswordReset(email);
      const token = await linked(world, email, 'reset');
      world.proxy.set({ only: RESET });
      world.proxy.next(fault, fault);
      await api.resetPassword(token, NEW);
      expect(world.count(RESET)).toBe(3);
      await api.login({ email, password: NEW });
    },
  );

  test('is reset by the same attempt when the app repeats it after an outage', async () => {
    const { api, email } = await clients();
    await api.requestPasswordReset(email);
    const token = await linked(world, email, 'reset');
    world.proxy.set({ only: RESET, dropAnswer: 1 });
    await expect(api.resetPassword(token, NEW)).rejects.toMatchObject({ code: 'network' });
    world.proxy.set({});
    await api.resetPassword(token, NEW);
    const other = new ApiClient(world.url, new TokenManager(world.url));
    await expect(other.resetPassword(token, NEW)).rejects.toMatchObject({ code: 'invalid_link' });
    await api.login({ email, password: NEW });
  });

  test('of an address without an account is asked for with the same answer', async () => {
    const { api } = await clients();
    await api.requestPasswordReset(somebody().email);
    const wrong = api.requestPasswordReset('no address');
    await expect(wrong).rejects.toMatchObject({ status: 422, fields: [{ field: 'email', code: 'email_invalid' }] });
  });
});

describe('an address', () => {
  test('is confirmed by the link of a mail, of which there may be several', async () => {
    const { api, tokens, there, email } = await clients();
    expect(await api.me()).toMatchObject({ email_verified: false });
    expect(claims(tokens.getAccessToken()).email_verified).toBe(false);
    const token = await linked(world, email, 'confirm');
    await api.resendVerification();
    await expect(api.resendVerification()).rejects.toMatchObject({ status: 429, retryAfter: expect.any(Number) });
    expect(await linked(world, email, 'confirm', 2)).not.toBe(token);
    const user = await api.confirmEmail(token);
    expect(user).toEqual(await api.me());
    expect(user.email_verified).toBe(true);
    await tokens.refreshTokens();
    expect(claims(tokens.getAccessToken()).email_verified).toBe(true);
    await there.refreshTokens();
  });

  test('is not confirmed by another user', async () => {
    const { email } = await clients();
    const { api, tokens } = await clients();
    const token = await linked(world, email, 'confirm');
    await expect(api.confirmEmail(token)).rejects.toMatchObject({ status: 400, code: 'invalid_link' });
    expect(tokens.isSignedIn).toBe(true);
  });

  test('is changed by the link of a mail, although answers are lost', async () => {
    const storage = memory();
    const { api, tokens, there, email, credentials } = await clients({ storage });
    const next = somebody().email;
    const wrong = api.changeEmail(next, 'wrong horse battery');
    await expect(wrong).rejects.toMatchObject({ fields: [{ field: 'password', code: 'password_wrong' }] });
    const none = api.changeEmail('no address', credentials.password);
    await expect(none).rejects.toMatchObject({ fields: [{ field: 'email', code: 'email_invalid' }] });
    await api.changeEmail(next, credentials.password);
    expect((await api.me()).email).toBe(email);
    const token = await linked(world, next, 'confirm');
    const { deviceToken } = storage;
    world.proxy.set({ only: CONFIRM });
    world.proxy.next('dropAnswer', 'dropRequest');
    const user = await api.confirmEmail(token);
    expect(user).toMatchObject({ email: next, email_verified: true });
    expect(user).toEqual(await api.me());
    expect(world.count(CONFIRM)).toBe(3);
    expect(storage.deviceToken).toMatch(/^eyJ/);
    expect(storage.deviceToken).not.toBe(deviceToken);
    await tokens.refreshTokens();
    expect(generation(tokens)).toBe(2);
    await expect(there.refreshTokens()).rejects.toMatchObject(ended);
    await there.login({ ...credentials, email: next });
  });

  test('that somebody has registered meanwhile is taken, and was answered like a free one', async () => {
    const { api, tokens, credentials } = await clients();
    const next = somebody();
    await api.changeEmail(next.email, credentials.password);
    const token = await linked(world, next.email, 'confirm');
    await new TokenManager(world.url).register(next);
    await expect(api.confirmEmail(token)).rejects.toMatchObject({ status: 409, code: 'email_taken' });
    expect(tokens.isSignedIn).toBe(true);
    const { api: another, email: taken } = await clients();
    expect(taken).not.toBe(next.email);
    await another.changeEmail(next.email, credentials.password);
  });

  test('is changed in a browser that holds the tokens in cookies, and gets a new one for the device', async () => {
    const browser = new Browser();
    const set: string[] = [];
    const page = browser.fetchFrom(ORIGIN);
    const noting: typeof fetch = async (url, init) => {
      const answer = await page(url, init);
      if (String(url).endsWith('/confirm')) set.push(...answer.headers.getSetCookie());
      return answer;
    };
    vi.stubGlobal('navigator', { locks: webLocks() });
    const tokens = browser.inTab(() => new TokenManager(world.url, { storage: 'cookie', fetch: noting }));
    try {
      const user = somebody();
      const next = somebody().email;
      const api = new ApiClient(world.url, tokens, { fetch: noting });
      await api.register(user);
      await api.changeEmail(next, user.password);
      expect(world.sent('PUT /api/v1/users/me/email', 'cookie')).toEqual([expect.stringMatching(/device_token=eyJ/)]);
      const moved = await api.confirmEmail(await linked(world, next, 'confirm'));
      expect(moved).toEqual(await api.me());
      expect(set).toEqual([expect.stringMatching(/^__Host-device_token=eyJ/)]);
      await tokens.refreshTokens();
      expect((await api.me()).email).toBe(next);
    } finally {
      tokens.close();
      browser.close();
      vi.unstubAllGlobals();
    }
  });
});

/** A storage with a device token. */
function memory() {
  let held: Parameters<Exclude<TokenManagerOptions['storage'], string | undefined>['save']>[0] = null;
  return {
    load: () => held,
    save: (session: typeof held) => void (held = session),
    deviceToken: null as string | null,
  };
}
