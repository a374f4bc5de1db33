// The code of docs/clients.md, as it is there: the two clients in two tabs, and the
// page that resets a password, all with answers that get lost.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Lost, brings, examples, lossy, storage, tab, untilAnswered } from './browser.js';
import { SETTINGS, burst, claims, registered, seeded } from './journey.js';

const [FIRST, SECOND, RESET, ...rest] = examples('clients.md');
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

  describe('the page that resets a password', () => {
    const { url } = SETTINGS['interval 0'];
    const post = (path, body) =>
      fetch(`${url}/api/v1/auth/${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });

    /** The page, opened by the link in a mail to a new user, with this fetch; and what it has put into the address bar. */
    async function opened(fetch) {
      const { email, password } = await registered(url);
      assert.equal((await post('password/forgot', { email })).status, 202);
      const link = await mailed(email, /password/i);
      const shown = [];
      const history = { replaceState: (...state) => shown.push(state) };
      const script = RESET.replace('http://127.0.0.1:3000', url);
      const { reset } = tab(script, { location: { href: link }, history, fetch }, ['reset']);
      return { email, password, link, shown, reset };
    }

    /** Waits for a mail to this address with this subject, and returns the link in it. */
    async function mailed(email, subject) {
      for (;;) {
        const mails = await (await fetch(`${url}/.local/mail?to=${encodeURIComponent(email)}`)).json();
        const mail = mails.find((mail) => subject.test(mail.subject) && mail.text.includes('#token='));
        if (mail) return /\S+#token=[\w-]+/.exec(mail.text)[0];
        await sleep(20);
      }
    }

    test('takes the token out of the address bar, and sends nothing by itself', async () => {
      let sent = 0;
      const { link, shown } = await opened(async () => sent++);
      assert.deepEqual(shown, [[null, '', link.split('#')[0]]]);
      assert.equal(sent, 0);
    });

    test('sets the password, whatever is lost, and not one that is too weak', async () => {
      let answers = 0;
      const losing = async (...request) => {
        const answer = await fetch(...request);
        if (answers++ === 1) throw new Lost();
        return answer;
      };
      const { email, password, reset } = await opened(losing);
      assert.equal((await reset('short')).status, 422);
      await assert.rejects(reset('a quiet river under seven bridges'), Lost);
      assert.equal((await reset('a quiet river under seven bridges')).status, 204);
      assert.equal((await reset('four friendly foxes and a hen')).status, 400);
      assert.equal((await post('login', { email, password })).status, 401);
      assert.equal((await post('login', { email, password: 'a quiet river under seven bridges' })).status, 200);
    });
  });
});
