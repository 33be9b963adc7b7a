import {
  CompleteMultipartUploadCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  GetObjectCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  type PutObjectCommandInput,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import pMap from 'p-map';
import { expect, onTestFinished, test, vi } from 'vitest';
import { type CopyPrefixOptions, copyPrefix } from '../../recipes/s3/15-copy-prefix.ts';
import { withFaults } from '../faults.ts';
import { settingsOf, testRecipe } from '../harness.ts';
import { keysBeyondXml, oddKeys } from '../odd-keys.ts';
import { keysOf } from '../program.ts';
import { startProxy } from '../proxy.ts';
import { startVersitygw, versitygw } from '../versitygw.ts';

const own = testRecipe(import.meta);
const { run, file, s3 } = own;
const client = s3();
const year = 365 * 86_400_000;

/** A client that goes through a proxy, and gets lists in pages of so many entries. */
function through(endpoint: string, MaxKeys = 1000): S3Client {
  const one = new S3Client({ ...settingsOf(own), endpoint, forcePathStyle: true });
  one.middlewareStack.add(
    (next, { commandName }) =>
      (args) =>
        next(commandName === 'ListObjectsV2Command' ? { ...args, input: { ...args.input, MaxKeys } } : args),
    { step: 'initialize' },
  );
  return one;
}
/** Lists tell whole seconds. */
const nextSecond = () => new Promise((done) => setTimeout(done, 1100));
const numbered = (count: number) => Array.from({ length: count }, (_, index) => `${index}`);
/** A bucket for one test: `paws-example-NAME` in commands. */
async function make(name: string, { locks = false, client: one = client } = {}): Promise<string> {
  const bucket = `${own.bucket}-${name}`;
  await one.send(new CreateBucketCommand({ Bucket: bucket, ObjectLockEnabledForBucket: locks }));
  return bucket;
}
const put = (Bucket: string, keys: readonly string[], more: Partial<PutObjectCommandInput> = {}, one = client) =>
  pMap(keys, (Key) => one.send(new PutObjectCommand({ Bucket, Key, Body: `text of ${Key}`, ...more })), {
    concurrency: 16,
  });
const read = async (Bucket: string, Key: string, one = client) =>
  (await one.send(new GetObjectCommand({ Bucket, Key }))).Body?.transformToString();
/** All keys, as they are: none that XML could change is listed by it. */
const keysIn = async (Bucket: string, one = client) => {
  const { Contents = [], IsTruncated } = await one.send(new ListObjectsV2Command({ Bucket }));
  expect(IsTruncated).toBe(false);
  return Contents.map(({ Key = '' }) => Key).sort();
};
/** An object that was uploaded in parts. */
async function putInParts(Bucket: string, Key: string, more: object = {}, Body: string | Buffer = 'parts') {
  const { UploadId } = await client.send(new CreateMultipartUploadCommand({ Bucket, Key, ...more }));
  const part = { Bucket, Key, UploadId, PartNumber: 1 };
  const { ETag, ...checksums } = await client.send(new UploadPartCommand({ ...part, Body, ...more }));
  const Parts = [{ PartNumber: 1, ETag, ...checksums }];
  await client.send(new CompleteMultipartUploadCommand({ Bucket, Key, UploadId, MultipartUpload: { Parts } }));
}
const both = (from: string, to: string, more: Partial<CopyPrefixOptions> = {}) => ({
  ...{ from: { bucket: from, prefix: '' }, to: { bucket: to, prefix: '' } },
  ...more,
});
const counts = (copied: number, unchanged: number, failed = 0) => ({ copied, unchanged, failed });

/** All that S3 keeps with an object. */
const everything: Partial<PutObjectCommandInput> = {
  Metadata: { owner: 'me' },
  ContentType: 'text/csv',
  CacheControl: 'max-age=3600',
  Tagging: 'team=web&a%20b=c%2Bd',
  StorageClass: 'STANDARD_IA',
  ServerSideEncryption: 'AES256',
  WebsiteRedirectLocation: '/elsewhere',
  ObjectLockMode: 'GOVERNANCE',
  ObjectLockRetainUntilDate: new Date(Math.ceil((Date.now() + year) / 1000) * 1000),
  ObjectLockLegalHoldStatus: 'ON',
};
const kept = async (Bucket: string, Key: string) => {
  const { $metadata, LastModified, VersionId, ...rest } = await client.send(new HeadObjectCommand({ Bucket, Key }));
  const { TagSet } = await client.send(new GetObjectTaggingCommand({ Bucket, Key }));
  return { ...rest, TagSet };
};

test('many pages are copied under another prefix, and only what is missing or changed by a second run', async () => {
  const [from, to] = [await make('many'), await make('many-to')];
  const names = Array.from({ length: 123 }, (_, index) => `${index % 7}/${index}`);
  await put(
    from,
    names.map((name) => `letters/${name}`),
  );
  await put(from, ['letters', 'letters2', 'lett']);
  // What the target has beyond that stays: before, between and after.
  await put(to, ['archive/', 'archive/3/extra', 'archive/zzz', 'other']);
  const proxy = await startProxy();
  const one = through(proxy.url, 10);
  const places = { from: { bucket: from, prefix: 'letters/' }, to: { bucket: to, prefix: 'archive/' } };
  const options = { ...places, plain: true };
  const size = names.reduce((sum, name) => sum + `text of letters/${name}`.length, 0);
  const rest = { ...places.to, failures: [], dryRun: false };
  expect(await copyPrefix(one, options)).toEqual({ ...rest, size, ...counts(123, 0) });
  expect(proxy.count('CopyObject')).toBe(123);
  expect(await read(to, 'archive/6/6')).toBe('text of letters/6/6');
  expect(await read(to, 'archive/3/extra')).toBe('text of archive/3/extra');

  await nextSecond();
  await put(from, ['letters/3/3', 'letters/new']);
  await put(from, ['letters/4/4'], { Body: 'TEXT of letters/4/4' });
  await put(from, ['letters/5/5'], { Body: 'longer than before' });
  const before = proxy.requests.length;
  // Written again since, if with the same text: its metadata may be another.
  expect(await copyPrefix(one, options)).toMatchObject(counts(4, 120));
  const sent = proxy.requests.slice(before).map(({ operation }) => operation);
  expect(sent.filter((operation) => operation !== 'CopyObject')).toEqual(Array(13 + 13).fill('ListObjectsV2'));
  expect(await read(to, 'archive/4/4')).toBe('TEXT of letters/4/4');
  expect(await copyPrefix(one, options)).toMatchObject({ size: 0, ...counts(0, 124) });
});

test('all that 3.6 keeps is kept; a plain copy keeps what CopyObject keeps, by one request, also without locks', async () => {
  const from = await make('kept', { locks: true });
  const [locked, plain] = [await make('kept-lock', { locks: true }), await make('kept-plain')];
  await put(from, ['a b/all'], everything);
  const proxy = await startProxy();
  expect(await copyPrefix(through(proxy.url), both(from, locked))).toMatchObject(counts(1, 0));
  expect(proxy.requests.map(({ operation }) => operation)).toEqual([
    ...['ListObjectsV2', 'ListObjectsV2'],
    ...['HeadObject', 'CopyObject', 'HeadObject'],
  ]);
  expect(await kept(locked, 'a b/all')).toEqual(await kept(from, 'a b/all'));

  const again = await startProxy();
  expect(await copyPrefix(through(again.url), both(from, plain, { plain: true }))).toMatchObject(counts(1, 0));
  expect(again.requests.map(({ operation }) => operation)).toEqual(['ListObjectsV2', 'ListObjectsV2', 'CopyObject']);
  const { headers } = again.requests[2] as (typeof again.requests)[number];
  expect(headers).not.toHaveProperty('x-amz-object-lock-mode');
  expect(headers['x-amz-copy-source-if-match']).toBe((await kept(from, 'a b/all')).ETag);
  const { Metadata, ContentType, CacheControl, StorageClass } = everything;
  const most = await kept(plain, 'a b/all');
  expect(most).toMatchObject({ Metadata, ContentType, CacheControl, StorageClass });
  expect(most.TagSet).toHaveLength(2);
});

test('keys of all sorts are copied, and found unchanged', async () => {
  const [from, to] = [await make('odd'), await make('odd-to')];
  const keys = [...oddKeys, ...keysBeyondXml];
  await put(from, keys);
  // In the target they have another prefix, for which the longest have no room.
  const options = both(from, to, { to: { bucket: to, prefix: '+/' } });
  const long = keys.filter((key) => Buffer.byteLength(key) > 1022);
  const first = await copyPrefix(client, { ...options, plain: true });
  expect(first.failures.map(({ key }) => key).sort()).toEqual(long.sort());
  expect(first.failures[0]?.reason).toMatch(/^KeyTooLongError: /);
  expect(first).toMatchObject(counts(keys.length - long.length, 0, long.length));
  for (const key of keys.filter((one) => !long.includes(one))) {
    expect(await read(to, `+/${key}`), key).toBe(`text of ${key}`);
  }
  expect(await copyPrefix(client, options)).toMatchObject(counts(0, keys.length - long.length, long.length));
  // Without one all fit, and 3.6 gets each right, too.
  const bare = await make('odd-bare');
  expect(await copyPrefix(client, both(from, bare))).toMatchObject(counts(keys.length, 0));
  for (const key of long) expect(await read(bare, key), key).toBe(`text of ${key}`);
  expect(await copyPrefix(client, both(from, bare))).toMatchObject(counts(0, keys.length));
});

test('where ETags say nothing checksums do, or else size and time', async () => {
  const [from, to] = [await make('etags'), await make('etags-to')];
  const crc = { ChecksumAlgorithm: 'CRC32', ChecksumType: 'FULL_OBJECT' };
  await putInParts(from, 'crc', crc);
  await putInParts(from, 'crc-other', crc);
  await putInParts(from, 'sha', { ChecksumAlgorithm: 'SHA256' });
  await put(from, ['kms', 'md5'], { Body: 'parts' });
  await nextSecond();
  await put(to, ['crc', 'sha', 'kms', 'md5'], { Body: 'parts', ChecksumAlgorithm: 'CRC32' });
  await put(to, ['crc-other'], { Body: 'OTHER', ChecksumAlgorithm: 'CRC32' });
  /** As S3 has them: LocalStack has MD5 sums for objects with a KMS key, too, and no checksum for old objects. */
  const like = (one: S3Client) => {
    one.middlewareStack.add(
      (next, { commandName }) =>
        async (args) => {
          const answer = await next(args);
          type Output = { Contents?: { Key: string; ETag: string }[] } & Record<string, unknown>;
          const output = answer.output as unknown as Output;
          const { Bucket, Key } = args.input as { Bucket: string; Key: string };
          const other = (key: string) => Bucket === to && ['kms', 'md5'].includes(key);
          for (const object of output.Contents ?? []) if (other(object.Key)) object.ETag = `"${'0'.repeat(32)}"`;
          if (commandName === 'HeadObjectCommand' && (Key === 'kms' || Key === 'md5')) {
            for (const name of Object.keys(output)) if (name.startsWith('Checksum')) delete output[name];
            if (other(Key)) output.ETag = `"${'0'.repeat(32)}"`;
            if (other(Key) && Key === 'kms') output.ServerSideEncryption = 'aws:kms';
          }
          return answer;
        },
      { step: 'initialize' },
    );
    // The made-up ETags are none that LocalStack would find.
    one.middlewareStack.add(
      (next) => (args) => {
        const input = args.input as { IfMatch?: string };
        if (input.IfMatch?.startsWith('"0000')) delete input.IfMatch;
        return next(args);
      },
      { step: 'initialize', priority: 'high' },
    );
    return one;
  };
  const dry = await copyPrefix(like(s3()), both(from, to, { dryRun: true }));
  expect(dry).toMatchObject({ ...counts(2, 3), dryRun: true, size: 10 });
  expect(await read(to, 'crc-other')).toBe('OTHER');
  // Which two: those that a checksum or an MD5 sum proves to be others.
  const one = like(s3());
  const asked: string[] = [];
  one.middlewareStack.add(
    (next, { commandName }) =>
      (args) => {
        if (commandName === 'CopyObjectCommand') asked.push((args.input as { Key: string }).Key);
        return next(args);
      },
    { step: 'initialize' },
  );
  expect(await copyPrefix(one, both(from, to, { plain: true }))).toMatchObject(counts(2, 3));
  expect(asked.sort()).toEqual(['crc-other', 'md5']);
  // In the same second, either may have been first; an older copy is none, whatever its checksum.
  await nextSecond();
  await putInParts(from, 'sha', { ChecksumAlgorithm: 'SHA256' });
  expect(await copyPrefix(client, both(from, to, { plain: true }))).toMatchObject(counts(1, 4));
});

test('what fails is told with its reason, the rest goes on, and a second run does what is left', async () => {
  const [from, to] = [await make('fails'), await make('fails-to')];
  await put(from, ['a', 'c', 'd', 'e']);
  await put(from, ['b'], { StorageClass: 'GLACIER' });
  let broken = true;
  const proxy = await startProxy(({ operation, url }) =>
    broken && operation === 'CopyObject' && /\/[cd]\?/.test(url) ? (url.includes('/c?') ? 403 : 503) : null,
  );
  const one = through(proxy.url);
  const result = await copyPrefix(one, both(from, to, { plain: true }));
  expect(result).toMatchObject(counts(2, 0, 3));
  expect(result.failures.sort((x, y) => (x.key < y.key ? -1 : 1))).toEqual([
    { key: 'b', reason: expect.stringMatching(/^InvalidObjectState: /) },
    { key: 'c', reason: 'AccessDenied: AccessDenied of the test.' },
    { key: 'd', reason: 'SlowDown: SlowDown of the test.' },
  ]);
  // What may pass was tried again.
  expect(proxy.requests.filter(({ url }) => url.includes('/d?'))).toHaveLength(3);
  expect(await keysIn(to)).toEqual(['a', 'e']);
  broken = false;
  expect(await copyPrefix(one, both(from, to))).toMatchObject({ ...counts(2, 2, 1), failures: [{ key: 'b' }] });

  // On the command line, and each of those that failed again.
  const words = `s3://paws-example-fails s3://paws-example-fails-to`;
  const told = await run(`npx tsx ${file} ${words} --local`);
  expect(told).toMatchObject({ code: 1, stdout: expect.stringMatching(/^unchanged +4$.*^failed +1$/ms) });
  expect(told.stderr).toMatch(/^Error: 1 failed\n {2}"b": InvalidObjectState: .*\n$/);
});

test('failures are counted all, and a thousand told', async () => {
  const [from, to] = [await make('failures'), await make('failures-to')];
  await put(from, ['x']);
  const Contents = Array.from({ length: 1500 }, (_, index) => ({ Key: `k${index}`, Size: 1, ETag: '"1"' }));
  const { client: lists } = withFaults(s3(), { operation: 'ListObjectsV2', output: { Contents } });
  const { client: fails } = withFaults(s3(), { operation: 'CopyObject', error: 'NoSuchKey' });
  const result = await copyPrefix(fails, both(from, to, { source: lists, plain: true }));
  expect(result).toMatchObject(counts(0, 0, 1500));
  expect(result.failures).toHaveLength(1000);
});

test('an object over 5 GiB is copied by 3.6, in parts; the command aborts the upload when one fails', async () => {
  const from = await make('large', { locks: true });
  await make('large-to', { locks: true });
  await put(from, ['large'], everything);
  const GiB = 2 ** 30;
  const { ETag } = await kept(from, 'large');
  const Contents = [{ Key: 'large', Size: 6 * GiB, ETag, LastModified: new Date() }];
  const { ObjectLockMode, ObjectLockRetainUntilDate, ObjectLockLegalHoldStatus } = everything;
  const lock = { ObjectLockMode, ObjectLockRetainUntilDate, ObjectLockLegalHoldStatus };
  const { client: one, sent } = withFaults(
    s3(),
    { operation: 'ListObjectsV2', times: 1, output: {} },
    { operation: 'ListObjectsV2', output: { Contents } },
    { operation: 'HeadObject', output: { ContentLength: 6 * GiB, ETag, ...lock } },
    { operation: 'UploadPartCopy', error: 'InvalidRequest' },
  );
  const to = { bucket: `${own.bucket}-large-to`, prefix: '' };
  const result = await copyPrefix(one, { from: { bucket: from, prefix: '' }, to, plain: true });
  expect(result).toMatchObject({ ...counts(0, 0, 1), failures: [{ reason: 'InvalidRequest: InvalidRequest' }] });
  expect(sent).not.toContain('CopyObject');
  expect(sent.at(-1)).toBe('AbortMultipartUpload');

  // The command needs each permission of 3.6's. Faults travel as JSON, so dates are those of the real object.
  const faults = [
    { operation: 's3:HeadObject', times: 1, output: { ContentLength: 6 * GiB, ETag } },
    { operation: 's3:UploadPartCopy', error: { name: 'InvalidRequest', message: 'too large' } },
  ];
  const command = `npx tsx ${file} s3://paws-example-large s3://paws-example-large-to --local --json`;
  const told = await run(command, { faults });
  expect(told).toMatchObject({ code: 1, stderr: 'Error: 1 failed\n  "large": InvalidRequest: too large\n' });
  const done = await run(command);
  expect(done).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(done.stdout)).toMatchObject({ ...counts(1, 0), failures: [], dryRun: false });
});

