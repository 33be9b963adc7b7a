import {
  type BucketVersioningStatus,
  CreateBucketCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectVersionsCommand,
  type ListObjectVersionsOutput,
  PutBucketVersioningCommand,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import pMap from 'p-map';
import { expect, test } from 'vitest';
import { listVersions, type ObjectVersion, restoreVersion } from '../../recipes/s3/29-restore-version.ts';
import { withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';
import { keysBeyondXml, oddKeys } from '../odd-keys.ts';

const { bucket: own, run, file, s3 } = testRecipe(import.meta);
const client = s3();

async function makeBucket(name: string, status: BucketVersioningStatus = 'Enabled'): Promise<string> {
  const Bucket = `${own}-${name}`;
  await client.send(new CreateBucketCommand({ Bucket }));
  await client.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: status } }));
  return Bucket;
}

/** Stores a text; the version's id. */
async function put(Bucket: string, Body: string, Key = 'key', more: object = {}): Promise<string> {
  const { VersionId = 'null' } = await client.send(new PutObjectCommand({ Bucket, Key, Body, ...more }));
  return VersionId;
}

async function remove(Bucket: string, Key = 'key'): Promise<string> {
  const { VersionId = 'null' } = await client.send(new DeleteObjectCommand({ Bucket, Key }));
  return VersionId;
}

async function read(Bucket: string, Key = 'key'): Promise<string | undefined> {
  const { Body } = await client.send(new GetObjectCommand({ Bucket, Key }));
  return Body?.transformToString();
}

async function collect(options: Parameters<typeof listVersions>[1], from = client): Promise<ObjectVersion[]> {
  const all = [];
  for await (const version of listVersions(from, options)) all.push(version);
  return all;
}

test('versions and markers of a key are listed, the newest first, and no others', async () => {
  const bucket = await makeBucket('list');
  await put(bucket, 'other', 'key2');
  const first = await put(bucket, 'one');
  await new Promise((done) => setTimeout(done, 1100));
  const marker = await remove(bucket);
  await new Promise((done) => setTimeout(done, 1100));
  const last = await put(bucket, 'three');
  const { code, stdout, stderr } = await run(`npx tsx ${file} s3://paws-example-list/key --local --json`);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const time = expect.stringMatching(/^20\d\d-.*Z$/);
  const version = { lastModified: time, deleteMarker: false, storageClass: 'STANDARD', etag: expect.any(String) };
  expect(JSON.parse(stdout)).toEqual([
    { ...version, versionId: last, isLatest: true, size: 5 },
    {
      versionId: marker,
      lastModified: time,
      isLatest: false,
      deleteMarker: true,
      size: null,
      storageClass: null,
      etag: null,
    },
    { ...version, versionId: first, isLatest: false, size: 3 },
  ]);
  const none = await run(`npx tsx ${file} s3://paws-example-list/ke --local`);
  expect(none).toMatchObject({
    code: 1,
    stdout: '',
    stderr: 'Error: There is no version of ke in paws-example-list.\n',
  });
});

test('a version comes back as the current one, with what belongs to it, and nothing is lost', async () => {
  const bucket = await makeBucket('whole');
  const old = await put(bucket, 'old', 'key', {
    ...{ Metadata: { from: 'me' }, ContentType: 'text/css', CacheControl: 'no-cache', StorageClass: 'STANDARD_IA' },
    ...{ Tagging: 'a=b', WebsiteRedirectLocation: '/there' },
  });
  const newer = await put(bucket, 'newer');
  const result = await restoreVersion(client, { bucket, key: 'key', versionId: old });
  expect(result).toEqual({ bucket, key: 'key', restored: old, versionId: expect.any(String), changed: true });
  expect([old, newer]).not.toContain(result.versionId);
  expect(await client.send(new HeadObjectCommand({ Bucket: bucket, Key: 'key' }))).toMatchObject({
    ...{ VersionId: result.versionId, ContentLength: 3, Metadata: { from: 'me' }, ContentType: 'text/css' },
    ...{ CacheControl: 'no-cache', StorageClass: 'STANDARD_IA', WebsiteRedirectLocation: '/there' },
  });
  const { TagSet } = await client.send(new GetObjectTaggingCommand({ Bucket: bucket, Key: 'key' }));
  expect(TagSet).toEqual([{ Key: 'a', Value: 'b' }]);
  const { Versions } = await client.send(new ListObjectVersionsCommand({ Bucket: bucket }));
  expect(Versions?.map(({ VersionId }) => VersionId)).toEqual([result.versionId, newer, old]);
  // Once more is not needed.
  expect(await restoreVersion(client, { bucket, key: 'key', versionId: result.versionId })).toMatchObject({
    ...{ versionId: result.versionId, changed: false },
  });
});

