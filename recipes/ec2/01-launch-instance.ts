/**
 * 2.1 Launch an instance
 *
 * ## Problem
 * You want a Linux machine in the cloud, and to log in to it. In a new account there is nothing yet: no key pair,
 * no security group, no image that you know of.
 *
 * ## Solution
 * Find the newest Amazon Linux 2023 (2.18). Create what is missing: a key pair, with its private half in a file of
 * yours (2.16), and a security group that lets SSH in from your address (2.17). Launch, wait until the machine has
 * passed its checks, and print the command that logs in. On AWS that takes some minutes.
 *
 * ## Discussion
 * If a step fails, or you press Ctrl-C, what this run made is removed again, and what was there before is as it
 * was. What can't be removed is named. Only a connection that breaks during the launch itself, or `kill -9`,
 * can leave an instance whose id you never got: with tags, 1.14 finds it.
 *
 * Each run launches one more instance, with the key pair and the security group of the run before. From a new
 * address it adds a rule to the group; old rules stay. The undo command leaves the key file.
 *
 * Whatever your account's defaults are, the metadata service of this instance answers, and only to session tokens
 * (IMDSv2), and its root volume is encrypted, with the account's default key for EBS. If that is a key of your own, it
 * takes permissions on the key (2.25 lists them): without, EC2 says yes, and the instance ends at once with
 * `Client.InternalError`. Tags are set by the launch itself, so that instance and volume are never without.
 *
 * The instance goes into the default VPC, or into your subnet. Many accounts have no default VPC, and a subnet of
 * your own gives no public address unless asked, so the launch asks. To be reached, the subnet needs a route to an
 * internet gateway as well. The address changes whenever the instance is stopped and started.
 *
 * `InsufficientInstanceCapacity` means that AWS has no machine of the type free in this zone: try another subnet
 * or type, or later. `VcpuLimitExceeded` is your account's quota: ask for more in Service Quotas. An account on
 * the free plan may launch only a few types, t3.micro among them.
 *
 * For more than a few machines, use a launch template with an Auto Scaling group.
 *
 * @run npx tsx recipes/ec2/01-launch-instance.ts --local
 * @output
 *   instance id    i-0abcdef1234567890
 *   image id       ami-0532be01f26a3de55
 *   instance type  t3.micro
 *   address        54.214.12.99
 *   ssh command    ssh -i ~/.ssh/paws.pem ec2-user@54.214.12.99
 *   made           key-99420ea77459f6ad7, sg-1a19579b47de6504f, i-0abcdef1234567890
 * @permission ec2:DescribeInstanceTypes on *
 * @permission ssm:GetParameter on arn:aws:ssm:*::parameter/aws/service/ami-amazon-linux-latest/*
 * @permission ec2:DescribeImages on *
 * @permission ec2:DescribeSubnets on *
 * @permission ec2:DescribeKeyPairs on *
 * @permission ec2:CreateKeyPair on *
 * @permission ec2:ImportKeyPair on *
 * @permission ec2:DeleteKeyPair on *
 * @permission ec2:DescribeVpcs on *
 * @permission ec2:DescribeSecurityGroups on *
 * @permission ec2:CreateSecurityGroup on *
 * @permission ec2:AuthorizeSecurityGroupIngress on *
 * @permission ec2:RevokeSecurityGroupIngress on *
 * @permission ec2:DeleteSecurityGroup on *
 * @permission ec2:RunInstances on *
 * @permission ec2:CreateTags on *
 * @permission ec2:DescribeInstances on *
 * @permission ec2:DescribeInstanceStatus on *
 * @permission ec2:DescribeAddresses on *
 * @permission ec2:TerminateInstances on *
 * @cost until it is terminated, in us-east-1 about $0.0104 an hour for a t3.micro, $0.005 an hour for its public
 * address and $0.64 a month for a root volume of 8 GiB; constant load on a t3 costs more (surplus CPU credits)
 * @undo npx tsx recipes/setup/09-clean-up.ts {made} --local --yes
 * @emulator LocalStack boots nothing: the state is `running` at once, the address is made up and nobody answers
 * there by SSH. Logging in is shown by 2.19 against a real SSH server.
 * @book ec2.run_instances → RunInstancesCommand
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html
 * @see https://aws.amazon.com/ec2/pricing/on-demand/
 */
