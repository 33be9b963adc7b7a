/**
 * 2.27 Stream metrics into CloudWatch
 *
 * ## Problem
 * A program writes what it measures line by line, thousands of lines a second or a million in a file, and you want it
 * all in CloudWatch: quickly, in few calls, and without one bad line costing you the others.
 *
 * ## Solution
 * Read the lines as they come, JSON or CSV. Check each by CloudWatch's rules (2.14), and report a bad one by its
 * number. Values of one metric in one minute become one datum, with how often each was there: no statistic or
 * percentile is lost. Send as many data as a call takes, and a few calls at a time.
 *
 * ## Discussion
 * JSON lines are objects with `metricName` and `value`, and where you like `unit`, `time` and `dimensions`. CSV has a
 * first line of names; columns of other names are dimensions, and an empty cell is left out. A time is written like
 * `2026-11-24T20:00:00Z`; without one it is now. Times are rounded down to the minute, as CloudWatch keeps them.
 *
 * Each combination of dimensions is a metric that is billed by the month. So that a user's id in a dimension costs
 * no fortune, lines of more than `maxMetrics` metrics are bad lines.
 *
 * Memory stays the same however long the input is: while as many calls run as may, no more is read, and the program
 * that writes into the pipe waits. Behind `tail -f`, what has come is sent every ten seconds. On Ctrl-C, too.
 *
 * If a call fails for good, reading ends, and the error has the numbers of the lines that did not arrive. Send only
 * those again: what is sent twice counts twice. So may a call whose answer was lost, for the SDK repeats it.
 *
 * @run npx tsx recipes/ec2/27-stream-metrics.ts --local <<'END'
 * {"metricName":"Latency","value":12,"unit":"Milliseconds","dimensions":{"Host":"web-1"}}
 * {"metricName":"Latency","value":40,"unit":"Milliseconds","dimensions":{"Host":"web-1"}}
 * {"metricName":"QueueLength","value":7}
 * END
 * @output
 *   lines    3
 *   stored   3
 *   bad      0
 *   metrics  2
 *   calls    1
 * @permission cloudwatch:PutMetricData on *
 * @cost Metrics are billed by the month, and so are calls; an account's first 10 metrics and million calls a month are
 * free, and the pricing page below has the rest. A metric can't be deleted; its data are gone after 15 months.
 * @undo nothing
 * @emulator LocalStack takes a second and more for a thousand data, so a million lines go to a server of the
 * benchmark's own, which counts them and checks the limits of each call: bench/stream-metrics.ts.
 * @see https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html
 * @see https://aws.amazon.com/cloudwatch/pricing/
 */
import { addAbortSignal, type Readable } from 'node:stream';
import { CloudWatchClient } from '@aws-sdk/client-cloudwatch';
import { metricDataInput } from './14-helpers/metric-data.ts';
import { type Datum, storeMetrics } from './14-store-metrics.ts';
import { linesOf, longestLine, parserFor, type Single } from './27-helpers/parse-lines.ts';

export interface StreamedMetrics {
  /** Lines read, the CSV's first one and empty ones too. */
  lines: number;
  /** Lines whose value was stored. */
  stored: number;
  bad: number;
  /** How many different metrics the stored lines are of. */
  metrics: number;
  calls: number;
}

type Counted = Datum & { values: number[]; counts: number[] };

/** What is sent in one call. */
interface Batch {
  data: Counted[];
  /** By metric and minute, the datum that is not full yet. */
  open: Map<string, Counted>;
  bytes: number;
  stored: number;
  /** Numbers of the first and the last line. */
  first: number;
  last: number;
}

/**
 * Stores the values of a stream of lines in CloudWatch.
 *
 * @param cloudwatch - Its region is where the metrics are.
 * @param options.input - Lines of JSON, or of CSV with a first line of names: UTF-8.
 * @param options.namespace - As in 2.14.
 * @param options.maxMetrics - How many different metrics there may be. 100 by default.
 * @param options.concurrency - How many calls run at a time. 2 by default.
 * @param options.onBadLine - Called with the number, from 1, of each line that is refused, and why.
 * @param options.signal - Ends the reading; what was read is sent, and the result is returned.
 * @param options.onProgress - Called with a text for people.
 * @throws The error of the call that failed; its message has the numbers of the lines that did not arrive.
 * @see https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html
 *
 * @example
 * const cloudwatch = new CloudWatchClient({});
 * const onBadLine = (line: number, reason: string) => console.error(`line ${line}: ${reason}`);
 * await streamMetrics(cloudwatch, { input: process.stdin, namespace: 'Shop', onBadLine });
 */
