import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  type PutObjectCommandInput,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import pMap from 'p-map';
import { expect, onTestFinished, test } from 'vitest';
import { bucketSize } from '../../recipes/s3/05-bucket-size.ts';
import { sendList } from '../../recipes/s3/05-helpers/read-entries.ts';
import { type ClientFault, withFaults } from '../faults.ts';
import { settingsOf, testRecipe } from '../harness.ts';
import { keysBeyondXml, oddKeys } from '../odd-keys.ts';
import type { Fault } from '../preload.ts';
import { startProxy } from '../proxy.ts';

const { bucket: own, account, run, file, s3 } = testRecipe(import.meta);
const client = s3();

/** Makes a bucket for one test: `paws-example-NAME` in commands. */
async function makeBucket(name: string, { versioned = false } = {}): Promise<string> {
  const Bucket = `${own}-${name}`;
  await client.send(new CreateBucketCommand({ Bucket }));
  const VersioningConfiguration = { Status: 'Enabled' } as const;
  if (versioned) await client.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration }));
  return Bucket;
}

const put = (Bucket: string, Key: string, size = 1, more: Partial<PutObjectCommandInput> = {}) =>
  client.send(new PutObjectCommand({ Bucket, Key, Body: Buffer.alloc(size), ...more }));

const putAll = (bucket: string, keys: readonly string[]) =>
  pMap(keys, (key, index) => put(bucket, key, index % 50), { concurrency: 16 });

/** What `putAll` has stored. */
const sizeOf = (keys: readonly string[]) => keys.reduce((sum, _, index) => sum + (index % 50), 0);

async function startUpload(Bucket: string, Key: string, parts: number[], more: object = {}): Promise<void> {
  const { UploadId } = await client.send(new CreateMultipartUploadCommand({ Bucket, Key, ...more }));
  for (const [index, size] of parts.entries()) {
    const part = { Bucket, Key, UploadId, PartNumber: index + 1, Body: Buffer.alloc(size) };
    await client.send(new UploadPartCommand(part));
  }
}

/** A client whose lists have so many entries a page, and that asks for no encoding where LocalStack mixes it. */
function paged(MaxKeys: number, { encoded = true, endpoint = process.env.COOKBOOK_LOCALSTACK } = {}) {
  const small = new S3Client({ ...settingsOf({ account }), endpoint, forcePathStyle: true });
  const sent: string[] = [];
  small.middlewareStack.add(
    (next, context) => async (args) => {
      const name = String(context.commandName).replace('Command', '');
      sent.push(name);
      const input = { ...(args.input as object), ...(name.startsWith('ListObject') && { MaxKeys }) };
      if (!encoded) Object.assign(input, { EncodingType: undefined });
      return next({ ...args, input } as typeof args);
    },
    { step: 'initialize' },
  );
  return { client: small, sent };
}

/** A server that answers with these texts in turn, and then always with the last. */
async function answering(...bodies: string[]): Promise<S3Client> {
  const body = () => (bodies.length > 1 ? bodies.shift() : bodies[0]);
  const server = createServer((_, response) => response.end(body())).listen(0, '127.0.0.1');
  await new Promise((listening) => server.once('listening', listening));
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return new S3Client({ ...settingsOf({ account }), endpoint, forcePathStyle: true });
}