import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import {
  type _InstanceType,
  DeleteKeyPairCommand,
  DeleteSecurityGroupCommand,
  DescribeInstancesCommand,
  DescribeSubnetsCommand,
  EC2Client,
  RevokeSecurityGroupIngressCommand,
  RunInstancesCommand,
  waitUntilInstanceRunning,
  waitUntilInstanceStatusOk,
} from '@aws-sdk/client-ec2';
import { SSMClient } from '@aws-sdk/client-ssm';
import { type Made, undo } from '../../shared/undo.ts';
import { waitFor } from '../../shared/wait.ts';
import { whileRefused } from './01-helpers/while-refused.ts';
import { createKeyPair } from './16-create-key-pair.ts';
import { allowSsh, findDefaultVpc } from './17-allow-ssh.ts';
import { findImage } from './18-find-image.ts';
import { terminateInstance } from './21-terminate-instance.ts';

export interface LaunchedInstance {
  instanceId: string;
  imageId: string;
  instanceType: string;
  /** Public IPv4 address; null if it got none. */
  address: string | null;
  /** Logs in to the instance; null if it has no public address. */
  sshCommand: string | null;
  /** Ids of what was made: the instance, and what was missing of key pair, security group and rule. */
  made: string[];
}

/**
 * Launches an instance of Amazon Linux 2023 that can be logged in to, and waits until it is ready.
 *
 * @param ec2 - Its region is the one of the instance.
 * @param ssm - Of the same region.
 * @param options.keyFile - Where the private key is, or is saved.
 * @param options.cidr - The addresses that SSH is allowed from: `203.0.113.25/32`.
 * @param options.instanceType - `t3.micro` by default.
 * @param options.keyName - Name of the key pair. `paws` by default.
 * @param options.groupName - Name of the security group. `paws` by default.
 * @param options.subnetId - The subnet. One of the default VPC by default.
 * @param options.tags - Tags to put on all that is made. None by default.
 * @param options.signal - Aborts the launch; what was made is removed again.
 * @param options.onProgress - Called with a text for people.
 * @returns The instance, running and with its instance status check passed.
 * @throws The SDK's error of the step that failed, once what was made is removed; its message names what is left.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html
 *
 * @example
 * const cidr = '203.0.113.25/32';
 * const { sshCommand } = await launchInstance(new EC2Client({}), new SSMClient({}), { keyFile: './paws.pem', cidr });
 * console.log(sshCommand);
 */
