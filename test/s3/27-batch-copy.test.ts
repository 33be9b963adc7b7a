import { CreateBucketCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { S3ControlClient } from '@aws-sdk/client-s3-control';
import { expect, test } from 'vitest';
import { batchCopy, createCopyJob } from '../../recipes/s3/27-batch-copy.ts';
import { batchCopyRole } from '../../recipes/s3/27-helpers/batch-copy-role.ts';
import { withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';
import { startProxy } from '../proxy.ts';

const { bucket, account: accountId, run, file, s3 } = testRecipe(import.meta);
const client = s3();
const roleArn = 'arn:aws:iam::111122223333:role/copy';
const target = { bucket, prefix: 'copied/' };
const jobId = '00e123a4-c0d8-41f4-a0eb-b46f9ba5b07c';

/** What S3 says of a job. */
const job = (Status: string, total: number, succeeded: number, failed: number, more = {}) => ({
  Job: {
    JobId: jobId,
    Status,
    ProgressSummary: {
      TotalNumberOfTasks: total,
      NumberOfTasksSucceeded: succeeded,
      NumberOfTasksFailed: failed,
    },
    Report: { Enabled: true, Bucket: `arn:aws:s3:::${bucket}`, Prefix: 'batch-copy' },
    ...more,
  },
});

/** A client of S3 Control whose answers are these, in turn; what is sent is kept. */
function answering(...answers: object[]) {
  const s3control = new S3ControlClient({
    region: 'eu-west-1',
    credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
  });
  // biome-ignore lint/suspicious/noExplicitAny: the inputs of all operations
  const sent: any[] = [];
  s3control.middlewareStack.add(
    () => async (args) => {
      sent.push(args.input);
      const output = answers[Math.min(sent.length, answers.length) - 1];
      if (output instanceof Error) throw output;
      return { output: { $metadata: {}, ...output }, response: {} } as never;
    },
    { step: 'build' },
  );
  return { s3control, sent };
}

async function putReport(lines: string): Promise<void> {
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  const Key = `batch-copy/job-${jobId}/results/0a1b.csv`;
  await client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: lines }));
}

test("a job for a prefix has S3 make the list, and reports failures only (as sent; the answers are the test's own)", async () => {
  const { s3control, sent } = answering({ JobId: jobId });
  const source = { bucket: 'paws-source', prefix: 'logs/2025' };
  const create = () => createCopyJob(s3control, client, { accountId, source, target, roleArn, tags: { paws: '3.27' } });
  expect(await create()).toBe(jobId);
  await create();
  expect(sent[0]).toEqual({
    AccountId: accountId,
    ClientRequestToken: expect.stringMatching(/^[\da-f-]{36}$/),
    ConfirmationRequired: false,
    Description: `Copy s3://paws-source/logs/2025 to s3://${bucket}/copied/`,
    Priority: 10,
    RoleArn: roleArn,
    Operation: { S3PutObjectCopy: { TargetResource: `arn:aws:s3:::${bucket}`, TargetKeyPrefix: 'copied' } },
    ManifestGenerator: {
      S3JobManifestGenerator: {
        SourceBucket: 'arn:aws:s3:::paws-source',
        EnableManifestOutput: false,
        Filter: { KeyNameConstraint: { MatchAnyPrefix: ['logs/2025'] } },
      },
    },
    Report: {
      Enabled: true,
      Bucket: `arn:aws:s3:::${bucket}`,
      Prefix: 'batch-copy',
      Format: 'Report_CSV_20180820',
      ReportScope: 'FailedTasksOnly',
    },
    Tags: [{ Key: 'paws', Value: '3.27' }],
  });
  expect(sent[1].ClientRequestToken).not.toBe(sent[0].ClientRequestToken);

  const whole = answering({ JobId: jobId });
  const everything = { source: { bucket: 'paws-source', prefix: '' }, target: { bucket, prefix: '' } };
  const cn = 'arn:aws-cn:iam::111122223333:role/copy';
  await createCopyJob(whole.s3control, client, { accountId, ...everything, roleArn: cn });
  expect(whole.sent[0]).toMatchObject({
    Operation: { S3PutObjectCopy: { TargetResource: `arn:aws-cn:s3:::${bucket}`, TargetKeyPrefix: undefined } },
    ManifestGenerator: {
      S3JobManifestGenerator: { SourceBucket: 'arn:aws-cn:s3:::paws-source', Filter: undefined },
    },
  });
});

