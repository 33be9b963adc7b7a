import {
  CreateVolumeCommand,
  DescribeInstancesCommand,
  DescribeVolumesCommand,
  RunInstancesCommand,
  StopInstancesCommand,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import { describe, expect, test } from 'vitest';
import { addVolume, attachVolume, findDevice } from '../../recipes/ec2/07-attach-volume.ts';
import { type ClientFault, withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';

const { run, file, ec2 } = testRecipe(import.meta);
const attach = (options: string, settings = {}) => run(`npx tsx ${file} --local ${options}`, settings);

async function launch(tags: { Key: string; Value: string }[] = []): Promise<string> {
  const { Instances } = await ec2().send(
    new RunInstancesCommand({
      ImageId: 'ami-0532be01f26a3de55',
      MinCount: 1,
      MaxCount: 1,
      Placement: { AvailabilityZone: 'us-east-1b' },
      TagSpecifications: tags.length > 0 ? [{ ResourceType: 'instance', Tags: tags }] : undefined,
    }),
  );
  return Instances?.[0]?.InstanceId as string;
}

async function create(zone = 'us-east-1b'): Promise<string> {
  const { VolumeId } = await ec2().send(new CreateVolumeCommand({ AvailabilityZone: zone, Size: 1 }));
  return VolumeId as string;
}

async function volume(id: string) {
  return (await ec2().send(new DescribeVolumesCommand({ VolumeIds: [id] }))).Volumes?.[0];
}

/** Volumes that are not the root of an instance. */
async function volumes() {
  const { Volumes = [] } = await ec2().send(new DescribeVolumesCommand({}));
  return Volumes.filter(({ Attachments = [] }) => !Attachments.some(({ Device }) => Device === '/dev/sda1'));
}

async function mappings(id: string) {
  const { Reservations } = await ec2().send(new DescribeInstancesCommand({ InstanceIds: [id] }));
  return Reservations?.[0]?.Instances?.[0]?.BlockDeviceMappings ?? [];
}

function instanceIs(Name: string) {
  const output = { Reservations: [{ Instances: [{ State: { Name } }] }] };
  return withFaults(ec2(), { operation: 'DescribeInstances', output }).client;
}

describe('as a command', () => {
  test('a new volume is encrypted gp3 of the size, tagged, in the zone, attached under the next free name', async () => {
    const id = await launch([{ Key: 'paws', Value: '2.1' }]);
    const foreign = await launch();
    const first = JSON.parse((await attach('--size 3 --json')).stdout);
    const second = JSON.parse((await attach(`${id} --delete-on-termination --json`)).stdout);
    expect(first).toEqual({
      instanceId: id,
      volumeId: expect.stringMatching(/^vol-/),
      device: '/dev/sdf',
      nvmePath: `/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${first.volumeId.replace('-', '')}`,
      size: 3,
      deleteOnTermination: false,
    });
    expect(second).toMatchObject({ device: '/dev/sdg', size: 8, deleteOnTermination: true });
    expect(await volume(first.volumeId)).toMatchObject({
      ...{ AvailabilityZone: 'us-east-1b', Encrypted: true, VolumeType: 'gp3', Size: 3 },
      Tags: [{ Key: 'paws', Value: '2.7' }],
      Attachments: [{ InstanceId: id, Device: '/dev/sdf', State: 'attached' }],
    });
    expect(await mappings(id)).toEqual(
      expect.arrayContaining([
        expect.objectContaining({
          DeviceName: '/dev/sdf',
          Ebs: expect.objectContaining({ DeleteOnTermination: false }),
        }),
        expect.objectContaining({
          DeviceName: '/dev/sdg',
          Ebs: expect.objectContaining({ DeleteOnTermination: true }),
        }),
      ]),
    );
    expect(await mappings(foreign)).toHaveLength(1);
    await ec2().send(new TerminateInstancesCommand({ InstanceIds: [id, foreign] }));
  });

  test('a volume of yours is attached; a second run leaves it so', async () => {
    const [id, volumeId] = [await launch(), await create()];
    const once = await attach(`${id} --volume-id ${volumeId} --device /dev/sdh --json`);
    expect(JSON.parse(once.stdout)).toMatchObject({ volumeId, device: '/dev/sdh', size: 1 });
    const again = await attach(`${id} --volume-id ${volumeId} --json`);
    expect(again).toEqual(once);
    expect((await volume(volumeId))?.Tags).toBeUndefined();
  });

  test('what is wrong is one line and 2, before anything is made', async () => {
    const id = await launch();
    const before = await volumes();
    const wrong: [string, RegExp][] = [
      ['--size 0', /^Error: a gp3 volume has 1 to 65,536 whole GiB, not 0\n$/],
      ["--size ''", /^Error: a gp3 volume has 1 to 65,536 whole GiB, not 0\n$/],
      ['--size 2 --volume-id vol-1', /^Error: --size is for a new volume.*\n$/],
      ['--device sdf1f', /^Error: "sdf1f" is no device name such as \/dev\/sdf\n$/],
    ];
    const results = await Promise.all(wrong.map(([options]) => attach(`${id} ${options}`)));
    for (const [at, [, stderr]] of wrong.entries()) {
      expect(results[at]).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(stderr) });
    }
    expect(await volumes()).toEqual(before);
  });

  test('a large volume is asked about on AWS, with what it costs', async () => {
    const env = { AWS_ACCESS_KEY_ID: 'AKIAIOSFODNN7EXAMPLE', AWS_SECRET_ACCESS_KEY: 'x', AWS_REGION: 'us-east-1' };
    const result = await run(`npx tsx ${file} i-0123456789abcdef0 --size 500`, { env });
    expect(result).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('for about $40 a month?') });
    expect(result.stderr).not.toContain('REFUSED');
    const tooLarge = await run(`npx tsx ${file} i-0123456789abcdef0 --size 70000`, { env });
    expect(tooLarge).toEqual({
      ...{ code: 2, stdout: '' },
      stderr: 'Error: a gp3 volume has 1 to 65,536 whole GiB, not 70000\n',
    });
  });

  test('without permission to attach the volume is gone again; what stays is named', async () => {
    const id = await launch();
    const before = await volumes();
    const faults = [{ operation: 'ec2:AttachVolume', error: { name: 'UnauthorizedOperation' } }];
    const denied = await attach(id, { faults });
    expect(denied).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringContaining('ec2:AttachVolume is missing'),
    });
    expect(await volumes()).toEqual(before);
    const left = await attach(`${id} --delete-on-termination`, {
      faults: [
        { operation: 'ec2:AttachVolume', signalAfter: 'SIGINT' },
        { operation: 'ec2:DeleteVolume', error: { name: 'UnauthorizedOperation' } },
      ],
    });
    expect(left).toMatchObject({
      code: 130,
      stdout: '',
      stderr: expect.stringMatching(/^Interrupted\..*; left are vol-\w+\n$/),
    });
  });
});

