/** Reads all that S3 keeps with an object, so that 3.6 and 3.7 can give it to a copy. */
import {
  type CopyObjectCommandInput,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  type HeadObjectCommandOutput,
  type S3Client,
  type StorageClass,
} from '@aws-sdk/client-s3';
import { decodeText, encodeText } from '../04-helpers/encoded-words.ts';

/** Names one object, or one version of it. */
export interface ObjectName {
  bucket: string;
  key: string;
  /** Version to take; the current one by default. */
  versionId?: string;
}

/** Changes of what S3 keeps with an object: what is not named stays, null removes. */
export interface Change {
  /** Names in any case, values in any language. Null in place of all removes all. */
  metadata?: Record<string, string | null> | null;
  /** `text/csv`. Without one S3 takes `binary/octet-stream`. */
  contentType?: string | null;
  /** `max-age=3600` */
  cacheControl?: string | null;
  /** `attachment; filename="report.csv"` */
  contentDisposition?: string | null;
  /** `gzip` */
  contentEncoding?: string | null;
  /** `de, en` */
  contentLanguage?: string | null;
  /** A date as HTTP has it: `Tue, 01 Jan 2030 00:00:00 GMT`. */
  expires?: string | null;
}

/** The headers that can be changed, as HTTP has them, and their fields in a change. */
export const headerFields = {
  'content-type': 'contentType',
  'cache-control': 'cacheControl',
  'content-disposition': 'contentDisposition',
  'content-encoding': 'contentEncoding',
  'content-language': 'contentLanguage',
  expires: 'expires',
} as const;

/** What CopyObject copies all together, or not at all. */
export type Headers = Pick<
  CopyObjectCommandInput,
  'Metadata' | 'ContentType' | 'CacheControl' | 'ContentDisposition' | 'ContentEncoding' | 'ContentLanguage' | 'Expires'
>;

/** What is known of an object. */
export interface ReadObject {
  /** Bytes */
  size: number;
  etag: string;
  /** Null in a bucket that keeps no versions. */
  versionId: string | null;
  /** Algorithm and value, where S3 has a checksum of the whole object, not of its parts. */
  checksum: { algorithm: string; value: string } | null;
  headers: Headers;
  /** How many values of metadata S3 does not show because they can't be printed. */
  missing: number;
  /** What a copy has only if it is said again: class, encryption, redirect and lock. */
  settings: Partial<CopyObjectCommandInput>;
}

/**
 * Reads an object's size, ETag, checksum, headers and settings. Not its tags: `readTags` does.
 *
 * @param s3 - Of the bucket's region.
 * @param object - Which object. `etag`: the one that it is expected to have still.
 * @throws Error that says in words what S3's answer to HEAD, which has no text, means.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
 *
 * @example
 * const s3 = new S3Client({});
 * const { size, headers } = await readObject(s3, { bucket: 'my-company-reports', key: '2026/january.csv' });
 * console.log(size, headers.ContentType);
 */
export async function readObject(
  s3: S3Client,
  { bucket, key, versionId, etag, signal }: ObjectName & { etag?: string; signal?: AbortSignal },
): Promise<ReadObject> {
  const which = { Bucket: bucket, Key: key, VersionId: versionId, IfMatch: etag, ChecksumMode: 'ENABLED' } as const;
  const head = await s3.send(new HeadObjectCommand(which), { abortSignal: signal }).catch((error) => {
    const object = `s3://${bucket}/${key}${versionId ? `, version ${versionId}` : ''}`;
    const status = error.$metadata?.httpStatusCode;
    if (status === 403) error.name = 'AccessDenied';
    throw meanings[status] ? Object.assign(error, { message: `${object} ${meanings[status]}` }) : error;
  });
  const { ContentLength: size = 0, ETag = '', VersionId = null, MissingMeta: missing = 0 } = head;
  return { size, etag: ETag, versionId: VersionId, missing, ...details(head) };
}

