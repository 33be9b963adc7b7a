/** Finds the uploads in parts that were begun and not finished, for 3.13. */
import {
  ListMultipartUploadsCommand,
  type ListMultipartUploadsCommandOutput,
  type MultipartUpload,
  type S3Client,
} from '@aws-sdk/client-s3';

/**
 * The unfinished uploads to a key that are of the kind that 3.13 begins.
 *
 * @param s3 - Of the bucket's region.
 * @param options.Bucket - Name of the bucket.
 * @param options.Key - Key that the object would have.
 * @param abortSignal - Stops it.
 * @returns The uploads, the oldest first.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html
 */
export async function listUploads(
  s3: S3Client,
  { Bucket, Key }: { Bucket: string; Key: string },
  abortSignal?: AbortSignal,
): Promise<MultipartUpload[]> {
  const all: MultipartUpload[] = [];
  const input = { Bucket, Prefix: Key, EncodingType: 'url' as const };
  let next: { KeyMarker?: string; UploadIdMarker?: string } | null = {};
  while (next) {
    const list = new ListMultipartUploadsCommand({ ...input, ...next });
    const page: ListMultipartUploadsCommandOutput = await s3.send(list, { abortSignal });
    const { Uploads = [], EncodingType, IsTruncated, NextKeyMarker, NextUploadIdMarker } = page;
    const decode = (key = '') => (EncodingType ? decodeURIComponent(key.replaceAll('+', ' ')) : key);
    all.push(...Uploads.filter((upload) => decode(upload.Key) === Key));
    // Sorted by their keys, those to this very key come before all that only begin so.
    // Another server than S3 may pay no heed to the mark, and tell the same page again.
    const isNew: boolean = NextUploadIdMarker !== next.UploadIdMarker;
    const hasMore: boolean = isNew && IsTruncated === true && decode(NextKeyMarker) === Key;
    next = hasMore ? { KeyMarker: Key, UploadIdMarker: NextUploadIdMarker } : null;
  }
  const age = ({ Initiated }: MultipartUpload) => Initiated?.getTime() ?? 0;
  return all
    .filter(({ ChecksumAlgorithm, ChecksumType }) => ChecksumAlgorithm === 'CRC32' && ChecksumType === 'FULL_OBJECT')
    .sort((a, b) => age(a) - age(b));
}
