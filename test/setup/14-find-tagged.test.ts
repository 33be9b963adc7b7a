import {
  CloudWatchClient,
  DeleteAlarmsCommand,
  DescribeAlarmsCommand,
  PutCompositeAlarmCommand,
  TagResourceCommand,
} from '@aws-sdk/client-cloudwatch';
import {
  CreateKeyPairCommand,
  CreateVolumeCommand,
  type EC2Client,
  RunInstancesCommand,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import { CreateBucketCommand } from '@aws-sdk/client-s3';
import { SNSClient } from '@aws-sdk/client-sns';
import type { InitializeMiddleware } from '@smithy/types';
import { expect, test } from 'vitest';
import { findTagged, refuseUnseen } from '../../recipes/setup/14-find-tagged.ts';
import { settingsOf, testRecipe } from '../harness.ts';
import { makeOneOfEach } from '../one-of-each.ts';
import { serve } from '../serve.ts';

const own = testRecipe(import.meta);
const { bucket, run, file, ec2, s3 } = own;
const find = async (options: string) => JSON.parse((await run(`npx tsx ${file} --local --json ${options}`)).stdout);

const tagged = (type: 'volume' | 'key-pair' | 'instance', Value: string) => [
  { ResourceType: type, Tags: [{ Key: 'project', Value }] },
];

test('only what carries the tag is found, in the regions asked for, and no instance that is gone', async () => {
  const Placement = { AvailabilityZone: 'eu-west-1a', Size: 1 };
  const near = await ec2().send(
    new CreateKeyPairCommand({ KeyName: 'a', TagSpecifications: tagged('key-pair', 'moon') }),
  );
  const far = await ec2('eu-west-1').send(
    new CreateVolumeCommand({ ...Placement, TagSpecifications: tagged('volume', 'mars') }),
  );
  await ec2('eu-west-1').send(new CreateVolumeCommand(Placement));
  const launch = new RunInstancesCommand({
    ...{ ImageId: 'ami-0532be01f26a3de55', MinCount: 2, MaxCount: 2, TagSpecifications: tagged('instance', 'moon') },
  });
  const [alive, gone] = (await ec2().send(launch)).Instances ?? [];
  await ec2().send(new TerminateInstancesCommand({ InstanceIds: [gone?.InstanceId as string] }));
  const Tags = [{ Key: 'project', Value: 'moon' }];
  await s3('eu-central-1').send(
    new CreateBucketCommand({
      Bucket: bucket,
      CreateBucketConfiguration: { LocationConstraint: 'eu-central-1', Tags },
    }),
  );
  await s3().send(new CreateBucketCommand({ Bucket: `${bucket}-plain` }));

  const here = await find('--key project');
  expect(here).toHaveLength(3);
  expect(here).toEqual(
    expect.arrayContaining([
      { id: alive?.InstanceId, region: 'us-east-1', value: 'moon' },
      { id: near.KeyPairId, region: 'us-east-1', value: 'moon' },
      { id: 's3://paws-example', region: 'eu-central-1', value: 'moon' },
    ]),
  );
  // LocalStack has regions of other partitions in its list, and answers there for us-east-1.
  const all: { region: string }[] = await find('--key project --all-regions');
  const everywhere = all.filter(({ region }) => !/^(cn|us-gov)-/.test(region));
  expect(everywhere).toHaveLength(4);
  expect(everywhere).toContainEqual({ id: far.VolumeId, region: 'eu-west-1', value: 'mars' });
  expect(await find('--key project --value mars --all-regions')).toHaveLength(1);
  expect(await find('--key project --value venus')).toEqual([]);
}, 180_000);

test('one of each kind is found', async () => {
  // A rule is made with its group and has no tag here. LocalStack remembers the tags of a bucket that was deleted.
  const name = `${bucket}-x`;
  const ids = (await makeOneOfEach({ ...own, bucket: name })).filter((id) => !/^sgr-|^s3:\/\/.*\//.test(id));
  const found: { id: string }[] = (await find('')).filter(({ id }: { id: string }) => id !== 's3://paws-example');
  expect(found.map(({ id }) => id).sort()).toEqual(ids.map((id) => id.replace(bucket, 'paws-example')).sort());
});

test('a service that may not be looked at is an error that names it and the permission, and all else is listed', async () => {
  const faults = [{ operation: 'ec2:DescribeVolumes', error: { name: 'UnauthorizedOperation' } }];
  const result = await run(`npx tsx ${file} --local`, { faults });
  expect(result).toMatchObject({ code: 1, stdout: expect.stringContaining('s3://paws-example') });
  // What was found before is listed, too.
  expect(result.stdout).toMatch(/^i-\w+ +us-east-1 /m);
  expect(result.stderr).toContain('could not look at EC2 in us-east-1: us-east-1: ');
  expect(result.stderr).toContain('The permission ec2:DescribeVolumes is missing');
});

test('where some regions may not be looked at, the others are, and those are named', async () => {
  const connect = (Client: typeof EC2Client, given: { region: string }) => {
    const client = new Client({ ...settingsOf(own), ...given });
    const deny: InitializeMiddleware<object, object> = (next, context) => (args) => {
      const first = /^(DescribeInstances|DescribeAlarms|ListTopics)Command$/.test(`${context.commandName}`);
      if (!first || given.region === 'us-east-1') return next(args);
      throw Object.assign(new Error('an explicit deny'), { name: 'UnauthorizedOperation' });
    };
    client.middlewareStack.add(deny as never, { step: 'initialize' });
    return client;
  };
  const told: string[] = [];
  const onProgress = (text: string) => told.push(text);
  const look = (...regions: string[]) => findTagged(connect as never, { key: 'project', regions, onProgress });
  const { found, unseen } = await look('eu-west-1', 'us-east-1', 'eu-north-1');
  expect(told).toEqual([1, 2, 3].map((number) => `${number} of 3 regions looked at`));
  expect(found).toEqual((await look('us-east-1')).found);
  expect(unseen.map(({ where }) => where).sort()).toEqual(['eu-north-1', 'eu-west-1']);
  expect(() => refuseUnseen(unseen)).toThrow(
    expect.objectContaining({
      name: 'UnauthorizedOperation',
      message: expect.stringMatching(/^could not look at eu-\w+-1, eu-\w+-1: eu-\w+-1: an explicit deny$/),
    }),
  );
  await expect(look('eu-west-1', 'eu-north-1')).rejects.toThrow(/^eu-\w+-1: an explicit deny$/);
});

test('a bucket whose tags may not be read is named, and all else listed', async () => {
  const faults = [{ operation: 's3:GetBucketTagging', error: { name: 'AccessDenied', message: 'No.' } }];
  const result = await run(`npx tsx ${file} --key project --local --json`, { faults });
  expect(result.code).toBe(1);
  expect(JSON.parse(result.stdout).length).toBeGreaterThan(0);
  expect(result.stderr).toMatch(
    /^Error: s3:GetBucketTagging failed: AccessDenied: could not look at .*paws-example.*: No\./,
  );
  expect(result.stderr).toContain('The permission s3:GetBucketTagging is missing, or a policy denies it');
});

test('a bucket that is deleted meanwhile is passed over', async () => {
  const faults = [{ operation: 's3:GetBucketTagging', error: { name: 'NoSuchBucket' } }];
  const result = await run(`npx tsx ${file} --value 3.1 --local`, { faults });
  expect(result).toMatchObject({ code: 0, stdout: 'none\n' });
});

test.each([
  ['cloudwatch:ListTagsForResource', 'ResourceNotFoundException'],
  ['sns:ListTagsForResource', 'ResourceNotFoundException'],
  ['iam:ListRoleTags', 'NoSuchEntityException'],
])('what is deleted before %s is passed over, any other error is not', async (operation, name) => {
  const all = [{ operation, error: { name } }];
  // One of each kind is still there.
  const result = await run(`npx tsx ${file} --value 1.16 --local --json`, { faults: all });
  expect(result).toMatchObject({ code: 0, stderr: '' });
  const kind = operation.replace(/:.*/, '');
  const found: { id: string }[] = JSON.parse(result.stdout);
  expect(found.length).toBeGreaterThan(5);
  expect(found.filter(({ id }) => id.startsWith(`arn:aws:${kind}:`))).toEqual([]);
  const refused = (error: string) =>
    run(`npx tsx ${file} --local --json`, { faults: [{ operation, error: { name: error } }] });
  const denied = await refused('AccessDenied');
  expect(denied).toMatchObject({ code: 1, stderr: expect.stringContaining(`The permission ${operation} is missing`) });
  expect(JSON.parse(denied.stdout).length).toBeGreaterThan(5);
  expect(await refused('InternalFailure')).toMatchObject({ code: 1, stdout: '' });
});

test('buckets that may not be listed are named, and so is one that takes no such session token', async () => {
  const look = (operation: string, name: string) =>
    run(`npx tsx ${file} --local --json`, { faults: [{ operation, error: { name, message: 'No.' } }] });
  const none = await look('s3:ListBuckets', 'AccessDenied');
  expect(none).toMatchObject({ code: 1, stderr: expect.stringContaining('could not look at S3: No.') });
  expect(JSON.parse(none.stdout).length).toBeGreaterThan(5);
  const strange = await look('s3:GetBucketTagging', 'InvalidToken');
  expect(strange).toMatchObject({ code: 1, stderr: expect.stringMatching(/could not look at .*s3:\/\/paws-example/) });
  expect(JSON.parse(strange.stdout).length).toBeGreaterThan(5);
});

test('composite alarms are found, too', async () => {
  const cloudwatch = new CloudWatchClient(settingsOf(own));
  const Tags = [{ Key: 'project', Value: 'composite' }];
  await cloudwatch.send(new PutCompositeAlarmCommand({ AlarmName: 'both', AlarmRule: 'TRUE' }));
  const there = await cloudwatch.send(new DescribeAlarmsCommand({ AlarmTypes: ['CompositeAlarm'] }));
  const ResourceARN = there.CompositeAlarms?.[0]?.AlarmArn;
  await cloudwatch.send(new TagResourceCommand({ ResourceARN, Tags }));
  expect(await find('--key project --value composite')).toMatchObject([{ id: ResourceARN }]);
  await cloudwatch.send(new DeleteAlarmsCommand({ AlarmNames: ['both'] }));
});

test('only volumes that stay are asked for, and a star in the key is no wildcard', async () => {
  // As EC2 answers, for which the star stands for any characters; LocalStack's volumes are gone at once.
  const volume = { VolumeId: 'vol-1', Tags: [{ Key: 'project', Value: 'moon' }] };
  const faults = [{ operation: 'ec2:DescribeVolumes', output: { Volumes: [volume] } }];
  const star = await run(`npx tsx ${file} --key 'proj*' --local --json`, { faults });
  expect(JSON.parse(star.stdout)).toEqual([]);

  const filters: object[] = [];
  const connect = (Client: typeof EC2Client, given: { region: string }) => {
    const client = new Client({ ...settingsOf(own), ...given });
    const watch: InitializeMiddleware<object, object> = (next, context) => (args) => {
      const { Filters = [] } = args.input as { Filters?: object[] };
      if (context.commandName === 'DescribeVolumesCommand') filters.push(...Filters);
      return next(args);
    };
    client.middlewareStack.add(watch as never, { step: 'initialize' });
    return client;
  };
  await findTagged(connect as never, { key: 'project', regions: ['us-east-1'] });
  expect(filters).toContainEqual({ Name: 'status', Values: ['creating', 'available', 'in-use', 'error'] });
});

test('reads of tags that are throttled wait, longer than the SDK does by itself', async () => {
  const attempts: number[] = [];
  const { url: endpoint } = await serve((request, response) => {
    let body = '';
    request.on('data', (chunk) => (body += chunk));
    request.on('end', () => {
      if (!body.includes('Action=ListTagsForResource')) {
        return response.end(
          '<R><ListTopicsResult><Topics><member><TopicArn>a</TopicArn></member></Topics></ListTopicsResult></R>',
        );
      }
      if (attempts.push(1) <= 3) {
        return response.writeHead(400).end('<R><Error><Code>Throttling</Code><Message>m</Message></Error></R>');
      }
      response.end(
        '<R><ListTagsForResourceResult><Tags><member><Key>k</Key><Value>v</Value></member></Tags></ListTagsForResourceResult></R>',
      );
    });
  });
  const connect = (Client: typeof SNSClient, given: { region: string }) =>
    new Client({ ...settingsOf(own), ...given, ...(Client === SNSClient && { endpoint }) });
  const { found } = await findTagged(connect as never, { key: 'k', regions: ['us-east-1'] });
  expect(found).toEqual([{ id: 'a', region: 'us-east-1', value: 'v' }]);
  expect(attempts).toHaveLength(4);
});