test('the encryption of the version is asked for, not the default of the bucket', async () => {
  const bucket = await makeBucket('encrypted');
  await put(bucket, 'old');
  await put(bucket, 'new');
  const kms = { ServerSideEncryption: 'aws:kms', SSEKMSKeyId: 'arn:aws:kms:us-east-1:1:key/1', BucketKeyEnabled: true };
  let input = {};
  const head = { operation: 'HeadObject', output: kms };
  const copy = { operation: 'CopyObject', output: {}, answered: (seen: object) => (input = seen) };
  await restoreVersion(withFaults(s3(), head, copy).client, { bucket, key: 'key' });
  expect(input).toMatchObject(kms);
});

test('a copy of what was restored from the archive can be read, and has no lock', async () => {
  const bucket = await makeBucket('archived');
  await put(bucket, 'old');
  await put(bucket, 'new');
  const lock = { ObjectLockMode: 'GOVERNANCE', ObjectLockRetainUntilDate: new Date(Date.now() + 1e8) };
  const copied = async (StorageClass: string) => {
    const seen: object[] = [];
    const Versions = [
      { Key: 'key', VersionId: '2', IsLatest: true },
      { Key: 'key', VersionId: '1', StorageClass },
    ];
    const { client: one } = withFaults(
      s3(),
      { operation: 'ListObjectVersions', output: { Versions } },
      { operation: 'HeadObject', output: { ETag: '"1"', ContentLength: 3, StorageClass, ...lock } },
      { operation: 'CopyObject', output: {}, answered: (input) => seen.push(input) },
    );
    await restoreVersion(one, { bucket, key: 'key' });
    return seen[0];
  };
  for (const archive of ['GLACIER', 'DEEP_ARCHIVE']) {
    expect(await copied(archive)).toMatchObject({ StorageClass: 'STANDARD' });
  }
  const copy = await copied('GLACIER_IR');
  expect(copy).toMatchObject({ StorageClass: 'GLACIER_IR', CopySource: `${bucket}/key?versionId=1` });
  expect(copy).not.toHaveProperty('ObjectLockMode');
});

test('without a version the newest before the current one is taken: an overwrite and a deletion are undone', async () => {
  const bucket = await makeBucket('previous');
  await put(bucket, 'one');
  await put(bucket, 'two');
  const command = `npx tsx ${file} s3://paws-example-previous/key --previous --local --json`;
  expect(await run(command)).toMatchObject({ code: 0, stderr: '' });
  expect(await read(bucket)).toBe('one');
  await remove(bucket);
  await remove(bucket);
  expect(await restoreVersion(client, { bucket, key: 'key' })).toMatchObject({ changed: true });
  expect(await read(bucket)).toBe('one');
  await expect(restoreVersion(client, { bucket, key: 'ke' })).rejects.toMatchObject({
    ...{ name: 'NoSuchVersion', message: 'ke has no older version.' },
  });
});

test('a version that is not there and a marker are errors, and nothing is written', async () => {
  const bucket = await makeBucket('refused');
  await put(bucket, 'one');
  const marker = await remove(bucket);
  const restore = (versionId: string) => restoreVersion(client, { bucket, key: 'key', versionId });
  await expect(restore('nothing')).rejects.toMatchObject({
    name: 'NoSuchVersion',
    message: 'key has no version nothing.',
  });
  await expect(restore(marker)).rejects.toThrow(`${marker} of key is a delete marker`);
  await expect(restore('')).rejects.toThrow(RangeError);
  const empty = await run(`npx tsx ${file} s3://paws-example-refused/key --local --version-id ""`);
  expect(empty).toMatchObject({ code: 2, stdout: '', stderr: 'Error: the version has no id\n' });
  expect(await collect({ bucket })).toHaveLength(2);
  const unknown = await run(`npx tsx ${file} s3://paws-example-nowhere/key --local --version-id x`);
  expect(unknown).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('NoSuchBucket') });
});

test('a version over 5 GiB is copied in parts, of which none is left if one fails', async () => {
  const bucket = await makeBucket('huge');
  const version = await put(bucket, 'one');
  await put(bucket, 'two');
  const faults = [
    { operation: 's3:HeadObject', output: { ContentLength: 6e9, ETag: '"1"', Metadata: {} } },
    { operation: 's3:UploadPartCopy', error: { name: 'AccessDenied', message: 'Not yours' } },
  ];
  const command = `npx tsx ${file} s3://paws-example-huge/key --version-id ${version} --local`;
  const failed = await run(command, { faults });
  expect(failed).toMatchObject({ code: 1, stdout: '' });
  expect(failed.stderr).toMatch(/^Error: s3:UploadPartCopy failed: AccessDenied: Not yours\n/);
  expect((await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }))).Uploads ?? []).toEqual([]);
  expect(await read(bucket)).toBe('two');
});

test('where versioning is not on, a copy could cost the null version: it is refused', async () => {
  const bucket = await makeBucket('suspended');
  const first = await put(bucket, 'first');
  const VersioningConfiguration = { Status: 'Suspended' as const };
  await client.send(new PutBucketVersioningCommand({ Bucket: bucket, VersioningConfiguration }));
  await put(bucket, 'null');
  await expect(restoreVersion(client, { bucket, key: 'key', versionId: first })).rejects.toThrow('turn it on (3.11)');
  expect(await read(bucket)).toBe('null');
});

