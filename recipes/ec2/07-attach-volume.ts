/**
 * 2.7 Attach a volume
 *
 * ## Problem
 * An instance needs more disk space, or a disk that outlives it.
 *
 * ## Solution
 * Create an EBS volume in the instance's Availability Zone, or take one that you have. Attach it under the next free
 * device name, and wait until EC2 says that it is attached.
 *
 * ## Discussion
 * A volume can only be attached within its zone; a snapshot of it (2.8) can be restored in any of the region (2.9).
 *
 * The new volume is encrypted, with the account's default key for EBS; if that is a key of your own, you need
 * permissions on it, too. It is of the type gp3 (CreateVolume's own default is the older gp2), with the 3,000 I/O
 * operations and 125 MiB a second that a gp3 volume has by default.
 *
 * The device name is one for EC2. Linux on today's instances (Nitro) calls the disk `/dev/nvme1n1` or the like, in any
 * order: find it by the path that is printed, which udev makes of its serial number, the volume id (`lsblk -o +SERIAL`
 * shows it). A new volume is empty: make a file system on it once, with `sudo mkfs -t xfs PATH`, which erases it, and
 * mount it (2.23).
 *
 * A volume stays, and costs, when its instance is terminated, unless `--delete-on-termination` is given. If a step
 * fails, or you press Ctrl-C, it is detached again, and deleted if this run created it. Each run creates one more; with
 * `--volume-id` it attaches that one, or finds that it is attached. One that another instance has is refused, also
 * where several could share it (Multi-Attach).
 *
 * @before npx tsx recipes/ec2/01-launch-instance.ts --local
 * @run npx tsx recipes/ec2/07-attach-volume.ts --size 8 --local
 * @output
 *   instance id            i-ece950e102d1569c5
 *   volume id              vol-44eb3683cbdf85167
 *   device                 /dev/sdf
 *   nvme path              /dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol44eb3683cbdf85167
 *   size                   8 GiB
 *   delete on termination  no
 * @permission ec2:DescribeInstances on *
 * @permission ec2:DescribeVolumes on *
 * @permission ec2:CreateVolume on arn:aws:ec2:*:*:volume/*
 * @permission ec2:CreateTags on arn:aws:ec2:*:*:volume/*
 * @permission ec2:AttachVolume on *
 * @permission ec2:ModifyInstanceAttribute on arn:aws:ec2:*:*:instance/*
 * @permission ec2:ModifyInstanceAttribute on arn:aws:ec2:*:*:volume/*
 * @permission ec2:DetachVolume on *
 * @permission ec2:DeleteVolume on arn:aws:ec2:*:*:volume/*
 * @cost a gp3 volume is $0.08 a month for each GiB in us-east-1 (October 2026), attached or not, until it is deleted
 * @undo npx tsx recipes/setup/09-clean-up.ts {volumeId} --local --yes
 * @emulator LocalStack attaches at once, has no disks, and checks neither zone nor device name; the recipe does.
 * @book ec2.create_volume → CreateVolumeCommand
 * @book ec2.attach_volume → AttachVolumeCommand
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AttachVolume.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/identify-nvme-ebs-device.html
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html
 * @see https://aws.amazon.com/ebs/pricing/
 */
import {
  AttachVolumeCommand,
  CreateVolumeCommand,
  DescribeInstancesCommand,
  DescribeVolumesCommand,
  DetachVolumeCommand,
  EC2Client,
  ModifyInstanceAttributeCommand,
  waitUntilVolumeAvailable,
  waitUntilVolumeInUse,
} from '@aws-sdk/client-ec2';
import { type Made, undo } from '../../shared/undo.ts';
import { waitFor } from '../../shared/wait.ts';
import { tryAgain } from '../s3/13-helpers/try-again.ts';
import { waitUntilCreated } from './07-helpers/wait-until-created.ts';

export interface AttachedVolume {
  instanceId: string;
  volumeId: string;
  /** The name that EC2 knows it by: `/dev/sdf`. */
  device: string;
  /** Where Linux has it on a Nitro instance. */
  nvmePath: string;
  /** In GiB. */
  size: number;
  deleteOnTermination: boolean;
}

export interface Options {
  /** The instance, running or stopped. */
  instanceId: string;
  /** Device name, such as `/dev/sdf`. The next free one by default. */
  device?: string;
  /** Whether the volume is deleted when the instance is terminated. If it isn't said, EC2 takes false. */
  deleteOnTermination?: boolean;
  /** Aborts the work; what was done is undone. */
  signal?: AbortSignal;
  /** Called with a text for people. */
  onProgress?: (text: string) => void;
}

