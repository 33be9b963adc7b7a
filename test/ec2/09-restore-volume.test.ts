import {
  AttachVolumeCommand,
  CreateSnapshotCommand,
  CreateVolumeCommand,
  DescribeVolumesCommand,
  RunInstancesCommand,
} from '@aws-sdk/client-ec2';
import { describe, expect, test } from 'vitest';
import { findSnapshot, restoreVolume } from '../../recipes/ec2/09-restore-volume.ts';
import { type ClientFault, withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';

const { run, file, ec2 } = testRecipe(import.meta);
const restore = (options: string, settings = {}) => run(`npx tsx ${file} ${options} --local`, settings);

async function launch(AvailabilityZone = 'us-east-1a', tags: { Key: string; Value: string }[] = []): Promise<string> {
  const { Instances } = await ec2().send(
    new RunInstancesCommand({
      ImageId: 'ami-0532be01f26a3de55',
      MinCount: 1,
      MaxCount: 1,
      Placement: { AvailabilityZone },
      TagSpecifications: tags.length > 0 ? [{ ResourceType: 'instance', Tags: tags }] : undefined,
    }),
  );
  return Instances?.[0]?.InstanceId as string;
}

async function makeVolume(): Promise<string> {
  const { VolumeId } = await ec2().send(new CreateVolumeCommand({ AvailabilityZone: 'us-east-1a', Size: 3 }));
  return VolumeId as string;
}

async function makeSnapshot(VolumeId?: string, tags: Record<string, string> = {}): Promise<string> {
  const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
  const { SnapshotId } = await ec2().send(
    new CreateSnapshotCommand({
      VolumeId: VolumeId ?? (await makeVolume()),
      TagSpecifications: Tags.length > 0 ? [{ ResourceType: 'snapshot', Tags }] : undefined,
    }),
  );
  return SnapshotId as string;
}

async function volumesFrom(snapshotId: string) {
  const Filters = [{ Name: 'snapshot-id', Values: [snapshotId] }];
  return (await ec2().send(new DescribeVolumesCommand({ Filters }))).Volumes ?? [];
}

test('the volume is as large as asked, of the type asked, encrypted, tagged, in the zone of the instance, attached', async () => {
  const [snapshotId, instanceId] = [await makeSnapshot(), await launch('us-east-1b')];
  const options = `--instance-id ${instanceId} --size 5 --volume-type gp2 --device /dev/sdm --json`;
  const result = JSON.parse((await restore(`${snapshotId} ${options}`)).stdout);
  const [volume] = await volumesFrom(snapshotId);
  expect(volume).toMatchObject({
    VolumeId: result.volumeId,
    SnapshotId: snapshotId,
    AvailabilityZone: 'us-east-1b',
    Size: 5,
    VolumeType: 'gp2',
    Encrypted: true,
    Tags: [{ Key: 'paws', Value: '2.9' }],
    Attachments: [{ InstanceId: instanceId, Device: '/dev/sdm', State: 'attached', DeleteOnTermination: false }],
  });
  expect(result).toMatchObject({ snapshotId, size: 5, volumeType: 'gp2', instanceId, device: '/dev/sdm' });

  // Once more, and it is a second volume under the next free name.
  const again = await restoreVolume(ec2(), { snapshotId, instanceId });
  expect(again).toMatchObject({ size: 3, volumeType: 'gp3', device: '/dev/sdf' });
  const volumes = await volumesFrom(snapshotId);
  expect(volumes).toHaveLength(2);
  expect(volumes.find(({ VolumeId }) => VolumeId === again.volumeId)?.Tags ?? []).toEqual([]);
});

test('by a volume its newest own snapshot is taken, completed and not archived; a copy, by its tag, only for want of one', async () => {
  const volumeId = await makeVolume();
  const days = (count: number) => new Date(Date.UTC(2026, 0, count));
  const usable = { State: 'completed', StorageTier: 'standard' };
  const asked: unknown[] = [];
  const unfit = [
    { ...usable, SnapshotId: 'snap-pending', StartTime: days(8), State: 'pending' },
    { ...usable, SnapshotId: 'snap-archived', StartTime: days(9), StorageTier: 'archive' },
  ];
  const copies = [1, 3, 2].map((day) => ({ ...usable, SnapshotId: `snap-copied-${day}`, StartTime: days(day) }));
  const answers = [unfit, copies, [...unfit, ...copies]];
  const client = ec2();
  client.middlewareStack.add(
    () => async (args) => {
      asked.push(args.input);
      return { output: { $metadata: {}, Snapshots: answers[asked.length - 1] } as never, response: {} };
    },
    { step: 'initialize' },
  );
  expect(await findSnapshot(client, { volumeId })).toBe('snap-copied-3');
  expect(asked).toMatchObject([
    { OwnerIds: ['self'], Filters: [{ Name: 'volume-id', Values: [volumeId] }] },
    { OwnerIds: ['self'], Filters: [{ Name: 'tag:paws:volume', Values: [volumeId] }] },
  ]);
  expect(await findSnapshot(client, { volumeId })).toBe('snap-copied-3');
  expect(asked).toHaveLength(3);

  await expect(findSnapshot(ec2(), { volumeId })).rejects.toThrow(`there is no snapshot of ${volumeId} that is`);
  // One of another volume that says by its tag that it is a copy, and an older one of this volume.
  const copied = { 'paws:volume': volumeId };
  const gone = 'vol-0123456789abcdef0';
  const [first, copy] = [await makeSnapshot(volumeId), await makeSnapshot(undefined, { 'paws:volume': gone })];
  await new Promise((done) => setTimeout(done, 1100));
  await makeSnapshot(undefined, copied);
  expect(await findSnapshot(ec2(), { volumeId })).toBe(first);
  const instanceId = await launch('us-east-1a', [{ Key: 'paws', Value: '2.1' }]);
  const { stdout } = await restore(`${gone} --json`);
  expect(JSON.parse(stdout)).toMatchObject({ snapshotId: copy, instanceId });
});

test('what can not be is refused with the rule, before anything is made', async () => {
  const [snapshotId, instanceId] = [await makeSnapshot(), await launch()];
  const ids = { snapshotId, instanceId };
  const wrong: [object, RegExp][] = [
    [{ size: 2 }, /a gp3 volume from snap-\w+ has 3 to 65536 whole GiB, not 2/],
    [{ size: 65_537 }, /not 65537/],
    [{ size: 4.5 }, /not 4.5/],
    [{ size: Number.NaN }, /not NaN/],
    [{ volumeType: 'st1' }, /a st1 volume from snap-\w+ has 125 to 16384 whole GiB, not 3/],
    [{ volumeType: 'gp9' }, /"gp9" is no type of volume: gp3, gp2, io2/],
    [{ volumeType: 'io2' }, /a volume of type io2 needs iops/],
    [{ iops: Number.NaN }, /iops is a number above 0, not NaN/],
    [{ initializationRate: 99 }, /100 to 300 MiB a second, not 99/],
    [{ initializationRate: 301 }, /not 301/],
    [{ initializationRate: Number.NaN }, /not NaN/],
    [{ device: '/dev/root' }, /no device name/],
    [{ device: '/dev/sda1' }, /in use/],
    [{ instanceId: 'i-0123456789abcdef0' }, /'i-0123456789abcdef0' does not exist/],
  ];
  for (const [more, message] of wrong) {
    const { client, sent } = withFaults(ec2());
    await expect(restoreVolume(client, { ...ids, ...more }), message.source).rejects.toThrow(message);
    expect(sent).not.toContain('CreateVolume');
  }
  for (const [change, message] of [
    [{ StorageTier: 'archive', State: 'completed' }, /is archived: restore it from the archive first/],
    [{ State: 'pending' }, /is pending, not completed/],
    [{ State: 'error' }, /is error, not completed/],
  ] as const) {
    const output = { Snapshots: [{ SnapshotId: snapshotId, VolumeSize: 3, ...change }] };
    const { client, sent } = withFaults(ec2(), { operation: 'DescribeSnapshots', output });
    await expect(restoreVolume(client, ids)).rejects.toThrow(message);
    expect(sent).toEqual(['DescribeSnapshots']);
  }
  const [none, unknown, small] = await Promise.all([
    restore('i-0123456789abcdef0'),
    restore(`snap-0123456789abcdef0 --instance-id ${instanceId}`),
    restore(`${snapshotId} --instance-id ${instanceId} --size 1`),
  ]);
  expect(none).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('is neither snap-… nor vol-…') });
  expect(unknown).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('InvalidSnapshot.NotFound') });
  expect(small).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('3 to 65536 whole GiB, not 1') });
  expect(await volumesFrom(snapshotId)).toEqual([]);
});

