import { CloudWatchClient, PutMetricDataCommand } from '@aws-sdk/client-cloudwatch';
import { RunInstancesCommand } from '@aws-sdk/client-ec2';
import { beforeEach, expect, test, vi } from 'vitest';
import { drawChart, monitorInstance } from '../../recipes/ec2/12-monitor-instance.ts';
import { settingsOf, testRecipe } from '../harness.ts';
import type { Fault } from '../preload.ts';

const { run, file, account, ec2 } = testRecipe(import.meta);
const monitor = (options: string, settings = {}) => run(`npx tsx ${file} --local ${options}`, settings);

const client = () => new CloudWatchClient(settingsOf({ account }));

async function launch(Tags: { Key: string; Value: string }[] = []): Promise<string> {
  const TagSpecifications = Tags.length > 0 ? [{ ResourceType: 'instance' as const, Tags }] : undefined;
  const image = { ImageId: 'ami-0532be01f26a3de55', MinCount: 1, MaxCount: 1 };
  const { Instances } = await ec2().send(new RunInstancesCommand({ ...image, TagSpecifications }));
  return Instances?.[0]?.InstanceId as string;
}

// In the middle of a period, so that none ends during a test.
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date'], now: (Math.floor(Date.now() / 300_000) + 0.5) * 300_000 });
  return () => vi.useRealTimers();
});

/** The start of the period that is so many periods before the one that runs. */
const ago = (periods: number, seconds = 300) =>
  new Date((Math.floor(Date.now() / 1000 / seconds) - periods) * seconds * 1000);

/** Puts what EC2 would have measured. */
async function measure(instanceId: string, MetricName: string, values: [time: Date, value: number][]) {
  const Dimensions = [{ Name: 'InstanceId', Value: instanceId }];
  const MetricData = values.map(([Timestamp, Value]) => ({ MetricName, Dimensions, Timestamp, Value }));
  await client().send(new PutMetricDataCommand({ Namespace: 'AWS/EC2', MetricData }));
}

/** A client whose GetMetricData is answered by these pages; what was asked is kept. */
function answering(pages: object[]) {
  const cloudwatch = client();
  // biome-ignore lint/suspicious/noExplicitAny: the inputs of all operations
  const asked: any[] = [];
  cloudwatch.middlewareStack.add(
    (next) => async (args) => {
      if (!('MetricDataQueries' in args.input)) return next(args);
      asked.push(args.input);
      return { output: { $metadata: {}, ...pages.shift() } as never, response: {} };
    },
    { step: 'build' },
  );
  return { cloudwatch, asked };
}

/** An EC2 client that says that detailed monitoring is on. */
function detailed(instanceId: string) {
  const client = ec2();
  client.middlewareStack.add(
    () => async () => ({
      output: {
        $metadata: {},
        Reservations: [{ Instances: [{ InstanceId: instanceId, Monitoring: { State: 'enabled' } }] }],
      } as never,
      response: {},
    }),
    { step: 'build' },
  );
  return client;
}

test('several metrics are read, oldest first, with gaps where nothing was measured', async () => {
  const [instanceId, other] = [await launch(), await launch()];
  await measure(instanceId, 'CPUUtilization', [
    [ago(1), 30],
    [ago(12), 10],
    [ago(11), 0],
    // The period that runs still, and one from before.
    [ago(0), 77],
    [ago(13), 99],
  ]);
  await measure(instanceId, 'NetworkIn', [
    [ago(2), 1000],
    [new Date(Number(ago(2)) + 60_000), 3000],
  ]);
  await measure(other, 'CPUUtilization', [[ago(3), 55]]);
  const metricNames = ['CPUUtilization', 'NetworkIn', 'NoSuch'];
  const result = await monitorInstance(ec2(), client(), { instanceId, metricNames, hours: 1 });
  expect(result).toMatchObject({
    instanceId,
    monitoring: 'disabled',
    period: 300,
    available: ['CPUUtilization', 'NetworkIn'],
  });
  const values = result.metrics.map(({ metricName, points }) => [metricName, ...points.map(({ value }) => value)]);
  const gaps = (count: number): null[] => Array(count).fill(null);
  expect(values).toEqual([
    ['CPUUtilization', 10, 0, ...gaps(9), 30],
    ['NetworkIn', ...gaps(10), 2000, null],
    ['NoSuch', ...gaps(12)],
  ]);
  expect(result.metrics[1]?.points.map(({ time }) => time)).toEqual(
    Array.from({ length: 12 }, (_, index) => ago(12 - index)),
  );
  const sums = await monitorInstance(ec2(), client(), { instanceId, metricNames, hours: 1, statistic: 'Sum' });
  expect(sums.metrics[1]?.points[10]?.value).toBe(4000);
});

