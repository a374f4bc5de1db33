// The real local system behind the proxy that loses things, and those who use it.

import { setTimeout as sleep } from 'node:timers/promises';

import { startLocal } from '../../../tests/support/local.js';
import { startProxy } from '../../../tests/support/proxy.js';
import { TokenManager, type Dialect, type TokenManagerOptions } from '../src/index.js';

export const REFRESH = 'POST /api/v1/auth/refresh';
const PASSWORD = 'correct horse battery';

export type World = Awaited<ReturnType<typeof startWorld>>;

/** A local system with these settings, and a proxy in front of it. */
export async function startWorld(variables: Record<string, string> = {}, args: string[] = []) {
  const local = await startLocal({ variables: { REFRESH_BURST: '100000', ...variables }, args });
  const proxy = await startProxy({ target: local.url });
  const requests = (what: string) => proxy.requests.filter(({ method, path }) => `${method} ${path}` === what);
  return {
    url: proxy.url,
    proxy,
    /** How often something was asked for, as `METHOD /path`. */
    count: (what: string) => requests(what).length,
    /** What each of these requests brought in a header. */
    sent: (what: string, header: string) => requests(what).map(({ headers }) => headers[header]),
    async stop() {
      await proxy.close();
      await local.stop();
    },
  };
}

/** Somebody new. */
export function somebody() {
  return { email: `${crypto.randomUUID()}@example.com`, password: PASSWORD };
}

/** Somebody new who is signed in, and what became of it. */
export async function signedUp<D extends Dialect = 'v1'>(world: { url: string }, options: TokenManagerOptions<D> = {}) {
  const credentials = somebody();
  const told: string[] = [];
  const tokens = new TokenManager(world.url, {
    onTokens: () => void told.push('tokens'),
    onSignedOut: (reason) => void told.push(reason),
    ...options,
  });
  await tokens.register(credentials);
  return { tokens, told, credentials };
}

/** The same tokens, taken for expired. */
export async function expire(tokens: TokenManager<Dialect>): Promise<void> {
  const held = tokens.getTokens();
  if (!held) throw new Error('Nobody is signed in.');
  await tokens.setTokens({ ...held, expires_at: Math.floor(Date.now() / 1000) });
}

/** Waits for it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(5);
}

/** What a token says. */
export function claims(token: string | null | undefined): Record<string, unknown> {
  return JSON.parse(Buffer.from(token?.split('.')[1] ?? '', 'base64url').toString());
}

/** The generation of the refresh token that is held. */
export function generation(tokens: TokenManager<Dialect>): number {
  return claims(tokens.getTokens()?.refresh_token).gen as number;
}
