/**
 * 3.8 Log the requests to a bucket
 *
 * ## Problem
 * You want to know who reads, writes and deletes in a bucket: for an audit, for a bill, or because an object is gone.
 *
 * ## Solution
 * Let S3 write an access log into another bucket: first look whether that bucket can take logs at all, then add a
 * statement to its policy that lets S3's log service write there, then turn logging on. Without a target you are told
 * what is on and what keeps logs from coming. `--off` turns it off and takes the statement out again.
 *
 * ## Discussion
 * S3 refuses a target of another account or region; most other wrong settings it takes, and no log ever comes. So these
 * are looked at before anything is changed: the target is another bucket, of the same account and region, and logs
 * nothing into this bucket or itself; its default encryption is SSE-S3 (logs don't come with a KMS key); Object Lock
 * and Requester Pays are off; and no Deny in its policy is in the way. A Deny with a condition that is not understood
 * here counts as one that is in the way. Have it spare AWS's services:
 * `"Bool": {"aws:PrincipalIsAWSService": "false"}`. Your organization's policies (RCPs) can deny too, and are not seen.
 *
 * The statement names this bucket and account, so nobody else's bucket can log into yours. It has a Sid of its own;
 * what else is in the policy stays. A policy has at most 20 KB, so a target takes the logs of about 60 buckets. Of two
 * programs that change a policy at the same time, the last wins: S3 knows no condition for it. For a moment S3 may
 * still tell the former policy, so let some seconds pass between two runs for one target.
 *
 * Log files get keys such as `PREFIX123456789012/us-east-1/BUCKET/2026/11/28/2026-11-28-00-00-00-1A2B3C4D`, by the
 * day of the requests in them: 3.18 reads those of some days and no others. Most records come within a few hours,
 * some later, and now and then one never: S3 promises no completeness. For proof use CloudTrail's data events, which
 * cost. After turning logging on or off it can take an hour until every request is treated so; records that come after
 * the statement is gone are lost.
 *
 * Logging is free, the log files are stored for ever: let 3.17 expire them. What is logged includes your own reading
 * of the bucket's settings.
 *
 * The book let the group LogDelivery write by an access control list. New buckets have none, hence the policy; an old
 * list is not looked at.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example-logs --local
 * @run npx tsx recipes/s3/08-access-logs.ts paws-example s3://paws-example-logs/access/ --local
 * @output
 *   bucket    paws-example
 *   enabled   yes
 *   target    paws-example-logs
 *   prefix    access/
 *   dates     EventTime
 *   problems  -
 *   changed   yes
 *   started   yes
 * @run npx tsx recipes/s3/08-access-logs.ts paws-example --local
 * @permission s3:ListAllMyBuckets on *
 * @permission s3:GetBucketLogging on arn:aws:s3:::BUCKET
 * @permission s3:GetBucketLogging on arn:aws:s3:::TARGET
 * @permission s3:PutBucketLogging on arn:aws:s3:::BUCKET
 * @permission s3:GetBucketPolicy on arn:aws:s3:::TARGET
 * @permission s3:PutBucketPolicy on arn:aws:s3:::TARGET
 * @permission s3:DeleteBucketPolicy on arn:aws:s3:::TARGET
 * @permission s3:GetEncryptionConfiguration on arn:aws:s3:::TARGET
 * @permission s3:GetBucketObjectLockConfiguration on arn:aws:s3:::TARGET
 * @permission s3:GetBucketRequestPayment on arn:aws:s3:::TARGET
 * @cost the log files' storage: S3 charges nothing for logging or for delivery
 * @undo npx tsx recipes/s3/08-access-logs.ts {bucket} --off --local
 * @emulator LocalStack and versitygw deliver no logs, and LocalStack holds nobody to a bucket policy: what is tested is
 *   the settings, and the judgement of policies by examples.
 * @book bucket.enable_logging, bucket.disable_logging → PutBucketLoggingCommand
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-server-access-logging.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/troubleshooting-server-access-logging.html
 */
