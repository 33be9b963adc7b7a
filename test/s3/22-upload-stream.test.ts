import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import {
  CreateBucketCommand,
  DeleteObjectCommand,
  ListMultipartUploadsCommand,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import fc from 'fast-check';
import pMap from 'p-map';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { base64 } from '../../recipes/s3/13-helpers/crc32.ts';
import { readBytes } from '../../recipes/s3/22-helpers/byte-reader.ts';
import { outputOf } from '../../recipes/s3/22-helpers/output-of.ts';
import { uploadStream } from '../../recipes/s3/22-upload-stream.ts';
import { withFaults } from '../faults.ts';
import { settingsOf, testRecipe } from '../harness.ts';
import { oddKeys } from '../odd-keys.ts';
import type { StartedServer } from '../program.ts';
import { type Mishap, type S3Request, startProxy } from '../proxy.ts';
import { readStored, sha } from '../stored.ts';
import { startVersitygw, versitygw } from '../versitygw.ts';

vi.mock('node:zlib', async (original) => {
  const zlib = await original<typeof import('node:zlib')>();
  return { ...zlib, crc32: vi.fn(zlib.crc32) };
});

const { account, bucket: harnessBucket, run, file: recipe, s3 } = testRecipe(import.meta);
/** Not the one of the header's commands, which is removed with all that is in it. */
const bucket = `${harnessBucket}-own`;
const MiB = 2 ** 20;
const partSize = 5 * MiB;
/** Of three parts; the last one is short. */
const data = randomBytes(2 * partSize + 1000);
let gateway: StartedServer;

beforeAll(async () => {
  if (!versitygw) return;
  gateway = await startVersitygw();
  await clientOf(gateway.url).send(new CreateBucketCommand({ Bucket: bucket }));
});
afterAll(() => gateway?.stop());

/** A client of versitygw, or of what stands before it. Its connections may be silent for so many milliseconds. */
function clientOf(endpoint: string, socketTimeout = 30_000): S3Client {
  const { accessKeyId, secretAccessKey } = gateway;
  const settings = { requestHandler: { socketTimeout }, expectContinueHeader: false };
  const credentials = { accessKeyId, secretAccessKey };
  return new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials, ...settings });
}

/** Starts a proxy before versitygw, and a client of it. */
async function proxied(mishap?: (seen: S3Request) => Mishap | null | undefined, socketTimeout?: number) {
  const proxy = await startProxy(mishap, { target: gateway.url });
  const numbers = () => proxy.requests.flatMap(({ query }) => Number(query.get('partNumber')) || []);
  return { proxy, numbers, client: clientOf(proxy.url, socketTimeout) };
}

/** Bytes as a stream, in chunks of one length. */
async function* inChunks(bytes: Buffer, length = 65_536) {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

const seen = (client: S3Client, key: string) => readStored(client, bucket, key);

/** Puts something small under a key, and returns how to see that it is still there and no upload beside it. */
async function former(client: S3Client, key: string) {
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: 'former' }));
  return async (why = key) => {
    expect(await seen(client, key), why).toMatchObject({ sha: sha(Buffer.from('former')) });
    expect(await unfinished(client, key), why).toEqual([]);
  };
}

/** The ids of the unfinished uploads to a key. */
async function unfinished(client: S3Client, key: string) {
  const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
  return Uploads.filter(({ Key }) => Key === key).map(({ UploadId }) => UploadId);
}

/** Lets pauses before new tries be none. */
function withoutPauses() {
  const random = vi.spyOn(Math, 'random').mockReturnValue(0);
  onTestFinished(() => random.mockRestore());
}

const inParts = (parts: number) => [
  'CreateMultipartUpload',
  ...Array(parts).fill('UploadPart'),
  'CompleteMultipartUpload',
  'HeadObject',
];

