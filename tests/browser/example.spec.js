// The React example on localhost, and the local system beside it on another
// port: one site, two origins, the refresh token in a cookie.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test as base, expect } from '@playwright/test';

import { startLocal } from '../support/local.js';

const EXAMPLE = fileURLToPath(new URL('../../clients/typescript/examples/react/', import.meta.url));
const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };
const ADA = { email: 'ada@example.com', password: 'correct horse battery' };

const test = base.extend({
  /** The built example, and its system: `{ url, local }`. Mails have links to the example. */
  site: async ({}, use, testInfo) => {
    const built = testInfo.outputPath('example');
    const server = createServer(({ url }, answer) => {
      const { pathname } = new URL(url, 'http://localhost');
      const file = extname(pathname) ? pathname : '/index.html';
      answer.setHeader('content-type', TYPES[extname(file)] ?? 'text/plain').end(readFileSync(built + file));
    });
    await new Promise((done) => server.listen(0, '127.0.0.1', done));
    const url = `http://localhost:${server.address().port}`;
    const variables = {
      REFRESH_TOKEN_TRANSPORT: 'cookie',
      RESET_URL: `${url}/reset`,
      CONFIRM_URL: `${url}/confirm`,
    };
    const local = await startLocal({ variables, args: ['--allow-origin', url] });
    const env = { ...process.env, VITE_API_URL: local.url.replace('127.0.0.1', 'localhost') };
    execFileSync('npm', ['run', 'build', '--', '--outDir', built, '--emptyOutDir'], {
      cwd: EXAMPLE,
      env,
      stdio: 'pipe',
    });
    await use({ url, local });
    await local.stop();
    server.close();
  },

  /** Opens a page of the example, `/` or a link, in a tab. No script in it may fail. */
  openTab: async ({ context, site }, use) => {
    const failures = [];
    context.on('weberror', (problem) => failures.push(problem.error().message));
    await use(async (page = '/') => {
      const tab = await context.newPage();
      await tab.goto(new URL(page, site.url).href);
      return tab;
    });
    expect(failures).toEqual([]);
  },
});

const heading = (tab, name) => expect(tab.getByRole('heading', { name })).toBeVisible();

/** Fills in the form and presses the button. */
async function send(tab, { email, password }, button) {
  await tab.getByLabel('Email').fill(email);
  await tab.getByLabel('Password').fill(password);
  await tab.getByRole('button', { name: button }).click();
}

/** Registers a user in a tab. */
async function register(tab, user) {
  await tab.getByRole('button', { name: 'Create an account' }).click();
  await send(tab, user, 'Create account');
  await heading(tab, `Hello, ${user.email}`);
}

/** Asks for a change of the address, on the account page. */
async function changeEmail(tab, email, password) {
  const form = tab.getByRole('group').filter({ hasText: 'Change the email' });
  if (!(await form.getByLabel('New email').isVisible())) await form.getByText('Change the email').click();
  await form.getByLabel('New email').fill(email);
  await form.getByLabel('Password').fill(password);
  await form.getByRole('button', { name: 'Change' }).click();
  return form;
}

/** The mails to an address, newest first; to every address by default. */
async function mails({ local }, to) {
  const answer = await fetch(`${local.url}/.local/mail${to ? `?to=${encodeURIComponent(to)}` : ''}`);
  expect(answer.status).toBe(200);
  return answer.json();
}

/** Waits until there are so many mails to an address with a link to a page, and returns the link in the newest. */
async function linkTo(site, page, to, count = 1) {
  const pattern = new RegExp(`${site.url}${page}#token=[\\w-]+`);
  let links = [];
  await expect
    .poll(async () => {
      links = (await mails(site, to)).flatMap(({ text }) => pattern.exec(text)?.[0] ?? []);
      return links.length;
    })
    .toBe(count);
  return links[0];
}

/** Lets some seconds pass for the server. */
async function pass({ local }, seconds) {
  const headers = { 'content-type': 'application/json' };
  const body = JSON.stringify({ advance_seconds: seconds });
  expect((await fetch(`${local.url}/.local/clock`, { method: 'POST', headers, body })).ok).toBe(true);
}

