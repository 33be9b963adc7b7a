/**
 * 2.12 Monitor an instance
 *
 * ## Problem
 * Is the instance busy? You want to see its CPU, network or disk over the last hours, without installing anything
 * on it, and more closely while you look for a fault.
 *
 * ## Solution
 * EC2 sends its measurements to CloudWatch every five minutes; detailed monitoring, every minute. Look which of the
 * two is on, switch it if asked to, list the metrics that there are, and read those you want, all in one
 * GetMetricData, oldest first. Then draw them, or print them as a table or as CSV.
 *
 * ## Discussion
 * The period you ask for has to fit what was measured: with basic monitoring a period of 60 s leaves four of five
 * points empty. So the period is 300 s or 60 s by the instance's own state, and longer for old data: CloudWatch keeps
 * minutes for 15 days, 300 s for 63 days, hours for 455 days. Just after detailed monitoring is switched on, the time
 * before has a value in every fifth minute only. CPU credits and the balances of EBS come every five minutes in either
 * state: with one of these metrics among the names the period is 300 s.
 *
 * A period without a measurement, as while the instance is stopped, is a gap and not a zero: null here, empty in CSV
 * and in the chart. The newest periods are often empty yet. A metric that was never heard of is all gaps and no
 * error; the list of what there is tells a misspelt name. It lacks metrics without data for two weeks, and new ones
 * for up to 15 minutes.
 *
 * Values have the unit of the metric. With `Average`, NetworkIn is bytes of one measurement; ask for `Sum` to get
 * the bytes of a period. What goes on inside, memory or how full a disk is, EC2 can't see: 2.14 stores it.
 *
 * After `--monitoring detailed` the state is `pending`, the period 300 s until it is `enabled`. `basic` takes it back.
 *
 * @before npx tsx recipes/ec2/01-launch-instance.ts --local
 * @run npx tsx recipes/ec2/12-monitor-instance.ts --local
 * @output
 *   instance id  i-3b534e9f0054a8d8d
 *   monitoring   disabled
 *   period       5 min
 *   available    -
 *
 *   CPUUtilization: no data
 * @aws npx tsx recipes/ec2/12-monitor-instance.ts --monitoring detailed --metric-name CPUUtilization NetworkIn
 * @permission ec2:DescribeInstances on *
 * @permission ec2:MonitorInstances on arn:aws:ec2:*:*:instance/*
 * @permission ec2:UnmonitorInstances on arn:aws:ec2:*:*:instance/*
 * @permission cloudwatch:ListMetrics on *
 * @permission cloudwatch:GetMetricData on *
 * @cost Basic monitoring, nothing. Detailed monitoring is billed for each metric of the instance by the month, and
 * reading for each metric asked for; the pricing page below has the prices.
 * @undo nothing
 * @emulator LocalStack measures no instances and can't switch monitoring: the tests put metrics of an instance there,
 * and answer MonitorInstances and UnmonitorInstances themselves.
 * @book ec2.monitor_instances → MonitorInstancesCommand
 * @book cloudwatch.list_metrics → paginateListMetrics
 * @book cloudwatch.get_metric_statistics → paginateGetMetricData
 * @see https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/viewing_metrics_with_cloudwatch.html
 * @see https://aws.amazon.com/cloudwatch/pricing/
 */
import { CloudWatchClient, paginateGetMetricData, paginateListMetrics } from '@aws-sdk/client-cloudwatch';
import {
  DescribeInstancesCommand,
  EC2Client,
  MonitorInstancesCommand,
  UnmonitorInstancesCommand,
} from '@aws-sdk/client-ec2';

export interface Series {
  metricName: string;
  /** One for each period, the oldest first; the value is null where nothing was measured. */
  points: { time: Date; value: number | null }[];
}

export interface MonitoredInstance {
  instanceId: string;
  /** `disabled` is basic monitoring, `enabled` is detailed; `pending` and `disabling` are on the way there. */
  monitoring: string;
  /** Seconds that each point stands for. */
  period: number;
  /** Names of all metrics that CloudWatch has of the instance. */
  available: string[];
  metrics: Series[];
}

