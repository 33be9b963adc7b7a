/**
 * 3.9 Cut storage cost
 *
 * ## Problem
 * You keep data that is seldom read, and pay for it as if it were read every day.
 *
 * ## Solution
 * Put it into a cheaper storage class: when it is uploaded, or later by a copy of the object onto itself that keeps all
 * else but its access control list (3.6). First work out what that costs, once and each month, for cheap classes have
 * minimum sizes and times.
 *
 * ## Discussion
 * Prices are for a GB and month and for a thousand uploads or copies into the class (us-east-1, 2026):
 *
 * | class | GB | in | smallest | days | reading |
 * |---|---|---|---|---|---|
 * | STANDARD | $0.023 | $0.005 | - | - | at once |
 * | INTELLIGENT_TIERING | $0.023 and less | $0.005 | - | - | at once |
 * | STANDARD_IA | $0.0125 | $0.01 | 128 KB | 30 | at once, $0.01 a GB |
 * | ONEZONE_IA | $0.01 | $0.01 | 128 KB | 30 | the same, but lost with its one zone |
 * | GLACIER_IR | $0.004 | $0.02 | 128 KB | 90 | at once, $0.03 a GB |
 * | GLACIER | $0.0036 | $0.03 | + 40 KB | 90 | restored first, 3 to 5 hours, $0.01 a GB |
 * | DEEP_ARCHIVE | $0.00099 | $0.05 | + 40 KB | 180 | restored first, 12 hours, $0.02 a GB |
 *
 * Smaller objects are billed as the smallest size, and what leaves a class earlier, even for another class, as the
 * whole time. So small objects can cost more than before. When nobody knows what will be read, INTELLIGENT_TIERING
 * moves objects of 128 KB and more to cheaper tiers by itself, for $0.0025 a month for a thousand of them. What such an
 * object costs is told here as if it had not been moved: S3 doesn't say.
 *
 * REDUCED_REDUNDANCY was the way in 2011. Today it costs more than STANDARD ($0.024) and loses one object in ten
 * thousand a year, so it is refused here. Other classes, such as EXPRESS_ONEZONE, belong to other kinds of buckets.
 *
 * In a bucket that keeps versions the copy is a new version, and the old one goes on costing, also one written before
 * versions were turned on. The copy is as new: rules that go by age count from today, and events and replication
 * see a new object. So for such buckets, and for more than a few objects, let a lifecycle rule do it (3.17): it moves
 * objects, and old versions, without a copy. What a rule has moved may owe more of its class's days than is said here,
 * where they are counted from the last write.
 *
 * An archived object must be restored before it can be read or copied: RestoreObject makes a copy for some days, billed
 * as STANDARD beside the archive. In INTELLIGENT_TIERING it moves the object itself back.
 *
 * `--file` replaces an object that is there, its tags and metadata, too. It takes up to 2 GiB: upload larger files by
 * 3.13, then change the class.
 *
 * Without `s3:ListBucket` a missing object is the error 403, for `--file` too. Tags need `s3:PutObjectTagging`, and for
 * a copy over 5 GiB that fails `s3:AbortMultipartUpload` removes its parts. A lock is kept only by somebody who may see
 * it; for that, annotations, KMS keys and objects over 5 GiB see 3.6.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @before npx tsx recipes/s3/03-store-private-data.ts s3://paws-example/old.log "Nobody reads this" --local
 * @run npx tsx recipes/s3/09-cut-storage-cost.ts s3://paws-example/old.log INTELLIGENT_TIERING --local --yes
 * @output
 *   bucket             paws-example
 *   key                old.log
 *   size               17 B
 *   from               STANDARD
 *   to                 INTELLIGENT_TIERING
 *   month before       $0.00000000036
 *   month after        $0.00000000036
 *   once               $0.000005
 *   min days           0
 *   old etag           "cf7cf7f0c9d7a7109837b7f2e9cad155"
 *   old version stays  no
 * @permission s3:GetObject on arn:aws:s3:::BUCKET/*
 * @permission s3:GetObjectTagging on arn:aws:s3:::BUCKET/*
 * @permission s3:GetObjectRetention on arn:aws:s3:::BUCKET/*
 * @permission s3:GetObjectLegalHold on arn:aws:s3:::BUCKET/*
 * @permission s3:PutObject on arn:aws:s3:::BUCKET/*
 * @permission s3:PutObjectRetention on arn:aws:s3:::BUCKET/*
 * @permission s3:PutObjectLegalHold on arn:aws:s3:::BUCKET/*
 * @permission s3:GetBucketVersioning on arn:aws:s3:::BUCKET
 * @cost what it says before it asks: a request, reading, the rest of the old class's minimum time, and then the storage
 * @undo nothing
 * @emulator LocalStack keeps the class and refuses archived objects until they are restored; it bills nothing.
 * @book key.change_storage_class → CopyObjectCommand
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-class-intro.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects.html
 * @see https://aws.amazon.com/s3/pricing/
 */
