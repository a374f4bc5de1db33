import { createClient, type ApiClient, type SignedOutReason } from '@freshkey/client';

const url: string = import.meta.env.VITE_API_URL ?? 'http://localhost:3000';

/** A client for the API, with the refresh token in a cookie that no script can read. */
export function connect(onSignedOut: (reason: SignedOutReason) => void): ApiClient {
  return createClient(url, { storage: 'cookie', onSignedOut });
}
