/** A package registry of the tests' own: package managers install from it what a test makes up. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { onTestFinished } from 'vitest';
import { temporaryFolder } from './run.ts';
import { serve } from './serve.ts';

export interface FakePackage {
  name: string;
  version: string;
  /** More of its package.json. */
  more?: object;
  files?: Record<string, string>;
}

/** Serves these packages, and nothing else. */
export async function serveRegistry(packages: FakePackage[]): Promise<{ url: string }> {
  const { path, remove } = temporaryFolder();
  onTestFinished(remove);
  const tarballs = new Map<string, Buffer>();
  for (const [at, { name, version, more, files }] of packages.entries()) {
    const all = { ...files, 'package.json': JSON.stringify({ name, version, ...more }) };
    for (const [file, text] of Object.entries(all)) {
      const target = join(path, `${at}`, 'package', file);
      mkdirSync(dirname(target), { recursive: true });
      writeFileSync(target, text);
    }
    execFileSync('tar', ['-czf', join(path, `${at}.tgz`), '-C', join(path, `${at}`), 'package']);
    tarballs.set(`/${at}.tgz`, readFileSync(join(path, `${at}.tgz`)));
  }
  const { url } = await serve(({ url: asked = '' }, response) => {
    const tarball = tarballs.get(asked);
    const name = decodeURIComponent(asked.slice(1));
    const versions = packages.flatMap((one, at) => {
      const bytes = tarballs.get(`/${at}.tgz`) as Buffer;
      const integrity = `sha512-${createHash('sha512').update(bytes).digest('base64')}`;
      const shasum = createHash('sha1').update(bytes).digest('hex');
      const dist = { tarball: `${url}/${at}.tgz`, integrity, shasum };
      const [name, version] = [one.name, one.version];
      return one.name === asked.slice(1) || one.name === decodeURIComponent(asked.slice(1))
        ? [{ name, version, ...one.more, dist }]
        : [];
    });
    if (tarball) response.setHeader('content-type', 'application/octet-stream').end(tarball);
    else if (versions.length === 0) response.writeHead(404).end('{"error":"not found"}');
    else {
      const body = {
        name,
        'dist-tags': { latest: versions.at(-1)?.version },
        versions: Object.fromEntries(versions.map((one) => [one.version, one])),
        time: Object.fromEntries(versions.map((one) => [one.version, '2026-01-01T00:00:00.000Z'])),
      };
      response.setHeader('content-type', 'application/json').end(JSON.stringify(body));
    }
  });
  return { url };
}
