// The interceptors, on instances like those of apps, against the real system behind a proxy that records requests.

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';

import axios, { type AxiosHeaders, type AxiosInstance } from 'axios';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';

import { attach } from '../src/axios.js';
import { ApiClient, FreshkeyError, TokenManager, type Dialect } from '../src/index.js';
import { expire, patiently, signedUp, startWorld, until, type World } from './world.js';

const ME = '/api/v1/users/me';
const GET_ME = `GET ${ME}`;
const REFRESH = { v1: 'POST /api/v1/auth/refresh', lexik: 'POST /api/token/refresh' };

let world: World;

beforeAll(async () => {
  world = await startWorld();
});
afterAll(() => world.stop());
beforeEach(() => {
  world.proxy.set({});
  world.proxy.requests.length = 0;
});

/** A new user who is signed in, and an instance with the interceptors. */
async function signedIn(dialect: Dialect = 'v1') {
  const { tokens, credentials } = await signedUp(world, { dialect });
  if (dialect === 'lexik') await tokens.login(credentials);
  const instance = axios.create({ baseURL: world.url });
  const detach = attach(instance, tokens);
  return { tokens, instance, detach, ...credentials };
}

/** Replaces the access token by one that the server refuses, although it has not expired. */
function spoil(tokens: TokenManager<Dialect>): Promise<void> {
  const { refresh_token } = tokens.getTokens()!;
  return tokens.setTokens({ access_token: 'spoilt', refresh_token: refresh_token!, expires_in: 3600 });
}

describe.each<Dialect>(['v1', 'lexik'])('in the %s dialect', (dialect) => {
  test('100 parallel calls over an expiry cost one refresh', async () => {
    const { tokens, instance, email } = await signedIn(dialect);
    await expire(tokens);
    const answers = await Promise.all(Array.from({ length: 100 }, () => patiently(() => instance.get(ME))));
    expect(new Set(answers.map(({ data }) => data.email))).toEqual(new Set([email]));
    expect(world.answered(REFRESH[dialect], 200)).toBe(1);
    expect(world.answered(GET_ME, 200)).toBe(100);
    expect(world.answered(GET_ME, 401)).toBe(0);
  });

  test('100 parallel calls that are answered with 401 cost one refresh, and each is repeated once', async () => {
    const { tokens, instance, email } = await signedIn(dialect);
    await spoil(tokens);
    const answers = await Promise.all(Array.from({ length: 100 }, () => patiently(() => instance.get(ME))));
    expect(new Set(answers.map(({ data }) => data.email))).toEqual(new Set([email]));
    expect(world.answered(REFRESH[dialect], 200)).toBe(1);
    expect(world.answered(GET_ME, 200)).toBe(100);
    expect(world.answered(GET_ME, 401)).toBeLessThanOrEqual(100);
  });

  test('when the session has ended, the app gets the 401 and nobody is signed in', async () => {
    const { tokens, instance } = await signedIn(dialect);
    const { access_token } = tokens.getTokens()!;
    const headers = { authorization: `Bearer ${access_token}` };
    await fetch(`${world.url}/api/v1/auth/sessions`, { method: 'DELETE', headers });
    await spoil(tokens);
    await expect(instance.get(ME)).rejects.toMatchObject({ isAxiosError: true, response: { status: 401 } });
    expect(tokens.isSignedIn).toBe(false);
    expect(world.count(REFRESH[dialect])).toBe(1);
  });
});

test('ApiClient and axios with one token manager share one refresh', async () => {
  const { tokens, instance } = await signedIn();
  const client = new ApiClient(world.url, tokens);
  await expire(tokens);
  await Promise.all(Array.from({ length: 40 }, (_, n) => (n % 2 ? client.me() : patiently(() => instance.get(ME)))));
  expect(world.answered(REFRESH.v1, 200)).toBe(1);
});

test('a call is repeated with its body, its parameters and its own headers', async () => {
  const { tokens, instance } = await signedIn();
  await spoil(tokens);
  const options = { params: { of: 'use' }, headers: { 'x-requested-with': 'test' } };
  const { data } = await instance.patch(ME, { first_name: 'Ada' }, options);
  expect(data.first_name).toBe('Ada');
  const patches = `PATCH ${ME}?of=use`;
  expect(world.count(patches)).toBe(2);
  expect(world.sent(patches, 'x-requested-with')).toEqual(['test', 'test']);
});

test('transformRequest gets the original body, also when the call is repeated', async () => {
  const { tokens, instance } = await signedIn();
  const seen: unknown[] = [];
  const transformRequest = (data: unknown, headers: AxiosHeaders) => {
    seen.push(data);
    headers.setContentType('application/json');
    return JSON.stringify(data);
  };
  await spoil(tokens);
  await instance.patch(ME, { first_name: 'Ada' }, { transformRequest });
  expect(seen).toEqual([{ first_name: 'Ada' }, { first_name: 'Ada' }]);
});

test('a call that gets a second 401 fails with it', async () => {
  const { tokens, instance } = await signedIn();
  await spoil(tokens);
  // A later interceptor puts its own token on every call.
  const adapter = axios.getAdapter(axios.defaults.adapter!);
  instance.defaults.adapter = (config) =>
    adapter({ ...config, headers: config.headers.concat({ authorization: 'Bearer no' }) });
  await expect(instance.get(ME)).rejects.toMatchObject({ response: { status: 401 } });
  expect(world.count(GET_ME)).toBe(2);
  expect(world.count(REFRESH.v1)).toBe(1);
});

