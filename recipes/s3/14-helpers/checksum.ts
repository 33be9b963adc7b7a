/** The checksum that S3 keeps of an object, to compare a file with, for 3.14. */
import { Crc32, Crc32c, Crc64Nvme } from '@aws-sdk/checksums/crc';
import { Md5 } from '@aws-sdk/checksums/md5';
import { Sha1, Sha256, Sha512 } from '@aws-sdk/checksums/sha';
import { Xxh3_64, Xxh3_128, Xxh64 } from '@aws-sdk/checksums/xxh';
import type { HeadObjectOutput } from '@aws-sdk/client-s3';

/** All that S3 knows, by the end of the field's name. */
const algorithms = {
  CRC32: Crc32,
  CRC32C: Crc32c,
  CRC64NVME: Crc64Nvme,
  SHA1: Sha1,
  SHA256: Sha256,
  SHA512: Sha512,
  MD5: Md5,
  XXHASH64: Xxh64,
  XXHASH3: Xxh3_64,
  XXHASH128: Xxh3_128,
};

export interface ObjectChecksum {
  /** `CRC32` */
  algorithm: string;
  /** False where S3 has no checksum of the object but one of its parts' checksums, which no file can be compared with. */
  ofWholeObject: boolean;
  /** Takes the file's next bytes. */
  update: (bytes: Uint8Array) => void;
  /** Whether all the bytes that were taken are the object's. */
  matches: () => Promise<boolean>;
}

/**
 * Finds the checksum in what S3 tells of an object.
 *
 * @param head - The answer to HeadObject with `ChecksumMode: 'ENABLED'`.
 * @returns Null where there is none.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
 *
 * @example
 * const checksum = checksumOf({ ChecksumCRC32: 'DUoRhQ==', ChecksumType: 'FULL_OBJECT' });
 * checksum?.update(Buffer.from('hello world'));
 * console.log(await checksum?.matches()); // true
 */
export function checksumOf(head: Partial<HeadObjectOutput>): ObjectChecksum | null {
  for (const [algorithm, Checksum] of Object.entries(algorithms)) {
    const expected = head[`Checksum${algorithm as keyof typeof algorithms}`];
    if (!expected) continue;
    const checksum = new Checksum();
    return {
      algorithm,
      // One of parts ends in their number, as `…==-12`; older servers tell no type.
      ofWholeObject: head.ChecksumType !== 'COMPOSITE' && !/-\d+$/.test(expected),
      update: (bytes) => checksum.update(bytes),
      matches: async () => Buffer.from(await checksum.digest()).toString('base64') === expected,
    };
  }
  return null;
}
