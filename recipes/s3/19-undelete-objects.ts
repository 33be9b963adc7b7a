/**
 * 3.19 Undelete objects
 *
 * ## Problem
 * Objects were deleted, or overwritten, in a bucket that keeps versions (3.11). You want them back, as they were before
 * somebody's script ran.
 *
 * ## Solution
 * List all versions under a prefix. Where delete markers are on top of a version, remove the markers, a thousand a
 * call: the object is there again, with its old version id. With a time, each object becomes what was current at that
 * moment; where something was written since, the older version is copied on top of it. No data is deleted.
 *
 * ## Discussion
 * Without a time, every deleted object that has a version left comes back, those too that were deleted years ago for
 * good reasons. So give the time before the accident, with its zone: `--as-of 2026-11-28T09:00:00Z`. Then:
 * - what was deleted since comes back by removing the markers, which costs nothing;
 * - what was overwritten since, and perhaps deleted afterwards, gets the older version as a copy on top (3.29). The
 *   copy is billed as one more version, and the newer ones stay beneath it. What has the same content is left, so a
 *   change of metadata alone isn't taken back;
 * - what was created since, or deleted before, stays as it is. It is counted as `created` if it is there.
 *
 * A dry run first: this has no undo but to delete the objects again, and 3.29 for one that was copied. A key is a
 * prefix, too: `reports` brings back all in `reports/`. It can be run again. What has another ETag, as after a copy of
 * parts or by a KMS key, is compared by S3's checksums; where the two have none of the same kind, it is copied again.
 *
 * First switch off lifecycle rules. One for noncurrent versions deletes what you want back, for good, as does a
 * deletion by version id. One for current versions deletes again what comes back without its marker, as that is as
 * old as it was.
 *
 * S3 tells times to the second. Of a write and a deletion in the same second, the write counts as the later one. Of an
 * object uploaded in parts the time is when its upload began, so one that was under way then counts as there.
 *
 * Removing a marker takes `s3:DeleteObjectVersion`; where MFA delete is on, S3 refuses the whole call, and nothing
 * comes back. From `s3:GetObject` on, the permissions are for copies. A copy with tags needs `s3:PutObjectTagging` too,
 * and one with annotations or a KMS key what 3.6 says. Archived objects are not copied but reported, and a dry run
 * counts them as copies; once they are restored from there their copies are `STANDARD`. After a thousand other failures
 * it ends.
 *
 * Where versioning is suspended, all new markers have the id `null`: stop writers first, as what they write to the
 * same key at that moment has that id, too, and would be deleted in the marker's place. With a time, a suspended bucket
 * is refused.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @before npx tsx recipes/s3/11-prevent-deletion.ts paws-example --local
 * @before npx tsx recipes/s3/03-store-private-data.ts s3://paws-example/report.txt "some text" --local
 * @before npx tsx recipes/setup/16-delete-resource.ts s3://paws-example/report.txt --local --yes
 * @run npx tsx recipes/s3/19-undelete-objects.ts s3://paws-example/rep --local --yes
 * @output
 *   bucket     paws-example
 *   prefix     rep
 *   undeleted  1
 *   copied     0
 *   created    0
 *   failed     0
 *   failures   -
 * @permission s3:ListBucketVersions on arn:aws:s3:::BUCKET
 * @permission s3:GetBucketVersioning on arn:aws:s3:::BUCKET
 * @permission s3:DeleteObject on arn:aws:s3:::BUCKET/*
 * @permission s3:DeleteObjectVersion on arn:aws:s3:::BUCKET/*
 * @permission s3:GetObject on arn:aws:s3:::BUCKET/*
 * @permission s3:GetObjectVersion on arn:aws:s3:::BUCKET/*
 * @permission s3:GetObjectVersionTagging on arn:aws:s3:::BUCKET/*
 * @permission s3:PutObject on arn:aws:s3:::BUCKET/*
 * @permission s3:AbortMultipartUpload on arn:aws:s3:::BUCKET/*
 * @cost $0.01 for listing a million versions, before the question and after; each copy $0.005 for a thousand, and its
 *   storage; from STANDARD_IA, ONEZONE_IA and GLACIER_IR more, and what reading costs (3.9; us-east-1, 2026)
 * @undo nothing
 * @emulator LocalStack does not encode the mark where the next page of a list begins.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/ManagingDelMarkers.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
 */
import { setMaxListeners } from 'node:events';
import { DeleteObjectCommand, DeleteObjectsCommand, GetBucketVersioningCommand, S3Client } from '@aws-sdk/client-s3';
import pLimit from 'p-limit';
import pMap from 'p-map';
import { whileRefused } from '../ec2/01-helpers/while-refused.ts';
import { copyObject } from './06-copy-object.ts';
import { readObject } from './06-helpers/properties.ts';
import { byKey, type Deleted, type Overwritten, plan } from './19-helpers/plan.ts';
import { listVersions, type ObjectVersion, readableClass } from './29-restore-version.ts';

/** An object that did not come back. */
export interface Failure {
  key: string;
  /** `AccessDenied` and the like. */
  code: string;
  message: string;
}

