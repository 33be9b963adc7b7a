/**
 * 3.26 Find out the size from an inventory
 *
 * ## Problem
 * A bucket has hundreds of millions of objects or more. You want to know what takes the space, by storage class and by
 * prefix, and to list them all (3.5) would take hours.
 *
 * ## Solution
 * Have S3 write an inventory of the bucket each day or week: compressed files with a line for every object. Read its
 * manifest, then the files it names, some at a time, and add up their lines as they come. No file is kept.
 *
 * ## Discussion
 * Set the inventory up once (`aws s3api put-bucket-inventory-configuration`): format CSV, with the optional fields
 * `Size` and `StorageClass`, and `IncludedObjectVersions` `All` if old versions are to be counted. The files go to a
 * bucket in the same region, whose policy lets `s3.amazonaws.com` put them there, on the condition that `aws:SourceArn`
 * is the bucket and `aws:SourceAccount` your account. The first one comes within 48 hours. If they are encrypted with a
 * key of KMS, reading them takes kms:Decrypt.
 *
 * An inventory is not of one moment: S3 takes hours to make it, and what was added or deleted shortly before can be
 * missing or still be there. Unfinished uploads are in none (3.21 lists those).
 *
 * A manifest is written when all of its files are there, and has their MD5 sums, which are compared here. A file that
 * breaks off on its way is read again from its start, three times at most; each is added to the sums only as a whole.
 * Parquet and ORC are for Athena, and refused here.
 *
 * Keys are grouped by what stands before their first slash (`--depth 2`: before the second). A bucket whose keys
 * begin with ids has millions of such prefixes: beyond the first 10,000, all are counted together, as `(others)`.
 *
 * The sums are what is stored, not what is billed: the infrequent access classes and Glacier Instant Retrieval bill
 * each object as 128 KB at least, and the archives 40 KB beside each (3.25). Annotations are in no inventory.
 *
 * @aws npx tsx recipes/s3/26-size-from-inventory.ts s3://paws-example/inventory/my-bucket/all-objects/
 * @permission s3:ListBucket on arn:aws:s3:::BUCKET
 * @permission s3:GetObject on arn:aws:s3:::BUCKET/*
 * @cost a request for each file. S3 bills the inventory, $0.0025 for a million objects listed in us-east-1 (2026), and
 * its files, which pile up until a lifecycle rule (3.17) deletes them
 * @undo nothing
 * @emulator No emulator writes inventories; the tests make some of the documented format.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
 */
import { createHash } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { GetObjectCommand, paginateListObjectsV2, S3Client } from '@aws-sdk/client-s3';
import pMap from 'p-map';
import { type Amount, addLines, addSums, largestFirst, newSums, others, type Sums } from './26-helpers/sum-lines.ts';

export interface InventorySize {
  /** The bucket that the inventory is of. */
  sourceBucket: string;
  /** When S3 began to make the inventory. */
  createdAt: Date;
  current: Amount;
  /** Older versions. Always 0 where the inventory has current versions only. */
  noncurrent: Amount;
  deleteMarkers: number;
  /** Of all versions, the largest first. */
  storageClasses: (Amount & { storageClass: string })[];
  /** Of all versions, the largest first. The last one may be `(others)`. */
  prefixes: (Amount & { prefix: string })[];
}

/** What is read of a manifest. */
interface Manifest {
  sourceBucket: string;
  /** Milliseconds since 1970. */
  creationTimestamp: string;
  fileFormat: string;
  /** The columns: `Bucket, Key, Size, StorageClass` */
  fileSchema: string;
  files: { key: string; size: number; MD5checksum: string }[];
}

