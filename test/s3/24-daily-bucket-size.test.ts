import { CloudWatchClient, PutMetricDataCommand } from '@aws-sdk/client-cloudwatch';
import { expect, test } from 'vitest';
import { dailyBucketSize } from '../../recipes/s3/24-daily-bucket-size.ts';
import { settingsOf, testRecipe } from '../harness.ts';

const { bucket: own, run, file, account } = testRecipe(import.meta);
const client = () => new CloudWatchClient(settingsOf({ account }));

const today = Math.floor(Date.now() / 86_400_000);
/** Midnight of so many days before, as S3 stamps its values. */
const ago = (days: number) => new Date((today - days) * 86_400_000);
const name = (days: number) => ago(days).toISOString().slice(0, 10);

/** Puts what S3 would have measured. */
async function measure(bucket: string, daysAgo: number, values: Record<string, number>): Promise<void> {
  const MetricData = Object.entries(values).map(([StorageType, Value]) => ({
    MetricName: StorageType === 'AllStorageTypes' ? 'NumberOfObjects' : 'BucketSizeBytes',
    Dimensions: [
      { Name: 'BucketName', Value: bucket },
      { Name: 'StorageType', Value: StorageType },
    ],
    Timestamp: ago(daysAgo),
    Value,
  }));
  await client().send(new PutMetricDataCommand({ Namespace: 'AWS/S3', MetricData }));
}

/** A client that answers with these outputs in turn; the inputs are kept. */
function answering(...outputs: object[]) {
  const cloudwatch = client();
  // biome-ignore lint/suspicious/noExplicitAny: the inputs of two operations
  const sent: any[] = [];
  cloudwatch.middlewareStack.add(
    () => async (args) => {
      sent.push(args.input);
      return { output: { $metadata: {}, ...outputs.shift() }, response: {} } as never;
    },
    { step: 'initialize' },
  );
  return { cloudwatch, sent };
}

test('each day has its sizes by storage type, the overhead apart, and the number of objects', async () => {
  const bucket = `${own}-measured`;
  const more = { GlacierStorage: 5000, GlacierObjectOverhead: 32, AllStorageTypes: 3 };
  await measure(bucket, 4, { StandardStorage: 900, AllStorageTypes: 1 });
  await measure(bucket, 3, { StandardStorage: 1000, ...more });
  await measure(bucket, 1, { StandardStorage: 2048, ...more, AllStorageTypes: 4 });
  // Not of a name that begins the same: LocalStack mixes those.
  await measure(`${own}-other`, 1, { StandardStorage: 77, AllStorageTypes: 9 });
  const request = { MetricName: 'AllRequests', Dimensions: [{ Name: 'BucketName', Value: bucket }], Value: 1 };
  await client().send(new PutMetricDataCommand({ Namespace: 'AWS/S3', MetricData: [request] }));

  const newest = {
    ...{ day: name(1), size: 7048, overhead: 32, objects: 4 },
    storageTypes: [
      { storageType: 'GlacierStorage', size: 5000 },
      { storageType: 'StandardStorage', size: 2048 },
      { storageType: 'GlacierObjectOverhead', size: 32 },
    ],
  };
  const { code, stdout, stderr } = await run(`npx tsx ${file} paws-example-measured --local --json`);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(JSON.parse(stdout)).toEqual([newest]);

  const rows = await dailyBucketSize(client(), { bucket, days: 3 });
  expect(rows.map(({ day, size, objects }) => [day, size, objects])).toEqual([
    [name(4), 900, 1],
    [name(3), 6000, 3],
    [name(1), 7048, 4],
  ]);
  expect(rows.at(-1)).toEqual(newest);
  expect(await dailyBucketSize(client(), { bucket, days: 2 })).toEqual(rows.slice(1));

  const people = await run(`npx tsx ${file} paws-example-measured --days 2 --local`);
  expect(people.stdout).toContain('6.88 KiB');
  expect(people.stdout).toContain('GlacierStorage 4.88 KiB, StandardStorage 2 KiB, GlacierObjectOverhead 32 B');
});