export async function launchInstance(
  ec2: EC2Client,
  ssm: SSMClient,
  {
    keyFile,
    cidr,
    instanceType = 't3.micro',
    keyName = 'paws',
    groupName = 'paws',
    subnetId,
    tags = {},
    signal,
    onProgress,
  }: {
    keyFile: string;
    cidr: string;
    instanceType?: string;
    keyName?: string;
    groupName?: string;
    subnetId?: string;
    tags?: Record<string, string>;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<LaunchedInstance> {
  // Type, image and network are looked at before anything is made.
  onProgress?.('looking for an image');
  const image = await findImage(ec2, ssm, { instanceType });
  const vpcId = subnetId ? await findVpc(ec2, subnetId) : await findDefaultVpc(ec2);

  const made: Made[] = [];
  try {
    signal?.throwIfAborted();
    onProgress?.('preparing key pair and security group');
    const { keyPairId, created, imported } = await createKeyPair(ec2, { keyName, file: keyFile, tags, signal });
    if (created) made.push({ id: keyFile, remove: () => rm(keyFile) });
    if (created || imported) {
      made.push({
        id: keyPairId,
        remove: async () => {
          // Another run may have launched with it meanwhile, and its private half is nowhere else.
          const alive = { Name: 'instance-state-name', Values: ['pending', 'running', 'stopping', 'stopped'] };
          const Filters = [{ Name: 'key-name', Values: [keyName] }, alive];
          const { Reservations = [] } = await ec2.send(new DescribeInstancesCommand({ Filters }));
          if (Reservations.length > 0) throw new Error(`${keyName} is in use`);
          await ec2.send(new DeleteKeyPairCommand({ KeyName: keyName }));
        },
      });
    }

    signal?.throwIfAborted();
    const group = await allowSsh(ec2, { cidr, groupName, vpcId, tags });
    const { groupId: GroupId, ruleId } = group;
    if (group.created) {
      const remove = () => ec2.send(new DeleteSecurityGroupCommand({ GroupId }));
      // The network interface of an instance that has just gone may hold it for a minute more.
      const held = { names: ['DependencyViolation'], tries: 12, seconds: 5 };
      made.push({ id: GroupId, remove: () => whileRefused(remove, held) });
    } else if (ruleId) {
      const rule = { GroupId, SecurityGroupRuleIds: [ruleId] };
      made.push({ id: ruleId, remove: () => ec2.send(new RevokeSecurityGroupIngressCommand(rule)) });
    }

    signal?.throwIfAborted();
    onProgress?.(`launching a ${instanceType}`);
    const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
    const tagged = ['instance', 'volume', 'network-interface'] as const;
    const launch = new RunInstancesCommand({
      // However often it is sent, EC2 launches one.
      ClientToken: randomUUID(),
      ImageId: image.imageId,
      InstanceType: instanceType as _InstanceType,
      MinCount: 1,
      MaxCount: 1,
      KeyName: keyName,
      // Only a network interface can be asked for a public address, and then group and subnet belong to it, too.
      NetworkInterfaces: [{ DeviceIndex: 0, SubnetId: subnetId, Groups: [GroupId], AssociatePublicIpAddress: true }],
      // With the image's own device name this is its root volume; with another it would be a second volume.
      BlockDeviceMappings: [
        {
          DeviceName: image.rootDeviceName,
          Ebs: { VolumeType: 'gp3', VolumeSize: image.rootSize, Encrypted: true, DeleteOnTermination: true },
        },
      ],
      MetadataOptions: { HttpEndpoint: 'enabled', HttpTokens: 'required' },
      TagSpecifications: Tags.length > 0 ? tagged.map((ResourceType) => ({ ResourceType, Tags })) : undefined,
    });
    // What was made this moment may be unknown to the part of EC2 that launches.
    const names = ['InvalidKeyPair.NotFound', 'InvalidGroup.NotFound', 'InvalidSecurityGroupID.NotFound'];
    // No call is aborted by the signal: an instance whose id nobody hears could not be removed.
    const { Instances = [] } = await whileRefused(() => ec2.send(launch), { names, signal });
    const instanceId = Instances[0]?.InstanceId as string;
    made.push({ id: instanceId, remove: () => terminateInstance(ec2, { instanceId, isNew: true, onProgress }) });

    const InstanceIds = [instanceId];
    const running = { until: `${instanceId} is running`, signal, onProgress };
    const { Reservations } = await waitFor(waitUntilInstanceRunning, ec2, { InstanceIds }, running);
    // Running is not ready: the check tells when the system has come up, which can take minutes.
    const seconds = /metal/.test(instanceType) ? 1800 : 600;
    const ready = { until: `${instanceId} has passed its instance status check`, seconds, signal, onProgress };
    await waitFor(waitUntilInstanceStatusOk, ec2, { InstanceIds }, ready);

    const address = Reservations?.[0]?.Instances?.[0]?.PublicIpAddress ?? null;
    return {
      instanceId,
      imageId: image.imageId,
      instanceType,
      address,
      sshCommand: address && `ssh -i ${quoted(keyFile)} ec2-user@${address}`,
      made: made.map(({ id }) => id).filter((id) => id !== keyFile),
    };
  } catch (error) {
    throw await undo(made, error, { onProgress });
  }
}

/** The VPC of a subnet: the security group must be of the same. */
async function findVpc(ec2: EC2Client, subnetId: string): Promise<string> {
  const { Subnets = [] } = await ec2.send(new DescribeSubnetsCommand({ SubnetIds: [subnetId] }));
  return Subnets[0]?.VpcId as string;
}

/** As a shell takes it, that of Windows too. */
function quoted(path: string): string {
  return /^[\w@%+=:,./\\~-]+$/.test(path) ? path : `"${path.replace(/["$`]/g, '\\$&')}"`;
}

// ---- command line: leave out when copying ----
import { homedir } from 'node:os';
import { confirm, connect, interrupted, local, print, progress, recipe, sayUndo, tags, yes } from '../../shared/cli.ts';
import { findMyAddress } from './17-allow-ssh.ts';

recipe(import.meta, (command) =>
  command
    .option('--instance-type <type>', 'type of the instance', 't3.micro')
    .option('--key-name <name>', 'name of the key pair', 'paws')
    .option('--key-file <path>', 'file of the private key (default: ~/.ssh/NAME.pem)')
    .option('--group-name <name>', 'name of the security group', 'paws')
    .option('--cidr <cidr>', "addresses that SSH is allowed from (default: this machine's)")
    .option('--subnet-id <id>', 'subnet (default: one of the default VPC)')
    .addOption(yes)
    .action(async ({ cidr: given, ...options }) => {
      const [ec2, ssm] = [connect(EC2Client), connect(SSMClient)];
      const cidr = given ?? (local() ? '127.0.0.1/32' : await findMyAddress());
      const isSmall = /\.(nano|micro|small)$/.test(options.instanceType);
      if (/\/0+$/.test(cidr)) await confirm(`Let everybody in the world try to log in (${cidr})?`);
      if (!isSmall && !local()) await confirm(`A ${options.instanceType} may cost dollars an hour. Launch one?`);
      const { keyFile = `${homedir()}/.ssh/${options.keyName}.pem` } = options;
      const more = { keyFile, cidr, tags: tags(), signal: interrupted(), onProgress: progress };
      const result = await launchInstance(ec2, ssm, { ...options, ...more });
      print(result);
      sayUndo(result);
    }),
);
