import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  CreateBucketCommand,
  GetObjectCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  RestoreObjectCommand,
  type StorageClass,
} from '@aws-sdk/client-s3';
import { expect, test } from 'vitest';
import { cutStorageCost, estimateChange } from '../../recipes/s3/09-cut-storage-cost.ts';
import { withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';
import { oddKeys } from '../odd-keys.ts';

const { bucket, run, file, folder, s3 } = testRecipe(import.meta);
const client = s3();
const MB = 2 ** 20;

async function put(key: string, StorageClass?: StorageClass, more: object = {}): Promise<void> {
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: 'text', StorageClass, ...more }));
}
/** The class that S3 says it has: nothing for STANDARD. */
async function classOf(key: string): Promise<string> {
  const { StorageClass = 'STANDARD' } = await client.send(new HeadObjectCommand({ Bucket: bucket, Key: key }));
  return StorageClass;
}
/** A client that sees an object of such a size, class and age. */
function seeing(head: { ContentLength: number; StorageClass?: string; days?: number; [more: string]: unknown }) {
  const LastModified = new Date(Date.now() - (head.days ?? 1000) * 86_400_000);
  return withFaults(s3(), { operation: 'HeadObject', output: { ETag: '"e"', LastModified, ...head } });
}

const closeTo = (value: number) => expect.closeTo(value, 9);

test('the bucket for what follows', async () => {
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
});

test('an object changes its class, in each direction, and all else stays', async () => {
  const Metadata = { author: 'zoe' };
  await put('report', undefined, { Metadata, ContentType: 'text/csv', CacheControl: 'no-cache', Tagging: 'a=b' });
  const object = { Bucket: bucket, Key: 'report' };
  const kept = async () => {
    const { ETag, ContentType, CacheControl, Metadata, ServerSideEncryption } = await client.send(
      new HeadObjectCommand(object),
    );
    const { TagSet } = await client.send(new GetObjectTaggingCommand(object));
    return { ETag, ContentType, CacheControl, Metadata, ServerSideEncryption, TagSet };
  };
  const before = await kept();
  const classes = ['STANDARD_IA', 'ONEZONE_IA', 'INTELLIGENT_TIERING', 'GLACIER_IR', 'STANDARD'];
  let from = 'STANDARD';
  for (const storageClass of classes) {
    const changed = await cutStorageCost(client, { bucket, key: 'report', storageClass });
    expect(changed).toMatchObject({ from, to: storageClass, size: 4 });
    expect(await classOf('report')).toBe(storageClass);
    expect(await kept()).toEqual(before);
    from = storageClass;
  }
});

test('an object that is locked stays locked', async () => {
  const object = { Bucket: `${bucket}-lock`, Key: 'held' };
  await client.send(new CreateBucketCommand({ Bucket: object.Bucket, ObjectLockEnabledForBucket: true }));
  const lock = {
    ObjectLockMode: 'GOVERNANCE' as const,
    ObjectLockRetainUntilDate: new Date(Math.ceil(Date.now() / 1000) * 1000 + 86_400_000),
    ObjectLockLegalHoldStatus: 'ON' as const,
  };
  await client.send(new PutObjectCommand({ ...object, Body: 'text', ...lock }));
  const result = await run(`npx tsx ${file} s3://paws-example-lock/held GLACIER_IR --local --yes`);
  expect(result).toMatchObject({ code: 0, stderr: '' });
  const now = await client.send(new HeadObjectCommand(object));
  expect(now).toMatchObject({ ...lock, StorageClass: 'GLACIER_IR' });
});