test.each([
  ['nothing', 0, ['PutObject']],
  ['a byte', 1, ['PutObject']],
  ['less than a part', partSize - 1, ['PutObject']],
  ['one part exactly', partSize, ['PutObject']],
  ['a part and a byte', partSize + 1, inParts(2)],
  ['three parts exactly', 3 * partSize, inParts(3)],
  ['many parts', 9 * partSize + 77, inParts(10)],
])('a stream of %s arrives as it is', async (name, size, operations) => {
  const bytes = randomBytes(size);
  const key = `${name}.json`;
  const told: object[] = [];
  const onProgress = (done: object) => told.push(done);
  await s3().send(new CreateBucketCommand({ Bucket: bucket }));
  const { client, sent } = withFaults(s3());
  const result = await uploadStream(client, { bucket, key, body: inChunks(bytes), partSize, onProgress });
  const checksum = base64(crc32(bytes));
  const etag = expect.stringMatching(/^"[0-9a-f]{32}(-\d+)?"$/);
  const parts = Math.max(1, operations.length - 3);
  expect(result).toEqual({ bucket, key, size, checksum, etag, versionId: null, parts });
  const type = 'application/json';
  expect(await seen(s3(), key)).toEqual({ sha: sha(bytes), checksum, checksumType: 'FULL_OBJECT', type });
  expect(sent).toEqual(operations);
  expect(await unfinished(s3(), key)).toEqual([]);
  expect(told).toHaveLength(parts);
  expect(told.at(-1)).toEqual({ bytes: size, total: null });
});

test('chunks of any length fill buffers of any length, and the last is known as such', async () => {
  const chunks = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(chunks, fc.integer({ min: 1, max: 50 }), async (pieces, length) => {
      const all = Buffer.concat(pieces);
      const { fill } = readBytes(Readable.from(pieces), new AbortController().signal);
      const read: Buffer[] = [];
      for (let isLast = false; !isLast; ) {
        const buffer = Buffer.alloc(length);
        const filled = await fill(buffer);
        read.push(buffer.subarray(0, filled.length));
        isLast = filled.isLast;
      }
      expect(Buffer.concat(read)).toEqual(all);
      expect(read).toHaveLength(Math.max(1, Math.ceil(all.length / length)));
    }),
  );
});

test('streams of Node, of the web and of the network, a chunk larger than a part: all are stored', async () => {
  const server = createServer((_, answer) => answer.end(data)).listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  // A stream that waits for long may break meanwhile: so each is opened when its turn comes.
  const bodies: Record<string, () => Promise<unknown>> = {
    readable: async () => Readable.from(inChunks(data)),
    incoming: async () => (await once(get(url), 'response'))[0],
    fetched: async () => (await fetch(url)).body,
    blob: async () => new Blob([data]).stream(),
    whole: async () => Readable.from([data]),
  };
  for (const [key, open] of Object.entries(bodies)) {
    const body = (await open()) as AsyncIterable<Uint8Array>;
    await uploadStream(s3(), { bucket, key, body, partSize, contentType: 'text/x-test' });
    expect(await seen(s3(), key), key).toMatchObject({ sha: sha(data), type: 'text/x-test' });
  }
});

test('the stream waits while all buffers are full, and the buffers are used again', async () => {
  const allocate = vi.spyOn(Buffer, 'allocUnsafe');
  onTestFinished(() => allocate.mockRestore());
  let open = () => {};
  const gate = new Promise<void>((resolve) => (open = resolve));
  const proxy = await startProxy(({ operation }) => (operation === 'UploadPart' ? () => gate : null));
  const client = new S3Client({ ...settingsOf({ account }), endpoint: proxy.url, forcePathStyle: true });
  const bytes = randomBytes(5 * partSize + 5);
  let given = 0;
  async function* counted() {
    for await (const chunk of inChunks(bytes)) {
      given += chunk.length;
      yield chunk;
    }
  }
  const warnings: string[] = [];
  const warn = ({ message }: Error) => warnings.push(message);
  process.on('warning', warn);
  const upload = uploadStream(client, { bucket, key: 'slow', body: counted(), partSize, concurrency: 3 });
  while (proxy.count('UploadPart') < 3) await sleep(5);
  await sleep(100);
  // What is beyond the buffers is the chunk that tells that the stream goes on.
  expect(given).toBe(3 * partSize + 65_536);
  expect(proxy.count('UploadPart')).toBe(3);
  open();
  expect(await upload).toMatchObject({ parts: 6 });
  expect(proxy.load.most).toBe(3);
  expect(allocate.mock.calls.filter(([length]) => length === partSize)).toHaveLength(3);
  expect(await seen(s3(), 'slow')).toMatchObject({ sha: sha(bytes) });

  const { signal } = new AbortController();
  await uploadStream(s3(), {
    bucket,
    key: 'wide',
    body: inChunks(randomBytes(11 * partSize)),
    partSize,
    concurrency: 11,
    signal,
  });
  await sleep(10);
  process.off('warning', warn);
  expect(warnings).toEqual([]);
});

