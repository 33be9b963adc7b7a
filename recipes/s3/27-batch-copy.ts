/**
 * 3.27 Copy millions of objects by a batch job
 *
 * ## Problem
 * You want to copy so many objects to another bucket that a program of yours would run for days (3.15 is for fewer). It
 * should go on by itself, and tell in the end what failed.
 *
 * ## Solution
 * Have S3 Batch Operations do it: create a job that copies all objects under a prefix, or those that an inventory
 * lists, watch it until it ends, and read its report of what failed.
 *
 * ## Discussion
 * The job works as a role of yours. `--show-role` prints the two documents of one: who may take it on, for `aws iam
 * create-role`, and what it may do, for `aws iam put-role-policy` (in China write aws-cn for aws, in GovCloud
 * aws-us-gov). Where KMS encrypts, the role needs kms:Decrypt on the keys of the source and the inventory, and
 * kms:GenerateDataKey on those of the target and the inventory.
 *
 * The job lives in the target's region, and so must the client. By a prefix, S3 makes the list itself when the job
 * begins, but only of a bucket in that region. From another one, take an inventory (3.26), which is a day old or more.
 * Best of current versions only: of all, each is copied, in any order, so that an old one can end up current.
 *
 * All objects come from one bucket and go to one bucket, under their own keys, into a folder if you like. Metadata and
 * tags are kept. The storage class is not: all copies are Standard, with the target's own encryption, without ACLs and
 * locks. Objects over 5 GB fail (3.6 copies those), and so do archived ones that are not restored. In a bucket without
 * versioning, objects of the same keys are replaced.
 *
 * Ctrl-C stops the watching, not the job: the error names it, and `--job-id` takes it up again. To end it,
 * `aws s3control update-job-status --requested-job-status Cancelled`; what is copied stays.
 *
 * @aws npx tsx recipes/s3/27-batch-copy.ts s3://paws-example/logs/ s3://paws-example-copy --show-role
 * @aws npx tsx recipes/s3/27-batch-copy.ts s3://paws-example/logs/ s3://paws-example-copy --role-arn arn:aws:iam::111122223333:role/copy
 * @permission s3:CreateJob on *
 * @permission s3:DescribeJob on arn:aws:s3:*:*:job/*
 * @permission iam:PassRole on arn:aws:iam::*:role/ROLE
 * @permission s3:ListBucket on arn:aws:s3:::TARGET
 * @permission s3:GetObject on arn:aws:s3:::TARGET/batch-copy/*
 * @permission s3:GetObject on arn:aws:s3:::INVENTORY/*
 * @cost $0.25 for a job, $1 for a million objects, $5 for a million copies to Standard, and for S3's own list $0.015
 * for a million objects of the whole source bucket, in us-east-1 (2026); reading from an infrequent access class;
 * requests to KMS; traffic to another region; what the copies take
 * @undo nothing
 * @emulator None has S3 Batch Operations: the test looks at what is sent and gives the answers itself.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-copy-object.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-iam-role-policies.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_control_CreateJob.html
 */
import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { GetObjectCommand, HeadObjectCommand, paginateListObjectsV2, S3Client } from '@aws-sdk/client-s3';
import { CreateJobCommand, DescribeJobCommand, type JobDescriptor, S3ControlClient } from '@aws-sdk/client-s3-control';
import { type CopyJob, isInventory, type Place, reportPrefix } from './27-helpers/batch-copy-role.ts';

/** When jobs were created here: S3 may not know them for a moment. */
const createdAt = new Map<string, number>();

export interface BatchCopy {
  jobId: string;
  /** `Complete`, even if objects failed; `Failed`, as when most did, or `Cancelled`. */
  status: string;
  total: number;
  succeeded: number;
  failed: number;
  /** The first ten of those that failed. */
  examples: { key: string; code: string; message: string }[];
}

