// The page that the local system serves at `/`, used as after `make dev`.

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test as base, expect } from '@playwright/test';

import { startLocal } from '../support/local.js';
import { startProxy } from '../support/proxy.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const COOKIE = { REFRESH_TOKEN_TRANSPORT: 'cookie' };
/** What Chromium logs for an answer with an error status, and for a missing answer: a server that ends closes or resets its connections. */
const NETWORK =
  /^Failed to load resource: (the server responded with a status of|net::ERR_(EMPTY_RESPONSE|CONNECTION_(REFUSED|RESET|CLOSED)))/;

const test = base.extend({
  variables: [{}, { option: true }],
  args: [[], { option: true }],
  /** A local system for this test alone. */
  local: async ({ variables, args }, use) => {
    const local = await startLocal({ variables, args });
    await use(local);
    await local.stop();
  },
  /** Errors and warnings in the pages' console. Refused requests are expected there; the tests check their status. */
  complaints: [
    async ({ context }, use) => {
      const complaints = [];
      context.on('console', (message) => {
        if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
      });
      context.on('weberror', (problem) => complaints.push(problem.error().message));
      await use(complaints);
      expect(complaints.filter((complaint) => !NETWORK.test(complaint))).toEqual([]);
    },
    { auto: true },
  ],
});

const picture = (page) => page.getByRole('img');
const story = (page) => page.locator('#story');
const requests = (page, path) => page.locator('#requests li').filter({ hasText: path });
const refreshToken = (page) =>
  page.evaluate(() => JSON.parse(localStorage.getItem(`freshkey ${location.origin} session`))?.refresh_token ?? null);
const card = (page, id) => page.locator('#experiments li').filter({ has: page.locator(`#try-${id}`) });

/** Creates the user that the form suggests. */
async function enter(page, url) {
  await page.goto(url);
  await page.getByRole('button', { name: 'Create a user' }).click();
  await expect(picture(page)).toBeVisible();
  await expect(page.locator('#sessions li')).toHaveCount(1);
}

/** Waits for the outcome of an experiment, and returns its text. */
async function outcome(page, id) {
  await expect(card(page, id)).toHaveClass(/right|wrong/);
  await expect(card(page, id)).not.toHaveClass(/busy/);
  await expect(card(page, id)).toHaveClass(/right/);
  return card(page, id).getByRole('status').textContent();
}

/** Runs an experiment, which must succeed, and returns the text of its outcome. */
async function tryOut(page, id) {
  await card(page, id).getByRole('button').click();
  return outcome(page, id);
}

/** Moves the clocks of the server and of the page ahead; the page's must be installed. */
async function pass(page, local, seconds) {
  const answer = await fetch(`${local.url}/.local/clock`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ advance_seconds: seconds }),
  });
  expect(answer.status).toBe(200);
  await page.clock.fastForward(seconds * 1000);
}