/** A server with odd keys, three a page, each written as S3 writes it when asked to encode. */
async function encodingServer() {
  const keys = [...oddKeys, ...keysBeyondXml, ...oddKeys.map((key) => `a b/${key}`)];
  keys.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const encode = (key: string) => encodeURIComponent(key).replaceAll('%20', '+').replaceAll('%2F', '/');
  const asked = { now: 0, most: 0 };
  const server = createServer(async (request, response) => {
    const query = new URL(request.url ?? '', 'http://localhost').searchParams;
    asked.most = Math.max(asked.most, ++asked.now);
    await new Promise((done) => setTimeout(done, 60));
    asked.now--;
    if (query.has('uploads')) return response.end('<ListMultipartUploadsResult></ListMultipartUploadsResult>');
    const [after, token] = [query.get('start-after') ?? query.get('key-marker'), query.get('continuation-token')];
    const found = keys.findIndex((key) => after === null || Buffer.compare(Buffer.from(key), Buffer.from(after)) > 0);
    const from = token ? Number(token) : found < 0 ? keys.length : found;
    const page = keys.slice(from, from + 3).map((key, index) => {
      const [name, more] = query.has('versions') ? ['Version', '<IsLatest>true</IsLatest>'] : ['Contents', ''];
      return `<${name}><Key>${encode(key)}</Key>${more}<Size>${(from + index) % 50}</Size></${name}>`;
    });
    const [last, goesOn] = [keys[from + 2] ?? '', from + 3 < keys.length];
    const mark = query.has('versions')
      ? `<NextKeyMarker>${encode(last)}</NextKeyMarker><NextVersionIdMarker>null</NextVersionIdMarker>`
      : `<NextContinuationToken>${from + 3}</NextContinuationToken>`;
    const head = `<EncodingType>url</EncodingType><IsTruncated>${goesOn}</IsTruncated>${goesOn ? mark : ''}`;
    response.end(`<ListResult>${head}${page.join('')}</ListResult>`);
  });
  server.listen(0, '127.0.0.1');
  await new Promise((listening) => server.once('listening', listening));
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, keys, asked };
}

const measure = (target: string, faults?: Fault[]) =>
  run(`npx tsx ${file} s3://paws-example-${target} --local --json`, { faults });

test('objects, old versions, markers and unfinished uploads are counted apart, by class and prefix', async () => {
  const bucket = await makeBucket('all', { versioned: true });
  await put(bucket, 'logs/a', 10);
  await put(bucket, 'logs/a', 20);
  await put(bucket, 'logs/2026/b', 3, { StorageClass: 'STANDARD_IA' });
  await put(bucket, 'photos/c', 200_000, { StorageClass: 'GLACIER' });
  await put(bucket, 'photos/c', 131_072, { StorageClass: 'GLACIER' });
  await put(bucket, 'top', 7);
  await put(bucket, 'gone', 5);
  await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: 'gone' }));
  await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: 'gone' }));
  await startUpload(bucket, 'logs/big', [5, 6], { StorageClass: 'STANDARD_IA' });
  await startUpload(bucket, 'empty upload', []);

  const { code, stdout, stderr } = await measure('all');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const none = { objects: 0, size: 0, oldVersions: 0, oldSize: 0, parts: 0, partsSize: 0 };
  expect(JSON.parse(stdout)).toEqual({
    bucket: 'paws-example-all',
    prefix: '',
    objects: 4,
    size: 20 + 3 + 131_072 + 7,
    oldVersions: 3,
    oldSize: 10 + 200_000 + 5,
    parts: 2,
    partsSize: 11,
    deleteMarkers: 2,
    uploads: 2,
    // LocalStack does not tell the class of a version, but that of an object and of an upload.
    storageClasses: [
      {
        ...{ storageClass: 'STANDARD', ...none, objects: 4, size: 131_102, oldVersions: 3, oldSize: 200_015 },
        ...{ small: 5, smallSize: 45 },
      },
      { storageClass: 'STANDARD_IA', ...none, parts: 2, partsSize: 11, small: 0, smallSize: 0 },
    ],
    prefixes: [
      { prefix: 'photos/', ...none, objects: 1, size: 131_072, oldVersions: 1, oldSize: 200_000 },
      { prefix: 'logs/', ...none, objects: 2, size: 23, oldVersions: 1, oldSize: 10, parts: 2, partsSize: 11 },
      { prefix: '', ...none, objects: 1, size: 7, oldVersions: 1, oldSize: 5 },
    ],
  });

  const people = await run(`npx tsx ${file} s3://paws-example-all/logs/ --local`);
  expect(people.stdout).toMatch(/^prefix +logs\/$/m);
  expect(people.stdout).toMatch(/^size +23 B$/m);
  expect(people.stdout).toMatch(/^storage classes +STANDARD 33 B, STANDARD_IA 11 B$/m);
  expect(people.stdout).toMatch(/^prefixes +logs\/ 41 B, logs\/2026\/ 3 B$/m);
  const whole = await run(`npx tsx ${file} s3://paws-example-all --current --local`);
  expect(whole.stdout).toMatch(/^prefixes +photos\/ 128 KiB, logs\/ 23 B, \(none\) 7 B$/m);

  expect(await bucketSize(client, { bucket, current: true })).toMatchObject({
    ...{ ...none, objects: 4, size: 131_102, uploads: 0, deleteMarkers: 0 },
    storageClasses: [
      { storageClass: 'GLACIER', ...none, objects: 1, size: 131_072, small: 0, smallSize: 0 },
      { storageClass: 'STANDARD', ...none, objects: 2, size: 27, small: 2, smallSize: 27 },
      { storageClass: 'STANDARD_IA', ...none, objects: 1, size: 3, small: 1, smallSize: 3 },
    ],
  });
});