test.skipIf(!versitygw)('a stream that breaks at any byte leaves the former object and no upload', async () => {
  const client = clientOf(gateway.url);
  // Chance that is the same each time.
  let seed = 22;
  const chance = (below: number) => {
    seed = (seed * 48271) % 2147483647;
    return seed % below;
  };
  const places = [0, 1, partSize, partSize + 1, 2 * partSize, ...Array.from({ length: 6 }, () => chance(data.length))];
  const breakAt = async (at: number) => {
    const key = `broken at ${at}`;
    const isAsBefore = await former(client, key);
    async function* broken() {
      yield* inChunks(data.subarray(0, at));
      throw new Error('the cable is cut');
    }
    for (const body of [broken(), Readable.from(broken())]) {
      await expect(uploadStream(client, { bucket, key, body, partSize }), key).rejects.toThrow(/^the cable is cut$/);
      await isAsBefore();
    }
    // It is closed before its end, as when the connection behind it breaks.
    const body = new Readable({ read() {} });
    for await (const chunk of inChunks(data.subarray(0, at))) body.push(chunk);
    const upload = uploadStream(client, { bucket, key, body, partSize });
    setTimeout(() => body.destroy(), 30);
    await expect(upload, key).rejects.toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE' });
    await isAsBefore();
  };
  await pMap(places, breakAt, { concurrency: 4 });
});

test.skipIf(!versitygw)('an answer of another server that breaks off is not stored', async () => {
  const server = createServer((_, answer) => {
    answer.writeHead(200, { 'content-length': data.length });
    answer.write(data.subarray(0, -500), () => setTimeout(() => answer.destroy(), 50));
  }).listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const client = clientOf(gateway.url);
  const isAsBefore = await former(client, 'cut');
  const [incoming] = await once(get(url), 'response');
  await expect(uploadStream(client, { bucket, key: 'cut', body: incoming, partSize })).rejects.toThrow('aborted');
  const { body } = await fetch(url);
  const fetched = uploadStream(client, { bucket, key: 'cut', body: body as AsyncIterable<Uint8Array>, partSize });
  await expect(fetched).rejects.toThrow('terminated');
  await isAsBefore();
});

test('what is no stream of bytes, or can be no upload, is refused, and nothing is sent', async () => {
  const { client, sent } = withFaults(s3());
  const read = Readable.from([Buffer.from('x')]);
  for await (const _ of read);
  const web = new Blob(['x']).stream();
  for await (const _ of web as AsyncIterable<Uint8Array>);
  const refused: [object, string, typeof RangeError | typeof TypeError][] = [
    [{ body: 'text' }, 'the body, of type string, is no stream', TypeError],
    [{ body: Buffer.from('x') }, 'of type object, is no stream', TypeError],
    [{ body: undefined }, 'of type undefined, is no stream', TypeError],
    [{ body: read }, 'the stream is broken, or some of it has been read, already', TypeError],
    [{ body: web }, 'the stream is broken, or some of it has been read, already', TypeError],
    [{ body: Readable.from(['text']) }, 'a chunk of the stream is of type string, not bytes', TypeError],
    [{ body: Readable.from([[1]]) }, 'is of type object, not bytes', TypeError],
    [{ key: '' }, 'a key has 1 to 1,024 bytes, not 0', RangeError],
    [{ key: '\u00FC'.repeat(513) }, 'a key has 1 to 1,024 bytes, not 1026', RangeError],
    [
      { partSize: partSize - 1 },
      'parts have 5 MiB (5242880 bytes) to 1 GiB (1073741824 bytes), not 5242879',
      RangeError,
    ],
    [{ partSize: 1024 * MiB + 1 }, 'not 1073741825', RangeError],
    [{ partSize: partSize + 0.5 }, 'not 5242880.5', RangeError],
    [{ partSize: Number.NaN }, 'not NaN', RangeError],
    [{ concurrency: 0 }, 'concurrency is a whole number from 1, not 0', RangeError],
    [{ concurrency: 1.5 }, 'not 1.5', RangeError],
    [{ concurrency: Number.POSITIVE_INFINITY }, 'not Infinity', RangeError],
  ];
  for (const [wrong, message, kind] of refused) {
    const upload = uploadStream(client, { bucket, key: 'key', body: inChunks(data), ...wrong });
    await expect(upload, message).rejects.toThrow(message);
    await expect(upload, message).rejects.toThrow(kind);
  }
  expect(sent).toEqual([]);
});