for (const [locale, moment] of [
  ['en-US', /^[A-Z][a-z]{2} \d{1,2}, \d{4}, \d{1,2}:\d\d:\d\d\s[AP]M$/],
  ['de-DE', /^\d\d\.\d\d\.\d{4}, \d\d:\d\d:\d\d$/],
]) {
  test.describe(`in ${locale}`, () => {
    test.use({ locale });

    test('one click creates a user, and every member of both tokens is explained', async ({ page, local }) => {
      await enter(page, local.url);
      await expect(page.locator('#who')).toHaveText(/^ada\..*@example\.com$/);
      for (const [token, member] of [
        ['access', 'exp'],
        ['refresh', 'abs'],
      ]) {
        const panel = page.locator(`#${token}`);
        await expect(panel.locator('.raw span')).toHaveCount(3);
        const row = panel.locator('dl > div').filter({ has: page.getByRole('button', { name: member, exact: true }) });
        await expect(row.locator('dd > span').first()).toHaveText(moment);
        for (const tip of await panel.getByRole('tooltip', { includeHidden: true }).allTextContents()) {
          expect(tip).toMatch(/^[A-Z].*\.$/);
          expect(tip).not.toContain('does not know');
        }
      }
      await expect(page.locator('#access .countdown span')).toHaveText(/^expires in (1 h 0 min|59 min \d{1,2} s)$/);
      await expect(page.locator('#refresh .countdown span')).toHaveText('expires in 30 days');
    });

    test('calling users/me spends no token', async ({ page, local }) => {
      await enter(page, local.url);
      expect(await tryOut(page, 'call')).toMatch(/^200 after [\d.,]+ ms\.$/);
      await expect(picture(page)).toHaveAccessibleName(/with one generation\. Generation 1 is valid\.$/);
    });

    test('a refresh makes one new generation', async ({ page, local }) => {
      await enter(page, local.url);
      expect(await tryOut(page, 'refresh')).toBe('One refresh: generation 1 → 2. Both tokens are new.');
      await expect(story(page)).toHaveText('Generation 2 replaced generation 1, which is now spent.');
      await expect(picture(page)).toHaveAccessibleName(/generations 1 to 2\. Generation 2 is valid\.$/);
      await expect(requests(page, 'auth/refresh')).toHaveText(
        /POST auth\/refresh200[\d.,]+ msgeneration 1 → 2 · key \w{4}$/,
      );
    });

    test('twenty calls with an expired token cost one refresh', async ({ page, local }) => {
      await enter(page, local.url);
      expect(await tryOut(page, 'parallel')).toBe('20 × 200. One refresh: generation 1 → 2.');
      await expect(requests(page, 'auth/refresh')).toHaveCount(1);
      await expect(requests(page, 'users/me')).toHaveCount(21);
    });

    test('after a lost answer, the retry gets the same token', async ({ page, local }) => {
      await enter(page, local.url);
      expect(await tryOut(page, 'lose')).toContain('Generation 2 was lost, and the retry returned the identical token.');
      await expect(story(page)).toContainText('The Idempotency-Key is the same');
      await expect(picture(page)).toHaveAccessibleName(
        /1 answer was lost, and the retry with the same key got generation 2 again/,
      );
      await expect(requests(page, 'auth/refresh')).toHaveText([
        /lost[\d.,]+ msgeneration 1 → 2/,
        /200[\d.,]+ msgeneration 1 → 2 · key \w{4} again/,
      ]);
      await tryOut(page, 'refresh'); // still signed in
    });

    test('a replay ends the session for the thief and the owner, who can log in again', async ({ page, local }) => {
      await enter(page, local.url);
      expect(await tryOut(page, 'replay')).toBe(
        'The thief, with generation 1: 401. You, with the newest: 401. The session has ended: log in again.',
      );
      await expect(story(page)).toContainText('the server cannot tell which');
      await expect(picture(page)).toHaveAccessibleName(
        /from a thief branches off and is refused\. The session has ended\.$/,
      );
      await expect(page.locator('#try-refresh')).toHaveAttribute('aria-disabled', 'true');
      expect(await refreshToken(page)).toBeNull();
      await page.getByRole('button', { name: 'Log in again' }).click();
      await expect(picture(page)).toHaveAccessibleName(/with one generation\. Generation 1 is valid\.$/);
      await tryOut(page, 'refresh');
    });

    test('without a key the retry is a replay', async ({ page, local }) => {
      await enter(page, local.url);
      expect(await tryOut(page, 'naive')).toContain('The retry got 401: the session has ended.');
      await expect(story(page)).toContainText('without a key that would identify a retry');
      await expect(picture(page)).toHaveAccessibleName(
        /without a key, 1 answer was lost\. .*from a client without a key branches off/,
      );
    });

    test('two tabs refresh at once, and both hold the one new generation', async ({ page, context, local }) => {
      await enter(page, local.url);
      const opened = context.waitForEvent('page');
      await page.locator('#try-tabs').click();
      const second = await opened;
      expect(await outcome(page, 'tabs')).toMatch(
        /^This tab holds generation 2, the other generation 2\. .*generation 1 → 2\.$/,
      );
      await expect(second.locator('#tab')).toHaveText('tab 2');
      await expect(picture(second)).toHaveAccessibleName(/Generation 2 is valid\.$/);
      await expect(card(second, 'tabs').getByRole('status')).toContainText('This tab holds generation 2');
      // The same tab serves again.
      await tryOut(page, 'tabs');
      expect(context.pages()).toHaveLength(2);
    });

    test('an access token that has expired is refused, and the next call refreshes first', async ({ page, local }) => {
      await page.clock.install();
      await enter(page, local.url);
      expect(await tryOut(page, 'expire')).toMatch(/^The server’s clock is 59 min \d{1,2} s ahead\. /);
      await expect(page.locator('#access .countdown span')).toHaveText(/^expires in (30|2\d) s$/);
      await expect(page.locator('#try-expire')).toHaveAttribute('aria-disabled', 'true');
      await pass(page, local, 31);
      await expect(page.locator('#access .countdown span')).toHaveText('expired');
      await page.getByRole('button', { name: 'It has expired: call users/me' }).click();
      await expect(card(page, 'expire').getByRole('status')).toHaveText(
        'The expired token gets 401. The client refreshes first and gets 200. One refresh: generation 1 → 2.',
      );
      await expect(page.locator('#try-expire')).toHaveText('Let it expire in 30 seconds');
    });
  });
}

