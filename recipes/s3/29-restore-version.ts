/**
 * 3.29 Restore an older version
 *
 * ## Problem
 * An object was overwritten or deleted in a bucket that keeps versions (3.11). You want to see what there was, and
 * have one of it back.
 *
 * ## Solution
 * List the versions of the key, the newest first. Name one, with `--version-id`, and it is copied onto the key: the
 * copy becomes the current version and the others stay, so that this can be taken back the same way.
 *
 * ## Discussion
 * The other way to go back is to delete what is newer, and that is for good: here nothing is deleted. But a lifecycle
 * rule that keeps only so many old versions deletes the oldest, as there is one more now. To bring back an object that
 * was only deleted, remove its delete marker (3.19); that takes no copy. For many keys at once, 3.19 brings back a
 * whole prefix as it was at a time.
 *
 * `--previous` takes the newest version that is not the current one. Run twice it goes back to where you began: in a
 * script name the version.
 *
 * The copy is a new version with an id of its own, billed like any other. It is made within S3 (3.6), of any size:
 * content, headers, metadata, tags, storage class and encryption are the old version's. An Object Lock is not copied:
 * a default retention of the bucket applies. In a bucket that has access control lists still, the copy is private. A
 * version that has tags needs `s3:PutObjectTagging`, too, and one that is encrypted with a KMS key needs that key, with
 * `kms:Decrypt` and `kms:GenerateDataKey`; what annotations take, 3.6 says. One that is encrypted with SSE-C can't be restored here.
 *
 * Where versioning is suspended, the copy would replace the version with the id `null` for good. That is refused here:
 * turn versioning on first. A version in the archive (`GLACIER`, `DEEP_ARCHIVE`, the archive tiers of
 * `INTELLIGENT_TIERING`) must be restored from there before it can be copied: `InvalidObjectState` or
 * `ObjectNotInActiveTierError`. Its copy is `STANDARD`: in the archive it could not be read.
 *
 * Times are to the second. Of an object uploaded in parts it is the time when the upload began, which can be long
 * before it became visible. S3 lists versions and delete markers in one order, but the SDK hands them out as two
 * lists; where both have the same second, their order here is a guess, except for the current one.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @before npx tsx recipes/s3/11-prevent-deletion.ts paws-example --local
 * @before npx tsx recipes/s3/03-store-private-data.ts s3://paws-example/report.txt "some text" --local
 * @run npx tsx recipes/s3/29-restore-version.ts s3://paws-example/report.txt --local
 * @output
 *   version id                        last modified            is latest  delete marker  size  storage class  etag
 *   AaIg5_iAJn_Tt5w1eOIbNvEEr3rQdekp  2026-11-28 06:53:57 UTC  yes        no             9 B   STANDARD       "552e21cd4cd9918678e3c1a0df491bc3"
 * @permission s3:ListBucketVersions on arn:aws:s3:::BUCKET
 * @permission s3:GetBucketVersioning on arn:aws:s3:::BUCKET
 * @permission s3:GetObject on arn:aws:s3:::BUCKET/*
 * @permission s3:GetObjectVersion on arn:aws:s3:::BUCKET/*
 * @permission s3:GetObjectVersionTagging on arn:aws:s3:::BUCKET/*
 * @permission s3:PutObject on arn:aws:s3:::BUCKET/*
 * @permission s3:AbortMultipartUpload on arn:aws:s3:::BUCKET/*
 * @cost a copy, and its storage like that of every older version; from STANDARD_IA, ONEZONE_IA and GLACIER_IR what
 *   reading costs, too (3.9)
 * @undo nothing
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/RestoringPreviousVersions.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
 */
import { GetBucketVersioningCommand, ListObjectVersionsCommand, S3Client } from '@aws-sdk/client-s3';
import { copyObject } from './06-copy-object.ts';

