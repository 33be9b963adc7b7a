/** Parts of a launch's input, for 2.32. */
import type {
  BlockDeviceMapping,
  CapacityReservationSpecification,
  Instance,
  InstanceTypeInfo,
  Volume,
} from '@aws-sdk/client-ec2';

/**
 * A volume, as a launch makes one like it: empty, unless it is the root volume, and encrypted.
 *
 * @param options.device - Its device name.
 * @param options.keep - Whether it stays when the instance is terminated.
 * @param options.card - Of instances that have several cards for volumes.
 * @param options.volume - As DescribeVolumes tells it.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EbsBlockDevice.html
 *
 * @example
 * const mapping = toMapping({ device: '/dev/sdf', keep: true, volume: { Size: 100, VolumeType: 'gp3', Iops: 3000 } });
 * console.log(mapping.Ebs?.VolumeSize);
 */
export function toMapping({
  device,
  keep,
  card,
  volume,
}: {
  device: string;
  keep: boolean;
  card?: number;
  volume: Volume;
}): BlockDeviceMapping {
  const { Size, VolumeType = 'gp3', Iops, Throughput, KmsKeyId } = volume;
  return {
    DeviceName: device,
    Ebs: {
      VolumeSize: Size,
      VolumeType,
      EbsCardIndex: card || undefined,
      // EC2 tells them of other types as well, and refuses them there.
      Iops: /^(gp3|io1|io2)$/.test(VolumeType) ? Iops : undefined,
      Throughput: VolumeType === 'gp3' ? Throughput : undefined,
      Encrypted: true,
      KmsKeyId,
      DeleteOnTermination: !keep,
    },
  };
}

/**
 * An instance's CPU options, but only what is not its type's default: many types refuse to be told.
 *
 * @param instance - As DescribeInstances tells it.
 * @param type - As DescribeInstanceTypes tells it.
 * @returns Undefined when all is the default.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-optimize-cpu.html
 *
 * @example
 * const type = { VCpuInfo: { DefaultCores: 2, DefaultThreadsPerCore: 2 } };
 * console.log(cpuOptions({ CpuOptions: { CoreCount: 2, ThreadsPerCore: 1 } }, type));
 */
export function cpuOptions({ CpuOptions = {} }: Instance, { VCpuInfo = {} }: InstanceTypeInfo): Instance['CpuOptions'] {
  const { CoreCount, ThreadsPerCore, AmdSevSnp, NestedVirtualization } = CpuOptions;
  const isDefault = CoreCount === VCpuInfo.DefaultCores && ThreadsPerCore === VCpuInfo.DefaultThreadsPerCore;
  const options = {
    ...(CoreCount && VCpuInfo.DefaultCores && !isDefault ? { CoreCount, ThreadsPerCore } : {}),
    ...(AmdSevSnp === 'enabled' ? { AmdSevSnp } : {}),
    ...(NestedVirtualization === 'enabled' ? { NestedVirtualization } : {}),
  };
  return Object.keys(options).length > 0 ? options : undefined;
}

/**
 * The capacity reservation that an instance was launched into, or its preference.
 *
 * @param instance - As DescribeInstances tells it.
 * @returns Undefined for an instance of a capacity block or the like, which takes more than on-demand instances do.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CapacityReservationSpecification.html
 *
 * @example
 * const CapacityReservationSpecification = { CapacityReservationPreference: 'open' as const };
 * console.log(capacityReservation({ CapacityReservationSpecification }));
 */
export function capacityReservation({
  InstanceLifecycle,
  CapacityReservationSpecification: specification,
}: Instance): CapacityReservationSpecification | undefined {
  if (/^(capacity-block|interruptible-capacity-reservation)$/.test(`${InstanceLifecycle}`)) return undefined;
  const { CapacityReservationTarget } = specification ?? {};
  // One of the two: both would be an error.
  return CapacityReservationTarget ? { CapacityReservationTarget } : specification;
}
