/**
 * 3.22 Upload a stream
 *
 * ## Problem
 * You want to store what a program writes, or a stream that comes in over the network, while it comes: nobody knows how
 * long it will be, and it fits neither into memory nor on the disk.
 *
 * ## Solution
 * Collect it in buffers of one size and send each as a part of one upload, several at once. While all buffers are full
 * the stream has to wait. At its end S3 puts the parts together; if it breaks, the upload is aborted.
 *
 * ## Discussion
 * The object appears when all is there. Until then, and after a failure that doesn't say otherwise, readers get the one
 * that had the key before; then it is replaced without a word, even by an empty stream. 3.11 keeps old versions;
 * `IfNoneMatch: '*'` in PutObject and in CompleteMultipartUpload makes S3 refuse instead, at the end. A stream of one
 * part is sent in a single request.
 *
 * To S3 an upload in parts is as old as its beginning. What others write to the key, or delete, while the stream comes
 * in may count as newer, and without versions the stream is lost, though S3 answers that it is stored. So the object is
 * looked at once more, and that is an error: give each stream a key of its own, such as one with the date.
 *
 * **A pipe does not tell whether the program before it was done or died.** With `pg_dump shop | npx tsx …` half a dump
 * looks like a whole one; `set -o pipefail` reports it when the object is there. So let the recipe run the program:
 * what comes after `--` must end with 0, or nothing is stored. `-- bash -c 'set -o pipefail; pg_dump shop | gzip'` runs
 * two. In your own code pass a stream that throws when it breaks, as those of `fetch` and `node:http` do, or that of
 * `outputOf`, which runs a program here.
 *
 * If the stream breaks, a part can't be sent in some minutes, or you press Ctrl-C, the parts are removed; where that
 * fails, too, the error has the command for it. After a power cut or `kill -9` they stay, and so may one that was on
 * its way. They cost as objects do, and no list of objects has them: look with 3.21, or let a lifecycle rule (3.17)
 * abort what was begun more days ago than your longest stream takes. Credentials must last as long, too, or be renewed.
 * A stream can't be read twice, so nothing is resumed; for files 3.13 does that.
 *
 * There can be 10,000 parts, of 5 MiB to 5 GiB, so an object has 48.8 TiB at most. Here all parts have the same size,
 * and each is in memory until it is stored, to be sent again if need be: 64 MiB, four at once, take 256 MiB and do for
 * a stream of 625 GiB. A longer one fails when that is reached, so give parts of up to 1 GiB (9.7 TiB) where it may be.
 * Where a KMS key encrypts, parts need `kms:Decrypt` beside `kms:GenerateDataKey`, and a short stream only that one.
 *
 * `Upload` of the package `@aws-sdk/lib-storage` does nearly the same. Its parts have 5 MiB by default, so that a
 * stream ends at 48.8 GiB; a completion whose answer was lost is an error there, though the object is stored; and its
 * `abort()` is answered before the parts are removed, so a program that ends then leaves them.
 *
 * As in 3.13, make your own client with a `socketTimeout`, or it waits for ever on a connection that went silent, and
 * with `expectContinueHeader: false`. Over https bodies are not signed: TLS and their checksums guard them.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @run npx tsx recipes/s3/22-upload-stream.ts s3://paws-example/today.txt --local -- echo "Dear diary"
 * @output
 *   bucket      paws-example
 *   key         today.txt
 *   size        11 B
 *   checksum    nYhxqg==
 *   etag        "09bf42f0ad11659dcf6b856cafcee8d4"
 *   version id  -
 *   parts       1
 * @permission s3:PutObject on arn:aws:s3:::BUCKET/*
 * @permission s3:GetObject on arn:aws:s3:::BUCKET/*
 * @permission s3:AbortMultipartUpload on arn:aws:s3:::BUCKET/*
 * @cost $0.023 a GB a month in us-east-1 until you delete it, and $0.005 for a thousand parts
 * @undo npx tsx recipes/setup/16-delete-resource.ts s3://{bucket}/{key} --local --yes
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html
 */
import { setMaxListeners } from 'node:events';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  HeadObjectCommand,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import mime from 'mime';
import pMap, { pMapSkip } from 'p-map';
import { type Made, undo } from '../../shared/undo.ts';
import { checkCurrent } from './13-helpers/check-current.ts';
import { base64, combineCrc32 } from './13-helpers/crc32.ts';
import { tryAgain } from './13-helpers/try-again.ts';
import { unsigned } from './13-helpers/upload-parts.ts';
import { readBytes } from './22-helpers/byte-reader.ts';

const MiB = 2 ** 20;
/** More parts can't be in one upload. */
const mostParts = 10_000;

export interface UploadedStream {
  bucket: string;
  key: string;
  /** In bytes. */
  size: number;
  /** CRC32 of the whole in base64, as S3 keeps it with the object. */
  checksum: string;
  etag: string;
  /** Null in a bucket that keeps no versions. */
  versionId: string | null;
  /** 1 if it was sent in a single request. */
  parts: number;
}