/** A version of an object, or a delete marker. */
export interface ObjectVersion {
  key: string;
  /** `null`, as a word, for what was written before versioning or while it was suspended. */
  versionId: string;
  lastModified: Date;
  /** Whether it is the current one, which is read when no version is named. */
  isLatest: boolean;
  deleteMarker: boolean;
  /** In bytes; a delete marker has none of what follows. */
  size: number | null;
  storageClass: string | null;
  etag: string | null;
}

export interface RestoredVersion {
  bucket: string;
  key: string;
  /** The older version that was copied. */
  restored: string;
  /** The version that is current now: the copy. */
  versionId: string;
  /** False when the version was the current one already; nothing is copied then. */
  changed: boolean;
}

/**
 * Makes an older version of an object the current one again, by a copy of it.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - Name of a bucket whose versioning is on.
 * @param options.key - Key of the object, deleted or not.
 * @param options.versionId - The version to restore. By default the newest one that isn't current.
 * @param options.signal - Stops it; a copy that S3 has begun may be made all the same.
 * @throws RangeError when the version's id is empty; NoSuchVersion when there is none.
 * @throws Error when versioning is not on, or the version is a delete marker.
 * @throws InvalidObjectState or ObjectNotInActiveTierError when the version is archived.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
 *
 * @example
 * const s3 = new S3Client({});
 * const { restored } = await restoreVersion(s3, { bucket: 'my-company-reports', key: 'july.pdf' });
 * console.log(`back to ${restored}`);
 */
export async function restoreVersion(
  s3: S3Client,
  { bucket, key, versionId, signal }: { bucket: string; key: string; versionId?: string; signal?: AbortSignal },
): Promise<RestoredVersion> {
  if (versionId === '') throw new RangeError('the version has no id');
  const { Status } = await s3.send(new GetBucketVersioningCommand({ Bucket: bucket }), { abortSignal: signal });
  if (Status !== 'Enabled') {
    throw new Error(
      `Versioning of ${bucket} is not on, so a copy could replace a version for good: turn it on (3.11).`,
    );
  }

  let found: ObjectVersion | undefined;
  for await (const version of listVersions(s3, { bucket, prefix: key, signal })) {
    // The key itself comes before the longer ones that begin with it.
    if (version.key !== key) break;
    const wanted = versionId ? version.versionId === versionId : !version.isLatest && !version.deleteMarker;
    if (wanted) found = version;
    if (found) break;
  }
  if (!found) {
    const message = `${key} has no ${versionId ? `version ${versionId}` : 'older version'}.`;
    throw Object.assign(new Error(message), { name: 'NoSuchVersion' });
  }
  const { versionId: restored } = found;
  if (found.deleteMarker)
    throw new Error(`${restored} of ${key} is a delete marker: there is nothing in it to restore.`);
  if (found.isLatest) return { bucket, key, restored, versionId: restored, changed: false };

  const to = { bucket, key };
  const from = { ...to, versionId: restored };
  const copy = await copyObject(s3, { from, to, storageClass: readableClass(found), lock: false, signal });
  return { bucket, key, restored, versionId: copy.versionId ?? 'null', changed: true };
}

/**
 * Which storage class the copy of a version gets: its own, but for those in which it could not be read.
 *
 * @param version - The version, as it was listed.
 * @returns `STANDARD`, or undefined for the version's own.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects.html
 *
 * @example
 * console.log(readableClass({ storageClass: 'DEEP_ARCHIVE' })); // STANDARD
 */
export function readableClass({ storageClass }: Pick<ObjectVersion, 'storageClass'>): 'STANDARD' | undefined {
  return storageClass === 'GLACIER' || storageClass === 'DEEP_ARCHIVE' ? 'STANDARD' : undefined;
}

/**
 * Lists the versions and delete markers in a bucket, by key, and of each key the newest first.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - Name of the bucket.
 * @param options.prefix - Only keys that begin so. All by default.
 * @param options.signal - Ends the listing.
 * @returns One after the other; no more than two pages, each of up to a thousand, are held. The next page is there
 *   before the first of a page is handed out, so that what was handed out may be deleted meanwhile.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
 *
 * @example
 * const s3 = new S3Client({});
 * const versions = listVersions(s3, { bucket: 'my-company-reports', prefix: '2026/' });
 * for await (const { key, versionId } of versions) console.log(key, versionId);
 */
