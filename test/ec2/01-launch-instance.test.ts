import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import {
  CreateSubnetCommand,
  CreateVpcCommand,
  DescribeInstancesCommand,
  DescribeKeyPairsCommand,
  DescribeSecurityGroupsCommand,
  DescribeVolumesCommand,
  RunInstancesCommand,
} from '@aws-sdk/client-ec2';
import { SSMClient } from '@aws-sdk/client-ssm';
import { describe, expect, test } from 'vitest';
import { launchInstance } from '../../recipes/ec2/01-launch-instance.ts';
import { withFaults } from '../faults.ts';
import { leftovers, settingsOf, testRecipe } from '../harness.ts';
import type { Fault } from '../preload.ts';

const own = testRecipe(import.meta);
const { run, file, folder, ec2 } = own;
const launch = (options = '', settings = {}) => run(`npx tsx ${file} --local --json ${options}`, settings);

async function describeInstance(id: string) {
  const { Reservations } = await ec2().send(new DescribeInstancesCommand({ InstanceIds: [id] }));
  return Reservations?.[0]?.Instances?.[0];
}

async function rules(group: string) {
  const Filters = [{ Name: 'group-name', Values: [group] }];
  const { SecurityGroups = [] } = await ec2().send(new DescribeSecurityGroupsCommand({ Filters }));
  return SecurityGroups[0]?.IpPermissions?.flatMap(({ IpRanges = [] }) => IpRanges.map(({ CidrIp }) => CidrIp));
}

const cleanUp = () => run('npx tsx recipes/setup/09-clean-up.ts --all --local --yes', { record: undefined });

test('the instance runs, tagged, with IMDSv2, its key and group, and an encrypted gp3 root volume', async () => {
  const result = JSON.parse((await launch('--cidr 203.0.113.9/32')).stdout);
  const instance = await describeInstance(result.instanceId);
  expect(instance).toMatchObject({
    State: { Name: 'running' },
    InstanceType: 't3.micro',
    ImageId: result.imageId,
    KeyName: 'paws',
    PublicIpAddress: result.address,
    NetworkInterfaces: [{ Groups: [{ GroupName: 'paws' }] }],
    MetadataOptions: { HttpTokens: 'required' },
    BlockDeviceMappings: [{ DeviceName: '/dev/xvda', Ebs: { DeleteOnTermination: true } }],
    Tags: [{ Key: 'paws', Value: '2.1' }],
  });
  const Filters = [{ Name: 'attachment.instance-id', Values: [result.instanceId] }];
  const { Volumes } = await ec2().send(new DescribeVolumesCommand({ Filters }));
  expect(Volumes).toMatchObject([{ VolumeType: 'gp3', Encrypted: true, Tags: [{ Key: 'paws', Value: '2.1' }] }]);
  expect(await rules('paws')).toEqual(['203.0.113.9/32']);
  expect(statSync(`${folder}/.ssh/paws.pem`).mode & 0o777).toBe(0o600);
});

test('a second run launches another, with the same key and group, and made is only what it made', async () => {
  const { made, instanceId } = JSON.parse((await launch('--cidr 203.0.113.9/32')).stdout);
  expect(made).toEqual([instanceId]);
  const moved = JSON.parse((await launch('--cidr 203.0.113.10/32')).stdout);
  expect(moved.made).toEqual([expect.stringMatching(/^sgr-/), moved.instanceId]);
  expect(await rules('paws')).toEqual(['203.0.113.9/32', '203.0.113.10/32']);
  await run(`npx tsx recipes/setup/09-clean-up.ts ${moved.made.join(' ')} --local --yes`, { record: undefined });
  expect(await rules('paws')).toEqual(['203.0.113.9/32']);
});

test('the command to log in is right for a key file with a space in its path, too', async () => {
  const { sshCommand, address } = JSON.parse((await launch("--key-name spaced --key-file 'my key.pem'")).stdout);
  expect(sshCommand).toBe(`ssh -i "my key.pem" ec2-user@${address}`);
});

test('a subnet of your own is used, with a group of its VPC', async () => {
  const { Vpc } = await ec2().send(new CreateVpcCommand({ CidrBlock: '10.9.0.0/16' }));
  const { Subnet } = await ec2().send(new CreateSubnetCommand({ VpcId: Vpc?.VpcId, CidrBlock: '10.9.1.0/24' }));
  const result = JSON.parse((await launch(`--subnet-id ${Subnet?.SubnetId} --instance-type t4g.nano`)).stdout);
  const instance = await describeInstance(result.instanceId);
  expect(instance).toMatchObject({ SubnetId: Subnet?.SubnetId, VpcId: Vpc?.VpcId, Architecture: 'arm64' });
});

test('what is wrong is told before anything is made', async () => {
  await cleanUp();
  const unknown = await launch('--instance-type t9.huge');
  expect(unknown).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('InvalidInstanceType') });
  const subnet = await launch('--subnet-id subnet-0123456789abcdef0');
  expect(subnet).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('InvalidSubnetID.NotFound') });
  const faults = [{ operation: 'ec2:DescribeVpcs', output: { Vpcs: [] } }];
  const vpc = await launch('', { faults });
  expect(vpc).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('create-default-vpc') });
  const world = await launch('--cidr 0.0.0.0/0');
  expect(world).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('--yes') });
  expect(await leftovers(own)).toEqual([]);
});

