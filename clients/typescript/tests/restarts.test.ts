// 200 rotations by processes that are killed, while a fifth of the requests and a fifth of the answers are lost; or as
// many as the environment variable FRESHKEY_ROTATIONS says: `make soak` makes 1,000.

import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { build } from 'esbuild';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { seeded } from '../../../tests/support/seeded.js';
import { ApiClient, TokenManager } from '../src/index.js';
import { fileStorage } from './files.js';
import { REFRESH, generation, signedUp, startWorld, type World } from './world.js';

const ROTATIONS = Number(process.env.FRESHKEY_ROTATIONS ?? 200);
const CLIENTS = 4;
const ROTATIONS_OF_A_PROCESS = 50;

let world: World;
let folder: string;
let program: string;

beforeAll(async () => {
  world = await startWorld();
  folder = await mkdtemp(join(tmpdir(), 'freshkey-'));
  program = join(folder, 'rotating.mjs');
  const entryPoints = [join(import.meta.dirname, 'rotating.ts')];
  await build({ entryPoints, outfile: program, bundle: true, format: 'esm', platform: 'node', logLevel: 'error' });
});
afterAll(async () => {
  await world.stop();
  await rm(folder, { recursive: true });
});

/** Kills a process during the rotation that follows so many others. */
async function killed(child: ChildProcess, rotations: number, afterwards: number): Promise<void> {
  let rotated = 0;
  await new Promise<void>((resolve, reject) => {
    child.on('message', (message) => {
      if (message === 'rotated' && ++rotated === rotations) resolve();
      if (message !== 'rotated') reject(new Error(String(message)));
    });
  });
  // At a random moment of the next rotation, which takes some milliseconds, or more if an answer is lost.
  await new Promise((resolve) => setTimeout(resolve, afterwards));
  child.kill('SIGKILL');
  await once(child, 'exit');
}

test('a client that is killed and restarted stays signed in, over a network that loses a fifth each way', async () => {
  const random = seeded(5);
  world.proxy.set({ only: REFRESH, dropRequest: 0.2, dropAnswer: 0.2 });
  const clients = Array.from({ length: CLIENTS }, async (_, client) => {
    const path = join(folder, `${client}.json`);
    const { credentials } = await signedUp(world, { storage: fileStorage(path) });
    for (let rotated = 0; rotated < ROTATIONS / CLIENTS; rotated += ROTATIONS_OF_A_PROCESS) {
      await killed(fork(program, [world.url, path]), ROTATIONS_OF_A_PROCESS, random() * 100);
    }
    const tokens = new TokenManager(world.url, { storage: fileStorage(path) });
    await tokens.ready;
    expect(tokens.isSignedIn).toBe(true);
    expect((await new ApiClient(world.url, tokens).me()).email).toBe(credentials.email);
    return generation(tokens) - 1;
  });
  const rotations = await Promise.all(clients);
  expect(rotations.reduce((sum, count) => sum + count)).toBeGreaterThanOrEqual(ROTATIONS);
  const lost = world.proxy.requests.filter(({ fault }) => fault !== null).length;
  expect(lost).toBeGreaterThan(ROTATIONS / 4);
}, 300_000);
