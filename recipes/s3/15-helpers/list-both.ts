/** Lists two prefixes side by side, for 3.15. */
import { paginateListObjectsV2, type S3Client, type StorageClass } from '@aws-sdk/client-s3';
import { decodeKey } from '../05-helpers/read-entries.ts';
import { compareKeys } from '../05-helpers/split-list.ts';

/** All keys of a bucket that begin alike. */
export interface Place {
  bucket: string;
  /** Empty for all keys. */
  prefix: string;
}

/** What a list tells of an object. */
export interface ListedObject {
  key: string;
  /** Bytes */
  size: number;
  etag: string;
  modified: Date;
  storageClass: StorageClass;
}

/** An object of the source, and what the target has in its place. */
export interface Pair {
  /** The key without the prefix: the same for both. */
  name: string;
  object: ListedObject;
  /** Null where the target has nothing. */
  copy: ListedObject | null;
}

/**
 * Lists all objects of the source, each with what the target has under the same name. Both lists are sorted by the bytes
 * of the key, so neither is ever held in memory for longer than a page. A server that sorts otherwise makes pairs
 * without a copy: too much is copied then, never too little.
 *
 * @param options.source - A client of the source's region.
 * @param options.from - The source.
 * @param options.target - A client of the target's region.
 * @param options.to - The target; what it has beyond the source is passed over.
 * @param options.signal - Stops it.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
 *
 * @example
 * const [s3, from, to] = [new S3Client({}), { bucket: 'my-reports', prefix: '2025/' }, { bucket: 'my-archive', prefix: '' }];
 * const missing = [];
 * for await (const { name, copy } of listBoth({ source: s3, from, target: s3, to })) if (!copy) missing.push(name);
 */
export async function* listBoth(options: {
  source: S3Client;
  from: Place;
  target: S3Client;
  to: Place;
  signal?: AbortSignal;
}): AsyncGenerator<Pair> {
  const { source, from, target, to, signal } = options;
  const nameOf = ({ key }: ListedObject) => key.slice(to.prefix.length);
  const copies = list(target, to, signal);
  let copy = await copies.next();
  for await (const object of list(source, from, signal)) {
    const name = object.key.slice(from.prefix.length);
    while (!copy.done && compareKeys(nameOf(copy.value), name) < 0) copy = await copies.next();
    yield { name, object, copy: !copy.done && nameOf(copy.value) === name ? copy.value : null };
  }
}

async function* list(client: S3Client, { bucket, prefix }: Place, signal?: AbortSignal): AsyncGenerator<ListedObject> {
  // Not every character fits into XML, so S3 is asked to encode keys.
  const within = { Bucket: bucket, Prefix: prefix, EncodingType: 'url' } as const;
  for await (const page of paginateListObjectsV2({ client }, within, { abortSignal: signal })) {
    for (const { Key = '', Size = 0, ETag = '', LastModified = new Date(0), StorageClass } of page.Contents ?? []) {
      const storageClass = (StorageClass ?? 'STANDARD') as StorageClass;
      yield { key: decodeKey(page, Key), size: Size, etag: ETag, modified: LastModified, storageClass };
    }
  }
}
