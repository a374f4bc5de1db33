// The real local system behind the proxy that loses requests, and its users.

import { setTimeout as sleep } from 'node:timers/promises';

import { startLocal } from '../../../tests/support/local.js';
import { startProxy } from '../../../tests/support/proxy.js';
import { TokenManager, type Dialect, type TokenManagerOptions } from '../src/index.js';

export const REFRESH = 'POST /api/v1/auth/refresh';
const PASSWORD = 'correct horse battery';
/** The pages that the links in mails lead to. */
const PAGES = { RESET_URL: 'https://app.example.com/reset', CONFIRM_URL: 'https://app.example.com/confirm' };

export type World = Awaited<ReturnType<typeof startWorld>>;

/** A local system with these settings, and a proxy in front of it. */
export async function startWorld(variables: Record<string, string> = {}, args: string[] = []) {
  const local = await startLocal({ variables: { REFRESH_BURST: '100000', ...PAGES, ...variables }, args });
  const proxy = await startProxy({ target: local.url });
  const requests = (what: string) => proxy.requests.filter(({ method, path }) => `${method} ${path}` === what);
  return {
    url: proxy.url,
    proxy,
    /** The number of requests for a `METHOD /path`. */
    count: (what: string) => requests(what).length,
    /** The number of these requests that were answered with a status. */
    answered: (what: string, status: number) => requests(what).filter((request) => request.status === status).length,
    /** The value of a header in each of these requests. */
    sent: (what: string, header: string) => requests(what).map(({ headers }) => headers[header]),
    async stop() {
      await proxy.close();
      await local.stop();
    },
  };
}

/** The credentials of a new user. */
export function somebody() {
  return { email: `${crypto.randomUUID()}@example.com`, password: PASSWORD };
}

/** A new user who is signed in, and the callbacks that the client has made. */
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

/**
 * Waits until there are so many mails to an address with a link to a page (`reset` or `confirm`), and returns the token in
 * the newest.
 */
export async function linked(world: World, to: string, page: string, count = 1): Promise<string> {
  for (;;) {
    const answer = await fetch(`${world.url}/.local/mail?to=${encodeURIComponent(to)}`);
    const mails = (await answer.json()) as { text: string }[];
    const link = new RegExp(`/${page}#token=([\\w-]+)`);
    const tokens = mails.flatMap(({ text }) => link.exec(text)?.[1] ?? []);
    if (tokens.length === count) return tokens[0]!;
    await sleep(10);
  }
}

/** Makes the access token expire, as far as the client knows. */
export async function expire(tokens: TokenManager<Dialect>): Promise<void> {
  const held = tokens.getTokens();
  if (!held) throw new Error('Nobody is signed in.');
  await tokens.setTokens({ ...held, expires_at: Math.floor(Date.now() / 1000) });
}

/** Repeats a call while the server answers 503, which a loaded machine may do to 100 calls at once. */
export async function patiently<T>(call: () => Promise<T>): Promise<T> {
  return call().catch((error) => {
    if ((error.status ?? error.response?.status) !== 503) throw error;
    return patiently(call);
  });
}

/** Waits until a condition is true. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(5);
}

/** The claims of a token. */
export function claims(token: string | null | undefined): Record<string, unknown> {
  return JSON.parse(Buffer.from(token?.split('.')[1] ?? '', 'base64url').toString());
}

/** The generation of the refresh token that is held. */
export function generation(tokens: TokenManager<Dialect>): number {
  return claims(tokens.getTokens()?.refresh_token).gen as number;
}
