import type { ApiClient } from '@freshkey/client';
import { useAuth } from '@freshkey/client/react';
import { useState } from 'react';

import { Form } from './Form.tsx';

/**
 * `/confirm`: confirms or changes the address with the token of a link, for users who are signed in. Nothing is sent until
 * the user presses the button.
 */
export function Confirm({ client, token }: { client: ApiClient; token: string | null }) {
  const { user } = useAuth();
  const [confirmed, setConfirmed] = useState<string>();

  async function send() {
    setConfirmed((await client.confirmEmail(token!)).email);
  }

  if (confirmed) {
    return (
      <>
        <h1>Thank you</h1>
        <p role="status">
          {confirmed} is confirmed. <a href="/">Go to your account</a>.
        </p>
      </>
    );
  }
  return (
    <>
      <h1>Confirm your email</h1>
      {token ? (
        <>
          {user && <p>You are signed in as {user.email}.</p>}
          <Form action="Confirm" send={send} />
        </>
      ) : (
        <p role="alert">The link is incomplete. Please open it in the mail again.</p>
      )}
      <p>
        <a href="/">Go to your account</a>
      </p>
    </>
  );
}
