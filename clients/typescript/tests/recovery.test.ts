// A forgotten password, and the proof of an address: what is sent, and what the answers mean. tests/mail.test.ts goes
// through the mails of the real system.

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { ApiClient, FreshkeyError, TokenManager, type StoredSession, type TokenManagerOptions } from '../src/index.js';

const FORGOT = 'POST /api/v1/auth/password/forgot';
const RESET = 'POST /api/v1/auth/password/reset';
const RESEND = 'POST /api/v1/users/me/email/verification';
const CHANGE = 'PUT /api/v1/users/me/email';
const CONFIRM = 'POST /api/v1/users/me/email/confirm';
const REFRESH = 'POST /api/v1/auth/refresh';

const URL_OF_API = 'https://api.example.com';
const TOKEN = 'Zk3_-'.repeat(8) + 'abc';
const PASSWORD = 'a quiet river under seven bridges';
const USER = { id: '1', email: 'ada@example.com', email_verified: true };
const LOST = new Error('lost');

interface Sent {
  what: string;
  headers: Headers;
  body: unknown;
  init: RequestInit;
}

beforeEach(() => {
  vi.spyOn(Math, 'random').mockReturnValue(0); // no pause between two tries
});
afterEach(() => {
  vi.restoreAllMocks();
});

const problem = (status: number, error: string, errors?: object[]) =>
  Response.json({ status, error, detail: 'Not so.', errors }, { status });
const accepted = () => Response.json({}, { status: 202 });
const done = () => new Response(null, { status: 204 });

/** A client of a server that gives these answers to a request, one after the other, and the last again and again. */
function client(answers: Record<string, (() => Response | Error)[]>, options: TokenManagerOptions = {}) {
  const sent: Sent[] = [];
  const given = new Map<string, number>();
  const fetch = async (url: string | URL | Request, init: RequestInit = {}) => {
    const what = `${init.method ?? 'GET'} ${new URL(String(url)).pathname}`;
    sent.push({ what, headers: new Headers(init.headers), body: init.body && JSON.parse(String(init.body)), init });
    const count = given.get(what) ?? 0;
    given.set(what, count + 1);
    const answer = (answers[what]?.[count] ?? answers[what]?.at(-1) ?? (() => problem(404, 'not_found')))();
    if (answer instanceof Error) throw answer;
    return answer;
  };
  const told: string[] = [];
  const onSignedOut = (reason: string) => void told.push(reason);
  const tokens = new TokenManager(URL_OF_API, { fetch, onSignedOut, ...options });
  const of = (what: string) => sent.filter((request) => request.what === what);
  const keys = (what: string) => of(what).map(({ headers }) => headers.get('idempotency-key'));
  return { api: new ApiClient(URL_OF_API, tokens, { fetch }), tokens, told, sent, of, keys };
}

/** A storage with a device token. */
function storing(deviceToken: string) {
  let held: StoredSession | null = null;
  return { load: () => held, save: (session: StoredSession | null) => void (held = session), deviceToken };
}

const SESSION = { access_token: 'access', refresh_token: 'refresh', expires_in: 3600 };
const STALE = { ...SESSION, expires_in: 0 };

describe('requestPasswordReset', () => {
  test.each([SESSION, STALE])('sends the address and no token, with or without a session', async (session) => {
    const { api, tokens, sent } = client({ [FORGOT]: [accepted] });
    await tokens.setTokens(session);
    expect(await api.requestPasswordReset('ada@example.com')).toBeUndefined();
    expect(sent).toMatchObject([{ what: FORGOT, body: { email: 'ada@example.com' } }]);
    expect([...sent[0]!.headers.keys()]).toEqual(['content-type']);
    expect(sent[0]!.init.redirect).toBe('error');
  });

  test.each([() => LOST, () => problem(429, 'rate_limited'), () => problem(503, 'temporarily_unavailable')])(
    'is sent once: each may send a mail',
    async (answer) => {
      const { api, sent } = client({ [FORGOT]: [answer] });
      await expect(api.requestPasswordReset('ada@example.com')).rejects.toBeInstanceOf(FreshkeyError);
      expect(sent).toHaveLength(1);
    },
  );

  test('reports an address that cannot be one, a server without mail, and a page in place of the answer', async () => {
    const wrong = [{ field: 'email', code: 'email_invalid', message: 'Not so.' }];
    const noMail = () => Response.json({ message: 'Not Found' }, { status: 404 });
    const answers = [() => problem(422, 'validation_failed', wrong), noMail, () => Response.json({}, { status: 200 })];
    const { api } = client({ [FORGOT]: answers });
    const failed = () => api.requestPasswordReset('ada').catch((error: unknown) => error);
    expect(await failed()).toMatchObject({ code: 'validation_failed', fields: wrong });
    expect(await failed()).toMatchObject({ code: 'not_found', status: 404 });
    expect(await failed()).toMatchObject({ code: 'unreadable', status: 200 });
  });
});

