import type { ApiClient } from '@freshkey/client';
import { useState } from 'react';

import { Field, Form } from './Form.tsx';

/** `/reset`: sets a new password with the token of a link. Nothing is sent until the user presses the button. */
export function Reset({ client, token }: { client: ApiClient; token: string | null }) {
  const [isDone, setIsDone] = useState(false);

  async function send({ new_password = '' }) {
    await client.resetPassword(token!, new_password);
    setIsDone(true);
  }

  if (isDone) {
    return (
      <>
        <h1>Password changed</h1>
        <p role="status">
          You are signed out on every device. <a href="/">Sign in</a> with the new password.
        </p>
      </>
    );
  }
  return (
    <>
      <h1>Choose a new password</h1>
      {token ? (
        <Form action="Change the password" send={send}>
          <Field label="New password" name="new_password" type="password" autoComplete="new-password" />
        </Form>
      ) : (
        <p role="alert">The link is incomplete. Please open it in the mail again.</p>
      )}
      <p>
        <a href="/forgot">Ask for a new link</a>
      </p>
    </>
  );
}
