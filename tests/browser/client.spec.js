// The client in a real browser: tabs that share a session, in localStorage and
// with the refresh token in a cookie.

import { PASSWORD, REFRESH, expect, isHeld, keys, refreshes, test } from './fixtures.js';

const LIFETIME = 3;
const LASTING = { REFRESH_BURST: '100000' };
const BRIEF = { ...LASTING, JWT_ACCESS_TOKEN_EXPIRE_MINUTES: String(LIFETIME / 60) };
const STORAGES = { localStorage: {}, cookie: { REFRESH_TOKEN_TRANSPORT: 'cookie' } };

const me = (tab) => tab.evaluate(async () => (await api.me()).email);
const isSignedIn = (tab) => tab.evaluate(() => tokens.isSignedIn);
const refresh = (tab) => tab.evaluate(() => tokens.refreshTokens());
const held = (tab) => tab.evaluate(() => tokens.getTokens());
const signedOut = (tab) => tab.evaluate(() => signedOut);

/** Begins a refresh and does not wait for it. */
const beginRefresh = (tab) => tab.evaluate(() => void tokens.refreshTokens().catch(() => {}));

/** Waits until the tab's access token has expired. */
const expiry = (tab) => tab.waitForFunction(() => tokens.isTokenExpired());

/** The generation of a tab's refresh token, if scripts can see it. */
async function generation(tab) {
  const { refresh_token } = await held(tab);
  return JSON.parse(Buffer.from(refresh_token.split('.')[1], 'base64url')).gen;
}