/** What the answers to HEAD mean: it has no body to say so in. */
const meanings: Record<number, string> = {
  400:
    "can't be read: it is encrypted with a key of the customer's own (SSE-C), which is not supported here, or the " +
    'credentials have expired, or the client is of another region',
  301: 'is in a bucket of another region, which 3.2 finds',
  403: 'may not be read (s3:GetObject), or is not there, or the credentials are wrong',
  404: 'does not exist',
  405: 'is a delete marker',
  412: 'has been overwritten meanwhile',
};

function details(head: HeadObjectCommandOutput): Pick<ReadObject, 'checksum' | 'headers' | 'settings'> {
  const [name, value] = Object.entries(head).find(([one]) => /^Checksum(?!Type)/.test(one)) ?? [];
  const whole = head.ChecksumType !== 'COMPOSITE' && !/-\d+$/.test(`${value}`);
  // S3 refuses a date that is over, and a hold that is off is none.
  const locked = head.ObjectLockRetainUntilDate && head.ObjectLockRetainUntilDate > new Date();
  return {
    checksum: name && whole ? { algorithm: name.replace('Checksum', ''), value: `${value}` } : null,
    headers: {
      // Beyond ASCII it comes encoded, and S3 decodes it again.
      Metadata: head.Metadata,
      ContentType: head.ContentType,
      CacheControl: head.CacheControl,
      ContentDisposition: head.ContentDisposition,
      ContentEncoding: head.ContentEncoding,
      ContentLanguage: head.ContentLanguage,
      // As it was given: `0` is common, and no date. The SDK sends a text as it is.
      Expires: head.ExpiresString as unknown as Date | undefined,
    },
    settings: {
      StorageClass: head.StorageClass ?? 'STANDARD',
      ServerSideEncryption: head.ServerSideEncryption,
      SSEKMSKeyId: head.SSEKMSKeyId,
      BucketKeyEnabled: head.BucketKeyEnabled,
      WebsiteRedirectLocation: head.WebsiteRedirectLocation,
      ObjectLockMode: locked ? head.ObjectLockMode : undefined,
      ObjectLockRetainUntilDate: locked ? head.ObjectLockRetainUntilDate : undefined,
      ObjectLockLegalHoldStatus: head.ObjectLockLegalHoldStatus === 'ON' ? 'ON' : undefined,
      ObjectLockEventHold: head.ObjectLockEventHold === 'ON' ? 'ON' : undefined,
      ObjectLockEventHoldDurationDays: head.ObjectLockEventHoldDurationDays,
      ObjectLockEventHoldDurationYears: head.ObjectLockEventHoldDurationYears,
    },
  };
}

/**
 * Changes what a copy has to be told again.
 *
 * @param settings - What the source has.
 * @param options.storageClass - The source's by default.
 * @param options.kmsKeyId - Key to encrypt with. Encrypted as the source by default.
 * @param options.lock - False leaves retention, legal hold and event hold out.
 * @param options.region - Where the copy will be.
 * @param options.sameBucket - False leaves encryption with S3's own keys (AES256), which nobody has to choose, to the
 *   other bucket: its default may be a KMS key.
 * @throws RangeError when the KMS key is of another region.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
 *
 * @example
 * const options = { storageClass: 'STANDARD_IA', lock: false, region: 'eu-west-1', sameBucket: true } as const;
 * const settings = settingsFor({ StorageClass: 'STANDARD' }, options);
 * console.log(settings.StorageClass); // STANDARD_IA
 */
export function settingsFor(
  settings: ReadObject['settings'],
  options: { storageClass?: StorageClass; kmsKeyId?: string; lock: boolean; region: string; sameBucket: boolean },
): ReadObject['settings'] {
  const { storageClass = settings.StorageClass, kmsKeyId, lock, region, sameBucket } = options;
  const kept = Object.entries(settings).filter(([name]) => lock || !name.startsWith('ObjectLock'));
  const result: ReadObject['settings'] = { ...Object.fromEntries(kept), StorageClass: storageClass };
  if (result.ServerSideEncryption === 'AES256' && !sameBucket) delete result.ServerSideEncryption;
  if (kmsKeyId) {
    // What is encrypted in two layers stays so.
    if (result.ServerSideEncryption !== 'aws:kms:dsse') result.ServerSideEncryption = 'aws:kms';
    result.SSEKMSKeyId = kmsKeyId;
  }
  const [, keyRegion = region] = /^arn:[^:]+:kms:([^:]+):/.exec(result.SSEKMSKeyId ?? '') ?? [];
  if (keyRegion === region) return result;
  throw new RangeError(`the KMS key ${result.SSEKMSKeyId} can't be used in ${region}: name a key of that region`);
}

