// The libraries of docs/libraries.md, with the code of that page, and what
// signs them out where the key is left out.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import axios from 'axios';
import { createAuthRefresh } from 'axios-auth-refresh';

import { startProxy } from '../support/proxy.js';
import { examples, storage, tab } from './browser.js';
import { SETTINGS, burst, claims, journey, registered, seeded } from './journey.js';

const REFRESH = '^POST /api/v1/auth/refresh$';
const require = createRequire(import.meta.url);

/** axios-jwt as a page loads it: it keeps what it knows in the module. */
function axiosJwt() {
  for (const file of Object.keys(require.cache)) if (file.includes('/axios-jwt/')) delete require.cache[file];
  return require('axios-jwt');
}

/** What each example imports, and the tokens that it keeps. */
const LIBRARIES = {
  'axios-auth-refresh': {
    load: () => ({ axios, createAuthRefresh }),
    held: (localStorage) => JSON.parse(localStorage.getItem('session')),
  },
  'axios-jwt': {
    load: () => ({ axios, ...axiosJwt() }),
    held(localStorage) {
      const tokens = JSON.parse(localStorage.getItem(`auth-tokens-${process.env.NODE_ENV}`));
      return tokens && { access_token: tokens.accessToken, refresh_token: tokens.refreshToken };
    },
  },
};
const EXAMPLES = examples('libraries.md');
assert.equal(EXAMPLES.length, Object.keys(LIBRARIES).length, 'each example of the page is run');

/** A page of the site with the example in it. */
class Page {
  constructor(library, url, localStorage, script) {
    const code = script.replace(/^import .*\n/gm, '').replace('http://127.0.0.1:3000', url);
    globalThis.window = { localStorage };
    try {
      Object.assign(this, tab(code, { ...library.load(), localStorage }, ['api', 'login']));
    } finally {
      delete globalThis.window;
    }
    this.held = () => library.held(localStorage);
  }

  get accessToken() {
    return this.held().access_token;
  }

  async me() {
    return (await this.api.get('/api/v1/users/me')).data;
  }

  /** The user, by as many calls as it takes for one to be served. */
  async meInTheEnd() {
    for (let tries = 1; ; tries++) {
      try {
        return await this.me();
      } catch (error) {
        if (![undefined, 503].includes(error.response?.status) || tries === 30) throw error;
      }
    }
  }

  async expiry() {
    await sleep(claims(this.accessToken).exp * 1000 - Date.now());
  }
}

/** Waits until the server has acted on the request whose answer the proxy holds. */
async function isHeld({ requests }) {
  const acted = () => requests.some(({ fault, status }) => fault === 'hold' && status !== null);
  for (const end = Date.now() + 10_000; !acted(); await sleep(5)) assert.ok(Date.now() < end);
}

describe('a library', { concurrency: 16 }, () => {
  let seed = 300;
  const proxies = [];
  after(() => Promise.all(proxies.map((proxy) => proxy.close())));

  /** A user who is signed in, in two tabs, with a proxy between them and the server. */
  async function signedIn(library, server, script, faults = {}) {
    const proxy = await startProxy({ target: server.url, seed: ++seed, faults: { only: REFRESH, ...faults } });
    proxies.push(proxy);
    const localStorage = storage();
    const tabs = [0, 1].map(() => new Page(library, proxy.url, localStorage, script));
    const { email, password } = await registered(server.url);
    await tabs[0].login(email, password);
    return { email, proxy, tabs };
  }

  test('axios-auth-refresh with deduplicateRefresh fails a call that is on its way', async () => {
    const script = EXAMPLES[0].replace('deduplicateRefresh: false', 'deduplicateRefresh: true');
    assert.notEqual(script, EXAMPLES[0]);
    const library = LIBRARIES['axios-auth-refresh'];
    const { email, proxy, tabs } = await signedIn(library, SETTINGS['interval 10'], script);
    await tabs[0].expiry();
    proxy.next('hold');
    const calls = [tabs[0].me(), tabs[0].me()];
    await assert.rejects(Promise.race(calls), (error) => error.response.status === 401);
    await isHeld(proxy);
    proxy.release();
    const outcomes = await Promise.allSettled(calls);
    assert.deepEqual(outcomes.map(({ value }) => value?.email).sort(), [email, undefined]);
  });

  Object.entries(LIBRARIES).forEach(([name, library], which) => {
    const withKey = EXAMPLES[which];
    const withoutKey = withKey.replace("'idempotency-key'", "'x-nothing'");
    assert.notEqual(withoutKey, withKey);

    for (const [setting, server] of Object.entries(SETTINGS)) {
      const isStrict = server.interval === 0;
      const random = seeded(++seed);

      test(`${setting}: ${name} with the key stays signed in, in two tabs that lose answers`, async () => {
        const { email, proxy, tabs } = await signedIn(library, server, withKey, { dropAnswer: 0.3 });
        for (let expiry = 0; expiry < server.expiries; expiry++) {
          proxy.next('dropAnswer');
          const call = () => tabs[random() < 0.5 ? 0 : 1].meInTheEnd();
          const outcomes = await burst(tabs[0].accessToken, call, random);
          assert.deepEqual(new Set(outcomes.map(({ value }) => value?.email)), new Set([email]));
        }
      });

      test(`${setting}: ${name} without the key stays signed in, in one tab that loses nothing`, async () => {
        await journey(new Page(library, server.url, storage(), withoutKey), server, random);
      });

      for (const [key, script] of Object.entries({ with: withKey, without: withoutKey })) {
        const isSignedOut = isStrict && key === 'without';
        const what = isSignedOut ? 'is signed out' : 'stays signed in';

        test(`${setting}: ${name} ${key} the key ${what} when an answer is lost`, async () => {
          const { email, proxy, tabs } = await signedIn(library, server, script);
          await tabs[0].expiry();
          proxy.next('dropAnswer');
          await assert.rejects(tabs[0].me(), (error) => error.response === undefined);
          if (!isSignedOut) return assert.equal((await tabs[0].me()).email, email);
          await assert.rejects(tabs[0].me());
          assert.equal(tabs[0].held(), null);
        });

        test(`${setting}: ${name} ${key} the key ${what} when two tabs refresh at once`, async () => {
          const { email, proxy, tabs } = await signedIn(library, server, script);
          await tabs[0].expiry();
          proxy.next('hold');
          const slow = tabs[0].me();
          await isHeld(proxy);
          if (isSignedOut) {
            await assert.rejects(tabs[1].me());
            assert.equal(tabs[1].held(), null);
            proxy.release();
            await slow.catch(() => {});
            return;
          }
          assert.equal((await tabs[1].me()).email, email);
          const { refresh_token } = tabs[1].held();
          proxy.release();
          assert.equal((await slow).email, email);
          assert.equal(tabs[0].held().refresh_token, refresh_token);
        });
      }
    }
  });
});
