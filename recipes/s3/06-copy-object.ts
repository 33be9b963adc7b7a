/**
 * 3.6 Copy an object
 *
 * ## Problem
 * You want an object in another bucket, in another region or under another key, with all that S3 keeps with it, and
 * without moving its bytes through your machine.
 *
 * ## Solution
 * Read what the object has, and let S3 copy it in one call, saying again what that call forgets. S3 copies at most
 * 5 GiB so; larger objects are copied in parts, several at once. Compare size and checksum of both at the end.
 *
 * ## Discussion
 * CopyObject keeps metadata, headers and tags. It forgets storage class, encryption, website redirect and Object Lock,
 * and gives the copy the defaults of the bucket; told to replace one header it drops all others. Here all are kept,
 * and `change` replaces just what it names. Copied in parts, even metadata and tags are lost unless they are set again.
 * Only encryption by S3's own keys (AES256), which objects have unasked, gives way to the default of another bucket.
 *
 * An object that is there already is overwritten, as with every upload; in a bucket with versions it becomes an older
 * version, and 3.29 brings it back: the undo below only hides the copy. Directory buckets are refused. Copying onto
 * itself is refused unless something changes: then nothing is lost that somebody writes at the same time (3.7). If the
 * source is overwritten meanwhile, S3 refuses the copy (412). A copy in parts that fails or is stopped removes its
 * parts; those of a killed process, or of a copy inside S3 that ends only after that, stay, and are billed, until 3.21
 * or a rule (3.17) removes them.
 *
 * Not kept: access control lists (the copy is private), the encryption context of a KMS key, versions, the date. The
 * ETag is another one where the parts differ or a KMS key is used. Annotations come along with CopyObject, which takes
 * `s3:GetObjectAnnotation` and `s3:PutObjectAnnotation`; a copy in parts has none.
 *
 * A lock that is kept keeps the copy, too: in compliance mode nobody can delete it before the date. `--no-lock` leaves
 * it out, as a bucket without Object Lock needs it. One whose date is over is not set again, and one that you may not
 * read (`s3:GetObjectRetention`, `s3:GetObjectLegalHold`) is not shown, and so not kept.
 *
 * The client is of the destination's region, and S3 fetches from any that is on for your account; but not through a
 * VPC endpoint. While it copies S3 may say nothing for minutes: with a `socketTimeout` of less, the SDK begins again.
 * A Requester Pays bucket of another account is not read. What the source has can be read only by a client of its region: 3.2 finds it. A KMS key is of one
 * region: elsewhere name another by `--kms-key-id`. KMS needs `kms:Decrypt` for both keys and `kms:GenerateDataKey` for
 * the copy's. Objects encrypted with a key of your own (SSE-C) are refused. Archived ones (GLACIER, DEEP_ARCHIVE) must
 * be restored first, and their copy goes back to the archive unless `--storage-class` names another. An object with
 * metadata that S3 does not show (3.4) is refused where something is changed or it is copied in parts;
 * `--no-metadata` leaves all metadata out.
 *
 * A `?`, `+` or `%` in a key is the classic trap: the SDK does not encode `CopySource`. Here every key works, and a
 * version is named by an option, since `?versionId=` can be part of a key.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @before npx tsx recipes/s3/03-store-private-data.ts s3://paws-example/report.txt "Hello from S3" --local
 * @run npx tsx recipes/s3/06-copy-object.ts s3://paws-example/report.txt s3://paws-example/copy.txt --local
 * @output
 *   bucket      paws-example
 *   key         copy.txt
 *   version id  -
 *   size        13 B
 *   etag        "e1404e1ab25ab9403efc5dc7af50e8b3"
 *   parts       1
 *   checksum    SHA256
 * @permission s3:ListBucket on arn:aws:s3:::SOURCE
 * @permission s3:GetObject on arn:aws:s3:::SOURCE/*
 * @permission s3:GetObjectTagging on arn:aws:s3:::SOURCE/*
 * @permission s3:GetObjectVersion on arn:aws:s3:::SOURCE/*
 * @permission s3:GetObjectVersionTagging on arn:aws:s3:::SOURCE/*
 * @permission s3:GetObjectRetention on arn:aws:s3:::SOURCE/*
 * @permission s3:GetObjectLegalHold on arn:aws:s3:::SOURCE/*
 * @permission s3:GetObject on arn:aws:s3:::DESTINATION/*
 * @permission s3:PutObject on arn:aws:s3:::DESTINATION/*
 * @permission s3:PutObjectTagging on arn:aws:s3:::DESTINATION/*
 * @permission s3:PutObjectRetention on arn:aws:s3:::DESTINATION/*
 * @permission s3:PutObjectLegalHold on arn:aws:s3:::DESTINATION/*
 * @permission s3:AbortMultipartUpload on arn:aws:s3:::DESTINATION/*
 * @cost the copy's storage, and a PUT request for it or for each part, and for each annotation; between regions the
 *   transfer; from STANDARD_IA, ONEZONE_IA and GLACIER_IR what reading costs (3.9)
 * @undo npx tsx recipes/setup/16-delete-resource.ts s3://{bucket}/{key} --local --yes
 * @emulator LocalStack ignores IfMatch of the destination, drops Expires in a copy, and has one region's servers for
 *   all: what is sent is compared there.
 * @book key.copy → CopyObjectCommand, UploadPartCopyCommand
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/CopyingObjectsMPUapi.html
 */
