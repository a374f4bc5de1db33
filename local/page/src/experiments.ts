import type { Client } from './client.js';
import { duration, number } from './format.js';
import { generation } from './jwt.js';
import type { Tabs } from './tabs.js';
import { type Exchange, REFRESH, type Wire } from './wire.js';

/** What an experiment works with. */
export interface Bench {
  client: Client;
  wire: Wire;
  tabs: Tabs;
  /** The refresh token that was spent last, if this tab has seen it. */
  spent(): string | undefined;
  /** Starts to watch all tabs' requests; the function that it gives tells which there were. */
  watch(): () => Exchange[];
}

/** What was seen: in a sentence, and whether it is what should happen. */
export interface Seen {
  text: string;
  isRight: boolean;
  /** What there is to do once the access token has expired. */
  then?: { title: string; run(bench: Bench): Promise<Seen> };
}

/** One button. */
export interface Experiment {
  id: string;
  title: string;
  /** What should happen, in a sentence. */
  expect: string;
  /** Why it cannot be done where the refresh token is in a cookie. */
  withCookie?: string;
  /** Whether it is for the cookie alone. */
  isForCookie?: boolean;
  run(bench: Bench): Promise<Seen>;
}

const ME = '/api/v1/users/me';
const HTTP_ONLY =
  'Not with the cookie: no script can read the refresh token in it, this page’s neither. That is what it is for.';
const NOT_LOSABLE = 'Not with the cookie: the browser has stored it before this page could lose the answer.';

const FORGIVEN = 'Is REFRESH_REUSE_INTERVAL_SECONDS above 0 here? For so long, it forgives.';

/** All of them, in the order in which they tell the story. */
export const EXPERIMENTS: Experiment[] = [
  {
    id: 'call',
    title: 'Call users/me',
    expect: 'The access token opens the door: 200, and nothing is spent.',
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
    expect: 'The refresh token is spent, and its successor takes over: one generation more.',
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
    expect: 'All find the access token expired. One refresh serves the twenty.',
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
      'The server rotates, the answer gets lost. The client retries with the same key and gets the same successor.',
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
          ? `Lost: generation ${after}. The retry brought generation ${after} too, the same to the last letter. Still signed in.`
          : `The retry brought another token than the one that was lost (${before} → ${after}).`,
      };
    },
  },
  {
    id: 'replay',
    title: 'Replay the old token',
    expect:
      'A thief presents a spent refresh token: refused, and the session ends, because nobody can tell who is who.',
    withCookie: HTTP_ONLY,
    async run({ client, wire, spent }) {
      if (spent() === undefined) await client.manager.refreshTokens();
      const stolen = spent();
      if (stolen === undefined) return { isRight: false, text: `The refresh token came back as it is. ${FORGIVEN}` };
      const thief = await present(wire.as('thief'), stolen);
      const owner = await after(client);
      return {
        isRight: thief === 401 && owner === 401,
        text:
          thief === 401
            ? `The thief, with generation ${generation(stolen)}: 401. You, with the newest: ${owner}. It is over for both; log in again.`
            : `The thief got ${thief}. ${FORGIVEN}`,
      };
    },
  },
  {
    id: 'naive',
    title: 'Lose one without a key',
    expect: 'The same loss, but no Idempotency-Key: the retry looks like a thief’s, and the session ends.',
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
            ? `The retry: 401, and the session is over. An Idempotency-Key would have saved it.`
            : `The retry got ${second}. ${FORGIVEN}`,
      };
    },
  },
  {
    id: 'forge',
    title: 'Forge a request',
    expect:
      'Another site makes your browser send its cookie, but cannot add x-requested-with: refused, and nothing is spent.',
    isForCookie: true,
    async run({ client, wire }) {
      const { status } = await wire.as('thief')(REFRESH, { method: 'POST', credentials: 'include' });
      await client.manager.refreshTokens();
      return { isRight: status === 403, text: `The forged request: ${status}. Your own refresh after it: 200.` };
    },
  },
  {
    id: 'tabs',
    title: 'Refresh in two tabs',
    expect: 'Opens a second tab, and both refresh in the same moment: one generation more, and both hold it.',
    async run({ client, tabs, watch }) {
      await tabs.open();
      const seen = watch();
      const there = tabs.next('refreshed');
      tabs.tell({ type: 'refresh' });
      await client.manager.refreshTokens();
      const theirs = (await there).generation;
      const ours = client.generation;
      const { text, isOne } = rotation(seen());
      return {
        isRight: isOne && theirs === ours,
        text: `Here generation ${ours}, there generation ${theirs ?? 'none'}. ${text}`,
      };
    },
  },
  {
    id: 'expire',
    title: 'Let it expire in 30 seconds',
    expect:
      'Moves the server’s clock ahead, until the access token has 30 seconds left. Once it is over, the next call refreshes first.',
    async run({ client }) {
      const { access_token, refresh_token, expires_at } = held(client);
      // One second more, because the answer's whole seconds were rounded down.
      const ahead = Math.ceil(expires_at - Date.now() / 1000) - 30 + 1;
      if (ahead > 0) {
        await client.moveClock(ahead);
        await client.manager.setTokens({ access_token, ...(refresh_token && { refresh_token }), expires_in: 30 });
      }
      const done =
        ahead > 0 ? `The server’s clock went ${duration(ahead * 1000)} ahead.` : 'It has less than that anyway.';
      return {
        isRight: true,
        text: `${done} Watch the access token: this button waits for it.`,
        then: { title: 'It has expired: call users/me', run: (bench) => callExpired(bench, access_token) },
      };
    },
  },
];