export async function streamMetrics(
  cloudwatch: CloudWatchClient,
  {
    input,
    namespace,
    maxMetrics = 100,
    concurrency = 2,
    onBadLine,
    signal,
    onProgress,
  }: {
    input: Readable;
    namespace: string;
    maxMetrics?: number;
    concurrency?: number;
    onBadLine?: (line: number, reason: string) => void;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<StreamedMetrics> {
  metricDataInput({ namespace, data: [] });
  for (const [name, number] of Object.entries({ maxMetrics, concurrency })) {
    if (!(Number.isInteger(number) && number >= 1)) throw new RangeError(`${name} must be 1 or more, not ${number}`);
  }
  const result: StreamedMetrics = { lines: 0, stored: 0, bad: 0, metrics: 0, calls: 0 };
  const metrics = new Set<string>();
  const running = new Set<Promise<void>>();
  const lost: Batch[] = [];
  let batch = newBatch();
  let failure: Error | undefined;

  const send = () => {
    const full = batch;
    batch = newBatch();
    if (full.stored === 0) return;
    const call = storeMetrics(cloudwatch, { namespace, data: full.data })
      .then(
        () => {
          result.stored += full.stored;
          result.calls += 1;
          onProgress?.(`${result.stored} lines stored in ${result.calls} calls`);
        },
        (error) => {
          failure ??= error;
          lost.push(full);
          input.destroy();
        },
      )
      .finally(() => running.delete(call));
    running.add(call);
  };
  // Without this wait, what is read faster than it is sent would fill the memory.
  const free = async () => {
    while (running.size >= concurrency) await Promise.race(running);
  };
  // What has come must not wait for ever for the rest of a batch.
  const timer = setInterval(() => running.size < concurrency && send(), 10_000);

  let parse: ((line: string) => Single | null) | undefined;
  const take = (line: string) => {
    parse ??= parserFor(line);
    // What is left of it could be a good line by chance.
    if (line.length > longestLine) throw new RangeError(`has over ${longestLine} characters`);
    const datum = parse(line);
    if (!datum) return;
    const one = { ...datum, time: new Date(Math.floor(Number(datum.time ?? Date.now()) / 60_000) * 60_000) };
    const { MetricData } = metricDataInput({ namespace, data: [one] });
    // CloudWatch would refuse the call for it, and all the others in it.
    const isLate = Date.now() - Number(one.time) > 14 * 86_400_000 - 600_000;
    if (isLate) throw new RangeError(`${one.time.toISOString()} may be over two weeks ago when it is sent`);
    const metric = JSON.stringify([datum.metricName, Object.entries(datum.dimensions ?? {}).sort()]);
    const isOver = metrics.size === maxMetrics && !metrics.has(metric);
    if (isOver) throw new RangeError(`is of one metric more than maxMetrics, ${maxMetrics}`);
    metrics.add(metric);
    // What it takes as JSON, with the names of its two lists.
    add(batch, `${metric} ${datum.unit} ${Number(one.time)}`, one, JSON.stringify(MetricData).length + 24);
    batch.first ||= result.lines;
    batch.last = result.lines;
  };

  try {
    for await (const lines of linesOf(signal ? addAbortSignal(signal, input) : input)) {
      for (const line of lines) {
        result.lines += 1;
        try {
          if (line.trim() !== '') take(line);
        } catch (error) {
          // Where the first line tells nothing, the others mean nothing.
          if (!parse) throw error;
          result.bad += 1;
          onBadLine?.(result.lines, (error as Error).message.replace(/\p{Cc}/gu, ' '));
        }
        // Half of the 1 MB that a call may have: larger ones only take more memory. A datum is 80 KB at most, or so.
        if (batch.data.length === 1000 || batch.bytes > 450_000) {
          await free();
          send();
        }
        if (failure) throw failure;
      }
    }
  } catch (error) {
    if (!signal?.aborted) failure ??= error as Error;
  }
  clearInterval(timer);
  await free();
  if (!failure) send();
  await Promise.all(running);
  if (!failure) return { ...result, metrics: metrics.size };

  if (batch.stored > 0) lost.push(batch);
  if (lost.length === 0) throw failure;
  const ranges = lost.sort((a, b) => a.first - b.first).map(({ first, last }) => `${first} to ${last}`);
  const message = `${failure.message}; stopped at line ${result.lines}; not stored are lines ${ranges.join(', ')}`;
  throw Object.assign(new Error(message, { cause: failure }), { name: failure.name });
}

const newBatch = (): Batch => ({ data: [], open: new Map(), bytes: 0, stored: 0, first: 0, last: 0 });

/** Adds a value to the datum of its metric and minute, or begins one. */
function add(batch: Batch, key: string, { value, ...metric }: Single, bytes: number): void {
  const datum = batch.open.get(key);
  const at = datum?.values.indexOf(value) ?? -1;
  if (datum && at >= 0) datum.counts[at] = (datum.counts[at] as number) + 1;
  else if (datum && datum.values.length < 150) datum.counts[datum.values.push(value) - 1] = 1;
  else {
    const first = { ...metric, values: [value], counts: [1] };
    batch.open.set(key, first);
    batch.data.push(first);
    batch.bytes += bytes;
  }
  // The number, its count of up to seven digits and two commas.
  if (at < 0) batch.bytes += `${value}`.length + 9;
  batch.stored += 1;
}

// ---- command line: leave out when copying ----
import { connect, interrupted, print, progress, recipe } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .option('--namespace <name>', 'namespace of the metrics', 'Paws')
    .option('--max-metrics <count>', 'how many different metrics there may be', '100')
    .option('--concurrency <count>', 'how many calls run at a time', '2')
    .action(async ({ namespace, ...options }) => {
      const limits = { maxMetrics: Number(options.maxMetrics), concurrency: Number(options.concurrency) };
      const onBadLine = (line: number, reason: string) => console.error(`line ${line}: ${reason}`);
      const signal = interrupted();
      const more = { input: process.stdin, onBadLine, signal, onProgress: progress };
      progress('reading lines from standard input');
      const result = await streamMetrics(connect(CloudWatchClient), { namespace, ...limits, ...more });
      print(result);
      signal.throwIfAborted();
      if (result.bad > 0) process.exitCode = 1;
    }),
);
