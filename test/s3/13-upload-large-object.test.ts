import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { appendFile, mkdtemp, open, readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { Agent } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import {
  type ChecksumAlgorithm,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { base64, combineCrc32 } from '../../recipes/s3/13-helpers/crc32.ts';
import { openFile } from '../../recipes/s3/13-helpers/source-file.ts';
import { tryAgain } from '../../recipes/s3/13-helpers/try-again.ts';
import { choosePartSize, listParts, uploadParts } from '../../recipes/s3/13-helpers/upload-parts.ts';
import { abortUploads, uploadLargeObject } from '../../recipes/s3/13-upload-large-object.ts';
import { withFaults } from '../faults.ts';
import { settingsOf, testRecipe } from '../harness.ts';
import { oddKeys } from '../odd-keys.ts';
import { freePort, keysOf, type StartedServer, spawnServer } from '../program.ts';
import { type Mishap, type S3Request, startProxy } from '../proxy.ts';
import { root, tsx } from '../run.ts';
import { readStored, sha } from '../stored.ts';
import { startVersitygw, versitygw } from '../versitygw.ts';

const { account, bucket: harnessBucket, run, file: recipe, folder, s3 } = testRecipe(import.meta);
/** Not the one of the header's commands, which is removed with all that is in it. */
const bucket = `${harnessBucket}-own`;
const MiB = 2 ** 20;
const partSize = 5 * MiB;
/** Of three parts; the last one is short. */
const body = randomBytes(2 * partSize + 1000);
const here = await mkdtemp(join(tmpdir(), 'paws-13-'));
const file = join(here, 'three.bin');
let gateway: StartedServer;

beforeAll(async () => {
  await writeFile(file, body);
  if (!versitygw) return;
  gateway = await startVersitygw();
  await clientOf(gateway.url).send(new CreateBucketCommand({ Bucket: bucket }));
});
afterAll(async () => {
  await gateway?.stop();
  await rm(here, { recursive: true });
});

/** A client of versitygw, or of what stands before it. Its connections may be silent for so many milliseconds. */
function clientOf(endpoint: string, socketTimeout = 30_000): S3Client {
  const { accessKeyId, secretAccessKey } = gateway;
  const credentials = { accessKeyId, secretAccessKey };
  const settings = { requestHandler: { socketTimeout }, expectContinueHeader: false };
  return new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials, ...settings });
}

/** Starts a proxy before versitygw, and a client of it. */
async function proxied(mishap?: (seen: S3Request) => Mishap | null | undefined, socketTimeout?: number) {
  const proxy = await startProxy(mishap, { target: gateway.url });
  const numbers = () => proxy.requests.flatMap(({ query }) => Number(query.get('partNumber')) || []);
  return { proxy, numbers, client: clientOf(proxy.url, socketTimeout) };
}

/** Makes a file of the test's own. */
async function fileOf(name: string, data: Uint8Array): Promise<string> {
  await writeFile(join(here, name), data);
  return join(here, name);
}

const seen = (client: S3Client, key: string) => readStored(client, bucket, key);

/** The unfinished uploads to a key, with the numbers of the parts of each. */
async function unfinished(client: S3Client, key: string): Promise<number[][]> {
  const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
  const mine = Uploads.filter(({ Key }) => Key === key);
  return Promise.all(
    mine.map(async ({ Key, UploadId }) => {
      const { Parts = [] } = await client.send(new ListPartsCommand({ Bucket: bucket, Key, UploadId }));
      return Parts.map(({ PartNumber }) => PartNumber as number);
    }),
  );
}

test('the checksums of parts combine to that of the whole', () => {
  const parts = fc.array(fc.uint8Array({ maxLength: 3000 }), { maxLength: 8 });
  fc.assert(
    fc.property(parts, (pieces) => {
      const all = pieces.map((piece) => ({ checksum: crc32(piece), length: piece.length }));
      expect(combineCrc32(all)).toBe(crc32(Buffer.concat(pieces)));
    }),
  );
  const large = fc.integer({ min: 0, max: 2 ** 52 });
  fc.assert(
    fc.property(fc.nat(2 ** 32 - 1), large, large, (checksum, one, two) => {
      const first = { checksum, length: 1 };
      const zeros = (length: number) => ({ checksum: 0, length });
      expect(combineCrc32([first, zeros(one), zeros(two)])).toBe(combineCrc32([first, zeros(one + two)]));
    }),
  );
  expect(base64(crc32('123456789'))).toBe(Buffer.from('cbf43926', 'hex').toString('base64'));
  expect(base64(1)).toBe('AAAAAQ==');
});

test('parts are as large as wanted, or as 10,000 of them must be', () => {
  const wanted = fc.integer({ min: 5 * MiB, max: 5120 * MiB });
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 10_000 * 5120 * MiB }), wanted, (size, least) => {
      const chosen = choosePartSize(size, least);
      expect(Math.ceil(size / chosen)).toBeLessThanOrEqual(10_000);
      expect(chosen).toBeLessThanOrEqual(5120 * MiB);
      if (chosen > least) expect(Math.ceil(size / (chosen - MiB))).toBeGreaterThan(10_000);
      else expect(chosen).toBe(least);
    }),
  );
  expect(choosePartSize(10_000 * 16 * MiB)).toBe(16 * MiB);
  expect(choosePartSize(10_000 * 16 * MiB + 1)).toBe(17 * MiB);
  expect(choosePartSize(10_000 * 5120 * MiB)).toBe(5120 * MiB);
  expect(() => choosePartSize(10_000 * 5120 * MiB + 1)).toThrow(RangeError);
});

