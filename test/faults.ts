/** Makes operations of a client in the test's own process fail, as preload.ts does for the commands of recipes. */
import type { EC2Client } from '@aws-sdk/client-ec2';
import type { S3Client } from '@aws-sdk/client-s3';

/** An operation that goes otherwise than the server would have it. */
export interface ClientFault {
  /** `AttachVolume` */
  operation: string;
  /** Whether dry runs are concerned, or real calls: those by default. */
  dryRun?: boolean;
  /** How many such calls go through before. 0 by default. */
  after?: number;
  /** How many calls are concerned, all by default. */
  times?: number;
  /** Name of the error to throw instead of asking the server. */
  error?: string;
  /** The answer to give instead of the server's. */
  output?: object;
  /** Called with the input when the answer is there; the answer waits for what it does. */
  answered?: (input: object) => unknown;
}

/** The status that such an error comes with, as far as it matters: whether it may pass. */
export function statusOf(error: string): number {
  return /Internal|Unavailable|SlowDown|Insufficient/.test(error) ? 503 : 400;
}

/**
 * Adds faults to a client.
 *
 * @returns The client, and the operations that it was asked for in earnest, in turn.
 */
export function withFaults<Client extends EC2Client | S3Client>(
  client: Client,
  ...faults: ClientFault[]
): { client: Client; sent: string[] } {
  const sent: string[] = [];
  const calls = new Map<ClientFault, number>();
  (client as S3Client).middlewareStack.add(
    (next, context) => async (args) => {
      const operation = `${context.commandName}`.replace('Command', '');
      const { DryRun: dryRun = false } = args.input as { DryRun?: boolean };
      if (!dryRun) sent.push(operation);
      const fault = faults.find((one) => {
        if (one.operation !== operation || (one.dryRun ?? false) !== dryRun) return false;
        const call = calls.get(one) ?? 0;
        calls.set(one, call + 1);
        const from = one.after ?? 0;
        return call >= from && call < from + (one.times ?? Number.POSITIVE_INFINITY);
      });
      if (fault?.error)
        throw Object.assign(new Error(fault.error), {
          name: fault.error,
          $metadata: { httpStatusCode: statusOf(fault.error) },
        });
      const answer = fault?.output ? { output: { $metadata: {}, ...fault.output }, response: {} } : await next(args);
      await fault?.answered?.(args.input);
      return answer as never;
    },
    { step: 'initialize', priority: 'high', name: 'faults' },
  );
  return { client, sent };
}
