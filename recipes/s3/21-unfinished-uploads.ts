/**
 * 3.21 Find unfinished uploads
 *
 * ## Problem
 * A bucket costs more than its objects explain. Uploads in parts that were neither completed nor aborted keep
 * their parts, for ever, and no list of objects shows them.
 *
 * ## Solution
 * List the uploads, and of each its parts, several uploads at once. Then abort those that were begun so long ago that
 * nobody works on them any more.
 *
 * ## Discussion
 * Parts are billed as objects of the upload's storage class are, those for GLACIER and DEEP_ARCHIVE as STANDARD.
 * CloudWatch has them in the sum of 3.24, and 3.5 counts them; what they take by upload only this list tells. Which
 * bucket of an account has many is in S3 Storage Lens. The parts of an upload under a KMS key are shown only to those
 * who have `kms:Decrypt`; aborting does without.
 *
 * S3 knows when an upload was begun, not whether somebody still sends parts. An upload of terabytes may take days:
 * choose an age that none of yours reaches. An upload that is resumed (3.13) begins anew once it is aborted. What is
 * aborted doesn't come back. Stopped half-way, it can be run again.
 *
 * A part that was on its way when its upload was aborted may still arrive and be kept. So each aborted upload is listed
 * once more at the end, where that may be done; if it has parts, run it again some minutes later.
 *
 * To be rid of it for good, let a lifecycle rule abort uploads after some days (3.17): it costs nothing, needs nobody
 * to think of it, and asks as little as this whether somebody is still sending. Listing costs $0.005 for a thousand
 * requests in us-east-1 (2026), one for each upload and one for each thousand uploads; aborting is free.
 *
 * Directory buckets list their uploads in no order, and are refused.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @run npx tsx recipes/s3/21-unfinished-uploads.ts s3://paws-example --local
 * @output
 *   none
 * @run npx tsx recipes/s3/21-unfinished-uploads.ts s3://paws-example/logs/ --abort-days 7 --local --yes
 * @permission s3:ListBucketMultipartUploads on arn:aws:s3:::BUCKET
 * @permission s3:ListMultipartUploadParts on arn:aws:s3:::BUCKET/*
 * @permission s3:AbortMultipartUpload on arn:aws:s3:::BUCKET/*
 * @cost nothing that lasts: $0.005 for a thousand uploads that are listed
 * @undo nothing
 * @emulator LocalStack lists keys as they are where S3 was asked to encode them, so keys with + or % come out wrong there.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpu-abort-incomplete-mpu-lifecycle-config.html
 */
import { setMaxListeners } from 'node:events';
import {
  AbortMultipartUploadCommand,
  ListMultipartUploadsCommand,
  type ListMultipartUploadsOutput,
  ListPartsCommand,
  type ListPartsOutput,
  S3Client,
} from '@aws-sdk/client-s3';
import pMap from 'p-map';

export interface UnfinishedUpload {
  key: string;
  uploadId: string;
  /** When it was begun. */
  initiated: Date;
  storageClass: string;
  /** How many parts it has; null where you may not see them. */
  parts: number | null;
  /** What they take, in bytes; null likewise. */
  size: number | null;
}

/**
 * Lists the unfinished uploads of a bucket, with what their parts take.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - Name of the bucket.
 * @param options.prefix - Only uploads to keys that begin so. All by default.
 * @param options.until - Only uploads begun until then. All by default.
 * @param options.concurrency - Of how many uploads the parts are listed at once. 8 by default.
 * @param options.signal - Stops it.
 * @param options.onProgress - Called with a text for people after each page of up to a thousand.
 * @returns The uploads, by key, those to one key by their time.
 * @throws RangeError for a directory bucket; NoSuchBucket.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html
 *
 * @example
 * const s3 = new S3Client({});
 * const uploads = await unfinishedUploads(s3, { bucket: 'my-company-media' });
 * console.log(`${uploads.reduce((sum, { size }) => sum + Number(size), 0)} bytes`);
 */
