import { AuthProvider } from '@freshkey/client/react';
import type { SignedOutReason } from '@freshkey/client';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';

import { connect } from './api.ts';
import { App } from './App.tsx';
import './style.css';

const root = createRoot(document.getElementById('root')!);
const client = connect(render);

/** Renders the app: at the start, and when the session ends in this tab, in another tab, or on the server. */
function render(signedOut?: SignedOutReason): void {
  root.render(
    <StrictMode>
      <AuthProvider client={client}>
        <App signedOut={signedOut} />
      </AuthProvider>
    </StrictMode>,
  );
}

render();
