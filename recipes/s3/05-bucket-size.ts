/**
 * 3.5 Find how large a bucket is
 *
 * ## Problem
 * You want to know how much is in a bucket, or under a prefix, and what it is: which storage classes, which folders,
 * and how much of it is old versions and parts of unfinished uploads, which cost as well and show in no list of objects.
 *
 * ## Solution
 * List the unfinished uploads, those under way too, and the parts of each; then list all versions and add up their sizes.
 * S3 gives 1,000 entries a call, and where the next begin. So that a large bucket doesn't take one call after the other,
 * the keys are split while they are discovered (05-helpers/split-list.ts), and up to 16 stretches are listed at once.
 *
 * ## Discussion
 * `--current` counts only what is current, for which `s3:ListBucket` is enough. Without that right a list is 403
 * `AccessDenied`, and so is any object that isn't there: only who may list gets to know by a 404 that it isn't. The parts
 * of an upload encrypted with a KMS key need `kms:Decrypt` on it.
 *
 * Sizes are those of the data, without annotations; 3.25 tells what is billed. The infrequent access classes and Glacier
 * Instant Retrieval bill an object as 128 KB at least, so the smaller ones are counted apart in each class. GLACIER and
 * DEEP_ARCHIVE add 40 KB to each object, and bill parts as STANDARD.
 *
 * A million versions are 1,000 calls: $0.005 in us-east-1, and where a call takes 100 ms, 100 s one after the other.
 * Splitting costs calls, too, up to half as many again in most buckets, and never more than as many again and 256. It
 * is done only while this process has nothing to do but wait. Memory doesn't grow with the bucket: only the first 1,000
 * prefixes that are met, which need not be the largest, have rows of their own; the others share one.
 *
 * A list is no snapshot: what is written meanwhile may be in it or not, and an object that is overwritten is counted
 * once or twice. Directory buckets don't sort their keys, and are refused.
 *
 * For buckets of billions, let S3 count: 3.24 reads yesterday's size from CloudWatch at once, for the whole bucket;
 * 3.26 adds up an inventory. 3.21 aborts unfinished uploads, 3.17 expires old versions by rule.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @run npx tsx recipes/s3/05-bucket-size.ts s3://paws-example --local
 * @output
 *   bucket           paws-example
 *   prefix
 *   objects          0
 *   size             0 B
 *   old versions     0
 *   old size         0 B
 *   parts            0
 *   parts size       0 B
 *   delete markers   0
 *   uploads          0
 *   storage classes  -
 *   prefixes         -
 * @run npx tsx recipes/s3/05-bucket-size.ts s3://paws-example/logs/ --current --local
 * @permission s3:ListBucket on arn:aws:s3:::BUCKET
 * @permission s3:ListBucketVersions on arn:aws:s3:::BUCKET
 * @permission s3:ListBucketMultipartUploads on arn:aws:s3:::BUCKET
 * @permission s3:ListMultipartUploadParts on arn:aws:s3:::BUCKET/*
 * @cost nothing that lasts: $0.005 to $0.01 for listing a million versions, and $0.005 for 1,000 unfinished uploads
 * @undo nothing
 * @emulator LocalStack has STANDARD for every version's class, and lists all versions of a bucket without versioning in
 *   one page. It mixes encoded and plain keys in lists: uploads to keys with + or % are not found there, nor the next page
 *   after a key that needs encoding.
 * @book bucket.list → ListObjectsV2Command
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/ListingKeysUsingAPIs.html
 */
import { setMaxListeners } from 'node:events';
import { isDeepStrictEqual } from 'node:util';
import {
  ListMultipartUploadsCommand,
  type ListMultipartUploadsCommandInput,
  type ListMultipartUploadsOutput,
  ListObjectsV2Command,
  type ListObjectsV2CommandInput,
  type ListObjectsV2Output,
  ListObjectVersionsCommand,
  type ListObjectVersionsCommandInput,
  type ListObjectVersionsOutput,
  ListPartsCommand,
  type ListPartsOutput,
  type MultipartUpload,
  S3Client,
} from '@aws-sdk/client-s3';
import pMap from 'p-map';
import { decodeKey, type Entry, sendList } from './05-helpers/read-entries.ts';
import { idleClock, splitList } from './05-helpers/split-list.ts';

/** Numbers of things, and their sizes in bytes. */
export interface Amounts {
  /** Current objects, as a list of the bucket shows them. */
  objects: number;
  size: number;
  /** Versions that were overwritten or deleted. */
  oldVersions: number;
  oldSize: number;
  /** Parts of unfinished uploads. */
  parts: number;
  partsSize: number;
}

/** What there is in one storage class. */
export interface ClassAmounts extends Amounts {
  /** `STANDARD`, `GLACIER`. */
  storageClass: string;
  /** How many of the objects and old versions are smaller than 128 KiB, which some classes bill as if they were not. */
  small: number;
  smallSize: number;
}

