/**
 * 3.16 Sync a directory
 *
 * ## Problem
 * You have a directory of files, a web site for example, and want the same in a bucket, again and again, without
 * sending what is there already.
 *
 * ## Solution
 * List both. A file whose size differs is uploaded; one of the same size is read, and uploaded if its checksum
 * differs. On request, objects that have no file any more are deleted.
 *
 * ## Discussion
 * Times are not looked at: a fresh clone or a build makes new ones each time. What tells is the ETag, which is an MD5
 * sum for objects that were stored in one piece without a KMS key; for others it is the CRC32 that S3 keeps, which
 * takes a request for each file. An object that has neither is sent again.
 *
 * Hidden files (`.git`, `.env`, but `.well-known` too) are left out, and objects named so are left alone. Symbolic
 * links are not followed, so that nothing outside of the directory gets into the bucket; what has a link's name in the
 * bucket stays, and so do keys that end in a slash, as consoles make them for folders. An empty directory is refused.
 *
 * The content type comes from the file's ending; texts are taken for UTF-8. What is uploaded anew has this type and
 * `--cache-control` only: other headers, tags and class of the object that was there are gone. One that is unchanged
 * keeps its headers: 3.7 changes those. Files are replaced one by one; a reader can see new ones beside old ones.
 *
 * A file or folder that fails is reported at the end. The rest goes on, but then nothing is deleted. Run it again as
 * often as you like. What is replaced or deleted remains as an old version in a bucket that keeps versions (3.19,
 * 3.17); elsewhere it is gone. Where a KMS key encrypts, it takes `kms:GenerateDataKey` and `kms:Decrypt`.
 *
 * Anybody else who writes under the prefix meanwhile is not noticed, and two runs with `--delete` from two directories
 * delete each other's files. The undo below is for a prefix that was empty before: it deletes all versions there.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @before npx tsx recipes/setup/10-copy-recipe.ts s3/create-bucket paws-example-project
 * @run npx tsx recipes/s3/16-sync-directory.ts paws-example-project s3://paws-example/site/ --local
 * @output
 *   bucket     paws-example
 *   prefix     site/
 *   uploaded   4
 *   size       6.96 KiB
 *   unchanged  0
 *   deleted    0
 *   failed     -
 * @run npx tsx recipes/s3/16-sync-directory.ts paws-example-project s3://paws-example/site/ --delete --local --yes
 * @permission s3:ListBucket on arn:aws:s3:::BUCKET
 * @permission s3:GetObject on arn:aws:s3:::BUCKET/*
 * @permission s3:PutObject on arn:aws:s3:::BUCKET/*
 * @permission s3:ListBucketMultipartUploads on arn:aws:s3:::BUCKET
 * @permission s3:ListMultipartUploadParts on arn:aws:s3:::BUCKET/*
 * @permission s3:DeleteObject on arn:aws:s3:::BUCKET/*
 * @cost what the files take, and $0.005 for 1,000 uploads in us-east-1 (2026)
 * @undo npx tsx recipes/s3/28-empty-bucket.ts s3://{bucket}/{prefix} --local --yes
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
 */
import { createHash } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { DeleteObjectCommand, HeadObjectCommand, paginateListObjectsV2, S3Client } from '@aws-sdk/client-s3';
import mime from 'mime';
import pMap from 'p-map';
import { base64 } from './13-helpers/crc32.ts';
import { uploadLargeObject } from './13-upload-large-object.ts';

export interface SyncedDirectory {
  bucket: string;
  /** What all keys begin with. Empty, or with a slash at its end. */
  prefix: string;
  /** How many files were uploaded. */
  uploaded: number;
  /** Their bytes. */
  size: number;
  unchanged: number;
  deleted: number;
  /** What went wrong, file by file. */
  failed: { key: string; reason: string }[];
}

interface File {
  key: string;
  path: string;
  size: number;
}

/** Larger files go one after the other. Smaller ones are read whole: up to `concurrency` of them at once. */
const largest = 16 * 1024 * 1024;

/**
 * Uploads what is new or changed in a directory.
 *
 * @param s3 - Of the bucket's region, with a `socketTimeout`.
 * @param options.directory - Where the files are.
 * @param options.bucket - Name of the bucket.
 * @param options.prefix - What the keys begin with, before the files' paths. Nothing by default.
 * @param options.cacheControl - `Cache-Control` of what is uploaded: `max-age=300`. None by default.
 * @param options.deleteExtra - Is asked, before anything is changed, whether the objects that have no file are to be
 *   deleted. None are by default.
 * @param options.concurrency - How many files are sent at once. 8 by default.
 * @param options.signal - Ends the work; what is uploaded stays.
 * @param options.onProgress - Called with the bytes that are sent, and the bytes to send.
 * @throws RangeError when the directory can't be read or has no files; NoSuchBucket.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
 *
 * @example
 * const s3 = new S3Client({ requestHandler: { socketTimeout: 60_000 }, expectContinueHeader: false });
 * const { uploaded, failed } = await syncDirectory(s3, { directory: 'dist', bucket: 'my-web-site' });
 * console.log(`${uploaded} uploaded, ${failed.length} failed`);
 */
