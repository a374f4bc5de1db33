// The client in a runtime like React Native: the built package in a context that has only what React Native has, with the
// polyfills that it uses (abort-controller, whatwg-fetch) and those that apps add.

import { join } from 'node:path';
import { createContext, runInContext, type Context } from 'node:vm';

import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import type { ApiClient, TokenManagerOptions } from '../src/index.js';
import { somebody, startWorld, type World } from './world.js';

const REFRESH = 'POST /api/v1/auth/refresh';

let world: World;
let program: string;

beforeAll(async () => {
  world = await startWorld();
  const contents = `
    import { AbortController } from 'abort-controller';
    import { Headers, Response } from 'whatwg-fetch';
    import { attach } from '../src/axios.js';
    import { createClient } from '../src/index.js';
    if (!('AbortController' in globalThis)) Object.assign(globalThis, { AbortController, Headers, Response });
    Object.assign(globalThis, { attach, createClient });
  `;
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: join(import.meta.dirname), loader: 'ts' },
    bundle: true,
    format: 'iife',
    write: false,
    platform: 'neutral',
    mainFields: ['module', 'main'],
    banner: { js: 'globalThis.self = globalThis.window = globalThis;' },
  });
  program = outputFiles[0]!.text;
});
afterAll(() => world.stop());

type Native = Context & {
  createClient: (url: string, options?: TokenManagerOptions) => ApiClient;
  attach: (instance: unknown, tokenManager: unknown) => void;
  AbortController: typeof AbortController;
};

/** A React Native runtime, with these additions to its globals. */
function native(additions: Record<string, unknown> = {}): Native {
  const context: Native = createContext({
    setTimeout,
    clearTimeout,
    queueMicrotask,
    navigator: { product: 'ReactNative' },
    Blob,
    FormData,
    // Node's `fetch`, which refuses signals and headers of other classes, and answers with a Response without streams.
    fetch: async (url: string, { signal, headers, ...init }: RequestInit = {}) => {
      const controller = new AbortController();
      signal?.addEventListener('abort', () => controller.abort());
      const plain: Record<string, string> = {};
      new context.Headers(headers).forEach((value: string, name: string) => (plain[name] = value));
      const answer = await fetch(url, { ...init, headers: plain, signal: controller.signal });
      const { status } = answer;
      return new context.Response(await answer.text(), { status, headers: Object.fromEntries(answer.headers) });
    },
    ...additions,
  }) as Native;
  runInContext(program, context);
  return context;
}

/** What an app adds: react-native-get-random-values, and base-64 before React Native 0.74. */
const POLYFILLS = {
  crypto: { getRandomValues: (bytes: Uint8Array<ArrayBuffer>) => crypto.getRandomValues(bytes) },
  atob,
};

describe('with polyfills', () => {
  test('the runtime has neither what browsers have, nor signals as they are today', () => {
    const { signal } = new (native().AbortController)();
    expect(signal.throwIfAborted).toBeUndefined();
    expect(signal.reason).toBeUndefined();
    for (const name of ['ReadableStream', 'URL', 'URLSearchParams', 'BroadcastChannel', 'localStorage', 'document']) {
      expect(runInContext(`typeof ${name}`, native())).toBe('undefined');
    }
  });

  test('a user registers, calls, refreshes through lost answers, and signs out', async () => {
    const { createClient } = native(POLYFILLS);
    const client = createClient(world.url);
    const ada = somebody();
    await client.register(ada);
    world.proxy.set({ only: REFRESH });
    world.proxy.next('dropAnswer', 'unavailable');
    await client.tokenManager.refreshTokens();
    expect((await client.me()).email).toBe(ada.email);
    expect(await client.patch('/api/v1/users/me', { first_name: 'Ada' })).toMatchObject({ first_name: 'Ada' });
    await client.logout();
    await client.login(ada);
    expect(client.tokenManager.isSignedIn).toBe(true);
    expect(new Set(world.sent(REFRESH, 'idempotency-key')).size).toBe(1);
  });

  test('a storage of the app keeps the session', async () => {
    const { createClient } = native(POLYFILLS);
    let record = null as never;
    const storage = { load: async () => record, save: async (session: unknown) => void (record = session as never) };
    await createClient(world.url, { storage }).register(somebody());
    const back = createClient(world.url, { storage });
    await back.tokenManager.ready;
    await back.tokenManager.refreshTokens();
    expect(back.tokenManager.isSignedIn).toBe(true);
  });

  test('an aborted call throws an AbortError, before and after it is sent', async () => {
    const { createClient, AbortController } = native(POLYFILLS);
    const client = createClient(world.url);
    const controller = new AbortController();
    world.proxy.set({});
    world.proxy.next('hold');
    const calls = [client.get('/api/v1/users/me', { signal: controller.signal })];
    await new Promise(setImmediate);
    controller.abort();
    calls.push(client.get('/api/v1/users/me', { signal: controller.signal }));
    for (const call of calls) await expect(call).rejects.toMatchObject({ name: 'AbortError' });
    world.proxy.release();
  });
});

describe('without polyfills', () => {
  test.each([
    ['crypto.getRandomValues', { atob }],
    ['crypto.getRandomValues', { atob, crypto: {} }],
    ['atob', { crypto: POLYFILLS.crypto }],
    ['Headers', { ...POLYFILLS, AbortController, Headers: undefined }],
    ['AbortController', { ...POLYFILLS, AbortController: undefined, Headers }],
  ])('the constructor names what is missing: %s', (name, additions) => {
    expect(() => native(additions).createClient(world.url)).toThrow(`This runtime lacks ${name}. Load a polyfill`);
  });

  test('attach names the URL, which React Native implements only in part', () => {
    class URL {
      get host(): string {
        throw new Error('not implemented');
      }
    }
    const { createClient, attach } = native({ ...POLYFILLS, URL });
    const instance = { defaults: {}, interceptors: {} };
    expect(() => attach(instance, createClient(world.url).tokenManager)).toThrow('URL.host');
  });
});