test('keys of all sorts are found and restored', async () => {
  const bucket = await makeBucket('odd');
  const keys = [...oddKeys, ...keysBeyondXml];
  await pMap(keys, (key) => put(bucket, key, key).then(() => put(bucket, 'wrong', key)), { concurrency: 8 });
  await pMap(keys, (key) => restoreVersion(client, { bucket, key }), { concurrency: 8 });
  for (const key of keys) expect(await read(bucket, key), key).toBe(key);
  const listed = await collect({ bucket });
  expect(new Set(listed.map(({ key }) => key))).toEqual(new Set(keys));
  expect(listed).toHaveLength(3 * keys.length);
});

/** As S3 encodes keys in lists; LocalStack leaves that out for the mark where the next page begins. */
const encode = (key: string) => encodeURIComponent(key).replaceAll('%20', '+').replaceAll('%2F', '/');

test('page leads to page in the one order that versions and markers have together', async () => {
  const bucket = await makeBucket('pages');
  const keys = ['a', 'a b', 'a+b', 'a%20b', '\uFF21', '\u{10000}', 'z'];
  for (const key of keys) {
    await put(bucket, '1', key);
    await remove(bucket, key);
    await put(bucket, '2', key);
    await remove(bucket, key);
  }
  const small = s3();
  small.middlewareStack.add(
    (next) => async (args) => {
      const input: Record<string, unknown> = { ...args.input, MaxKeys: 3 };
      delete input.EncodingType;
      const { output, response } = await next({ ...args, input } as typeof args);
      const { Versions = [], DeleteMarkers = [], ...page } = output as unknown as ListObjectVersionsOutput;
      for (const entry of [...Versions, ...DeleteMarkers]) entry.Key = encode(entry.Key as string);
      const NextKeyMarker = page.NextKeyMarker && encode(page.NextKeyMarker);
      return { response, output: { ...page, Versions, DeleteMarkers, EncodingType: 'url', NextKeyMarker } } as never;
    },
    { step: 'initialize' },
  );
  const listed = await collect({ bucket }, small);
  const sorted = [...keys].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  expect(listed.map(({ key }) => key)).toEqual(sorted.flatMap((key) => [key, key, key, key]));
  expect(listed.filter(({ isLatest }) => isLatest).map(({ key, deleteMarker }) => [key, deleteMarker])).toEqual(
    sorted.map((key) => [key, true]),
  );
  expect(listed.findIndex(({ isLatest }) => isLatest)).toBe(0);
});

test('versions and markers that the SDK hands out apart are put in order by time', async () => {
  const at = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second));
  const entry = (Key: string, VersionId: string, second: number, IsLatest = false) => ({
    ...{ Key, VersionId, LastModified: at(second), IsLatest },
  });
  const page = {
    Versions: [entry('a', 'v3', 9, true), entry('a', 'v2', 5), entry('a', 'v1', 1), entry('c', 'v1', 2)],
    DeleteMarkers: [
      entry('a', 'm3', 9),
      entry('a', 'm2', 5),
      entry('a', 'm1', 4),
      entry('b', 'm1', 1, true),
      entry('c', 'm1', 2, true),
    ],
  };
  const { client: one } = withFaults(s3(), { operation: 'ListObjectVersions', output: page });
  const listed = await collect({ bucket: own }, one);
  expect(listed.map(({ key, versionId }) => key + versionId)).toEqual([
    ...['av3', 'am3', 'av2', 'am2', 'am1', 'av1', 'bm1', 'cm1', 'cv1'],
  ]);
});

test('the next page is asked for before anything of a page is handed out, and no page more', async () => {
  const { client: one, sent } = withFaults(s3(), {
    operation: 'ListObjectVersions',
    output: { IsTruncated: true, NextKeyMarker: 'a', Versions: [{ Key: 'a', VersionId: 'v' }] },
  });
  for await (const { key } of listVersions(one, { bucket: own })) {
    expect([key, sent.length]).toEqual(['a', 2]);
    break;
  }
  expect(sent).toHaveLength(2);
  const lost = withFaults(s3(), { operation: 'ListObjectVersions', output: { IsTruncated: true } });
  await expect(collect({ bucket: own }, lost.client)).rejects.toThrow('S3 does not say where the list goes on.');
});

test.each(['GetBucketVersioning', 'ListObjectVersions', 'HeadObject', 'CopyObject'])(
  'an error of %s goes up as it is, and an abort stops it',
  async (operation) => {
    const bucket = await makeBucket(operation.toLowerCase());
    await put(bucket, 'one');
    await put(bucket, 'two');
    const { client: one } = withFaults(s3(), { operation, error: 'AccessDenied' });
    await expect(restoreVersion(one, { bucket, key: 'key' })).rejects.toMatchObject({ name: 'AccessDenied' });
    const signal = AbortSignal.abort();
    await expect(restoreVersion(client, { bucket, key: 'key', signal })).rejects.toMatchObject({ name: 'AbortError' });
    expect(await read(bucket)).toBe('two');
  },
);