test('two tabs in which a user presses at the same time', async ({ page, context, local }) => {
  await enter(page, local.url);
  const second = await context.newPage();
  await second.goto(`${local.url}/#tab=2`);
  await expect(picture(second)).toBeVisible();
  for (let generation = 1; generation < 6; generation += 1) {
    await Promise.all([page, second].map((tab) => tab.locator('#try-refresh').dispatchEvent('click')));
    for (const tab of [page, second]) await expect(card(tab, 'refresh')).not.toHaveClass(/busy/);
    await expect(async () => {
      const [one, two] = await Promise.all([page, second].map((tab) => picture(tab).getAttribute('aria-label')));
      expect(one).toMatch(/is valid\.$/);
      expect(two).toBe(one);
    }).toPass();
  }
});

test('a sign-out in one tab shows in the other', async ({ page, context, local }) => {
  await enter(page, local.url);
  const second = await context.newPage();
  await second.goto(`${local.url}/#tab=2`);
  await second.getByRole('button', { name: 'Log out' }).click();
  await expect(page.getByRole('button', { name: 'Log in again' })).toBeVisible();
  await expect(picture(page)).toHaveAccessibleName(/The session has ended\.$/);
});

test('an answer that the network drops spends no extra generation', async ({ page, local }) => {
  const proxy = await startProxy({ target: local.url, faults: { only: 'POST /api/v1/auth/refresh' } });
  try {
    await enter(page, proxy.url);
    proxy.next('dropAnswer', 'dropRequest');
    expect(await tryOut(page, 'refresh')).toBe('One refresh: generation 1 → 2. Both tokens are new.');
    await expect(picture(page)).toHaveAccessibleName(
      /2 answers were lost, and the retry with the same key got generation 2 again/,
    );
    await expect(requests(page, 'auth/refresh')).toHaveText([
      /failed/,
      /failed.*key \w{4} again/,
      /200.*key \w{4} again/,
    ]);
    await expect(story(page)).toContainText('The Idempotency-Key is the same');
  } finally {
    await proxy.close();
  }
});

test('a user stays signed in across a reload and a restart of the server', async ({ page }) => {
  const directory = mkdtempSync(join(tmpdir(), 'page-'));
  const args = ['--data', join(directory, 'table.db')];
  let local = await startLocal({ args });
  try {
    await enter(page, local.url);
    await tryOut(page, 'refresh');
    await local.kill();
    local = await startLocal({ args: [...args, '--port', new URL(local.url).port] });
    expect(await tryOut(page, 'refresh')).toContain('generation 2 → 3');
    await page.reload();
    await expect(story(page)).toHaveText('Still signed in: generation 3 of the refresh token is valid.');
    await expect(page.locator('#who')).toHaveText(/@example\.com$/);
    await tryOut(page, 'refresh');
  } finally {
    await local.stop();
    rmSync(directory, { recursive: true });
  }
});

test('a session is revoked elsewhere at once, and here at the next refresh', async ({ page, local }) => {
  await enter(page, local.url);
  await page.getByRole('button', { name: 'Sign in on another device' }).click();
  const rows = page.locator('#sessions li');
  await expect(rows).toHaveCount(2);
  await rows.filter({ hasNotText: 'this one' }).getByRole('button').click();
  await expect(rows).toHaveCount(1);
  await expect(page.locator('#sessions-note')).toContainText('cannot refresh');
  await rows.getByRole('button', { name: 'Revoke this session' }).click();
  await expect(rows).toHaveCount(0);
  await tryOut(page, 'call'); // until it expires
  await page.locator('#try-refresh').click();
  await expect(picture(page)).toHaveAccessibleName(/The session has ended\.$/);
});

