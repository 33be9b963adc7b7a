/**
 * 3.13 Upload a large file
 *
 * ## Problem
 * You want to upload a file of gigabytes or terabytes as fast as the network allows. When the network, the program or
 * the machine fails half-way, you don't want to begin again.
 *
 * ## Solution
 * Upload it in parts, several at once, and have S3 put them together at the end. After a failure do the same again:
 * what S3 has is listed, compared with the file, and only the rest is sent. Checksums go with each part and the whole.
 *
 * ## Discussion
 * The object appears when all is there. Until then readers get the one that had the key before; then it is replaced
 * without a word (3.11 keeps old versions). To S3 the upload is as old as its beginning: if others write to the key or
 * delete it before the end, it may never be seen, which is an error. A file of one part is sent in a single request.
 *
 * S3 tells nothing of the file that an unfinished upload came from. So each part that it has is read again from the
 * file, and kept if length and CRC32 agree; one with other bytes is sent again and counted as `replaced`. If the file
 * changes while it is uploaded, nothing is completed. If the last run was stopped after its end, the object is found,
 * and nothing is sent. Two runs at once for one key can't mix two files: the checksum of the whole would not fit.
 *
 * The parts of an unfinished upload cost as objects do, and no list of objects has them. `--abort` removes them, also
 * those of a run that still works; the file need not be there then. Uploads of other programs are left alone, unless
 * they have a CRC32 of the whole, too. Only the newest is gone on with, if no object is newer; 3.17 removes the others.
 *
 * Each part, a single request and the end are tried six times, with up to half a minute of pauses in all. A client of
 * your own needs, as the command's has, `requestHandler: { socketTimeout: 60_000 }`, or it waits for ever on a
 * connection that went silent, and `expectContinueHeader: false`: for a body over 2 MiB the SDK asks first whether to
 * send it, and for that opens a new connection each time, without your settings of connections.
 *
 * Over https the bodies are not signed: TLS and the checksum guard them, and signing is half of the work. A policy
 * that forbids this (`s3:x-amz-content-sha256`) is the error `AccessDenied`. Where a KMS key encrypts, parts need
 * `kms:Decrypt` beside `kms:GenerateDataKey`. There can be 10,000 parts of 5 MiB to 5 GiB, so the largest object has
 * 48.8 TiB. Memory is `concurrency` times the size of a part; parts over 64 MiB, which files over 625 GiB have, are not
 * held in memory but read twice, for the checksum and to be sent.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @before npx tsx recipes/setup/10-copy-recipe.ts s3/create-bucket paws-example-project
 * @run npx tsx recipes/s3/13-upload-large-object.ts paws-example-project/tsconfig.json s3://paws-example/a.json --local
 * @output
 *   bucket      paws-example
 *   key         a.json
 *   size        325 B
 *   checksum    r2eqRA==
 *   etag        "30961a09414a711be08ff2a2fa5ca356"
 *   version id  -
 *   parts       1
 *   kept        0
 *   replaced    0
 * @permission s3:PutObject on arn:aws:s3:::BUCKET/*
 * @permission s3:GetObject on arn:aws:s3:::BUCKET/*
 * @permission s3:ListBucketMultipartUploads on arn:aws:s3:::BUCKET
 * @permission s3:ListMultipartUploadParts on arn:aws:s3:::BUCKET/*
 * @permission s3:AbortMultipartUpload on arn:aws:s3:::BUCKET/*
 * @cost $0.023 a GB a month in us-east-1 until you delete it, stored parts too, and $0.005 for a thousand parts
 * @undo npx tsx recipes/setup/16-delete-resource.ts s3://{bucket}/{key} --local --yes
 * @emulator LocalStack lists uploads to keys with + or % under another name, so these are not found and begin again.
 * @book bucket.initiate_multipart_upload → CreateMultipartUploadCommand
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
 */
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  HeadObjectCommand,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import mime from 'mime';
import { checkCurrent } from './13-helpers/check-current.ts';
import { base64, combineCrc32 } from './13-helpers/crc32.ts';
import { listUploads } from './13-helpers/list-uploads.ts';
import { openFile } from './13-helpers/source-file.ts';
import { tryAgain } from './13-helpers/try-again.ts';
import {
  choosePartSize,
  listParts,
  longestBuffer,
  type StoredPart,
  unsigned,
  uploadParts,
} from './13-helpers/upload-parts.ts';

export interface UploadedObject {
  bucket: string;
  key: string;
  /** In bytes. */
  size: number;
  /** CRC32 of the whole in base64, as S3 keeps it with the object. */
  checksum: string;
  etag: string;
  /** Null in a bucket that keeps no versions. */
  versionId: string | null;
  parts: number;
  /** How many parts were there from an earlier run. All of them: nothing was sent. */
  kept: number;
  /** How many parts of an earlier run the file no longer agreed with, so that they were sent again. */
  replaced: number;
}

