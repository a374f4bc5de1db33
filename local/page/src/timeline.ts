import { WHO } from './chain.js';
import { html } from './dom.js';
import { number, time } from './format.js';
import type { Exchange } from './wire.js';

const KEPT = 200; // rows

/** The list of requests, newest last. */
export class Timeline {
  readonly #list: HTMLElement;
  readonly #rows = new Map<string, HTMLElement>();
  readonly #tab: number;

  constructor(list: HTMLElement, tab: number) {
    this.#list = list;
    this.#tab = tab;
  }

  /** Adds an exchange to the list, or updates it. */
  show(exchange: Exchange): void {
    const { id, at, actor, tab, method, path, state, ms } = exchange;
    const row = this.#rows.get(id) ?? html('li');
    row.className = `${actor} ${state}`;
    row.replaceChildren(
      html('time', {}, time(at)),
      html('span', { class: 'what' }, html('b', {}, method), ' ', path.replace('/api/v1/', '')),
      html('span', { class: `status ${kind(exchange)}` }, status(exchange)),
      html('small', {}, ms === undefined ? '' : `${number(Math.round(ms))} ms`),
      html('small', {}, details(exchange, tab === this.#tab ? '' : `tab ${tab}`)),
    );
    if (this.#rows.has(id)) return;
    this.#rows.set(id, row);
    const isAtEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 40;
    this.#list.append(row);
    if (isAtEnd) this.#list.scrollTop = this.#list.scrollHeight;
    if (this.#rows.size > KEPT) {
      const [oldest] = this.#rows.keys();
      if (oldest) this.#rows.get(oldest)?.remove();
      if (oldest) this.#rows.delete(oldest);
    }
  }
}

const kind = ({ state, status }: Exchange): string =>
  state === 'answered' ? (status !== undefined && status < 400 ? 'good' : 'bad') : state;

function status({ state, status }: Exchange): string {
  if (state === 'answered') return String(status);
  return { pending: '…', lost: 'lost', failed: 'failed' }[state];
}

function details({ actor, key, isRetry, presented, issued }: Exchange, tab: string): string {
  const rotated = issued === presented ? `generation ${issued} again` : `generation ${presented} → ${issued}`;
  return [
    tab,
    actor === 'client' ? '' : WHO[actor],
    presented !== undefined && (issued === undefined ? `generation ${presented}` : rotated),
    key && `key ${key}${isRetry ? ' again' : ''}`,
  ]
    .filter(Boolean)
    .join(' · ');
}