/**
 * Reads what CloudWatch has measured of an instance, and switches detailed monitoring if asked to.
 *
 * @param ec2 - Of the instance's region.
 * @param cloudwatch - Of the same region.
 * @param options.instanceId - The instance.
 * @param options.metricNames - Up to 500 of EC2's metrics. `CPUUtilization` by default.
 * @param options.statistic - `Average` (the default), `Minimum`, `Maximum`, `Sum`, `SampleCount`, or one like `p99`.
 * @param options.hours - How far to look back, up to 10,920 (455 days). 3 by default.
 * @param options.monitoring - Switches to `detailed`, which costs, or to `basic`. Left as it is by default.
 * @param options.signal - Aborts the requests.
 * @throws InvalidInstanceID.NotFound when there is no such instance; Error when CloudWatch could not read a metric.
 * @see https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html
 *
 * @example
 * const [ec2, cloudwatch] = [new EC2Client({}), new CloudWatchClient({})];
 * const { metrics } = await monitorInstance(ec2, cloudwatch, { instanceId: 'i-0123456789abcdef0' });
 * for (const { time, value } of metrics[0]?.points ?? []) console.log(time, value ?? 'no data');
 */
export async function monitorInstance(
  ec2: EC2Client,
  cloudwatch: CloudWatchClient,
  {
    instanceId,
    metricNames = ['CPUUtilization'],
    statistic = 'Average',
    hours = 3,
    monitoring: wanted,
    signal,
  }: {
    instanceId: string;
    metricNames?: string[];
    statistic?: string;
    hours?: number;
    monitoring?: 'basic' | 'detailed';
    signal?: AbortSignal;
  },
): Promise<MonitoredInstance> {
  if (!(hours >= 1 && hours <= 10_920)) throw new RangeError(`the hours must be 1 to 10920 (455 days), not ${hours}`);
  if (!/^(Average|Minimum|Maximum|Sum|SampleCount|p\d\d?(\.\d+)?)$/.test(statistic)) {
    throw new RangeError(`"${statistic}" is no statistic such as Average, Minimum, Maximum, Sum, SampleCount or p99`);
  }
  const { length } = metricNames;
  if (length < 1 || length > 500) throw new RangeError(`a call reads 1 to 500 metrics, not ${length}`);
  const [InstanceIds, abort] = [[instanceId], { abortSignal: signal }];
  const { Reservations } = await ec2.send(new DescribeInstancesCommand({ InstanceIds }), abort);
  let monitoring: string = Reservations?.[0]?.Instances?.[0]?.Monitoring?.State ?? 'disabled';

  if (wanted) {
    const switched = wanted === 'detailed' ? MonitorInstancesCommand : UnmonitorInstancesCommand;
    const { InstanceMonitorings } = await ec2.send(new switched({ InstanceIds }), abort);
    monitoring = InstanceMonitorings?.[0]?.Monitoring?.State ?? monitoring;
  }

  const Namespace = 'AWS/EC2';
  const Dimensions = [{ Name: 'InstanceId', Value: instanceId }];
  const available = new Set<string>();
  for await (const { Metrics = [] } of paginateListMetrics({ client: cloudwatch }, { Namespace, Dimensions }, abort)) {
    for (const { MetricName } of Metrics) available.add(MetricName as string);
  }

  // Credits are never measured more often.
  const hasCredits = metricNames.some((name) => /^CPU(Surplus)?Credit|^EBS(IO|Byte)Balance%/.test(name));
  const shortest = monitoring === 'enabled' && !hasCredits ? 60 : 300;
  // An hour less than is kept: the start is rounded down, and of what is older a short period gives nothing.
  const period = hours <= 15 * 24 - 1 ? shortest : hours <= 63 * 24 - 1 ? 300 : 3600;
  // Whole periods, or CloudWatch would shift their times; the one that still runs would be half a measurement.
  const end = Math.floor(Date.now() / 1000 / period) * period;
  const start = end - Math.ceil((hours * 3600) / period) * period;
  const query = {
    StartTime: new Date(start * 1000),
    EndTime: new Date(end * 1000),
    ScanBy: 'TimestampAscending' as const,
    MetricDataQueries: metricNames.map((MetricName, index) => ({
      Id: `m${index}`,
      MetricStat: { Metric: { Namespace, MetricName, Dimensions }, Stat: statistic, Period: period },
    })),
  };
  // A page may hold a part of each metric, so the parts are put together by their ids.
  const values = new Map(metricNames.map((_, index) => [`m${index}`, new Map<number, number>()]));
  for await (const { MetricDataResults = [] } of paginateGetMetricData({ client: cloudwatch }, query, abort)) {
    for (const { Id = '', Timestamps = [], Values = [], StatusCode, Messages } of MetricDataResults) {
      if (StatusCode === 'InternalError' || StatusCode === 'Forbidden') {
        const what = metricNames[Number(Id.slice(1))];
        throw new Error(`CloudWatch could not read ${what}: ${StatusCode} ${Messages?.[0]?.Value ?? ''}`.trim());
      }
      for (const [at, time] of Timestamps.entries()) values.get(Id)?.set(Number(time) / 1000, Values[at] as number);
    }
  }

  const times = Array.from({ length: (end - start) / period }, (_, index) => start + index * period);
  const metrics = metricNames.map((metricName, index) => ({
    metricName,
    points: times.map((time) => ({ time: new Date(time * 1000), value: values.get(`m${index}`)?.get(time) ?? null })),
  }));
  return { instanceId, monitoring, period, available: [...available].sort(), metrics };
}

