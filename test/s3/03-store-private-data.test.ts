import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import {
  CreateBucketCommand,
  GetObjectCommand,
  HeadObjectCommand,
  PutBucketPolicyCommand,
  PutBucketVersioningCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { expect, onTestFinished, test } from 'vitest';
import { storePrivateData } from '../../recipes/s3/03-store-private-data.ts';
import { withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';
import { keysBeyondXml, oddKeys } from '../odd-keys.ts';
import { keysOf } from '../program.ts';
import { startProxy } from '../proxy.ts';
import { startVersitygw, versitygw } from '../versitygw.ts';

const { account, bucket: own, run, file, folder, s3 } = testRecipe(import.meta);
const client = s3();
const bucket = `${own}-data`;
const shown = 'paws-example-data';

const store = (settings: { key: string; body: string | Uint8Array | Readable }, from = client) =>
  storePrivateData(from, { bucket, checkAnonymous: false, ...settings });

/** What is stored, seen by another client. */
async function read(key: string): Promise<Buffer> {
  const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
  return Buffer.from((await Body?.transformToByteArray()) as Uint8Array);
}

test('the bucket for what follows', async () => {
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
});

test('a text, a file and standard input are stored as they are', async () => {
  const bytes = randomBytes(300_000);
  writeFileSync(join(folder, 'a file'), bytes);
  const command = `npx tsx ${file} s3://${shown}`;
  const [text, whole, input] = await Promise.all([
    run(`${command}/text "Größe: 10 €\n" --local --json`),
    run(`${command}/file --file "a file" --local --json`),
    run(`${command}/input - --local --json`, { stdin: 'line\nline\n' }),
  ]);
  expect([text, whole, input].map(({ code, stderr }) => ({ code, stderr }))).toEqual(
    Array(3).fill({ code: 0, stderr: '' }),
  );
  expect(JSON.parse(whole?.stdout as string)).toEqual({
    bucket: shown,
    key: 'file',
    size: 300_000,
    checksum: expect.stringMatching(/^[\w+/]{43}=$/),
    etag: expect.stringMatching(/^"[0-9a-f]{32}"$/),
    versionId: null,
    encryption: 'AES256',
    kmsKeyId: null,
    anonymousStatus: null,
  });
  expect(await read('text')).toEqual(Buffer.from('Größe: 10 €\n'));
  expect(await read('file')).toEqual(bytes);
  expect(`${await read('input')}`).toBe('line\nline\n');
  const head = (Key: string) => client.send(new HeadObjectCommand({ Bucket: bucket, Key, ChecksumMode: 'ENABLED' }));
  expect(await head('text')).toMatchObject({ ContentType: 'text/plain; charset=utf-8' });
  expect(await head('file')).toMatchObject({
    ContentType: 'application/octet-stream',
    ChecksumSHA256: JSON.parse(whole?.stdout as string).checksum,
  });
});

test('a key of KMS encrypts when it is named', async () => {
  const arn = `arn:aws:kms:us-east-1:${account}:key/11111111-2222-3333-4444-555555555555`;
  const result = await run(`npx tsx ${file} s3://${shown}/kms text --local --json --kms-key-id ${arn}`);
  expect(result).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(result.stdout)).toMatchObject({ encryption: 'aws:kms', kmsKeyId: arn });
  expect(await client.send(new HeadObjectCommand({ Bucket: bucket, Key: 'kms' }))).toMatchObject({
    ServerSideEncryption: 'aws:kms',
    SSEKMSKeyId: arn,
    BucketKeyEnabled: true,
  });
});

test.each([...oddKeys, ...keysBeyondXml])('the key %j is stored and read back, and nothing beside it', async (key) => {
  const body = `of ${key}`;
  expect(await store({ key, body })).toMatchObject({ bucket, key, size: Buffer.byteLength(body) });
  expect(`${await read(key)}`).toBe(body);
});

test('what was there is overwritten, and kept as a version where the bucket keeps them', async () => {
  await store({ key: 'again', body: 'first' });
  expect(await store({ key: 'again', body: '' })).toMatchObject({ size: 0, versionId: null });
  expect(`${await read('again')}`).toBe('');
  const versions = `${own}-versions`;
  await client.send(new CreateBucketCommand({ Bucket: versions }));
  const VersioningConfiguration = { Status: 'Enabled' } as const;
  await client.send(new PutBucketVersioningCommand({ Bucket: versions, VersioningConfiguration }));
  const put = (body: string) =>
    storePrivateData(client, { bucket: versions, key: 'again', body, checkAnonymous: false });
  const [first, second] = [await put('first'), await put('second')];
  expect(first.versionId).not.toBe(second.versionId);
  const old = new GetObjectCommand({ Bucket: versions, Key: 'again', VersionId: first.versionId as string });
  expect(await (await client.send(old)).Body?.transformToString()).toBe('first');
});

test('data that changes on the way to S3 is not stored', async () => {
  const changing = s3();
  changing.middlewareStack.add(
    (next) => (args) => next({ ...args, input: { ...args.input, Body: 'Dear diarx' } } as typeof args),
    { step: 'initialize' },
  );
  await expect(store({ key: 'changed', body: 'Dear diary' }, changing)).rejects.toMatchObject({ name: 'BadDigest' });
  await expect(read('changed')).rejects.toMatchObject({ name: 'NoSuchKey' });
});

test('data that comes back changed, or of somebody else, is an error', async () => {
  const answers = (Body: Readable) => withFaults(s3(), { operation: 'GetObject', output: { Body } }).client;
  await expect(
    store({ key: 'back', body: 'Dear diary' }, answers(Readable.from([Buffer.from('Dear diarx')]))),
  ).rejects.toThrow(`s3://${bucket}/back comes back as other data than stored`);
  await expect(store({ key: 'back', body: 'text' }, answers(Readable.from([])))).rejects.toThrow('comes back as other');

  let intruded = false;
  const proxy = await startProxy(({ operation }) =>
    operation === 'GetObject' && !intruded
      ? async () => {
          intruded = true;
          await store({ key: 'raced', body: 'of somebody else' });
        }
      : null,
  );
  const through = clientOf({ url: proxy.url, accessKeyId: account, secretAccessKey: 'test' });
  await expect(store({ key: 'raced', body: 'mine' }, through)).rejects.toMatchObject({ name: 'PreconditionFailed' });
});

test('a broken connection, a busy server and a lost answer are tried again', async () => {
  const mishaps = ['reset', 503, 'lose'] as const;
  const proxy = await startProxy(({ operation, before }) => (operation === 'PutObject' ? mishaps[before] : null));
  const through = new S3Client({ ...settings({ url: proxy.url, accessKeyId: account }), maxAttempts: 4 });
  expect(await store({ key: 'patient', body: 'text' }, through)).toMatchObject({ size: 4 });
  expect(proxy.count('PutObject')).toBe(4);
});

test('each step that is refused is named', async () => {
  for (const operation of ['PutObject', 'GetObject']) {
    const { client: failing, sent } = withFaults(s3(), { operation, error: 'AccessDenied' });
    const refused = storePrivateData(failing, { bucket, key: 'refused', body: 'text' });
    await expect(refused, operation).rejects.toMatchObject({
      name: 'AccessDenied',
      message: `${operation === 'PutObject' ? '' : `s3://${bucket}/refused is stored, but could not be checked: `}AccessDenied`,
    });
    expect(sent.at(-1)).toBe(operation);
  }
  await expect(storePrivateData(client, { bucket: `${own}-no`, key: 'a', body: '' })).rejects.toMatchObject({
    name: 'NoSuchBucket',
  });
});

test('the question without credentials carries nothing that tells who asks', async () => {
  const proxy = await startProxy(({ operation, before }) =>
    operation === 'HeadObject' ? [403, 400, null, 503][before] : null,
  );
  const through = new S3Client({ ...settings({ url: proxy.url, accessKeyId: account }), maxAttempts: 1 });
  // As temporary credentials are.
  const session = { accessKeyId: account, secretAccessKey: 'test', sessionToken: 'token' };
  through.config.credentials = async () => session;
  const ask = async () => (await storePrivateData(through, { bucket, key: 'asked', body: 'text' })).anonymousStatus;
  expect([await ask(), await ask(), await ask()]).toEqual([403, 400, 200]);
  await expect(ask()).rejects.toMatchObject({
    message: expect.stringMatching(/asked is stored, but could not be checked: /),
    cause: { $metadata: { httpStatusCode: 503 } },
  });
  for (const { headers } of proxy.requests.filter(({ operation }) => operation === 'HeadObject')) {
    expect(Object.keys(headers).filter((name) => /auth|x-amz-(?!user-agent)/.test(name))).toEqual([]);
  }
  const [signed] = proxy.requests;
  expect(Object.keys(signed?.headers ?? {})).toEqual(expect.arrayContaining(['authorization', 'x-amz-security-token']));
});

test('400 is as good as 403 from S3 where a key of KMS encrypts, and only there', async () => {
  const proxy = await startProxy(({ operation }) => (operation === 'HeadObject' ? 400 : null));
  const command = `npx tsx ${file} s3://${shown}/strange text --json --endpoint-url ${proxy.url}`;
  const env = keysOf({ accessKeyId: account, secretAccessKey: 'test' });
  const arn = `arn:aws:kms:us-east-1:${account}:key/11111111-2222-3333-4444-555555555555`;
  const [own, kms] = [await run(command, { env }), await run(`${command} --kms-key-id ${arn}`, { env })];
  expect(own).toMatchObject({ code: 1, stderr: expect.stringContaining('without credentials the answer is 400') });
  expect(kms).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(kms.stdout)).toMatchObject({ kmsKeyId: arn, anonymousStatus: 400 });
});

