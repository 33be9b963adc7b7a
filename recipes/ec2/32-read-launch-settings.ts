/**
 * 2.32 Read launch settings
 *
 * ## Problem
 * There is an instance that somebody set up long ago, by hand. You want to know all that one more like it would have
 * to be launched with: to write it down, to compare two instances, or to launch another (2.10).
 *
 * ## Solution
 * Ask for the instance, its attributes, its CPU credits, its volumes and its type, which are five different calls. Put
 * the answers together as the input of RunInstances, and list what no launch can repeat.
 *
 * ## Discussion
 * With `--json` the settings are printed as RunInstances takes them, user data included: base64, as EC2 gave it and wants
 * it. To decode it as text on the way would break data that is compressed. (The AWS CLI and boto3 encode user data
 * themselves.) It may hold secrets, so the table shows only its length.
 *
 * RunInstances takes some settings only where they fit: credits for burstable types (t3, t4g, …), CPU options for types
 * that have a choice, I/O operations for gp3, io1 and io2. What is the type's own default is left out.
 *
 * Volumes are read with size, type and speed. A launch makes data volumes empty; 2.10 fills them from snapshots. The
 * root volume gets the image's data. Encryption is always on; a volume's key is kept. Other volumes of the image come,
 * too, which the instance may not have any more: `NoDevice: ''` for their device leaves them out, as in 2.10.
 *
 * Protection against stopping and terminating is in the list of differences, not in the settings: with it on, a launch
 * that fails half-way can't be taken back. Tags that begin with `aws:` are AWS's own and can't be set. Tags of volumes
 * are not taken over, those of network interfaces not even read. Secondary network interfaces are only listed.
 *
 * What is set inside of the machine (packages, users, files) is in the image or in the user data, or not at all.
 *
 * @before npx tsx recipes/ec2/01-launch-instance.ts --local
 * @run npx tsx recipes/ec2/32-read-launch-settings.ts --local
 * @output
 *   setting                                        value
 *   instance                                       i-cd76d394b2c2af459
 *   MinCount                                       1
 *   MaxCount                                       1
 *   ImageId                                        ami-0532be01f26a3de55
 *   InstanceType                                   t3.micro
 *   KeyName                                        paws
 *   NetworkInterfaces.0.DeviceIndex                0
 *   NetworkInterfaces.0.SubnetId                   subnet-adb13ed6b2c12ab58
 *   NetworkInterfaces.0.Groups.0                   sg-4e58380493af0dbfe
 *   NetworkInterfaces.0.AssociatePublicIpAddress   yes
 *   BlockDeviceMappings.0.DeviceName               /dev/xvda
 *   BlockDeviceMappings.0.Ebs.VolumeSize           15
 *   BlockDeviceMappings.0.Ebs.VolumeType           gp3
 *   BlockDeviceMappings.0.Ebs.Iops                 3000
 *   BlockDeviceMappings.0.Ebs.Encrypted            yes
 *   BlockDeviceMappings.0.Ebs.KmsKeyId             arn:aws:kms:us-east-1:106614284902:key/87816366-b8c4-438c-9187-8982b39d260a
 *   BlockDeviceMappings.0.Ebs.DeleteOnTermination  yes
 *   Monitoring.Enabled                             no
 *   Placement.Tenancy                              default
 *   MetadataOptions.HttpTokens                     required
 *   MetadataOptions.HttpPutResponseHopLimit        1
 *   MetadataOptions.HttpEndpoint                   enabled
 *   MetadataOptions.HttpProtocolIpv6               disabled
 *   MetadataOptions.InstanceMetadataTags           disabled
 *   CreditSpecification.CpuCredits                 standard
 *   InstanceInitiatedShutdownBehavior              stop
 *   TagSpecifications.0.ResourceType               instance
 *   TagSpecifications.0.Tags.0.Key                 paws
 *   TagSpecifications.0.Tags.0.Value               2.1
 *   different                                      addresses: other than 10.28.150.174 and 54.214.76.2
 *   different                                      root volume: as in the image
 *   different                                      /dev/xvda: without its tags
 * @permission ec2:DescribeInstances on *
 * @permission ec2:DescribeInstanceAttribute on *
 * @permission ec2:DescribeInstanceTypes on *
 * @permission ec2:DescribeInstanceCreditSpecifications on *
 * @permission ec2:DescribeVolumes on *
 * @cost nothing
 * @undo nothing
 * @emulator LocalStack keeps no CPU options, credits or placement group, and no I/O operations of a volume of an instance:
 * the test gives such answers itself.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceAttribute.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html
 */