test('wrong input is explained', async ({ page, local }) => {
  await page.goto(local.url);
  const problem = page.getByRole('alert');
  await page.getByRole('button', { name: 'Log in', exact: true }).click();
  await expect(problem).toHaveText(/\w/);
  await page.getByLabel('Password', { exact: true }).fill('short');
  await page.getByRole('button', { name: 'Create a user' }).click();
  await expect(problem).toHaveText(/8/);
  await expect(page.getByLabel('E-mail', { exact: true })).toBeFocused();
});

test.describe('with --demo', () => {
  test.use({ args: ['--demo', '--table-port', '0'] });
  test('the demo’s user can log in', async ({ page, local }) => {
    await page.goto(local.url);
    await page.getByLabel('E-mail', { exact: true }).fill('demo@example.com');
    await page.getByLabel('Password', { exact: true }).fill('four friendly foxes');
    await page.getByRole('button', { name: 'Log in', exact: true }).click();
    await expect(page.locator('#who')).toHaveText('demo@example.com');
  });
});

test.describe('with the refresh token in a cookie', () => {
  test.use({ variables: COOKIE });

  test('the page cannot read the refresh token, and says so', async ({ page, local }) => {
    await enter(page, local.url);
    await expect(page.locator('#refresh')).toContainText('HttpOnly');
    expect(await page.evaluate(() => document.cookie)).toBe('');
    expect(JSON.stringify(await page.evaluate(() => ({ ...localStorage })))).not.toContain('eyJ');
    for (const id of ['lose', 'replay', 'naive']) {
      await expect(page.locator(`#try-${id}`)).toHaveAttribute('aria-disabled', 'true');
      await expect(card(page, id).getByRole('status')).toHaveText(/^Not possible with the cookie: .*\.$/);
    }
  });

  test('everything that does not have to read it works, and a user stays signed in across a reload', async ({ page, context, local }) => {
    await enter(page, local.url);
    await tryOut(page, 'call');
    expect(await tryOut(page, 'refresh')).toBe('One refresh: generation 1 → 2. Both tokens are new.');
    expect(await tryOut(page, 'parallel')).toBe('20 × 200. One refresh: generation 2 → 3.');
    await page.reload();
    await expect(picture(page)).toHaveAccessibleName(/Generation 4 is valid\.$/);
    const opened = context.waitForEvent('page');
    await page.locator('#try-tabs').click();
    await opened;
    expect(await outcome(page, 'tabs')).toMatch(/^This tab holds generation (\d+), the other generation \1\./);
  });

  test('an access token that has expired is refused, and the next call refreshes first', async ({ page, local }) => {
    await page.clock.install();
    await enter(page, local.url);
    await tryOut(page, 'expire');
    await pass(page, local, 31);
    await page.getByRole('button', { name: 'It has expired: call users/me' }).click();
    await expect(card(page, 'expire').getByRole('status')).toContainText('One refresh: generation 1 → 2.');
  });

  test('a request that another site could make is refused, and spends no token', async ({ page, context, local }) => {
    await enter(page, local.url);
    expect(await tryOut(page, 'forge')).toBe('The forged request got 403. Your own refresh after it got 200.');

    const form = `<!doctype html><form method="post" action="${local.url}/api/v1/auth/refresh"><button>Win</button></form>`;
    const other = createServer((_, answer) => answer.setHeader('content-type', 'text/html').end(form));
    await once(other.listen(0, '127.0.0.1'), 'listening');
    try {
      const site = await context.newPage();
      await site.goto(`http://127.0.0.1:${other.address().port}`);
      const [answer] = await Promise.all([
        site.waitForResponse((response) => response.request().method() === 'POST'),
        site.getByRole('button').click(),
      ]);
      expect(answer.status()).toBe(403);
      expect((await answer.request().allHeaders()).cookie).toContain('__Host-refresh_token=');
    } finally {
      other.close();
    }
    await tryOut(page, 'refresh');
  });
});

