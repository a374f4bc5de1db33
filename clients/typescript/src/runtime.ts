// What the client needs of the runtime. React Native lacks some of it.

/**
 * Checks that the runtime has what the client needs.
 *
 * @throws TypeError naming what is missing.
 */
export function checkRuntime(fetch: unknown): void {
  const { AbortController, Headers, atob, crypto } = globalThis as Partial<typeof globalThis>;
  const needed = { AbortController, Headers, atob, 'crypto.getRandomValues': crypto?.getRandomValues, fetch };
  const missing = Object.entries(needed).flatMap(([name, value]) => (value ? [] : [name]));
  if (missing.length === 0) return;
  throw new TypeError(`This runtime lacks ${missing.join(', ')}. Load a polyfill before you create the client.`);
}

/** Throws the signal's reason if it is aborted. React Native's signals have no `throwIfAborted`. */
export function throwIfAborted(signal: AbortSignal | null | undefined): void {
  if (signal?.aborted) throw reasonOf(signal);
}

/** Why a signal was aborted: an `AbortError` where it does not say. */
export function reasonOf(signal: AbortSignal): unknown {
  return signal.reason ?? Object.assign(new Error('The operation was aborted.'), { name: 'AbortError' });
}

/** Whether a value is an instance of a global class, which not every runtime has. */
export function isInstance<Name extends 'Blob' | 'FormData' | 'ReadableStream' | 'URLSearchParams'>(
  value: unknown,
  name: Name,
): value is InstanceType<(typeof globalThis)[Name]> {
  const type: unknown = globalThis[name];
  return typeof type === 'function' && value instanceof type;
}
