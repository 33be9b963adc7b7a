import {
  AttachVolumeCommand,
  AuthorizeSecurityGroupIngressCommand,
  CreateKeyPairCommand,
  CreateSecurityGroupCommand,
  CreateVolumeCommand,
  DescribeKeyPairsCommand,
  DescribeSecurityGroupRulesCommand,
  RunInstancesCommand,
} from '@aws-sdk/client-ec2';
import {
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { expect, test } from 'vitest';
import { leftovers, testRecipe } from '../harness.ts';
import { makeOneOfEach } from '../one-of-each.ts';

const own = testRecipe(import.meta);
const { bucket, run, file, ec2, s3 } = own;
const cleanUp = (options: string, settings = {}) => run(`npx tsx ${file} --local ${options}`, settings);
const paws = (Value: string) => [{ Key: 'paws', Value }];

async function keyPair(KeyName: string, Tags?: { Key: string; Value: string }[], region?: string): Promise<string> {
  const TagSpecifications = Tags && [{ ResourceType: 'key-pair' as const, Tags }];
  const { KeyPairId } = await ec2(region).send(new CreateKeyPairCommand({ KeyName, TagSpecifications }));
  return KeyPairId as string;
}

async function keyNames(region?: string) {
  const { KeyPairs = [] } = await ec2(region).send(new DescribeKeyPairsCommand({}));
  return KeyPairs.map(({ KeyName }) => KeyName).sort();
}

test('a full bucket goes, with versions and unfinished uploads', async () => {
  const Bucket = bucket;
  const CreateBucketConfiguration = { Tags: paws('3.1') };
  await s3().send(new CreateBucketCommand({ Bucket, CreateBucketConfiguration }));
  await s3().send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: 'Enabled' } }));
  for (const Body of ['one', 'two']) await s3().send(new PutObjectCommand({ Bucket, Key: 'a b/ü', Body }));
  await s3().send(new CreateMultipartUploadCommand({ Bucket, Key: 'unfinished' }));
  expect(await cleanUp('--made-by 3.1 --yes')).toMatchObject({ code: 0 });
  expect(await leftovers(own)).toEqual([]);
});

test('named things go, others stay; what is not there is told apart', async () => {
  const id = await keyPair('named');
  await keyPair('other', paws('2.16'));
  for (const outcome of ['deleted', 'not found']) {
    const result = await cleanUp(`${id} s3://no-such-bucket-here s3://no-such-bucket-here/key --yes --json`);
    expect(result).toMatchObject({ code: 0 });
    expect(JSON.parse(result.stdout)).toMatchObject([
      { id, outcome, problem: null },
      { kind: 'object', outcome: 'not found', problem: null },
      { kind: 'bucket', outcome: 'not found', problem: null },
    ]);
  }
  expect(await keyNames()).toEqual(['other']);
});

test('--made-by takes one recipe, --all takes every one, and what has no tag stays', async () => {
  await keyPair('mine');
  await keyPair('one', paws('2.1'));
  await cleanUp('--made-by 2.1 --yes');
  expect(await keyNames()).toEqual(['mine', 'other']);
  await cleanUp('--all --yes');
  expect(await keyNames()).toEqual(['mine']);
});

test('a rule of a group that stays is revoked', async () => {
  const { GroupId } = await ec2().send(new CreateSecurityGroupCommand({ GroupName: 'stays', Description: 'a test' }));
  const allow = async (CidrIp: string) => {
    const IpPermissions = [{ IpProtocol: 'tcp', FromPort: 22, ToPort: 22, IpRanges: [{ CidrIp }] }];
    const answer = await ec2().send(new AuthorizeSecurityGroupIngressCommand({ GroupId, IpPermissions }));
    return answer.SecurityGroupRules?.[0]?.SecurityGroupRuleId;
  };
  const first = await allow('203.0.113.1/32');
  await allow('203.0.113.2/32');
  expect(await cleanUp(`${first} --yes`)).toMatchObject({ code: 0 });
  const Filters = [{ Name: 'group-id', Values: [GroupId as string] }];
  const left = await ec2().send(new DescribeSecurityGroupRulesCommand({ Filters }));
  expect(left.SecurityGroupRules?.filter(({ IsEgress }) => !IsEgress)).toMatchObject([{ CidrIpv4: '203.0.113.2/32' }]);
  // An outbound one is another call.
  const outbound = left.SecurityGroupRules?.find(({ IsEgress }) => IsEgress)?.SecurityGroupRuleId;
  expect(await cleanUp(`${outbound} --yes`)).toMatchObject({ code: 0 });
  const after = await ec2().send(new DescribeSecurityGroupRulesCommand({ Filters }));
  expect(after.SecurityGroupRules).toMatchObject([{ IsEgress: false }]);
});

