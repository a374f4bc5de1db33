// What the tabs of a browser share: localStorage and its events, Web Locks and a cookie jar. tests/browser runs the client
// in a real one; this one can be stopped between any two writes.

/** Several tabs of one page. */
export class Browser {
  /** The number of characters for which `localStorage` has room. */
  room = Infinity;
  /** Whether a value's own room counts as free when it is replaced. */
  isReplacing = true;
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

  /** Lets so many writes happen; after them nothing is written, as if the page had died. */
  allowWrites(count: number): void {
    this.#writesLeft = count;
  }

  /** Whether a write was prevented since the last call of `allowWrites`. */
  get isDead(): boolean {
    return this.#writesLeft < 0;
  }

  /** Deletes what scripts have stored, as Safari does after seven days. The cookies stay. */
  wipe(): void {
    this.#items.clear();
  }

  /** Returns what `make` creates in a new tab. Its synchronous code sees the tab as `window`. */
  inTab<T>(make: () => T): T {
    Object.assign(globalThis, { window: this.window() });
    try {
      return make();
    } finally {
      delete (globalThis as { window?: unknown }).window;
    }
  }

  /** The `window` of a new tab. */
  window(): EventTarget & { localStorage?: unknown } {
    const tab: EventTarget & { localStorage?: unknown } = new EventTarget();
    const write = (key: string, newValue: string | null) => {
      if (this.item(key) === newValue) return;
      if (this.#writesLeft-- <= 0) throw new Error('The page has died.');
      if (newValue === null) this.#items.delete(key);
      else this.#store(key, newValue);
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

  #store(key: string, value: string): void {
    const others = [...this.#items].filter(([name]) => name !== key || !this.isReplacing);
    const size = [...others, [key, value]].reduce((sum, [name, text]) => sum + name!.length + text!.length, 0);
    if (size > this.room) throw new DOMException('The quota has been exceeded.', 'QuotaExceededError');
    this.#items.set(key, value);
  }

  /** The `fetch` of a page, which sends its `Origin` and the cookies of this browser. */
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

  /** The names of the cookies. */
  cookies(): string[] {
    return [...this.#cookies.keys()];
  }

  close(): void {
    this.#tabs.clear();
  }
}

/** Web Locks as specified: each has one holder, first come, first served. `names` are those that were requested. */
export function webLocks() {
  const last = new Map<string, Promise<unknown>>();
  return {
    get names() {
      return [...last.keys()];
    },
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