test('keys of all sorts are each counted once, however they fall into pages and stretches', async () => {
  const bucket = await makeBucket('odd');
  const keys = [...oddKeys, ...keysBeyondXml, 'deep/a+b', 'deep/\u{10000}', 'deep/\uFF21/x', 'q?x=1&y/z', 'a%2Fb'];
  await putAll(bucket, keys);
  const expected = { objects: keys.length, size: sizeOf(keys) };
  const names = [...new Set(keys.map((key) => key.slice(0, key.indexOf('/') + 1)))].sort();
  const { prefixes, ...amounts } = await bucketSize(client, { bucket, current: true });
  expect(amounts).toMatchObject(expected);
  expect(prefixes.map(({ prefix }) => prefix).sort()).toEqual(names);
  // Unencoded, for LocalStack finds no next page otherwise; it takes long enough for more than one call at once.
  const { client: small } = paged(3, { encoded: false });
  await pMap(keysBeyondXml, (Key) => client.send(new DeleteObjectCommand({ Bucket: bucket, Key })));
  expect((await bucketSize(small, { bucket, current: true })).objects).toBe(keys.length - keysBeyondXml.length);
});

test.each([true, false])(
  'a server of the test, that encodes keys as S3 does, has all counted once (current: %s)',
  async (current) => {
    const { url, keys, asked } = await encodingServer();
    const there = new S3Client({ ...settingsOf({ account }), endpoint: url, forcePathStyle: true });
    const result = await bucketSize(there, { bucket: own, current });
    expect(result).toMatchObject({ objects: keys.length, size: sizeOf(keys), oldVersions: 0, uploads: 0 });
    expect(result.prefixes.find(({ prefix }) => prefix === 'a b/')?.objects).toBe(oddKeys.length);
    expect(asked.most).toBeGreaterThan(1);
  },
);

test('a list that goes on where it was ends the work', async () => {
  const bucket = await makeBucket('endless');
  await putAll(bucket, ['\t', ' ', '!']);
  const { client: small } = paged(1);
  await expect(bucketSize(small, { bucket, current: true })).rejects.toThrow('S3 does not say where the list goes on.');
  expect(await bucketSize(client, { bucket, current: true })).toMatchObject({ objects: 3 });
});

test('versions of one key that fall into several pages are each counted once', async () => {
  const bucket = await makeBucket('pages', { versioned: true });
  const keys = oddKeys.filter((key) => key.length < 100).slice(-24);
  for (let round = 0; round < 3; round++) await putAll(bucket, keys);
  await pMap(keys.slice(0, 9), (Key) => client.send(new DeleteObjectCommand({ Bucket: bucket, Key })));
  for (const page of [2, 5]) {
    const { client: small } = paged(page, { encoded: false });
    expect(await bucketSize(small, { bucket })).toMatchObject({
      objects: keys.length - 9,
      oldVersions: keys.length * 2 + 9,
      deleteMarkers: 9,
      size: sizeOf(keys) - sizeOf(keys.slice(0, 9)),
      oldSize: sizeOf(keys) * 2 + sizeOf(keys.slice(0, 9)),
    });
  }
});

