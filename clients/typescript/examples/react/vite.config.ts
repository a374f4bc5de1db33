import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

export default defineConfig({
  plugins: [react()],
  // The client is linked from this repository, which has a React of its own for its tests.
  resolve: { dedupe: ['react'] },
  server: { port: 5173, strictPort: true },
  preview: { port: 5173, strictPort: true },
});
