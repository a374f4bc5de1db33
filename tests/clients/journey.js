// What every client goes through: a login, and bursts of calls, each under an
// access token that has just expired.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

/** The servers that tools/test-clients has started, by name. */
export const SETTINGS = JSON.parse(process.env.SETTINGS);

const PASSWORD = 'correct horse battery';

/** A new user of a server. */
export async function registered(url) {
  const email = `${crypto.randomUUID()}@example.com`;
  const answer = await fetch(`${url}/api/v1/auth/register`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ email, password: PASSWORD }),
  });
  assert.equal(answer.status, 201);
  return { email, password: PASSWORD };
}

/** Random numbers below 1, the same in each run (mulberry32). */
export function seeded(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
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