test.each([
  ['nothing', 0, 1],
  ['a byte', 1, 1],
  ['one part exactly', partSize, 1],
  ['a part and a byte', partSize + 1, 2],
  ['three parts exactly', 3 * partSize, 3],
])('a file of %s arrives as it is', async (name, size, parts) => {
  const data = randomBytes(size);
  const key = `${name}.json`;
  await writeFile(join(here, key), data);
  const client = s3();
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  const told: object[] = [];
  const onProgress = (done: object) => told.push(done);
  const result = await uploadLargeObject(client, { file: join(here, key), bucket, key, partSize, onProgress });
  const checksum = base64(crc32(data));
  expect(result).toEqual({
    ...{ bucket, key, size, checksum, etag: expect.stringMatching(/^"[0-9a-f]{32}(-\d+)?"$/), versionId: null },
    ...{ parts, kept: 0, replaced: 0 },
  });
  const type = 'application/json';
  expect(await seen(client, key)).toEqual({ sha: sha(data), checksum, checksumType: 'FULL_OBJECT', type });
  expect(await unfinished(client, key)).toEqual([]);
  expect(told.at(-1)).toEqual({ bytes: size, total: size });
  await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: key }));
});

test.skipIf(!versitygw)(
  'killed at 20 moments, it goes on: the object is right, and nothing stored is sent again',
  async () => {
    const direct = clientOf(gateway.url);
    const data = randomBytes(256 * MiB);
    const count = Math.ceil(data.length / partSize);
    const large = await fileOf('large.bin', data);
    const whole = sha(data);
    const all = Array.from({ length: count }, (_, index) => index + 1);
    // Chance that is the same each time.
    let seed = 13;
    const chance = (below: number) => {
      seed = (seed * 48271) % 2147483647;
      return seed % below;
    };
    let child: ChildProcess | undefined;
    let [onRequest, delay] = ['', 0];
    const { proxy, numbers } = await proxied(({ operation, before }) => {
      if (onRequest === `${operation} ${before}`) setTimeout(() => child?.kill('SIGKILL'), delay);
      return null;
    });
    const start = async (key: string) => {
      const words = ['--import', tsx, join(root, recipe), large, `s3://${bucket}/${key}`, '--part-size', `${partSize}`];
      const env = { PATH: process.env.PATH, HOME: folder, ...keysOf(gateway) };
      child = spawn(process.execPath, [...words, '--json', '--endpoint-url', proxy.url], { cwd: folder, env });
      const [stdout, stderr] = [child.stdout, child.stderr] as [NodeJS.ReadableStream, NodeJS.ReadableStream];
      const [printed, failure, [code, signal]] = await Promise.all([text(stdout), text(stderr), once(child, 'close')]);
      // What came whole before is still being stored.
      for (let turn = 0; turn < 5; turn++) await setImmediate();
      while (proxy.behind.now > 0) await sleep(5);
      return { code, signal, stderr: failure, result: JSON.parse(printed || 'null') };
    };

    for (const [key, first] of Object.entries({ one: 'CreateMultipartUpload', two: 'ListParts' })) {
      await direct.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: 'former' }));
      let there: number[] = [];
      for (const operation of [first, ...Array(8).fill('UploadPart'), 'CompleteMultipartUpload']) {
        const left = count - there.length;
        const after = operation === 'UploadPart' ? chance(Math.min(6, left)) : 0;
        delay = chance(operation === 'CompleteMultipartUpload' ? 100 : 30);
        onRequest = `${operation} ${after}`;
        proxy.requests.length = 0;
        const told = `${key}: killed ${delay} ms after ${onRequest}`;
        expect(await start(key), told).toMatchObject({ signal: 'SIGKILL', stderr: '' });
        expect(numbers().filter((number) => there.includes(number))).toEqual([]);
        const uploads = await unfinished(direct, key);
        const isComplete = operation === 'CompleteMultipartUpload' && uploads.length === 0;
        expect(await seen(direct, key), told).toMatchObject({ sha: isComplete ? whole : sha(Buffer.from('former')) });
        there = isComplete ? all : (uploads[0] ?? []);
        expect(uploads.length, told).toBeLessThan(2);
      }
      proxy.requests.length = 0;
      onRequest = '';
      const { code, stderr, result } = await start(key);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(result).toMatchObject({ size: data.length, parts: count, kept: there.length, replaced: 0 });
      expect([...numbers(), ...there].sort((a, b) => a - b)).toEqual(all);
      expect(await seen(direct, key)).toMatchObject({ sha: whole, checksum: base64(crc32(data)) });
      expect(await unfinished(direct, key)).toEqual([]);
      // The SDK would use a new connection for each part, which asks first.
      expect(proxy.requests.filter(({ headers }) => headers.expect)).toEqual([]);
    }
  },
  900_000,
);

/** Begins an upload that stops before it is complete, so that all its parts are left. */
async function leaveParts(input: { file: string; key: string; contentType?: string }): Promise<void> {
  const { client: broken } = withFaults(clientOf(gateway.url), {
    operation: 'CompleteMultipartUpload',
    error: 'AccessDenied',
  });
  await expect(uploadLargeObject(broken, { bucket, partSize, ...input })).rejects.toMatchObject({
    name: 'AccessDenied',
    message: expect.stringMatching(
      /^AccessDenied\. (\d+) of \1 parts are stored: run it again for the rest, or 3\.13 with --abort /,
    ),
  });
}

