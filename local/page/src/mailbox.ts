import { byId, html, say } from './dom.js';
import { moment } from './format.js';

/** A mail that the local system has sent. */
interface Mail {
  id: number;
  to: string;
  subject: string;
  text: string;
  sent_at: string;
}

/** The links in a text. */
const LINK = /(https?:\/\/\S+)/;

/** The mailbox of the local system: a list of the mails, and the one that is open. */
export class Mailbox {
  readonly #mails = byId('mail').querySelector('ol') as HTMLElement;
  readonly #body = byId('mail-body');
  /** The row of each mail, by its id. */
  readonly #rows = new Map<number, HTMLElement>();
  #open: Mail | undefined;
  #isHtml = true;
  #loading: Promise<void> | undefined;
  #waiting: Promise<void> | undefined;

  constructor() {
    for (const isHtml of [true, false]) {
      byId(isHtml ? 'mail-as-html' : 'mail-as-text').addEventListener('click', () => {
        this.#isHtml = isHtml;
        this.#show();
      });
    }
    addEventListener('focus', () => void this.load());
    void this.load();
  }

  /** Loads and lists the mails. The server first delivers those that wait. */
  load(): Promise<void> {
    const after = this.#loading ?? Promise.resolve();
    // A load that waits for its turn also serves those who ask meanwhile.
    this.#waiting ??= after.then(() => {
      this.#waiting = undefined;
      return (this.#loading = this.#list());
    });
    return this.#waiting;
  }

  async #list(): Promise<void> {
    try {
      const answer = await fetch('/.local/mail');
      if (!answer.ok) return;
      const mails = (await answer.json()) as Mail[];
      for (const mail of mails.reverse()) {
        if (this.#rows.has(mail.id)) continue;
        const row = this.#row(mail);
        this.#rows.set(mail.id, row);
        this.#mails.prepend(row);
      }
    } catch {
      // The server has stopped. The next load may succeed.
    }
  }

  #row(mail: Mail): HTMLElement {
    const button = html('button', { type: 'button' }, mail.subject);
    button.addEventListener('click', () => {
      this.#open = mail;
      this.#show();
      byId('mail-subject').focus();
    });
    return html('li', {}, button, html('small', {}, `to ${mail.to}, ${moment(Date.parse(mail.sent_at))}`));
  }

  #show(): void {
    byId('mail-as-html').setAttribute('aria-pressed', String(this.#isHtml));
    byId('mail-as-text').setAttribute('aria-pressed', String(!this.#isHtml));
    const mail = this.#open;
    if (!mail) return;
    say(byId('mail-subject'), mail.subject);
    say(byId('mail-to'), `to ${mail.to}`);
    this.#body.replaceChildren(this.#isHtml ? frame(mail) : text(mail));
  }
}

/** The HTML of a mail, which can run and load nothing. */
function frame({ id }: Mail): HTMLElement {
  const sandbox = 'allow-popups allow-popups-to-escape-sandbox';
  return html('iframe', { sandbox, src: `/.local/mail/${id}`, title: 'The mail as HTML' });
}

/** The text of a mail, with its links. */
function text({ text }: Mail): HTMLElement {
  const parts = text.split(LINK).map((part) => {
    if (!LINK.test(part)) return part;
    return html('a', { href: part, target: '_blank', rel: 'noreferrer' }, part);
  });
  return html('pre', { tabindex: '0', 'aria-label': 'The mail as text' }, ...parts);
}
