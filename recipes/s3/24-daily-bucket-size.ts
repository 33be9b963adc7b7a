/**
 * 3.24 Read a bucket's daily size
 *
 * ## Problem
 * You want to know how large a bucket is, and how it has grown, but it has so many objects that listing them takes
 * hours; or you may not list it.
 *
 * ## Solution
 * S3 measures every bucket once a day and sends the size to CloudWatch, a metric for each storage type, with the
 * number of objects. List the metrics that there are for the bucket, and read them all in one GetMetricData.
 *
 * ## Discussion
 * It is as fast for a billion objects as for one, and S3 itself is not asked: no right to the bucket is needed, only
 * two of CloudWatch's. These metrics are always on and cost nothing to have.
 *
 * In the size are current objects, old versions, and the parts of unfinished uploads; in the number of objects delete
 * markers, too. So both are more than what a list of the bucket shows. 3.5 tells these apart, and counts by prefix,
 * which CloudWatch does not know.
 *
 * Types that end in Overhead are not bytes of yours: what small objects are billed beyond their size in an infrequent
 * access class, and what S3 keeps beside each archived object. They are added up apart.
 *
 * A row has day, size, overhead, number of objects and the storage types, such as
 * `2026-11-27  1.37 TiB  3.05 GiB  81234  StandardStorage 1.2 TiB, GlacierStorage 174 GiB`.
 *
 * The newest numbers are a day or two old, and CloudWatch promises neither when they come nor that all do: a day
 * may be missing, or a storage type of it; compare those before you believe a drop. A bucket that is new, empty,
 * misspelt or another account's has none, nor has one of another region than the client's, for the metrics are in the
 * bucket's own; 3.2 finds out which. That is no error here, but an empty list. CloudWatch keeps the days for 455 days,
 * and lists only metrics with data in the last two weeks, so a storage type that was given up before then is missing
 * from older days as well.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @run npx tsx recipes/s3/24-daily-bucket-size.ts paws-example --local
 * @output
 *   none
 * @aws npx tsx recipes/s3/24-daily-bucket-size.ts paws-example --days 30
 * @permission cloudwatch:ListMetrics on *
 * @permission cloudwatch:GetMetricData on *
 * @cost $0.01 for a thousand metrics read, one a storage type and one for the objects (us-east-1, 2026)
 * @undo nothing
 * @emulator LocalStack measures no buckets: the tests put such metrics there.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/metrics-dimensions.html
 * @see https://docs.aws.amazon.com/AWSCloudWatch/latest/APIReference/API_GetMetricData.html
 * @see https://aws.amazon.com/cloudwatch/pricing/
 */
import { CloudWatchClient, type Metric, paginateGetMetricData, paginateListMetrics } from '@aws-sdk/client-cloudwatch';

export interface DailySize {
  /** `2026-11-27`, in UTC. */
  day: string;
  /** All that is stored, in bytes: old versions and parts of unfinished uploads, too. */
  size: number;
  /** Bytes that are billed beyond that. */
  overhead: number;
  /** Objects, old versions, delete markers and parts of unfinished uploads; null if CloudWatch has no number. */
  objects: number | null;
  /** The largest first: `StandardStorage`, `GlacierStorage`, `StandardIASizeOverhead`. */
  storageTypes: { storageType: string; size: number }[];
}

/** As CloudWatch counts: midnight to midnight in UTC, whatever the clocks do. */
const dayInMs = 86_400_000;

/**
 * Reads what S3 has measured of a bucket, day by day.
 *
 * @param cloudwatch - Of the bucket's region.
 * @param options.bucket - Name of the bucket.
 * @param options.days - How many days to give, the newest that there are: 1 to 450. 1 by default.
 * @param options.signal - Stops it.
 * @returns A row a day, the oldest first. One that is missing is skipped, and one from before may come in its place.
 * @throws RangeError when `days` is no such number, or the bucket has no name; Error when CloudWatch fails at a metric.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/metrics-dimensions.html
 *
 * @example
 * const cloudwatch = new CloudWatchClient({ region: 'eu-west-1' });
 * const [newest] = await dailyBucketSize(cloudwatch, { bucket: 'my-company-reports' });
 * console.log(newest ? `${newest.size} bytes on ${newest.day}` : 'not measured yet');
 */
