import {
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteBucketPolicyCommand,
  GetBucketLoggingCommand,
  GetBucketPolicyCommand,
  PutBucketEncryptionCommand,
  PutBucketLoggingCommand,
  PutBucketPolicyCommand,
  PutBucketRequestPaymentCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import { STSClient } from '@aws-sdk/client-sts';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { accessLogs, startAccessLogs, stopAccessLogs } from '../../recipes/s3/08-access-logs.ts';
import {
  addStatement,
  findDenials,
  isAllowed,
  removeStatement,
  sidOf,
} from '../../recipes/s3/08-helpers/log-policy.ts';
import { type ClientFault, withFaults } from '../faults.ts';
import { sandbox, settingsOf, testRecipe } from '../harness.ts';

const own = testRecipe(import.meta);
const { run, file, account } = own;
const neighbour = sandbox({ url: `${import.meta.url}?neighbour` });
const s3 = own.s3();
const sts = new STSClient(settingsOf(own));

let number = 0;
/** Two new buckets. */
async function makeBuckets({ objectLock = false } = {}): Promise<{ bucket: string; target: string }> {
  const bucket = `${own.bucket}-${++number}`;
  const target = `${bucket}-logs`;
  await s3.send(new CreateBucketCommand({ Bucket: bucket }));
  await s3.send(new CreateBucketCommand({ Bucket: target, ObjectLockEnabledForBucket: objectLock }));
  return { bucket, target };
}

const policyOf = async (target: string) => {
  const answer = s3.send(new GetBucketPolicyCommand({ Bucket: target }));
  return answer.then(
    ({ Policy = '' }) => JSON.parse(Policy),
    ({ name }) => name,
  );
};
const loggingOf = async (bucket: string) =>
  (await s3.send(new GetBucketLoggingCommand({ Bucket: bucket }))).LoggingEnabled;
const setPolicy = (target: string, ...Statement: object[]) =>
  s3.send(new PutBucketPolicyCommand({ Bucket: target, Policy: JSON.stringify({ Version: '2012-10-17', Statement }) }));

/** Our statement, as it should be. */
const ours = (bucket: string, target: string, prefix = '') => ({
  Sid: sidOf({ bucket }),
  Effect: 'Allow',
  Principal: { Service: 'logging.s3.amazonaws.com' },
  Action: 's3:PutObject',
  Resource: `arn:aws:s3:::${target}/${prefix}*`,
  Condition: {
    ArnLike: { 'aws:SourceArn': `arn:aws:s3:::${bucket}` },
    StringEquals: { 'aws:SourceAccount': account },
  },
});
const nothingSent = (sent: string[]) => sent.filter((name) => /^(Put|Delete)/.test(name));

test('on, on again, and off: the policy that was there is kept', async () => {
  const { bucket, target } = await makeBuckets();
  const there = [
    { Sid: 'Audit', Effect: 'Allow', Principal: { AWS: `arn:aws:iam::${account}:root` }, Action: 's3:ListBucket' },
    { Effect: 'Deny', Principal: '*', Action: 's3:*', Condition: { Bool: { 'aws:SecureTransport': 'false' } } },
  ].map((statement) => ({ ...statement, Resource: [`arn:aws:s3:::${target}`, `arn:aws:s3:::${target}/*`] }));
  await setPolicy(target, ...there);
  const { client, sent } = withFaults(own.s3());
  const options = { bucket, target, prefix: 'a b/+%é' };
  const on = { bucket, enabled: true, target, prefix: options.prefix, dates: 'EventTime', problems: [] };

  expect(await startAccessLogs(client, sts, options)).toEqual({ ...on, changed: true, started: true });
  const policy = await policyOf(target);
  expect(policy).toEqual({
    Version: '2012-10-17',
    Statement: [...there, ours(bucket, target, options.prefix)],
  });
  expect(await loggingOf(bucket)).toEqual({
    TargetBucket: target,
    TargetPrefix: options.prefix,
    TargetObjectKeyFormat: { PartitionedPrefix: { PartitionDateSource: 'EventTime' } },
  });
  expect(nothingSent(sent)).toEqual(['PutBucketPolicy', 'PutBucketLogging']);
  expect(await accessLogs(s3, sts, { bucket })).toEqual(on);

  expect(await startAccessLogs(client, sts, options)).toEqual({ ...on, changed: false, started: false });
  expect(nothingSent(sent)).toHaveLength(2);

  const off = { bucket, enabled: false, target: null, prefix: null, dates: null, problems: [] };
  expect(await stopAccessLogs(s3, { bucket })).toEqual({ ...off, changed: true });
  expect(await policyOf(target)).toEqual({ Version: '2012-10-17', Statement: there });
  expect(await loggingOf(bucket)).toBeUndefined();
  expect(await stopAccessLogs(s3, { bucket, target })).toEqual({ ...off, changed: false });
  expect(await accessLogs(s3, sts, { bucket })).toEqual(off);
});

test('by the command line: a policy that has nothing else goes with the logging', async () => {
  const { bucket, target } = await makeBuckets();
  const result = await run(`npx tsx ${file} ${bucket} s3://${target} --local --json`);
  expect(result).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(result.stdout)).toMatchObject({ enabled: true, prefix: '', changed: true });
  expect(await policyOf(target)).toEqual({ Version: '2012-10-17', Statement: [ours(bucket, target)] });

  const off = await run(`npx tsx ${file} ${bucket} --off --local`);
  expect(off).toMatchObject({ code: 0, stdout: expect.stringMatching(/^enabled +no$/m) });
  expect(await policyOf(target)).toBe('NoSuchBucketPolicy');

  const itself = await run(`npx tsx ${file} ${bucket} s3://${bucket}/logs/ --local --calls`);
  expect(itself).toMatchObject({ code: 2, stdout: '' });
  expect(itself.stderr).toMatch(/^Error: paws-example\S+ can't log into itself: .*\n$/);
  const named = await run(`npx tsx ${file} s3://${bucket} --local`);
  expect(named).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('without s3://') });
  const unknown = await run(`npx tsx ${file} paws-example-nowhere --local`);
  expect(unknown).toMatchObject({ code: 1, stdout: '' });
  expect(unknown.stderr).toMatch(/^Error: s3:GetBucketLogging failed: NoSuchBucket: .*\n$/);
});

