/** Checks data by CloudWatch's rules, for 2.14 and 2.27. */
import { type MetricDatum, type PutMetricDataInput, StandardUnit } from '@aws-sdk/client-cloudwatch';
import type { Datum } from '../14-store-metrics.ts';

const units: string[] = Object.values(StandardUnit);

/**
 * Checks data by CloudWatch's rules, and puts them into the form that PutMetricData takes.
 *
 * @param options.namespace - As for `storeMetrics`.
 * @param options.data - As for `storeMetrics`; none to check the namespace alone.
 * @throws RangeError or TypeError that names the datum, the rule and what came.
 * @see https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html
 *
 * @example
 * const data = [{ metricName: 'Latency', values: [12, 12, 40], unit: 'Milliseconds' }];
 * const { MetricData } = metricDataInput({ namespace: 'Shop', data });
 * console.log(MetricData); // Values: [12, 40], Counts: [2, 1]
 */
export function metricDataInput({ namespace, data }: { namespace: string; data: Datum[] }): PutMetricDataInput {
  checkText('the namespace', namespace, 255);
  if (/^(:|AWS\/)/.test(namespace)) throw new RangeError(`the namespace "${namespace}" begins with ":" or "AWS/"`);
  if (data.length > 1000) throw new RangeError(`these are ${data.length} data; a call takes 1,000`);
  return { Namespace: namespace, MetricData: data.map(toMetricDatum) };
}

function toMetricDatum(datum: Datum): MetricDatum {
  const { metricName, unit = 'None', dimensions = {}, time = new Date(), resolution = 60 } = datum;
  checkText('the metric name', metricName, 255);
  if (!units.includes(unit)) throw new RangeError(`${metricName}: "${unit}" is no unit; there is ${units.join(', ')}`);
  const pairs = Object.entries(dimensions);
  if (pairs.length > 30) throw new RangeError(`${metricName}: has ${pairs.length} dimensions; a metric has at most 30`);
  for (const [name, value] of pairs) {
    checkText(`${metricName}: the name of a dimension`, name, 255);
    if (name.startsWith(':')) throw new RangeError(`${metricName}: the name of a dimension can't begin with ":"`);
    checkText(`${metricName}: dimension ${name}`, value, 1024);
  }
  if (resolution !== 1 && resolution !== 60) throw new RangeError(`${metricName}: resolution must be 1 or 60 seconds`);
  const age = Date.now() - Number(time);
  if (!(time instanceof Date) || Number.isNaN(age)) throw new TypeError(`${metricName}: the time is no date`);
  if (age > 14 * 86_400_000) throw new RangeError(`${metricName}: ${time.toISOString()} is over two weeks ago`);
  if (age < -2 * 3_600_000) throw new RangeError(`${metricName}: ${time.toISOString()} is over two hours ahead`);
  return {
    MetricName: metricName,
    Dimensions: pairs.map(([Name, Value]) => ({ Name, Value })),
    Timestamp: time,
    Unit: unit as StandardUnit,
    StorageResolution: resolution,
    ...measured(datum),
  };
}

function measured(datum: Datum): Pick<MetricDatum, 'Value' | 'Values' | 'Counts' | 'StatisticValues'> {
  const { metricName } = datum;
  if ('value' in datum) {
    checkNumber(`${metricName}: the value`, datum.value);
    return { Value: datum.value };
  }
  if ('sampleCount' in datum) {
    const { sampleCount: SampleCount, sum: Sum, minimum: Minimum, maximum: Maximum } = datum;
    checkNumber(`${metricName}: sampleCount`, SampleCount, 1);
    for (const number of [Sum, Minimum, Maximum]) checkNumber(`${metricName}: a statistic`, number);
    if (Minimum > Maximum) throw new RangeError(`${metricName}: the minimum is above the maximum`);
    return { StatisticValues: { SampleCount, Sum, Minimum, Maximum } };
  }
  const { values, counts = values.map(() => 1) } = datum;
  if (counts.length !== values.length) throw new RangeError(`${metricName}: counts must be as many as values`);
  // CloudWatch wants each value once.
  const times = new Map<number, number>();
  for (const [at, value] of values.entries()) {
    checkNumber(`${metricName}: each value`, value);
    checkNumber(`${metricName}: each count`, counts[at], 1);
    times.set(value, (times.get(value) ?? 0) + (counts[at] as number));
  }
  if (times.size < 1 || times.size > 150) throw new RangeError(`${metricName}: takes 1 to 150 different values`);
  return { Values: [...times.keys()], Counts: [...times.values()] };
}

function checkNumber(what: string, number: unknown, least = -(2 ** 360)): void {
  // NaN is neither above nor below.
  if (typeof number === 'number' && number >= least && number <= 2 ** 360) return;
  throw new RangeError(`${what} must be a number from ${least === 1 ? 1 : '-2^360'} to 2^360, not ${number}`);
}

function checkText(what: string, text: unknown, most: number): void {
  // Printable ASCII, and not spaces alone.
  if (typeof text === 'string' && /^(?=.*\S)[ -~]+$/.test(text) && text.length <= most) return;
  throw new RangeError(`${what} must have 1 to ${most} ASCII characters, not "${text}"`);
}