/**
 * Uploads a file in parts, or the rest of it if an earlier run was stopped.
 *
 * @param s3 - Of the bucket's region, with a `socketTimeout`.
 * @param options.file - Path of the file.
 * @param options.bucket - Name of the bucket.
 * @param options.key - Key of the object, up to 1,024 bytes. An object that has it already is overwritten.
 * @param options.contentType - By the ending of the file's name by default.
 * @param options.cacheControl - `Cache-Control` of the object: `max-age=300`. None by default. What is resumed keeps
 *   this and the type that it has.
 * @param options.partSize - In bytes, 5 MiB to 5 GiB; more is taken if the file needs it. 16 MiB by default.
 * @param options.concurrency - How many parts are sent at once. 4 by default.
 * @param options.signal - Stops it; what is stored stays for the next run.
 * @param options.onProgress - Called with the bytes stored, and in all, at first and after each part.
 * @returns What is stored.
 * @throws RangeError for a directory bucket, when there is no such file, or it or an option is beyond a limit; NoSuchBucket;
 *   BadDigest or InvalidPart when another run replaced parts; Error when file or key changed meanwhile; AbortError.
 *   The message tells when parts are left for the next run.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
 *
 * @example
 * const s3 = new S3Client({ requestHandler: { socketTimeout: 60_000 }, expectContinueHeader: false });
 * const { size, kept } = await uploadLargeObject(s3, { file: 'video.mp4', bucket: 'my-company-media', key: 'a.mp4' });
 * console.log(`${size} bytes are stored, ${kept} parts of them since the last try`);
 */
export async function uploadLargeObject(
  s3: S3Client,
  options: {
    file: string;
    bucket: string;
    key: string;
    contentType?: string;
    cacheControl?: string;
    partSize?: number;
    concurrency?: number;
    signal?: AbortSignal;
    onProgress?: (done: { bytes: number; total: number }) => void;
  },
): Promise<UploadedObject> {
  const { file, bucket, key, cacheControl: CacheControl, concurrency = 4, signal, onProgress } = options;
  const { contentType: ContentType = mime.getType(`/${file}`) ?? 'application/octet-stream' } = options;
  const keyLength = Buffer.byteLength(key);
  if (keyLength < 1 || keyLength > 1024) throw new RangeError(`a key has 1 to 1,024 bytes, not ${keyLength}`);
  if (!(concurrency >= 1)) throw new RangeError(`concurrency is 1 or more, not ${concurrency}`);
  // It lists uploads by folders only.
  if (/--xa?-s3$/.test(bucket)) throw new RangeError(`${bucket} is a directory bucket`);
  const [object, stoppable] = [{ Bucket: bucket, Key: key }, { abortSignal: signal }];
  let stored = '';
  const source = await openFile(file);
  try {
    const { size } = source;
    const partSize = choosePartSize(size, options.partSize);
    const count = Math.max(1, Math.ceil(size / partSize));
    const counts = { parts: count, kept: 0, replaced: 0 };
    const result = (checksum: string, { ETag, VersionId }: { ETag?: string; VersionId?: string }) => {
      return { bucket, key, size, checksum, etag: ETag as string, versionId: VersionId ?? null, ...counts };
    };
    if (count === 1 && size <= longestBuffer) {
      const Body = Buffer.allocUnsafe(size);
      const checksum = base64(await source.read(Body, 0, size));
      await source.checkUnchanged();
      const input = { ...object, Body, ContentType, CacheControl, ChecksumCRC32: checksum };
      // Without a region or credentials no try goes well, but each would fail as if it were for the network.
      await Promise.all([s3.config.region(), s3.config.credentials()]);
      const answer = await tryAgain(() => s3.send(unsigned(new PutObjectCommand(input)), stoppable), { signal });
      onProgress?.({ bytes: size, total: size });
      return result(checksum, answer);
    }

    // Go on with the newest upload that was begun here, unless there is a newer object: nobody would see it then.
    const newest = (await listUploads(s3, object, signal)).at(-1);
    const last = await headObject(s3, object, signal);
    let UploadId = Number(newest?.Initiated) < Number(last?.LastModified) ? undefined : newest?.UploadId;
    if (!UploadId) {
      // The last run may have been stopped when all was done.
      const isAlike = last?.ContentType === ContentType && last.CacheControl === CacheControl;
      if (isAlike && last.ContentLength === size && last.ChecksumType === 'FULL_OBJECT') {
        const checksum = base64(await source.read(Buffer.allocUnsafe(2 ** 20), 0, size, signal));
        if (last.ChecksumCRC32 === checksum) return { ...result(checksum, last), kept: count };
      }
      // If its answer is lost, an empty upload is left; that costs nothing, and the next run goes on with it.
      const settings = { ContentType, CacheControl, ChecksumAlgorithm: 'CRC32', ChecksumType: 'FULL_OBJECT' } as const;
      ({ UploadId } = await s3.send(new CreateMultipartUploadCommand({ ...object, ...settings }), stoppable));
    }
    const upload = { ...object, UploadId };

    // What S3 has, if it is of the right length. Its checksums are compared with the file below.
    const length = (number: number) => Math.min(partSize, size - (number - 1) * partSize);
    const listed = await listParts(s3, upload, signal);
    const there = new Map(listed.filter(([number, { Size }]) => Size === length(number)));
    let done = there.size;
    let bytes = [...there.keys()].reduce((sum, number) => sum + length(number), 0);
    const tell = () => {
      stored = `${done} of ${count} parts are stored`;
      onProgress?.({ bytes, total: size });
    };
    tell();
    const onPart = ({ how, length }: StoredPart) => {
      if (how === 'sent') [done, bytes] = [done + 1, bytes + length];
      else counts[how]++;
      tell();
    };
    const parts = await uploadParts(s3, { upload, source, partSize, there, concurrency, signal, onPart });
    await source.checkUnchanged();

    // S3 makes the checksum of the whole, too, and completes nothing that does not have this one.
    const checksum = base64(combineCrc32(parts));
    const whole = { ChecksumCRC32: checksum, ChecksumType: 'FULL_OBJECT', MpuObjectSize: size } as const;
    const Parts = parts.map((one) => ({ PartNumber: one.number, ETag: one.etag, ChecksumCRC32: base64(one.checksum) }));
    const complete = new CompleteMultipartUploadCommand({ ...upload, ...whole, MultipartUpload: { Parts } });
    const answer = await tryAgain(() => s3.send(complete, stoppable), { signal, passing: [] }).catch(async (error) => {
      // If the first answer was lost, the SDK asked again, and the upload is gone because it is complete.
      const now = error.name === 'NoSuchUpload' ? await headObject(s3, object, signal) : null;
      if (now?.ContentLength === size && now.ChecksumCRC32 === checksum) return now;
      throw error;
    });
    stored = '';
    await checkCurrent(s3, object, answer.ETag as string);
    return result(checksum, answer);
  } catch (error) {
    if (!stored || (error as Error).name === 'NoSuchUpload') throw error;
    const { reason } = signal ?? {};
    const message = `${signal?.aborted ? (reason?.message ?? reason) : (error as Error).message}`;
    const told = `${message.replace(/\.$/, '')}. ${stored}: run it again for the rest, or 3.13 with --abort to remove them.`;
    if (!signal?.aborted) throw Object.assign(error as Error, { message: told });
    throw Object.assign(new Error(told, { cause: error }), { name: 'AbortError' });
  } finally {
    await source.close();
  }
}

