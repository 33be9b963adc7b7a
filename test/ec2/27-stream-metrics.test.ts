import { Readable } from 'node:stream';
import { CloudWatchClient, GetMetricStatisticsCommand, type MetricDatum } from '@aws-sdk/client-cloudwatch';
import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { linesOf } from '../../recipes/ec2/27-helpers/parse-lines.ts';
import { streamMetrics } from '../../recipes/ec2/27-stream-metrics.ts';
import { settingsOf, testRecipe } from '../harness.ts';

const { run, file, account } = testRecipe(import.meta);
const stream = (options: string, settings = {}) => run(`npx tsx ${file} --local ${options}`, settings);

const client = () => new CloudWatchClient(settingsOf({ account }));

/** A client that sends nothing: each call of PutMetricData is answered when this returns, or fails as it does. */
function answering(answer: (call: number, data: MetricDatum[]) => Promise<void> | void = () => {}) {
  const cloudwatch = client();
  const calls: MetricDatum[][] = [];
  const most = { running: 0 };
  let running = 0;
  cloudwatch.middlewareStack.add(
    () =>
      async ({ input }) => {
        const { MetricData: data } = input as { MetricData: MetricDatum[] };
        calls.push(data);
        most.running = Math.max(most.running, ++running);
        try {
          await answer(calls.length, data);
        } finally {
          running -= 1;
        }
        return { output: { $metadata: {} } as never, response: {} };
      },
    { step: 'build' },
  );
  return { cloudwatch, calls, most };
}

const json = (more: object) => JSON.stringify({ metricName: 'M', value: 1, ...more });
const input = (lines: string[]) => Readable.from([Buffer.from(lines.map((line) => `${line}\n`).join(''))]);

/** Streams lines into a client that takes all; returns the result, the calls, and the bad lines. */
async function go(lines: string[] | Readable, more: object = {}, answer?: (call: number) => Promise<void> | void) {
  const { cloudwatch, calls, most } = answering(answer);
  const bad: string[] = [];
  const onBadLine = (line: number, reason: string) => bad.push(`${line}: ${reason}`);
  const from = Array.isArray(lines) ? input(lines) : lines;
  const result = await streamMetrics(cloudwatch, { input: from, namespace: 'N', onBadLine, ...more });
  return { result, calls, data: calls.flat(), bad, most };
}

/** Minutes ago, as a time of a line. */
const ago = (minutes: number) => new Date((Math.floor(Date.now() / 60_000) - minutes) * 60_000).toISOString();

test('lines of JSON and of CSV arrive in CloudWatch, counted back by another call', async () => {
  const many = Array.from({ length: 400 }, (_, index) =>
    json({ value: index % 200, unit: 'Count', dimensions: { Host: 'a' }, time: ago(index % 3) }),
  );
  const csv = ['Host,metricName,value,unit,time', ...many.map((_, index) => `b,M,${-index},Count,${ago(1)}`), ',M,5,,'];
  await streamMetrics(client(), { input: input(many), namespace: 'Back' });
  const { calls, ...result } = await streamMetrics(client(), { input: input(csv), namespace: 'Back' });
  expect(result).toEqual({ lines: 402, stored: 401, bad: 0, metrics: 2 });
  const read = async (Host?: string) => {
    const { Datapoints = [] } = await client().send(
      new GetMetricStatisticsCommand({
        Namespace: 'Back',
        MetricName: 'M',
        Dimensions: Host ? [{ Name: 'Host', Value: Host }] : [],
        StartTime: new Date(Date.now() - 900_000),
        EndTime: new Date(Date.now() + 900_000),
        Period: 1800,
        Statistics: ['SampleCount', 'Sum', 'Minimum', 'Maximum'],
      }),
    );
    return Datapoints.map(({ SampleCount, Sum, Minimum, Maximum }) => [SampleCount, Sum, Minimum, Maximum]);
  };
  expect(await read('a')).toEqual([[400, 2 * ((199 * 200) / 2), 0, 199]]);
  expect(await read('b')).toEqual([[400, -(399 * 400) / 2, -399, 0]]);
  expect(await read()).toEqual([[1, 5, 5, 5]]);
});

