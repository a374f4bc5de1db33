// Each kind of client, in each dialect, at each setting of the reuse interval.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { SETTINGS, claims, journey, registered, seeded } from './journey.js';
import { DIALECTS, NaiveFetch, QueueingAxios, SignedOut, SingleFlightFetch } from './strangers.js';

describe('a client without an Idempotency-Key', { concurrency: true }, () => {
  let seed = 0;
  for (const [setting, server] of Object.entries(SETTINGS)) {
    const isStrict = server.interval === 0;
    for (const [dialect, words] of Object.entries(DIALECTS)) {
      for (const Client of [SingleFlightFetch, QueueingAxios, NaiveFetch]) {
        const random = seeded(++seed);
        const who = `${setting}: ${Client.name} in ${dialect}`;

        if (isStrict && Client === NaiveFetch) {
          test(`${who} is signed out`, async () => {
            const client = new Client(server.url, words);
            await assert.rejects(journey(client, server, random), SignedOut);
            await assert.rejects(client.refresh(), SignedOut);
          });
          continue;
        }

        test(`${who} stays signed in`, async () => {
          const client = new Client(server.url, words);
          await journey(client, server, random);
          const rotations = claims(client.refreshToken).gen - 1;
          const isRare = server.interval > server.lifetime;
          assert.equal(rotations < server.expiries, isRare, `${rotations} rotations`);
          await client.refresh();
        });
      }
    }

    test(`${setting}: a lost answer ${isStrict ? 'signs out' : 'is given again'}`, async () => {
      const { email, password } = await registered(server.url);
      const client = new SingleFlightFetch(server.url, DIALECTS.v1);
      await client.login(email, password);
      await sleep(1000 * server.interval + 1);
      const spent = client.refreshToken;
      await client.refresh();
      const lost = client.refreshToken;
      assert.notEqual(lost, spent);
      client.refreshToken = spent;
      if (isStrict) return assert.rejects(client.refresh(), SignedOut);
      await client.refresh();
      assert.equal(client.refreshToken, lost);
    });
  }
});
