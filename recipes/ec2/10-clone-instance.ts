/**
 * 2.10 Clone an instance
 *
 * ## Problem
 * You want a second instance like one that you have: to try out an update, to share its load, or in another's place.
 *
 * ## Solution
 * Read all that the instance would have to be launched with (2.32). Look up the newest snapshot of each of its data
 * volumes (2.9). Launch with all of that in a single call, wait until the machine has passed its check, and list what
 * is different all the same.
 *
 * ## Discussion
 * The root volume comes from the image, as new: what was changed on it since is not in the clone. To have it, make an
 * image of the instance (2.26) and give that with `--image-id`; EC2 lets no launch name another snapshot for the root.
 * The same is needed when the image does not exist any more.
 *
 * Data volumes are as old as their snapshots; the result says when those were taken. For data of this moment, and of the
 * same moment on all volumes, back up the instance first (2.8). A volume that has no snapshot is an error, unless you do
 * without data volumes. First reads are slow, since the data still has to come from S3. All volumes are encrypted.
 *
 * User data runs again on the clone's first start; if it shuts the machine down, the clone is kept, unless its shutdown
 * behavior is `terminate`. The clone does what its original does: it takes jobs from the same queue, sends the same
 * mails, registers under the same name. Think of it before, or clone into another network.
 *
 * Nothing is launched unless all can be read and found. If a later step fails, or you press Ctrl-C, the clone is
 * terminated, with its volumes: they are set to stay, where the original's do, only at the very end.
 *
 * An instance with an IAM role can be cloned only by somebody who may pass that role on (`iam:PassRole`), and one whose
 * volumes have a key of your own only with permissions on that key (2.1). `InvalidKeyPair.NotFound`: the key pair was
 * deleted since. For many instances alike, use a launch template.
 *
 * @before npx tsx recipes/ec2/01-launch-instance.ts --local
 * @run npx tsx recipes/ec2/10-clone-instance.ts --local
 * @output
 *   instance id    i-b3a9b5549d007092e
 *   original id    i-c73e42175289348f5
 *   image id       ami-0532be01f26a3de55
 *   instance type  t3.micro
 *   state          running
 *   address        54.214.164.33
 *   volumes        -
 *   differences    addresses: other than 10.191.65.182 and 54.214.105.166; root volume: as in the image; /dev/xvda: without its tags
 *   made           i-b3a9b5549d007092e
 * @permission ec2:DescribeInstances on *
 * @permission ec2:DescribeInstanceAttribute on *
 * @permission ec2:DescribeInstanceTypes on *
 * @permission ec2:DescribeInstanceCreditSpecifications on *
 * @permission ec2:DescribeVolumes on *
 * @permission ec2:DescribeImages on *
 * @permission ec2:DescribeSnapshots on *
 * @permission ec2:RunInstances on *
 * @permission ec2:CreateTags on *
 * @permission iam:PassRole on arn:aws:iam::*:role/*
 * @permission ec2:DescribeInstanceStatus on *
 * @permission ec2:ModifyInstanceAttribute on arn:aws:ec2:*:*:instance/*
 * @permission ec2:ModifyInstanceAttribute on arn:aws:ec2:*:*:volume/*
 * @permission ec2:DescribeAddresses on *
 * @permission ec2:TerminateInstances on *
 * @cost as much as the original, by the hour: instance, volumes, and $0.005 for a public address (us-east-1, 2026)
 * @undo npx tsx recipes/setup/09-clean-up.ts {made} --local --yes
 * @emulator LocalStack boots nothing and copies no data; volumes from a snapshot are as encrypted as it is there.
 * @book ec2.run_instances → RunInstancesCommand
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html
 * @see https://repost.aws/knowledge-center/cloudformation-root-volume-property
 * @see https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_passrole.html
 */
import {
  DescribeImagesCommand,
  DescribeInstancesCommand,
  DescribeSnapshotsCommand,
  EC2Client,
  type Image,
  ModifyInstanceAttributeCommand,
  RunInstancesCommand,
} from '@aws-sdk/client-ec2';
import { type Made, undo } from '../../shared/undo.ts';
import { findSnapshot } from './09-restore-volume.ts';
import { toMappings, withDeleteOnTermination } from './10-helpers/block-devices.ts';
import { waitUntilUp } from './15-helpers/wait-until-up.ts';
import { terminateInstance } from './21-terminate-instance.ts';
import { type LaunchSettings, readLaunchSettings } from './32-read-launch-settings.ts';