test('too much data, a bad key and an empty name of a key are refused before anything is sent', async () => {
  const { client: unused, sent } = withFaults(s3());
  let taken = 0;
  const endless = (function* () {
    for (const mebibyte = Buffer.alloc(2 ** 20); ; taken++) yield mebibyte;
  })();
  const refused: [string, Partial<Parameters<typeof storePrivateData>[1]>][] = [
    ['over 100 MiB: 3.13 uploads large files, 3.22 streams', { body: Readable.from(endless) }],
    ['over 100 MiB', { body: new Uint8Array(100 * 2 ** 20 + 1) }],
    ['1,024 bytes, not 0', { key: '' }],
    ['1,024 bytes, not 1026', { key: 'ü'.repeat(513) }],
    ['the id of the KMS key is empty', { kmsKeyId: '' }],
  ];
  for (const [message, more] of refused) {
    const stored = storePrivateData(unused, { bucket, key: 'key', body: 'text', ...more });
    await expect(stored, message).rejects.toThrow(message);
    await expect(stored, message).rejects.toThrow(RangeError);
  }
  expect(sent).toEqual([]);
  expect(taken).toBeLessThan(130);
  expect(await store({ key: 'most', body: Buffer.alloc(100 * 2 ** 20) })).toMatchObject({ size: 100 * 2 ** 20 });
});