test('a prefix is taken as it stands', async () => {
  const bucket = await makeBucket('prefix');
  await putAll(bucket, ['a b/1', 'a%20b/1', 'a+b/1', 'a+b/2/3', 'a+b', 'A+b/1', '/a+b/1']);
  for (const [prefix, objects] of Object.entries({
    'a+b': 3,
    'a+b/': 2,
    'a b': 1,
    'a%20b/': 1,
    '/': 1,
    'no such': 0,
  })) {
    expect(await bucketSize(client, { bucket, prefix, current: true }), prefix).toMatchObject({ prefix, objects });
  }
});

test('beyond a thousand prefixes the others are one row', async () => {
  const bucket = await makeBucket('many');
  await putAll(
    bucket,
    Array.from({ length: 1004 }, (_, index) => `folder-${index}/key`),
  );
  const { prefixes, objects, size } = await bucketSize(client, { bucket, current: true });
  expect(objects).toBe(1004);
  expect(prefixes).toHaveLength(1001);
  expect(prefixes.find(({ prefix }) => prefix === null)).toMatchObject({ objects: 4 });
  expect(prefixes.reduce((sum, row) => sum + row.size, 0)).toBe(size);
  const people = await run(`npx tsx ${file} s3://paws-example-many --current --local`);
  expect(people.stdout).toMatch(/^prefixes +\(others\) \d+ B, folder-.* B, 991 more$/m);
});

test('an answer that is refused or breaks off is asked for again, and counted once', async () => {
  const bucket = await makeBucket('again');
  const keys = Array.from({ length: 60 }, (_, index) => `key-${index}`);
  await putAll(bucket, keys);
  // Each request once: LocalStack's tokens are in the URL.
  const met = new Set<string>();
  const proxy = await startProxy(({ url }) => {
    if (met.has(url)) return null;
    met.add(url);
    return ([503, 'cut', 'reset'] as const)[met.size % 3];
  });
  const { client: broken } = paged(10, { endpoint: proxy.url });
  expect(await bucketSize(broken, { bucket, current: true })).toMatchObject({ objects: 60, size: sizeOf(keys) });
  expect(proxy.count('ListObjectsV2')).toBe(met.size * 2);
});

test('no more calls than allowed are under way, and one signal does for all', async () => {
  const bucket = await makeBucket('parallel');
  await putAll(
    bucket,
    Array.from({ length: 200 }, (_, index) => `${index}`.padStart(3, '0')),
  );
  const proxy = await startProxy(() => () => new Promise((done) => setTimeout(done, 60)));
  const { client: small } = paged(4, { endpoint: proxy.url });
  const warnings: string[] = [];
  const warn = ({ message }: Error) => warnings.push(message);
  process.on('warning', warn);
  const told: string[] = [];
  const { signal } = new AbortController();
  const onProgress = (text: string) => told.push(text);
  const options = { bucket, current: true, concurrency: 12, signal, onProgress };
  expect(await bucketSize(small, options)).toMatchObject({ objects: 200 });
  process.off('warning', warn);
  expect(warnings).toEqual([]);
  // Twelve, where this process has time to spare.
  expect(proxy.load.most).toBeGreaterThan(3);
  expect(proxy.load.most).toBeLessThanOrEqual(12);
  expect(told.at(-1)).toBe('200 listed');

  const one = await startProxy(() => () => new Promise((done) => setTimeout(done, 5)));
  await bucketSize(paged(40, { endpoint: one.url }).client, { bucket, current: true, concurrency: 1 });
  expect(one.load.most).toBe(1);
  expect(one.count('ListObjectsV2')).toBe(5);
});