export async function* listVersions(
  s3: S3Client,
  { bucket, prefix, signal }: { bucket: string; prefix?: string; signal?: AbortSignal },
): AsyncGenerator<ObjectVersion> {
  const list = async (KeyMarker?: string, VersionIdMarker?: string) => {
    const input = { Bucket: bucket, Prefix: prefix, KeyMarker, VersionIdMarker, EncodingType: 'url' as const };
    const page = await s3.send(new ListObjectVersionsCommand(input), { abortSignal: signal });
    // Not every character fits into XML, so S3 was asked to encode keys; there a space is a plus.
    const decode = (key = '') => (page.EncodingType === 'url' ? decodeURIComponent(key.replaceAll('+', ' ')) : key);
    const read = (entries: Entry[] = [], deleteMarker: boolean): ObjectVersion[] =>
      entries.map(({ Key, VersionId = 'null', LastModified = new Date(0), IsLatest = false, ...entry }) => ({
        ...{ key: decode(Key), versionId: VersionId, lastModified: LastModified, isLatest: IsLatest, deleteMarker },
        ...{ size: entry.Size ?? null, storageClass: entry.StorageClass ?? null, etag: entry.ETag ?? null },
      }));
    if (page.IsTruncated && !page.NextKeyMarker) throw new Error('S3 does not say where the list goes on.');
    const next = page.IsTruncated ? ([decode(page.NextKeyMarker), page.NextVersionIdMarker] as const) : null;
    return { next, versions: read(page.Versions, false), markers: read(page.DeleteMarkers, true) };
  };

  // The SDK has no paginator for this list.
  for (let page = await list(); ; ) {
    const next = page.next && (await list(...page.next));
    yield* merge(page.versions, page.markers);
    if (!next) return;
    page = next;
  }
}

type Entry = Partial<Record<'Key' | 'VersionId' | 'StorageClass' | 'ETag', string>> & {
  LastModified?: Date;
  IsLatest?: boolean;
  Size?: number;
};

/** Puts versions and markers, each in S3's own order, into the one order that they had before the SDK parted them. */
function* merge(versions: ObjectVersion[], markers: ObjectVersion[]): Generator<ObjectVersion> {
  const [left, right] = [[...versions].reverse(), [...markers].reverse()];
  for (;;) {
    const [version, marker] = [left.at(-1), right.at(-1)];
    if (!version || !marker) break;
    // S3 sorts keys by their bytes. Of one key the current one is first; in one second the version counts as newer.
    const order = Buffer.compare(Buffer.from(version.key), Buffer.from(marker.key));
    const newer = marker.isLatest || (!version.isLatest && marker.lastModified > version.lastModified);
    yield (order < 0 || (order === 0 && !newer) ? left.pop() : right.pop()) as ObjectVersion;
  }
  yield* [...left.reverse(), ...right.reverse()];
}

// ---- command line: leave out when copying ----
import { bytes, connect, interrupted, print, recipe, s3Object } from '../../shared/cli.ts';
import { patient } from './06-helpers/patient.ts';

recipe(import.meta, (command) =>
  command
    .argument('<object>', 's3://BUCKET/KEY', s3Object)
    .option('--version-id <id>', 'restore this version')
    .option('--previous', 'restore the newest version that is not the current one')
    .action(async ({ bucket, key }, { versionId, previous }) => {
      const [s3, signal] = [connect(S3Client, patient), interrupted()];
      if (versionId !== undefined || previous) {
        print(await restoreVersion(s3, { bucket, key, versionId, signal }));
        return;
      }
      const versions = [];
      for await (const { key: found, ...version } of listVersions(s3, { bucket, prefix: key, signal })) {
        if (found !== key) break;
        versions.push(version);
      }
      if (versions.length === 0) throw new Error(`There is no version of ${key} in ${bucket}.`);
      print(versions, { size: bytes });
    }),
);
