/**
 * 3.1 Create a bucket
 *
 * ## Problem
 * You want somewhere to keep objects, under a name of your own, that nobody but you can read.
 *
 * ## Solution
 * Look whether the bucket is yours already; if not, create it. Run it as often as you like: a script that needs
 * a bucket can begin with it.
 *
 * ## Discussion
 * All AWS accounts share one namespace, so the short names are taken: put something of your own in front. Nothing
 * secret, for names stand in URLs, and best no dots: HTTPS to the bucket's own host name fails with them. A name that
 * somebody else has is the error `BucketAlreadyExists`, and no permission changes that. When you delete a bucket,
 * anybody may take its name, and gets the requests that are still sent to it. (Names that end in `-an` belong to your
 * account only; they need `BucketNamespace: 'account-regional'` in the call, and are not made here.)
 *
 * Why look first? In us-east-1 creating your own bucket again succeeds and resets its access control list;
 * elsewhere it is the error `BucketAlreadyOwnedByYou`. HeadBucket alone is no substitute: it answers 200 for somebody
 * else's bucket that you may read. A bucket that was deleted a moment ago can still be in the list: then `created` is false,
 * and your next call gets `NoSuchBucket`. Creating it again can fail with `OperationAborted`.
 *
 * A new bucket is private without further calls: since April 2023 Block Public Access is on and access control
 * lists are off in every new bucket, and objects are encrypted with S3's own keys. Within your account, policies
 * decide who reads. A bucket that is yours already is left as it is, public or not, with its tags.
 *
 * The bucket is made in the client's region and stays there. One that is yours already may be in another: use a
 * client of the region that is returned (3.2).
 *
 * @run npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @output
 *   bucket   paws-example
 *   region   us-east-1
 *   created  yes
 * @permission s3:ListAllMyBuckets on *
 * @permission s3:CreateBucket on arn:aws:s3:::BUCKET
 * @permission s3:TagResource on arn:aws:s3:::BUCKET
 * @permission s3:ListBucket on arn:aws:s3:::BUCKET
 * @cost nothing until you store something; from the account's 2,001st bucket on a few cents a month each
 * @undo npx tsx recipes/setup/09-clean-up.ts s3://{bucket} --local --yes
 * @book s3.create_bucket → CreateBucketCommand
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
 */
import { CreateBucketCommand, HeadBucketCommand, paginateListBuckets, S3Client } from '@aws-sdk/client-s3';

export interface CreatedBucket {
  bucket: string;
  /** Where it is: the client's region, or another one if the bucket was yours already. */
  region: string;
  /** False when the bucket was yours already, or was made by a first try whose answer was lost. */
  created: boolean;
}

/**
 * Creates a private bucket, or finds that it is your account's already; then it is left as it is.
 *
 * @param s3 - Its region is the one that the bucket is created in.
 * @param options.bucket - Name of the bucket: 3 to 63 lower-case letters, digits, dots and hyphens.
 * @param options.tags - Tags to put on a bucket that is created. None by default.
 * @throws RangeError when the name breaks one of S3's rules.
 * @throws BucketAlreadyExists when the name is somebody else's.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html
 *
 * @example
 * const s3 = new S3Client({});
 * const { created } = await createBucket(s3, { bucket: 'my-company-reports' });
 * console.log(created ? 'created' : 'was there already');
 */
export async function createBucket(
  s3: S3Client,
  { bucket, tags = {} }: { bucket: string; tags?: Record<string, string> },
): Promise<CreatedBucket> {
  checkBucketName(bucket);
  const region = await s3.config.region();

  // The list has your own buckets only. Others whose names begin with this one are in it, too.
  for await (const { Buckets = [] } of paginateListBuckets({ client: s3, pageSize: 1000 }, { Prefix: bucket })) {
    const mine = Buckets.find(({ Name }) => Name === bucket);
    if (mine) return { bucket, region: mine.BucketRegion ?? region, created: false };
  }

  const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
  try {
    await s3.send(
      new CreateBucketCommand({
        Bucket: bucket,
        // The SDK adds the client's region as LocationConstraint where one is needed: outside us-east-1.
        CreateBucketConfiguration: Tags.length > 0 ? { Tags } : undefined,
      }),
    );
  } catch (error) {
    if ((error as Error).name !== 'BucketAlreadyOwnedByYou') throw error;
    // Another run of yours was faster, in whatever region, or the SDK tried again because the first answer was lost.
    const head = s3.send(new HeadBucketCommand({ Bucket: bucket })).catch((refusal) => {
      // S3 tells the region with a refusal, too.
      const BucketRegion: string | undefined = refusal.$response?.headers['x-amz-bucket-region'];
      if (!BucketRegion) throw refusal;
      return { BucketRegion };
    });
    return { bucket, region: (await head).BucketRegion ?? region, created: false };
  }
  return { bucket, region, created: true };
}

/** Refuses a name that S3 would refuse for a new bucket, and says by which rule. */
function checkBucketName(bucket: string): void {
  const rules: [RegExp, string][] = [
    [/^.{3,63}$/, 'have 3 to 63 characters'],
    [/^[a-z0-9.-]*$/, 'have only lower-case letters, digits, dots and hyphens'],
    [/^[a-z0-9].*[a-z0-9]$/, 'begin and end with a letter or digit'],
    [/^(?!.*\.\.)/, 'have no two dots in a row'],
    [/^(?!\d+\.\d+\.\d+\.\d+$)/, 'not look like an IP address'],
    [/^(?!xn--|sthree-|amzn-s3-demo-)/, 'not begin with xn--, sthree- or amzn-s3-demo-'],
    [/(?<!-s3alias|--ol-s3|\.mrap|--x-s3|--table-s3)$/, 'not end in -s3alias, --ol-s3, .mrap, --x-s3, --table-s3'],
    [/(?<!-an)$/, 'not end in -an: that is for account regional namespaces'],
  ];
  for (const [rule, words] of rules) {
    if (!rule.test(bucket)) throw new RangeError(`"${bucket}" can't be a bucket: its name must ${words}`);
  }
}

// ---- command line: leave out when copying ----
import { connect, print, recipe, sayUndo, tags } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command.argument('<bucket>', 'name of the bucket').action(async (bucket) => {
    const result = await createBucket(connect(S3Client), { bucket, tags: tags() });
    print(result);
    if (result.created) sayUndo(result);
  }),
);
