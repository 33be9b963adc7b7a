import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, get as overHttp, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, get as overHttps } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, expect, onTestFinished, test } from 'vitest';
import { largeReads } from '../../recipes/s3/14-helpers/large-reads.ts';
import { temporaryFolder } from '../run.ts';

const { path, remove } = temporaryFolder();
afterAll(remove);
const [cert, key] = ['cert', 'key'].map((name) => join(path, name)) as [string, string];
const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
const keys = ['-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out', cert];
execFileSync('openssl', ['req', '-x509', '-days', '2', ...keys, ...names], { stdio: 'ignore' });

/** A server for one test, and how to ask it through the agents. */
async function start(
  scheme: string,
  answer: (incoming: IncomingMessage, outgoing: ServerResponse) => unknown,
  bufferSize?: number,
) {
  const tls = scheme === 'https';
  const files = { cert: readFileSync(cert), key: readFileSync(key) };
  const server = tls ? createTlsServer(files, answer) : createServer(answer);
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { httpAgent, httpsAgent } = largeReads(bufferSize ? { bufferSize } : {});
  onTestFinished(() => {
    for (const agent of [httpAgent, httpsAgent]) agent.destroy();
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  let connections = 0;
  server.on(tls ? 'secureConnection' : 'connection', () => connections++);
  const ask = async (place = '/', signal?: AbortSignal) => {
    const url = `${scheme}://127.0.0.1:${port}${place}`;
    const request = tls
      ? overHttps(url, { agent: httpsAgent, ca: files.cert, signal })
      : overHttp(url, { agent: httpAgent, signal });
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    return response;
  };
  return { ask, connections: () => connections };
}

async function hashOf(body: AsyncIterable<Buffer>): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of body) hash.update(chunk);
  return hash.digest('hex');
}

test.each([
  ['http', undefined],
  ['http', 1000],
  ['https', undefined],
  ['https', 1000],
])('over %s, buffer %s: many answers at a time keep their own bytes', async (scheme, bufferSize) => {
  const bodies = Array.from({ length: 12 }, (_, index) => randomBytes(1_000_000 * (index % 3) + index));
  const { ask, connections } = await start(scheme, ({ url }, to) => to.end(bodies[Number(url?.slice(1))]), bufferSize);
  for (let round = 0; round < 2; round++) {
    const hashes = await Promise.all(bodies.map(async (_, index) => hashOf(await ask(`/${index}`))));
    expect(hashes).toEqual(bodies.map((body) => createHash('sha256').update(body).digest('hex')));
  }
  // The second round goes over the connections of the first.
  expect(connections()).toBeLessThanOrEqual(bodies.length);
});

test('over http the pieces are larger than 64 KiB', async () => {
  const { ask } = await start('http', (_, to) => to.end(Buffer.alloc(20_000_000)));
  let largest = 0;
  for await (const { length } of await ask()) {
    largest = Math.max(largest, length);
    // Time for the next ones to come.
    await sleep(5);
  }
  expect(largest).toBeGreaterThan(65_536);
});

test.each(['http', 'https'])('over %s, who reads slowly stops the server', async (scheme) => {
  const block = randomBytes(2 ** 20);
  let sent = 0;
  const { ask } = await start(scheme, async (_, to) => {
    for (; sent < 64; sent++) if (!to.write(block)) await once(to, 'drain');
    to.end();
  });
  const response = await ask();
  // Until it stands still.
  for (let before = -1; before !== sent; await sleep(300)) before = sent;
  expect([sent > 0, sent < 48]).toEqual([true, true]);
  const all = createHash('sha256');
  for (let index = 0; index < 64; index++) all.update(block);
  expect(await hashOf(response)).toBe(all.digest('hex'));
});

test.each(['http', 'https'])('over %s, an answer that is cut is an error, and so is an abort', async (scheme) => {
  const half = randomBytes(500_000);
  let closed = 0;
  const { ask } = await start(scheme, ({ url }, to) => {
    to.on('close', () => closed++);
    to.writeHead(200, { 'content-length': 1_000_000 });
    to.write(half, () => url === '/cut' && to.socket?.destroySoon());
  });
  const read = async (response: IncomingMessage, then = (_: number) => {}) => {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of response) {
        chunks.push(chunk);
        then(Buffer.concat(chunks).length);
      }
    } catch (error) {
      return [(error as NodeJS.ErrnoException).code, Buffer.concat(chunks).equals(half)];
    }
    return 'whole';
  };
  expect(await read(await ask('/cut'))).toEqual(['ECONNRESET', true]);
  const stop = new AbortController();
  const aborted = read(await ask('/', stop.signal), (length) => length === half.length && stop.abort());
  expect(await aborted).toEqual(['ECONNRESET', true]);
  while (closed < 2) await sleep(10);
});