/**
 * Reads an object's tags.
 *
 * @param s3 - Of the bucket's region.
 * @param object - Which object.
 * @returns The tags in the form in which a new object takes them; undefined for none.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectTagging.html
 *
 * @example
 * const s3 = new S3Client({});
 * const Tagging = await readTags(s3, { bucket: 'my-company-reports', key: '2026/january.csv' });
 * console.log(Tagging); // team=web&stage=live
 */
export async function readTags(
  s3: S3Client,
  { bucket, key, versionId, signal }: ObjectName & { signal?: AbortSignal },
): Promise<string | undefined> {
  // Asked for in any case: the count that HEAD gives is there only for those who may read the tags.
  const which = { Bucket: bucket, Key: key, VersionId: versionId };
  const { TagSet = [] } = await s3.send(new GetObjectTaggingCommand(which), { abortSignal: signal });
  const pairs = TagSet.map(({ Key = '', Value = '' }) => `${encodeURIComponent(Key)}=${encodeURIComponent(Value)}`);
  return pairs.join('&') || undefined;
}

/**
 * Changes some headers and keeps the others.
 *
 * @param headers - What there is.
 * @param change - What to set, and by null what to remove.
 * @returns All headers as they are to be, and the names of those that differ from what there is.
 * @throws RangeError when a name or value can't be sent.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
 *
 * @example
 * const { headers } = applyChange({ ContentType: 'text/plain', CacheControl: 'no-cache' }, { contentType: 'text/csv' });
 * const { ContentType, CacheControl } = headers;
 * console.log(ContentType, CacheControl); // text/csv no-cache
 */
export function applyChange(
  headers: Headers,
  { metadata, ...change }: Change,
): { headers: Headers; changed: string[] } {
  const changed: string[] = [];
  const Metadata: Record<string, string> = { ...headers.Metadata };
  const removed = metadata === null ? Object.fromEntries(Object.keys(Metadata).map((name) => [name, null])) : metadata;
  for (const [given, value] of Object.entries(removed ?? {})) {
    const name = given.toLowerCase();
    if (value !== null && name.startsWith('x-amz-')) {
      throw new RangeError(`"${given}" begins with x-amz-: S3 adds x-amz-meta- itself`);
    }
    if (!/^[\w!#$%&'*+.^`|~-]+$/.test(name)) throw new RangeError(`"${given}" can't be the name of metadata`);
    if (value === undefined) throw new RangeError(`${given} has no value: it is set as NAME=VALUE`);
    if (/[\p{Cc}\p{Cs}]/u.test(value ?? '')) {
      throw new RangeError(`${given}: metadata has no control characters, nor halves of others`);
    }
    const before = Metadata[name] === undefined ? null : decodeText(Metadata[name]);
    if (before !== value) changed.push(name);
    if (value === null) delete Metadata[name];
    else Metadata[name] = encodeText(value);
  }
  const result: Record<string, unknown> = { ...headers, Metadata };
  for (const [header, field] of Object.entries(headerFields)) {
    const value = change[field];
    if (value === undefined) continue;
    if (!/^[\x20-\x7E]*$/.test(value ?? '')) throw new RangeError(`${header}: headers have ASCII only`);
    const name = `${field[0]?.toUpperCase()}${field.slice(1)}`;
    if ((result[name] ?? null) !== value) changed.push(header);
    result[name] = value ?? undefined;
  }
  return { headers: result, changed };
}