test.skipIf(!versitygw)('what changed in the file between two runs is noticed, and only that is sent', async () => {
  const changing = await fileOf('changing.bin', body);
  const key = 'changing';
  await leaveParts({ file: changing, key });
  const { client, numbers } = await proxied();
  // Of the same length and, as far as its times tell, never touched.
  const handle = await open(changing, 'r+');
  const { atime, mtime } = await handle.stat();
  await handle.write('changed', partSize + 5);
  await handle.utimes(atime, mtime);
  await handle.close();
  const told: number[] = [];
  const onProgress = ({ bytes }: { bytes: number }) => told.push(bytes);
  const result = await uploadLargeObject(client, { file: changing, bucket, key, partSize, onProgress });
  expect(result).toMatchObject({ parts: 3, kept: 2, replaced: 1 });
  expect(numbers()).toEqual([2]);
  expect(new Set(told)).toEqual(new Set([body.length]));
  const data = Buffer.from(body);
  data.write('changed', partSize + 5);
  expect(await seen(client, key)).toMatchObject({ sha: sha(data), checksum: result.checksum });
});

test.skipIf(!versitygw)('an upload that is older than the object is not gone on with', async () => {
  await leaveParts({ file, key: 'overtaken' });
  const newer = { operation: 'HeadObject', output: { LastModified: new Date(Date.now() + 60_000) }, times: 1 };
  const { client } = withFaults(clientOf(gateway.url), newer);
  expect(await uploadLargeObject(client, { file, bucket, key: 'overtaken', partSize })).toMatchObject({ kept: 0 });
  expect(await seen(client, 'overtaken')).toMatchObject({ sha: sha(body) });
  // Its parts are still there, for --abort.
  expect(await unfinished(client, 'overtaken')).toEqual([[1, 2, 3]]);
  expect(await abortUploads(client, { bucket, key: 'overtaken' })).toMatchObject({ aborted: 1 });
});

test.skipIf(!versitygw)('a file that has grown, or is cut otherwise, is right too', async () => {
  const growing = await fileOf('growing.bin', body);
  const client = clientOf(gateway.url);
  await leaveParts({ file: growing, key: 'growing' });
  await appendFile(growing, body);
  const data = Buffer.concat([body, body]);
  const grown = await uploadLargeObject(client, { file: growing, bucket, key: 'growing', partSize });
  expect(grown).toMatchObject({ parts: 5, kept: 2, replaced: 0 });
  expect(await seen(client, 'growing')).toMatchObject({ sha: sha(data) });

  // Fewer and larger parts: of those that are left some are too many, and the object must not have them.
  await leaveParts({ file: growing, key: 'cut' });
  const cut = await uploadLargeObject(client, { file: growing, bucket, key: 'cut', partSize: 8 * MiB });
  expect(cut).toMatchObject({ parts: 3, kept: 0, replaced: 0, size: data.length });
  expect(await seen(client, 'cut')).toMatchObject({ sha: sha(data) });
  expect([...(await unfinished(client, 'growing')), ...(await unfinished(client, 'cut'))]).toEqual([]);
});

test.skipIf(!versitygw).each([
  [
    'written to',
    async (path: string) => {
      const handle = await open(path, 'r+');
      await handle.write('x', 0);
      await handle.close();
    },
    'changed while it was read',
  ],
  ['added to', (path: string) => appendFile(path, 'x'), 'changed while it was read'],
  ['cut', (path: string) => writeFile(path, 'x'), 'became shorter while it was read'],
])('a file that is %s meanwhile is not completed, and the former object stays', async (how, change, message) => {
  const key = `file ${how}`;
  const path = await fileOf(key, body);
  const direct = clientOf(gateway.url);
  await direct.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: 'former' }));
  const { client, proxy } = await proxied(({ operation, before }) =>
    operation === 'UploadPart' && before === 0 ? () => change(path) : null,
  );
  await expect(uploadLargeObject(client, { file: path, bucket, key, partSize, concurrency: 1 })).rejects.toThrow(
    `${path} ${message}`,
  );
  expect(proxy.count('CompleteMultipartUpload')).toBe(0);
  expect(await seen(direct, key)).toMatchObject({ sha: sha(Buffer.from('former')) });
  await writeFile(path, body);
  expect(await uploadLargeObject(client, { file: path, bucket, key, partSize })).toMatchObject({ replaced: 0 });
  expect(await seen(direct, key)).toMatchObject({ sha: sha(body) });
});

test.skipIf(!versitygw).each<Mishap>([500, 503, 'reset', 'stall', 'cut', 'lose'])(
  'a part or a whole file that meets with %s is sent again',
  async (mishap) => {
    // Where silence is given up, another part may be, too, on a busy machine.
    const silence = ['stall', 'cut'].includes(`${mishap}`) ? 1000 : undefined;
    const { client, numbers } = await proxied(({ operation, before, query }) => {
      if (operation === 'PutObject') return before === 0 ? mishap : null;
      return operation === 'UploadPart' && query.get('partNumber') === '2' && before < 3 ? mishap : null;
    }, silence);
    const key = `after ${mishap}`;
    const result = await uploadLargeObject(client, { file, bucket, key, partSize });
    expect(result).toMatchObject({ parts: 3, kept: 0 });
    const others = numbers().filter((number) => number !== 2);
    expect([...(silence ? new Set(others) : others)].sort()).toEqual([1, 3]);
    expect(numbers().length).toBeGreaterThan(3);
    expect(await seen(client, key)).toMatchObject({ sha: sha(body) });
    await uploadLargeObject(client, { file, bucket, key: `${key}, whole` });
    expect(await seen(client, `${key}, whole`)).toMatchObject({ sha: sha(body), checksumType: 'FULL_OBJECT' });
  },
);

