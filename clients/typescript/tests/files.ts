// A storage in a file, as a program for the command line would have it.

import { readFile, rename, writeFile } from 'node:fs/promises';

import type { StoredSession, TokenStorage } from '../src/index.js';

/** Keeps the session in a file, which is replaced as a whole. */
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
