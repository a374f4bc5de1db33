import { ApiClient, FreshkeyError, type SignedOutReason, TokenManager } from '../../../clients/typescript/src/index.js';
import { decode, generation } from './jwt.js';
import type { Exchange, Wire } from './wire.js';

export type { SignedOutReason };

export interface Credentials {
  email: string;
  password: string;
}

export type Mode = 'localStorage' | 'cookie';

const MODE = 'page_mode';
const COUNTED = 'page_generation';

/**
 * The generation of the refresh token in the cookie. No script can read the
 * cookie, so the tabs count the refreshes since the sign-in.
 */
export const counted = {
  read: (): number | undefined => Number(localStorage.getItem(COUNTED) ?? NaN) || undefined,
  note({ actor, state, issued }: Exchange): void {
    if (actor === 'client' && state === 'answered' && issued) localStorage.setItem(COUNTED, String(issued));
  },
};

/** The real client, in the mode that the server requires. */
export class Client {
  manager!: TokenManager;
  api!: ApiClient;
  mode!: Mode;
  readonly #wire: Wire;
  readonly #onChange: () => void;
  readonly #onSignedOut: (reason: SignedOutReason) => void;

  constructor(wire: Wire, onChange: () => void, onSignedOut: (reason: SignedOutReason) => void) {
    this.#wire = wire;
    this.#onChange = onChange;
    this.#onSignedOut = onSignedOut;
    this.#start(localStorage.getItem(MODE) === 'cookie' ? 'cookie' : 'localStorage');
  }

  /** The session id in the access token. */
  get session(): string | undefined {
    const token = this.manager.getAccessToken();
    return token === null ? undefined : String(decode(token).claims.sid);
  }

  /** The generation of the refresh token that the client holds. */
  get generation(): number {
    return generation(this.manager.getTokens()?.refresh_token) ?? counted.read() ?? 1;
  }

  /**
   * Registers or logs in. A server that requires the cookie answers 403 to a
   * client without it. That is how the page finds out.
   */
  async enter(how: 'register' | 'login', credentials: Credentials): Promise<void> {
    this.#start('localStorage');
    try {
      await this.manager[how](credentials);
    } catch (error) {
      if (!(error instanceof FreshkeyError && error.code === 'origin_not_allowed')) throw error;
      this.#start('cookie');
      await this.manager[how](credentials);
    }
  }

  /** Moves the local system's clock ahead. */
  async moveClock(seconds: number): Promise<void> {
    const answer = await this.#wire.as('client')('/.local/clock', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ advance_seconds: seconds }),
    });
    if (!answer.ok) throw new Error(`The server did not move its clock: ${answer.status}.`);
  }

  #start(mode: Mode): void {
    if (this.mode === mode) return;
    this.manager?.close();
    localStorage.setItem(MODE, mode);
    this.mode = mode;
    const fetch = this.#wire.as('client');
    this.manager = new TokenManager(location.origin, { storage: mode, fetch, onSignedOut: this.#onSignedOut });
    this.api = new ApiClient(location.origin, this.manager, { fetch });
    this.manager.subscribe(this.#onChange);
  }
}

/** Returns what went wrong, field by field if fields were wrong. */
export function explain(error: unknown): string {
  const fields = error instanceof FreshkeyError ? error.fields.map(({ message }) => message) : [];
  return fields.join(' ') || (error as Error).message;
}