import {
  type _InstanceType,
  DescribeInstanceAttributeCommand,
  DescribeInstanceCreditSpecificationsCommand,
  DescribeInstancesCommand,
  DescribeInstanceTypesCommand,
  EC2Client,
  type Instance,
  type InstanceAttribute,
  type InstanceNetworkInterface,
  paginateDescribeVolumes,
  type RunInstancesCommandInput,
  type ShutdownBehavior,
  type Volume,
} from '@aws-sdk/client-ec2';
import { capacityReservation, cpuOptions, toMapping } from './32-helpers/launch-parts.ts';

export interface LaunchSettings {
  instanceId: string;
  /** The input of RunInstances that launches one more. Its first block device is the root volume. */
  settings: RunInstancesCommandInput;
  /** The volumes beside the root volume. A launch makes them empty. */
  dataVolumes: { device: string; volumeId: string }[];
  /** What will be different, in words. */
  differences: string[];
}

/**
 * Reads from an instance what one more like it has to be launched with.
 *
 * @param ec2 - Of the instance's region.
 * @param options.instanceId - The instance; not terminated.
 * @param options.signal - Aborts the reading.
 * @returns The input of RunInstances, and what will be different all the same.
 * @throws InvalidInstanceID.NotFound when there is no such instance; Error when it is terminated.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const { settings } = await readLaunchSettings(ec2, { instanceId: 'i-0123456789abcdef0' });
 * console.log(settings.InstanceType, settings.ImageId);
 */
