// @vitest-environment happy-dom
//
// The provider and the hook, in a page on another origin, against the real system behind a proxy that records requests.

import { act, cleanup, configure, render, screen, waitFor } from '@testing-library/react';
import { StrictMode, type ReactNode } from 'react';
import { hydrateRoot } from 'react-dom/client';
import { renderToString } from 'react-dom/server';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';

import { ApiClient, TokenManager, type Dialect, type StoredSession, type TokenManagerOptions } from '../src/index.js';
import { AuthProvider, useAuth, type Auth } from '../src/react.js';
import { signedUp, somebody, startWorld, type World } from './world.js';

const ME = 'GET /api/v1/users/me';

let world: World;
const complaints = vi.spyOn(console, 'error');
configure({ asyncUtilTimeout: 20_000 });

beforeAll(async () => {
  world = await startWorld({ ALLOWED_ORIGINS: location.origin });
});
afterAll(() => world.stop());
beforeEach(() => {
  localStorage.clear();
  world.proxy.set({});
  world.proxy.requests.length = 0;
  complaints.mockClear();
});
afterEach(() => {
  cleanup();
  expect(complaints).not.toHaveBeenCalled();
});

/** A client, and what `useAuth` returned at each rendering. */
function app(tokens: TokenManager<Dialect>) {
  const client = new ApiClient(world.url, tokens);
  const seen: Auth[] = [];
  function Page() {
    const auth = useAuth();
    seen.push(auth);
    return <p>{words(auth)}</p>;
  }
  const page = (
    <AuthProvider client={client}>
      <Page />
    </AuthProvider>
  );
  return { client, seen, page, auth: () => seen.at(-1)! };
}

/** What a page would show. */
function words({ isLoading, isAuthenticated, user }: Auth): string {
  if (isLoading) return 'loading';
  if (!isAuthenticated) return 'signed out';
  return user ? `signed in as ${user.email}` : 'signed in';
}

/** What was shown, in order and without repetitions. */
function story(seen: Auth[]): string[] {
  return seen.map(words).filter((text, n, all) => text !== all[n - 1]);
}

async function shows(text: string): Promise<void> {
  await screen.findByText(text, undefined, { timeout: 20_000 });
}

describe.each<Dialect>(['v1', 'lexik'])('in the %s dialect', (dialect) => {
  test('a user registers, signs out and signs in', async () => {
    const { seen, page, auth } = app(new TokenManager(world.url, { dialect }));
    const ada = somebody();
    render(page);
    await shows('signed out');
    await act(() => auth().register({ ...ada, first_name: 'Ada' }));
    await shows(`signed in as ${ada.email}`);
    expect(auth().user).toMatchObject({ first_name: 'Ada', roles: ['ROLE_USER'] });
    await act(() => auth().logout());
    await shows('signed out');
    expect(auth().user).toBeNull();
    await act(() => auth().login(ada));
    await shows(`signed in as ${ada.email}`);
    const [loading, name] = ['loading', `signed in as ${ada.email}`];
    expect(story(seen)).toEqual([loading, 'signed out', loading, name, 'signed out', loading, name]);
    expect(world.count(ME)).toBe(2);
  });
});

test('a wrong password is an error of the caller, and changes nothing', async () => {
  const { tokens, credentials } = await signedUp(world);
  const { seen, page, auth } = app(tokens);
  render(page);
  await shows(`signed in as ${credentials.email}`);
  const wrong = auth().login({ ...credentials, password: 'not that one' });
  await act(() => expect(wrong).rejects.toMatchObject({ code: 'invalid_credentials' }));
  expect(story(seen)).toEqual(['loading', `signed in as ${credentials.email}`]);
});

test('a stored session is loaded before anything else is shown', async () => {
  const { credentials } = await signedUp(world, { storage: 'localStorage' });
  const { seen, page } = app(new TokenManager(world.url, { storage: 'localStorage' }));
  render(page);
  await shows(`signed in as ${credentials.email}`);
  expect(story(seen)).toEqual(['loading', `signed in as ${credentials.email}`]);
});

test('the provider waits for a slow storage', async () => {
  const { tokens, credentials } = await signedUp(world);
  const stored = tokens.getTokens()!;
  const storage = { load: () => Promise.resolve(stored), save: () => {} };
  const { seen, page } = app(new TokenManager(world.url, { storage }));
  render(page);
  await shows(`signed in as ${credentials.email}`);
  expect(story(seen)).toEqual(['loading', `signed in as ${credentials.email}`]);
});