test('what is asked for reaches EC2: I/O operations and the initialization rate', async () => {
  const [snapshotId, instanceId] = [await makeSnapshot(), await launch()];
  const client = ec2();
  const inputs: object[] = [];
  client.middlewareStack.add(
    (next, { commandName }) =>
      (args) => {
        if (commandName === 'CreateVolumeCommand') inputs.push(args.input);
        return next(args);
      },
    { step: 'initialize' },
  );
  const more = { volumeType: 'io2', size: 10, iops: 500, initializationRate: 300 };
  await restoreVolume(client, { snapshotId, instanceId, ...more });
  expect(inputs).toMatchObject([{ VolumeType: 'io2', Iops: 500, VolumeInitializationRate: 300, Size: 10 }]);
});

describe('when a step fails, the new volume is gone, and the instance as it was', () => {
  const denied = 'UnauthorizedOperation';
  const steps: [string, ClientFault[]][] = [
    ['the snapshot may not be looked at', [{ operation: 'DescribeSnapshots', error: denied }]],
    ['the instance may not be looked at', [{ operation: 'DescribeInstances', error: denied }]],
    ['no permission to create', [{ operation: 'CreateVolume', error: denied }]],
    ['the quota', [{ operation: 'CreateVolume', error: 'VolumeLimitExceeded' }]],
    ['the volume may not be looked at', [{ operation: 'DescribeVolumes', error: denied, times: 1 }]],
    [
      'EC2 gives the volume up',
      [{ operation: 'DescribeVolumes', output: { Volumes: [{ State: 'deleted' }] }, times: 1 }],
    ],
    ['no permission to attach', [{ operation: 'AttachVolume', error: denied }]],
    ['the instance has too many volumes', [{ operation: 'AttachVolume', error: 'AttachmentLimitExceeded' }]],
    ['another one took the device name', [{ operation: 'AttachVolume', error: 'InvalidParameterValue' }]],
    ['the instance is not running any more', [{ operation: 'AttachVolume', error: 'IncorrectState' }]],
    // Looked at when it is created, when it is to be attached, and until it is: the last fails.
    ['the wait for the attachment is denied', [{ operation: 'DescribeVolumes', error: denied, after: 2, times: 1 }]],
  ];
  test.each(steps)('%s', async (_name, faults) => {
    const [snapshotId, instanceId] = [await makeSnapshot(), await launch()];
    const { client } = withFaults(ec2(), ...faults);
    const error = await restoreVolume(client, { snapshotId, instanceId }).catch((reason: Error) => reason);
    expect(error).toBeInstanceOf(Error);
    if (faults[0]?.error) expect((error as Error).name).toBe(faults[0].error);
    expect((error as Error).message).not.toContain('left are');
    expect(await volumesFrom(snapshotId)).toEqual([]);
  });

  test.each(['CreateVolume', 'AttachVolume', 'DescribeInstances'])('an abort during %s', async (operation) => {
    const [snapshotId, instanceId] = [await makeSnapshot(), await launch()];
    const stop = new AbortController();
    const answered = () => stop.abort(new Error('enough'));
    const { client, sent } = withFaults(ec2(), { operation, answered, times: 1 });
    const failed = restoreVolume(client, { snapshotId, instanceId, signal: stop.signal });
    await expect(failed).rejects.toThrow(/^enough$/);
    expect(sent.includes('DeleteVolume')).toBe(operation !== 'DescribeInstances');
    expect(await volumesFrom(snapshotId)).toEqual([]);
  });
});

