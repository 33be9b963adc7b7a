import {
  AttachVolumeCommand,
  CreateVolumeCommand,
  DescribeVolumesCommand,
  RunInstancesCommand,
  type Volume,
} from '@aws-sdk/client-ec2';
import { describe, expect, test, vi } from 'vitest';
import { detachVolume } from '../../recipes/ec2/31-detach-volume.ts';
import { withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';

const { run, file, ec2 } = testRecipe(import.meta);
const command = (options: string, settings = {}) => run(`npx tsx ${file} --local ${options}`, settings);

async function create(): Promise<string> {
  const { VolumeId } = await ec2().send(new CreateVolumeCommand({ AvailabilityZone: 'us-east-1b', Size: 1 }));
  return VolumeId as string;
}

/** A volume that is attached to an instance as /dev/sdh. */
async function scene() {
  const { Instances } = await ec2().send(
    new RunInstancesCommand({
      ...{ ImageId: 'ami-0532be01f26a3de55', MinCount: 1, MaxCount: 1 },
      Placement: { AvailabilityZone: 'us-east-1b' },
    }),
  );
  const instanceId = Instances?.[0]?.InstanceId as string;
  const volumeId = await create();
  await ec2().send(new AttachVolumeCommand({ InstanceId: instanceId, VolumeId: volumeId, Device: '/dev/sdh' }));
  return { instanceId, volumeId };
}

async function look(volumeId: string) {
  const { Volumes } = await ec2().send(new DescribeVolumesCommand({ VolumeIds: [volumeId] }));
  return { state: Volumes?.[0]?.State, on: Volumes?.[0]?.Attachments?.map(({ InstanceId }) => InstanceId) };
}

/** A client for a volume that looks like each of these in turn, and what is asked of it. */
function looks(...answers: Volume[]) {
  const detached: object[] = [];
  const { client, sent } = withFaults(
    ec2(),
    ...answers.map((volume, at) => ({
      ...{ operation: 'DescribeVolumes', output: { Volumes: [volume] } },
      // Each fault counts the calls that come to it: those that the ones before have let pass.
      ...(at < answers.length - 1 ? { times: 1 } : {}),
    })),
    { operation: 'DetachVolume', output: {}, answered: (input) => void detached.push(input) },
  );
  return { client, sent, detached };
}

describe('as a command', () => {
  test('it asks, detaches, and finds it done the second time', async () => {
    const { instanceId, volumeId } = await scene();
    const asked = await command(volumeId);
    expect(asked).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining(`Detach ${volumeId}? What`) });
    expect(await look(volumeId)).toEqual({ state: 'in-use', on: [instanceId] });

    const once = await command(`${volumeId} --yes --json`);
    expect(JSON.parse(once.stdout)).toEqual({ volumeId, instanceIds: [instanceId], devices: ['/dev/sdh'] });
    expect(await look(volumeId)).toEqual({ state: 'available', on: [] });
    const again = await command(`${volumeId} --yes`);
    expect(again.stdout).toBe(`volume id     ${volumeId}\ninstance ids  -\ndevices       -\n`);
  });

  test('Ctrl-C ends the wait: 130; the root volume of a running instance: EC2’s error, 1', async () => {
    const [one, other] = [await scene(), await scene()];
    const [stopped, root] = await Promise.all([
      command(`${one.volumeId} --yes`, { faults: [{ operation: 'ec2:DetachVolume', signalAfter: 'SIGINT' }] }),
      command(`${other.volumeId} --yes`, {
        faults: [{ operation: 'ec2:DetachVolume', error: { name: 'IncorrectState', message: 'root volume' } }],
      }),
    ]);
    expect(stopped).toMatchObject({ code: 130, stdout: '', stderr: 'Interrupted.\n' });
    expect(await look(one.volumeId)).toEqual({ state: 'available', on: [] });
    expect(root).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('IncorrectState: root volume') });
    expect(await look(other.volumeId)).toEqual({ state: 'in-use', on: [other.instanceId] });
  });
});

