import { execFileSync } from 'node:child_process';
import { CloudWatchClient, GetMetricStatisticsCommand, ListMetricsCommand } from '@aws-sdk/client-cloudwatch';
import { describe, expect, test } from 'vitest';
import { metricDataInput } from '../../recipes/ec2/14-helpers/metric-data.ts';
import { type Datum, storeMetrics } from '../../recipes/ec2/14-store-metrics.ts';
import { settingsOf, testRecipe } from '../harness.ts';

const { run, file, account } = testRecipe(import.meta);
const store = (options: string, settings = {}) => run(`npx tsx ${file} --local ${options}`, settings);

const client = () => new CloudWatchClient(settingsOf({ account }));

/** A client that sends nothing: CloudWatch's answers to GetMetricData are given, in turn, as counts of samples. */
function answering(counts: number[] = []) {
  const cloudwatch = client();
  // biome-ignore lint/suspicious/noExplicitAny: the inputs of all operations
  const sent: { operation: string; input: any }[] = [];
  cloudwatch.middlewareStack.add(
    (_next, { commandName }) =>
      async ({ input }) => {
        sent.push({ operation: `${commandName}`.replace('Command', ''), input });
        const isRead = 'MetricDataQueries' in input;
        const MetricDataResults = isRead ? [{ Id: 'm0', Values: [counts.shift() ?? 0] }] : undefined;
        return { output: { $metadata: {}, MetricDataResults }, response: {} };
      },
    { step: 'build' },
  );
  return { cloudwatch, sent };
}

/** All statistics of a metric in the minutes around now, by another call than the recipe's. */
async function read(Namespace: string, MetricName: string, dimensions: Record<string, string> = {}, Unit?: 'Count') {
  const now = Date.now();
  const { Datapoints = [] } = await client().send(
    new GetMetricStatisticsCommand({
      Namespace,
      MetricName,
      Dimensions: Object.entries(dimensions).map(([Name, Value]) => ({ Name, Value })),
      StartTime: new Date(now - 600_000),
      EndTime: new Date(now + 600_000),
      Period: 1200,
      Statistics: ['SampleCount', 'Sum', 'Minimum', 'Maximum'],
      Unit,
    }),
  );
  return Datapoints.map(({ SampleCount, Sum, Minimum, Maximum }) => [SampleCount, Sum, Minimum, Maximum]);
}

test('a number, a set and a statistic set arrive with all that was said of them', async () => {
  const dimensions = { Queue: 'mail', Host: 'a b' };
  const data: Datum[] = [
    { metricName: 'One', value: -1.5, unit: 'Count' },
    { metricName: 'Set', values: [12, 12, 40], dimensions },
    { metricName: 'Counted', values: [1, 2, 1], counts: [10, 1, 5] },
    { metricName: 'Summed', sampleCount: 4, sum: 10, minimum: 1, maximum: 5, resolution: 1 },
  ];
  const result = await storeMetrics(client(), { namespace: 'Forms', data, seconds: 20 });
  expect(result).toEqual({
    namespace: 'Forms',
    metricNames: ['One', 'Set', 'Counted', 'Summed'],
    samples: 1 + 3 + 16 + 4,
    shownAfter: expect.any(Number),
  });
  expect(await read('Forms', 'One', {}, 'Count')).toEqual([[1, -1.5, -1.5, -1.5]]);
  expect(await read('Forms', 'Set', dimensions)).toEqual([[3, 64, 12, 40]]);
  expect(await read('Forms', 'Set')).toEqual([]);
  expect(await read('Forms', 'Counted')).toEqual([[16, 17, 1, 2]]);
  expect(await read('Forms', 'Summed')).toEqual([[4, 10, 1, 5]]);
});

test('what CloudWatch is sent is what was meant', () => {
  const time = new Date(Date.now() - 3_600_000);
  const data: Datum[] = [
    { metricName: 'A', values: [3, 3, 4], time, unit: 'Bytes/Second', dimensions: { Host: 'x' }, resolution: 1 },
    { metricName: 'B', value: 0 },
  ];
  const { Namespace, MetricData } = metricDataInput({ namespace: 'N', data });
  expect(Namespace).toBe('N');
  expect(MetricData).toEqual([
    {
      MetricName: 'A',
      Values: [3, 4],
      Counts: [2, 1],
      Timestamp: time,
      Unit: 'Bytes/Second',
      Dimensions: [{ Name: 'Host', Value: 'x' }],
      StorageResolution: 1,
    },
    { MetricName: 'B', Value: 0, Timestamp: expect.any(Date), Unit: 'None', Dimensions: [], StorageResolution: 60 },
  ]);
});