test.describe('where clients may choose between body and cookie', () => {
  test.use({ variables: { REFRESH_TOKEN_TRANSPORT: 'both' } });
  test('the page chooses the body, and shows the token', async ({ page, local }) => {
    await enter(page, local.url);
    await expect(page.locator('#refresh .raw span')).toHaveCount(3);
    await tryOut(page, 'replay');
  });
});

test.describe('with a reuse interval', () => {
  test.use({ variables: { REFRESH_REUSE_INTERVAL_SECONDS: '10' } });
  test('a replay is accepted, and the page says why', async ({ page, local }) => {
    await enter(page, local.url);
    await page.locator('#try-replay').click();
    await expect(card(page, 'replay').getByRole('status')).toContainText('REFRESH_REUSE_INTERVAL_SECONDS');
    await expect(page.getByRole('button', { name: 'Log out' })).toBeVisible();
  });
});

const mails = async (local, to) => (await fetch(`${local.url}/.local/mail?to=${encodeURIComponent(to)}`)).json();
const linkIn = ({ text }) => /https?:\/\/\S+#token=[\w-]+/.exec(text)?.[0];
const me = (page) => page.locator('#who').textContent();

/** Opens the newest mail with this subject in the mailbox, and follows its link. Returns the tab. */
async function follow(page, subject) {
  await page.locator('#mail li').filter({ hasText: subject }).first().getByRole('button').click();
  await expect(page.locator('#mail-subject')).toHaveText(subject);
  const opened = page.context().waitForEvent('page');
  await page.frameLocator('#mail-body iframe').getByRole('link').click();
  const tab = await opened;
  // Once the page runs, the token is gone from the address bar, and from the history.
  await expect.poll(() => tab.url()).toBe(new URL('/', tab.url()).href);
  return tab;
}