/**
 * Draws a metric with block characters, from zero up to its highest value. Gaps stay empty.
 *
 * @param series - What to draw.
 * @param options.width - Columns to draw in; where there are more points, a column is their average. 72 by default.
 * @param options.height - Lines to draw in. 6 by default.
 * @returns Several lines.
 * @see https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/graph_metrics.html
 *
 * @example
 * const points = [3, 5, null, 4].map((value, hour) => ({ time: new Date(2026, 0, 1, hour), value }));
 * const chart = drawChart({ metricName: 'CPUUtilization', points });
 * console.log(chart);
 */
export function drawChart({ metricName, points }: Series, { width = 72, height = 6 } = {}): string {
  const size = Math.ceil(points.length / width);
  const columns = Array.from({ length: Math.ceil(points.length / size) }, (_, column) => {
    const there = points.slice(column * size, (column + 1) * size).flatMap(({ value }) => value ?? []);
    return there.length > 0 ? there.reduce((sum, value) => sum + value, 0) / there.length : null;
  });
  if (columns.every((value) => value === null)) return `${metricName}: no data`;
  const highest = Math.max(...columns.map((value) => value ?? 0));
  const scale = highest > 0 ? height / highest : 0;
  const lines = Array.from({ length: height }, (_, index) => {
    const below = height - 1 - index;
    const blocks = columns.map((value) => {
      if (value === null) return ' ';
      // A zero is a thin line, so that it differs from a gap.
      const eighths = Math.max(Math.round((value * scale - below) * 8), below === 0 ? 1 : 0);
      return ' ▁▂▃▄▅▆▇█'[Math.min(eighths, 8)];
    });
    return `│${blocks.join('')}`.trimEnd();
  });
  const clock = (time?: Date) => time?.toISOString().slice(0, 16).replace('T', ' ');
  const [from, to] = [clock(points[0]?.time), clock(points.at(-1)?.time)];
  return [`${metricName}, up to ${Number(highest.toPrecision(4))}`, ...lines, `└ ${from} to ${to} UTC`].join('\n');
}

// ---- command line: leave out when copying ----
import { Option } from '@commander-js/extra-typings';
import { confirm, connect, interrupted, json, print, recipe, yes } from '../../shared/cli.ts';
import { newestInstance } from '../../shared/newest.ts';

recipe(import.meta, (command) =>
  command
    .argument('[instance-id]', 'the instance (default: the newest one of this cookbook)')
    .option('--metric-name <name...>', 'metrics to read', ['CPUUtilization'])
    .option('--statistic <name>', 'Average, Minimum, Maximum, Sum, SampleCount or one like p99', 'Average')
    .option('--hours <hours>', 'how far to look back', '3')
    .addOption(new Option('--monitoring <kind>', 'switch to it').choices(['basic', 'detailed'] as const))
    .addOption(new Option('--format <format>', 'what to print').choices(['chart', 'table', 'csv']).default('chart'))
    .addOption(yes)
    .action(async (given, { metricName: metricNames, hours, format, ...options }) => {
      const [ec2, cloudwatch] = [connect(EC2Client), connect(CloudWatchClient)];
      const instanceId = given ?? (await newestInstance(ec2));
      const price = 'Each of its metrics is then billed by the month: https://aws.amazon.com/cloudwatch/pricing/';
      if (options.monitoring === 'detailed') await confirm(`Turn on detailed monitoring of ${instanceId}? ${price}`);
      const more = { instanceId, hours: Number(hours), metricNames, signal: interrupted() };
      const { metrics, ...summary } = await monitorInstance(ec2, cloudwatch, { ...options, ...more });
      const rows = metrics.flatMap(({ metricName, points }) => points.map((point) => ({ metricName, ...point })));
      const lines = rows.map(({ metricName, time, value }) => `${metricName},${time.toISOString()},${value ?? ''}`);
      if (json()) return print({ ...summary, metrics });
      if (format === 'table') return print(rows);
      if (format === 'csv') return console.log(['metricName,time,value', ...lines].join('\n'));
      print(summary, { period: (seconds: number) => `${seconds / 60} min` });
      for (const series of metrics) console.log(`\n${drawChart(series)}`);
    }),
);