/** The server's word on the expired token, and what the client makes of it. */
async function callExpired({ client, wire, watch }: Bench, access_token: string): Promise<Seen> {
  const headers = { authorization: `Bearer ${access_token}` };
  const { status: stale } = await wire.as('naive')(ME, { headers });
  const seen = watch();
  const { status } = await client.api.fetch(ME);
  const { text, isOne } = rotation(seen());
  return {
    isRight: stale === 401 && status === 200 && isOne,
    text: `As it was, the token gets ${stale}. The client refreshed first: ${status}. ${text}`,
  };
}

function held({ manager }: Client) {
  const tokens = manager.getTokens();
  if (!tokens) throw new Error('You are signed out.');
  return tokens;
}

/** Presents a refresh token as others do: once, without a key. Gives the status. */
async function present(send: typeof fetch, refresh_token: string | undefined): Promise<number | 'lost'> {
  const headers = { 'content-type': 'application/json' };
  try {
    return (await send(REFRESH, { method: 'POST', headers, body: JSON.stringify({ refresh_token }) })).status;
  } catch {
    return 'lost';
  }
}

/** What the client's own refresh is answered, after all that. */
async function after({ manager }: Client): Promise<number> {
  try {
    await manager.refreshTokens();
    return 200;
  } catch (error) {
    return (error as { status?: number }).status ?? 0;
  }
}

/** How many refreshes there were among these, and what they did; whether it was one rotation. */
function rotation(exchanges: Exchange[]): { text: string; isOne: boolean } {
  const refreshes = exchanges.filter(({ path, issued }) => path === REFRESH && issued !== undefined);
  const [first] = refreshes;
  if (!first) return { text: 'There was no refresh.', isOne: false };
  if (first.issued === first.presented)
    return { text: `Generation ${first.issued} came back as it is. ${FORGIVEN}`, isOne: false };
  const steps = new Set(refreshes.map(({ presented, issued }) => `generation ${presented} became ${issued}`));
  const many = refreshes.length === 1 ? 'One refresh' : `${number(refreshes.length)} refreshes`;
  return { text: `${many}: ${[...steps].join(', ')}.`, isOne: steps.size === 1 };
}