test('a stream of over 10,000 parts fails, and is told so', async () => {
  // Nothing is copied or sent: 49 GiB would take minutes.
  const allocate = Buffer.allocUnsafe;
  const copy = vi
    .spyOn(Buffer, 'allocUnsafe')
    .mockImplementation((size) => Object.assign(allocate(size), size === partSize && { set: () => {} }));
  const sum = vi.mocked(crc32).mockReturnValue(0);
  onTestFinished(() => {
    copy.mockRestore();
    sum.mockReset();
  });
  const { client, sent } = withFaults(
    s3(),
    { operation: 'CreateMultipartUpload', output: { UploadId: 'id' } },
    { operation: 'UploadPart', output: { ETag: '"1"' } },
    { operation: 'CompleteMultipartUpload', output: { ETag: '"1-10000"' } },
    { operation: 'AbortMultipartUpload', output: {} },
  );
  const chunk = Buffer.alloc(partSize);
  async function* endless(parts: number) {
    for (let at = 0; at < parts; at++) yield chunk;
  }
  const input = { bucket, key: 'endless', partSize };
  const upload = uploadStream(client, { ...input, body: endless(10_001) });
  await expect(upload).rejects.toThrow(RangeError);
  await expect(upload).rejects.toThrow('there are over 10,000 parts of 5242880 bytes: make them larger');
  expect(sent).toHaveLength(10_003);
  expect(sent.filter((operation) => operation === 'UploadPart')).toHaveLength(10_000);
  expect(sent.at(-1)).toBe('AbortMultipartUpload');
});

test.skipIf(!versitygw).each<Mishap>([500, 503, 'reset', 'stall', 'cut', 'lose'])(
  'a part or a whole stream that meets with %s is sent again',
  async (mishap) => {
    // Where silence is given up, another part may be, too, on a busy machine.
    const silence = ['stall', 'cut'].includes(`${mishap}`) ? 1000 : undefined;
    const { client, numbers } = await proxied(({ operation, before, query }) => {
      if (operation === 'PutObject') return before === 0 ? mishap : null;
      return operation === 'UploadPart' && query.get('partNumber') === '2' && before < 3 ? mishap : null;
    }, silence);
    const key = `after ${mishap}`;
    expect(await uploadStream(client, { bucket, key, body: inChunks(data), partSize })).toMatchObject({ parts: 3 });
    const others = numbers().filter((number) => number !== 2);
    expect([...(silence ? new Set(others) : others)].sort()).toEqual([1, 3]);
    expect(numbers().length).toBeGreaterThan(3);
    expect(await seen(client, key)).toMatchObject({ sha: sha(data), checksum: base64(crc32(data)) });
    await uploadStream(client, { bucket, key: `${key}, whole`, body: inChunks(data) });
    expect(await seen(client, `${key}, whole`)).toMatchObject({ sha: sha(data), checksumType: 'FULL_OBJECT' });
  },
);