export async function readLaunchSettings(
  ec2: EC2Client,
  { instanceId, signal }: { instanceId: string; signal?: AbortSignal },
): Promise<LaunchSettings> {
  const abort = { abortSignal: signal };
  const { Reservations = [] } = await ec2.send(new DescribeInstancesCommand({ InstanceIds: [instanceId] }), abort);
  const instance = Reservations[0]?.Instances?.[0] as Instance;
  const state = instance.State?.Name;
  if (state === 'terminated' || state === 'shutting-down') {
    throw new Error(`${instanceId} is ${state}: EC2 has forgotten what it was launched with`);
  }

  // EC2 tells one of them a call.
  const names = ['userData', 'instanceInitiatedShutdownBehavior', 'disableApiTermination', 'disableApiStop'] as const;
  const commands = names.map(
    (Attribute) => new DescribeInstanceAttributeCommand({ InstanceId: instanceId, Attribute }),
  );
  const answers = await Promise.all(commands.map((command) => ec2.send(command, abort)));
  const attributes: InstanceAttribute = Object.assign({}, ...answers);

  const { InstanceType, InstanceLifecycle, Placement, IamInstanceProfile } = instance;
  const { State: _, ...metadata } = instance.MetadataOptions ?? {};
  const typeInput = { InstanceTypes: [InstanceType as _InstanceType] };
  const { InstanceTypes: [type = {}] = [] } = await ec2.send(new DescribeInstanceTypesCommand(typeInput), abort);
  let credits: string | undefined;
  // Of another type this would be an error.
  if (type.BurstablePerformanceSupported) {
    const command = new DescribeInstanceCreditSpecificationsCommand({ InstanceIds: [instanceId] });
    credits = (await ec2.send(command, abort)).InstanceCreditSpecifications?.[0]?.CpuCredits;
  }

  const volumes: Volume[] = [];
  const Filters = [{ Name: 'attachment.instance-id', Values: [instanceId] }];
  for await (const { Volumes = [] } of paginateDescribeVolumes({ client: ec2 }, { Filters }, abort)) {
    volumes.push(...Volumes);
  }
  const devices = (instance.BlockDeviceMappings ?? []).map(({ DeviceName = '', Ebs }) => ({
    device: DeviceName,
    volumeId: Ebs?.VolumeId as string,
    keep: Ebs?.DeleteOnTermination === false,
    card: Ebs?.EbsCardIndex,
    volume: volumes.find(({ VolumeId }) => VolumeId === Ebs?.VolumeId) ?? {},
  }));
  const isRoot = ({ device }: { device: string }) => device === instance.RootDeviceName;
  const data = devices.filter((one) => !isRoot(one));

  const [primary, ...others] = [...(instance.NetworkInterfaces ?? [])].sort((a, b) => position(a) - position(b));
  const { EnaQueueCount, EnaSrdSpecification } = primary?.Attachment ?? {};
  const usualQueues = type.NetworkInfo?.NetworkCards?.[0]?.DefaultEnaQueueCountPerInterface ?? EnaQueueCount;
  const tags = instance.Tags ?? [];
  const isOwn = ({ Key = '' }) => !Key.startsWith('aws:');
  const ownTags = tags.filter(isOwn);
  const settings: RunInstancesCommandInput = {
    MinCount: 1,
    MaxCount: 1,
    ImageId: instance.ImageId,
    InstanceType,
    KeyName: instance.KeyName,
    // Base64, as it came.
    UserData: attributes.UserData?.Value || undefined,
    NetworkInterfaces: [
      {
        DeviceIndex: 0,
        SubnetId: instance.SubnetId,
        Groups: primary?.Groups?.map(({ GroupId }) => GroupId as string),
        // A stopped instance has no public address, and doesn't tell whether it had one: then the subnet decides.
        AssociatePublicIpAddress: state === 'running' ? instance.PublicIpAddress !== undefined : undefined,
        SecondaryPrivateIpAddressCount: (primary?.PrivateIpAddresses ?? []).slice(1).length || undefined,
        Ipv4PrefixCount: primary?.Ipv4Prefixes?.length || undefined,
        Ipv6AddressCount: primary?.Ipv6Addresses?.length || undefined,
        Ipv6PrefixCount: primary?.Ipv6Prefixes?.length || undefined,
        PrimaryIpv6: primary?.Ipv6Addresses?.some(({ IsPrimaryIpv6 }) => IsPrimaryIpv6) || undefined,
        EnaSrdSpecification,
        EnaQueueCount: EnaQueueCount === usualQueues ? undefined : EnaQueueCount,
        ConnectionTrackingSpecification: primary?.ConnectionTrackingConfiguration,
        InterfaceType: primary?.InterfaceType === 'efa' ? 'efa' : undefined,
      },
    ],
    BlockDeviceMappings: [...devices.filter(isRoot), ...data].map(toMapping),
    IamInstanceProfile: IamInstanceProfile && { Arn: IamInstanceProfile.Arn },
    Monitoring: { Enabled: /enabled|pending/.test(instance.Monitoring?.State ?? '') },
    EbsOptimized: instance.EbsOptimized || undefined,
    Placement: Placement && {
      Tenancy: Placement.Tenancy,
      // One of the two: both would be an error. The zone is the subnet's.
      GroupId: Placement.GroupId,
      GroupName: Placement.GroupId ? undefined : Placement.GroupName || undefined,
      PartitionNumber: Placement.PartitionNumber,
      HostResourceGroupArn: Placement.HostResourceGroupArn,
      Affinity: Placement.Affinity,
      // Without affinity, any host of yours will do.
      HostId: Placement.Affinity === 'host' ? Placement.HostId : undefined,
    },
    // With the endpoint off, EC2 allows no more options.
    MetadataOptions: metadata.HttpEndpoint === 'disabled' ? { HttpEndpoint: 'disabled' } : metadata,
    CreditSpecification: credits ? { CpuCredits: credits } : undefined,
    CpuOptions: cpuOptions(instance, type),
    InstanceInitiatedShutdownBehavior: attributes.InstanceInitiatedShutdownBehavior?.Value as ShutdownBehavior,
    HibernationOptions: instance.HibernationOptions?.Configured ? { Configured: true } : undefined,
    EnclaveOptions: instance.EnclaveOptions?.Enabled ? { Enabled: true } : undefined,
    MaintenanceOptions:
      instance.MaintenanceOptions?.AutoRecovery === 'disabled' ? { AutoRecovery: 'disabled' } : undefined,
    PrivateDnsNameOptions: instance.PrivateDnsNameOptions,
    NetworkPerformanceOptions:
      instance.NetworkPerformanceOptions?.BandwidthWeighting === 'default'
        ? undefined
        : instance.NetworkPerformanceOptions,
    LicenseSpecifications: instance.Licenses?.length ? instance.Licenses : undefined,
    CapacityReservationSpecification: capacityReservation(instance),
    TagSpecifications: ownTags.length > 0 ? [{ ResourceType: 'instance', Tags: ownTags }] : undefined,
  };

  const secondary = (instance.SecondaryInterfaces ?? []).map((one) => one.SecondaryInterfaceId);
  const addresses = [
    ...(primary?.PrivateIpAddresses ?? []).flatMap((one) => [one.PrivateIpAddress, one.Association?.PublicIp]),
    ...(primary?.Ipv6Addresses ?? []).map(({ Ipv6Address }) => Ipv6Address),
  ].filter((address) => address !== undefined);
  const differences = [
    `addresses: other than ${addresses.join(' and ')}`,
    ...(state === 'running' ? [] : ['public address: as the subnet has it']),
    ...(devices.some(isRoot) ? ['root volume: as in the image'] : []),
    ...(type.InstanceStorageSupported ? ['instance store: empty'] : []),
    ...devices.filter(({ volume }) => !volume.Encrypted).map(({ device }) => `${device}: encrypted`),
    ...devices.filter(({ volume }) => volume.Tags?.length).map(({ device }) => `${device}: without its tags`),
    ...[...others.map((one) => one.NetworkInterfaceId), ...secondary].map((id) => `${id}: left out`),
    ...(InstanceLifecycle ? [`${InstanceLifecycle}: on demand instead`] : []),
    ...(attributes.DisableApiTermination?.Value ? ['termination protection: off'] : []),
    ...(attributes.DisableApiStop?.Value ? ['stop protection: off'] : []),
    ...(instance.MaintenanceOptions?.RebootMigration === 'disabled' ? ['migration when it is rebooted: default'] : []),
    ...(instance.SourceDestCheck === false ? ['source/destination check: on'] : []),
    ...tags.filter((tag) => !isOwn(tag)).map(({ Key }) => `tag ${Key}: left out`),
  ];
  return { instanceId, settings, dataVolumes: data.map(({ device, volumeId }) => ({ device, volumeId })), differences };
}

