import {
  AttachVolumeCommand,
  CreateVolumeCommand,
  DescribeSnapshotsCommand,
  type EC2Client,
  RunInstancesCommand,
} from '@aws-sdk/client-ec2';
import { expect, test } from 'vitest';
import { backUpInstance, backUpVolume } from '../../recipes/ec2/08-back-up-volume.ts';
import { testRecipe } from '../harness.ts';

const { run, file, ec2 } = testRecipe(import.meta);
const backUp = (options: string, settings = {}) => run(`npx tsx ${file} ${options} --local`, settings);

async function makeVolume(): Promise<string> {
  const { VolumeId } = await ec2().send(new CreateVolumeCommand({ AvailabilityZone: 'us-east-1a', Size: 3 }));
  return VolumeId as string;
}

/** An instance with a data volume beside its root volume. */
async function launch(): Promise<{ instanceId: string; dataVolume: string }> {
  const ImageId = 'ami-0532be01f26a3de55';
  const { Instances } = await ec2().send(new RunInstancesCommand({ ImageId, MinCount: 1, MaxCount: 1 }));
  const instanceId = Instances?.[0]?.InstanceId as string;
  const dataVolume = await makeVolume();
  await ec2().send(new AttachVolumeCommand({ InstanceId: instanceId, VolumeId: dataVolume, Device: '/dev/sdf' }));
  return { instanceId, dataVolume };
}

async function describe(SnapshotIds: string[]) {
  const { Snapshots = [] } = await ec2().send(new DescribeSnapshotsCommand({ SnapshotIds }));
  return Snapshots.map(({ Tags = [], ...snapshot }) => ({
    ...snapshot,
    tags: Object.fromEntries(Tags.map(({ Key, Value }) => [Key, Value])),
  }));
}

async function snapshotsOf(volumeId: string): Promise<string[]> {
  const Filters = [{ Name: 'volume-id', Values: [volumeId] }];
  const { Snapshots = [] } = await ec2().send(new DescribeSnapshotsCommand({ Filters }));
  return Snapshots.map(({ SnapshotId }) => SnapshotId as string);
}

/** A client for which these answers to DescribeSnapshots stand before the server's own. */
function answering(...answers: object[]): EC2Client {
  const client = ec2();
  client.middlewareStack.add(
    (next, { commandName }) =>
      async (args) => {
        const answer = commandName === 'DescribeSnapshotsCommand' && answers.shift();
        return answer ? { output: { $metadata: {}, ...answer }, response: {} } : next(args);
      },
    { step: 'build' },
  );
  return client;
}

test('a volume: one snapshot, with its description and tags; a second run takes another', async () => {
  const volumeId = await makeVolume();
  const { stdout } = await backUp(`${volumeId} --description 'before the upgrade' --json`);
  const result = JSON.parse(stdout);
  expect(result).toEqual({
    snapshotIds: [expect.stringMatching(/^snap-/)],
    volumeIds: [volumeId],
    set: null,
    size: 3,
    startTime: expect.stringMatching(/^20/),
  });
  expect(await describe(result.snapshotIds)).toMatchObject([
    {
      VolumeId: volumeId,
      Description: 'before the upgrade',
      State: 'completed',
      tags: { paws: '2.8', 'paws:volume': volumeId },
    },
  ]);
  const again = await backUpVolume(ec2(), { volumeId });
  expect(await snapshotsOf(volumeId)).toEqual(expect.arrayContaining([...result.snapshotIds, ...again.snapshotIds]));
  // A function that is copied sets no tag by which 1.9 cleans up.
  const [snapshot] = await describe(again.snapshotIds);
  expect(snapshot).toMatchObject({ Description: `Backup of ${volumeId}`, tags: { 'paws:volume': volumeId } });
  expect(snapshot?.tags).not.toHaveProperty('paws');
});