test('wrong usage is told', async () => {
  const command = `npx tsx ${file} s3://${shown}`;
  const [neither, both, noFile, folder] = await Promise.all([
    run(`${command}/key --local`),
    run(`${command}/key text --file x --local`),
    run(`${command}/key --file no-such-file --local`),
    run(`${command}/key --file . --local`),
  ]);
  expect(neither).toMatchObject({ code: 2, stdout: '', stderr: 'Error: give either a text or --file\n' });
  expect(both).toMatchObject({ code: 2, stdout: '', stderr: 'Error: give either a text or --file\n' });
  expect(noFile).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining("open 'no-such-file'") });
  expect(folder).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('EISDIR') });
});

test('an interrupted one stores nothing', async () => {
  const proxy = await startProxy(({ operation }) => (operation === 'PutObject' ? 'stall' : null));
  const through = clientOf({ url: proxy.url, accessKeyId: account, secretAccessKey: 'test' });
  const signal = AbortSignal.timeout(200);
  const stored = storePrivateData(through, { bucket, key: 'stopped', body: 'text', signal });
  await expect(stored).rejects.toThrow();
  await expect(read('stopped')).rejects.toMatchObject({ name: 'NoSuchKey' });

  // While the data is still coming, too.
  const slow = (async function* () {
    for (let count = 0; count < 100; count++) {
      await new Promise((done) => setTimeout(done, 10));
      yield Buffer.from('a');
    }
  })();
  const { client: unused, sent } = withFaults(s3());
  const body = Readable.from(slow);
  const waiting = storePrivateData(unused, { bucket, key: 'stopped', body, signal: AbortSignal.timeout(50) });
  await expect(waiting).rejects.toMatchObject({ name: 'TimeoutError' });
  // And when none comes any more.
  const stalled = new Readable({ read() {} });
  for (const body of [stalled, { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => {}) }) }]) {
    const still = storePrivateData(unused, { bucket, key: 'stopped', body, signal: AbortSignal.timeout(50) });
    await expect(still).rejects.toMatchObject({ name: 'TimeoutError' });
  }
  expect(stalled.destroyed).toBe(true);
  expect(sent).toEqual([]);
});

test.skipIf(!versitygw)('a server that checks who asks keeps strangers out, until a policy lets them in', async () => {
  const server = await startVersitygw();
  onTestFinished(server.stop);
  const there = clientOf(server);
  await there.send(new CreateBucketCommand({ Bucket: bucket }));
  const command = `npx tsx ${file} s3://${shown}/diary.txt "Dear diary" --endpoint-url ${server.url} --json`;
  const closed = await run(command, { env: keysOf(server) });
  expect(closed).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(closed.stdout)).toMatchObject({ size: 10, encryption: null, anonymousStatus: 403 });
  expect((await fetch(`${server.url}/${bucket}/diary.txt`)).status).toBe(403);

  const Statement = [{ Effect: 'Allow', Principal: '*', Action: 's3:GetObject', Resource: `arn:aws:s3:::${bucket}/*` }];
  const Policy = JSON.stringify({ Version: '2012-10-17', Statement });
  await there.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy }));
  const open = await run(command, { env: keysOf(server) });
  expect(JSON.parse(open.stdout)).toMatchObject({ anonymousStatus: 200 });
  expect(open).toMatchObject({
    code: 1,
    stderr: 'Error: It is stored, but without credentials the answer is 200, not 403.\n',
  });
});

/** Settings of a client for another server, or for the proxy before LocalStack. */
function settings({ url, accessKeyId, secretAccessKey = 'test' }: Record<string, string>) {
  const credentials = { accessKeyId: accessKeyId as string, secretAccessKey };
  return { region: 'us-east-1', endpoint: url, forcePathStyle: true, credentials };
}

function clientOf({
  url,
  accessKeyId,
  secretAccessKey,
}: {
  url: string;
  accessKeyId: string;
  secretAccessKey: string;
}) {
  return new S3Client(settings({ url, accessKeyId, secretAccessKey }));
}
