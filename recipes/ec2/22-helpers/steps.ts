/** What 2.22 does to an instance, and takes back. */
import {
  AttachVolumeCommand,
  DetachVolumeCommand,
  type EC2Client,
  ModifyInstanceAttributeCommand,
  StartInstancesCommand,
  StopInstancesCommand,
  waitUntilInstanceStopped,
  waitUntilVolumeAvailable,
  waitUntilVolumeInUse,
} from '@aws-sdk/client-ec2';
import { waitFor } from '../../../shared/wait.ts';
import { waitUntilStarted } from '../20-change-state.ts';

/** Where a volume is, and whether it is deleted with its instance. */
export interface Place {
  /** The volume. */
  id: string;
  device: string;
  /** Of instances that have several cards for volumes. */
  card?: number;
  deleteOnTermination: boolean;
}

/**
 * The steps of a swap, each of which waits until it is done. None looks before it acts: just after a request EC2 may
 * still tell what was before it. What is done already EC2 does again without a word, or refuses.
 *
 * @param ec2 - Of the instance's region.
 * @param instanceId - The instance.
 * @param wait - What stops the waits, and is called with a text for people.
 * @throws The SDK's errors; TimeoutError.
 * @see https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
 *
 * @example
 * const steps = stepsOn(new EC2Client({}), 'i-0123456789abcdef0', {});
 * await steps.stop();
 * await steps.start();
 */
export function stepsOn(
  ec2: EC2Client,
  instanceId: string,
  wait: { signal?: AbortSignal; onProgress?: (text: string) => void },
) {
  const all = { InstanceIds: [instanceId] };
  // Shutdown scripts, and machines of bare metal, may take long.
  const started = () => waitUntilStarted(ec2, { instanceId, seconds: 900, ...wait });
  const stopped = () => {
    // By a filter: `pending`, as it may still be told of one that is stopped while it starts, would end the waiter.
    const input = { ...all, Filters: [{ Name: 'instance-state-name', Values: ['stopped'] }] };
    return waitFor(waitUntilInstanceStopped, ec2, input, { until: `${instanceId} is stopped`, seconds: 900, ...wait });
  };
  const free = (id: string, seconds?: number) =>
    waitFor(waitUntilVolumeAvailable, ec2, { VolumeIds: [id] }, { until: `${id} is free`, seconds, ...wait });
  return {
    async stop() {
      const stop = () => ec2.send(new StopInstancesCommand(all));
      // While it starts it can't be stopped. If it fails to start, it stops by itself.
      const later = () =>
        started()
          .catch(() => {})
          .then(stop);
      await stop().catch(ifRefused(/^IncorrectInstanceState$/, later));
      await stopped();
    },
    async start() {
      const start = () => ec2.send(new StartInstancesCommand(all));
      await start().catch(ifRefused(/^IncorrectInstanceState$/, () => stopped().then(start)));
      return started();
    },
    async detach(VolumeId: string) {
      const detach = ec2.send(new DetachVolumeCommand({ InstanceId: instanceId, VolumeId }));
      // It is free, or on its way there.
      await detach.catch(ifRefused(/^(IncorrectState|InvalidAttachment\.NotFound)$/, async () => {}));
      await free(VolumeId);
    },
    async attach(place: Place) {
      const { id, device, card: EbsCardIndex } = place;
      const input = { InstanceId: instanceId, VolumeId: id, Device: device, EbsCardIndex };
      const attach = () => ec2.send(new AttachVolumeCommand(input));
      // It is still created, or on its way off; or, after a while, it never left.
      const neverLeft = ifRefused(/^TimeoutError$/, async () => {});
      const later = () => free(id, 60).then(attach, neverLeft);
      await attach().catch(ifRefused(/^(VolumeInUse|IncorrectState)$/, later));
      // The volume is `in-use` while it is still `attaching`. The waiter goes on while nothing fits the filters.
      const there = { status: 'attached', 'instance-id': instanceId, device };
      const Filters = Object.entries(there).map(([name, value]) => ({ Name: `attachment.${name}`, Values: [value] }));
      await waitFor(waitUntilVolumeInUse, ec2, { VolumeIds: [id], Filters }, { until: `${id} is attached`, ...wait });
      await ec2.send(new ModifyInstanceAttributeCommand(keep(instanceId, place)));
    },
  };
}

function ifRefused(names: RegExp, next: () => Promise<unknown>) {
  return (error: Error) => {
    if (!names.test(error.name)) throw error;
    return next();
  };
}

/**
 * Input of ModifyInstanceAttribute that has a volume deleted with its instance, or not: AttachVolume has no parameter
 * for it.
 *
 * @param InstanceId - The instance.
 * @param place - The volume's device name, and whether it is deleted.
 *
 * @example
 * const place = { id: 'vol-0123456789abcdef0', device: '/dev/sdf', deleteOnTermination: true };
 * await new EC2Client({}).send(new ModifyInstanceAttributeCommand(keep('i-0123456789abcdef0', place)));
 */
export function keep(InstanceId: string, { device: DeviceName, deleteOnTermination: DeleteOnTermination }: Place) {
  return { InstanceId, BlockDeviceMappings: [{ DeviceName, Ebs: { DeleteOnTermination } }] };
}
