/** Waits for a volume that was made a moment ago, and can take it back even now: for 2.7 and 2.9. */
import { DeleteVolumeCommand, type EC2Client, waitUntilVolumeAvailable } from '@aws-sdk/client-ec2';
import type { Made } from '../../../shared/undo.ts';
import { waitFor } from '../../../shared/wait.ts';
import { tryAgain } from '../../s3/13-helpers/try-again.ts';

/**
 * Waits until a new volume can be used. What removes it is known from the start, whatever becomes of the wait.
 *
 * @param ec2 - Of the volume's region.
 * @param options.volumeId - The volume, as CreateVolume gave it.
 * @param options.made - Where to add how to remove it.
 * @param options.signal - Ends the wait.
 * @param options.onProgress - Called with a text for people.
 * @throws Error when EC2 gave the volume up, as it does after some seconds where its key may not be used; TimeoutError
 * when it takes too long.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html
 *
 * @example
 * const made: Made[] = [];
 * await waitUntilCreated(new EC2Client({}), { volumeId: 'vol-0123456789abcdef0', made });
 */
export async function waitUntilCreated(
  ec2: EC2Client,
  {
    volumeId,
    made,
    signal,
    onProgress,
  }: { volumeId: string; made: Made[]; signal?: AbortSignal; onProgress?: (text: string) => void },
): Promise<void> {
  const until = `${volumeId} is created`;
  const created = (more: { seconds?: number; signal?: AbortSignal }) =>
    waitFor(waitUntilVolumeAvailable, ec2, { VolumeIds: [volumeId] }, { until, onProgress, ...more });
  let waited = false;
  const remove = async () => {
    // A volume that is still being created can't be deleted, and may not even be known yet.
    if (!waited) await created({ seconds: 60 }).catch(() => {});
    // One that was detached a moment ago may still be told as in use.
    const remove = () => ec2.send(new DeleteVolumeCommand({ VolumeId: volumeId }));
    await tryAgain(remove, { passing: ['VolumeInUse'] }).catch((error: Error) => {
      if (error.name !== 'InvalidVolume.NotFound') throw error;
    });
  };
  made.push({ id: volumeId, remove });
  await created({ signal }).catch((error: Error) => {
    waited = error.name === 'TimeoutError';
    throw error;
  });
  waited = true;
}
