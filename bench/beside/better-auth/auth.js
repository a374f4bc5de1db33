// better-auth with its sessions, JWTs for other services, and its OAuth provider,
// as its documentation recommends for a first-party app.

import { oauthProvider } from '@better-auth/oauth-provider';
import { betterAuth } from 'better-auth';
import { jwt } from 'better-auth/plugins';
import Database from 'better-sqlite3';
import pg from 'pg';

const { BASE_URL, POSTGRES, REUSE_INTERVAL, SECRET, SQLITE } = process.env;

/** The API that access tokens are for. With one, they are JWTs. */
export const RESOURCE = 'https://api.example.com';
/** The app, which the provider caches because it is trusted. */
export const CLIENT_ID = 'app';

function database() {
  if (POSTGRES) return new pg.Pool({ host: POSTGRES, user: 'postgres', database: 'postgres' });
  const database = new Database(SQLITE, { timeout: 20_000 });
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = FULL');
  return database;
}

export const auth = betterAuth({
  baseURL: BASE_URL,
  secret: SECRET,
  database: database(),
  emailAndPassword: { enabled: true },
  // All clients of the benchmark have one address.
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
  plugins: [
    jwt({ jwt: { expirationTime: '1h' } }),
    oauthProvider({
      loginPage: '/sign-in',
      consentPage: '/consent',
      generateClientId: () => CLIENT_ID,
      cachedTrustedClients: new Set([CLIENT_ID]),
      resources: [RESOURCE],
      clientRegistrationDefaultResources: [RESOURCE],
      cachedResources: new Set([RESOURCE]),
      refreshTokenReuseInterval: Number(REUSE_INTERVAL ?? 0),
    }),
  ],
});