test('a file is uploaded in its class, after a question that says the cost, and replaces what is there', async () => {
  writeFileSync(join(folder, 'old.log'), 'x'.repeat(MB));
  const command = `npx tsx ${file} s3://paws-example/old.log GLACIER_IR --file old.log --local`;
  const asked = await run(command);
  expect(asked).toMatchObject({ code: 2, stdout: '' });
  expect(asked.stderr).toContain(
    'Upload old.log to s3://paws-example/old.log in GLACIER_IR? $0.00002 once, then $0.0000039 a month, for 90 days at least (us-east-1).\n',
  );
  await put('old.log', 'STANDARD_IA');
  const again = await run(command);
  expect(again.stderr).toMatch(
    /in GLACIER_IR\? now \S+ a month in STANDARD_IA; .* It replaces the object that is there/,
  );
  const done = await run(`${command} --yes --json`);
  expect(done).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(done.stdout)).toEqual({
    bucket: 'paws-example',
    key: 'old.log',
    size: MB,
    from: 'STANDARD_IA',
    to: 'GLACIER_IR',
    monthBefore: (0.0125 * 128) / MB,
    monthAfter: 0.004 / 1024,
    once: expect.closeTo(0.00002 + (0.0125 * 128) / MB, 9),
    minDays: 90,
    oldEtag: '"1cb251ec0d568de6a929b520c4aed8d1"',
    oldVersionStays: false,
  });
  const head = await client.send(new HeadObjectCommand({ Bucket: bucket, Key: 'old.log' }));
  expect(head).toMatchObject({ StorageClass: 'GLACIER_IR', ContentLength: MB, ContentType: 'text/plain' });
});

test('a file replaces only what the question was about', async () => {
  const body = 'new';
  const options = { bucket, key: 'written-meanwhile', storageClass: 'GLACIER_IR', body };
  const missing = await estimateChange(client, options);
  await put(options.key);
  const upload = (oldEtag?: string | null) => cutStorageCost(client, { ...options, oldEtag });
  await expect(upload(missing.oldEtag)).rejects.toMatchObject({ name: 'PreconditionFailed' });
  const { oldEtag } = await estimateChange(client, options);
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: options.key, Body: 'of somebody else' }));
  await expect(upload(oldEtag)).rejects.toMatchObject({ name: 'PreconditionFailed' });
  expect(await classOf(options.key)).toBe('STANDARD');
  expect(await upload()).toMatchObject({ from: 'STANDARD', to: 'GLACIER_IR' });
  expect(await classOf(options.key)).toBe('GLACIER_IR');
});

test('a change is asked for with both prices, and nothing is done without an answer', async () => {
  const Bucket = `${bucket}-asked`;
  await client.send(new CreateBucketCommand({ Bucket }));
  await client.send(new PutObjectCommand({ Bucket, Key: 'asked', Body: 'x'.repeat(MB) }));
  // It is the version `null` from now on, and stays.
  const VersioningConfiguration = { Status: 'Enabled' } as const;
  await client.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration }));
  const result = await run(`npx tsx ${file} s3://paws-example-asked/asked DEEP_ARCHIVE --local`);
  expect(result).toMatchObject({ code: 2, stdout: '' });
  expect(result.stderr).toContain(
    'into DEEP_ARCHIVE? now $0.000022 a month in STANDARD; $0.00005 once, then $0.0000012 a month, for 180 days at least (us-east-1). The old version stays, and costs as before.',
  );
  const head = await client.send(new HeadObjectCommand({ Bucket, Key: 'asked' }));
  expect(head).not.toHaveProperty('StorageClass', 'DEEP_ARCHIVE');
});

test('in a bucket that keeps versions the old one stays, and that is said', async () => {
  const versions = `${bucket}-versions`;
  await client.send(new CreateBucketCommand({ Bucket: versions }));
  const VersioningConfiguration = { Status: 'Enabled' } as const;
  await client.send(new PutBucketVersioningCommand({ Bucket: versions, VersioningConfiguration }));
  const { VersionId } = await client.send(new PutObjectCommand({ Bucket: versions, Key: 'key', Body: 'text' }));
  const options = { bucket: versions, key: 'key', storageClass: 'GLACIER_IR' };
  expect(await cutStorageCost(client, options)).toMatchObject({ oldVersionStays: true });
  const old = new HeadObjectCommand({ Bucket: versions, Key: 'key', VersionId });
  expect(await client.send(old)).not.toHaveProperty('StorageClass', 'GLACIER_IR');

  // What stays owes nothing: it goes on costing.
  const toStandard = { ...options, storageClass: 'STANDARD' };
  expect(await cutStorageCost(client, toStandard)).toMatchObject({
    oldVersionStays: true,
    once: closeTo(0.005 / 1000),
  });
  expect(await cutStorageCost(client, { ...options, body: 'new' })).toMatchObject({ oldVersionStays: true, size: 3 });
  // The version `null` stays, too, but not while versions are off.
  const young = { ContentLength: MB, StorageClass: 'GLACIER_IR', VersionId: 'null', days: 0 };
  const { once, ...stays } = await estimateChange(seeing(young).client, toStandard);
  expect(stays).toMatchObject({ oldVersionStays: true });
  const off = { Status: 'Suspended' } as const;
  await client.send(new PutBucketVersioningCommand({ Bucket: versions, VersioningConfiguration: off }));
  const goes = await estimateChange(seeing(young).client, toStandard);
  expect(goes).toMatchObject({ oldVersionStays: false, once: closeTo(once + (0.004 * 3) / 1024) });
});

