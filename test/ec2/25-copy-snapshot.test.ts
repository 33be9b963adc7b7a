import {
  type CopySnapshotCommandInput,
  CreateSnapshotCommand,
  CreateVolumeCommand,
  DescribeSnapshotsCommand,
  type EC2Client,
  type Snapshot,
} from '@aws-sdk/client-ec2';
import { expect, test } from 'vitest';
import { findSnapshot } from '../../recipes/ec2/09-restore-volume.ts';
import { copySnapshot } from '../../recipes/ec2/25-copy-snapshot.ts';
import { withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';

const { run, file, ec2 } = testRecipe(import.meta);
const copy = (options: string, settings = {}) => run(`npx tsx ${file} ${options} --local`, settings);
const there = () => ec2('eu-west-1');

async function makeSnapshot(tags: Record<string, string> = {}): Promise<{ snapshotId: string; volumeId: string }> {
  const { VolumeId } = await ec2().send(new CreateVolumeCommand({ AvailabilityZone: 'us-east-1a', Size: 3 }));
  const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
  const { SnapshotId } = await ec2().send(
    new CreateSnapshotCommand({
      VolumeId,
      Description: 'nightly',
      TagSpecifications: Tags.length > 0 ? [{ ResourceType: 'snapshot', Tags }] : undefined,
    }),
  );
  return { snapshotId: SnapshotId as string, volumeId: VolumeId as string };
}

async function describeSnapshot(client: EC2Client, id: string): Promise<Snapshot> {
  const { Snapshots } = await client.send(new DescribeSnapshotsCommand({ SnapshotIds: [id] }));
  return Snapshots?.[0] as Snapshot;
}

/** Copies a snapshot that EC2 tells of so, and tells what it was asked for. */
async function asked(snapshotId: string, change: object, options: object = {}): Promise<CopySnapshotCommandInput> {
  const original = await describeSnapshot(ec2(), snapshotId);
  const output = { Snapshots: [{ ...original, ...change }] };
  const { client } = withFaults(ec2(), { operation: 'DescribeSnapshots', output });
  const destination = there();
  const inputs: CopySnapshotCommandInput[] = [];
  destination.middlewareStack.add(
    (next, { commandName }) =>
      (args) => {
        if (commandName === 'CopySnapshotCommand') inputs.push(args.input as CopySnapshotCommandInput);
        return next(args);
      },
    { step: 'initialize', priority: 'low' },
  );
  await copySnapshot(client, destination, { snapshotId, ...options });
  return inputs[0] as CopySnapshotCommandInput;
}

test('the copy is in the other region, with the tags of the original, and is found by its volume there', async () => {
  const { snapshotId, volumeId } = await makeSnapshot({ Name: 'data', paws: '2.8' });
  const result = JSON.parse((await copy(`eu-west-1 ${snapshotId} --json`)).stdout);
  expect(result).toMatchObject({ region: 'eu-west-1', originalId: snapshotId, size: 3 });
  const made = await describeSnapshot(there(), result.snapshotId);
  expect(made).toMatchObject({ State: 'completed', Description: 'nightly' });
  expect(made.Tags).toHaveLength(3);
  expect(made.Tags).toEqual(
    expect.arrayContaining([
      { Key: 'Name', Value: 'data' },
      { Key: 'paws', Value: '2.25' },
      { Key: 'paws:volume', Value: volumeId },
    ]),
  );
  expect(await findSnapshot(there(), { volumeId })).toBe(result.snapshotId);
  // The original is as it was.
  expect((await describeSnapshot(ec2(), snapshotId)).Tags).toHaveLength(2);

  // A second run makes a second copy.
  const again = await copySnapshot(ec2(), there(), { snapshotId });
  expect(again.snapshotId).not.toBe(result.snapshotId);
  expect((await describeSnapshot(there(), again.snapshotId)).Tags).toContainEqual({ Key: 'paws', Value: '2.8' });
});

test('EC2 is asked to encrypt, with your key if there is one; tags of AWS are left out, and so is no volume', async () => {
  const { snapshotId, volumeId } = await makeSnapshot();
  const Tags = [
    { Key: 'aws:backup:source-resource', Value: 'x' },
    { Key: 'paws:volume', Value: 'vol-0123456789abcdef0' },
  ];
  const first = await asked(snapshotId, { Tags, VolumeId: 'vol-ffffffff' }, { kmsKeyId: 'alias/mine' });
  expect(first).toMatchObject({
    SourceRegion: 'us-east-1',
    SourceSnapshotId: snapshotId,
    Encrypted: true,
    KmsKeyId: 'alias/mine',
    TagSpecifications: [{ ResourceType: 'snapshot', Tags: [Tags[1]] }],
  });
  const plain = await asked(snapshotId, { Tags: undefined, Description: '' });
  expect(plain).toMatchObject({
    Encrypted: true,
    Description: `Copy of ${snapshotId} of us-east-1`,
    TagSpecifications: [{ Tags: [{ Key: 'paws:volume', Value: volumeId }] }],
  });
  expect(plain.KmsKeyId).toBeUndefined();
  const copied = await asked(snapshotId, { VolumeId: 'vol-ffffffff' });
  expect(copied.TagSpecifications).toBeUndefined();
});

test('what can not be copied is refused before anything is made', async () => {
  const { snapshotId } = await makeSnapshot();
  for (const [change, message] of [
    [{ StorageTier: 'archive', State: 'completed' }, /is archived: restore it from the archive first/],
    [{ State: 'pending' }, /is pending, not completed/],
    [{ State: 'error' }, /is error, not completed/],
  ] as const) {
    await expect(asked(snapshotId, change)).rejects.toThrow(message);
  }
  const { client, sent } = withFaults(there(), { operation: 'CopySnapshot', error: 'ResourceLimitExceeded' });
  await expect(copySnapshot(ec2(), client, { snapshotId })).rejects.toThrow(/^ResourceLimitExceeded$/);
  expect(sent).toEqual(['CopySnapshot']);
  const [unknown, sovereign, region, none] = await Promise.all([
    copy('eu-west-1 snap-0123456789abcdef0'),
    copy('eusc-de-east-1 snap-0123456789abcdef0'),
    copy(`Ireland ${snapshotId}`),
    copy(''),
  ]);
  expect(unknown).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('InvalidSnapshot.NotFound') });
  expect(sovereign).toEqual(unknown);
  expect(region).toMatchObject({
    code: 2,
    stdout: '',
    stderr: expect.stringContaining('is no region such as eu-west-1'),
  });
  expect(none).toMatchObject({
    code: 2,
    stdout: '',
    stderr: expect.stringContaining("missing required argument 'region'"),
  });
});