test.describe('mail', () => {
  test('a forgotten password is reset by a link in the mailbox', async ({ page, local }) => {
    await enter(page, local.url);
    const email = await me(page);
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.getByRole('button', { name: 'Another user' }).click();
    await page.getByLabel('E-mail', { exact: true }).fill(email);
    await page.getByRole('button', { name: 'Forgot the password?' }).click();
    await expect(page.locator('#hint')).toHaveText(/^If the address has an account, a mail is on its way/);

    const tab = await follow(page, /password/i);
    await tab.getByLabel('New password').fill('short');
    await tab.getByRole('button', { name: 'Set the password' }).click();
    await expect(tab.getByRole('alert')).toHaveText(/8/); // and the link is still good
    await tab.getByLabel('New password').fill('another river under nine bridges');
    await tab.getByRole('button', { name: 'Set the password' }).click();
    await expect(tab.locator('#hint')).toHaveText(/^The new password is set/);
    await tab.getByLabel('E-mail', { exact: true }).fill(email);
    await tab.getByLabel('Password', { exact: true }).fill('another river under nine bridges');
    await tab.getByRole('button', { name: 'Log in', exact: true }).click();
    await expect(tab.locator('#who')).toHaveText(email);
    // The reset has shown that the address is the user's.
    await expect(tab.locator('#address em')).toHaveText('verified');
  });

  test('an address is verified and changed by links in the mailbox', async ({ page, local }) => {
    await enter(page, local.url);
    const email = await me(page);
    await expect(page.locator('#address em')).toHaveText('not verified');
    const tab = await follow(page, /confirm|verify/i);
    await tab.getByRole('button', { name: 'Confirm the address' }).click();
    await expect(tab.locator('#address em')).toHaveText('verified');

    const moved = `moved.${email}`;
    await tab.getByLabel('New address').fill(moved);
    await tab.getByLabel('Your password').fill('not the password');
    await tab.getByRole('button', { name: 'Change the address' }).click();
    await expect(tab.locator('#address-note')).toHaveText(/password/);
    await tab.getByLabel('Your password').fill(await page.getByLabel('Password', { exact: true }).inputValue());
    await tab.getByRole('button', { name: 'Change the address' }).click();
    await expect(tab.locator('#address-note')).toHaveText(/^A link is on its way to the new address/);
    await expect.poll(async () => (await mails(local, email)).length).toBe(2); // the owner hears of it
    const [mail] = await mails(local, moved);
    const again = await follow(tab, mail.subject);
    await again.getByRole('button', { name: 'Confirm the address' }).click();
    await expect(again.locator('#who')).toHaveText(moved);
    await expect(again.locator('#address em')).toHaveText('verified');
    await tryOut(again, 'refresh'); // still signed in
  });

  test('a mail is shown as HTML that runs and loads nothing, and as text with its link', async ({
    page,
    local,
    complaints,
  }) => {
    const utf8 = (Data) => ({ Data, Charset: 'UTF-8' });
    const html = `<html><head></head><body><b>Bold</b><script>parent.document.title = 'run'</script>
      <img src="https://example.com/pixel.png"></body></html>`;
    const mail = {
      FromEmailAddress: 'no-reply@example.com',
      Destination: { ToAddresses: ['eve@example.com'] },
      Content: {
        Simple: {
          Subject: utf8('A trap'),
          Body: { Text: utf8('Look: https://example.com/?a=1#b'), Html: utf8(html) },
        },
      },
    };
    const sent = await fetch(`${local.url}/.local/ses/v2/email/outbound-emails`, {
      method: 'POST',
      body: JSON.stringify(mail),
    });
    expect(sent.status).toBe(200);
    await page.goto(local.url);
    await page.locator('#mail li').getByRole('button').click();
    await expect(page.frameLocator('#mail-body iframe').locator('b')).toHaveText('Bold');
    const blocked = ['Blocked script execution', 'violates the following Content Security Policy directive'];
    await expect.poll(() => complaints.toSorted()).toEqual(blocked.map((text) => expect.stringContaining(text)));
    complaints.length = 0;
    await expect(page).toHaveTitle('Freshkey on this machine');
    await page.getByRole('button', { name: 'Text', exact: true }).click();
    const link = page.locator('#mail-body pre a');
    await expect(link).toHaveAttribute('href', 'https://example.com/?a=1#b');
    await expect(page.locator('#mail-body pre')).toHaveText('Look: https://example.com/?a=1#b');
  });

  test('ml5: a scanner that opens every link of every mail, scripts and all, uses up no token', async ({
    page,
    browser,
    local,
  }) => {
    await enter(page, local.url);
    const email = await me(page);
    const password = await page.getByLabel('Password', { exact: true }).inputValue();
    const send = async (method, path, body, token) => {
      const headers = { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) };
      const answer = await fetch(local.url + path, { method, headers, body: JSON.stringify(body) });
      return { status: answer.status, body: answer.status === 204 ? {} : await answer.json() };
    };
    const login = await send('POST', '/api/v1/auth/login', { email, password });
    const token = login.body.access_token;
    const [moved, other] = [`moved.${email}`, `other.${email}`];
    expect((await send('PUT', '/api/v1/users/me/email', { email: moved, password }, token)).status).toBe(202);
    expect((await send('POST', '/api/v1/auth/register', { email: other, password })).status).toBe(201);
    expect((await send('POST', '/api/v1/auth/password/forgot', { email: other })).status).toBe(202);
    const linksTo = async (address) => (await mails(local, address)).map(linkIn).filter(Boolean);
    const [[verify], [change], ofOther] = await Promise.all([email, moved, other].map(linksTo));
    const links = [verify, change, ...ofOther];
    expect(links).toHaveLength(4);
    const [reset] = ofOther.filter((link) => link.includes('view=reset'));

    const sent = [];
    const scanner = await browser.newContext();
    scanner.on('request', (request) => request.method() !== 'GET' && sent.push(`${request.method()} ${request.url()}`));
    for (const link of links) {
      for (const method of ['GET', 'HEAD']) expect((await fetch(link, { method })).status).toBeLessThan(500);
      const tab = await scanner.newPage();
      await tab.goto(link);
      await expect(tab.locator('.link:visible')).toHaveCount(1);
      await tab.waitForLoadState('networkidle');
    }
    await scanner.close();
    // The user's own browser opens them too: there, the client is signed in.
    for (const link of links) {
      const tab = await page.context().newPage();
      await tab.goto(link);
      await expect(tab.locator('.link:visible')).toHaveCount(1);
      await tab.waitForLoadState('networkidle');
      await tab.close();
    }
    expect(sent).toEqual([]);

    // Each token still works.
    const tokenOf = (link) => link.split('#token=')[1];
    for (const link of [verify, change]) {
      const confirmed = await send('POST', '/api/v1/users/me/email/confirm', { token: tokenOf(link) }, token);
      expect(confirmed.status).toBe(200);
    }
    const body = { token: tokenOf(reset), new_password: 'another river under nine bridges' };
    expect((await send('POST', '/api/v1/auth/password/reset', body)).status).toBe(204);
  });
});

