/**
 * 2.20 Stop, start, reboot or hibernate an instance
 *
 * ## Problem
 * You don't need an instance for some time and don't want to pay for it, or you want it to begin afresh; and you want
 * to know when that is done, and what is different afterwards.
 *
 * ## Solution
 * Look at what would be lost, say so and ask. Then stop, start, reboot or hibernate it, wait, and tell state and public
 * address before and after.
 *
 * ## Discussion
 * Stopping shuts the system down. EBS volumes, private addresses and Elastic IP addresses stay; what is in memory and
 * on instance store volumes is lost, and the public address goes back to AWS: you get another one at the next start.
 *
 * Starting boots on another machine most of the time, and needs a free one (`InsufficientInstanceCapacity`). It is
 * done here once the instance status check is passed, which is some minutes after `running`, and up to 20 for bare
 * metal. With a volume that is encrypted by a key of yours it takes `kms:CreateGrant` on that key: without, EC2 says
 * yes, and then stops the instance again.
 *
 * A reboot keeps address and instance store. EC2 only takes the request and answers at once: the state is `running`
 * all the time, so there is nothing to wait for. If the system doesn't shut down within a few minutes, EC2 resets it.
 * Whether it has come up again is seen in the console output (2.3).
 *
 * Hibernating stops the instance with its memory saved on the root volume, and the next start goes on from there. It
 * has to be enabled at launch, of an image and type that can; later it can't. If the system fails to hibernate, it is
 * shut down as by a stop. Longer than 60 days is not supported.
 *
 * An Auto Scaling group takes a stopped instance for a sick one, and may terminate and replace it. With stop protection
 * EC2 refuses to stop it, and to terminate it (2.21). One that hangs in `stopping` can be forced:
 * `aws ec2 stop-instances --force`.
 *
 * What is in the asked-for state already is left alone; one that is between two states is waited for first.
 *
 * @before npx tsx recipes/ec2/01-launch-instance.ts --local
 * @run npx tsx recipes/ec2/20-change-state.ts stop --local --yes
 * @output
 *   instance id     i-0abcdef1234567890
 *   state before    running
 *   state           stopped
 *   address before  54.214.232.114
 *   address         -
 *   queued          no
 * @run npx tsx recipes/ec2/20-change-state.ts start --local --yes
 * @run npx tsx recipes/ec2/20-change-state.ts reboot --local --yes
 * @permission ec2:DescribeInstances on *
 * @permission ec2:DescribeInstanceStatus on *
 * @permission ec2:DescribeInstanceTypes on *
 * @permission ec2:DescribeAddresses on *
 * @permission ec2:StopInstances on arn:aws:ec2:*:*:instance/*
 * @permission ec2:StartInstances on arn:aws:ec2:*:*:instance/*
 * @permission ec2:RebootInstances on arn:aws:ec2:*:*:instance/*
 * @cost nothing for an instance while it is stopped, but its volumes and Elastic IP addresses go on costing; from a
 * start on its price by the second, for a minute at least
 * @undo nothing
 * @emulator LocalStack changes states at once and takes any instance as able to hibernate; a reboot is only noted. The
 * states between are answered by the test.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/how-ec2-instance-stop-start-works.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-hibernate-overview.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-stop-protection.html
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html
 */
import {
  type _InstanceType,
  DescribeAddressesCommand,
  DescribeInstancesCommand,
  type DescribeInstancesCommandOutput,
  DescribeInstanceTypesCommand,
  EC2Client,
  type Instance,
  type InstanceStateName,
  RebootInstancesCommand,
  StartInstancesCommand,
  StopInstancesCommand,
  waitUntilInstanceRunning,
  waitUntilInstanceStatusOk,
  waitUntilInstanceStopped,
} from '@aws-sdk/client-ec2';
import { waitFor } from '../../shared/wait.ts';

export type Action = 'stop' | 'start' | 'reboot' | 'hibernate';

export interface ChangedState {
  instanceId: string;
  /** `running`, `stopped` */
  stateBefore: string;
  state: string;
  /** Public IPv4 address; null if it had none. */
  addressBefore: string | null;
  /** Public IPv4 address that it has now; null if it has none. */
  address: string | null;
  /** True for a reboot: EC2 has taken the request and does it soon, without a word when it is done. */
  queued: boolean;
}