test('two buckets log into one, each with a statement of its own', async () => {
  const { bucket, target } = await makeBuckets();
  const { bucket: other } = await makeBuckets();
  await startAccessLogs(s3, sts, { bucket, target });
  await startAccessLogs(s3, sts, { bucket: other, target });
  expect((await policyOf(target)).Statement).toEqual([ours(bucket, target), ours(other, target)]);
  await stopAccessLogs(s3, { bucket });
  expect((await policyOf(target)).Statement).toEqual([ours(other, target)]);
});

test('a target that can take no logs is refused, each reason in a line, and nothing is changed', async () => {
  const { bucket, target } = await makeBuckets({ objectLock: true });
  const Rules = [{ ApplyServerSideEncryptionByDefault: { SSEAlgorithm: 'aws:kms' as const } }];
  const ServerSideEncryptionConfiguration = { Rules };
  await s3.send(new PutBucketEncryptionCommand({ Bucket: target, ServerSideEncryptionConfiguration }));
  const RequestPaymentConfiguration = { Payer: 'Requester' as const };
  await s3.send(new PutBucketRequestPaymentCommand({ Bucket: target, RequestPaymentConfiguration }));
  const LoggingEnabled = { TargetBucket: target, TargetPrefix: '' };
  await s3.send(new PutBucketLoggingCommand({ Bucket: target, BucketLoggingStatus: { LoggingEnabled } }));
  const everything = { Effect: 'Deny', Principal: '*', Action: 's3:*', Resource: `arn:aws:s3:::${target}/*` };
  await setPolicy(target, { Sid: 'Closed', ...everything });
  const { client, sent } = withFaults(own.s3());
  await expect(startAccessLogs(client, sts, { bucket, target })).rejects.toMatchObject({
    name: 'Error',
    message: [
      `${target} logs to ${target}: logs of logs, without end`,
      `${target} encrypts with aws:kms: log files need SSE-S3, which is AES256`,
      `${target} has Object Lock, and S3 writes no logs into such a bucket`,
      `${target} has Requester Pays, and S3 pays for no logs`,
      `a Deny in the policy of ${target} is in the way, or may be: Closed`,
    ].join('\n'),
  });
  expect(nothingSent(sent)).toEqual([]);
});