test('of objects over 5 GiB, which take eight calls each, one is copied at a time', async () => {
  const [from, to] = [await make('giants'), await make('giants-to')];
  const size = 6 * 2 ** 30;
  const Contents = ['a', 'b', 'c'].map((Key) => ({ Key, Size: size, ETag: '"1"', LastModified: new Date() }));
  const { client: lists } = withFaults(
    s3(),
    { operation: 'ListObjectsV2', output: { Contents } },
    { operation: 'HeadObject', output: { ContentLength: size, ETag: '"1"' } },
    { operation: 'GetObjectTagging', output: { TagSet: [] } },
  );
  const { client: one, sent } = withFaults(s3(), { operation: 'UploadPartCopy', error: 'InvalidRequest' });
  const result = await copyPrefix(one, both(from, to, { source: lists }));
  expect(result).toMatchObject(counts(0, 0, 3));
  const uploads = sent.filter((operation) => /^(Create|Abort)MultipartUpload$/.test(operation));
  // Each may be aborted twice.
  expect(uploads.join(' ')).toMatch(/^(CreateMultipartUpload( AbortMultipartUpload){1,2} ?){3}$/);

  // Where the list breaks off, the one under way ends, and no other begins.
  const { client: broken } = withFaults(
    s3(),
    { operation: 'ListObjectsV2', times: 1, output: { Contents, IsTruncated: true, NextContinuationToken: 'x' } },
    { operation: 'ListObjectsV2', error: 'AccessDenied' },
    { operation: 'HeadObject', output: { ContentLength: size, ETag: '"1"' } },
    { operation: 'GetObjectTagging', output: { TagSet: [] } },
  );
  sent.length = 0;
  await expect(copyPrefix(one, both(from, to, { source: broken }))).rejects.toMatchObject({
    name: 'AccessDenied',
    message: expect.stringContaining('0 copied, 0 unchanged, 1 failed'),
  });
  expect(sent.filter((operation) => operation === 'CreateMultipartUpload')).toHaveLength(1);
});

