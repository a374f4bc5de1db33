/** What is wrong with one field of a request. */
export interface FieldError {
  field: string;
  code: string;
  message: string;
}

/** What a request came to when it did not succeed. No message holds a token or a password. */
export class FreshkeyError extends Error {
  override readonly name = 'FreshkeyError';
  /** The status of the answer; 0: no answer came. */
  readonly status: number;
  /**
   * The server's stable code (`invalid_credentials`, `email_taken`, `rate_limited`, …), or one of the client's own:
   * `network` (no answer came), `unreadable` (an answer without what it should bring), `not_signed_in`.
   */
  readonly code: string;
  /** The fields that are at fault, for `validation_failed`. */
  readonly fields: readonly FieldError[];
  /** How long to wait before another try, in seconds, where the server said so. */
  readonly retryAfter: number | undefined;
  /** What the operator can find the request by. */
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
