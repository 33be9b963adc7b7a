/**
 * 2.26 Create an image
 *
 * ## Problem
 * An instance is set up as you want it. You want to launch more like it, or to have it back after an accident.
 *
 * ## Solution
 * Make an image (AMI) of the instance, without rebooting it unless you say so. Wait until the image can be launched, and
 * tag its snapshots as well.
 *
 * ## Discussion
 * EC2's own default is to reboot the instance, so that all data is on the disks when their snapshots are taken. Without,
 * the instance runs on, and the image is like the disks of a machine that lost power: file systems and databases with
 * journals recover from that. To be sure, reboot, or stop the instance first (2.20).
 *
 * The image has all EBS volumes; a launch makes all of them anew. What is on instance store or in memory is not in it,
 * nor are user data, type and security groups: 2.10 clones those too. A launch from the image runs user data and makes
 * SSH host keys as on a new machine. Everything else is a copy: passwords, keys and `authorized_keys`, the shell's history.
 * Look what is on the disks before you share an image. It is private, and only as encrypted as the volumes are.
 *
 * Of a hibernated instance it makes none: what is launched from such an image may be out of reach. AWS says the same of
 * all instances that have hibernation enabled, so try the image of one before you need it.
 *
 * A name is used once in a region and account: the error is `InvalidAMIName.Duplicate`.
 *
 * If you press Ctrl-C, or the wait fails, EC2 goes on: the error names the image, whose snapshots have no tags then.
 * Deregistering an image stops new launches from it; instances that run go on. Its snapshots stay and cost unless they
 * are deleted too (1.16 does both).
 *
 * @before npx tsx recipes/ec2/01-launch-instance.ts --local
 * @run npx tsx recipes/ec2/26-create-image.ts --local
 * @output
 *   image id      ami-dcc2b25d783bfd25e
 *   instance id   i-63255c5f80c7d5cef
 *   name          i-63255c5f80c7d5cef-image-20261124212637
 *   state         available
 *   snapshot ids  snap-a976ced4cd31b1ad7
 * @permission ec2:DescribeInstances on *
 * @permission ec2:CreateImage on *
 * @permission ec2:CreateTags on arn:aws:ec2:*::*
 * @permission ec2:DescribeImages on *
 * @cost for its snapshots until they are deleted, $0.05 a month in us-east-1 (2026) for each GiB that is stored
 * @undo npx tsx recipes/setup/09-clean-up.ts {imageId} {snapshotIds} --local --yes
 * @emulator LocalStack neither reboots nor copies, an image is available at once, and two may have one name. It refuses
 * tags for snapshots in CreateImage, so they get theirs as soon as the image is there.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateImage.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/creating-an-ami-ebs.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-hibernate-limitations.html
 * @see https://aws.amazon.com/ebs/pricing/
 */
import {
  CreateImageCommand,
  CreateTagsCommand,
  type DescribeImagesCommandOutput,
  DescribeInstancesCommand,
  EC2Client,
  waitUntilImageAvailable,
} from '@aws-sdk/client-ec2';
import { waitFor } from '../../shared/wait.ts';

export interface CreatedImage {
  imageId: string;
  instanceId: string;
  name: string;
  /** `available` */
  state: string;
  /** Of the instance's volumes, the root volume's among them. */
  snapshotIds: string[];
}

/**
 * Makes an image of an instance and waits until it can be launched.
 *
 * @param ec2 - Of the instance's region.
 * @param options.instanceId - The instance; running or stopped.
 * @param options.name - Name of the image. The instance's id and the time by default.
 * @param options.description - `Image of INSTANCE` by default.
 * @param options.reboot - Whether a running instance is rebooted, for all its data to be on the disks. False by default.
 * @param options.tags - Tags to put on the image and its snapshots. None by default.
 * @param options.signal - Ends the wait; EC2 makes the image all the same.
 * @param options.onProgress - Called each second with a text for people.
 * @returns The image, available.
 * @throws RangeError when the name breaks EC2's rule; InvalidAMIName.Duplicate when it is in use.
 * @throws Error when the instance is hibernated; InvalidInstanceID.NotFound when there is none.
 * @throws The SDK's error; Error when EC2 gives the image up. If there is an image already, the message names it.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateImage.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const { imageId } = await createImage(ec2, { instanceId: 'i-0123456789abcdef0', name: 'web 2026-12-24' });
 * console.log(imageId);
 */