describe('when a step fails, what the run made is gone', () => {
  const steps: [string, Fault, RegExp][] = [
    [
      'no permission for the key pair',
      { operation: 'ec2:CreateKeyPair', error: { name: 'UnauthorizedOperation' } },
      /permission ec2:CreateKeyPair is missing/,
    ],
    [
      'no permission for the group',
      { operation: 'ec2:CreateSecurityGroup', error: { name: 'UnauthorizedOperation' } },
      /permission ec2:CreateSecurityGroup is missing/,
    ],
    [
      'the rule is refused',
      { operation: 'ec2:AuthorizeSecurityGroupIngress', error: { name: 'RulesPerSecurityGroupLimitExceeded' } },
      /RulesPerSecurityGroupLimitExceeded/,
    ],
    [
      'no permission to launch',
      { operation: 'ec2:RunInstances', error: { name: 'UnauthorizedOperation' } },
      /permission ec2:RunInstances is missing/,
    ],
    [
      'no capacity',
      { operation: 'ec2:RunInstances', error: { name: 'InsufficientInstanceCapacity' } },
      /InsufficientInstanceCapacity/,
    ],
    ['the quota', { operation: 'ec2:RunInstances', error: { name: 'VcpuLimitExceeded' } }, /VcpuLimitExceeded/],
    [
      'EC2 gives the instance up',
      {
        operation: 'ec2:DescribeInstances',
        times: 1,
        output: {
          Reservations: [
            {
              Instances: [
                { State: { Name: 'terminated' }, StateReason: { Message: 'Client.VolumeLimitExceeded: Volume limit' } },
              ],
            },
          ],
        },
      },
      /is running: that will not come any more Client\.VolumeLimitExceeded/,
    ],
    [
      'the time is up',
      { operation: 'ec2:DescribeInstanceStatus', output: { InstanceStatuses: [] } },
      /Gave up after 4 s/,
    ],
    [
      'Ctrl-C before the launch',
      { operation: 'ec2:AuthorizeSecurityGroupIngress', signalAfter: 'SIGINT' },
      /Interrupted/,
    ],
    ['Ctrl-C during the launch', { operation: 'ec2:RunInstances', signalAfter: 'SIGINT' }, /Interrupted/],
    ['Ctrl-C while waiting', { operation: 'ec2:DescribeInstanceStatus', signal: 'SIGINT' }, /Interrupted/],
  ];
  test.each(steps)('%s', async (_name, fault, message) => {
    const path = `${folder}/failing.pem`;
    const seconds = message.source.includes('Gave up') ? '--timeout 4' : '';
    const result = await launch(`--key-file ${path} --key-name failing --group-name failing ${seconds}`, {
      faults: [fault],
    });
    expect(result).toMatchObject({ code: message.source === 'Interrupted' ? 130 : 1, stdout: '' });
    expect(result.stderr).toMatch(message);
    expect(result.stderr).not.toContain('left are');
    expect(await leftovers(own)).toEqual([]);
    expect(() => statSync(path)).toThrow('ENOENT');
  });
});

test('Ctrl-C during the launch ends an instance that EC2 does not know yet, too', async () => {
  const result = await launch(`--key-file ${folder}/young.pem --key-name young --group-name young`, {
    faults: [
      { operation: 'ec2:RunInstances', signalAfter: 'SIGINT' },
      { operation: 'ec2:DescribeInstances', times: 2, error: { name: 'InvalidInstanceID.NotFound' } },
    ],
  });
  expect(result).toMatchObject({ code: 130, stdout: '', stderr: 'Interrupted.\n' });
  expect(await leftovers(own)).toEqual([]);
});

test('when a step fails, what was there before is as it was', async () => {
  await launch('--cidr 203.0.113.9/32');
  const before = await leftovers(own);
  const faults = [{ operation: 'ec2:RunInstances', error: { name: 'InsufficientInstanceCapacity' } }];
  expect(await launch('--cidr 203.0.113.77/32', { faults })).toMatchObject({ code: 1 });
  expect(await leftovers(own)).toEqual(before);
  expect(await rules('paws')).toEqual(['203.0.113.9/32']);
  const { KeyPairs } = await ec2().send(new DescribeKeyPairsCommand({ KeyNames: ['paws'] }));
  expect(KeyPairs).toHaveLength(1);
  expect(statSync(`${folder}/.ssh/paws.pem`).isFile()).toBe(true);
  await cleanUp();
});

