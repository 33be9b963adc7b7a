/**
 * 3.28 Empty a bucket
 *
 * ## Problem
 * You want everything in a bucket gone, or everything under a prefix. Old versions, delete markers and the parts
 * of unfinished uploads hide in buckets that look empty; they cost, and S3 deletes no bucket that has versions.
 *
 * ## Solution
 * Abort the unfinished uploads. Then list all versions and delete them a thousand a call, several calls at once, while
 * the list goes on. At the end look whether anything is left, and tell what was kept and why. It can be run again.
 *
 * ## Discussion
 * There is no undo: a deletion that names a version is final. DeleteObjects answers 200 even if it deleted nothing,
 * with an error for each key that is still there. What can pass, such as `SlowDown`, is tried again here for up to a
 * minute; the rest is reported. At S3's 3,500 deletions a second for a prefix, a million take five minutes. Uploads
 * are aborted one a call. **Stopped half-way, or where a version is locked, a deleted object can be back:** its delete
 * marker is gone and an older version is the current one. Run it again, or close the bucket to readers first.
 *
 * `AccessDenied` means a missing permission or a lock. `--bypass-governance` removes what is locked in governance mode
 * and needs `s3:BypassGovernanceRetention`; leave that out of your policy otherwise. A legal hold or an event hold must
 * be taken off first. In compliance mode nobody deletes a version before its date, the root user included. Where MFA
 * delete is on, S3 refuses the whole call and the recipe ends: the root user must turn it off first.
 *
 * Deleting is free. Listing costs $0.005 for a million versions in us-east-1, and objects in an infrequent-access
 * or archive class cost the rest of their 30, 90 or 180 days. For billions of objects let lifecycle rules do it: one
 * to expire objects and noncurrent versions and abort uploads after a day; a second, since one can't have both, with
 * `ExpiredObjectDeleteMarker`. It takes S3 some days, but no requests of yours.
 *
 * What others write meanwhile may be deleted or not, and a part on its way may outlive its aborted upload: stop them
 * first, access logs, inventories and replication into the bucket too. Replicas stay, and so does the bucket; 1.9
 * deletes it too. Directory buckets, without versions, won't do.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @run npx tsx recipes/s3/28-empty-bucket.ts s3://paws-example --local --yes
 * @output
 *   bucket          paws-example
 *   versions        0
 *   delete markers  0
 *   uploads         0
 *   kept            0
 *   examples        -
 *   empty           yes
 * @permission s3:ListBucketVersions on arn:aws:s3:::BUCKET
 * @permission s3:ListBucketMultipartUploads on arn:aws:s3:::BUCKET
 * @permission s3:DeleteObject on arn:aws:s3:::BUCKET/*
 * @permission s3:DeleteObjectVersion on arn:aws:s3:::BUCKET/*
 * @permission s3:AbortMultipartUpload on arn:aws:s3:::BUCKET/*
 * @permission s3:BypassGovernanceRetention on arn:aws:s3:::BUCKET/*
 * @cost nothing that lasts: $0.005 for listing a million versions
 * @undo nothing
 * @emulator LocalStack has no MFA delete and never slows down. It mixes encoded and plain keys in lists: uploads to
 *   keys with + or % are not found there, nor the next page after a key that needs encoding.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/empty-bucket.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html
 */
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  AbortMultipartUploadCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  ListMultipartUploadsCommand,
  type ListMultipartUploadsOutput,
  ListObjectVersionsCommand,
  type ListObjectVersionsOutput,
  S3Client,
} from '@aws-sdk/client-s3';
import pMap from 'p-map';

/** Something that S3 did not delete. */
export interface Kept {
  key: string;
  /** Null for an unfinished upload. */
  versionId: string | null;
  /** `AccessDenied`, for locks too; `SlowDown` and the like when that did not pass. */
  code: string;
  message: string;
}

export interface EmptiedBucket {
  bucket: string;
  /** How many versions were deleted. Without versioning every object is one version. */
  versions: number;
  deleteMarkers: number;
  /** How many unfinished uploads were aborted. */
  uploads: number;
  /** How many versions, markers and uploads S3 did not delete. */
  kept: number;
  /** The first ten of those. */
  examples: Kept[];
  /** Whether nothing is left in the bucket, or under the prefix. */
  empty: boolean;
}

/**
 * Deletes all versions, delete markers and unfinished uploads of a bucket for good.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - Name of the bucket.
 * @param options.prefix - Deletes only keys that begin so; `log` takes `logs/` too. All by default.
 * @param options.bypassGovernance - Deletes versions locked in governance mode, too. False by default.
 * @param options.concurrency - How many calls delete at once, each up to a thousand versions. 4 by default.
 * @param options.signal - Stops the work; what is deleted stays deleted.
 * @param options.onProgress - Called with a text for people after each page of up to a thousand.
 * @returns How much was deleted, and what S3 did not delete.
 * @throws NoSuchBucket before anything is deleted; InvalidArgument for `bypassGovernance` in a bucket without Object
 *   Lock; AbortError. The message of each tells how much was deleted before.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
 *
 * @example
 * const s3 = new S3Client({});
 * const { versions, kept } = await emptyBucket(s3, { bucket: 'my-company-reports' });
 * console.log(`${versions} versions deleted, ${kept} kept`);
 */