test('only current objects are copied, no versions and nothing that is deleted', async () => {
  const [from, to] = [await make('versions'), await make('versions-to')];
  for (const Bucket of [from, to]) {
    await client.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: 'Enabled' } }));
  }
  await put(from, ['a', 'a', 'a']);
  await copyPrefix(client, both(from, to));
  await copyPrefix(client, both(from, to));
  const { Versions = [] } = await client.send(new ListObjectVersionsCommand({ Bucket: to }));
  expect(Versions).toHaveLength(1);
});

test('what overlaps or can not be is refused before anything is sent', async () => {
  const { client: one, sent } = withFaults(s3());
  const place = (bucket: string, prefix: string) => ({ bucket, prefix });
  const wrong: [CopyPrefixOptions, string][] = [
    [{ from: place('b', 'a/'), to: place('b', 'a/b/') }, 'overlap'],
    [{ from: place('b', 'a/b/'), to: place('b', 'a/') }, 'overlap'],
    [{ from: place('b', 'a'), to: place('b', 'ab/') }, 'overlap'],
    [{ from: place('b', ''), to: place('b', 'copy/') }, 'overlap'],
    [{ from: place('b', 'a/'), to: place('b', 'a/') }, 'overlap'],
    [{ from: place('b--use1-az4--x-s3', ''), to: place('c', '') }, 'directory bucket'],
    [{ from: place('b', ''), to: place('c--use1-az4--x-s3', '') }, 'directory bucket'],
    [{ from: place('b', ''), to: place('c-1a2b3c-s3alias', '') }, 'alias of an access point'],
    ...[0, 1.5, 41].map((concurrency): [CopyPrefixOptions, string] => [
      { from: place('b', ''), to: place('c', ''), concurrency },
      `concurrency is 1 to 40, not ${concurrency}`,
    ]),
  ];
  for (const [options, words] of wrong) {
    await expect(copyPrefix(one, options), words).rejects.toThrow(RangeError);
    await expect(copyPrefix(one, options), words).rejects.toThrow(words);
  }
  expect(sent).toEqual([]);
  // Side by side, and in a bucket whose name goes on, they don't overlap.
  const from = await make('side');
  await put(from, ['a/1']);
  const side = { from: place(from, 'a/'), to: place(from, 'b/') };
  expect(await copyPrefix(one, side)).toMatchObject(counts(1, 0));
  expect(await keysIn(from)).toEqual(['a/1', 'b/1']);
  const longer = await make('side2');
  expect(await copyPrefix(one, both(from, longer))).toMatchObject(counts(2, 0));

  await expect(copyPrefix(client, both(`${own.bucket}-none`, from))).rejects.toMatchObject({
    name: 'NoSuchBucket',
    message: expect.stringMatching(/\(0 copied, 0 unchanged, 0 failed\)$/),
  });
  const told = await run(`npx tsx ${file} s3://paws-example-side/a s3://paws-example-side/ab --local`);
  expect(told).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('overlap') });
});