test('however the lines are mixed and cut into chunks, each good one arrives once and each bad one is named', async () => {
  const good = fc.record({
    metricName: fc.constantFrom('A', 'B'),
    value: fc.oneof(fc.integer({ min: -3, max: 3 }), fc.double({ noNaN: true, min: -1e9, max: 1e9 })),
    time: fc.integer({ min: 0, max: 2 }).map(ago),
    dimensions: fc.dictionary(fc.constantFrom('X', 'Y'), fc.constantFrom('1', '2')),
  });
  const bad = fc.constantFrom('x', '{}', '{"metricName":"A","value":"é"}', '[1]', 'null', '5', '{"value":1}');
  const lines = fc.array(fc.oneof({ weight: 5, arbitrary: good }, bad), { minLength: 1, maxLength: 60 });
  const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 });
  const key = (name: unknown, dimensions: [string, string][], time: unknown, value: number) =>
    JSON.stringify([name, dimensions.sort(), time, value === 0 ? 0 : value]);
  await fc.assert(
    fc.asyncProperty(lines, cuts, fc.constantFrom('\n', '\r\n'), async (given, sizes, newline) => {
      const now = ago(0);
      const texts = [json({ time: now }), ...given.map((one) => (typeof one === 'string' ? one : JSON.stringify(one)))];
      const bytes = Buffer.from(texts.join(newline));
      const chunks: Buffer[] = [];
      for (let at = 0, turn = 0; at < bytes.length; turn++) {
        const size = sizes[turn % sizes.length] as number;
        chunks.push(bytes.subarray(at, at + size));
        at += size;
      }
      const { result, data, bad } = await go(Readable.from(chunks));
      const expected = new Map<string, number>([[key('M', [], now, 1), 1]]);
      const wrong: number[] = [];
      for (const [index, one] of given.entries()) {
        if (typeof one === 'string') wrong.push(index + 2);
        else {
          const name = key(one.metricName, Object.entries(one.dimensions), one.time, one.value);
          expected.set(name, (expected.get(name) ?? 0) + 1);
        }
      }
      const arrived = new Map<string, number>();
      for (const { MetricName, Dimensions = [], Timestamp, Values = [], Counts = [] } of data) {
        const dimensions = Dimensions.map(({ Name, Value }) => [Name, Value] as [string, string]);
        for (const [at, value] of Values.entries()) {
          const name = key(MetricName, dimensions, Timestamp, value);
          expect(arrived.has(name)).toBe(false);
          arrived.set(name, Counts[at] as number);
        }
      }
      expect(arrived).toEqual(expected);
      expect(bad.map((line) => Number.parseInt(line, 10))).toEqual(wrong);
      expect(result).toMatchObject({ lines: texts.length, bad: wrong.length, stored: texts.length - wrong.length });
    }),
    { numRuns: 60 },
  );
});

test('a call has at most 1,000 data, 1 MB and 150 values a datum, and the calls are full', async () => {
  const minutes = await go(Array.from({ length: 2500 }, (_, index) => json({ time: ago(index) })));
  expect(minutes.calls.map(({ length }) => length).sort()).toEqual([1000, 1000, 500].sort());

  const values = await go(Array.from({ length: 301 }, (_, value) => json({ value, time: ago(1) })));
  expect(values.data.map(({ Values }) => Values?.length)).toEqual([150, 150, 1]);
  const repeated = await go(Array.from({ length: 3000 }, (_, index) => json({ value: index % 150, time: ago(1) })));
  expect(repeated.data.map(({ Values, Counts }) => [Values?.length, Counts?.[149]])).toEqual([[150, 20]]);

  const dimensions = Object.fromEntries(Array.from({ length: 30 }, (_, index) => [`D${index}`, '\\'.repeat(1024)]));
  const large = await go(Array.from({ length: 100 }, (_, index) => json({ time: ago(index), dimensions })));
  const long = await go(
    Array.from({ length: 60_000 }, (_, index) => json({ value: -(Math.PI ** 9) * (index + 1), time: ago(index % 9) })),
  );
  for (const { calls, result, bad } of [large, long]) {
    expect(bad).toEqual([]);
    const sizes = calls.map((MetricData) => Buffer.byteLength(JSON.stringify({ Namespace: 'N', MetricData })));
    expect(Math.max(...sizes)).toBeLessThanOrEqual(1_000_000);
    expect(sizes.filter((size) => size > 300_000).length).toBeGreaterThanOrEqual(sizes.length - 1);
    expect(
      calls
        .flat()
        .flatMap(({ Counts = [] }) => Counts)
        .reduce((sum, one) => sum + one, 0),
    ).toBe(result.stored);
  }
});

