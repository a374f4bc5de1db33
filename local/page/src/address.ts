import { type Client, explain } from './client.js';
import { byId, say } from './dom.js';

/** The user's e-mail address: whether it is verified, and the form to change it. */
export class Address {
  readonly #section = byId('address');
  readonly #email = byId<HTMLInputElement>('new-email');
  readonly #password = byId<HTMLInputElement>('your-password');

  constructor(client: Client) {
    byId('verify').addEventListener('click', () => {
      void this.#do(
        () => client.api.resendVerification(),
        'A mail is on its way, unless the address is verified already.',
      );
    });
    byId('change-email').addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#do(
        () => client.api.changeEmail(this.#email.value, this.#password.value),
        'A link is on its way to the new address, and a notice to this one. The answer is the same if the new address is taken.',
      );
    });
  }

  /** Shows an address. */
  show(email: string, isVerified: boolean): void {
    say(this.#section.querySelector('b') as HTMLElement, email);
    const badge = this.#section.querySelector('em') as HTMLElement;
    say(badge, isVerified ? 'verified' : 'not verified');
    badge.className = isVerified ? 'verified' : '';
    byId('verify').setAttribute('aria-disabled', String(isVerified));
  }

  async #do(act: () => Promise<void>, outcome: string): Promise<void> {
    const note = byId('address-note');
    try {
      await act();
      say(note, outcome);
    } catch (error) {
      say(note, explain(error));
    }
  }
}
