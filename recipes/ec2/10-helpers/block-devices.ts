/** Block devices as RunInstances takes them, for 2.10. */
import type { BlockDeviceMapping, Image } from '@aws-sdk/client-ec2';
import type { LaunchSettings } from '../32-read-launch-settings.ts';

/**
 * The block devices of a clone.
 *
 * @param original - What `readLaunchSettings` told of the original.
 * @param image - The image of the clone's root volume.
 * @param sources - The snapshots of the data volumes; those that have none are left out.
 */
export function toMappings(
  { settings, dataVolumes }: LaunchSettings,
  image: Image,
  sources: { device: string; snapshotId: string }[],
): BlockDeviceMapping[] {
  const isData = (device?: string) => dataVolumes.some((one) => one.device === device);
  const mappings = (settings.BlockDeviceMappings ?? []).flatMap((mapping) => {
    // Under another name than the image's own it would be one more volume.
    if (!isData(mapping.DeviceName)) return { ...mapping, DeviceName: image.RootDeviceName };
    const source = sources.find(({ device }) => device === mapping.DeviceName);
    return source ? { ...mapping, Ebs: { ...mapping.Ebs, SnapshotId: source.snapshotId } } : [];
  });
  // What the image would add by itself and the original hasn't got.
  const added = (image.BlockDeviceMappings ?? []).filter(
    ({ Ebs, DeviceName }) => Ebs && !mappings.some((mapping) => mapping.DeviceName === DeviceName),
  );
  return [...mappings, ...added.map(({ DeviceName }) => ({ DeviceName, NoDevice: '' }))];
}

/** The same, deleted with the instance or not. */
export function withDeleteOnTermination(mapping: BlockDeviceMapping, value: boolean): BlockDeviceMapping {
  return mapping.Ebs ? { ...mapping, Ebs: { ...mapping.Ebs, DeleteOnTermination: value } } : mapping;
}