/** The primary network interface has the first position of the first card. */
function position({ Attachment }: InstanceNetworkInterface): number {
  return (Attachment?.NetworkCardIndex ?? 0) * 100 + (Attachment?.DeviceIndex ?? 0);
}

// ---- command line: leave out when copying ----
import { connect, interrupted, json, print, recipe } from '../../shared/cli.ts';
import { newestInstance } from '../../shared/newest.ts';

/** One row for each setting, however deep it is. */
function rows(value: unknown, setting: string): { setting: string; value: unknown }[] {
  if (value === undefined) return [];
  if (setting === 'UserData') return [{ setting, value: `${`${value}`.length} characters of base64` }];
  if (typeof value !== 'object' || value === null) return [{ setting, value }];
  return Object.entries(value).flatMap(([name, inner]) => rows(inner, setting ? `${setting}.${name}` : name));
}

recipe(import.meta, (command) =>
  command.argument('[instance-id]', 'the instance (default: the newest one of this cookbook)').action(async (given) => {
    const ec2 = connect(EC2Client);
    const instanceId = given ?? (await newestInstance(ec2));
    const result = await readLaunchSettings(ec2, { instanceId, signal: interrupted() });
    const differences = result.differences.map((value) => ({ setting: 'different', value }));
    print(json() ? result : [{ setting: 'instance', value: instanceId }, ...rows(result.settings, ''), ...differences]);
  }),
);
