/**
 * 2.22 Swap a volume
 *
 * ## Problem
 * A volume of an instance is damaged, or was restored from a snapshot (2.9): you want another one in its place, under
 * the same device name. It may be the root volume.
 *
 * ## Solution
 * Stop the instance, detach the old volume, attach the new one under the same device name, and start the instance
 * again. Wait until it has passed its instance status check: its system is up then, whether or not it can use the new
 * volume. The old volume is kept.
 *
 * ## Discussion
 * If a step fails, or the instance does not come up with the new volume, or you press Ctrl-C, all is put back: the
 * old volume in its place, the new one where it was, the instance running again. That takes minutes, too, and that a
 * root volume does not boot is known after ten minutes only (bare metal: 30). What can't be put back is named. EC2's
 * permissions are tried by dry runs before the instance is stopped, `kms:CreateGrant` on a volume's key is not (2.20).
 * `kill -9`, or a second Ctrl-C, leaves things half-way: 2.7 attaches a volume (`--volume-id`), 2.20 starts an instance.
 *
 * Stopping ends what runs on the instance. What is on its instance store is lost, and its public address changes
 * unless it is an Elastic IP address (2.6). An Auto Scaling group takes a stopped instance for a failed one and
 * replaces it. An instance that was stopped before is left stopped, so whether it comes up is not seen then.
 *
 * The new volume must be in the instance's Availability Zone, and free or attached to the same instance, though not as
 * its root. In place of a root volume it must hold a system that boots. It takes over whether it is deleted with the
 * instance; the old volume is free then, and costs until you delete it. Neither may be on another instance, too
 * (Multi-Attach). Swapping back by the command under Undo leaves the new volume free, wherever it was before.
 *
 * Not for Mac instances: their host is cleaned for hours after a stop, before it starts one again.
 *
 * CreateReplaceRootVolumeTask needs no stop, but a reboot, and makes the new root volume itself: of a snapshot of the
 * old one, or of an image.
 *
 * @before npx tsx recipes/ec2/01-launch-instance.ts --local
 * @before npx tsx recipes/ec2/07-attach-volume.ts --size 8 --local
 * @before npx tsx recipes/ec2/07-attach-volume.ts --size 9 --local
 * @run npx tsx recipes/ec2/22-swap-volume.ts --device /dev/sdf --local --yes
 * @output
 *   instance id            i-bdb62330daffaeadf
 *   device                 /dev/sdf
 *   volume id              vol-a7cd922f164265ef9
 *   delete on termination  no
 *   kept volume id         vol-fb7a147bb32dfff3e
 *   state                  running
 *   address                54.214.244.251
 * @permission ec2:DescribeInstances on *
 * @permission ec2:DescribeVolumes on *
 * @permission ec2:StopInstances on arn:aws:ec2:*:*:instance/*
 * @permission ec2:DetachVolume on *
 * @permission ec2:AttachVolume on *
 * @permission ec2:ModifyInstanceAttribute on arn:aws:ec2:*:*:instance/*
 * @permission ec2:ModifyInstanceAttribute on arn:aws:ec2:*:*:volume/*
 * @permission ec2:StartInstances on arn:aws:ec2:*:*:instance/*
 * @permission ec2:DescribeInstanceStatus on *
 * @cost nothing new; the volume that is kept costs as before
 * @undo npx tsx recipes/ec2/22-swap-volume.ts {instanceId} --device {device} --volume-id {keptVolumeId} --local --yes
 * @emulator LocalStack stops, starts, detaches and attaches at once, in any order, and boots nothing.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AttachVolume.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/replace-root.html
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html
 */
import { setTimeout } from 'node:timers/promises';
import {
  AttachVolumeCommand,
  DescribeInstanceStatusCommand,
  DescribeInstancesCommand,
  DescribeVolumesCommand,
  DetachVolumeCommand,
  EC2Client,
  type Instance,
  ModifyInstanceAttributeCommand,
  StartInstancesCommand,
  StopInstancesCommand,
  waitUntilInstanceStatusOk,
} from '@aws-sdk/client-ec2';
import { type Made, undo } from '../../shared/undo.ts';
import { waitFor } from '../../shared/wait.ts';
import { keep, stepsOn } from './22-helpers/steps.ts';
import { detachVolume } from './31-detach-volume.ts';

