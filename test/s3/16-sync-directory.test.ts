import { mkdirSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import {
  CreateBucketCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { expect, onTestFinished, test } from 'vitest';
import { syncDirectory } from '../../recipes/s3/16-sync-directory.ts';
import { withFaults } from '../faults.ts';
import { settingsOf, testRecipe } from '../harness.ts';
import { oddKeys } from '../odd-keys.ts';
import { startProxy } from '../proxy.ts';
import { temporaryFolder } from '../run.ts';
import { startVersitygw, versitygw } from '../versitygw.ts';

const own = testRecipe(import.meta);
const { run, file } = own;

/** A bucket for one test, and a directory with files. */
async function makeBoth(name: string, files: Record<string, string | Buffer>, client = own.s3()) {
  const bucket = `${own.bucket}-${name}`;
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  const { path: directory, remove } = temporaryFolder();
  onTestFinished(remove);
  const write = (path: string, content: string | Buffer) => {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), content);
  };
  for (const [path, content] of Object.entries(files)) write(path, content);
  const put = (Key: string, more: object = {}) =>
    client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: 'text', ...more }));
  const read = async (Key: string) => {
    const { Body, ContentType, CacheControl } = await client.send(new GetObjectCommand({ Bucket: bucket, Key }));
    return { text: await Body?.transformToString(), ContentType, CacheControl };
  };
  const keys = async () => {
    const list = new ListObjectsV2Command({ Bucket: bucket });
    return ((await client.send(list)).Contents ?? []).map(({ Key }) => Key as string).sort();
  };
  return { bucket, directory, write, put, read, keys };
}

const counts = (uploaded: number, unchanged: number, deleted = 0) => ({ uploaded, unchanged, deleted, failed: [] });

test('what is new or changed is uploaded, with its type; the rest is not sent again', async () => {
  const files = { 'index.html': '<h1>', 'css/style.css': 'a {}', data: 'x'.repeat(1000), 'empty.txt': '' };
  const { bucket, directory, write, read, keys } = await makeBoth('plain', files);
  const proxy = await startProxy();
  const client = new S3Client({ ...settingsOf(own), endpoint: proxy.url, forcePathStyle: true });
  const sync = () => syncDirectory(client, { directory, bucket, prefix: 'site', cacheControl: 'max-age=60' });
  expect(await sync()).toEqual({ bucket, prefix: 'site/', size: 1008, ...counts(4, 0) });
  expect(await keys()).toEqual(['site/css/style.css', 'site/data', 'site/empty.txt', 'site/index.html']);
  expect(await read('site/index.html')).toEqual({
    ...{ text: '<h1>', ContentType: 'text/html; charset=utf-8', CacheControl: 'max-age=60' },
  });
  expect(await read('site/css/style.css')).toMatchObject({ ContentType: 'text/css; charset=utf-8' });
  expect(await read('site/data')).toMatchObject({ ContentType: 'application/octet-stream' });

  // A time means nothing, a byte does.
  utimesSync(join(directory, 'data'), new Date(0), new Date(0));
  write('index.html', '<h2>');
  expect(await sync()).toMatchObject({ size: 4, ...counts(1, 3) });
  expect(await read('site/index.html')).toMatchObject({ text: '<h2>' });
  expect(await sync()).toMatchObject({ size: 0, ...counts(0, 4) });
  expect(proxy.count('PutObject')).toBe(5);
  expect(proxy.count('HeadObject')).toBe(1);
});

test('hidden files and what lies outside stay where they are', async () => {
  const files = { a: 'a', '.env': 'secret', '.git/config': 'c', 'deep/.hidden/b': 'b' };
  const { bucket, directory, put, keys } = await makeBoth('hidden', files);
  const outside = temporaryFolder();
  onTestFinished(outside.remove);
  writeFileSync(join(outside.path, 'secret'), 'secret');
  symlinkSync(outside.path, join(directory, 'linked'));
  symlinkSync(join(outside.path, 'secret'), join(directory, 'linked-file'));
  symlinkSync(directory, join(directory, 'loop'));
  // What has no file, but isn't ours to delete.
  const kept = ['.well-known/kept', 'img/', 'linked', 'linked-file', 'linked/x'];
  for (const key of kept) await put(key);
  const asked: string[][] = [];
  const deleteExtra = (extra: string[]) => asked.push(extra) > 0;
  expect(await syncDirectory(own.s3(), { directory, bucket, deleteExtra })).toMatchObject(counts(1, 0));
  expect((await keys()).sort()).toEqual([...kept, 'a'].sort());
  expect(asked).toEqual([]);
});