for (const [storage, transport] of Object.entries(STORAGES)) {
  const isCookie = storage === 'cookie';

  test.describe(`with ${storage}`, () => {
    test.use({ storage, variables: { ...LASTING, ...transport } });

    test('two tabs that refresh at once take turns and keep one session', async ({ network, tab, openTab }) => {
      const other = await openTab();
      await other.evaluate(() => tokens.ready);
      refreshes(network);
      network.next('hold');
      const both = Promise.all([refresh(tab), refresh(other)]);
      await isHeld(network);
      const waiting = () => tab.evaluate(async () => (await navigator.locks.query()).pending.length);
      await expect.poll(waiting).toBe(1);
      const [first, ...more] = refreshes(network);
      expect(more).toEqual([]);
      network.release();
      await both;
      // Chromium shows a tab the writes of another one late, so the second may send what the first has sent: one attempt.
      const again = refreshes(network);
      expect(again.length).toBeLessThanOrEqual(1);
      if (!isCookie) {
        expect(keys([first, ...again])).toHaveLength(1);
        expect(await generation(tab)).toBe(2);
      }
      await expect(async () => {
        const [one, two] = await Promise.all([held(tab), held(other)]);
        expect(one?.access_token).toBeTruthy();
        expect(two?.access_token).toBe(one.access_token);
      }).toPass();
      expect((await held(tab)).refresh_token).toBe((await held(other)).refresh_token);
      await refresh(other);
      await refresh(tab);
      expect(await me(tab)).toBe(await me(other));
    });

    test('two tabs that refresh at once stay signed in if the second loses its answer', async ({
      network,
      tab,
      openTab,
    }) => {
      const other = await openTab();
      const email = await me(other);
      for (let times = 0; times < 20; times++) {
        network.next('hold');
        const both = Promise.all([refresh(tab), refresh(other)]);
        await isHeld(network);
        network.next('dropAnswer');
        network.release();
        await both;
        network.requests.length = 0;
      }
      expect(await me(tab)).toBe(email);
      expect(await me(other)).toBe(email);
    });

    test('twenty calls after an expiry make one refresh', async ({ network, tab }) => {
      refreshes(network);
      await tab.evaluate(() => tokens.setTokens({ ...tokens.getTokens(), expires_at: Math.floor(Date.now() / 1000) }));
      const answers = await tab.evaluate(() => Promise.all(Array.from({ length: 20 }, () => api.me())));
      expect(new Set(answers.map(({ email }) => email)).size).toBe(1);
      expect(refreshes(network)).toHaveLength(1);
    });

    test('signing out in one tab signs out the other', async ({ tab, openTab }) => {
      const other = await openTab();
      await me(other);
      await tab.evaluate(() => tokens.logout());
      await expect.poll(() => isSignedIn(other)).toBe(false);
      expect(await signedOut(other)).toEqual(['logged_out_elsewhere']);
      expect(await signedOut(tab)).toEqual(['logged_out']);
      await other.reload();
      await other.evaluate(() => tokens.ready);
      expect(await isSignedIn(other)).toBe(false);
    });

    test('when another user signs in in one tab, the other tab follows', async ({ tab, openTab }) => {
      const other = await openTab();
      const before = await me(other);
      const user = { email: `${crypto.randomUUID()}@example.com`, password: PASSWORD };
      await tab.evaluate((user) => tokens.register(user), user);
      expect(user.email).not.toBe(before);
      await expect.poll(() => me(other)).toBe(user.email);
    });

    test('a reload keeps the user signed in', async ({ tab }) => {
      const email = await me(tab);
      await tab.reload();
      expect(await me(tab)).toBe(email);
    });

    test('a new visitor costs one refresh with the cookie, and otherwise none', async ({ network, openTab }) => {
      for (let visits = 0; visits < 2; visits++) {
        const tab = await openTab();
        await tab.evaluate(() => tokens.ready);
        expect(await isSignedIn(tab)).toBe(false);
        expect(await signedOut(tab)).toEqual([]);
      }
      expect(refreshes(network)).toHaveLength(isCookie ? 1 : 0);
    });

    test('a back end on another path shares no item, lock or channel', async ({ network, tab }) => {
      const { requested, items } = await tab.evaluate(async (storage) => {
        const { TokenManager } = await import('./index.js');
        const requested = [];
        const { request } = LockManager.prototype;
        LockManager.prototype.request = function (name, ...rest) {
          requested.push(name);
          return request.call(this, name, ...rest);
        };
        await tokens.refreshTokens();
        const other = new TokenManager(`${location.origin}/stage`, { storage });
        await other.ready;
        if (other.isSignedIn) throw new Error('The other back end has the session.');
        await other.clearTokens();
        return { requested, items: Object.keys(localStorage) };
      }, storage);
      const own = new RegExp(`^freshkey ${network.url}( |$)`);
      const others = new RegExp(`^freshkey ${network.url}/stage( |$)`);
      expect(requested[0]).toMatch(own);
      for (const name of [...requested, ...items]) expect(own.test(name) || others.test(name), name).toBe(true);
      expect(await isSignedIn(tab)).toBe(true);
      await tab.reload();
      expect(await me(tab)).toContain('@example.com');
    });

    test('a full localStorage costs no refresh per call, and no call fails', async ({ network, tab }) => {
      const email = await me(tab);
      await tab.evaluate(async () => {
        const held = tokens.getTokens();
        await tokens.clearTokens();
        for (let size = 2 ** 22; size >= 1; size /= 2) {
          try {
            for (let n = 0; ; n++) localStorage.setItem(`${size}.${n}`, 'x'.repeat(size));
          } catch {
            // There is no more room for this size.
          }
        }
        signedOut.length = 0;
        await tokens.setTokens(held);
        await tokens.refreshTokens();
      });
      refreshes(network);
      await tab.evaluate(() => tokens.setTokens({ ...tokens.getTokens(), expires_at: 1 }));
      for (let calls = 0; calls < 5; calls++) expect(await me(tab)).toBe(email);
      expect(refreshes(network)).toHaveLength(1);
      expect(await signedOut(tab)).toEqual([]);
    });

    test('a refresh whose answer is lost is repeated with the same key', async ({ network, tab }) => {
      refreshes(network);
      network.next('dropAnswer');
      await refresh(tab);
      const seen = refreshes(network);
      expect(seen.map(({ fault, status }) => [fault, status])).toEqual([
        ['dropAnswer', 200],
        [null, 200],
      ]);
      expect(keys(seen)).toHaveLength(1);
      if (!isCookie) expect(await generation(tab)).toBe(2);
      await refresh(tab);
      expect(await me(tab)).toContain('@example.com');
    });

    for (const [what, leave] of [
      ['a reload', (tab) => tab.reload().then(() => tab)],
      ['closing the page', (tab, openTab) => tab.close().then(openTab)],
    ]) {
      test(`${what} in the middle of a refresh signs nobody out`, async ({ network, tab, openTab }) => {
        const email = await me(tab);
        refreshes(network);
        network.next('hold');
        await beginRefresh(tab);
        await isHeld(network);
        const next = await leave(tab, openTab);
        network.release();
        await refresh(next);
        expect(await me(next)).toBe(email);
        const seen = refreshes(network);
        expect(seen[1].headers['idempotency-key']).toBe(seen[0].headers['idempotency-key']);
        await refresh(next);
        expect(await signedOut(next)).toEqual([]);
      });
    }

    test('when a tab is closed in the middle of a refresh, the other one completes it', async ({
      network,
      tab,
      openTab,
    }) => {
      const other = await openTab();
      const email = await me(other);
      refreshes(network);
      network.next('hold');
      await beginRefresh(tab);
      await isHeld(network);
      await tab.close();
      await refresh(other);
      network.release();
      expect(await me(other)).toBe(email);
      expect(keys(refreshes(network))).toHaveLength(1);
    });

    test('a restart of the server signs nobody out', async ({ local, tab }) => {
      const email = await me(tab);
      await local.stop();
      const failed = await tab.evaluate(() => tokens.refreshTokens().catch(({ code }) => code));
      expect(failed).toBe('network');
      expect(await isSignedIn(tab)).toBe(true);
      await local.start();
      await refresh(tab);
      expect(await me(tab)).toBe(email);
    });
  });

  test.describe(`with ${storage}, over many expiries`, () => {
    test.use({ storage, variables: { ...BRIEF, ...transport } });

    test('four tabs that lose one answer in five stay signed in', async ({ network, tab, openTab }) => {
      test.setTimeout(180_000);
      const email = await me(tab);
      const tabs = [tab, await openTab(), await openTab(), await openTab()];
      refreshes(network);
      network.set({ dropAnswer: 0.2 });
      for (let expiries = 0; expiries < 20; expiries++) {
        await Promise.all(tabs.map(expiry));
        // A call may fail after all its tries; that signs nobody out, so it is made again.
        const calls = tabs.map((tab) => expect.poll(() => me(tab).catch(String), { intervals: [50] }).toBe(email));
        await Promise.all(calls);
      }
      const seen = refreshes(network);
      expect(seen.filter(({ fault }) => fault === 'dropAnswer').length).toBeGreaterThan(0);
      expect(keys(seen.filter(({ status }) => status === 200)).length).toBeGreaterThanOrEqual(20);
      expect(seen.filter(({ status }) => status === 401)).toEqual([]);
      network.set({ only: REFRESH });
      for (const tab of tabs) {
        await refresh(tab);
        expect(await me(tab)).toBe(email);
        expect(await signedOut(tab)).toEqual([]);
      }
    });
  });
}

