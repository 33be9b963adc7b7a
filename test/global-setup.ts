/** Gives the tests a LocalStack of their own on a free port, so that they never touch the reader's. */
import { execFileSync } from 'node:child_process';
import { createServer } from 'node:net';
import { startLocalStack } from '../shared/localstack.ts';
import { root, tsx } from './run.ts';

export default async function setUp(): Promise<() => void> {
  process.env.COOKBOOK_LOCALSTACK = `http://127.0.0.1:${await freePort()}`;
  let last = 0;
  await startLocalStack({
    onProgress: (text) => {
      if (Date.now() - last < 5000) return;
      last = Date.now();
      console.error(text);
    },
  });
  return () => {
    execFileSync(process.execPath, ['--import', tsx, `${root}shared/localstack.ts`, 'stop'], {
      stdio: 'ignore',
    });
  };
}

/** A port that nothing listens on. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((listening) => server.once('listening', listening));
  const { port } = server.address() as { port: number };
  await new Promise((closed) => server.close(closed));
  return port;
}