/**
 * Creates an encrypted gp3 volume and attaches it to an instance.
 *
 * @param ec2 - Of the instance's region.
 * @param options.size - In GiB, 1 to 65,536.
 * @param options.tags - Tags to put on the volume. None by default.
 * @param options - The rest as in `Options`.
 * @returns The volume, attached.
 * @throws RangeError when the size is out of range or the device name can't be used.
 * @throws The SDK's error of the step that failed, once the volume is deleted; its message names what is left.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const { nvmePath } = await addVolume(ec2, { instanceId: 'i-0123456789abcdef0', size: 20 });
 * console.log(`sudo mkfs -t xfs ${nvmePath}`);
 */
export async function addVolume(
  ec2: EC2Client,
  { size, tags = {}, ...options }: Options & { size: number; tags?: Record<string, string> },
): Promise<AttachedVolume> {
  checkSize(size);
  const { device, availabilityZone } = await findDevice(ec2, options);
  const { signal, onProgress } = options;
  signal?.throwIfAborted();
  const made: Made[] = [];
  try {
    const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
    // Not aborted by the signal: a volume whose id nobody hears could not be deleted.
    const { VolumeId } = await ec2.send(
      new CreateVolumeCommand({
        AvailabilityZone: availabilityZone,
        Size: size,
        VolumeType: 'gp3',
        Encrypted: true,
        TagSpecifications: Tags.length > 0 ? [{ ResourceType: 'volume', Tags }] : undefined,
      }),
    );
    const volumeId = VolumeId as string;
    await waitUntilCreated(ec2, { volumeId, made, signal, onProgress });
    return await attachVolume(ec2, { ...options, volumeId, device });
  } catch (error) {
    throw await undo(made, error, { onProgress });
  }
}

function checkSize(size: number): void {
  if (Number.isInteger(size) && size >= 1 && size <= 65_536) return;
  throw new RangeError(`a gp3 volume has 1 to 65,536 whole GiB, not ${size}`);
}

/**
 * Attaches a volume to an instance and waits until it is attached. One that is attached to it already stays so.
 *
 * @param ec2 - Of the instance's region.
 * @param options.volumeId - The volume. It has to be free, or attached to this instance.
 * @param options - The rest as in `Options`.
 * @returns The volume, attached.
 * @throws RangeError when the volume is of another zone or at another instance, or the device name can't be used.
 * @throws The SDK's error of the step that failed, once the volume is detached; its message names what is left.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AttachVolume.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const ids = { instanceId: 'i-0123456789abcdef0', volumeId: 'vol-0123456789abcdef0' };
 * console.log((await attachVolume(ec2, ids)).device);
 */
export async function attachVolume(
  ec2: EC2Client,
  { instanceId, volumeId, device, deleteOnTermination, signal, onProgress }: Options & { volumeId: string },
): Promise<AttachedVolume> {
  const abort = { abortSignal: signal };
  const { Volumes: [volume] = [] } = await ec2.send(new DescribeVolumesCommand({ VolumeIds: [volumeId] }), abort);
  const [there] = volume?.Attachments ?? [];
  if (there && (there.InstanceId !== instanceId || !/^attach/.test(`${there.State}`))) {
    throw new RangeError(`${volumeId} is ${there.State} at ${there.InstanceId}: it has to be detached first (2.31)`);
  }
  if (there && device && there.Device !== device) {
    throw new RangeError(`${volumeId} is attached to ${instanceId} already, as ${there.Device}`);
  }

  const made: Made[] = [];
  try {
    if (!there) {
      const place = await findDevice(ec2, { instanceId, device });
      if (volume?.AvailabilityZone !== place.availabilityZone) {
        const zones = `${volumeId} is in ${volume?.AvailabilityZone}, ${instanceId} in ${place.availabilityZone}`;
        throw new RangeError(`${zones}: they must be in the same Availability Zone`);
      }
      signal?.throwIfAborted();
      // Not aborted by the signal: whether the volume is attached would be unknown then.
      await ec2.send(new AttachVolumeCommand({ InstanceId: instanceId, VolumeId: volumeId, Device: place.device }));
      made.push({
        id: `${volumeId} on ${instanceId}`,
        remove: async () => {
          // Without a look before: EC2 may not tell yet that it is attached, nor know it where it is detached.
          const detach = () => ec2.send(new DetachVolumeCommand({ InstanceId: instanceId, VolumeId: volumeId }));
          await tryAgain(detach, { passing: ['IncorrectState'] });
          const until = `${volumeId} is detached`;
          await waitFor(waitUntilVolumeAvailable, ec2, { VolumeIds: [volumeId] }, { until, onProgress });
        },
      });
    }

    // The volume is `in-use` while it is still `attaching`. The waiter goes on while nothing fits the filters.
    const input = { VolumeIds: [volumeId], Filters: [{ Name: 'attachment.status', Values: ['attached'] }] };
    const until = `${volumeId} is attached to ${instanceId}`;
    const { Volumes } = await waitFor(waitUntilVolumeInUse, ec2, input, { until, signal, onProgress });
    const now = Volumes?.[0]?.Attachments?.[0];

    // AttachVolume has no parameter for this.
    if (deleteOnTermination !== undefined && deleteOnTermination !== now?.DeleteOnTermination) {
      const BlockDeviceMappings = [{ DeviceName: now?.Device, Ebs: { DeleteOnTermination: deleteOnTermination } }];
      // Not aborted by the signal: whether the data goes with the instance would be unknown then.
      await ec2.send(new ModifyInstanceAttributeCommand({ InstanceId: instanceId, BlockDeviceMappings }));
    }
    return {
      instanceId,
      volumeId,
      device: now?.Device as string,
      nvmePath: `/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${volumeId.replace('-', '')}`,
      size: volume?.Size as number,
      deleteOnTermination: deleteOnTermination ?? now?.DeleteOnTermination === true,
    };
  } catch (error) {
    throw await undo(made, error, { onProgress });
  }
}

