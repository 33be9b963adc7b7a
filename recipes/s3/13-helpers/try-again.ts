/** Does again what may go well a moment later. */
import { setTimeout as sleep } from 'node:timers/promises';

/** How often, with pauses of up to 1, 2, 4, 8 and 16 seconds between. */
const mostTries = 6;

/**
 * Sends something, and again if the network, or a server in trouble, let it fail. The SDK does so too, but all its
 * tries are within a second or two, and a body that is a stream it sends once only.
 *
 * @param send - Begins anew each time.
 * @param signal - Ends the pauses, too.
 * @param passing - Names of refusals that may pass. A bad digest does, if something on the way has changed the data.
 * @throws What `send` throws at last, or at once if it won't pass.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
 *
 * @example
 * const s3 = new S3Client({});
 * const { Buckets = [] } = await tryAgain(() => s3.send(new ListBucketsCommand({})));
 * console.log(Buckets.length);
 */
export async function tryAgain<Answer>(
  send: () => Promise<Answer>,
  signal?: AbortSignal,
  passing = ['BadDigest', 'RequestTimeout'],
): Promise<Answer> {
  for (let tries = 1, pause = 1000; ; tries++, pause *= 2) {
    try {
      return await send();
    } catch (error) {
      const { name, $metadata } = error as Error & { $metadata?: { httpStatusCode?: number } };
      // Without a status there was no answer.
      const status = $metadata?.httpStatusCode ?? 500;
      const passes = status >= 500 || passing.includes(name);
      if (!passes || tries === mostTries || signal?.aborted) throw error;
      // Of random length, so that those that failed together don't come back together.
      await sleep(pause * Math.random(), undefined, { signal });
    }
  }
}
