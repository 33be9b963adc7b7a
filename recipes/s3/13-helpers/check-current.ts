/** Sees whether what was uploaded in parts is what readers get, for 3.13 and 3.22. */
import { HeadObjectCommand, type S3Client } from '@aws-sdk/client-s3';

/**
 * Fails when something else counts as newer than an upload in parts that was completed this moment. To S3 an upload is
 * as old as its beginning: what was written or deleted since may come before it, though the completion is answered as
 * if all were well. A bucket without versions has lost the upload then.
 *
 * @param s3 - Of the bucket's region.
 * @param options.Bucket - Name of the bucket.
 * @param options.Key - Key of the object.
 * @param etag - Of the completed upload.
 * @throws Error when there is another object, or none. Nothing, if you may not see that.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html#distributedmpupload
 */
export async function checkCurrent(s3: S3Client, { Bucket, Key }: { Bucket: string; Key: string }, etag: string) {
  const now = await s3.send(new HeadObjectCommand({ Bucket, Key })).catch((error) => {
    return { ETag: error.name === 'NotFound' ? 'none' : etag };
  });
  if (now.ETag === etag) return;
  throw new Error(
    `s3://${Bucket}/${Key} was uploaded, but is not what readers get: somebody wrote or deleted it since`,
  );
}