export interface SwappedVolume {
  instanceId: string;
  device: string;
  /** The volume that is attached there now. */
  volumeId: string;
  /** The volume that was; null if nothing had to be done. */
  keptVolumeId: string | null;
  /** Whether the volume is deleted when the instance is terminated, as it was for the old one. */
  deleteOnTermination: boolean;
  /** `running`, or `stopped` if it was before. */
  state: string;
  /** The public IPv4 address that the instance has now; null if it has none. */
  address: string | null;
}

type Wait = { signal?: AbortSignal; onProgress?: (text: string) => void };

/**
 * Puts another volume in the place of one of an instance's, which is stopped for it and started again.
 *
 * @param ec2 - Of the instance's region.
 * @param options.instanceId - The instance, running or stopped.
 * @param options.volumeId - The new volume; free, or attached to this instance elsewhere.
 * @param options.device - The place, by its device name. The root volume's by default.
 * @param options.signal - Aborts the work; what was done is undone.
 * @param options.onProgress - Called with a text for people.
 * @returns What is where now.
 * @throws RangeError when the new volume can't be attached, or when there is none at the device.
 * @throws The SDK's error of the step that failed, once all is put back; its message names what is not.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AttachVolume.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const ids = { instanceId: 'i-0123456789abcdef0', volumeId: 'vol-0123456789abcdef0' };
 * const { keptVolumeId } = await swapVolume(ec2, { ...ids, device: '/dev/sdf' });
 * console.log(`${keptVolumeId} is free`);
 */
export async function swapVolume(
  ec2: EC2Client,
  { instanceId, volumeId, device: wanted, ...wait }: { instanceId: string; volumeId: string; device?: string } & Wait,
): Promise<SwappedVolume> {
  const { signal, onProgress } = wait;
  const instance = await findInstance(ec2, instanceId);
  const { State, StateReason, Placement, InstanceType, RootDeviceName, BlockDeviceMappings = [] } = instance;
  const device = wanted ?? (RootDeviceName as string);
  if (!/^(running|stopped)$/.test(`${State?.Name}`)) {
    throw new Error(`${instanceId} is ${State?.Name}; volumes can be swapped while it is running or stopped`);
  }
  if (State?.Name === 'stopped' && StateReason?.Code === 'Client.UserInitiatedHibernate') {
    throw new Error(`${instanceId} is hibernated, and would go on with a volume that it does not know: start it first`);
  }
  const places = BlockDeviceMappings.map(({ DeviceName, Ebs }) => ({
    id: Ebs?.VolumeId as string,
    device: DeviceName as string,
    card: Ebs?.EbsCardIndex,
    deleteOnTermination: Ebs?.DeleteOnTermination === true,
  }));
  const place = places.find((one) => one.device === device);
  if (!place) {
    const devices = places.map((one) => one.device).join(', ');
    throw new RangeError(`${instanceId} has no volume at ${device}; it has some at ${devices}`);
  }
  const { id: oldId, deleteOnTermination } = place;
  const result = { instanceId, device, volumeId, deleteOnTermination };
  if (oldId === volumeId) return { ...result, keptVolumeId: null, ...stateOf(instance) };

  const { Volumes = [] } = await ec2.send(new DescribeVolumesCommand({ VolumeIds: [oldId, volumeId] }));
  for (const { VolumeId, AvailabilityZone, State: state, Attachments = [] } of Volumes) {
    const elsewhere = Attachments.find(({ InstanceId }) => InstanceId !== instanceId);
    if (elsewhere) throw new RangeError(`${VolumeId} is attached to ${elsewhere.InstanceId}: detach it first (2.31)`);
    if (AvailabilityZone !== Placement?.AvailabilityZone) {
      const zones = `${VolumeId} is in ${AvailabilityZone}, ${instanceId} in ${Placement?.AvailabilityZone}`;
      throw new RangeError(`${zones}: they must be in the same Availability Zone`);
    }
    // The old one may well be broken; one that is being created is waited for.
    if (VolumeId === volumeId && /^(error|deleting|deleted)$/.test(`${state}`)) {
      throw new RangeError(`${volumeId} can't be attached: its state is ${state}`);
    }
  }
  const earlier = places.find(({ id }) => id === volumeId);
  if (earlier && earlier.device === RootDeviceName) {
    throw new RangeError(`${volumeId} is the root volume of ${instanceId}, which can't start without it`);
  }

  // A permission that is missing must not come to light while the instance has no volume.
  const all = { InstanceIds: [instanceId], DryRun: true };
  await expectDryRun(ec2.send(new StopInstancesCommand(all)));
  for (const VolumeId of [oldId, volumeId]) {
    const ids = { InstanceId: instanceId, VolumeId, DryRun: true };
    await expectDryRun(ec2.send(new DetachVolumeCommand(ids)));
    await expectDryRun(ec2.send(new AttachVolumeCommand({ ...ids, Device: device })));
  }
  await expectDryRun(ec2.send(new ModifyInstanceAttributeCommand({ ...keep(instanceId, place), DryRun: true })));
  await expectDryRun(ec2.send(new StartInstancesCommand(all)));
  await expectDryRun(ec2.send(new DescribeInstanceStatusCommand(all)));

  // How a step is undone is noted before the step is tried: the answer to a request can be lost. The signal aborts
  // waits, but no request that changes something.
  const done: Made[] = [];
  const there = stepsOn(ec2, instanceId, wait);
  const back = stepsOn(ec2, instanceId, { onProgress });
  const step = async <T>(id: string, act: () => Promise<T>, takeBack: () => Promise<unknown>): Promise<T> => {
    signal?.throwIfAborted();
    // Tried twice, some seconds apart, since half-way back is the worst place to give up.
    done.push({ id, remove: () => takeBack().catch(() => setTimeout(5000).then(takeBack)) });
    return act();
  };
  try {
    const wasRunning = State?.Name === 'running';
    if (wasRunning) await step(`${instanceId} (stopped)`, there.stop, back.start);
    for (const one of earlier ? [earlier, place] : [place]) {
      await step(
        `${one.id} (not at ${one.device})`,
        () => detachVolume(ec2, { volumeId: one.id, ...wait }),
        () => back.attach(one),
      );
    }
    const moved = { ...place, id: volumeId };
    await step(
      `${volumeId} (at ${device})`,
      () => there.attach(moved),
      () => back.detach(volumeId),
    );
    let now = instance;
    if (wasRunning) {
      now = await step(`${instanceId} (running)`, there.start, back.stop);
      // Running is not ready: a root volume that holds no system is found out here.
      const seconds = /metal/.test(`${InstanceType}`) ? 1800 : 600;
      const ready = { until: `${instanceId} has passed its instance status check`, seconds, ...wait };
      await waitFor(waitUntilInstanceStatusOk, ec2, { InstanceIds: [instanceId] }, ready);
    }
    return { ...result, keptVolumeId: oldId, ...stateOf(now) };
  } catch (error) {
    throw await undo(done, error, { onProgress });
  }
}