test('without Web Locks, two tabs that refresh at once make one attempt', async ({
  context,
  network,
  tab,
  openTab,
}) => {
  await context.addInitScript(() => Object.defineProperty(navigator, 'locks', { value: undefined }));
  await tab.reload();
  const other = await openTab();
  await other.evaluate(() => tokens.ready);
  refreshes(network);
  network.next('hold');
  const slow = refresh(tab);
  await isHeld(network);
  const quick = await refresh(other);
  network.release();
  expect((await slow).refresh_token).toBe(quick.refresh_token);
  const seen = refreshes(network);
  expect(seen).toHaveLength(2);
  expect(keys(seen)).toHaveLength(1);
  expect(await generation(tab)).toBe(2);
  await refresh(tab);
  await refresh(other);
  expect(await me(tab)).toBe(await me(other));
});

test.describe('the cookie', () => {
  test.use({ storage: 'cookie', variables: { ...LASTING, ...STORAGES.cookie } });

  test('keeps the user signed in when the browser deletes what scripts have stored', async ({ network, tab }) => {
    const email = await me(tab);
    await tab.evaluate(() => localStorage.clear());
    refreshes(network);
    await tab.reload();
    expect(await me(tab)).toBe(email);
    expect(await signedOut(tab)).toEqual([]);
    expect(refreshes(network)).toHaveLength(1);
  });

  test('is not visible to scripts', async ({ context, tab }) => {
    await refresh(tab);
    const seen = await tab.evaluate(() => [
      document.cookie,
      ...Object.values(localStorage),
      ...Object.values(sessionStorage),
    ]);
    expect(seen.filter((text) => text.includes('eyJ'))).toEqual([]);
    expect(seen[0]).toBe('');
    expect((await held(tab)).refresh_token).toBeUndefined();
    const cookies = await context.cookies();
    expect(cookies.map(({ name }) => name).sort()).toEqual(['__Host-device_token', '__Host-refresh_token']);
    for (const cookie of cookies) {
      expect(cookie).toMatchObject({ httpOnly: true, secure: true, sameSite: 'Strict', path: '/' });
    }
  });

  for (const path of ['login', 'refresh', 'logout']) {
    test(`a form of another site gets 403 from ${path}`, async ({ context, network, tab }) => {
      const email = await me(tab);
      const evil = network.url.replace('127.0.0.1', 'localhost');
      const form = `<form method="post" action="${network.url}/api/v1/auth/${path}"><button>Win</button></form>`;
      await context.route(`${evil}/`, (route) => route.fulfill({ contentType: 'text/html', body: form }));
      const page = await context.newPage();
      await page.goto(`${evil}/`);
      const answered = page.waitForResponse(`${network.url}/api/v1/auth/${path}`);
      await page.getByRole('button').click();
      expect((await answered).status()).toBe(403);
      await refresh(tab);
      expect(await me(tab)).toBe(email);
    });

    test(`a request without x-requested-with gets 403 from ${path}`, async ({ tab }) => {
      const status = await tab.evaluate(async (path) => {
        return (await fetch(`/api/v1/auth/${path}`, { method: 'POST', credentials: 'include' })).status;
      }, path);
      expect(status).toBe(403);
      await refresh(tab);
    });
  }
});
