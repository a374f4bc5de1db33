import { FreshkeyError, type FieldError } from '@freshkey/client';
import {
  createContext,
  useContext,
  useId,
  useState,
  type FormEvent,
  type InputHTMLAttributes,
  type ReactNode,
} from 'react';

const PROBLEMS: Record<string, string> = {
  invalid_credentials: 'The email or password is incorrect.',
  invalid_link: 'This link is no longer good, or it is for another account.',
  email_taken: 'An account with this email already exists.',
  rate_limited: 'Too many attempts. Please wait a moment.',
  network: 'The server cannot be reached. Is it running?',
};

const Complaints = createContext<readonly FieldError[]>([]);

interface FormProps {
  /** The text of the button. */
  action: string;
  /** Sends the values of the fields, by their names. */
  send: (values: Record<string, string>) => Promise<unknown>;
  children?: ReactNode;
}

/** A form, which shows what the server finds wrong with it. */
export function Form({ action, send, children }: FormProps) {
  const [isBusy, setIsBusy] = useState(false);
  const [failed, setFailed] = useState<{ action: string; error: FreshkeyError }>();
  const problem = failed?.action === action ? failed.error : undefined;

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const values = Object.fromEntries(new FormData(event.currentTarget)) as Record<string, string>;
    setIsBusy(true);
    setFailed(undefined);
    try {
      await send(values);
    } catch (error) {
      if (!(error instanceof FreshkeyError)) throw error;
      setFailed({ action, error });
    } finally {
      setIsBusy(false);
    }
  }

  return (
    <Complaints value={problem?.fields ?? []}>
      <form onSubmit={submit} aria-busy={isBusy}>
        {children}
        <p role="alert">
          {problem && !problem.fields.length && (PROBLEMS[problem.code] ?? 'Something went wrong. Please try again.')}
        </p>
        <button type="submit" disabled={isBusy}>
          {action}
        </button>
      </form>
    </Complaints>
  );
}

interface FieldProps extends InputHTMLAttributes<HTMLInputElement> {
  label: string;
  /** The field's name, also for the server. */
  name: string;
}

export function Field({ label, ...input }: FieldProps) {
  const id = useId();
  const complaint = useContext(Complaints).find(({ field }) => field === input.name)?.message;
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
