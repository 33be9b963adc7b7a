import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { addLines, newSums } from '../../recipes/s3/26-helpers/sum-lines.ts';
import { findManifest, sizeFromInventory } from '../../recipes/s3/26-size-from-inventory.ts';
import { settingsOf, testRecipe } from '../harness.ts';
import { keysBeyondXml, oddKeys } from '../odd-keys.ts';
import { type Mishap, startProxy } from '../proxy.ts';

const own = testRecipe(import.meta);
const { bucket, run, file, s3 } = own;
const client = s3();
const schema = 'Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, StorageClass';

const encode = (key: string) => encodeURIComponent(key).replaceAll('%20', '+').replaceAll('%2F', '/');
const lineOf = (...values: (string | number)[]) => `${values.map((value) => `"${value}"`).join(',')}\n`;

/** A line of an inventory of all versions. */
function line(key: string, size: number, { latest = true, marker = false, storageClass = 'STANDARD' } = {}): string {
  return lineOf('source', encode(key), 'v1', `${latest}`, `${marker}`, marker ? '' : size, marker ? '' : storageClass);
}

/** Puts an inventory into the bucket, and gives the key of its manifest. */
async function putInventory(
  prefix: string,
  files: string[],
  { format = 'CSV', fileSchema = schema, damage = (body: Buffer): Buffer => body } = {},
): Promise<string> {
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  const entries = files.map((text, index) => {
    const body = gzipSync(text);
    const MD5checksum = createHash('md5').update(body).digest('hex');
    return { body, key: `${prefix}data/${index}.csv.gz`, size: body.length, MD5checksum };
  });
  for (const { key: Key, body } of entries) {
    await client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: damage(body) }));
  }
  const manifest = {
    sourceBucket: 'source',
    destinationBucket: `arn:aws:s3:::${bucket}`,
    version: '2016-11-30',
    creationTimestamp: '1514944800000',
    fileFormat: format,
    fileSchema,
    files: entries.map(({ body: _, ...entry }) => entry),
  };
  const key = `${prefix}2018-01-03T02-00Z/manifest.json`;
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: JSON.stringify(manifest) }));
  return key;
}

test('versions, markers, classes and prefixes are added up over all files, and people see the largest', async () => {
  const marker = line('logs/2026/c', 0, { latest: false, marker: true });
  const old = line('logs/2025/a', 7, { latest: false, storageClass: 'GLACIER' });
  const key = await putInventory('inventory/source/all/', [
    line('logs/2026/a', 1000) + line('logs/2026/b', 24) + marker,
    old + line('top', 3, { storageClass: 'STANDARD_IA' }),
    '',
  ]);
  for (const name of ['2017-12-31T23-59Z', '2018-01-03T02-00Z.txt', 'hive/dt=2018-01-03-02-00', 'zzz']) {
    await client.send(new PutObjectCommand({ Bucket: bucket, Key: `inventory/source/all/${name}/x`, Body: '{}' }));
  }
  expect(await findManifest(client, { bucket, prefix: 'inventory/source/all' })).toBe(key);
  const shown: unknown[] = [];
  const result = await sizeFromInventory(client, { bucket, key, onProgress: (progress) => shown.push(progress) });
  expect(result).toEqual({
    sourceBucket: 'source',
    createdAt: new Date('2018-01-03T02:00:00Z'),
    current: { objects: 3, size: 1027 },
    noncurrent: { objects: 1, size: 7 },
    deleteMarkers: 1,
    storageClasses: [
      { storageClass: 'STANDARD', objects: 2, size: 1024 },
      { storageClass: 'GLACIER', objects: 1, size: 7 },
      { storageClass: 'STANDARD_IA', objects: 1, size: 3 },
    ],
    prefixes: [
      { prefix: 'logs/', objects: 3, size: 1031 },
      { prefix: '', objects: 1, size: 3 },
    ],
  });
  expect(shown).toHaveLength(3);
  const last = shown.at(-1) as { bytes: number; total: number };
  expect(last.bytes).toBe(last.total);

  const people = await run(`npx tsx ${file} s3://paws-example/inventory/source/all/ --depth 2 --local`);
  expect(people).toMatchObject({ code: 0, stderr: '' });
  expect(people.stdout.replace(/ +/g, ' ').split('\n')).toEqual([
    'what objects size',
    'current objects of source (2018-01-03T02:00:00.000Z) 3 1 KiB',
    'older versions 1 7 B',
    'delete markers 1 0 B',
    'class STANDARD 2 1 KiB',
    'class GLACIER 1 7 B',
    'class STANDARD_IA 1 3 B',
    'prefix logs/2026/ 2 1 KiB',
    'prefix logs/2025/ 1 7 B',
    'prefix (none) 1 3 B',
    '',
  ]);
  const whole = await run(`npx tsx ${file} s3://paws-example/${key} --local --json`);
  expect(JSON.parse(whole.stdout)).toEqual(JSON.parse(JSON.stringify(result)));
});

