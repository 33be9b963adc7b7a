import {
  CreateKeyPairCommand,
  CreateVolumeCommand,
  RunInstancesCommand,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import { CreateBucketCommand } from '@aws-sdk/client-s3';
import { expect, test } from 'vitest';
import { testRecipe } from '../harness.ts';
import { makeOneOfEach } from '../one-of-each.ts';

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

test('a region that may not be looked at is an error that names the permission', async () => {
  const faults = [{ operation: 'ec2:DescribeVolumes', error: { name: 'UnauthorizedOperation' } }];
  const result = await run(`npx tsx ${file} --local`, { faults });
  expect(result).toMatchObject({ code: 1, stdout: '' });
  expect(result.stderr).toContain('The permission ec2:DescribeVolumes is missing');
});

test('a bucket that is deleted meanwhile is passed over', async () => {
  const faults = [{ operation: 's3:GetBucketTagging', error: { name: 'NoSuchBucket' } }];
  const result = await run(`npx tsx ${file} --value 3.1 --local`, { faults });
  expect(result).toMatchObject({ code: 0, stdout: 'none\n' });
});
