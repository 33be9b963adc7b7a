/**
 * 2.31 Detach a volume
 *
 * ## Problem
 * A volume is to leave its instance: to go to another one, to be deleted, or to be kept while the instance goes.
 *
 * ## Solution
 * Unmount it. Detach it from the instance that has it, and wait until EC2 says that it is free.
 *
 * ## Discussion
 * Unmount it in the instance first: `sudo umount /data`. What is not written yet is lost otherwise, or the volume hangs
 * in `busy` until it is unmounted or the instance reboots. It is waited for five minutes; Ctrl-C ends the wait, but not
 * the detaching. Forcing (`aws ec2 detach-volume --force`) can damage the file system: it is not done here.
 *
 * EC2 refuses to take the root volume from a running instance: stop that first (2.20). 2.22 puts another volume in
 * its place. An instance that is hibernated still has the volume mounted: start and stop it first.
 *
 * A volume that is on several instances (Multi-Attach, of io1 and io2) is taken from all of them.
 *
 * A detached volume stays when its instance is terminated, and goes on costing. The device name and whether the volume
 * is deleted with the instance are forgotten; 2.7 attaches it again. Of one that is free, nothing is changed.
 *
 * @before npx tsx recipes/ec2/01-launch-instance.ts --local
 * @before npx tsx recipes/ec2/07-attach-volume.ts --size 8 --local
 * @run npx tsx recipes/ec2/31-detach-volume.ts --local --yes
 * @output
 *   volume id     vol-44eb3683cbdf85167
 *   instance ids  i-ece950e102d1569c5
 *   devices       /dev/sdf
 * @permission ec2:DescribeVolumes on *
 * @permission ec2:DetachVolume on *
 * @cost nothing new; the volume costs as before, until it is deleted
 * @undo npx tsx recipes/ec2/07-attach-volume.ts {instanceIds} --volume-id {volumeId} --device {devices} --local
 * @emulator LocalStack detaches at once, mounted or not, and the root volume of a running instance, too.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DetachVolume.html
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/ebs-detaching-volume.html
 */
import { DescribeVolumesCommand, DetachVolumeCommand, EC2Client, waitUntilVolumeAvailable } from '@aws-sdk/client-ec2';
import { waitFor } from '../../shared/wait.ts';

export interface DetachedVolume {
  volumeId: string;
  /** The instances that had it: none if it was free, several only with Multi-Attach. */
  instanceIds: string[];
  /** The device name that it had on each of them. */
  devices: string[];
}

/**
 * Detaches a volume from whatever instance has it, and waits until it is free. Unmount it before.
 *
 * @param ec2 - Of the volume's region.
 * @param options.volumeId - The volume; it may be free already.
 * @param options.signal - Aborts the wait, but not the detaching once it has begun.
 * @param options.onProgress - Called with a text for people.
 * @returns Where it was.
 * @throws InvalidVolume.NotFound when there is no such volume, or when it is being deleted; the SDK's error when it may
 *   not be detached; TimeoutError when it hangs.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DetachVolume.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const { instanceIds } = await detachVolume(ec2, { volumeId: 'vol-0123456789abcdef0' });
 * console.log(`it was on ${instanceIds.join(', ') || 'no instance'}`);
 */
export async function detachVolume(
  ec2: EC2Client,
  { volumeId, signal, onProgress }: { volumeId: string; signal?: AbortSignal; onProgress?: (text: string) => void },
): Promise<DetachedVolume> {
  const VolumeIds = [volumeId];
  const { Volumes: [volume] = [] } = await ec2.send(new DescribeVolumesCommand({ VolumeIds }), { abortSignal: signal });
  if (/^delet/.test(`${volume?.State}`)) {
    throw Object.assign(new Error(`${volumeId} is ${volume?.State}`), { name: 'InvalidVolume.NotFound' });
  }
  const attachments = volume?.Attachments ?? [];
  for (const { InstanceId, State } of attachments) {
    // Whoever detaches it already is only waited for.
    if (State !== 'detaching') await ec2.send(new DetachVolumeCommand({ VolumeId: volumeId, InstanceId }));
  }
  // One that could not be created is nowhere, and never available.
  if (volume?.State !== 'error') {
    const until = `${volumeId} is detached`;
    await waitFor(waitUntilVolumeAvailable, ec2, { VolumeIds }, { until, signal, onProgress });
  }
  return {
    volumeId,
    instanceIds: attachments.map(({ InstanceId }) => InstanceId as string),
    devices: attachments.map(({ Device }) => Device as string),
  };
}

// ---- command line: leave out when copying ----
import { confirm, connect, interrupted, print, progress, recipe, sayUndo, yes } from '../../shared/cli.ts';
import { newestVolume } from '../../shared/newest.ts';

recipe(import.meta, (command) =>
  command
    .argument('[volume-id]', 'the volume (default: the newest one of this cookbook)')
    .addOption(yes)
    .action(async (given) => {
      const ec2 = connect(EC2Client);
      const volumeId = given ?? (await newestVolume(ec2));
      await confirm(`Detach ${volumeId}? What is not written to it yet is lost: unmount it first.`);
      const result = await detachVolume(ec2, { volumeId, signal: interrupted(), onProgress: progress });
      print(result);
      // The command that undoes it attaches to one instance.
      if (result.instanceIds.length === 1) sayUndo(result);
    }),
);
