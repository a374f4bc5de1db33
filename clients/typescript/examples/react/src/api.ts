import { ApiClient, TokenManager, type SignedOutReason } from '@freshkey/client';

const url: string = import.meta.env.VITE_API_URL ?? 'http://localhost:3000';

/** The API, with the refresh token in a cookie that no script can read. */
export function connect(onSignedOut: (reason: SignedOutReason) => void): ApiClient {
  return new ApiClient(url, new TokenManager(url, { storage: 'cookie', onSignedOut }));
}
