// Serves better-auth on PORT, with a process for each CPU.

import cluster from 'node:cluster';
import { createServer } from 'node:http';
import { availableParallelism } from 'node:os';

import { toNodeHandler } from 'better-auth/node';

if (cluster.isPrimary) {
  for (let worker = 0; worker < availableParallelism(); worker++) cluster.fork();
  process.on('SIGTERM', () => process.exit());
} else {
  const { auth } = await import('./auth.js');
  createServer(toNodeHandler(auth)).listen(Number(process.env.PORT), '127.0.0.1');
}