import {
  DeleteBucketPolicyCommand,
  GetBucketLoggingCommand,
  PutBucketLoggingCommand,
  PutBucketPolicyCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
import { type Made, undo } from '../../shared/undo.ts';
import { addStatement, isAllowed, type LogRoute, removeStatement, sidOf } from './08-helpers/log-policy.ts';
import { findProblems, readPolicy } from './08-helpers/log-target.ts';

export interface AccessLogs {
  bucket: string;
  /** Whether S3 logs the bucket's requests. */
  enabled: boolean;
  /** The bucket that the log files go to; null when there is none. */
  target: string | null;
  /** What the keys of the log files begin with; null when there are none. */
  prefix: string | null;
  /** Which date is in the keys' folders: the requests', or the delivery's. Null for keys without folders. */
  dates: 'EventTime' | 'DeliveryTime' | null;
  /** What keeps the log files from coming, each in a line. */
  problems: string[];
}

export interface ChangedLogs extends AccessLogs {
  /** False when it was so before. */
  changed: boolean;
}

/**
 * Tells whether a bucket's requests are logged, where to, and what keeps the logs from coming.
 *
 * @param s3 - Of the bucket's region.
 * @param sts - Tells whose account it is.
 * @param options.bucket - Name of the bucket whose requests are logged.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLogging.html
 *
 * @example
 * const [s3, sts] = [new S3Client({}), new STSClient({})];
 * const { enabled, problems } = await accessLogs(s3, sts, { bucket: 'my-company-reports' });
 * console.log(enabled ? `on, ${problems.length} problems` : 'off');
 */
export async function accessLogs(
  s3: S3Client,
  sts: STSClient,
  { bucket, signal }: { bucket: string; signal?: AbortSignal },
): Promise<AccessLogs> {
  const logs = await readLogging(s3, bucket, signal);
  if (logs.target === null || logs.prefix === null) return logs;
  const route = await findRoute(sts, { bucket, target: logs.target, prefix: logs.prefix }, signal);
  const problems = await findProblems(s3, route, signal);
  if (problems.length === 0 && !isAllowed(await readPolicy(s3, logs.target, signal), route)) {
    const list = 'an old access control list, which is not looked at, may';
    problems.push(`no statement in the policy of ${logs.target} is sure to let S3 write logs there (${list})`);
  }
  return { ...logs, problems };
}

/**
 * Lets S3 log a bucket's requests into another bucket.
 *
 * @param s3 - Of the region of both buckets.
 * @param sts - Tells whose account it is.
 * @param options.bucket - Name of the bucket whose requests are to be logged.
 * @param options.target - Name of the bucket that gets the log files.
 * @param options.prefix - What their keys begin with. Nothing by default.
 * @param options.signal - Stops it; then logging is as it was, and so is the policy, unless logging was on already.
 * @returns How it is now, and whether this has started it: if not, there may still be a statement more in the policy.
 * @throws RangeError when the target is the bucket itself, or the prefix can't stand in a policy.
 * @throws Error when logs would not come, or go somewhere else already; nothing is changed then.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLogging.html
 *
 * @example
 * const [s3, sts] = [new S3Client({}), new STSClient({})];
 * const { changed } = await startAccessLogs(s3, sts, { bucket: 'my-reports', target: 'my-logs', prefix: 'access/' });
 * console.log(changed ? 'on from now' : 'was on already');
 */
export async function startAccessLogs(
  s3: S3Client,
  sts: STSClient,
  options: { bucket: string; target: string; prefix?: string; signal?: AbortSignal },
): Promise<ChangedLogs & { started: boolean }> {
  const { bucket, target, prefix = '', signal } = options;
  if (bucket === target) throw new RangeError(`${bucket} can't log into itself: each log file would be logged again`);
  if (/[*?$]/.test(prefix))
    throw new RangeError(`the prefix can't have * ? or $, which mean more in a policy: ${prefix}`);

  const before = await readLogging(s3, bucket, signal);
  const wanted = { bucket, enabled: true, target, prefix, dates: 'EventTime', problems: [] } as const;
  const isOn = before.target === target && before.prefix === prefix && before.dates === wanted.dates;
  if (before.enabled && !isOn) {
    const folders = before.dates ? `folders by ${before.dates}` : 'no folders';
    throw new Error(
      `${bucket} logs to s3://${before.target}/${before.prefix} with ${folders} already: turn that off first`,
    );
  }

  // S3 takes most targets that it can't deliver to: so look now, while nothing is changed.
  const route = await findRoute(sts, { bucket, target, prefix }, signal);
  const problems = await findProblems(s3, route, signal);
  if (problems.length > 0) throw new Error(problems.join('\n'));

  // The permission first: logs that S3 can't deliver are lost.
  const old = await readPolicy(s3, target, signal);
  const Policy = addStatement(old, route);
  const made: Made[] = [];
  signal?.throwIfAborted();
  try {
    if (Policy !== old) {
      // Only where there was another statement of ours does the whole policy go back to what it was.
      const isNew = old === null || removeStatement(old, route) === old;
      const remove = () => (isNew ? forbidLogs(s3, { bucket, target }) : restorePolicy(s3, target, old));
      made.push({ id: `${sidOf(route)} in the policy of ${target}`, remove });
      // Not aborted: S3 could do it after it was taken back.
      await s3.send(new PutBucketPolicyCommand({ Bucket: target, Policy }));
    }
    const PartitionedPrefix = { PartitionDateSource: wanted.dates };
    const LoggingEnabled = { TargetBucket: target, TargetPrefix: prefix, TargetObjectKeyFormat: { PartitionedPrefix } };
    const command = new PutBucketLoggingCommand({ Bucket: bucket, BucketLoggingStatus: { LoggingEnabled } });
    if (!isOn) {
      // Without an answer it may be on: it must not stay on when the permission goes.
      signal?.throwIfAborted();
      made.push({ id: `logging of ${bucket}`, remove: () => stopLogging(s3, bucket) });
      await s3.send(command);
    }
  } catch (error) {
    // Where logging was on before, the statement may be needed.
    throw isOn ? error : await undo(made, error);
  }
  return { ...wanted, problems: [], changed: !isOn || Policy !== old, started: !isOn };
}

/**
 * Stops the logging of a bucket's requests, and takes what was added to the target's policy out again.
 *
 * @param s3 - Of the region of both buckets.
 * @param options.bucket - Name of the bucket whose requests are logged.
 * @param options.target - Where the logs went, if logging is off already and only the statement is left.
 * @throws The SDK's error; its message tells if the statement is left in the policy.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLogging.html
 *
 * @example
 * const s3 = new S3Client({});
 * const { changed } = await stopAccessLogs(s3, { bucket: 'my-company-reports' });
 * console.log(changed ? 'off from now' : 'was off already');
 */
export async function stopAccessLogs(
  s3: S3Client,
  { bucket, target, signal }: { bucket: string; target?: string; signal?: AbortSignal },
): Promise<ChangedLogs> {
  const before = await stopLogging(s3, bucket, signal);
  const where = before.target ?? target;
  const leftBehind = (error: Error) => {
    // A bucket that is gone has taken its policy along.
    if (error.name === 'NoSuchBucket') return false;
    const left = `${sidOf({ bucket })} is left in the policy of ${where}`;
    error.message += ` Logging is off; ${left}: stop again with this target.`;
    throw error;
  };
  const removed = where ? await forbidLogs(s3, { bucket, target: where }).catch(leftBehind) : false;
  return { ...before, enabled: false, target: null, prefix: null, dates: null, changed: before.enabled || removed };
}

/** Takes our statement out of a policy. Returns whether it was in. */
async function forbidLogs(s3: S3Client, { bucket, target }: { bucket: string; target: string }): Promise<boolean> {
  const old = await readPolicy(s3, target);
  const Policy = old && removeStatement(old, { bucket });
  if (Policy === old) return false;
  await restorePolicy(s3, target, Policy);
  return true;
}

/** Gives a bucket this policy, or none, unless it is so. */
async function restorePolicy(s3: S3Client, bucket: string, Policy: string | null): Promise<void> {
  if ((await readPolicy(s3, bucket)) === Policy) return;
  // S3 takes no policy without a statement.
  if (Policy) await s3.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy }));
  else await s3.send(new DeleteBucketPolicyCommand({ Bucket: bucket }));
}

