import type { SignedOutReason } from '@freshkey/client';
import { useAuth } from '@freshkey/client/react';
import type { ReactNode } from 'react';

import { Account } from './Account.tsx';
import { SignIn } from './SignIn.tsx';

const NOTICES: Partial<Record<SignedOutReason, string>> = {
  logged_out: 'You are signed out in every tab.',
  logged_out_elsewhere: 'You signed out in another tab.',
  session_ended: 'Your session has ended. Please sign in again.',
};

export function App({ signedOut }: { signedOut: SignedOutReason | undefined }) {
  return (
    <main>
      <Protected notice={signedOut && NOTICES[signedOut]}>
        <Account />
      </Protected>
    </main>
  );
}

/** Shows its children to a signed-in user, and otherwise the login form. */
function Protected({ notice, children }: { notice: string | undefined; children: ReactNode }) {
  const { isAuthenticated, isLoading } = useAuth();
  if (isLoading) return <p role="status">Loading …</p>;
  return isAuthenticated ? children : <SignIn notice={notice} />;
}