test('a target that logs back, of another region or account, or none at all, is refused', async () => {
  const { bucket, target } = await makeBuckets();
  const { client, sent } = withFaults(own.s3());
  const start = (other: string) => startAccessLogs(client, sts, { bucket, target: other });
  const LoggingEnabled = { TargetBucket: bucket, TargetPrefix: '' };
  await s3.send(new PutBucketLoggingCommand({ Bucket: target, BucketLoggingStatus: { LoggingEnabled } }));
  await expect(start(target)).rejects.toThrow(`${target} logs to ${bucket}: logs of logs, without end`);

  const abroad = `${bucket}-abroad`;
  await own.s3('eu-west-1').send(new CreateBucketCommand({ Bucket: abroad }));
  await expect(start(abroad)).rejects.toThrow(`${abroad} is in eu-west-1 and ${bucket} in us-east-1: both must be`);
  const theirs = `${neighbour.bucket}-theirs`;
  await neighbour.s3().send(new CreateBucketCommand({ Bucket: theirs }));
  await expect(start(theirs)).rejects.toThrow(`${theirs} is no bucket of this account`);
  // Nor can it be the one that is logged, though a policy lets one read its settings.
  const stranger = withFaults(own.s3(), { operation: 'GetBucketLogging', times: 1, output: {} }).client;
  await expect(startAccessLogs(stranger, sts, { bucket: theirs, target })).rejects.toThrow(
    `${theirs} is no bucket of this account`,
  );
  // A name that only begins so is another bucket's.
  await expect(start(target.slice(0, -1))).rejects.toThrow('is no bucket of this account');
  expect(nothingSent(sent)).toEqual([]);
});

test('logging that is on otherwise is not changed', async () => {
  const { bucket, target } = await makeBuckets();
  const LoggingEnabled = { TargetBucket: target, TargetPrefix: 'old/' };
  await s3.send(new PutBucketLoggingCommand({ Bucket: bucket, BucketLoggingStatus: { LoggingEnabled } }));
  const message = `${bucket} logs to s3://${target}/old/ with no folders already: turn that off first`;
  await expect(startAccessLogs(s3, sts, { bucket, target, prefix: 'old/' })).rejects.toThrow(message);
  expect(await policyOf(target)).toBe('NoSuchBucketPolicy');
  // Nobody gave S3 leave to write there.
  expect(await accessLogs(s3, sts, { bucket })).toEqual({
    ...{ bucket, enabled: true, target, prefix: 'old/', dates: null },
    problems: [expect.stringMatching(`no statement in the policy of ${target} is sure to let S3 .* list, .* may\\)$`)],
  });
});

