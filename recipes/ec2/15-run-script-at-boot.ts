/**
 * 2.15 Run a script at boot
 *
 * ## Problem
 * A new machine shall install and start by itself what it is for, without anybody logging in.
 *
 * ## Solution
 * Hand it user data at launch, which cloud-init runs at the first boot: a script, a cloud-config, or several files as
 * one bundle (2.30). Give it a role in place of keys (2.28), wait, and read in the console output what cloud-init said
 * (2.3). Without files the command makes the machine store how full its disk is, every five minutes.
 *
 * ## Discussion
 * User data is no place for secrets: every program on the machine can read it, and so can everybody who may call
 * DescribeInstanceAttribute. What looks like one is asked about. Let the role fetch secrets from where they are kept.
 *
 * Scripts run as root, once in an instance's life, at the end of the first boot. One that fails stops neither boot nor
 * launch: what cloud-init says of it stands under `warnings`, and its output in /var/log/cloud-init-output.log over
 * there. One that shuts the machine down when its work is done is no failure either: the instance is kept, stopped.
 * Nobody can log in to this instance: that takes `KeyName` and a group, as in 2.1.
 *
 * Until EC2 has heard of a new instance profile, which may take two minutes, it refuses the launch. Just that is tried
 * again, so a misspelt name is found late. To call AWS, the machine needs a way out: a public address, which it gets
 * in a default subnet, or a NAT gateway.
 *
 * If a step fails, or you press Ctrl-C, the instance is terminated again. If EBS encrypts with a key of your own by
 * default, it takes permissions on that key as well (2.1). The SDK expects user data as base64 and does not make it.
 *
 * @before npx tsx recipes/ec2/28-create-instance-role.ts --local
 * @run npx tsx recipes/ec2/15-run-script-at-boot.ts --seconds 0 --local
 * @output
 *   instance id          i-ca530cac986b333d6
 *   image id             ami-0532be01f26a3de55
 *   state                running
 *   user data size       2014
 *   cloud init finished  -
 *   warnings             -
 * @aws npx tsx recipes/ec2/15-run-script-at-boot.ts
 * @aws npx tsx recipes/ec2/15-run-script-at-boot.ts setup.yaml start.sh --instance-profile paws
 * @permission ec2:DescribeInstanceTypes on *
 * @permission ssm:GetParameter on arn:aws:ssm:*::parameter/aws/service/ami-amazon-linux-latest/*
 * @permission ec2:DescribeImages on *
 * @permission ec2:DescribeVpcs on *
 * @permission ec2:RunInstances on *
 * @permission ec2:CreateTags on *
 * @permission iam:PassRole on arn:aws:iam::*:role/ROLE
 * @permission ec2:DescribeInstances on *
 * @permission ec2:DescribeInstanceStatus on *
 * @permission ec2:GetConsoleOutput on *
 * @permission ec2:DescribeAddresses on *
 * @permission ec2:TerminateInstances on *
 * @cost until it is terminated, in us-east-1 about $0.0104 an hour for a t3.micro, $0.005 an hour for its public
 * address and $0.64 a month for a root volume of 8 GiB; $0.30 a month for the metric (2026)
 * @undo npx tsx recipes/setup/09-clean-up.ts {instanceId} --local --yes
 * @emulator LocalStack keeps user data and runs nothing. The tests hand every bundle to cloud-init itself, and check
 * the scripts with shellcheck.
 * @book ec2.run_instances → RunInstancesCommand
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html
 */
import { setTimeout } from 'node:timers/promises';
import { type _InstanceType, EC2Client, RunInstancesCommand, type RunInstancesCommandInput } from '@aws-sdk/client-ec2';
import { SSMClient } from '@aws-sdk/client-ssm';
import { type Made, undo } from '../../shared/undo.ts';
import { consoleOutput } from './03-console-output.ts';
import { waitUntilUp } from './15-helpers/wait-until-up.ts';
import { findDefaultVpc } from './17-allow-ssh.ts';
import { findImage } from './18-find-image.ts';
import { terminateInstance } from './21-terminate-instance.ts';
import { maximum } from './30-make-user-data.ts';

export interface BootedInstance {
  instanceId: string;
  imageId: string;
  /** `running`; `stopping` or `stopped` if it has shut itself down before its status check was passed. */
  state: string;
  /** Size of the user data, in bytes. */
  userDataSize: number;
  /** When cloud-init was done; null if it didn't say so in time. */
  cloudInitFinished: Date | null;
  /** cloud-init's warnings and errors in the console output. */
  warnings: string[];
}

