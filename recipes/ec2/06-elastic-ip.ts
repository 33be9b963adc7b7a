/**
 * 2.6 Give an instance an Elastic IP address
 *
 * ## Problem
 * The public address of an instance is another one after each stop and start. You want one that stays, and that you
 * can move to another instance.
 *
 * ## Solution
 * Take the Elastic IP address that the instance has, or a free one with your tags, or allocate one; associate it with
 * the instance. Run it as often as you like.
 *
 * ## Discussion
 * AWS charges for every public IPv4 address since February 2024, in use or not. The Elastic IP address takes the place
 * of the one that the instance got at its launch, so while the instance runs you pay no more than before. It goes on
 * costing while the instance is stopped, and after it is terminated: release it (`--release`, or 1.9). Once the
 * instance is gone, the address is free, and `--release` needs `--allocation-id`.
 *
 * The instance's old address is gone for good. After a release it gets another one within minutes, if it had one at its
 * launch and has a single network interface. A released address may be given to somebody else: take it out of your DNS
 * first.
 *
 * An address that is associated with another instance stays there, unless you name it by `--allocation-id` and add
 * `--allow-reassociation`. If the instance had another Elastic IP address, that one is kept, free, and goes on costing.
 *
 * Addresses belong to a region, and an account may have five in each: `AddressLimitExceeded`; ask for more in Service
 * Quotas. To be reached, the instance's subnet needs a route to an internet gateway, and its security group a rule
 * (2.17). An instance with several network interfaces is refused by EC2: associate the address with one of them. One in
 * a Local Zone or Wavelength Zone takes only addresses of that zone: allocate one by `aws ec2 allocate-address`, with
 * `--network-border-group`, and name it by `--allocation-id`.
 *
 * @before npx tsx recipes/ec2/01-launch-instance.ts --local
 * @run npx tsx recipes/ec2/06-elastic-ip.ts --local --yes
 * @output
 *   instance id    i-efceb0391fe51edca
 *   allocation id  eipalloc-3915079131a2fe6f9
 *   address        127.160.113.97
 *   allocated      yes
 *   taken from     -
 *   replaced       -
 * @permission ec2:DescribeInstances on *
 * @permission ec2:DescribeAddresses on *
 * @permission ec2:AllocateAddress on *
 * @permission ec2:CreateTags on arn:aws:ec2:*:*:elastic-ip/*
 * @permission ec2:AssociateAddress on *
 * @permission ec2:DisassociateAddress on *
 * @permission ec2:ReleaseAddress on arn:aws:ec2:*:*:elastic-ip/*
 * @cost $0.005 an hour, about $3.65 a month, for each address, until it is released (us-east-1, October 2026)
 * @undo npx tsx recipes/setup/09-clean-up.ts {allocationId} --local --yes
 * @emulator LocalStack's addresses lead nowhere, and it leaves an instance its old Elastic IP address beside the new.
 * @book ec2.allocate_address → AllocateAddressCommand
 * @book ec2.associate_address → AssociateAddressCommand
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AssociateAddress.html
 * @see https://docs.aws.amazon.com/vpc/latest/userguide/vpc-eip-overview.html
 * @see https://aws.amazon.com/vpc/pricing/
 */
import {
  AllocateAddressCommand,
  AssociateAddressCommand,
  DescribeAddressesCommand,
  DescribeInstancesCommand,
  DisassociateAddressCommand,
  EC2Client,
  ReleaseAddressCommand,
} from '@aws-sdk/client-ec2';
import { type Made, undo } from '../../shared/undo.ts';
import { whileRefused } from './01-helpers/while-refused.ts';

export interface ElasticIp {
  allocationId: string;
  /** The public IPv4 address. */
  address: string;
  /** The instance that it is associated with; null if there is none. */
  instanceId: string | null;
  /** What associates it, with an instance or something else; null if it is free. */
  associationId: string | null;
  /** The private address that it belongs to; null if it is free. */
  privateAddress: string | null;
}

/** Which address, for which instance. */
export interface Wanted {
  instanceId: string;
  /** By default the instance's own address, a free one with all `tags`, or a new one. */
  allocationId?: string;
  /** To find a free address by, and to put on one that is allocated. None by default. */
  tags?: Record<string, string>;
}

export interface GivenIp {
  instanceId: string;
  allocationId: string;
  address: string;
  /** Whether it was allocated now. */
  allocated: boolean;
  /** The instance that it was taken from; null if there was none. */
  takenFrom: string | null;
  /** Allocation id of the address that the instance had before, which is free now; null if it had none. */
  replaced: string | null;
}