test('one that will never be free is not waited for', async () => {
  const deleting = looks({ State: 'deleting' });
  await expect(detachVolume(deleting.client, { volumeId: 'vol-1' })).rejects.toMatchObject({
    ...{ name: 'InvalidVolume.NotFound', message: 'vol-1 is deleting' },
  });
  expect(deleting.sent).toEqual(['DescribeVolumes']);
  const broken = looks({ State: 'error', Attachments: [] });
  expect(await detachVolume(broken.client, { volumeId: 'vol-1' })).toMatchObject({ instanceIds: [] });
  expect(broken.sent).toEqual(['DescribeVolumes']);
});

test('a volume that is free is left alone; one that is not there is an error', async () => {
  const volumeId = await create();
  const { client, sent } = withFaults(ec2());
  expect(await detachVolume(client, { volumeId })).toEqual({ volumeId, instanceIds: [], devices: [] });
  expect(new Set(sent)).toEqual(new Set(['DescribeVolumes']));
  await expect(detachVolume(client, { volumeId: 'vol-0123456789abcdef0' })).rejects.toMatchObject({
    name: 'InvalidVolume.NotFound',
  });
});

test('with Multi-Attach it is taken from each instance; one that is on its way off is only waited for', async () => {
  const at = (InstanceId: string, State: 'attached' | 'detaching') => ({ InstanceId, State, Device: '/dev/sdf' });
  const { client, detached, sent } = looks(
    { State: 'in-use', Attachments: [at('i-1', 'attached'), at('i-2', 'detaching'), at('i-3', 'attached')] },
    { State: 'in-use', Attachments: [at('i-2', 'detaching')] },
    { State: 'available', Attachments: [] },
  );
  expect(await detachVolume(client, { volumeId: 'vol-1' })).toEqual({
    ...{ volumeId: 'vol-1', instanceIds: ['i-1', 'i-2', 'i-3'] },
    devices: ['/dev/sdf', '/dev/sdf', '/dev/sdf'],
  });
  expect(detached).toEqual(['i-1', 'i-3'].map((InstanceId) => ({ VolumeId: 'vol-1', InstanceId })));
  expect(sent).toEqual([
    ...['DescribeVolumes', 'DetachVolume', 'DetachVolume'],
    ...['DescribeVolumes', 'DescribeVolumes'],
  ]);
});

test('on a terminal, an undo is told of a volume that was on one instance, not on several', async () => {
  const at = (InstanceId: string) => ({ InstanceId, State: 'detaching', Device: '/dev/sdf' });
  const undoOf = async (...instances: string[]) => {
    const volumeId = await create();
    const Volumes = [{ State: 'in-use', Attachments: instances.map(at) }];
    const faults = [{ operation: 'ec2:DescribeVolumes', output: { Volumes }, times: 1 }];
    const { code, stdout } = await command(`${volumeId} --yes`, { faults, terminal: { columns: 200 } });
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringContaining(volumeId) });
    return /Undo: .*ts (.*)\r/.exec(stdout)?.[1];
  };
  expect(await undoOf('i-1')).toMatch(/^i-1 --volume-id vol-\w+ --device \/dev\/sdf --local$/);
  expect(await undoOf('i-1', 'i-2')).toBeUndefined();
});

test('one that hangs is waited for no longer than five minutes', async () => {
  const busy = looks({ State: 'in-use', Attachments: [{ InstanceId: 'i-1', State: 'busy', Device: '/dev/sdf' }] });
  const now = Date.now.bind(Date);
  const begun = now();
  // Five minutes go by in a second.
  vi.spyOn(Date, 'now').mockImplementation(() => begun + (now() - begun) * 300);
  const work = detachVolume(busy.client, { volumeId: 'vol-1' });
  await expect(work).rejects.toMatchObject({
    name: 'TimeoutError',
    message: expect.stringContaining('not after 300 s'),
  });
  vi.restoreAllMocks();
});
