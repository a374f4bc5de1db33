import { Address } from './address.js';
import { Chain } from './chain.js';
import { Client, counted, type Credentials, explain, type SignedOutReason } from './client.js';
import { byId, say } from './dom.js';
import type { Bench } from './experiments.js';
import { decode } from './jwt.js';
import { Lab } from './lab.js';
import { type Link, takeLink } from './link.js';
import { Mailbox } from './mailbox.js';
import { draw } from './picture.js';
import { Sessions } from './sessions.js';
import { Tabs, moment } from './tabs.js';
import { Timeline } from './timeline.js';
import { TokenPanel } from './token-panel.js';
import { type Exchange, Wire } from './wire.js';

/** The link in a mail that led here, until it has been used. */
let link: Link | undefined = takeLink();

const picture = document.querySelector('#picture') as SVGSVGElement;
const form = byId<HTMLFormElement>('sign-in');
const email = byId<HTMLInputElement>('email');
const password = byId<HTMLInputElement>('password');

const tabs = new Tabs();
const timeline = new Timeline(document.querySelector('#requests ol') as HTMLElement, tabs.tab);
const watchers = new Set<(exchange: Exchange) => void>();
const wire = new Wire(tabs.tab, counted.read, (exchange) => {
  tabs.tell({ type: 'exchange', exchange });
  if (client.mode === 'cookie') counted.note(exchange);
  happened(exchange);
});
const client = new Client(wire, changed, signedOut);
const access = new TokenPanel(byId('access'));
const refresh = new TokenPanel(byId('refresh'));
const sessions = new Sessions(client);
const mailbox = new Mailbox();
const address = new Address(client);

let chain: Chain | undefined;
/** Whether the client has found out if a user is signed in. */
let isReady = false;
/** The refresh token of this session that this tab holds, and the one that it held before. */
let held: string | undefined;
let spent: string | undefined;
/** What the user typed in, for logging in again after the session has ended. */
let credentials: Credentials | undefined;

const bench: Bench = {
  client,
  wire,
  tabs,
  spent: () => spent,
  watch() {
    const seen: Exchange[] = [];
    const watcher = (exchange: Exchange) => exchange.state !== 'pending' && seen.push(exchange);
    watchers.add(watcher);
    return () => {
      watchers.delete(watcher);
      return seen;
    };
  },
};
const lab = new Lab(bench);

/** Called when a request of any tab is sent, and again when it ends. */
function happened(exchange: Exchange): void {
  timeline.show(exchange);
  for (const watcher of watchers) watcher(exchange);
  if (exchange.state !== 'pending') {
    chain?.refreshed(exchange);
    if (exchange.method !== 'GET') void mailbox.load();
  }
  paint();
}

/** Called when the tokens that the client holds have changed. */
function changed(): void {
  const tokens = client.manager.getTokens();
  const session = client.session;
  if (tokens && session !== undefined) {
    if (chain?.session !== session || chain.isOver) {
      chain = new Chain(session, client.generation);
      held = spent = undefined;
      void entered();
    }
    chain.holds(client.generation);
    if (tokens.refresh_token !== held) [spent, held] = [held, tokens.refresh_token];
    access.show(tokens.access_token);
    refresh.show(
      tokens.refresh_token,
      'It is in an HttpOnly cookie: the browser sends it with each refresh, and no script can read it, not even this page’s. So a script that an attacker injects cannot steal it. (The page learned from a 403 that the server uses cookies.)',
    );
    if (tokens.refresh_token === undefined) refresh.note('not readable by scripts');
    else {
      const { iat, exp } = decode(tokens.refresh_token).claims;
      const life = (Number(exp) - Number(iat)) * 1000;
      refresh.countDown(life, life);
    }
  } else {
    access.drop();
    refresh.drop();
    sessions.clear();
  }
  tick();
  paint();
}

/** Called when the page has found a new session. Loads the user and the user's sessions. */
async function entered(): Promise<void> {
  await loadUser();
  await sessions.load();
}

async function loadUser(): Promise<void> {
  try {
    const user = await client.api.me();
    say(byId('who'), user.email);
    address.show(user.email, user.email_verified === true);
  } catch {
    // The list of requests shows what went wrong.
  }
}

function signedOut(reason: SignedOutReason): void {
  chain?.ended(
    reason === 'session_ended'
      ? 'The server refused the refresh token: the session has ended.'
      : 'Logged out: the session is deleted, and its refresh tokens no longer work.',
  );
  changed();
}

