import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

export default defineConfig({
  plugins: [react()],
  // The client is linked from this repository and has its own React for its tests; use only the one of the app.
  resolve: { dedupe: ['react'] },
  server: { port: 5173, strictPort: true },
  preview: { port: 5173, strictPort: true },
});
