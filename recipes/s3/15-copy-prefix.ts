/**
 * 3.15 Copy a prefix
 *
 * ## Problem
 * You want all objects under a prefix in another bucket, or under another prefix: thousands or millions, in parallel,
 * without what is there already, and without starting all over again when something goes wrong on the way.
 *
 * ## Solution
 * List source and target side by side. What the target lacks, or has otherwise, is copied within S3 by 3.6, many
 * objects at once, while the lists go on. What fails is told at the end; a second run does only what is left.
 *
 * ## Discussion
 * Both lists are sorted by key, so they are read like a zip: memory is the same for a thousand objects and for
 * billions. Copied are current objects, not older versions. A prefix is where keys begin: `log` takes `logs/` too. An
 * object that is there and differs is replaced without a question; in a bucket that keeps versions it becomes an older
 * version.
 *
 * Unchanged is a copy of the same size and ETag that isn't older than its source: who writes an object again may have
 * changed its metadata. Where ETags differ, two more requests compare checksums, for ETags say nothing where an
 * object was uploaded in parts or is encrypted with a KMS key. Where S3 has no checksum of the whole, size and time
 * decide; and as the time of an upload in parts is that of its beginning, one that ended after the copy can be missed.
 * Later changes of tags, annotations, lock or class alone are not noticed. What annotations take, 3.6 says.
 *
 * 3.6 takes three requests an object: it looks at the source, copies, and compares. So nothing is lost that it keeps,
 * such as encryption, website redirect and lock, of which a list tells nothing; a copy locked in compliance mode stays
 * till its date. ACLs are not copied. `plain` only sends CopyObject, which keeps metadata, headers and tags; the
 * storage class comes from the list, and encryption and lock are those that the target bucket gives to new objects.
 * That is right for most buckets, takes less than half the time, and works for a bucket without Object Lock, or in
 * another region than a KMS key. Objects over 5 GiB are copied by 3.6 all the same, encrypted as they are.
 *
 * Far from S3, `concurrency` decides how fast it goes. Near it the SDK's own work does, a millisecond of CPU or more
 * for a request: with nothing to wait for, s5cmd was 3.6 times as fast as `plain` (bench/copy.ts, November 2026, two
 * cores).
 *
 * S3 takes 3,500 copies a second for a prefix, and more when it has seen that you need them. Until then it answers
 * SlowDown; the SDK tries three times, then the object is one of those that failed. Archived objects (GLACIER,
 * DEEP_ARCHIVE, the archive tiers of INTELLIGENT_TIERING) fail until they are restored. If one fails the others go on;
 * when nothing works because of a missing permission, that shows in the progress.
 *
 * A million copies cost $5 in us-east-1 (2026), 3.6's looks at them $0.80, and the two lists $0.01, but the target is
 * listed with all that lies between the first and the last key under its prefix; other classes and transfer between
 * regions cost more, and KMS keys: with those it takes kms:Decrypt for the source's, kms:GenerateDataKey and
 * kms:Decrypt for the target's. The undo below empties the target's prefix, of what was there before, too. For many
 * millions have S3 do the work by itself (3.27), and for what is yet to come set up replication. Within one bucket the
 * two prefixes must not overlap. Keys of a directory bucket aren't sorted.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example-copy --local
 * @before npx tsx recipes/s3/03-store-private-data.ts s3://paws-example/letters/1.txt "Dear diary" --local
 * @before npx tsx recipes/s3/03-store-private-data.ts s3://paws-example/letters/2.txt "Dear friend" --local
 * @run npx tsx recipes/s3/15-copy-prefix.ts s3://paws-example/letters/ s3://paws-example-copy/archive/ --local
 * @output
 *   bucket     paws-example-copy
 *   prefix     archive/
 *   copied     2
 *   size       21 B
 *   unchanged  0
 *   failed     0
 *   failures   -
 *   dry run    no
 * @run npx tsx recipes/s3/15-copy-prefix.ts s3://paws-example/letters/ s3://paws-example-copy/archive/ --dry-run --local
 * @permission s3:ListBucket on arn:aws:s3:::SOURCE
 * @permission s3:GetObject on arn:aws:s3:::SOURCE/*
 * @permission s3:GetObjectTagging on arn:aws:s3:::SOURCE/*
 * @permission s3:GetObjectRetention on arn:aws:s3:::SOURCE/*
 * @permission s3:GetObjectLegalHold on arn:aws:s3:::SOURCE/*
 * @permission s3:ListBucket on arn:aws:s3:::DESTINATION
 * @permission s3:GetObject on arn:aws:s3:::DESTINATION/*
 * @permission s3:PutObject on arn:aws:s3:::DESTINATION/*
 * @permission s3:PutObjectTagging on arn:aws:s3:::DESTINATION/*
 * @permission s3:PutObjectRetention on arn:aws:s3:::DESTINATION/*
 * @permission s3:PutObjectLegalHold on arn:aws:s3:::DESTINATION/*
 * @permission s3:AbortMultipartUpload on arn:aws:s3:::DESTINATION/*
 * @cost what the copies take, and about $6 for a million of them in us-east-1 (2026); between regions also the transfer
 * @undo npx tsx recipes/s3/28-empty-bucket.ts s3://{bucket}/{prefix} --local --yes
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html
 */