test('where a job may have been made without an answer, the error says where to look', async () => {
  const failing = ($metadata?: object) =>
    answering(Object.assign(new Error('no luck'), { name: 'Trouble', $metadata })).s3control;
  const create = ($metadata?: object) =>
    createCopyJob(failing($metadata), client, { accountId, source: { bucket, prefix: '' }, target, roleArn });
  const told = `no luck. A job may run: see aws s3control list-jobs --account-id ${accountId}`;
  await expect(create({ attempts: 3 })).rejects.toMatchObject({ name: 'Trouble', message: told });
  await expect(create({ attempts: 3, httpStatusCode: 503 })).rejects.toMatchObject({ message: told });
  await expect(create({ attempts: 1, httpStatusCode: 400 })).rejects.toMatchObject({ message: 'no luck' });
  // It was not even sent, as without credentials.
  await expect(create()).rejects.toMatchObject({ message: 'no luck' });
});

test('a job for an inventory names its manifest as it is now', async () => {
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  const prefix = 'inventory/2026-11-22T01-00Z/manifest.json';
  const { ETag } = await client.send(new PutObjectCommand({ Bucket: bucket, Key: prefix, Body: '{}' }));
  const { s3control, sent } = answering({ JobId: jobId });
  await createCopyJob(s3control, client, { accountId, source: { bucket, prefix }, target, roleArn });
  expect(sent[0].Manifest).toEqual({
    Spec: { Format: 'S3InventoryReport_CSV_20161130' },
    Location: { ObjectArn: `arn:aws:s3:::${bucket}/${prefix}`, ETag },
  });
  expect(sent[0]).not.toHaveProperty('ManifestGenerator');
  const nowhere = { bucket, prefix: 'x/manifest.json' };
  await expect(createCopyJob(s3control, client, { accountId, source: nowhere, target, roleArn })).rejects.toMatchObject(
    { name: 'NotFound' },
  );
  expect(sent).toHaveLength(1);
});

test('what can not be is refused before anything is sent', async () => {
  const { s3control, sent } = answering({});
  const source = { bucket: 'paws-source', prefix: '' };
  for (const wrong of [{ accountId: '1' }, { roleArn: 'copy' }, { roleArn: 'arn:aws:iam::111122223333:user/me' }]) {
    await expect(createCopyJob(s3control, client, { accountId, source, target, roleArn, ...wrong })).rejects.toThrow(
      RangeError,
    );
  }
  expect(sent).toEqual([]);
});

test('a job is watched to its end, and the report tells what failed', async () => {
  const line = (key: string, code: string, message: string) => `paws-source,${key},,failed,400,${code},"${message}"\n`;
  const many = Array.from({ length: 12 }, (_, i) => line(`k${i}`, 'AccessDenied', 'Access Denied'));
  const odd = line('logs/a%2Bb+c/%F0%9F%98%80', 'InvalidRequest', 'over 5 GB, use parts');
  // In the order of AWS's own list of the columns.
  const listed = '"paws-source","100% cotton","","failed","AccessDenied","403","Access Denied"\n';
  // A report on all tasks tells of these, too.
  const fine = line('fine', '', 'Successful').replace(',failed,400,', ',succeeded,200,');
  await putReport(fine + odd + listed + many.join(''));
  const { s3control } = answering(job('New', 0, 0, 0), job('Active', 20, 3, 1), job('Complete', 20, 7, 13));
  const told: string[] = [];
  const onProgress = (text: string) => told.push(text);
  const result = await batchCopy(s3control, client, { accountId, jobId, seconds: 0, onProgress });
  expect(result).toMatchObject({ jobId, status: 'Complete', total: 20, succeeded: 7, failed: 13 });
  expect(result.examples).toHaveLength(10);
  expect(result.examples[0]).toEqual({ key: 'logs/a+b c/😀', code: 'InvalidRequest', message: 'over 5 GB, use parts' });
  expect(result.examples[1]).toEqual({ key: '100% cotton', code: 'AccessDenied', message: 'Access Denied' });
  expect(told).toEqual([
    `job ${jobId} is New: 0 of 0 copied, 0 failed`,
    `job ${jobId} is Active: 3 of 20 copied, 1 failed`,
    `job ${jobId} is Complete: 7 of 20 copied, 13 failed`,
  ]);
});

