/**
 * 3.7 Change metadata
 *
 * ## Problem
 * You want to give an object that is in S3 already another content type, cache control or metadata, and keep the rest
 * of it.
 *
 * ## Solution
 * S3 changes nothing in place: the object is copied onto itself with new headers, by 3.6, which keeps what is not
 * changed. Nothing is copied when all is already as you want it.
 *
 * ## Discussion
 * The trap is that S3 replaces headers all together: a copy that sets the content type alone loses all metadata, cache
 * control and the rest, and quietly storage class, encryption, redirect and lock. Here what you don't name stays.
 *
 * The access control list is lost, and a KMS key's encryption context. New buckets have had no lists since 2023, but in
 * an older one that has them still the object becomes private: what strangers could read they can't any more.
 *
 * What somebody else writes meanwhile is not lost: the copy is made only if the object is still the one that was read
 * (`CopySourceIfMatch`, and `IfMatch` for the moment of writing); otherwise S3 answers 412 or 409 and you run it
 * again. They compare the ETag, which tells of another content, not of other metadata: if two change the metadata
 * of one object at the same moment, the later one wins; so does the copy over tags and locks set while it is made in
 * parts, for an object over 5 GiB.
 *
 * In a bucket that keeps versions the result is a new version, under a lock if the old one is; the old one stays, is
 * billed too, and can be brought back (3.29). Elsewhere it can't be undone. Either way the object counts as new: its
 * date changes, and lifecycle rules and the least days of its storage class begin again. It is replicated, and told of
 * by the bucket's notifications: a function that they start, and that changes metadata, can start itself for ever.
 *
 * The ETag changes if the object was uploaded in parts, is encrypted with a KMS key, or is copied in parts because it
 * is over 5 GiB; then it loses its annotations, too. Archived objects must be restored first, and are archived again
 * by this. Those encrypted with SSE-C are refused. What KMS and annotations need is in 3.6.
 *
 * Names of metadata are stored in lower case. All names and values together may have 2 KB, which S3 counts, not this:
 * `MetadataTooLarge`. What is not ASCII is encoded as in 3.4. `--remove` takes a name of metadata, or of one of the six
 * headers; metadata that has the name of a header is meant with `x-amz-meta-` before it. Tags need no copy:
 * PutObjectTagging changes them in place.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @before npx tsx recipes/s3/03-store-private-data.ts s3://paws-example/report.txt "Hello from S3" --local
 * @run npx tsx recipes/s3/07-change-metadata.ts s3://paws-example/report.txt --metadata owner=me --cache-control max-age=3600 --local
 * @output
 *   bucket      paws-example
 *   key         report.txt
 *   version id  -
 *   etag        "e1404e1ab25ab9403efc5dc7af50e8b3"
 *   changed     owner, cache-control
 * @permission s3:GetObject on arn:aws:s3:::BUCKET/*
 * @permission s3:GetObjectTagging on arn:aws:s3:::BUCKET/*
 * @permission s3:GetObjectRetention on arn:aws:s3:::BUCKET/*
 * @permission s3:GetObjectLegalHold on arn:aws:s3:::BUCKET/*
 * @permission s3:PutObject on arn:aws:s3:::BUCKET/*
 * @permission s3:PutObjectTagging on arn:aws:s3:::BUCKET/*
 * @permission s3:PutObjectRetention on arn:aws:s3:::BUCKET/*
 * @permission s3:PutObjectLegalHold on arn:aws:s3:::BUCKET/*
 * @permission s3:AbortMultipartUpload on arn:aws:s3:::BUCKET/*
 * @cost a PUT request and one for each annotation, or one for each part of an object over 5 GiB; in STANDARD_IA,
 *   ONEZONE_IA and GLACIER_IR what reading it costs, and the rest of its least days (3.9); in a bucket with versions the
 *   storage of one more
 * @undo nothing
 * @emulator LocalStack ignores IfMatch in a copy: what is sent is compared. It does not count the 2 KB.
 * @book key.copy → CopyObjectCommand
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
 */
import { S3Client } from '@aws-sdk/client-s3';
import { copyObject } from './06-copy-object.ts';
import { applyChange, type Change, headerFields, readObject } from './06-helpers/properties.ts';

export interface ChangedMetadata {
  bucket: string;
  key: string;
  /** The new version, or the current one when nothing had to change. Null in a bucket that keeps no versions. */
  versionId: string | null;
  etag: string;
  /** Names of the headers and of the metadata that are different now. None when all was as wanted. */
  changed: string[];
}

