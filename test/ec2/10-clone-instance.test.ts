import {
  CreateImageCommand,
  CreateSnapshotCommand,
  DescribeInstanceAttributeCommand,
  DescribeInstancesCommand,
  DescribeVolumesCommand,
  type Instance,
  RunInstancesCommand,
  type RunInstancesCommandInput,
  type Volume,
} from '@aws-sdk/client-ec2';
import { CreateInstanceProfileCommand, IAMClient } from '@aws-sdk/client-iam';
import { describe, expect, test } from 'vitest';
import { cloneInstance } from '../../recipes/ec2/10-clone-instance.ts';
import { type ClientFault, withFaults } from '../faults.ts';
import { settingsOf, testRecipe } from '../harness.ts';

const own = testRecipe(import.meta);
const { run, file, ec2, account } = own;
const clone = (options: string, settings = {}) => run(`npx tsx ${file} ${options} --local`, settings);

const amazonLinux = 'ami-0532be01f26a3de55';
const root = {
  DeviceName: '/dev/xvda',
  Ebs: { VolumeSize: 20, VolumeType: 'gp3', DeleteOnTermination: true },
} as const;
const data = (letter: string, DeleteOnTermination: boolean) =>
  ({ DeviceName: `/dev/sd${letter}`, Ebs: { VolumeSize: 3, VolumeType: 'gp3', DeleteOnTermination } }) as const;

async function launch(input: Partial<RunInstancesCommandInput> = {}): Promise<string> {
  const base = { ImageId: amazonLinux, InstanceType: 't3.micro' as const, MinCount: 1, MaxCount: 1 };
  const { Instances } = await ec2().send(
    new RunInstancesCommand({ ...base, BlockDeviceMappings: [root, data('f', false), data('g', true)], ...input }),
  );
  return Instances?.[0]?.InstanceId as string;
}

async function describeInstance(id: string): Promise<Instance> {
  const { Reservations } = await ec2().send(new DescribeInstancesCommand({ InstanceIds: [id] }));
  return Reservations?.[0]?.Instances?.[0] as Instance;
}

async function volumesOf(id: string): Promise<Record<string, Volume>> {
  const Filters = [{ Name: 'attachment.instance-id', Values: [id] }];
  const { Volumes = [] } = await ec2().send(new DescribeVolumesCommand({ Filters }));
  return Object.fromEntries(Volumes.map((volume) => [`${volume.Attachments?.[0]?.Device}`, volume]));
}

/** Takes a snapshot of each data volume; returns them by device. */
async function backUp(id: string): Promise<Record<string, string>> {
  const snapshots: Record<string, string> = {};
  for (const [device, { VolumeId }] of Object.entries(await volumesOf(id))) {
    if (device === root.DeviceName) continue;
    snapshots[device] = (await ec2().send(new CreateSnapshotCommand({ VolumeId }))).SnapshotId as string;
  }
  return snapshots;
}

/** All that is there and could have been made. */
async function inventory(): Promise<unknown[]> {
  const { Reservations = [] } = await ec2().send(new DescribeInstancesCommand({}));
  const instances = Reservations.flatMap(({ Instances = [] }) => Instances);
  const { Volumes = [] } = await ec2().send(new DescribeVolumesCommand({}));
  const alive = instances.filter(({ State }) => State?.Name !== 'terminated');
  return [...alive.map(({ InstanceId }) => InstanceId), ...Volumes.map(({ VolumeId }) => VolumeId)].sort();
}

