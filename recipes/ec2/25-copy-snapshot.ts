/**
 * 2.25 Copy a snapshot
 *
 * ## Problem
 * A snapshot is in one region, with the volume that it is a backup of. You want a copy that is still there when that
 * region is not, or a volume in another region.
 *
 * ## Solution
 * Look at the snapshot, and have EC2 copy it to the other region, encrypted there, with its tags. Wait until the copy is
 * complete.
 *
 * ## Discussion
 * EC2 copies neither tags nor the volume's id: a copy has a volume id that means nothing. So the tag `paws:volume` tells
 * of which volume it is, as 2.8 sets it and 2.9 and 2.24 read it. Tags that begin with `aws:` can't be set by anybody
 * but AWS.
 *
 * The copy is encrypted whether the snapshot is or not, with a key of yours in the other region or that region's key for
 * EBS (`aws/ebs`, or the default key that you set there). EC2 looks at keys only after it has answered, and then gives
 * the copy up. On keys of your own, the snapshot's too, you need `kms:DescribeKey`, `kms:CreateGrant`, `kms:Decrypt`,
 * `kms:ReEncrypt*` and `kms:GenerateDataKey*`. To copy within a region is the way to encrypt a snapshot.
 *
 * Data that is sent between regions is paid for. A copy is of the whole volume unless its newest copy with the same key is
 * still there, and not archived; those of a snapshot that is not encrypted may all be whole.
 *
 * If you press Ctrl-C, or the wait fails, EC2 goes on copying: the error names the copy. Each run makes one more. A
 * connection that breaks during the call itself can leave a copy whose id you never got, beside the one that the SDK's
 * next try makes: 1.14 finds both by their tag. `ResourceLimitExceeded`: 20 copies to one region are under way already.
 *
 * @before npx tsx recipes/ec2/01-launch-instance.ts --local
 * @before npx tsx recipes/ec2/08-back-up-volume.ts --local
 * @run npx tsx recipes/ec2/25-copy-snapshot.ts eu-west-1 --local
 * @output
 *   snapshot id  snap-2d5f7e218f285cb1e
 *   region       eu-west-1
 *   encrypted    yes
 *   size         15 GiB
 *   original id  snap-b4ca1011204953f68
 *   start time   2026-11-24 21:26:31 UTC
 * @permission ec2:DescribeSnapshots on *
 * @permission ec2:CopySnapshot on *
 * @permission ec2:CreateTags on arn:aws:ec2:*::snapshot/*
 * @cost from us-east-1 to most regions $0.02 once for each GiB that is sent, and about $0.05 a month for each that is
 * stored (2026)
 * @undo npx tsx recipes/setup/09-clean-up.ts {snapshotId} --local --yes --region {region}
 * @emulator LocalStack copies nothing, at once, and leaves the copy as encrypted as the original is.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CopySnapshot.html
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/ebs-copy-snapshot.html
 * @see https://aws.amazon.com/ebs/pricing/
 * @see https://aws.amazon.com/ec2/pricing/on-demand/
 */
import {
  CopySnapshotCommand,
  DescribeSnapshotsCommand,
  type DescribeSnapshotsCommandOutput,
  EC2Client,
  type Snapshot,
  waitUntilSnapshotCompleted,
} from '@aws-sdk/client-ec2';
import { waitFor } from '../../shared/wait.ts';
import { volumeTag } from './08-back-up-volume.ts';

export interface CopiedSnapshot {
  /** The copy. */
  snapshotId: string;
  /** Where it is. */
  region: string;
  encrypted: boolean;
  /** In GiB, of the volume that can be made of it. */
  size: number;
  /** The original. */
  originalId: string;
  /** Of the original: the moment of which the data is. */
  startTime: Date;
}

/**
 * Copies a snapshot to another region, encrypted, and waits until the copy is complete.
 *
 * @param source - A client of the region where the snapshot is.
 * @param destination - A client of the region where the copy is to be.
 * @param options.snapshotId - The snapshot; completed and not archived.
 * @param options.kmsKeyId - Key to encrypt the copy with, in its region. The region's default key for EBS by default.
 * @param options.tags - Tags for the copy beside the snapshot's own. None by default.
 * @param options.signal - Ends the wait; EC2 completes the copy all the same.
 * @param options.onProgress - Called with a text for people.
 * @returns The copy, complete.
 * @throws Error when the snapshot can't be copied, or EC2 gives the copy up.
 * @throws The SDK's error. If there is a copy already, its message names it.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CopySnapshot.html
 *
 * @example
 * const [here, there] = [new EC2Client({ region: 'us-east-1' }), new EC2Client({ region: 'eu-west-1' })];
 * const { snapshotId } = await copySnapshot(here, there, { snapshotId: 'snap-0123456789abcdef0' });
 * console.log(snapshotId);
 */
