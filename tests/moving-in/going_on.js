// Clients of a Symfony backend that are signed in there, and whose base URL is now this
// one. Each makes a burst of calls now and after the next expiry, and logs in at the end.
// An error ends the program.
//   CLIENTS='[{"kind":…,"email":…,"password":…,"token":…,"refresh_token":…}]' node going_on.js URL

import assert from 'node:assert/strict';

import { burst, seeded } from '../clients/journey.js';
import * as strangers from '../clients/strangers.js';

const [url] = process.argv.slice(2);

async function goOn({ kind, email, password, ...tokens }, seed) {
  const client = new strangers[kind](url, strangers.DIALECTS.lexik);
  const random = seeded(seed);
  client.keep(tokens);
  for (let expiry = 0; expiry < 2; expiry++) {
    const before = client.accessToken;
    const outcomes = await burst(before, () => client.me(), random);
    for (const { reason, value } of outcomes) assert.equal(reason ?? value.email, email);
    assert.notEqual(client.accessToken, before);
  }
  await client.login(email, password);
  assert.equal((await client.me()).email, email);
}

await Promise.all(JSON.parse(process.env.CLIENTS).map(goOn));
