import {
  CreateBucketCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectVersionsCommand,
  PutObjectCommand,
  type PutObjectCommandInput,
} from '@aws-sdk/client-s3';
import pMap from 'p-map';
import { expect, test } from 'vitest';
import { changeMetadata } from '../../recipes/s3/07-change-metadata.ts';
import { withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';
import { oddKeys } from '../odd-keys.ts';

const { bucket: own, run, file, s3 } = testRecipe(import.meta);
const client = s3();
const partSize = 5 * 2 ** 20;
const large = Buffer.alloc(6 * 2 ** 20, 'paws');
const [bucket, plain] = [`${own}-lock`, `${own}-plain`];

/** All that S3 lets one set with an object, in a bucket with Object Lock. */
const everything: Partial<PutObjectCommandInput> = {
  Metadata: { owner: 'me', colour: 'red', city: '=?UTF-8?Q?Z=C3=BCrich?=' },
  ContentType: 'text/csv',
  CacheControl: 'max-age=60',
  ContentDisposition: 'inline',
  ContentEncoding: 'identity',
  ContentLanguage: 'de',
  Expires: new Date('2040-01-01'),
  Tagging: 'team=web&a%20b=c%2Bd',
  StorageClass: 'STANDARD_IA',
  ServerSideEncryption: 'AES256',
  WebsiteRedirectLocation: '/elsewhere',
  ObjectLockMode: 'GOVERNANCE',
  ObjectLockRetainUntilDate: new Date(Math.ceil(Date.now() / 1000) * 1000 + 86_400_000),
  ObjectLockLegalHoldStatus: 'ON',
};

let made: Promise<unknown> | undefined;
const buckets = () => (made ??= make());
async function make() {
  await client.send(new CreateBucketCommand({ Bucket: bucket, ObjectLockEnabledForBucket: true }));
  await client.send(new CreateBucketCommand({ Bucket: plain }));
}
const put = (Bucket: string, Key: string, more: Partial<PutObjectCommandInput> = {}) =>
  buckets().then(() => client.send(new PutObjectCommand({ Bucket, Key, Body: 'text', ...more })));
/** All that is there but for what a write changes. */
const look = async (Bucket: string, Key: string) => {
  const { $metadata, LastModified, VersionId, ETag, ...rest } = await client.send(
    new HeadObjectCommand({ Bucket, Key }),
  );
  const { TagSet } = await client.send(new GetObjectTaggingCommand({ Bucket, Key }));
  return { ...rest, TagSet };
};
const versions = async (Key: string) =>
  ((await client.send(new ListObjectVersionsCommand({ Bucket: bucket, Prefix: Key }))).Versions ?? []).length;

test('some is set, some removed, all else stays, and a version is added', async () => {
  await put(bucket, 'some', everything);
  const before = await look(bucket, 'some');
  const words = '--metadata Owner=you title="Menü = 1" --content-type text/plain --remove colour cache-control';
  const command = `npx tsx ${file} s3://paws-example-lock/some ${words} --local --json`;
  const result = await run(command);
  expect(result).toMatchObject({ code: 0, stderr: '' });
  const { versionId, ...rest } = JSON.parse(result.stdout);
  expect(rest).toEqual({
    bucket: 'paws-example-lock',
    key: 'some',
    etag: expect.stringMatching(/^"[0-9a-f]{32}"$/),
    changed: ['owner', 'title', 'colour', 'content-type', 'cache-control'],
  });
  const { CacheControl, ...kept } = before;
  expect(await look(bucket, 'some')).toEqual({
    ...kept,
    ContentType: 'text/plain',
    Metadata: { owner: 'you', title: '=?UTF-8?B?TWVuw7wgPSAx?=', city: everything.Metadata?.city },
  });
  expect(await versions('some')).toBe(2);
  expect(await client.send(new HeadObjectCommand({ Bucket: bucket, Key: 'some' }))).toMatchObject({
    VersionId: versionId,
  });
});

test('what is so already is not written again, however it is encoded', async () => {
  const { VersionId } = await put(bucket, 'same', everything);
  const change = { metadata: { OWNER: 'me', city: 'Zürich', gone: null }, contentLanguage: 'de' };
  const { client: one, sent } = withFaults(s3());
  expect(await changeMetadata(one, { bucket, key: 'same', change, remove: ['nothing'] })).toEqual({
    ...{ bucket, key: 'same', versionId: VersionId, changed: [] },
    etag: expect.stringMatching(/./),
  });
  expect(sent).toEqual(['HeadObject']);
  expect(await versions('same')).toBe(1);
});

test('each header can be set and removed alone', async () => {
  const fields = ['contentType', 'cacheControl', 'contentDisposition', 'contentEncoding', 'contentLanguage', 'expires'];
  await put(bucket, 'each', everything);
  for (const field of fields) {
    const before = await look(bucket, 'each');
    const name = `${field[0]?.toUpperCase()}${field.slice(1)}` as keyof typeof before;
    const value = field === 'expires' ? 'Thu, 01 Jan 2037 00:00:00 GMT' : 'x/y';
    const header = field.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    const { changed } = await changeMetadata(client, { bucket, key: 'each', change: { [field]: value } });
    expect(changed).toEqual([header]);
    const dates = field === 'expires' ? { ExpiresString: value } : {};
    expect(await look(bucket, 'each')).toEqual({
      ...before,
      [name]: field === 'expires' ? new Date(value) : value,
      ...dates,
    });
    await changeMetadata(client, { bucket, key: 'each', remove: [header.toUpperCase()] });
    const after = await look(bucket, 'each');
    // Without a type S3 gives its own.
    if (field === 'contentType') expect(after.ContentType).toBe('binary/octet-stream');
    else expect(after).not.toHaveProperty(name);
  }
  expect((await look(bucket, 'each')).Metadata).toEqual(everything.Metadata);
});

test('metadata with the name of a header is told apart from it; all of it can go at once', async () => {
  await put(bucket, 'apart', { ...everything, Metadata: { expires: 'never', a: '1', 'x-amz-meta-b': '2' } });
  // What was named so by mistake can go.
  await changeMetadata(client, { bucket, key: 'apart', remove: ['x-amz-meta-x-amz-meta-b'] });
  expect(await changeMetadata(client, { bucket, key: 'apart', remove: ['x-amz-meta-expires'] })).toMatchObject({
    changed: ['expires'],
  });
  expect(await look(bucket, 'apart')).toMatchObject({ Metadata: { a: '1' }, Expires: everything.Expires });
  await changeMetadata(client, { bucket, key: 'apart', change: { metadata: null } });
  expect(await look(bucket, 'apart')).toMatchObject({
    Metadata: {},
    Expires: everything.Expires,
    ContentType: 'text/csv',
  });
});

test('in parts all is kept just so', async () => {
  await put(bucket, 'parts', { ...everything, Body: large });
  const before = await look(bucket, 'parts');
  const change = { contentType: 'text/plain' };
  const told: number[] = [];
  const onProgress = ({ bytes }: { bytes: number }) => told.push(bytes);
  expect(await changeMetadata(client, { bucket, key: 'parts', change, partSize, onProgress })).toMatchObject({
    etag: expect.stringMatching(/-2"$/),
    changed: ['content-type'],
  });
  const { ChecksumType, ...after } = { ChecksumType: null, ...(await look(bucket, 'parts')) };
  expect(after).toEqual({ ...before, ContentType: 'text/plain' });
  expect(told.at(-1)).toBe(large.length);
});

test('every key is changed in its place', async () => {
  await pMap(
    oddKeys,
    async (key) => {
      await put(plain, key, { CacheControl: 'max-age=60' });
      expect(await changeMetadata(client, { bucket: plain, key, change: { metadata: { a: 'b' } } })).toMatchObject({
        ...{ key, versionId: null, changed: ['a'] },
      });
      expect(await look(plain, key)).toMatchObject({
        Metadata: { a: 'b' },
        CacheControl: 'max-age=60',
        ContentLength: 4,
      });
    },
    { concurrency: 8 },
  );
});

test('what somebody else writes meanwhile is not lost', async () => {
  const change = { metadata: { owner: 'you' } };
  const [object, theirs] = [
    { bucket: plain, key: 'race' },
    { Body: 'theirs', Metadata: { their: 'own' } },
  ];
  // Between this recipe's look and that of the copy: theirs is what is changed.
  await put(plain, 'race');
  const write = () => put(plain, 'race', theirs);
  let heads = 0;
  const early = s3();
  early.middlewareStack.add(
    (next, { commandName }) =>
      async (args) => {
        if (commandName === 'HeadObjectCommand' && ++heads === 2) await write();
        return next(args);
      },
    { step: 'initialize' },
  );
  await changeMetadata(early, { ...object, change });
  expect(await look(plain, 'race')).toMatchObject({ ContentLength: 6, Metadata: { their: 'own', owner: 'you' } });

  // Between the copy's look and the copy.
  await put(plain, 'race');
  const late = s3();
  // biome-ignore lint/suspicious/noExplicitAny: the inputs of several operations
  const inputs: any[] = [];
  late.middlewareStack.add(
    (next, { commandName }) =>
      async (args) => {
        if (commandName !== 'CopyObjectCommand') return next(args);
        inputs.push(args.input);
        await write();
        return next(args);
      },
    { step: 'initialize' },
  );
  const { ETag } = await client.send(new HeadObjectCommand({ Bucket: plain, Key: 'race' }));
  await expect(changeMetadata(late, { ...object, change })).rejects.toMatchObject({ name: 'PreconditionFailed' });
  expect(await look(plain, 'race')).toMatchObject({ ContentLength: 6, Metadata: { their: 'own' } });
  // LocalStack looks only at the first of them. S3 compares the second when it writes.
  expect(inputs[0]).toMatchObject({ CopySourceIfMatch: ETag, IfMatch: ETag });
});

test('a part that fails leaves the object as it was', async () => {
  await put(plain, 'failing', { Body: large });
  const before = await look(plain, 'failing');
  const object = { bucket: plain, key: 'failing', change: { contentType: 'text/csv' }, partSize };
  for (const operation of ['CreateMultipartUpload', 'UploadPartCopy', 'CompleteMultipartUpload', 'GetObjectTagging']) {
    const { client: one } = withFaults(s3(), { operation, error: 'AccessDenied' });
    await expect(changeMetadata(one, object), operation).rejects.toMatchObject({ name: 'AccessDenied' });
  }
  expect(await look(plain, 'failing')).toEqual(before);
  const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: plain }));
  expect(Uploads).toEqual([]);
});

