// As much of a browser as tabs share: one localStorage, its events, Web Locks and a cookie jar. Real browsers have tests of
// their own; here what a test must be able to stop half-way.

/** Several tabs of one page. */
export class Browser {
  /** Called after each write. */
  onWrite = () => {};
  readonly #items = new Map<string, string>();
  readonly #tabs = new Set<EventTarget & { localStorage?: unknown }>();
  readonly #cookies = new Map<string, string>();
  #writesLeft = Infinity;

  item(name: string): string | null {
    return this.#items.get(name) ?? null;
  }

  items(): string[] {
    return [...this.#items.keys()];
  }

  set(items: Record<string, string>): void {
    for (const [name, value] of Object.entries(items)) this.#items.set(name, value);
  }

  /** From then on writes fail, as if the page had died. */
  allowWrites(count: number): void {
    this.#writesLeft = count;
  }

  /** What `make` makes in a tab of its own, which it sees while it runs synchronously. */
  inTab<T>(make: () => T): T {
    Object.assign(globalThis, { window: this.window() });
    try {
      return make();
    } finally {
      delete (globalThis as { window?: unknown }).window;
    }
  }

  /** A new tab. */
  window(): EventTarget & { localStorage?: unknown } {
    const tab: EventTarget & { localStorage?: unknown } = new EventTarget();
    const write = (key: string, newValue: string | null) => {
      if (this.item(key) === newValue) return;
      if (this.#writesLeft-- <= 0) throw new Error('The page has died.');
      if (newValue === null) this.#items.delete(key);
      else this.#items.set(key, newValue);
      this.onWrite();
      for (const other of this.#tabs) {
        if (other === tab) continue;
        other.dispatchEvent(Object.assign(new Event('storage'), { key, newValue, storageArea: other.localStorage }));
      }
    };
    tab.localStorage = {
      getItem: (key: string) => this.item(key),
      setItem: (key: string, value: string) => write(key, value),
      removeItem: (key: string) => write(key, null),
    };
    this.#tabs.add(tab);
    return tab;
  }

  /** `fetch` as of a page, with its `Origin` and the cookies of this browser. */
  fetchFrom(origin: string): typeof fetch {
    return async (url, init) => {
      const headers = new Headers(init?.headers);
      headers.set('origin', origin);
      if (init?.credentials === 'include' && this.#cookies.size > 0) {
        headers.set('cookie', Array.from(this.#cookies, ([name, value]) => `${name}=${value}`).join('; '));
      }
      const answer = await fetch(url, { ...init, headers });
      for (const cookie of answer.headers.getSetCookie()) {
        const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie) ?? [];
        if (!name) continue;
        if (value && !/max-age=0/i.test(cookie)) this.#cookies.set(name, value);
        else this.#cookies.delete(name);
      }
      return answer;
    };
  }

  /** The names of the cookies that it holds. */
  cookies(): string[] {
    return [...this.#cookies.keys()];
  }

  close(): void {
    this.#tabs.clear();
  }
}

/** Web Locks, in the way of the specification as far as it goes here: one holder of each, first come, first served. */
export function webLocks() {
  const last = new Map<string, Promise<unknown>>();
  return {
    request<T>(name: string, { signal }: { signal?: AbortSignal }, run: () => Promise<T>): Promise<T> {
      return new Promise((resolve, reject) => {
        const abort = () => reject(signal!.reason as Error);
        signal?.addEventListener('abort', abort);
        const turn = (last.get(name) ?? Promise.resolve()).then(() => {
          if (signal?.aborted) return;
          signal?.removeEventListener('abort', abort);
          const held = run();
          resolve(held);
          return held;
        });
        last.set(
          name,
          turn.catch(() => {}),
        );
      });
    },
  };
}
