import { AuthProvider } from '@freshkey/client/react';
import type { SignedOutReason } from '@freshkey/client';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';

import { connect } from './api.ts';
import { App } from './App.tsx';
import './style.css';

const root = createRoot(document.getElementById('root')!);
const client = connect(render);

/** Also called when the session ends, wherever that was: in this tab, in another, or on the server. */
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
