import { useAuth } from '@freshkey/client/react';

const day = new Intl.DateTimeFormat(undefined, { dateStyle: 'long' });

/** The account page, for users who are signed in. */
export function Account() {
  const { user, logout } = useAuth();
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
      <h1>Hello, {user.first_name ?? user.email}</h1>
      <dl>
        <dt>Email</dt>
        <dd>{user.email}</dd>
        <dt>Roles</dt>
        <dd>{user.roles.join(', ')}</dd>
        <dt>Member since</dt>
        <dd>{day.format(new Date(user.created_at))}</dd>
      </dl>
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
