import type { ApiClient, SignedOutReason } from '@freshkey/client';
import { useAuth } from '@freshkey/client/react';
import type { ReactNode } from 'react';

import { Account } from './Account.tsx';
import { Confirm } from './Confirm.tsx';
import { Forgot } from './Forgot.tsx';
import { Reset } from './Reset.tsx';
import { SignIn } from './SignIn.tsx';

const NOTICES: Partial<Record<SignedOutReason, string>> = {
  logged_out: 'You are signed out in every tab.',
  logged_out_elsewhere: 'You signed out in another tab.',
  session_ended: 'Your session has ended. Please sign in again.',
};

interface AppProps {
  client: ApiClient;
  /** The token of the link in a mail, if the page was opened by one. */
  token: string | null;
  signedOut: SignedOutReason | undefined;
}

export function App(props: AppProps) {
  return (
    <main>
      <Page {...props} />
    </main>
  );
}

function Page({ client, token, signedOut }: AppProps) {
  switch (location.pathname) {
    case '/forgot':
      return <Forgot client={client} />;
    case '/reset':
      return <Reset client={client} token={token} />;
    case '/confirm':
      return (
        <Protected notice="Sign in, and then confirm your email.">
          <Confirm client={client} token={token} />
        </Protected>
      );
    default:
      return (
        <Protected notice={signedOut && NOTICES[signedOut]}>
          <Account client={client} />
        </Protected>
      );
  }
}

/** Shows its children to a signed-in user, and otherwise the login form. */
function Protected({ notice, children }: { notice: string | undefined; children: ReactNode }) {
  const { isAuthenticated, isLoading } = useAuth();
  if (isLoading) return <p role="status">Loading …</p>;
  return isAuthenticated ? children : <SignIn notice={notice} />;
}
