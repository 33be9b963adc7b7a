/** Looks whether S3 can write access logs into a bucket: S3 itself only tells by writing none. */
import {
  GetBucketEncryptionCommand,
  GetBucketLoggingCommand,
  GetBucketPolicyCommand,
  GetBucketRequestPaymentCommand,
  GetObjectLockConfigurationCommand,
  paginateListBuckets,
  type S3Client,
} from '@aws-sdk/client-s3';
import { findDenials, type LogRoute } from './log-policy.ts';

/**
 * Finds what would keep S3 from writing logs, as far as the settings of the buckets tell.
 *
 * @param s3 - Of the region of the bucket that is logged.
 * @param route - From where to where.
 * @returns A line for each problem; none when S3 only needs to be allowed.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/troubleshooting-server-access-logging.html
 */
export async function findProblems(s3: S3Client, route: LogRoute, signal?: AbortSignal): Promise<string[]> {
  const { bucket, target } = route;
  const stoppable = { abortSignal: signal };
  // The list has the account's own buckets only, in all regions.
  const regionOf = async (name: string) => {
    const pages = paginateListBuckets({ client: s3, pageSize: 1000 }, { Prefix: name }, stoppable);
    for await (const { Buckets = [] } of pages) {
      const mine = Buckets.find(({ Name }) => Name === name);
      if (mine) return mine.BucketRegion ?? (await s3.config.region());
    }
    return null;
  };
  const [here, there] = [await regionOf(bucket), await regionOf(target)];
  for (const [name, region] of [
    [bucket, here],
    [target, there],
  ]) {
    if (region === null) return [`${name} is no bucket of this account`];
  }
  // The other settings are told in the bucket's own region only.
  if (here !== there) return [`${target} is in ${there} and ${bucket} in ${here}: both must be in one region`];

  const problems: string[] = [];
  const { LoggingEnabled } = await s3.send(new GetBucketLoggingCommand({ Bucket: target }), stoppable);
  const next = LoggingEnabled?.TargetBucket;
  if (next === target || next === bucket) problems.push(`${target} logs to ${next}: logs of logs, without end`);

  const algorithm = await s3
    .send(new GetBucketEncryptionCommand({ Bucket: target }), stoppable)
    .then(
      ({ ServerSideEncryptionConfiguration: { Rules = [] } = {} }) =>
        Rules[0]?.ApplyServerSideEncryptionByDefault?.SSEAlgorithm,
      none('ServerSideEncryptionConfigurationNotFoundError'),
    );
  if (algorithm && algorithm !== 'AES256') {
    problems.push(`${target} encrypts with ${algorithm}: log files need SSE-S3, which is AES256`);
  }

  const lock = await s3
    .send(new GetObjectLockConfigurationCommand({ Bucket: target }), stoppable)
    .then(
      ({ ObjectLockConfiguration }) => ObjectLockConfiguration?.ObjectLockEnabled,
      none('ObjectLockConfigurationNotFoundError'),
    );
  if (lock) problems.push(`${target} has Object Lock, and S3 writes no logs into such a bucket`);

  const { Payer } = await s3.send(new GetBucketRequestPaymentCommand({ Bucket: target }), stoppable);
  if (Payer === 'Requester') problems.push(`${target} has Requester Pays, and S3 pays for no logs`);

  const denials = findDenials(await readPolicy(s3, target, signal), route);
  if (denials.length > 0) {
    problems.push(`a Deny in the policy of ${target} is in the way, or may be: ${denials.join(', ')}`);
  }
  return problems;
}

/** The text of a bucket's policy; null when it has none. */
export async function readPolicy(s3: S3Client, bucket: string, signal?: AbortSignal): Promise<string | null> {
  const answer = s3.send(new GetBucketPolicyCommand({ Bucket: bucket }), { abortSignal: signal });
  return (await answer.then(({ Policy }) => Policy, none('NoSuchBucketPolicy'))) ?? null;
}

/** Takes the error of this name for the answer that there is none. */
function none(name: string): (error: Error) => undefined {
  return (error) => {
    if (error.name !== name) throw error;
  };
}