/**
 * Launches an instance of Amazon Linux 2023 that runs user data at its first boot, and waits until cloud-init is done.
 *
 * @param ec2 - Its region is the one of the instance.
 * @param ssm - Of the same region.
 * @param options.userData - What cloud-init is to run, not base64: at most 16,384 bytes.
 * @param options.instanceType - `t3.micro` by default.
 * @param options.instanceProfile - Name of the instance profile, for the role. None by default.
 * @param options.profileSeconds - How long EC2 may take to hear of a new profile. 120 by default.
 * @param options.subnetId - The subnet. One of the default VPC by default.
 * @param options.seconds - How long to wait for cloud-init once the instance has passed its checks. 300 by default.
 * @param options.tags - Tags to put on instance and volume. None by default.
 * @param options.signal - Aborts the launch; the instance is terminated again.
 * @param options.onProgress - Called with a text for people.
 * @returns The instance, and what cloud-init said.
 * @throws RangeError when the user data is too large. The SDK's error of the step that failed, once the instance is
 *   terminated.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html
 *
 * @example
 * const userData = Buffer.from('#!/bin/sh\necho hello\n');
 * const { warnings } = await runScriptAtBoot(new EC2Client({}), new SSMClient({}), { userData });
 * console.log(warnings.join('\n') || 'went well');
 */