export interface UndeletedObjects {
  bucket: string;
  prefix: string;
  /** How many objects came back by removing their delete markers. */
  undeleted: number;
  /** How many got the version of that time as a copy on top. */
  copied: number;
  /** How many are there now that were not there at that time; they stay. Always 0 without a time. */
  created: number;
  failed: number;
  /** The first thousand; of archived objects the first hundred. */
  failures: Failure[];
}

/** What is copied by one call at most, in bytes. */
const largest = 5 * 2 ** 30;
/** More failures than this are no accident of single objects: it ends then. Nor are more listed. */
const mostFailures = 1000;

/**
 * Brings back deleted objects; with a time, all objects as they were then.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - Name of a bucket that keeps versions.
 * @param options.prefix - Only keys that begin so. All by default.
 * @param options.asOf - The moment whose state is wanted. By default all that is deleted comes back.
 * @param options.dryRun - Only counts. False by default.
 * @param options.concurrency - How many calls change something at once. 8 by default.
 * @param options.signal - Stops it; what is back stays back.
 * @param options.onProgress - Called with a text for people.
 * @returns How many objects came back, and those that did not.
 * @throws RangeError for a time that is none or lies ahead; Error for a bucket that has never kept versions or, with a
 *   time, does not keep them now.
 * @throws AbortError, and whatever ended the work: the message tells how far it got.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/ManagingDelMarkers.html
 *
 * @example
 * const s3 = new S3Client({});
 * const asOf = new Date('2026-11-28T09:00:00Z');
 * console.log(await undeleteObjects(s3, { bucket: 'my-company-reports', prefix: '2026/', asOf, dryRun: true }));
 */
