import type { Client } from './client.js';
import { duration, number } from './format.js';
import { generation } from './jwt.js';
import type { Tabs } from './tabs.js';
import { type Exchange, REFRESH, type Wire } from './wire.js';

/** What an experiment uses. */
export interface Bench {
  client: Client;
  wire: Wire;
  tabs: Tabs;
  /** The last spent refresh token, if this tab has held it. */
  spent(): string | undefined;
  /** Starts watching the requests of all tabs. The returned function stops, and returns those that have ended. */
  watch(): () => Exchange[];
}

/** What happened, and whether it was what should happen. */
export interface Seen {
  text: string;
  isRight: boolean;
  /** What the button does once the access token has expired. */
  then?: { title: string; run(bench: Bench): Promise<Seen> };
}

/** An experiment, which one button runs. */
export interface Experiment {
  id: string;
  title: string;
  /** What should happen. */
  expect: string;
  /** Why it is not possible with the refresh token in a cookie. */
  withCookie?: string;
  /** Whether it is only possible with the cookie. */
  isForCookie?: boolean;
  run(bench: Bench): Promise<Seen>;
}

const ME = '/api/v1/users/me';
const HTTP_ONLY =
  'Not possible with the cookie: no script can read the refresh token in it, not even this page’s. That is its purpose.';
const NOT_LOSABLE =
  'Not possible with the cookie: the browser stores the new cookie before this page can lose the answer.';

const FORGIVEN = 'Is REFRESH_REUSE_INTERVAL_SECONDS above 0? Then a spent token is accepted for that long.';

/** All experiments, in the order in which they are shown. */
export const EXPERIMENTS: Experiment[] = [
  {
    id: 'call',
    title: 'Call users/me',
    expect: 'The access token is accepted: 200. No token is spent.',
    async run({ client }) {
      const started = performance.now();
      const { status } = await client.api.fetch(ME);
      return {
        isRight: status === 200,
        text: `${status} after ${number(Math.round(performance.now() - started))} ms.`,
      };
    },
  },
  {
    id: 'refresh',
    title: 'Refresh',
    expect: 'The refresh token is spent and replaced by the next generation.',
    async run({ client, watch }) {
      const seen = watch();
      await client.manager.refreshTokens();
      const { text, isOne } = rotation(seen());
      return { isRight: isOne, text: isOne ? `${text} Both tokens are new.` : text };
    },
  },
  {
    id: 'parallel',
    title: '20 calls at once',
    expect: 'The access token has expired for all of them. One refresh is enough for all twenty.',
    async run({ client, watch }) {
      const { access_token, refresh_token } = held(client);
      await client.manager.setTokens({
        access_token,
        ...(refresh_token && { refresh_token }),
        expires_at: Math.floor(Date.now() / 1000),
      });
      const seen = watch();
      const answers = await Promise.all(Array.from({ length: 20 }, () => client.api.fetch(ME)));
      const good = answers.filter(({ status }) => status === 200).length;
      const { text, isOne } = rotation(seen());
      return { isRight: good === 20 && isOne, text: `${number(good)} × 200. ${text}` };
    },
  },
  {
    id: 'lose',
    title: 'Lose the next answer',
    expect:
      'The server rotates the token, but its answer is lost. The client retries with the same key and gets the same token.',
    withCookie: NOT_LOSABLE,
    async run({ client, wire }) {
      const before = generation(held(client).refresh_token);
      const lost = wire.loseNextAnswer();
      const { refresh_token } = await client.manager.refreshTokens();
      const isSame = (await lost).refresh_token === refresh_token;
      const after = generation(refresh_token);
      return {
        isRight: isSame,
        text: isSame
          ? `Generation ${after} was lost, and the retry returned the identical token. You are still signed in.`
          : `The retry returned a different token from the one that was lost (generation ${before} → ${after}).`,
      };
    },
  },
  {
    id: 'replay',
    title: 'Replay the old token',
    expect:
      'A thief uses a spent refresh token. It is refused, and the session ends, because the server cannot tell the thief from you.',
    withCookie: HTTP_ONLY,
    async run({ client, wire, spent }) {
      if (spent() === undefined) await client.manager.refreshTokens();
      const stolen = spent();
      if (stolen === undefined)
        return { isRight: false, text: `The server returned the same refresh token again. ${FORGIVEN}` };
      const thief = await present(wire.as('thief'), stolen);
      const owner = await after(client);
      return {
        isRight: thief === 401 && owner === 401,
        text:
          thief === 401
            ? `The thief, with generation ${generation(stolen)}: 401. You, with the newest: ${owner}. The session has ended: log in again.`
            : `The thief got ${thief}. ${FORGIVEN}`,
      };
    },
  },
  {
    id: 'naive',
    title: 'Retry without a key',
    expect:
      'An answer is lost, but the client sent no Idempotency-Key. Its retry looks like a thief’s, and the session ends.',
    withCookie: NOT_LOSABLE,
    async run({ client, wire }) {
      const { refresh_token } = held(client);
      const send = wire.as('naive');
      void wire.loseNextAnswer();
      const first = await present(send, refresh_token);
      const second = await present(send, refresh_token);
      const owner = await after(client);
      return {
        isRight: first === 'lost' && second === 401 && owner === 401,
        text:
          second === 401
            ? `The retry got 401: the session has ended. An Idempotency-Key would have saved it.`
            : `The retry got ${second}. ${FORGIVEN}`,
      };
    },
  },
  {
    id: 'forge',
    title: 'Forge a request',
    expect:
      'Another site makes your browser send the cookie, but cannot add x-requested-with. The request is refused, and no token is spent.',
    isForCookie: true,
    async run({ client, wire }) {
      const { status } = await wire.as('thief')(REFRESH, { method: 'POST', credentials: 'include' });
      await client.manager.refreshTokens();
      return { isRight: status === 403, text: `The forged request got ${status}. Your own refresh after it got 200.` };
    },
  },
  {
    id: 'tabs',
    title: 'Refresh in two tabs',
    expect:
      'A second tab opens, and both refresh at the same moment. There is one new generation, and both tabs hold it.',
    async run({ client, tabs, watch }) {
      await tabs.open();
      const seen = watch();
      const there = tabs.next('refreshed');
      await tabs.askToRefresh();
      await client.manager.refreshTokens();
      const theirs = (await there).generation;
      const ours = client.generation;
      const { text, isOne } = rotation(seen());
      return {
        isRight: isOne && theirs === ours,
        text: `This tab holds generation ${ours}, the other ${theirs === undefined ? 'none' : `generation ${theirs}`}. ${text}`,
      };
    },
  },
  {
    id: 'expire',
    title: 'Let it expire in 30 seconds',
    expect:
      'The server’s clock is moved ahead until the access token has 30 seconds left. After that, the next call refreshes first.',
    async run({ client }) {
      const { access_token, refresh_token, expires_at } = held(client);
      // One second more, because the answer's whole seconds were rounded down.
      const ahead = Math.ceil(expires_at - Date.now() / 1000) - 30 + 1;
      if (ahead > 0) {
        await client.moveClock(ahead);
        await client.manager.setTokens({ access_token, ...(refresh_token && { refresh_token }), expires_in: 30 });
      }
      const done =
        ahead > 0
          ? `The server’s clock is ${duration(ahead * 1000)} ahead.`
          : 'The access token already has less time left.';
      return {
        isRight: true,
        text: `${done} This button waits until the access token expires.`,
        then: { title: 'It has expired: call users/me', run: (bench) => callExpired(bench, access_token) },
      };
    },
  },
];