/** Checks that axe finds nothing, in the light and the dark colour scheme. */
async function isAccessible(tab) {
  await tab.addScriptTag({ path: AXE });
  for (const colorScheme of ['light', 'dark']) {
    await tab.emulateMedia({ colorScheme });
    const { violations } = await tab.evaluate(() => axe.run());
    expect(violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`)).toEqual([]);
  }
}

test('signing in and out in one tab signs every other tab in and out', async ({ openTab }) => {
  const first = await openTab();
  const second = await openTab();
  await heading(second, 'Sign in');
  await isAccessible(second);

  await first.getByRole('button', { name: 'Create an account' }).click();
  await send(first, { ...ADA, password: 'short' }, 'Create account');
  await expect(first.getByLabel('Password')).toHaveAttribute('aria-invalid', 'true');
  await isAccessible(first);
  await send(first, ADA, 'Create account');
  await heading(first, `Hello, ${ADA.email}`);
  await heading(second, `Hello, ${ADA.email}`);
  await isAccessible(first);

  await first.reload();
  await heading(first, `Hello, ${ADA.email}`);
  const kept = await first.evaluate(() => JSON.stringify({ ...localStorage }) + document.cookie);
  expect(kept).not.toContain('eyJ');
  const third = await openTab();
  await heading(third, `Hello, ${ADA.email}`);

  await second.getByRole('button', { name: 'Sign out' }).click();
  for (const tab of [first, second, third]) await heading(tab, 'Sign in');
  await first.reload();
  await heading(first, 'Sign in');

  await send(first, { ...ADA, password: 'not her password' }, 'Sign in');
  await expect(first.getByText('The email or password is incorrect.')).toBeVisible();
  await send(first, ADA, 'Sign in');
  await heading(third, `Hello, ${ADA.email}`);
});

test('a forgotten password is reset by the link of a mail, once, and every tab is signed out', async ({
  openTab,
  site,
}) => {
  const signedIn = await openTab();
  await register(signedIn, ADA);
  const asking = await openTab('/forgot');
  for (const email of ['nobody@example.com', ADA.email]) {
    await asking.getByLabel('Email').fill(email);
    await asking.getByRole('button', { name: /link$/ }).click();
    await expect(asking.getByRole('status')).toHaveText(
      `If ${email} has an account, a mail with a link is on its way. The link is good for an hour.`,
    );
  }
  await isAccessible(asking);

  const link = await linkTo(site, '/reset', ADA.email);
  expect(await mails(site, 'nobody@example.com')).toEqual([]);
  const token = link.split('#token=')[1];
  const tab = await openTab(link);
  await heading(tab, 'Choose a new password');
  expect(tab.url()).toBe(`${site.url}/reset`);
  const kept = () => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, history.state]);
  expect(await tab.evaluate(kept)).not.toContain(token);
  await isAccessible(tab);
  await tab.reload();
  await expect(tab.getByText('The link is incomplete.')).toBeVisible();
  await isAccessible(tab);

  await tab.goto('about:blank');
  await tab.goto(link);
  await tab.getByLabel('New password').fill('short');
  await tab.getByRole('button', { name: 'Change the password' }).click();
  await expect(tab.getByLabel('New password')).toHaveAttribute('aria-invalid', 'true');
  await tab.getByLabel('New password').fill('a quiet river under seven bridges');
  await tab.getByRole('button', { name: 'Change the password' }).click();
  await heading(tab, 'Password changed');
  await isAccessible(tab);
  await heading(signedIn, 'Sign in');
  await expect(signedIn.getByText('You signed out in another tab.')).toBeVisible();
  await send(signedIn, ADA, 'Sign in');
  await expect(signedIn.getByText('The email or password is incorrect.')).toBeVisible();
  await send(signedIn, { ...ADA, password: 'a quiet river under seven bridges' }, 'Sign in');
  await heading(signedIn, `Hello, ${ADA.email}`);

  const again = await openTab(link);
  await again.getByLabel('New password').fill('four friendly foxes and a hen');
  await again.getByRole('button', { name: 'Change the password' }).click();
  await expect(again.getByText('This link is no longer good')).toBeVisible();
  await again.getByRole('link', { name: 'Ask for a new link' }).click();
  await heading(again, 'Forgotten password');
});

test('an address is confirmed, and changed, by a click on the page that the mail leads to', async ({
  openTab,
  site,
  context,
}) => {
  const account = await openTab();
  await register(account, ADA);
  const banner = account.getByRole('complementary');
  await expect(banner).toContainText(`Please confirm ${ADA.email}`);
  await isAccessible(account);
  await linkTo(site, '/confirm', ADA.email);
  await banner.getByRole('button', { name: 'Send it again' }).click();
  await expect(banner).toContainText(`Another mail is on its way to ${ADA.email}.`);
  await banner.getByRole('button', { name: 'Send it again' }).click();
  await expect(banner).toContainText('Too many attempts.');
  const tab = await openTab(await linkTo(site, '/confirm', ADA.email, 2));
  await heading(tab, 'Confirm your email');
  expect(tab.url()).toBe(`${site.url}/confirm`);
  await isAccessible(tab);
  await account.reload();
  await expect(banner).toBeVisible();
  await tab.getByRole('button', { name: 'Confirm' }).click();
  await expect(tab.getByText(`${ADA.email} is confirmed.`)).toBeVisible();
  await isAccessible(tab);
  await account.evaluate(() => window.dispatchEvent(new Event('focus')));
  await expect(banner).toBeHidden();

  const email = 'lovelace@example.com';
  await pass(site, 61);
  const form = await changeEmail(account, email, 'not her password');
  await expect(form.getByLabel('Password')).toHaveAttribute('aria-invalid', 'true');
  await changeEmail(account, email, ADA.password);
  await expect(form).toContainText(`Open the link in the mail to ${email}.`);
  await isAccessible(account);
  const link = await linkTo(site, '/confirm', email);
  await account.getByRole('button', { name: 'Sign out' }).click();
  await heading(account, 'Sign in');
  const late = await openTab(link);
  expect(late.url()).toBe(`${site.url}/confirm`);
  await expect(late.getByText('Sign in, and then confirm your email.')).toBeVisible();
  await send(late, ADA, 'Sign in');
  await late.getByRole('button', { name: 'Confirm' }).click();
  await expect(late.getByText(`${email} is confirmed.`)).toBeVisible();
  const { value } = (await context.cookies()).find(({ name }) => name === '__Host-device_token');
  expect(value).toMatch(/^eyJ/);
  await late.getByRole('link', { name: 'Go to your account' }).click();
  await heading(late, `Hello, ${email}`);
});

test('a scanner that opens every link of every mail, and clicks nothing, uses up no token', async ({
  browser,
  context,
  openTab,
  site,
}) => {
  const bob = { email: 'bob@example.com', password: 'four friendly foxes' };
  const account = await openTab();
  await register(account, ADA);
  await changeEmail(account, 'lovelace@example.com', ADA.password);
  await linkTo(site, '/confirm', 'lovelace@example.com');
  await account.getByRole('button', { name: 'Sign out' }).click();
  await register(account, bob);
  const asking = await openTab('/forgot');
  await asking.getByLabel('Email').fill(bob.email);
  await asking.getByRole('button', { name: 'Send me a link' }).click();
  const wanted = {
    verify: await linkTo(site, '/confirm', bob.email),
    reset: await linkTo(site, '/reset', bob.email),
    change: await linkTo(site, '/confirm', 'lovelace@example.com'),
  };

  const links = new Set();
  for (const { text, html } of await mails(site)) {
    for (const [link] of text.matchAll(/https?:\/\/\S+/g)) links.add(link);
    for (const [, link] of html.matchAll(/href="([^"]+)"/g)) links.add(link.replaceAll('&amp;', '&'));
  }
  for (const link of Object.values(wanted)) expect(links).toContain(link);
  // A scanner at the mail server, and one in the browser of the user, who is signed in.
  const sent = [];
  for (const scanner of [await browser.newContext(), context]) {
    scanner.on('request', (request) => {
      const url = request.url().split('#')[0];
      sent.push([request.method(), url, request.postData(), JSON.stringify(request.headers())].join(' '));
    });
    for (const link of links) {
      const tab = await scanner.newPage();
      await tab.goto(link, { waitUntil: 'networkidle' });
      await tab.close();
      for (const method of ['GET', 'HEAD', 'OPTIONS']) await scanner.request.fetch(link, { method });
    }
  }
  expect(sent.length).toBeGreaterThan(2 * links.size);
  const tokens = [...links].flatMap((link) => link.split('#token=')[1] ?? []);
  expect(sent.filter((request) => tokens.some((token) => request.includes(token)))).toEqual([]);

  const verify = await openTab(wanted.verify);
  await verify.getByRole('button', { name: 'Confirm' }).click();
  await expect(verify.getByText(`${bob.email} is confirmed.`)).toBeVisible();
  const reset = await openTab(wanted.reset);
  await reset.getByLabel('New password').fill('a quiet river under seven bridges');
  await reset.getByRole('button', { name: 'Change the password' }).click();
  await heading(reset, 'Password changed');
  const change = await openTab(wanted.change);
  await send(change, ADA, 'Sign in');
  await change.getByRole('button', { name: 'Confirm' }).click();
  await expect(change.getByText('lovelace@example.com is confirmed.')).toBeVisible();
});