export async function syncDirectory(
  s3: S3Client,
  {
    directory,
    bucket,
    prefix: given = '',
    cacheControl,
    deleteExtra,
    concurrency = 8,
    signal,
    onProgress,
  }: {
    directory: string;
    bucket: string;
    prefix?: string;
    cacheControl?: string;
    deleteExtra?: (keys: string[]) => boolean | Promise<boolean>;
    concurrency?: number;
    signal?: AbortSignal;
    onProgress?: (progress: { bytes: number; total: number }) => void;
  },
): Promise<SyncedDirectory> {
  const prefix = given === '' || given.endsWith('/') ? given : `${given}/`;
  if (signal) setMaxListeners(0, signal);
  const stoppable = { abortSignal: signal };
  const { files, links, failed } = await listFiles(directory, prefix);
  const result: SyncedDirectory = { bucket, prefix, uploaded: 0, size: 0, unchanged: 0, deleted: 0, failed };
  let end: unknown;
  const attempt = async (key: string, work: () => Promise<unknown>) => {
    if (end) return;
    try {
      signal?.throwIfAborted();
      await work();
    } catch (error) {
      const { name, message } = error as Error;
      // Without the right to write, or without the bucket, every file would fail. What is under way goes on to its end.
      if (signal?.aborted || ['AccessDenied', 'NoSuchBucket'].includes(name)) end ??= error;
      else failed.push({ key, reason: message });
    }
  };
  const all = async <Item>(items: Item[], work: (item: Item) => Promise<unknown>) => {
    await pMap(items, work, { concurrency });
    if (end) throw end;
  };

  const isLinked = (key: string) => links.some((link) => key === link || key.startsWith(`${link}/`));
  const missing = new Map(files.map((file) => [file.key, file]));
  const changed: File[] = [];
  const extra: string[] = [];
  const list = { Bucket: bucket, Prefix: prefix, EncodingType: 'url' } as const;
  const pages = paginateListObjectsV2({ client: s3 }, list, stoppable);
  for await (const { Contents = [], EncodingType } of pages) {
    const objects = Contents.map(({ Key = '', Size, ETag = '' }) => ({
      // Not every character fits into XML, so S3 was asked to encode keys; there a space is a plus.
      key: EncodingType === 'url' ? decodeURIComponent(Key.replaceAll('+', ' ')) : Key,
      size: Size,
      etag: ETag.replaceAll('"', ''),
    }));
    await all(objects, async ({ key, size, etag }) => {
      const file = missing.get(key);
      missing.delete(key);
      const isOurs = !key.endsWith('/') && !isHidden(key.slice(prefix.length)) && !isLinked(key);
      if (!file && deleteExtra && isOurs) extra.push(key);
      if (!file) return;
      await attempt(key, async () => {
        if (size === file.size && (await isSame(s3, { bucket, file, etag, signal }))) result.unchanged++;
        else changed.push(file);
      });
    });
  }
  // Asked now: nobody should have to wait for the end of the uploads to say yes or no.
  const doomed = extra.length > 0 && failed.length === 0 && (await deleteExtra?.(extra)) ? extra : [];

  const work = [...missing.values(), ...changed];
  const total = work.reduce((sum, { size }) => sum + size, 0);
  const send = (file: File) =>
    attempt(file.key, async () => {
      const { key, path, size } = file;
      const sent = result.size;
      const tell = ({ bytes }: { bytes: number }) => onProgress?.({ bytes: sent + bytes, total });
      const upload = { file: path, bucket, key, contentType: typeOf(key), cacheControl, signal, onProgress: tell };
      await uploadLargeObject(s3, upload);
      result.uploaded++;
      result.size += size;
      onProgress?.({ bytes: result.size, total });
    });
  const isLarge = ({ size }: File) => size > largest;
  const small = work.filter((file) => !isLarge(file));
  await all(small, send);
  // These go in parts (3.13), several at once already.
  for (const file of work.filter(isLarge)) await all([file], send);

  // What is new is all there: only now can what is old go.
  if (result.failed.length > 0) return result;
  const remove = (Key: string) =>
    attempt(Key, async () => {
      await s3.send(new DeleteObjectCommand({ Bucket: bucket, Key }), stoppable);
      result.deleted++;
    });
  await all(doomed, remove);
  return result;
}