/**
 * Gives an instance an Elastic IP address. Where it has one already, nothing is changed.
 *
 * @param ec2 - Of the instance's region.
 * @param options - Which address for which instance: see `Wanted`.
 * @param options.allowReassociation - Whether the address may be taken from another instance. False by default.
 * @param options.signal - Aborts the work; what was allocated is released.
 * @returns The address, associated with the instance.
 * @throws RangeError when there is no such address.
 * @throws Error when it is in use and may not be taken, or when the instance is gone or not yet there.
 * @throws The SDK's error of the step that failed, once what was allocated is released; its message names what is left.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AssociateAddress.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const { address } = await elasticIp(ec2, { instanceId: 'i-0123456789abcdef0', tags: { service: 'shop' } });
 * console.log(`point the DNS record at ${address}`);
 */
export async function elasticIp(
  ec2: EC2Client,
  { allowReassociation = false, signal, ...wanted }: Wanted & { allowReassociation?: boolean; signal?: AbortSignal },
): Promise<GivenIp> {
  const { instanceId, tags = {} } = wanted;
  const { own, chosen, all } = await findIps(ec2, wanted);
  // To associate it once more would change nothing, but AWS may charge for it.
  if (own && own === chosen) {
    const { allocationId, address } = own;
    return { instanceId, allocationId, address, allocated: false, takenFrom: null, replaced: null };
  }
  if (chosen?.associationId && !allowReassociation) {
    const user = chosen.instanceId ?? 'something that is no instance';
    throw new Error(`${chosen.address} is in use by ${user}; it is taken from there only with allowReassociation`);
  }
  const InstanceIds = [instanceId];
  const { Reservations = [] } = await ec2.send(new DescribeInstancesCommand({ InstanceIds }), { abortSignal: signal });
  const { State, PrivateIpAddress } = Reservations[0]?.Instances?.[0] ?? {};
  if (!/^(running|stopping|stopped)$/.test(`${State?.Name}`))
    throw new Error(`${instanceId} is ${State?.Name}: it takes no address`);
  // Those of its other private addresses stay.
  const replaced = all.find(({ privateAddress }) => (privateAddress ?? PrivateIpAddress) === PrivateIpAddress);
  signal?.throwIfAborted();

  const made: Made[] = [];
  // A new address is not known at once everywhere in EC2.
  const names = ['InvalidAllocationID.NotFound'];
  try {
    let ip: Pick<ElasticIp, 'allocationId' | 'address'> | null = chosen;
    if (!ip) {
      const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
      const TagSpecifications = Tags.length > 0 ? [{ ResourceType: 'elastic-ip' as const, Tags }] : undefined;
      // Not aborted by the signal: an address whose id nobody hears could not be released.
      const { AllocationId, PublicIp } = await ec2.send(
        new AllocateAddressCommand({ Domain: 'vpc', TagSpecifications }),
      );
      const id = AllocationId as string;
      made.push({ id, remove: () => whileRefused(() => releaseIp(ec2, { allocationId: id }), { names }) });
      ip = { allocationId: id, address: PublicIp as string };
      signal?.throwIfAborted();
    }
    const target = { InstanceId: instanceId, AllocationId: ip.allocationId };
    // Not aborted by the signal either: where the address is would be unknown then.
    const associate = () =>
      ec2.send(new AssociateAddressCommand({ ...target, AllowReassociation: allowReassociation }));
    await (chosen ? associate() : whileRefused(associate, { names, signal }));
    return {
      instanceId,
      allocationId: ip.allocationId,
      address: ip.address,
      allocated: !chosen,
      takenFrom: chosen?.instanceId ?? null,
      replaced: replaced?.allocationId ?? null,
    };
  } catch (error) {
    throw await undo(made, error);
  }
}

/**
 * Finds the Elastic IP address that an instance has, and the one that it would be given.
 *
 * @param ec2 - Of the instance's region.
 * @param options - See `Wanted`.
 * @returns The instance's own address, and the chosen one; null where there is none, so that one has to be allocated.
 *   All that the instance has.
 * @throws RangeError when there is no address of this allocation id.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeAddresses.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const { own } = await findIps(ec2, { instanceId: 'i-0123456789abcdef0' });
 * console.log(own?.address ?? 'it has none');
 */
