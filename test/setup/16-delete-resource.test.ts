import { CloudWatchClient, DescribeAlarmsCommand, PutCompositeAlarmCommand } from '@aws-sdk/client-cloudwatch';
import {
  AllocateAddressCommand,
  AssociateAddressCommand,
  AttachVolumeCommand,
  CreateKeyPairCommand,
  CreateSecurityGroupCommand,
  CreateVolumeCommand,
  DeleteSecurityGroupCommand,
  DescribeAddressesCommand,
  DescribeInstancesCommand,
  DescribeSecurityGroupRulesCommand,
  DescribeVolumesCommand,
  RunInstancesCommand,
} from '@aws-sdk/client-ec2';
import { GetRoleCommand, IAMClient } from '@aws-sdk/client-iam';
import { CreateBucketCommand, ListObjectsV2Command, PutObjectCommand } from '@aws-sdk/client-s3';
import { ListTopicsCommand, SNSClient } from '@aws-sdk/client-sns';
import { expect, test } from 'vitest';
import { createInstanceRole } from '../../recipes/ec2/28-create-instance-role.ts';
import { deleteResource, kindOf } from '../../recipes/setup/16-delete-resource.ts';
import { leftovers, settingsOf, testRecipe } from '../harness.ts';
import { makeOneOfEach } from '../one-of-each.ts';

const own = testRecipe(import.meta);
const { run, file, ec2, s3 } = own;
const settings = settingsOf(own);

/** What the account has left of all this. */
async function left(): Promise<unknown[]> {
  const { MetricAlarms = [] } = await new CloudWatchClient(settings).send(new DescribeAlarmsCommand({}));
  const { Topics = [] } = await new SNSClient(settings).send(new ListTopicsCommand({}));
  return [...MetricAlarms, ...Topics, ...(await leftovers(own))];
}

test('one of each kind goes, by 1.9 in the right order; a second time each is not there', async () => {
  const ids = await makeOneOfEach(own);
  const command = `npx tsx recipes/setup/09-clean-up.ts ${[...ids]
    .reverse()
    .map((id) => `'${id}'`)
    .join(' ')} --local --yes --json`;
  const { stdout } = await run(command);
  expect(JSON.parse(stdout).map((one: { id: string; outcome: string }) => [one.id, one.outcome])).toEqual(
    ids.map((id) => [id.replace(own.bucket, 'paws-example'), 'deleted']),
  );
  expect(await left()).toEqual([]);
  const again: { kind: string; outcome: string }[] = JSON.parse((await run(command)).stdout);
  // EC2 goes on knowing an instance that is terminated.
  const there = again.filter(({ outcome }) => outcome !== 'not found');
  expect(there).toMatchObject([{ kind: 'instance', outcome: 'deleted' }]);
});

test('the region in an ARN counts, in every partition', async () => {
  const regions: string[] = [];
  const clients = (Client: { name: string }, { region }: { region: string }) => {
    regions.push(`${Client.name} ${region}`);
    return { send: async () => ({}) };
  };
  const id = 'arn:aws-cn:sns:cn-north-1:111122223333:topic';
  await deleteResource(clients as never, { id, region: 'eu-west-1' });
  expect(regions).toContain('SNSClient cn-north-1');
  expect(kindOf('arn:aws-us-gov:cloudwatch:us-gov-west-1:111122223333:alarm:a')).toMatchObject({ name: 'alarm' });
});

test('it is asked first, and an id of no known kind or of nothing is an error', async () => {
  const { KeyPairId } = await ec2().send(new CreateKeyPairCommand({ KeyName: 'kept' }));
  const results = await Promise.all(
    [`${KeyPairId}`, 'eni-0123456789abcdef0 --yes', 'key-0123456789abcdef0 --yes'].map((options) =>
      run(`npx tsx ${file} ${options} --local`),
    ),
  );
  expect(results.map(({ code }) => code)).toEqual([2, 2, 1]);
  expect(results[0]?.stderr).toContain(`Delete the key pair ${KeyPairId} for good? It is free.`);
  expect(results[1]?.stderr).toContain('"eni-0123456789abcdef0" is none of arn:aws:cloudwatch:…');
  expect(results[2]?.stderr).toContain('there is no key-0123456789abcdef0');
  const deleted = await run(`npx tsx ${file} ${KeyPairId} --local --yes --json`);
  expect(JSON.parse(deleted.stdout)).toEqual({ id: KeyPairId, region: 'us-east-1', kind: 'key pair', kept: [] });
});

test.each(['s3://paws-example/', 's3://'])('%s is no bucket: a variable in it may be empty', async (id) => {
  await s3()
    .send(new CreateBucketCommand({ Bucket: own.bucket }))
    .catch(() => {});
  for (const recipe of [file, 'recipes/setup/09-clean-up.ts']) {
    const result = await run(`npx tsx ${recipe} ${id} --local --yes`);
    expect(result).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining(`"${id}" is none of`) });
  }
  expect(await left()).toContain(`s3://${own.bucket}`);
});

