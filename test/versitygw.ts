/** versitygw: an S3 server that checks signatures, expiry and bucket policies, which LocalStack does not. */
import { mkdirSync } from 'node:fs';
import { findProgram, type StartedServer, spawnServer, startServer } from './program.ts';
import { temporaryFolder } from './run.ts';

/** Where it is; null if it is not installed. Tests that need it are skipped then, and CI fails. */
export const versitygw = findProgram('versitygw');

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