test('the period is a minute with detailed monitoring, and longer for what is kept so only', async () => {
  const instanceId = await launch();
  const cases: [hours: number, isDetailed: boolean, period: number][] = [
    [3, false, 300],
    [3, true, 60],
    [15 * 24 - 1, true, 60],
    [15 * 24, true, 300],
    [63 * 24 - 1, false, 300],
    [63 * 24, true, 3600],
    [455 * 24, false, 3600],
  ];
  for (const [hours, isDetailed, period] of cases) {
    const { cloudwatch, asked } = answering([{}]);
    const result = await monitorInstance(isDetailed ? detailed(instanceId) : ec2(), cloudwatch, { instanceId, hours });
    expect([hours, result.period, asked[0].MetricDataQueries[0].MetricStat.Period]).toEqual([hours, period, period]);
    expect(result.metrics[0]?.points).toHaveLength((hours * 3600) / period);
    expect([Number(asked[0].StartTime) % (period * 1000), Number(asked[0].EndTime) % (period * 1000)]).toEqual([0, 0]);
    expect(asked[0].ScanBy).toBe('TimestampAscending');
    // CloudWatch gives nothing where a period is too short for how long ago it starts.
    const days = (Date.now() - Number(asked[0].StartTime)) / 86_400_000;
    expect(days).toBeLessThan(period === 60 ? 15 : period === 300 ? 63 : 456);
  }
});

test('credits are read by five minutes, however closely the rest is measured', async () => {
  for (const name of ['CPUCreditBalance', 'CPUSurplusCreditsCharged', 'EBSIOBalance%', 'EBSByteBalance%']) {
    const metricNames = ['CPUUtilization', name];
    const { cloudwatch } = answering([{}]);
    const result = await monitorInstance(detailed('i-1'), cloudwatch, { instanceId: 'i-1', metricNames });
    expect([name, result.period]).toEqual([name, 300]);
  }
});

test('the pages of an answer are put together by the ids of the metrics', async () => {
  const instanceId = await launch();
  const page = (Id: string, Timestamps: Date[], Values: number[], StatusCode = 'PartialData') => ({
    ...{ Id, Timestamps, Values, StatusCode },
  });
  const { cloudwatch } = answering([
    { MetricDataResults: [page('m0', [ago(12)], [1]), page('m1', [ago(12)], [10])], NextToken: 'a' },
    { MetricDataResults: [page('m1', [ago(11), ago(10)], [11, 12])], NextToken: 'b' },
    { MetricDataResults: [page('m1', [ago(9)], [13], 'Complete'), page('m0', [ago(9)], [4], 'Complete')] },
  ]);
  const metricNames = ['A', 'B'];
  const { metrics } = await monitorInstance(ec2(), cloudwatch, { instanceId, metricNames, hours: 1 });
  const [a, b] = metrics.map(({ points }) => points.slice(0, 5).map(({ value }) => value));
  expect(a).toEqual([1, null, null, 4, null]);
  expect(b).toEqual([10, 11, 12, 13, null]);
});

test('a metric that CloudWatch could not read is an error, not a gap', async () => {
  const instanceId = await launch();
  const Messages = [{ Code: 'x', Value: 'Try again.' }];
  const { cloudwatch } = answering([
    { MetricDataResults: [{ Id: 'm1', StatusCode: 'InternalError', Messages, Timestamps: [], Values: [] }] },
  ]);
  await expect(monitorInstance(ec2(), cloudwatch, { instanceId, metricNames: ['A', 'B'] })).rejects.toThrow(
    'CloudWatch could not read B: InternalError Try again.',
  );
});

test('what is no count of hours, no statistic, or no metric is refused before anything is sent', async () => {
  const [nobody, nothing] = [detailed(''), answering([])];
  const go = (more: object) => monitorInstance(nobody, nothing.cloudwatch, { instanceId: 'i-1', ...more });
  for (const hours of [0, 0.5, Number.NaN, 10_921]) await expect(go({ hours })).rejects.toThrow(/^the hours must be 1/);
  for (const statistic of ['average', 'p', 'p1000', '']) {
    await expect(go({ statistic })).rejects.toThrow(/is no statistic such as Average/);
  }
  for (const count of [0, 501]) {
    await expect(go({ metricNames: Array(count).fill('A') })).rejects.toThrow(`1 to 500 metrics, not ${count}`);
  }
  expect(nothing.asked).toEqual([]);
});

