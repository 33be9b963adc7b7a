/**
 * 2.8 Back up a volume
 *
 * ## Problem
 * You want a copy of a volume as it is now, or of all volumes of an instance as they are at one and the same moment.
 *
 * ## Solution
 * Take a snapshot of the volume, or one snapshot of each of the instance's volumes with a single call. Note in tags
 * what each is a snapshot of. Wait until EC2 has copied the data.
 *
 * ## Discussion
 * You can go on using the volume: the snapshot has what was on it when the call was answered, however long the copying
 * takes. That is minutes to hours for the first snapshot; later ones copy what has changed. If you press Ctrl-C, or
 * the wait fails, at the latest after a day, EC2 goes on copying: the error names the snapshots. Only a connection that
 * breaks during the call itself can leave snapshots whose ids you never got: 1.14 finds them by their tag.
 *
 * A snapshot is like the disk of a machine that lost power (crash-consistent): what programs and the file system
 * still held in memory is not in it. Journaling file systems and databases recover from that, if all their volumes
 * are of one moment: back up the instance. To be sure, stop the instance (2.20) or freeze the file system
 * (`fsfreeze`) before the call. Instance store is in no snapshot.
 *
 * The tag `paws:volume` has the id of the volume: 2.9 finds a copy of the snapshot (2.25) by it, for that has a volume
 * id that means nothing. The tag `paws:set` is the same for all snapshots of one call for an instance. 2.24 deletes old
 * backups by these tags, sets as a whole.
 *
 * `SnapshotCreationPerVolumeRateExceeded`: wait 15 seconds between two snapshots of a volume.
 * `ConcurrentSnapshotLimitExceeded`: too many of this volume's snapshots are still being copied.
 *
 * A snapshot stays when its volume and instance are gone. It is of one region and account: a disaster or a thief may
 * take it with the rest. Copy what matters elsewhere.
 *
 * @before npx tsx recipes/ec2/01-launch-instance.ts --local
 * @run npx tsx recipes/ec2/08-back-up-volume.ts --local
 * @output
 *   snapshot ids  snap-f8aba995a98aae790
 *   volume ids    vol-1e49da6451f818be7
 *   set           -
 *   size          15 GiB
 *   start time    2026-11-24 20:22:50 UTC
 * @permission ec2:DescribeVolumes on *
 * @permission ec2:CreateSnapshot on *
 * @permission ec2:CreateSnapshots on *
 * @permission ec2:CreateTags on arn:aws:ec2:*::snapshot/*
 * @permission ec2:DescribeSnapshots on *
 * @cost until it is deleted, for each GiB that is stored, $0.05 a month in AWS's example (2026), which names no region:
 * of the first snapshot all blocks that were ever written, of later ones those that have changed since
 * @undo npx tsx recipes/setup/09-clean-up.ts {snapshotIds} --local --yes
 * @emulator LocalStack copies nothing: a snapshot is complete at once, and may follow another at once.
 * @book ec2.create_snapshot → CreateSnapshotCommand, CreateSnapshotsCommand
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSnapshot.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSnapshots.html
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/ebs-creating-snapshot.html
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/snapshot-archive-pricing.html
 */
import {
  CreateSnapshotCommand,
  CreateSnapshotsCommand,
  CreateTagsCommand,
  type DescribeSnapshotsCommandOutput,
  EC2Client,
  type SnapshotInfo,
  waitUntilSnapshotCompleted,
} from '@aws-sdk/client-ec2';
import { waitFor } from '../../shared/wait.ts';

/** Key of the tag whose value is the id of the volume that a snapshot is of. */
export const volumeTag = 'paws:volume';
/** Key of the tag that all snapshots of one moment share: `i-0123456789abcdef0 2026-12-24T18:00:00.000Z`. */
export const setTag = 'paws:set';

export interface Backup {
  snapshotIds: string[];
  /** What they are snapshots of, in the same order. */
  volumeIds: string[];
  /** The value of the tag `paws:set`; null for a single volume. */
  set: string | null;
  /** Of the volumes together, in GiB. */
  size: number;
  /** The moment of which the data is. */
  startTime: Date;
}

interface Options {
  description?: string;
  tags?: Record<string, string>;
  signal?: AbortSignal;
  onProgress?: (text: string) => void;
}

/**
 * Takes a snapshot of one volume and waits until it is complete.
 *
 * @param ec2 - Of the volume's region.
 * @param options.volumeId - The volume; attached or not.
 * @param options.description - `Backup of VOLUME` by default.
 * @param options.tags - More tags to put on the snapshot. None by default.
 * @param options.signal - Ends the wait; EC2 completes the snapshot all the same.
 * @param options.onProgress - Called with a text for people.
 * @returns The snapshot, complete.
 * @throws The SDK's error. If the snapshot's id is known, its message names it.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSnapshot.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const { snapshotIds } = await backUpVolume(ec2, { volumeId: 'vol-0123456789abcdef0' });
 * console.log(snapshotIds[0]);
 */