test('a statement that is missing while logging is on is put back', async () => {
  const { bucket, target } = await makeBuckets();
  await startAccessLogs(s3, sts, { bucket, target });
  await s3.send(new DeleteBucketPolicyCommand({ Bucket: target }));
  const { client, sent } = withFaults(own.s3(), { operation: 'PutBucketPolicy', error: 'SlowDown', times: 1 });
  await expect(startAccessLogs(client, sts, { bucket, target })).rejects.toThrow('SlowDown');
  expect(await startAccessLogs(client, sts, { bucket, target })).toMatchObject({ changed: true, started: false });
  expect(nothingSent(sent)).toEqual(['PutBucketPolicy', 'PutBucketPolicy']);
  expect((await policyOf(target)).Statement).toEqual([ours(bucket, target)]);

  // To turn it off is offered only to whom has turned it on.
  const words = [`paws-example-${number}`, `s3://paws-example-${number}-logs`];
  const again = () => run(`npx tsx ${file} ${words.join(' ')} --local`, { terminal: { columns: 160 } });
  await s3.send(new DeleteBucketPolicyCommand({ Bucket: target }));
  const { stdout } = await again();
  expect(stdout).toMatch(/changed +yes/);
  expect(stdout).not.toContain('Undo:');
  await stopAccessLogs(s3, { bucket });
  expect((await again()).stdout).toContain(`Undo: npx tsx recipes/s3/08-access-logs.ts ${words[0]} --off --local`);
});

test('when a step fails, the policy is as it was, or the error names what is left in it', async () => {
  const { bucket, target } = await makeBuckets();
  const before = { Sid: 'a', Effect: 'Allow', Principal: { AWS: account }, Action: 's3:GetObject' };
  await setPolicy(target, { ...before, Resource: `arn:aws:s3:::${target}/*` });
  const policy = await policyOf(target);
  const start = (client: S3Client, signal?: AbortSignal) => startAccessLogs(client, sts, { bucket, target, signal });
  const failing = (operation: string) => withFaults(own.s3(), { operation, error: 'InternalError' }).client;
  const steps = ['GetBucketLogging', 'ListBuckets', 'GetBucketEncryption', 'GetObjectLockConfiguration'];
  const more = ['GetBucketRequestPayment', 'GetBucketPolicy', 'PutBucketPolicy', 'PutBucketLogging'];
  for (const operation of [...steps, ...more]) {
    await expect(start(failing(operation)), operation).rejects.toMatchObject({ name: 'InternalError' });
    expect(await policyOf(target), operation).toEqual(policy);
    expect(await loggingOf(bucket), operation).toBeUndefined();
  }

  // Ctrl-C after the first change: what takes it back is not stopped by it.
  const stop = new AbortController();
  const answered = () => stop.abort(new Error('Interrupted.'));
  const stopped = withFaults(own.s3(), { operation: 'PutBucketPolicy', times: 1, answered }).client;
  await expect(start(stopped, stop.signal)).rejects.toThrow('Interrupted.');
  expect(await policyOf(target)).toEqual(policy);

  const twice = withFaults(
    own.s3(),
    { operation: 'PutBucketLogging', error: 'OperationAborted' },
    { operation: 'PutBucketPolicy', after: 1, error: 'AccessDenied' },
  ).client;
  await expect(start(twice)).rejects.toMatchObject({
    name: 'OperationAborted',
    message: `OperationAborted; left are ${sidOf({ bucket })} in the policy of ${target}`,
  });
});