test.skipIf(process.platform === 'darwin')('one odd file or folder is told, and the rest goes on', async () => {
  const { bucket, directory, put, keys } = await makeBoth('one-odd', { a: 'a', 'b/c': 'c', '.d/e': 'e', 'f/g': 'g' });
  // Names that are no UTF-8 can't be read by Node.js, as can't what this user may not read.
  const odd = (path: string) => Buffer.concat([Buffer.from(join(directory, path)), Buffer.from([0xff])]);
  renameSync(join(directory, '.d'), odd('.d'));
  const options = { directory, bucket, prefix: 'x/' };
  expect(await syncDirectory(own.s3(), options)).toMatchObject(counts(3, 0));
  await put('x/old');
  const asked: string[][] = [];
  const deleteExtra = (extra: string[]) => asked.push(extra) > 0;
  renameSync(join(directory, 'f'), odd('f'));
  expect(await syncDirectory(own.s3(), { ...options, deleteExtra })).toMatchObject({
    ...{ uploaded: 0, unchanged: 2, deleted: 0 },
    failed: [{ key: 'x/f\uFFFD/', reason: "the folder can't be read (ENOENT)" }],
  });
  // What could not be seen may well be there.
  expect({ asked, keys: await keys() }).toEqual({ asked: [], keys: ['x/a', 'x/b/c', 'x/f/g', 'x/old'] });
  renameSync(odd('f'), join(directory, 'f'));
  renameSync(join(directory, 'a'), odd('a'));
  expect(await syncDirectory(own.s3(), { ...options, deleteExtra })).toMatchObject({
    ...{ uploaded: 0, unchanged: 2, deleted: 0 },
    failed: [{ key: 'x/a\uFFFD', reason: expect.stringContaining("can't be read (ENOENT)") }],
  });
});

test('names of all sorts come through, and are recognised', async () => {
  // Those of the table that a file can have: no other has a part that is empty, hidden, or over 255 bytes.
  const names = oddKeys.filter((key) =>
    key.split('/').every((part) => part && !part.startsWith('.') && Buffer.byteLength(part) < 256),
  );
  expect(names.length).toBeGreaterThan(25);
  const deep = `${'d'.repeat(200)}/`.repeat(4) + 'e'.repeat(200);
  const all = [...names, deep].map((name, index) => [name, `${index}`] as const);
  const { bucket, directory, read } = await makeBoth('odd', Object.fromEntries(all));
  expect(await syncDirectory(own.s3(), { directory, bucket })).toMatchObject(counts(all.length, 0));
  for (const [name, text] of all) expect(await read(name), name).toMatchObject({ text });
  expect(await syncDirectory(own.s3(), { directory, bucket })).toMatchObject(counts(0, all.length));
});

test('an object whose ETag is no MD5 sum is recognised by its checksum, or sent again', async () => {
  const { bucket, directory, put } = await makeBoth('etags', { a: 'text', b: 'text', c: 'text', d: 'text', e: 'text' });
  for (const Key of ['a', 'b']) await put(Key, { ChecksumAlgorithm: 'CRC32' });
  await put('c', { ChecksumAlgorithm: 'SHA256' });
  await put('d', { ChecksumAlgorithm: 'CRC32' });
  // Encrypted with a key of somebody's own, without which S3 answers 400.
  await put('e', { SSECustomerAlgorithm: 'AES256', SSECustomerKey: 'k'.repeat(32) });
  const client = own.s3();
  // As S3 has them for objects that are encrypted with a KMS key or were stored in parts.
  client.middlewareStack.add(
    (next, { commandName }) =>
      async (args) => {
        const answer = await next(args);
        const output = answer.output as { Contents?: { ETag: string }[]; ChecksumType?: string };
        for (const object of output.Contents ?? []) object.ETag = '"9bb58f26192e4ba00f01e2e7b136bbd8-2"';
        const { Key } = args.input as { Key: string };
        if (commandName === 'HeadObjectCommand' && Key === 'd') output.ChecksumType = 'COMPOSITE';
        return answer;
      },
    { step: 'initialize' },
  );
  expect(await syncDirectory(client, { directory, bucket })).toMatchObject(counts(3, 2));
});