/** Sends the expired token as it is, then makes the same call with the client. */
async function callExpired({ client, wire, watch }: Bench, access_token: string): Promise<Seen> {
  const headers = { authorization: `Bearer ${access_token}` };
  const { status: stale } = await wire.as('naive')(ME, { headers });
  const seen = watch();
  const { status } = await client.api.fetch(ME);
  const { text, isOne } = rotation(seen());
  return {
    isRight: stale === 401 && status === 200 && isOne,
    text: `The expired token gets ${stale}. The client refreshes first and gets ${status}. ${text}`,
  };
}

function held({ manager }: Client) {
  const tokens = manager.getTokens();
  if (!tokens) throw new Error('You are signed out.');
  return tokens;
}

/** Sends a refresh token once, without a key. Returns the status. */
async function present(send: typeof fetch, refresh_token: string | undefined): Promise<number | 'lost'> {
  const headers = { 'content-type': 'application/json' };
  try {
    return (await send(REFRESH, { method: 'POST', headers, body: JSON.stringify({ refresh_token }) })).status;
  } catch {
    return 'lost';
  }
}

/** Refreshes with the client, and returns the status. */
async function after({ manager }: Client): Promise<number> {
  try {
    await manager.refreshTokens();
    return 200;
  } catch (error) {
    return (error as { status?: number }).status ?? 0;
  }
}

/** Describes the refreshes among these requests, and tells whether they were one rotation. */
function rotation(exchanges: Exchange[]): { text: string; isOne: boolean } {
  const refreshes = exchanges.filter(({ path, issued }) => path === REFRESH && issued !== undefined);
  const [first] = refreshes;
  if (!first) return { text: 'There was no refresh.', isOne: false };
  if (first.issued === first.presented)
    return { text: `The server returned generation ${first.issued} again. ${FORGIVEN}`, isOne: false };
  const steps = new Set(refreshes.map(({ presented, issued }) => `generation ${presented} → ${issued}`));
  const many = refreshes.length === 1 ? 'One refresh' : `${number(refreshes.length)} refreshes`;
  return { text: `${many}: ${[...steps].join(', ')}.`, isOne: steps.size === 1 };
}