/**
 * Sets and removes metadata and headers of an object, and keeps all else.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - Name of the bucket.
 * @param options.key - Key of the object.
 * @param options.change - What to set, as `{ contentType: 'text/csv', metadata: { owner: 'me' } }`. Null removes.
 * @param options.remove - Names to remove, of metadata (`owner`, `x-amz-meta-owner`) or headers (`cache-control`).
 * @param options.partSize - Bytes: what is larger is copied in parts of this size. Only over 5 GiB by default.
 * @param options.signal - Stops it.
 * @param options.onProgress - Called with the bytes that are copied.
 * @returns What is there now.
 * @throws RangeError when a name or value can't be sent, when a name is both set and removed, or when nothing is;
 *   NotFound; InvalidObjectState when it is archived; PreconditionFailed or ConditionalRequestConflict when somebody
 *   else wrote the object meanwhile: run it again.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
 *
 * @example
 * const object = { bucket: 'my-company-reports', key: '2026/january.csv' };
 * const { changed } = await changeMetadata(new S3Client({}), { ...object, change: { contentType: 'text/csv' } });
 * console.log(changed.join(', ') || 'it was so already');
 */
export async function changeMetadata(
  s3: S3Client,
  options: {
    bucket: string;
    key: string;
    change?: Change;
    remove?: string[];
    partSize?: number;
    signal?: AbortSignal;
    onProgress?: (done: { bytes: number; total: number }) => void;
  },
): Promise<ChangedMetadata> {
  const { bucket, key, remove = [], ...rest } = options;
  const change = withRemoved(options.change ?? {}, remove);
  const fields = Object.values(headerFields).filter((field) => change[field] !== undefined);
  const named = [...fields, ...Object.keys(change.metadata === null ? { all: null } : (change.metadata ?? {}))];
  if (named.length === 0) throw new RangeError('nothing would change: say what to set or to remove');
  // A name or value that can't be sent shows here, before anything is sent.
  applyChange({}, change);

  const { headers, versionId, etag, missing } = await readObject(s3, { bucket, key, signal: options.signal });
  const { changed } = applyChange(headers, change);
  // All metadata go, and with them what S3 only counts.
  if (missing > 0 && change.metadata === null) changed.push('x-amz-missing-meta');
  if (changed.length === 0) return { bucket, key, versionId, etag, changed };

  // Reads again, and changes what it reads then: between the two nothing can be lost.
  const object = { bucket, key };
  const copy = await copyObject(s3, { ...rest, from: object, to: object, change });
  return { ...object, versionId: copy.versionId, etag: copy.etag, changed };
}

/** Adds to a change the names that are to be removed. */
function withRemoved(change: Change, remove: string[]): Change {
  const result: Change = { ...change };
  for (const given of remove) {
    const name = given.toLowerCase();
    const field = Object.entries(headerFields).find(([header]) => header === name)?.[1];
    const metadata = name.replace(/^x-amz-meta-/, '');
    const set = field
      ? change[field]
      : Object.keys(change.metadata ?? {}).find((one) => one.toLowerCase() === metadata);
    if (set !== undefined && set !== null) throw new RangeError(`${given} can't be both set and removed`);
    if (field) result[field] = null;
    else if (result.metadata !== null) result.metadata = { ...result.metadata, [metadata]: null };
  }
  return result;
}

// ---- command line: leave out when copying ----
import { connect, interrupted, print, recipe, s3Object, transferred } from '../../shared/cli.ts';
import { patient } from './06-helpers/patient.ts';

recipe(import.meta, (command) =>
  command
    .argument('<object>', 's3://BUCKET/KEY', s3Object)
    .option('--metadata <name=value...>', 'set metadata')
    .option('--content-type <type>', 'such as text/csv')
    .option('--cache-control <text>', 'such as max-age=3600')
    .option('--content-disposition <text>', 'such as \'attachment; filename="report.csv"\'')
    .option('--content-encoding <text>', 'such as gzip')
    .option('--content-language <text>', 'such as de')
    .option('--expires <date>', 'such as "Tue, 01 Jan 2030 00:00:00 GMT"')
    .option('--remove <name...>', 'remove metadata or headers, such as owner or cache-control')
    .action(async ({ bucket, key }, { remove, metadata: pairs = [], ...headers }) => {
      const metadata = Object.fromEntries(pairs.map((pair) => pair.split(/=(.*)/s, 2)));
      const change = { ...headers, metadata };
      const stoppable = { signal: interrupted(), onProgress: transferred };
      print(await changeMetadata(connect(S3Client, patient), { bucket, key, change, remove, ...stoppable }));
    }),
);