test('an object that is named as the prefix has no place in the root; a folder of the console is left out', async () => {
  const [from, to] = [await make('root'), await make('root-to')];
  await put(from, ['a/'], { Body: Buffer.alloc(0) });
  await put(from, ['a/b', 'c', 'cd']);
  expect(await copyPrefix(client, both(from, to, { from: { bucket: from, prefix: 'a/' } }))).toMatchObject(
    counts(1, 0),
  );
  const result = await copyPrefix(client, both(from, to, { from: { bucket: from, prefix: 'c' } }));
  expect(result).toMatchObject({ ...counts(1, 0, 1), failures: [{ key: 'c', reason: 'its copy would have no key' }] });
  expect(await keysIn(to)).toEqual(['b', 'd']);
});

test('objects are copied several at once, as many as asked for, and the lists are not read ahead of them', async () => {
  const [from, to] = [await make('load'), await make('load-to')];
  await put(from, numbered(60));
  let release = () => {};
  const free = new Promise<void>((done) => {
    release = done;
  });
  const proxy = await startProxy(({ operation }) => (operation === 'CopyObject' ? () => free : null));
  const copying = copyPrefix(through(proxy.url, 20), both(from, to, { plain: true, concurrency: 5 }));
  await vi.waitUntil(() => proxy.count('CopyObject') === 5, { timeout: 20_000 });
  await new Promise((done) => setTimeout(done, 100));
  expect(proxy.count('CopyObject')).toBe(5);
  expect(proxy.count('ListObjectsV2')).toBe(2);
  release();
  expect(await copying).toMatchObject(counts(60, 0));
  expect(proxy.load.most).toBeLessThanOrEqual(6);
});

