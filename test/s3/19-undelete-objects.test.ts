import {
  type BucketVersioningStatus,
  CompleteMultipartUploadCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import pMap from 'p-map';
import { expect, test, vi } from 'vitest';
import { undeleteObjects } from '../../recipes/s3/19-undelete-objects.ts';
import { withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';
import { keysBeyondXml, oddKeys } from '../odd-keys.ts';

const { bucket: own, run, file, s3 } = testRecipe(import.meta);
const client = s3();
const sleep = (milliseconds: number) => new Promise((done) => setTimeout(done, milliseconds));

async function setVersioning(Bucket: string, Status: BucketVersioningStatus): Promise<void> {
  await client.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status } }));
}

async function makeBucket(name: string): Promise<string> {
  const Bucket = `${own}-${name}`;
  await client.send(new CreateBucketCommand({ Bucket }));
  await setVersioning(Bucket, 'Enabled');
  return Bucket;
}

const put = (Bucket: string, Key: string, Body = Key) => client.send(new PutObjectCommand({ Bucket, Key, Body }));
const remove = (Bucket: string, Key: string) => client.send(new DeleteObjectCommand({ Bucket, Key }));
const all = (keys: readonly string[], what: (key: string) => Promise<unknown>) => pMap(keys, what, { concurrency: 16 });

/** The keys and texts of a bucket's current objects. */
async function current(Bucket: string): Promise<Record<string, string>> {
  const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket }));
  const read = async ({ Key = '' }) => {
    const { Body } = await client.send(new GetObjectCommand({ Bucket, Key }));
    return [Key, await Body?.transformToString()];
  };
  return Object.fromEntries(await pMap(Contents, read, { concurrency: 16 }));
}

async function count(Bucket: string): Promise<{ versions: number; markers: number }> {
  const { Versions = [], DeleteMarkers = [] } = await client.send(new ListObjectVersionsCommand({ Bucket }));
  return { versions: Versions.length, markers: DeleteMarkers.length };
}

const numbered = (length: number) => Array.from({ length }, (_, i) => `key-${i}`);
const nothing = { prefix: '', undeleted: 0, copied: 0, created: 0, failed: 0, failures: [] };

/** A bucket to which much has happened, before a moment and after it. */
let story: string;
let moment: Date;
async function tell(): Promise<void> {
  if (story) return;
  story = await makeBucket('story');
  const keys = ['same', 'deleted', 'deleted twice', 'overwritten', 'both', 'rewritten alike', 'gone before'];
  await all([...keys, 'other/deleted'], (key) => put(story, key, 'old'));
  await sleep(1100);
  await all(['gone before', 'never there'], (key) => remove(story, key));
  await sleep(1100);
  moment = new Date();
  await sleep(1100);
  const created = ['created', 'created and deleted', 'back from before', 'never there'];
  await all(['overwritten', 'both', ...created], (key) => put(story, key, 'new'));
  await put(story, 'rewritten alike', 'old');
  await put(story, 'gone before', 'new');
  await all(['deleted', 'deleted twice', 'both', 'created and deleted', 'other/deleted'], (key) => remove(story, key));
  await remove(story, 'deleted twice');
}
const after = {
  'rewritten alike': 'old',
  created: 'new',
  'back from before': 'new',
  'gone before': 'new',
  'never there': 'new',
  same: 'old',
};

test('a dry run counts and changes nothing; nothing is done without a yes', async () => {
  await tell();
  const before = await count(story);
  const time = moment.toISOString();
  const command = `npx tsx ${file} s3://paws-example-story --as-of ${time} --local`;
  const dry = await run(`${command} --dry-run --json`);
  expect(dry).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(dry.stdout)).toEqual({
    ...{ ...nothing, bucket: 'paws-example-story', undeleted: 3, copied: 2, created: 4 },
  });
  const { code, stdout, stderr } = await run(command);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain(
    `Bring back 3 deleted objects in s3://paws-example-story/, and copy the version of ${time} on top of 2 that were overwritten?`,
  );
  expect(await count(story)).toEqual(before);
});