test('the region of an ARN is asked about and told, none for a role or a bucket that is named', async () => {
  const ids = [
    'arn:aws:sns:eu-west-1:111122223333:topic',
    'arn:aws:iam::111122223333:role/none',
    's3://no-such-bucket',
  ];
  const asked = await cleanUp(ids.join(' '));
  expect(asked).toMatchObject({ code: 2, stdout: '' });
  const [topic, role, s3Bucket] = ids;
  expect(asked.stderr).toContain(`  ${topic} in eu-west-1, free while`);
  expect(asked.stderr).toContain(`  ${role}, free\n  ${s3Bucket}, billed`);
  const { stdout } = await cleanUp(`${topic} --yes --json`);
  expect(JSON.parse(stdout)).toMatchObject([{ id: topic, region: 'eu-west-1', outcome: 'not found' }]);
});

test('a region is cleaned only when it is asked for', async () => {
  await keyPair('far', paws('2.16'), 'eu-west-2');
  await cleanUp('--all --yes');
  expect(await keyNames('eu-west-2')).toEqual(['far']);
  await cleanUp('--all --yes --region eu-west-2');
  expect(await keyNames('eu-west-2')).toEqual([]);
});

test('a volume that stays with its instance is deleted after it', async () => {
  const volume = { AvailabilityZone: 'us-east-1a', Size: 1 };
  const TagSpecifications = [{ ResourceType: 'volume' as const, Tags: paws('2.7') }];
  const { VolumeId } = await ec2().send(new CreateVolumeCommand({ ...volume, TagSpecifications }));
  const launch = new RunInstancesCommand({
    ...{ ImageId: 'ami-0532be01f26a3de55', MinCount: 1, MaxCount: 1 },
    TagSpecifications: [{ ResourceType: 'instance', Tags: paws('2.1') }],
  });
  const InstanceId = (await ec2().send(launch)).Instances?.[0]?.InstanceId;
  await ec2().send(new AttachVolumeCommand({ InstanceId, VolumeId, Device: '/dev/sdf' }));
  const result = await cleanUp('--all --yes --json');
  expect(JSON.parse(result.stdout).map(({ id }: { id: string }) => id)).toEqual([InstanceId, VolumeId]);
  expect(await leftovers(own)).toEqual([]);
});