test('keys of all sorts are grouped by what they are', async () => {
  const keys = [...oddKeys, ...keysBeyondXml];
  const key = await putInventory('odd/', [keys.map((one) => line(`${one}/x`, 1)).join('')]);
  const { prefixes } = await sizeFromInventory(client, { bucket, key });
  const first = keys.map((one) => `${one}/x`.slice(0, `${one}/x`.indexOf('/') + 1));
  expect(prefixes.map(({ prefix }) => prefix).sort()).toEqual([...new Set(first)].sort());
  expect(prefixes.reduce((sum, { objects }) => sum + objects, 0)).toBe(keys.length);
});

test('an inventory of current versions only, and one without classes, are added up as well', async () => {
  const fileSchema = 'Bucket, Key, Size';
  const key = await putInventory('current/', [lineOf('source', 'a/', '') + lineOf('source', 'b', 5)], { fileSchema });
  expect(await sizeFromInventory(client, { bucket, key })).toMatchObject({
    current: { objects: 2, size: 5 },
    noncurrent: { objects: 0, size: 0 },
    storageClasses: [{ storageClass: 'unknown', objects: 2, size: 5 }],
  });
});

test('pieces of any size give the same sums', async () => {
  const text = Buffer.from(oddKeys.map((key, index) => line(key, index)).join('') + line('no end of line', 9).trim());
  const whole = newSums();
  const pieces = async function* (sizes: number[]) {
    let at = 0;
    for (const size of sizes) {
      yield text.subarray(at, at + size);
      at += size;
    }
    yield text.subarray(at);
  };
  await addLines(whole, pieces([]), schema.split(', '), 1);
  expect(whole.current.objects).toBe(oddKeys.length + 1);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 400 })), async (sizes) => {
      const sums = newSums();
      await addLines(sums, pieces(sizes), schema.split(', '), 1);
      expect(sums).toEqual(whole);
    }),
    { numRuns: 100 },
  );
});

test('beyond 10,000 prefixes the others are counted together', async () => {
  const numbered = (from: number, to: number) =>
    Array.from({ length: to - from }, (_, i) => line(`${from + i}/x`, 2)).join('');
  const files = [numbered(0, 9_000), numbered(8_500, 12_000)];
  const key = await putInventory('many/', files);
  const { prefixes, current } = await sizeFromInventory(client, { bucket, key, concurrency: 1 });
  expect(current).toEqual({ objects: 12_500, size: 25_000 });
  expect(prefixes).toHaveLength(10_001);
  expect(prefixes.at(-1)).toEqual({ prefix: '(others)', objects: 2_000, size: 4_000 });
  expect(prefixes[0]).toEqual({ prefix: expect.any(String), objects: 2, size: 4 });
});

test('a prefix that has a name has it in all files, also in one with 10,000 others before it', async () => {
  const many = Array.from({ length: 10_500 }, (_, i) => line(`${i}/x`, 2)).join('');
  const key = await putInventory('named/', [line('first/a', 5), many + line('first/b', 5)]);
  const { prefixes } = await sizeFromInventory(client, { bucket, key, concurrency: 1 });
  expect(prefixes[0]).toEqual({ prefix: 'first/', objects: 2, size: 10 });
  expect(prefixes.at(-1)).toEqual({ prefix: '(others)', objects: 501, size: 1002 });
});