/** Turns logging off if it is on. Returns how it was. */
async function stopLogging(s3: S3Client, bucket: string, signal?: AbortSignal): Promise<AccessLogs> {
  const before = await readLogging(s3, bucket, signal);
  // An empty status is what turns it off.
  const off = new PutBucketLoggingCommand({ Bucket: bucket, BucketLoggingStatus: {} });
  if (before.enabled) await s3.send(off, { abortSignal: signal });
  return before;
}

async function readLogging(s3: S3Client, bucket: string, signal?: AbortSignal): Promise<AccessLogs> {
  const { LoggingEnabled: on } = await s3.send(new GetBucketLoggingCommand({ Bucket: bucket }), {
    abortSignal: signal,
  });
  const partitioned = on?.TargetObjectKeyFormat?.PartitionedPrefix;
  return {
    bucket,
    enabled: on !== undefined,
    target: on?.TargetBucket ?? null,
    prefix: on ? (on.TargetPrefix ?? '') : null,
    dates: partitioned ? (partitioned.PartitionDateSource ?? 'EventTime') : null,
    problems: [],
  };
}

async function findRoute(
  sts: STSClient,
  buckets: Pick<LogRoute, 'bucket' | 'target' | 'prefix'>,
  signal?: AbortSignal,
): Promise<LogRoute> {
  const { Account = '', Arn = '' } = await sts.send(new GetCallerIdentityCommand({}), { abortSignal: signal });
  return { ...buckets, account: Account, partition: Arn.split(':')[1] ?? 'aws' };
}

// ---- command line: leave out when copying ----
import { bucketName, connect, interrupted, print, recipe, s3Prefix, sayUndo } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('<bucket>', 'name of the bucket whose requests are logged', bucketName)
    .argument('[target]', 's3://BUCKET/PREFIX of the log files; without it you are told how things are', s3Prefix)
    .option('--off', 'stop logging')
    .action(async (bucket, target, { off }) => {
      const [s3, sts] = [connect(S3Client), connect(STSClient)];
      const settings = { bucket, target: target?.bucket, signal: interrupted() };
      if (off) return print(await stopAccessLogs(s3, settings));
      if (!target) return print(await accessLogs(s3, sts, settings));
      const result = await startAccessLogs(s3, sts, { ...settings, target: target.bucket, prefix: target.prefix });
      print(result);
      if (result.started) sayUndo(result);
    }),
);