test('logging whose answer is lost, or not waited for, does not stay on without its permission', async () => {
  const { bucket, target } = await makeBuckets();
  // An older statement of the same name, which is to be there again.
  await setPolicy(target, ours(bucket, target, 'older/'));
  const policy = await policyOf(target);
  const stop = new AbortController();
  const start = (client: S3Client) => startAccessLogs(client, sts, { bucket, target, signal: stop.signal });
  const late = (answered: () => never) =>
    withFaults(own.s3(), { operation: 'PutBucketLogging', times: 1, answered }, ...stays).client;
  const stays: ClientFault[] = [];
  const lost = () => {
    throw Object.assign(new Error('socket hang up'), { name: 'TimeoutError' });
  };
  await expect(start(late(lost))).rejects.toMatchObject({ name: 'TimeoutError', message: 'socket hang up' });
  expect(await loggingOf(bucket)).toBeUndefined();
  expect(await policyOf(target)).toEqual(policy);

  // As long as it is on, the permission stays too.
  stays.push({ operation: 'PutBucketLogging', error: 'AccessDenied' });
  await expect(start(late(lost))).rejects.toThrow(
    `socket hang up; left are logging of ${bucket}, ${sidOf({ bucket })} in the policy of ${target}`,
  );
  expect(await loggingOf(bucket)).toMatchObject({ TargetBucket: target });
  expect((await policyOf(target)).Statement).toEqual([ours(bucket, target)]);
  await s3.send(new PutBucketLoggingCommand({ Bucket: bucket, BucketLoggingStatus: {} }));

  // The statement was there before: it is not this run's to take out.
  const refused = withFaults(own.s3(), { operation: 'PutBucketLogging', error: 'AccessDenied' });
  await expect(start(refused.client)).rejects.toMatchObject({ message: 'AccessDenied' });
  expect((await policyOf(target)).Statement).toEqual([ours(bucket, target)]);

  const interrupted = () => {
    stop.abort(new Error('Interrupted.'));
    throw Object.assign(new Error('Interrupted.'), { name: 'AbortError' });
  };
  stays.pop();
  await expect(start(late(interrupted))).rejects.toMatchObject({ name: 'AbortError' });
  expect(await loggingOf(bucket)).toBeUndefined();
});

test('turning off that gets no further than logging says what is left, and the target by name clears it', async () => {
  const { bucket, target } = await makeBuckets();
  await startAccessLogs(s3, sts, { bucket, target });
  const { client } = withFaults(own.s3(), { operation: 'DeleteBucketPolicy', error: 'AccessDenied' });
  await expect(stopAccessLogs(client, { bucket })).rejects.toMatchObject({
    name: 'AccessDenied',
    message: `AccessDenied Logging is off; ${sidOf({ bucket })} is left in the policy of ${target}: stop again with this target.`,
  });
  expect(await loggingOf(bucket)).toBeUndefined();
  expect(await stopAccessLogs(s3, { bucket, target })).toMatchObject({ changed: true });
  expect(await policyOf(target)).toBe('NoSuchBucketPolicy');
});

test('a target that is gone keeps nobody from turning logging off', async () => {
  const { bucket, target } = await makeBuckets();
  await startAccessLogs(s3, sts, { bucket, target });
  await s3.send(new DeleteBucketPolicyCommand({ Bucket: target }));
  await s3.send(new DeleteBucketCommand({ Bucket: target }));
  expect(await stopAccessLogs(s3, { bucket })).toMatchObject({ enabled: false, changed: true });
});

test('prefixes that would mean more in a policy are refused', async () => {
  const { client, sent } = withFaults(own.s3());
  for (const prefix of ['*', 'a?', '$' + '{aws:username}/']) {
    await expect(startAccessLogs(client, sts, { bucket: 'a', target: 'b', prefix })).rejects.toThrow(RangeError);
  }
  expect(sent).toEqual([]);
});

const route = { partition: 'aws', account: '111122223333', bucket: 'shop', target: 'logs', prefix: 'access/' };
const policy = (statement: object) => JSON.stringify({ Statement: { Sid: 'It', ...statement } });
const deny = { Effect: 'Deny', Principal: '*', Action: 's3:*', Resource: 'arn:aws:s3:::logs/*' };