test('a job that S3 gives up, one to be confirmed, one that is unknown, and an interrupt name the job', async () => {
  const FailureReasons = [{ FailureCode: 'ManifestNotFound', FailureReason: 'there is none.' }];
  const failed = answering(job('Failed', 0, 0, 0, { FailureReasons }));
  const watch = (s3control: S3ControlClient, signal?: AbortSignal) =>
    batchCopy(s3control, client, { accountId, jobId, signal });
  await expect(watch(failed.s3control)).rejects.toThrow(
    `S3 gave the job up: ManifestNotFound: there is none. The job is ${jobId}.`,
  );
  const waits = answering(job('Suspended', 20, 0, 0), job('Cancelled', 20, 0, 0));
  await expect(watch(waits.s3control)).rejects.toThrow(
    `waits to be confirmed, in the console or by \`update-job-status\`. The job is ${jobId}.`,
  );
  const unknown = answering(Object.assign(new Error('no such job.'), { name: 'NotFoundException' }));
  const other = batchCopy(unknown.s3control, client, { accountId, jobId: 'other' });
  await expect(other).rejects.toMatchObject({ name: 'NotFoundException' });
  expect(unknown.sent).toHaveLength(1);
  const stop = new AbortController();
  const active = answering(job('Active', 1, 0, 0));
  setTimeout(() => stop.abort(new Error('Interrupted.')), 50);
  await expect(watch(active.s3control, stop.signal)).rejects.toThrow(`Interrupted. The job is ${jobId}.`);
});

test('a job that was created just now may be unknown yet', async () => {
  const unknown = (name: string) => Object.assign(new Error('no such job.'), { name });
  const lagging = answering(
    ...[{ JobId: 'young' }, unknown('NoSuchJob'), unknown('NotFoundException')],
    ...[job('Complete', 1, 1, 0), unknown('InternalServiceException')],
  );
  const source = { bucket: 'paws-source', prefix: '' };
  const young = await createCopyJob(lagging.s3control, client, { accountId, source, target, roleArn });
  const watch = () => batchCopy(lagging.s3control, client, { accountId, jobId: young, seconds: 0 });
  expect(await watch()).toMatchObject({ status: 'Complete', succeeded: 1 });
  await expect(watch()).rejects.toMatchObject({ name: 'InternalServiceException' });
});

test('how a job ended is told though it has no report, or one that can not be read', async () => {
  const watch = (s3control: S3ControlClient, s3 = client) => batchCopy(s3control, s3, { accountId, jobId });
  const none = answering(job('Complete', 2, 1, 1, { Report: { Enabled: false } }));
  expect(await watch(none.s3control)).toMatchObject({ status: 'Complete', failed: 1, examples: [] });

  const Prefixes: unknown[] = [];
  const answered = (input: object) => Prefixes.push((input as { Prefix: string }).Prefix);
  const empty = withFaults(s3(), { operation: 'ListObjectsV2', output: {}, answered });
  const Report = { Enabled: true, Bucket: `arn:aws:s3:::${bucket}` };
  await watch(answering(job('Complete', 2, 1, 1, { Report })).s3control, empty.client);
  expect(Prefixes).toEqual([`job-${jobId}/results/`]);

  const denied = withFaults(s3(), { operation: 'ListObjectsV2', error: 'AccessDenied' });
  await expect(watch(answering(job('Complete', 2, 1, 1)).s3control, denied.client)).rejects.toMatchObject({
    ...{ name: 'AccessDenied', cause: { name: 'AccessDenied' } },
    message: `AccessDenied. The job is ${jobId}, Complete: 1 of 2 failed; its report was not read.`,
  });
});

