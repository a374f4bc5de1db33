// The client of docs/cookies.md, run unmodified: in two tabs of one browser,
// with answers that get lost.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { examples, locks, lossy, storage, tab, untilAnswered, withCookies } from './browser.js';
import { burst, claims, registered, seeded } from './journey.js';

const URL = process.env.BRIEF_COOKIES_URL;
const ORIGIN = 'https://app.example.com';
const EXPIRIES = 4;
const [SCRIPT, ...rest] = examples('cookies.md');
assert.deepEqual(rest, [], 'each example of the page is run');

/** A browser of a new user. */
async function browser(fetch = globalThis.fetch) {
  const { email, password } = await registered(URL, { origin: ORIGIN, 'x-requested-with': 'fetch' });
  const [jar, localStorage, navigator] = [new Map(), storage(), { locks: locks() }];
  const globals = { localStorage, navigator, fetch: withCookies(jar, ORIGIN, fetch) };
  const script = `${SCRIPT.replace('http://localhost:3000', URL)}\nconst held = () => token;`;
  return {
    open: () => tab(script, globals, ['login', 'call', 'logout', 'held']),
    login: (page) => page.login(email, password),
    generation: () => claims(jar.get('__Host-refresh_token')).gen,
    jar,
    localStorage,
  };
}

const me = async (page) => (await page.call('/api/v1/users/me')).status;
const expiry = (token) => sleep(claims(token).exp * 1000 - Date.now());

describe('the client with a cookie', { concurrency: true }, () => {
  for (const seed of [1, 2, 3]) {
    test(`stays signed in, in two tabs that lose answers (${seed})`, async () => {
      const [random, lost] = [seeded(seed), { count: 0 }];
      const { open, login, generation } = await browser(lossy(random, lost));
      const tabs = [open(), open()];
      await login(tabs[0]);
      assert.equal(await untilAnswered(() => me(tabs[1])), 200, 'the second tab needs no login');
      for (let count = 0; count < EXPIRIES; count++) {
        const before = generation();
        let turn = 0;
        const call = () => untilAnswered(() => me(tabs[turn++ % 2]));
        const newest = tabs.map((page) => page.held()).sort((a, b) => claims(a).exp - claims(b).exp)[1];
        const outcomes = await burst(newest, call, random);
        assert.deepEqual(new Set(outcomes.map(({ value }) => value)), new Set([200]));
        assert.equal(generation() - before, 2, 'one refresh for each tab');
      }
      assert.ok(lost.count > 0);
    });
  }

  test('never sees the refresh token', async () => {
    const seen = [];
    const { open, login, jar } = await browser(async (...request) => {
      const answer = await fetch(...request);
      seen.push(await answer.clone().text(), ...answer.headers.keys());
      return answer;
    });
    const page = open();
    await login(page);
    await expiry(page.held());
    assert.equal(await me(page), 200);
    assert.ok(jar.has('__Host-refresh_token'));
    assert.ok(seen.join().includes('access_token'));
    assert.ok(!/refresh_token|x-new-/.test(seen.join()));
  });

  test('is still signed in after an outage', async () => {
    let isDown = false;
    const { open, login, generation, localStorage } = await browser(async (url, options) => {
      if (isDown && url.endsWith('/refresh')) return Response.json({}, { status: 503 });
      return fetch(url, options);
    });
    const page = open();
    await login(page);
    await expiry(page.held());
    isDown = true;
    await assert.rejects(me(page), /Not refreshed \(503\)/);
    const key = localStorage.getItem('key');
    assert.ok(key);
    await assert.rejects(me(page), /Not refreshed \(503\)/);
    assert.equal(localStorage.getItem('key'), key, 'the same attempt');
    isDown = false;
    assert.equal(await me(page), 200);
    assert.equal(generation(), 2);
    assert.equal(localStorage.getItem('key'), null);
  });

  test('is signed out by a logout, in each tab', async () => {
    const { open, login, jar } = await browser();
    const [page, other] = [open(), open()];
    await login(page);
    assert.equal(await me(other), 200);
    await page.logout();
    assert.ok(!jar.has('__Host-refresh_token'));
    assert.equal(await me(page), 401);
    await expiry(other.held());
    assert.equal(await me(other), 401);
  });

  test('knows when the session has ended', async () => {
    const { open, login, localStorage } = await browser();
    const page = open();
    await login(page);
    assert.equal((await page.call('/api/v1/auth/sessions', { method: 'DELETE' })).status, 204);
    await expiry(page.held());
    assert.equal(await me(page), 401);
    assert.equal(page.held(), undefined);
    assert.equal(localStorage.getItem('key'), null);
  });
});