/**
 * Adds up an inventory that S3 has written.
 *
 * @param s3 - Of the region of the bucket that the inventory is in.
 * @param options.bucket - Where the inventory is: not the bucket that it is of.
 * @param options.key - Of its `manifest.json`.
 * @param options.depth - How many parts of the keys, between slashes, are counted apart. 1 by default.
 * @param options.concurrency - How many files are read at once. 4 by default.
 * @param options.signal - Aborts the work.
 * @param options.onProgress - Called with the bytes of the files, compressed, after each.
 * @throws Error when it is no inventory in CSV, lacks the sizes, or a file of it is damaged; NoSuchKey.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
 *
 * @example
 * const inventory = { bucket: 'my-inventories', key: 'my-bucket/all/2026-11-22T01-00Z/manifest.json' };
 * const { current } = await sizeFromInventory(new S3Client({}), inventory);
 * console.log(`${current.objects} objects, ${current.size} bytes`);
 */
export async function sizeFromInventory(
  s3: S3Client,
  {
    bucket,
    key,
    depth = 1,
    concurrency = 4,
    signal,
    onProgress,
  }: {
    bucket: string;
    key: string;
    depth?: number;
    concurrency?: number;
    signal?: AbortSignal;
    onProgress?: (progress: { bytes: number; total: number }) => void;
  },
): Promise<InventorySize> {
  if (!(Number.isInteger(depth) && depth >= 0)) throw new RangeError(`depth is a whole number, not ${depth}`);
  const failed = new AbortController();
  const stop = AbortSignal.any([failed.signal, ...(signal ? [signal] : [])]);
  setMaxListeners(0, stop);
  const { Body } = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: key }), { abortSignal: signal });
  const manifest = readManifest((await Body?.transformToString()) ?? '', key);
  const columns = manifest.fileSchema.split(',').map((name) => name.trim());
  if (!columns.includes('Size')) throw new Error(`the inventory has no sizes: add the optional field Size to it`);

  const total = manifest.files.reduce((sum, { size }) => sum + size, 0);
  const sums = newSums();
  let bytes = 0;
  await pMap(
    manifest.files,
    async (file) => {
      const own = await readFile(s3, { bucket, file, columns, depth, named: sums.named, signal: stop });
      addSums(sums, own);
      bytes += file.size;
      onProgress?.({ bytes, total });
    },
    { concurrency, signal },
  ).catch((error) => {
    // The others would be read to their ends for nothing.
    failed.abort(error);
    throw error;
  });
  const { current, noncurrent, deleteMarkers, classes, prefixes } = sums;
  const rest = prefixes.get(others);
  prefixes.delete(others);
  return {
    sourceBucket: manifest.sourceBucket,
    createdAt: new Date(Number(manifest.creationTimestamp)),
    current,
    noncurrent,
    deleteMarkers,
    storageClasses: largestFirst(classes).map(([storageClass, amount]) => ({ storageClass, ...amount })),
    prefixes: [...largestFirst(prefixes), ...(rest ? [[others, rest] as const] : [])].map(([prefix, amount]) => ({
      prefix: decode(prefix),
      ...amount,
    })),
  };
}

/**
 * Finds the newest manifest of an inventory.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - Where the inventories are.
 * @param options.prefix - What their keys begin with, up to the inventory's name: `inventory/my-bucket/all-objects/`.
 * @param options.signal - Aborts the search.
 * @returns The key of the newest `manifest.json`.
 * @throws Error when there is none.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
 *
 * @example
 * const s3 = new S3Client({});
 * const key = await findManifest(s3, { bucket: 'my-inventories', prefix: 'my-bucket/all-objects/' });
 * console.log(key);
 */
export async function findManifest(
  s3: S3Client,
  { bucket, prefix, signal }: { bucket: string; prefix: string; signal?: AbortSignal },
): Promise<string> {
  const folder = prefix === '' || prefix.endsWith('/') ? prefix : `${prefix}/`;
  let newest = '';
  // Each inventory has a folder named by its time, so the last by name is the newest.
  const input = { Bucket: bucket, Prefix: folder, Delimiter: '/' };
  for await (const { CommonPrefixes = [] } of paginateListObjectsV2({ client: s3 }, input, { abortSignal: signal })) {
    for (const { Prefix = '' } of CommonPrefixes) {
      if (/^\d{4}-\d\d-\d\dT\d\d-\d\dZ\/$/.test(Prefix.slice(folder.length)) && Prefix > newest) newest = Prefix;
    }
  }
  if (!newest) throw new Error(`s3://${bucket}/${folder} has no inventory: it ends in BUCKET/NAME-OF-THE-INVENTORY/`);
  return `${newest}manifest.json`;
}

