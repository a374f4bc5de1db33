// The types of tests/support, which is JavaScript.

declare module '*/support/local.js' {
  export function startLocal(options?: { variables?: Record<string, string>; args?: string[] }): Promise<{
    url: string;
    stop(): Promise<void>;
    kill(): Promise<void>;
    log(): string;
  }>;
}

declare module '*/support/proxy.js' {
  export interface Proxy {
    url: string;
    target: string;
    requests: {
      method: string;
      path: string;
      headers: Record<string, string>;
      fault: string | null;
      status: number | null;
    }[];
    set(faults: object): void;
    next(...names: string[]): void;
    release(): void;
    close(): Promise<void>;
  }
  export function startProxy(options: {
    target: string;
    seed?: number;
    faults?: object;
    port?: number;
  }): Promise<Proxy>;
}

declare module '*/support/seeded.js' {
  export function seeded(seed: number): () => number;
}
