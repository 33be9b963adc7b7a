import {
  AttachVolumeCommand,
  CreateVolumeCommand,
  DescribeInstancesCommand,
  DescribeVolumesCommand,
  ModifyInstanceAttributeCommand,
  RunInstancesCommand,
  StopInstancesCommand,
} from '@aws-sdk/client-ec2';
import type { InitializeMiddleware } from '@smithy/types';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { swapVolume } from '../../recipes/ec2/22-swap-volume.ts';
import { type ClientFault, withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';

const { run, file, ec2 } = testRecipe(import.meta);
const command = (options: string, settings = {}) => run(`npx tsx ${file} --local ${options}`, settings);
const device = '/dev/sdf';

async function create(AvailabilityZone = 'us-east-1b'): Promise<string> {
  return (await ec2().send(new CreateVolumeCommand({ AvailabilityZone, Size: 1 }))).VolumeId as string;
}

async function attach(InstanceId: string, VolumeId: string, Device: string, DeleteOnTermination = false) {
  await ec2().send(new AttachVolumeCommand({ InstanceId, VolumeId, Device }));
  const BlockDeviceMappings = [{ DeviceName: Device, Ebs: { DeleteOnTermination } }];
  await ec2().send(new ModifyInstanceAttributeCommand({ InstanceId, BlockDeviceMappings }));
}

/** An instance with a volume at /dev/sdf that goes with it, and a free one, or one that is attached as /dev/sdg. */
async function scene({ earlier = false, stopped = false } = {}) {
  const { Instances } = await ec2().send(
    new RunInstancesCommand({
      ...{ ImageId: 'ami-0532be01f26a3de55', MinCount: 1, MaxCount: 1 },
      Placement: { AvailabilityZone: 'us-east-1b' },
      BlockDeviceMappings: [{ DeviceName: '/dev/xvda', Ebs: { VolumeSize: 8, DeleteOnTermination: true } }],
    }),
  );
  const instanceId = Instances?.[0]?.InstanceId as string;
  const [oldId, volumeId] = [await create(), await create()];
  await attach(instanceId, oldId, device, true);
  if (earlier) await attach(instanceId, volumeId, '/dev/sdg');
  if (stopped) await ec2().send(new StopInstancesCommand({ InstanceIds: [instanceId] }));
  return { instanceId, oldId, volumeId };
}

/** The instance's state, and what is attached where, with its DeleteOnTermination. */
async function look(instanceId: string) {
  const { Reservations } = await ec2().send(new DescribeInstancesCommand({ InstanceIds: [instanceId] }));
  const { State, BlockDeviceMappings = [] } = Reservations?.[0]?.Instances?.[0] ?? {};
  const places = BlockDeviceMappings.map(({ DeviceName, Ebs }) => [
    DeviceName,
    `${Ebs?.VolumeId} ${Ebs?.DeleteOnTermination}`,
  ]);
  return { state: State?.Name, ...Object.fromEntries(places) };
}

async function stateOf(volumeId: string) {
  const { Volumes } = await ec2().send(new DescribeVolumesCommand({ VolumeIds: [volumeId] }));
  return Volumes?.[0]?.State;
}

const changes = ['StopInstances', 'DetachVolume', 'AttachVolume', 'ModifyInstanceAttribute', 'StartInstances'];
const changesIn = (sent: string[]) => sent.filter((operation) => changes.includes(operation));

afterEach(() => void vi.restoreAllMocks());

describe('as a command', () => {
  test('it asks, swaps, and finds it done the second time', async () => {
    const { instanceId, oldId, volumeId } = await scene();
    const options = `${instanceId} --volume-id ${volumeId} --device ${device}`;
    const before = await look(instanceId);
    const asked = await command(options);
    expect(asked).toMatchObject({ code: 2, stdout: '' });
    expect(asked.stderr).toContain(
      `Stop ${instanceId}, put ${volumeId} in place of the volume at ${device}, and start`,
    );
    expect(await look(instanceId)).toEqual(before);

    const once = JSON.parse((await command(`${options} --yes --json`)).stdout);
    expect(once).toEqual({
      ...{ instanceId, device, volumeId, deleteOnTermination: true, keptVolumeId: oldId, state: 'running' },
      address: expect.stringMatching(/^\d+(\.\d+){3}$/),
    });
    expect(await look(instanceId)).toEqual({ ...before, [device]: `${volumeId} true` });
    expect(await stateOf(oldId)).toBe('available');
    const again = await command(`${options} --yes --json`);
    expect(JSON.parse(again.stdout)).toEqual({ ...once, keptVolumeId: null });
  });

  test('Ctrl-C puts all back; a volume that can not be put there is 2, a missing permission 1, and nothing happens', async () => {
    const { instanceId, volumeId } = await scene({ earlier: true });
    const before = await look(instanceId);
    const options = `${instanceId} --device ${device} --yes`;
    const runs = [
      // The first two calls are dry runs.
      command(`${options} --volume-id ${volumeId}`, {
        faults: [{ operation: 'ec2:AttachVolume', after: 2, times: 1, signalAfter: 'SIGINT' }],
      }),
    ];
    expect(await Promise.all(runs)).toMatchObject([{ code: 130, stdout: '', stderr: 'Interrupted.\n' }]);
    expect(await look(instanceId)).toEqual(before);
    const [unnamed, elsewhere, denied] = await Promise.all([
      command(`${instanceId} --yes`),
      command(`${options} --volume-id ${await create('us-east-1c')}`),
      command(`${options} --volume-id ${volumeId}`, {
        faults: [{ operation: 'ec2:StartInstances', error: { name: 'UnauthorizedOperation' } }],
      }),
    ]);
    expect(unnamed).toMatchObject({ code: 2, stdout: '' });
    expect(unnamed?.stderr).toBe('Error: the root volume is swapped for one that you name: --volume-id\n');
    expect(elsewhere).toMatchObject({ code: 2, stdout: '' });
    expect(elsewhere?.stderr).toMatch(
      /^Error: vol-\w+ is in us-east-1c, i-\w+ in us-east-1b: they must be in the .*\n$/,
    );
    expect(denied).toMatchObject({ code: 1, stdout: '' });
    expect(denied?.stderr).toContain('The permission ec2:StartInstances is missing');
    expect(await look(instanceId)).toEqual(before);
  });
});

test('a stopped instance is left stopped', async () => {
  const { instanceId, oldId, volumeId } = await scene({ stopped: true });
  const before = await look(instanceId);
  const { client, sent } = withFaults(ec2());
  expect(await swapVolume(client, { instanceId, volumeId, device })).toMatchObject({
    ...{ keptVolumeId: oldId, state: 'stopped', address: null },
  });
  expect(changesIn(sent)).toEqual(['DetachVolume', 'AttachVolume', 'ModifyInstanceAttribute']);
  expect(await look(instanceId)).toEqual({ ...before, [device]: `${volumeId} true` });
});

test('the root volume is meant by default, and is swapped while the instance is stopped', async () => {
  const { instanceId, volumeId } = await scene({ earlier: true });
  const before = await look(instanceId);
  const { client, sent } = withFaults(ec2());
  const { keptVolumeId, device } = await swapVolume(client, { instanceId, volumeId });
  expect(`${keptVolumeId} true`).toBe(before['/dev/xvda']);
  expect(device).toBe('/dev/xvda');
  const { '/dev/sdg': _, ...others } = before;
  expect(await look(instanceId)).toEqual({ ...others, '/dev/xvda': `${volumeId} true` });
  const swap = ['DetachVolume', 'DetachVolume', 'AttachVolume', 'ModifyInstanceAttribute'];
  expect(changesIn(sent)).toEqual(['StopInstances', ...swap, 'StartInstances']);
  // Each is waited for before the next.
  expect(sent.join(' ')).toMatch(
    /StopInstances DescribeInstances .*StartInstances DescribeInstances DescribeInstanceStatus/,
  );
  expect(sent.join(' ')).toMatch(/DetachVolume DescribeVolumes DescribeVolumes DetachVolume DescribeVolumes/);
});

test('what can not be swapped is refused before anything is changed', async () => {
  const scenery = await scene();
  const { instanceId, volumeId } = scenery;
  const other = await scene();
  const { client, sent } = withFaults(ec2());
  const refused = (options: object) => expect(swapVolume(client, { instanceId, volumeId, device, ...options })).rejects;
  await refused({ device: '/dev/sdz' }).toThrow(
    new RangeError(`${instanceId} has no volume at /dev/sdz; it has some at /dev/xvda, /dev/sdf`),
  );
  await refused({ volumeId: other.oldId }).toThrow(
    `${other.oldId} is attached to ${other.instanceId}: detach it first`,
  );
  // Multi-Attach: one of the two is on another instance as well.
  for (const VolumeId of [scenery.oldId, volumeId]) {
    const Attachments = [{ InstanceId: instanceId }, { InstanceId: 'i-2' }];
    const output = { Volumes: [{ VolumeId, Attachments }] };
    const shared = withFaults(ec2(), { operation: 'DescribeVolumes', output });
    await expect(swapVolume(shared.client, { instanceId, volumeId, device })).rejects.toThrow(
      new RangeError(`${VolumeId} is attached to i-2: detach it first (2.31)`),
    );
    expect(changesIn(shared.sent)).toEqual([]);
  }
  const rootId = (await look(instanceId))['/dev/xvda']?.split(' ')[0] as string;
  await refused({ volumeId: rootId }).toThrow(
    new RangeError(`${rootId} is the root volume of ${instanceId}, which can't start without it`),
  );
  for (const State of ['error', 'deleting']) {
    const AvailabilityZone = 'us-east-1b';
    const Volumes = [
      { VolumeId: scenery.oldId, AvailabilityZone, State: 'in-use' },
      { VolumeId: volumeId, AvailabilityZone, State },
    ];
    const broken = withFaults(ec2(), { operation: 'DescribeVolumes', output: { Volumes } });
    await expect(swapVolume(broken.client, { instanceId, volumeId, device })).rejects.toThrow(
      new RangeError(`${volumeId} can't be attached: its state is ${State}`),
    );
    expect(changesIn(broken.sent)).toEqual([]);
  }
  await refused({ volumeId: 'vol-0123456789abcdef0' }).toMatchObject({ name: 'InvalidVolume.NotFound' });
  await refused({ instanceId: 'i-0123456789abcdef0' }).toMatchObject({ name: 'InvalidInstanceID.NotFound' });
  for (const Name of ['pending', 'stopping', 'shutting-down', 'terminated']) {
    const output = { Reservations: [{ Instances: [{ State: { Name } }] }] };
    const faulty = withFaults(ec2(), { operation: 'DescribeInstances', output }).client;
    await expect(swapVolume(faulty, { instanceId, volumeId, device })).rejects.toThrow(`${instanceId} is ${Name}; `);
  }
  const hibernated = { State: { Name: 'stopped' }, StateReason: { Code: 'Client.UserInitiatedHibernate' } };
  const output = { Reservations: [{ Instances: [hibernated] }] };
  const asleep = withFaults(ec2(), { operation: 'DescribeInstances', output }).client;
  await expect(swapVolume(asleep, { instanceId, volumeId, device })).rejects.toThrow(`${instanceId} is hibernated, `);
  expect(changesIn(sent)).toEqual([]);
});

test.each(changes)('without permission for %s nothing is changed', async (operation) => {
  const { instanceId, volumeId } = await scene();
  const before = await look(instanceId);
  const { client, sent } = withFaults(ec2(), { operation, dryRun: true, error: 'UnauthorizedOperation' });
  await expect(swapVolume(client, { instanceId, volumeId, device })).rejects.toMatchObject({
    name: 'UnauthorizedOperation',
  });
  expect(changesIn(sent)).toEqual([]);
  expect(await look(instanceId)).toEqual(before);
});

describe('when a step fails, all is as it was', () => {
  const free = { earlier: false };
  const elsewhere = { earlier: true };
  const stopped = { earlier: true, stopped: true };
  // Of https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html.
  const realErrors: Record<string, string> = {
    StopInstances: 'UnsupportedOperation',
    DetachVolume: 'UnsupportedOperation',
    AttachVolume: 'InvalidParameterValue',
    ModifyInstanceAttribute: 'IncorrectInstanceState',
    StartInstances: 'InsufficientInstanceCapacity',
  };

  /** The changes and waits of a swap that goes well, each with the number of the same requests before it. */
  async function requests(options: { earlier: boolean; stopped?: boolean }) {
    const { instanceId, volumeId } = await scene(options);
    const { client, sent } = withFaults(ec2());
    await swapVolume(client, { instanceId, volumeId, device });
    const all = sent.map((operation, at) => ({
      operation,
      after: sent.slice(0, at).filter((one) => one === operation).length,
      previous: sent[at - 1] ?? '',
    }));
    return {
      changes: all.filter(({ operation }) => operation in realErrors),
      waits: all.filter(
        ({ operation, previous }) =>
          operation === 'DescribeInstanceStatus' || /^(Stop|Start|Detach|Attach)/.test(previous),
      ),
    };
  }

  async function expectAsItWas(
    options: { earlier: boolean; stopped?: boolean },
    fault: ClientFault,
    error: object,
    signal?: AbortSignal,
  ) {
    const { instanceId, volumeId } = await scene(options);
    const before = await look(instanceId);
    const { client } = withFaults(ec2(), { times: 1, ...fault });
    const what = `${fault.operation}, call ${fault.after}`;
    await expect(swapVolume(client, { instanceId, volumeId, device, signal }), what).rejects.toMatchObject(error);
    expect(await look(instanceId), what).toEqual(before);
    expect(await stateOf(volumeId), what).toBe(options.earlier ? 'in-use' : 'available');
  }

  test.each([
    ['a free volume', free, 5],
    ['one that is attached elsewhere', elsewhere, 6],
    ['a stopped instance', stopped, 4],
  ])('each change is refused in turn: %s', async (_name, options, count) => {
    const { changes } = await requests(options);
    expect(changes).toHaveLength(count);
    for (const { operation, after } of changes) {
      const name = realErrors[operation] as string;
      await expectAsItWas(options, { operation, after, error: name }, { name, message: name });
    }
  });

  test('what was asked for is taken back though EC2 tells still what was before it', async () => {
    const { instanceId, volumeId, oldId } = await scene();
    const before = await look(instanceId);
    const looks = async () => ({
      DescribeInstances: await ec2().send(new DescribeInstancesCommand({ InstanceIds: [instanceId] })),
      DescribeVolumes: await ec2().send(new DescribeVolumesCommand({ VolumeIds: [oldId] })),
    });
    const old = await looks();
    for (const operation of ['StopInstances', 'DetachVolume']) {
      const stop = new AbortController();
      let isTaken = false;
      const stale = Object.entries(old).map(([name, output]) => ({
        ...{ operation: name, output, times: 0 },
      })) as ClientFault[];
      const answered = () => {
        isTaken = true;
        stop.abort(new Error('Interrupted.'));
        for (const fault of stale) fault.times = 1000;
      };
      // The waits at the end have to see what is.
      const after = () => {
        for (const fault of stale) fault.times = 0;
      };
      const { client, sent } = withFaults(ec2(), { operation, answered }, ...stale, {
        operation: 'StartInstances',
        answered: after,
      });
      await expect(swapVolume(client, { instanceId, volumeId, device, signal: stop.signal })).rejects.toThrow('Interr');
      expect(isTaken).toBe(true);
      expect(changesIn(sent).at(-1)).toBe('StartInstances');
      expect(await look(instanceId), operation).toEqual(before);
    }
  });

  test('an instance that is stopped while it starts may be told as starting still', async () => {
    const { instanceId, volumeId } = await scene();
    const before = await look(instanceId);
    const stop = new AbortController();
    let told = 0;
    const { client, sent } = withFaults(ec2(), {
      operation: 'StartInstances',
      times: 1,
      answered: () => {
        stop.abort(new Error('Interrupted.'));
        told = 2;
      },
    });
    const isPending: InitializeMiddleware<object, object> = (next, context) => async (args) => {
      if (context.commandName !== 'DescribeInstancesCommand' || told-- <= 0) return next(args);
      // What does not pass a filter is not told.
      const Instances = 'Filters' in args.input ? [] : [{ State: { Name: 'pending' } }];
      return { output: { $metadata: {}, Reservations: [{ Instances }] }, response: {} };
    };
    client.middlewareStack.add(isPending as never, { step: 'initialize' });
    await expect(swapVolume(client, { instanceId, volumeId, device, signal: stop.signal })).rejects.toThrow(
      new Error('Interrupted.'),
    );
    expect(changesIn(sent).filter((operation) => operation === 'StopInstances')).toHaveLength(2);
    expect(await look(instanceId)).toEqual(before);
  });

  test('a volume that is still on its way off is put back once it is free', async () => {
    const { instanceId, volumeId, oldId } = await scene();
    const before = await look(instanceId);
    const stop = new AbortController();
    const { client, sent } = withFaults(
      ec2(),
      { operation: 'DetachVolume', answered: () => stop.abort(new Error('Interrupted.')) },
      { operation: 'AttachVolume', times: 1, error: 'VolumeInUse' },
      { operation: 'StartInstances', times: 1, error: 'IncorrectInstanceState' },
    );
    await expect(swapVolume(client, { instanceId, volumeId, device, signal: stop.signal })).rejects.toThrow('Interr');
    expect(await look(instanceId)).toEqual(before);
    expect(before[device]).toContain(oldId);
    const swap = ['StopInstances', 'DetachVolume', 'AttachVolume', 'AttachVolume', 'ModifyInstanceAttribute'];
    expect(changesIn(sent)).toEqual([...swap, 'StartInstances', 'StartInstances']);
  });

  test('the answer to each change is lost in turn', async () => {
    for (const { operation, after } of (await requests(elsewhere)).changes) {
      const answered = () => {
        throw Object.assign(new Error('read ECONNRESET'), { name: 'TimeoutError' });
      };
      await expectAsItWas(elsewhere, { operation, after, answered }, { message: 'read ECONNRESET' });
    }
  });

  test('Ctrl-C after each change in turn', async () => {
    for (const { operation, after } of (await requests(elsewhere)).changes) {
      const stop = new AbortController();
      const answered = () => stop.abort(new Error('Interrupted.'));
      await expectAsItWas(elsewhere, { operation, after, answered }, { message: 'Interrupted.' }, stop.signal);
    }
  });

  test('the permission to look is gone at each wait in turn', async () => {
    const { waits } = await requests(elsewhere);
    expect(waits).toHaveLength(6);
    const name = 'UnauthorizedOperation';
    for (const { operation, after } of waits)
      await expectAsItWas(elsewhere, { operation, after, error: name }, { name });
  });

  test('each wait comes to its end in turn', async () => {
    const { waits } = await requests(elsewhere);
    const never = {
      Reservations: [{ Instances: [{ State: { Name: 'rebooting' } }] }],
      Volumes: [],
      InstanceStatuses: [{ InstanceStatus: { Status: 'impaired' } }],
    };
    const now = Date.now.bind(Date);
    let late = 0;
    vi.spyOn(Date, 'now').mockImplementation(() => now() + late);
    for (const { operation, after } of waits) {
      late = 0;
      // What is waited for is not there, and an hour goes by.
      const answered = () => {
        late = 3_600_000;
      };
      const fault = { operation, after, output: never, answered };
      await expectAsItWas(elsewhere, fault, { name: 'TimeoutError' });
    }
  });
});

test('what can not be put back is named', async () => {
  const { instanceId, oldId, volumeId } = await scene();
  const { client, sent } = withFaults(ec2(), { operation: 'AttachVolume', error: 'IncorrectState' });
  await expect(swapVolume(client, { instanceId, volumeId, device })).rejects.toThrow(
    `IncorrectState; left are ${oldId} (not at ${device}), ${instanceId} (stopped)`,
  );
  // Once for the new volume, twice for the old one, and each again, for it might have been on its way off.
  expect(sent.filter((operation) => operation === 'AttachVolume')).toHaveLength(6);
  expect(await stateOf(oldId)).toBe('available');
});
