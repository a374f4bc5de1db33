// Makes the tables, the app as a client of the provider and COUNT users. Prints for
// each the cookie of a session and the refresh token of a login through the provider.
//   node seed.js COUNT

import { createHash, randomBytes } from 'node:crypto';

import { getMigrations } from 'better-auth/db/migration';

import { auth, CLIENT_ID, RESOURCE } from './auth.js';

const { baseURL } = auth.options;
const REDIRECT = 'https://app.example.com/callback';

const { runMigrations } = await getMigrations(auth.options);
await runMigrations();

const call = (path, init = {}) =>
  auth.handler(new Request(`${baseURL}/api/auth${path}`, { method: 'POST', redirect: 'manual', ...init }));

async function signUp(number) {
  const user = { name: `user${number}`, email: `user${number}@example.com`, password: 'correct horse battery' };
  const headers = { 'content-type': 'application/json', origin: baseURL };
  const answer = await call('/sign-up/email', { headers, body: JSON.stringify(user) });
  return answer.headers.getSetCookie()[0].split(';')[0];
}

/** Goes through the authorization code flow with PKCE, as the app would. */
async function logIn(cookie) {
  const verifier = randomBytes(32).toString('base64url');
  const query = new URLSearchParams({
    response_type: 'code',
    client_id: CLIENT_ID,
    redirect_uri: REDIRECT,
    scope: 'offline_access',
    resource: RESOURCE,
    state: 'state',
    code_challenge: createHash('sha256').update(verifier).digest('base64url'),
    code_challenge_method: 'S256',
  });
  const redirect = await call(`/oauth2/authorize?${query}`, { method: 'GET', headers: { cookie } });
  const body = new URLSearchParams({
    grant_type: 'authorization_code',
    code: new URL(redirect.headers.get('location')).searchParams.get('code'),
    client_id: CLIENT_ID,
    redirect_uri: REDIRECT,
    code_verifier: verifier,
    resource: RESOURCE,
  });
  const answer = await call('/oauth2/token', { body });
  return (await answer.json()).refresh_token;
}

await auth.api.adminCreateOAuthClient({
  headers: new Headers({ cookie: await signUp('-operator') }),
  body: {
    client_name: 'App',
    redirect_uris: [REDIRECT],
    token_endpoint_auth_method: 'none',
    application_type: 'web',
    scope: 'offline_access',
    grant_types: ['authorization_code', 'refresh_token'],
    skip_consent: true,
  },
});
for (let number = 0; number < Number(process.argv[2]); number++) {
  const cookie = await signUp(number);
  console.log(JSON.stringify({ cookie, token: await logIn(cookie) }));
}
process.exit();