test('a key that another run has launched with meanwhile stays, and is named', async () => {
  await cleanUp();
  const tags = { paws: '2.1' };
  const TagSpecifications = [{ ResourceType: 'instance' as const, Tags: [{ Key: 'paws', Value: '2.1' }] }];
  const image = { ImageId: 'ami-0532be01f26a3de55', MinCount: 1, MaxCount: 1 };
  const other = new RunInstancesCommand({ ...image, KeyName: 'shared', TagSpecifications });
  const { client } = withFaults(
    ec2(),
    // The other run finds the key pair that this one has made.
    { operation: 'CreateSecurityGroup', answered: () => ec2().send(other) },
    { operation: 'RunInstances', error: 'VcpuLimitExceeded' },
  );
  const keyFile = join(folder, 'shared.pem');
  const options = { keyFile, cidr: '203.0.113.9/32', keyName: 'shared', tags };
  const launched = launchInstance(client, new SSMClient(settingsOf(own)), options);
  await expect(launched).rejects.toThrow(/^VcpuLimitExceeded; left are key-\w+, .*shared.pem$/);
  expect(readFileSync(keyFile, 'utf8')).toContain('PRIVATE KEY');
  await cleanUp();
});

test('what EC2 does not know everywhere yet is asked for again by one token, and what it still holds is waited for', async () => {
  const tokens: (string | undefined)[] = [];
  const { client } = withFaults(
    ec2(),
    { operation: 'RunInstances', error: 'InvalidKeyPair.NotFound', times: 1 },
    { operation: 'RunInstances', error: 'InvalidGroup.NotFound', times: 1 },
    { operation: 'DeleteSecurityGroup', error: 'DependencyViolation', times: 1 },
    { operation: 'DescribeInstanceStatus', error: 'UnauthorizedOperation' },
  );
  const send = (command: object, ...rest: never[]) => {
    if (command instanceof RunInstancesCommand) tokens.push(command.input.ClientToken);
    return client.send(command as RunInstancesCommand, ...rest);
  };
  const watched = Object.create(client, { send: { value: send } });
  const options = { keyFile: join(folder, 'new.pem'), cidr: '203.0.113.9/32', keyName: 'new', groupName: 'new' };
  const launched = launchInstance(watched, new SSMClient(settingsOf(own)), { ...options, tags: { paws: '2.1' } });
  await expect(launched).rejects.toThrow(/^UnauthorizedOperation$/);
  expect(tokens).toHaveLength(3);
  expect(new Set(tokens).size).toBe(1);
  expect(tokens[0]).toMatch(/^[\da-f-]{36}$/);
  expect(await leftovers(own)).toEqual([]);

  // A lack of capacity is no such thing, though EC2 calls it an error of its own.
  const full = withFaults(ec2(), { operation: 'RunInstances', error: 'InsufficientInstanceCapacity' });
  const refused = launchInstance(full.client, new SSMClient(settingsOf(own)), options);
  await expect(refused).rejects.toThrow(/^InsufficientInstanceCapacity$/);
  expect(full.sent.filter((name) => name === 'RunInstances')).toHaveLength(1);

  // Ctrl-C between two tries launches nothing.
  const stop = new AbortController();
  const young = withFaults(ec2(), { operation: 'RunInstances', error: 'InvalidKeyPair.NotFound' });
  const early = (command: object, ...rest: never[]) => {
    if (command instanceof RunInstancesCommand) setTimeout(() => stop.abort(new Error('enough')), 500);
    return young.client.send(command as RunInstancesCommand, ...rest);
  };
  const hasty = Object.create(young.client, { send: { value: early } });
  const launching = launchInstance(hasty, new SSMClient(settingsOf(own)), { ...options, signal: stop.signal });
  await expect(launching).rejects.toThrow(/^enough$/);
  expect(young.sent.filter((name) => name === 'RunInstances')).toHaveLength(1);
});

test('a key that EC2 was given in this run is taken back, and the file stays', async () => {
  const faults = [{ operation: 'ec2:RunInstances', error: { name: 'InsufficientInstanceCapacity' } }];
  expect(await launch('', { faults })).toMatchObject({ code: 1 });
  expect(await leftovers(own)).toEqual([]);
  expect(statSync(`${folder}/.ssh/paws.pem`).isFile()).toBe(true);
});

test('what can not be removed again is named, and what it needs is left', async () => {
  const path = `${folder}/stuck.pem`;
  const result = await launch(`--key-file ${path} --key-name stuck --group-name stuck`, {
    faults: [
      { operation: 'ec2:DescribeInstanceStatus', signal: 'SIGINT' },
      { operation: 'ec2:TerminateInstances', error: { name: 'UnauthorizedOperation' } },
    ],
  });
  expect(result).toMatchObject({ code: 130, stdout: '' });
  expect(result.stderr).toMatch(/^Interrupted\.; left are i-\w+, sg-\w+, key-\w+, .*stuck\.pem\n/);
  expect(await leftovers(own)).toHaveLength(4);
  expect(statSync(path).isFile()).toBe(true);
  await cleanUp();
});

test('a large machine is asked about on AWS', async () => {
  const env = { AWS_ACCESS_KEY_ID: 'AKIAIOSFODNN7EXAMPLE', AWS_SECRET_ACCESS_KEY: 'x', AWS_REGION: 'us-east-1' };
  const result = await run(`npx tsx ${file} --cidr 203.0.113.9/32 --instance-type p5.48xlarge`, { env });
  expect(result).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('may cost dollars an hour') });
  expect(result.stderr).not.toContain('REFUSED');
});