test('what can not be removed again is named', async () => {
  const [snapshotId, instanceId] = [await makeSnapshot(), await launch()];
  const kept = { operation: 'DeleteVolume', error: 'UnauthorizedOperation' };
  const { client } = withFaults(ec2(), { operation: 'AttachVolume', error: 'AttachmentLimitExceeded' }, kept);
  const failed = restoreVolume(client, { snapshotId, instanceId });
  await expect(failed).rejects.toThrow(/^AttachmentLimitExceeded; left are vol-\w{17}$/);
  const [volume] = await volumesFrom(snapshotId);
  await expect(failed).rejects.toThrow(`${volume?.VolumeId}`);

  const bound = await makeSnapshot();
  const { client: stuck } = withFaults(
    ec2(),
    { operation: 'DescribeVolumes', error: 'UnauthorizedOperation', after: 2, times: 1 },
    { operation: 'DetachVolume', error: 'UnauthorizedOperation' },
  );
  await expect(restoreVolume(stuck, { snapshotId: bound, instanceId })).rejects.toThrow(
    new RegExp(`left are vol-\\w+ on ${instanceId}.*; left are vol-\\w+$`),
  );
  expect(await volumesFrom(bound)).toMatchObject([{ Attachments: [{ InstanceId: instanceId }] }]);
});

