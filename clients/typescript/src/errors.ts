/** The codes of the server, and `email_unverified` and `forbidden` of an API with its middleware. */
export type ErrorCode =
  | 'invalid_request'
  | 'invalid_credentials'
  | 'invalid_token'
  | 'invalid_refresh_token'
  | 'invalid_link'
  | 'forbidden'
  | 'email_unverified'
  | 'origin_not_allowed'
  | 'not_found'
  | 'email_taken'
  | 'payload_too_large'
  | 'unsupported_media_type'
  | 'validation_failed'
  | 'rate_limited'
  | 'internal'
  | 'temporarily_unavailable';

/** What is wrong with one field of a request. */
export interface FieldError {
  field: string;
  code: string;
  message: string;
}

type ClientCode = 'network' | 'unreadable' | 'not_signed_in' | 'storage';

/** A request that failed. No message contains a token or a password. */
export class FreshkeyError extends Error {
  override readonly name = 'FreshkeyError';
  /** The HTTP status of the answer; 0 if there was none. */
  readonly status: number;
  /**
   * The server's stable {@link ErrorCode}. An answer without one gets its code from the status (`http_409` where none is
   * defined). The client's own codes are `network` (no answer arrived), `unreadable` (the answer lacks what it must
   * contain), `not_signed_in` and `storage` (the app's token storage threw). Any other code is one of your own API's.
   */
  readonly code: ErrorCode | ClientCode | (string & {});
  /** The invalid fields, for `validation_failed`. */
  readonly fields: readonly FieldError[];
  /** How many seconds to wait before trying again, if the server said so. */
  readonly retryAfter: number | undefined;
  /** The id by which the operator finds the request in the logs. */
  readonly requestId: string | undefined;

  constructor(
    message: string,
    about: {
      code: string;
      status?: number | undefined;
      fields?: readonly FieldError[] | undefined;
      retryAfter?: number | undefined;
      requestId?: string | undefined;
      cause?: unknown;
    },
  ) {
    super(message, { cause: about.cause });
    this.code = about.code;
    this.status = about.status ?? 0;
    this.fields = about.fields ?? [];
    this.retryAfter = about.retryAfter;
    this.requestId = about.requestId;
  }
}