/**
 * Stops, starts, reboots or hibernates an instance, and waits until that is done; of a reboot, until it is taken on.
 *
 * @param ec2 - Of the instance's region.
 * @param options.instanceId - The instance.
 * @param options.action - `stop`, `start`, `reboot` or `hibernate`.
 * @param options.signal - Aborts the wait; the instance goes on to the state that was asked for.
 * @param options.onProgress - Called each second with a text for people.
 * @returns State and public address before and after.
 * @throws Error when the instance is in no state for it, or can't hibernate; nothing is changed then.
 * @throws Error with EC2's reason when it is stopped again instead of started.
 * @throws InvalidInstanceID.NotFound when there is none; TimeoutError when a wait takes over 15 minutes, or over 30 for
 *   the status check of bare metal.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StopInstances.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const { address } = await changeState(ec2, { instanceId: 'i-0123456789abcdef0', action: 'start' });
 * console.log(`it is at ${address} now`);
 */
export async function changeState(
  ec2: EC2Client,
  {
    instanceId,
    action,
    signal,
    onProgress,
  }: { instanceId: string; action: Action; signal?: AbortSignal; onProgress?: (text: string) => void },
): Promise<ChangedState> {
  checkAction(action);
  const before = await describe(ec2, instanceId, signal);
  const stateBefore = before.State?.Name as string;
  const isUp = stateBefore === 'pending' || stateBefore === 'running';
  if (!isUp && stateBefore !== 'stopping' && stateBefore !== 'stopped') {
    throw new Error(`${instanceId} is ${stateBefore}: it does not come back`);
  }
  if (action === 'reboot' && !isUp) throw new Error(`${instanceId} is ${stateBefore}: start it instead`);
  // EC2 would refuse as well, but doesn't say that it is too late to change that.
  if (action === 'hibernate' && isUp && !before.HibernationOptions?.Configured) {
    throw new Error(`${instanceId} can't hibernate: that has to be enabled when an instance is launched`);
  }

  const InstanceIds = [instanceId];
  const started = () => waitUntilStarted(ec2, { instanceId, seconds: 900, signal, onProgress });
  const stopped = () => {
    // Shutdown scripts, and saving much memory, may take long.
    const onAnswer = hideAtFirst({ pending: 'stopping' });
    const stop = { until: `${instanceId} is stopped`, seconds: 900, signal, onProgress, onAnswer };
    return waitFor(waitUntilInstanceStopped, ec2, { InstanceIds }, stop);
  };
  // Between two states EC2 refuses to go to a third.
  if (stateBefore === 'pending') await started();
  if (stateBefore === 'stopping') await stopped();

  const options = { abortSignal: signal };
  if (action === 'reboot') {
    await ec2.send(new RebootInstancesCommand({ InstanceIds }), options);
  } else if (action === 'start') {
    if (!isUp) await ec2.send(new StartInstancesCommand({ InstanceIds }), options);
    await started();
    const seconds = /metal/.test(`${before.InstanceType}`) ? 1800 : 900;
    const ready = { until: `${instanceId} has passed its instance status check`, seconds, signal, onProgress };
    await waitFor(waitUntilInstanceStatusOk, ec2, { InstanceIds }, ready);
  } else {
    const Hibernate = action === 'hibernate';
    if (isUp) await ec2.send(new StopInstancesCommand({ InstanceIds, Hibernate }), options);
    await stopped();
  }

  const after = await describe(ec2, instanceId, signal);
  return {
    instanceId,
    stateBefore,
    state: after.State?.Name as string,
    addressBefore: before.PublicIpAddress ?? null,
    address: after.PublicIpAddress ?? null,
    queued: action === 'reboot',
  };
}

/**
 * Waits until an instance that was started is running.
 *
 * @param ec2 - Of the instance's region.
 * @param options.instanceId - The instance.
 * @param options.seconds - When to give up. 300 by default.
 * @param options.signal - Aborts the wait.
 * @param options.onProgress - Called each second with a text for people.
 * @returns The instance.
 * @throws Error with EC2's reason when it is stopped again, as without the right to use a volume's key; TimeoutError.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * await ec2.send(new StartInstancesCommand({ InstanceIds: ['i-0123456789abcdef0'] }));
 * const { PublicIpAddress } = await waitUntilStarted(ec2, { instanceId: 'i-0123456789abcdef0' });
 * console.log(`it is at ${PublicIpAddress} now`);
 */