test('everything can be done by keyboard', async ({ page, local }) => {
  await page.goto(local.url);
  const tabTo = async (target) => {
    for (let i = 0; i < 80; i += 1) {
      if (await target.evaluate((element) => element === document.activeElement)) return;
      await page.keyboard.press('Tab');
    }
    throw new Error(`Tab does not lead to ${target}.`);
  };
  await page.keyboard.press('Tab');
  await expect(page.getByRole('link', { name: 'Skip to the content' })).toBeFocused();
  await tabTo(page.getByLabel('Password', { exact: true }));
  await page.keyboard.press('Enter');
  await expect(page.locator('#chain-title')).toBeFocused();
  await tabTo(page.locator('#try-refresh'));
  await page.keyboard.press('Enter');
  await outcome(page, 'refresh');
  await expect(page.locator('#try-refresh')).toBeFocused();

  const member = page.locator('#refresh').getByRole('button', { name: 'gen', exact: true });
  const tip = page.locator('#refresh-gen');
  await tabTo(member);
  await expect(tip).toBeVisible();
  await expect(member).toHaveAccessibleDescription(/^Generation: 1 at sign-in/);
  await page.keyboard.press('Escape');
  await expect(tip).toBeHidden();
  await page.locator('#refresh-gen').locator('..').hover();
  await expect(tip).toBeVisible();

  await tabTo(page.locator('#sessions li button'));
  await page.locator('#log-out').focus();
  await page.keyboard.press('Enter');
  await expect(page.getByRole('button', { name: 'Log in again' })).toBeFocused();
  await page.keyboard.press('Enter');
  await expect(page.locator('#chain-title')).toBeFocused();
});

for (const [colorScheme, widths] of [
  ['light', [360, 768, 1200, 1600]],
  ['dark', [360, 1600]],
]) {
  for (const width of widths) {
    test.describe(`${colorScheme}, ${width} pixels`, () => {
      test.use({ colorScheme, viewport: { width, height: 900 } });

      test('axe finds nothing, the layout does not shift, and nothing overflows', async ({ page, context, local }) => {
        test.slow(); // it checks every state of the page
        await context.addInitScript(() => {
          window.shifts = [];
          new PerformanceObserver((list) => {
            for (const entry of list.getEntries()) {
              if (!entry.hadRecentInput)
                window.shifts.push(entry.sources?.map(({ node }) => node?.id || node?.className));
            }
          }).observe({ type: 'layout-shift', buffered: true });
        });
        const check = async (state) => {
          await page.evaluate(AXE);
          const { violations } = await page.evaluate(() => globalThis.axe.run());
          expect(
            violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]),
            state,
          ).toEqual([]);
          expect(await page.evaluate(() => document.documentElement.scrollWidth), state).toBeLessThanOrEqual(width);
          const cut = await page.locator('#picture text').evaluateAll((texts) => {
            const { width } = document.querySelector('#picture').viewBox.baseVal;
            return texts
              .filter((text) => text.getBBox().x < 0 || text.getBBox().x + text.getBBox().width > width)
              .map(({ textContent }) => textContent);
          });
          expect(cut, state).toEqual([]);
          expect(await page.evaluate(() => window.shifts), state).toEqual([]);
        };
        await page.goto(local.url);
        await check('the first visit');
        await page.getByLabel('Password', { exact: true }).fill('short');
        await page.getByRole('button', { name: 'Create a user' }).click();
        await expect(page.getByRole('alert')).toHaveText(/8/);
        await check('a password that is too short');
        await enter(page, local.url);
        // On a slow machine, the switch to the signed-in view counts as a shift.
        await page.evaluate(() => (window.shifts.length = 0));
        // Changes within half a second of a click, which the browser does not report as shifts, move nothing either.
        const places = () =>
          page
            .locator('#bench h1, #bench h2, #experiments li:not([hidden]) button')
            .evaluateAll((all) =>
              all.map((element) => [element.textContent, Math.round(element.getBoundingClientRect().top + scrollY)]),
            );
        const before = await places();
        await check('just signed in');
        for (const id of ['call', 'lose', 'parallel']) await tryOut(page, id);
        await page.locator('#access').getByRole('button', { name: 'aud', exact: true }).focus();
        await check('after experiments');
        await page.locator('#mail li').getByRole('button').click();
        await expect(page.frameLocator('#mail-body iframe').getByRole('link')).toBeVisible();
        await check('a mail as HTML');
        await page.getByRole('button', { name: 'Text', exact: true }).click();
        await check('a mail as text');
        for (let i = 0; i < 12; i += 1) await tryOut(page, 'refresh');
        await expect(page.locator('#picture .count')).toHaveText(/^\+\d+$/);
        await tryOut(page, 'naive');
        await check('a session that has ended');
        expect(await places()).toEqual(before);
        await page.getByRole('button', { name: 'Log in again' }).click();
        await tryOut(page, 'replay');
        expect(await places()).toEqual(before);
        await page.getByRole('button', { name: 'Another user' }).click();
        await expect(page.getByLabel('E-mail', { exact: true })).toBeFocused();
        await check('another user');
        for (const view of ['reset', 'confirm']) {
          await page.goto(`${local.url}/?view=${view}#token=${'A'.repeat(43)}`);
          await page.locator(`#${view}`).getByRole('button').click();
          await expect(page.getByRole('alert').filter({ hasText: /\w/ })).toHaveCount(1);
          await check(`the link to ${view}`);
        }
      });
    });
  }
}

