/** versitygw: an S3 server that checks signatures, expiry and bucket policies, which LocalStack does not. */
import { mkdirSync } from 'node:fs';
import { findProgram, type StartedServer, spawnServer, startServer } from './program.ts';
import { temporaryFolder } from './run.ts';

/** Where it is; null if it is not installed. Tests that need it are skipped then, and CI fails. */
export const versitygw = findProgram('versitygw');

/** The variables that make a command work there; add `--endpoint-url` with its address. */
export function keysOf({ accessKeyId, secretAccessKey }: StartedServer): Record<string, string> {
  return { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_REGION: 'us-east-1' };
}

/** Starts one that keeps its objects in a temporary folder. It knows versions. */
export async function startVersitygw(): Promise<StartedServer> {
  if (!versitygw) throw new Error('versitygw is not installed: test/install-servers does it');
  const { path, remove } = temporaryFolder();
  for (const name of ['objects', 'versions']) mkdirSync(`${path}/${name}`);
  const keys = { accessKeyId: 'GATEWAYROOT', secretAccessKey: 'gateway-root-secret' };
  const { url, stop } = await startServer((port) =>
    spawnServer(
      versitygw as string,
      [
        ...['--port', `127.0.0.1:${port}`, '--quiet'],
        ...['posix', '--versioning-dir', `${path}/versions`, `${path}/objects`],
      ],
      { ROOT_ACCESS_KEY: keys.accessKeyId, ROOT_SECRET_KEY: keys.secretAccessKey },
    ),
  );
  return { url, ...keys, stop: () => stop().finally(remove) };
}