/**
 * Stores a stream of any length, whole or not at all.
 *
 * @param s3 - Of the bucket's region, with a `socketTimeout`.
 * @param options.bucket - Name of the bucket.
 * @param options.key - Key of the object, up to 1,024 bytes. An object that has it already is overwritten.
 * @param options.body - A stream of Node's or of the web, or what else gives bytes. It must throw when it breaks. It is
 *   destroyed if it can't be stored.
 * @param options.contentType - By the ending of the key by default.
 * @param options.partSize - In bytes, 5 MiB to 1 GiB. 64 MiB by default. The stream may have 10,000 times as many.
 * @param options.concurrency - How many parts are sent at once, each from a buffer of its own. 4 by default.
 * @param options.signal - Stops it and removes what is stored of it, but not once all parts are there. A stream of one
 *   part may be stored all the same.
 * @param options.onProgress - Called with the bytes stored, after each part. The total is not known.
 * @returns What is stored.
 * @throws RangeError when an option or the stream is beyond a limit; TypeError when it is no stream of bytes;
 *   NoSuchBucket; what the stream throws; the signal's reason. The message names the upload if parts are left. Error
 *   when others wrote to the key or deleted it meanwhile, and S3 takes that for newer.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
 *
 * @example
 * const s3 = new S3Client({ requestHandler: { socketTimeout: 60_000 }, expectContinueHeader: false });
 * const { size } = await uploadStream(s3, { bucket: 'my-company-backups', key: 'shop.sql', body: process.stdin });
 * console.log(`${size} bytes are stored`);
 */
export async function uploadStream(
  s3: S3Client,
  options: {
    bucket: string;
    key: string;
    body: AsyncIterable<Uint8Array>;
    contentType?: string;
    partSize?: number;
    concurrency?: number;
    signal?: AbortSignal;
    onProgress?: (done: { bytes: number; total: null }) => void;
  },
): Promise<UploadedStream> {
  const { bucket, key, body, partSize = 64 * MiB, concurrency = 4, signal, onProgress } = options;
  const { contentType: ContentType = mime.getType(`/${key}`) ?? 'application/octet-stream' } = options;
  const keyLength = Buffer.byteLength(key);
  if (keyLength < 1 || keyLength > 1024) throw new RangeError(`a key has 1 to 1,024 bytes, not ${keyLength}`);
  if (!Number.isInteger(partSize) || partSize < 5 * MiB || partSize > 1024 * MiB)
    throw new RangeError(`parts have 5 MiB (${5 * MiB} bytes) to 1 GiB (${1024 * MiB} bytes), not ${partSize}`);
  if (!Number.isInteger(concurrency) || concurrency < 1)
    throw new RangeError(`concurrency is a whole number from 1, not ${concurrency}`);
  if (typeof body?.[Symbol.asyncIterator] !== 'function')
    throw new TypeError(`the body, of type ${typeof body}, is no stream`);
  if (Readable.isDisturbed(body as Readable))
    throw new TypeError('the stream is broken, or some of it has been read, already');

  // When one part fails or the stream breaks, the others stop. Each listens, and Node warns of more than ten.
  const failed = new AbortController();
  const abortSignal = AbortSignal.any([failed.signal, ...(signal ? [signal] : [])]);
  setMaxListeners(0, abortSignal);
  // A stream can't be read again, so what fails is tried for some minutes.
  const patient = { tries: 12, signal: abortSignal };
  const source = readBytes(body, abortSignal);
  const object = { Bucket: bucket, Key: key };
  const made: Made[] = [];
  let size = 0;
  const count = (length: number) => {
    size += length;
    onProgress?.({ bytes: size, total: null });
  };
  // Those that are not in use now. They are made when they are first needed: a short stream takes one.
  const buffers: Buffer[] = [];
  const readPart = async (number: number) => {
    if (number > mostParts) throw new RangeError(`there are over 10,000 parts of ${partSize} bytes: make them larger`);
    const buffer = buffers.pop() ?? Buffer.allocUnsafe(partSize);
    return { number, buffer, ...(await source.fill(buffer)) };
  };

  try {
    // Without a region or credentials no try goes well, but each would fail as if it were for the network.
    const [first] = await Promise.all([readPart(1), s3.config.region(), s3.config.credentials()]);
    if (first.isLast) {
      const Body = first.buffer.subarray(0, first.length);
      const checksum = base64(crc32(Body));
      const put = { ...object, Body, ContentType, ChecksumCRC32: checksum };
      const answer = await tryAgain(() => s3.send(unsigned(new PutObjectCommand(put)), { abortSignal }), patient);
      count(first.length);
      return { bucket, key, size, checksum, ...namesOf(answer), parts: 1 };
    }

    const settings = { ContentType, ChecksumAlgorithm: 'CRC32', ChecksumType: 'FULL_OBJECT' } as const;
    const create = new CreateMultipartUploadCommand({ ...object, ...settings });
    const { UploadId } = await tryAgain(() => s3.send(create, { abortSignal }), patient);
    const upload = { ...object, UploadId };
    made.push({
      id: `the parts of upload ${upload.UploadId}, which cost until you abort it, and all to keys that begin so: ${commandToAbort(bucket, key)}`,
      // Without the signal, which may be why.
      remove: async () => {
        const abort = () => s3.send(new AbortMultipartUploadCommand(upload)).catch(ignoreGone);
        await abort();
        // A part that was broken off on its way may arrive all the same, and then stays until the next abort.
        if (abortSignal.aborted) await sleep(1000).then(abort);
      },
    });

    // A part is read when pMap asks for it: when one that was sent is stored, so that its buffer is free again.
    async function* readParts() {
      try {
        for (let part = first; ; part = await readPart(part.number + 1)) {
          yield part;
          if (part.isLast) return;
        }
      } catch (error) {
        failed.abort(error);
      }
    }
    const parts = await pMap(
      readParts(),
      async ({ number, buffer, length }) => {
        try {
          const Body = buffer.subarray(0, length);
          const checksum = crc32(Body);
          const input = { ...upload, PartNumber: number, Body, ChecksumCRC32: base64(checksum) };
          const send = () => s3.send(unsigned(new UploadPartCommand(input)), { abortSignal });
          const { ETag } = await tryAgain(send, patient);
          buffers.push(buffer);
          count(length);
          return { number, etag: ETag, checksum, length };
        } catch (error) {
          // Nothing is thrown until all have stopped: a part that is sent after the upload was aborted may stay.
          failed.abort(error);
          return pMapSkip;
        }
      },
      { concurrency },
    );
    abortSignal.throwIfAborted();

    // S3 makes the checksum of the whole, too, and completes nothing that does not have this one. The signal comes too
    // late: of a request that is broken off nobody knows whether it was done.
    const checksum = base64(combineCrc32(parts));
    const whole = { ChecksumCRC32: checksum, ChecksumType: 'FULL_OBJECT', MpuObjectSize: size } as const;
    const Parts = parts.map((one) => ({ PartNumber: one.number, ETag: one.etag, ChecksumCRC32: base64(one.checksum) }));
    const complete = { ...upload, ...whole, MultipartUpload: { Parts } };
    const end = () => s3.send(new CompleteMultipartUploadCommand(complete));
    const answer = await tryAgain(end, { passing: [] }).catch(async (error) => {
      // Without an answer it may be done, or S3 may still be at it.
      if (!(error.$metadata?.httpStatusCode < 500)) error.message += `; s3://${bucket}/${key} may be stored`;
      if (error.name !== 'NoSuchUpload') throw error;
      // When an answer was lost, the next try finds no upload, because it is complete: the object tells.
      const now = await s3.send(new HeadObjectCommand({ ...object, ChecksumMode: 'ENABLED' })).catch(() => null);
      if (now?.ContentLength !== size || now.ChecksumCRC32 !== checksum) throw error;
      return now;
    });
    await checkCurrent(s3, object, answer.ETag as string);
    return { bucket, key, size, checksum, ...namesOf(answer), parts: parts.length };
  } catch (error) {
    if (!signal?.aborted) throw await undo(made, error);
    const { message = signal.reason } = signal.reason as Error;
    throw await undo(made, Object.assign(new Error(message, { cause: error }), { name: 'AbortError' }));
  } finally {
    source.close();
  }
}

