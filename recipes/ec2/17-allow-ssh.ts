/**
 * 2.17 Allow SSH
 *
 * ## Problem
 * A new instance can't be reached: its security group lets nothing in. You want to let SSH in, from your own
 * address and from nowhere else.
 *
 * ## Solution
 * Find a security group by its name, or create it, and add a rule for port 22 and your address. Run it as often
 * as you like; run it again when your address has changed.
 *
 * ## Discussion
 * The book let in 0.0.0.0/0, the whole world. Such an instance sees its first login attempts within minutes; so
 * this takes one address, and the world only if it is typed and confirmed. Old rules stay: look at them with
 * `aws ec2 describe-security-group-rules`, and take one away with `aws ec2 revoke-security-group-ingress --group-id GROUP
 * --security-group-rule-ids RULE`.
 *
 * Everything that uses the group is opened; a new group also lets all traffic out. To be reached, an instance needs
 * a public address and a route besides.
 *
 * A group belongs to one VPC; this one goes into the default VPC unless you name another. A region without a
 * default VPC gets a new one by `aws ec2 create-default-vpc`. Groups are free.
 *
 * If you would rather open no port at all, there is Session Manager of AWS Systems Manager, or an EC2 Instance
 * Connect Endpoint.
 *
 * @run npx tsx recipes/ec2/17-allow-ssh.ts --cidr 203.0.113.25/32 --local
 * @output
 *   group id    sg-217e87126367ee393
 *   group name  paws
 *   vpc id      vpc-a10dfd849347e9ad1
 *   cidr        203.0.113.25/32
 *   created     yes
 *   rule id     sgr-c5dbaf58545255eb6
 * @run npx tsx recipes/ec2/17-allow-ssh.ts --my-ip --local
 * @permission ec2:DescribeVpcs on *
 * @permission ec2:DescribeSecurityGroups on *
 * @permission ec2:CreateSecurityGroup on *
 * @permission ec2:CreateTags on *
 * @permission ec2:AuthorizeSecurityGroupIngress on arn:aws:ec2:*:*:security-group/*
 * @permission ec2:DeleteSecurityGroup on arn:aws:ec2:*:*:security-group/*
 * @cost nothing
 * @undo npx tsx recipes/setup/09-clean-up.ts {groupId} --local --yes
 * @emulator LocalStack keeps a CIDR as it is given, where EC2 sets its host bits to zero; the recipe does so itself.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AuthorizeSecurityGroupIngress.html
 */
import { isIP } from 'node:net';
import {
  AuthorizeSecurityGroupIngressCommand,
  CreateSecurityGroupCommand,
  DeleteSecurityGroupCommand,
  DescribeVpcsCommand,
  EC2Client,
  paginateDescribeSecurityGroups,
  type SecurityGroup,
  waitUntilSecurityGroupExists,
} from '@aws-sdk/client-ec2';
import { undo } from '../../shared/undo.ts';
import { waitFor } from '../../shared/wait.ts';

export interface AllowedSsh {
  groupId: string;
  groupName: string;
  vpcId: string;
  /** The addresses let in, host bits set to zero. */
  cidr: string;
  /** False when the group was there. */
  created: boolean;
  /** The rule that was added; null when it was there. */
  ruleId: string | null;
}

/**
 * Lets SSH in from some addresses, by a security group that is created if need be.
 *
 * @param ec2 - Its region is the one of the group.
 * @param options.cidr - Who may connect: `203.0.113.25/32`, `2001:db8::/64`.
 * @param options.groupName - Name of the security group. `paws` by default.
 * @param options.vpcId - The VPC. The default VPC by default.
 * @param options.tags - Tags to put on a group that is created. None by default.
 * @returns The group, and what had to be done.
 * @throws RangeError when the CIDR is not a valid one.
 * @throws Error when there is no default VPC.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AuthorizeSecurityGroupIngress.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const { groupId } = await allowSsh(ec2, { cidr: await findMyAddress() });
 * console.log(`use security group ${groupId}`);
 */
export async function allowSsh(
  ec2: EC2Client,
  {
    cidr,
    groupName = 'paws',
    vpcId,
    tags = {},
  }: { cidr: string; groupName?: string; vpcId?: string; tags?: Record<string, string> },
): Promise<AllowedSsh> {
  const network = networkOf(cidr);
  const vpc = vpcId ?? (await findDefaultVpc(ec2));

  // A name is unique within its VPC, whatever the case of its letters, which a filter by name would tell apart.
  const all: SecurityGroup[] = [];
  const Filters = [{ Name: 'vpc-id', Values: [vpc] }];
  for await (const page of paginateDescribeSecurityGroups({ client: ec2, pageSize: 1000 }, { Filters })) {
    all.push(...(page.SecurityGroups ?? []));
  }
  const existing = all.find(({ GroupName }) => GroupName?.toLowerCase() === groupName.toLowerCase());
  const GroupId = existing?.GroupId ?? (await createGroup(ec2, groupName, vpc, tags));
  const name = existing?.GroupName ?? groupName;
  const result = { groupId: GroupId, groupName: name, vpcId: vpc, cidr: network, created: !existing };

  const Description = 'SSH';
  const ranges = network.includes(':')
    ? { Ipv6Ranges: [{ CidrIpv6: network, Description }] }
    : { IpRanges: [{ CidrIp: network, Description }] };
  try {
    // A group that was created this moment may be unknown to the part of EC2 that answers the next call.
    if (!existing) {
      await waitFor(waitUntilSecurityGroupExists, ec2, { GroupIds: [GroupId] }, { until: `${GroupId} is known` });
    }
    const { SecurityGroupRules = [] } = await ec2.send(
      new AuthorizeSecurityGroupIngressCommand({
        GroupId,
        IpPermissions: [{ IpProtocol: 'tcp', FromPort: 22, ToPort: 22, ...ranges }],
      }),
    );
    return { ...result, ruleId: SecurityGroupRules[0]?.SecurityGroupRuleId as string };
  } catch (error) {
    if ((error as Error).name === 'InvalidPermission.Duplicate') return { ...result, ruleId: null };
    // A group that lets nobody in is of no use: don't leave it behind.
    const made = [{ id: GroupId, remove: () => ec2.send(new DeleteSecurityGroupCommand({ GroupId })) }];
    throw existing ? error : await undo(made, error);
  }
}