test('a list that breaks off ends it when nothing is under way any more, and says how far it got', async () => {
  const [from, to] = [await make('broken'), await make('broken-to')];
  await put(from, numbered(15));
  const source = await startProxy(({ operation, before }) =>
    operation === 'ListObjectsV2' && before > 0 ? 403 : null,
  );
  const target = await startProxy();
  const copying = copyPrefix(through(target.url), both(from, to, { source: through(source.url, 10), plain: true }));
  await expect(copying).rejects.toMatchObject({
    name: 'AccessDenied',
    message: expect.stringMatching(/\(10 copied, 0 unchanged, 0 failed\)$/),
  });
  expect(target.load.now).toBe(0);
});

test('Ctrl-C ends with what is done, and a second run does the rest', async () => {
  const [from, to] = [await make('stopped'), await make('stopped-to')];
  await put(from, numbered(40));
  const command = `npx tsx ${file} s3://paws-example-stopped s3://paws-example-stopped-to --local --json`;
  const faults = [{ operation: 's3:CopyObject', after: 10, times: 1, signal: 'SIGINT' as const }];
  const told = await run(`${command} --plain --concurrency 2`, { faults });
  expect(told).toMatchObject({ code: 130, stdout: '' });
  const [, copied] = /^Interrupted\. At least (\d+) copied, 0 unchanged, 0 failed; run it/.exec(told.stderr) ?? [];
  expect(Number(copied)).toBeGreaterThanOrEqual(9);
  const there = (await keysIn(to)).length;
  expect(there).toBeGreaterThanOrEqual(Number(copied));
  expect(there).toBeLessThan(15);
  const second = await run(command);
  // What was under way then may have come a moment after the look.
  const result = JSON.parse(second.stdout);
  expect(result).toMatchObject({ failed: 0 });
  expect(result.copied + result.unchanged).toBe(40);
  expect(result.unchanged).toBeGreaterThanOrEqual(there);
});

