'use client';

// Who is signed in, for React.

import { createContext, useContext, useMemo, useSyncExternalStore, type ReactNode } from 'react';

import type { ApiClient, User } from './api.js';
import { claims } from './storage.js';
import type { TokenManager } from './tokens.js';

/** Who is signed in. */
export interface AuthState {
  /** Whether somebody is. */
  isAuthenticated: boolean;
  /** Whether that, or who it is, is still being found out: show neither the login form nor a page yet. */
  isLoading: boolean;
  /** Who it is; `null` for nobody, while loading, and where the user could not be read (offline, say). */
  user: User | null;
}

/** What {@link useAuth} gives: who is signed in, and the token manager's functions, the same ones at every call. */
export interface Auth extends AuthState, Pick<TokenManager, 'login' | 'register' | 'logout' | 'refreshTokens'> {}

export interface AuthProviderProps {
  /** Made once, outside of every component. */
  client: ApiClient;
  children?: ReactNode;
}

const Context = createContext<Auth | null>(null);

/**
 * Tells the components inside who is signed in with this client. On a server, and until the page has come alive, that
 * is `isLoading`.
 */
export function AuthProvider({ client, children }: AuthProviderProps) {
  const account = accountOf(client);
  const state = useSyncExternalStore(account.subscribe, account.getState, () => UNKNOWN);
  const auth = useMemo(() => ({ ...state, ...account.functions }), [state, account]);
  return <Context.Provider value={auth}>{children}</Context.Provider>;
}

/**
 * Who is signed in, and `login`, `register`, `logout` and `refreshTokens`.
 *
 * @throws Error outside of an {@link AuthProvider}.
 */
export function useAuth(): Auth {
  const auth = useContext(Context);
  if (!auth) throw new Error('useAuth() needs an <AuthProvider> around it.');
  return auth;
}

const UNKNOWN: AuthState = { isAuthenticated: false, isLoading: true, user: null };
const NOBODY: AuthState = { isAuthenticated: false, isLoading: false, user: null };

/**
 * The state of a client. It belongs to the client, not to a component: those come and go, twice over in StrictMode, and
 * the user is read once for each session.
 */
class Account {
  readonly functions;
  readonly #client: ApiClient;
  readonly #listeners = new Set<() => void>();
  #state = UNKNOWN;
  #isStarted = false;
  /** The session that the state is of: its id, `null` when signed out, `undefined` where that is to be found out. */
  #session: string | null | undefined;

  constructor(client: ApiClient) {
    const { tokenManager } = client;
    this.#client = client;
    this.functions = {
      login: tokenManager.login.bind(tokenManager),
      register: tokenManager.register.bind(tokenManager),
      logout: tokenManager.logout.bind(tokenManager),
      refreshTokens: tokenManager.refreshTokens.bind(tokenManager),
    };
  }

  readonly getState = () => this.#state;

  /** Nothing happens before the first subscription: rendering, on a server too, has no effects. */
  readonly subscribe = (listener: () => void) => {
    this.#listeners.add(listener);
    if (!this.#isStarted) {
      this.#isStarted = true;
      const { tokenManager } = this.#client;
      const follow = () => void tokenManager.ready.then(() => this.#follow());
      tokenManager.subscribe(follow);
      follow();
    }
    return () => void this.#listeners.delete(listener);
  };

  /** A refresh changes the tokens, not the session, whose user stays: also while there is no access token yet. */
  #follow(): void {
    const { tokenManager } = this.#client;
    const { sid } = claims(tokenManager.getAccessToken() ?? '');
    const session = tokenManager.isSignedIn ? (sid ?? this.#session ?? '') : null;
    if (session === this.#session) return;
    this.#session = session;
    if (session === null) this.#set(NOBODY);
    else void this.#load(session);
  }

  async #load(session: string): Promise<void> {
    this.#set({ isAuthenticated: true, isLoading: true, user: null });
    const user = await this.#client.me().catch(() => null);
    if (this.#session !== session) return;
    if (!user) this.#session = undefined; // The next change of the tokens is another chance.
    this.#set({ isAuthenticated: true, isLoading: false, user });
  }

  #set(state: AuthState): void {
    this.#state = state;
    this.#listeners.forEach((listener) => listener());
  }
}

const accounts = new WeakMap<ApiClient, Account>();

function accountOf(client: ApiClient): Account {
  let account = accounts.get(client);
  if (!account) accounts.set(client, (account = new Account(client)));
  return account;
}
