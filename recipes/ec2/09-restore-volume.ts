/**
 * 2.9 Restore a volume
 *
 * ## Problem
 * A file is lost, a disk is damaged, or you want to look at data as it was last week, and there is a snapshot.
 *
 * ## Solution
 * Take the snapshot, or the newest completed one of a volume. Create a volume from it in the instance's Availability
 * Zone, larger or of another type if you like. Attach it under the next free device name and wait.
 *
 * ## Discussion
 * The old volume stays as it is and where it is: mount both and copy what you need. 2.22 puts the new one in its place.
 *
 * The new volume has the same UUIDs and labels as the old one. XFS refuses to mount both at once, unless with
 * `mount -o nouuid`; and Linux, which may find its root disk by them, may start from the wrong one of two. Restore a
 * root volume to another instance, or don't restart this one while both are attached.
 *
 * A larger volume has a file system of the old size: grow the partition, if it has one, with `growpart`, and the file
 * system with `xfs_growfs` or `resize2fs`.
 *
 * The volume can be used at once, but is slow where EC2 has not fetched the data from S3 yet. `--initialization-rate`
 * has it fetched at so many MiB a second. That is charged by this rate and the GiB of data, once and at once: deleting
 * the volume does not save it.
 *
 * Of a volume whose snapshots are gone from the region a copy (2.25) is taken: the one that was copied last.
 *
 * The volume is encrypted, also if the snapshot is not. A key of your own takes permissions (2.25 lists them), and an
 * encrypted snapshot of another account its key, too. One with a Marketplace product code is for stopped instances only.
 * An archived snapshot has to be brought back first, with `aws ec2 restore-snapshot-tier`.
 *
 * If a step fails, or you press Ctrl-C, the new volume is detached and deleted again, and what can't be is named.
 *
 * @before npx tsx recipes/ec2/01-launch-instance.ts --local
 * @before npx tsx recipes/ec2/07-attach-volume.ts --size 8 --local
 * @before npx tsx recipes/ec2/08-back-up-volume.ts --local
 * @run npx tsx recipes/ec2/09-restore-volume.ts --local
 * @output
 *   snapshot id  snap-9e052813b47a29006
 *   start time   2026-11-24 20:41:15 UTC
 *   volume id    vol-4fee5f672509e4448
 *   volume type  gp3
 *   size         8 GiB
 *   instance id  i-c47ecbf7edd97566c
 *   device       /dev/sdg
 *   nvme path    /dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol4fee5f672509e4448
 * @permission ec2:DescribeSnapshots on *
 * @permission ec2:DescribeInstances on *
 * @permission ec2:DescribeVolumes on *
 * @permission ec2:CreateVolume on *
 * @permission ec2:CreateTags on arn:aws:ec2:*:*:volume/*
 * @permission ec2:AttachVolume on *
 * @permission ec2:DetachVolume on *
 * @permission ec2:DeleteVolume on arn:aws:ec2:*:*:volume/*
 * @cost until it is deleted, also when its instance is terminated: for each GiB of gp3, $0.08 a month in the example of
 * the pricing page (2026), which names no region. Without --size it is as large as the old one, and you are not asked
 * @undo npx tsx recipes/setup/09-clean-up.ts {volumeId} --local --yes
 * @emulator LocalStack copies no data, and has no archive and no initialization rate.
 * @book ec2.create_volume → CreateVolumeCommand
 * @book ec2.attach_volume → AttachVolumeCommand
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/ebs-restoring-volume.html
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/initalize-volume.html
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/recognize-expanded-volume-linux.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-booting-from-wrong-volume.html
 * @see https://aws.amazon.com/ebs/pricing/
 */
import {
  CreateVolumeCommand,
  DescribeSnapshotsCommand,
  EC2Client,
  paginateDescribeSnapshots,
  type Snapshot,
  type VolumeType,
} from '@aws-sdk/client-ec2';
import { type Made, undo } from '../../shared/undo.ts';
import { attachVolume, findDevice } from './07-attach-volume.ts';
import { waitUntilCreated } from './07-helpers/wait-until-created.ts';
import { volumeTag } from './08-back-up-volume.ts';

export interface RestoredVolume {
  snapshotId: string;
  /** The moment of which the data is; of a copied snapshot, when it was copied. */
  startTime: Date;
  volumeId: string;
  /** `gp3` */
  volumeType: string;
  /** In GiB. */
  size: number;
  instanceId: string;
  /** The name that EC2 knows it by: `/dev/sdf`. */
  device: string;
  /** Where Linux has it on a Nitro instance. */
  nvmePath: string;
}

