// What every client goes through: a login, and bursts of calls, each under an
// access token that has just expired.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

export { seeded } from '../support/seeded.js';

/** The servers that tools/test-clients has started, by name. */
export const SETTINGS = JSON.parse(process.env.SETTINGS);

const PASSWORD = 'correct horse battery';

/** A new user of a server, which may want headers more. */
export async function registered(url, headers = {}, tries = 5) {
  const email = `${crypto.randomUUID()}@example.com`;
  const answer = await fetch(`${url}/api/v1/auth/register`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ email, password: PASSWORD }),
  });
  // All the clients come at once.
  if (answer.status === 503 && tries > 1) return registered(url, headers, tries - 1);
  assert.equal(answer.status, 201);
  return { email, password: PASSWORD };
}

/** What a token says. */
export function claims(token) {
  return JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
}

/** 20 calls within 50 ms, at some moment of the second after the expiry. */
export async function burst(accessToken, call, random) {
  await sleep(claims(accessToken).exp * 1000 + 900 * random() - Date.now());
  const calls = Array.from({ length: 20 }, async () => {
    await sleep(50 * random());
    return call();
  });
  return Promise.allSettled(calls);
}

/** Logs in and lives through the expiries of the setting. Throws what the first call that failed threw. */
export async function journey(client, { url, expiries }, random) {
  const { email, password } = await registered(url);
  await sleep(3000 * random());
  await client.login(email, password);
  assert.equal((await client.me()).email, email);
  for (let expiry = 0; expiry < expiries; expiry++) {
    const outcomes = await burst(client.accessToken, () => client.me(), random);
    const failed = outcomes.find(({ status }) => status === 'rejected');
    if (failed) throw failed.reason;
    assert.deepEqual(new Set(outcomes.map(({ value }) => value.email)), new Set([email]));
  }
}
