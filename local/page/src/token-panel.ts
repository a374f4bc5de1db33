import { html, say } from './dom.js';
import { duration, moment } from './format.js';
import { type Claims, decode, EXPLANATIONS, TIMES } from './jwt.js';

/** A panel for one of the two tokens: its three parts, and an explanation of each member. */
export class TokenPanel {
  readonly #panel: HTMLElement;
  readonly #left: HTMLElement;
  readonly #bar: HTMLProgressElement | null;
  readonly #values = new Map<string, HTMLElement>();

  constructor(panel: HTMLElement) {
    this.#panel = panel;
    this.#left = panel.querySelector('.countdown span') as HTMLElement;
    this.#bar = panel.querySelector('progress');
    // Escape hides an explanation (WCAG 1.4.13). It appears again after the focus or the pointer has moved.
    panel.addEventListener('keydown', ({ key }) => key === 'Escape' && panel.classList.add('quiet'));
    for (const event of ['focusin', 'pointerover'])
      panel.addEventListener(event, () => panel.classList.remove('quiet'));
  }

  /** Shows a token, or the text `instead` if there is no token to show. */
  show(token: string | undefined, instead = ''): void {
    const raw = this.#panel.querySelector('.raw') as HTMLElement;
    const list = this.#panel.querySelector('dl') as HTMLElement;
    this.#panel.classList.remove('dropped');
    this.#panel.classList.toggle('absent', token === undefined);
    if (token === undefined) {
      raw.replaceChildren(instead);
      list.replaceChildren();
      this.#values.clear();
      return;
    }
    const names = ['header', 'claims', 'signature'];
    const parts = token.split('.').map((part, i) => html('span', { class: names[i] ?? '' }, part));
    raw.replaceChildren(...parts.flatMap((part, i) => (i === 0 ? [part] : ['.', part])));
    const { header, claims } = decode(token);
    if ([...this.#values.keys()].join() !== [...Object.keys(header), ...Object.keys(claims)].join()) {
      this.#values.clear();
      list.replaceChildren(...this.#rows(header, 'header'), ...this.#rows(claims, 'claims'));
    }
    for (const [name, value] of [...Object.entries(header), ...Object.entries(claims)]) {
      const place = this.#values.get(name);
      if (place) say(place, words(name, value));
    }
  }

  /** Shows how much is left of `lifetime`, both in milliseconds. */
  countDown(left: number, lifetime: number): void {
    say(this.#left, left > 0 ? `expires in ${duration(left)}` : 'expired');
    this.#panel.classList.toggle('expired', left <= 0);
    if (this.#bar) this.#bar.value = Math.max(0, Math.min(1, left / lifetime));
  }

  /** Strikes the token out: the client no longer holds it. */
  drop(): void {
    this.#panel.classList.add('dropped');
    this.note('deleted by the client');
  }

  /** Shows a text in place of the countdown. */
  note(text: string): void {
    say(this.#left, text);
  }

  #rows(members: Claims, part: string): HTMLElement[] {
    return Object.keys(members).map((name) => {
      const id = `${this.#panel.id}-${name}`;
      const value = html('span');
      this.#values.set(name, value);
      const explanation = html(
        'span',
        { role: 'tooltip', id },
        EXPLANATIONS[name] ?? 'This page does not know this member.',
      );
      const button = html('button', { type: 'button', 'aria-describedby': id }, name);
      return html('div', { class: part }, html('dt', {}, button), html('dd', {}, value, explanation));
    });
  }
}

function words(name: string, value: unknown): string {
  if (TIMES.has(name)) return moment(Number(value) * 1000);
  return Array.isArray(value) ? value.join(', ') : String(value);
}