test('it is one file of less than 100 kB that calls only this system', async ({ page, local }) => {
  const urls = new Set();
  page.on('request', (request) => urls.add(new URL(request.url()).origin));
  const answer = await page.goto(local.url);
  const body = await answer.body();
  expect(body.length).toBeLessThan(100_000);
  expect(answer.headers()['content-security-policy']).toMatch(
    /default-src 'none'; script-src 'sha256-[^ ]+'; style-src 'sha256-[^ ]+';/,
  );
  await page.getByRole('button', { name: 'Create a user' }).click();
  await tryOut(page, 'refresh');
  expect([...urls].filter((origin) => origin !== 'null')).toEqual([local.url]);
  expect(body.toString()).toBe(readFileSync(join(ROOT, 'local/page/dist/index.html'), 'utf8'));
});

test('the embedded page is built from its current sources', () => {
  const cwd = join(ROOT, 'local/page');
  if (!existsSync(join(cwd, 'node_modules'))) execFileSync('npm', ['ci', '--ignore-scripts'], { cwd });
  execFileSync('npm', ['run', '--silent', 'check'], { cwd });
});

test.describe('the pictures of the README', () => {
  const directory = join(ROOT, 'docs/pictures');

  /** Writes a picture if PICTURES is set; otherwise checks that it is there. */
  async function keep(page, name) {
    const path = join(directory, name);
    if (process.env.PICTURES) {
      mkdirSync(directory, { recursive: true });
      await page.mouse.move(0, 0);
      await page.evaluate(() => scrollTo(0, 0));
      await page.screenshot({ path, animations: 'disabled' });
    }
    expect(statSync(path).size).toBeLessThanOrEqual(150_000);
    expect(readFileSync(join(ROOT, 'README.md'), 'utf8')).toContain(`docs/pictures/${name}`);
  }

  for (const colorScheme of ['light', 'dark']) {
    test.describe(colorScheme, () => {
      test.use({ colorScheme, locale: 'en-US', viewport: { width: 1200, height: 760 } });

      test('after a lost answer, and after a replay', async ({ page, local }) => {
        await enter(page, local.url);
        for (const id of ['refresh', 'refresh', 'lose']) await tryOut(page, id);
        await keep(page, `page-${colorScheme}.png`);
        await tryOut(page, 'replay');
        if (colorScheme === 'light') await keep(page, 'page-replay.png');
      });
    });
  }
});