test('the clone has the settings, the role, the tags and, from their newest snapshots, the data volumes', async () => {
  const iam = new IAMClient(settingsOf({ account }));
  const { InstanceProfile } = await iam.send(new CreateInstanceProfileCommand({ InstanceProfileName: 'web' }));
  const UserData = Buffer.from([0x1f, 0x8b, 8, 0, 0xff, 0xfe, 0, 0x80]).toString('base64');
  const instanceId = await launch({
    UserData,
    KeyName: 'my-key',
    Monitoring: { Enabled: true },
    IamInstanceProfile: { Arn: InstanceProfile?.Arn },
    MetadataOptions: { HttpTokens: 'required', HttpPutResponseHopLimit: 3 },
    TagSpecifications: [
      {
        ResourceType: 'instance',
        Tags: [
          { Key: 'Name', Value: 'web' },
          { Key: 'paws', Value: '2.1' },
        ],
      },
    ],
  });
  await backUp(instanceId);
  await new Promise((done) => setTimeout(done, 1100));
  const snapshots = await backUp(instanceId);
  const result = JSON.parse((await clone(`${instanceId} --json`)).stdout);

  const [original, copy] = [await describeInstance(instanceId), await describeInstance(result.instanceId)];
  for (const name of ['ImageId', 'InstanceType', 'KeyName', 'SubnetId', 'Monitoring', 'MetadataOptions'] as const) {
    expect(copy[name], name).toEqual(original[name]);
  }
  expect(copy.IamInstanceProfile?.Arn).toBe(InstanceProfile?.Arn);
  expect(copy.NetworkInterfaces?.[0]?.Groups).toEqual(original.NetworkInterfaces?.[0]?.Groups);
  expect(copy.Tags).toEqual([
    { Key: 'Name', Value: 'web' },
    { Key: 'paws', Value: '2.10' },
  ]);
  const attribute = { InstanceId: result.instanceId, Attribute: 'userData' as const };
  expect(await ec2().send(new DescribeInstanceAttributeCommand(attribute))).toMatchObject({
    UserData: { Value: UserData },
  });

  const volumes = await volumesOf(result.instanceId);
  expect(volumes).toMatchObject({
    '/dev/xvda': { Size: 20, Encrypted: true, Tags: [{ Key: 'paws', Value: '2.10' }] },
    '/dev/sdf': { Size: 3, SnapshotId: snapshots['/dev/sdf'] },
    '/dev/sdg': { Size: 3, SnapshotId: snapshots['/dev/sdg'] },
  });
  const keeps = copy.BlockDeviceMappings?.map(({ DeviceName, Ebs }) => [DeviceName, Ebs?.DeleteOnTermination]);
  expect(Object.fromEntries(keeps ?? [])).toEqual({ '/dev/xvda': true, '/dev/sdf': false, '/dev/sdg': true });

  expect(result).toMatchObject({
    originalId: instanceId,
    address: copy.PublicIpAddress,
    volumes: ['/dev/sdf', '/dev/sdg'].map((device) => ({
      device,
      snapshotId: snapshots[device],
      volumeId: volumes[device]?.VolumeId,
      startTime: expect.stringMatching(/^\d{4}-/),
    })),
    // What stays without the instance has to be deleted, too.
    made: [result.instanceId, volumes['/dev/sdf']?.VolumeId],
  });
  expect(await inventory()).toContain(instanceId);
});

/** What a clone asks EC2 to launch, without what is undefined. */
async function launched(instanceId: string, options: object, ...faults: ClientFault[]) {
  const { client } = withFaults(ec2(), ...faults);
  const inputs: RunInstancesCommandInput[] = [];
  client.middlewareStack.add(
    (next, { commandName }) =>
      (args) => {
        if (commandName === 'RunInstancesCommand') inputs.push(args.input as RunInstancesCommandInput);
        return next(args);
      },
    { step: 'initialize' },
  );
  const result = await cloneInstance(client, { instanceId, ...options });
  return { result, input: JSON.parse(JSON.stringify(inputs[0])) };
}

test('all volumes go with the clone until it is complete, and are asked to be encrypted', async () => {
  const instanceId = await launch();
  await backUp(instanceId);
  const { input } = await launched(instanceId, {});
  expect(input.BlockDeviceMappings).toHaveLength(3);
  for (const { Ebs } of input.BlockDeviceMappings) {
    expect(Ebs).toMatchObject({ DeleteOnTermination: true, Encrypted: true });
  }
  expect(input.TagSpecifications).toBeUndefined();
});

test('without data volumes the clone has none, not even those of the image, and it is said', async () => {
  const instanceId = await launch();
  const image = {
    ImageId: amazonLinux,
    State: 'available',
    RootDeviceName: '/dev/xvda',
    BlockDeviceMappings: [root, data('f', true), { DeviceName: '/dev/sdz', VirtualName: 'ephemeral0' }],
  };
  const fault = { operation: 'DescribeImages', output: { Images: [image] } };
  const { result, input } = await launched(instanceId, { dataVolumes: false }, fault);
  expect(input.BlockDeviceMappings).toEqual([
    expect.objectContaining({ DeviceName: '/dev/xvda' }),
    { DeviceName: '/dev/sdf', NoDevice: '' },
  ]);
  expect(result.volumes).toEqual([]);
  expect(result.made).toEqual([result.instanceId]);
  expect(result.differences).toEqual(expect.arrayContaining(['/dev/sdf: left out', '/dev/sdg: left out']));
});