/** A prefix as it is. In the files, keys are URL-encoded. */
function decode(prefix: string): string {
  return decodeURIComponent(prefix.replaceAll('+', ' '));
}

function readManifest(text: string, key: string): Manifest {
  let manifest: Partial<Manifest> = {};
  try {
    manifest = Object(JSON.parse(text));
  } catch {}
  const { fileFormat, fileSchema, files } = manifest;
  if (!fileFormat || !fileSchema || !Array.isArray(files)) throw new Error(`${key} is no manifest of an inventory`);
  if (fileFormat !== 'CSV') throw new Error(`the inventory is in ${fileFormat}: set its format to CSV, or use Athena`);
  return manifest as Manifest;
}

/** Reads one file of the inventory, which can be gigabytes when unpacked, and adds up its lines. */
async function readFile(
  s3: S3Client,
  {
    bucket,
    file,
    columns,
    depth,
    named,
    signal,
  }: {
    bucket: string;
    file: Manifest['files'][number];
    columns: string[];
    depth: number;
    named: Sums['named'];
    signal: AbortSignal;
  },
): Promise<Sums> {
  for (let attempt = 1; ; attempt++) {
    const { Body } = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: file.key }), { abortSignal: signal });
    const sums = newSums(named);
    const md5 = createHash('md5');
    try {
      await pipeline(
        Body as Readable,
        async function* (chunks: AsyncIterable<Buffer>) {
          for await (const chunk of chunks) {
            md5.update(chunk);
            yield chunk;
          }
        },
        createGunzip(),
        (unpacked: AsyncIterable<Buffer>) => addLines(sums, unpacked, columns, depth),
        { signal },
      );
      if (md5.digest('hex') === file.MD5checksum) return sums;
      throw new Error(`${file.key} is not the file that the manifest names: its MD5 sum is another`);
    } catch (error) {
      // The SDK tries again what fails before the body. One that breaks off is ours; a strange line stays strange.
      if (signal.aborted || attempt === 3 || error instanceof SyntaxError) throw error;
    }
  }
}

// ---- command line: leave out when copying ----
import { bytes, connect, interrupted, json, print, recipe, s3Prefix, transferred } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument(
      '<inventory>',
      "s3://BUCKET/… up to the inventory's name, for the newest; or up to a manifest.json",
      s3Prefix,
    )
    .option('--depth <number>', 'how many parts of the keys, between slashes, are counted apart', Number, 1)
    .option('--concurrency <number>', 'how many files to read at once', Number, 4)
    .action(async ({ bucket, prefix }, options) => {
      const s3 = connect(S3Client);
      const more = { ...options, signal: interrupted() };
      const key = /(^|\/)manifest\.json$/.test(prefix) ? prefix : await findManifest(s3, { bucket, prefix, ...more });
      const result = await sizeFromInventory(s3, { bucket, key, ...more, onProgress: transferred });
      const { current, noncurrent, deleteMarkers, storageClasses, prefixes, sourceBucket, createdAt } = result;
      const rows = [
        { what: `current objects of ${sourceBucket} (${createdAt.toISOString()})`, ...current },
        { what: 'older versions', ...noncurrent },
        { what: 'delete markers', objects: deleteMarkers, size: 0 },
        ...storageClasses.map(({ storageClass, ...amount }) => ({ what: `class ${storageClass}`, ...amount })),
        ...prefixes.slice(0, 20).map(({ prefix, ...amount }) => ({ what: `prefix ${prefix || '(none)'}`, ...amount })),
      ];
      print(json() ? result : rows, { size: bytes });
    }),
);
