import {
  CreateTagsCommand,
  DescribeInstancesCommand,
  type Instance,
  ModifyInstanceAttributeCommand,
  RunInstancesCommand,
  type RunInstancesCommandInput,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import { expect, test } from 'vitest';
import { readLaunchSettings } from '../../recipes/ec2/32-read-launch-settings.ts';
import { type ClientFault, withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';

const { run, file, ec2 } = testRecipe(import.meta);

async function launch(input: Partial<RunInstancesCommandInput> = {}): Promise<string> {
  const base = { ImageId: 'ami-0532be01f26a3de55', InstanceType: 't3.micro' as const, MinCount: 1, MaxCount: 1 };
  const { Instances } = await ec2().send(new RunInstancesCommand({ ...base, ...input }));
  return Instances?.[0]?.InstanceId as string;
}

async function describeInstance(id: string): Promise<Instance> {
  const { Reservations } = await ec2().send(new DescribeInstancesCommand({ InstanceIds: [id] }));
  return Reservations?.[0]?.Instances?.[0] as Instance;
}

/** Reads an instance that EC2 tells more of than LocalStack does. */
async function read(instanceId: string, change: Partial<Instance>, ...faults: ClientFault[]) {
  const Reservations = [{ Instances: [{ ...(await describeInstance(instanceId)), ...change }] }];
  const { client, sent } = withFaults(ec2(), { operation: 'DescribeInstances', output: { Reservations } }, ...faults);
  return { ...(await readLaunchSettings(client, { instanceId })), sent };
}

test('what an instance was launched with is read, and launches another one alike', async () => {
  // Compressed data: decoded as text and encoded again, it would be broken.
  const UserData = Buffer.from([0x1f, 0x8b, 8, 0, 0xff, 0xfe, 0, 0x80]).toString('base64');
  const instanceId = await launch({
    UserData,
    KeyName: 'my-key',
    Monitoring: { Enabled: true },
    InstanceInitiatedShutdownBehavior: 'terminate',
    HibernationOptions: { Configured: true },
    MetadataOptions: { HttpTokens: 'required', HttpPutResponseHopLimit: 3, InstanceMetadataTags: 'enabled' },
    NetworkInterfaces: [{ DeviceIndex: 0, AssociatePublicIpAddress: false }],
    BlockDeviceMappings: [
      { DeviceName: '/dev/sdf', Ebs: { VolumeSize: 3, VolumeType: 'gp2', DeleteOnTermination: false } },
      { DeviceName: '/dev/xvda', Ebs: { VolumeSize: 20, VolumeType: 'gp3', DeleteOnTermination: true } },
    ],
    TagSpecifications: [{ ResourceType: 'instance', Tags: [{ Key: 'Name', Value: 'web' }] }],
  });
  const { settings, dataVolumes, differences } = await readLaunchSettings(ec2(), { instanceId });
  const original = await describeInstance(instanceId);
  expect(settings).toMatchObject({
    UserData,
    KeyName: 'my-key',
    Monitoring: { Enabled: true },
    InstanceInitiatedShutdownBehavior: 'terminate',
    HibernationOptions: { Configured: true },
    MetadataOptions: { HttpTokens: 'required', HttpPutResponseHopLimit: 3, InstanceMetadataTags: 'enabled' },
    NetworkInterfaces: [
      {
        SubnetId: original.SubnetId,
        Groups: [original.NetworkInterfaces?.[0]?.Groups?.[0]?.GroupId],
        AssociatePublicIpAddress: false,
      },
    ],
    BlockDeviceMappings: [
      {
        DeviceName: '/dev/xvda',
        Ebs: { VolumeSize: 20, VolumeType: 'gp3', DeleteOnTermination: true, Encrypted: true },
      },
      {
        DeviceName: '/dev/sdf',
        Ebs: { VolumeSize: 3, VolumeType: 'gp2', DeleteOnTermination: false, Encrypted: true, Iops: undefined },
      },
    ],
    TagSpecifications: [{ ResourceType: 'instance', Tags: [{ Key: 'Name', Value: 'web' }] }],
  });
  const data = original.BlockDeviceMappings?.find(({ DeviceName }) => DeviceName === '/dev/sdf');
  expect(dataVolumes).toEqual([{ device: '/dev/sdf', volumeId: data?.Ebs?.VolumeId }]);
  // LocalStack calls volumes encrypted that are mapped without a word on it.
  expect(differences).toEqual([`addresses: other than ${original.PrivateIpAddress}`, 'root volume: as in the image']);

  // One more, read in its turn, has the same settings; only encryption came with it.
  const { Instances } = await ec2().send(new RunInstancesCommand(settings));
  const again = await readLaunchSettings(ec2(), { instanceId: Instances?.[0]?.InstanceId as string });
  const plain = (input: object) => JSON.parse(JSON.stringify(input).replace(/,"KmsKeyId":"[^"]*"/g, ''));
  expect(plain(again.settings)).toEqual(plain(settings));
});

test('what can not be repeated is listed, and what would be an error is left out', async () => {
  const instanceId = await launch({ InstanceType: 'm5d.large' });
  await ec2().send(new CreateTagsCommand({ Resources: [instanceId], Tags: [{ Key: 'team', Value: 'a' }] }));
  for (const attribute of ['DisableApiTermination', 'DisableApiStop']) {
    await ec2().send(new ModifyInstanceAttributeCommand({ InstanceId: instanceId, [attribute]: { Value: true } }));
  }
  const [first] = (await describeInstance(instanceId)).NetworkInterfaces ?? [];
  const { settings, differences, sent } = await read(instanceId, {
    InstanceLifecycle: 'spot',
    // LocalStack makes the root volume there, whatever it says.
    RootDeviceName: '/dev/sda1',
    SourceDestCheck: false,
    CpuOptions: { CoreCount: 1, ThreadsPerCore: 2, AmdSevSnp: 'disabled', NestedVirtualization: 'disabled' },
    MetadataOptions: { State: 'applied', HttpEndpoint: 'disabled', HttpTokens: 'required' },
    Placement: { AvailabilityZone: 'us-east-1a', GroupId: 'pg-1', GroupName: 'near', Tenancy: 'host', HostId: 'h-1' },
    NetworkPerformanceOptions: { BandwidthWeighting: 'default' },
    MaintenanceOptions: { AutoRecovery: 'default', RebootMigration: 'disabled' },
    SecondaryInterfaces: [{ SecondaryInterfaceId: 'si-1' }],
    CapacityReservationSpecification: {
      CapacityReservationPreference: 'open',
      CapacityReservationTarget: { CapacityReservationId: 'cr-1' },
    },
    // Told in any order.
    NetworkInterfaces: [
      { NetworkInterfaceId: 'eni-2', Attachment: { DeviceIndex: 1 }, Groups: [{ GroupId: 'sg-2' }] },
      {
        ...first,
        Ipv6Addresses: [{ Ipv6Address: '2001:db8::1', IsPrimaryIpv6: true }],
        Ipv4Prefixes: [{ Ipv4Prefix: '10.0.1.0/28' }],
        Ipv6Prefixes: [{ Ipv6Prefix: '2001:db8:1::/80' }, { Ipv6Prefix: '2001:db8:2::/80' }],
        Attachment: { DeviceIndex: 0, EnaSrdSpecification: { EnaSrdEnabled: true } },
        ConnectionTrackingConfiguration: { TcpEstablishedTimeout: 600 },
        InterfaceType: 'efa',
        PrivateIpAddresses: [...(first?.PrivateIpAddresses ?? []), { PrivateIpAddress: '10.0.0.8' }],
      },
    ],
    Tags: [
      { Key: 'team', Value: 'a' },
      { Key: 'aws:autoscaling:groupName', Value: 'web' },
    ],
  });
  expect(differences).toEqual([
    expect.stringMatching(/^addresses: other than [\d.]+ and [\d.]+ and 10\.0\.0\.8 and 2001:db8::1$/),
    'root volume: as in the image',
    'instance store: empty',
    '/dev/sda1: encrypted',
    'eni-2: left out',
    'si-1: left out',
    'spot: on demand instead',
    'termination protection: off',
    'stop protection: off',
    'migration when it is rebooted: default',
    'source/destination check: on',
    'tag aws:autoscaling:groupName: left out',
  ]);
  expect(settings.TagSpecifications).toEqual([{ ResourceType: 'instance', Tags: [{ Key: 'team', Value: 'a' }] }]);
  expect(settings.NetworkInterfaces).toMatchObject([
    {
      Groups: [first?.Groups?.[0]?.GroupId],
      ...{ Ipv6AddressCount: 1, SecondaryPrivateIpAddressCount: 1, InterfaceType: 'efa' },
      ...{ Ipv4PrefixCount: 1, Ipv6PrefixCount: 2, PrimaryIpv6: true },
      EnaSrdSpecification: { EnaSrdEnabled: true },
      ConnectionTrackingSpecification: { TcpEstablishedTimeout: 600 },
    },
  ]);
  expect(settings.Placement).toMatchObject({ GroupId: 'pg-1', GroupName: undefined, HostId: undefined });
  expect(settings.Placement).not.toHaveProperty('AvailabilityZone');
  expect(settings.MetadataOptions).toEqual({ HttpEndpoint: 'disabled' });
  expect(settings.CapacityReservationSpecification).toEqual({
    CapacityReservationTarget: { CapacityReservationId: 'cr-1' },
  });
  for (const name of [
    'CpuOptions',
    'CreditSpecification',
    'NetworkPerformanceOptions',
    'MaintenanceOptions',
  ] as const) {
    expect(settings[name], name).toBeUndefined();
  }
  // An m5d is not burstable: asking would be an error.
  expect(sent).not.toContain('DescribeInstanceCreditSpecifications');
});

test('I/O operations and throughput are kept where RunInstances takes them; credits where the type is burstable', async () => {
  const instanceId = await launch();
  const volumes = [
    { VolumeId: 'vol-1', Size: 8, VolumeType: 'gp3', Iops: 4000, Throughput: 250, Encrypted: true, KmsKeyId: 'arn:k' },
    { VolumeId: 'vol-2', Size: 200, VolumeType: 'gp2', Iops: 600, Encrypted: true },
    { VolumeId: 'vol-3', Size: 10, VolumeType: 'io2', Iops: 500, Encrypted: true },
  ];
  const { settings } = await read(
    instanceId,
    {
      Placement: { GroupName: 'near', Tenancy: 'default' },
      RootDeviceName: '/dev/xvda',
      BlockDeviceMappings: ['/dev/xvda', '/dev/sdf', '/dev/sdg'].map((DeviceName, index) => ({
        DeviceName,
        Ebs: { VolumeId: `vol-${index + 1}`, DeleteOnTermination: true, EbsCardIndex: index % 2 },
      })),
    },
    { operation: 'DescribeVolumes', output: { Volumes: volumes } },
    {
      operation: 'DescribeInstanceCreditSpecifications',
      output: { InstanceCreditSpecifications: [{ InstanceId: instanceId, CpuCredits: 'unlimited' }] },
    },
  );
  const common = { Encrypted: true, DeleteOnTermination: true };
  expect(JSON.parse(JSON.stringify(settings.BlockDeviceMappings?.map(({ Ebs }) => Ebs)))).toEqual([
    { VolumeSize: 8, VolumeType: 'gp3', Iops: 4000, Throughput: 250, KmsKeyId: 'arn:k', ...common },
    { VolumeSize: 200, VolumeType: 'gp2', EbsCardIndex: 1, ...common },
    { VolumeSize: 10, VolumeType: 'io2', Iops: 500, ...common },
  ]);
  expect(settings).toMatchObject({
    CreditSpecification: { CpuCredits: 'unlimited' },
    Placement: { GroupName: 'near' },
  });
});

test('queues that are not as many as usual are kept; of a capacity block no target', async () => {
  const instanceId = await launch();
  const types = (usual?: number) => ({
    operation: 'DescribeInstanceTypes',
    output: { InstanceTypes: [{ NetworkInfo: { NetworkCards: [{ DefaultEnaQueueCountPerInterface: usual }] } }] },
  });
  const CapacityReservationTarget = { CapacityReservationId: 'cr-1' };
  const change: Partial<Instance> = {
    NetworkInterfaces: [{ Attachment: { DeviceIndex: 0, EnaQueueCount: 4 } }],
    CapacityReservationSpecification: { CapacityReservationTarget },
  };
  for (const [usual, expected] of [[2, 4], [4], [undefined]] as const) {
    const { settings } = await read(instanceId, change, types(usual));
    expect(settings.NetworkInterfaces?.[0]?.EnaQueueCount).toBe(expected);
    expect(settings.CapacityReservationSpecification).toEqual({ CapacityReservationTarget });
  }
  for (const InstanceLifecycle of ['capacity-block', 'interruptible-capacity-reservation'] as const) {
    const { settings, differences } = await read(instanceId, { ...change, InstanceLifecycle });
    expect(settings.CapacityReservationSpecification).toBeUndefined();
    expect(differences).toContain(`${InstanceLifecycle}: on demand instead`);
  }
});

test('CPU options that are not the defaults of the type are kept; a stopped instance tells of no public address', async () => {
  const instanceId = await launch({ InstanceType: 'm5.large' });
  const { settings, differences } = await read(instanceId, {
    CpuOptions: { CoreCount: 1, ThreadsPerCore: 1, AmdSevSnp: 'enabled' },
    State: { Name: 'stopped' },
    PublicIpAddress: undefined,
    MaintenanceOptions: { AutoRecovery: 'disabled' },
    Placement: { Tenancy: 'host', Affinity: 'host', HostId: 'h-1' },
  });
  expect(settings.CpuOptions).toEqual({ CoreCount: 1, ThreadsPerCore: 1, AmdSevSnp: 'enabled' });
  expect(settings.NetworkInterfaces?.[0]?.AssociatePublicIpAddress).toBeUndefined();
  expect(differences).toContain('public address: as the subnet has it');
  expect(settings.MaintenanceOptions).toEqual({ AutoRecovery: 'disabled' });
  expect(settings.Placement).toMatchObject({ Affinity: 'host', HostId: 'h-1' });
});

test('a terminated instance, an unknown one, and a denied call are errors', async () => {
  const instanceId = await launch();
  for (const operation of ['DescribeInstanceAttribute', 'DescribeInstanceTypes', 'DescribeVolumes']) {
    await expect(read(instanceId, {}, { operation, error: 'UnauthorizedOperation' })).rejects.toMatchObject({
      name: 'UnauthorizedOperation',
    });
  }
  await ec2().send(new TerminateInstancesCommand({ InstanceIds: [instanceId] }));
  await expect(readLaunchSettings(ec2(), { instanceId })).rejects.toThrow('is terminated: EC2 has forgotten');
  const unknown = await run(`npx tsx ${file} i-0123456789abcdef0 --local`);
  expect(unknown).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('InvalidInstanceID.NotFound') });
});

test('the table shows no user data, JSON has it as EC2 takes it', async () => {
  const UserData = Buffer.from('password=swordfish').toString('base64');
  const instanceId = await launch({ UserData });
  const [table, document] = await Promise.all(
    ['', '--json'].map((option) => run(`npx tsx ${file} ${instanceId} --local ${option}`)),
  );
  expect(table?.stdout).toMatch(/^UserData +24 characters of base64$/m);
  expect(table?.stdout).not.toContain(UserData);
  expect(JSON.parse(document?.stdout ?? '').settings).toMatchObject({ UserData, InstanceType: 't3.micro' });
});