test('no tag of the original is lost but one that is given anew', async () => {
  const Tags = ['constructor', 'team'].map((Key) => ({ Key, Value: 'old' }));
  const TagSpecifications = [{ ResourceType: 'instance' as const, Tags }];
  const instanceId = await launch({ BlockDeviceMappings: [root], TagSpecifications });
  const { input } = await launched(instanceId, { tags: { team: 'new' } });
  expect(input.TagSpecifications[0].Tags).toEqual([
    { Key: 'constructor', Value: 'old' },
    { Key: 'team', Value: 'new' },
  ]);
});

test('a clone that shuts itself down, as the user data has it, is kept', async () => {
  const instanceId = await launch({ BlockDeviceMappings: [root] });
  const stopped = {
    InstanceState: { Name: 'stopped' as const },
    InstanceStatus: { Status: 'not-applicable' as const },
  };
  const { client, sent } = withFaults(ec2(), {
    operation: 'DescribeInstanceStatus',
    output: { InstanceStatuses: [stopped] },
  });
  expect(await cloneInstance(client, { instanceId })).toMatchObject({ state: 'stopped' });
  expect(sent).not.toContain('TerminateInstances');
});

test('with an image of your own the root volume is that of the image, under its name', async () => {
  const instanceId = await launch({ BlockDeviceMappings: [root] });
  const { ImageId } = await ec2().send(
    new CreateImageCommand({ InstanceId: instanceId, Name: 'mine', NoReboot: true }),
  );
  const { result, input } = await launched(instanceId, { imageId: ImageId });
  // LocalStack gives it another root device than its instance has.
  expect(input).toMatchObject({ ImageId, BlockDeviceMappings: [{ DeviceName: '/dev/sda1', Ebs: { VolumeSize: 20 } }] });
  expect(result.imageId).toBe(ImageId);
  expect((await describeInstance(result.instanceId)).ImageId).toBe(ImageId);
});

test('what can not be cloned is refused before anything is made', async () => {
  const instanceId = await launch();
  const before = await inventory();
  await expect(cloneInstance(ec2(), { instanceId })).rejects.toThrow(
    /^there is no snapshot of vol-\w+ that is completed and not archived$/,
  );
  for (const Images of [[], [{ ImageId: amazonLinux, State: 'disabled' }]]) {
    const { client, sent } = withFaults(ec2(), { operation: 'DescribeImages', output: { Images } });
    await expect(cloneInstance(client, { instanceId, dataVolumes: false })).rejects.toThrow(
      `the image ${amazonLinux} can't be launched any more`,
    );
    expect(sent).not.toContain('RunInstances');
  }
  expect(await inventory()).toEqual(before);
  expect(await clone('i-0123456789abcdef0')).toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringMatching(/InvalidInstanceID\.NotFound.*\n$/),
  });
});

