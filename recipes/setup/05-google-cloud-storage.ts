/**
 * 1.5 Use Google Cloud Storage
 *
 * ## Problem
 * You have buckets at Google, or move there, and want to work on them with the code that you have for S3.
 *
 * ## Solution
 * Point the S3 client at Google's XML API, which takes S3's requests. Four settings are needed. With an HMAC key of
 * Google's, this tries them: it creates a bucket, puts, gets and lists an object, and deletes both again.
 *
 * ## Discussion
 * In Google's console (Cloud Storage, Settings, Interoperability) create an HMAC key for a service account that has
 * the role Storage Admin, or Storage Object User to work in buckets that are there. Keep the key in a profile of its
 * own. With all of this profile the settings need no code: with `AWS_PROFILE=google` a stock `new S3Client({})` puts,
 * gets, lists and deletes objects there:
 *
 * ```ini
 * [profile google]
 * aws_access_key_id = GOOG1E…
 * aws_secret_access_key = …
 * endpoint_url = https://storage.googleapis.com
 * region = auto
 * request_checksum_calculation = when_required
 * response_checksum_validation = when_required
 * ```
 *
 * **What the settings are for.** By default the SDK adds checksums in headers that Google's API doesn't have; users
 * saw it answer `ExcessHeaderValues` or `SignatureDoesNotMatch`. `WHEN_REQUIRED` leaves them out. The region is part of
 * the signature. A CreateBucket without a location, such as that of 3.1, sends the region as location, and `auto` is
 * none. So give one: `US`, `EU` and `ASIA` span several of Google's regions, `EUROPE-WEST3` is one.
 *
 * **What differs.** A new bucket belongs to the project that the header `x-amz-project-id` names, or to the default
 * project that is set at Google. Google refuses `x-amz-…` and `x-goog-…` headers together, so what has only the latter
 * is out of reach: resumable uploads, and conditions on the generation of an object, which is what Google calls its
 * version. Don't rely on `IfMatch` and `IfNoneMatch` to protect an object: users saw them ignored. DeleteObjects has
 * a checksum with any setting; users saw Google demand one. By default a bucket has soft delete: what you delete can be
 * restored, and is billed, for seven days. AWS's policies and Block Public Access don't exist; Google has its own.
 *
 * @run npx tsx recipes/setup/05-google-cloud-storage.ts paws-example --location EU --local
 * @output
 *   bucket    paws-example
 *   location  EU
 *   size      28
 *   read      yes
 *   listed    1
 *   deleted   yes
 * @aws npx tsx recipes/setup/05-google-cloud-storage.ts paws-example --profile google
 * @aws npx tsx recipes/setup/05-google-cloud-storage.ts paws-example --profile google --project my-project
 * @permission nothing
 * @cost nothing on AWS; at Google a few requests, less than a cent
 * @undo nothing
 * @emulator LocalStack is not Google. Proven against a server that refuses what Google's documentation and users tell.
 * @book boto.connect_gs → S3Client
 * @see https://cloud.google.com/storage/docs/aws-simple-migration
 * @see https://cloud.google.com/storage/docs/xml-api/put-bucket-create
 * @see https://cloud.google.com/storage/docs/authentication/managing-hmackeys
 * @see https://cloud.google.com/storage/docs/soft-delete
 * @see https://docs.aws.amazon.com/sdkref/latest/guide/feature-dataintegrity.html
 */