/** What there is under one prefix. */
export interface PrefixAmounts extends Amounts {
  /** Up to the first "/" after the prefix asked for; that alone for keys without one; null for all beyond 1,000. */
  prefix: string | null;
}

export interface BucketSize extends Amounts {
  bucket: string;
  prefix: string;
  deleteMarkers: number;
  /** Unfinished uploads. */
  uploads: number;
  /** The largest first. */
  storageClasses: ClassAmounts[];
  /** The largest first. */
  prefixes: PrefixAmounts[];
}

/**
 * Adds up what is stored in a bucket, or under a prefix.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - Name of the bucket.
 * @param options.prefix - Only keys that begin so; `log` takes `logs/` too. All by default.
 * @param options.current - Counts current objects only; old versions, markers and uploads are 0. False by default.
 * @param options.concurrency - How many calls are under way at once, at most. 16 by default.
 * @param options.signal - Stops it.
 * @param options.onProgress - Called with a text for people after each page.
 * @throws RangeError for a directory bucket or a concurrency below 1; NoSuchBucket; AccessDenied.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
 *
 * @example
 * const s3 = new S3Client({});
 * const { objects, size, oldSize } = await bucketSize(s3, { bucket: 'my-company-reports' });
 * console.log(`${objects} objects of ${size} bytes, and ${oldSize} bytes of old versions`);
 */
