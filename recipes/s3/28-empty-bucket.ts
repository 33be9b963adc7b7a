/**
 * 3.28 Empty a bucket
 *
 * ## Problem
 * You want everything in a bucket gone, or everything under a prefix. Old versions, delete markers and the parts
 * of unfinished uploads hide in buckets that look empty; they cost, and S3 deletes no bucket that has versions.
 *
 * ## Solution
 * Abort the unfinished uploads. Then list all versions and delete them a thousand a call, several calls at once,
 * while the list goes on. At the end look whether anything is left, and tell what was kept and why. An emptying
 * that was stopped half-way goes on where it was when you run it again.
 *
 * ## Discussion
 * There is no undo: a deletion that names a version is final in a versioned bucket, too.
 *
 * DeleteObjects answers 200 even if it deleted nothing, with an error for each key that is still there. What can
 * pass, such as `SlowDown`, is tried again for some seconds here; the rest is reported. `AccessDenied` means a
 * missing permission or a lock. `--bypass-governance` removes what is locked in governance mode and needs
 * `s3:BypassGovernanceRetention`; leave that out of your policy otherwise. A legal hold must be taken off first.
 * In compliance mode nobody deletes a version before its date, the root user included. Where MFA delete is on,
 * every deletion fails until the root user has turned it off.
 *
 * Deleting is free. Listing costs $0.005 for a million versions in us-east-1, and objects in an infrequent-access
 * or archive class cost the rest of their 30, 90 or 180 days. For billions of objects let a lifecycle rule expire
 * objects, noncurrent versions and delete markers: it takes S3 some days, but no requests of yours.
 *
 * What others write meanwhile may be deleted or not: stop them first. Replicas in other buckets stay. The bucket
 * itself stays too, with its settings; 1.9 deletes both.
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
 * @undo npx tsx recipes/setup/09-clean-up.ts s3://paws-example --local --yes
 * @emulator LocalStack has no MFA delete and never slows down. It mixes encoded and plain keys in lists: uploads to
 *   keys with + or % are not found there, nor the next page after a key that needs encoding.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/empty-bucket.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
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

/** Something that S3 refused to delete. */
export interface Kept {
  key: string;
  /** Null for an unfinished upload. */
  versionId: string | null;
  /** `AccessDenied`, for locks too. */
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
  /** How many versions, markers and uploads S3 refused to delete. */
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
 * @param options.prefix - Deletes only keys that begin so. All by default.
 * @param options.bypassGovernance - Deletes versions locked in governance mode, too. False by default.
 * @param options.concurrency - How many calls delete at once, each up to a thousand versions. 4 by default.
 * @param options.signal - Stops the work; what is deleted stays deleted.
 * @param options.onProgress - Called with a text for people after each page of up to a thousand.
 * @returns How much was deleted, and what S3 refused to delete.
 * @throws NoSuchBucket before anything is deleted; InvalidArgument for `bypassGovernance` in a bucket without Object
 *   Lock; AbortError, which tells how much was deleted before.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
 *
 * @example
 * const s3 = new S3Client({});
 * const { versions, kept } = await emptyBucket(s3, { bucket: 'my-company-reports' });
 * console.log(`${versions} versions deleted, ${kept} kept`);
 */
export async function emptyBucket(
  s3: S3Client,
  {
    bucket,
    prefix,
    bypassGovernance = false,
    concurrency = 4,
    signal,
    onProgress,
  }: {
    bucket: string;
    prefix?: string;
    bypassGovernance?: boolean;
    concurrency?: number;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<EmptiedBucket> {
  // Each call listens to the signal, and Node warns of more than ten.
  if (signal) setMaxListeners(0, signal);
  const stoppable = { abortSignal: signal };
  const within = { Bucket: bucket, Prefix: prefix, EncodingType: 'url' } as const;
  const listUploads: List = (KeyMarker, UploadIdMarker) =>
    s3.send(new ListMultipartUploadsCommand({ ...within, KeyMarker, UploadIdMarker }), stoppable);
  const listVersions: List = (KeyMarker, VersionIdMarker) =>
    s3.send(new ListObjectVersionsCommand({ ...within, KeyMarker, VersionIdMarker }), stoppable);

  const result = { bucket, versions: 0, deleteMarkers: 0, uploads: 0, kept: 0, examples: [] as Kept[] };
  const tell = () => `${result.versions + result.deleteMarkers + result.uploads} deleted, ${result.kept} kept`;
  const keep = ({ kind, key, id }: Item, code: string, message = '') => {
    const versionId = kind === 'uploads' ? null : (id ?? null);
    if (result.kept++ < 10) result.examples.push({ key, versionId, code, message });
  };

  const settings = { Bucket: bucket, BypassGovernanceRetention: bypassGovernance || undefined };
  // For uploads, and for keys that DeleteObjects can't send.
  const deleteOne = async (item: Item) => {
    const { kind, key, id } = item;
    const upload = { Bucket: bucket, Key: key, UploadId: id };
    const version = { ...settings, Key: key, VersionId: id };
    try {
      if (kind === 'uploads') await s3.send(new AbortMultipartUploadCommand(upload), stoppable);
      else await s3.send(new DeleteObjectCommand(version), stoppable);
      result[kind]++;
    } catch (error) {
      const { name, message } = error as Error;
      if (name === 'AccessDenied') keep(item, name, message);
      // An upload that somebody else has completed or aborted is gone too.
      else if (name !== 'NoSuchUpload') throw error;
    }
  };
  const deleteTogether = async (items: Item[]) => {
    let rest = items;
    for (let pause = 500; rest.length > 0; pause *= 2) {
      const Objects = rest.map(({ key, id }) => ({ Key: key, VersionId: id }));
      const command = new DeleteObjectsCommand({ ...settings, Delete: { Quiet: true, Objects } });
      const { Errors = [] } = await s3.send(command, stoppable);
      // The status is 200 all the same. What can pass is tried again, four times in 7.5 seconds.
      const errors = new Map(Errors.map((error) => [`${error.VersionId ?? 'null'} ${error.Key}`, error]));
      const again: Item[] = [];
      for (const item of rest) {
        const { Code, Message } = errors.get(`${item.id ?? 'null'} ${item.key}`) ?? {};
        if (!Code) result[item.kind]++;
        else if (transient.includes(Code) && pause < 8000) again.push(item);
        else if (Code !== 'NoSuchVersion') keep(item, Code, Message);
      }
      rest = again;
      if (rest.length > 0) await sleep(pause, undefined, { signal });
    }
  };

  try {
    // Uploads first: completed later, one would become an object where the list of versions has been already.
    for await (const page of pages(listUploads)) {
      await pMap(page, deleteOne, { concurrency });
      onProgress?.(tell());
    }

    // A page is taken from the list only when its deletion can begin: memory does not grow with the bucket.
    const deletePage = async (page: Item[]) => {
      for (const item of page.filter(({ key }) => noXml.test(key))) await deleteOne(item);
      await deleteTogether(page.filter(({ key }) => !noXml.test(key)));
      onProgress?.(tell());
    };
    await pMap(pages(listVersions), deletePage, { concurrency });

    const left = [...read(await listUploads()), ...read(await listVersions())];
    return { ...result, empty: left.length === 0 };
  } catch (error) {
    if (!signal?.aborted) throw error;
    const cause = signal.reason as Error;
    const message = `${cause.message} At least ${tell()}; another run goes on from here.`;
    throw Object.assign(new Error(message, { cause }), { name: 'AbortError' });
  }
}

/** What S3 may say at one moment and not at the next. */
const transient = ['InternalError', 'ServiceUnavailable', 'SlowDown'];
/** Characters that XML 1.0 can't carry, in which DeleteObjects sends the keys; DeleteObject has them in the URL. */
const noXml = /[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/u;

interface Item {
  kind: 'versions' | 'deleteMarkers' | 'uploads';
  key: string;
  /** Id of the version or upload. Some servers other than S3 have none for versions. */
  id: string | undefined;
}
type Page = Partial<ListObjectVersionsOutput & ListMultipartUploadsOutput>;
type List = (keyMarker?: string, idMarker?: string) => Promise<Page>;

/**
 * Lists page after page; the SDK has no paginator for these lists. A page is handed out only when the next one is
 * there: its last entry is where that one begins, and S3 does not promise to find the place when it is deleted.
 */
async function* pages(list: List): AsyncGenerator<Item[]> {
  let page = await list();
  while (page.IsTruncated) {
    const { NextKeyMarker = '', NextVersionIdMarker, NextUploadIdMarker } = page;
    const next = await list(decode(page, NextKeyMarker), NextVersionIdMarker ?? NextUploadIdMarker);
    yield read(page);
    page = next;
  }
  yield read(page);
}

function read(page: Page): Item[] {
  const { Uploads = [], Versions = [], DeleteMarkers = [] } = page;
  const key = ({ Key = '' }) => decode(page, Key);
  return [
    ...Uploads.map((one): Item => ({ kind: 'uploads', key: key(one), id: one.UploadId })),
    ...Versions.map((one): Item => ({ kind: 'versions', key: key(one), id: one.VersionId })),
    ...DeleteMarkers.map((one): Item => ({ kind: 'deleteMarkers', key: key(one), id: one.VersionId })),
  ];
}

/** A key as it is. Not every character fits into XML, so S3 was asked to encode keys; there a space is a plus. */
function decode({ EncodingType }: Page, key: string): string {
  return EncodingType === 'url' ? decodeURIComponent(key.replaceAll('+', ' ')) : key;
}

// ---- command line: leave out when copying ----
import { confirm, connect, interrupted, print, progress, recipe, yes } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('<target>', 's3://BUCKET, or s3://BUCKET/PREFIX for the keys that begin so')
    .option('--bypass-governance', 'delete what is locked in governance mode, too')
    .addOption(yes)
    .action(async (target, { bypassGovernance }) => {
      const [, bucket, prefix] = /^s3:\/\/([^/]+)\/?(.*)$/s.exec(target) ?? [];
      if (!bucket) throw new RangeError(`"${target}" is neither s3://BUCKET nor s3://BUCKET/PREFIX`);

      const s3 = connect(S3Client);
      const look = new ListObjectVersionsCommand({ Bucket: bucket, Prefix: prefix });
      const { Versions = [], DeleteMarkers = [], IsTruncated } = await s3.send(look);
      const found = `${Versions.length + DeleteMarkers.length}${IsTruncated ? ' or more' : ''}`;
      await confirm(`Delete ${found} versions and markers in ${target}, and all unfinished uploads, for good?`);

      const settings = { bucket, prefix, bypassGovernance, signal: interrupted(), onProgress: progress };
      const result = await emptyBucket(s3, settings);
      print(result, { examples: (kept: Kept[]) => kept.map(({ key }) => key).join(', ') || '-' });
      const reasons = new Set(result.examples.map(({ message }) => message));
      if (result.kept > 0) throw new Error(`S3 refused to delete ${result.kept}: ${[...reasons].join(' ')}`);
      if (!result.empty) throw new Error('Something was added meanwhile: run it again.');
    }),
);