test('as of a time, what was deleted or overwritten since is as it was, and nothing is lost', async () => {
  await tell();
  const before = await count(story);
  const time = moment.toISOString();
  const done = await run(`npx tsx ${file} s3://paws-example-story --as-of ${time} --local --yes --json`);
  expect(done).toMatchObject({ code: 0, stderr: '' });
  const bucket = 'paws-example-story';
  expect(JSON.parse(done.stdout)).toEqual({ ...nothing, bucket, undeleted: 3, copied: 2, created: 4 });
  expect(await current(story)).toEqual({
    ...after,
    ...{ deleted: 'old', 'deleted twice': 'old', overwritten: 'old', both: 'old', 'other/deleted': 'old' },
  });
  // Four markers are gone, two copies were added; the one that was on top of `both` is beneath its copy.
  expect(await count(story)).toEqual({ versions: before.versions + 2, markers: before.markers - 4 });
  expect(await undeleteObjects(client, { bucket: story, asOf: moment })).toEqual({
    ...nothing,
    bucket: story,
    created: 4,
  });
});

test('without a time all that is deleted comes back, as it was last, under the prefix alone', async () => {
  const bucket = await makeBucket('last');
  await all(['a/1', 'a/2', 'b/1'], (key) => put(bucket, key, 'old'));
  await put(bucket, 'a/2', 'new');
  await all(['a/1', 'a/2', 'b/1', 'a/only markers'], (key) => remove(bucket, key));
  const done = await run(`npx tsx ${file} s3://paws-example-last/a/ --local --yes --json`);
  expect(done).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(done.stdout)).toEqual({ ...nothing, bucket: 'paws-example-last', prefix: 'a/', undeleted: 2 });
  expect(await current(bucket)).toEqual({ 'a/1': 'old', 'a/2': 'new' });
  expect(await undeleteObjects(client, { bucket })).toMatchObject({ undeleted: 1, created: 0 });
  expect(await undeleteObjects(client, { bucket })).toEqual({ ...nothing, bucket });
});

test('keys of all sorts come back', async () => {
  const bucket = await makeBucket('odd');
  const keys = [...oddKeys, ...keysBeyondXml];
  await all(keys, (key) => put(bucket, key));
  await sleep(1100);
  const asOf = new Date();
  await sleep(1100);
  await all(keys, (key) => remove(bucket, key));
  expect(await undeleteObjects(client, { bucket })).toMatchObject({ undeleted: keys.length, failed: 0 });
  for (const key of keys)
    await expect(client.send(new GetObjectCommand({ Bucket: bucket, Key: key })), key).resolves.toBeTruthy();
  await all(keys, (key) => put(bucket, key, 'wrong'));
  expect(await undeleteObjects(client, { bucket, asOf })).toMatchObject({ copied: keys.length, failed: 0 });
  for (const key of keys) {
    const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
    expect(await Body?.transformToString(), key).toBe(key);
  }
});

const on = { operation: 'GetBucketVersioning', output: { Status: 'Enabled' } };

/** What a list answers of a key: a marker on top of a version. */
const hidden = (Key: string, markers = 1) => ({
  Versions: [{ Key, VersionId: 'v', LastModified: new Date(0), Size: 1, ETag: 'a' }],
  DeleteMarkers: Array.from({ length: markers }, (_, i) => ({
    ...{ Key, VersionId: `m${i}`, LastModified: new Date(1000), IsLatest: i === 0 },
  })),
});