export async function copySnapshot(
  source: EC2Client,
  destination: EC2Client,
  {
    snapshotId: originalId,
    kmsKeyId,
    tags = {},
    signal,
    onProgress,
  }: {
    snapshotId: string;
    kmsKeyId?: string;
    tags?: Record<string, string>;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<CopiedSnapshot> {
  const [from, region] = [await source.config.region(), await destination.config.region()];
  const find = new DescribeSnapshotsCommand({ SnapshotIds: [originalId] });
  const { Snapshots: [original] = [] } = await source.send(find, { abortSignal: signal });
  const { State, StorageTier, Description, VolumeId, Tags = [], StartTime } = original as Snapshot;
  if (StorageTier === 'archive') throw new Error(`${originalId} is archived: restore it from the archive first`);
  if (State !== 'completed') throw new Error(`${originalId} is ${State}, not completed`);

  const own = Tags.filter(({ Key = '' }) => !Key.startsWith('aws:')).map(({ Key, Value }) => [Key, Value]);
  const all: Record<string, string> = { ...Object.fromEntries(own), ...tags };
  // A snapshot that is a copy itself has no volume that it could tell of.
  if (VolumeId && !/^vol-f+$/.test(VolumeId)) all[volumeTag] ??= VolumeId;
  const copyTags = Object.entries(all).map(([Key, Value]) => ({ Key, Value }));

  signal?.throwIfAborted();
  onProgress?.(`copying ${originalId} from ${from} to ${region}`);
  // Sent to where the copy is to be. Not aborted by the signal: a copy whose id nobody hears would be there, and cost.
  const { SnapshotId } = await destination.send(
    new CopySnapshotCommand({
      SourceRegion: from,
      SourceSnapshotId: originalId,
      Description: Description || `Copy of ${originalId} of ${from}`,
      Encrypted: true,
      KmsKeyId: kmsKeyId,
      TagSpecifications: copyTags.length > 0 ? [{ ResourceType: 'snapshot', Tags: copyTags }] : undefined,
    }),
  );
  const snapshotId = SnapshotId as string;

  let latest: Snapshot = {};
  try {
    const completed = {
      until: `${snapshotId} is completed`,
      seconds: 86_400,
      signal,
      onProgress: (text: string) => onProgress?.(latest.Progress ? `${text}, ${latest.Progress} copied` : text),
      // How far the copy is, and why it was given up.
      onAnswer: ({ Snapshots = [] }: DescribeSnapshotsCommandOutput) => {
        latest = Snapshots[0] ?? {};
      },
    };
    await waitFor(waitUntilSnapshotCompleted, destination, { SnapshotIds: [snapshotId] }, completed);
  } catch (cause) {
    const { name, message } = cause as Error;
    const why = latest.State === 'error' ? `EC2 gave the copy up: ${latest.StateMessage}` : message;
    const there = `this copy is there in ${region}, complete or not: ${snapshotId}`;
    throw Object.assign(new Error(`${why}; ${there}`, { cause }), { name });
  }
  return {
    snapshotId,
    region,
    encrypted: latest.Encrypted === true,
    size: latest.VolumeSize as number,
    originalId,
    startTime: StartTime as Date,
  };
}

// ---- command line: leave out when copying ----
import { connect, interrupted, print, progress, recipe, sayUndo, tags } from '../../shared/cli.ts';
import { newestSnapshot } from '../../shared/newest.ts';

recipe(import.meta, (command) =>
  command
    .argument('<region>', 'region of the copy')
    .argument('[snapshot-id]', 'the snapshot (default: the newest one of this cookbook)')
    .option('--kms-key-id <id>', "key in that region to encrypt the copy with (default: the region's for EBS)")
    .action(async (region, given, { kmsKeyId }) => {
      if (!/^[a-z]{2,4}(-[a-z]+)+-\d+$/.test(region)) throw new TypeError(`"${region}" is no region such as eu-west-1`);
      const [here, there] = [connect(EC2Client), connect(EC2Client, { region })];
      const snapshotId = given ?? (await newestSnapshot(here));
      const more = { tags: tags(), signal: interrupted(), onProgress: progress };
      const result = await copySnapshot(here, there, { snapshotId, kmsKeyId, ...more });
      print(result, { size: (size: number) => `${size} GiB` });
      sayUndo(result);
    }),
);
