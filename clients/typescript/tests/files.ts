// A storage in a file, as a command-line program might use.

import { readFile, rename, writeFile } from 'node:fs/promises';

import type { StoredSession, TokenStorage } from '../src/index.js';

/** Keeps the session in a file, which is replaced atomically. */
export function fileStorage(path: string): TokenStorage {
  return {
    async load() {
      try {
        return JSON.parse(await readFile(path, 'utf8')) as StoredSession | null;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
        throw error;
      }
    },
    async save(session) {
      const draft = `${path}.${crypto.randomUUID()}`;
      await writeFile(draft, JSON.stringify(session), { mode: 0o600 });
      await rename(draft, path);
    },
  };
}