test('a file larger than 16 MiB goes in parts, and is recognised', async () => {
  const big = Buffer.alloc(16 * 1024 * 1024 + 1, 'paws');
  const { bucket, directory } = await makeBoth('large', { big, small: 's' });
  const target = bucket.replace(own.bucket, 'paws-example');
  const command = `npx tsx ${file} '${directory}' s3://${target} --local --json`;
  const first = await run(command);
  expect(first).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(first.stdout)).toMatchObject({ size: big.length + 1, ...counts(2, 0) });
  const head = await own.s3().send(new HeadObjectCommand({ Bucket: bucket, Key: 'big' }));
  expect(head).toMatchObject({ ContentLength: big.length, ETag: expect.stringMatching(/-\d+"$/) });
  expect(JSON.parse((await run(command)).stdout)).toMatchObject(counts(0, 2));
});

test('--delete asks first, and deletes what has no file, under the prefix only', async () => {
  const { bucket, directory, put, keys } = await makeBoth('delete', { a: 'a', 'b/c': 'c' });
  for (const key of ['site/a', 'site/old', 'site/a//b', 'site/\u0001', 'sitemap', 'other/x']) await put(key);
  const target = `s3://${bucket.replace(own.bucket, 'paws-example')}/site`;
  const command = `npx tsx ${file} '${directory}' ${target} --delete --local --json`;
  const asked = await run(command);
  expect(asked).toMatchObject({ code: 2, stdout: '' });
  expect(asked.stderr).toMatch(/Delete 3 objects of s3:\/\/paws-example-delete that .* lacks: .*site\/old/);
  expect(await keys()).toHaveLength(6);
  const done = await run(`${command} --yes`);
  expect(JSON.parse(done.stdout)).toMatchObject(counts(2, 0, 3));
  expect(await keys()).toEqual(['other/x', 'site/a', 'site/b/c', 'sitemap']);
  // Not asked where there is nothing to delete.
  expect(await run(command)).toMatchObject({ code: 0 });
  // The function deletes nothing by itself.
  await put('site/old');
  const result = await syncDirectory(own.s3(), { directory, bucket, prefix: 'site/' });
  expect(result).toMatchObject(counts(0, 2));
  expect(await keys()).toContain('site/old');
});

test('what fails is told at the end, the rest goes on, and nothing is deleted', async () => {
  const { bucket, directory, put, keys } = await makeBoth('fails', { a: 'a', b: 'b', c: 'c' });
  await put('old');
  const { client } = withFaults(own.s3(), { operation: 'PutObject', after: 1, times: 1, error: 'EntityTooLarge' });
  const options = { directory, bucket, deleteExtra: () => true, concurrency: 1 };
  const result = await syncDirectory(client, options);
  expect(result).toMatchObject({ uploaded: 2, deleted: 0, failed: [{ reason: 'EntityTooLarge' }] });
  expect(await keys()).toHaveLength(3);
  expect(await syncDirectory(client, options)).toMatchObject(counts(1, 2, 1));

  const faults = [{ operation: 's3:PutObject', error: { name: 'EntityTooLarge', message: 'too large' } }];
  const command = `npx tsx ${file} '${directory}' s3://${bucket.replace(own.bucket, 'paws-example')}/x --local`;
  const told = await run(command, { faults });
  expect(told).toMatchObject({ code: 1, stdout: expect.stringMatching(/^failed +x\/., x\/., x\/.$/m) });
  expect(told.stderr).toMatch(/^Error: 3 failed, the first one x\/.: too large\n$/);
  // What would fail for every file ends it at once.
  const denied = withFaults(own.s3(), { operation: 'PutObject', error: 'AccessDenied' });
  await expect(syncDirectory(denied.client, { ...options, prefix: 'y' })).rejects.toThrow('AccessDenied');
  expect(denied.sent.filter((operation) => operation === 'PutObject')).toHaveLength(1);
  await put('z/a', { Body: 'x' });
  const proxy = await startProxy(({ operation }) => (operation === 'HeadObject' ? 403 : null));
  const blind = new S3Client({ ...settingsOf(own), endpoint: proxy.url, forcePathStyle: true });
  // What may not be looked at is sent again.
  expect(await syncDirectory(blind, { directory, bucket, prefix: 'z' })).toMatchObject(counts(3, 0));
});

test('what can not be is refused before anything is sent; an abort is the reason it was given', async () => {
  const { bucket, directory } = await makeBoth('refused', { a: 'a' });
  const { client, sent } = withFaults(own.s3());
  const sync = (place: string, more = {}) => syncDirectory(client, { directory: place, bucket, ...more });
  for (const none of [join(directory, 'nowhere'), '']) await expect(sync(none)).rejects.toThrow(RangeError);
  await expect(sync(join(directory, 'a'))).rejects.toThrow(/can't be read \(ENOTDIR\)/);
  rmSync(join(directory, 'a'));
  await expect(sync(directory, { deleteExtra: () => true })).rejects.toThrow(RangeError);
  expect(sent).toEqual([]);
  writeFileSync(join(directory, 'a'), 'a');
  const stop = new AbortController();
  const faults = withFaults(own.s3(), { operation: 'ListObjectsV2', answered: () => stop.abort(new Error('enough')) });
  const stopped = syncDirectory(faults.client, { directory, bucket, signal: stop.signal });
  await expect(stopped).rejects.toThrow();
  expect(faults.sent).not.toContain('PutObject');
  await expect(sync(directory, { bucket: 'paws-no-such-bucket' })).rejects.toMatchObject({ name: 'NoSuchBucket' });
});

test.skipIf(!versitygw)('another S3 server is synced as well', async () => {
  const server = await startVersitygw();
  onTestFinished(server.stop);
  const { accessKeyId, secretAccessKey, url: endpoint } = server;
  const credentials = { accessKeyId, secretAccessKey };
  const client = new S3Client({ region: 'us-east-1', endpoint, credentials, forcePathStyle: true });
  const { bucket, directory, write, put, keys } = await makeBoth('g', { a: 'a', 'b c/d+e': 'x' }, client);
  await put('old');
  expect(await syncDirectory(client, { directory, bucket })).toMatchObject(counts(2, 0));
  write('a', 'b');
  const deleteExtra = () => true;
  expect(await syncDirectory(client, { directory, bucket, deleteExtra })).toMatchObject(counts(1, 1, 1));
  expect(await keys()).toEqual(['a', 'b c/d+e']);
});
