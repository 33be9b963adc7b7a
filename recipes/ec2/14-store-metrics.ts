/**
 * 2.14 Store metrics of your own
 *
 * ## Problem
 * EC2 measures your instance from the outside: CPU, network, disk traffic. How full its disk is, or how long your
 * queue is, only you can measure, and you want it in CloudWatch beside the rest, to chart it and to be alarmed.
 *
 * ## Solution
 * Send the numbers with PutMetricData: one number, or a set of them for the same moment, under a namespace, a name
 * and dimensions of your own; nothing is to be created first. Then read them back until they show. Without numbers
 * the command measures how full this machine's disk is.
 *
 * ## Discussion
 * Namespace, name and dimensions together are the metric. Each value of a dimension makes another one, billed for
 * itself: a user's id as a dimension is thousands. Read a metric with exactly the dimensions it was stored with.
 *
 * For one bad datum CloudWatch refuses the whole call, so all are checked first, in 14-helpers/metric-data.ts: NaN and
 * infinities, numbers beyond ±2^360, times over two weeks old or two hours ahead, more than 30 dimensions.
 *
 * Each metric is kept by the minute; with `resolution: 1` by the second, for three hours. Of a set of values,
 * percentiles can be asked for later if none is negative; of statistics that you have summed up yourself they can't,
 * unless all values are the same.
 *
 * What is stored shows later: `not yet` is no failure, and no reason to store it again. Data over three hours old can
 * take two hours, data over a day old two days and more; a new metric's name, 15 minutes until ListMetrics has it.
 *
 * Storing twice counts twice. So may a call whose answer was lost, for the SDK sends it again. Many numbers a second
 * go as sets: 2.27 makes them from a stream.
 *
 * @run npx tsx recipes/ec2/14-store-metrics.ts 12 12 40 --metric-name QueueLength --dimension Queue=mail --local
 * @output
 *   values        12, 12, 40
 *   namespace     Paws
 *   metric names  QueueLength
 *   samples       3
 *   shown after   0.0 s
 * @run npx tsx recipes/ec2/14-store-metrics.ts --local
 * @permission cloudwatch:PutMetricData on *
 * @permission cloudwatch:GetMetricData on *
 * @cost Each metric is billed by the month; an account's first 10 are free, and the pricing page below has the rest.
 * Reading back is billed for each metric and call, up to 25 calls here; `--wait 0` reads nothing. A metric can't be
 * deleted: stop storing; CloudWatch drops the data after 15 months.
 * @undo nothing
 * @emulator LocalStack shows data at once, and takes those that CloudWatch refuses: NaN, over 1,000 in a call
 * @book cloudwatch.put_metric_data → PutMetricDataCommand
 * @see https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html
 * @see https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/publishingMetrics.html
 * @see https://aws.amazon.com/cloudwatch/pricing/
 */
import { statfs } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  CloudWatchClient,
  PutMetricDataCommand,
  type PutMetricDataInput,
  paginateGetMetricData,
} from '@aws-sdk/client-cloudwatch';
import { metricDataInput } from './14-helpers/metric-data.ts';

/** What was measured, in one of three forms. */
export type Measured =
  | { value: number }
  /** All that was measured in this minute or second; `counts` tells how often each value was. Once by default. */
  | { values: number[]; counts?: number[] }
  /** The same, summed up already. */
  | { sampleCount: number; sum: number; minimum: number; maximum: number };

export type Datum = Measured & {
  metricName: string;
  /** CloudWatch's word, such as `Percent`, `Bytes` or `Count/Second`. `None` by default. */
  unit?: string;
  /** Up to 30, such as `{ Host: 'web-1' }`. None by default. */
  dimensions?: Record<string, string>;
  /** When it was measured. Now by default. */
  time?: Date;
  /** Seconds that CloudWatch keeps apart: 60, by default, or 1. */
  resolution?: 1 | 60;
};

export interface StoredMetrics {
  namespace: string;
  metricNames: string[];
  /** How many measured values were stored. */
  samples: number;
  /** Milliseconds until all could be read back; null if they did not show in the time allowed, or nobody asked. */
  shownAfter: number | null;
}

/**
 * Stores data in CloudWatch in one call, and waits until they can be read if asked to.
 *
 * @param cloudwatch - Its region is where the metrics are.
 * @param options.namespace - A name for what belongs together, such as `Shop/Mail`; not `AWS/…`.
 * @param options.data - 1 to 1,000 data, of 1 MB together.
 * @param options.seconds - How long to wait until they can be read, for up to 500 metrics. 0 by default: not at all.
 * @param options.signal - Aborts the waiting; what was stored stays.
 * @param options.onProgress - Called with a text for people.
 * @throws RangeError or TypeError when one of the data would be refused; then nothing was sent. When reading back
 *   fails, an error of that name, which says that the data are stored.
 * @see https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html
 *
 * @example
 * const cloudwatch = new CloudWatchClient({});
 * const data = [{ metricName: 'DiskUsage', value: 61.5, unit: 'Percent', dimensions: { Host: 'web-1' } }];
 * await storeMetrics(cloudwatch, { namespace: 'Shop', data });
 */
