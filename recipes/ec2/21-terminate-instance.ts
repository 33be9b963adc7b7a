/**
 * 2.21 Terminate an instance
 *
 * ## Problem
 * You don't need an instance any more, and want it gone, without leaving anything behind that you still pay for.
 *
 * ## Solution
 * Look first at what the instance would leave: volumes that are not deleted with it, and Elastic IP addresses.
 * Say so and ask. Then terminate it and wait until it is gone.
 *
 * ## Discussion
 * Terminating is for good: the root volume goes with the instance unless it was launched otherwise, and what was
 * in memory or on instance store is lost. To keep the instance and pay for its volumes only, stop it (2.20).
 *
 * Volumes attached after the launch stay, and so does an Elastic IP address; both go on costing. Security groups
 * and key pairs stay as well, but are free.
 *
 * An instance with termination protection is refused with `OperationNotPermitted`, a stopped one too. To lift it:
 * `aws ec2 modify-instance-attribute --instance-id ID --no-disable-api-termination`. Stop protection refuses it as well,
 * and is another attribute: `--no-disable-api-stop`.
 *
 * An instance of an Auto Scaling group is replaced by a new one as soon as it is gone, and so is one of a persistent
 * Spot request: cancel that first (`aws ec2 cancel-spot-instance-requests --spot-instance-request-ids ID`).
 *
 * A terminated instance is listed for about an hour more, without costing, so a second run finds it again.
 *
 * @before npx tsx recipes/ec2/01-launch-instance.ts --local
 * @run npx tsx recipes/ec2/21-terminate-instance.ts --local --yes
 * @output
 *   instance id     i-0abcdef1234567890
 *   state           terminated
 *   kept volumes    -
 *   kept addresses  -
 *   spot request    -
 * @permission ec2:DescribeInstances on *
 * @permission ec2:DescribeAddresses on *
 * @permission ec2:TerminateInstances on arn:aws:ec2:*:*:instance/*
 * @cost nothing for the instance any more; for kept volumes and addresses as before
 * @undo nothing
 * @emulator LocalStack terminates at once, EC2 takes a minute or more: shutdown scripts run first.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_TerminateInstances.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/terminating-instances.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-stop-protection.html
 */
import {
  DescribeAddressesCommand,
  DescribeInstancesCommand,
  EC2Client,
  TerminateInstancesCommand,
  waitUntilInstanceTerminated,
} from '@aws-sdk/client-ec2';
import { waitFor } from '../../shared/wait.ts';
import { tryAgain } from '../s3/13-helpers/try-again.ts';

export interface Kept {
  /** Volumes that stay when the instance is terminated. */
  keptVolumes: string[];
  /** Elastic IP addresses that stay, as allocation ids. */
  keptAddresses: string[];
  /** The Spot request that launched it, and launches another if it is persistent; null for an on-demand instance. */
  spotRequest: string | null;
}

export interface TerminatedInstance extends Kept {
  instanceId: string;
  /** `terminated` */
  state: string;
}

/**
 * Terminates an instance and waits until it is gone.
 *
 * @param ec2 - Of the instance's region.
 * @param options.instanceId - The instance.
 * @param options.isNew - Launched a moment ago, so that EC2 may not know it yet, and what stays of it is not known
 *   for sure. False by default.
 * @param options.signal - Aborts the wait; the instance is still terminated.
 * @param options.onProgress - Called each second with a text for people.
 * @returns The instance, and what stays of it. Of an instance that was terminated before, EC2 knows no more.
 * @throws OperationNotPermitted when the instance is protected; InvalidInstanceID.NotFound when there is none.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_TerminateInstances.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const { keptVolumes } = await terminateInstance(ec2, { instanceId: 'i-0123456789abcdef0' });
 * console.log(`still there: ${keptVolumes.join(', ')}`);
 */
export async function terminateInstance(
  ec2: EC2Client,
  {
    instanceId,
    isNew = false,
    signal,
    onProgress,
  }: { instanceId: string; isNew?: boolean; signal?: AbortSignal; onProgress?: (text: string) => void },
): Promise<TerminatedInstance> {
  const InstanceIds = [instanceId];
  const terminate = () => ec2.send(new TerminateInstancesCommand({ InstanceIds }), { abortSignal: signal });
  // That a new one ends counts more than what stays of it, which EC2 may not tell yet.
  if (isNew) await tryAgain(terminate, { tries: 7, passing: ['InvalidInstanceID.NotFound'], signal });
  const kept = await findKept(ec2, { instanceId }).catch((error): Kept => {
    if (!isNew) throw error;
    return { keptVolumes: [], keptAddresses: [], spotRequest: null };
  });
  if (!isNew) await terminate();
  await waitFor(
    waitUntilInstanceTerminated,
    ec2,
    // By a filter: an answer that is a moment old, with another state, would end the waiter for good.
    { InstanceIds, Filters: [{ Name: 'instance-state-name', Values: ['terminated'] }] },
    {
      until: `${instanceId} is terminated`,
      // Shutdown scripts may take long.
      seconds: 900,
      signal,
      onProgress,
    },
  );
  return { instanceId, state: 'terminated', ...kept };
}

/**
 * Finds what an instance would leave behind, and what would go on costing.
 *
 * @param ec2 - Of the instance's region.
 * @param options.instanceId - The instance.
 * @returns Ids of volumes, of Elastic IP addresses, and of a Spot request; network interfaces of your own are not looked at.
 * @throws InvalidInstanceID.NotFound when there is no such instance.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/preserving-volumes-on-termination.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const { keptVolumes } = await findKept(ec2, { instanceId: 'i-0123456789abcdef0' });
 * console.log(keptVolumes);
 */
export async function findKept(ec2: EC2Client, { instanceId }: { instanceId: string }): Promise<Kept> {
  const { Reservations = [] } = await ec2.send(new DescribeInstancesCommand({ InstanceIds: [instanceId] }));
  const { BlockDeviceMappings = [], SpotInstanceRequestId } = Reservations[0]?.Instances?.[0] ?? {};
  const Filters = [{ Name: 'instance-id', Values: [instanceId] }];
  const { Addresses = [] } = await ec2.send(new DescribeAddressesCommand({ Filters }));
  return {
    keptVolumes: BlockDeviceMappings.filter(({ Ebs }) => Ebs?.DeleteOnTermination === false).map(
      ({ Ebs }) => Ebs?.VolumeId as string,
    ),
    keptAddresses: Addresses.map(({ AllocationId }) => AllocationId as string),
    spotRequest: SpotInstanceRequestId || null,
  };
}

// ---- command line: leave out when copying ----
import { confirm, connect, interrupted, print, progress, recipe, yes } from '../../shared/cli.ts';
import { newestInstance } from '../../shared/newest.ts';

recipe(import.meta, (command) =>
  command
    .argument('[instance-id]', 'the instance (default: the newest one of this cookbook)')
    .addOption(yes)
    .action(async (given) => {
      const ec2 = connect(EC2Client);
      const instanceId = given ?? (await newestInstance(ec2));
      const { keptVolumes, keptAddresses, spotRequest } = await findKept(ec2, { instanceId });
      const kept = [...keptVolumes, ...keptAddresses].join(', ');
      const stays = kept ? `These stay and go on costing: ${kept}.` : 'No volume or address of it stays.';
      const again = spotRequest ? ` If ${spotRequest} is persistent, it launches another: cancel it first.` : '';
      await confirm(`Terminate ${instanceId} for good? ${stays}${again}`);
      print(await terminateInstance(ec2, { instanceId, signal: interrupted(), onProgress: progress }));
    }),
);