/** How many GiB a volume of each type may have. */
const sizes: Record<string, [number, number]> = {
  gp3: [1, 65_536],
  gp2: [1, 16_384],
  io2: [4, 65_536],
  io1: [4, 16_384],
  st1: [125, 16_384],
  sc1: [125, 16_384],
  standard: [1, 1024],
};

/**
 * Creates a volume from a snapshot and attaches it to an instance.
 *
 * @param ec2 - Of the snapshot's and the instance's region.
 * @param options.snapshotId - The snapshot; completed and not archived.
 * @param options.instanceId - The instance; running or stopped.
 * @param options.size - In GiB, not less than the snapshot's. The snapshot's by default.
 * @param options.volumeType - `gp3` by default.
 * @param options.iops - I/O operations a second; io1 and io2 need it. EC2's default for the others.
 * @param options.device - Device name, such as `/dev/sdf`. The next free one by default.
 * @param options.initializationRate - In MiB a second, 100 to 300. As EC2 finds the time, by default.
 * @param options.tags - Tags to put on the volume. None by default.
 * @param options.signal - Aborts the work; the volume is detached and deleted again.
 * @param options.onProgress - Called with a text for people.
 * @returns The volume, attached.
 * @throws RangeError or TypeError when an option can't be; Error when the snapshot can't be used.
 * @throws The SDK's error of the step that failed, once the volume is deleted; its message names what is left.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const ids = { snapshotId: 'snap-0123456789abcdef0', instanceId: 'i-0123456789abcdef0' };
 * const { nvmePath } = await restoreVolume(ec2, ids);
 * console.log(`lsblk -f ${nvmePath}`);
 */
