/** Copies an object in parts, for 3.6: what S3 does not copy in one call. */
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  AbortMultipartUploadCommand,
  type ChecksumAlgorithm,
  CompleteMultipartUploadCommand,
  type CopyObjectCommandInput,
  CreateMultipartUploadCommand,
  type S3Client,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3';
import pMap from 'p-map';
import { undo } from '../../../shared/undo.ts';
import { whileRefused } from '../../ec2/01-helpers/while-refused.ts';
import { type ReadObject, readObject } from './properties.ts';

const MiB = 2 ** 20;
/** All parts would be lost with one that S3 is too busy for, longer than the SDK's own tries last. */
const busy = { names: ['InternalError', 'ServiceUnavailable', 'SlowDown'], tries: 6, seconds: 5 };

/**
 * Copies an object by several calls at once, each for one part.
 *
 * @param s3 - Of the region of the bucket to copy to.
 * @param options.settings - What CopyObject would get, with all headers and tags: nothing is copied by itself here.
 * @param options.size - Bytes of the source.
 * @param options.checksum - Of the whole source; S3 compares it, if it is a CRC.
 * @param options.partSize - Bytes. 256 MiB by default, or what makes 10,000 parts.
 * @param options.concurrency - How many parts are copied at once.
 * @param options.signal - Stops the copy; then the upload is aborted.
 * @param options.onProgress - Called with the bytes that are copied.
 * @returns The copy's ETag, and how many parts it has.
 * @throws RangeError when it would be over 10,000 parts. An error that names the upload if it could not be aborted, or
 *   the copy if it may be there.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html
 *
 * @example
 * const [from, settings] = ['reports/a.csv', { Bucket: 'archive', Key: 'a.csv', CopySource: 'reports/a.csv' }];
 * const { parts } = await copyInParts(new S3Client({}), { settings, size: 6e9, checksum: null, concurrency: 8 });
 * console.log(`${from} copied in ${parts} parts`);
 */
export async function copyInParts(
  s3: S3Client,
  options: Pick<ReadObject, 'size' | 'checksum'> & {
    settings: CopyObjectCommandInput;
    partSize?: number;
    concurrency: number;
    signal?: AbortSignal;
    onProgress?: (done: { bytes: number; total: number }) => void;
  },
): Promise<{ etag: string | undefined; parts: number }> {
  const { size, checksum, concurrency, signal, onProgress } = options;
  const { partSize = Math.max(256 * MiB, Math.ceil(size / 10_000 / MiB) * MiB) } = options;
  const { CopySource, CopySourceIfMatch, IfMatch, ...settings } = options.settings;
  const parts = Math.ceil(size / partSize);
  if (parts > 10_000) throw new RangeError(`${parts} parts are more than the 10,000 that S3 takes: make them larger`);

  // Only of these can S3 make a checksum of the whole from those of the parts.
  const crc = checksum && /^CRC/.test(checksum.algorithm) ? checksum : null;
  const ChecksumAlgorithm = (crc?.algorithm ?? 'CRC64NVME') as ChecksumAlgorithm;
  const whole = { ChecksumAlgorithm, ChecksumType: 'FULL_OBJECT' } as const;
  // Without the signal: an upload whose id is not waited for could not be aborted.
  signal?.throwIfAborted();
  const { UploadId } = await s3.send(new CreateMultipartUploadCommand({ ...settings, ...whole }));
  const upload = { Bucket: settings.Bucket, Key: settings.Key, UploadId };
  const object = `s3://${upload.Bucket}/${upload.Key}`;
  // The first part that fails stops the others.
  const failed = new AbortController();
  const abortSignal = AbortSignal.any([failed.signal, ...(signal ? [signal] : [])]);
  setMaxListeners(0, abortSignal);
  let isMaybeDone = false;
  try {
    signal?.throwIfAborted();
    let done = 0;
    const copyPart = async (PartNumber: number) => {
      const first = (PartNumber - 1) * partSize;
      const last = Math.min(first + partSize, size) - 1;
      const source = { CopySource, CopySourceIfMatch, CopySourceRange: `bytes=${first}-${last}` };
      const command = new UploadPartCopyCommand({ ...upload, ...source, PartNumber });
      try {
        const send = () => s3.send(command, { abortSignal });
        const { CopyPartResult } = await whileRefused(send, { ...busy, signal: abortSignal });
        done += last - first + 1;
        onProgress?.({ bytes: done, total: size });
        return { ...CopyPartResult, PartNumber };
      } catch (error) {
        failed.abort(error);
        throw error;
      }
    };
    const numbers = Array.from({ length: parts }, (_, index) => index + 1);
    const Parts = await pMap(numbers, copyPart, { concurrency }).catch(() => {
      throw failed.signal.reason;
    });

    // S3 itself compares the size and the checksum. From here on it is too late to stop.
    const expected = { ChecksumType: whole.ChecksumType, ...(crc && { [`Checksum${crc.algorithm}`]: crc.value }) };
    const complete = { ...upload, ...expected, IfMatch, MpuObjectSize: size, MultipartUpload: { Parts } };
    let tries = 0;
    const finish = () => {
      tries++;
      return s3.send(new CompleteMultipartUploadCommand(complete));
    };
    const { ETag } = await whileRefused(finish, busy).catch(async (error) => {
      // When an answer is lost it is asked again, and there is no upload any more: the copy may be there.
      const isGone = error.name === 'NoSuchUpload' && (tries > 1 || error.$metadata.attempts !== 1);
      isMaybeDone = isGone || !(error.$metadata?.httpStatusCode < 500);
      if (!isGone) throw error;
      const { etag } = await readObject(s3, { bucket: `${upload.Bucket}`, key: `${upload.Key}` });
      isMaybeDone = etag.endsWith(`-${parts}"`);
      if (!isMaybeDone) throw error;
      return { ETag: etag };
    });
    return { etag: ETag, parts };
  } catch (error) {
    let isUnfinished = false;
    const abort = () =>
      s3.send(new AbortMultipartUploadCommand(upload)).catch((failure) => {
        if (failure.name !== 'NoSuchUpload') throw failure;
        return null;
      });
    const remove = async () => {
      isUnfinished = (await abort()) !== null;
      // S3 may still be at a part whose answer is not waited for any more, and would keep it until the next abort.
      if (abortSignal.aborted) await sleep(1000).then(abort);
    };
    const left = await undo([{ id: `the unfinished upload ${UploadId} of ${object}`, remove }], error);
    if (!isMaybeDone || isUnfinished) throw left;
    throw Object.assign(new Error(`${left.message}; ${object} may be copied`, { cause: error }), { name: left.name });
  }
}