/**
 * Finds a device name that is free on an instance, or checks yours.
 *
 * @param ec2 - Of the instance's region.
 * @param options.instanceId - The instance.
 * @param options.device - The name that you want. By default the next free one that AWS recommends.
 * @returns The name, and the zone that a volume must be in.
 * @throws RangeError when the name is none or is in use; Error when the instance is neither running nor stopped.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const { device, availabilityZone } = await findDevice(ec2, { instanceId: 'i-0123456789abcdef0' });
 * console.log(`a volume of ${availabilityZone} can be attached as ${device}`);
 */
export async function findDevice(
  ec2: EC2Client,
  { instanceId, device }: { instanceId: string; device?: string },
): Promise<{ device: string; availabilityZone: string }> {
  if (device !== undefined && !/^(\/dev\/)?(sd|xvd)[a-z]{1,2}\d{0,2}$/.test(device)) {
    throw new RangeError(`"${device}" is no device name such as /dev/sdf`);
  }
  const { Reservations = [] } = await ec2.send(new DescribeInstancesCommand({ InstanceIds: [instanceId] }));
  const { State, Placement, BlockDeviceMappings = [] } = Reservations[0]?.Instances?.[0] ?? {};
  if (!/^(running|stopped)$/.test(`${State?.Name}`)) {
    throw new Error(`${instanceId} is ${State?.Name}; volumes can be attached while it is running or stopped`);
  }

  // /dev/sdf, xvdf and /dev/sdf1 are names of one disk.
  const disk = (name = '') => name.replace(/^(\/dev\/)?(sd|xvd)/, '').replace(/\d+$/, '');
  const used = new Set(BlockDeviceMappings.map(({ DeviceName }) => disk(DeviceName)));
  // The letters before f are for instance store.
  const [next] = [...'fghijklmnop'].filter((letter) => !used.has(letter)).map((letter) => `/dev/sd${letter}`);
  if (!next && !device) throw new RangeError(`/dev/sdf to /dev/sdp are all in use on ${instanceId}: name a device`);
  if (used.has(disk(device)))
    throw new RangeError(`${device} is in use on ${instanceId}; free is ${next ?? 'another'}`);
  return { device: device ?? (next as string), availabilityZone: Placement?.AvailabilityZone as string };
}

// ---- command line: leave out when copying ----
import { confirm, connect, interrupted, local, print, progress, recipe, sayUndo, tags, yes } from '../../shared/cli.ts';
import { newestInstance } from '../../shared/newest.ts';

recipe(import.meta, (command) =>
  command
    .argument('[instance-id]', 'the instance (default: the newest one of this cookbook)')
    .option('--size <gib>', 'size of the volume in GiB (default: 8)')
    .option('--volume-id <id>', 'attach this volume instead of a new one')
    .option('--device <name>', 'device name (default: the next free one from /dev/sdf on)')
    .option('--delete-on-termination', 'delete the volume when the instance is terminated')
    .addOption(yes)
    .action(async (given, { size, volumeId, ...options }) => {
      if (size && volumeId) throw new TypeError('--size is for a new volume: it goes not with --volume-id');
      const gib = Number(size ?? 8);
      checkSize(gib);
      const ec2 = connect(EC2Client);
      const instanceId = given ?? (await newestInstance(ec2));
      if (gib > 100 && !local()) await confirm(`Create ${gib} GiB, for about $${Math.round(gib * 0.08)} a month?`);
      const more = { instanceId, ...options, signal: interrupted(), onProgress: progress };
      const result = volumeId
        ? await attachVolume(ec2, { ...more, volumeId })
        : await addVolume(ec2, { ...more, size: gib, tags: tags() });
      print(result, { size: (gib) => `${gib} GiB` });
      if (!volumeId) sayUndo(result);
    }),
);