test('values go together by metric, unit and minute', async () => {
  const minutesAgo = ago(5).slice(0, 16);
  const time = (text: string) => `${minutesAgo}:${text}Z`;
  const lines = [
    json({ time: time('01'), dimensions: { A: '1', B: '2' } }),
    json({ time: time('01.999'), dimensions: { B: '2', A: '1' } }),
    json({ time: time('59'), dimensions: { A: '1', B: '2' }, value: 2 }),
    json({ time: time('59'), dimensions: { A: '1', B: '2' }, unit: 'Bytes' }),
  ];
  const minute = await go(lines);
  expect(
    minute.data.map(({ Timestamp, Values, Counts, Unit, StorageResolution }) => [
      ...[Timestamp, Values, Counts, Unit, StorageResolution],
    ]),
  ).toEqual([
    [new Date(time('00')), [1, 2], [2, 1], 'None', 60],
    [new Date(time('00')), [1], [1], 'Bytes', 60],
  ]);
  expect(minute.result.metrics).toBe(1);
});

test('each kind of bad line is told by its number and reason, and the others arrive', async () => {
  const bad: [line: string, reason: RegExp][] = [
    ['{"metricName":"M","value":', /JSON/],
    [json({ value: '1' }), /each value must|the value must be a number .*not 1$/],
    [json({ value: null }), /not null$/],
    ['{"metricName":"M","value":1e999}', /not Infinity$/],
    [json({ metricName: 'é' }), /the metric name must have 1 to 255 ASCII/],
    [json({ unit: 'percent' }), /"percent" is no unit/],
    [json({ units: 'Percent' }), /has a field "units" that is not known/],
    [json({ dimensions: { A: 1 } }), /dimension A must have/],
    [json({ dimensions: 'A=1' }), /the dimensions must be an object/],
    [json({ dimensions: ['web-1'] }), /the dimensions must be an object/],
    [json({ dimensions: null }), /the dimensions must be an object/],
    [json({ time: '2026-11-24T20:00:00' }), /the time must be like 2026-11-24T20:00:00Z/],
    [json({ time: 1_764_000_000 }), /the time must be like/],
    [json({ time: '2026-13-24T20:00:00Z' }), /the time is no date/],
    // Also where a month has fewer days; the year that it is now, or it would be too old.
    [json({ time: `${new Date().getUTCFullYear()}-02-30T20:00:00Z` }), /the time is no date/],
    [json({ time: ago(60 * 24 * 14 + 1) }), /is over two weeks ago/],
    [json({ time: ago(60 * 24 * 14 - 5) }), /may be over two weeks ago when it is sent/],
    [json({ time: ago(-123) }), /over two hours ahead/],
    ['\u001b[31m{}', /^\d+: \P{Cc}*$/u],
  ];
  const good = json({ time: ago(60 * 24 * 14 - 20) });
  const lines = [json({}), '', ...bad.flatMap(([line]) => [line, good]), '  '];
  const { result, bad: told } = await go(lines);
  expect(told).toHaveLength(bad.length);
  for (const [index, [, reason]] of bad.entries()) {
    expect(told[index]).toMatch(reason);
    expect(told[index]).toMatch(new RegExp(`^${2 * index + 3}: `));
  }
  expect(result).toMatchObject({ lines: lines.length, stored: bad.length + 1, bad: bad.length });
});

test('CSV has quotes, empty cells and columns of dimensions; a bad row costs no other', async () => {
  const { data, bad, result } = await go([
    '\uFEFF"metricName",value, unit ,Host,Path',
    'M,1,Count,"a,b","say ""x"""',
    'M,2,,,',
    'M,,Count,a,b',
    'M,three,Count,a,b',
    'M,4,Count,a',
    'M,5,Count,a"b,c',
    '"metricName",value, unit ,Host,Path',
    'M,6,Count,z,',
  ]);
  const shown = data.map(({ Values, Unit, Dimensions }) => [
    Values?.[0],
    Unit,
    ...(Dimensions ?? []).map(({ Value }) => Value),
  ]);
  expect(shown).toEqual([
    [1, 'Count', 'a,b', 'say "x"'],
    [2, 'None'],
    [6, 'Count', 'z'],
  ]);
  expect(bad).toEqual([
    expect.stringMatching(/^4: M: the value must be a number .* not NaN$/),
    expect.stringMatching(/^5: .*not NaN$/),
    '6: has 4 cells, not 5',
    '7: has a quote where none belongs',
  ]);
  expect(result).toMatchObject({ lines: 8 + 1, stored: 3, bad: 4, metrics: 3 });
});