export interface ClonedInstance {
  /** The clone. */
  instanceId: string;
  /** The original. */
  originalId: string;
  imageId: string;
  instanceType: string;
  /** `running`; `stopping` or `stopped` if it has shut itself down. */
  state: string;
  /** Public IPv4 address; null if it got none. */
  address: string | null;
  /** The data volumes. */
  volumes: ClonedVolume[];
  /** How the clone differs from the original, in words. */
  differences: string[];
  /** What was made and has to be deleted on its own: the clone, and those of its volumes that stay without it. */
  made: string[];
}

export interface ClonedVolume {
  device: string;
  volumeId: string;
  snapshotId: string;
  /** The moment of which the data is. */
  startTime: Date;
}

/**
 * Launches an instance with the settings of another, with data volumes from their newest snapshots, and waits until
 * it is ready.
 *
 * @param ec2 - Of the region of both.
 * @param options.instanceId - The original; running or stopped.
 * @param options.imageId - Where the root volume comes from. The original's image by default.
 * @param options.dataVolumes - Whether the clone gets data volumes. True by default.
 * @param options.tags - Tags for the instance, beside the original's, and for volumes. None by default.
 * @param options.signal - Aborts the work; the clone is terminated.
 * @param options.onProgress - Called with a text for people.
 * @returns The clone, with its instance status check passed, unless it has shut itself down.
 * @throws Error when the image is gone or a volume has no snapshot; nothing is made then.
 * @throws The SDK's error of the step that failed, once the clone is terminated; its message names what is left.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const { instanceId, differences } = await cloneInstance(ec2, { instanceId: 'i-0123456789abcdef0' });
 * console.log(instanceId, differences.join('; '));
 */