describe('when a step fails, what the run made is gone, and the original as it was', () => {
  const denied = 'UnauthorizedOperation';
  const gone = { State: { Name: 'terminated' }, StateReason: { Message: 'Client.InvalidKMSKey.InvalidState: key' } };
  const lost = () => {
    throw new Error('read ECONNRESET');
  };
  const steps: [string, RegExp, ClientFault][] = [
    ['the original may not be looked at', /^U/, { operation: 'DescribeInstances', error: denied }],
    ['nor its attributes', /^U/, { operation: 'DescribeInstanceAttribute', error: denied }],
    ['nor its type', /^U/, { operation: 'DescribeInstanceTypes', error: denied }],
    ['nor its credits', /^U/, { operation: 'DescribeInstanceCreditSpecifications', error: denied }],
    ['nor its volumes', /^U/, { operation: 'DescribeVolumes', error: denied }],
    ['nor its image', /^U/, { operation: 'DescribeImages', error: denied }],
    ['nor the snapshots', /^U/, { operation: 'DescribeSnapshots', error: denied }],
    ['no permission to launch, or to pass the role', /^U/, { operation: 'RunInstances', error: denied }],
    ['no capacity', /^Insuff/, { operation: 'RunInstances', error: 'InsufficientInstanceCapacity' }],
    ['the quota', /^Vcpu/, { operation: 'RunInstances', error: 'VcpuLimitExceeded' }],
    ['the key pair is gone', /^InvalidKey/, { operation: 'RunInstances', error: 'InvalidKeyPair.NotFound' }],
    ['the snapshot is gone', /^InvalidSnap/, { operation: 'RunInstances', error: 'InvalidSnapshot.NotFound' }],
    [
      'EC2 gives the instance up',
      /that will not come any more Client\.InvalidKMSKey/,
      { operation: 'DescribeInstances', after: 1, times: 1, output: { Reservations: [{ Instances: [gone] }] } },
    ],
    ['the wait is denied', /^U/, { operation: 'DescribeInstances', error: denied, after: 1, times: 1 }],
    ['the checks may not be looked at', /^U/, { operation: 'DescribeInstanceStatus', error: denied }],
    ['the volumes may not be set to stay', /^U/, { operation: 'ModifyInstanceAttribute', error: denied }],
    ['they are, and the answer is lost', /^read/, { operation: 'ModifyInstanceAttribute', times: 1, answered: lost }],
  ];
  test('each step in turn', async () => {
    const instanceId = await launch();
    await backUp(instanceId);
    const before = await inventory();
    for (const [name, message, fault] of steps) {
      const { client, sent } = withFaults(ec2(), fault);
      const error = await cloneInstance(client, { instanceId }).catch((reason: Error) => reason);
      expect(error, name).toBeInstanceOf(Error);
      expect((error as Error).message, name).toMatch(message);
      expect((error as Error).message, name).not.toContain('left are');
      if (fault.error) expect((error as Error).name, name).toBe(fault.error);
      expect(sent, name).toContain(fault.operation);
      expect(await inventory(), name).toEqual(before);
    }
    for (const operation of ['DescribeImages', 'RunInstances', 'DescribeInstanceStatus']) {
      const stop = new AbortController();
      const answered = () => stop.abort(new Error('enough'));
      const { client, sent } = withFaults(ec2(), { operation, answered });
      const failed = cloneInstance(client, { instanceId, signal: stop.signal });
      await expect(failed, operation).rejects.toThrow(/^(enough|Request aborted)$/);
      expect(sent.includes('RunInstances'), operation).toBe(operation !== 'DescribeImages');
      expect(await inventory(), operation).toEqual(before);
    }
  }, 400_000);

  test('an instance that EC2 does not know yet, too', async () => {
    const instanceId = await launch({ BlockDeviceMappings: [root] });
    const before = await inventory();
    const stop = new AbortController();
    const { client } = withFaults(
      ec2(),
      { operation: 'RunInstances', answered: () => stop.abort(new Error('enough')) },
      { operation: 'DescribeInstances', error: 'InvalidInstanceID.NotFound', after: 1, times: 2 },
    );
    await expect(cloneInstance(client, { instanceId, signal: stop.signal })).rejects.toThrow(/^enough$/);
    expect(await inventory()).toEqual(before);
  });

  test('what can not be terminated is named', async () => {
    const instanceId = await launch({ BlockDeviceMappings: [root] });
    const denied = { operation: 'TerminateInstances', error: 'UnauthorizedOperation' };
    const { client } = withFaults(
      ec2(),
      { operation: 'DescribeInstanceStatus', error: 'UnauthorizedOperation' },
      denied,
    );
    await expect(cloneInstance(client, { instanceId })).rejects.toThrow(/; left are i-\w{17}$/);
  });
});

test('Ctrl-C while waiting ends with 130 and leaves nothing', async () => {
  const instanceId = await launch({ BlockDeviceMappings: [root] });
  const before = await inventory();
  const faults = [{ operation: 'ec2:DescribeInstanceStatus', signal: 'SIGINT' as const }];
  expect(await clone(instanceId, { faults })).toMatchObject({ code: 130, stdout: '', stderr: 'Interrupted.\n' });
  expect(await inventory()).toEqual(before);
});

test('on AWS a launch is asked about, with type and size', async () => {
  const instanceId = await launch({ InstanceType: 'm5.24xlarge' });
  // The same server, but not by --local.
  const env = { AWS_SECRET_ACCESS_KEY: 'test', AWS_REGION: 'us-east-1' };
  const command = (id: string) => `npx tsx ${file} ${id} --endpoint-url ${process.env.COOKBOOK_LOCALSTACK}`;
  const asked = await run(command(instanceId), { env });
  expect(asked).toMatchObject({ code: 2, stdout: '' });
  expect(asked.stderr).toContain(
    `Launch a m5.24xlarge with 26 GiB of volumes? It costs as much as ${instanceId} does.`,
  );

  // A small one may have I/O operations that cost more than all else; LocalStack launches none such.
  const small = await launch();
  const Volumes = Object.values(await volumesOf(small)).map((one) => ({ ...one, VolumeType: 'io2', Iops: 3000 }));
  const costly = await run(command(small), {
    env,
    faults: [{ operation: 'ec2:DescribeVolumes', output: { Volumes } }],
  });
  expect(costly).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('Launch a t3.micro with 26 GiB of volumes?'),
  });
});