describe('what would be refused is refused before anything is sent', () => {
  const two = 2 * 3_600_000;
  const weeks = 14 * 86_400_000;
  const many = (count: number) => Array.from({ length: count }, (_, index) => index);
  const dimensions = (count: number) => Object.fromEntries(many(count).map((index) => [`D${index}`, 'x']));
  const at = (offset: number) => ({ value: 1, time: new Date(Date.now() + offset) });
  const set = { sampleCount: 1, sum: 1, minimum: 1, maximum: 1 };
  // Each wrong one beside the right one that is next to it.
  const cases: [rule: RegExp, wrong: object, right: object][] = [
    [/not NaN$/, { value: Number.NaN }, { value: 0 }],
    [/not Infinity$/, { value: Number.POSITIVE_INFINITY }, { value: 2 ** 360 }],
    [/-2\^360 to 2\^360, not -/, { value: -(2 ** 360) * 1.001 }, { value: -(2 ** 360) }],
    [/not 12$/, { value: '12' }, { value: 12 }],
    [/not NaN$/, { values: [1, Number.NaN] }, { values: [1, 2] }],
    [/1 to 150 different values$/, { values: many(151) }, { values: [...many(150), 0] }],
    [/1 to 150 different values$/, { values: [] }, { values: [1] }],
    [/counts must be as many/, { values: [1, 2], counts: [1] }, { values: [1, 2], counts: [1, 7] }],
    [/each count must be a number from 1 /, { values: [1], counts: [0] }, { values: [1], counts: [1] }],
    [/sampleCount must be a number from 1 /, { ...set, sampleCount: 0 }, set],
    [/a statistic must be a number .*not NaN$/, { ...set, sum: Number.NaN }, { ...set, sum: -1 }],
    [/minimum is above the maximum$/, { ...set, minimum: 2 }, { ...set, minimum: 1 }],
    [/"percent" is no unit; there is .*Percent/, { value: 1, unit: 'percent' }, { value: 1, unit: 'Percent' }],
    [/over two weeks ago$/, at(-weeks - 60_000), at(-weeks + 60_000)],
    [/over two hours ahead$/, at(two + 60_000), at(two - 60_000)],
    [/the time is no date$/, { value: 1, time: new Date('x') }, { value: 1, time: new Date() }],
    [/the time is no date$/, { value: 1, time: '2026-11-24' }, { value: 1 }],
    [/resolution must be 1 or 60/, { value: 1, resolution: 5 }, { value: 1, resolution: 1 }],
    [/has 31 dimensions/, { value: 1, dimensions: dimensions(31) }, { value: 1, dimensions: dimensions(30) }],
    [/dimension A must have 1/, { value: 1, dimensions: { A: 'é' } }, { value: 1, dimensions: { A: ':~' } }],
    [/dimension A must have 1/, { value: 1, dimensions: { A: ' ' } }, { value: 1, dimensions: { A: ' x' } }],
    [/1024/, { value: 1, dimensions: { A: 'x'.repeat(1025) } }, { value: 1, dimensions: { A: 'x'.repeat(1024) } }],
    [/begin with ":"$/, { value: 1, dimensions: { ':A': 'x' } }, { value: 1, dimensions: { 'A:': 'x' } }],
    [/of a dimension must have 1 to 255/, { value: 1, dimensions: { '': 'x' } }, { value: 1, dimensions: { A: 'x' } }],
    [/metric name must have 1 to 255/, { value: 1, metricName: 'x'.repeat(256) }, { value: 1, metricName: 'x y' }],
    [/metric name must have 1 to 255/, { value: 1, metricName: 'a\nb' }, { value: 1, metricName: 'x'.repeat(255) }],
  ];
  test.each(cases)('%s', async (rule, wrong, right) => {
    const { cloudwatch, sent } = answering();
    const go = (one: object) =>
      storeMetrics(cloudwatch, { namespace: 'N', data: [{ metricName: 'M', ...one } as Datum], seconds: 0 });
    const error = await go(wrong).catch((error) => error);
    expect(error).toBeOneOf([expect.any(RangeError), expect.any(TypeError)]);
    expect(error.message).toMatch(rule);
    expect(sent).toEqual([]);
    await go(right);
    expect(sent.map(({ operation }) => operation)).toEqual(['PutMetricData']);
  });

  test('a namespace of AWS, no data, too many and too much', async () => {
    const { cloudwatch, sent } = answering();
    const one: Datum = { metricName: 'M', value: 1 };
    const go = (namespace: string, data: Datum[], seconds = 0) =>
      storeMetrics(cloudwatch, { namespace, data, seconds }).catch(({ name, message }) => `${name}: ${message}`);
    for (const namespace of ['AWS/EC2', ':N', '', 'x'.repeat(256), 'ñ']) {
      expect(await go(namespace, [one])).toMatch(/^RangeError: .*namespace/);
    }
    expect(await go('N', [])).toBe('RangeError: there are no data to store');
    expect(await go('N', Array(1001).fill(one))).toMatch(/^RangeError: these are 1001 data/);
    const big: Datum = { ...one, dimensions: { A: 'x'.repeat(1020) } };
    expect(await go('N', Array(1000).fill(big))).toMatch(/^RangeError: the data are \d{7} bytes; a call takes 1 MB/);
    expect(await go('N', [one], Number.NaN)).toMatch(/^RangeError: the seconds to wait/);
    expect(sent).toEqual([]);
    expect(await go('AWSome/N', Array(1000).fill(one))).toMatchObject({ samples: 1000 });
  });
});