export async function runScriptAtBoot(
  ec2: EC2Client,
  ssm: SSMClient,
  {
    userData,
    instanceType = 't3.micro',
    instanceProfile,
    profileSeconds = 120,
    subnetId,
    seconds = 300,
    tags = {},
    signal,
    onProgress,
  }: {
    userData: Buffer;
    instanceType?: string;
    instanceProfile?: string;
    profileSeconds?: number;
    subnetId?: string;
    seconds?: number;
    tags?: Record<string, string>;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<BootedInstance> {
  if (userData.length > maximum) throw new RangeError(`user data has at most ${maximum} bytes, not ${userData.length}`);
  if (instanceProfile !== undefined && !/^[\w+=,.@-]{1,128}$/.test(instanceProfile))
    throw new RangeError(`an instance profile is given by its name, not as "${instanceProfile}"`);
  if (!(seconds >= 0 && seconds < Infinity)) throw new RangeError(`seconds are 0 or more, not ${seconds}`);
  onProgress?.('looking for an image');
  const { imageId, rootDeviceName, rootSize } = await findImage(ec2, ssm, { instanceType });
  if (!subnetId) await findDefaultVpc(ec2);

  const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
  const tagged = ['instance', 'volume'] as const;
  const Ebs = { VolumeType: 'gp3', VolumeSize: rootSize, Encrypted: true, DeleteOnTermination: true } as const;
  const input: RunInstancesCommandInput = {
    ImageId: imageId,
    InstanceType: instanceType as _InstanceType,
    MinCount: 1,
    MaxCount: 1,
    SubnetId: subnetId,
    UserData: userData.toString('base64'),
    IamInstanceProfile: instanceProfile ? { Name: instanceProfile } : undefined,
    BlockDeviceMappings: [{ DeviceName: rootDeviceName, Ebs }],
    // With the role's keys to be had there, only to session tokens (IMDSv2).
    MetadataOptions: { HttpEndpoint: 'enabled', HttpTokens: 'required' },
    TagSpecifications: Tags.length > 0 ? tagged.map((ResourceType) => ({ ResourceType, Tags })) : undefined,
  };

  const made: Made[] = [];
  try {
    const instanceId = await launch(ec2, input, { seconds: profileSeconds, signal, onProgress });
    made.push({ id: instanceId, remove: () => terminateInstance(ec2, { instanceId, isNew: true, onProgress }) });
    const state = await waitUntilUp(ec2, { instanceId, instanceType, signal, onProgress });
    // What a machine said before it went off, EC2 has shortly after.
    const patience = state === 'running' ? seconds : Math.min(seconds, 60);
    const said = await listen(ec2, { instanceId, seconds: patience, signal, onProgress });
    return { instanceId, imageId, state, userDataSize: userData.length, ...said };
  } catch (error) {
    throw await undo(made, error, { onProgress });
  }
}

/** Launches the instance, and tries again while EC2 doesn't know the instance profile. */
async function launch(
  ec2: EC2Client,
  input: RunInstancesCommandInput,
  { seconds, signal, onProgress }: { seconds: number; signal?: AbortSignal; onProgress?: (text: string) => void },
): Promise<string> {
  const start = Date.now();
  for (;;) {
    signal?.throwIfAborted();
    const passed = (Date.now() - start) / 1000;
    try {
      const yet = passed > 1 ? `; EC2 doesn't know its profile yet: ${Math.round(passed)} s` : '';
      onProgress?.(`launching a ${input.InstanceType}${yet}`);
      // Not aborted by the signal: an instance whose id nobody hears could not be removed.
      const { Instances = [] } = await ec2.send(new RunInstancesCommand(input));
      return Instances[0]?.InstanceId as string;
    } catch (error) {
      const { name, message } = error as Error;
      // The profile is new, or its role is.
      const isNew = /Invalid IAM Instance Profile name|has no associated IAM Roles/.test(message);
      if (name !== 'InvalidParameterValue' || !isNew || passed >= seconds) throw error;
    }
    await pause(Math.min(5, seconds), signal);
  }
}

/** Reads the console output until cloud-init is done. */
async function listen(
  ec2: EC2Client,
  {
    instanceId,
    seconds,
    signal,
    onProgress,
  }: { instanceId: string; seconds: number; signal?: AbortSignal; onProgress?: (text: string) => void },
): Promise<Pick<BootedInstance, 'cloudInitFinished' | 'warnings'>> {
  const start = Date.now();
  for (;;) {
    const passed = Math.round((Date.now() - start) / 1000);
    onProgress?.(`waiting until cloud-init is done: ${passed} s`);
    // Only instances on Nitro have the latest; of others EC2 shows it some minutes late.
    const { output, cloudInitFinished } = await consoleOutput(ec2, { instanceId, latest: true, signal }).catch(() => {
      signal?.throwIfAborted();
      return consoleOutput(ec2, { instanceId, signal });
    });
    if (cloudInitFinished || passed >= seconds) {
      return { cloudInitFinished, warnings: output?.match(/\w+\.py\[(WARNING|ERROR|CRITICAL)\]: .*/g) ?? [] };
    }
    await pause(Math.min(5, seconds), signal);
  }
}

async function pause(seconds: number, signal?: AbortSignal): Promise<void> {
  // What it throws when it is aborted says neither who nor why.
  await setTimeout(seconds * 1000, undefined, { signal }).catch(() => signal?.throwIfAborted());
}

// ---- command line: leave out when copying ----
import { confirm, connect, interrupted, local, print, progress, recipe, sayUndo, tags, yes } from '../../shared/cli.ts';
import { diskUsageFiles, makeUserData, readBootFiles } from './30-make-user-data.ts';

recipe(import.meta, (command) =>
  command
    .argument('[files...]', 'scripts and cloud-configs (default: those that store the disk usage)')
    .option('--instance-type <type>', 'type of the instance', 't3.micro')
    .option('--instance-profile <name>', 'instance profile (default: paws for the disk usage, none for files)')
    .option('--namespace <name>', 'namespace of the disk usage', 'Paws')
    .option('--seconds <number>', 'how long to wait for cloud-init (default: 300; on LocalStack it never runs)', Number)
    .option('--subnet-id <id>', 'subnet (default: one of the default VPC)')
    .addOption(yes)
    .action(async (paths, { namespace, ...options }) => {
      const [ec2, ssm] = [connect(EC2Client), connect(SSMClient)];
      const { instanceProfile = paths.length > 0 ? undefined : 'paws', seconds = local() ? 0 : 300 } = options;
      const files = paths.length > 0 ? await readBootFiles(paths) : diskUsageFiles(namespace);
      const { bytes: userData, secrets } = makeUserData(files);
      const found = secrets.join('; ');
      if (found) await confirm(`In ${found} there may be a secret, and all programs over there can read it. Launch?`);
      const isSmall = /\.(nano|micro|small)$/.test(options.instanceType);
      if (!isSmall && !local()) await confirm(`A ${options.instanceType} may cost dollars an hour. Launch one?`);
      const more = { userData, instanceProfile, seconds, tags: tags(), signal: interrupted(), onProgress: progress };
      const result = await runScriptAtBoot(ec2, ssm, { ...options, ...more });
      print(result);
      sayUndo(result);
    }),
);
