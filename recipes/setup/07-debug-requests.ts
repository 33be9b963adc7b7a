/**
 * 1.7 Debug requests
 *
 * ## Problem
 * A call fails, is slow or does something else than you meant, and you want to see what really goes over the wire:
 * each request and each response, without your secrets in the log.
 *
 * ## Solution
 * Hang a log on the client. `logRequests` of `shared/wire-log.ts` is a middleware that stands next to the socket; here
 * it watches one request, the list of your buckets. `--whole` shows headers and bodies, too. Every recipe has it built
 * in: `--calls` for a line a request, `--debug` for all, which here is the same as `--whole`.
 *
 * ## Discussion
 * **What it shows.** One line for each attempt, not for each call: a call that the SDK tried three times has three.
 * With `--whole` also the signed headers, the query and the body as they were sent. Bodies are cut after 4 KiB, binary
 * ones are only counted, and streams are looked at as they flow, so that a download of gigabytes stays one.
 *
 * **What it hides.** Signatures (in URLs, too), session tokens, keys of SSE-C, cookies, and in bodies private keys,
 * secret keys, passwords and user data. Access key ids and your data stay in: names, and what you upload.
 *
 * **What to look for.** A host or region that you did not expect; `x-amz-request-id` and `x-amz-id-2`, which AWS
 * Support asks for (in code they are `$metadata` of each answer and each error); 503 SlowDown and long
 * `retry delay`; a 301 or 400 that names another region.
 *
 * **Other ways.** `new S3Client({ logger: console })` logs where the client looks for its settings, and each call's
 * input, output and `$metadata` without what the service's model marks as sensitive; no headers, and one entry
 * however many attempts there were. `NODE_DEBUG=http,net,tls` shows the connections, and all secrets in the headers.
 *
 * @run npx tsx recipes/setup/07-debug-requests.ts --local
 * @run npx tsx recipes/setup/07-debug-requests.ts --whole --local
 * @output
 *   s3:ListBuckets 200 11 ms
 *   status               200
 *   attempts             1
 *   retry delay          0 ms
 *   request id           699f1b17-a116-4dd1-a290-7dddb262f8ac
 *   extended request id  s9lzHYrFp76ZVxRcpX9+5cjAnEH2ROuNkd2BHfIa6UkFVdtjf5mKR3/eTPFvsiP/XV/VLi31234=
 * @permission s3:ListAllMyBuckets on *
 * @cost nothing
 * @undo nothing
 * @book boto.set_stream_logger, debug = 2
 * @see https://aws.amazon.com/blogs/developer/middleware-stack-modular-aws-sdk-js/
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/get-request-ids.html
 * @see https://docs.aws.amazon.com/sdk-for-javascript/v3/developer-guide/logging-sdk-calls.html
 */
import { ListBucketsCommand, S3Client } from '@aws-sdk/client-s3';
import { logRequests } from '../../shared/wire-log.ts';

export interface DebuggedCall {
  /** HTTP status of the last attempt. */
  status: number;
  attempts: number;
  /** Milliseconds spent between attempts. */
  retryDelay: number;
  /** What AWS Support asks for. Null where a server gives none. */
  requestId: string | null;
  /** The second id that S3 gives, `x-amz-id-2`. Null where a server gives none. */
  extendedRequestId: string | null;
}

/**
 * Lists the account's buckets, and tells what was sent and received for it. From then on the client's other calls
 * are logged as well: put the line with `logRequests` after `new S3Client`, or after any other client's.
 *
 * @param s3 - The client to watch.
 * @param options.write - Is given one or more lines, without a line feed at the end.
 * @param options.whole - Whether to show headers and bodies, too. False by default.
 * @param options.signal - Ends the call.
 * @returns What the SDK knows about the call.
 * @throws What the call fails with; its `$metadata` has the same, as far as there was an answer.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListBuckets.html
 *
 * @example
 * const s3 = new S3Client({});
 * const { attempts } = await debugRequests(s3, { write: console.error });
 * console.log(`answered after ${attempts} attempts`);
 */
export async function debugRequests(
  s3: S3Client,
  { write, whole = false, signal }: { write: (text: string) => void; whole?: boolean; signal?: AbortSignal },
): Promise<DebuggedCall> {
  logRequests(s3, write, { whole });
  // A small call that changes nothing: few buckets do.
  const { $metadata } = await s3.send(new ListBucketsCommand({ MaxBuckets: 10 }), { abortSignal: signal });
  return {
    status: $metadata.httpStatusCode ?? 0,
    attempts: $metadata.attempts ?? 1,
    retryDelay: $metadata.totalRetryDelay ?? 0,
    requestId: $metadata.requestId ?? null,
    extendedRequestId: $metadata.extendedRequestId ?? null,
  };
}

// ---- command line: leave out when copying ----
import { connect, interrupted, json, print, recipe } from '../../shared/cli.ts';
import { logging } from '../../shared/connect.ts';

recipe(import.meta, (command) =>
  command.option('--whole', 'show headers and bodies, too').action(async ({ whole = logging.wire }) => {
    const log: string[] = [];
    const write = (text: string) => (json() ? log.push(text) : console.log(text));
    const watched = debugRequests(connect(S3Client), { write, whole, signal: interrupted() });
    const call = await watched.catch((error) => {
      // The log of a call that fails is what was wanted.
      if (json()) print({ log });
      throw error;
    });
    print(json() ? { log, ...call } : call, { retryDelay: (milliseconds: number) => `${milliseconds} ms` });
  }),
);