test('an instance that is neither running nor stopped is refused', async () => {
  for (const state of ['pending', 'stopping', 'shutting-down', 'terminated']) {
    await expect(findDevice(instanceIs(state), { instanceId: 'i-1' })).rejects.toThrow(`i-1 is ${state}; volumes`);
  }
  const id = await launch();
  await ec2().send(new StopInstancesCommand({ InstanceIds: [id] }));
  expect(await addVolume(ec2(), { instanceId: id, size: 1 })).toMatchObject({ device: '/dev/sdf' });
});

describe('the next free device name', () => {
  test('is the first that is not in use, by whatever name', async () => {
    const at = (...names: string[]) => {
      const BlockDeviceMappings = names.map((DeviceName) => ({ DeviceName }));
      const Placement = { AvailabilityZone: 'us-east-1a' };
      const output = {
        Reservations: [{ Instances: [{ State: { Name: 'running' }, Placement, BlockDeviceMappings }] }],
      };
      return withFaults(ec2(), { operation: 'DescribeInstances', output }).client;
    };
    const find = (names: string[], device?: string) => findDevice(at(...names), { instanceId: 'i-1', device });
    expect(await find(['/dev/xvda', '/dev/sdf', 'xvdg', '/dev/sdh1', '/dev/sdj'])).toEqual({
      device: '/dev/sdi',
      availabilityZone: 'us-east-1a',
    });
    expect(await find(['/dev/sda1', '/dev/sdb'], '/dev/xvdba')).toMatchObject({ device: '/dev/xvdba' });
    await expect(find(['/dev/sda1'], '/dev/xvda')).rejects.toThrow('/dev/xvda is in use on i-1; free is /dev/sdf');
    const all = [...'fghijklmnop'].map((letter) => `/dev/sd${letter}`);
    await expect(find(all)).rejects.toThrow(
      new RangeError('/dev/sdf to /dev/sdp are all in use on i-1: name a device'),
    );
    expect(await find(all, '/dev/sdq')).toMatchObject({ device: '/dev/sdq' });
    for (const bad of ['', 'f', '/dev/nvme1n1', '/dev/sd', 'sdf/x']) {
      await expect(find([], bad)).rejects.toThrow(RangeError);
    }
  });

  test('is refused when another volume has it, before a volume is made', async () => {
    const id = await launch();
    await addVolume(ec2(), { instanceId: id, size: 1 });
    const before = await volumes();
    await expect(addVolume(ec2(), { instanceId: id, size: 1, device: '/dev/xvdf' })).rejects.toThrow(RangeError);
    expect(await volumes()).toEqual(before);
  });
});