test('an instance whose validateStatus accepts every status also gets the repeated answer', async () => {
  const { tokens, instance } = await signedIn();
  instance.defaults.validateStatus = () => true;
  await spoil(tokens);
  expect((await instance.get(ME)).status).toBe(200);
  expect((await instance.get('/api/v1/nothing')).status).toBe(404);
});

test('a stream is not sent twice: its 401 is the answer, and the next call goes through', async () => {
  const { tokens, instance } = await signedIn();
  await spoil(tokens);
  const headers = { 'content-type': 'application/json' };
  const body = () => Readable.from(['{"first_name":"Ada"}']);
  await expect(instance.patch(ME, body(), { headers })).rejects.toMatchObject({ response: { status: 401 } });
  expect((await instance.patch(ME, body(), { headers })).data.first_name).toBe('Ada');
});

test('an outage fails a call only once the access token has expired, and signs nobody out', async () => {
  const { tokens, instance } = await signedIn();
  world.proxy.set({ only: REFRESH.v1, dropRequest: 1 });
  await tokens.setTokens({ ...tokens.getTokens()!, expires_at: Math.floor(Date.now() / 1000) + 60 });
  expect((await instance.get(ME)).status).toBe(200);
  await expire(tokens);
  const failure = await instance.get(ME).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(FreshkeyError);
  expect(failure).toMatchObject({ code: 'network' });
  world.proxy.set({});
  expect((await instance.get(ME)).status).toBe(200);
});

test('a call that has its own Authorization header or auth is left alone', async () => {
  const { tokens, instance } = await signedIn();
  await spoil(tokens);
  const calls = [{ headers: { Authorization: 'Bearer mine' } }, { auth: { username: 'ada', password: 'hers' } }];
  for (const call of calls) await expect(instance.get(ME, call)).rejects.toMatchObject({ response: { status: 401 } });
  expect(world.sent(GET_ME, 'authorization')).toEqual(['Bearer mine', expect.stringMatching(/^Basic /)]);
  expect(world.count(REFRESH.v1)).toBe(0);
});

test('when nobody is signed in, calls go without a token', async () => {
  const instance = axios.create({ baseURL: world.url });
  attach(instance, new TokenManager(world.url));
  await expect(instance.get(ME)).rejects.toMatchObject({ response: { status: 401 } });
  expect(world.sent(GET_ME, 'authorization')).toEqual([undefined]);
});

test('after it is detached, calls go without a token', async () => {
  const { instance, detach } = await signedIn();
  detach();
  await expect(instance.get(ME)).rejects.toMatchObject({ response: { status: 401 } });
  expect(world.sent(GET_ME, 'authorization')).toEqual([undefined]);
});

describe('another host', () => {
  const received: (string | undefined)[] = [];
  let other: string;
  const server = createServer(({ headers }, response) => {
    received.push(headers.authorization ?? (headers['x-refresh-token'] as string | undefined));
    response.writeHead(401).end();
  });

  beforeAll(async () => {
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
    other = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => server.close());
  beforeEach(() => void received.splice(0));

  const ways: [string, (instance: AxiosInstance) => Promise<unknown>][] = [
    ['by an absolute URL', (instance) => instance.get(`${other}${ME}`)],
    ['by the baseURL of the call', (instance) => instance.get(ME, { baseURL: other })],
  ];
  test.each(ways)('gets no token, %s, and its 401 refreshes nothing', async (_, call) => {
    const { instance } = await signedIn();
    await expect(call(instance)).rejects.toMatchObject({ response: { status: 401 } });
    expect(received).toEqual([undefined]);
    expect(world.count(REFRESH.v1)).toBe(0);
  });

  test('gets no token from an instance without a baseURL, which sends them to the token manager’s host', async () => {
    const { tokens, email } = await signedIn();
    const instance = axios.create();
    attach(instance, tokens);
    await expect(instance.get(other)).rejects.toMatchObject({ response: { status: 401 } });
    expect(received).toEqual([undefined]);
    expect((await instance.get(world.url + ME)).data.email).toBe(email);
  });
});

test('the app’s own interceptors run for each try', async () => {
  const { tokens, instance } = await signedIn();
  const seen = vi.fn();
  instance.interceptors.request.use((config) => ({
    ...config,
    headers: config.headers.concat({ 'x-device-token': 'mine' }),
  }));
  instance.interceptors.response.use((answer) => {
    seen(answer.status);
    return answer;
  });
  await spoil(tokens);
  await instance.get(ME);
  expect(seen).toHaveBeenCalledWith(200);
  expect(world.sent(GET_ME, 'x-device-token')).toEqual(['mine', 'mine']);
});

test('with headerRefresh the tokens are sent in headers, and those in the answer’s headers are adopted', async () => {
  const brief = await startWorld({ JWT_ACCESS_TOKEN_EXPIRE_MINUTES: '0.05' });
  const { tokens } = await signedUp(brief, { headerRefresh: true });
  const spent = tokens.getTokens()!.refresh_token;
  const instance = axios.create({ baseURL: brief.url });
  attach(instance, tokens);
  await until(() => tokens.isTokenExpired());
  const answers = await Promise.all(Array.from({ length: 20 }, () => instance.get(ME)));
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
  const successors = answers.map(({ headers }) => headers['x-new-refresh-token']);
  expect(tokens.getTokens()!.refresh_token).not.toBe(spent);
  expect(new Set(successors)).toEqual(new Set([tokens.getTokens()!.refresh_token]));
  expect(brief.count(REFRESH.v1)).toBe(0);
  await brief.stop();
});
