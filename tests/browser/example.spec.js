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
  /** Opens the example in a tab. No script in it may fail. */
  openTab: async ({ context }, use, testInfo) => {
    const built = testInfo.outputPath('example');
    const server = createServer(({ url }, answer) => {
      const file = url === '/' ? '/index.html' : url;
      answer.setHeader('content-type', TYPES[extname(file)] ?? 'text/plain').end(readFileSync(built + file));
    });
    await new Promise((done) => server.listen(0, '127.0.0.1', done));
    const page = `http://localhost:${server.address().port}`;
    const variables = { REFRESH_TOKEN_TRANSPORT: 'cookie' };
    const local = await startLocal({ variables, args: ['--allow-origin', page] });
    const env = { ...process.env, VITE_API_URL: local.url.replace('127.0.0.1', 'localhost') };
    execFileSync('npm', ['run', 'build', '--', '--outDir', built, '--emptyOutDir'], {
      cwd: EXAMPLE,
      env,
      stdio: 'pipe',
    });

    const failures = [];
    context.on('weberror', (problem) => failures.push(problem.error().message));
    await use(async () => {
      const tab = await context.newPage();
      await tab.goto(page);
      return tab;
    });
    await local.stop();
    server.close();
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