test('an instance: a snapshot of each volume, in one set, each tagged with its volume', async () => {
  const { instanceId, dataVolume } = await launch();
  const result = JSON.parse((await backUp(`${instanceId} --json`)).stdout);
  expect(result.snapshotIds).toHaveLength(2);
  expect(result.volumeIds).toContain(dataVolume);
  expect(result.set).toMatch(new RegExp(`^${instanceId} 20\\S+Z$`));
  const snapshots = await describe(result.snapshotIds);
  expect(new Set(snapshots.map(({ VolumeId }) => VolumeId)).size).toBe(2);
  for (const [index, id] of result.snapshotIds.entries()) {
    const snapshot = snapshots.find(({ SnapshotId }) => SnapshotId === id);
    const volumeId = result.volumeIds[index];
    const tags = { paws: '2.8', 'paws:volume': volumeId, 'paws:set': result.set };
    expect(snapshot).toMatchObject({ VolumeId: volumeId, Description: `Backup of ${instanceId}`, tags });
  }
  const other = await backUpInstance(ec2(), { instanceId });
  expect(other.set).not.toBe(result.set);
});

test('a wrong id is told, and nothing is made', async () => {
  const [none, volume, instance] = await Promise.all([
    backUp('foo'),
    backUp('vol-0123456789abcdef0'),
    backUp('i-0123456789abcdef0'),
  ]);
  expect(none).toMatchObject({ code: 2, stdout: '', stderr: 'Error: "foo" is neither vol-… nor i-…\n' });
  expect(volume).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('InvalidVolume.NotFound') });
  expect(instance).toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringContaining('InvalidInstanceID.NotFound'),
  });
});

test('when the call is refused, no snapshot is named; when the tags are, all are', async () => {
  const { instanceId, dataVolume } = await launch();
  const name = 'SnapshotCreationPerVolumeRateExceeded';
  const [rate, denied] = await Promise.all([
    backUp(dataVolume, { faults: [{ operation: 'ec2:CreateSnapshot', error: { name } }] }),
    backUp(instanceId, { faults: [{ operation: 'ec2:CreateTags', error: { name: 'UnauthorizedOperation' } }] }),
  ]);
  expect(rate).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining(name) });
  expect(rate?.stderr).not.toContain('snap-');
  expect(denied).toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringMatching(/permission ec2:CreateTags is mis/),
  });
  for (const id of await snapshotsOf(dataVolume)) expect(denied?.stderr).toContain(id);
  expect(denied?.stderr.match(/snap-/g)).toHaveLength(2);
});

test('Ctrl-C during the call or the wait ends with 130; the snapshot goes on and is named', async () => {
  const pending = { Snapshots: [{ State: 'pending', Progress: '7%' }] };
  for (const fault of [
    { operation: 'ec2:CreateSnapshot', signalAfter: 'SIGINT' },
    { operation: 'ec2:DescribeSnapshots', signal: 'SIGINT', output: pending },
  ]) {
    const volumeId = await makeVolume();
    const result = await backUp(volumeId, { faults: [fault] });
    const [id] = await snapshotsOf(volumeId);
    expect(result).toMatchObject({ code: 130, stdout: '' });
    expect(result.stderr).toBe(`Interrupted.; these snapshots are there, complete or not: ${id}\n`);
  }
});

test('an abort before the call takes no snapshot', async () => {
  const volumeId = await makeVolume();
  const signal = AbortSignal.abort(new Error('too late'));
  await expect(backUpVolume(ec2(), { volumeId, signal })).rejects.toThrow('too late');
  expect(await snapshotsOf(volumeId)).toEqual([]);
});

test('progress tells how much is copied, and a snapshot that fails is named', async () => {
  const volumeId = await makeVolume();
  const told: string[] = [];
  const pending = { Snapshots: [{ State: 'pending', Progress: '42%' }] };
  const client = answering(pending);
  const { snapshotIds } = await backUpVolume(client, { volumeId, onProgress: (text) => told.push(text) });
  expect(told.at(-1)).toMatch(new RegExp(`^waiting until ${snapshotIds} is completed: \\d+ s, 42% copied$`));

  const failed = answering({ Snapshots: [{ State: 'error', StateMessage: 'no key' }] });
  await expect(backUpVolume(failed, { volumeId })).rejects.toThrow(
    /that will not come any more.*; these snapshots are there, complete or not: snap-\w+$/,
  );
});

test('a terminal is told what it costs, and what undoes it: the snapshot and nothing else', async () => {
  const volumeId = await makeVolume();
  const { stdout } = await backUp(volumeId, { terminal: { columns: 200 } });
  const [id] = await snapshotsOf(volumeId);
  expect(stdout).toContain(`Undo: npx tsx recipes/setup/09-clean-up.ts ${id} --local\r\n`);
});