export async function unfinishedUploads(
  s3: S3Client,
  {
    bucket,
    prefix,
    until,
    concurrency = 8,
    signal,
    onProgress,
  }: {
    bucket: string;
    prefix?: string;
    until?: Date;
    concurrency?: number;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<UnfinishedUpload[]> {
  if (/--xa?-s3$/.test(bucket)) throw new RangeError(`${bucket} is a directory bucket, whose uploads are not sorted`);
  if (signal) setMaxListeners(0, signal);
  const found: UnfinishedUpload[] = [];
  let page: ListMultipartUploadsOutput | undefined;
  // The SDK has no paginator for this list.
  do {
    if (page && !page.NextKeyMarker) throw new Error('S3 does not say where the list goes on.');
    const next = page && { KeyMarker: decode(page, page.NextKeyMarker), UploadIdMarker: page.NextUploadIdMarker };
    const input = { Bucket: bucket, Prefix: prefix, EncodingType: 'url', ...next } as const;
    page = await s3.send(new ListMultipartUploadsCommand(input), { abortSignal: signal });
    const current = page;
    // Of those that are too young the parts need not be listed, which costs a request each.
    const old = (page.Uploads ?? []).filter(({ Initiated }) => !until || !Initiated || Initiated <= until);
    const uploads = await pMap(
      old,
      async ({ Key, UploadId = '', Initiated = new Date(0), StorageClass = 'STANDARD' }) => {
        const key = decode(current, Key);
        const parts = await sumParts(s3, { bucket, key, uploadId: UploadId, signal });
        // Null where somebody completed or aborted it meanwhile.
        return parts && { key, uploadId: UploadId, initiated: Initiated, storageClass: StorageClass, ...parts };
      },
      { concurrency },
    );
    found.push(...uploads.filter((upload) => upload !== null));
    onProgress?.(`${found.length} uploads found`);
  } while (page.IsTruncated);
  return found;
}

/**
 * Aborts uploads: what was stored of them is gone then.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - Name of the bucket.
 * @param options.uploads - Which ones.
 * @param options.concurrency - How many at once. 8 by default.
 * @param options.signal - Stops it; what is aborted stays so.
 * @returns How many were aborted, and those that have parts all the same: a part was on its way.
 * @throws AccessDenied and the like, once what was under way is done. The message tells how many were aborted.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html
 *
 * @example
 * const s3 = new S3Client({});
 * const uploads = await unfinishedUploads(s3, { bucket: 'my-company-media', prefix: 'tmp/' });
 * const { aborted } = await abortUnfinished(s3, { bucket: 'my-company-media', uploads });
 * console.log(`${aborted} of ${uploads.length}`);
 */
export async function abortUnfinished(
  s3: S3Client,
  {
    bucket,
    uploads,
    concurrency = 8,
    signal,
  }: {
    bucket: string;
    uploads: Pick<UnfinishedUpload, 'key' | 'uploadId'>[];
    concurrency?: number;
    signal?: AbortSignal;
  },
): Promise<{ aborted: number; left: string[] }> {
  if (signal) setMaxListeners(0, signal);
  let aborted = 0;
  let failure: Error | undefined;
  const left: string[] = [];
  const abort = async ({ key, uploadId }: Pick<UnfinishedUpload, 'key' | 'uploadId'>) => {
    // The first error ends the work.
    if (failure) return;
    try {
      const upload = { Bucket: bucket, Key: key, UploadId: uploadId };
      await s3.send(new AbortMultipartUploadCommand(upload), { abortSignal: signal });
      aborted++;
      if ((await sumParts(s3, { bucket, key, uploadId, signal }))?.parts) left.push(key);
    } catch (error) {
      // Somebody completed or aborted it meanwhile.
      if ((error as Error).name !== 'NoSuchUpload') failure ??= error as Error;
    }
  };
  await pMap(uploads, abort, { concurrency });
  if (failure) throw Object.assign(failure, { message: `${failure.message} (${aborted} aborted)` });
  return { aborted, left };
}

/** Number and size of an upload's parts; null for one that is gone. */
async function sumParts(
  s3: S3Client,
  { bucket, key, uploadId, signal }: { bucket: string; key: string; uploadId: string; signal?: AbortSignal },
): Promise<Pick<UnfinishedUpload, 'parts' | 'size'> | null> {
  let [parts, size] = [0, 0];
  try {
    const upload = { Bucket: bucket, Key: key, UploadId: uploadId };
    // Not by paginateListParts: it goes by the marker, which S3 gives with the last page, too, and would never end.
    let page: ListPartsOutput | undefined;
    do {
      const next = { PartNumberMarker: page?.NextPartNumberMarker };
      page = await s3.send(new ListPartsCommand({ ...upload, ...next }), { abortSignal: signal });
      parts += page.Parts?.length ?? 0;
      size += (page.Parts ?? []).reduce((sum, { Size = 0 }) => sum + Size, 0);
    } while (page.IsTruncated);
  } catch (error) {
    if ((error as Error).name === 'NoSuchUpload') return null;
    // One under a KMS key must not keep the others from being seen.
    if ((error as Error).name === 'AccessDenied') return { parts: null, size: null };
    throw error;
  }
  return { parts, size };
}

/** A key as it is. Not every character fits into XML, so S3 was asked to encode keys; there a space is a plus. */
function decode({ EncodingType }: ListMultipartUploadsOutput, key = ''): string {
  return EncodingType === 'url' ? decodeURIComponent(key.replaceAll('+', ' ')) : key;
}

// ---- command line: leave out when copying ----
import { bytes, confirm, connect, interrupted, print, progress, recipe, s3Prefix, yes } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('<target>', 's3://BUCKET, or s3://BUCKET/PREFIX for all keys that begin so', s3Prefix)
    .option('--abort-days <number>', 'abort those that were begun so many days ago or before', (text) => {
      if (/^\d+(\.\d+)?$/.test(text)) return Number(text);
      throw new RangeError('--abort-days takes a number of days');
    })
    .addOption(yes)
    .action(async (target, { abortDays }) => {
      const [s3, signal] = [connect(S3Client), interrupted()];
      const until = abortDays === undefined ? undefined : new Date(Date.now() - abortDays * 86_400_000);
      const uploads = await unfinishedUploads(s3, { ...target, until, signal, onProgress: progress });
      print(uploads, { size: bytes });
      const isHidden = uploads.some(({ parts }) => parts === null);
      if (!until && isHidden)
        throw new Error('Parts that are not shown take s3:ListMultipartUploadParts or kms:Decrypt.');
      if (!until || uploads.length === 0) return;
      const sum = `${isHidden ? 'at least ' : ''}${bytes(uploads.reduce((all, { size }) => all + Number(size), 0))}`;
      await confirm(`Abort these ${uploads.length} uploads for good, with ${sum} of parts?`);
      const { left } = await abortUnfinished(s3, { bucket: target.bucket, uploads, signal });
      if (left[0])
        throw new Error(`Parts came late to ${left.length}, such as ${left[0]}: run it again in some minutes.`);
    }),
);
