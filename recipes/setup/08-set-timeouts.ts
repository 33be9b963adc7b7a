/**
 * 1.8 Set time-outs and retries
 *
 * ## Problem
 * A server that hangs must not make your program hang, and one that fails for a moment should be asked again. As it
 * comes, the SDK does the second and waits without end.
 *
 * ## Solution
 * Give the client a limit for connecting and one for silence, which suit long uploads and downloads, too, and each call
 * a deadline. There are four clocks; each stops what another lets pass. To see it, run this recipe: it starts a server
 * that misbehaves and measures each clock alone, with one attempt. The last column is with retries and no clock.
 *
 * ## Discussion
 * | clock | what it limits |
 * |---|---|
 * | `connectionTimeout` | the time until the connection stands |
 * | `requestTimeout` | the time to the headers of the answer: connecting, uploading, waiting, but not the body |
 * | `socketTimeout` | the time without a byte in either direction, also within the body |
 * | deadline | all of a call: attempts, the pauses between them, the body |
 *
 * `requestTimeout` ends an upload that is slow but well, so it is off by default. Without `throwOnRequestTimeout` it
 * ends nothing and only logs a warning. A client has 50 connections to a server at most: a call that has to wait until
 * one is free spends its `connectionTimeout` and `requestTimeout` on that.
 *
 * A deadline is an `abortSignal`: give it to `send` and read the body before it is over. Nothing else stops an answer
 * that dribbles. The SDK then throws an AbortError or, within a body, the error of a lost connection; `withDeadline`
 * makes it a TimeoutError each time. What was stopped may have worked all the same: look before you repeat it.
 *
 * **Retries.** What ran into a clock other than the deadline, lost connections, throttling and the statuses 500, 502,
 * 503 and 504 are tried again, three attempts in all: a `socketTimeout` of 30 s can make a call fail after 90 s. The
 * pause before the second attempt is random, up to 50 ms, or 1 s when throttled; the longest pause doubles each time,
 * up to 20 s. A client that has retried in vain for long stops retrying until calls succeed again. Not retried are an
 * upload from a stream and a body that breaks off while you read it. The mode `adaptive` slows down first attempts
 * too, of all calls of a client that is throttled: have one client for each thing that throttles, such as a bucket.
 *
 * `AWS_MAX_ATTEMPTS` and `AWS_RETRY_MODE`, or `max_attempts` and `retry_mode` in `~/.aws/config`, set the retries of
 * clients that have no setting of their own. The clocks are set in code, but for one: with
 * `AWS_ENABLE_DEFAULT_SOCKET_TIMEOUT_2026=true`, clients of EC2 have a `socketTimeout` of 15 minutes, those of S3 none.
 *
 * @run npx tsx recipes/setup/08-set-timeouts.ts
 * @output
 *   server                     connection     request        socket         deadline       retries
 *   accepts no connection      stopped 0.5 s  stopped 0.5 s  still waits    stopped 3.0 s  still waits
 *   stays silent               still waits    stopped 0.5 s  stopped 0.6 s  stopped 3.0 s  still waits
 *   stops in its answer        still waits    still waits    stopped 0.6 s  stopped 3.0 s  still waits
 *   dribbles its answer        still waits    still waits    still waits    stopped 3.0 s  still waits
 *   resets connections         ECONNRESET     ECONNRESET     ECONNRESET     ECONNRESET     ECONNRESET, 3 tries
 *   answers 503, then 200      503            503            503            503            done, 2 tries
 *   works, the upload is slow  done           stopped 0.5 s  done           done           done
 * @permission nothing
 * @cost nothing
 * @undo nothing
 * @book the http_socket_timeout setting
 * @see https://docs.aws.amazon.com/AWSJavaScriptSDK/v3/latest/Package/-smithy-node-http-handler
 * @see https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
 */

/** Times in milliseconds; 0 is no limit. */
export interface ClientLimits {
  /** 3,000 by default. */
  connectionTimeout?: number;
  /** None by default: it would end long uploads. */
  requestTimeout?: number;
  /** 30,000 by default. */
  socketTimeout?: number;
  /** The first and its repeats. 3 by default. */
  maxAttempts?: number;
  /** `standard` by default. */
  retryMode?: 'standard' | 'adaptive';
}

/** Settings that clients of S3, EC2 and most other services take. */
export interface ClientSettings {
  requestHandler: {
    connectionTimeout: number;
    requestTimeout: number;
    throwOnRequestTimeout: boolean;
    socketTimeout: number;
  };
  maxAttempts: number;
  retryMode: 'standard' | 'adaptive';
}

/** The longest that a timer of Node.js can wait. */
const longest = 2 ** 31 - 1;