test('markers are removed a thousand a call, those of one object together, and none but markers', async () => {
  const pages = [...numbered(2300).map((key) => hidden(key)), hidden('stack', 1500)];
  pages.sort((a, b) => Buffer.compare(Buffer.from(a.Versions[0]?.Key ?? ''), Buffer.from(b.Versions[0]?.Key ?? '')));
  const output = {
    Versions: pages.flatMap(({ Versions }) => Versions),
    DeleteMarkers: pages.flatMap(({ DeleteMarkers }) => DeleteMarkers),
  };
  const removed: string[][] = [];
  const answered = (input: object) => {
    const { Delete } = input as { Delete: { Objects: { Key: string; VersionId: string }[] } };
    removed.push(Delete.Objects.map(({ Key, VersionId }) => `${Key} ${VersionId}`));
  };
  const list = { operation: 'ListObjectVersions', output };
  const { client: one, sent } = withFaults(s3(), on, list, { operation: 'DeleteObjects', output: {}, answered });
  const { signal } = new AbortController();
  expect(await undeleteObjects(one, { bucket: own, signal })).toMatchObject({ undeleted: 2301, failed: 0 });
  expect(sent.filter((operation) => /Object$|DeleteObjects/.test(operation))).toEqual(Array(4).fill('DeleteObjects'));
  expect(Math.max(...removed.map(({ length }) => length))).toBe(1000);
  expect(removed.flat().sort()).toEqual(output.DeleteMarkers.map(({ Key, VersionId }) => `${Key} ${VersionId}`).sort());
});

test('an object with many markers comes back, from page to page, though their order within a second is not known', async () => {
  const bucket = await makeBucket('stack');
  await put(bucket, 'key', 'text');
  for (let i = 0; i < 12; i++) await remove(bucket, 'key');
  const small = s3();
  small.middlewareStack.add(
    (next, context) => (args) => {
      const more = context.commandName === 'ListObjectVersionsCommand' ? { MaxKeys: 5 } : {};
      return next({ ...args, input: { ...args.input, ...more } } as typeof args);
    },
    { step: 'initialize' },
  );
  expect(await undeleteObjects(small, { bucket })).toMatchObject({ undeleted: 1, failed: 0 });
  expect(await current(bucket)).toEqual({ key: 'text' });
});

test('where versioning is suspended markers are removed, but nothing is copied over the null version', async () => {
  const bucket = await makeBucket('suspended');
  await put(bucket, 'key', 'text');
  await setVersioning(bucket, 'Suspended');
  await remove(bucket, 'key');
  await expect(undeleteObjects(client, { bucket, asOf: new Date() })).rejects.toThrow('turn it on (3.11)');
  expect(await undeleteObjects(client, { bucket })).toMatchObject({ undeleted: 1 });
  expect(await current(bucket)).toEqual({ key: 'text' });
});

test('each failure is told with its key, the rest comes back, and the command ends with 1', async () => {
  const bucket = await makeBucket('failing');
  const keys = ['a', 'b', 'denied', 'slow', 'odd\u0001'];
  await all(keys, (key) => put(bucket, key));
  await all(keys, (key) => remove(bucket, key));
  const error = (Key: string, Code: string) => ({ Key, Code, Message: `${Code} of the test.` });
  const sent: string[] = [];
  const one = s3();
  one.middlewareStack.add(
    (next, context) => async (args) => {
      sent.push(`${context.commandName}`);
      if (context.commandName === 'DeleteObjectCommand' && (args.input as { Key: string }).Key !== 'slow') {
        throw Object.assign(new Error('No.'), { name: 'AccessDenied' });
      }
      if (context.commandName !== 'DeleteObjectsCommand') return next(args);
      const { Delete } = args.input as unknown as { Delete: { Objects: { Key: string; VersionId: string }[] } };
      const bad = Delete.Objects.filter(({ Key }) => /denied|slow/.test(Key));
      const Objects = Delete.Objects.filter((object) => !bad.includes(object));
      const { response } = await next({ ...args, input: { ...args.input, Delete: { Objects } } } as typeof args);
      const Errors = bad.map(({ Key, VersionId }) => ({
        ...error(Key, Key === 'slow' ? 'SlowDown' : 'AccessDenied'),
        VersionId,
      }));
      return { response, output: { $metadata: {}, Errors } } as never;
    },
    { step: 'initialize' },
  );
  expect(await undeleteObjects(one, { bucket })).toEqual({
    ...{ ...nothing, bucket, undeleted: 3, failed: 2 },
    failures: [
      { key: 'denied', code: 'AccessDenied', message: 'AccessDenied of the test.' },
      { key: 'odd\u0001', code: 'AccessDenied', message: 'No.' },
    ],
  });
  expect(sent.filter((name) => name === 'DeleteObjectCommand')).toHaveLength(2);
  expect(Object.keys(await current(bucket)).sort()).toEqual(['a', 'b', 'slow']);

  const denied = { operation: 's3:DeleteObjects', output: { Errors: [error('denied', 'AccessDenied')] } };
  const told = await run(`npx tsx ${file} s3://paws-example-failing/d --local --yes`, { faults: [denied] });
  expect(told).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/^Error: 1 did not come back: s3:DeleteObject and /),
  });
  expect(told.stdout).toMatch(/^failures +denied: AccessDenied$/m);
});

