/**
 * 3.2 Create a bucket in a region
 *
 * ## Problem
 * Your data has to be in a certain region: near its readers, near the machines that work on it, or where the law wants
 * it. Or you have the name of a bucket, and need to know in which region it is.
 *
 * ## Solution
 * Create it with a client of that region, as in 3.1, and refuse a bucket of yours that is elsewhere. To find a
 * bucket, send HeadBucket to any region: the answer has the bucket's region in it, even when it is a refusal.
 *
 * ## Discussion
 * A bucket stays in its region for good. To move it, make one of another name and copy what is in it (3.15).
 *
 * The SDK sends the client's region as `LocationConstraint`. Only us-east-1 must not be named there: it is what
 * no constraint means. `EU` is the old name of eu-west-1. GetBucketLocation speaks that old language still, `EU`
 * for some buckets and nothing at all for us-east-1; AWS recommends HeadBucket instead.
 *
 * A client of another region gets `PermanentRedirect` (301), `IllegalLocationConstraintException` (400) or
 * `AuthorizationHeaderMalformed` (400) from S3. Best make one of the bucket's own region, as in the second example.
 * `new S3Client({ followRegionRedirects: true })` sends a call again to the right region after the first two, not
 * after the third; that fails for a stream as the body, and a presigned URL (3.10) stays signed for the wrong region.
 *
 * HeadBucket needs no permission to tell the region: of a bucket that you may not list it says 403, and where it is.
 * (With `s3:ListBucket` it says 200; the other permissions below are for creating.) So a name alone tells strangers the
 * region, and whether the bucket exists.
 *
 * Newer regions are off until you turn them on (1.6 lists those that are on). One that is off refuses your credentials
 * as if they were wrong, and so does one that is on with a session token of the global STS endpoint. China and GovCloud
 * have accounts of their own. A misspelt region is a server that can't be found. An IAM policy can limit where buckets
 * are made with the conditions `aws:RequestedRegion` or `s3:locationconstraint` (us-east-1 has none).
 *
 * @run npx tsx recipes/s3/02-create-bucket-in-region.ts paws-example eu-west-1 --local
 * @run npx tsx recipes/s3/02-create-bucket-in-region.ts paws-example --local
 * @output
 *   bucket   paws-example
 *   region   eu-west-1
 *   created  yes
 * @permission s3:ListAllMyBuckets on *
 * @permission s3:CreateBucket on arn:aws:s3:::BUCKET
 * @permission s3:TagResource on arn:aws:s3:::BUCKET
 * @permission s3:ListBucket on arn:aws:s3:::BUCKET
 * @cost nothing until you store something
 * @undo npx tsx recipes/setup/09-clean-up.ts s3://{bucket} --local --yes
 * @emulator LocalStack takes any region, and lets a client of any region use any bucket: what S3 answers then is
 *   played by the tests.
 * @book s3.create_bucket → CreateBucketCommand
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucketConfiguration.html
 * @see https://docs.aws.amazon.com/accounts/latest/reference/manage-acct-regions.html
 */
import { HeadBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { type CreatedBucket, createBucket } from './01-create-bucket.ts';

/**
 * Creates a private bucket in a region, or finds that it is your account's already, and there.
 *
 * @param connect - Makes a client for a region.
 * @param options.bucket - Name of the bucket.
 * @param options.region - Where it is to be: `eu-central-1`. `EU` means eu-west-1, as it did once.
 * @param options.tags - Tags to put on a bucket that is created. None by default.
 * @throws RangeError when that can't be the name of a region or bucket; BucketInOtherRegion when the bucket is yours
 *   and elsewhere; BucketAlreadyExists when the name is somebody else's.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html
 *
 * @example
 * const connect = (region: string) => new S3Client({ region });
 * const { created } = await createBucketInRegion(connect, { bucket: 'my-company-reports', region: 'eu-central-1' });
 * console.log(created ? 'created' : 'was there already');
 */
export async function createBucketInRegion(
  connect: (region: string) => S3Client,
  { bucket, region: wanted, tags }: { bucket: string; region: string; tags?: Record<string, string> },
): Promise<CreatedBucket> {
  const region = wanted === 'EU' ? 'eu-west-1' : wanted;
  // What is put into the name of a server must not name another one.
  if (!/^(?!fips-)[a-z]{2,}(-[a-z]+)+-\d+$/.test(region))
    throw new RangeError(`"${wanted}" is no region such as eu-west-1`);

  const result = await createBucket(connect(region), { bucket, tags });
  // A bucket can't be moved, and data must not land where nobody wanted it.
  if (result.region !== region) {
    const message = `${bucket} is yours already, in ${result.region}: take another name for ${region}`;
    throw Object.assign(new Error(message), { name: 'BucketInOtherRegion' });
  }
  return result;
}

/**
 * Finds the region of any general purpose bucket whose name you know, yours or not.
 *
 * @param s3 - Of any region of the same partition.
 * @param options.bucket - Name of the bucket.
 * @param options.signal - Stops it.
 * @throws NotFound when there is no such bucket; RangeError for a directory bucket; Error when S3 says no without a word.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html
 *
 * @example
 * const region = await findBucketRegion(new S3Client({}), { bucket: 'my-company-reports' });
 * const s3 = new S3Client({ region });
 * console.log(await s3.config.region());
 */
export async function findBucketRegion(
  s3: S3Client,
  { bucket, signal }: { bucket: string; signal?: AbortSignal },
): Promise<string> {
  if (/--xa?-s3$/.test(bucket)) throw new RangeError(`${bucket} is a directory bucket: its zone is in its name`);
  try {
    const { BucketRegion } = await s3.send(new HeadBucketCommand({ Bucket: bucket }), { abortSignal: signal });
    // Other servers than S3 may not tell; they have one region.
    return BucketRegion ?? (await s3.config.region());
  } catch (error) {
    // A bucket in another region is 301 or 400, one that you may not list 403: S3 tells the region all the same.
    const { name, $response } = error as { name: string; $response?: Answer };
    const region = $response?.headers?.['x-amz-bucket-region'];
    if (name === 'NotFound') throw Object.assign(new Error(`there is no bucket ${bucket}`), { name });
    if (region) return region;
    // HEAD has no body to say more in.
    if ($response?.statusCode === 400) {
      const why = 'the credentials may have expired, or be no good in this region';
      throw new Error(`S3 answers 400 without a word to HeadBucket: ${why}`, { cause: error });
    }
    throw error;
  }
}

/** Of an error's answer, what is read here. */
interface Answer {
  statusCode?: number;
  headers?: Record<string, string>;
}

// ---- command line: leave out when copying ----
import { bucketName, connect, print, recipe, sayUndo, tags } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('<bucket>', 'name of the bucket', bucketName)
    .argument('[region]', 'region to create it in (default: create nothing, tell where the bucket is)')
    .action(async (bucket, region) => {
      if (region === undefined) {
        print({ bucket, region: await findBucketRegion(connect(S3Client), { bucket }), created: false });
        return;
      }
      const connectTo = (name: string) => connect(S3Client, { region: name });
      const result = await createBucketInRegion(connectTo, { bucket, region, tags: tags() });
      print(result);
      if (result.created) sayUndo(result);
    }),
);
