/** What 3.10 and 3.23 need to sign something for others: a client of the bucket's region, and the end of its credentials. */
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3';
import { findBucketRegion } from '../02-create-bucket-in-region.ts';

/** Makes a client with these settings, and with your own where you have some: `(settings) => new S3Client(settings)`. */
export type ConnectS3 = (settings: S3ClientConfig) => S3Client;

/**
 * What ends something signed: the `time` asked for, the `credentials`, which end earlier, or `unknown` when they are
 * temporary and don't tell their end, so that it may come before.
 */
export type EndedBy = 'time' | 'credentials' | 'unknown';

export interface Signer {
  /** Signs for the bucket's region. */
  s3: S3Client;
  /** For how many seconds: those asked for, or less if the credentials end before. */
  seconds: number;
  endedBy: EndedBy;
}

/**
 * Makes a client that signs for a bucket, and tells for how long that can be good.
 *
 * @param connect - Makes a client.
 * @param options.bucket - Name of the bucket.
 * @param options.expiresIn - For how long something is to be signed, in whole seconds.
 * @throws NotFound when there is no such bucket; Error when the credentials end within the second.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html
 *
 * @example
 * const connect = (settings: object) => new S3Client(settings);
 * const { seconds } = await connectSigner(connect, { bucket: 'my-company-reports', expiresIn: 3600 });
 * console.log(`good for ${seconds} s`);
 */
export async function connectSigner(
  connect: ConnectS3,
  { bucket, expiresIn }: { bucket: string; expiresIn: number },
): Promise<Signer> {
  // Otherwise the SDK signs the checksum of the body that it knows, which is none, and asks for one nobody looks at.
  const settings = {
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  } as const;
  let s3 = connect(settings);

  // The region is part of the signature and of the host name: a signature for another one is worth nothing.
  const region = await findBucketRegion(s3, { bucket });
  if (region !== (await s3.config.region())) s3 = connect({ ...settings, region });

  // What is signed ends with the credentials, whatever it says itself. Long-lived keys have no end.
  const { expiration, sessionToken } = await s3.config.credentials();
  const left = expiration ? Math.floor((expiration.getTime() - Date.now()) / 1000) : Number.POSITIVE_INFINITY;
  if (left < 1) throw new Error('The credentials have expired: what they sign would not work.');
  const endedBy = left < expiresIn ? 'credentials' : sessionToken && !expiration ? 'unknown' : 'time';
  return { s3, seconds: Math.min(expiresIn, left), endedBy };
}
