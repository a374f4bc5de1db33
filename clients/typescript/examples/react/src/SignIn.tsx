import { FreshkeyError } from '@freshkey/client';
import { useAuth } from '@freshkey/client/react';
import { useId, useState, type FormEvent, type InputHTMLAttributes } from 'react';

const PROBLEMS: Record<string, string> = {
  invalid_credentials: 'The email or password is incorrect.',
  email_taken: 'An account with this email already exists.',
  rate_limited: 'Too many attempts. Please wait a moment.',
  network: 'The server cannot be reached. Is it running?',
};

/** The form to sign in or to create an account. */
export function SignIn({ notice }: { notice: string | undefined }) {
  const { login, register } = useAuth();
  const [isNew, setIsNew] = useState(false);
  const [isBusy, setIsBusy] = useState(false);
  const [problem, setProblem] = useState<FreshkeyError>();

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const credentials = { email: String(form.get('email')), password: String(form.get('password')) };
    setIsBusy(true);
    setProblem(undefined);
    try {
      await (isNew ? register(credentials) : login(credentials));
    } catch (error) {
      if (!(error instanceof FreshkeyError)) throw error;
      setProblem(error);
    } finally {
      setIsBusy(false);
    }
  }

  function toggle() {
    setIsNew(!isNew);
    setProblem(undefined);
  }

  const complaint = (field: string) => problem?.fields.find((each) => each.field === field)?.message;
  const action = isNew ? 'Create account' : 'Sign in';
  return (
    <form onSubmit={submit} aria-busy={isBusy}>
      <h1>{isNew ? 'Create an account' : 'Sign in'}</h1>
      <p role="status">{notice}</p>
      <Field label="Email" name="email" type="email" autoComplete="username" complaint={complaint('email')} />
      <Field
        label="Password"
        name="password"
        type="password"
        autoComplete={isNew ? 'new-password' : 'current-password'}
        complaint={complaint('password')}
      />
      <p role="alert">
        {problem && !problem.fields.length && (PROBLEMS[problem.code] ?? 'Something went wrong. Please try again.')}
      </p>
      <button type="submit" disabled={isBusy}>
        {action}
      </button>
      <button type="button" className="quiet" onClick={toggle}>
        {isNew ? 'I have an account' : 'Create an account'}
      </button>
    </form>
  );
}

interface FieldProps extends InputHTMLAttributes<HTMLInputElement> {
  label: string;
  /** What is wrong with the value. */
  complaint: string | undefined;
}

function Field({ label, complaint, ...input }: FieldProps) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <input {...input} id={id} required aria-invalid={complaint !== undefined} aria-describedby={`${id}-complaint`} />
      <span id={`${id}-complaint`} role="alert">
        {complaint}
      </span>
    </div>
  );
}