function paint(): void {
  const isSignedIn = client.manager.isSignedIn;
  const isResetting = link?.view === 'reset';
  byId('reset').hidden = !isResetting;
  byId('confirm').hidden = link?.view !== 'confirm';
  byId('welcome').hidden = !isReady || chain !== undefined || isResetting;
  byId('bench').hidden = chain === undefined || isResetting;
  byId('log-out').hidden = !isSignedIn;
  byId('log-in-again').hidden = byId('start-over').hidden = isSignedIn || chain === undefined;
  byId('another').hidden = !isSignedIn || credentials === undefined || client.mode === 'cookie';
  if (chain) {
    say(byId('story'), chain.story);
    draw(picture, chain, picture.clientWidth);
    if (chain.isOver) say(byId('who'), '');
  }
  lab.update(isSignedIn);
}

function tick(): void {
  const tokens = client.manager.getTokens();
  if (!tokens) return;
  const { iat, exp } = decode(tokens.access_token).claims;
  const left = tokens.expires_at * 1000 - Date.now();
  access.countDown(left, (Number(exp) - Number(iat)) * 1000);
  lab.tick(left);
}

async function enter(how: 'register' | 'login', given: Credentials): Promise<void> {
  say(byId('problem'), '');
  say(byId('hint'), '');
  try {
    credentials = given;
    await client.enter(how, given);
    byId('chain-title').focus();
  } catch (error) {
    chain = undefined;
    paint();
    say(byId('problem'), explain(error));
    email.focus();
  }
}

async function forgot(): Promise<void> {
  say(byId('problem'), '');
  say(byId('hint'), '');
  try {
    await client.api.requestPasswordReset(email.value);
    say(byId('hint'), 'If the address has an account, a mail is on its way: see the mailbox below.');
  } catch (error) {
    say(byId('problem'), explain(error));
  }
}

async function reset(): Promise<void> {
  if (!link) return;
  say(byId('reset-problem'), '');
  try {
    await client.api.resetPassword(link.token, byId<HTMLInputElement>('new-password').value);
    link = undefined;
    if (client.manager.isSignedIn) return paint(); // as another user, whose session goes on
    startOver();
    email.value = password.value = '';
    say(byId('hint'), 'The new password is set, and every session has ended. Log in with it.');
  } catch (error) {
    say(byId('reset-problem'), explain(error));
  }
}

async function confirm(): Promise<void> {
  if (!link) return;
  say(byId('confirm-problem'), '');
  if (!client.manager.isSignedIn) {
    say(byId('confirm-problem'), 'Log in first, as the user to whom the mail was sent.');
    return;
  }
  try {
    await client.api.confirmEmail(link.token);
    link = undefined;
    paint();
    await loadUser();
    say(byId('address-note'), 'The address is confirmed.');
    byId('chain-title').focus();
  } catch (error) {
    say(byId('confirm-problem'), explain(error));
  }
}

form.addEventListener('submit', (event) => {
  event.preventDefault();
  void enter('register', { email: email.value, password: password.value });
});
byId('log-in').addEventListener('click', () => {
  void enter('login', { email: email.value, password: password.value });
});
byId('forgot').addEventListener('click', () => void forgot());
byId('reset').addEventListener('submit', (event) => {
  event.preventDefault();
  void reset();
});
byId('confirm').addEventListener('submit', (event) => {
  event.preventDefault();
  void confirm();
});
byId('log-out').addEventListener('click', () => {
  void client.manager.logout().then(() => byId('log-in-again').focus());
});
byId('log-in-again').addEventListener('click', () => (credentials ? void enter('login', credentials) : startOver()));
byId('start-over').addEventListener('click', startOver);
byId('another').addEventListener('click', () => {
  const headers = { 'content-type': 'application/json' };
  const options = { method: 'POST', headers, body: JSON.stringify(credentials) };
  void wire
    .as('device')('/api/v1/auth/login', options)
    .then(() => sessions.load());
});

tabs.on('exchange', ({ exchange }) => happened(exchange));
tabs.on('who', () => tabs.tell({ type: 'here', tab: tabs.tab }));
tabs.on('refresh', async ({ at }) => {
  try {
    await moment(at);
    await client.manager.refreshTokens();
  } finally {
    tabs.tell({ type: 'refreshed', generation: client.manager.isSignedIn ? client.generation : undefined });
  }
});

/** Shows the form again, with another made-up user. */
function startOver(): void {
  chain = undefined;
  say(byId('who'), '');
  makeUp();
  paint();
  email.focus();
}

/** Fills the form with a user that does not exist yet, so that one click is enough. */
function makeUp(): void {
  const [name, word] = crypto.getRandomValues(new Uint32Array(2));
  email.value = `ada.${(name ?? 0).toString(36)}@example.com`;
  password.value = `correct horse ${(word ?? 0).toString(36)}`;
}

makeUp();
if (tabs.tab > 1) say(byId('tab'), `tab ${tabs.tab}`);
new ResizeObserver(paint).observe(picture);
setInterval(tick, 500);
void client.manager.ready.then(() => {
  isReady = true;
  changed();
  tabs.tell({ type: 'here', tab: tabs.tab });
});