test.skipIf(!versitygw)('tried longer than the SDK does, a part that fails for good ends it all', async () => {
  withoutPauses();
  const isAsBefore = await former(clientOf(gateway.url), 'down');
  const { client, numbers } = await proxied(({ query }) => (query.get('partNumber') === '3' ? 503 : null));
  const upload = uploadStream(client, { bucket, key: 'down', body: inChunks(data), partSize });
  await expect(upload).rejects.toMatchObject({ name: 'SlowDown', message: 'SlowDown of the test.' });
  expect(numbers().filter((number) => number === 3)).toHaveLength(36);
  await isAsBefore();
});

test.each(['region', 'credentials'])('a client without %s is an error at once, not after all tries', async (name) => {
  withoutPauses();
  const provider = vi.fn().mockRejectedValue(new Error('there is none'));
  const client = new S3Client({ ...settingsOf({ account }), [name]: provider });
  // It waits for more, and is let go all the same.
  const body = new Readable({ read() {} });
  await expect(uploadStream(client, { bucket, key: 'nobody', body })).rejects.toThrow('there is none');
  expect(body.destroyed).toBe(true);
  expect(provider).toHaveBeenCalledTimes(1);
});

test.skipIf(!versitygw)(
  'a part that is refused stops those beside it and the stream, before the upload is aborted',
  async () => {
    const isAsBefore = await former(clientOf(gateway.url), 'refused');
    const { client, numbers } = await proxied(({ operation, query }) => {
      if (operation !== 'UploadPart') return null;
      return query.get('partNumber') === '2' ? 403 : 'stall';
    });
    let underWay = 0;
    const atAborts: number[] = [];
    client.middlewareStack.add(
      (next, { commandName }) =>
        async (args) => {
          if (commandName === 'AbortMultipartUploadCommand') atAborts.push(underWay);
          if (commandName !== 'UploadPartCommand') return next(args);
          underWay++;
          return next(args).finally(() => underWay--);
        },
      { step: 'initialize', name: 'underWay' },
    );
    // It never ends: it waits for more.
    const body = new Readable({ read() {} });
    body.push(data);
    await expect(uploadStream(client, { bucket, key: 'refused', body, partSize })).rejects.toMatchObject({
      name: 'AccessDenied',
      message: 'AccessDenied of the test.',
    });
    expect(body.destroyed).toBe(true);
    expect(numbers().sort()).toEqual([1, 2]);
    expect(atAborts).toEqual([0, 0]);
    await isAsBefore();
  },
);

