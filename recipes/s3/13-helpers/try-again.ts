/** Does again what may go well a moment later. */
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Sends something, and again if the network, or a server in trouble, let it fail. The SDK does so too, but all its
 * tries are within a second or two, and a body that is a stream it sends once only.
 *
 * @param send - Begins anew each time.
 * @param options.tries - How often, with pauses of up to 1, 2, 4 … and at most 60 seconds between. 6 by default.
 * @param options.passing - Names of refusals that may pass. By default `RequestTimeout`, and `BadDigest`, for something
 *   on the way may have changed the data.
 * @param options.signal - Ends the pauses, too.
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
  options: { tries?: number; passing?: string[]; signal?: AbortSignal } = {},
): Promise<Answer> {
  const { tries = 6, passing = ['BadDigest', 'RequestTimeout'], signal } = options;
  for (let count = 1, pause = 1000; ; count++, pause = Math.min(2 * pause, 60_000)) {
    try {
      return await send();
    } catch (error) {
      const { name, $metadata } = error as Error & { $metadata?: { httpStatusCode?: number } };
      // Without a status there was no answer.
      const status = $metadata?.httpStatusCode ?? 500;
      // The SDK takes an error within an answer of 200 for a 503, whatever it says.
      const isFinal = /^(AccessDenied|BadDigest|EntityTooSmall|Invalid.*|NoSuch.*|PreconditionFailed)$/.test(name);
      const passes = passing.includes(name) || (status >= 500 && !isFinal);
      if (!passes || count === tries || signal?.aborted) throw error;
      // Of random length, so that those that failed together don't come back together.
      await sleep(pause * Math.random(), undefined, { signal });
    }
  }
}
