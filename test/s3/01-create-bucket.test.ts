import { GetBucketTaggingCommand, GetPublicAccessBlockCommand, HeadBucketCommand } from '@aws-sdk/client-s3';
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { createBucket } from '../../recipes/s3/01-create-bucket.ts';
import { withFaults } from '../faults.ts';
import { sandbox, testRecipe } from '../harness.ts';
import { keysOf } from '../program.ts';
import { startVersitygw, versitygw } from '../versitygw.ts';

const { bucket, run, file, s3 } = testRecipe(import.meta);
const neighbour = sandbox({ url: `${import.meta.url}?neighbour` });

test('the bucket is there, tagged by the command and closed to the public', async () => {
  await run(`npx tsx ${file} paws-example --local`);
  expect(await s3().send(new HeadBucketCommand({ Bucket: bucket }))).toMatchObject({
    BucketRegion: 'us-east-1',
  });
  const { TagSet } = await s3().send(new GetBucketTaggingCommand({ Bucket: bucket }));
  expect(TagSet).toEqual([{ Key: 'paws', Value: '3.1' }]);
  const { PublicAccessBlockConfiguration } = await s3().send(new GetPublicAccessBlockCommand({ Bucket: bucket }));
  expect(Object.values(PublicAccessBlockConfiguration ?? {})).toEqual([true, true, true, true]);
});

test('a second run finds the bucket and changes nothing', async () => {
  const again = await run(`npx tsx ${file} paws-example --local --json`);
  expect(again).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(again.stdout)).toEqual({ bucket: 'paws-example', region: 'us-east-1', created: false });
});

test('a bucket of yours in another region is found there', async () => {
  const [name, settings] = [`${bucket}-ireland`, { tags: { a: 'b' } }];
  expect(await createBucket(s3('eu-west-1'), { bucket: name, ...settings })).toMatchObject({
    region: 'eu-west-1',
    created: true,
  });
  expect(await createBucket(s3('us-east-1'), { bucket: name })).toMatchObject({
    region: 'eu-west-1',
    created: false,
  });
});

test('a bucket whose name begins with the name is not taken for it', async () => {
  const name = bucket.slice(0, -1);
  expect(await createBucket(s3(), { bucket: name })).toEqual({
    bucket: name,
    region: 'us-east-1',
    created: true,
  });
});

test("somebody else's bucket is an error that says so", async () => {
  await createBucket(neighbour.s3(), { bucket: `${bucket}-taken` });
  const result = await run(`npx tsx ${file} ${bucket}-taken --local`);
  expect(result).toMatchObject({ code: 1, stdout: '' });
  expect(result.stderr).toMatch(/^Error: s3:CreateBucket failed: BucketAlreadyExists: .*\n$/);
});

test('losing a race against a run of your own is no error, and the bucket is where that run made it', async () => {
  await createBucket(s3('eu-west-1'), { bucket: `${bucket}-raced` });
  const faults = [
    { operation: 's3:ListBuckets', output: { Buckets: [] } },
    { operation: 's3:CreateBucket', error: { name: 'BucketAlreadyOwnedByYou' } },
  ];
  const result = await run(`npx tsx ${file} paws-example-raced --local --json`, { faults });
  expect(result).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(result.stdout)).toEqual({ bucket: 'paws-example-raced', region: 'eu-west-1', created: false });

  // S3 tells the region with a refusal, too.
  const raced = (headers: object) => {
    const { client } = withFaults(
      s3(),
      { operation: 'ListBuckets', output: { Buckets: [] } },
      { operation: 'CreateBucket', error: 'BucketAlreadyOwnedByYou' },
    );
    const refuse = () => {
      throw Object.assign(new Error('403'), { name: 'Forbidden', $response: { statusCode: 403, headers } });
    };
    client.middlewareStack.add((next, context) => (context.commandName === 'HeadBucketCommand' ? refuse : next), {
      step: 'initialize',
    });
    return createBucket(client, { bucket });
  };
  expect(await raced({ 'x-amz-bucket-region': 'sa-east-1' })).toMatchObject({ region: 'sa-east-1', created: false });
  await expect(raced({})).rejects.toMatchObject({ name: 'Forbidden' });
});

test('a missing permission is named', async () => {
  const faults = [{ operation: 's3:ListBuckets', error: { name: 'AccessDenied', message: 'Access Denied' } }];
  const result = await run(`npx tsx ${file} paws-example --local`, { faults });
  expect(result).toMatchObject({ code: 1, stdout: '' });
  expect(result.stderr).toContain('s3:ListBuckets failed: AccessDenied');
  expect(result.stderr).toContain('--policy');
});

test('names that S3 refuses are refused with the rule, before anything is sent', async () => {
  const refused = {
    ab: '3 to 63 characters',
    ['a'.repeat(64)]: '3 to 63 characters',
    Paws: 'lower-case',
    my_bucket: 'lower-case',
    '-paws': 'begin and end',
    'paws-': 'begin and end',
    'a..b': 'two dots',
    '192.168.5.4': 'IP address',
    'xn--paws': 'xn--',
    'sthree-paws': 'sthree-',
    'amzn-s3-demo-paws': 'amzn-s3-demo-',
    'paws-s3alias': '-s3alias',
    'paws--ol-s3': '--ol-s3',
    'paws.mrap': '.mrap',
    'paws--x-s3': '--x-s3',
    'paws--table-s3': '--table-s3',
    'paws-an': '-an',
  };
  for (const [name, rule] of Object.entries(refused)) {
    await expect(createBucket(s3(), { bucket: name }), name).rejects.toThrow(rule);
    await expect(createBucket(s3(), { bucket: name }), name).rejects.toThrow(RangeError);
  }
  const result = await run(`npx tsx ${file} My_Bucket --local --calls`);
  expect(result).toMatchObject({ code: 2, stdout: '' });
  expect(result.stderr).toMatch(/^Error: "My_Bucket" can't be a bucket: .*\n$/);
});

test('any other name passes the check', async () => {
  const name = fc
    .stringMatching(/^[b-z0-9]([a-w0-9-]{1,58}[b-m0-9])$/)
    .filter((one) => !/^\d+$|sthree-|amzn/.test(one));
  const nobody = { config: { region: async () => 'us-east-1' }, send: async () => ({}) };
  await fc.assert(
    fc.asyncProperty(name, async (one) => {
      await expect(createBucket(nobody as never, { bucket: one })).rejects.not.toThrow(RangeError);
    }),
    { numRuns: 200 },
  );
});

test.skipIf(!versitygw)('another S3 server, which checks who asks, gets a bucket too', async () => {
  const server = await startVersitygw();
  onTestFinished(server.stop);
  const env = keysOf(server);
  const command = `npx tsx ${file} paws-example --endpoint-url ${server.url} --json`;
  const stranger = await run(command, { env: { ...env, AWS_SECRET_ACCESS_KEY: 'wrong' } });
  expect(stranger).toMatchObject({ code: 1, stdout: '' });
  expect(stranger.stderr).toMatch(/^Error: s3:ListBuckets failed: SignatureDoesNotMatch: .*\n.*credentials are wrong/);
  for (const created of [true, false]) {
    const result = await run(command, { env });
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(result.stdout)).toEqual({ bucket: 'paws-example', region: 'us-east-1', created });
  }
  // By its name as well as by its address: the bucket is in the path either way, since no host has its name.
  const named = await run(command.replace('127.0.0.1', 'localhost').replace('paws-example ', 'paws-example-2 '), {
    env,
  });
  expect(named).toMatchObject({ code: 0, stderr: '', stdout: expect.stringContaining('"created": true') });
});