import { GetBucketVersioningCommand, HeadObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import mime from 'mime';
import { copyObject } from './06-copy-object.ts';

/** Classes that S3 takes, with prices in dollars (us-east-1, 2026), and what is billed at least. */
const classes = {
  STANDARD: { gbMonth: 0.023, put: 0.005, read: 0, minBytes: 0, extraBytes: 0, minDays: 0 },
  INTELLIGENT_TIERING: { gbMonth: 0.023, put: 0.005, read: 0, minBytes: 0, extraBytes: 0, minDays: 0 },
  STANDARD_IA: { gbMonth: 0.0125, put: 0.01, read: 0.01, minBytes: 128 * 1024, extraBytes: 0, minDays: 30 },
  ONEZONE_IA: { gbMonth: 0.01, put: 0.01, read: 0.01, minBytes: 128 * 1024, extraBytes: 0, minDays: 30 },
  GLACIER_IR: { gbMonth: 0.004, put: 0.02, read: 0.03, minBytes: 128 * 1024, extraBytes: 0, minDays: 90 },
  // 32 KB at its own price for S3's record, and 8 KB at that of STANDARD for the name.
  GLACIER: { gbMonth: 0.0036, put: 0.03, read: 0, minBytes: 0, extraBytes: 32 * 1024, minDays: 90 },
  DEEP_ARCHIVE: { gbMonth: 0.00099, put: 0.05, read: 0, minBytes: 0, extraBytes: 32 * 1024, minDays: 180 },
} as const;

/** A class that this recipe knows. */
export type CheapClass = keyof typeof classes;

/** What a change of class would mean. Dollars are those of us-east-1 in 2026. */
export interface ClassChange {
  bucket: string;
  key: string;
  /** Bytes of the object as it will be. */
  size: number;
  /** Class of the object that is there; null when none is, which is an upload. */
  from: string | null;
  to: CheapClass;
  /** Dollars a month that it costs now; null when none is there, or its class's price is not known here. */
  monthBefore: number | null;
  /** Dollars a month afterwards. */
  monthAfter: number;
  /**
   * Dollars for the change: one request (not the one for each 256 MiB over 5 GiB, or for each annotation), reading, and
   * the rest of the time that the old class bills at least.
   */
  once: number;
  /** Days that the new class bills at least. */
  minDays: number;
  /** ETag of the object that is there; null when none is. */
  oldEtag: string | null;
  /** Whether what is there stays, as an older version that costs as before. */
  oldVersionStays: boolean;
}

/** One object, and the class that it is to have. */
export interface ClassOptions {
  bucket: string;
  key: string;
  /** `STANDARD_IA`, `GLACIER_IR` … */
  storageClass: string;
  /** What to upload, replacing what is there. The object as it is by default. */
  body?: string | Uint8Array;
  /** What the estimate found there: an upload replaces nothing else. What it finds itself by default. */
  oldEtag?: string | null;
  /** Stops it. */
  signal?: AbortSignal;
}

/**
 * Brings one object to another storage class, with all else but its access control list as it was, or uploads it in
 * that class.
 *
 * @param s3 - Of the bucket's region.
 * @param options - The object, its class, and what to upload, if anything.
 * @returns What was changed; without a `body` nothing is when `from` and `to` are the same.
 * @throws RangeError for a class that S3 does not take or that never saves anything; InvalidObjectState when the object
 *   is archived; PreconditionFailed or ConditionalRequestConflict when somebody writes it meanwhile, or when the answer
 *   to an upload of yours was lost; NotFound.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/sc-howtoset.html
 *
 * @example
 * const object = { bucket: 'my-company-logs', key: '2024.gz', storageClass: 'GLACIER_IR' };
 * const { monthBefore, monthAfter } = await cutStorageCost(new S3Client({}), object);
 * console.log(`$${monthBefore} a month are $${monthAfter} now`);
 */
export async function cutStorageCost(s3: S3Client, options: ClassOptions): Promise<ClassChange> {
  const { bucket, key, body, signal } = options;
  const change = await estimateChange(s3, options);
  const { oldEtag = change.oldEtag } = options;
  if (body !== undefined) {
    const ContentType = mime.getType(`/${key}`) ?? 'application/octet-stream';
    const unchanged = oldEtag === null ? { IfNoneMatch: '*' } : { IfMatch: oldEtag };
    const upload = { Bucket: bucket, Key: key, Body: body, ContentType, StorageClass: change.to, ...unchanged };
    await s3.send(new PutObjectCommand(upload), { abortSignal: signal });
  } else if (change.from !== change.to) {
    const object = { bucket, key };
    await copyObject(s3, { from: object, to: object, storageClass: change.to, signal });
  }
  return change;
}

/**
 * Works out what a change of class costs and saves, and changes nothing.
 *
 * @param s3 - Of the bucket's region.
 * @param options - As for `cutStorageCost`.
 * @throws As `cutStorageCost`.
 * @see https://aws.amazon.com/s3/pricing/
 *
 * @example
 * const object = { bucket: 'my-company-logs', key: '2024.gz', storageClass: 'DEEP_ARCHIVE' };
 * const { once, minDays } = await estimateChange(new S3Client({}), object);
 * console.log(`$${once} now, and it is billed for ${minDays} days at least`);
 */
export async function estimateChange(s3: S3Client, options: ClassOptions): Promise<ClassChange> {
  const { bucket, key, storageClass, body, signal } = options;
  if (!isCheap(storageClass)) {
    const why = storageClass === 'REDUCED_REDUNDANCY' ? 'costs more than STANDARD and loses data' : 'is not for here';
    throw new RangeError(`${storageClass} ${why}: take one of ${Object.keys(classes).join(', ')}`);
  }
  const to = storageClass;
  const { put, minDays } = classes[to];
  const looked = s3.send(new HeadObjectCommand({ Bucket: bucket, Key: key }), { abortSignal: signal });
  const head = await looked.catch((error) => {
    // An upload may be the first one.
    if (body === undefined || error.name !== 'NotFound') throw error;
  });
  const size = body === undefined ? (head?.ContentLength ?? 0) : Buffer.byteLength(body);
  const object = { bucket, key, size };
  const monthAfter = monthly(size, to);
  if (!head) {
    const once = put / 1000;
    const none = { from: null, to, monthBefore: null, oldEtag: null, oldVersionStays: false };
    return { ...object, ...none, monthAfter, once, minDays };
  }

  const { ContentLength: oldSize = 0, StorageClass: from = 'STANDARD', LastModified, VersionId, Restore } = head;
  const oldEtag = head.ETag as string;
  const monthBefore = isCheap(from) ? monthly(oldSize, from) : null;
  if (body === undefined && from === to) {
    return { ...object, from, to, monthBefore, monthAfter, once: 0, minDays, oldEtag, oldVersionStays: false };
  }
  // A copy reads the object, and what is archived can't be read until it is restored.
  const archived = from === 'GLACIER' || from === 'DEEP_ARCHIVE' || head.ArchiveStatus !== undefined;
  if (body === undefined && archived && !Restore?.includes('ongoing-request="false"')) {
    const next = Restore ? 'it is being restored: wait' : 'restore it first, with RestoreObject';
    const message = `s3://${bucket}/${key} is archived (${from}): ${next}`;
    throw Object.assign(new Error(message), { name: 'InvalidObjectState' });
  }

  // The version `null`, from before versions were turned on or while they are off, stays only while they are on.
  let oldVersionStays = VersionId !== undefined;
  if (VersionId === 'null') {
    const versioning = new GetBucketVersioningCommand({ Bucket: bucket });
    oldVersionStays = (await s3.send(versioning, { abortSignal: signal })).Status === 'Enabled';
  }
  const age = LastModified ? (Date.now() - LastModified.getTime()) / 86_400_000 : 0;
  const daysLeft = isCheap(from) && !oldVersionStays ? Math.max(0, classes[from].minDays - age) : 0;
  // The copy reads the object, which some classes bill; what is archived was paid for when it was restored.
  const reading = body === undefined && isCheap(from) ? (size / 2 ** 30) * classes[from].read : 0;
  const once = put / 1000 + reading + ((monthBefore ?? 0) * daysLeft) / 30;
  return { ...object, from, to, monthBefore, monthAfter, once, minDays, oldEtag, oldVersionStays };
}

function isCheap(name: string): name is CheapClass {
  return Object.hasOwn(classes, name);
}

/** Dollars a month for an object of so many bytes. */
function monthly(size: number, name: CheapClass): number {
  const { gbMonth, minBytes, extraBytes } = classes[name];
  const bytes = Math.max(size, minBytes) * gbMonth + extraBytes * gbMonth;
  const nameBytes = extraBytes > 0 ? 8 * 1024 * classes.STANDARD.gbMonth : 0;
  // Smaller objects are not watched, and stay at the price of STANDARD.
  const watching = name === 'INTELLIGENT_TIERING' && size >= 128 * 1024 ? 0.0025 / 1000 : 0;
  return (bytes + nameBytes) / 2 ** 30 + watching;
}

// ---- command line: leave out when copying ----
import { readFileSync } from 'node:fs';
import { bytes, confirm, connect, interrupted, print, recipe, s3Object, yes } from '../../shared/cli.ts';
import { patient } from './06-helpers/patient.ts';

const dollars = (amount: number | null) =>
  amount === null ? '-' : `$${amount.toLocaleString('en', { maximumSignificantDigits: 2 })}`;

recipe(import.meta, (command) =>
  command
    .argument('<object>', 's3://BUCKET/KEY', s3Object)
    .argument('<storage-class>', `one of ${Object.keys(classes).join(', ')}`)
    .option('--file <path>', 'upload this file instead of changing the object')
    .addOption(yes)
    .action(async (object, storageClass, { file }) => {
      const [s3, body] = [connect(S3Client, patient), file === undefined ? undefined : readFileSync(file)];
      const options = { ...object, storageClass, body, signal: interrupted() };
      const estimate = await estimateChange(s3, options);
      const { from, to, once, minDays, monthBefore, monthAfter, oldEtag, oldVersionStays } = estimate;
      const before = from ? ` now ${dollars(monthBefore)} a month in ${from};` : '';
      const days = minDays ? `, for ${minDays} days at least` : '';
      const replaced = file !== undefined && from ? ' It replaces the object that is there.' : '';
      const stays = oldVersionStays ? ' The old version stays, and costs as before.' : replaced;
      const name = `s3://${object.bucket}/${object.key}`;
      const what = file === undefined ? `Put ${name} into ${to}?` : `Upload ${file} to ${name} in ${to}?`;
      const cost = `${before} ${dollars(once)} once, then ${dollars(monthAfter)} a month${days} (us-east-1).${stays}`;
      await confirm(`${what}${cost}`);
      const result = await cutStorageCost(s3, { ...options, oldEtag });
      print(result, { size: bytes, monthBefore: dollars, monthAfter: dollars, once: dollars });
    }),
);