test.skipIf(!versitygw)('another S3 server, which checks who asks, copies as well', async () => {
  const server = await startVersitygw();
  onTestFinished(server.stop);
  const { url: endpoint, accessKeyId, secretAccessKey } = server;
  const credentials = { accessKeyId, secretAccessKey };
  const there = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials });
  const [from, to] = [await make('gw', { client: there }), await make('gw-to', { client: there })];
  // versitygw keeps objects as files.
  const keys = ['a b/c+d', 'a/%41?x=1', 'a-b', 'a/b/c', 'a.txt', 'é', 'z'];
  await put(from, keys, { Metadata: { owner: 'me' }, Tagging: 'team=web' }, there);
  const command = `npx tsx ${file} s3://paws-example-gw s3://paws-example-gw-to/x/ --endpoint-url ${endpoint} --json`;
  for (const [options, expected] of [
    ['--dry-run', counts(7, 0)],
    ['', counts(7, 0)],
    ['--plain', counts(0, 7)],
  ] as const) {
    const result = await run(`${command} ${options}`, { env: keysOf(server) });
    expect(result, options).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(result.stdout), options).toMatchObject(expected);
  }
  for (const key of keys) expect(await read(to, `x/${key}`, there), key).toBe(`text of ${key}`);
  const plain = both(from, to, { plain: true, to: { bucket: to, prefix: 'y/' } });
  expect(await copyPrefix(there, plain)).toMatchObject(counts(7, 0));
  for (const prefix of ['x/', 'y/']) {
    const which = { Bucket: to, Key: `${prefix}a b/c+d` };
    expect(await there.send(new HeadObjectCommand(which))).toMatchObject({ Metadata: { owner: 'me' } });
    expect((await there.send(new GetObjectTaggingCommand(which))).TagSet).toEqual([{ Key: 'team', Value: 'web' }]);
  }
});