describe('resetPassword', () => {
  test('sends the token and the password, and no token of a session', async () => {
    const { api, tokens, of } = client({ [RESET]: [done], [REFRESH]: [() => problem(401, 'invalid_refresh_token')] });
    await tokens.setTokens(STALE);
    expect(await api.resetPassword(TOKEN, PASSWORD)).toBeUndefined();
    const [request] = of(RESET);
    expect(request).toMatchObject({ body: { token: TOKEN, new_password: PASSWORD } });
    expect([...request!.headers.keys()]).toEqual(['content-type', 'idempotency-key']);
    expect(request!.init.redirect).toBe('error');
  });

  const passing = [
    () => LOST,
    () => problem(503, 'temporarily_unavailable'),
    () => problem(429, 'rate_limited'),
    () => Response.json({ message: 'Internal Server Error' }, { status: 500 }),
  ];

  test.each(passing)('is repeated with the same key after an answer that may pass', async (answer) => {
    const { api, keys } = client({ [RESET]: [answer, answer, done] });
    await api.resetPassword(TOKEN, PASSWORD);
    expect(keys(RESET)).toHaveLength(3);
    expect(new Set(keys(RESET)).size).toBe(1);
  });

  test.each(passing)('that fails is the same attempt when the app repeats it', async (answer) => {
    const { api, keys } = client({ [RESET]: [answer, answer, answer, done] });
    await expect(api.resetPassword(TOKEN, PASSWORD)).rejects.toBeInstanceOf(FreshkeyError);
    expect(keys(RESET)).toHaveLength(3);
    await api.resetPassword(TOKEN, PASSWORD);
    expect(new Set(keys(RESET)).size).toBe(1);
  });

  test('has a key for each link, and each client has its own', async () => {
    const { api, keys } = client({ [RESET]: [done] });
    const other = client({ [RESET]: [done] });
    for (const token of ['', TOKEN, '']) await api.resetPassword(token, PASSWORD);
    await other.api.resetPassword(TOKEN, PASSWORD);
    expect(new Set([...keys(RESET), ...other.keys(RESET)]).size).toBe(4);
    for (const key of keys(RESET)) expect(key).toMatch(/^[0-9a-f]{32}$/);
  });

  test.each([
    [400, 'invalid_link', undefined],
    [422, 'validation_failed', [{ field: 'new_password', code: 'password_too_short', message: 'Longer.' }]],
  ])('reports %i %s at once', async (status, code, fields) => {
    const { api, sent } = client({ [RESET]: [() => problem(status, code, fields)] });
    const failed = await api.resetPassword(TOKEN, PASSWORD).catch((error: unknown) => error);
    expect(failed).toMatchObject({ status, code, fields: fields ?? [] });
    expect(String(failed) + JSON.stringify(failed)).not.toMatch(new RegExp(`${TOKEN}|${PASSWORD}`));
    expect(sent).toHaveLength(1);
  });

  test('takes no page for an answer', async () => {
    const { api } = client({ [RESET]: [() => Response.json({}), () => new Response('<p>Welcome</p>')] });
    await expect(api.resetPassword(TOKEN, PASSWORD)).rejects.toMatchObject({ code: 'unreadable' });
    await expect(api.resetPassword(TOKEN, PASSWORD)).rejects.toMatchObject({ code: 'network' });
  });

  test('signs out the session that it has ended', async () => {
    const refused = () => problem(401, 'invalid_refresh_token');
    const { api, tokens, told } = client({ [RESET]: [done], [REFRESH]: [refused] });
    await tokens.setTokens(SESSION);
    await api.resetPassword(TOKEN, PASSWORD);
    expect(tokens.isSignedIn).toBe(false);
    expect(told).toEqual(['session_ended']);
  });

  test('leaves another user signed in, and asks nothing when nobody is', async () => {
    const refreshed = () => Response.json({ ...SESSION, access_token: 'new', refresh_token: 'next' });
    const { api, tokens, told, of } = client({ [RESET]: [done], [REFRESH]: [refreshed] });
    await api.resetPassword(TOKEN, PASSWORD);
    expect(of(REFRESH)).toHaveLength(0);
    await tokens.setTokens(SESSION);
    await api.resetPassword(TOKEN, PASSWORD);
    expect(tokens.getAccessToken()).toBe('new');
    expect(told).toEqual([]);
  });

  test('has succeeded even if nobody can say what has become of the session', async () => {
    const { api, tokens } = client({ [RESET]: [done], [REFRESH]: [() => LOST] });
    await tokens.setTokens(SESSION);
    await api.resetPassword(TOKEN, PASSWORD);
    expect(tokens.isSignedIn).toBe(true);
  });
});

describe('resendVerification', () => {
  test('sends the access token and no body, once', async () => {
    const { api, tokens, sent } = client({ [RESEND]: [accepted, () => problem(429, 'rate_limited')] });
    await tokens.setTokens(SESSION);
    expect(await api.resendVerification()).toBeUndefined();
    expect(sent).toMatchObject([{ what: RESEND, body: undefined }]);
    expect(sent[0]!.headers.get('authorization')).toBe('Bearer access');
    await expect(api.resendVerification()).rejects.toMatchObject({ code: 'rate_limited' });
    expect(sent).toHaveLength(2);
  });
});