test('a volume of another zone, or attached under another name, is refused and left as it is', async () => {
  const [id, elsewhere, here] = [await launch(), await create('us-east-1c'), await create()];
  const sent = withFaults(ec2());
  await expect(attachVolume(sent.client, { instanceId: id, volumeId: elsewhere })).rejects.toThrow(
    `${elsewhere} is in us-east-1c, ${id} in us-east-1b: they must be in the same Availability Zone`,
  );
  expect(sent.sent).toEqual(['DescribeVolumes', 'DescribeInstances']);
  expect(await volume(elsewhere)).toMatchObject({ State: 'available' });
  await attachVolume(ec2(), { instanceId: id, volumeId: here, device: '/dev/sdk' });
  await expect(attachVolume(ec2(), { instanceId: id, volumeId: here, device: '/dev/sdl' })).rejects.toThrow(
    `${here} is attached to ${id} already, as /dev/sdk`,
  );
  await expect(attachVolume(ec2(), { instanceId: id, volumeId: 'vol-0123456789abcdef0' })).rejects.toMatchObject({
    name: 'InvalidVolume.NotFound',
  });
});

test('a volume that another instance has, or that is on its way off, is refused and left as it is', async () => {
  const [id, other, volumeId] = [await launch(), await launch(), await create()];
  await attachVolume(ec2(), { instanceId: other, volumeId });
  const { client, sent } = withFaults(ec2());
  await expect(attachVolume(client, { instanceId: id, volumeId })).rejects.toThrow(
    new RangeError(`${volumeId} is attached at ${other}: it has to be detached first (2.31)`),
  );
  expect(sent).toEqual(['DescribeVolumes']);
  expect(await volume(volumeId)).toMatchObject({ Attachments: [{ InstanceId: other, State: 'attached' }] });
  for (const State of ['detaching', 'busy']) {
    const output = { Volumes: [{ Attachments: [{ InstanceId: id, State }] }] };
    const off = withFaults(ec2(), { operation: 'DescribeVolumes', output });
    await expect(attachVolume(off.client, { instanceId: id, volumeId })).rejects.toThrow(`is ${State} at ${id}: it`);
    expect(off.sent).toEqual(['DescribeVolumes']);
  }
});

test.each([0, -1, 1.5, 65_537, Number.NaN])('a size of %s is refused', async (size) => {
  const { client, sent } = withFaults(ec2());
  await expect(addVolume(client, { instanceId: 'i-1', size })).rejects.toThrow(RangeError);
  expect(sent).toEqual([]);
});

test('in-use is not yet attached: it is waited for', async () => {
  const id = await launch();
  // One look at the new volume, one at it before it is attached, then two at its attachment.
  const asked: object[] = [];
  const answered = (input: object) => void asked.push(input);
  const attaching = { operation: 'DescribeVolumes', after: 2, times: 1, output: { Volumes: [] }, answered };
  const { client, sent } = withFaults(ec2(), attaching);
  const told: string[] = [];
  expect(await addVolume(client, { instanceId: id, size: 1, onProgress: (text) => told.push(text) })).toMatchObject({
    device: '/dev/sdf',
  });
  expect(sent.filter((operation) => operation === 'DescribeVolumes')).toHaveLength(4);
  expect(asked).toMatchObject([{ Filters: [{ Name: 'attachment.status', Values: ['attached'] }] }]);
  expect(told.join('\n')).toMatch(/until vol-\w+ is attached to i-\w+: [1-9]/);
});

