/** What is stored under a key, seen by a client of the test's own and not by the recipe that stored it. */
import { createHash } from 'node:crypto';
import { GetObjectCommand, HeadObjectCommand, type S3Client } from '@aws-sdk/client-s3';

export const sha = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** Reads an object: the hash of its bytes, as `sha` makes it, the checksum that the server has of it, and its type. */
export async function readStored(client: S3Client, bucket: string, key: string) {
  const object = { Bucket: bucket, Key: key };
  const { Body } = await client.send(new GetObjectCommand(object));
  const hash = createHash('sha256');
  for await (const chunk of Body as AsyncIterable<Uint8Array>) hash.update(chunk);
  const head = await client.send(new HeadObjectCommand({ ...object, ChecksumMode: 'ENABLED' }));
  return {
    sha: hash.digest('hex'),
    checksum: head.ChecksumCRC32,
    checksumType: head.ChecksumType,
    type: head.ContentType,
  };
}