import { CopyObjectCommand, S3Client, type StorageClass } from '@aws-sdk/client-s3';
import { copyInParts } from './06-helpers/copy-in-parts.ts';
import {
  applyChange,
  type Change,
  type ObjectName,
  readObject,
  readTags,
  settingsFor,
} from './06-helpers/properties.ts';

export interface CopiedObject {
  bucket: string;
  key: string;
  /** Null in a bucket that keeps no versions. */
  versionId: string | null;
  /** Bytes */
  size: number;
  etag: string;
  /** In how many parts it was copied: 1 is one call. */
  parts: number;
  /** Algorithm of the checksum that is the same for both; null where S3 has none to compare, only the size. */
  checksum: string | null;
}

export interface CopyOptions {
  /** What to copy. */
  from: ObjectName;
  /** Where to; an object that is there is overwritten. */
  to: { bucket: string; key: string };
  /** A client that reads the source: of its region. The same client by default. */
  source?: S3Client;
  /** What to change in the copy; the rest is kept. `{ metadata: null }` leaves all metadata out. Nothing by default. */
  change?: Change;
  /** The source's by default. */
  storageClass?: StorageClass;
  /** Key, of the destination's region, to encrypt the copy with. By default the source's, if it has one. */
  kmsKeyId?: string;
  /** False leaves retention, legal hold and event hold out. True by default. */
  lock?: boolean;
  /**
   * Bytes, 5 MiB to 5 GiB: what is larger is copied in parts of this size. By default only what is over 5 GiB, in
   * parts of 256 MiB or what makes 10,000 parts.
   */
  partSize?: number;
  /** How many parts are copied at once. 8 by default. */
  concurrency?: number;
  /** Stops the copy. */
  signal?: AbortSignal;
  /** Called with the bytes that are copied. */
  onProgress?: (done: { bytes: number; total: number }) => void;
}

const MiB = 2 ** 20;
const GiB = 2 ** 30;

/**
 * Copies one object of any size, with all that S3 keeps with it, and compares the two.
 *
 * @param s3 - Of the region of the bucket to copy to.
 * @param options - What, where to, and what is to be different.
 * @returns The copy, and how it was compared.
 * @throws RangeError when the copy would be the object itself, unchanged, for an empty option, parts that S3 refuses, a
 *   concurrency below 1, a directory bucket, or a KMS key of another region; NotFound; PreconditionFailed when either
 *   object was overwritten meanwhile; InvalidObjectState when it is archived; Error when metadata that S3 does not show
 *   would be lost. The message says so where the object is copied all the same.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
 *
 * @example
 * const [from, to] = [{ bucket: 'my-company-reports', key: 'a.csv' }, { bucket: 'my-company-archive', key: '2026/a.csv' }];
 * const { size } = await copyObject(new S3Client({}), { from, to, storageClass: 'STANDARD_IA' });
 * console.log(`${size} bytes copied`);
 */
