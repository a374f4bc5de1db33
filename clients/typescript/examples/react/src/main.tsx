import { AuthProvider } from '@freshkey/client/react';
import { takeLinkToken, type SignedOutReason } from '@freshkey/client';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';

import { connect } from './api.ts';
import { App } from './App.tsx';
import './style.css';

const token = takeLinkToken(); // out of the address bar, before anything else
const root = createRoot(document.getElementById('root')!);
const client = connect(render);

/** Renders the app: at the start, and when the session ends in this tab, in another tab, or on the server. */
function render(signedOut?: SignedOutReason): void {
  root.render(
    <StrictMode>
      <AuthProvider client={client}>
        <App client={client} token={token} signedOut={signedOut} />
      </AuthProvider>
    </StrictMode>,
  );
}

render();
