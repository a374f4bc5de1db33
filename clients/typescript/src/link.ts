// The links in mails.

/**
 * Takes the token of a mailed link out of the page's address: returns what follows `#token=`, and removes it from the
 * address bar and from this entry of the history at once. Call it before anything else, above all before scripts of
 * others run, and keep the token in a variable. Send it only when the user clicks: programs that scan mails open their
 * links too.
 *
 * @returns `null` if there is no token: the page was opened without one, or reloaded.
 */
export function takeLinkToken(): string | null {
  const [page, token] = (globalThis.location?.href ?? '').split('#token=');
  if (token === undefined) return null;
  history.replaceState(history.state, '', page);
  return token || null;
}