export async function copyObject(s3: S3Client, options: CopyOptions): Promise<CopiedObject> {
  const { from, to, source = s3, change = {}, storageClass, kmsKeyId, lock = true, partSize, signal } = options;
  const { concurrency = 8, onProgress } = options;
  const itself = from.bucket === to.bucket && from.key === to.key && from.versionId === undefined;
  const changes = Object.values(change).some((value) => value !== undefined);
  // An empty variable of a script must not be taken for nothing that is wanted.
  const given = { 'version id': from.versionId, 'storage class': storageClass, 'KMS key id': kmsKeyId };
  for (const [name, value] of Object.entries(given)) if (value === '') throw new RangeError(`the ${name} is empty`);
  if (itself && !changes && !storageClass && !kmsKeyId) {
    throw new RangeError(`s3://${to.bucket}/${to.key} would be copied onto itself, and nothing would change`);
  }
  for (const { bucket } of [from, to]) {
    // They take neither storage classes nor tags, locks and annotations.
    if (/--xa?-s3$/.test(bucket)) throw new RangeError(`${bucket} is a directory bucket`);
  }
  if (partSize !== undefined && !(Number.isInteger(partSize) && partSize >= 5 * MiB && partSize <= 5 * GiB)) {
    throw new RangeError(`a part has 5 MiB to 5 GiB, in whole bytes, not ${partSize} bytes`);
  }
  if (!(Number.isInteger(concurrency) && concurrency > 0))
    throw new RangeError(`concurrency is 1 or more, not ${concurrency}`);

  const object = await readObject(source, { ...from, signal });
  const { size, etag } = object;
  const inParts = size > (partSize ?? 5 * GiB);
  // S3 itself copies what it does not show.
  if (object.missing > 0 && (changes || inParts) && change.metadata !== null) {
    throw new Error(`s3://${from.bucket}/${from.key} has metadata that no HTTP header can carry to a copy`);
  }
  const { headers } = applyChange(object.headers, change);
  const region = await s3.config.region();
  const sameBucket = from.bucket === to.bucket;
  const kept = settingsFor(object.settings, { storageClass, kmsKeyId, lock, region, sameBucket });
  const request = {
    ...kept,
    Bucket: to.bucket,
    Key: to.key,
    CopySource: copySource(from),
    // Whoever writes meanwhile must not have it mixed up with this copy, nor, where it is the same object, lose it.
    CopySourceIfMatch: etag,
    IfMatch: itself ? etag : undefined,
  };
  onProgress?.({ bytes: 0, total: size });
  let made: { etag: string | undefined; parts: number };
  if (inParts) {
    const Tagging = await readTags(source, { ...from, signal });
    const settings = { ...request, ...headers, Tagging };
    made = await copyInParts(s3, { ...object, settings, partSize, concurrency, signal, onProgress });
  } else {
    const replaced = changes ? { ...headers, MetadataDirective: 'REPLACE' as const } : {};
    const command = new CopyObjectCommand({ ...request, ...replaced });
    const { CopyObjectResult } = await s3.send(command, { abortSignal: signal }).catch((error) => {
      const { name: kind, code, $metadata } = error;
      // An answer that was lost, also one to a first try, after which the object is not the same any more.
      const isLost = $metadata?.attempts > 1 && kind === 'PreconditionFailed';
      const isSent = $metadata && !/^(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ERR_INVALID_CHAR)$/.test(code);
      if (!signal?.aborted && !isLost && (!isSent || $metadata.httpStatusCode)) throw error;
      const reason = signal?.aborted ? `${signal.reason?.message ?? signal.reason}` : `${error.message};`;
      const message = `${reason} s3://${to.bucket}/${to.key} may be copied or not.`;
      const name = signal?.aborted ? 'AbortError' : kind;
      throw Object.assign(new Error(message, { cause: error }), { name });
    });
    made = { etag: CopyObjectResult?.ETag, parts: 1 };
  }

  // By its ETag: what somebody else has written since is not compared. It is done, so no signal stops this.
  const copy = await readObject(s3, { ...to, etag: made.etag }).catch((cause) => {
    const told = `s3://${to.bucket}/${to.key} is copied, but could not be compared: ${cause.message}`;
    throw Object.assign(new Error(told, { cause }), { name: cause.name });
  });
  const known = object.checksum?.algorithm === copy.checksum?.algorithm ? object.checksum : null;
  if (copy.size !== size || (known && known.value !== copy.checksum?.value)) {
    throw new Error(`s3://${to.bucket}/${to.key} is not the same as its source: delete it and copy again`);
  }
  onProgress?.({ bytes: size, total: size });
  const { versionId, etag: copied } = copy;
  return { ...to, versionId, size, etag: copied, parts: made.parts, checksum: known?.algorithm ?? null };
}

/** The source as the header wants it: each part of the path encoded, which the SDK leaves to you. */
function copySource({ bucket, key, versionId }: ObjectName): string {
  const path = [bucket, ...key.split('/')].map(encodeURIComponent).join('/');
  return versionId === undefined ? path : `${path}?versionId=${encodeURIComponent(versionId)}`;
}

// ---- command line: leave out when copying ----
import { bytes, connect, interrupted, print, recipe, s3Object, sayUndo, transferred } from '../../shared/cli.ts';
import { findBucketRegion } from './02-create-bucket-in-region.ts';
import { patient } from './06-helpers/patient.ts';

recipe(import.meta, (command) =>
  command
    .argument('<from>', 's3://BUCKET/KEY to copy', s3Object)
    .argument('<to>', 's3://BUCKET/KEY of the copy', s3Object)
    .option('--version-id <id>', 'copy this version')
    .option('--storage-class <class>', "the copy's storage class, such as STANDARD_IA", (name) => name as StorageClass)
    .option('--kms-key-id <id>', 'encrypt the copy with this key')
    .option('--no-metadata', 'leave the metadata out')
    .option('--no-lock', 'leave retention, legal hold and event hold out')
    .option('--part-size <mebibytes>', 'copy in parts of this size what is larger', (size) => Number(size) * MiB)
    .action(async (from, to, { versionId, metadata, ...options }) => {
      const [s3, signal] = [connect(S3Client, patient), interrupted()];
      const elsewhere = from.bucket !== to.bucket;
      const source = elsewhere ? connect(S3Client, { region: await findBucketRegion(s3, { ...from, signal }) }) : s3;
      const result = await copyObject(s3, {
        ...options,
        ...{ from: { ...from, versionId }, to, source, signal },
        change: metadata ? {} : { metadata: null },
        onProgress: transferred,
      });
      print(result, { size: bytes });
      // Onto itself, the copy is all there is.
      if (elsewhere || from.key !== to.key) sayUndo(result);
    }),
);
