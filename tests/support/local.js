// The local system, for tests.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '../..');
const BINARY = process.env.FRESHKEY_LOCAL;
const COMMAND = BINARY ? [BINARY] : ['cargo', 'run', '--quiet', '--bin', 'local', '--'];
const GREETING = /Freshkey listens on (http:\/\/\S+?)\.\s/;

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/**
 * Starts a local system: on a free port unless `args` has `--port`, built by
 * cargo unless the environment variable FRESHKEY_LOCAL names a binary.
 *
 * `variables` are settings, as environment variables. `args` are options of
 * `make dev`; paths in them must be absolute. `stop` ends it as Ctrl-C does,
 * `kill` at once; both wait until it has ended. `log` returns what it has
 * printed so far. Throws what it printed if it does not start.
 */
export async function startLocal({ variables = {}, args = [] } = {}) {
  const [command, ...first] = COMMAND;
  const port = args.includes('--port') ? [] : ['--port', '0'];
  const child = spawn(command, [...first, ...port, ...args], {
    cwd: ROOT,
    env: { ...process.env, TEST_PATIENCE: '50', ...variables }, // nothing depends on how long the engine takes
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  const ended = once(child, 'close').finally(() => running.delete(child));

  let log = '';
  const greeted = new Promise((resolve) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        log += text;
        const url = GREETING.exec(log)?.[1];
        if (url) resolve(url);
      });
    }
  });
  const url = await Promise.race([greeted, ended.then(() => undefined)]);
  if (!url) throw new Error(`The local system does not start: ${log}`);

  const end = async (signal) => {
    child.kill(signal);
    await ended;
  };
  return { url, stop: () => end('SIGTERM'), kill: () => end('SIGKILL'), log: () => log };
}