// The codes are those of https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html.
describe('when a step fails, what was there before is as it was', () => {
  const steps: [string, string, ClientFault][] = [
    ['the quota of volumes', 'VolumeLimitExceeded', { operation: 'CreateVolume', error: 'VolumeLimitExceeded' }],
    [
      'no more volumes at the instance',
      'AttachmentLimitExceeded',
      { operation: 'AttachVolume', error: 'AttachmentLimitExceeded' },
    ],
    [
      'the name was taken meanwhile',
      'InvalidParameterValue',
      { operation: 'AttachVolume', error: 'InvalidParameterValue' },
    ],
    ['the instance is stopping', 'IncorrectState', { operation: 'AttachVolume', error: 'IncorrectState' }],
    [
      'no permission to wait',
      'UnauthorizedOperation',
      { operation: 'DescribeVolumes', error: 'UnauthorizedOperation', after: 2, times: 1 },
    ],
    [
      'no permission to modify',
      'UnauthorizedOperation',
      { operation: 'ModifyInstanceAttribute', error: 'UnauthorizedOperation' },
    ],
  ];
  test.each(steps)('%s', async (_name, name, fault) => {
    const id = await launch();
    const before = [await volumes(), await mappings(id)];
    const options = { instanceId: id, size: 1, deleteOnTermination: true };
    await expect(addVolume(withFaults(ec2(), fault).client, options)).rejects.toMatchObject({ name });
    expect([await volumes(), await mappings(id)]).toEqual(before);
  });

  test.each([
    ['DescribeInstances', 0],
    ['CreateVolume', 0],
    ['DescribeVolumes', 0],
    ['AttachVolume', 0],
    ['DescribeVolumes', 2],
    ['ModifyInstanceAttribute', 0],
  ])('an abort at %s, call %s', async (operation, after) => {
    const id = await launch();
    const before = [await volumes(), await mappings(id)];
    const stop = new AbortController();
    const { client } = withFaults(ec2(), { operation, after, answered: () => stop.abort(new Error('enough')) });
    const work = addVolume(client, { instanceId: id, size: 1, deleteOnTermination: true, signal: stop.signal });
    if (operation === 'ModifyInstanceAttribute') {
      // The last step: all is done.
      expect(await work).toMatchObject({ device: '/dev/sdf' });
    } else {
      await expect(work).rejects.toThrow('enough');
      expect([await volumes(), await mappings(id)]).toEqual(before);
    }
  });

  test('an abort while EC2 does not yet know the volume, or is creating it: it is waited for, then deleted', async () => {
    const [id, before] = [await launch(), await volumes()];
    const stop = new AbortController();
    const creating = { Volumes: [{ State: 'creating' }] };
    const { client, sent } = withFaults(
      ec2(),
      { operation: 'CreateVolume', answered: () => stop.abort(new Error('enough')) },
      { operation: 'DescribeVolumes', error: 'InvalidVolume.NotFound', times: 1 },
      { operation: 'DescribeVolumes', output: creating, times: 1 },
    );
    await expect(addVolume(client, { instanceId: id, size: 1, signal: stop.signal })).rejects.toThrow(/^enough$/);
    expect(sent.slice(-4)).toEqual(['DescribeVolumes', 'DescribeVolumes', 'DescribeVolumes', 'DeleteVolume']);
    expect((await volumes()).length).toBe(before.length);
  });

  test('a volume that EC2 dropped by itself is not named as left', async () => {
    const { client } = withFaults(
      ec2(),
      { operation: 'DescribeVolumes', output: { Volumes: [{ State: 'deleted' }] } },
      { operation: 'DeleteVolume', error: 'InvalidVolume.NotFound' },
    );
    const failed = addVolume(client, { instanceId: await launch(), size: 1 });
    await expect(failed).rejects.toThrow(/^(?!.*left are).* is created: that will not come any more/);
  });

  test('a volume of yours is detached again even while EC2 does not tell yet that it is attached', async () => {
    const [id, volumeId] = [await launch(), await create()];
    const stop = new AbortController();
    const { client } = withFaults(
      ec2(),
      { operation: 'AttachVolume', answered: () => stop.abort(new Error('enough')) },
      { operation: 'DescribeVolumes', after: 1, output: { Volumes: [{ State: 'available', Attachments: [] }] } },
    );
    await expect(attachVolume(client, { instanceId: id, volumeId, signal: stop.signal })).rejects.toThrow(/^enough$/);
    expect(await volume(volumeId)).toMatchObject({ State: 'available', Attachments: [] });
  });

  test('a volume of yours is detached again and kept; one that was attached before stays attached', async () => {
    const [id, volumeId] = [await launch(), await create()];
    const options = { instanceId: id, volumeId, deleteOnTermination: true };
    const fault = { operation: 'ModifyInstanceAttribute', error: 'UnauthorizedOperation' };
    await expect(attachVolume(withFaults(ec2(), fault).client, options)).rejects.toThrow(/^UnauthorizedOperation$/);
    expect(await volume(volumeId)).toMatchObject({ State: 'available' });
    await attachVolume(ec2(), { instanceId: id, volumeId });
    await expect(attachVolume(withFaults(ec2(), fault).client, options)).rejects.toThrow(/^UnauthorizedOperation$/);
    expect(await volume(volumeId)).toMatchObject({ State: 'in-use', Attachments: [{ InstanceId: id }] });
  });
});