test.skipIf(!versitygw)(
  'it tries longer than the SDK, then ends with what is stored; the next run has the rest to do',
  async () => {
    const random = vi.spyOn(Math, 'random').mockReturnValue(0);
    onTestFinished(() => random.mockRestore());
    let isDown = true;
    const { client, numbers } = await proxied(({ operation, query }) =>
      isDown && operation === 'UploadPart' && query.get('partNumber') === '3' ? 503 : null,
    );
    const input = { file, bucket, key: 'down', partSize };
    // One after the other, so that the first two are there.
    await expect(uploadLargeObject(client, { ...input, concurrency: 1 })).rejects.toMatchObject({
      name: 'SlowDown',
      message:
        'SlowDown of the test. 2 of 3 parts are stored: run it again for the rest, or 3.13 with --abort to remove them.',
    });
    expect(numbers().filter((number) => number === 3)).toHaveLength(18);
    isDown = false;
    expect(await uploadLargeObject(client, input)).toMatchObject({ kept: 2 });
    expect(await seen(client, 'down')).toMatchObject({ sha: sha(body) });
  },
);

test.skipIf(!versitygw)('when one part is refused, those beside it stop before it ends', async () => {
  const { client, proxy, numbers } = await proxied(({ operation, query }) => {
    if (operation !== 'UploadPart') return null;
    return query.get('partNumber') === '2' ? 403 : 'stall';
  });
  await expect(
    uploadLargeObject(client, { file, bucket, key: 'refused', partSize, concurrency: 2 }),
  ).rejects.toMatchObject({
    name: 'AccessDenied',
    message: expect.stringContaining('AccessDenied of the test. 0 of 3 parts are stored'),
  });
  await vi.waitUntil(() => proxy.load.now === 0, { timeout: 20_000 });
  expect(numbers().sort()).toEqual([1, 2]);
  await expect(handlesOn(file)).resolves.toBe(0);
});

/** How many times this process has a file open. */
async function handlesOn(path: string): Promise<number> {
  const open = await readdir('/proc/self/fd');
  const targets = await Promise.all(open.map((one) => readlink(`/proc/self/fd/${one}`).catch(() => '')));
  return targets.filter((one) => one === path).length;
}

