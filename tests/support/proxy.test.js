// Each fault does what its description says, in front of the real local system.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, afterEach, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { startLocal } from './local.js';
import { startProxy } from './proxy.js';

const REFRESH = 'POST /api/v1/auth/refresh';
let local;
let proxy;

before(async () => {
  local = await startLocal({ variables: { REFRESH_TOKEN_TRANSPORT: 'both' } });
  proxy = await startProxy({ target: local.url });
});
after(async () => {
  await proxy?.close();
  await local?.stop();
});
afterEach(() => {
  proxy.set({});
  proxy.requests.length = 0;
});

function post(path, body, headers, url = proxy.url) {
  headers = { 'content-type': 'application/json', ...headers };
  return fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) });
}

async function registered() {
  const user = { email: `${crypto.randomUUID()}@example.com`, password: 'correct horse battery' };
  return (await post('/api/v1/auth/register', user, {}, local.url)).json();
}

/** Refreshes without a key, so that a second rotation of the same token is refused. */
const refresh = ({ refresh_token }, url) => post('/api/v1/auth/refresh', { refresh_token }, {}, url);

async function until(condition) {
  for (const end = Date.now() + 10_000; !condition();) {
    assert.ok(Date.now() < end, `${condition} does not become true`);
    await new Promise(setImmediate);
  }
}

test('without a fault requests and answers pass unchanged', async () => {
  const headers = { origin: local.url, 'x-requested-with': 'fetch', 'x-token-transport': 'cookie' };
  const user = { email: `${crypto.randomUUID()}@example.com`, password: 'correct horse battery' };
  const answer = await post('/api/v1/auth/register', user, headers);
  assert.equal(answer.status, 201);
  assert.equal(answer.headers.getSetCookie().length, 2);
  assert.equal((await answer.json()).token_type, 'Bearer');
  const [{ method, path, headers: seen, fault, status }] = proxy.requests;
  assert.deepEqual(
    { method, path, fault, status },
    { method: 'POST', path: '/api/v1/auth/register', fault: null, status: 201 },
  );
  assert.equal(seen.origin, local.url);
  assert.equal(seen.host, new URL(proxy.url).host);
});

test('dropRequest: no answer, and the server has done nothing', async () => {
  const tokens = await registered();
  proxy.next('dropRequest');
  await assert.rejects(refresh(tokens), TypeError);
  assert.deepEqual(
    proxy.requests.map(({ fault, status }) => [fault, status]),
    [['dropRequest', null]],
  );
  assert.equal((await refresh(tokens)).status, 200);
});

test('dropAnswer: no answer, and the server has acted', async () => {
  const tokens = await registered();
  proxy.next('dropAnswer');
  await assert.rejects(refresh(tokens), TypeError);
  assert.deepEqual(
    proxy.requests.map(({ fault, status }) => [fault, status]),
    [['dropAnswer', 200]],
  );
  assert.equal((await refresh(tokens)).status, 401, 'the token is spent');
});

test('hold: the server has acted, and the answer arrives when it is released', async () => {
  const tokens = await registered();
  proxy.next('hold');
  let answer;
  const held = refresh(tokens).then((arrived) => (answer = arrived));
  await until(() => proxy.requests[0]?.status === 200);
  assert.equal((await refresh(tokens)).status, 401, 'the token is spent');
  assert.equal(answer, undefined);
  proxy.release();
  assert.equal((await held).status, 200);
});

for (const [fault, status, retryAfter, member] of [
  ['tooMany', 429, null, 'message'],
  ['limited', 429, '1', 'error'],
  ['unavailable', 503, '1', 'error'],
]) {
  test(`${fault}: ${status}, and the server has done nothing`, async () => {
    const tokens = await registered();
    proxy.next(fault);
    const answer = await refresh(tokens);
    assert.equal(answer.status, status);
    assert.equal(answer.headers.get('retry-after'), retryAfter);
    assert.ok((await answer.json())[member]);
    assert.equal((await refresh(tokens)).status, 200);
  });
}

