/** What a link in a mail is for, and its token. */
export interface Link {
  view: 'reset' | 'confirm';
  token: string;
}

/**
 * Returns the link that led to this page, and takes its token out of the address bar, so that it is in no history, no
 * bookmark and no screenshot. Only this variable has it now.
 */
export function takeLink(): Link | undefined {
  const view = new URLSearchParams(location.search).get('view');
  const token = /^#token=([\w-]+)$/.exec(location.hash)?.[1];
  if ((view !== 'reset' && view !== 'confirm') || token === undefined) return undefined;
  history.replaceState(null, '', location.pathname);
  return { view, token };
}