test('Ctrl-C while waiting ends with 130 and leaves nothing; the undo of a terminal names the volume alone', async () => {
  const [snapshotId, instanceId] = [await makeSnapshot(), await launch()];
  const options = `${snapshotId} --instance-id ${instanceId}`;
  const faults = [{ operation: 'ec2:AttachVolume', signalAfter: 'SIGINT' }];
  expect(await restore(options, { faults })).toMatchObject({ code: 130, stdout: '', stderr: 'Interrupted.\n' });
  expect(await volumesFrom(snapshotId)).toEqual([]);

  const { stdout } = await restore(options, { terminal: { columns: 200 } });
  const [volume] = await volumesFrom(snapshotId);
  expect(stdout).toContain(`Undo: npx tsx recipes/setup/09-clean-up.ts ${volume?.VolumeId} --local\r\n`);
});

test('on AWS, size and rate are asked about', async () => {
  const env = { AWS_ACCESS_KEY_ID: 'AKIAIOSFODNN7EXAMPLE', AWS_SECRET_ACCESS_KEY: 'x', AWS_REGION: 'us-east-1' };
  const result = await run(`npx tsx ${file} snap-1 --instance-id i-1 --size 1000`, { env });
  expect(result).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('add --yes') });
  expect(result.stderr).not.toContain('REFUSED');
});

test('a volume that is attached elsewhere meanwhile keeps its place', async () => {
  // Nothing is detached but what this run attached: the device name is another volume's by now.
  const [snapshotId, instanceId, other] = [await makeSnapshot(), await launch(), await makeVolume()];
  const { client } = withFaults(ec2(), {
    operation: 'CreateVolume',
    answered: () =>
      ec2().send(new AttachVolumeCommand({ InstanceId: instanceId, VolumeId: other, Device: '/dev/sdf' })),
  });
  const result = await restoreVolume(client, { snapshotId, instanceId }).catch((error: Error) => error.message);
  const { Volumes = [] } = await ec2().send(new DescribeVolumesCommand({ VolumeIds: [other] }));
  expect(Volumes).toMatchObject([{ Attachments: [{ InstanceId: instanceId, Device: '/dev/sdf' }] }]);
  expect(result).toContain('/dev/sdf is in use');
  expect(await volumesFrom(snapshotId)).toEqual([]);
});
