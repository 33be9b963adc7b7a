/** Lists the parts of an upload, and sends those of a file, several at once. */
import { setMaxListeners } from 'node:events';
import { Readable } from 'node:stream';
import {
  ListPartsCommand,
  type Part,
  type PutObjectCommand,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { base64 } from './crc32.ts';
import type { SourceFile } from './source-file.ts';
import { tryAgain } from './try-again.ts';

const MiB = 2 ** 20;
/** Longer parts are not held in memory: they are read twice instead, for the checksum and to be sent. */
export const longestBuffer = 64 * MiB;

/** A part that S3 has. */
export interface StoredPart {
  number: number;
  etag: string | undefined;
  /** CRC32. */
  checksum: number;
  /** In bytes. */
  length: number;
  /** Whether it was kept from an earlier run, sent, or sent because what was kept is not as in the file. */
  how: 'kept' | 'sent' | 'replaced';
}

/**
 * The size of a file's parts: what is wanted, or more if that would make too many parts.
 *
 * @param size - Of the file, in bytes.
 * @param wanted - In bytes, 5 MiB to 5 GiB. 16 MiB by default.
 * @throws RangeError when it or the file is beyond a limit of S3's.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
 *
 * @example
 * const terabyte = 2 ** 40;
 * const size = choosePartSize(terabyte);
 * console.log(`${Math.ceil(terabyte / size)} parts`);
 */
export function choosePartSize(size: number, wanted = 16 * MiB): number {
  const [smallest, largest, most] = [5 * MiB, 5120 * MiB, 10_000];
  if (!Number.isInteger(wanted) || wanted < smallest || wanted > largest)
    throw new RangeError(`parts have 5 MiB (${smallest} bytes) to 5 GiB (${largest} bytes), not ${wanted}`);
  if (size > largest * most) throw new RangeError(`an object has 48.8 TiB at most, the file ${size} bytes`);
  return Math.max(wanted, Math.ceil(size / most / MiB) * MiB);
}

/** Where parts go: what CreateMultipartUpload was told and answered. */
export interface Upload {
  Bucket: string;
  Key: string;
  UploadId: string | undefined;
}

/**
 * Lists the parts that S3 has of an upload, by their numbers. The SDK's paginator won't do: an upload without parts says
 * that its next page begins at 0, and it asks for that for ever.
 *
 * @param s3 - Of the bucket's region.
 * @param upload - The unfinished upload.
 * @param abortSignal - Stops it.
 * @throws NoSuchUpload when it is complete or was aborted.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html
 *
 * @example
 * const upload = { Bucket: 'my-company-media', Key: 'a.mp4', UploadId: 'id-from-create' };
 * const parts = await listParts(new S3Client({}), upload);
 * console.log(`${parts.length} parts are stored`);
 */
export async function listParts(s3: S3Client, upload: Upload, abortSignal?: AbortSignal): Promise<[number, Part][]> {
  const all: [number, Part][] = [];
  for (let marker: string | undefined; ; ) {
    const list = new ListPartsCommand({ ...upload, PartNumberMarker: marker });
    const { Parts = [], IsTruncated, NextPartNumberMarker } = await s3.send(list, { abortSignal });
    all.push(...Parts.map((part): [number, Part] => [part.PartNumber as number, part]));
    if (!IsTruncated) return all;
    marker = NextPartNumberMarker;
  }
}

/**
 * Sends the parts that S3 does not have, or not as they are in the file.
 *
 * @param s3 - Of the bucket's region.
 * @param options.upload - Where the parts go.
 * @param options.source - The file.
 * @param options.partSize - In bytes; only the last part may be shorter.
 * @param options.there - The parts that S3 has, by their numbers, all of the right length.
 * @param options.concurrency - How many parts are sent at once, each from a buffer of its own.
 * @param options.signal - Stops it.
 * @param options.onPart - Called when a part is stored.
 * @returns All parts in the order of their numbers.
 * @throws The first error that does not pass, when the parts beside it have stopped.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html
 *
 * @example
 * const upload = { Bucket: 'my-company-media', Key: 'a.mp4', UploadId: 'id-from-create' };
 * const options = { upload, partSize: 2 ** 24, there: new Map(), concurrency: 4, signal: undefined, onPart: console.log };
 * await uploadParts(new S3Client({}), { source: await openFile('video.mp4'), ...options });
 */
export async function uploadParts(
  s3: S3Client,
  options: {
    upload: Upload;
    source: SourceFile;
    partSize: number;
    there: Map<number, Part>;
    concurrency: number;
    signal: AbortSignal | undefined;
    onPart: (part: StoredPart) => void;
  },
): Promise<StoredPart[]> {
  const { upload, source, partSize, there, concurrency, signal, onPart } = options;
  const count = Math.ceil(source.size / partSize);
  const parts: StoredPart[] = [];
  // When one part fails, those beside it stop, too. Each listens to the signal, and Node warns of more than ten.
  const failed = new AbortController();
  const abortSignal = AbortSignal.any(signal ? [signal, failed.signal] : [failed.signal]);
  setMaxListeners(0, abortSignal);

  let next = 1;
  const work = async () => {
    // One buffer, used over and over: for a new one each time, Node would have to clean up all the time.
    const buffer = Buffer.allocUnsafe(Math.min(partSize, longestBuffer));
    for (let number = next++; number <= count && !abortSignal.aborted; number = next++) {
      const start = (number - 1) * partSize;
      const length = Math.min(partSize, source.size - start);
      const checksum = await source.read(buffer, start, length, abortSignal);
      const last = there.get(number);
      const part: StoredPart = { number, etag: last?.ETag, checksum, length, how: last ? 'replaced' : 'sent' };
      if (last?.ChecksumCRC32 === base64(checksum)) part.how = 'kept';
      else {
        const input = { ...upload, PartNumber: number, ContentLength: length, ChecksumCRC32: base64(checksum) };
        const answer = await tryAgain(
          () => {
            const Body = length <= buffer.length ? buffer.subarray(0, length) : source.stream(start, length);
            return s3.send(unsigned(new UploadPartCommand({ ...input, Body })), { abortSignal });
          },
          { signal: abortSignal },
        );
        part.etag = answer.ETag;
      }
      parts[number - 1] = part;
      onPart(part);
    }
  };
  const workers = Array.from({ length: Math.min(concurrency, count) }, work);
  await Promise.all(workers.map((worker) => worker.catch((error) => failed.abort(error))));
  abortSignal.throwIfAborted();
  return parts;
}

/**
 * Leaves the body out of the signature where TLS and its checksum guard it on its way, as S3 allows: to hash it is half
 * of the work of sending it. There it is sent piece by piece, too: Node.js encrypts at once all that a connection is
 * given, into as much memory again.
 *
 * @param command - With the checksum of its body.
 * @returns The same command.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
 *
 * @example
 * const body = { Body: 'text', ChecksumCRC32: base64(crc32('text')) };
 * const command = unsigned(new PutObjectCommand({ Bucket: 'my-company-notes', Key: 'today', ...body }));
 * await new S3Client({}).send(command);
 */
export function unsigned<Command extends PutObjectCommand | UploadPartCommand>(command: Command): Command {
  type Request = { protocol: string; headers: Record<string, string>; body?: unknown };
  const { middlewareStack } = command as UploadPartCommand;
  middlewareStack.add(
    (next) => (args) => {
      const { protocol, headers } = args.request as Request;
      if (protocol === 'https:') headers['x-amz-content-sha256'] = 'UNSIGNED-PAYLOAD';
      return next(args);
    },
    { step: 'build', name: 'unsigned' },
  );
  middlewareStack.add(
    (next) => async (args) => {
      const request = args.request as Request;
      const { protocol, body } = request;
      if (protocol !== 'https:' || !Buffer.isBuffer(body) || body.length <= MiB) return next(args);
      request.body = Readable.from(piecesOf(body));
      try {
        return await next(args);
      } finally {
        // The SDK tries no request again whose body is a stream.
        request.body = body;
      }
    },
    // After what tries again and signs: once for each try.
    { step: 'finalizeRequest', priority: 'low', name: 'inPieces' },
  );
  return command;
}

function* piecesOf(buffer: Buffer): Generator<Buffer> {
  for (let start = 0; start < buffer.length; start += MiB) yield buffer.subarray(start, start + MiB);
}