export async function createImage(
  ec2: EC2Client,
  {
    instanceId,
    name = `${instanceId}-image-${new Date().toISOString().replace(/\D/g, '').slice(0, 14)}`,
    description = `Image of ${instanceId}`,
    reboot = false,
    tags = {},
    signal,
    onProgress,
  }: {
    instanceId: string;
    name?: string;
    description?: string;
    reboot?: boolean;
    tags?: Record<string, string>;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<CreatedImage> {
  if (!/^[\w()[\] ./'@-]{3,128}$/.test(name)) {
    throw new RangeError(`the name of an image has 3 to 128 letters, digits and ( ) [ ] . / - ' @ _, not "${name}"`);
  }
  signal?.throwIfAborted();
  const describe = new DescribeInstancesCommand({ InstanceIds: [instanceId] });
  const { Reservations } = await ec2.send(describe, { abortSignal: signal });
  const { State, StateReason } = Reservations?.[0]?.Instances?.[0] ?? {};
  if (State?.Name === 'stopped' && StateReason?.Code === 'Client.UserInitiatedHibernate') {
    throw new Error(
      `${instanceId} is hibernated, and what is launched from its image may be out of reach: start it first`,
    );
  }
  const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
  // Not aborted by the signal: an image whose id nobody hears would be there, and cost.
  const { ImageId } = await ec2.send(
    new CreateImageCommand({
      InstanceId: instanceId,
      Name: name,
      Description: description,
      NoReboot: !reboot,
      TagSpecifications: Tags.length > 0 ? [{ ResourceType: 'image', Tags }] : undefined,
    }),
  );
  const imageId = ImageId as string;
  try {
    const available = {
      until: `${imageId} is available`,
      // The snapshots of large disks take hours.
      seconds: 86_400,
      signal,
      onProgress,
      // The waiter knows `failed` only. With other ends, too, the image will never come.
      onAnswer: ({ Images = [] }: DescribeImagesCommandOutput) => {
        for (const image of Images) if (/^(error|invalid|deregistered)$/.test(`${image.State}`)) image.State = 'failed';
      },
    };
    const { Images = [] } = await waitFor(waitUntilImageAvailable, ec2, { ImageIds: [imageId] }, available);
    const { State, BlockDeviceMappings = [] } = Images[0] ?? {};
    const snapshotIds = BlockDeviceMappings.map(({ Ebs }) => Ebs?.SnapshotId).filter((id) => id !== undefined);

    // Their ids are known only now.
    if (Tags.length > 0) {
      await ec2.send(new CreateTagsCommand({ Resources: snapshotIds, Tags }), { abortSignal: signal });
    }
    return { imageId, instanceId, name, state: `${State}`, snapshotIds };
  } catch (cause) {
    const { name: kind, message } = cause as Error;
    const there = `this image is there, complete or not: ${imageId}`;
    throw Object.assign(new Error(`${message}; ${there}`, { cause }), { name: kind });
  }
}

// ---- command line: leave out when copying ----
import { confirm, connect, interrupted, print, progress, recipe, sayUndo, tags, yes } from '../../shared/cli.ts';
import { newestInstance } from '../../shared/newest.ts';

recipe(import.meta, (command) =>
  command
    .argument('[instance-id]', 'the instance (default: the newest one of this cookbook)')
    .option('--name <name>', 'name of the image (default: made of instance and time)')
    .option('--description <text>', 'description of the image (default: Image of ID)')
    .option('--reboot', 'reboot the instance first, for all its data to be on the disks')
    .addOption(yes)
    .action(async (given, options) => {
      const ec2 = connect(EC2Client);
      const instanceId = given ?? (await newestInstance(ec2));
      if (options.reboot) await confirm(`Reboot ${instanceId} now? Whoever works on it is interrupted.`);
      const more = { tags: tags(), signal: interrupted(), onProgress: progress };
      const result = await createImage(ec2, { instanceId, ...options, ...more });
      print(result);
      sayUndo(result);
    }),
);