export async function bucketSize(
  s3: S3Client,
  options: {
    bucket: string;
    prefix?: string;
    current?: boolean;
    concurrency?: number;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<BucketSize> {
  const { bucket, prefix = '', current = false, concurrency = 16, signal, onProgress } = options;
  if (/--xa?-s3$/.test(bucket)) throw new RangeError(`${bucket} is a directory bucket, whose keys are not sorted`);
  if (!(Number.isInteger(concurrency) && concurrency > 0))
    throw new RangeError(`concurrency is a number from 1, not ${concurrency}`);
  // Each call listens to the signal, and Node warns of more than ten.
  if (signal) setMaxListeners(0, signal);
  const stoppable = { abortSignal: signal };
  // Not every character fits into XML, so S3 is asked to encode keys.
  const within = { Bucket: bucket, Prefix: prefix, EncodingType: 'url' } as const;

  const total = { ...nothing, deleteMarkers: 0, uploads: 0 };
  const classes = new Map<string, ClassAmounts>();
  const prefixes = new Map<string | null, PrefixAmounts>();
  const rowsOf = (key: string, storageClass: string): [ClassAmounts, PrefixAmounts] => {
    const slash = key.indexOf('/', prefix.length);
    const name = slash < 0 ? prefix : key.slice(0, slash + 1);
    let byClass = classes.get(storageClass);
    if (!byClass) {
      byClass = { storageClass, ...nothing, small: 0, smallSize: 0 };
      classes.set(storageClass, byClass);
    }
    let byPrefix = prefixes.get(name);
    if (!byPrefix) {
      // A copy: what is cut out of a long text keeps all of that text in memory.
      const named = prefixes.size < mostPrefixes ? Buffer.from(name).toString() : null;
      byPrefix = prefixes.get(named) ?? { prefix: named, ...nothing };
      prefixes.set(named, byPrefix);
    }
    return [byClass, byPrefix];
  };
  const add = (entries: Entry[]) => {
    for (const { key, size, storageClass, isLatest, isMarker } of entries) {
      if (isMarker) {
        total.deleteMarkers++;
        continue;
      }
      const [byClass, byPrefix] = rowsOf(key, storageClass);
      for (const row of [total, byClass, byPrefix]) {
        if (isLatest) row.objects++;
        else row.oldVersions++;
        if (isLatest) row.size += size;
        else row.oldSize += size;
      }
      if (size >= 128 * 1024) continue;
      byClass.small++;
      byClass.smallSize += size;
    }
    onProgress?.(`${(total.objects + total.oldVersions).toLocaleString('en-US')} listed`);
  };

  // First: a permission that is missing should show before a long list. Few as a rule: one page after the other does.
  for (let next: Next | null = {}; next && !current; ) {
    const page: ListOutput = await s3.send(new ListMultipartUploadsCommand({ ...within, ...next }), stoppable);
    const addParts = async ({ Key = '', UploadId, StorageClass = 'STANDARD' }: MultipartUpload) => {
      const upload = { Bucket: bucket, Key: decodeKey(page, Key), UploadId };
      // Not with paginateListParts: it goes by the marker, which is there on the last page too, and never ends.
      for (let PartNumberMarker: string | undefined = '0'; PartNumberMarker; ) {
        const parts: ListPartsOutput = await s3.send(new ListPartsCommand({ ...upload, PartNumberMarker }), stoppable);
        // Not before the answer: an upload that is gone gets no rows.
        for (const row of [total, ...rowsOf(upload.Key, StorageClass)]) {
          for (const { Size = 0 } of parts.Parts ?? []) row.partsSize += Size;
          row.parts += parts.Parts?.length ?? 0;
        }
        PartNumberMarker = parts.IsTruncated ? parts.NextPartNumberMarker : undefined;
      }
      total.uploads++;
      onProgress?.(`${total.uploads.toLocaleString('en-US')} unfinished uploads`);
    };
    const addIfThere = (upload: MultipartUpload) =>
      addParts(upload).catch((error) => {
        // It was completed or aborted meanwhile.
        if (error.name !== 'NoSuchUpload') throw error;
      });
    await pMap(page.Uploads ?? [], addIfThere, { concurrency, signal });
    next = nextOf(page, next);
  }

  // The list of versions says which of them are current, so one list does for both.
  const list = async (after: string | null, next: Next | null) => {
    const start = next ?? (current ? { StartAfter: after ?? undefined } : { KeyMarker: after ?? undefined });
    const command = current
      ? new ListObjectsV2Command({ ...within, ...start })
      : new ListObjectVersionsCommand({ ...within, ...start });
    const { entries, page } = await sendList(s3, command, stoppable);
    return { entries, next: nextOf(page, next) };
  };
  await splitList(list, add, { concurrency, hasTime: idleClock() });

  const largestFirst = (a: Amounts, b: Amounts) => stored(b) - stored(a);
  const storageClasses = [...classes.values()].sort(largestFirst);
  return { bucket, prefix, ...total, storageClasses, prefixes: [...prefixes.values()].sort(largestFirst) };
}

const nothing: Amounts = { objects: 0, size: 0, oldVersions: 0, oldSize: 0, parts: 0, partsSize: 0 };
/** How many prefixes are told apart, so that memory stays the same however many there are. */
const mostPrefixes = 1000;

/** All that is stored, in bytes. */
const stored = ({ size, oldSize, partsSize }: Amounts) => size + oldSize + partsSize;

/** Of the three lists, what is read here. */
type ListOutput = Partial<ListObjectsV2Output & ListObjectVersionsOutput & ListMultipartUploadsOutput>;

/** What a list needs to go on after a page. */
type Next = Pick<ListObjectsV2CommandInput, 'ContinuationToken'> &
  Pick<ListObjectVersionsCommandInput, 'KeyMarker' | 'VersionIdMarker'> &
  Pick<ListMultipartUploadsCommandInput, 'UploadIdMarker'>;

function nextOf(page: ListOutput, before: Next | null): Next | null {
  if (!page.IsTruncated) return null;
  const { NextContinuationToken, NextKeyMarker, NextVersionIdMarker, NextUploadIdMarker } = page;
  const next: Next = NextContinuationToken
    ? { ContinuationToken: NextContinuationToken }
    : { KeyMarker: decodeKey(page, NextKeyMarker ?? '') };
  if (NextVersionIdMarker) next.VersionIdMarker = NextVersionIdMarker;
  if (NextUploadIdMarker) next.UploadIdMarker = NextUploadIdMarker;
  // Better no answer than one that never comes, or comes too early.
  if (next.KeyMarker === '' || isDeepStrictEqual(next, before))
    throw new Error('S3 does not say where the list goes on.');
  return next;
}

// ---- command line: leave out when copying ----
import { bytes, connect, interrupted, print, progress, recipe, s3Prefix } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument(
      '<target>',
      's3://BUCKET, or s3://BUCKET/PREFIX for all keys that begin so: log takes logs/ too',
      s3Prefix,
    )
    .option('--current', 'count current objects only, for which s3:ListBucket is enough')
    .option('--concurrency <number>', 'how many calls to have under way, at most', Number)
    .action(async (target, options) => {
      const stoppable = { signal: interrupted(), onProgress: progress };
      const result = await bucketSize(connect(S3Client), { ...target, ...options, ...stoppable });
      const nameOf = (name: string | null) => (name === null ? '(others)' : name || '(none)');
      const largest = (rows: Amounts[], name: string) => {
        const named = rows.slice(0, 10).map((row) => `${nameOf(Reflect.get(row, name))} ${bytes(stored(row))}`);
        return [...named, ...(rows.length > 10 ? [`${rows.length - 10} more`] : [])].join(', ') || '-';
      };
      print(result, {
        ...{ size: bytes, oldSize: bytes, partsSize: bytes },
        storageClasses: (rows: ClassAmounts[]) => largest(rows, 'storageClass'),
        prefixes: (rows: PrefixAmounts[]) => largest(rows, 'prefix'),
      });
    }),
);