test('a lost answer to the completion is settled by a look at the object', async () => {
  withoutPauses();
  const losing = await startProxy(({ operation, before }) =>
    operation === 'CompleteMultipartUpload' && before < 4 ? 'lose' : null,
  );
  const client = new S3Client({ ...settingsOf({ account }), endpoint: losing.url, forcePathStyle: true });
  const input = { bucket, key: 'lost', partSize };
  const result = await uploadStream(client, { ...input, body: inChunks(data) });
  expect(losing.count('CompleteMultipartUpload')).toBe(5);
  expect(result).toMatchObject({ checksum: base64(crc32(data)), etag: expect.stringMatching(/-3"$/), parts: 3 });
  expect(await seen(s3(), 'lost')).toMatchObject({ sha: sha(data) });

  // Another one, or you may not look: then somebody may have aborted the upload.
  const gone = { operation: 'CompleteMultipartUpload', error: 'NoSuchUpload' };
  for (const other of [
    { output: { ContentLength: data.length, ChecksumCRC32: 'AAAAAA==' } },
    { output: { ContentLength: 5, ChecksumCRC32: result.checksum } },
    { error: 'AccessDenied' },
  ]) {
    const { client: unlucky, sent } = withFaults(s3(), gone, { operation: 'HeadObject', ...other });
    const upload = uploadStream(unlucky, { ...input, key: 'gone', body: inChunks(data) });
    await expect(upload).rejects.toMatchObject({ name: 'NoSuchUpload', message: 'NoSuchUpload' });
    expect(sent.slice(-2)).toEqual(['HeadObject', 'AbortMultipartUpload']);
  }
  expect(await unfinished(s3(), 'gone')).toEqual([]);

  // An object that was the same before is no sign that this upload is complete.
  const { client: denied } = withFaults(s3(), { operation: 'CompleteMultipartUpload', error: 'AccessDenied' });
  const again = uploadStream(denied, { ...input, body: inChunks(data) });
  await expect(again).rejects.toMatchObject({ name: 'AccessDenied' });
  expect(await unfinished(s3(), 'lost')).toEqual([]);
});

test('a completion without an answer may have stored it, and is said', async () => {
  withoutPauses();
  const { client } = withFaults(s3(), { operation: 'CompleteMultipartUpload', error: 'InternalError' });
  const upload = uploadStream(client, { bucket, key: 'maybe', partSize, body: inChunks(data) });
  await expect(upload).rejects.toThrow(`InternalError; s3://${bucket}/maybe may be stored`);
  expect(await unfinished(s3(), 'maybe')).toEqual([]);
});

test('what others wrote or deleted while the stream came in is an error', async () => {
  for (const other of [{ output: { ETag: '"another"' } }, { error: 'NotFound' }]) {
    const { client } = withFaults(s3(), { operation: 'HeadObject', ...other });
    const upload = uploadStream(client, { bucket, key: 'raced', partSize, body: inChunks(data) });
    await expect(upload).rejects.toThrow(`s3://${bucket}/raced was uploaded, but is not what readers get`);
  }
  // Who may not look is not told that it is lost.
  const { client } = withFaults(s3(), { operation: 'HeadObject', error: 'AccessDenied' });
  expect(await uploadStream(client, { bucket, key: 'raced', partSize, body: inChunks(data) })).toMatchObject({
    parts: 3,
  });
});

test.skipIf(!versitygw).each([
  ['PutObject', 1000],
  ['CreateMultipartUpload', data.length],
  ['UploadPart', data.length],
  ['CompleteMultipartUpload', data.length],
])('an error of %s goes up, the stream is let go, and nothing is left', async (operation, length) => {
  const key = `failing ${operation}`;
  const isAsBefore = await former(clientOf(gateway.url), key);
  const { client } = withFaults(clientOf(gateway.url), { operation, error: 'InvalidRequest' });
  let released = false;
  async function* watched() {
    try {
      yield* inChunks(data.subarray(0, length));
      yield Buffer.alloc(0);
    } finally {
      released = true;
    }
  }
  const upload = uploadStream(client, { bucket, key, body: watched(), partSize, concurrency: 1 });
  await expect(upload).rejects.toMatchObject({ name: 'InvalidRequest', message: 'InvalidRequest' });
  expect(released).toBe(true);
  await isAsBefore();
});

test('what can be aborted no more needs no word; what can not is named', async () => {
  const failing = { operation: 'UploadPart', error: 'AccessDenied' };
  const abort = (error: string) => ({ operation: 'AbortMultipartUpload', error });
  const input = { bucket, key: "it's left", partSize };
  const { client: gone } = withFaults(s3(), failing, abort('NoSuchUpload'));
  await expect(uploadStream(gone, { ...input, body: inChunks(data) })).rejects.toThrow(/^AccessDenied$/);
  const { client: denied } = withFaults(s3(), failing, abort('AccessDenied'));
  const error = await uploadStream(denied, { ...input, body: inChunks(data) }).catch((error) => error);
  expect(error).toMatchObject({ name: 'AccessDenied' });
  expect(error.message.replace(/upload \S+,/, 'upload ID,')).toBe(
    'AccessDenied; left are the parts of upload ID, which cost until you abort it, and all to keys that begin so: ' +
      `npx tsx recipes/s3/21-unfinished-uploads.ts 's3://${bucket}/it'\\''s left' --abort-days 0`,
  );
  expect(await unfinished(s3(), "it's left")).toHaveLength(2);
});

test('the command that is named removes what is left', async () => {
  const failing = ['s3:UploadPart', 's3:AbortMultipartUpload'].map((operation) => ({
    operation,
    error: { name: 'AccessDenied', message: 'No.' },
  }));
  const stdin = 'x'.repeat(partSize + 1);
  const command = `npx tsx ${recipe} "s3://paws-example-own/it's left, too" --local --part-size ${partSize}`;
  const { code, stdout, stderr } = await run(command, { stdin, faults: failing });
  const [id] = await unfinished(s3(), "it's left, too");
  const [said = '', named = ''] = /^.*(npx tsx .*)\n/.exec(stderr) ?? [];
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(said).toContain(`No.; left are the parts of upload ${id}, `);
  expect(await run(`${named} --local --yes`, { record: undefined })).toMatchObject({ code: 0, stderr: '' });
  expect(await unfinished(s3(), "it's left, too")).toEqual([]);
});

test.skipIf(!versitygw).each([
  ['the server', 'stall' as const],
  ['the stream', null],
])('a signal ends it when %s is silent, and nothing is left', async (_, mishap) => {
  const isAsBefore = await former(clientOf(gateway.url), 'silent');
  const { client, proxy } = await proxied(({ operation }) => (operation === 'UploadPart' ? mishap : null));
  const silent = () => new Promise<never>(() => {});
  async function* waiting() {
    yield data.subarray(0, partSize + 1);
    if (mishap === null) await silent();
  }
  let cancelled = mishap !== null;
  const web = new ReadableStream({
    start: (one) => one.enqueue(data.subarray(0, partSize + 1)),
    pull: () => (mishap === null ? silent() : undefined),
    cancel: () => {
      cancelled = true;
    },
  });
  for (const body of [waiting(), Readable.from(waiting()), web as unknown as AsyncIterable<Uint8Array>]) {
    const stop = new AbortController();
    proxy.requests.length = 0;
    const upload = uploadStream(client, { bucket, key: 'silent', body, partSize, signal: stop.signal });
    while (proxy.count('UploadPart') === 0) await sleep(5);
    await sleep(50);
    stop.abort(new Error('Enough.'));
    await expect(upload).rejects.toThrow(/^Enough\.$/);
    await isAsBefore();
    await vi.waitUntil(() => proxy.load.now === 0, { timeout: 20_000 });
  }
  expect(cancelled).toBe(true);
  const { client: unused, sent } = withFaults(s3());
  const late = uploadStream(unused, { bucket, key: 'late', body: inChunks(data), signal: AbortSignal.abort() });
  await expect(late).rejects.toMatchObject({ name: 'AbortError' });
  expect(sent).toEqual([]);
});

test('once all parts are there it is too late to stop', async () => {
  const stop = new AbortController();
  const { client } = withFaults(s3());
  client.middlewareStack.add(
    (next, { commandName }) =>
      (args) => {
        if (commandName === 'CompleteMultipartUploadCommand') stop.abort();
        return next(args);
      },
    { step: 'initialize', name: 'stop' },
  );
  const input = { bucket, key: 'late', body: inChunks(data), partSize, signal: stop.signal };
  expect(await uploadStream(client, input)).toMatchObject({ parts: 3 });
  expect(stop.signal.aborted).toBe(true);
});

test('any key names the object that it should', async () => {
  for (const [at, key] of oddKeys.entries()) {
    // In parts, the way of the key is another one.
    const bytes = at % 14 === 0 ? data : Buffer.from('small');
    await uploadStream(s3(), { bucket, key, body: inChunks(bytes), partSize });
    expect(await seen(s3(), key), key).toMatchObject({ sha: sha(bytes) });
    await s3().send(new DeleteObjectCommand({ Bucket: bucket, Key: key }));
  }
});

test('the output of a program ends only if the program ends with 0', async () => {
  const read = async (...words: [string, string[]?]) => {
    const chunks: Buffer[] = [];
    for await (const chunk of outputOf(...words)) chunks.push(chunk);
    return Buffer.concat(chunks);
  };
  const node = process.execPath;
  const letters = "process.stdout.write(Buffer.alloc(9e6, 'x'))";
  expect(sha(await read(node, ['-e', letters]))).toBe(sha(Buffer.alloc(9e6, 'x')));
  expect(await read('true')).toHaveLength(0);
  expect(`${await read('printf', ['%s', '$HOME; "*"'])}`).toBe('$HOME; "*"');
  await expect(read('sh', ['-c', 'echo half; exit 3'])).rejects.toThrow(/^sh ended with 3, not with 0$/);
  await expect(read('sh', ['-c', 'echo half; kill -9 $$'])).rejects.toThrow(/^sh ended with SIGKILL, not with 0$/);
  await expect(read('no-such-program')).rejects.toThrow(/^no-such-program can't be run \(.*ENOENT\)$/);
  await expect(read('no-such-program')).rejects.toThrow(RangeError);

  // It waits with the reader, and ends when the reader has enough.
  const endless = outputOf('yes');
  expect((await endless[Symbol.asyncIterator]().next()).value.subarray(0, 2).toString()).toBe('y\n');
  await sleep(100);
  expect(endless.readableLength).toBeLessThan(300_000);
  endless.destroy();
  await once(endless, 'close');
});

test('on the command line: standard input, half a program, Ctrl-C, kill -9, a lost completion', async () => {
  const to = (key: string) => `npx tsx ${recipe} s3://paws-example-own/${key} --local --part-size ${partSize}`;
  const stdin = 'x'.repeat(2 * partSize + 7);
  const keys = ['piped', 'half', 'stopped', 'killed', 'gone'];
  const [, ...asBefore] = await Promise.all(keys.map((key) => former(s3(), key)));
  const stop = (signal: NodeJS.Signals) => [{ operation: 's3:UploadPart', after: 1, times: 1, signal }];
  const gone = [{ operation: 's3:CompleteMultipartUpload', error: { name: 'NoSuchUpload' } }];
  const results = await Promise.all([
    run(`${to('piped')} --json`, { stdin }),
    run(`${to('half')} -- sh -c 'head -c ${2 * partSize} /dev/zero; kill -9 $$'`),
    run(to('stopped'), { stdin, faults: stop('SIGINT') }),
    run(to('killed'), { stdin, faults: stop('SIGKILL') }),
    run(to('gone'), { stdin, faults: gone }),
    run(`${to('none')} -- no-such-program`),
    run(`npx tsx ${recipe} s3://paws-example-own --local`, { stdin }),
    run(`npx tsx ${recipe} s3://paws-example-none/key --local`, { stdin: 'x' }),
  ]);
  expect(results).toMatchObject([
    { code: 0, stderr: '' },
    { code: 1, stdout: '', stderr: 'Error: sh ended with SIGKILL, not with 0\n' },
    { code: 130, stdout: '', stderr: 'Interrupted.\n' },
    { code: null, stdout: '' },
    { code: 1, stdout: '', stderr: expect.stringMatching(/^Error: s3:CompleteMultipartUpload failed: NoSuchUpload/) },
    { code: 2, stdout: '', stderr: expect.stringMatching(/^Error: no-such-program can't be run \(.*\)\n$/) },
    { code: 2, stdout: '', stderr: expect.stringContaining('It has no key') },
    { code: 1, stdout: '', stderr: expect.stringMatching(/^Error: s3:PutObject failed: NoSuchBucket: .*\n$/) },
  ]);
  expect(JSON.parse(results[0]?.stdout ?? '')).toEqual({
    ...{ bucket: 'paws-example-own', key: 'piped', size: stdin.length, checksum: base64(crc32(stdin)) },
    ...{ etag: expect.stringMatching(/-3"$/), versionId: null, parts: 3 },
  });
  const [half, stopped, killed, lost] = asBefore;
  for (const isAsBefore of [half, stopped, lost]) await isAsBefore?.();
  // Nobody was left to abort it, and the object is whole all the same.
  await expect(killed?.()).rejects.toThrow(/expected \[ Array\(1\) \] to deeply equal \[\]|\[ '.*' \]/);
  expect(await seen(s3(), 'killed')).toMatchObject({ sha: sha(Buffer.from('former')) });
  expect(await unfinished(s3(), 'killed')).toHaveLength(1);
});