test('the user is read once, in StrictMode and with two providers of one client', async () => {
  const { tokens, credentials } = await signedUp(world);
  const { page } = app(tokens);
  const twice = (
    <StrictMode>
      {page}
      {page}
    </StrictMode>
  );
  render(twice);
  await waitFor(() => expect(screen.getAllByText(`signed in as ${credentials.email}`)).toHaveLength(2));
  expect(world.count(ME)).toBe(1);
});

test('a refresh keeps the user and renders nothing', async () => {
  const { tokens, credentials } = await signedUp(world);
  const { seen, page, auth } = app(tokens);
  render(page);
  await shows(`signed in as ${credentials.email}`);
  const { user } = auth();
  const renderings = seen.length;
  const before = tokens.getAccessToken();
  await act(() => auth().refreshTokens());
  expect(tokens.getAccessToken()).not.toBe(before);
  expect(auth().user).toBe(user);
  expect(seen).toHaveLength(renderings);
  expect(world.count(ME)).toBe(1);
});

test('the functions never change', async () => {
  const { seen, page, auth } = app(new TokenManager(world.url));
  render(page);
  await shows('signed out');
  await act(() => auth().register(somebody()));
  await waitFor(() => expect(auth().user).not.toBeNull());
  for (const name of ['login', 'register', 'logout', 'refreshTokens', 'reloadUser'] as const) {
    expect(new Set(seen.map((auth) => auth[name])).size).toBe(1);
  }
});

test('reloadUser reads the user again, and keeps the one that is shown if that fails', async () => {
  const { tokens, credentials } = await signedUp(world);
  const { client, seen, page, auth } = app(tokens);
  render(page);
  await shows(`signed in as ${credentials.email}`);
  await client.patch('/api/v1/users/me', { first_name: 'Ada' });
  world.proxy.set({ only: ME, dropRequest: 1 });
  await act(() => auth().reloadUser());
  expect(auth().user).toMatchObject({ email: credentials.email, first_name: null });
  world.proxy.set({});
  await act(() => auth().reloadUser());
  expect(auth().user).toMatchObject({ email: credentials.email, first_name: 'Ada' });
  expect(story(seen)).toEqual(['loading', `signed in as ${credentials.email}`]);

  world.proxy.requests.length = 0;
  await act(() => auth().logout());
  await act(() => auth().reloadUser());
  expect(auth().isAuthenticated).toBe(false);
  expect(world.count(ME)).toBe(0);
});

test('the user of a session that has ended meanwhile is not shown', async () => {
  const { tokens } = await signedUp(world);
  const { page, auth } = app(tokens);
  render(page);
  await waitFor(() => expect(auth().user).not.toBeNull());
  world.proxy.requests.length = 0;
  world.proxy.set({ only: ME });
  world.proxy.next('hold');
  const reloaded = auth().reloadUser();
  await waitFor(() => expect(world.count(ME)).toBe(1));
  await act(() => auth().logout());
  world.proxy.release();
  await act(() => reloaded);
  expect(words(auth())).toBe('signed out');
  expect(auth().user).toBeNull();
});

test('the user is signed out when the server has ended the session', async () => {
  const { tokens, credentials, told } = await signedUp(world);
  const { client, page, auth } = app(tokens);
  render(page);
  await shows(`signed in as ${credentials.email}`);
  const other = new TokenManager(world.url);
  await other.login(credentials);
  await new ApiClient(world.url, other).logoutEverywhere();
  await act(() => expect(auth().refreshTokens()).rejects.toMatchObject({ code: 'invalid_refresh_token' }));
  await shows('signed out');
  expect(told.at(-1)).toBe('session_ended');
  await expect(client.me()).rejects.toMatchObject({ status: 401 });
});

test('if the user cannot be read, it is null until the tokens change', async () => {
  const { tokens, credentials } = await signedUp(world);
  world.proxy.set({ only: ME, dropRequest: 1 });
  const { page, auth } = app(tokens);
  render(page);
  await shows('signed in');
  expect(auth()).toMatchObject({ isAuthenticated: true, isLoading: false, user: null });
  world.proxy.set({});
  await act(() => auth().refreshTokens());
  await shows(`signed in as ${credentials.email}`);
});