export async function backUpVolume(
  ec2: EC2Client,
  { volumeId, description = `Backup of ${volumeId}`, tags = {}, signal, onProgress }: { volumeId: string } & Options,
): Promise<Backup> {
  signal?.throwIfAborted();
  const Tags = toTags({ ...tags, [volumeTag]: volumeId });
  // Not aborted by the signal: a snapshot whose id nobody hears would be there, and cost.
  const snapshot = await ec2.send(
    new CreateSnapshotCommand({
      VolumeId: volumeId,
      Description: description,
      TagSpecifications: [{ ResourceType: 'snapshot', Tags }],
    }),
  );
  return complete(ec2, { snapshots: [snapshot], set: null, signal, onProgress });
}

/**
 * Takes snapshots of all volumes of an instance, all of the same moment, and waits until they are complete.
 *
 * @param ec2 - Of the instance's region.
 * @param options.instanceId - The instance; running or stopped.
 * @param options.description - `Backup of INSTANCE` by default.
 * @param options.tags - More tags to put on the snapshots. None by default.
 * @param options.signal - Ends the wait; EC2 completes the snapshots all the same.
 * @param options.onProgress - Called with a text for people.
 * @returns The snapshots, complete.
 * @throws The SDK's error. If their ids are known, its message names them.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSnapshots.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const { snapshotIds, set } = await backUpInstance(ec2, { instanceId: 'i-0123456789abcdef0' });
 * console.log(`${set}: ${snapshotIds.length} snapshots`);
 */
export async function backUpInstance(
  ec2: EC2Client,
  {
    instanceId,
    description = `Backup of ${instanceId}`,
    tags = {},
    signal,
    onProgress,
  }: { instanceId: string } & Options,
): Promise<Backup> {
  signal?.throwIfAborted();
  const set = `${instanceId} ${new Date().toISOString()}`;
  const Tags = toTags({ ...tags, [setTag]: set });
  // Not aborted by the signal, as above.
  const { Snapshots = [] } = await ec2.send(
    new CreateSnapshotsCommand({
      InstanceSpecification: { InstanceId: instanceId },
      Description: description,
      TagSpecifications: [{ ResourceType: 'snapshot', Tags }],
    }),
  );
  return complete(ec2, { snapshots: Snapshots, set, signal, onProgress });
}

/** Waits until all snapshots are complete. Whatever fails, they are left, for EC2 goes on with them, and named. */
async function complete(
  ec2: EC2Client,
  {
    snapshots,
    set,
    signal,
    onProgress,
  }: {
    snapshots: SnapshotInfo[];
    set: string | null;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<Backup> {
  const snapshotIds = snapshots.map(({ SnapshotId }) => SnapshotId as string);
  const volumeIds = snapshots.map(({ VolumeId }) => VolumeId as string);
  // The waiter shows nobody its answers: listen to them for how far each snapshot is.
  let copied = '';
  const send = async (...call: Parameters<EC2Client['send']>) => {
    const answer = (await ec2.send(...call)) as unknown as DescribeSnapshotsCommandOutput;
    copied = (answer.Snapshots ?? []).map(({ Progress }) => Progress || '0%').join(', ');
    return answer;
  };
  try {
    const listening = Object.create(ec2, { send: { value: send } }) as EC2Client;
    const completed = {
      until: `${snapshotIds.join(', ')} ${snapshotIds.length > 1 ? 'are' : 'is'} completed`,
      seconds: 86_400,
      signal,
      onProgress: (text: string) => onProgress?.(copied ? `${text}, ${copied} copied` : text),
    };
    await waitFor(waitUntilSnapshotCompleted, listening, { SnapshotIds: snapshotIds }, completed);

    // The call that made a set gives all its snapshots the same tags. By now EC2 knows the snapshots everywhere.
    for (const { SnapshotId = '', VolumeId = '' } of set ? snapshots : []) {
      const Tags = toTags({ [volumeTag]: VolumeId });
      await ec2.send(new CreateTagsCommand({ Resources: [SnapshotId], Tags }), { abortSignal: signal });
    }
  } catch (cause) {
    const { name, message } = cause as Error;
    const there = `these snapshots are there, complete or not: ${snapshotIds.join(', ')}`;
    throw Object.assign(new Error(`${message}; ${there}`, { cause }), { name });
  }
  const size = snapshots.reduce((sum, { VolumeSize = 0 }) => sum + VolumeSize, 0);
  return { snapshotIds, volumeIds, set, size, startTime: snapshots[0]?.StartTime as Date };
}

function toTags(tags: Record<string, string>): { Key: string; Value: string }[] {
  return Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
}

// ---- command line: leave out when copying ----
import { connect, interrupted, print, progress, recipe, sayUndo, tags } from '../../shared/cli.ts';
import { newestVolume } from '../../shared/newest.ts';

recipe(import.meta, (command) =>
  command
    .argument('[id]', 'a volume, or an instance for all its volumes (default: the newest volume of this cookbook)')
    .option('--description <text>', 'description of the snapshots (default: Backup of ID)')
    .action(async (given, { description }) => {
      if (given !== undefined && !/^(vol|i)-/.test(given)) throw new TypeError(`"${given}" is neither vol-… nor i-…`);
      const ec2 = connect(EC2Client);
      const id = given ?? (await newestVolume(ec2));
      const more = { description, tags: tags(), signal: interrupted(), onProgress: progress };
      const result = id.startsWith('i-')
        ? await backUpInstance(ec2, { instanceId: id, ...more })
        : await backUpVolume(ec2, { volumeId: id, ...more });
      print(result, { size: (size: number) => `${size} GiB` });
      sayUndo(result);
    }),
);
