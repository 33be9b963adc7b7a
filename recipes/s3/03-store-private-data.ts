/**
 * 3.3 Store private data
 *
 * ## Problem
 * You want to keep a text or a file in S3, be sure that it arrived as it was, and that no stranger can read it.
 *
 * ## Solution
 * Send the data with its SHA-256 checksum, which S3 compares with what it received, encrypted with S3's key or one
 * of your own in KMS. Read it back and compare. Then ask for it without credentials: that must be refused.
 *
 * ## Discussion
 * An object that has this key already is overwritten without a word. In a bucket that keeps versions (3.11) the old one
 * stays as a version, which 3.29 brings back; elsewhere it is lost. `IfNoneMatch: '*'` in the call makes S3 refuse
 * instead. Readers get the old object or the new one, never a mixture, and an upload that breaks leaves nothing.
 *
 * S3 encrypts every object. Without `--kms-key-id` it does so as the bucket is set up: with S3's own key (AES256),
 * unless you chose one of KMS's. Then whoever may read the object can read it. With a KMS key readers need
 * `kms:Decrypt` on that key too, and you `kms:GenerateDataKey` besides. Such a key costs $1 a month and $0.03 for
 * 10,000 uses (us-east-1, 2026), of which the bucket key that is turned on here saves up to 99 %; in CloudTrail these
 * uses then name the bucket, not the object. Delete the key and the data is gone.
 *
 * Keys that you send with each request (SSE-C) are refused with `AccessDenied` since April 2026, in new buckets and in
 * those of accounts that had no such objects (not in Bahrain and the UAE): every reader must have the key, and S3 does
 * not keep it. If AWS must not see the data, encrypt it before you send it.
 *
 * 403 is what an anonymous reader gets from your network at this moment; with a KMS key it may be 400, for S3 decrypts
 * for signed requests only. All in your account who have `s3:GetObject` can read it, and a policy may still let in
 * other accounts or networks: keep Block Public Access on, as it is in a bucket of 3.1. With any other answer the
 * command fails, but the data is stored: look for a bucket policy or an access control list, or delete the object.
 *
 * All data is held in memory, standard input too, so 100 MiB are the limit. 3.13 uploads larger files, 3.22 streams.
 * A file gets no content type of its own here (3.4 sets it). If somebody overwrites the object before it is read back,
 * the error is `PreconditionFailed`.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @run npx tsx recipes/s3/03-store-private-data.ts s3://paws-example/diary.txt "Dear diary" --local
 * @output
 *   bucket            paws-example
 *   key               diary.txt
 *   size              10 B
 *   checksum          +N9ZP6ZltrSZhea6pwEiYTpX1yFrXkrNgYwjgWpXCsM=
 *   etag              "17ded252a33761825099a8dd4553ce25"
 *   version id        -
 *   encryption        AES256
 *   kms key id        -
 *   anonymous status  -
 * @permission s3:PutObject on arn:aws:s3:::BUCKET/*
 * @permission s3:GetObject on arn:aws:s3:::BUCKET/*
 * @permission kms:GenerateDataKey on arn:aws:kms:*:*:key/KEY
 * @permission kms:Decrypt on arn:aws:kms:*:*:key/KEY
 * @cost $0.023 a GB a month in us-east-1 until you delete it, $0.005 for a thousand uploads, and $0.09
 *   a GB for reading back outside AWS, after the first 100 GB a month
 * @undo npx tsx recipes/setup/16-delete-resource.ts s3://{bucket}/{key} --local --yes
 * @emulator LocalStack lets anybody read everything, so there it is not asked without credentials; versitygw answers
 *   403. LocalStack takes any KMS key, one that does not exist too.
 * @book key.set_contents_from_string → PutObjectCommand
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-key.html
 */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { GetObjectCommand, HeadObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { readBytes } from './22-helpers/byte-reader.ts';

export interface StoredData {
  bucket: string;
  key: string;
  /** In bytes. */
  size: number;
  /** SHA-256 of the data in base64, as S3 keeps it with the object. */
  checksum: string;
  etag: string;
  /** Null in a bucket that keeps no versions. */
  versionId: string | null;
  /** `AES256`, `aws:kms`; null from a server that does not tell. */
  encryption: string | null;
  /** ARN of the KMS key; null with S3's own key. */
  kmsKeyId: string | null;
  /** What somebody without credentials is answered: 403 if it is private, or 400 with a KMS key. Null if that was not tried. */
  anonymousStatus: number | null;
}

/** The most that is kept in memory, in bytes. */
const limit = 100 * 2 ** 20;

/**
 * Stores data that no stranger can read, reads it back and compares.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - Name of the bucket.
 * @param options.key - Key of the object, up to 1,024 bytes. An object that has it already is overwritten.
 * @param options.body - A text (stored as UTF-8), bytes, or a stream of bytes, read to its end; up to 100 MiB.
 * @param options.kmsKeyId - Id, ARN or alias (`alias/name`) of the KMS key to encrypt with. As the bucket does by default.
 * @param options.checkAnonymous - Asks for the object without credentials, too. True by default.
 * @param options.signal - Stops it; then the object is stored whole or not at all.
 * @param options.onProgress - Called with a text for people.
 * @returns What was stored. It is private if `anonymousStatus` is 403, or 400 with a KMS key.
 * @throws RangeError when there is more data than the limit, or the key is too long; NoSuchBucket, AccessDenied;
 *   PreconditionFailed when somebody overwrote it meanwhile; Error when what came back is something else. The message
 *   says so where the data is stored all the same.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
 *
 * @example
 * const s3 = new S3Client({});
 * const { anonymousStatus } = await storePrivateData(s3, { bucket: 'my-company-notes', key: 'today', body: 'text' });
 * console.log(anonymousStatus === 200 ? 'not private!' : 'private');
 */
export async function storePrivateData(
  s3: S3Client,
  options: {
    bucket: string;
    key: string;
    body: string | AsyncIterable<Uint8Array> | Uint8Array;
    kmsKeyId?: string;
    checkAnonymous?: boolean;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<StoredData> {
  const { bucket, key, body, kmsKeyId, checkAnonymous = true, signal, onProgress } = options;
  const keyLength = Buffer.byteLength(key);
  if (keyLength < 1 || keyLength > 1024) throw new RangeError(`a key has 1 to 1,024 bytes, not ${keyLength}`);
  if (kmsKeyId === '') throw new RangeError('the id of the KMS key is empty');
  const data = await readAll(body, signal);
  const object = { Bucket: bucket, Key: key };

  // The checksum is made before anything can go wrong on the way: S3 stores nothing that does not fit it.
  const checksum = createHash('sha256').update(data).digest('base64');
  onProgress?.(`storing ${data.length} bytes`);
  const stored = await s3.send(
    new PutObjectCommand({
      ...object,
      Body: data,
      ChecksumSHA256: checksum,
      // Nothing tells later that bytes were a text.
      ContentType: typeof body === 'string' ? 'text/plain; charset=utf-8' : undefined,
      // The bucket's own encryption is overruled only where another key is asked for.
      ...(kmsKeyId && { ServerSideEncryption: 'aws:kms', SSEKMSKeyId: kmsKeyId, BucketKeyEnabled: true }),
    }),
    { abortSignal: signal },
  );

  const hash = createHash('sha256');
  let [isSame, anonymousStatus]: [boolean, number | null] = [false, null];
  try {
    // Only what was just stored will do, not what somebody else has put there meanwhile.
    onProgress?.('reading it back');
    const got = await s3.send(new GetObjectCommand({ ...object, IfMatch: stored.ETag }), { abortSignal: signal });
    for await (const chunk of got.Body as AsyncIterable<Uint8Array>) hash.update(chunk);
    isSame = hash.digest('base64') === checksum;
    if (isSame && checkAnonymous) anonymousStatus = await askAnonymously(s3, object, signal);
  } catch (cause) {
    // It must not look as if nothing were there now.
    const { name, message } = cause as Error;
    const told = `s3://${bucket}/${key} is stored, but could not be checked: ${message}`;
    throw Object.assign(new Error(told, { cause }), { name });
  }
  if (!isSame) throw new Error(`s3://${bucket}/${key} comes back as other data than stored`);

  return {
    ...{ bucket, key, size: data.length, checksum },
    etag: stored.ETag as string,
    versionId: stored.VersionId ?? null,
    encryption: stored.ServerSideEncryption ?? null,
    kmsKeyId: stored.SSEKMSKeyId ?? null,
    anonymousStatus,
  };
}

/** The HTTP status that a request without credentials gets from the server that the client uses. */
async function askAnonymously(s3: S3Client, object: { Bucket: string; Key: string }, abortSignal?: AbortSignal) {
  const command = new HeadObjectCommand(object);
  command.middlewareStack.add(
    (next) => (args) => {
      // It is signed by now: all that tells who asks is taken away again.
      const { headers } = args.request as { headers: Record<string, string> };
      for (const name of Object.keys(headers)) if (/^(authorization|x-amz-.*)$/i.test(name)) delete headers[name];
      return next(args);
    },
    { step: 'deserialize', priority: 'low' },
  );
  try {
    await s3.send(command, { abortSignal });
    return 200;
  } catch (error) {
    const { $metadata } = error as { $metadata?: { httpStatusCode?: number } };
    const status = $metadata?.httpStatusCode;
    if (status === undefined || status >= 500) throw error;
    return status;
  }
}

/** All of a body in memory, if it is not too much. */
async function readAll(
  body: string | Uint8Array | AsyncIterable<Uint8Array>,
  signal = new AbortController().signal,
): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  const whole = typeof body === 'string' || body instanceof Uint8Array;
  // Not by `for await`: of a source that gives nothing any more it would wait for ever, whatever the signal.
  const source = readBytes(whole ? Readable.from([Buffer.from(body)]) : body, signal);
  try {
    for (let isAtEnd = false; !isAtEnd; ) {
      const buffer = Buffer.allocUnsafe(2 ** 20);
      const { length, isLast } = await source.fill(buffer);
      isAtEnd = isLast;
      size += length;
      if (size > limit) throw new RangeError('there are over 100 MiB: 3.13 uploads large files, 3.22 streams');
      pieces.push(buffer.subarray(0, length));
    }
    return Buffer.concat(pieces);
  } finally {
    source.close();
  }
}

// ---- command line: leave out when copying ----
import { createReadStream } from 'node:fs';
import { bytes, connect, local, print, progress, recipe, s3Object, sayUndo } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('<object>', 's3://BUCKET/KEY', s3Object)
    .argument('[text]', 'what to store; - for standard input')
    .option('--file <path>', 'store this file instead of a text')
    .option('--kms-key-id <id>', 'encrypt with this KMS key: its id, ARN or alias/NAME')
    .action(async (object, text, { file, kmsKeyId }) => {
      if ((text === undefined) === (file === undefined)) throw new TypeError('give either a text or --file');
      const body = file !== undefined ? createReadStream(file) : text === '-' ? process.stdin : (text as string);
      const more = { kmsKeyId, checkAnonymous: !local(), onProgress: progress };
      const result = await storePrivateData(connect(S3Client), { ...object, body, ...more });
      print(result, { size: bytes });
      sayUndo(result);
      const status = result.anonymousStatus ?? 403;
      const refused = status === 403 || (status === 400 && result.kmsKeyId !== null);
      if (!refused) throw new Error(`It is stored, but without credentials the answer is ${status}, not 403.`);
    }),
);