test('what is no inventory in CSV, lacks sizes, or is damaged is an error that says so', async () => {
  const size = (key: string) => sizeFromInventory(client, { bucket, key });
  const good = [line('a', 1)];
  const parquet = await putInventory('parquet/', good, { format: 'Parquet' });
  await expect(size(parquet)).rejects.toThrow('the inventory is in Parquet: set its format to CSV, or use Athena');
  const noSize = await putInventory('no-size/', good, { fileSchema: 'Bucket, Key' });
  await expect(size(noSize)).rejects.toThrow('add the optional field Size');
  const otherSchema = await putInventory('other/', good, { fileSchema: 'Bucket, Size, Key' });
  await expect(size(otherSchema)).rejects.toThrow('a line is not as the manifest says, Bucket, Size, Key: "source"');
  const swapped = await putInventory('swapped/', good, { damage: () => gzipSync(line('b', 2)) });
  await expect(size(swapped)).rejects.toThrow('swapped/data/0.csv.gz is not the file that the manifest names');
  const cut = await putInventory('cut/', good, { damage: (body) => body.subarray(0, -12) });
  await expect(size(cut)).rejects.toMatchObject({ code: 'Z_BUF_ERROR' });
  await expect(size('swapped/data/0.csv.gz')).rejects.toThrow('is no manifest of an inventory');
  await expect(size('nothing')).rejects.toMatchObject({ name: 'NoSuchKey' });
  await expect(sizeFromInventory(client, { bucket, key: 'x', depth: 0.5 })).rejects.toThrow(RangeError);
  await expect(findManifest(client, { bucket, prefix: 'cut/data/' })).rejects.toThrow('has no inventory');
  const none = await run(`npx tsx ${file} inventory/all --local`);
  expect(none).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('is neither s3://BUCKET') });
});

test('a file that breaks off is read again, counted once; one that always does is an error', async () => {
  // Random, so that it does not fit into one piece.
  const keys = Array.from({ length: 20_000 }, (_, i) => createHash('md5').update(`${i}`).digest('hex'));
  const key = await putInventory('broken/', [keys.map((one) => line(one, 1)).join('')]);
  const through = async (mishap: (before: number) => Mishap | null) => {
    const proxy = await startProxy(({ url, operation, before }) =>
      operation === 'GetObject' && url.includes('csv.gz') ? mishap(before) : null,
    );
    const there = new S3Client({ ...settingsOf(own), endpoint: proxy.url, forcePathStyle: true });
    return { proxy, size: sizeFromInventory(there, { bucket, key }) };
  };
  // The first request is for the manifest.
  const twice = await through((before) => (before <= 2 ? 'cut' : null));
  expect((await twice.size).current).toEqual({ objects: 20_000, size: 20_000 });
  expect(twice.proxy.count('GetObject')).toBe(4);
  const always = await through(() => 'cut');
  await expect(always.size).rejects.toThrow(/aborted|premature/i);
  expect(always.proxy.count('GetObject')).toBe(4);
  const aborted = new AbortController();
  const stalled = await startProxy(({ url }) => {
    if (!url.includes('csv.gz')) return null;
    aborted.abort(new Error('enough'));
    return 'stall';
  });
  const there = new S3Client({ ...settingsOf(own), endpoint: stalled.url, forcePathStyle: true });
  await expect(sizeFromInventory(there, { bucket, key, signal: aborted.signal })).rejects.toThrow();
  expect(stalled.count('GetObject')).toBe(2);
});

test('a strange line is not read again, and ends the reading of the other files', async () => {
  const key = await putInventory('strange/', [lineOf('source', 'a', 'v1', 'true', 'false', 'large', ''), line('b', 1)]);
  const ended: unknown[] = [];
  const proxy = await startProxy(({ url }) => (url.includes('1.csv.gz') ? 'stall' : null));
  const there = new S3Client({ ...settingsOf(own), endpoint: proxy.url, forcePathStyle: true });
  there.middlewareStack.add(
    (next) => async (args) => {
      try {
        return await next(args);
      } catch (error) {
        ended.push(error);
        throw error;
      }
    },
    { step: 'initialize' },
  );
  await expect(sizeFromInventory(there, { bucket, key })).rejects.toThrow('a line is not as the manifest says');
  await vi.waitFor(() => expect(ended).toHaveLength(1), 20_000);
  expect(proxy.requests.filter(({ url }) => url.includes('0.csv.gz'))).toHaveLength(1);
});