test('delay: the answer arrives later', async () => {
  proxy.set({ delay: { p: 1, ms: 100 } });
  const took = [];
  for (let i = 0; i < 10; i++) {
    const started = performance.now();
    assert.equal((await fetch(`${proxy.url}/.well-known/jwks.json`)).status, 200);
    took.push(performance.now() - started);
  }
  assert.ok(Math.max(...took) > 50, `${took}`);
});

test('only: other requests are unaffected, and next applies to the first that matches', async () => {
  const tokens = await registered();
  proxy.set({ only: REFRESH, tooMany: 1 });
  proxy.next('unavailable', 'pass');
  assert.equal((await fetch(`${proxy.url}/.well-known/jwks.json`)).status, 200);
  assert.equal((await refresh(tokens)).status, 503);
  assert.equal((await refresh(tokens)).status, 200);
  assert.equal((await refresh(tokens)).status, 429);
});

test('random faults are the same in each run, and as frequent as their probability', async () => {
  const faults = { dropRequest: 0.2, dropAnswer: 0.2, tooMany: 0.1, limited: 0.1, unavailable: 0.1 };
  const runs = [7, 7, 8].map(async (seed) => {
    const proxy = await startProxy({ target: local.url, seed, faults });
    for (let i = 0; i < 300; i++) await fetch(`${proxy.url}/.well-known/jwks.json`).catch(() => {});
    await proxy.close();
    return proxy.requests.map(({ fault }) => fault);
  });
  const [first, second, other] = await Promise.all(runs);
  assert.deepEqual(first, second);
  assert.notDeepEqual(first, other);
  const share = first.filter((fault) => fault === 'dropRequest').length / 300;
  assert.ok(share > 0.13 && share < 0.27, `${share}`);
  assert.deepEqual(new Set(first), new Set([null, ...Object.keys(faults)]));
});

test('an unknown fault is refused', () => {
  assert.throws(() => proxy.set({ dropAnswers: 1 }), /Unknown fault dropAnswers/);
  assert.throws(() => proxy.next('drop'), /Unknown fault drop/);
});

test('without a server there is no answer, and the target can be changed', async () => {
  const other = await startLocal();
  const proxy = await startProxy({ target: other.url });
  await other.kill();
  await assert.rejects(fetch(`${proxy.url}/.well-known/jwks.json`), TypeError);
  proxy.target = local.url;
  assert.equal((await fetch(`${proxy.url}/.well-known/jwks.json`)).status, 200);
  await proxy.close();
});

test('a local system that cannot start says why', async () => {
  const variables = { JWT_SECRET_KEY: 'short' };
  await assert.rejects(startLocal({ variables }), /JWT_SECRET_KEY/);
});

test('as a program it takes commands over HTTP', async () => {
  const program = fileURLToPath(new URL('proxy.js', import.meta.url));
  const child = spawn(process.execPath, [program, '--target', local.url, '--faults', '{"tooMany":1}']);
  const [line] = await once(child.stdout, 'data');
  const { url } = JSON.parse(line);
  const statusOf = async (path, options) => (await fetch(url + path, options)).status;
  const put = (body) => statusOf('/.proxy', { method: 'PUT', body: JSON.stringify(body) });
  assert.equal(await statusOf('/.well-known/jwks.json'), 429);
  assert.equal(await put({ faults: {}, next: ['unavailable'] }), 204);
  assert.equal(await statusOf('/.well-known/jwks.json'), 503);
  assert.equal(await statusOf('/.well-known/jwks.json'), 200);
  const { requests } = await (await fetch(`${url}/.proxy`)).json();
  assert.deepEqual(
    requests.map(({ status }) => status),
    [429, 503, 200],
  );
  assert.equal(await statusOf('/.proxy', { method: 'DELETE' }), 204);
  assert.deepEqual(await (await fetch(`${url}/.proxy`)).json(), { requests: [] });
  assert.equal(await put({ next: ['nothing'] }), 400);
  assert.equal(await put({ next: ['hold'] }), 204);
  const held = statusOf('/.well-known/jwks.json');
  while ((await (await fetch(`${url}/.proxy`)).json()).requests[0]?.status !== 200);
  assert.equal(await put({ release: true }), 204);
  assert.equal(await held, 200);
  child.kill();
  await once(child, 'exit');
});