export async function undeleteObjects(
  s3: S3Client,
  options: {
    bucket: string;
    prefix?: string;
    asOf?: Date;
    dryRun?: boolean;
    concurrency?: number;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<UndeletedObjects> {
  const { bucket, prefix = '', asOf, dryRun = false, concurrency = 8, signal, onProgress } = options;
  if (asOf && Number.isNaN(asOf.getTime())) throw new RangeError('asOf is no time such as 2026-11-28T09:00:00Z');
  if (asOf && asOf.getTime() > Date.now()) throw new RangeError(`asOf lies ahead: ${asOf.toISOString()}`);
  // Each call listens to the signal, and Node warns of more than ten.
  if (signal) setMaxListeners(0, signal);
  const stoppable = { abortSignal: signal };
  const result = { bucket, prefix, undeleted: 0, copied: 0, created: 0, failed: 0, failures: [] as Failure[] };
  const summary = () => `${result.undeleted} undeleted, ${result.copied} copied, ${result.failed} failed`;
  let failed = 0;
  const fail = (key: string, code: string, message: string) => {
    result.failed++;
    const isArchived = /^(InvalidObjectState|ObjectNotInActiveTierError)$/.test(code);
    if (result.failures.length < (isArchived ? 100 : mostFailures)) result.failures.push({ key, code, message });
    // The next run would meet the same archived objects first, and never come to the others.
    if (!isArchived && ++failed === mostFailures)
      throw new Error(`too many failures, the last one ${code}: ${message}`);
  };

  const { Status } = await s3.send(new GetBucketVersioningCommand({ Bucket: bucket }), stoppable);
  if (!Status) throw new Error(`${bucket} has never kept versions: nothing can come back.`);
  // Where versioning is suspended, a copy would replace the version whose id is null for good.
  if (asOf && Status !== 'Enabled') throw new Error(`Versioning of ${bucket} is not on: turn it on (3.11).`);

  // A copy of parts, or by a KMS key, has another ETag than its source, but the checksum is the same.
  const isCopied = async ({ current, wanted }: Overwritten) => {
    if (current.size !== wanted.size) return false;
    const read = ({ key, versionId }: ObjectVersion) => readObject(s3, { bucket, key, versionId, signal });
    // What can't be read, for it was encrypted with somebody's key, is no copy.
    const [top, { checksum }] = await Promise.all([read(current).catch(() => null), read(wanted)]);
    signal?.throwIfAborted();
    const own = top?.checksum;
    return !!own && own.algorithm === checksum?.algorithm && own.value === checksum.value;
  };
  // Each is copied by eight calls at once, and a call that waits for one of the client's 50 connections times out.
  const inTurn = pLimit({ concurrency: 1, rejectOnClear: true });
  const copy = async (object: Overwritten) => {
    const { key, versionId } = object.wanted;
    const [from, to] = [
      { bucket, key, versionId },
      { bucket, key },
    ];
    const storageClass = readableClass(object.wanted);
    try {
      if (await isCopied(object)) return;
      const copyIt = () => copyObject(s3, { from, to, storageClass, lock: false, signal });
      if (!dryRun) await (Number(object.wanted.size) > largest ? inTurn(copyIt) : copyIt());
      result.copied++;
    } catch (error) {
      const { name, message } = error as Error;
      if (signal?.aborted || name === 'AbortError') throw error;
      fail(key, name, message);
    }
  };
  const removeOne = async (key: string, versionId: string) => {
    try {
      await s3.send(new DeleteObjectCommand({ Bucket: bucket, Key: key, VersionId: versionId }), stoppable);
      return true;
    } catch (error) {
      if (signal?.aborted) throw error;
      fail(key, (error as Error).name, (error as Error).message);
      return false;
    }
  };
  const remove = async (objects: Deleted[]) => {
    const all = objects.flatMap(({ key, markers }) => markers.map((versionId) => ({ key, versionId })));
    const back = new Set(objects.map(({ key }) => key));
    // DeleteObjects sends keys in XML, DeleteObject in the URL.
    const alone = all.filter(({ key }) => noXml.test(key));
    const together = all.filter(({ key }) => !noXml.test(key));
    for (let at = 0; at < together.length && !dryRun; at += 1000) {
      const Objects = together.slice(at, at + 1000).map(({ key, versionId }) => ({ Key: key, VersionId: versionId }));
      const input = { Bucket: bucket, Delete: { Quiet: true, Objects } };
      // Whole calls are slowed down, too, for longer than the SDK's own tries last.
      const send = () => s3.send(new DeleteObjectsCommand(input), stoppable);
      const busy = { names: ['InternalError', 'ServiceUnavailable', 'SlowDown'], tries: 8, seconds: 5, signal };
      const { Errors = [] } = await whileRefused(send, busy);
      for (const { Key = '', VersionId = '', Code = 'Unknown', Message = '' } of Errors) {
        // What may pass gets a call of its own, which the SDK tries again by itself.
        if (/^(InternalError|ServiceUnavailable|SlowDown)$/.test(Code)) alone.push({ key: Key, versionId: VersionId });
        else if (back.delete(Key)) fail(Key, Code, Message);
      }
    }
    for (const { key, versionId } of alone) {
      if (!dryRun && back.has(key) && !(await removeOne(key, versionId))) back.delete(key);
    }
    result.undeleted += back.size;
  };

  const underWay = new Set<Promise<void>>();
  const work = (step: Deleted[] | Overwritten) => {
    const done = (Array.isArray(step) ? remove(step) : copy(step)).then(() => onProgress?.(summary()));
    underWay.add(done);
    return done.finally(() => underWay.delete(done));
  };
  try {
    const keys = byKey(listVersions(s3, { bucket, prefix, signal }), asOf);
    // pMap asks for a step only when it can begin, so memory does not grow with the bucket.
    await pMap(
      plan(keys, () => result.created++),
      work,
      { concurrency },
    );
    return result;
  } catch (error) {
    // pMap does not wait for what runs beside an error: nothing must change after this has thrown.
    inTurn.clearQueue();
    await Promise.allSettled(underWay);
    const reason = signal?.aborted ? signal.reason : error;
    const message = `${reason?.message ?? reason} (${summary()}; run it again for the rest)`;
    throw Object.assign(new Error(message, { cause: error }), {
      name: signal?.aborted ? 'AbortError' : (error as Error).name,
    });
  }
}

/** What XML can't carry or may change. */
const noXml = /[^\t\n\x20-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/u;

// ---- command line: leave out when copying ----
import { confirm, connect, interrupted, print, progress, recipe, s3Prefix, yes } from '../../shared/cli.ts';
import { patient } from './06-helpers/patient.ts';

recipe(import.meta, (command) =>
  command
    .argument('<prefix>', 's3://BUCKET, or s3://BUCKET/PREFIX for all keys that begin so', s3Prefix)
    .option('--as-of <time>', 'bring back what was current then: 2026-11-28T09:00:00Z')
    .option('--dry-run', 'only count')
    .addOption(yes)
    .action(async ({ bucket, prefix }, { asOf, dryRun }) => {
      // Without a zone it would mean another time on another machine.
      if (asOf && !/^\d{4}-\d\d-\d\d[T ][\d:.]+(Z|[+-]\d\d:?\d\d)$/i.test(asOf))
        throw new RangeError(`${asOf} is no time with a zone, such as 2026-11-28T09:00:00Z or …+02:00`);
      const s3 = connect(S3Client, patient);
      const stoppable = { signal: interrupted(), onProgress: progress };
      const what = { bucket, prefix, asOf: asOf === undefined ? undefined : new Date(asOf), ...stoppable };
      const failures = (all: Failure[]) => all.map(({ key, code }) => `${key}: ${code}`).join(', ') || '-';
      let result = await undeleteObjects(s3, { ...what, dryRun: true });
      if (!dryRun && result.undeleted + result.copied > 0) {
        const copies = asOf ? `, and copy the version of ${asOf} on top of ${result.copied} that were overwritten` : '';
        await confirm(`Bring back ${result.undeleted} deleted objects in s3://${bucket}/${prefix}${copies}?`);
        result = await undeleteObjects(s3, what);
      }
      print(result, { failures });
      const denied = result.failures.some(({ code }) => code === 'AccessDenied');
      const why = denied ? ': s3:DeleteObject and s3:DeleteObjectVersion take markers away, s3:PutObject copies' : '';
      if (result.failed > 0) throw new Error(`${result.failed} did not come back${why}.`);
    }),
);