test('why a bucket can not be emptied is told', async () => {
  await s3().send(new PutObjectCommand({ Bucket: own.bucket, Key: 'locked', Body: 'a' }));
  const output = { Errors: [{ Key: 'locked', VersionId: 'null', Code: 'AccessDenied', Message: 'It is locked.' }] };
  const faults = [{ operation: 's3:DeleteObjects', output }];
  const result = await run(`npx tsx ${file} s3://paws-example --local --yes`, { faults });
  expect(result).toMatchObject({ code: 1, stdout: '' });
  expect(result.stderr).toContain('1 in it could not be deleted, such as locked: AccessDenied: It is locked.');
});

test('an object with a key of your own (SSE-C) goes without that key', async () => {
  const SSECustomerKey = Buffer.alloc(32, 'k').toString('base64');
  const secret = { SSECustomerAlgorithm: 'AES256', SSECustomerKey };
  await s3().send(new PutObjectCommand({ Bucket: own.bucket, Key: 'secret', Body: 'a', ...secret }));
  expect(await run(`npx tsx ${file} s3://paws-example/secret --local --yes`)).toMatchObject({ code: 0, stderr: '' });
  const { Contents } = await s3().send(new ListObjectsV2Command({ Bucket: own.bucket }));
  expect(Contents).toMatchObject([{ Key: 'locked' }]);
});

test('what stays of an instance is told, by 1.9 only if it is not deleted beside it', async () => {
  const launch = { ImageId: 'ami-0532be01f26a3de55', MinCount: 1, MaxCount: 1 };
  const { Instances } = await ec2().send(new RunInstancesCommand(launch));
  const InstanceId = Instances?.[0]?.InstanceId;
  const { VolumeId } = await ec2().send(new CreateVolumeCommand({ AvailabilityZone: 'us-east-1a', Size: 1 }));
  await ec2().send(new AttachVolumeCommand({ InstanceId, VolumeId, Device: '/dev/sdf' }));
  const { AllocationId } = await ec2().send(new AllocateAddressCommand({}));
  await ec2().send(new AssociateAddressCommand({ InstanceId, AllocationId }));
  // As it was before; LocalStack forgets it all with the instance.
  const { Reservations } = await ec2().send(new DescribeInstancesCommand({ InstanceIds: [InstanceId as string] }));
  const { Addresses } = await ec2().send(new DescribeAddressesCommand({}));
  const faults = [
    { operation: 'ec2:DescribeInstances', times: 1, output: { Reservations } },
    { operation: 'ec2:DescribeAddresses', times: 1, output: { Addresses } },
  ];
  const alone = await run(`npx tsx ${file} ${InstanceId} --local --yes --json`);
  expect(JSON.parse(alone.stdout)).toMatchObject({ kind: 'instance', kept: [VolumeId, AllocationId] });
  const clean = `npx tsx recipes/setup/09-clean-up.ts ${InstanceId} ${VolumeId} --local --yes --json`;
  const beside = JSON.parse((await run(clean, { faults })).stdout);
  expect(beside).toMatchObject([{ kept: [AllocationId] }, { outcome: 'deleted', kept: [] }]);
  await run(`npx tsx ${file} ${AllocationId} --local --yes`);
});

test('a volume that goes while it is waited for is not there', async () => {
  const inUse = { State: 'in-use', Attachments: [{ State: 'detaching', InstanceId: 'i-1' }] };
  const faults = [
    { operation: 'ec2:DescribeVolumes', times: 2, output: { Volumes: [inUse] } },
    { operation: 'ec2:DescribeVolumes', error: { name: 'InvalidVolume.NotFound', message: 'it is gone' } },
  ];
  const [one, many] = await Promise.all(
    [file, 'recipes/setup/09-clean-up.ts'].map((recipe) =>
      run(`npx tsx ${recipe} vol-0123456789abcdef0 --local --yes --json`, { faults }),
    ),
  );
  expect(one).toMatchObject({ code: 1, stderr: expect.stringContaining('it is gone') });
  expect(JSON.parse(`${many?.stdout}`)).toMatchObject([{ outcome: 'not found', problem: null }]);
});

test('snapshots that stay when their image goes are an error that names them', async () => {
  const result = (ReturnCode: string, at: number) => ({ SnapshotId: `snap-${at}`, ReturnCode });
  const codes = ['success', 'skipped', 'missing-permissions', 'internal-error'];
  const output = { Return: true, DeleteSnapshotResults: codes.map(result) };
  const faults = [{ operation: 'ec2:DeregisterImage', output }];
  const { code, stderr } = await run(`npx tsx ${file} ami-0123456789abcdef0 --local --yes`, { faults });
  expect(code).toBe(1);
  expect(stderr).toBe(
    'Error: the image is gone, but not its snapshots snap-2 (missing-permissions), snap-3 (internal-error)\n',
  );
});

