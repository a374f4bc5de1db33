// A proxy that loses, delays and refuses requests to the server behind it: at
// random, the same in each run, or on command.
//
// For other languages it is a program: `node proxy.js --target URL [--seed N]
// [--faults JSON]` prints one line, {"url": …}, and takes commands over HTTP.
// PUT /.proxy takes any of {"faults", "next", "target", "release": true}, GET
// /.proxy returns {"requests"}, and DELETE /.proxy empties them.

import { once } from 'node:events';
import { createServer, request as send } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { seeded } from './seeded.js';

/** What can happen to a request, in the order in which it is decided. */
const FAULTS = ['dropRequest', 'dropAnswer', 'tooMany', 'limited', 'unavailable', 'delay'];
/** What can be commanded. */
const COMMANDS = [...FAULTS, 'hold', 'pass'];

const OF_A_CONNECTION = new Set(['connection', 'keep-alive', 'transfer-encoding']);

/** Answers that the proxy gives itself. */
const REFUSALS = {
  tooMany: {
    status: 429,
    headers: ['content-type', 'application/json'],
    body: '{"message":"Too Many Requests"}',
  },
  limited: problem(429, 'Too Many Requests', 'rate_limited', 'Too many requests. Try again later.'),
  unavailable: problem(
    503,
    'Service Unavailable',
    'temporarily_unavailable',
    'The service is temporarily unavailable. Try again in a moment.',
  ),
};

function problem(status, title, error, detail) {
  return {
    status,
    headers: ['content-type', 'application/problem+json', 'cache-control', 'no-store', 'retry-after', '1'],
    body: JSON.stringify({ type: 'about:blank', title, status, detail, error, request_id: 'proxy' }),
  };
}

/**
 * Starts a proxy on 127.0.0.1, in front of the server at the URL `target`.
 *
 * `faults` gives the probability of each fault per request, from 0 to 1:
 * - `dropRequest`: the connection is closed before the server sees the request
 * - `dropAnswer`: the server acts, and the connection is closed without an answer
 * - `tooMany`: 429 as API Gateway sends it, without any of Freshkey's headers
 * - `limited`, `unavailable`: 429 and 503 as a function sends them, `Retry-After: 1`
 * - `delay: { p, ms }`: up to `ms` milliseconds, before or after the server acts
 *
 * `only`, a regular expression, limits all of them to requests whose
 * `METHOD /path` it matches. Each connection serves one request, because
 * browsers repeat a request that is lost on a connection they have used before.
 *
 * Returns the proxy:
 * - `url`; `target`, which can be set at any time
 * - `set(faults)`: replaces the faults
 * - `next(...names)`: what happens to the next requests that match `only`, before
 *   anything at random: a fault's name, `pass`, or `hold`: the server acts, and the
 *   answer waits for `release()`
 * - `requests`: `{ method, path, headers, fault, status }` of each, in order of
 *   arrival; `status` is null until there is an answer, dropped or not
 * - `close()`
 */
export async function startProxy({ target, seed = 1, faults = {}, port = 0 } = {}) {
  const random = seeded(seed);
  const planned = [];
  const held = [];

  const proxy = {
    url: undefined,
    target,
    requests: [],
    set(replacement) {
      known(Object.keys(replacement), [...FAULTS, 'only']);
      faults = replacement;
    },
    next(...names) {
      known(names, COMMANDS);
      planned.push(...names);
    },
    release() {
      held.splice(0).forEach((answer) => answer());
    },
    async close() {
      proxy.release();
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
  proxy.set(faults);

  function pick(method, path) {
    if (!new RegExp(faults.only ?? '').test(`${method} ${path}`)) return null;
    const [next] = planned.splice(0, 1);
    if (next) return next === 'pass' ? null : next;
    return FAULTS.find((name) => random() < (faults[name]?.p ?? faults[name] ?? 0)) ?? null;
  }

  async function serve(request, response) {
    const { method, url: path, headers } = request;
    const fault = pick(method, path);
    const entry = { method, path, headers, fault, status: null };
    proxy.requests.push(entry);
    const released = fault === 'hold' && new Promise((resolve) => held.push(resolve));
    const body = Buffer.concat(await request.toArray());
    if (fault === 'dropRequest') return request.socket.destroy();

    const wait = fault === 'delay' ? random() * (faults.delay?.ms ?? 1000) : 0;
    const early = random() < 0.5;
    if (wait && early) await sleep(wait);
    const answer = REFUSALS[fault] ?? (await forward(request, body, proxy.target));
    entry.status = answer.status;
    if (wait && !early) await sleep(wait);
    await released;
    if (fault === 'dropAnswer') return request.socket.destroy();
    response.shouldKeepAlive = false;
    response.writeHead(answer.status, answer.headers).end(answer.body);
  }

  async function control(request, response) {
    const body = Buffer.concat(await request.toArray());
    try {
      if (request.method === 'GET') return response.end(JSON.stringify({ requests: proxy.requests }));
      if (request.method === 'DELETE') proxy.requests.length = 0;
      if (request.method === 'PUT') {
        const { faults, next, target, release } = JSON.parse(body);
        if (faults) proxy.set(faults);
        if (next) proxy.next(...next);
        if (target) proxy.target = target;
        if (release) proxy.release();
      }
      response.writeHead(204).end();
    } catch (error) {
      response.writeHead(400).end(error.message);
    }
  }

  const server = createServer((request, response) => {
    const handle = request.url === '/.proxy' ? control : serve;
    // The client or the server has closed its connection.
    handle(request, response).catch(() => request.socket.destroy());
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  proxy.url = `http://127.0.0.1:${server.address().port}`;
  return proxy;
}

function known(names, all) {
  const unknown = names.find((name) => !all.includes(name));
  if (unknown !== undefined) throw new Error(`Unknown fault ${unknown}. Allowed: ${all.join(', ')}.`);
}

/** Sends the request to the target, without the headers that belong to a connection. */
function forward({ method, url, headers: { connection, ...headers } }, body, target) {
  return new Promise((resolve, reject) => {
    const request = send(new URL(target), { method, path: url, headers, agent: false }, async (answer) => {
      try {
        const kept = Object.entries(answer.headersDistinct).filter(([name]) => !OF_A_CONNECTION.has(name));
        const headers = kept.flatMap(([name, values]) => values.flatMap((value) => [name, value]));
        resolve({ status: answer.statusCode, headers, body: Buffer.concat(await answer.toArray()) });
      } catch (error) {
        reject(error);
      }
    });
    request.on('error', reject).end(body);
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const options = { target: { type: 'string' }, seed: { type: 'string' }, faults: { type: 'string' } };
  const { target, seed = '1', faults = '{}' } = parseArgs({ options }).values;
  const { url } = await startProxy({ target, seed: Number(seed), faults: JSON.parse(faults) });
  console.log(JSON.stringify({ url }));
}
