/**
 * 3.14 Download a large object
 *
 * ## Problem
 * You want an object of many gigabytes as a file: as fast as the line allows, over a line that breaks now and then,
 * and without ever taking half a file for a whole one.
 *
 * ## Solution
 * Fetch ranges of the object side by side, each on the condition that the object is still the same, and write them to
 * a file beside the target. Note which ranges are there, so that a run after a crash fetches only the others. Compare
 * the whole with the checksum that S3 keeps, and only then give the file its name.
 *
 * ## Discussion
 * Until the end there are two more files: `NAME.HASH.part` and, with a line for each range on the disk, `….part.done`.
 * The same command goes on with them after Ctrl-C, `kill -9` or a full disk; if the object has changed, it begins
 * anew. Delete them if you don't want the file any more. The former file is there and whole until the new one is.
 * A range is noted only once it is on the disk, so even a power cut leaves no hole.
 *
 * The SDK tries a request again, but not once the answer has begun: a connection that breaks or falls silent in the
 * middle of a range is taken up here, at the byte where it ended. Silence is noticed only by a client with a
 * `socketTimeout`, such as `new S3Client({ requestHandler: { socketTimeout: 60_000 } })`.
 *
 * Since December 2024 S3 keeps a checksum of each new object, also of one that was uploaded without. A `FULL_OBJECT`
 * one is compared, and a file that differs is thrown away. `verified no` says that there was none to compare: an old
 * object, or a `COMPOSITE` checksum, made of the parts of an upload, which SDKs get unless they ask for `FULL_OBJECT`
 * as 3.13 does. The ETag is no checksum: of an upload in parts, or with a KMS key, it is not the MD5. CRC64NVME is
 * computed in JavaScript, at some 400 MB a second. `@aws-sdk/checksums` must be of the client's version.
 *
 * S3 recommends ranges of 8 to 16 MB, or those of the upload, for latency; larger ones, as here, need fewer requests
 * and CPU, and are taken up inside. To read needs `s3:GetObject`, and `kms:Decrypt` where a KMS key encrypts; without
 * `s3:ListBucket` a missing object is the error 403. What is in `GLACIER`, `DEEP_ARCHIVE` or an archive tier of
 * `INTELLIGENT_TIERING` must be restored first (`InvalidObjectState`).
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @before npx tsx recipes/s3/03-store-private-data.ts s3://paws-example/letters/cat.txt "Dear cat," --local
 * @run npx tsx recipes/s3/14-download-large-object.ts s3://paws-example/letters/cat.txt --local
 * @output
 *   bucket    paws-example
 *   key       letters/cat.txt
 *   file      cat.txt
 *   size      9 B
 *   etag      "8c8d2be4af04216468127ed771b26bc3"
 *   resumed   0 B
 *   checksum  SHA256
 *   verified  yes
 * @permission s3:GetObject on arn:aws:s3:::BUCKET/*
 * @cost $0.09 a GB to the internet after the first 100 GB a month; $0.01 to $0.03 a GB from STANDARD_IA to GLACIER_IR
 * @undo rm {file}
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
 * @see https://docs.aws.amazon.com/whitepapers/latest/s3-optimizing-performance-best-practices/use-byte-range-fetches.html
 */