/** Files, keys of symbolic links, and folders that can't be read. What is hidden is not even looked into. */
async function listFiles(directory: string, prefix: string) {
  const [names, links] = [[] as string[], [] as string[]];
  const failed: SyncedDirectory['failed'] = [];
  const walk = async (folder: string, path = directory) => {
    const entries = await readdir(path, { withFileTypes: true }).catch(({ code }) => {
      if (!folder) throw new RangeError(`the directory ${directory} can't be read (${code})`);
      failed.push({ key: prefix + folder, reason: `the folder can't be read (${code})` });
      return [];
    });
    for (const entry of entries.filter(({ name }) => !isHidden(name))) {
      const name = folder + entry.name;
      if (entry.isDirectory()) await walk(`${name}/`, join(directory, name));
      else if (entry.isSymbolicLink()) links.push(prefix + name);
      else if (entry.isFile()) names.push(name);
    }
  };
  await walk('');
  const measure = async (name: string): Promise<File> => {
    const path = join(directory, name);
    // One that is gone, or whose name is no UTF-8, fails when it is sent, and that is told.
    return { key: prefix + name, path, size: (await stat(path).catch(() => null))?.size ?? 0 };
  };
  const files = await pMap(names, measure, { concurrency: 32 });
  if (files.length === 0) throw new RangeError(`${directory} has no files that can be read`);
  return { files, links, failed };
}

/** By the key's ending. Browsers guess the encoding of texts that don't tell it. */
function typeOf(key: string): string {
  const type = mime.getType(`/${key}`) ?? 'application/octet-stream';
  return type.startsWith('text/') ? `${type}; charset=utf-8` : type;
}

function isHidden(name: string): boolean {
  return name.split('/').some((part) => part.startsWith('.'));
}

/** Whether a file and an object of the same size have the same bytes. */
async function isSame(
  s3: S3Client,
  { bucket, file, etag, signal }: { bucket: string; file: File; etag: string; signal?: AbortSignal },
): Promise<boolean> {
  const md5 = createHash('md5');
  let crc = 0;
  for await (const chunk of createReadStream(file.path, { highWaterMark: 1024 * 1024, signal })) {
    md5.update(chunk);
    crc = crc32(chunk, crc);
  }
  if (md5.digest('hex') === etag) return true;
  // It can be changed, or stored in a way in which the ETag is no MD5 sum: then its checksum tells.
  const head = new HeadObjectCommand({ Bucket: bucket, Key: file.key, ChecksumMode: 'ENABLED' });
  const { ChecksumCRC32, ChecksumType } = await s3.send(head, { abortSignal: signal }).catch((error) => {
    // What may not be looked at, because of its key perhaps, or not without one (SSE-C), is sent again.
    if ([400, 403].includes(error.$metadata?.httpStatusCode)) return { ChecksumCRC32: null, ChecksumType: null };
    throw error;
  });
  // The checksum of a COMPOSITE one is a checksum of checksums.
  return ChecksumType !== 'COMPOSITE' && ChecksumCRC32 === base64(crc);
}

// ---- command line: leave out when copying ----
import { bytes, confirm, connect, interrupted, print, recipe, s3Prefix, transferred, yes } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('<directory>', 'where the files are')
    .argument('<target>', 's3://BUCKET, or s3://BUCKET/PREFIX/ to put it before all keys', s3Prefix)
    .option('--cache-control <value>', 'Cache-Control of what is uploaded, such as max-age=300')
    .option('--delete', 'delete objects under the prefix that have no file')
    .addOption(yes)
    .action(async (directory, target, { delete: deleting, cacheControl }) => {
      const deleteExtra = async (keys: string[]) => {
        const some = `${keys.slice(0, 3).join(', ')}${keys.length > 3 ? ', …' : ''}`;
        await confirm(`Delete ${keys.length} objects of s3://${target.bucket} that ${directory} lacks: ${some}?`);
        return true;
      };
      const more = { deleteExtra: deleting ? deleteExtra : undefined, cacheControl, signal: interrupted() };
      const result = await syncDirectory(connect(S3Client), { directory, ...target, ...more, onProgress: transferred });
      print(result, {
        size: bytes,
        failed: (failed: { key: string }[]) => failed.map(({ key }) => key).join(', ') || '-',
      });
      const [first] = result.failed;
      if (first) throw new Error(`${result.failed.length} failed, the first one ${first.key}: ${first.reason}`);
    }),
);