async function findInstance(ec2: EC2Client, instanceId: string): Promise<Instance> {
  const { Reservations = [] } = await ec2.send(new DescribeInstancesCommand({ InstanceIds: [instanceId] }));
  return Reservations[0]?.Instances?.[0] ?? {};
}

function stateOf({ State, PublicIpAddress }: Instance): { state: string; address: string | null } {
  return { state: State?.Name as string, address: PublicIpAddress || null };
}

/** EC2 answers DryRunOperation if it may be done. Only a no counts: another error may be of a state that will change. */
async function expectDryRun(answer: Promise<unknown>): Promise<void> {
  await answer.catch((error: Error) => {
    if (/denied|unauthorized/i.test(error.name)) throw error;
  });
}

// ---- command line: leave out when copying ----
import { confirm, connect, interrupted, print, progress, recipe, sayUndo, yes } from '../../shared/cli.ts';
import { newestInstance, newestVolume } from '../../shared/newest.ts';

recipe(import.meta, (command) =>
  command
    .argument('[instance-id]', 'the instance (default: the newest one of this cookbook)')
    .option('--volume-id <id>', 'the new volume (default: the newest one of this cookbook, with --device)')
    .option('--device <name>', 'device name of the old volume (default: of the root volume)')
    .addOption(yes)
    .action(async (given, { volumeId: named, device }) => {
      // The newest volume may be an empty one.
      if (!device && !named) throw new TypeError('the root volume is swapped for one that you name: --volume-id');
      const ec2 = connect(EC2Client);
      const instanceId = given ?? (await newestInstance(ec2));
      const volumeId = named ?? (await newestVolume(ec2));
      const old = device ? `the volume at ${device}` : 'its root volume';
      await confirm(`Stop ${instanceId}, put ${volumeId} in place of ${old}, and start it again?`);
      const wait = { signal: interrupted(), onProgress: progress };
      const result = await swapVolume(ec2, { instanceId, volumeId, device, ...wait });
      print(result);
      if (result.keptVolumeId) sayUndo(result);
    }),
);