test('a call that S3 is too busy for is sent again, after the tries of the SDK, too', async () => {
  const marker = { Key: 'gone', VersionId: 'm', LastModified: new Date(2000), IsLatest: true };
  const old = { Key: 'gone', VersionId: '1', LastModified: new Date(0), Size: 1 };
  const list = { operation: 'ListObjectVersions', output: { DeleteMarkers: [marker], Versions: [old] } };
  const busy = { operation: 'DeleteObjects', error: 'SlowDown', times: 2 };
  const done = { operation: 'DeleteObjects', output: {} };
  const { client: one, sent } = withFaults(s3(), on, list, busy, done);
  expect(await undeleteObjects(one, { bucket: own })).toMatchObject({ undeleted: 1, failed: 0 });
  expect(sent.filter((operation) => operation === 'DeleteObjects')).toHaveLength(3);
});

test('a copy that fails is told, a thousand failures end the work', async () => {
  const page = (keys: string[]) => ({
    operation: 'ListObjectVersions',
    output: {
      Versions: keys.flatMap((Key) => [
        { Key, VersionId: '2', LastModified: new Date(2000), IsLatest: true, Size: 1, ETag: 'b' },
        { Key, VersionId: '1', LastModified: new Date(0), Size: 1, ETag: 'a' },
      ]),
    },
  });
  const archived = { operation: 'CopyObject', error: 'ObjectNotInActiveTierError' };
  const head = { operation: 'HeadObject', output: {} };
  const asOf = new Date(1000);
  const { client: one } = withFaults(s3(), on, head, archived, page(['archived']));
  expect(await undeleteObjects(one, { bucket: own, asOf })).toMatchObject({
    ...{ copied: 0, failed: 1 },
    failures: [{ key: 'archived', code: 'ObjectNotInActiveTierError', message: 'ObjectNotInActiveTierError' }],
  });
  // These the next run would meet again, and come no further.
  const cold = await undeleteObjects(withFaults(s3(), on, head, archived, page(numbered(1200))).client, {
    ...{ bucket: own, asOf },
  });
  expect(cold).toMatchObject({ copied: 0, failed: 1200 });
  expect(cold.failures).toHaveLength(100);

  const denied = { operation: 'CopyObject', error: 'AccessDenied' };
  const many = withFaults(s3(), on, head, denied, page(numbered(1200)));
  await expect(undeleteObjects(many.client, { bucket: own, asOf })).rejects.toThrow(
    /^too many failures, the last one AccessDenied: \S+ \(0 undeleted, 0 copied, 100\d failed; run it again/,
  );
  expect(many.sent.filter((operation) => operation === 'CopyObject').length).toBeLessThan(1020);
});

test('a copy that has another ETag than its source is known by its checksum, and not made again', async () => {
  const bucket = await makeBucket('parts');
  const upload = { Bucket: bucket, Key: 'key' };
  const crc = { ChecksumAlgorithm: 'CRC64NVME' } as const;
  const { UploadId } = await client.send(
    new CreateMultipartUploadCommand({ ...upload, ...crc, ChecksumType: 'FULL_OBJECT' }),
  );
  const { ETag } = await client.send(
    new UploadPartCommand({ ...upload, ...crc, UploadId, PartNumber: 1, Body: 'old' }),
  );
  const MultipartUpload = { Parts: [{ PartNumber: 1, ETag }] };
  await client.send(new CompleteMultipartUploadCommand({ ...upload, UploadId, MultipartUpload }));
  await sleep(1100);
  const asOf = new Date();
  await sleep(1100);
  await client.send(new PutObjectCommand({ ...upload, ...crc, Body: 'new' }));
  const copying = { bucket, asOf };
  expect(await undeleteObjects(client, { ...copying, dryRun: true })).toMatchObject({ copied: 1 });
  // What is on top may be encrypted with somebody's key, and then it can't be read: the first look is at that.
  const { client: blind } = withFaults(s3(), { operation: 'HeadObject', times: 1, error: 'BadRequest' });
  expect(await undeleteObjects(blind, { ...copying, dryRun: true })).toMatchObject({ copied: 1, failed: 0 });
  expect(await undeleteObjects(client, copying)).toMatchObject({ copied: 1, failed: 0 });
  expect(await current(bucket)).toEqual({ key: 'old' });
  const { Versions = [] } = await client.send(new ListObjectVersionsCommand({ Bucket: bucket }));
  expect(new Set(Versions.map((version) => version.ETag)).size).toBe(3);
  expect(await undeleteObjects(client, copying)).toMatchObject({ copied: 0, failed: 0 });
  expect(await count(bucket)).toEqual({ versions: 3, markers: 0 });
});

test('a version over 5 GiB is copied in parts, of which none is left if one fails', async () => {
  const bucket = await makeBucket('huge');
  await put(bucket, 'key', 'one');
  await sleep(1100);
  const asOf = new Date().toISOString();
  await sleep(1100);
  await put(bucket, 'key', 'three');
  const faults = [
    { operation: 's3:HeadObject', output: { ContentLength: 6e9, ETag: '"1"', Metadata: {} } },
    { operation: 's3:UploadPartCopy', error: { name: 'AccessDenied', message: 'Not yours' } },
  ];
  const told = await run(`npx tsx ${file} s3://paws-example-huge --as-of ${asOf} --local --yes`, { faults });
  expect(told).toMatchObject({ code: 1, stdout: expect.stringMatching(/^failures +key: AccessDenied$/m) });
  expect((await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }))).Uploads ?? []).toEqual([]);
  expect(await current(bucket)).toEqual({ key: 'three' });
});

