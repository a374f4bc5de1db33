import { byId, html, say } from './dom.js';
import { moment } from './format.js';
import type { Client } from './client.js';

/** The list of the user's sessions, with a button to revoke each. */
export class Sessions {
  readonly #list = byId('sessions').querySelector('ul') as HTMLElement;
  readonly #note = byId('sessions-note');
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  /** Loads and shows the sessions. */
  async load(): Promise<void> {
    try {
      const sessions = await this.#client.api.sessions();
      const rows = sessions.map(({ id, current, user_agent, created_at }) => {
        const device = browser(user_agent);
        const name = html('span', {}, html('b', {}, device), ...(current ? [' ', html('em', {}, 'this one')] : []));
        const since = html('small', {}, `signed in ${moment(Date.parse(created_at))}`);
        const button = html(
          'button',
          { type: 'button', 'aria-label': `Revoke ${current ? 'this session' : device}` },
          'Revoke',
        );
        button.addEventListener('click', () => void this.#revoke(id, current));
        return html('li', {}, name, since, button);
      });
      this.#list.replaceChildren(...rows);
    } catch (error) {
      say(this.#note, (error as Error).message);
    }
  }

  /** Clears the list. */
  clear(): void {
    this.#list.replaceChildren();
    say(this.#note, '');
  }

  async #revoke(id: string, isCurrent: boolean): Promise<void> {
    try {
      await this.#client.api.revokeSession(id);
      say(
        this.#note,
        isCurrent
          ? 'This session is revoked. Its access token works until it expires, but a refresh does not: press “Refresh”.'
          : 'The session is revoked. It cannot refresh, and its access token works only until it expires.',
      );
      await this.load();
      byId('sessions-title').focus();
    } catch (error) {
      say(this.#note, (error as Error).message);
    }
  }
}

/** Returns a short name of the browser that a User-Agent belongs to. */
function browser(agent: string | null): string {
  const found = /(Edg|Firefox|Chrome|Version|curl)\/(\d+)/.exec(agent ?? '');
  if (!found) return agent?.slice(0, 24) || 'Unknown';
  const names: Record<string, string> = { Edg: 'Edge', Version: 'Safari' };
  return `${names[found[1] ?? ''] ?? found[1]} ${found[2]}`;
}