export async function cloneInstance(
  ec2: EC2Client,
  {
    instanceId: originalId,
    imageId: givenImage,
    dataVolumes = true,
    tags = {},
    signal,
    onProgress,
  }: {
    instanceId: string;
    imageId?: string;
    dataVolumes?: boolean;
    tags?: Record<string, string>;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<ClonedInstance> {
  onProgress?.(`reading the settings of ${originalId}`);
  const original = await readLaunchSettings(ec2, { instanceId: originalId, signal });
  const { settings, differences } = original;
  const imageId = givenImage ?? (settings.ImageId as string);
  const image = await findImage(ec2, { imageId, signal });
  const sources = dataVolumes ? await findSources(ec2, { ...original, signal }) : [];
  const lacking = dataVolumes ? [] : original.dataVolumes.map(({ device }) => `${device}: left out`);

  const made: Made[] = [];
  try {
    signal?.throwIfAborted();
    onProgress?.(`launching a ${settings.InstanceType}`);
    const mappings = toMappings(original, image, sources);
    // Not aborted by the signal: an instance whose id nobody hears could not be removed.
    const { Instances = [] } = await ec2.send(
      new RunInstancesCommand({
        ...settings,
        ImageId: imageId,
        // As long as the clone may have to be undone, all its volumes go with it.
        BlockDeviceMappings: mappings.map((one) => withDeleteOnTermination(one, true)),
        TagSpecifications: toTagSpecifications(original, tags),
      }),
    );
    const instanceId = Instances[0]?.InstanceId as string;
    made.push({ id: instanceId, remove: () => terminateInstance(ec2, { instanceId, isNew: true, onProgress }) });

    const instanceType = settings.InstanceType as string;
    const state = await waitUntilUp(ec2, { instanceId, instanceType, signal, onProgress });
    // Asked now: as it began to run it need not have had all of its volumes.
    const describe = new DescribeInstancesCommand({ InstanceIds: [instanceId] });
    const { Reservations } = await ec2.send(describe, { abortSignal: signal });

    const staying = mappings.filter(({ Ebs }) => Ebs?.DeleteOnTermination === false);
    if (staying.length > 0) {
      const setDeletion = (DeleteOnTermination: boolean) => {
        const BlockDeviceMappings = staying.map(({ DeviceName }) => ({ DeviceName, Ebs: { DeleteOnTermination } }));
        return ec2.send(new ModifyInstanceAttributeCommand({ InstanceId: instanceId, BlockDeviceMappings }));
      };
      // Noted before, unless it is refused: done without an answer, the volumes would not go with the clone any more.
      made.push({ id: `volumes of ${instanceId}`, remove: () => setDeletion(true) });
      await setDeletion(false).catch((error) => {
        if (error.$metadata?.httpStatusCode < 500) made.pop();
        throw error;
      });
    }

    const { BlockDeviceMappings = [], PublicIpAddress = null } = Reservations?.[0]?.Instances?.[0] ?? {};
    const volumeOf = (device?: string) =>
      BlockDeviceMappings.find(({ DeviceName }) => DeviceName === device)?.Ebs?.VolumeId as string;
    return {
      instanceId,
      originalId,
      imageId,
      instanceType,
      state,
      address: PublicIpAddress,
      volumes: sources.map((source) => ({ ...source, volumeId: volumeOf(source.device) })),
      differences: [...differences, ...lacking],
      made: [instanceId, ...staying.map(({ DeviceName }) => volumeOf(DeviceName))],
    };
  } catch (error) {
    throw await undo(made, error, { onProgress });
  }
}

/** The image, which may have been deregistered since the original was launched. */
async function findImage(
  ec2: EC2Client,
  { imageId, signal }: { imageId: string; signal?: AbortSignal },
): Promise<Image> {
  // A filter gives nothing where an id would be an error. Images of Amazon's are deprecated sooner or later.
  const input = { Filters: [{ Name: 'image-id', Values: [imageId] }], IncludeDeprecated: true };
  const { Images = [] } = await ec2.send(new DescribeImagesCommand(input), { abortSignal: signal });
  if (Images[0]?.State === 'available') return Images[0];
  throw new Error(`the image ${imageId} can't be launched any more: make one of the instance, and give that`);
}

/** For each data volume, its newest snapshot, and when that was taken. */
async function findSources(
  ec2: EC2Client,
  { dataVolumes, signal }: Pick<LaunchSettings, 'dataVolumes'> & { signal?: AbortSignal },
): Promise<Omit<ClonedVolume, 'volumeId'>[]> {
  const sources: Omit<ClonedVolume, 'volumeId'>[] = [];
  for (const { device, volumeId } of dataVolumes) {
    const snapshotId = await findSnapshot(ec2, { volumeId, signal });
    const command = new DescribeSnapshotsCommand({ SnapshotIds: [snapshotId] });
    const { Snapshots = [] } = await ec2.send(command, { abortSignal: signal });
    sources.push({ device, snapshotId, startTime: Snapshots[0]?.StartTime as Date });
  }
  return sources;
}

function toTagSpecifications({ settings }: LaunchSettings, tags: Record<string, string>) {
  const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
  const own = settings.TagSpecifications?.[0]?.Tags?.filter(({ Key = '' }) => !Object.hasOwn(tags, Key)) ?? [];
  const specifications = [
    { ResourceType: 'instance' as const, Tags: [...own, ...Tags] },
    { ResourceType: 'volume' as const, Tags },
    { ResourceType: 'network-interface' as const, Tags },
  ].filter((one) => one.Tags.length > 0);
  return specifications.length > 0 ? specifications : undefined;
}

// ---- command line: leave out when copying ----
import { confirm, connect, interrupted, local, print, progress, recipe, sayUndo, tags, yes } from '../../shared/cli.ts';
import { newestInstance } from '../../shared/newest.ts';

const inWords = (one: ClonedVolume) => `${one.device} ${one.volumeId} as of ${one.startTime.toISOString()}`;

recipe(import.meta, (command) =>
  command
    .argument('[instance-id]', 'the original (default: the newest instance of this cookbook)')
    .option('--image-id <id>', "image for the root volume (default: the original's)")
    .option('--no-data-volumes', 'clone without the data volumes')
    .addOption(yes)
    .action(async (given, options) => {
      const ec2 = connect(EC2Client);
      const instanceId = given ?? (await newestInstance(ec2));
      if (!local()) {
        const { settings } = await readLaunchSettings(ec2, { instanceId });
        const { InstanceType: type, BlockDeviceMappings: volumes = [] } = settings;
        const gib = volumes.reduce((sum, { Ebs }) => sum + (Ebs?.VolumeSize ?? 0), 0);
        const hasIops = volumes.some(({ Ebs }) => /^io/.test(`${Ebs?.VolumeType}`) || (Ebs?.Iops ?? 0) > 3000);
        const isCheap = /\.(nano|micro|small)$/.test(`${type}`) && gib <= 100 && !hasIops;
        const question = `Launch a ${type} with ${gib} GiB of volumes? It costs as much as ${instanceId} does.`;
        if (!isCheap) await confirm(question);
      }
      const more = { tags: tags(), signal: interrupted(), onProgress: progress };
      const result = await cloneInstance(ec2, { instanceId, ...options, ...more });
      const volumes = () => result.volumes.map(inWords).join(', ') || '-';
      print(result, { volumes, differences: () => result.differences.join('; ') });
      sayUndo(result);
    }),
);
