/** Waits out a refusal that passes by itself, for 1.9, 2.1, 2.6, 3.6 and 3.19. */
import { setTimeout } from 'node:timers/promises';

/**
 * Does something again as long as AWS refuses it by one of these names: what was made a moment ago is not known
 * everywhere yet, something on its way off still holds it, or S3 is too busy. Any other error ends it at once.
 *
 * @param work - Begins anew each time.
 * @param options.names - Of the refusals: `['DependencyViolation']`.
 * @param options.tries - How often it is done at most. 10 by default.
 * @param options.seconds - How long to wait between. 2 by default.
 * @param options.signal - Ends it between two tries, with its reason.
 * @throws What `work` throws at last.
 * @see https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const remove = () => ec2.send(new DeleteSecurityGroupCommand({ GroupId: 'sg-0123456789abcdef0' }));
 * await whileRefused(remove, { names: ['DependencyViolation'], tries: 12, seconds: 5 });
 */
export async function whileRefused<Answer>(
  work: () => Promise<Answer>,
  {
    names,
    tries = 10,
    seconds = 2,
    signal,
  }: { names: string[]; tries?: number; seconds?: number; signal?: AbortSignal },
): Promise<Answer> {
  for (let count = 1; ; count++) {
    signal?.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      if (!names.includes((error as Error).name) || count === tries) throw error;
    }
    // What it throws when it is aborted says neither who nor why.
    await setTimeout(seconds * 1000, undefined, { signal }).catch(() => signal?.throwIfAborted());
  }
}