// Again where another process has taken the time that is waited.
test('data of others in the same minute are not taken for ours, and late data are waited for', {
  retry: 3,
}, async () => {
  const data: Datum[] = [{ metricName: 'M', values: [1, 2, 3], time: new Date('2026-11-24T12:00:59Z') }];
  const time = new Date(Math.floor(Date.now() / 60_000) * 60_000 + 59_000 - 3_600_000);
  const { cloudwatch, sent } = answering([7, 7, 9, 10]);
  const result = await storeMetrics(cloudwatch, { namespace: 'N', data: [{ ...data[0], time } as Datum], seconds: 4 });
  expect(result.shownAfter).toBeGreaterThanOrEqual(1980);
  const reads = sent.filter(({ operation }) => operation === 'GetMetricData');
  expect(reads).toHaveLength(4);
  expect(reads[0]?.input).toMatchObject({
    StartTime: new Date(Number(time) - 59_000),
    EndTime: new Date(Number(time) + 1000),
  });
});

test('more metrics than one call reads are stored without waiting, and not at all with it', async () => {
  const { cloudwatch, sent } = answering([0, 500]);
  const data = (count: number): Datum[] =>
    Array.from({ length: count }, (_, index) => ({ metricName: `M${index}`, value: 1 }));
  const go = (count: number, seconds: number) =>
    storeMetrics(cloudwatch, { namespace: 'N', data: data(count), seconds });
  await expect(go(501, 1)).rejects.toThrow(/^can't wait for 501 metrics: a call reads 500$/);
  expect(sent).toEqual([]);
  expect(await go(501, 0)).toMatchObject({ samples: 501, shownAfter: null });
  expect(await go(500, 1)).toMatchObject({ samples: 500, shownAfter: expect.any(Number) });
});

test('what does not show in time is null, and not an error', async () => {
  const { cloudwatch, sent } = answering([7, 9, 9, 9, 9, 9, 9, 9]);
  const data: Datum[] = [{ metricName: 'M', values: [1, 2, 3] }];
  expect(await storeMetrics(cloudwatch, { namespace: 'N', data, seconds: 0.4 })).toMatchObject({ shownAfter: null });
  expect(sent.filter(({ operation }) => operation === 'PutMetricData')).toHaveLength(1);
});

test('when reading back fails, it is said that the data are stored; Ctrl-C is told first', async () => {
  const data: Datum[] = [{ metricName: 'M', value: 1 }];
  const denied = Object.assign(new Error('not allowed'), { name: 'AccessDenied' });
  const stop = new AbortController();
  const go = (failing: () => void, signal?: AbortSignal) => {
    const { cloudwatch, sent } = answering();
    cloudwatch.middlewareStack.add(
      (next) => (args) => {
        if (sent.some(({ operation }) => operation === 'PutMetricData')) failing();
        return next(args);
      },
      { step: 'initialize' },
    );
    return storeMetrics(cloudwatch, { namespace: 'N', data, seconds: 1, signal });
  };
  const refuse = () => {
    throw denied;
  };
  const message = 'the data are stored, but reading them back failed: not allowed';
  await expect(go(refuse)).rejects.toMatchObject({ name: 'AccessDenied', message, cause: denied });
  const reason = new Error('Interrupted.');
  const interrupted = () => {
    stop.abort(reason);
    throw denied;
  };
  await expect(go(interrupted, stop.signal)).rejects.toBe(reason);
  const faults = [{ operation: 'cloudwatch:GetMetricData', after: 1, error: { name: 'AccessDenied' } }];
  const result = await store('3 --metric-name M', { faults });
  expect(result).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('the data are stored, but') });
  expect(result.stderr).toContain('The permission cloudwatch:GetMetricData is missing');
});

