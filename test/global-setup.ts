/** Gives the tests a cache, and a LocalStack of their own on a free port, so that they never touch the reader's. */
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { resolve } from 'node:path';
import { startLocalStack } from '../shared/localstack.ts';
import { cacheFolder, freePort } from './program.ts';
import { root, temporaryFolder, tsx } from './run.ts';

export default async function setUp(): Promise<() => void> {
  const { path, remove } = temporaryFolder();
  process.env.TEST_CACHE = path;
  let last = 0;
  const onProgress = (text: string) => {
    if (Date.now() - last < 5000) return;
    last = Date.now();
    console.error(text);
  };
  // A port that was free may be taken by the time that LocalStack wants it.
  for (let tries = 1; ; tries++) {
    process.env.COOKBOOK_LOCALSTACK = `http://127.0.0.1:${await freePort()}`;
    try {
      await startLocalStack({ onProgress });
      break;
    } catch (error) {
      if (tries === 5 || !`${error}`.includes('is taken')) throw error;
    }
  }
  return () => {
    remove();
    execFileSync(process.execPath, ['--import', tsx, `${root}shared/localstack.ts`, 'stop'], {
      stdio: 'ignore',
    });
    // Its log, which nobody needs any more.
    const { port } = new URL(process.env.COOKBOOK_LOCALSTACK as string);
    rmSync(resolve(cacheFolder, 'paws-cookbook/localstack', port), { recursive: true, force: true });
  };
}
