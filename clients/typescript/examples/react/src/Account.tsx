import type { ApiClient } from '@freshkey/client';
import { useAuth } from '@freshkey/client/react';
import { useEffect, useState } from 'react';

import { Field, Form } from './Form.tsx';

const day = new Intl.DateTimeFormat(undefined, { dateStyle: 'long' });

/** The account page, for users who are signed in. */
export function Account({ client }: { client: ApiClient }) {
  const { user, logout, reloadUser } = useAuth();

  // The user may have confirmed an address in another tab.
  useEffect(() => {
    const reload = () => void reloadUser();
    window.addEventListener('focus', reload);
    return () => window.removeEventListener('focus', reload);
  }, [reloadUser]);

  if (!user) {
    return (
      <>
        <h1>Hello</h1>
        <p role="alert">Your account could not be read. Please reload the page.</p>
      </>
    );
  }
  return (
    <>
      {user.email_verified === false && <Unverified client={client} email={user.email} />}
      <h1>Hello, {user.first_name ?? user.email}</h1>
      <dl>
        <dt>Email</dt>
        <dd>{user.email}</dd>
        <dt>Roles</dt>
        <dd>{user.roles.join(', ')}</dd>
        <dt>Member since</dt>
        <dd>{day.format(new Date(user.created_at))}</dd>
      </dl>
      {user.email_verified !== undefined && <ChangeEmail client={client} />}
      <p>
        The refresh token is in a cookie that no script can read, the access token in this page’s memory. Reload the
        page, or{' '}
        <a href="./" target="_blank">
          open it in another tab
        </a>
        : you are still signed in. Sign out here, and you are signed out in all of them.
      </p>
      <button type="button" onClick={() => void logout()}>
        Sign out
      </button>
    </>
  );
}

/** Says that the address is not confirmed, and sends the mail again. */
function Unverified({ client, email }: { client: ApiClient; email: string }) {
  const [isSent, setIsSent] = useState(false);

  async function send() {
    await client.resendVerification();
    setIsSent(true);
  }

  return (
    <aside>
      <p role="status">
        {isSent ? `Another mail is on its way to ${email}.` : `Please confirm ${email}: open the link in our mail.`}
      </p>
      <Form action="Send it again" send={send} />
    </aside>
  );
}

/** Asks for a link to another address. */
function ChangeEmail({ client }: { client: ApiClient }) {
  const [asked, setAsked] = useState<string>();

  async function send({ email = '', password = '' }) {
    await client.changeEmail(email, password);
    setAsked(email);
  }

  return (
    <details>
      <summary>Change the email</summary>
      <p role="status">{asked && `Open the link in the mail to ${asked}. Until then, nothing changes.`}</p>
      <Form action="Change" send={send}>
        <Field label="New email" name="email" type="email" autoComplete="email" />
        <Field label="Password" name="password" type="password" autoComplete="current-password" />
      </Form>
    </details>
  );
}