test.each([
  ['everything', {}],
  ['by a list', { Action: ['s3:GetObject', 's3:Put*'], Resource: ['arn:aws:s3:::logs', 'arn:aws:s3:::logs/access/*'] }],
  ['one day', { Resource: 'arn:aws:s3:::logs/access/111122223333/*/2026/*' }],
  ['any prefix', { Resource: 'arn:aws:s3:::*/??????/*' }],
  ['a variable', { Resource: 'arn:aws:s3:::logs/$' + '{aws:PrincipalAccount}' }],
  ['any spelling', { Action: 'S3:putobject' }],
  ['all principals', { Principal: { AWS: '*' } }],
  ['the service', { Principal: { Service: ['logging.s3.amazonaws.com', 'a.amazonaws.com'] } }],
  ['all but a role', { Principal: undefined, NotPrincipal: { AWS: 'arn:aws:iam::111122223333:role/a' } }],
  ['all but reading', { Action: undefined, NotAction: 's3:Get*' }],
  ['all but other keys', { Resource: undefined, NotResource: 'arn:aws:s3:::logs/other/*' }],
  ['an address', { Condition: { NotIpAddress: { 'aws:SourceIp': '192.0.2.0/24' } } }],
  ['a VPC', { Condition: { StringNotEquals: { 'aws:SourceVpc': 'vpc-1' } } }],
  ['an organisation', { Condition: { StringNotEquals: { 'aws:PrincipalOrgID': 'o-1' } } }],
  ['other accounts', { Condition: { StringNotEquals: { 'aws:SourceAccount': '444455556666' } } }],
  ['all but a bucket called *', { Condition: { StringNotEquals: { 'aws:SourceArn': 'arn:aws:s3:::*' } } }],
  ['encrypted transport', { Condition: { Bool: { 'aws:SecureTransport': 'true' } } }],
])('a Deny of %s is in the way', (_, part) => {
  expect(findDenials(policy({ ...deny, ...part }), route)).toEqual(['It']);
});

test.each([
  ['reading', { Action: ['s3:GetObject*', 's3:List*'] }],
  ['deletion', { Action: 's3:DeleteObject?' }],
  ['other keys', { Resource: ['arn:aws:s3:::logs', 'arn:aws:s3:::logs/other/*', 'arn:aws:s3:::logs/Access/*'] }],
  ['a role', { Principal: { AWS: 'arn:aws:iam::111122223333:role/a' } }],
  ['another service', { Principal: { Service: 'delivery.logs.amazonaws.com' } }],
  ['all but the service', { Principal: undefined, NotPrincipal: { Service: 'logging.s3.amazonaws.com' } }],
  ['all but writing', { Action: undefined, NotAction: ['s3:Put*', 's3:GetObject'] }],
  ['all but these keys', { Resource: undefined, NotResource: ['arn:aws:s3:::logs/acc*'] }],
  ['plain transport', { Condition: { Bool: { 'aws:SecureTransport': false } } }],
  ['all but services', { Condition: { BoolIfExists: { 'aws:PrincipalIsAWSService': ['false'] } } }],
  [
    'strangers, but for services',
    {
      Condition: {
        StringNotEquals: { 'aws:PrincipalOrgID': 'o-1' },
        Bool: { 'AWS:principalIsAwsService': 'false' },
      },
    },
  ],
  ['other accounts', { Condition: { StringNotEquals: { 'aws:SourceAccount': ['444455556666', '111122223333'] } } }],
  ['other buckets', { Condition: { ArnNotLike: { 'aws:SourceArn': 'arn:aws:s3:::sh*' } } }],
  ['one other bucket', { Condition: { ArnLike: { 'aws:SourceArn': 'arn:aws:s3:::stall' } } }],
])('a Deny of %s is not in the way', (_, part) => {
  expect(findDenials(policy({ ...deny, ...part }), route)).toEqual([]);
});

