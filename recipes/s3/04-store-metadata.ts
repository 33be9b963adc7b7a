/**
 * 3.4 Store metadata
 *
 * ## Problem
 * You want to keep some facts together with an object: who wrote it, where it came from, its title in any language;
 * and browsers shall show it, cache it or save it the right way.
 *
 * ## Solution
 * Check names and sizes by S3's rules, encode what is not plain ASCII, and send it with the object, in one call.
 * Headers of the system go beside it: the content type by the key's ending, cache control, a name to save it under.
 * Then read all of it back, decoded.
 *
 * ## Discussion
 * S3 lowers the names. Names and values together may have 2 KB in UTF-8; beyond, S3 answers `MetadataTooLarge`.
 * Node.js refuses headers with €, and é breaks the signature, so values beyond ASCII are encoded by RFC 2047: `Größe`
 * is sent as `=?UTF-8?B?R3LDtsOfZQ==?=`. S3 decodes that before it stores it and encodes it again in its answers, in
 * words of its own: other programs must decode, too. Control characters are refused here, for S3 leaves values that
 * can't be printed out of its answers, and only tells how many there are (`missing`).
 *
 * Metadata is changed only by a copy of the object (3.7), and no list of objects shows it, only a table of S3 Metadata.
 * It is not encrypted with the object's key, and everybody who may read the object sees it: keep secrets out of it.
 *
 * Tags are for AWS itself: policies, lifecycle rules (3.17) and replication know them; bills know a bucket's tags only.
 * There are 10 at most, and PutObjectTagging changes them at any time. They cost a little each month. All headers
 * together may have 8 KB, in which each character of a tag beyond ASCII takes six bytes or more.
 *
 * Annotations (PutObjectAnnotation) fit better for more than 2 KB, for JSON, and for what is learned after the upload:
 * up to 1,000 for each object, each up to 1 MiB of text, written and read by calls of their own.
 *
 * An object that has this key already is overwritten, with its metadata and tags. Without a content type the SDK would
 * send `application/octet-stream`, and browsers would save the object instead of showing it.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @run npx tsx recipes/s3/04-store-metadata.ts s3://paws-example/menu.html "<h1>Menu</h1>" --metadata Title=Menü author=Zoë --tag project=café --cache-control max-age=3600 --local
 * @output
 *   bucket               paws-example
 *   key                  menu.html
 *   size                 13 B
 *   etag                 "d8b0f9da087c2c2edacc2a6279032024"
 *   content type         text/html; charset=utf-8
 *   cache control        max-age=3600
 *   content disposition  -
 *   metadata             title=Menü, author=Zoë
 *   missing              0
 *   tags                 project=café
 * @permission s3:PutObject on arn:aws:s3:::BUCKET/*
 * @permission s3:PutObjectTagging on arn:aws:s3:::BUCKET/*
 * @permission s3:GetObject on arn:aws:s3:::BUCKET/*
 * @permission s3:GetObjectTagging on arn:aws:s3:::BUCKET/*
 * @cost $0.023 a GB a month in us-east-1 until you delete it, metadata included, and a little for tags
 * @undo npx tsx recipes/setup/16-delete-resource.ts s3://{bucket}/{key} --local --yes
 * @emulator LocalStack and versitygw keep values encoded as they came; S3 decodes and encodes again. LocalStack has no
 *   limit of 2 KB, versitygw has.
 * @book key.set_metadata → PutObjectCommand
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/annotations-overview.html
 */
