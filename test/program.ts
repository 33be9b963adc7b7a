/** Finds, starts and ends the servers that the tests run beside LocalStack. `test/install-servers` installs them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { homedir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Keys {
  accessKeyId: string;
  secretAccessKey: string;
}

/** A server that checks who sends a request, and the keys of somebody who may do everything there. */
export interface StartedServer extends Keys {
  /** `http://127.0.0.1:PORT` */
  url: string;
  /** Ends it and removes what it kept. */
  stop: () => Promise<void>;
}

/** The variables that make a command work there; add `--endpoint-url` with its address. */
export function keysOf({ accessKeyId, secretAccessKey }: Keys): Record<string, string> {
  return { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_REGION: 'us-east-1' };
}

/** Where this user's caches are; LocalStack and the servers, too. */
export const cacheFolder = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');

/** Path of a server's program: as `test/install-servers` put it, or else on the PATH; null where there is none. */
export function findProgram(name: string): string | null {
  const folders = [resolve(cacheFolder, 'paws-cookbook/servers'), ...(process.env.PATH ?? '').split(delimiter)];
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path)) ?? null;
}

/** A port that nothing listens on. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

/**
 * Starts a server on a free port and waits until it answers.
 *
 * @param start - Starts the process for a port, with `stdio: 'pipe'`.
 * @returns Its address, and how to end it.
 * @throws Error with what the server printed when it ends or doesn't answer within two and a half minutes.
 */
export async function startServer(
  start: (port: number) => ChildProcess,
): Promise<{ url: string; stop: () => Promise<void> }> {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const child = start(port);
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (printed += chunk));
  const ended = once(child, 'exit');
  const stop = async () => {
    child.kill('SIGKILL');
    await ended;
  };
  for (const begun = Date.now(); Date.now() - begun < 150_000; await sleep(50)) {
    if (child.exitCode !== null) break;
    if (await fetch(url, { signal: AbortSignal.timeout(10_000) }).catch(() => null)) return { url, stop };
  }
  await stop();
  throw new Error(`${child.spawnfile} did not start: ${printed}`);
}

/** Starts a program for `startServer`. */
export function spawnServer(program: string, args: string[], env: Record<string, string> = {}): ChildProcess {
  return spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: process.env.PATH, ...env } });
}
