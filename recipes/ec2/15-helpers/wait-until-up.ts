/** Waits for an instance that was just launched with user data: for 2.10 and 2.15. */
import {
  type DescribeInstanceStatusCommandOutput,
  type DescribeInstancesCommandOutput,
  type EC2Client,
  waitUntilInstanceRunning,
  waitUntilInstanceStatusOk,
} from '@aws-sdk/client-ec2';
import { waitFor } from '../../../shared/wait.ts';

/**
 * Waits until a new instance has passed its instance status check, or has shut itself down: a script that runs at boot
 * may end so when its work is done, and the work would be lost if that were taken for a failure.
 *
 * @param ec2 - Of the instance's region.
 * @param options.instanceId - The instance.
 * @param options.instanceType - Its type: bare metal takes longer.
 * @param options.signal - Aborts the wait.
 * @param options.onProgress - Called each second with a text for people.
 * @returns Its state: `running`; `stopping` or `stopped` if it has shut itself down.
 * @throws Error when it is terminated: with EC2's reason if the launch fails, or by its own shutdown if that is to
 *   terminate it; TimeoutError after 10 minutes, on bare metal after 30.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/monitoring-system-instance-status-check.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const instance = { instanceId: 'i-0123456789abcdef0', instanceType: 't3.micro' };
 * console.log(await waitUntilUp(ec2, instance));
 */
export async function waitUntilUp(
  ec2: EC2Client,
  {
    instanceId,
    instanceType,
    signal,
    onProgress,
  }: { instanceId: string; instanceType: string; signal?: AbortSignal; onProgress?: (text: string) => void },
): Promise<string> {
  const InstanceIds = [instanceId];
  // The waiters know of no such end: what they look at is made what they look for.
  const onInstance = ({ Reservations }: DescribeInstancesCommandOutput) => {
    const { State = {} } = Reservations?.[0]?.Instances?.[0] ?? {};
    if (/^stop/.test(`${State.Name}`)) State.Name = 'running';
  };
  const running = { until: `${instanceId} is running`, signal, onProgress, onAnswer: onInstance };
  await waitFor(waitUntilInstanceRunning, ec2, { InstanceIds }, running);

  let state = 'running';
  const end = new AbortController();
  const onStatus = ({ InstanceStatuses = [] }: DescribeInstanceStatusCommandOutput) => {
    for (const one of InstanceStatuses) {
      state = `${one.InstanceState?.Name}`;
      if (/^stop/.test(state)) one.InstanceStatus = { Status: 'ok' };
      if (/^(shutting-down|terminated)$/.test(state)) end.abort(new Error(`${instanceId} is ${state}`));
    }
  };
  await waitFor(
    waitUntilInstanceStatusOk,
    ec2,
    { InstanceIds, IncludeAllInstances: true },
    {
      until: `${instanceId} has passed its instance status check`,
      seconds: /metal/.test(instanceType) ? 1800 : 600,
      signal: AbortSignal.any([end.signal, ...(signal ? [signal] : [])]),
      onProgress,
      onAnswer: onStatus,
    },
  );
  return state;
}