describe('changeEmail', () => {
  test('sends the address, the password and the device token, once', async () => {
    const storage = storing('device');
    const { api, tokens, sent } = client({ [CHANGE]: [accepted, () => LOST] }, { storage });
    await tokens.setTokens(SESSION);
    expect(await api.changeEmail('lovelace@example.com', PASSWORD)).toBeUndefined();
    expect(sent).toMatchObject([{ what: CHANGE, body: { email: 'lovelace@example.com', password: PASSWORD } }]);
    expect(sent[0]!.headers.get('x-device-token')).toBe('device');
    await expect(api.changeEmail('lovelace@example.com', PASSWORD)).rejects.toMatchObject({ code: 'network' });
    expect(sent).toHaveLength(2);
  });
});

describe('confirmEmail', () => {
  const changed = () => Response.json({ ...USER, device_token: 'new device' });

  test('sends the token of the link with the access token, and returns the user', async () => {
    const { api, tokens, sent } = client({ [CONFIRM]: [() => Response.json(USER)] });
    await tokens.setTokens(SESSION);
    expect(await api.confirmEmail(TOKEN)).toEqual(USER);
    expect(sent).toMatchObject([{ what: CONFIRM, body: { token: TOKEN } }]);
    expect(sent[0]!.headers.get('authorization')).toBe('Bearer access');
  });

  test('keeps the device token of a change, which is no part of the user', async () => {
    const storage = storing('old device');
    const { api, tokens } = client({ [CONFIRM]: [changed, () => Response.json(USER)] }, { storage });
    await tokens.setTokens(SESSION);
    expect(await api.confirmEmail(TOKEN)).toEqual(USER);
    expect(storage.deviceToken).toBe('new device');
    await api.confirmEmail(TOKEN);
    expect(storage.deviceToken).toBe('new device');
    expect(tokens.getTokens()).toMatchObject({ access_token: 'access', refresh_token: 'refresh' });
  });

  test('is repeated with the same key, also after a refresh and when the app repeats it', async () => {
    const refreshed = () => Response.json({ ...SESSION, access_token: 'new', refresh_token: 'next' });
    const answers = [() => LOST, () => LOST, () => LOST, () => problem(401, 'invalid_token'), () => LOST, changed];
    const { api, tokens, keys, of } = client({ [CONFIRM]: answers, [REFRESH]: [refreshed] });
    await tokens.setTokens(SESSION);
    await expect(api.confirmEmail(TOKEN)).rejects.toMatchObject({ code: 'network' });
    expect(await api.confirmEmail(TOKEN)).toEqual(USER);
    expect(keys(CONFIRM)).toHaveLength(6);
    expect(new Set(keys(CONFIRM)).size).toBe(1);
    expect(of(CONFIRM).at(-1)!.headers.get('authorization')).toBe('Bearer new');
  });

  test('reports a link that is not good and an address that is taken', async () => {
    const { api, tokens, sent } = client({
      [CONFIRM]: [() => problem(400, 'invalid_link'), () => problem(409, 'email_taken')],
    });
    await tokens.setTokens(SESSION);
    await expect(api.confirmEmail(TOKEN)).rejects.toMatchObject({ status: 400, code: 'invalid_link' });
    await expect(api.confirmEmail(TOKEN)).rejects.toMatchObject({ status: 409, code: 'email_taken' });
    expect(sent).toHaveLength(2);
    expect(tokens.isSignedIn).toBe(true);
  });

  test('lets the answer set the cookie of the device, where there are cookies', async () => {
    const { api, tokens, of } = client({ [CONFIRM]: [() => Response.json(USER)] }, { storage: 'cookie' });
    await tokens.setTokens({ access_token: 'access', expires_in: 3600 });
    await api.confirmEmail(TOKEN);
    const [{ init, headers }] = of(CONFIRM) as [Sent];
    expect(init.credentials).toBe('include');
    expect(headers.get('x-requested-with')).toBe('fetch');
    expect(headers.get('x-token-transport')).toBe('cookie');
    expect(headers.get('x-device-token')).toBeNull();
  });
});

describe('a call of the app with an Idempotency-Key', () => {
  const options = { headers: { 'Idempotency-Key': 'one' } };

  test('is repeated, whatever its method', async () => {
    const { api, keys } = client({ 'POST /orders': [() => LOST, () => problem(503, 'busy'), () => Response.json(1)] });
    expect(await api.post('/orders', {}, options)).toBe(1);
    expect(keys('POST /orders')).toEqual(['one', 'one', 'one']);
  });

  test('is not repeated if its body is a stream', async () => {
    const body = new Blob(['{}']).stream();
    let count = 0;
    const fetch = async () => Promise.reject(new Error(`lost ${++count}`));
    const api = new ApiClient(URL_OF_API, new TokenManager(URL_OF_API), { fetch });
    await expect(api.post('/orders', body, options)).rejects.toMatchObject({ code: 'network' });
    expect(count).toBe(1);
  });
});
