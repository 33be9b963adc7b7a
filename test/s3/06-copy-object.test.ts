import {
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  type PutObjectCommandInput,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import pMap from 'p-map';
import { expect, onTestFinished, test, vi } from 'vitest';
import { type CopyOptions, copyObject } from '../../recipes/s3/06-copy-object.ts';
import { patient } from '../../recipes/s3/06-helpers/patient.ts';
import { withFaults } from '../faults.ts';
import { settingsOf, testRecipe } from '../harness.ts';
import { oddKeys } from '../odd-keys.ts';
import { keysOf } from '../program.ts';
import { startProxy } from '../proxy.ts';
import { listRecipes } from '../run.ts';
import { startVersitygw, versitygw } from '../versitygw.ts';

const { bucket: own, run, file, s3, account } = testRecipe(import.meta);
const client = s3();
const MiB = 2 ** 20;
const partSize = 5 * MiB;
const large = Buffer.alloc(11 * MiB, 'paws');
const [from, locked, plain] = [`${own}-from`, `${own}-lock`, `${own}-to`];
const year = 365 * 86_400_000;

/** All that S3 lets one set with an object, in a bucket with Object Lock. */
const everything: Partial<PutObjectCommandInput> = {
  Metadata: { owner: 'me', city: '=?UTF-8?B?WsO8cmljaA==?=' },
  ContentType: 'text/csv',
  CacheControl: 'max-age=3600',
  ContentDisposition: 'attachment; filename="a b.csv"',
  ContentEncoding: 'identity',
  ContentLanguage: 'de',
  Expires: new Date('2040-01-01'),
  Tagging: 'team=web&a%20b=c%2Bd%3D',
  StorageClass: 'STANDARD_IA',
  ServerSideEncryption: 'AES256',
  WebsiteRedirectLocation: '/elsewhere',
  ObjectLockMode: 'GOVERNANCE',
  ObjectLockRetainUntilDate: new Date(Math.ceil((Date.now() + year) / 1000) * 1000),
  ObjectLockLegalHoldStatus: 'ON',
};

let made: Promise<unknown> | undefined;
/** The buckets to copy between, and what is too large to be sent for each test. */
const buckets = () => (made ??= make());
async function make() {
  for (const Bucket of [from, locked]) {
    await client.send(new CreateBucketCommand({ Bucket, ObjectLockEnabledForBucket: true }));
  }
  await client.send(new CreateBucketCommand({ Bucket: plain }));
  await client.send(new PutObjectCommand({ Bucket: from, Key: 'large', Body: large }));
}
const put = (Bucket: string, Key: string, more: Partial<PutObjectCommandInput> = {}) =>
  buckets().then(() => client.send(new PutObjectCommand({ Bucket, Key, Body: 'text', ...more })));
const head = (Bucket: string, Key: string) =>
  client.send(new HeadObjectCommand({ Bucket, Key, ChecksumMode: 'ENABLED' }));
const read = async (Bucket: string, Key: string) => {
  const { Body } = await client.send(new GetObjectCommand({ Bucket, Key }));
  return Buffer.from((await Body?.transformToByteArray()) ?? []);
};
const uploads = async (Bucket: string) =>
  ((await client.send(new ListMultipartUploadsCommand({ Bucket }))).Uploads ?? []).map(({ Key }) => Key);
/** What there is but for what no copy has from its source. */
const kept = async (Bucket: string, Key: string) => {
  const { $metadata, LastModified, VersionId, ETag, ...rest } = await head(Bucket, Key);
  const { TagSet } = await client.send(new GetObjectTaggingCommand({ Bucket, Key }));
  return { ...rest, TagSet };
};
const through = (endpoint: string, region = 'us-east-1') =>
  new S3Client({ ...settingsOf({ account }, region), endpoint, forcePathStyle: true });
/** A client, and what it is asked for. */
function watched() {
  const one = s3();
  // biome-ignore lint/suspicious/noExplicitAny: inputs of several operations
  const sent: { operation: string; input: any }[] = [];
  one.middlewareStack.add(
    (next, context) => (args) => {
      sent.push({ operation: `${context.commandName}`.replace('Command', ''), input: args.input });
      return next(args);
    },
    { step: 'initialize', priority: 'high' },
  );
  const input = (operation: string) => sent.find((call) => call.operation === operation)?.input;
  return { client: one, sent, input };
}
const copy = (key: string, more: Partial<CopyOptions> = {}, one = client) =>
  buckets().then(() => copyObject(one, { from: { bucket: from, key }, to: { bucket: plain, key }, ...more }));

test('all that S3 keeps with an object comes along, in one call and in parts', async () => {
  await put(from, 'small', everything);
  await put(from, 'all', { ...everything, Body: large, ChecksumAlgorithm: 'CRC64NVME' });
  const one = watched();
  const to = { bucket: locked, key: 'small' };
  expect(await copyObject(one.client, { from: { bucket: from, key: 'small' }, to })).toEqual({
    ...to,
    versionId: expect.stringMatching(/./),
    size: 4,
    etag: (await head(from, 'small')).ETag,
    parts: 1,
    checksum: 'CRC32',
  });
  // LocalStack drops Expires; S3 copies all headers and tags unless it is told otherwise.
  const { Expires, ExpiresString, ...most } = await kept(from, 'small');
  expect(await kept(locked, 'small')).toEqual(most);
  expect(one.input('CopyObject')).not.toHaveProperty('MetadataDirective');
  expect(one.input('CopyObject')).not.toHaveProperty('TaggingDirective');

  const told: number[] = [];
  const onProgress = ({ bytes, total }: { bytes: number; total: number }) => told.push(bytes, total);
  const inParts = await copy('all', { to: { bucket: locked, key: 'all' }, partSize, onProgress });
  expect(inParts).toMatchObject({ size: large.length, parts: 3, checksum: 'CRC64NVME' });
  expect(inParts.etag).toMatch(/^"[0-9a-f]{32}-3"$/);
  expect(await kept(locked, 'all')).toEqual(await kept(from, 'all'));
  expect(large.equals(await read(locked, 'all'))).toBe(true);
  expect(told.at(0)).toBe(0);
  expect(told.at(-2)).toBe(large.length);
  expect(new Set(told.filter((_, index) => index % 2))).toEqual(new Set([large.length]));
});

test('the command copies a version, in one call or in parts, and aborts the upload if a part fails', async () => {
  const { VersionId } = await put(from, 'versions', { ...everything, Body: large });
  await put(from, 'versions', { Body: 'newer' });
  const words = `s3://paws-example-from/versions s3://paws-example-lock/versions --version-id ${VersionId}`;
  const command = `npx tsx ${file} ${words} --local --json`;
  const faults = [{ operation: 's3:UploadPartCopy', after: 1, error: { name: 'AccessDenied', message: 'Not yours' } }];
  const stop = [{ operation: 's3:UploadPartCopy', after: 1, times: 1, signal: 'SIGINT' as const }];
  const far = [{ operation: 's3:HeadBucket', output: { BucketRegion: 'af-south-1' } }];
  const proxy = await startProxy();
  const there = `--endpoint-url ${proxy.url}`;
  const env = keysOf({ accessKeyId: account, secretAccessKey: 'test' });
  const [one, whole, broken, stopped] = await Promise.all([
    run(command.replace('lock/versions', 'lock/one').replace('--local', there), { env, faults: far }),
    run(`${command} --part-size 5`),
    run(`${command.replace('lock/versions', 'lock/broken')} --part-size 5`, { faults }),
    run(`${command.replace('lock/versions', 'lock/stopped')} --part-size 5`, { faults: stop }),
  ]);
  expect(stopped).toMatchObject({ code: 130, stdout: '' });
  expect(stopped.stderr).toMatch(/^Interrupted\. /);
  await expect(head(locked, 'stopped')).rejects.toMatchObject({ name: 'NotFound' });
  expect(JSON.parse(one.stdout)).toMatchObject({ size: large.length, parts: 1, checksum: 'CRC32' });
  // The source is read in the region that was found for it: S3 answers 400 to a HEAD signed for another one.
  const regions = proxy.requests.map(({ headers }) => /\/([^/]+)\/s3\//.exec(`${headers.authorization}`)?.[1]);
  expect(regions).toEqual(['af-south-1', 'us-east-1', 'us-east-1']);
  expect(whole).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(whole.stdout)).toMatchObject({ key: 'versions', size: large.length, parts: 3, checksum: 'CRC32' });
  expect(broken).toMatchObject({ code: 1, stdout: '' });
  expect(broken.stderr).toMatch(/^Error: s3:UploadPartCopy failed: AccessDenied: Not yours\n/);
  expect(await uploads(locked)).toEqual([]);
  await expect(head(locked, 'broken')).rejects.toMatchObject({ name: 'NotFound' });
});

test('every key arrives as it is', async () => {
  await pMap(
    oddKeys,
    async (key) => {
      await put(from, key, { Body: `text of ${key}` });
      expect(await copy(key)).toMatchObject({ key, parts: 1 });
      expect(`${await read(plain, key)}`).toBe(`text of ${key}`);
    },
    { concurrency: 8 },
  );
});

test('odd keys are copied in parts, too', async () => {
  const key = 'a b+c%20/?versionId=1#ü';
  await put(from, key, { Body: large });
  expect(await copy(key, { partSize })).toMatchObject({ key, parts: 3 });
  expect(large.equals(await read(plain, key))).toBe(true);
});

test('a version is taken by the option, not by the key', async () => {
  const { VersionId: versionId } = await put(from, 'twice', { Body: 'old', Tagging: 'age=old' });
  await put(from, 'twice', { Body: 'new', Tagging: 'age=new' });
  await put(from, `twice?versionId=${versionId}`, { Body: 'odd' });
  await copy('twice', { from: { bucket: from, key: 'twice', versionId } });
  expect(`${await read(plain, 'twice')}`).toBe('old');
  await copy(`twice?versionId=${versionId}`);
  expect(`${await read(plain, `twice?versionId=${versionId}`)}`).toBe('odd');
  // Onto itself it makes the old version the current one again.
  await copyObject(client, { from: { bucket: from, key: 'twice', versionId }, to: { bucket: from, key: 'twice' } });
  expect(`${await read(from, 'twice')}`).toBe('old');

  await client.send(new DeleteObjectCommand({ Bucket: from, Key: 'twice' }));
  await expect(copy('twice')).rejects.toThrow(`s3://${from}/twice does not exist`);
});

test('a header that is replaced loses no other, in one call and in parts', async () => {
  const { ObjectLockMode: _, ObjectLockRetainUntilDate: __, ObjectLockLegalHoldStatus: ___, ...most } = everything;
  await put(from, 'replace', { ...most, Body: large });
  const change = { contentType: 'text/plain', cacheControl: null, metadata: { Colour: 'red', owner: null } };
  for (const size of [undefined, partSize]) {
    await copy('replace', { change, partSize: size });
    const { CacheControl, ...before } = await kept(from, 'replace');
    expect(await kept(plain, 'replace')).toEqual({
      ...before,
      ContentType: 'text/plain',
      Metadata: { colour: 'red', city: everything.Metadata?.city },
    });
  }
  await copy('replace', { change: { metadata: null }, storageClass: 'ONEZONE_IA' });
  const { Metadata, StorageClass, ...before } = await kept(from, 'replace');
  expect(await kept(plain, 'replace')).toEqual({ ...before, Metadata: {}, StorageClass: 'ONEZONE_IA' });
});

test('an Expires that is no date is sent as it is', async () => {
  await put(from, 'expires');
  const output = { ContentLength: 4, ETag: (await head(from, 'expires')).ETag, ExpiresString: '0', Metadata: {} };
  const proxy = await startProxy(({ operation }) => (operation === 'CopyObject' ? 403 : null));
  const { client: one } = withFaults(through(proxy.url), { operation: 'HeadObject', output });
  await expect(copy('expires', { change: { contentType: 'text/plain' } }, one)).rejects.toThrow('AccessDenied');
  expect(proxy.requests[0]?.headers).toMatchObject({ expires: '0', 'content-type': 'text/plain' });
});

test('a lock is set again by default, one that is over or not wanted is not', async () => {
  await put(from, 'lock', everything);
  // LocalStack takes a lock in a bucket without Object Lock when it copies; S3 refuses it.
  const sentFor = async (more: Partial<CopyOptions>, output?: object) => {
    const { client: one, input } = watched();
    if (output) withFaults(one, { operation: 'HeadObject', output, times: 1 });
    await copy('lock', { to: { bucket: locked, key: 'lock' }, ...more }, one);
    const { ObjectLockMode, ObjectLockRetainUntilDate, ObjectLockLegalHoldStatus } = input('CopyObject');
    return [ObjectLockMode, ObjectLockRetainUntilDate, ObjectLockLegalHoldStatus];
  };
  expect(await sentFor({})).toEqual(['GOVERNANCE', everything.ObjectLockRetainUntilDate, 'ON']);
  const none = [undefined, undefined, undefined];
  expect(await sentFor({ to: { bucket: plain, key: 'lock' }, lock: false })).toEqual(none);
  const over = {
    ObjectLockMode: 'GOVERNANCE',
    ObjectLockRetainUntilDate: new Date(1e12),
    ObjectLockLegalHoldStatus: 'OFF',
  };
  const { ETag } = await head(from, 'lock');
  expect(await sentFor({}, { ContentLength: 4, ETag, ...over })).toEqual(none);

  // No emulator has event holds.
  const held = { ObjectLockEventHold: 'ON', ObjectLockEventHoldDurationDays: 30 };
  for (const [lock, sent] of [
    [true, ['ON', 30]],
    [false, [undefined, undefined]],
  ] as const) {
    const { client: one, input } = watched();
    withFaults(one, { operation: 'HeadObject', output: { ContentLength: 4, ETag, ...held }, times: 1 });
    await copy('lock', { to: { bucket: plain, key: 'lock' }, lock }, one);
    const { ObjectLockEventHold, ObjectLockEventHoldDurationDays } = input('CopyObject');
    expect([ObjectLockEventHold, ObjectLockEventHoldDurationDays]).toEqual(sent);
  }
});

test('a copy is encrypted as its source is, or with the key that is named; with a key of another region it is refused', async () => {
  const kms = (region: string) => `arn:aws:kms:${region}:111122223333:key/1`;
  const sentFor = async (
    key: string | undefined,
    more: Partial<CopyOptions> = {},
    ServerSideEncryption = 'aws:kms',
  ) => {
    const { client: one, input } = watched();
    const encryption = { ServerSideEncryption, SSEKMSKeyId: key, BucketKeyEnabled: key ? true : undefined };
    const output = { ContentLength: 4, ETag: '"1"', ...encryption };
    // LocalStack on Python 3.11 has no KMS.
    withFaults(one, { operation: 'HeadObject', output }, { operation: 'CopyObject', output: {} });
    await copy('kms', more, one);
    return input('CopyObject');
  };
  const encrypted = { ServerSideEncryption: 'aws:kms', BucketKeyEnabled: true };
  expect(await sentFor(kms('us-east-1'))).toMatchObject({ ...encrypted, SSEKMSKeyId: kms('us-east-1') });
  expect(await sentFor(kms('us-east-1'), { kmsKeyId: 'mine' })).toMatchObject({ ...encrypted, SSEKMSKeyId: 'mine' });
  expect(await sentFor(kms('eu-west-1'), { kmsKeyId: 'mine' })).toMatchObject({ SSEKMSKeyId: 'mine' });
  // In two layers, and so is the copy.
  const layers = await sentFor(kms('us-east-1'), { kmsKeyId: 'mine' }, 'aws:kms:dsse');
  expect(layers).toMatchObject({ ServerSideEncryption: 'aws:kms:dsse', SSEKMSKeyId: 'mine' });
  // What nobody has to choose does not stand in the way of another bucket's default.
  expect((await sentFor(undefined, {}, 'AES256')).ServerSideEncryption).toBeUndefined();
  const mine = await sentFor(undefined, { kmsKeyId: 'mine' }, 'AES256');
  expect(mine).toMatchObject({ ServerSideEncryption: 'aws:kms', SSEKMSKeyId: 'mine' });
  const within = await sentFor(undefined, { to: { bucket: from, key: 'other' } }, 'AES256');
  expect(within.ServerSideEncryption).toBe('AES256');
  await expect(sentFor(kms('eu-west-1'))).rejects.toThrow("can't be used in us-east-1");
  await expect(sentFor(kms('eu-west-1'))).rejects.toThrow(RangeError);
});

test('objects that cannot be copied are refused with the reason', async () => {
  const SSECustomerKey = Buffer.alloc(32, 1).toString('base64');
  await put(from, 'customer', { SSECustomerAlgorithm: 'AES256', SSECustomerKey });
  await expect(copy('customer')).rejects.toThrow(/SSE-C.* or the credentials have expired, or .* another region$/);
  await put(from, 'archived', { StorageClass: 'GLACIER' });
  await expect(copy('archived')).rejects.toMatchObject({ name: 'InvalidObjectState' });
  await expect(copy('nothing')).rejects.toMatchObject({
    name: 'NotFound',
    message: expect.stringContaining('nothing'),
  });
  const to = { bucket: `${own}-nowhere`, key: 'large' };
  await expect(copy('large', { to })).rejects.toMatchObject({ name: 'NoSuchBucket' });
});

test('metadata that S3 does not show come along only by themselves', async () => {
  const sentFor = async (more: Partial<CopyOptions>) => {
    const { client: one, input } = watched();
    const output = { ContentLength: large.length, ETag: '"1"', MissingMeta: 1 };
    withFaults(one, { operation: 'HeadObject', output }, { operation: 'CopyObject', output: {} });
    await copy('soap', more, one);
    return input('CopyObject').MetadataDirective;
  };
  expect(await sentFor({})).toBeUndefined();
  expect(await sentFor({ storageClass: 'STANDARD_IA' })).toBeUndefined();
  expect(await sentFor({ change: { metadata: null } })).toBe('REPLACE');
  await expect(sentFor({ change: { contentType: 'text/csv' } })).rejects.toThrow('no HTTP header');
  await expect(sentFor({ partSize })).rejects.toThrow('no HTTP header');
});

test('a copy that can be undone is told how, one onto itself is not: it is the only one', async () => {
  await put(plain, 'told');
  const [itself, other] = ['told', 'other'].map((key) =>
    run(`npx tsx ${file} s3://paws-example-to/told s3://paws-example-to/${key} --storage-class STANDARD_IA --local`, {
      terminal: { columns: 120 },
    }),
  );
  expect((await other)?.stdout).toContain(
    'Undo: npx tsx recipes/setup/16-delete-resource.ts s3://paws-example-to/other',
  );
  expect(await itself).toMatchObject({ code: 0, stdout: expect.not.stringContaining('Undo:') });
});

test('onto itself only with a change, and then a write of somebody else is not lost', async () => {
  await put(from, 'itself');
  const { client: one, sent, input } = watched();
  const itself = { bucket: from, key: 'itself' };
  await expect(copyObject(one, { from: itself, to: itself, change: {} })).rejects.toThrow(RangeError);
  expect(sent).toEqual([]);
  const { etag } = await copyObject(one, { from: itself, to: itself, storageClass: 'STANDARD_IA' });
  expect(await head(from, 'itself')).toMatchObject({ StorageClass: 'STANDARD_IA' });
  // LocalStack does not look at IfMatch.
  expect(input('CopyObject')).toMatchObject({ IfMatch: etag, CopySourceIfMatch: etag });
  await copy('itself', {}, one);
  expect(sent.filter(({ operation }) => operation === 'CopyObject')[1]?.input.IfMatch).toBeUndefined();

  await put(from, 'itself', { Body: large });
  const parts = watched();
  const change = { contentType: 'text/csv' };
  // Nor does it let an upload that has one be completed.
  withFaults(parts.client, { operation: 'CompleteMultipartUpload', error: 'PreconditionFailed' });
  await expect(copyObject(parts.client, { from: itself, to: itself, change, partSize })).rejects.toThrow(
    'Precondition',
  );
  expect(parts.input('CompleteMultipartUpload').IfMatch).toBe((await head(from, 'itself')).ETag);
  expect(await uploads(from)).toEqual([]);
});

test.each([undefined, partSize])(
  'a source that is overwritten meanwhile is not copied (part size %s)',
  async (size) => {
    const key = `moving-${size}`;
    await put(from, key, { Body: large });
    await put(plain, key, { Body: 'as it was' });
    const overwrite = () => put(from, key, { Body: Buffer.alloc(11 * MiB, 'other') });
    const proxy = await startProxy(({ operation, before }) =>
      operation === (size ? 'UploadPartCopy' : 'CopyObject') && before === 0 ? overwrite : null,
    );
    const copying = copy(key, { partSize: size, concurrency: 1 }, through(proxy.url));
    await expect(copying).rejects.toMatchObject({ name: 'PreconditionFailed' });
    expect(await uploads(plain)).toEqual([]);
    expect(`${await read(plain, key)}`).toBe('as it was');
  },
);

test('parts are copied several at once, each only if the source is still the same; what fails once is tried again', async () => {
  const proxy = await startProxy(({ operation, before }) => {
    if (operation !== 'UploadPartCopy' || before > 1) return null;
    // The second one waits until the first is there again.
    return before === 0 ? 503 : () => vi.waitUntil(() => proxy.count('UploadPartCopy') > 2, { timeout: 20_000 });
  });
  expect(await copy('large', { partSize, concurrency: 2 }, through(proxy.url))).toMatchObject({ parts: 3 });
  expect(proxy.count('UploadPartCopy')).toBe(4);
  expect(proxy.load.most).toBe(2);
  const { ETag } = await head(from, 'large');
  const parts = proxy.requests.filter(({ operation }) => operation === 'UploadPartCopy');
  expect(parts.map(({ headers }) => headers['x-amz-copy-source-if-match'])).toEqual([ETag, ETag, ETag, ETag]);
});

test('what S3 is too busy for after the tries of the SDK costs no parts', async () => {
  const { client: one, sent } = withFaults(
    s3(),
    { operation: 'UploadPartCopy', error: 'SlowDown', times: 1 },
    { operation: 'CompleteMultipartUpload', error: 'InternalError', times: 1 },
  );
  expect(await copy('large', { partSize }, one)).toMatchObject({ parts: 3, checksum: 'CRC32' });
  expect(sent.filter((name) => name === 'CompleteMultipartUpload')).toHaveLength(2);
  expect(sent).not.toContain('AbortMultipartUpload');
});

test('a part that fails stops the others before the upload is aborted', async () => {
  const proxy = await startProxy(({ operation, query }) => {
    if (operation !== 'UploadPartCopy') return null;
    return query.get('partNumber') === '1' ? 'stall' : 403;
  });
  const to = { bucket: plain, key: 'refused' };
  await expect(copy('large', { to, partSize }, through(proxy.url))).rejects.toMatchObject({ name: 'AccessDenied' });
  expect(proxy.requests.at(-1)?.operation).toBe('AbortMultipartUpload');
  // Again, for what S3 was still copying when it came first.
  expect(proxy.count('AbortMultipartUpload')).toBe(2);
  await vi.waitUntil(() => proxy.load.now === 0, { timeout: 20_000 });
  expect(await uploads(plain)).toEqual([]);
});

test('Ctrl-C half-way aborts the upload when nothing is under way any more', async () => {
  const stop = new AbortController();
  const proxy = await startProxy(({ operation, before }) => {
    if (operation !== 'UploadPartCopy' || before === 0) return null;
    setTimeout(() => stop.abort(new Error('Interrupted.')), 50);
    return 'stall';
  });
  const copying = copy(
    'large',
    { to: { bucket: plain, key: 'stopped' }, partSize, signal: stop.signal },
    through(proxy.url),
  );
  await expect(copying).rejects.toMatchObject({ name: 'AbortError' });
  expect(proxy.requests.at(-1)?.operation).toBe('AbortMultipartUpload');
  // Again, for what S3 was still copying when it came first.
  expect(proxy.count('AbortMultipartUpload')).toBe(2);
  await vi.waitUntil(() => proxy.load.now === 0, { timeout: 20_000 });
  expect(await uploads(plain)).toEqual([]);
});

test('Ctrl-C while the upload is begun leaves none', async () => {
  const stop = new AbortController();
  const proxy = await startProxy(({ operation }) =>
    operation === 'CreateMultipartUpload' ? async () => stop.abort(new Error('Interrupted.')) : null,
  );
  const to = { bucket: plain, key: 'begun' };
  await expect(copy('large', { to, partSize, signal: stop.signal }, through(proxy.url))).rejects.toThrow();
  await vi.waitUntil(() => proxy.behind.now === 0, { timeout: 20_000 });
  expect(proxy.count('UploadPartCopy')).toBe(0);
  expect(await uploads(plain)).toEqual([]);
});

test('an upload that cannot be aborted is named', async () => {
  const { client: one } = withFaults(
    s3(),
    { operation: 'UploadPartCopy', error: 'InvalidRequest' },
    { operation: 'AbortMultipartUpload', error: 'AccessDenied' },
  );
  const to = { bucket: plain, key: 'left over' };
  await expect(copy('large', { to, partSize }, one)).rejects.toMatchObject({
    name: 'InvalidRequest',
    message: expect.stringMatching(`left are the unfinished upload \\S+ of s3://${plain}/left over`),
  });
});

test('the commands that copy wait for S3 longer than for an answer elsewhere', () => {
  expect(patient.requestHandler.socketTimeout).toBeGreaterThanOrEqual(300_000);
  const copying = listRecipes().filter(({ source }) => /\bcopyObject\(/.test(source));
  expect(copying.length).toBeGreaterThan(5);
  for (const { source, number } of copying) expect(source, number).toContain('connect(S3Client, patient)');
});

test('Ctrl-C during the one call says that the copy may be there or not', async () => {
  const stop = new AbortController();
  const proxy = await startProxy(({ operation }) => {
    if (operation !== 'CopyObject') return null;
    setTimeout(() => stop.abort(new Error('Interrupted.')), 20);
    return 'stall';
  });
  await expect(copy('large', { signal: stop.signal }, through(proxy.url))).rejects.toMatchObject({
    name: 'AbortError',
    message: `Interrupted. s3://${plain}/large may be copied or not.`,
  });
});

test('that an object is not the same any more, after an answer that was lost, may be by the copy itself', async () => {
  await put(from, 'twice');
  const proxy = await startProxy(({ operation, before }) =>
    operation === 'CopyObject' ? (before === 0 ? 'lose' : 412) : null,
  );
  const failed = copy('twice', {}, through(proxy.url));
  await expect(failed).rejects.toMatchObject({ name: 'PreconditionFailed' });
  await expect(failed).rejects.toThrow(`; s3://${plain}/twice may be copied or not.`);

  // What was never sent is not copied.
  const refused = withFaults(s3(), { operation: 'CopyObject', error: 'CredentialsProviderError' });
  await expect(copy('twice', {}, refused.client)).rejects.toThrow(/^CredentialsProviderError$/);
  const closed = Object.create(s3(), {
    send: {
      value: async (command: object) => {
        if (!(command instanceof CopyObjectCommand)) return client.send(command as HeadObjectCommand);
        throw Object.assign(new Error('refused'), { code: 'ECONNREFUSED', $metadata: { attempts: 3 } });
      },
    },
  });
  await expect(copy('twice', {}, closed)).rejects.toThrow(/^refused$/);
});

test('an answer that does not come says so, too', async () => {
  const proxy = await startProxy(({ operation }) => (operation === 'CopyObject' ? 'lose' : null));
  await expect(copy('large', {}, through(proxy.url))).rejects.toThrow(`; s3://${plain}/large may be copied or not.`);
});

test('a lost answer to the end of the upload is settled by a look at the object', async () => {
  const to = { bucket: plain, key: 'lost' };
  const proxy = await startProxy(({ operation, before }) =>
    operation === 'CompleteMultipartUpload' && before === 0 ? 'lose' : null,
  );
  expect(await copy('large', { to, partSize }, through(proxy.url))).toMatchObject({ parts: 3, checksum: 'CRC32' });
  expect(proxy.count('CompleteMultipartUpload')).toBe(2);

  // Without any answer, all that is known is that there is no upload any more.
  const silent = await startProxy(({ operation, before }) =>
    operation === 'CompleteMultipartUpload' ? (before === 0 ? 'lose' : 'reset') : null,
  );
  await expect(copy('large', { to, partSize }, through(silent.url))).rejects.toMatchObject({
    message: expect.stringMatching(`^(?!.*left are).*; s3://${plain}/lost may be copied$`),
  });
  expect(silent.count('AbortMultipartUpload')).toBe(1);

  // What is there by another way, or an upload that somebody has aborted, is no copy.
  await put(plain, 'lost');
  const never = withFaults(s3(), { operation: 'CompleteMultipartUpload', error: 'NoSuchUpload' });
  await expect(copy('large', { to, partSize }, never.client)).rejects.toMatchObject({ name: 'NoSuchUpload' });
});

test.each([
  ['size', { ContentLength: 3 }],
  ['checksum', { ContentLength: 4, ChecksumCRC32: 'AAAAAA==' }],
])('a copy of another %s is an error that names it', async (_, output) => {
  await put(from, 'compared');
  const { client: one } = withFaults(s3(), { operation: 'HeadObject', after: 1, output });
  await expect(copy('compared', {}, one)).rejects.toThrow(`s3://${plain}/compared is not the same as its source`);
});

test('a copy that can not be looked at is named all the same', async () => {
  await put(from, 'unseen');
  const { client: one } = withFaults(s3(), { operation: 'HeadObject', after: 1, error: 'AccessDenied' });
  await expect(copy('unseen', {}, one)).rejects.toMatchObject({
    name: 'AccessDenied',
    message: expect.stringMatching(`^s3://${plain}/unseen is copied, but could not be compared: `),
    cause: { name: 'AccessDenied' },
  });
});

test('a checksum of parts is compared with none', async () => {
  const upload = { Bucket: from, Key: 'composite' };
  const { UploadId } = await client.send(new CreateMultipartUploadCommand({ ...upload, ChecksumAlgorithm: 'SHA256' }));
  const part = { ...upload, UploadId, PartNumber: 1 };
  const sent = await client.send(new UploadPartCommand({ ...part, Body: large, ChecksumAlgorithm: 'SHA256' }));
  const Parts = [{ PartNumber: 1, ETag: sent.ETag, ChecksumSHA256: sent.ChecksumSHA256 }];
  await client.send(new CompleteMultipartUploadCommand({ ...upload, UploadId, MultipartUpload: { Parts } }));
  expect(await copy('composite', { partSize })).toMatchObject({ parts: 3, checksum: null });
  expect(await copy('composite')).toMatchObject({ parts: 1, checksum: null });
});

test('the source is read by a client of its region, all else is the work of the other one', async () => {
  const [near, far] = [await startProxy(), await startProxy()];
  const options = { source: through(far.url, 'eu-west-1'), partSize };
  expect(await copy('large', options, through(near.url))).toMatchObject({ parts: 3 });
  const operations = (proxy: typeof near) => [...new Set(proxy.requests.map(({ operation }) => operation))];
  expect(operations(far)).toEqual(['HeadObject', 'GET ?tagging']);
  expect(operations(near)).toEqual([
    'CreateMultipartUpload',
    'UploadPartCopy',
    'CompleteMultipartUpload',
    'HeadObject',
  ]);
});

test('what S3 would refuse is refused before anything is sent', async () => {
  const { client: one, sent } = watched();
  const wrong: [Partial<CopyOptions>, string][] = [
    [{ partSize: 5 * MiB - 1 }, '5 MiB to 5 GiB'],
    [{ partSize: 5 * 1024 * MiB + 1 }, '5 MiB to 5 GiB'],
    [{ partSize: Number.NaN }, '5 MiB to 5 GiB'],
    [{ partSize: 5 * MiB + 0.5 }, 'in whole bytes, not 5242880.5'],
    [{ concurrency: 0 }, '1 or more, not 0'],
    [{ from: { bucket: 'paws--use1-az4--x-s3', key: 'large' } }, 'paws--use1-az4--x-s3 is a directory bucket'],
    [{ from: { bucket: from, key: 'large', versionId: '' } }, 'the version id is empty'],
    [{ storageClass: '' as 'STANDARD' }, 'the storage class is empty'],
    [{ kmsKeyId: '' }, 'the KMS key id is empty'],
  ];
  for (const [options, words] of wrong) {
    await expect(copy('large', options, one), words).rejects.toThrow(words);
    await expect(copy('large', options, one), words).rejects.toThrow(RangeError);
  }
  expect(sent).toEqual([]);
  const output = { ContentLength: 10_001 * 5 * MiB, ETag: '"1"' };
  withFaults(one, { operation: 'HeadObject', output }, { operation: 'GetObjectTagging', output: {} });
  await expect(copy('large', { partSize }, one)).rejects.toThrow('10,000');
});

test('only what is over 5 GiB is copied in parts by default, 10,000 at most', async () => {
  const GiB = 1024 * MiB;
  const planned = async (size: number) => {
    const { client: one, input } = watched();
    const output = { ContentLength: size, ETag: '"1"' };
    withFaults(
      one,
      { operation: 'HeadObject', output },
      { operation: 'GetObjectTagging', output: {} },
      { operation: 'CopyObject', output: {} },
      { operation: 'CreateMultipartUpload', error: 'Stop' },
    );
    await copy('large', {}, one).catch(() => {});
    return input('CopyObject') ? 'one call' : 'parts';
  };
  expect(await planned(5 * GiB)).toBe('one call');
  expect(await planned(5 * GiB + 1)).toBe('parts');
  const ranges: string[] = [];
  const { client: one } = withFaults(
    s3(),
    { operation: 'HeadObject', output: { ContentLength: 50e12, ETag: '"1"' } },
    { operation: 'GetObjectTagging', output: {} },
    { operation: 'CreateMultipartUpload', output: { UploadId: '1' } },
    {
      operation: 'UploadPartCopy',
      output: { CopyPartResult: { ETag: '"1"' } },
      answered: (input) => ranges.push((input as { CopySourceRange: string }).CopySourceRange),
    },
    { operation: 'CompleteMultipartUpload', output: { ETag: '"1"' } },
  );
  const { parts } = await copy('large', {}, one);
  expect(parts).toBeLessThanOrEqual(10_000);
  expect(ranges).toHaveLength(parts);
  expect(ranges[0]).toBe(`bytes=0-${Math.ceil(50e12 / 10_000 / MiB) * MiB - 1}`);
  expect(ranges.at(-1)).toMatch(/-49999999999999$/);
});

test.skipIf(!versitygw)('another S3 server, which checks who asks, copies in one call and in parts', async () => {
  const server = await startVersitygw();
  onTestFinished(server.stop);
  const { url: endpoint, accessKeyId, secretAccessKey } = server;
  const credentials = { accessKeyId, secretAccessKey };
  const there = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials });
  await there.send(new CreateBucketCommand({ Bucket: own }));
  const Versions = { Bucket: own, VersioningConfiguration: { Status: 'Enabled' } } as const;
  await there.send(new PutBucketVersioningCommand(Versions));
  const { Metadata, ContentType, CacheControl, Tagging } = everything;
  const settings = { Metadata, ContentType, CacheControl, Tagging };
  const source = { Bucket: own, Key: 'a b+c', Body: large, ...settings };
  // It takes a source's CRC for that of each part, and so S3's comparison at the end fails here.
  await there.send(new PutObjectCommand(source));
  const copying = { from: { bucket: own, key: 'a b+c' }, to: { bucket: own, key: 'copy' }, partSize };
  await expect(copyObject(there, copying)).rejects.toMatchObject({ name: 'BadDigest' });
  expect((await there.send(new ListMultipartUploadsCommand({ Bucket: own }))).Uploads ?? []).toEqual([]);

  await there.send(new PutObjectCommand({ ...source, ChecksumAlgorithm: 'SHA256' }));
  const command = `npx tsx ${file} "s3://paws-example/a b+c" s3://paws-example/copy --endpoint-url ${endpoint} --json`;
  const whole = await run(command, { env: keysOf(server) });
  expect(whole).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(whole.stdout)).toMatchObject({ size: large.length, parts: 1, checksum: 'SHA256' });
  const look = async () => {
    const copied = await there.send(new GetObjectCommand({ Bucket: own, Key: 'copy' }));
    expect(copied).toMatchObject({ Metadata, ContentType, CacheControl });
    expect(large.equals((await copied.Body?.transformToByteArray()) ?? Buffer.alloc(0))).toBe(true);
    const tags = await there.send(new GetObjectTaggingCommand({ Bucket: own, Key: 'copy' }));
    expect(tags.TagSet).toHaveLength(2);
  };
  await look();
  expect(await copyObject(there, copying)).toMatchObject({ size: large.length, parts: 3, checksum: null });
  await look();
});