import { GetObjectTaggingCommand, HeadObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import mime from 'mime';
import { decodeText, encodeText } from './04-helpers/encoded-words.ts';

export interface ObjectMetadata {
  bucket: string;
  key: string;
  /** In bytes. */
  size: number;
  etag: string;
  contentType: string;
  cacheControl: string | null;
  /** `attachment` with the name to save it under. */
  contentDisposition: string | null;
  /** Your own, by names in lower case, decoded. */
  metadata: Record<string, string>;
  /** How many values S3 does not show because they can't be printed. */
  missing: number;
  tags: Record<string, string>;
}

/**
 * Stores an object with metadata, tags and system headers, and reads them back.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - Name of the bucket.
 * @param options.key - Key of the object. An object that has it already is overwritten.
 * @param options.body - A text (stored as UTF-8) or bytes.
 * @param options.metadata - Names of letters, digits, hyphens and the like, and values of any characters: 2 KB in all.
 * @param options.tags - Up to 10. None by default.
 * @param options.contentType - By the ending of the key by default, with a charset for a text only.
 * @param options.cacheControl - `max-age=3600`. None by default.
 * @param options.downloadName - Browsers save the object under this name. Left to them by default.
 * @param options.signal - Stops it; the object is stored whole or not at all.
 * @throws RangeError that names the rule that metadata, a tag or a header breaks; NoSuchBucket, AccessDenied. The
 *   message says so where the object is stored all the same.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
 *
 * @example
 * const s3 = new S3Client({});
 * const object = { bucket: 'my-company-menus', key: 'monday.html', body: '<h1>Menu</h1>' };
 * console.log(await storeMetadata(s3, { ...object, metadata: { title: 'Menü' } }));
 */
export async function storeMetadata(
  s3: S3Client,
  options: {
    bucket: string;
    key: string;
    body: string | Uint8Array;
    metadata: Record<string, string>;
    tags?: Record<string, string>;
    contentType?: string;
    cacheControl?: string;
    downloadName?: string;
    signal?: AbortSignal;
  },
): Promise<ObjectMetadata> {
  const { bucket, key, body, metadata, tags = {}, cacheControl, downloadName, signal } = options;
  checkMetadata(metadata);
  checkTags(tags);
  // The slash: mime takes a bare name for an ending. Browsers take a text without a charset for anything.
  const guessed = mime.getType(`/${key}`) ?? 'application/octet-stream';
  const charset = typeof body === 'string' && guessed.startsWith('text/') ? '; charset=utf-8' : '';
  const contentType = options.contentType ?? `${guessed}${charset}`;
  // An empty variable of a script must not be taken for nothing that is wanted.
  if (contentType === '') throw new RangeError('the content type is empty: give one such as text/html, or none');
  for (const header of [contentType, cacheControl ?? '']) {
    if (!/^[ -~]*$/.test(header)) throw new RangeError(`"${header}" is not plain ASCII, as a header must be`);
  }
  if (/\p{Cs}/u.test(downloadName ?? '')) throw new RangeError('the download name has half a character');

  const encoded = Object.entries(metadata).map(([name, value]) => [name.toLowerCase(), encodeText(value)]);
  const tagging = Object.entries(tags).map((pair) => pair.map(encodeURIComponent).join('='));
  const contentDisposition = downloadName === undefined ? undefined : disposition(downloadName);
  const size = [encoded, tagging, contentType, cacheControl, contentDisposition].join().length;
  if (size > 8192) throw new RangeError(`S3 takes 8,192 bytes of headers: metadata, tags and the rest have ${size}`);
  const put = new PutObjectCommand({
    Bucket: bucket,
    Key: key,
    Body: body,
    Metadata: Object.fromEntries(encoded),
    // An empty header would ask for the permission to tag, too.
    Tagging: tagging.join('&') || undefined,
    ContentType: contentType,
    CacheControl: cacheControl,
    ContentDisposition: contentDisposition,
  });
  const { ETag } = await s3.send(put, { abortSignal: signal });
  const result = await readMetadata(s3, { bucket, key, signal }).catch((cause) => {
    // It must not look as if nothing were there now. The answer to HEAD has no words.
    if (cause.$metadata?.httpStatusCode === 403)
      Object.assign(cause, { name: 'AccessDenied', message: 'access denied' });
    const told = `s3://${bucket}/${key} is stored, but could not be read back: ${cause.message}`;
    throw Object.assign(new Error(told, { cause }), { name: cause.name });
  });
  if (result.etag !== ETag) throw new Error(`s3://${bucket}/${key} was stored, and overwritten since`);
  return result;
}

/**
 * Reads metadata, tags and system headers of an object.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - Name of the bucket.
 * @param options.key - Key of the object.
 * @param options.signal - Stops it.
 * @throws NotFound when there is no such object, and AccessDenied.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
 *
 * @example
 * const s3 = new S3Client({});
 * const { metadata } = await readMetadata(s3, { bucket: 'my-company-menus', key: 'monday.html' });
 * console.log(metadata.title);
 */
export async function readMetadata(
  s3: S3Client,
  { bucket, key, signal }: { bucket: string; key: string; signal?: AbortSignal },
): Promise<ObjectMetadata> {
  const object = { Bucket: bucket, Key: key };
  const head = await s3.send(new HeadObjectCommand(object), { abortSignal: signal });
  const { TagSet = [] } = await s3.send(new GetObjectTaggingCommand(object), { abortSignal: signal });
  const { Metadata = {} } = head;
  return {
    ...{ bucket, key, size: head.ContentLength as number, etag: head.ETag as string },
    contentType: head.ContentType ?? 'application/octet-stream',
    cacheControl: head.CacheControl ?? null,
    contentDisposition: head.ContentDisposition ?? null,
    metadata: Object.fromEntries(Object.entries(Metadata).map(([name, value]) => [name, decodeText(value)])),
    missing: head.MissingMeta ?? 0,
    tags: Object.fromEntries(TagSet.map(({ Key, Value }) => [Key, Value])),
  };
}

function checkMetadata(metadata: Record<string, string>): void {
  const seen = new Set<string>();
  let size = 0;
  for (const [name, value] of Object.entries(metadata)) {
    if (!/^[\w!#$%&'*+.^`|~-]+$/.test(name))
      throw new RangeError(`metadata can't be called "${name}": use letters, digits and hyphens`);
    if (/^x-amz-/i.test(name)) throw new RangeError(`"${name}" begins with x-amz-: S3 adds x-amz-meta- itself`);
    // S3 would join their values with a comma.
    if (seen.has(name.toLowerCase())) throw new RangeError(`"${name}" is there twice: capitals don't count`);
    seen.add(name.toLowerCase());
    if (/[\p{Cc}\p{Cs}]/u.test(value))
      throw new RangeError(`the value of "${name}" has characters that can't be printed`);
    size += Buffer.byteLength(name) + Buffer.byteLength(value);
  }
  if (size > 2048) throw new RangeError(`metadata may have 2,048 bytes, names and values together; these are ${size}`);
}

function checkTags(tags: Record<string, string>): void {
  const pairs = Object.entries(tags);
  if (pairs.length > 10) throw new RangeError(`an object may have 10 tags, not ${pairs.length}`);
  for (const [name, value] of pairs) {
    // S3 counts as JavaScript does, in UTF-16.
    if (name === '' || name.length > 128) throw new RangeError(`a tag's name has 1 to 128 characters: "${name}"`);
    if (value.length > 256) throw new RangeError(`the value of the tag "${name}" has over 256 characters`);
    if (/^aws:/i.test(name)) throw new RangeError(`"${name}" begins with aws:, which only AWS may use`);
    if (!/^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$/u.test(`${name}${value}`)) {
      throw new RangeError(`the tag "${name}" may have letters, digits, spaces and + - = . _ : / @ only`);
    }
  }
}

/** The header that gives a download its name; the plain one is for programs that don't know the other. */
function disposition(name: string): string {
  const plain = name.replace(/[^ -~]|["\\]/gu, '_');
  const encoded = encodeURIComponent(name).replace(/['()*]/g, (one) => `%${one.charCodeAt(0).toString(16)}`);
  return `attachment; filename="${plain}"; filename*=UTF-8''${encoded}`;
}

// ---- command line: leave out when copying ----
import { readFileSync } from 'node:fs';
import { bytes, connect, print, recipe, s3Object, sayUndo } from '../../shared/cli.ts';

const pair = (word: string) => {
  if (!word.includes('=')) throw new TypeError(`"${word}" is not name=value`);
  return word.split(/=(.*)/s, 2);
};
const pairs = (words: string[] = []) => Object.fromEntries(words.map(pair));
const show = (values: object) => Array.from(Object.entries(values), (one) => one.join('=')).join(', ') || '-';

recipe(import.meta, (command) =>
  command
    .argument('<object>', 's3://BUCKET/KEY', s3Object)
    .argument('[text]', 'what to store')
    .option('--file <path>', 'store this file instead of a text')
    .option('--metadata <name=value...>', 'metadata to keep with it')
    .option('--tag <name=value...>', 'tags, up to 10')
    .option('--content-type <type>', 'say so instead of going by the ending of the key')
    .option('--cache-control <directives>', 'how long it may be kept: max-age=3600')
    .option('--download-name <name>', 'name that browsers save it under')
    .action(async (object, text, { file, metadata, tag, ...headers }) => {
      if ((text === undefined) === (file === undefined)) throw new TypeError('give either a text or --file');
      const body = text ?? readFileSync(file as string);
      const named = { metadata: pairs(metadata), tags: pairs(tag) };
      const result = await storeMetadata(connect(S3Client), { ...object, ...headers, ...named, body });
      print(result, { size: bytes, metadata: show, tags: show });
      sayUndo(result);
    }),
);