test('the command copies what is over 5 GiB in parts, with its tags, and aborts the upload if one fails', async () => {
  await put(plain, 'huge', { Tagging: 'a=b' });
  const faults = [
    { operation: 's3:HeadObject', output: { ContentLength: 6e9, ETag: '"1"', Metadata: {} } },
    { operation: 's3:UploadPartCopy', error: { name: 'AccessDenied', message: 'Not yours' } },
  ];
  const result = await run(`npx tsx ${file} s3://paws-example-plain/huge --metadata a=b --local`, { faults });
  expect(result).toMatchObject({ code: 1, stdout: '' });
  expect(result.stderr).toMatch(/^Error: s3:UploadPartCopy failed: AccessDenied: Not yours\n/);
  const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: plain }));
  expect(Uploads).toEqual([]);
});

test('what cannot be sent is refused before anything is', async () => {
  const { client: one, sent } = withFaults(s3());
  const refused: [Omit<Parameters<typeof changeMetadata>[1], 'bucket' | 'key'>, string][] = [
    [{}, 'nothing would change'],
    [{ change: { contentType: undefined, metadata: {} } }, 'nothing would change'],
    [{ change: { metadata: { 'a b': '1' } } }, '"a b" can\'t be the name'],
    [{ change: { metadata: { '': '1' } } }, "can't be the name"],
    [{ change: { metadata: { a: 'b\nc' } } }, 'a: metadata has no control characters'],
    [{ change: { metadata: { a: '\uD83D' } } }, 'a: metadata has no control characters'],
    [{ change: { metadata: { 'X-Amz-Meta-a': '1' } } }, '"X-Amz-Meta-a" begins with x-amz-'],
    [{ change: { contentType: 'text/csv\r\nx: y' } }, 'content-type: headers have ASCII only'],
    [{ change: { cacheControl: 'später' } }, 'cache-control: headers have ASCII only'],
    [{ change: { metadata: { Owner: 'me' } }, remove: ['owner'] }, "owner can't be both"],
    [{ change: { contentType: 'a/b' }, remove: ['Content-Type'] }, "Content-Type can't be both"],
  ];
  for (const [options, words] of refused) {
    const changing = changeMetadata(one, { bucket: plain, key: 'key', ...options });
    await expect(changing, words).rejects.toThrow(words);
    await expect(changing, words).rejects.toThrow(RangeError);
  }
  expect(sent).toEqual([]);
  const [valueless, nowhere] = await Promise.all([
    run(`npx tsx ${file} s3://paws-example-plain/key --metadata owner --local`),
    run(`npx tsx ${file} s3://paws-example-plain/no-such-key --metadata owner=me --local`),
  ]);
  expect(valueless).toEqual({ code: 2, stdout: '', stderr: 'Error: owner has no value: it is set as NAME=VALUE\n' });
  expect(nowhere).toMatchObject({ code: 1, stdout: '' });
  expect(nowhere.stderr).toContain('s3://paws-example-plain/no-such-key does not exist');
});

test('metadata that S3 does not show can only go all together', async () => {
  await put(plain, 'unseen');
  const output = { ContentLength: 4, ETag: '"1"', MissingMeta: 1 };
  const faults = [
    { operation: 'HeadObject', output },
    { operation: 'CopyObject', output: {} },
  ];
  const { client: one, sent } = withFaults(s3(), ...faults);
  const object = { bucket: plain, key: 'unseen' };
  const set = changeMetadata(one, { ...object, change: { contentType: 'text/csv' } });
  await expect(set).rejects.toThrow('metadata that no HTTP header can carry');
  expect(sent).not.toContain('CopyObject');
  const { changed } = await changeMetadata(one, { ...object, change: { metadata: null } });
  expect(changed).toEqual(['x-amz-missing-meta']);
  expect(sent).toContain('CopyObject');
});
