import type { ApiClient } from '@freshkey/client';
import { useState } from 'react';

import { Field, Form } from './Form.tsx';

/** `/forgot`: asks for a link to set a new password. */
export function Forgot({ client }: { client: ApiClient }) {
  const [asked, setAsked] = useState<string>();

  async function send({ email = '' }) {
    await client.requestPasswordReset(email);
    setAsked(email);
  }

  return (
    <>
      <h1>Forgotten password</h1>
      <p role="status">
        {asked && `If ${asked} has an account, a mail with a link is on its way. The link is good for an hour.`}
      </p>
      <Form action={asked ? 'Send another link' : 'Send me a link'} send={send}>
        <Field label="Email" name="email" type="email" autoComplete="username" />
      </Form>
      <p>
        <a href="/">Back</a>
      </p>
    </>
  );
}