test('what is archived has to be restored first', async () => {
  await put('archived', 'GLACIER');
  const options = { bucket, key: 'archived', storageClass: 'STANDARD' };
  await expect(cutStorageCost(client, options)).rejects.toMatchObject({
    name: 'InvalidObjectState',
    message: `s3://${bucket}/archived is archived (GLACIER): restore it first, with RestoreObject`,
  });
  expect(await classOf('archived')).toBe('GLACIER');
  // What replaces it does not read it.
  expect(await estimateChange(client, { ...options, body: 'new' })).toMatchObject({ from: 'GLACIER', size: 3 });
  const underWay = seeing({ ContentLength: 4, StorageClass: 'DEEP_ARCHIVE', Restore: 'ongoing-request="true"' });
  await expect(estimateChange(underWay.client, options)).rejects.toThrow('it is being restored: wait');
  const tiered = { ContentLength: 4, StorageClass: 'INTELLIGENT_TIERING', ArchiveStatus: 'ARCHIVE_ACCESS' };
  await expect(estimateChange(seeing(tiered).client, options)).rejects.toThrow('archived (INTELLIGENT_TIERING)');

  const RestoreRequest = { Days: 1, GlacierJobParameters: { Tier: 'Standard' } } as const;
  await client.send(new RestoreObjectCommand({ Bucket: bucket, Key: 'archived', RestoreRequest }));
  expect(await cutStorageCost(client, options)).toMatchObject({ from: 'GLACIER', to: 'STANDARD' });
  expect(await classOf('archived')).toBe('STANDARD');
});

test('the same class again changes nothing, not even an archived object', async () => {
  await put('same', 'GLACIER');
  const { client: watched, sent } = withFaults(s3());
  const same = await cutStorageCost(watched, { bucket, key: 'same', storageClass: 'GLACIER' });
  expect(same).toMatchObject({ from: 'GLACIER', to: 'GLACIER', once: 0 });
  expect(same.monthBefore).toBe(same.monthAfter);
  expect(sent).toEqual(['HeadObject']);
});

test('costs are those of the table: smallest sizes, smallest times, and what an archive adds', async () => {
  const GB = 2 ** 30;
  const estimate = (size: number, storageClass: string, from?: string, days?: number) =>
    estimateChange(seeing({ ContentLength: size, StorageClass: from, days }).client, {
      bucket,
      key: 'k',
      storageClass,
    });
  // Prices for a whole GB, and for a thousand.
  const prices: [string, number, number, number][] = [
    ['STANDARD_IA', 0.0125, 0.01, 30],
    ['ONEZONE_IA', 0.01, 0.01, 30],
    ['GLACIER_IR', 0.004, 0.02, 90],
    ['INTELLIGENT_TIERING', 0.0230025, 0.005, 0],
  ];
  for (const [storageClass, month, thousand, minDays] of prices) {
    const change = await estimate(GB, storageClass);
    expect(change, storageClass).toMatchObject({ from: 'STANDARD', monthBefore: 0.023, minDays });
    expect(change.monthAfter, storageClass).toBeCloseTo(month, 10);
    expect(change.once * 1000, storageClass).toBeCloseTo(thousand, 10);
  }
  // A million objects of 1 KB: 128 KB each are billed, or 40 KB more.
  const million = async (name: string) => (await estimate(1024, name)).monthAfter * 1e6;
  expect(await million('STANDARD_IA')).toBeCloseTo((131_072 * 1e6 * 0.0125) / GB, 6);
  expect(await million('INTELLIGENT_TIERING')).toBeCloseTo((1024 * 1e6 * 0.023) / GB, 6);
  const archive = (33 * 1024 * 0.00099 + 8 * 1024 * 0.023) * 1e6;
  expect(await million('DEEP_ARCHIVE')).toBeCloseTo(archive / GB, 6);
  // The copy is paid for as reading. Ten days into the ninety, eighty are still paid.
  const early = await estimate(GB, 'STANDARD', 'GLACIER_IR', 10);
  expect(early.once).toBeCloseTo(0.005 / 1000 + 0.03 + (0.004 * 80) / 30, 6);
  expect((await estimate(GB, 'STANDARD', 'GLACIER_IR', 91)).once).toBeCloseTo(0.005 / 1000 + 0.03, 10);
  expect((await estimate(GB / 2, 'STANDARD', 'STANDARD_IA')).once).toBeCloseTo(0.005 / 1000 + 0.005, 10);
  // A class of old, whose price is not known.
  expect(await estimate(GB, 'STANDARD', 'REDUCED_REDUNDANCY')).toMatchObject({
    from: 'REDUCED_REDUNDANCY',
    monthBefore: null,
    once: 0.005 / 1000,
  });
});