/**
 * The settings that keep a client from waiting without end.
 *
 * @param limits - Times in milliseconds and the number of attempts; what is left out has its default.
 * @throws RangeError when a time or the number of attempts is none.
 * @see https://docs.aws.amazon.com/AWSJavaScriptSDK/v3/latest/Package/-smithy-node-http-handler
 *
 * @example
 * const s3 = new S3Client({ ...setTimeouts({ socketTimeout: 10_000 }), region: 'eu-west-1' });
 * const { Buckets = [] } = await s3.send(new ListBucketsCommand({}));
 * console.log(Buckets.length);
 */
export function setTimeouts({
  connectionTimeout = 3_000,
  requestTimeout = 0,
  socketTimeout = 30_000,
  maxAttempts = 3,
  retryMode = 'standard',
}: ClientLimits = {}): ClientSettings {
  for (const [name, time] of Object.entries({ connectionTimeout, requestTimeout, socketTimeout })) {
    if (!(time >= 0 && time <= longest))
      throw new RangeError(`${name} takes 0 to ${longest} milliseconds, not ${time}`);
  }
  if (!(Number.isInteger(maxAttempts) && maxAttempts >= 1)) {
    throw new RangeError(`maxAttempts takes a whole number from 1, not ${maxAttempts}`);
  }
  return {
    // Without throwOnRequestTimeout, requestTimeout only logs a warning.
    requestHandler: { connectionTimeout, requestTimeout, throwOnRequestTimeout: true, socketTimeout },
    maxAttempts,
    retryMode,
  };
}

/**
 * Gives a piece of work, such as a call and the reading of its body, a time by which it is over.
 *
 * @param work - Is given the signal to pass on as `abortSignal`.
 * @param options.deadline - Milliseconds that all may take.
 * @param options.signal - Ends the work earlier, for its own reason.
 * @returns What `work` returns.
 * @throws TimeoutError when the time is over.
 * @throws RangeError when the deadline is no time.
 * @see https://aws.amazon.com/blogs/developer/abortcontroller-in-modular-aws-sdk-for-javascript/
 *
 * @example
 * const s3 = new S3Client(setTimeouts());
 * const text = await withDeadline(
 *   async (abortSignal) => {
 *     const object = new GetObjectCommand({ Bucket: 'my-company-reports', Key: 'may.csv' });
 *     const { Body } = await s3.send(object, { abortSignal });
 *     return await Body?.transformToString();
 *   },
 *   { deadline: 60_000 },
 * );
 * console.log(text);
 */
export async function withDeadline<Result>(
  work: (abortSignal: AbortSignal) => Promise<Result>,
  { deadline, signal }: { deadline: number; signal?: AbortSignal },
): Promise<Result> {
  if (!(deadline > 0 && deadline <= longest)) {
    throw new RangeError(`deadline takes 1 to ${longest} milliseconds, not ${deadline}`);
  }
  // Not AbortSignal.timeout: within AbortSignal.any, Node.js 20 forgets it when memory is tidied up.
  const clock = new AbortController();
  const late = new DOMException(`not done within ${deadline} ms`, 'TimeoutError');
  const timer = setTimeout(() => clock.abort(late), deadline);
  const abortSignal = signal ? AbortSignal.any([signal, clock.signal]) : clock.signal;
  try {
    return await work(abortSignal);
  } catch (error) {
    // The SDK's error depends on what was going on; the reason is what happened.
    abortSignal.throwIfAborted();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

// ---- command line: leave out when copying ----
import { print, progress, recipe } from '../../shared/cli.ts';
import type { MeasuredLimits, Outcome } from './08-helpers/measure.ts';

recipe(import.meta, (command) =>
  command
    .option('--connection-timeout <milliseconds>', 'what the column "connection" is measured with', '500')
    .option('--request-timeout <milliseconds>', 'the column "request"', '500')
    .option('--socket-timeout <milliseconds>', 'the column "socket"', '500')
    .option('--deadline <milliseconds>', 'the column "deadline"', '3000')
    .option('--max-attempts <number>', 'the column "retries"', '3')
    .action(async (options) => {
      const limits = Object.entries(options).map(([name, value]) => [name, Number(value)]);
      progress('measuring for some seconds');
      const { measureTimeouts } = await import('./08-helpers/measure.ts');
      const columns = ['connection', 'request', 'socket', 'deadline', 'retries'];
      print(
        await measureTimeouts(Object.fromEntries(limits) as MeasuredLimits),
        Object.fromEntries(columns.map((column) => [column, inWords])),
      );
    }),
);

function inWords({ outcome, error, milliseconds, attempts }: Outcome): string {
  if (outcome === 'waiting') return 'still waits';
  const result = error === 'TimeoutError' ? `stopped ${(milliseconds / 1000).toFixed(1)} s` : (error ?? 'done');
  return attempts && attempts > 1 ? `${result}, ${attempts} tries` : result;
}
