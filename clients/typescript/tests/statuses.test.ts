// What answers without a code mean: every row of clients/statuses.json, which the Python client's tests read as well.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { createClient, type Dialect } from '../src/index.js';

interface Row {
  request: 'login' | 'refresh' | 'forgot' | 'reset' | 'call';
  dialects: Dialect[];
  transports: ('body' | 'cookie')[];
  status: number;
  body: object | null;
  code: string;
  signs_out: boolean;
  retried: boolean;
}

const file = join(import.meta.dirname, '../../statuses.json');
const { answers, other }: { answers: Row[]; other: string } = JSON.parse(readFileSync(file, 'utf8'));

/** How often a request is sent if it is retried. */
const TRIES = { login: 1, refresh: 5, forgot: 1, reset: 3, call: 3 };

beforeEach(() => {
  vi.spyOn(Math, 'random').mockReturnValue(0); // no pause between two tries
});
afterEach(() => {
  vi.restoreAllMocks();
});

const cases = answers.flatMap(({ dialects, transports, ...row }) =>
  dialects.flatMap((dialect) => transports.map((transport) => ({ ...row, dialect, transport }))),
);

test.each(cases)(
  '$status to a $request in the $dialect dialect by $transport: $body',
  async ({ request, dialect, transport, status, body, code, signs_out, retried }) => {
    const onSignedOut = vi.fn();
    const fetch = vi.fn(async () => new Response(body && JSON.stringify(body), { status }));
    const storage = transport === 'cookie' ? 'cookie' : 'memory';
    const client = createClient('https://api.example.com', { dialect, storage, fetch, onSignedOut });
    const { tokenManager } = client;

    const send = {
      login: () => client.login({ email: 'ada@example.com', password: 'correct horse battery' }),
      refresh: () => tokenManager.refreshTokens(),
      forgot: () => client.requestPasswordReset('ada@example.com'),
      reset: () => client.resetPassword('token', 'correct horse battery'),
      call: () => client.get('/api/v1/users/me'),
    };
    if (request === 'refresh') {
      await tokenManager.setTokens({
        access_token: 'a',
        expires_in: 60,
        ...(storage === 'memory' && { refresh_token: 'r' }),
      });
    }
    await expect(send[request]()).rejects.toMatchObject({ name: 'FreshkeyError', status, code });
    expect(fetch).toHaveBeenCalledTimes(retried ? TRIES[request] : 1);
    expect(onSignedOut.mock.calls).toEqual(signs_out ? [['session_ended']] : []);
    expect(tokenManager.isSignedIn).toBe(request === 'refresh' && !signs_out);
  },
);

test('a status that no row names has its number as its code', async () => {
  const named = new Set(answers.filter(({ code }) => !code.startsWith('http_')).map(({ status }) => status));
  for (let status = 400; status < 600; status++) {
    if (named.has(status)) continue;
    const client = createClient('https://api.example.com', { fetch: async () => new Response(null, { status }) });
    await expect(client.get('/')).rejects.toMatchObject({ code: other.replace('{status}', String(status)) });
  }
});

test.each([{ error: { code: 7 } }, { detail: ['x'] }, { errors: 'x' }, [], 'x'])(
  'an answer with other members than the API sends is an error with the code of its status: %j',
  async (body) => {
    const fetch = async () => new Response(JSON.stringify(body), { status: 404 });
    const failed = createClient('https://api.example.com', { fetch }).get('/');
    await expect(failed).rejects.toMatchObject({ code: 'not_found', message: 'The server answered 404.', fields: [] });
  },
);