test('classes that S3 does not take here, or that save nothing, are refused before anything is sent', async () => {
  const { client: unused, sent } = withFaults(s3());
  const refused = ['OUTPOSTS', 'SNOW', 'EXPRESS_ONEZONE', 'standard_ia', '', 'toString'];
  for (const storageClass of refused) {
    const changed = cutStorageCost(unused, { bucket, key: 'key', storageClass });
    await expect(changed, storageClass).rejects.toThrow(RangeError);
    await expect(changed, storageClass).rejects.toThrow('is not for here: take one of STANDARD, INTELLIGENT_TIERING');
  }
  expect(sent).toEqual([]);
  const result = await run(`npx tsx ${file} s3://paws-example/key REDUCED_REDUNDANCY --local --yes`);
  expect(result).toMatchObject({ code: 2, stdout: '' });
  expect(result.stderr).toMatch(/^Error: REDUCED_REDUNDANCY costs more than STANDARD and loses data: take one of /);
});

test.each(oddKeys)('the key %j changes its class, and no other object does', async (key) => {
  await put(key, undefined, { Body: `of ${key}` });
  await cutStorageCost(client, { bucket, key, storageClass: 'STANDARD_IA' });
  const { Body, StorageClass } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
  expect(await Body?.transformToString()).toBe(`of ${key}`);
  expect(StorageClass).toBe('STANDARD_IA');
});

test('each step that is refused is named', async () => {
  await put('refused');
  for (const operation of ['HeadObject', 'CopyObject']) {
    const { client: failing, sent } = withFaults(s3(), { operation, error: 'AccessDenied' });
    const changed = cutStorageCost(failing, { bucket, key: 'refused', storageClass: 'STANDARD_IA' });
    await expect(changed, operation).rejects.toMatchObject({ name: 'AccessDenied' });
    expect(sent.at(-1)).toBe(operation);
  }
  const { client: failing } = withFaults(s3(), { operation: 'PutObject', error: 'AccessDenied' });
  const upload = { bucket, key: 'refused', storageClass: 'STANDARD_IA', body: 'new' };
  await expect(cutStorageCost(failing, upload)).rejects.toMatchObject({ name: 'AccessDenied' });
  expect(await classOf('refused')).toBe('STANDARD');
  const missing = { bucket, key: 'missing', storageClass: 'STANDARD_IA' };
  await expect(cutStorageCost(client, missing)).rejects.toMatchObject({ name: 'NotFound' });
  const forbidden = withFaults(s3(), { operation: 'HeadObject', error: 'Forbidden' });
  await expect(cutStorageCost(forbidden.client, upload)).rejects.toMatchObject({ name: 'Forbidden' });
  expect(forbidden.sent).toEqual(['HeadObject']);
  const unknown = { operation: 'GetBucketVersioning', error: 'AccessDenied' };
  const nulls = withFaults(s3(), unknown, { operation: 'HeadObject', output: { VersionId: 'null' } }).client;
  await expect(cutStorageCost(nulls, upload)).rejects.toMatchObject({ name: 'AccessDenied' });
  await expect(cutStorageCost(client, { ...upload, signal: AbortSignal.abort() })).rejects.toThrow();
});
