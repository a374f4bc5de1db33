// The two clients of docs/clients.md, as they stand there: in two tabs, and with
// answers that get lost.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { brings, examples, lossy, storage, tab, untilAnswered } from './browser.js';
import { SETTINGS, burst, claims, registered, seeded } from './journey.js';

const [FIRST, SECOND, ...rest] = examples('clients.md');
assert.deepEqual(rest, [], 'each example of the page is run');

/** A page of the site, with the script in it. */
function page(script, url, localStorage, fetch) {
  return tab(script.replace('http://127.0.0.1:3000', url), { localStorage, fetch }, ['login', 'call']);
}

/** A promise, and what fulfils it. */
function deferred() {
  let resolve;
  const promise = new Promise((fulfil) => {
    resolve = fulfil;
  });
  return { promise, resolve };
}

const EXAMPLES = { 'Idempotency-Key': FIRST, 'x-refresh-token': `${FIRST}\n${SECOND}` };

describe('an example of the docs', { concurrency: true }, () => {
  let seed = 100;
  for (const [name, script] of Object.entries(EXAMPLES)) {
    for (const [setting, server] of Object.entries(SETTINGS)) {
      const random = seeded(++seed);
      test(`${setting}: with ${name}, it stays signed in, in two tabs that lose answers`, async () => {
        const { email, password } = await registered(server.url);
        const [localStorage, lost] = [storage(), { count: 0 }];
        const tabs = [0, 1].map(() => page(script, server.url, localStorage, lossy(random, lost)));
        const held = () => JSON.parse(localStorage.getItem('session'));
        await sleep(3000 * random());
        await tabs[0].login(email, password);
        for (let expiry = 0; expiry < server.expiries; expiry++) {
          const before = held();
          const call = () => untilAnswered(() => tabs[random() < 0.5 ? 0 : 1].call('/api/v1/users/me'));
          const outcomes = await burst(before.access_token, call, random);
          assert.deepEqual(new Set(outcomes.map(({ value }) => value?.status)), new Set([200]));
          const rotations = claims(held().refresh_token).gen - claims(before.refresh_token).gen;
          if (server.interval < server.lifetime) assert.equal(rotations, 1, 'one for each expiry');
          assert.equal(held().key === before.key, rotations === 0, 'one key for each refresh token');
        }
        assert.ok(lost.count > 0);
      });
    }

    test(`with ${name}, a late answer does not bring back a spent token`, async () => {
      const { url } = SETTINGS['interval 0'];
      const { email, password } = await registered(url);
      const [arrived, released] = [deferred(), deferred()];
      const slow = async (...request) => {
        const answer = await fetch(...request);
        if (brings(request[0], answer)) {
          arrived.resolve();
          await released.promise;
        }
        return answer;
      };
      const localStorage = storage();
      const [slowTab, otherTab] = [slow, fetch].map((fetch) => page(script, url, localStorage, fetch));
      const held = () => JSON.parse(localStorage.getItem('session'));
      const expiry = () => sleep(claims(held().access_token).exp * 1000 - Date.now());
      await otherTab.login(email, password);
      await expiry();
      const late = slowTab.call('/api/v1/users/me');
      await arrived.promise;
      assert.equal((await otherTab.call('/api/v1/users/me')).status, 200);
      await expiry();
      assert.equal((await otherTab.call('/api/v1/users/me')).status, 200);
      const newest = held();
      released.resolve();
      assert.equal((await late).status, 200);
      assert.equal(claims(newest.refresh_token).gen, 3);
      assert.deepEqual(held(), newest);
    });

    test(`with ${name}, it forgets a session that has ended`, async () => {
      const { url } = SETTINGS['interval 0'];
      const { email, password } = await registered(url);
      const localStorage = storage();
      const { login, call } = page(script, url, localStorage, fetch);
      await login(email, password);
      const { access_token } = JSON.parse(localStorage.getItem('session'));
      const headers = { authorization: `Bearer ${access_token}` };
      await fetch(`${url}/api/v1/auth/sessions`, { method: 'DELETE', headers });
      const outcomes = await burst(access_token, () => call('/api/v1/users/me'), () => 0);
      assert.deepEqual(new Set(outcomes.map(({ value }) => value?.status)), new Set([401]));
      assert.equal(localStorage.getItem('session'), null);
    });
  }
});