test('an upload that is gone meanwhile is not counted, any other error ends the work', async () => {
  const bucket = await makeBucket('uploads');
  await startUpload(bucket, 'first/one', [3]);
  await startUpload(bucket, 'second', [4]);
  const withFault = (fault: ClientFault) => bucketSize(withFaults(s3(), fault).client, { bucket });
  const gone = { operation: 'ListParts', error: 'NoSuchUpload', times: 1 };
  expect(await withFault(gone)).toMatchObject({ uploads: 1, parts: 1, prefixes: [{ prefix: '', parts: 1 }] });
  for (const operation of ['ListObjectVersions', 'ListMultipartUploads', 'ListParts']) {
    const { client: denied, sent } = withFaults(s3(), { operation, error: 'AccessDenied' });
    await expect(bucketSize(denied, { bucket })).rejects.toMatchObject({ name: 'AccessDenied' });
    // A right that is missing for the parts shows before the long list.
    expect(sent.includes('ListObjectVersions')).toBe(operation === 'ListObjectVersions');
  }
  const lost = { operation: 'ListMultipartUploads', output: { IsTruncated: true } };
  await expect(withFault(lost)).rejects.toThrow('S3 does not say where the list goes on.');
  const upload = { Key: 'a+b', UploadId: 'id' };
  // As on S3, the marker is there on the last page, too.
  const parts = (Size: number, IsTruncated: boolean) => ({ Parts: [{ Size }], IsTruncated, NextPartNumberMarker: '9' });
  const first = {
    Uploads: [upload],
    EncodingType: 'url',
    IsTruncated: true,
    NextKeyMarker: 'a+b',
    NextUploadIdMarker: 'id',
  };
  const inputs: object[] = [];
  const { client: two } = withFaults(
    s3(),
    { operation: 'ListMultipartUploads', times: 1, output: first },
    { operation: 'ListMultipartUploads', output: {}, answered: (input) => inputs.push(input) },
    { operation: 'ListParts', times: 1, output: parts(50, true), answered: (input) => inputs.push(input) },
    { operation: 'ListParts', times: 1, output: parts(7, false), answered: (input) => inputs.push(input) },
  );
  expect(await bucketSize(two, { bucket })).toMatchObject({ uploads: 1, parts: 2, partsSize: 57 });
  expect(inputs).toEqual([
    expect.objectContaining({ Key: 'a b', UploadId: 'id', PartNumberMarker: '0' }),
    expect.objectContaining({ Key: 'a b', UploadId: 'id', PartNumberMarker: '9' }),
    expect.objectContaining({ KeyMarker: 'a b', UploadIdMarker: 'id' }),
  ]);
});

test('what the reader does not know is read by the SDK', async () => {
  const contents = (key: string, more: string) =>
    `<Contents>${more}<Key>${key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>`;
  const xml = (entries: string[]) => `<?xml version="1.0"?><ListBucketResult>${entries.join('\n')}</ListBucketResult>`;
  const objects = await answering(
    xml([
      contents('a', '<Size>1</Size><StorageClass>GLACIER</StorageClass>'),
      contents('c', '<Size>3</Size>'),
      contents('b&amp;\u{1F600}', '<Size>2</Size>'),
      contents('f', '<Size> 5 </Size>'),
      '<Contents >\n <Key>d</Key>\n <Size>4</Size>\n</Contents>',
      '<Contents><Key>e</Key><Size /></Contents>',
    ]),
  );
  const listed = await sendList(objects, new ListObjectsV2Command({ Bucket: own }));
  expect(listed.entries).toEqual([
    { key: 'a', size: 1, storageClass: 'GLACIER', isLatest: true, isMarker: false },
    { key: 'b&\u{1F600}', size: 2, storageClass: 'STANDARD', isLatest: true, isMarker: false },
    { key: 'c', size: 3, storageClass: 'STANDARD', isLatest: true, isMarker: false },
    { key: 'd', size: 4, storageClass: 'STANDARD', isLatest: true, isMarker: false },
    { key: 'e', size: 0, storageClass: 'STANDARD', isLatest: true, isMarker: false },
    { key: 'f', size: 5, storageClass: 'STANDARD', isLatest: true, isMarker: false },
  ]);

  // As S3 writes it: in the order of keys, with an owner each.
  const owner = '<Owner><ID>75aa57f09aa0c8caeab4f8c24e99d10f8e7faeebf76c078efc7c6caea54ba06a</ID></Owner>';
  const version = (key: string, isLatest: boolean, size: number) =>
    `<Version><Key>${key}</Key><VersionId>QUpfdndhfd8438MNFDN93jdnJFkdmqnh893</VersionId><IsLatest>${isLatest}</IsLatest>` +
    `<LastModified>2009-10-10T17:50:30.000Z</LastModified><ETag>&quot;fba9dede5f27731c9771645a39863328&quot;</ETag>` +
    `<Size>${size}</Size><StorageClass>STANDARD</StorageClass>${owner}</Version>`;
  const marker = (key: string, isLatest: boolean) =>
    `<DeleteMarker><Key>${key}</Key><VersionId>03jpff543dhffds434rfdsFDN943fdsFkdmqnh892</VersionId>` +
    `<IsLatest>${isLatest}</IsLatest><LastModified>2009-11-12T17:50:30.000Z</LastModified>${owner}</DeleteMarker>`;
  const versions = await answering(
    `<ListVersionsResult><IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>${version('a+b%2B', true, 434234)}` +
      `${version('a+b%2B', false, 166434)}${marker('b%3Cc', true)}${version('b%3Cc', false, 5)}</ListVersionsResult>`,
  );
  const page = await sendList(versions, new ListObjectVersionsCommand({ Bucket: own }));
  expect(page.entries.map(({ key, size, isLatest, isMarker }) => [key, size, isLatest, isMarker])).toEqual([
    ['a b+', 434234, true, false],
    ['a b+', 166434, false, false],
    ['b<c', 0, true, true],
    ['b<c', 5, false, false],
  ]);
  expect(page.page.IsTruncated).toBe(false);
});