test('a value that is two days late is the newest, and its number of objects may be missing', async () => {
  const bucket = `${own}-late`;
  await measure(bucket, 2, { StandardIAStorage: 5 });
  expect(await dailyBucketSize(client(), { bucket })).toEqual([
    {
      ...{ day: name(2), size: 5, overhead: 0, objects: null },
      storageTypes: [{ storageType: 'StandardIAStorage', size: 5 }],
    },
  ]);
});

test('values that come in several pages are put together, and no more is asked for than wanted', async () => {
  const metric = (MetricName: string, Value: string) => ({ MetricName, Dimensions: [{ Name: 'StorageType', Value }] });
  const result = (Id: string, Value: number) => ({ Id, Timestamps: [ago(1)], Values: [Value] });
  const { cloudwatch, sent } = answering(
    { Metrics: [metric('BucketSizeBytes', 'StandardStorage')], NextToken: 'more' },
    { Metrics: [metric('NumberOfObjects', 'AllStorageTypes'), metric('BucketSizeBytes', 'GlacierStorage')] },
    { MetricDataResults: [result('m0', 1), result('m1', 7)], NextToken: 'more' },
    { MetricDataResults: [result('m2', 10)] },
  );
  expect(await dailyBucketSize(cloudwatch, { bucket: 'b', days: 30 })).toMatchObject([{ size: 11, objects: 7 }]);
  const [list, , data] = sent;
  expect(list).toMatchObject({ Namespace: 'AWS/S3', Dimensions: [{ Name: 'BucketName', Value: 'b' }] });
  expect(data.StartTime).toEqual(ago(33));
  expect(data.MetricDataQueries).toHaveLength(3);
  expect(data.MetricDataQueries[0].MetricStat).toMatchObject({ Period: 86_400, Stat: 'Average' });
});

test.each(['InternalError', 'Forbidden'])(
  'a metric that ends with %s is an error, not a sum too small',
  async (status) => {
    const metric = (Value: string) => ({ MetricName: 'BucketSizeBytes', Dimensions: [{ Name: 'StorageType', Value }] });
    const result = { Timestamps: [ago(1)], Values: [1] };
    const { cloudwatch } = answering(
      { Metrics: [metric('StandardStorage'), metric('GlacierStorage')] },
      { MetricDataResults: [{ Id: 'm0', StatusCode: 'PartialData', ...result }], NextToken: 'more' },
      { MetricDataResults: [{ Id: 'm1', StatusCode: status }] },
    );
    const text = `CloudWatch gave no values of BucketSizeBytes GlacierStorage: ${status}`;
    await expect(dailyBucketSize(cloudwatch, { bucket: 'b' })).rejects.toThrow(text);
  },
);

test('a bucket that was never measured has no rows, and one call finds that out', async () => {
  const { cloudwatch, sent } = answering({});
  expect(await dailyBucketSize(cloudwatch, { bucket: 'unknown' })).toEqual([]);
  expect(sent).toHaveLength(1);
});

test('each step failing, or being stopped, is an error', async () => {
  const bucket = `${own}-fails`;
  await measure(bucket, 1, { StandardStorage: 5 });
  for (const operation of ['ListMetrics', 'GetMetricData']) {
    const error = { name: 'AccessDenied', message: `not authorized to perform: cloudwatch:${operation}` };
    const faults = [{ operation: `cloudwatch:${operation}`, error }];
    const { code, stderr } = await run(`npx tsx ${file} paws-example-fails --local`, { faults });
    expect(code).toBe(1);
    expect(stderr).toContain(`The permission cloudwatch:${operation} is missing`);
  }
  await expect(dailyBucketSize(client(), { bucket, signal: AbortSignal.abort() })).rejects.toThrow();
});

test.each([0, 451, 1.5, Number.NaN])('%s days are refused before anything is sent', async (days) => {
  const { cloudwatch, sent } = answering();
  await expect(dailyBucketSize(cloudwatch, { bucket: 'b', days })).rejects.toThrow(RangeError);
  await expect(dailyBucketSize(cloudwatch, { bucket: '' })).rejects.toThrow(RangeError);
  expect(sent).toEqual([]);
});