test('a copy of what was restored from the archive can be read, and has no lock', async () => {
  const at = (VersionId: string, second: number) => ({
    ...{ Key: 'key', VersionId, LastModified: new Date(second * 1000), Size: second, StorageClass: 'GLACIER' },
  });
  const Versions = [{ ...at('2', 2), IsLatest: true }, at('1', 1)];
  const lock = { ObjectLockMode: 'GOVERNANCE', ObjectLockRetainUntilDate: new Date(Date.now() + 1e8) };
  const copies: object[] = [];
  const { client: one } = withFaults(
    s3(),
    on,
    { operation: 'ListObjectVersions', output: { Versions } },
    { operation: 'HeadObject', output: { ETag: '"1"', ContentLength: 1, StorageClass: 'GLACIER', ...lock } },
    { operation: 'CopyObject', output: {}, answered: (input) => copies.push(input) },
  );
  expect(await undeleteObjects(one, { bucket: own, asOf: new Date(1000) })).toMatchObject({ copied: 1, failed: 0 });
  expect(copies).toMatchObject([{ StorageClass: 'STANDARD', CopySource: `${own}/key?versionId=1` }]);
  expect(copies[0]).not.toHaveProperty('ObjectLockMode');
});

test('a bucket that has never kept versions is an error, as nothing can come back', async () => {
  const Bucket = `${own}-never`;
  await client.send(new CreateBucketCommand({ Bucket }));
  await expect(undeleteObjects(client, { bucket: Bucket })).rejects.toThrow('has never kept versions');
});

test('an interrupt tells how far it got, and the next run finishes', async () => {
  const bucket = await makeBucket('stopped');
  await all(numbered(3), (key) => put(bucket, key));
  await all(numbered(3), (key) => remove(bucket, key));
  const stopped = await run(`npx tsx ${file} s3://paws-example-stopped --local --yes`, {
    faults: [{ operation: 's3:DeleteObjects', signal: 'SIGINT' }],
  });
  expect(stopped).toMatchObject({ code: 130, stdout: '' });
  expect(stopped.stderr).toMatch(
    /^Interrupted\. \((0|3) undeleted, 0 copied, 0 failed; run it again for the rest\)\n$/,
  );
  await undeleteObjects(client, { bucket });
  expect(Object.keys(await current(bucket))).toHaveLength(3);
});

