import { useAuth } from '@freshkey/client/react';
import { useState } from 'react';

import { Field, Form } from './Form.tsx';

/** The form to sign in or to create an account. */
export function SignIn({ notice }: { notice: string | undefined }) {
  const { login, register } = useAuth();
  const [isNew, setIsNew] = useState(false);
  const enter = isNew ? register : login;
  return (
    <>
      <h1>{isNew ? 'Create an account' : 'Sign in'}</h1>
      <p role="status">{notice}</p>
      <Form
        action={isNew ? 'Create account' : 'Sign in'}
        send={({ email = '', password = '' }) => enter({ email, password })}
      >
        <Field label="Email" name="email" type="email" autoComplete="username" />
        <Field
          label="Password"
          name="password"
          type="password"
          autoComplete={isNew ? 'new-password' : 'current-password'}
        />
      </Form>
      <button type="button" className="quiet" onClick={() => setIsNew(!isNew)}>
        {isNew ? 'I have an account' : 'Create an account'}
      </button>
      <p>
        <a href="/forgot">I have forgotten my password</a>
      </p>
    </>
  );
}