test('an outbound rule goes, too', async () => {
  const { GroupId } = await ec2().send(new CreateSecurityGroupCommand({ GroupName: 'out', Description: 'a test' }));
  const rules = async () => {
    const Filters = [{ Name: 'group-id', Values: [GroupId as string] }];
    return (await ec2().send(new DescribeSecurityGroupRulesCommand({ Filters }))).SecurityGroupRules ?? [];
  };
  const [rule] = await rules();
  expect(rule).toMatchObject({ IsEgress: true });
  const { SecurityGroupRuleId: id } = rule ?? {};
  expect(await run(`npx tsx ${file} ${id} --local --yes`)).toMatchObject({ code: 0, stderr: '' });
  expect(await rules()).toEqual([]);
  await ec2().send(new DeleteSecurityGroupCommand({ GroupId }));
});

test('an ARN of another account is not there, whatever this one has under the same name', async () => {
  const iam = new IAMClient(settings);
  await createInstanceRole(iam, { roleName: 'paws', namespace: 'Paws' });
  const cloudwatch = new CloudWatchClient(settings);
  const AlarmRule = 'TRUE';
  await cloudwatch.send(new PutCompositeAlarmCommand({ AlarmName: 'paws', AlarmRule }));
  const AlarmTypes = ['CompositeAlarm' as const];
  const { CompositeAlarms = [] } = await cloudwatch.send(new DescribeAlarmsCommand({ AlarmTypes }));
  const { Role } = await iam.send(new GetRoleCommand({ RoleName: 'paws' }));
  const ids = [`${CompositeAlarms[0]?.AlarmArn}`, `${Role?.Arn}`];
  const others = ids.map((id) => id.replace(own.account, '999900001111')).join(' ');
  const clean = (arns: string) => run(`npx tsx recipes/setup/09-clean-up.ts ${arns} --local --yes --json`);
  const outcomes = async (arns: string) =>
    JSON.parse((await clean(arns)).stdout).map(({ outcome }: { outcome: string }) => outcome);
  expect(await outcomes(others)).toEqual(['not found', 'not found']);
  expect(await outcomes(ids.join(' '))).toEqual(['deleted', 'deleted']);
});

test('the Spot request of an instance is told, for it may launch another', async () => {
  const launch = { ImageId: 'ami-0532be01f26a3de55', MinCount: 1, MaxCount: 1 };
  const { Instances } = await ec2().send(new RunInstancesCommand(launch));
  const [instance] = Instances ?? [];
  const Reservations = [{ Instances: [{ ...instance, SpotInstanceRequestId: 'sir-1' }] }];
  const faults = [{ operation: 'ec2:DescribeInstances', times: 1, output: { Reservations } }];
  const { stdout } = await run(`npx tsx ${file} ${instance?.InstanceId} --local --yes --json`, { faults });
  expect(JSON.parse(stdout)).toMatchObject({ kind: 'instance', kept: ['sir-1'] });
});

test('composite alarms are deleted, too', async () => {
  const cloudwatch = new CloudWatchClient(settings);
  const AlarmTypes = ['CompositeAlarm' as const];
  await cloudwatch.send(new PutCompositeAlarmCommand({ AlarmName: 'both', AlarmRule: 'TRUE' }));
  const there = await cloudwatch.send(new DescribeAlarmsCommand({ AlarmTypes }));
  const id = there.CompositeAlarms?.[0]?.AlarmArn;
  expect(await run(`npx tsx ${file} ${id} --local --yes`)).toMatchObject({ code: 0, stderr: '' });
  expect((await cloudwatch.send(new DescribeAlarmsCommand({ AlarmTypes }))).CompositeAlarms).toEqual([]);
});

test('a volume is detached first', async () => {
  const launch = { ImageId: 'ami-0532be01f26a3de55', MinCount: 1, MaxCount: 1 };
  const { Instances } = await ec2().send(new RunInstancesCommand(launch));
  const { VolumeId } = await ec2().send(new CreateVolumeCommand({ AvailabilityZone: 'us-east-1a', Size: 1 }));
  const InstanceId = Instances?.[0]?.InstanceId;
  await ec2().send(new AttachVolumeCommand({ InstanceId, VolumeId, Device: '/dev/sdf' }));
  const result = await run(`npx tsx ${file} ${VolumeId} --local --yes --json`);
  expect(JSON.parse(result.stdout)).toMatchObject({ id: VolumeId, kind: 'volume' });
  const { Volumes } = await ec2().send(new DescribeVolumesCommand({}));
  expect(Volumes).not.toContainEqual(expect.objectContaining({ VolumeId }));
});