test('of a line without an end only the beginning is kept, and the next one is read', async () => {
  const chunks = [json({}), '\n', ...Array(100).fill('x'.repeat(65_536)), '\n', json({ value: 2 })];
  const lengths: number[] = [];
  for await (const lines of linesOf(Readable.from(chunks))) lengths.push(...lines.map(({ length }) => length));
  // What it says is enough to refuse it: one character more than is allowed.
  expect(lengths).toEqual([json({}).length, 100_001, json({ value: 2 }).length]);
  const { result, bad } = await go(Readable.from(chunks));
  expect(bad).toEqual(['2: has over 100000 characters']);
  expect(result).toMatchObject({ lines: 3, stored: 2 });
});

test('metrics beyond the number that is allowed are bad lines', async () => {
  const { result, bad } = await go(
    ['a', 'b', 'a', 'c', 'b', 'c'].map((User) => json({ dimensions: { User } })),
    { maxMetrics: 2 },
  );
  const reason = 'is of one metric more than maxMetrics, 2';
  expect(bad).toEqual([`4: ${reason}`, `6: ${reason}`]);
  expect(result).toMatchObject({ stored: 4, metrics: 2 });
});

test('no more calls run at once than are allowed, and meanwhile no more is read', async () => {
  let read = 0;
  const source = Readable.from(
    (function* () {
      for (; read < 200; read++)
        yield `${Array.from({ length: 1000 }, (_, index) => json({ time: ago(index) })).join('\n')}\n`;
    })(),
    { highWaterMark: 1 },
  );
  const open: (() => void)[] = [];
  const answer = () => new Promise<void>((resolve) => open.push(resolve));
  const running = go(source, { concurrency: 3 }, answer);
  await vi.waitFor(() => expect(open).toHaveLength(3), 60_000);
  await new Promise((done) => setTimeout(done, 200));
  expect(open).toHaveLength(3);
  expect(read).toBeLessThan(10);
  const timer = setInterval(() => {
    for (const resolve of open.splice(0)) resolve();
  }, 1);
  const { result, most } = await running;
  clearInterval(timer);
  expect(most.running).toBe(3);
  expect(result).toMatchObject({ lines: 200_000, stored: 200_000, calls: 200 });
});

test('what has come is sent after ten seconds, though more may come', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  try {
    const source = new Readable({ read: () => {} });
    source.push(`${json({})}\n`);
    const { cloudwatch, calls } = answering();
    const running = streamMetrics(cloudwatch, { input: source, namespace: 'N' });
    // Real time: vi.waitFor would let the other time pass, too.
    const pause = () => new Promise((done) => setTimeout(done, 100));
    await pause();
    vi.advanceTimersByTime(9_900);
    await pause();
    expect(calls).toHaveLength(0);
    vi.advanceTimersByTime(200);
    for (let turn = 0; turn < 200 && calls.length === 0; turn++) await pause();
    expect(calls).toHaveLength(1);
    vi.advanceTimersByTime(30_000);
    source.push(`${json({})}\n`);
    source.push(null);
    expect(await running).toMatchObject({ lines: 2, stored: 2, calls: 2 });
  } finally {
    vi.useRealTimers();
  }
});

test('the signal ends the reading, and what was read is sent', async () => {
  const source = new Readable({ read: () => {} });
  source.push(`${json({})}\n${json({})}\n{"metricName"`);
  const stop = new AbortController();
  const running = go(source, { signal: stop.signal });
  setTimeout(() => stop.abort(new Error('enough')), 100);
  const { result, calls } = await running;
  expect(result).toEqual({ lines: 2, stored: 2, bad: 0, metrics: 1, calls: 1 });
  expect(calls).toHaveLength(1);
});