export async function restoreVolume(
  ec2: EC2Client,
  {
    snapshotId,
    instanceId,
    size: wanted,
    volumeType = 'gp3',
    iops,
    device,
    initializationRate,
    tags = {},
    signal,
    onProgress,
  }: {
    snapshotId: string;
    instanceId: string;
    size?: number;
    volumeType?: string;
    iops?: number;
    device?: string;
    initializationRate?: number;
    tags?: Record<string, string>;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<RestoredVolume> {
  const range = sizes[volumeType];
  if (!range) throw new TypeError(`"${volumeType}" is no type of volume: ${Object.keys(sizes).join(', ')}`);
  if (volumeType.startsWith('io') && iops === undefined)
    throw new TypeError(`a volume of type ${volumeType} needs iops`);
  if (iops !== undefined && !(iops > 0)) throw new RangeError(`iops is a number above 0, not ${iops}`);
  const rate = initializationRate ?? 100;
  if (!(rate >= 100 && rate <= 300)) throw new RangeError(`the rate is 100 to 300 MiB a second, not ${rate}`);

  // All is looked at before anything is made.
  const abort = { abortSignal: signal };
  const { Snapshots = [] } = await ec2.send(new DescribeSnapshotsCommand({ SnapshotIds: [snapshotId] }), abort);
  const { State, StorageTier, StartTime, VolumeSize = 0 } = Snapshots[0] as Snapshot;
  if (StorageTier === 'archive') throw new Error(`${snapshotId} is archived: restore it from the archive first`);
  if (State !== 'completed') throw new Error(`${snapshotId} is ${State}, not completed`);
  const size = wanted ?? VolumeSize;
  const [least, most] = [Math.max(range[0], VolumeSize), range[1]];
  if (!(Number.isInteger(size) && size >= least && size <= most)) {
    throw new RangeError(`a ${volumeType} volume from ${snapshotId} has ${least} to ${most} whole GiB, not ${size}`);
  }
  const place = await findDevice(ec2, { instanceId, device });

  const made: Made[] = [];
  try {
    signal?.throwIfAborted();
    onProgress?.(`creating a volume of ${size} GiB`);
    const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
    // Not aborted by the signal: a volume whose id nobody hears could not be deleted.
    const { VolumeId } = await ec2.send(
      new CreateVolumeCommand({
        SnapshotId: snapshotId,
        AvailabilityZone: place.availabilityZone,
        Size: size,
        VolumeType: volumeType as VolumeType,
        Iops: iops,
        VolumeInitializationRate: initializationRate,
        Encrypted: true,
        TagSpecifications: Tags.length > 0 ? [{ ResourceType: 'volume', Tags }] : undefined,
      }),
    );
    const volumeId = VolumeId as string;
    await waitUntilCreated(ec2, { volumeId, made, signal, onProgress });
    const attachment = { instanceId, volumeId, device: place.device, signal, onProgress };
    const { device: name, nvmePath } = await attachVolume(ec2, attachment);
    return { snapshotId, startTime: StartTime as Date, volumeId, volumeType, size, instanceId, device: name, nvmePath };
  } catch (error) {
    throw await undo(made, error, { onProgress });
  }
}

/**
 * Finds the newest snapshot of a volume that can be restored: one of your own, completed and not archived. A copy is
 * taken only if there is no other, because its time is that of the copying.
 *
 * @param ec2 - Of the snapshot's region.
 * @param options.volumeId - The volume; it need not exist any more.
 * @param options.signal - Aborts the search.
 * @returns The snapshot's id.
 * @throws Error when there is none.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSnapshots.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const snapshotId = await findSnapshot(ec2, { volumeId: 'vol-0123456789abcdef0' });
 * await restoreVolume(ec2, { snapshotId, instanceId: 'i-0123456789abcdef0' });
 */
export async function findSnapshot(
  ec2: EC2Client,
  { volumeId, signal }: { volumeId: string; signal?: AbortSignal },
): Promise<string> {
  // A copy of a snapshot has a volume id that means nothing, and the original's tags.
  for (const Name of ['volume-id', `tag:${volumeTag}`]) {
    const found: Snapshot[] = [];
    const own = { OwnerIds: ['self'], Filters: [{ Name, Values: [volumeId] }] };
    const paged = { client: ec2, pageSize: 1000 };
    for await (const { Snapshots = [] } of paginateDescribeSnapshots(paged, own, { abortSignal: signal })) {
      found.push(...Snapshots.filter(({ State, StorageTier }) => State === 'completed' && StorageTier !== 'archive'));
    }
    const [newest] = found.sort((a, b) => Number(b.StartTime) - Number(a.StartTime));
    if (newest?.SnapshotId) return newest.SnapshotId;
  }
  throw new Error(`there is no snapshot of ${volumeId} that is completed and not archived`);
}

// ---- command line: leave out when copying ----
import { confirm, connect, interrupted, local, print, progress, recipe, sayUndo, tags, yes } from '../../shared/cli.ts';
import { newestInstance, newestSnapshot } from '../../shared/newest.ts';

recipe(import.meta, (command) =>
  command
    .argument('[id]', 'a snapshot, or a volume for its newest one (default: the newest one of this cookbook)')
    .option('--instance-id <id>', 'attach it to this instance (default: the newest one of this cookbook)')
    .option('--size <gib>', "size of the volume in GiB (default: the snapshot's)")
    .option('--volume-type <type>', `type of the volume: ${Object.keys(sizes).join(', ')}`, 'gp3')
    .option('--iops <count>', 'I/O operations a second, for io1 and io2')
    .option('--device <name>', 'device name (default: the next free one from /dev/sdf on)')
    .option('--initialization-rate <mib>', 'fetch all data at so many MiB a second, 100 to 300, for a charge')
    .addOption(yes)
    .action(async (id, { instanceId: given, size, volumeType, iops, device, initializationRate }) => {
      if (id !== undefined && !/^(snap|vol)-/.test(id)) throw new TypeError(`"${id}" is neither snap-… nor vol-…`);
      const ec2 = connect(EC2Client);
      const signal = interrupted();
      const number = (text?: string) => (text === undefined ? undefined : Number(text));
      const numbers = { size: number(size), iops: number(iops), initializationRate: number(initializationRate) };
      const costly = Number(size) > 100 || iops || initializationRate;
      if (costly && !local()) await confirm('Size, iops or initialization rate may cost dollars. Create it?');
      const instanceId = given ?? (await newestInstance(ec2));
      const found = id?.startsWith('vol-') ? await findSnapshot(ec2, { volumeId: id, signal }) : id;
      const snapshotId = found ?? (await newestSnapshot(ec2));
      const options = { snapshotId, instanceId, ...numbers, volumeType, device, tags: tags() };
      const result = await restoreVolume(ec2, { ...options, signal, onProgress: progress });
      print(result, { size: (gib: number) => `${gib} GiB` });
      sayUndo(result);
    }),
);