test('one of each kind that carries the tag goes', async () => {
  const ids = (await makeOneOfEach(own)).filter((id) => !/^sgr-|^s3:\/\/.*\//.test(id));
  const result = await cleanUp('--all --yes --json');
  const outcomes: { id: string; outcome: string }[] = JSON.parse(result.stdout);
  expect(outcomes.map(({ id, outcome }) => [id, outcome])).toEqual(
    ids.map((id) => [id.replace(bucket, 'paws-example'), 'deleted']),
  );
  expect(await leftovers(own)).toEqual([]);
});

test('what can not be deleted is reported with its reason, the rest goes, and the exit code is 1', async () => {
  const ids = new Map([
    [await keyPair('one'), 'one'],
    [await keyPair('two'), 'two'],
  ]);
  const faults = [
    { operation: 'ec2:DeleteKeyPair', times: 1, error: { name: 'UnauthorizedOperation', message: 'not you' } },
  ];
  const result = await cleanUp(`${[...ids.keys()].join(' ')} --yes --json`, { faults });
  expect(result).toMatchObject({ code: 1, stderr: 'Error: 1 of 2 could not be deleted\n' });
  const outcomes: { id: string; outcome: string; problem: string }[] = JSON.parse(result.stdout);
  // Both are tried at once, and the fault meets the first to come.
  const failed = outcomes.find(({ outcome }) => outcome === 'failed');
  expect(failed?.problem).toBe('UnauthorizedOperation: not you');
  expect(outcomes.filter(({ outcome }) => outcome === 'deleted')).toHaveLength(1);
  expect(await keyNames()).toEqual(['mine', ids.get(failed?.id ?? '')]);
});

test('what could not be looked at is named at the end, and the rest goes', async () => {
  await s3().send(new CreateBucketCommand({ Bucket: `${bucket}-closed` }));
  const id = await keyPair('open', paws('2.16'));
  const faults = [{ operation: 's3:GetBucketTagging', error: { name: 'AccessDenied', message: 'No.' } }];
  const result = await cleanUp('--made-by 2.16 --yes --json', { faults });
  expect(JSON.parse(result.stdout)).toContainEqual(expect.objectContaining({ id, outcome: 'deleted' }));
  expect(result.code).toBe(1);
  expect(result.stderr).toContain('could not look at s3://paws-example-closed: No.');
});

test('a security group that a terminated instance still holds goes some seconds later', async () => {
  const { GroupId } = await ec2().send(new CreateSecurityGroupCommand({ GroupName: 'held', Description: 'held' }));
  const { Instances } = await ec2().send(
    new RunInstancesCommand({ ImageId: 'ami-0532be01f26a3de55', MinCount: 1, MaxCount: 1 }),
  );
  const error = { name: 'DependencyViolation', message: 'it has a dependent object' };
  const faults = [{ operation: 'ec2:DeleteSecurityGroup', times: 1, error }];
  const ids = `${GroupId} ${Instances?.[0]?.InstanceId}`;
  const result = await cleanUp(`${ids} --yes --json`, { faults });
  expect(JSON.parse(result.stdout)).toMatchObject([{ outcome: 'deleted' }, { outcome: 'deleted' }]);
  // Without an instance there is nothing to wait for.
  const other = await ec2().send(new CreateSecurityGroupCommand({ GroupName: 'held', Description: 'held' }));
  const alone = await cleanUp(`${other.GroupId} --yes --json`, { faults });
  expect(JSON.parse(alone.stdout)).toMatchObject([{ problem: 'DependencyViolation: it has a dependent object' }]);
  await cleanUp(`${other.GroupId} --yes`);
});

test('the list and what it costs come before the question, and no leaves everything', async () => {
  const id = await keyPair('asked', paws('2.16'));
  const unasked = await cleanUp('--all');
  expect(unasked).toMatchObject({ code: 2, stdout: '' });
  expect(unasked.stderr).toContain(`${id} in us-east-1, free`);
  const no = await cleanUp('--all', { terminal: { columns: 80, type: [['[y/N]', 'n\r']] } });
  expect(no).toMatchObject({ code: 1, stdout: expect.stringContaining('Nothing was done.') });
  expect(await keyNames()).toContain('asked');
  await cleanUp('--all --yes');
  expect(await cleanUp('--all')).toEqual({ code: 0, stdout: 'none\n', stderr: '' });
});

test('Ctrl-C stops between two things; what was not reached is said', async () => {
  const volume = await ec2().send(new CreateVolumeCommand({ AvailabilityZone: 'us-east-1a', Size: 1 }));
  const id = await keyPair('reached');
  // It is detached from an instance that stays.
  const launch = { ImageId: 'ami-0532be01f26a3de55', MinCount: 1, MaxCount: 1 };
  const { Instances } = await ec2().send(new RunInstancesCommand(launch));
  const attachment = { InstanceId: Instances?.[0]?.InstanceId, VolumeId: volume.VolumeId, Device: '/dev/sdf' };
  await ec2().send(new AttachVolumeCommand(attachment));
  const faults = [{ operation: 'ec2:DeleteVolume', signalAfter: 'SIGINT' }];
  const result = await cleanUp(`${volume.VolumeId} ${id} --yes --json`, { faults });
  expect(result.code).toBe(130);
  expect(JSON.parse(result.stdout)).toMatchObject([
    { problem: null },
    { problem: expect.stringContaining('Interrupted') },
  ]);
  expect(await keyNames()).toContain('reached');
});

test('no target, two kinds of target and an unknown id are refused, before anything is deleted', async () => {
  const id = await keyPair('kept');
  for (const options of [
    '',
    `${id} --all-regions`,
    `${id} --all`,
    '--all --made-by 2.1',
    `${id} eni-0123`,
    `${id} paws-example`,
  ]) {
    const result = await cleanUp(`${options} --yes`);
    expect(result, options).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(/^Error: .*\n$/) });
  }
  expect(await keyNames()).toContain('kept');
});