import { setMaxListeners } from 'node:events';
import { CopyObjectCommand, S3Client } from '@aws-sdk/client-s3';
import pLimit from 'p-limit';
import { pMapIterable } from 'p-map';
import { copyObject } from './06-copy-object.ts';
import { readObject } from './06-helpers/properties.ts';
import { type ListedObject, listBoth, type Pair, type Place } from './15-helpers/list-both.ts';

export interface CopiedPrefix {
  /** The bucket copied to, and what the keys of all copies begin with. */
  bucket: string;
  prefix: string;
  /** How many objects were copied; with `dryRun` how many would be. */
  copied: number;
  /** Their bytes. */
  size: number;
  /** How many were there already. */
  unchanged: number;
  failed: number;
  /** The first thousand of those that failed. */
  failures: { key: string; reason: string }[];
  /** True when nothing was copied because only that was asked for. */
  dryRun: boolean;
}

export interface CopyPrefixOptions {
  /** What to copy: all objects whose keys begin so. */
  from: Place;
  /** What takes the prefix's place in the keys of the copies, and the bucket. */
  to: Place;
  /** A client that lists and reads the source: of its region. The same client by default. */
  source?: S3Client;
  /** Copies by one request an object; encryption, redirect and lock are not kept. False by default. */
  plain?: boolean;
  /** Copies nothing, only counts. False by default. */
  dryRun?: boolean;
  /** How many objects are copied at once, those over 5 GiB one by one: 1 to 40. 32 by default. */
  concurrency?: number;
  /** Ends the work; what is copied stays. */
  signal?: AbortSignal;
  /** Called with a text for people after each object. */
  onProgress?: (text: string) => void;
}

/** What CopyObject copies at most, in bytes. */
const largest = 5 * 2 ** 30;
/** How many failures are told: memory must not grow with them. */
const mostFailures = 1000;

/**
 * Copies all objects under a prefix that the target lacks or has otherwise.
 *
 * @param s3 - Of the region of the bucket to copy to.
 * @param options - From where to where, and how.
 * @returns What was done, and what failed and why. It throws nothing for single objects.
 * @throws RangeError when source and target overlap, for a directory bucket, an alias, or a wrong concurrency; NoSuchBucket;
 *   AccessDenied when one of the buckets can't be listed; AbortError. The message tells how much was copied before.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
 *
 * @example
 * const [from, to] = [{ bucket: 'my-reports', prefix: '2025/' }, { bucket: 'my-archive', prefix: 'reports/2025/' }];
 * const { copied, failed } = await copyPrefix(new S3Client({}), { from, to });
 * console.log(`${copied} copied, ${failed} failed`);
 */