export async function emptyBucket(
  s3: S3Client,
  options: {
    bucket: string;
    prefix?: string;
    bypassGovernance?: boolean;
    concurrency?: number;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<EmptiedBucket> {
  const { bucket, prefix, bypassGovernance = false, concurrency = 4, signal, onProgress } = options;
  // Each call listens to the signal, and Node warns of more than ten, which a higher concurrency can mean.
  if (signal) setMaxListeners(0, signal);
  const stoppable = { abortSignal: signal };
  const within = { Bucket: bucket, Prefix: prefix, EncodingType: 'url' } as const;
  const listUploads: List = (KeyMarker, UploadIdMarker) =>
    s3.send(new ListMultipartUploadsCommand({ ...within, KeyMarker, UploadIdMarker }), stoppable);
  const listVersions: List = (KeyMarker, VersionIdMarker) =>
    s3.send(new ListObjectVersionsCommand({ ...within, KeyMarker, VersionIdMarker }), stoppable);

  const result = { bucket, versions: 0, deleteMarkers: 0, uploads: 0, kept: 0, examples: [] as Kept[] };
  const summary = () => `${result.versions + result.deleteMarkers + result.uploads} deleted, ${result.kept} kept`;
  const keep = ({ kind, key, id }: Item, code: string, message = '') => {
    if (gone.includes(code)) return;
    const versionId = kind === 'uploads' ? null : (id ?? null);
    if (result.kept++ < 10) result.examples.push({ key, versionId, code, message });
  };

  const settings = { Bucket: bucket, BypassGovernanceRetention: bypassGovernance || undefined };
  // For uploads, and for keys that DeleteObjects can't send. Here the SDK tries again what can pass.
  const deleteOne = async (item: Item) => {
    const { kind, key, id } = item;
    const upload = { Bucket: bucket, Key: key, UploadId: id };
    try {
      if (kind === 'uploads') await s3.send(new AbortMultipartUploadCommand(upload), stoppable);
      else await s3.send(new DeleteObjectCommand({ ...settings, Key: key, VersionId: id }), stoppable);
      result[kind]++;
    } catch (error) {
      const { name, message } = error as Error;
      if (!['AccessDenied', ...gone, ...transient].includes(name)) throw error;
      keep(item, name, message);
    }
  };
  const deletePage = async (page: Item[]) => {
    for (const item of page.filter(({ key }) => noXml.test(key))) await deleteOne(item);
    const together = page.filter(({ key }) => !noXml.test(key));
    let left = new Map(together.map((item) => [`${item.id ?? 'null'} ${item.key}`, item]));
    for (let pause = 500; left.size > 0; pause *= 2) {
      const Objects = [...left.values()].map(({ key, id }) => ({ Key: key, VersionId: id }));
      const deletion = new DeleteObjectsCommand({ ...settings, Delete: { Quiet: true, Objects } });
      const { Errors = [] } = await s3.send(deletion, stoppable).catch((error) => {
        if (!transient.includes(error.name)) throw error;
        // S3 slows down whole calls as well, and for longer than the SDK's own tries last.
        return { Errors: Objects.map((one) => ({ ...one, Code: error.name, Message: error.message })) };
      });
      const again = new Map<string, Item>();
      for (const { Key, VersionId, Code = 'Unknown', Message } of Errors) {
        const name = `${VersionId || 'null'} ${Key}`;
        const item = left.get(name);
        // What has no error is counted as deleted: so there must be no error that belongs to nothing.
        if (!item) throw new Error(`DeleteObjects answers ${Code} for a version that was not asked for: ${Message}`);
        left.delete(name);
        if (transient.includes(Code) && pause <= 32_000) again.set(name, item);
        else keep(item, Code, Message);
      }
      for (const { kind } of left.values()) result[kind]++;
      left = again;
      // Of random length, so that calls that were slowed down together don't come back together.
      if (left.size > 0) await sleep(pause * Math.random(), undefined, { signal });
    }
    onProgress?.(summary());
  };

  const underWay = new Set<Promise<void>>();
  const track = (work: Promise<void>) => {
    underWay.add(work);
    return work.finally(() => underWay.delete(work));
  };
  try {
    // A missing permission to list versions shows here, before any upload is gone.
    await listVersions();
    // Uploads go before versions: one that is completed meanwhile becomes a version, and is listed then.
    for await (const page of pages(listUploads)) {
      await pMap(page, (item) => track(deleteOne(item)), { concurrency });
      onProgress?.(summary());
    }
    // pMap asks for a page only when its deletion can begin, so memory does not grow with the bucket.
    await pMap(pages(listVersions), (page) => track(deletePage(page)), { concurrency });
    const left = [...read(await listUploads()), ...read(await listVersions())];
    return { ...result, empty: left.length === 0 };
  } catch (error) {
    // pMap does not wait for what runs beside an error: nothing must be deleted after this has thrown.
    await Promise.allSettled(underWay);
    if (!signal?.aborted)
      throw Object.assign(error as Error, { message: `${(error as Error).message} (${summary()})` });
    const message = `${signal.reason?.message ?? signal.reason} At least ${summary()}; run it again for the rest.`;
    throw Object.assign(new Error(message, { cause: error }), { name: 'AbortError' });
  }
}

/** What S3 may say at one moment and not at the next. */
const transient = ['InternalError', 'ServiceUnavailable', 'SlowDown'];
/** What S3 says of what somebody else has deleted, completed or aborted: that is gone, not kept. */
const gone = ['NoSuchUpload', 'NoSuchVersion'];
/** What XML can't carry or may change; DeleteObjects sends keys in XML, DeleteObject in the URL. */
const noXml = /[^\t\n\x20-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/u;

interface Item {
  kind: 'versions' | 'deleteMarkers' | 'uploads';
  key: string;
  /** Id of the version or upload. Some servers other than S3 have none for versions. */
  id: string | undefined;
}
type Page = Partial<ListObjectVersionsOutput & ListMultipartUploadsOutput>;
type List = (keyMarker?: string, idMarker?: string) => Promise<Page>;

/**
 * Lists page after page; the SDK has no paginator for these lists. It asks for the next page before it hands one
 * out to be deleted: S3 does not promise to find the place in a list when the entry that marks it is gone.
 */
async function* pages(list: List): AsyncGenerator<Item[]> {
  let page = await list();
  while (page.IsTruncated) {
    const { NextKeyMarker, NextVersionIdMarker, NextUploadIdMarker } = page;
    if (!NextKeyMarker) throw new Error('S3 does not say where the list goes on.');
    const next = await list(decode(page, NextKeyMarker), NextVersionIdMarker ?? NextUploadIdMarker);
    yield read(page);
    page = next;
  }
  yield read(page);
}

function read(page: Page): Item[] {
  const items = (kind: Item['kind'], entries: { Key?: string; UploadId?: string; VersionId?: string }[] = []) =>
    entries.map(({ Key = '', UploadId, VersionId }) => ({ kind, key: decode(page, Key), id: UploadId ?? VersionId }));
  const { Uploads, Versions, DeleteMarkers } = page;
  return [...items('uploads', Uploads), ...items('versions', Versions), ...items('deleteMarkers', DeleteMarkers)];
}

/** A key as it is. Not every character fits into XML, so S3 was asked to encode keys; there a space is a plus. */
function decode({ EncodingType }: Page, key: string): string {
  return EncodingType === 'url' ? decodeURIComponent(key.replaceAll('+', ' ')) : key;
}

// ---- command line: leave out when copying ----
import { confirm, connect, interrupted, print, progress, recipe, s3Prefix, yes } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('<target>', 's3://BUCKET, or s3://BUCKET/PREFIX: log takes logs/ too', s3Prefix)
    .option('--bypass-governance', 'delete what is locked in governance mode, too')
    .addOption(yes)
    .action(async ({ bucket, prefix }, { bypassGovernance }) => {
      const s3 = connect(S3Client);
      const firstPage = new ListObjectVersionsCommand({ Bucket: bucket, Prefix: prefix, EncodingType: 'url' });
      const { Versions = [], DeleteMarkers = [], IsTruncated } = await s3.send(firstPage);
      const found = `${Versions.length + DeleteMarkers.length}${IsTruncated ? ' or more' : ''} versions and markers`;
      const where = prefix ? `whose keys in ${bucket} begin with "${prefix}"` : `of the WHOLE BUCKET ${bucket}`;
      await confirm(`Delete for good ${found}, and all unfinished uploads, ${where}?`);

      const stoppable = { signal: interrupted(), onProgress: progress };
      const result = await emptyBucket(s3, { bucket, prefix, bypassGovernance, ...stoppable });
      print(result, { examples: (kept: Kept[]) => kept.map(({ key }) => key).join(', ') || '-' });
      const reasons = new Set(result.examples.map(({ message }) => message));
      if (result.kept > 0) throw new Error(`${result.kept} could not be deleted: ${[...reasons].join(' ')}`);
      if (!result.empty) throw new Error('Something was added meanwhile: run it again.');
    }),
);