function namesOf({ ETag, VersionId }: { ETag?: string; VersionId?: string }) {
  return { etag: ETag as string, versionId: VersionId ?? null };
}

/** Lets pass that an upload is there no more. */
function ignoreGone(error: Error) {
  if (error.name !== 'NoSuchUpload') throw error;
}

/** How to remove the parts of uploads to a key that could not be aborted. */
function commandToAbort(bucket: string, key: string): string {
  const word = `'s3://${bucket}/${key.replaceAll("'", "'\\''")}'`;
  return `npx tsx recipes/s3/21-unfinished-uploads.ts ${word} --abort-days 0`;
}

// ---- command line: leave out when copying ----
import { bytes, connect, interrupted, print, recipe, s3Object, sayUndo, transferred, warn } from '../../shared/cli.ts';
import { outputOf } from './22-helpers/output-of.ts';

recipe(import.meta, (command) =>
  command
    .argument('<object>', 's3://BUCKET/KEY', s3Object)
    .argument('[program...]', 'after --: a program, to store its output if it ends with 0 (default: standard input)')
    .option('--content-type <type>', 'type of the object (default: by the ending of its key)')
    .option('--part-size <bytes>', 'size of a part, 5 MiB to 1 GiB; of 10,000 at most (default: 64 MiB)', Number)
    .option('--concurrency <number>', 'parts sent at once (default: 4)', Number)
    .action(async (object, [program, ...args], settings) => {
      if (program === undefined && process.stdin.isTTY) warn('Storing what you type; Ctrl-D ends it.');
      const body = program === undefined ? process.stdin : outputOf(program, args);
      const more = { signal: interrupted(), onProgress: transferred };
      const result = await uploadStream(connect(S3Client), { ...object, body, ...settings, ...more });
      print(result, { size: bytes });
      sayUndo(result);
    }),
);