export async function copyPrefix(s3: S3Client, options: CopyPrefixOptions): Promise<CopiedPrefix> {
  const { from, to, source = s3, plain = false, dryRun = false, concurrency = 32, signal, onProgress } = options;
  const [first, second] = [from, to].map(({ bucket, prefix }) => `s3://${bucket}/${prefix}`) as [string, string];
  if (first.startsWith(second) || second.startsWith(first)) {
    throw new RangeError(
      `${first} and ${second} overlap: copies would be copied again, or replace what is to be copied`,
    );
  }
  for (const { bucket } of [from, to]) {
    if (/--xa?-s3$/.test(bucket)) throw new RangeError(`${bucket} is a directory bucket, whose keys are not sorted`);
    // Which bucket it stands for nobody can see, and so not whether the two overlap.
    if (/-s3alias$/.test(bucket)) throw new RangeError(`${bucket} is an alias of an access point: name the bucket`);
  }
  if (!(Number.isInteger(concurrency) && concurrency >= 1 && concurrency <= 40)) {
    throw new RangeError(`concurrency is 1 to 40, not ${concurrency}: an SDK client opens 50 connections`);
  }
  // Each request listens to the signal, and Node warns of more than ten.
  if (signal) setMaxListeners(0, signal);

  const result: CopiedPrefix = { ...to, copied: 0, size: 0, unchanged: 0, failed: 0, failures: [], dryRun };
  const summary = () =>
    [`${result.copied} copied`, `${result.unchanged} unchanged`, `${result.failed} failed`].join(', ');

  const copyOne = async ({ name, object, copy }: Pair) => {
    const key = to.prefix + name;
    try {
      signal?.throwIfAborted();
      // The bucket's root has no place for an object that is named as the prefix. Empty, it is only a console's folder.
      if (key === '' && object.size === 0) return;
      if (key === '') throw new RangeError('its copy would have no key');
      if (await isCopyOf(object, copy)) {
        result.unchanged++;
        return;
      }
      if (!dryRun) await copyTo(key, object);
      result.copied++;
      result.size += object.size;
    } catch (error) {
      const { name: code, message } = error as Error;
      // Then it is neither done nor failed, and all ends.
      if (signal?.aborted || code === 'AbortError') return;
      const reason = ['Error', 'RangeError'].includes(code) ? message : `${code}: ${message}`;
      result.failed++;
      if (result.failed <= mostFailures) result.failures.push({ key: object.key, reason });
    } finally {
      onProgress?.(summary());
    }
  };

  // Each is copied by eight calls at once, and a call that waits for one of the client's 50 connections times out.
  const inTurn = pLimit({ concurrency: 1, rejectOnClear: true });
  const copyTo = async (key: string, { key: sourceKey, etag, size, storageClass }: ListedObject) => {
    const names = { from: { bucket: from.bucket, key: sourceKey }, to: { bucket: to.bucket, key } };
    if (!plain || size > largest) {
      const copy = () => copyObject(s3, { ...names, source, lock: !plain, signal });
      await (size > largest ? inTurn(copy) : copy());
      return;
    }
    const command = new CopyObjectCommand({
      Bucket: to.bucket,
      Key: key,
      // The SDK leaves it to you to encode this.
      CopySource: [from.bucket, ...sourceKey.split('/')].map(encodeURIComponent).join('/'),
      CopySourceIfMatch: etag,
      // Without it every copy is of class STANDARD.
      StorageClass: storageClass,
    });
    await s3.send(command, { abortSignal: signal });
  };

  const isCopyOf = async (object: ListedObject, copy: ListedObject | null): Promise<boolean> => {
    if (!copy || copy.size !== object.size || copy.modified < object.modified) return false;
    if (copy.etag === object.etag) return true;
    const both = await Promise.all([
      readObject(source, { bucket: from.bucket, key: object.key, etag: object.etag, signal }),
      readObject(s3, { bucket: to.bucket, key: copy.key, etag: copy.etag, signal }),
    ]);
    const [one, other] = both.map(({ checksum }) => checksum);
    if (one && one.algorithm === other?.algorithm) return one.value === other.value;
    // An ETag that is an MD5 sum tells: these differ. What was made of parts, or by a KMS key, has none. Lists tell
    // whole seconds: in the same one the source may have been the later.
    return (
      copy.modified > object.modified &&
      both.some(({ etag, settings }) => etag.includes('-') || settings.ServerSideEncryption?.startsWith('aws:'))
    );
  };

  const underWay = new Set<Promise<void>>();
  const track = (work: Promise<void>) => {
    underWay.add(work);
    return work.finally(() => underWay.delete(work));
  };
  try {
    // It asks for an object only when its copying can begin, so the lists are never far ahead; and unlike pMap it keeps
    // no results, which of billions would not fit into memory.
    const pairs = listBoth({ source, from, target: s3, to, signal });
    for await (const _ of pMapIterable(pairs, (pair) => track(copyOne(pair)), { concurrency, preserveOrder: false })) {
    }
    signal?.throwIfAborted();
    return result;
  } catch (error) {
    // What runs beside an error is not waited for: nothing must be copied after this has thrown.
    inTurn.clearQueue();
    await Promise.allSettled(underWay);
    if (!signal?.aborted)
      throw Object.assign(error as Error, { message: `${(error as Error).message} (${summary()})` });
    const message = `${signal.reason?.message ?? signal.reason} At least ${summary()}; run it again for the rest.`;
    throw Object.assign(new Error(message, { cause: error }), { name: 'AbortError' });
  }
}

// ---- command line: leave out when copying ----
import { bytes, connect, interrupted, print, progress, recipe, s3Prefix } from '../../shared/cli.ts';
import { findBucketRegion } from './02-create-bucket-in-region.ts';
import { patient } from './06-helpers/patient.ts';

recipe(import.meta, (command) =>
  command
    .argument('<from>', 's3://BUCKET/PREFIX, for all keys that begin so: log takes logs/ too', s3Prefix)
    .argument('<to>', "s3://BUCKET/PREFIX for the copies, in the place of the source's", s3Prefix)
    .option('--plain', 'one request an object: encryption, redirect and lock as the bucket gives them')
    .option('--dry-run', 'copy nothing, only count')
    .option('--concurrency <number>', 'how many objects to copy at once', Number)
    .action(async (from, to, options) => {
      const [s3, signal] = [connect(S3Client, patient), interrupted()];
      const elsewhere = from.bucket !== to.bucket;
      const source = elsewhere ? connect(S3Client, { region: await findBucketRegion(s3, { ...from, signal }) }) : s3;
      const result = await copyPrefix(s3, { from, to, source, ...options, signal, onProgress: progress });
      const some = result.failures.slice(0, 10).map(({ key, reason }) => `${JSON.stringify(key)}: ${reason}`);
      print(result, { size: bytes, failures: () => (result.failed > 0 ? 'see below' : '-') });
      const more = result.failed > 10 ? ['the others: --json has a thousand'] : [];
      if (result.failed > 0) throw new Error([`${result.failed} failed`, ...some, ...more].join('\n  '));
    }),
);