test('an error in an answer of 200 is an error', async () => {
  const error = await answering('<Error><Code>InternalError</Code><Message>Not today</Message></Error>');
  error.config.maxAttempts = async () => 1;
  await expect(bucketSize(error, { bucket: own, current: true })).rejects.toMatchObject({ name: 'InternalError' });

  // One that comes late is asked again for, and what came before it does not count.
  const entry = '<Contents><Key>a</Key><Size>5</Size></Contents>';
  const late = await answering(
    `<Error>${entry}<Code>InternalError</Code></Error>`,
    `<ListResult>${entry}</ListResult>`,
  );
  expect(await bucketSize(late, { bucket: own, current: true })).toMatchObject({ objects: 1, size: 5 });
});

test('an abort ends it, and Ctrl-C with 130', async () => {
  const bucket = await makeBucket('stopped');
  await put(bucket, 'key');
  const stop = new AbortController();
  stop.abort(new Error('Enough.'));
  await expect(bucketSize(client, { bucket, signal: stop.signal })).rejects.toThrow();
  const stopped = await measure('stopped', [{ operation: 's3:ListObjectVersions', times: 1, signal: 'SIGINT' }]);
  expect(stopped).toMatchObject({ code: 130, stdout: '', stderr: expect.stringMatching(/^Interrupted\./) });
});

test('no bucket is 404, a missing right 403, and wrong input is refused before anything is sent', async () => {
  const nowhere = await measure('nowhere');
  expect(nowhere).toEqual({
    code: 1,
    stdout: '',
    stderr: 'Error: s3:ListMultipartUploads failed: NoSuchBucket: The specified bucket does not exist\n',
  });
  const denied = await measure('all', [{ operation: 's3:ListObjectVersions', error: { name: 'AccessDenied' } }]);
  expect(denied.code).toBe(1);
  expect(denied.stderr).toContain('s3:ListBucketVersions');

  const { client: unsent, sent } = paged(1);
  // And an access point of one.
  for (const bucket of ['paws--use1-az4--x-s3', 'paws--use1-az4--xa-s3'])
    await expect(bucketSize(unsent, { bucket })).rejects.toThrow(RangeError);
  for (const concurrency of [0, Number.NaN, 1.5]) {
    await expect(bucketSize(unsent, { bucket: own, concurrency })).rejects.toThrow(RangeError);
  }
  expect(sent).toEqual([]);
  const wrong = await run(`npx tsx ${file} paws-example --local`);
  expect(wrong).toMatchObject({ code: 2, stdout: '' });
});