test('after an error it throws when the calls beside are over', async () => {
  const at = (Key: string, VersionId: string, second: number, more: object) => ({
    ...{ Key, VersionId, LastModified: new Date(second * 1000), Size: 1, ...more },
  });
  const output = {
    Versions: [at('a', '2', 2, { IsLatest: true, ETag: 'b' }), at('a', '1', 0, { ETag: 'a' }), at('b', '1', 0, {})],
    DeleteMarkers: [at('b', 'm', 2, { IsLatest: true })],
  };
  const { client: one } = withFaults(
    s3(),
    on,
    { operation: 'ListObjectVersions', output },
    { operation: 'HeadObject', output: {} },
    { operation: 'DeleteObjects', error: 'InvalidRequest' },
  );
  let copied = false;
  one.middlewareStack.add(
    () => async () => {
      await sleep(200);
      copied = true;
      return { output: { $metadata: {} }, response: {} } as never;
    },
    { step: 'initialize' },
  );
  await expect(undeleteObjects(one, { bucket: own, asOf: new Date(1000) })).rejects.toThrow(
    'InvalidRequest (0 undeleted, 1 copied, 0 failed; run it again for the rest)',
  );
  expect(copied).toBe(true);
});

test('few calls run at once, as many as allowed', async () => {
  const bucket = await makeBucket('bounded');
  await all(numbered(30), (key) => put(bucket, key, 'old'));
  await sleep(1100);
  const asOf = new Date();
  await sleep(1100);
  await all(numbered(30), (key) => put(bucket, key, 'new'));
  const load = { now: 0, most: 0 };
  const slow: S3Client = s3();
  slow.middlewareStack.add(
    (next, context) => async (args) => {
      if (context.commandName !== 'CopyObjectCommand') return next(args);
      load.most = Math.max(load.most, ++load.now);
      await vi.waitUntil(() => load.most >= 3, { timeout: 60_000 });
      // One too many would come meanwhile.
      await sleep(20);
      load.now--;
      return next(args);
    },
    { step: 'initialize' },
  );
  expect(await undeleteObjects(slow, { bucket, asOf, concurrency: 3 })).toMatchObject({ copied: 30 });
  expect(load).toEqual({ now: 0, most: 3 });
});

test.each(['GetBucketVersioning', 'ListObjectVersions', 'DeleteObjects'])(
  'an error of %s goes up',
  async (operation) => {
    const { client: one } = withFaults(s3(), { operation, error: 'InvalidRequest' });
    const bucket = `${own}-story`;
    await remove(bucket, 'same');
    await expect(undeleteObjects(one, { bucket, asOf: moment })).rejects.toMatchObject({ name: 'InvalidRequest' });
  },
);

test('what makes no sense is refused before anything is sent', async () => {
  const { client: one, sent } = withFaults(s3());
  const asOf = new Date(Date.now() + 60_000);
  await expect(undeleteObjects(one, { bucket: own, asOf })).rejects.toThrow('asOf lies ahead');
  await expect(undeleteObjects(one, { bucket: own, asOf: new Date('yesterday') })).rejects.toThrow(RangeError);
  expect(sent).toEqual([]);
  for (const time of ['2026-11-28T09:00', '11-28-2026']) {
    const wrong = await run(`npx tsx ${file} s3://paws-example --as-of ${time} --local`);
    const stderr = `Error: ${time} is no time with a zone, such as 2026-11-28T09:00:00Z or …+02:00\n`;
    expect(wrong).toEqual({ code: 2, stdout: '', stderr });
  }
  const unknown = await run(`npx tsx ${file} s3://paws-example-nowhere --local`);
  expect(unknown).toMatchObject({ code: 1, stdout: '' });
  expect(unknown.stderr).toMatch(
    /^Error: s3:GetBucketVersioning failed: NoSuchBucket: The specified bucket does not exist/,
  );
});