test('what fails or is aborted after the copy was begun names it, with the reason that EC2 gives', async () => {
  const { snapshotId } = await makeSnapshot();
  const stop = new AbortController();
  const faults = [
    { operation: 'DescribeSnapshots', error: 'UnauthorizedOperation' },
    {
      operation: 'DescribeSnapshots',
      output: { Snapshots: [{ State: 'error', StateMessage: 'Given key ID is not accessible' }] },
    },
    { operation: 'CopySnapshot', answered: () => stop.abort(new Error('enough')) },
  ];
  const messages: string[] = [];
  for (const fault of faults) {
    const { client } = withFaults(there(), fault);
    const failed = copySnapshot(ec2(), client, { snapshotId, signal: stop.signal });
    const { message } = (await failed.catch((reason: Error) => reason)) as Error;
    const [copyId = ''] = /snap-\w{17}$/.exec(message) ?? [];
    expect(await describeSnapshot(there(), copyId)).toMatchObject({ SnapshotId: copyId });
    messages.push(message);
  }
  const named = '; this copy is there in eu-west-1, complete or not: snap-';
  expect(messages).toEqual([
    expect.stringContaining(`UnauthorizedOperation${named}`),
    expect.stringMatching(`^EC2 gave the copy up: Given key ID is not accessible${named}`),
    expect.stringContaining(`enough${named}`),
  ]);

  const faulty = { faults: [{ operation: 'ec2:CopySnapshot', signalAfter: 'SIGINT' }] };
  const interrupted = await copy(`eu-west-1 ${snapshotId}`, faulty);
  expect(interrupted).toMatchObject({ code: 130, stdout: '', stderr: expect.stringContaining(named) });
});

test('on a terminal the undo names the region of the copy after that of the original', async () => {
  const { snapshotId } = await makeSnapshot();
  const { stdout } = await copy(`eu-west-1 ${snapshotId} --region us-east-1`, { terminal: { columns: 200 } });
  expect(stdout).toMatch(/Undo: .*09-clean-up\.ts snap-\w+ --local --region us-east-1 --region eu-west-1\r\n/);
});