import { setMaxListeners } from 'node:events';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { GetObjectCommand, HeadObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { checksumOf } from './14-helpers/checksum.ts';
import { openPartial } from './14-helpers/partial-file.ts';

/** Bytes of a range: 32 MiB. */
const defaultPartSize = 32 * 2 ** 20;
/** Bytes that are collected for one write: over TLS they come in pieces of 16 KiB. */
const batchSize = 2 ** 20;
/** How often in a row a range is asked for without a byte more, with pauses of up to 1, 2, 4 and 8 s between. */
const attempts = 5;

export interface DownloadedObject {
  bucket: string;
  key: string;
  file: string;
  /** In bytes. */
  size: number;
  etag: string;
  /** Bytes that were there from an earlier run. */
  resumed: number;
  /** What kind of checksum S3 has of it, such as `CRC32`; null if none. */
  checksum: string | null;
  /** Whether the file was compared with it. A `COMPOSITE` one, of the parts of an upload, can't be. */
  verified: boolean;
}

/**
 * Downloads an object into a file, in ranges side by side, and goes on where an earlier run was stopped.
 *
 * @param s3 - Of the bucket's region. Give it a `socketTimeout`, or a connection that falls silent is waited for.
 *   The agents of `largeReads` in `14-helpers` make it faster.
 * @param options.bucket - Name of the bucket.
 * @param options.key - Key of the object.
 * @param options.file - Path of the file; its folder must be there. `fileFor` makes one from the key.
 * @param options.overwrite - Replaces a file that is there. False by default.
 * @param options.partSize - Bytes of a range, 1 or more. 32 MiB by default. Another one begins anew.
 * @param options.concurrency - How many ranges are fetched at a time. 8 by default.
 * @param options.signal - Stops the work; what is there stays for the next run.
 * @param options.onProgress - Called with the bytes that are there, and the object's.
 * @throws RangeError for a bad option; NotFound; AccessDenied; EEXIST when the file is there; PreconditionFailed when the object changed
 *   meanwhile; ChecksumMismatch; AbortError; ENOSPC. The message tells what is left and where.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
 *
 * @example
 * const s3 = new S3Client({ requestHandler: { socketTimeout: 60_000 } });
 * const { size, verified } = await downloadLargeObject(s3, { bucket: 'my-films', key: 'cat.mov', file: 'cat.mov' });
 * console.log(`${size} bytes, ${verified ? 'verified' : 'nothing to verify with'}`);
 */
export async function downloadLargeObject(
  s3: S3Client,
  options: {
    bucket: string;
    key: string;
    file: string;
    overwrite?: boolean;
    partSize?: number;
    concurrency?: number;
    signal?: AbortSignal;
    onProgress?: (progress: { bytes: number; total: number }) => void;
  },
): Promise<DownloadedObject> {
  const { bucket, key, file, overwrite = false, partSize = defaultPartSize, concurrency = 8 } = options;
  for (const [name, value] of Object.entries({ partSize, concurrency })) {
    if (!(Number.isInteger(value) && value > 0))
      throw new RangeError(`${name} must be a whole number from 1, not ${value}`);
  }
  await checkTarget({ file, overwrite });

  const object = { Bucket: bucket, Key: key };
  const look = new HeadObjectCommand({ ...object, ChecksumMode: 'ENABLED' });
  const head = await s3.send(look, { abortSignal: options.signal }).catch((error) => {
    // The answer to HEAD has no body that could tell.
    const { httpStatusCode: status } = error.$metadata ?? {};
    if (status === 404) error.message = `there is no bucket ${bucket}, or no ${key} in it`;
    if (status === 403)
      Object.assign(error, { name: 'AccessDenied', message: `${key} may not be read, or is not there` });
    throw error;
  });
  const { ContentLength: size, ETag: etag } = head;
  if (size === undefined || !etag) throw new Error(`S3 tells no size or no ETag of ${key}`);
  const checksum = checksumOf(head);

  const partial = await openPartial({ file, contents: { bucket, key, etag, size, partSize } });
  const { handle, kept } = partial;
  const parts = Array.from({ length: Math.ceil(size / partSize) }, (_, part) => part);
  const endOf = (part: number) => Math.min((part + 1) * partSize, size);
  const resumed = [...kept].reduce((sum, part) => sum + endOf(part) - part * partSize, 0);
  let bytes = resumed;
  options.onProgress?.({ bytes, total: size });

  // The first range that fails stops the others.
  const failed = new AbortController();
  const fail = (error: unknown) => failed.abort(error);
  const signal = AbortSignal.any([failed.signal, ...(options.signal ? [options.signal] : [])]);
  setMaxListeners(0, signal);

  const fetchPart = async (part: number) => {
    const end = endOf(part);
    for (let at = part * partSize, failures = 0; at < end; ) {
      const from = at;
      try {
        const Range = `bytes=${at}-${end - 1}`;
        const range = new GetObjectCommand({ ...object, IfMatch: etag, Range });
        const { Body, ContentRange } = await s3.send(range, { abortSignal: signal });
        for await (const batch of batches(Body as AsyncIterable<Buffer>)) {
          if (ContentRange !== `bytes ${from}-${end - 1}/${size}`) throw new Error(`${Range} brought ${ContentRange}`);
          // A full disk won't be less full the next time. It may take a part of what it is given first.
          const { bytesWritten } = await handle.writev(batch, at).catch((error) => {
            fail(error);
            throw error;
          });
          at += bytesWritten;
          bytes += bytesWritten;
          options.onProgress?.({ bytes, total: size });
          if (bytesWritten < lengthOf(batch)) break;
        }
        if (at < end) throw new Error(`the answer ended before byte ${end}, at ${at}`);
      } catch (error) {
        // What S3 refuses, it refuses again. All else may pass, and what has come is kept.
        const { httpStatusCode = 500 } = (error as { $metadata?: { httpStatusCode?: number } }).$metadata ?? {};
        failures = at > from ? 1 : failures + 1;
        if (signal.aborted || httpStatusCode < 500 || failures === attempts) throw error;
        await sleep(500 * 2 ** failures * Math.random(), undefined, { signal });
      }
    }
    await partial.keep(part);
  };

  // For the checksum the file is read again, from its beginning as far as it is there, while the rest still comes.
  let read = 0;
  const buffer = Buffer.allocUnsafe(batchSize);
  const readOn = async () => {
    while (checksum?.ofWholeObject && read < size && kept.has(Math.floor(read / partSize)) && !signal.aborted) {
      const length = Math.min(batchSize, endOf(Math.floor(read / partSize)) - read);
      const { bytesRead } = await handle.read(buffer, 0, length, read);
      if (bytesRead === 0) throw new Error(`${partial.path} ends at byte ${read}, before it should`);
      checksum.update(buffer.subarray(0, bytesRead));
      read += bytesRead;
    }
  };

  try {
    let reading = readOn().catch(fail);
    // All workers take from one queue.
    const queue = parts.filter((part) => !kept.has(part)).values();
    const work = async () => {
      for (const part of queue) {
        await fetchPart(part);
        reading = reading.then(readOn).catch(fail);
      }
    };
    const working = Array.from({ length: concurrency }, () => work().catch(fail));
    await Promise.all(working);
    await reading;
    signal.throwIfAborted();
    if (checksum?.ofWholeObject && !(await checksum.matches())) {
      const message = `the file's ${checksum.algorithm} is not the object's; it was removed`;
      throw Object.assign(new Error(message), { name: 'ChecksumMismatch' });
    }
    await checkTarget({ file, overwrite });
    await partial.finish();
  } catch (error) {
    const { name, message = error } = error as Error;
    if (['ChecksumMismatch', 'PreconditionFailed'].includes(name) || kept.size === 0) {
      await partial.discard();
      throw error;
    }
    await partial.close();
    const left = `${kept.size} of ${parts.length} ranges are in ${partial.path}; the same again goes on from there.`;
    if (!options.signal?.aborted) throw Object.assign(error as Error, { message: `${message}; ${left}` });
    throw Object.assign(new Error(`${message} ${left}`, { cause: error }), { name: 'AbortError' });
  }
  const { algorithm, ofWholeObject: verified } = checksum ?? { algorithm: null, ofWholeObject: false };
  return { bucket, key, file, size, etag, resumed, checksum: algorithm, verified };
}

/** Collects what comes in until it is worth a write. */
async function* batches(body: AsyncIterable<Buffer>): AsyncGenerator<Buffer[]> {
  let batch: Buffer[] = [];
  for await (const chunk of body) {
    batch.push(chunk);
    if (lengthOf(batch) < batchSize) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

function lengthOf(batch: Buffer[]): number {
  return batch.reduce((sum, { length }) => sum + length, 0);
}

/** Nothing is replaced that the caller does not know of. */
async function checkTarget({ file, overwrite }: { file: string; overwrite: boolean }): Promise<void> {
  const there = await stat(file).catch(() => null);
  if (there && !there.isFile()) throw new TypeError(`${file} is a folder or a device, not a file`);
  if (there && !overwrite) throw Object.assign(new Error(`EEXIST: ${file} is there already`), { code: 'EEXIST' });
}

/**
 * The path of the file that an object goes to: never outside the folder that is named.
 *
 * @param options.key - Key of the object. Its last part, after the last slash, is the name in a folder.
 * @param options.to - A file, or a folder that is there.
 * @throws RangeError when the key ends in nothing that could be a name, such as `..`.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
 *
 * @example
 * const file = await fileFor({ key: 'films/cat.mov', to: '.' });
 * console.log(file); // cat.mov
 */
export async function fileFor({ key, to }: { key: string; to: string }): Promise<string> {
  const isFolder = (await stat(to).catch(() => null))?.isDirectory() ?? false;
  if (!isFolder && /[/\\]$/.test(to)) throw new RangeError(`there is no folder ${to}`);
  if (!isFolder) return to;
  const name = key.slice(key.lastIndexOf('/') + 1);
  // On Windows a backslash or a colon leads to another folder.
  if (['', '.', '..'].includes(name) || name.includes('\0') || (process.platform === 'win32' && /[\\:]/.test(name))) {
    throw new RangeError(`"${key}" ends in no name for a file: give one`);
  }
  return join(to, name);
}

// ---- command line: leave out when copying ----
import { existsSync } from 'node:fs';
import { bytes, confirm, connect, interrupted, print, recipe, s3Object, transferred, yes } from '../../shared/cli.ts';
import { largeReads } from './14-helpers/large-reads.ts';

recipe(import.meta, (command) =>
  command
    .argument('<object>', 's3://BUCKET/KEY', s3Object)
    .argument('[file]', 'where to: a file, or a folder that is there', '.')
    .addOption(yes)
    .action(async ({ bucket, key }, to) => {
      const s3 = connect(S3Client, {
        requestHandler: { connectionTimeout: 5_000, socketTimeout: 60_000, ...largeReads() },
      });
      const file = await fileFor({ key, to });
      const overwrite = existsSync(file);
      if (overwrite) await confirm(`Replace the file ${file}, once the new one is whole?`);
      const stoppable = { signal: interrupted(), onProgress: transferred };
      const result = await downloadLargeObject(s3, { bucket, key, file, overwrite, ...stoppable });
      print(result, { size: bytes, resumed: bytes });
    }),
);