/**
 * The address that the internet sees this machine under.
 *
 * @param options.signal - Aborts the question.
 * @returns The address as a CIDR, `203.0.113.25/32`.
 * @throws Error when AWS's own service for it, checkip.amazonaws.com, doesn't answer.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/changing-security-group.html
 *
 * @example
 * const cidr = await findMyAddress();
 * console.log(`from ${cidr}`);
 */
export async function findMyAddress({ signal }: { signal?: AbortSignal } = {}): Promise<string> {
  const answer = await fetch('https://checkip.amazonaws.com', { signal }).catch(() => null);
  signal?.throwIfAborted();
  const address = (await answer?.text())?.trim() ?? '';
  if (isIP(address) !== 4) throw new Error('checkip.amazonaws.com did not tell this machine its address');
  return `${address}/32`;
}

/**
 * The VPC that things go into when none is named.
 *
 * @param ec2 - Its region is the one of the VPC.
 * @returns The id of the VPC.
 * @throws Error when the region has no default VPC, and how to get one.
 * @see https://docs.aws.amazon.com/vpc/latest/userguide/default-vpc.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const vpcId = await findDefaultVpc(ec2);
 * console.log(vpcId);
 */
export async function findDefaultVpc(ec2: EC2Client): Promise<string> {
  const Filters = [{ Name: 'is-default', Values: ['true'] }];
  const { Vpcs = [] } = await ec2.send(new DescribeVpcsCommand({ Filters }));
  const id = Vpcs[0]?.VpcId;
  if (!id) throw new Error('this region has no default VPC: name a VPC, or run `aws ec2 create-default-vpc`');
  return id;
}

async function createGroup(ec2: EC2Client, name: string, vpc: string, tags: Record<string, string>): Promise<string> {
  const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
  const { GroupId } = await ec2.send(
    new CreateSecurityGroupCommand({
      GroupName: name,
      Description: 'SSH from known addresses',
      VpcId: vpc,
      TagSpecifications: Tags.length > 0 ? [{ ResourceType: 'security-group', Tags }] : undefined,
    }),
  );
  return GroupId as string;
}

/** The CIDR as EC2 keeps it, so that a rule is recognised as the same: host bits are set to zero. */
function networkOf(cidr: string): string {
  const [, address = '', digits = ''] = /^([^/%]+)\/(\d{1,3})$/.exec(cidr) ?? [];
  const version = isIP(address);
  const bits = Number(digits);
  if (!version || bits > (version === 4 ? 32 : 128))
    throw new RangeError(`"${cidr}" is no CIDR such as 203.0.113.25/32`);
  if (version === 6) {
    // URL writes an address the short way: 2001:db8::1.
    const short = (text: string) => new URL(`http://[${text}]`).hostname.slice(1, -1);
    const [head = [], tail = []] = short(address)
      .split('::')
      .map((part) => part.split(':').filter(Boolean));
    const words = [...head, ...Array<string>(8 - head.length - tail.length).fill('0'), ...tail];
    const kept = words.map((word, at) => {
      const off = 16 - Math.min(16, Math.max(0, bits - at * 16));
      return ((Number.parseInt(word, 16) >> off) << off).toString(16);
    });
    return `${short(kept.join(':'))}/${bits}`;
  }
  const number = address.split('.').reduce((sum, byte) => sum * 256 + Number(byte), 0);
  const network = number - (number % 2 ** (32 - bits));
  return `${[24, 16, 8, 0].map((shift) => Math.floor(network / 2 ** shift) % 256).join('.')}/${bits}`;
}

// ---- command line: leave out when copying ----
import { confirm, connect, local, print, recipe, sayUndo, tags, yes } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .option('--cidr <cidr>', 'addresses to let in')
    .option('--my-ip', "let in this machine's address (127.0.0.1 with --local)")
    .option('--group-name <name>', 'name of the security group', 'paws')
    .option('--vpc-id <id>', 'VPC of the group (default: the default VPC)')
    .addOption(yes)
    .action(async ({ cidr, myIp, groupName, vpcId }) => {
      if (!cidr === !myIp) throw new TypeError('give --cidr or --my-ip');
      const ec2 = connect(EC2Client);
      const from = cidr ?? (local() ? '127.0.0.1/32' : await findMyAddress());
      if (/\/0+$/.test(from)) await confirm(`Let everybody in the world try to log in (${from})?`);
      const result = await allowSsh(ec2, { cidr: from, groupName, vpcId, tags: tags() });
      print(result);
      if (result.created) sayUndo(result);
    }),
);