/**
 * Creates a job that copies all objects under a prefix, or those of an inventory.
 *
 * @param s3control - Of the target's region.
 * @param s3 - Of the region of the inventory's bucket; only asked about an inventory.
 * @param options.accountId - The account that owns the job, 12 digits.
 * @param options.source - What to copy: a prefix, or the `manifest.json` of an inventory in CSV.
 * @param options.target - Where to. Its prefix is a folder, `old/`. The report goes to this bucket, to `batch-copy/`.
 * @param options.roleArn - The role that the job works as (`batchCopyRole`).
 * @param options.tags - Tags for the job, which take s3:PutJobTagging. None by default.
 * @returns The job's id.
 * @throws RangeError for what can't be; NotFound when there is no such manifest; BadRequestException.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_control_CreateJob.html
 *
 * @example
 * const [source, target] = [{ bucket: 'reports', prefix: '2025/' }, { bucket: 'reports-copy', prefix: '' }];
 * const job = { accountId: '111122223333', source, target, roleArn: 'arn:aws:iam::111122223333:role/copy' };
 * console.log(await createCopyJob(new S3ControlClient({}), new S3Client({}), job));
 */
export async function createCopyJob(
  s3control: S3ControlClient,
  s3: S3Client,
  {
    accountId,
    source,
    target,
    roleArn,
    tags = {},
  }: CopyJob & { accountId: string; roleArn: string; tags?: Record<string, string> },
): Promise<string> {
  if (!/^\d{12}$/.test(accountId)) throw new RangeError(`an account has 12 digits, not "${accountId}"`);
  const [, partition] = /^arn:(aws[a-z-]*):iam::\d{12}:role\/.+$/.exec(roleArn) ?? [];
  if (!partition) throw new RangeError(`roleArn takes arn:aws:iam::…:role/…, not "${roleArn}"`);
  const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
  const arn = ({ bucket }: Place) => `arn:${partition}:s3:::${bucket}`;
  const description = `Copy s3://${source.bucket}/${source.prefix} to s3://${target.bucket}/${target.prefix}`;
  const command = new CreateJobCommand({
    AccountId: accountId,
    ClientRequestToken: randomUUID(),
    ConfirmationRequired: false,
    Description: description.slice(0, 256),
    Priority: 10,
    RoleArn: roleArn,
    Operation: {
      // S3 puts a slash of its own between this and a key.
      S3PutObjectCopy: { TargetResource: arn(target), TargetKeyPrefix: target.prefix.replace(/\/$/, '') || undefined },
    },
    ...(isInventory(source)
      ? { Manifest: await inventoryOf(s3, source, arn(source)) }
      : generated(source, arn(source))),
    Report: {
      Enabled: true,
      Bucket: arn(target),
      Prefix: reportPrefix,
      Format: 'Report_CSV_20180820',
      // What succeeded is the rest; to write that down for millions of objects would be of little use.
      ReportScope: 'FailedTasksOnly',
    },
    Tags: Tags.length > 0 ? Tags : undefined,
  });
  const { JobId = '' } = await s3control.send(command).catch((error) => {
    // A request that got no answer, or one of trouble at S3's, may have made the job all the same.
    const { attempts = 0, httpStatusCode = 500 } = error.$metadata ?? {};
    if (attempts === 0 || httpStatusCode < 500) throw error;
    const told = `${error.message}. A job may run: see aws s3control list-jobs --account-id ${accountId}`;
    throw Object.assign(new Error(told, { cause: error }), { name: error.name });
  });
  createdAt.set(JobId, Date.now());
  return JobId;
}