test('a late answer is not shown after another user has signed in', async () => {
  const { tokens } = await signedUp(world);
  const { credentials: second } = await signedUp(world);
  world.proxy.set({ only: ME });
  world.proxy.next('hold');
  const { seen, page, auth } = app(tokens);
  render(page);
  await waitFor(() => expect(world.count(ME)).toBe(1));
  await act(() => auth().login(second));
  await shows(`signed in as ${second.email}`);
  world.proxy.release();
  await act(() => auth().refreshTokens());
  expect(story(seen)).toEqual(['loading', `signed in as ${second.email}`]);
});

test('nothing is rendered after unmounting, and mounting again shows the current user', async () => {
  const { tokens, credentials } = await signedUp(world);
  world.proxy.set({ only: ME });
  world.proxy.next('hold');
  const { seen, page } = app(tokens);
  const { unmount } = render(page);
  await waitFor(() => expect(world.count(ME)).toBe(1));
  unmount();
  const renderings = seen.length;
  world.proxy.release();
  await tokens.logout();
  await tokens.login(credentials);
  await waitFor(() => expect(world.count(ME)).toBe(2));
  expect(seen).toHaveLength(renderings);
  render(page);
  await shows(`signed in as ${credentials.email}`);
  expect(world.count(ME)).toBe(2);
});

describe('another tab', () => {
  const options: TokenManagerOptions = { storage: 'localStorage' };

  /** Does something in another tab, and dispatches the storage events that a browser would send to this one. */
  async function elsewhere(change: (other: TokenManager) => Promise<unknown>): Promise<void> {
    const before = { ...localStorage };
    const other = new TokenManager(world.url, options);
    await act(async () => {
      await change(other);
      other.close();
      for (const key of new Set([...Object.keys(before), ...Object.keys(localStorage)])) {
        const [oldValue, newValue] = [before[key] ?? null, localStorage.getItem(key)];
        if (oldValue === newValue) continue;
        window.dispatchEvent(new StorageEvent('storage', { key, oldValue, newValue, storageArea: localStorage }));
      }
    });
  }

  test('is followed when it signs in, changes the user and signs out', async () => {
    const { credentials: first } = await signedUp(world);
    const { credentials: second } = await signedUp(world);
    const { page } = app(new TokenManager(world.url, options));
    render(page);
    await shows('signed out');
    await elsewhere((other) => other.login(first));
    await shows(`signed in as ${first.email}`);
    await elsewhere((other) => other.login(second));
    await shows(`signed in as ${second.email}`);
    await elsewhere((other) => other.logout());
    await shows('signed out');
  });
});

test('a page does not change while an access token is on its way', async () => {
  const { tokens, credentials } = await signedUp(world);
  let record: StoredSession = { ...tokens.getTokens()!, key: 'a' };
  let hear = () => {};
  const { seen, page } = app(
    new TokenManager(world.url, {
      storage: {
        load: () => record,
        save: (session) => void (record = session!),
        subscribe: (listener) => ((hear = listener), () => {}),
      },
    }),
  );
  render(page);
  await shows(`signed in as ${credentials.email}`);
  for (const access_token of ['', record.access_token]) {
    record = { ...record, access_token };
    await act(async () => hear());
  }
  await new Promise(setImmediate);
  expect(story(seen)).toEqual(['loading', `signed in as ${credentials.email}`]);
  expect(world.count(ME)).toBe(1);
});

describe('on a server', () => {
  test.each(['memory', 'localStorage'] as const)(
    'with %s storage it is loading, and sends no request',
    async (storage) => {
      const { tokens } = await signedUp(world, { storage });
      expect(renderToString(app(tokens).page)).toBe('<p>loading</p>');
      expect(world.count(ME)).toBe(0);
    },
  );

  test('a page is hydrated without a mismatch, whatever is known by then', async () => {
    const { tokens, credentials } = await signedUp(world, { storage: 'localStorage' });
    const { page } = app(tokens);
    const html = renderToString(page);
    const { unmount } = render(page);
    await shows(`signed in as ${credentials.email}`);
    unmount();
    const container = document.body.appendChild(document.createElement('div'));
    container.innerHTML = html;
    const onRecoverableError = vi.fn();
    const root = await act(async () => hydrateRoot(container, page, { onRecoverableError }));
    await shows(`signed in as ${credentials.email}`);
    expect(onRecoverableError).not.toHaveBeenCalled();
    await act(async () => root.unmount());
    container.remove();
  });
});

test('useAuth without a provider says what is missing', () => {
  complaints.mockImplementation(() => {}); // React's own words about it
  const Lost = (): ReactNode => useAuth().user?.email;
  expect(() => render(<Lost />)).toThrow('<AuthProvider>');
  complaints.mockReset();
});