/**
 * Removes the parts that stopped runs have left, by aborting their uploads.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - Name of the bucket.
 * @param options.key - Key that the object would have had.
 * @param options.signal - Stops it.
 * @returns How many uploads were aborted, or ended meanwhile. A part that was on its way may still arrive: then do it again.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html
 *
 * @example
 * const s3 = new S3Client({});
 * const { aborted } = await abortUploads(s3, { bucket: 'my-company-media', key: 'a.mp4' });
 * console.log(`${aborted} uploads will never be finished`);
 */
export async function abortUploads(
  s3: S3Client,
  { bucket, key, signal }: { bucket: string; key: string; signal?: AbortSignal },
): Promise<{ bucket: string; key: string; aborted: number }> {
  const object = { Bucket: bucket, Key: key };
  const uploads = await listUploads(s3, object, signal);
  for (const { UploadId } of uploads) {
    await s3.send(new AbortMultipartUploadCommand({ ...object, UploadId }), { abortSignal: signal }).catch((error) => {
      // One that was completed or aborted meanwhile has no parts left.
      if (error.name !== 'NoSuchUpload') throw error;
    });
  }
  return { bucket, key, aborted: uploads.length };
}

type ObjectName = { Bucket: string; Key: string };

/** What S3 tells of an object; null if there is none, if you may not see that, or if only its own key (SSE-C) tells. */
async function headObject(s3: S3Client, object: ObjectName, abortSignal?: AbortSignal) {
  const head = new HeadObjectCommand({ ...object, ChecksumMode: 'ENABLED' });
  return await s3.send(head, { abortSignal }).catch((error) => {
    if ([400, 403, 404].includes(error.$metadata?.httpStatusCode)) return null;
    throw error;
  });
}

// ---- command line: leave out when copying ----
import { bytes, connect, interrupted, print, recipe, s3Object, sayUndo, transferred } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('<file>', 'path of the file')
    .argument('<object>', 's3://BUCKET/KEY', s3Object)
    .option('--content-type <type>', 'type of the object (default: by the ending of the file name)')
    .option('--part-size <bytes>', 'size of a part, 5 MiB to 5 GiB (default: 16 MiB, or more if needed)', Number)
    .option('--concurrency <number>', 'parts sent at once (default: 4)', Number)
    .option('--abort', 'upload nothing, but remove the parts that stopped runs for this key have left')
    .action(async (file, object, { abort, ...settings }) => {
      const [s3, signal] = [connect(S3Client), interrupted()];
      if (abort) return print(await abortUploads(s3, { ...object, signal }));
      const result = await uploadLargeObject(s3, { file, ...object, ...settings, signal, onProgress: transferred });
      print(result, { size: bytes });
      sayUndo(result);
    }),
);