/**
 * Watches a job until it has ended, and reads its report.
 *
 * @param s3control - Of the job's region.
 * @param s3 - Of the same region.
 * @param options.accountId - The account that owns the job.
 * @param options.jobId - The job.
 * @param options.seconds - How often to ask. 10 by default.
 * @param options.signal - Ends the watching, not the job.
 * @param options.onProgress - Called with a text for people each time.
 * @returns How it ended, and what failed.
 * @throws NotFoundException when there is no such job; Error with S3's reason when the job as a whole failed, or when
 *   it waits to be confirmed; S3's error when the report can't be read: the message tells how the job ended.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_control_DescribeJob.html
 *
 * @example
 * const job = { accountId: '111122223333', jobId: '00e123a4-c0d8-41f4-a0eb-b46f9ba5b07c' };
 * const { succeeded, failed } = await batchCopy(new S3ControlClient({}), new S3Client({}), job);
 * console.log(`${succeeded} copied, ${failed} failed`);
 */
export async function batchCopy(
  s3control: S3ControlClient,
  s3: S3Client,
  {
    accountId,
    jobId,
    seconds = 10,
    signal,
    onProgress,
  }: {
    accountId: string;
    jobId: string;
    seconds?: number;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<BatchCopy> {
  const input = { AccountId: accountId, JobId: jobId };
  let ended = '';
  try {
    // The SDK has no waiter for jobs.
    for (;;) {
      const asked = s3control.send(new DescribeJobCommand(input), { abortSignal: signal });
      const { Job = {} } = await asked.catch((error): { Job?: JobDescriptor } => {
        const isNew = Date.now() - (createdAt.get(jobId) ?? 0) < 30_000;
        if (isNew && /^(NoSuchJob|NotFound(Exception)?)$/.test(error.name)) return { Job: { Status: 'New' } };
        throw error;
      });
      const { Status: status = '', ProgressSummary = {}, FailureReasons = [], Report } = Job;
      const { TotalNumberOfTasks: total = 0, NumberOfTasksSucceeded: succeeded = 0 } = ProgressSummary;
      const failed = ProgressSummary.NumberOfTasksFailed ?? 0;
      onProgress?.(`job ${jobId} is ${status}: ${succeeded} of ${total} copied, ${failed} failed`);
      if (status === 'Failed' && succeeded + failed === 0) {
        const why = FailureReasons.map(({ FailureCode, FailureReason }) => `${FailureCode}: ${FailureReason}`);
        throw new Error(`S3 gave the job up: ${why.join('; ')}`);
      }
      if (status === 'Suspended')
        throw new Error('The job waits to be confirmed, in the console or by `update-job-status`.');
      if (['Complete', 'Failed', 'Cancelled'].includes(status)) {
        const outcome = { jobId, status, total, succeeded, failed };
        // Jobs that others made need not have a report.
        const [, bucket] = Report?.Bucket?.split(':::') ?? [];
        if (!bucket || failed === 0) return { ...outcome, examples: [] };
        ended = `, ${inWords(outcome)}; its report was not read`;
        const prefix = `${Report?.Prefix ? `${Report.Prefix}/` : ''}job-${jobId}/results/`;
        return { ...outcome, examples: await readReport(s3, { bucket, prefix, signal }) };
      }
      await setTimeout(seconds * 1000, undefined, { signal });
    }
  } catch (cause) {
    const why = signal?.aborted ? signal.reason : cause;
    const told = `${`${why?.message ?? why}`.replace(/\.$/, '')}. The job is ${jobId}${ended}.`;
    throw Object.assign(new Error(told, { cause }), { name: why?.name ?? 'AbortError' });
  }
}

function inWords({ status, total, failed }: Omit<BatchCopy, 'examples'>): string {
  return `${status}: ${failed} of ${total} failed`;
}

/** S3 makes the list of the objects itself. */
function generated({ prefix }: Place, SourceBucket: string) {
  const Filter = prefix ? { KeyNameConstraint: { MatchAnyPrefix: [prefix] } } : undefined;
  return { ManifestGenerator: { S3JobManifestGenerator: { SourceBucket, EnableManifestOutput: false, Filter } } };
}

/** The list is an inventory. Its ETag makes sure that it is still the same when the job begins. */
async function inventoryOf(s3: S3Client, { bucket, prefix: key }: Place, bucketArn: string) {
  const { ETag } = await s3.send(new HeadObjectCommand({ Bucket: bucket, Key: key }));
  return {
    Spec: { Format: 'S3InventoryReport_CSV_20161130' as const },
    Location: { ObjectArn: `${bucketArn}/${key}`, ETag },
  };
}

/** Ten failures of a job's report: bucket, key, version, status, HTTP status and error code in any order, message. */
async function readReport(
  s3: S3Client,
  { bucket: Bucket, prefix: Prefix, signal }: Place & { signal?: AbortSignal },
): Promise<BatchCopy['examples']> {
  const stoppable = { abortSignal: signal };
  const examples: BatchCopy['examples'] = [];
  for await (const { Contents = [] } of paginateListObjectsV2({ client: s3 }, { Bucket, Prefix }, stoppable)) {
    for (const { Key } of Contents) {
      // It may have a line for each of a billion objects, and another file for those that succeeded.
      const { Body } = await s3.send(new GetObjectCommand({ Bucket, Key, Range: 'bytes=0-65535' }), stoppable);
      for (const line of ((await Body?.transformToString()) ?? '').split('\n')) {
        // Keys are URL-encoded, so that only the message, at the end, can have a comma in it.
        const values = line.split(',').map((value) => value.replace(/^"|"$/g, ''));
        // AWS's list of the columns has the code before the HTTP status; its examples have them the other way round.
        const [, key = '', , status, one = '', two = '', ...message] = values;
        if (status !== 'failed') continue;
        examples.push({ key: decode(key), code: /^\d*$/.test(one) ? two : one, message: message.join(',') });
        if (examples.length === 10) return examples;
      }
    }
  }
  return examples;
}

/** A key as it is: only to be shown, so one that is not encoded after all is no reason to fail. */
function decode(key: string): string {
  try {
    return decodeURIComponent(key.replaceAll('+', ' '));
  } catch {
    return key;
  }
}

// ---- command line: leave out when copying ----
import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
import { confirm, connect, interrupted, local, print, progress, recipe, s3Prefix, yes } from '../../shared/cli.ts';
import { findBucketRegion } from './02-create-bucket-in-region.ts';
import { batchCopyRole } from './27-helpers/batch-copy-role.ts';

recipe(import.meta, (command) =>
  command
    .argument('<source>', 's3://BUCKET/PREFIX, or the manifest.json of an inventory', s3Prefix)
    .argument('<target>', 's3://BUCKET, or s3://BUCKET/FOLDER/ to copy into that', s3Prefix)
    .option('--role-arn <arn>', 'the role that the job works as')
    .option('--show-role', 'print what that role has to be, and end')
    .option('--job-id <id>', 'watch this job, and create none')
    .addOption(yes)
    .action(async (source, target, { roleArn = '', showRole, jobId }) => {
      if (showRole) return console.log(JSON.stringify(batchCopyRole({ source, target }), null, 2));
      if (!(jobId ?? roleArn)) throw new RangeError('give --role-arn (see --show-role) or a --job-id');
      if (local()) throw new RangeError('LocalStack has no S3 Batch Operations');
      const [s3control, s3] = [connect(S3ControlClient), connect(S3Client)];
      const { Account: accountId = '' } = await connect(STSClient).send(new GetCallerIdentityCommand({}));
      if (!jobId) {
        await confirm(`Copy to ${target.bucket}? A job costs $0.25, a million objects some $6, and storage.`);
        const there = connect(S3Client, { region: await findBucketRegion(s3, source) });
        interrupted(); // From here on Ctrl-C must not end it: nobody would name the job.
        jobId = await createCopyJob(s3control, there, { accountId, source, target, roleArn });
      }
      const result = await batchCopy(s3control, s3, { accountId, jobId, signal: interrupted(), onProgress: progress });
      print(result, { examples: () => result.examples.map((one) => Object.values(one).join(' ')).join('; ') || '-' });
      if (result.status !== 'Complete' || result.failed > 0) throw new Error(`the job is ${inWords(result)}`);
    }),
);