export async function waitUntilStarted(
  ec2: EC2Client,
  {
    instanceId,
    signal,
    ...wait
  }: { instanceId: string; seconds?: number; signal?: AbortSignal; onProgress?: (text: string) => void },
): Promise<Instance> {
  // The SDK's waiter takes `stopped` for 'not yet', as it is before the start. After `pending` it means a failure.
  const failure = new AbortController();
  const hide = hideAtFirst({ stopping: 'stopped' });
  let wasPending = false;
  const onAnswer = (answer: DescribeInstancesCommandOutput) => {
    const { State, StateReason, StateTransitionReason } = answer.Reservations?.[0]?.Instances?.[0] ?? {};
    wasPending ||= State?.Name === 'pending';
    // A stop that was meant is none: a late answer can still be of the one before this start.
    const isStop = /^(Client\.(User|Instance)Initiated|Server\.(ScheduledStop|Spot))/.test(`${StateReason?.Code}`);
    if (isStop && !wasPending) hide(answer);
    if (!wasPending || !/^stop/.test(`${State?.Name}`) || isStop) return;
    failure.abort(new Error(`${instanceId} is stopped again: ${StateReason?.Message || StateTransitionReason}`));
  };
  const either = AbortSignal.any([failure.signal, ...(signal ? [signal] : [])]);
  const running = { until: `${instanceId} is running`, ...wait, signal: either, onAnswer };
  const answer = await waitFor(waitUntilInstanceRunning, ec2, { InstanceIds: [instanceId] }, running);
  return answer.Reservations?.[0]?.Instances?.[0] as Instance;
}

/** For a minute, an answer may be late, and of a state before, which would end the waiter: it is taken for another. */
function hideAtFirst(states: Partial<Record<string, InstanceStateName>>) {
  const end = Date.now() + 60_000;
  return ({ Reservations }: DescribeInstancesCommandOutput): void => {
    const { State } = Reservations?.[0]?.Instances?.[0] ?? {};
    if (State && Date.now() < end) State.Name = states[`${State.Name}`] ?? State.Name;
  };
}

/**
 * Finds what is lost when an instance is stopped, rebooted or hibernated.
 *
 * @param ec2 - Of the instance's region.
 * @param options.instanceId - The instance.
 * @param options.action - `stop`, `start`, `reboot` or `hibernate`.
 * @returns What is lost, in words; an empty list if nothing is.
 * @throws InvalidInstanceID.NotFound when there is no such instance.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const losses = await findLosses(ec2, { instanceId: 'i-0123456789abcdef0', action: 'stop' });
 * console.log(losses.join(', '));
 */
export async function findLosses(
  ec2: EC2Client,
  { instanceId, action }: { instanceId: string; action: Action },
): Promise<string[]> {
  checkAction(action);
  const { State, PublicIpAddress, InstanceType } = await describe(ec2, instanceId);
  const losses: string[] = [];
  if (action === 'start' || (State?.Name !== 'pending' && State?.Name !== 'running')) return losses;
  if (action !== 'hibernate') losses.push('what is in memory');
  if (action === 'reboot') return losses;

  // An Elastic IP address stays.
  const Filters = [{ Name: 'instance-id', Values: [instanceId] }];
  const { Addresses = [] } = await ec2.send(new DescribeAddressesCommand({ Filters }));
  const stays = Addresses.some(({ PublicIp }) => PublicIp === PublicIpAddress);
  if (PublicIpAddress && !stays) losses.push(`its public address ${PublicIpAddress}`);

  const input = { InstanceTypes: [InstanceType as _InstanceType] };
  const { InstanceTypes = [] } = await ec2.send(new DescribeInstanceTypesCommand(input));
  const size = InstanceTypes[0]?.InstanceStorageInfo?.TotalSizeInGB;
  if (size) losses.push(`the data on ${size} GB of instance store`);
  return losses;
}

async function describe(ec2: EC2Client, instanceId: string, signal?: AbortSignal): Promise<Instance> {
  const input = { InstanceIds: [instanceId] };
  const { Reservations } = await ec2.send(new DescribeInstancesCommand(input), { abortSignal: signal });
  return Reservations?.[0]?.Instances?.[0] as Instance;
}

function checkAction(action: string): Action {
  const actions = ['stop', 'start', 'reboot', 'hibernate'];
  if (!actions.includes(action)) throw new RangeError(`"${action}" is none of ${actions.join(', ')}`);
  return action as Action;
}

// ---- command line: leave out when copying ----
import { confirm, connect, interrupted, print, progress, recipe, yes } from '../../shared/cli.ts';
import { newestInstance } from '../../shared/newest.ts';

recipe(import.meta, (command) =>
  command
    .argument('<action>', 'stop, start, reboot or hibernate', checkAction)
    .argument('[instance-id]', 'the instance (default: the newest one of this cookbook)')
    .addOption(yes)
    .action(async (action, given) => {
      const ec2 = connect(EC2Client);
      const instanceId = given ?? (await newestInstance(ec2));
      const losses = await findLosses(ec2, { instanceId, action });
      const cost = action === 'start' ? 'It costs again while it runs.' : 'Nothing is lost by it.';
      const words = losses.length > 0 ? `It loses ${losses.join(', ')}.` : cost;
      await confirm(`Really ${action} ${instanceId}? ${words}`);
      print(await changeState(ec2, { instanceId, action, signal: interrupted(), onProgress: progress }));
    }),
);