test('the disk is measured as df does, for this host', async () => {
  const { stdout } = await store('--namespace Disk --json');
  const { values } = JSON.parse(stdout);
  const df = execFileSync('df', ['--output=used,avail', '/'], { encoding: 'utf8' });
  const [used = 0, available = 0] = (df.match(/\d+/g) ?? []).map(Number);
  expect(Math.abs(values[0] - (used / (used + available)) * 100)).toBeLessThan(1);
  const { Metrics = [] } = await client().send(new ListMetricsCommand({ Namespace: 'Disk' }));
  expect(Metrics).toEqual([
    { Namespace: 'Disk', MetricName: 'DiskUsage', Dimensions: [{ Name: 'Host', Value: expect.stringMatching(/./) }] },
  ]);
});

test('negative numbers and dimensions with = are taken; a second run adds', async () => {
  const command = '-5 7 --namespace Cli --metric-name M --dimension A=b=c D=e --unit Count';
  expect(await store(command)).toMatchObject({ code: 0, stderr: '' });
  expect(await store(command)).toMatchObject({ code: 0, stderr: '' });
  expect(await read('Cli', 'M', { A: 'b=c', D: 'e' }, 'Count')).toEqual([[4, 4, -5, 7]]);
});

test('wrong words end with 2 and one line, a denial with 1 and the permission', async () => {
  const wrong: Record<string, RegExp> = {
    'twelve --metric-name M': /^Error: M: each value must be .*not NaN\n$/,
    '1': /^Error: give --metric-name with values\n$/,
    '1 --metric-name M --dimension Host': /^Error: M: dimension Host must have 1 to 1024 ASCII characters.*\n$/,
    '1 --metric-name M --wait soon': /^Error: the seconds to wait must be 0 or more, not NaN\n$/,
  };
  const results = await Promise.all(Object.keys(wrong).map((options) => store(options)));
  for (const [index, stderr] of Object.values(wrong).entries()) {
    expect(results[index]).toEqual({ code: 2, stdout: '', stderr: expect.stringMatching(stderr) });
  }
  const faults = [{ operation: 'cloudwatch:PutMetricData', error: { name: 'AccessDeniedException' } }];
  const denied = await store('1 --metric-name M', { faults });
  expect(denied).toMatchObject({ code: 1, stdout: '' });
  expect(denied.stderr).toContain('The permission cloudwatch:PutMetricData is missing');
});

test('Ctrl-C while waiting ends with 130; what was stored stays', async () => {
  const faults = [{ operation: 'cloudwatch:GetMetricData', after: 1, output: {}, signal: 'SIGINT' as const }];
  expect(await store('3 --namespace Stop --metric-name M', { faults })).toMatchObject({ code: 130, stdout: '' });
  expect(await read('Stop', 'M')).toEqual([[1, 3, 3, 3]]);
});