test('a call that fails ends the reading, and the lines that did not arrive are named', async () => {
  const lines = Array.from({ length: 20_000 }, (_, index) => json({ time: ago(index % 15_000) }));
  // The calls may overtake each other, so this one is known by its first line.
  const second = Date.parse(JSON.parse(lines[1000] as string).time);
  const answer = async (_: number, [first]: MetricDatum[]) => {
    await new Promise((done) => setTimeout(done, 20));
    if (Number(first?.Timestamp) !== second) return;
    throw Object.assign(new Error('Rate exceeded'), { name: 'ThrottlingException', $metadata: {} });
  };
  const { cloudwatch, calls } = answering(answer);
  const error = await streamMetrics(cloudwatch, { input: input(lines), namespace: 'N', concurrency: 2 }).catch(
    (e) => e,
  );
  expect(error.name).toBe('ThrottlingException');
  const [, stopped = '', ranges = ''] =
    /^Rate exceeded; stopped at line (\d+); not stored are lines (.*)$/.exec(error.message) ?? [];
  expect(ranges).toMatch(/^1001 to 2000(, \d+ to \d+)?$/);
  expect(Number(stopped)).toBeLessThan(6000);
  // All that was read is either in a call that went well or named.
  const named = [...ranges.matchAll(/(\d+) to (\d+)/g)].reduce(
    (sum, [, first, last]) => sum + Number(last) - Number(first) + 1,
    0,
  );
  expect((calls.length - 1) * 1000 + named).toBe(Number(stopped));
});

test('a call that fails ends the waiting for more lines, too', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  try {
    const source = new Readable({ read: () => {} });
    source.push(`${json({})}\n`);
    const running = go(source, {}, () => Promise.reject(new Error('denied')));
    const ended = expect(running).rejects.toThrow('denied; stopped at line 1; not stored are lines 1 to 1');
    await new Promise((done) => setTimeout(done, 50));
    vi.advanceTimersByTime(10_100);
    await ended;
  } finally {
    vi.useRealTimers();
  }
});

test('what can not work is refused before anything is read', async () => {
  const source = new Readable({ read: () => expect.unreachable() });
  const refused = (more: object) => expect(go(source, more)).rejects.toThrow(RangeError);
  for (const more of [{ namespace: 'AWS/EC2' }, { maxMetrics: 0 }, { concurrency: Number.NaN }]) {
    await refused(more);
  }
  const { cloudwatch, calls } = answering();
  await expect(streamMetrics(cloudwatch, { input: input(['starting…', json({})]), namespace: 'N' })).rejects.toThrow(
    /^the first line is neither JSON nor names with metricName and value: starting…$/,
  );
  expect(calls).toEqual([]);
  expect((await go([])).result).toEqual({ lines: 0, stored: 0, bad: 0, metrics: 0, calls: 0 });
});

test('the command ends with 1 when a line was bad, with 2 for wrong words, and names what is missing', async () => {
  const faults = [{ operation: 'cloudwatch:PutMetricData', error: { name: 'AccessDeniedException' } }];
  const stdin = `${json({})}\noops\n${json({})}`;
  const [bad, wrong, denied] = await Promise.all([
    stream('', { stdin }),
    stream('--max-metrics many', { stdin }),
    stream('', { stdin, faults }),
  ]);
  expect(bad).toMatchObject({ code: 1, stdout: expect.stringMatching(/^lines +3\nstored +2\nbad +1\n/) });
  expect(bad?.stderr).toMatch(/^line 2: .*JSON.*\n$/);
  expect(wrong).toEqual({ code: 2, stdout: '', stderr: 'Error: maxMetrics must be 1 or more, not NaN\n' });
  expect(denied).toMatchObject({ code: 1, stdout: '' });
  expect(denied?.stderr).toContain('not stored are lines 1 to 3');
  expect(denied?.stderr).toContain('The permission cloudwatch:PutMetricData is missing');
});

test('Ctrl-C in a terminal sends what was typed, prints the result and ends with 130', async () => {
  const type = [
    // The second line is a bad one, which tells when both have been read.
    ['reading lines', `${json({})}\roops\r`],
    ['line 2:', '\x03'],
  ] as [string, string][];
  const result = await stream('', { terminal: { columns: 100, type } });
  expect(result).toMatchObject({ code: 130, stdout: expect.stringMatching(/stored +1\b/) });
});
