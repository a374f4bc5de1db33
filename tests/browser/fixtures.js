// Fixtures for the tests of the client: a local system behind the proxy, and tabs
// with the built client.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test as base, expect } from '@playwright/test';

import { startLocal } from '../support/local.js';
import { startProxy } from '../support/proxy.js';

const CLIENT = fileURLToPath(new URL('../../clients/typescript/dist/', import.meta.url));
const PAGE = `<!doctype html>
<title>The client</title>
<link rel="icon" href="data:," />
<script type="module">
  import { ApiClient, TokenManager } from './index.js';
  const storage = new URLSearchParams(location.search).get('storage');
  window.signedOut = [];
  window.tokens = new TokenManager(location.origin, { storage, onSignedOut: (reason) => signedOut.push(reason) });
  window.api = new ApiClient(location.origin, tokens);
</script>`;

/** Matches a refresh, for the proxy. */
export const REFRESH = '^POST /api/v1/auth/refresh$';
export const PASSWORD = 'correct horse battery';
export { expect };

export const test = base.extend({
  /** Settings of the local system. */
  variables: [{}, { option: true }],
  /** The storage in which the client keeps its tokens. */
  storage: ['localStorage', { option: true }],

  /** The proxy between the pages and the local system. Both have its URL, and its faults affect only refreshes. */
  network: async ({}, use) => {
    const proxy = await startProxy({ faults: { only: REFRESH } });
    await use(proxy);
    await proxy.close();
  },

  /** A local system for this test alone, behind the proxy. `stop()` and `start()` restart it with the same data. */
  local: async ({ network, variables }, use, testInfo) => {
    let running;
    const local = {
      async start() {
        const args = ['--data', testInfo.outputPath('freshkey.db'), '--allow-origin', network.url];
        running = await startLocal({ variables, args });
        network.target = running.url;
      },
      stop: () => running.stop(),
    };
    await local.start();
    await use(local);
    await local.stop();
  },

  /** Opens a tab. All tabs share cookies and localStorage. The test fails if a script fails in any of them. */
  openTab: async ({ context, network, local, storage }, use) => {
    const failures = [];
    context.on('weberror', (problem) => failures.push(problem.error().message));
    await context.route(`${network.url}/client/**`, (route) => {
      const { pathname } = new URL(route.request().url());
      const name = pathname.slice('/client/'.length);
      if (name === '') return route.fulfill({ contentType: 'text/html', body: PAGE });
      return route.fulfill({ contentType: 'text/javascript', body: readFileSync(CLIENT + name) });
    });
    await use(async () => {
      const tab = await context.newPage();
      await tab.goto(`${network.url}/client/?storage=${storage}`);
      return tab;
    });
    expect(failures).toEqual([]);
  },

  /** A tab in which a user has just registered. */
  tab: async ({ openTab }, use) => {
    const tab = await openTab();
    const user = { email: `${crypto.randomUUID()}@example.com`, password: PASSWORD };
    await tab.evaluate((user) => tokens.register(user), user);
    await use(tab);
  },
});

/** Waits until the server has processed the request whose answer the proxy holds. */
export async function isHeld(network) {
  await expect.poll(() => network.requests.some(({ fault, status }) => fault === 'hold' && status !== null)).toBe(true);
}

/** Returns the refreshes that the proxy has seen, and clears its list of requests. */
export function refreshes(network) {
  const seen = network.requests.filter(({ method, path }) => new RegExp(REFRESH).test(`${method} ${path}`));
  network.requests.length = 0;
  return seen;
}

/** The distinct Idempotency-Keys of requests. */
export function keys(requests) {
  return [...new Set(requests.map(({ headers }) => headers['idempotency-key']))];
}