export async function storeMetrics(
  cloudwatch: CloudWatchClient,
  {
    namespace,
    data,
    seconds = 0,
    signal,
    onProgress,
  }: {
    namespace: string;
    data: Datum[];
    seconds?: number;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<StoredMetrics> {
  if (data.length === 0) throw new RangeError('there are no data to store');
  if (!(seconds >= 0)) throw new RangeError(`the seconds to wait must be 0 or more, not ${seconds}`);
  const input = metricDataInput({ namespace, data });
  // AWS doesn't say whether its limit is before or after the SDK compresses the call: this is before.
  const { length } = JSON.stringify(input);
  if (length > 1_000_000) throw new RangeError(`the data are ${length} bytes; a call takes 1 MB: send fewer at a time`);
  let samples = 0;
  for (const { Counts = [1], StatisticValues } of input.MetricData ?? []) {
    samples += StatisticValues?.SampleCount ?? Counts.reduce((sum, count) => sum + count);
  }

  // Others may store in the same minute: what counts is how many more there are afterwards.
  const before = seconds > 0 ? await countSamples(cloudwatch, input, signal) : 0;
  await cloudwatch.send(new PutMetricDataCommand(input), { abortSignal: signal });

  const start = Date.now();
  let shownAfter: number | null = null;
  while (shownAfter === null && Date.now() - start < seconds * 1000) {
    onProgress?.(`stored; waiting until CloudWatch shows it: ${Math.round((Date.now() - start) / 1000)} s`);
    const count = await countSamples(cloudwatch, input, signal).catch((cause: Error) => {
      signal?.throwIfAborted();
      // Or the data would be stored twice.
      const told = `the data are stored, but reading them back failed: ${cause.message}`;
      throw Object.assign(new Error(told, { cause }), { name: cause.name });
    });
    if (count >= before + samples) shownAfter = Date.now() - start;
    else await sleep(Math.min(5000, seconds * 250), undefined, { signal });
  }
  return { namespace, metricNames: [...new Set(data.map(({ metricName }) => metricName))], samples, shownAfter };
}

/** Counts what CloudWatch has of these metrics from the first minute of these data to the last. */
async function countSamples(
  cloudwatch: CloudWatchClient,
  { Namespace, MetricData = [] }: PutMetricDataInput,
  signal?: AbortSignal,
): Promise<number> {
  const minutes = MetricData.map(({ Timestamp }) => Math.floor(Number(Timestamp) / 60_000) * 60_000);
  const metrics = new Map(
    MetricData.map(({ MetricName, Dimensions }) => {
      const Metric = { Namespace, MetricName, Dimensions };
      return [JSON.stringify(Metric), { Metric, Stat: 'SampleCount', Period: 60 }];
    }),
  );
  if (metrics.size > 500) throw new RangeError(`can't wait for ${metrics.size} metrics: a call reads 500`);
  const input = {
    StartTime: new Date(Math.min(...minutes)),
    EndTime: new Date(Math.max(...minutes) + 60_000),
    MetricDataQueries: [...metrics.values()].map((MetricStat, index) => ({ Id: `m${index}`, MetricStat })),
  };
  let count = 0;
  for await (const page of paginateGetMetricData({ client: cloudwatch }, input, { abortSignal: signal })) {
    for (const { Values = [] } of page.MetricDataResults ?? []) for (const value of Values) count += value;
  }
  return count;
}

/**
 * Measures how full a disk is, in percent, as `df` does.
 *
 * @param path - Any folder on the disk.
 * @see https://nodejs.org/docs/latest-v22.x/api/fs.html#fspromisesstatfspath-options
 *
 * @example
 * const value = await measureDiskUsage('/');
 * console.log({ metricName: 'DiskUsage', value, unit: 'Percent' });
 */
export async function measureDiskUsage(path: string): Promise<number> {
  const { blocks, bfree, bavail } = await statfs(path);
  const used = blocks - bfree;
  return Math.round((used / (used + bavail)) * 1000) / 10;
}

// ---- command line: leave out when copying ----
import { hostname } from 'node:os';
import { connect, interrupted, print, progress, recipe } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('[values...]', "numbers, all of one moment (default: how full this machine's disk is)")
    .option('--namespace <name>', 'namespace of the metric', 'Paws')
    .option('--metric-name <name>', 'name of the metric (default: DiskUsage for the disk)')
    .option('--unit <unit>', 'unit of the values (default: Percent for the disk, None for values)')
    .option('--dimension <name=value...>', 'dimensions (default: Host=NAME for the disk, none for values)')
    .option('--time <time>', 'when it was measured, as 2026-11-24T20:00:00Z (default: now)')
    .option('--resolution <seconds>', 'seconds that are kept apart: 60 or 1', '60')
    .option('--wait <seconds>', 'how long to wait until it can be read', '120')
    .action(async (given, { namespace, time, ...options }) => {
      const isDisk = given.length === 0;
      const values = isDisk ? [await measureDiskUsage('/')] : given.map((word) => (word ? Number(word) : Number.NaN));
      const disk = { metricName: 'DiskUsage', unit: 'Percent', dimension: [`Host=${hostname()}`] };
      const { metricName, unit, dimension = [] } = isDisk ? { ...disk, ...options } : options;
      if (!metricName) throw new RangeError('give --metric-name with values');
      const dimensions = Object.fromEntries(dimension.map((pair) => pair.split(/=(.*)/s, 2)));
      const resolution = Number(options.resolution) as 60;
      const datum = { metricName, values, unit, dimensions, resolution, ...(time && { time: new Date(time) }) };
      const more = { seconds: Number(options.wait), signal: interrupted(), onProgress: progress };
      const result = await storeMetrics(connect(CloudWatchClient), { namespace, data: [datum], ...more });
      const shownAfter = (ms: number | null) => (ms === null ? 'not yet' : `${(ms / 1000).toFixed(1)} s`);
      print({ values, ...result }, { shownAfter });
    }),
);