test('a lost answer to the completion is settled by a look at the object', async () => {
  const proxy = await startProxy(({ operation, before }) =>
    operation === 'CompleteMultipartUpload' && before === 0 ? 'lose' : null,
  );
  const client = new S3Client({ ...settingsOf({ account }), endpoint: proxy.url, forcePathStyle: true });
  const result = await uploadLargeObject(client, { file, bucket, key: 'lost', partSize });
  expect(proxy.count('CompleteMultipartUpload')).toBe(2);
  expect(result).toMatchObject({ checksum: base64(crc32(body)), etag: expect.stringMatching(/-3"$/) });
  expect(await seen(s3(), 'lost')).toMatchObject({ sha: sha(body) });

  // Run again, it finds what is there, unless a header would be another one.
  const again = (cacheControl?: string) =>
    uploadLargeObject(s3(), { file, bucket, key: 'lost', partSize, cacheControl });
  expect(await again()).toMatchObject({ kept: 3 });
  expect(await again('no-cache')).toMatchObject({ kept: 0 });

  // It is tried for longer than the SDK does.
  const random = vi.spyOn(Math, 'random').mockReturnValue(0);
  const busy = await startProxy(({ operation, before }) =>
    operation === 'CompleteMultipartUpload' && before < 4 ? 503 : null,
  );
  const patient = new S3Client({ ...settingsOf({ account }), endpoint: busy.url, forcePathStyle: true });
  await uploadLargeObject(patient, { file, bucket, key: 'busy', partSize });
  random.mockRestore();
  expect(busy.count('CompleteMultipartUpload')).toBe(5);

  // Somebody wrote to the key while it was uploaded, and S3 takes that for newer: nothing is left to go on with.
  const { client: raced } = withFaults(s3(), { operation: 'HeadObject', after: 1, output: { ETag: '"another"' } });
  const lost = uploadLargeObject(raced, { file, bucket, key: 'raced', partSize });
  await expect(lost).rejects.toThrow(
    /raced was uploaded, but is not what readers get: somebody wrote or deleted it since$/,
  );

  // Of the same size, but another one: then somebody has aborted the upload.
  const gone = { operation: 'CompleteMultipartUpload', error: 'NoSuchUpload' };
  for (const [ContentLength, ChecksumCRC32] of [
    [body.length, 'AAAAAA=='],
    [5, result.checksum],
  ]) {
    const other = { operation: 'HeadObject', output: { ContentLength, ChecksumCRC32, ChecksumType: 'FULL_OBJECT' } };
    const { client: unlucky } = withFaults(s3(), gone, other);
    await expect(uploadLargeObject(unlucky, { file, bucket, key: 'aborted', partSize })).rejects.toMatchObject({
      name: 'NoSuchUpload',
      message: 'NoSuchUpload',
    });
  }
  expect(await abortUploads(s3(), { bucket, key: 'aborted' })).toEqual({ bucket, key: 'aborted', aborted: 1 });
});

test('Ctrl-C says what is stored, the same command goes on, and --abort removes what is left', async () => {
  await fileOf('three.bin', body);
  const command = `npx tsx ${recipe} ${file} s3://paws-example-own/stopped --local --part-size ${partSize} --concurrency 1 --json`;
  const stop = (after: number) => ({ faults: [{ operation: 's3:UploadPart', after, signal: 'SIGINT' as const }] });
  const stopped = await run(command, stop(1));
  expect(stopped).toEqual({
    code: 130,
    stdout: '',
    stderr: 'Interrupted. 1 of 3 parts are stored: run it again for the rest, or 3.13 with --abort to remove them.\n',
  });
  expect(await unfinished(s3(), 'stopped')).toEqual([[1]]);

  const finished = await run(command);
  expect(finished).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(finished.stdout)).toEqual({
    ...{ bucket: 'paws-example-own', key: 'stopped', size: body.length, checksum: base64(crc32(body)) },
    ...{ etag: expect.stringMatching(/-3"$/), versionId: null, parts: 3, kept: 1, replaced: 0 },
  });
  expect(await unfinished(s3(), 'stopped')).toEqual([]);
  expect(await seen(s3(), 'stopped')).toMatchObject({ sha: sha(body), type: 'application/octet-stream' });

  await s3().send(new DeleteObjectCommand({ Bucket: bucket, Key: 'stopped' }));
  await run(command, stop(0));
  const aborted = await run(`${command} --abort`);
  expect(JSON.parse(aborted.stdout)).toEqual({ bucket: 'paws-example-own', key: 'stopped', aborted: 1 });
  expect(await unfinished(s3(), 'stopped')).toEqual([]);
});

test.skipIf(!versitygw)(
  'done again, it finds the object and sends nothing, unless something about it is another',
  async () => {
    const { client, numbers } = await proxied();
    const input = { file, bucket, key: 'again', partSize };
    const first = await uploadLargeObject(client, input);
    expect(await uploadLargeObject(client, input)).toEqual({ ...first, kept: 3 });
    expect(numbers()).toHaveLength(3);
    expect(await uploadLargeObject(client, { ...input, contentType: 'video/mp4' })).toMatchObject({ kept: 0 });
    expect(await seen(client, 'again')).toMatchObject({ type: 'video/mp4' });
    const other = await fileOf('other.mp4', randomBytes(body.length));
    expect(await uploadLargeObject(client, { ...input, file: other })).toMatchObject({ kept: 0 });
    expect(numbers()).toHaveLength(9);
    // Who may not look at the object may upload all the same.
    const { client: blind } = await proxied(({ operation }) => (operation === 'HeadObject' ? 403 : null));
    expect(await uploadLargeObject(blind, input)).toMatchObject({ kept: 0, checksum: first.checksum });
    const { client: broken } = await proxied(({ operation }) => (operation === 'HeadObject' ? 500 : null));
    await expect(uploadLargeObject(broken, input)).rejects.toMatchObject({ $metadata: { httpStatusCode: 500 } });
  },
);

test.skipIf(!versitygw)(
  'only an upload of its own kind to this very key is gone on with or removed, the newest first',
  async () => {
    const client = clientOf(gateway.url);
    const begin = async (Key: string, ChecksumAlgorithm?: ChecksumAlgorithm) => {
      const ChecksumType = ChecksumAlgorithm && 'FULL_OBJECT';
      await client.send(new CreateMultipartUploadCommand({ Bucket: bucket, Key, ChecksumAlgorithm, ChecksumType }));
    };
    await begin('kind');
    await begin('kind', 'CRC64NVME');
    await begin('kind and more', 'CRC32');
    await begin('kin', 'CRC32');
    await leaveParts({ file, key: 'kind' });
    // Their age is told in whole seconds.
    await sleep(1100);
    await begin('kind', 'CRC32');
    const lengths = async () => (await unfinished(client, 'kind')).map(({ length }) => length).sort();
    expect(await lengths()).toEqual([0, 0, 0, 3]);
    expect(await uploadLargeObject(client, { file, bucket, key: 'kind', partSize })).toMatchObject({ kept: 0 });
    expect(await lengths()).toEqual([0, 0, 3]);
    expect(await abortUploads(client, { bucket, key: 'kind' })).toMatchObject({ aborted: 1 });
    expect(await lengths()).toEqual([0, 0]);
    for (const key of ['kind and more', 'kin']) expect(await unfinished(client, key)).toEqual([[]]);
  },
);

test('uploads to a key are listed page by page, and one that ends meanwhile does not stop the others', async () => {
  const upload = (UploadId: string, more: object = {}) => ({
    ...{ Key: 'a key', UploadId, ChecksumAlgorithm: 'CRC32', ChecksumType: 'FULL_OBJECT' },
    ...{ Initiated: new Date(Number(UploadId) * 1000), ...more },
  });
  const page = (Uploads: object[], NextKeyMarker: string) => ({
    ...{ operation: 'ListMultipartUploads', times: 1 },
    output: { Uploads, EncodingType: 'url', IsTruncated: true, NextKeyMarker, NextUploadIdMarker: 'mark' },
  });
  const inputs: object[] = [];
  const aborted: unknown[] = [];
  const { client, sent } = withFaults(
    s3(),
    { ...page([upload('2', { Key: 'a+key' })], 'a%20key'), answered: (input) => inputs.push(input) },
    {
      ...page([upload('1', { Key: 'a%20key' }), upload('3', { Key: 'a+keys' })], 'a+key'),
      answered: (input) => inputs.push(input),
    },
    { operation: 'AbortMultipartUpload', times: 1, error: 'NoSuchUpload' },
    {
      operation: 'AbortMultipartUpload',
      output: {},
      answered: (input) => aborted.push(Reflect.get(input, 'UploadId')),
    },
  );
  expect(await abortUploads(client, { bucket, key: 'a key' })).toMatchObject({ aborted: 2 });
  expect(sent.filter((operation) => operation === 'ListMultipartUploads')).toHaveLength(2);
  expect(inputs).toMatchObject([{ Prefix: 'a key' }, { KeyMarker: 'a key', UploadIdMarker: 'mark' }]);
  expect(aborted).toEqual(['2']);
  const { client: denied } = withFaults(s3(), page([upload('1', { Key: 'a+key' })], 'b'), {
    operation: 'AbortMultipartUpload',
    error: 'AccessDenied',
  });
  await expect(abortUploads(denied, { bucket, key: 'a key' })).rejects.toThrow('AccessDenied');
});

test.skipIf(!versitygw)(
  'an upload whose parts take several pages is seen whole, one without parts to its end',
  async () => {
    await leaveParts({ file, key: 'pages' });
    const client = clientOf(gateway.url);
    let pages = 0;
    client.middlewareStack.add(
      (next, { commandName }) =>
        (args) => {
          if (commandName === 'ListPartsCommand') {
            Object.assign(args.input, { MaxParts: 1 });
            pages++;
          }
          return next(args);
        },
      { step: 'initialize', name: 'pages' },
    );
    expect(await uploadLargeObject(client, { file, bucket, key: 'pages', partSize })).toMatchObject({ kept: 3 });
    expect(pages).toBe(3);
    const { UploadId } = await client.send(new CreateMultipartUploadCommand({ Bucket: bucket, Key: 'empty' }));
    expect(await listParts(client, { Bucket: bucket, Key: 'empty', UploadId })).toEqual([]);
  },
);

test.skipIf(!versitygw)('parts that are too long for memory are streamed, and sent again as well', async () => {
  const random = vi.spyOn(Math, 'random').mockReturnValue(0);
  onTestFinished(() => random.mockRestore());
  const data = randomBytes(66 * MiB);
  const long = await fileOf('long.bin', data);
  const bodies: unknown[] = [];
  const { client, numbers } = await proxied(({ operation, before }) =>
    operation === 'UploadPart' && before < 2 ? 'reset' : null,
  );
  client.middlewareStack.add(
    (next) => (args) => {
      if ('PartNumber' in args.input) bodies.push((args.input as { Body?: object }).Body?.constructor.name);
      return next(args);
    },
    { step: 'initialize', name: 'bodies' },
  );
  const input = { file: long, bucket, key: 'long', partSize: 65 * MiB };
  expect(await uploadLargeObject(client, input)).toMatchObject({ parts: 2, checksum: base64(crc32(data)) });
  expect(new Set(bodies)).toEqual(new Set(['ReadStream', 'Buffer']));
  expect(numbers().length).toBeGreaterThan(2);
  expect(await seen(client, 'long')).toMatchObject({ sha: sha(data) });
  // Larger than the buffers, and yet of one part only.
  expect(await uploadLargeObject(client, { ...input, key: 'one', partSize: 70 * MiB })).toMatchObject({ parts: 1 });
  expect(await seen(client, 'one')).toMatchObject({ sha: sha(data) });
});

test.skipIf(!versitygw)('bodies are signed, but over TLS, where the server takes them unsigned', async () => {
  const signed: (string | undefined)[] = [];
  const watch = (client: S3Client) => {
    client.middlewareStack.add(
      (next, { commandName }) =>
        (args) => {
          const { headers } = args.request as { headers: Record<string, string> };
          if (/PutObject|UploadPart/.test(`${commandName}`)) signed.push(headers['x-amz-content-sha256']);
          return next(args);
        },
      { step: 'finalizeRequest', priority: 'low', name: 'watch' },
    );
    return client;
  };
  const upload = async (client: S3Client) => {
    signed.length = 0;
    await uploadLargeObject(client, { file, bucket, key: 'signed', partSize });
    await uploadLargeObject(client, { file, bucket, key: 'signed whole' });
    await abortUploads(client, { bucket, key: 'signed' });
  };
  await upload(watch(clientOf(gateway.url)));
  expect(signed).toHaveLength(4);
  expect(signed.filter((hash) => !/^[0-9a-f]{64}$/.test(`${hash}`))).toEqual([]);

  const [cert, key] = [join(here, 'cert.pem'), join(here, 'key.pem')];
  const name = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '1', '-nodes'];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-keyout', key, '-out', cert, ...name], {
    stdio: 'ignore',
  });
  const port = await freePort();
  const words = [
    '--port',
    `127.0.0.1:${port}`,
    '--cert',
    cert,
    '--key',
    key,
    '--quiet',
    'posix',
    await mkdtemp(join(here, 'tls-')),
  ];
  const { accessKeyId, secretAccessKey } = gateway;
  const env = { ROOT_ACCESS_KEY: accessKeyId, ROOT_SECRET_KEY: secretAccessKey };
  const server = spawnServer(versitygw as string, words, env);
  onTestFinished(() => {
    server.kill();
  });
  const secure = new S3Client({
    ...{ endpoint: `https://127.0.0.1:${port}`, region: 'us-east-1', forcePathStyle: true, maxAttempts: 20 },
    ...{ credentials: { accessKeyId, secretAccessKey }, expectContinueHeader: false },
    requestHandler: { httpsAgent: new Agent({ ca: await readFile(cert), keepAlive: true }) },
  });
  await secure.send(new CreateBucketCommand({ Bucket: bucket }));
  // What fails on its way is tried again, though it is sent as a stream, which the SDK would give up with a warning.
  const streams: string[] = [];
  secure.middlewareStack.add(
    (next, { commandName = '' }) =>
      async (args) => {
        const isStream = (args.request as { body?: unknown }).body instanceof Readable;
        const isFirst = isStream && !streams.includes(commandName);
        if (isStream) streams.push(commandName);
        const answer = await next(args);
        if (!isFirst) return answer;
        throw Object.assign(new Error('Slow down'), { name: 'SlowDown', $metadata: { httpStatusCode: 503 } });
      },
    { step: 'deserialize', name: 'slow' },
  );
  const warn = vi.spyOn(console, 'warn');
  onTestFinished(() => warn.mockRestore());
  await upload(watch(secure));
  expect(warn.mock.calls).toEqual([]);
  expect(signed).toEqual(Array(6).fill('UNSIGNED-PAYLOAD'));
  // The last part is too short to be one.
  expect(streams).toEqual([...Array(3).fill('UploadPartCommand'), ...Array(2).fill('PutObjectCommand')]);
  expect(await seen(secure, 'signed')).toMatchObject({ sha: sha(body) });
  expect(await seen(secure, 'signed whole')).toMatchObject({ sha: sha(body) });
});

test('any key names the object that it should', async () => {
  const small = await fileOf('small.txt', Buffer.from('small'));
  for (const key of oddKeys) {
    await uploadLargeObject(s3(), { file: small, bucket, key });
    expect(await seen(s3(), key), key).toMatchObject({ sha: sha(Buffer.from('small')), type: 'text/plain' });
    await s3().send(new DeleteObjectCommand({ Bucket: bucket, Key: key }));
  }
  // LocalStack does not encode what it lists, and versitygw can't have all keys: so what S3 documents is answered here.
  const encode = (key: string) => encodeURIComponent(key).replaceAll('%20', '+');
  for (const key of oddKeys) {
    const kind = { ChecksumAlgorithm: 'CRC32', ChecksumType: 'FULL_OBJECT' } as const;
    const Uploads = [...oddKeys, `${key}/`].map((one) => ({ ...kind, Key: encode(one), UploadId: one }));
    const { client, sent } = withFaults(s3(), {
      operation: 'ListMultipartUploads',
      output: { EncodingType: 'url', Uploads },
    });
    const ids: unknown[] = [];
    client.middlewareStack.add(
      (next) => (args) => {
        if ('UploadId' in args.input) ids.push(args.input.UploadId);
        return next(args);
      },
      { step: 'initialize', priority: 'high', name: 'ids' },
    );
    await abortUploads(client, { bucket, key }).catch(() => {});
    expect(ids, key).toEqual([key]);
    expect(sent).toEqual(['ListMultipartUploads', 'AbortMultipartUpload']);
  }
});

test.each(['region', 'credentials'])('a client without %s is an error at once, not after all tries', async (name) => {
  const random = vi.spyOn(Math, 'random').mockReturnValue(0);
  onTestFinished(() => random.mockRestore());
  const provider = vi.fn().mockRejectedValue(new Error('there is none'));
  const client = new S3Client({ ...settingsOf({ account }), [name]: provider });
  const small = await fileOf(`no ${name}.txt`, Buffer.from('x'));
  await expect(uploadLargeObject(client, { file: small, bucket, key: 'nobody' })).rejects.toThrow('there is none');
  expect(provider).toHaveBeenCalledTimes(1);
});

test('what can be no upload is refused, and nothing is sent', async () => {
  const { client, sent } = withFaults(s3());
  const pipe = join(here, 'pipe');
  execFileSync('mkfifo', [pipe]);
  const sparse = join(here, 'sparse');
  await symlink('/nowhere', join(here, 'dangling'));
  const refused: [Partial<Parameters<typeof uploadLargeObject>[1]>, string][] = [
    [{ file: join(here, 'none') }, "none can't be read (ENOENT)"],
    [{ file: join(here, 'dangling') }, "dangling can't be read (ENOENT)"],
    [{ file: here }, 'is no regular file'],
    [{ file: pipe }, 'is no regular file'],
    [{ key: '' }, 'a key has 1 to 1,024 bytes, not 0'],
    [{ key: '\u00FC'.repeat(513) }, 'a key has 1 to 1,024 bytes, not 1026'],
    [{ partSize: partSize - 1 }, 'parts have 5 MiB (5242880 bytes) to 5 GiB (5368709120 bytes), not 5242879'],
    [{ partSize: 5120 * MiB + 1 }, 'not 5368709121'],
    [{ partSize: partSize + 0.5 }, 'not 5242880.5'],
    [{ partSize: Number.NaN }, 'not NaN'],
    [{ bucket: 'paws--use1-az4--x-s3' }, 'paws--use1-az4--x-s3 is a directory bucket'],
    [{ concurrency: 0 }, 'concurrency is 1 or more, not 0'],
    [{ concurrency: Number.NaN }, 'concurrency is 1 or more, not NaN'],
  ];
  for (const [wrong, message] of refused) {
    const upload = uploadLargeObject(client, { file, bucket, key: 'key', ...wrong });
    await expect(upload, message).rejects.toThrow(message);
    await expect(upload, message).rejects.toThrow(RangeError);
  }
  expect(sent).toEqual([]);
  const results = await Promise.all([
    run(`npx tsx ${recipe} ${sparse} s3://paws-example-own/key --local`),
    run(`npx tsx ${recipe} ${file} s3://paws-example-own --local`),
    run(`npx tsx ${recipe} ${file} s3://paws-example-none/key --local`),
  ]);
  expect(results).toMatchObject([
    { code: 2, stdout: '', stderr: expect.stringMatching(/^Error: .*sparse can't be read \(ENOENT\)\n$/) },
    { code: 2, stdout: '', stderr: expect.stringContaining('It has no key') },
    { code: 1, stdout: '', stderr: expect.stringMatching(/^Error: s3:\w+ failed: NoSuchBucket: .*\n$/) },
  ]);
});

test
  .skipIf(!versitygw)
  .each([
    'ListMultipartUploads',
    'HeadObject',
    'CreateMultipartUpload',
    'ListParts',
    'UploadPart',
    'CompleteMultipartUpload',
  ])('an error of %s goes up, the file is closed, and the next run does it all', async (operation) => {
  const input = { file, bucket, key: `failing ${operation}`, partSize };
  // Of a HeadObject, 400 says that the object has a key of its own.
  const name = operation === 'HeadObject' ? 'InternalError' : 'InvalidRequest';
  const { client } = withFaults(clientOf(gateway.url), { operation, error: name });
  const isLate = ['UploadPart', 'CompleteMultipartUpload'].includes(operation);
  vi.spyOn(Math, 'random').mockReturnValue(0);
  await expect(uploadLargeObject(client, input)).rejects.toMatchObject({
    name,
    message: expect.stringMatching(isLate ? /^InvalidRequest\. \d of 3 parts are stored: / : RegExp(`^${name}$`)),
  });
  vi.restoreAllMocks();
  await expect(handlesOn(file)).resolves.toBe(0);
  await uploadLargeObject(clientOf(gateway.url), input);
  expect(await seen(clientOf(gateway.url), input.key)).toMatchObject({ sha: sha(body) });
  expect(await unfinished(clientOf(gateway.url), input.key)).toEqual([]);
});

test.skipIf(!versitygw)('as many parts as allowed are sent at once, and one signal does for all of them', async () => {
  const data = randomBytes(14 * partSize);
  const many = await fileOf('many.bin', data);
  let arrived = 0;
  const together = () => {
    arrived++;
    return vi.waitUntil(() => arrived >= 12, { timeout: 60_000 });
  };
  const { client, proxy } = await proxied(({ operation }) => (operation === 'UploadPart' ? together : null));
  const warnings: string[] = [];
  const warn = ({ message }: Error) => warnings.push(message);
  process.on('warning', warn);
  const { signal } = new AbortController();
  const input = { file: many, bucket, key: 'many', partSize, signal };
  await uploadLargeObject(client, { ...input, concurrency: 12 });
  expect(proxy.load.most).toBe(12);
  process.off('warning', warn);
  expect(warnings).toEqual([]);
  expect(await seen(client, 'many')).toMatchObject({ sha: sha(data) });
});

test.skipIf(!versitygw)('an abort ends pauses and requests, and says why', async () => {
  const stop = new AbortController();
  const { proxy } = await proxied(({ operation }) => {
    if (operation === 'UploadPart') setTimeout(() => stop.abort(new Error('Enough.')), 50);
    return operation === 'UploadPart' ? 'stall' : null;
  });
  const client = clientOf(proxy.url, 300_000);
  await expect(
    uploadLargeObject(client, { file, bucket, key: 'aborted', partSize, signal: stop.signal }),
  ).rejects.toMatchObject({
    name: 'AbortError',
    message: 'Enough. 0 of 3 parts are stored: run it again for the rest, or 3.13 with --abort to remove them.',
  });
  await expect.poll(() => proxy.load.now, { timeout: 20_000 }).toBe(0);
  await expect(uploadLargeObject(client, { file, bucket, key: 'aborted', signal: stop.signal })).rejects.toMatchObject({
    name: 'AbortError',
  });
});

test('an abort ends the comparison with what is there', async () => {
  const input = { file, bucket, key: 'compared', partSize };
  await uploadLargeObject(s3(), input);
  const stop = new AbortController();
  const { client } = withFaults(s3(), { operation: 'HeadObject', answered: () => stop.abort(new Error('Enough.')) });
  await expect(uploadLargeObject(client, { ...input, signal: stop.signal })).rejects.toThrow('Enough.');

  const source = await openFile(file);
  const upload = { Bucket: bucket, Key: 'compared', UploadId: 'none' };
  const there = new Map([[1, { ChecksumCRC32: base64(crc32(body)) }]]);
  const late = new AbortController();
  const read: typeof source.read = (...args) => {
    late.abort(new Error('Late.'));
    return source.read(...args);
  };
  const onPart = vi.fn();
  const options = { upload, source: { ...source, read }, partSize: body.length, there, concurrency: 1, onPart };
  await expect(uploadParts(s3(), { ...options, signal: late.signal })).rejects.toThrow('Late.');
  expect(onPart).not.toHaveBeenCalled();
  await source.close();
});

test('an abort for a reason that is no Error is told as well', async () => {
  const stop = new AbortController();
  const { client } = withFaults(s3(), { operation: 'UploadPart', answered: () => stop.abort('enough') });
  const input = { file, bucket, key: 'reason', partSize, concurrency: 1, signal: stop.signal };
  await expect(uploadLargeObject(client, input)).rejects.toMatchObject({
    name: 'AbortError',
    message: expect.stringMatching(/^enough\. 1 of 3 parts are stored/),
  });
  expect(await abortUploads(s3(), { bucket, key: 'reason' })).toMatchObject({ aborted: 1 });
});

test('in the place of an object with a key of its own (SSE-C) a file goes in parts as well', async () => {
  const secret = { SSECustomerAlgorithm: 'AES256', SSECustomerKey: 'k'.repeat(32) };
  await s3().send(new PutObjectCommand({ Bucket: bucket, Key: 'secret', Body: 'former', ...secret }));
  expect(await uploadLargeObject(s3(), { file, bucket, key: 'secret', partSize })).toMatchObject({ parts: 3, kept: 0 });
  expect(await seen(s3(), 'secret')).toMatchObject({ sha: sha(body) });
});

test('a file is read through a buffer of any size', async () => {
  const { size, read, close } = await openFile(file);
  for (const length of [1000, 4097, size, size + 1]) {
    expect(await read(Buffer.alloc(length), 0, size)).toBe(crc32(body));
    expect(await read(Buffer.alloc(length), 7, 5000)).toBe(crc32(body.subarray(7, 5007)));
  }
  expect(await read(Buffer.alloc(0), 0, 0)).toBe(0);
  await close();
});

test('an error within an answer of 200, to which the SDK gives 503, is tried again unless it is final', async () => {
  const tries = async (name: string, passing?: string[]) => {
    let count = 0;
    const send = async () => {
      count++;
      throw Object.assign(new Error('no'), { name, $metadata: { httpStatusCode: 503 } });
    };
    await expect(tryAgain(send, { tries: 2, passing })).rejects.toThrow('no');
    return count;
  };
  for (const name of ['InvalidPart', 'NoSuchUpload', 'AccessDenied']) expect(await tries(name), name).toBe(1);
  expect(await tries('BadDigest', [])).toBe(1);
  expect(await tries('BadDigest')).toBe(2);
  expect(await tries('InternalError', [])).toBe(2);
});