export async function findIps(
  ec2: EC2Client,
  { instanceId, allocationId, tags = {} }: Wanted,
): Promise<{ own: ElasticIp | null; chosen: ElasticIp | null; all: ElasticIp[] }> {
  const { Addresses = [] } = await ec2.send(new DescribeAddressesCommand({}));
  const ips = Addresses.map(({ AllocationId, PublicIp, InstanceId, AssociationId, PrivateIpAddress, Tags = [] }) => ({
    allocationId: AllocationId as string,
    address: PublicIp as string,
    instanceId: InstanceId || null,
    associationId: AssociationId ?? null,
    privateAddress: PrivateIpAddress ?? null,
    tags: Object.fromEntries(Tags.map(({ Key, Value }) => [Key, Value])),
  }));
  const all = ips.filter((ip) => ip.instanceId === instanceId);
  const [own = null] = all;
  if (allocationId) {
    const chosen = ips.find((ip) => ip.allocationId === allocationId);
    if (!chosen) throw new RangeError(`there is no address ${allocationId} in this region`);
    // An instance may have several.
    return { own: chosen.instanceId === instanceId ? chosen : own, chosen, all };
  }
  // Without tags any address of the account would do, and that might be somebody else's.
  const wanted = Object.entries(tags);
  const isFree = (ip: (typeof ips)[0]) => !ip.associationId && wanted.every(([key, value]) => ip.tags[key] === value);
  return { own, chosen: own ?? (wanted.length > 0 ? (ips.find(isFree) ?? null) : null), all };
}

/**
 * Takes an Elastic IP address from what it is associated with, and gives it back to AWS.
 *
 * @param ec2 - Of the address's region.
 * @param options.allocationId - The address.
 * @returns The address that was released, and the instance that had it.
 * @throws InvalidAllocationID.NotFound when there is no such address.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ReleaseAddress.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const { address } = await releaseIp(ec2, { allocationId: 'eipalloc-0123456789abcdef0' });
 * console.log(`take ${address} out of the DNS`);
 */
export async function releaseIp(
  ec2: EC2Client,
  { allocationId }: { allocationId: string },
): Promise<{ allocationId: string; address: string; instanceId: string | null; released: true }> {
  // By a filter, which finds nothing where the id of a new address would be an error.
  const Filters = [{ Name: 'allocation-id', Values: [allocationId] }];
  const { Addresses: [ip] = [] } = await ec2.send(new DescribeAddressesCommand({ Filters }));
  // Outside a default VPC, EC2 refuses to release an address that is associated.
  const { AssociationId } = ip ?? {};
  if (AssociationId) {
    await ec2.send(new DisassociateAddressCommand({ AssociationId })).catch((error) => {
      // It goes by itself with an instance that is terminated, and may be told of for some time after.
      if (error.name !== 'InvalidAssociationID.NotFound') throw error;
    });
  }
  await ec2.send(new ReleaseAddressCommand({ AllocationId: allocationId }));
  return { allocationId, address: ip?.PublicIp as string, instanceId: ip?.InstanceId || null, released: true };
}

// ---- command line: leave out when copying ----
import { confirm, connect, interrupted, local, print, recipe, sayUndo, tags, yes } from '../../shared/cli.ts';
import { newestInstance } from '../../shared/newest.ts';

recipe(import.meta, (command) =>
  command
    .argument('[instance-id]', 'the instance (default: the newest one of this cookbook)')
    .option('--allocation-id <id>', 'the address: eipalloc-…')
    .option('--allow-reassociation', 'take the address from another instance')
    .option('--release', "release the instance's address, or the free one that is named, instead")
    .addOption(yes)
    .action(async (given, { allocationId, release, allowReassociation }) => {
      const ec2 = connect(EC2Client);
      // A free address can be released when no instance is there any more.
      const noneNeeded = (error: Error) => (release && allocationId ? 'the instance' : Promise.reject(error));
      const instanceId = given ?? (await newestInstance(ec2).catch(noneNeeded));
      const wanted = { instanceId, allocationId, tags: tags() };
      const { own, chosen } = await findIps(ec2, wanted);
      if (release) {
        const ip = allocationId ? chosen : own;
        if (!ip || (ip.associationId && ip !== own)) throw new Error(`${instanceId} has no such Elastic IP address`);
        const named = ip.instanceId ? `${ip.address} of ${ip.instanceId}` : ip.address;
        await confirm(`Release ${named}? Somebody else may get it.`);
        return print(await releaseIp(ec2, ip));
      }
      if (!chosen && !local()) await confirm('Allocate an address, for $0.005 an hour until it is released?');
      const result = await elasticIp(ec2, { ...wanted, allowReassociation, signal: interrupted() });
      print(result);
      if (result.allocated) sayUndo(result);
    }),
);
