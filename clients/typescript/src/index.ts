// The public interface of the package.

export { ApiClient, createClient, type ApiClientOptions, type RequestOptions, type Session, type User } from './api.js';
export { FreshkeyError, type ErrorCode, type FieldError } from './errors.js';
export { takeLinkToken } from './link.js';
export type { StoredSession, Tokens, TokenStorage } from './storage.js';
export {
  TokenManager,
  type Authorization,
  type Credentials,
  type Dialect,
  type LexikLoginAnswer,
  type LexikUser,
  type LoginAnswer,
  type Registration,
  type SignedOutReason,
  type TokenManagerOptions,
  type V1LoginAnswer,
} from './tokens.js';