test('the role may read the source, write the target and the report, and nothing else', () => {
  const source = { bucket: 'paws-source', prefix: 'logs/' };
  const { trust, policy } = batchCopyRole({ source, target: { bucket: 'paws-target', prefix: 'a/' } });
  expect(trust).toMatchObject({ Statement: [{ Principal: { Service: 'batchoperations.s3.amazonaws.com' } }] });
  const statements = (policy as { Statement: { Action: string[]; Resource: string }[] }).Statement;
  expect(statements.map(({ Resource }) => Resource)).toEqual([
    'arn:aws:s3:::paws-source/logs/*',
    'arn:aws:s3:::paws-source',
    'arn:aws:s3:::paws-target/a/*',
    'arn:aws:s3:::paws-target/batch-copy/*',
  ]);
  const inventory = { bucket: 'paws-lists', prefix: 'x/manifest.json' };
  const other = batchCopyRole({ source: inventory, target, partition: 'aws-cn' });
  expect(JSON.stringify(other.policy)).toContain('"arn:aws-cn:s3:::paws-lists/*"');
});

test("the command asks first, and tells what failed (the answers are the test's own)", async () => {
  await putReport('paws-source,k,,failed,403,AccessDenied,Access Denied\n');
  const source = 's3://paws-example/lists/manifest.json';
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: 'lists/manifest.json', Body: '{}' }));
  const faults = [
    { operation: 's3control:CreateJob', output: { JobId: jobId } },
    { operation: 's3control:DescribeJob', output: job('Complete', 2, 1, 1) },
    // The inventory is in another region than the target.
    { operation: 's3:HeadBucket', output: { BucketRegion: 'eu-west-1' } },
  ];
  const stopped = [{ operation: 's3control:DescribeJob', output: job('Cancelled', 2, 1, 0) }];
  const [create, ...others] = faults;
  const atCreation = [{ ...create, signal: 'SIGINT' }, ...others] as typeof faults;
  const command = `npx tsx ${file} ${source} s3://paws-example --region us-east-1`;
  const here = process.env.COOKBOOK_LOCALSTACK as string;
  const proxy = await startProxy();
  const env = { AWS_SECRET_ACCESS_KEY: 'test', AWS_ENDPOINT_URL_S3: proxy.url, AWS_ENDPOINT_URL_STS: here };
  const [role, none, empty, locally, asked, done, again, cancelled, interrupted] = await Promise.all(
    [
      '--show-role',
      '',
      `--role-arn ${roleArn} --yes --job-id ""`,
      `--role-arn ${roleArn} --local`,
      `--role-arn ${roleArn}`,
      `--role-arn ${roleArn} --yes`,
      `--job-id ${jobId} --json`,
      `--job-id ${jobId}`,
      `--role-arn ${roleArn} --yes`,
    ].map((options, index) =>
      run(`${command} ${options}`, { faults: { 7: stopped, 8: atCreation }[index] ?? faults, env }),
    ),
  );
  expect(JSON.parse(role?.stdout ?? '')).toMatchObject({ trust: {}, policy: {} });
  expect(none).toMatchObject({ code: 2, stderr: expect.stringContaining('--show-role') });
  expect(empty).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('or a --job-id') });
  expect(locally).toMatchObject({ code: 2, stderr: expect.stringContaining('no S3 Batch Operations') });
  expect(asked).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('A job costs $0.25') });
  expect(done).toMatchObject({ code: 1, stderr: 'Error: the job is Complete: 1 of 2 failed\n' });
  expect(done?.stdout).toMatch(/^succeeded +1\nfailed +1\nexamples +k AccessDenied Access Denied$/m);
  expect(JSON.parse(again?.stdout ?? '')).toMatchObject({ status: 'Complete', failed: 1 });
  expect(cancelled).toMatchObject({ code: 1, stderr: 'Error: the job is Cancelled: 0 of 2 failed\n' });
  // The test's own answer comes all the same; S3's would not.
  const named = `Interrupted. The job is ${jobId}, Complete: 1 of 2 failed; its report was not read.\n`;
  expect(interrupted).toMatchObject({ code: 130, stdout: '', stderr: named });
  const regions = (operation: string) =>
    proxy.requests
      .filter((request) => request.operation === operation)
      .map(({ headers }) => headers.authorization?.split('/')[2]);
  expect(regions('HeadObject')).toEqual(['eu-west-1', 'eu-west-1']);
  expect(regions('ListObjectsV2')).toEqual(['us-east-1', 'us-east-1']);
});
