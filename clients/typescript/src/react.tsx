'use client';

// React components and hooks for the signed-in user.

import { createContext, useContext, useMemo, useSyncExternalStore, type ReactNode } from 'react';

import type { ApiClient, User } from './api.js';
import { claims } from './storage.js';
import type { Dialect, TokenManager } from './tokens.js';

/** Whether a user is signed in, and which one. */
export interface AuthState {
  /** Whether a user is signed in. */
  isAuthenticated: boolean;
  /** Whether the session or the user is still being read. Show neither the login form nor the page yet. */
  isLoading: boolean;
  /** The user; `null` if nobody is signed in, while loading, and if the user could not be read (for example, offline). */
  user: User | null;
}

/** The result of {@link useAuth}: the state, and functions that never change. */
export interface Auth
  extends AuthState, Pick<TokenManager<Dialect>, 'login' | 'register' | 'logout' | 'refreshTokens'> {
  /** Reads the user again, for example after a change of the address. The user stays as it is if that fails. */
  reloadUser(): Promise<void>;
}

export interface AuthProviderProps {
  /** Create it once, outside of all components. */
  client: ApiClient<Dialect>;
  children?: ReactNode;
}

const Context = createContext<Auth | null>(null);

/**
 * Tells the components inside whether a user is signed in with this client, and which one. On a server, and until the
 * page is hydrated, `isLoading` is true.
 */
export function AuthProvider({ client, children }: AuthProviderProps) {
  const account = accountOf(client);
  const state = useSyncExternalStore(account.subscribe, account.getState, () => UNKNOWN);
  const auth = useMemo(() => ({ ...state, ...account.functions }), [state, account]);
  return <Context.Provider value={auth}>{children}</Context.Provider>;
}

/**
 * Returns the state, and `login`, `register`, `logout`, `refreshTokens` and `reloadUser`.
 *
 * @throws Error outside of an {@link AuthProvider}.
 */
export function useAuth(): Auth {
  const auth = useContext(Context);
  if (!auth) throw new Error('useAuth() must be called inside an <AuthProvider>.');
  return auth;
}

const UNKNOWN: AuthState = { isAuthenticated: false, isLoading: true, user: null };
const NOBODY: AuthState = { isAuthenticated: false, isLoading: false, user: null };

/**
 * The state of a client. It belongs to the client and not to a component, because components are mounted several times
 * (in StrictMode always) and the user is to be read once for each session.
 */
class Account {
  readonly functions;
  readonly #client: ApiClient<Dialect>;
  readonly #listeners = new Set<() => void>();
  #state = UNKNOWN;
  #isStarted = false;
  /** The id of the session that the state describes; `null` when signed out, `undefined` if it must be read again. */
  #session: string | null | undefined;

  constructor(client: ApiClient<Dialect>) {
    const { tokenManager } = client;
    this.#client = client;
    this.functions = {
      login: tokenManager.login.bind(tokenManager),
      register: tokenManager.register.bind(tokenManager),
      logout: tokenManager.logout.bind(tokenManager),
      refreshTokens: tokenManager.refreshTokens.bind(tokenManager),
      reloadUser: () => this.#reload(),
    };
  }

  readonly getState = () => this.#state;

  /** The first subscription starts it, so that rendering has no effects (on a server either). */
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

  /** Reads the user when the session changes. A refresh does not change it, and neither does a missing access token. */
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
    if (!user) this.#session = undefined; // Try again when the tokens change.
    this.#set({ isAuthenticated: true, isLoading: false, user });
  }

  async #reload(): Promise<void> {
    if (!this.#state.isAuthenticated) return;
    const session = this.#session;
    const user = await this.#client.me().catch(() => null);
    if (user && this.#session === session) this.#set({ isAuthenticated: true, isLoading: false, user });
  }

  #set(state: AuthState): void {
    this.#state = state;
    this.#listeners.forEach((listener) => listener());
  }
}

const accounts = new WeakMap<ApiClient<Dialect>, Account>();

function accountOf(client: ApiClient<Dialect>): Account {
  let account = accounts.get(client);
  if (!account) accounts.set(client, (account = new Account(client)));
  return account;
}