test('what lets S3 write is seen, whoever wrote it', () => {
  const ours = addStatement(null, route);
  const wide = {
    Effect: 'Allow',
    Principal: { Service: 'logging.s3.amazonaws.com' },
    Action: 's3:Put*',
    Resource: '*',
  };
  expect(isAllowed(ours, route)).toBe(true);
  expect(isAllowed(policy(wide), route)).toBe(true);
  expect(isAllowed(null, route)).toBe(false);
  expect(isAllowed(ours, { ...route, prefix: 'other/' })).toBe(false);
  expect(isAllowed(ours, { ...route, bucket: 'stall' })).toBe(false);
  expect(isAllowed(ours, { ...route, account: '444455556666' })).toBe(false);
  expect(isAllowed(policy(deny), route)).toBe(false);
  // All keys under the prefix, not some of them.
  expect(isAllowed(ours, { ...route, prefix: 'access/x/' })).toBe(true);
  for (const prefix of ['', 'acc', 'access', '*']) expect(isAllowed(ours, { ...route, prefix }), prefix).toBe(false);
  const variable = 'arn:aws:s3:::logs/$' + '{aws:SourceAccount}*';
  for (const Resource of ['arn:aws:s3:::logs/access/??*2026*', 'arn:aws:s3:::logs/*.gz', variable])
    expect(isAllowed(policy({ ...wide, Resource }), route), Resource).toBe(false);
  // Only these operators know wildcards.
  const star = { 'aws:SourceArn': 'arn:aws:s3:::*' };
  for (const [operator, held] of [
    ['ArnLike', true],
    ['ArnEquals', true],
    ['StringLike', true],
    ['StringEquals', false],
    ['StringEqualsIgnoreCase', false],
  ] as const)
    expect(isAllowed(policy({ ...wide, Condition: { [operator]: star } }), route), operator).toBe(held);
  // Nobody knows here whether these hold.
  const organisation = { StringEquals: { 'aws:SourceOrgID': 'o-1' } };
  const date = { DateGreaterThan: { 'aws:CurrentTime': '2020-01-01T00:00:00Z' } };
  const odd = { 'ForAllValues:StringEquals': { 'aws:SourceAccount': route.account } };
  for (const Condition of [organisation, date, odd])
    expect(isAllowed(policy({ ...wide, Condition }), route)).toBe(false);
});

test('whatever a policy holds, our statement goes in once and out again, and the rest stays', () => {
  const statement = fc.record(
    {
      Sid: fc.string(),
      Effect: fc.constantFrom('Allow', 'Deny'),
      Action: fc.array(fc.string()),
      Condition: fc.object(),
    },
    { requiredKeys: ['Effect'] },
  );
  const content = fc.record(
    { Version: fc.constantFrom('2008-10-17', '2012-10-17'), Id: fc.string(), Statement: fc.array(statement) },
    { requiredKeys: ['Statement'] },
  );
  fc.assert(
    fc.property(content, (one) => {
      const clean = JSON.parse(JSON.stringify(one));
      const text = JSON.stringify(clean);
      const added = addStatement(text, route);
      expect(JSON.parse(added).Statement.slice(0, -1)).toEqual(clean.Statement);
      expect(addStatement(added, route)).toBe(added);
      const removed = removeStatement(added, route);
      if (clean.Statement.length === 0) expect(removed).toBeNull();
      // Without a version it stays: what its other statements mean depends on that.
      else expect(JSON.parse(removed ?? '')).toEqual(clean);
      expect(removeStatement(text, route)).toBe(text);
    }),
  );
  // S3 may hand back a list of one as its only member.
  const changed = addStatement(null, route).replace(/"s3:PutObject"/, '["s3:PutObject"]');
  expect(addStatement(changed, route)).toBe(changed);
  expect(JSON.parse(addStatement(changed, { ...route, prefix: 'b/' })).Statement).toHaveLength(1);
});

test('each bucket has a Sid of its own, of letters and digits', () => {
  const name = fc.stringMatching(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/);
  fc.assert(
    fc.property(name, name, (one, other) => {
      expect(sidOf({ bucket: one })).toMatch(/^[A-Za-z0-9]+$/);
      expect(sidOf({ bucket: one }) === sidOf({ bucket: other })).toBe(one === other);
    }),
  );
  expect(sidOf({ bucket: 'a-b' })).not.toBe(sidOf({ bucket: 'a.b' }));
});
