/** Deletes a volume, wherever it is attached, and sees when it goes by itself. */
import { DeleteVolumeCommand, type EC2Client } from '@aws-sdk/client-ec2';
import { detachVolume } from '../../ec2/31-detach-volume.ts';

/**
 * Detaches a volume and deletes it.
 *
 * @param ec2 - Of the volume's region.
 * @param options.volumeId - The volume. The root volume of an instance goes with that, which may be under way.
 * @param options.signal - Ends the wait until it is detached.
 * @throws InvalidVolume.NotFound when there is none, or when it goes meanwhile.
 */
export async function deleteVolume(
  ec2: EC2Client,
  { volumeId, signal }: { volumeId: string; signal?: AbortSignal },
): Promise<void> {
  // The SDK's waiter takes a volume that is not there for one that is not yet free, and asks on for minutes.
  const gone = new AbortController();
  const send = async (...call: never[]) => {
    try {
      return await (ec2.send as (...call: never[]) => Promise<unknown>)(...call);
    } catch (error) {
      if ((error as Error).name === 'InvalidVolume.NotFound') gone.abort(error);
      throw error;
    }
  };
  const watched = Object.create(ec2, { send: { value: send } }) as EC2Client;
  const either = signal ? AbortSignal.any([gone.signal, signal]) : gone.signal;
  await detachVolume(watched, { volumeId, signal: either });
  await ec2.send(new DeleteVolumeCommand({ VolumeId: volumeId }));
}