import { randomUUID } from 'node:crypto';
import {
  type BucketLocationConstraint,
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import type { HttpRequest } from '@smithy/types';
import { type Made, undo } from '../../shared/undo.ts';

/** Settings of an S3 client for Google Cloud Storage. */
export interface GoogleSettings {
  endpoint: string;
  region: string;
  requestChecksumCalculation: 'WHEN_REQUIRED';
  responseChecksumValidation: 'WHEN_REQUIRED';
}

/**
 * The settings with which an S3 client works on Google Cloud Storage. Credentials are an HMAC key of Google's, from
 * wherever the SDK finds them, or given beside the settings.
 *
 * @param options.endpoint - `https://storage.googleapis.com` by default.
 * @see https://cloud.google.com/storage/docs/aws-simple-migration
 *
 * @example
 * const s3 = new S3Client({ ...googleCloudStorage(), profile: 'google' });
 * const { Buckets = [] } = await s3.send(new ListBucketsCommand({}));
 * console.log(Buckets.map(({ Name }) => Name));
 */
export function googleCloudStorage({ endpoint = 'https://storage.googleapis.com' } = {}): GoogleSettings {
  return {
    endpoint,
    region: 'auto',
    // Otherwise the SDK adds headers that Google refuses.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  };
}

export interface TriedStorage {
  bucket: string;
  location: string;
  /** What was put, in bytes. */
  size: number;
  /** The same as was put. */
  read: boolean;
  /** How many objects the list had. */
  listed: number;
  /** Object and bucket are gone again. */
  deleted: boolean;
}

/**
 * Creates a bucket, puts, gets and lists an object in it, and deletes both.
 *
 * @param s3 - With the settings above.
 * @param options.bucket - Name of the bucket. It must not be there yet: nothing of yours is touched.
 * @param options.location - Where Google keeps it. `US` by default.
 * @param options.project - Id of the project that it belongs to. The default project at Google by default.
 * @param options.signal - Ends the work; what was made is deleted even so.
 * @throws Error when there is a bucket of that name already; AccessDenied when it is somebody else's.
 * @throws The error of the call that failed, after what was made is deleted, or with the names of what is left. If
 *   creating the bucket failed or was ended, look: it may be there even so.
 * @see https://cloud.google.com/storage/docs/xml-api/overview
 *
 * @example
 * const s3 = new S3Client({ ...googleCloudStorage(), profile: 'google' });
 * const { read } = await tryStorage(s3, { bucket: 'my-company-trial', location: 'EU' });
 * console.log(read ? 'works' : 'got something else than was put');
 */
export async function tryStorage(
  s3: S3Client,
  {
    bucket,
    location = 'US',
    project,
    signal: abortSignal,
  }: { bucket: string; location?: string; project?: string; signal?: AbortSignal },
): Promise<TriedStorage> {
  if (!/^[A-Za-z0-9-]+$/.test(location)) throw new RangeError(`"${location}" is no location such as US`);
  // Not HeadBucket: what is wrong with a key or a name is told in a body, and HEAD has none.
  const look = new ListObjectsV2Command({ Bucket: bucket, MaxKeys: 1 });
  const found = await s3.send(look, { abortSignal }).catch((error) => {
    if (error.name !== 'NoSuchBucket') throw error;
  });
  if (found) throw new Error(`the bucket "${bucket}" is there already; give a name that is not in use`);

  const create = new CreateBucketCommand({
    Bucket: bucket,
    // Without it the SDK sends the region, and auto is no location. The type knows AWS's names only.
    CreateBucketConfiguration: { LocationConstraint: location as BucketLocationConstraint },
  });
  if (project) {
    // The SDK has no field for it. At the step build, the header is part of what is signed.
    create.middlewareStack.add(
      (next) => (args) => {
        (args.request as HttpRequest).headers['x-amz-project-id'] = project;
        return next(args);
      },
      { step: 'build', name: 'googleProject' },
    );
  }
  await s3.send(create, { abortSignal });

  const made: Made[] = [{ id: bucket, remove: () => s3.send(new DeleteBucketCommand({ Bucket: bucket })) }];
  const object = { Bucket: bucket, Key: `trial-${randomUUID()}.txt` };
  const text = 'Grüße from the SDK for S3\n';
  try {
    // Noted before it is made: it may be there though the answer got lost. If it isn't, Google says so and S3 doesn't.
    const remove = () =>
      s3.send(new DeleteObjectCommand(object)).catch((error) => {
        if (error.name !== 'NoSuchKey') throw error;
      });
    made.push({ id: `${bucket}/${object.Key}`, remove });
    await s3.send(new PutObjectCommand({ ...object, Body: text, ContentType: 'text/plain' }), { abortSignal });

    const { Body } = await s3.send(new GetObjectCommand(object), { abortSignal });
    const read = (await Body?.transformToString()) === text;
    const { Contents = [] } = await s3.send(new ListObjectsV2Command({ Bucket: bucket }), { abortSignal });

    for (let last = made.at(-1); last; last = made.at(-1)) {
      await last.remove();
      made.pop();
    }
    return { bucket, location, size: Buffer.byteLength(text), read, listed: Contents.length, deleted: true };
  } catch (error) {
    throw await undo(made, error);
  }
}

// ---- command line: leave out when copying ----
import { S3Client as Client } from '@aws-sdk/client-s3';
import { bucketName, connect, interrupted, print, recipe } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('<bucket>', 'name of a bucket to create, and delete in the end', bucketName)
    .option('--location <name>', "Google's name of where to keep it", 'US')
    .option('--project <id>', 'project of Google that it belongs to (default: the default project there)')
    .action(async (bucket, options) => {
      // --local and --endpoint-url set the variable.
      const s3 = connect(Client, googleCloudStorage({ endpoint: process.env.AWS_ENDPOINT_URL }));
      const { accessKeyId } = await s3.config.credentials();
      if (/^A[KS]IA/.test(accessKeyId)) throw new TypeError('that is a key of AWS: give --profile with one of Google');
      print(await tryStorage(s3, { bucket, ...options, signal: interrupted() }));
    }),
);