export async function dailyBucketSize(
  cloudwatch: CloudWatchClient,
  { bucket, days = 1, signal }: { bucket: string; days?: number; signal?: AbortSignal },
): Promise<DailySize[]> {
  if (!bucket) throw new RangeError('the bucket has no name');
  if (!(Number.isInteger(days) && days >= 1 && days <= 450)) {
    throw new RangeError(`days is a whole number from 1 to 450, not ${days}`);
  }
  const client = { client: cloudwatch };
  const stoppable = { abortSignal: signal };

  // A bucket has metrics only of the storage types that it uses, so ask which. Request metrics are there as well.
  const metrics: Metric[] = [];
  const filter = { Namespace: 'AWS/S3', Dimensions: [{ Name: 'BucketName', Value: bucket }] };
  for await (const { Metrics = [] } of paginateListMetrics(client, filter, stoppable)) {
    const daily = ['BucketSizeBytes', 'NumberOfObjects'];
    metrics.push(...Metrics.filter(({ MetricName = '' }) => daily.includes(MetricName)));
  }
  if (metrics.length === 0) return [];

  // One value a day, so any statistic is that value. The newest day is late: ask for some more than wanted.
  const query = {
    StartTime: new Date((Math.floor(Date.now() / dayInMs) - days - 3) * dayInMs),
    EndTime: new Date(),
    MetricDataQueries: metrics.map((Metric, index) => ({
      Id: `m${index}`,
      MetricStat: { Metric, Period: dayInMs / 1000, Stat: 'Average' },
    })),
  };
  const rows = new Map<string, DailySize>();
  for await (const { MetricDataResults = [] } of paginateGetMetricData(client, query, stoppable)) {
    for (const { Id = '', StatusCode = '', Timestamps = [], Values = [] } of MetricDataResults) {
      const { MetricName, Dimensions = [] } = metrics[Number(Id.slice(1))] ?? {};
      const storageType = Dimensions.find(({ Name }) => Name === 'StorageType')?.Value ?? 'unknown';
      // Without it, the sum would be too small. PartialData is completed by the next page.
      if (/InternalError|Forbidden/.test(StatusCode)) {
        throw new Error(`CloudWatch gave no values of ${MetricName} ${storageType}: ${StatusCode}`);
      }
      for (const [index, time] of Timestamps.entries()) {
        const name = time.toISOString().slice(0, 10);
        const value = Values[index] ?? 0;
        const row = rows.get(name) ?? { day: name, size: 0, overhead: 0, objects: null, storageTypes: [] };
        rows.set(name, row);
        if (MetricName === 'NumberOfObjects') {
          row.objects = value;
          continue;
        }
        row.storageTypes.push({ storageType, size: value });
        if (storageType.endsWith('Overhead')) row.overhead += value;
        else row.size += value;
      }
    }
  }
  for (const { storageTypes } of rows.values()) storageTypes.sort((a, b) => b.size - a.size);
  return [...rows.values()].sort((a, b) => (a.day < b.day ? -1 : 1)).slice(-days);
}

// ---- command line: leave out when copying ----
import { bucketName, bytes, connect, interrupted, print, recipe, warn } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('<bucket>', 'name of the bucket', bucketName)
    .option('--days <number>', 'how many days to give, 1 to 450', Number)
    .action(async (bucket, { days }) => {
      const rows = await dailyBucketSize(connect(CloudWatchClient), { bucket, days, signal: interrupted() });
      const size = (value: number) => bytes(value);
      const types = (all: DailySize['storageTypes']) =>
        all.map(({ storageType, size }) => `${storageType} ${bytes(size)}`).join(', ');
      print(rows, { size, overhead: size, storageTypes: types });
      if (rows.length === 0) {
        warn(
          `CloudWatch has no size of ${bucket} in this region: it is empty, new, misspelt, elsewhere, or not yours.`,
        );
      }
    }),
);