test('a chart has its highest value at the top, zero as a line and a gap as nothing', () => {
  const series = (values: (number | null)[]) => ({
    metricName: 'M',
    points: values.map((value, minute) => ({ time: new Date(Date.UTC(2026, 0, 1, 0, minute)), value })),
  });
  expect(drawChart(series([0, 50, null, 100, 25]), { height: 2 }).split('\n')).toEqual([
    'M, up to 100',
    '│   █',
    '│▁█ █▄',
    '└ 2026-01-01 00:00 to 2026-01-01 00:04 UTC',
  ]);
  expect(drawChart(series([0, 0]), { height: 1 }).split('\n')[1]).toBe('│▁▁');
  expect(drawChart(series([null, null]))).toBe('M: no data');
  // Two points a column: of a gap and a value the value, of two gaps a gap.
  const narrow = drawChart(series([8, null, null, null, 4, 12]), { width: 3, height: 1 });
  expect(narrow.split('\n').slice(0, 2)).toEqual(['M, up to 8', '│█ █']);
  expect(drawChart(series(Array(1000).fill(1))).split('\n')[1]?.length).toBeLessThanOrEqual(73);
});

test('the command draws, makes a table or CSV of the newest instance, and takes a named one', async () => {
  const instanceId = await launch([{ Key: 'paws', Value: '2.1' }]);
  await measure(instanceId, 'CPUUtilization', [[ago(6), 12.5]]);
  const untagged = await launch();
  const [chart, table, csv, named] = await Promise.all([
    monitor('--hours 1'),
    monitor('--hours 1 --format table'),
    monitor('--hours 1 --format csv'),
    monitor(`${untagged} --hours 1 --json`),
  ]);
  expect(chart).toMatchObject({ code: 0, stderr: '' });
  expect(chart?.stdout).toMatch(new RegExp(`^instance id +${instanceId}\nmonitoring +disabled\nperiod +5 min\n`));
  expect(chart?.stdout).toMatch(/\n\nCPUUtilization, up to 12\.5\n(│ +█\n){6}└ /);
  const rows = table?.stdout.trimEnd().split('\n') ?? [];
  expect(rows[0]).toMatch(/^metric name +time +value$/);
  expect(rows.filter((row) => / UTC +-$/.test(row))).toHaveLength(11);
  expect(rows.filter((row) => /^CPUUtilization +\d{4}-\d\d-\d\d \d\d:\d\d:00 UTC +12.5$/.test(row))).toHaveLength(1);
  const lines = csv?.stdout.trimEnd().split('\n') ?? [];
  expect(lines[0]).toBe('metricName,time,value');
  expect(lines.filter((line) => line.endsWith('Z,'))).toHaveLength(11);
  expect(lines).toContain(`CPUUtilization,${ago(6).toISOString()},12.5`);
  const { metrics, ...rest } = JSON.parse(named?.stdout ?? '');
  expect(rest).toEqual({ instanceId: untagged, monitoring: 'disabled', period: 300, available: [] });
  expect(metrics[0].points).toHaveLength(12);
});

// LocalStack has neither of the two calls: the answers are the test's own.
test('detailed monitoring is switched on after a question only, and off without one', async () => {
  const instanceId = await launch();
  const answer = (operation: string, State: string): Fault => ({
    operation,
    output: { InstanceMonitorings: [{ InstanceId: instanceId, Monitoring: { State } }] },
  });
  const faults = [answer('ec2:MonitorInstances', 'pending'), answer('ec2:UnmonitorInstances', 'disabling')];
  const [asked, on, off] = await Promise.all([
    monitor(`${instanceId} --monitoring detailed`, { faults }),
    monitor(`${instanceId} --monitoring detailed --yes --calls`, { faults }),
    monitor(`${instanceId} --monitoring basic --calls`, { faults }),
  ]);
  expect(asked).toMatchObject({ code: 2, stdout: '' });
  expect(asked?.stderr).toContain(
    `Turn on detailed monitoring of ${instanceId}? Each of its metrics is then billed by the month`,
  );
  expect(on).toMatchObject({ code: 0, stdout: expect.stringMatching(/^monitoring +pending\nperiod +5 min$/m) });
  expect(off).toMatchObject({ code: 0, stdout: expect.stringMatching(/^monitoring +disabling$/m) });
});

test('an unknown instance ends with 1, wrong words with 2', async () => {
  const [unknown, kind, hours] = await Promise.all([
    monitor('i-0123456789abcdef0'),
    monitor('i-0123456789abcdef0 --monitoring full'),
    monitor('i-0123456789abcdef0 --hours soon'),
  ]);
  expect(unknown).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('InvalidInstanceID.NotFound') });
  expect(kind).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('Allowed choices are basic') });
  expect(hours).toEqual({ code: 2, stdout: '', stderr: 'Error: the hours must be 1 to 10920 (455 days), not NaN\n' });
});
