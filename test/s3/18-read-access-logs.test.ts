import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { listLogFiles, parseTime } from '../../recipes/s3/18-helpers/log-files.ts';
import { type LogRecord, parseLogLine } from '../../recipes/s3/18-helpers/log-record.ts';
import { countGroups } from '../../recipes/s3/18-helpers/top-groups.ts';
import { readAccessLogs } from '../../recipes/s3/18-read-access-logs.ts';
import { withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';
import { oddKeys } from '../odd-keys.ts';
import { keysOf } from '../program.ts';
import { startProxy } from '../proxy.ts';
import { startVersitygw, versitygw } from '../versitygw.ts';

const own = testRecipe(import.meta);
const { run, file } = own;
const s3 = own.s3();

const owner = '79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be';
/** What AWS publishes as examples: in 2014, in 2019, and today. */
const published = {
  2014: `${owner} mybucket [06/Feb/2014:00:00:38 +0000] 192.0.2.3 ${owner} A1206F460EXAMPLE REST.GET.BUCKETPOLICY - "GET /mybucket?policy HTTP/1.1" 404 NoSuchBucketPolicy 297 - 38 - "-" "S3Console/0.4" -`,
  2019: `${owner} awsexamplebucket1 [06/Feb/2019:00:01:57 +0000] 192.0.2.3 ${owner} DD6CC733AEXAMPLE REST.PUT.OBJECT s3-dg.pdf "PUT /awsexamplebucket1/s3-dg.pdf HTTP/1.1" 200 - - 4406583 41754 28 "-" "S3Console/0.4" - 10S62Zv81kBW7BB6SX4XJ48o6kpcl6LPwEoizZQQxJd5qDSCTLX0TgS37kYUBKQW3+bPdrg1234= SigV4 ECDHE-RSA-AES128-SHA AuthHeader awsexamplebucket1.s3.us-west-1.amazonaws.com TLSV1.1`,
  today: `${owner} amzn-s3-demo-bucket1 [06/Feb/2019:00:00:38 +0000] 192.0.2.3 ${owner} 3E57427F3EXAMPLE REST.GET.VERSIONING - "GET /amzn-s3-demo-bucket1?versioning HTTP/1.1" 200 - 113 - 7 - "-" "S3Console/0.4" - s9lzHYrFp76ZVxRcpX9+5cjAnEH2ROuNkd2BHfIa6UkFVdtjf5mKR3/eTPFvsiP/XV/VLi31234= SigV4 ECDHE-RSA-AES128-GCM-SHA256 AuthHeader amzn-s3-demo-bucket1.s3.us-west-1.amazonaws.com TLSV1.2 arn:aws:s3:us-west-1:123456789012:accesspoint/example-AP Yes us-east-1`,
};

test("AWS's published examples are read in every field, those of 18 fields and of 27", () => {
  const none = { key: null, errorCode: null, referer: null, versionId: null, more: [] };
  const later = { hostId: null, signatureVersion: null, cipherSuite: null, authenticationType: null, hostHeader: null };
  const latest = { accessPointArn: null, aclRequired: null, sourceRegion: null };
  const who = { bucketOwner: owner, remoteIp: '192.0.2.3', requester: owner, userAgent: 'S3Console/0.4' };
  expect(parseLogLine(published[2014])).toEqual({
    ...{ ...none, ...later, ...latest, ...who, tlsVersion: null },
    ...{ bucket: 'mybucket', time: new Date('2014-02-06T00:00:38Z'), requestId: 'A1206F460EXAMPLE' },
    ...{ operation: 'REST.GET.BUCKETPOLICY', requestUri: 'GET /mybucket?policy HTTP/1.1', status: 404 },
    ...{ errorCode: 'NoSuchBucketPolicy', bytesSent: 297, objectSize: null, totalTime: 38, turnAroundTime: null },
  });
  expect(parseLogLine(published[2019])).toEqual({
    ...{ ...none, ...latest, ...who, tlsVersion: 'TLSV1.1', authenticationType: 'AuthHeader' },
    ...{ bucket: 'awsexamplebucket1', time: new Date('2019-02-06T00:01:57Z'), requestId: 'DD6CC733AEXAMPLE' },
    ...{ operation: 'REST.PUT.OBJECT', requestUri: 'PUT /awsexamplebucket1/s3-dg.pdf HTTP/1.1', status: 200 },
    ...{ key: 's3-dg.pdf', bytesSent: null, objectSize: 4406583, totalTime: 41754, turnAroundTime: 28 },
    ...{ signatureVersion: 'SigV4', cipherSuite: 'ECDHE-RSA-AES128-SHA' },
    hostId: '10S62Zv81kBW7BB6SX4XJ48o6kpcl6LPwEoizZQQxJd5qDSCTLX0TgS37kYUBKQW3+bPdrg1234=',
    hostHeader: 'awsexamplebucket1.s3.us-west-1.amazonaws.com',
  });
  expect(parseLogLine(published.today)).toMatchObject({
    ...{ tlsVersion: 'TLSV1.2', accessPointArn: 'arn:aws:s3:us-west-1:123456789012:accesspoint/example-AP' },
    ...{ aclRequired: 'Yes', sourceRegion: 'us-east-1', more: [] },
  });
  expect(parseLogLine(`${published.today} new 7`)).toMatchObject({
    ...{ userAgent: 'S3Console/0.4', sourceRegion: 'us-east-1', more: ['new', '7'] },
  });
});

/** A line as S3 would write it. */
const lineOf = (record: Record<keyof LogRecord, unknown>, { tail = 10, bare = false } = {}) => {
  const { bucketOwner, bucket, time, remoteIp, requester, requestId, operation, key, requestUri, status, errorCode } =
    record;
  const { bytesSent, objectSize, totalTime, turnAroundTime, referer, userAgent, ...rest } = record;
  const [, day, month, year, clock] = /^\w+, (\d+) (\w+) (\d+) ([\d:]+)/.exec((time as Date).toUTCString()) ?? [];
  const plain = (fields: unknown[]) => fields.map((field) => field ?? '-');
  const quoted = (field: unknown, isBare = bare) => (field === null && isBare ? '-' : `"${field ?? '-'}"`);
  // Who sends a referer full of quotes has it logged with a user agent in quotes.
  const isOdd = `${referer}`.includes('"');
  const last = [rest.versionId, rest.hostId, rest.signatureVersion, rest.cipherSuite, rest.authenticationType];
  const more = [rest.hostHeader, rest.tlsVersion, rest.accessPointArn, rest.aclRequired, rest.sourceRegion];
  return [
    ...plain([
      bucketOwner,
      bucket,
      `[${day}/${month}/${year}:${clock} +0000]`,
      remoteIp,
      requester,
      requestId,
      operation,
    ]),
    ...plain([key === null ? null : encodeURIComponent(encodeURIComponent(key as string)).replaceAll('%252F', '/')]),
    ...[requestUri === null ? '-' : `"${requestUri}"`, ...plain([status, errorCode, bytesSent, objectSize])],
    ...[...plain([totalTime, turnAroundTime]), quoted(referer), quoted(userAgent, bare && !isOdd)],
    ...[...plain([...last, ...more]).slice(0, tail), ...(rest.more as string[])],
  ].join(' ');
};

const word = fc.stringMatching(/^[A-Za-z0-9:/@.=+_"-]{2,20}$/);
const count = fc.option(fc.integer({ min: 0, max: 1e12 }));
/** What a client may send to pass for other fields, and anything else. */
const header = fc.option(
  fc
    .array(
      fc.oneof(
        fc.constantFrom(
          '"',
          ' ',
          '" "',
          '-',
          '" - ',
          '" 200 - 1 1 1 1 "-" "',
          '" "x" - h SigV4 c AuthHeader b.s3 TLSv1.2 - - r',
        ),
        fc.string({ unit: 'grapheme' }).filter((text) => !/[\r\n]/.test(text)),
      ),
      { minLength: 1, maxLength: 6 },
    )
    .map((parts) => parts.join(''))
    .filter((text) => text !== '-'),
);
const record = fc.record({
  bucketOwner: fc.option(fc.stringMatching(/^[0-9a-f]{64}$/)),
  bucket: fc.stringMatching(/^[a-z0-9.-]{3,63}$/),
  time: fc.integer({ min: 1e9, max: 2e9 }).map((seconds) => new Date(seconds * 1000)),
  remoteIp: fc.option(fc.oneof(fc.ipV4(), fc.ipV6())),
  requester: fc.option(word),
  requestId: word,
  operation: fc.option(fc.stringMatching(/^(REST|WEBSITE)\.[A-Z]{3,5}\.[A-Z_]{3,9}$/)),
  key: fc.option(fc.oneof(fc.constantFrom(...oddKeys), fc.string({ unit: 'grapheme', minLength: 2 }))),
  requestUri: fc.option(fc.tuple(word, word).map(([a, b]) => `GET /${a}"${b} HTTP/1.1`)),
  status: fc.option(fc.integer({ min: 100, max: 599 })),
  errorCode: fc.option(fc.stringMatching(/^[A-Z][a-z]{3,9}$/)),
  ...{ bytesSent: count, objectSize: count, totalTime: count, turnAroundTime: count },
  ...{ referer: header, userAgent: header },
  versionId: fc.option(fc.stringMatching(/^[\w.]{8,32}$/)),
  hostId: fc.option(fc.stringMatching(/^[A-Za-z0-9+/]{20,40}=$/)),
  signatureVersion: fc.option(fc.constantFrom('SigV2', 'SigV4', 'SigV4A')),
  cipherSuite: fc.option(fc.stringMatching(/^[A-Z0-9-]{5,20}$/)),
  authenticationType: fc.option(fc.constantFrom('AuthHeader', 'QueryString')),
  hostHeader: fc.option(fc.stringMatching(/^[a-z0-9.:-]{3,40}$/)),
  tlsVersion: fc.option(fc.constantFrom('TLSv1', 'TLSv1.2', 'TLSV1.3')),
  accessPointArn: fc.option(fc.constant('arn:aws:s3:us-west-1:123456789012:accesspoint/example-AP')),
  aclRequired: fc.option(fc.constant('Yes')),
  sourceRegion: fc.option(fc.constant('eu-west-1')),
  more: fc.array(fc.stringMatching(/^[a-z0-9.]{2,9}$/), { maxLength: 3 }),
});

test('whatever a client sends, every other field is read as it was', () => {
  const lines = fc.tuple(record, fc.constantFrom(1, 7, 8, 9, 10), fc.boolean());
  fc.assert(
    fc.property(lines, ([whole, tail, bare]) => {
      const names = ['versionId', 'hostId', 'signatureVersion', 'cipherSuite', 'authenticationType', 'hostHeader'];
      const cut = [...names, 'tlsVersion', 'accessPointArn', 'aclRequired', 'sourceRegion'].slice(tail);
      const expected = {
        ...whole,
        ...Object.fromEntries(cut.map((name) => [name, null])),
        ...(tail < 10 && { more: [] }),
      };
      const { referer, userAgent, ...parsed } = parseLogLine(lineOf(expected, { tail, bare })) ?? ({} as LogRecord);
      const { referer: sent, userAgent: agent, ...others } = expected;
      expect(parsed).toEqual(others);
      // These two meet where the first closing quote and space and quote are.
      const isClear = `${sent ?? '-'}" "`.indexOf('" "') === (sent ?? '-').length;
      if (isClear) expect([referer, userAgent]).toEqual([sent, agent]);
    }),
    { numRuns: 2000 },
  );
});

test('lines that are none are told from those that are', () => {
  const { today } = published;
  const broken = [
    '',
    ' ',
    'x',
    today.slice(0, 300),
    today.slice(200),
    today.replace('Feb', 'Fex'),
    today.replace('200', 'OK'),
  ];
  expect(broken.map(parseLogLine)).toEqual(broken.map(() => null));
  // Records that S3 makes by itself have bare dashes.
  const expiry = `${owner} shop [01/Mar/2026:10:00:00 +0000] - AmazonS3 0A1B S3.EXPIRE.OBJECT a%252Bb - - - - 4 - - - - 3HL4 h= - - - - - - - -`;
  expect(parseLogLine(expiry)).toMatchObject({
    operation: 'S3.EXPIRE.OBJECT',
    key: 'a+b',
    versionId: '3HL4',
    hostId: 'h=',
  });
  expect(parseLogLine(today.replace('+0000', '-0130'))?.time).toEqual(new Date('2019-02-06T01:30:38Z'));
  expect(parseLogLine(today.replace('VERSIONING -', 'OBJECT 100%25'))?.key).toBe('100%');
});

const request = (time: string, more: Partial<LogRecord> = {}) => {
  const blank = Object.fromEntries(Object.keys(parseLogLine(published.today) ?? {}).map((name) => [name, null]));
  const always = { bucket: 'shop', requestId: 'A', operation: 'REST.GET.OBJECT', status: 200, bytesSent: 10, more: [] };
  return `${lineOf({ ...blank, ...always, time: new Date(time), ...more } as LogRecord)}\n`;
};

const bucket = `${own.bucket}-logs`;
const byDay = 'day/123456789012/us-east-1/shop/';
const put = (Key: string, ...lines: string[]) =>
  s3.send(new PutObjectCommand({ Bucket: bucket, Key, Body: lines.join('') }));
let made: Promise<void> | undefined;
/** Makes the bucket of logs when the first test needs it: the header's cycle must find none. */
const prepare = () => {
  made ??= makeLogs();
  return made;
};
async function makeLogs(): Promise<void> {
  await s3.send(new CreateBucketCommand({ Bucket: bucket }));
  const ann = { requester: 'arn:aws:iam::123456789012:user/ann', remoteIp: '192.0.2.3' };
  for (const day of ['01', '02', '03', '04', '05']) {
    const time = `2026-11-${day}T`;
    await put(
      `${byDay}2026/11/${day}/2026-11-${day}-00-00-00-AAAA`,
      request(`${time}00:00:00Z`, { ...ann, key: 'a b/é.jpg' }),
      request(`${time}12:00:00Z`, {
        ...ann,
        key: 'a b/é.jpg',
        operation: 'REST.DELETE.OBJECT',
        status: 204,
        bytesSent: null,
      }),
      request(`${time}23:59:59Z`, { key: 'secret', status: 403, errorCode: 'AccessDenied', userAgent: 'x" "y' }),
    );
  }
  await put(
    'plain/2026-11-02-13-00-00-BBBB',
    request('2026-11-02T12:59:00Z'),
    request('2026-11-02T10:00:00Z').trimEnd(),
  );
  await put('plain/2026-11-03-00-00-00-CCCC', request('2026-11-02T23:00:00Z'), 'no record\n', '\n');
  await put('plain/2026-11-09-05-00-00-DDDD', request('2026-11-02T09:00:00Z'));
  await put('plain/2026-11-02-09-00-00-EEEE', '\n');
  await put('plain/notes.txt', 'not a log');
}

const november = (day: number) => new Date(Date.UTC(2026, 10, day));

test('requests are counted by each field, in a time, and with the values that were asked for', async () => {
  await prepare();
  const read = (more: object) => readAccessLogs(s3, { bucket, prefix: byDay, by: 'requester', ...more });
  const ann = { value: 'arn:aws:iam::123456789012:user/ann', requests: 10, errors: 0, bytes: 50, missed: 0 };
  expect(await read({})).toEqual({
    ...{ files: 5, skipped: 0, unreadable: 0, requests: 15, bad: 0, groups: 2 },
    top: [
      { ...ann, first: november(1), last: new Date('2026-11-05T12:00:00Z') },
      {
        ...{ value: null, requests: 5, errors: 5, bytes: 50, missed: 0 },
        ...{ first: new Date('2026-11-01T23:59:59Z'), last: new Date('2026-11-05T23:59:59Z') },
      },
    ],
  });
  const values = async (more: object) => (await read(more)).top.map(({ value, requests }) => [value, requests]);
  expect(await values({ by: 'remoteIp' })).toEqual([
    ['192.0.2.3', 10],
    [null, 5],
  ]);
  expect(await values({ by: 'key' })).toEqual([
    ['a b/é.jpg', 10],
    ['secret', 5],
  ]);
  expect(await values({ by: 'status' })).toEqual([
    ['200', 5],
    ['204', 5],
    ['403', 5],
  ]);
  expect(await values({ by: 'userAgent', where: { status: '403' } })).toEqual([['x" "y', 5]]);
  expect(await values({ by: 'operation', count: 1 })).toEqual([['REST.GET.OBJECT', 10]]);
  expect(await values({ where: { operation: '*DELETE*', key: 'a b/*.jpg' } })).toEqual([[ann.value, 5]]);
  expect(await values({ where: { requester: '-' }, by: 'errorCode' })).toEqual([['AccessDenied', 5]]);
  expect(await values({ where: { key: 'a.b/*' } })).toEqual([]);
  expect(await values({ where: { requester: '*' } })).toEqual([[ann.value, 10]]);
  // The first moment belongs to it, the last does not.
  expect(await values({ by: 'status', from: november(2), to: november(3) })).toEqual([
    ['200', 1],
    ['204', 1],
    ['403', 1],
  ]);
  expect(
    await values({ by: 'status', from: new Date('2026-11-02T12:00:00Z'), to: new Date('2026-11-02T23:59:59Z') }),
  ).toEqual([['204', 1]]);
});

test('files of other days are not read, and in folders of days not even listed', async () => {
  await prepare();
  const proxy = await startProxy();
  const client = new S3Client({ ...(await settings()), endpoint: proxy.url });
  const time = { from: november(3), to: new Date('2026-11-03T06:00:00Z') };
  const read = (prefix: string) => readAccessLogs(client, { bucket, prefix, by: 'status', ...time });
  // One day more than asked for: a file of that name may have been delivered right at midnight.
  expect(await read(byDay)).toMatchObject({ files: 2, requests: 1, skipped: 1 });
  expect(await read('day/')).toMatchObject({ files: 2, requests: 1, skipped: 3 });
  const lists = proxy.requests.filter(({ operation }) => operation === 'ListObjectsV2');
  expect(lists.map(({ query }) => query.get('start-after'))).toEqual([null, `${byDay}2026/11/03`, null, null]);
  // By the time of delivery, only what was delivered before is out of the question.
  const late = await readAccessLogs(client, {
    bucket,
    prefix: 'plain/',
    by: 'status',
    from: november(2),
    to: november(3),
  });
  expect(late).toMatchObject({ files: 4, skipped: 1, requests: 4, bad: 1 });
  const later = { from: new Date('2026-11-02T13:00:00Z') };
  expect(await readAccessLogs(client, { bucket, prefix: 'plain/', by: 'status', ...later })).toMatchObject({
    ...{ files: 2, skipped: 3, requests: 1 },
  });
});

const settings = async () => ({
  region: 'us-east-1',
  credentials: await s3.config.credentials(),
  forcePathStyle: true,
});

test('a list of many pages is read to its end', async () => {
  await prepare();
  const keys = Array.from({ length: 5 }, (_, at) => `${byDay}2026/11/0${at + 1}/2026-11-0${at + 1}-00-00-00-AAAA`);
  const small = own.s3();
  small.middlewareStack.add(
    (next) => (args) => {
      if ('EncodingType' in args.input && !('MaxKeys' in args.input)) Object.assign(args.input, { MaxKeys: 2 });
      return next(args);
    },
    { step: 'initialize' },
  );
  const found: string[] = [];
  const options = { bucket, prefix: byDay, from: new Date(0), to: new Date(8.64e15) };
  for await (const { key } of listLogFiles(small, options)) found.push(key);
  expect(found).toEqual(keys);
});

test('an answer that breaks off is read on where it broke, and nothing is counted twice', async () => {
  await prepare();
  const lines = Array.from({ length: 3000 }, (_, at) =>
    request('2026-11-02T10:00:00Z', { key: `key ${at}`, bytesSent: at }),
  );
  await put('broken/2026-11-02-13-00-00-AAAA', ...lines);
  const proxy = await startProxy(({ operation, before }) => (operation === 'GetObject' && before < 3 ? 'cut' : null));
  const client = new S3Client({ ...(await settings()), endpoint: proxy.url });
  const report = await readAccessLogs(client, { bucket, prefix: 'broken/', by: 'key', count: 3000 });
  expect(report).toMatchObject({ files: 1, requests: 3000, bad: 0, groups: 3000 });
  expect(new Set(report.top.map(({ requests }) => requests))).toEqual(new Set([1]));
  expect(proxy.count('GetObject')).toBe(4);
  const ranges = proxy.requests.map(({ headers }) => headers.range).filter(Boolean);
  expect(ranges.length).toBeGreaterThanOrEqual(1);

  const busy = withFaults(own.s3(), { operation: 'GetObject', error: 'SlowDown', times: 1 });
  const late = await readAccessLogs(busy.client, { bucket, prefix: 'broken/', by: 'key' });
  expect(late).toMatchObject({ files: 1, requests: 3000 });

  const archived = withFaults(own.s3(), { operation: 'GetObject', error: 'InvalidObjectState' });
  const without = await readAccessLogs(archived.client, { bucket, prefix: 'broken/', by: 'key' });
  expect(without).toMatchObject({ files: 0, unreadable: 1, requests: 0 });

  const never = await startProxy(({ operation }) => (operation === 'GetObject' ? 'cut' : null));
  const broken = new S3Client({ ...(await settings()), endpoint: never.url });
  const again = readAccessLogs(broken, { bucket, prefix: 'broken/', by: 'key' });
  await expect(again).rejects.toThrow('(reading broken/2026-11-02-13-00-00-AAAA)');
  expect(never.count('GetObject')).toBeLessThanOrEqual(5);

  const denied = await startProxy(({ operation }) => (operation === 'GetObject' ? 403 : null));
  const outside = new S3Client({ ...(await settings()), endpoint: denied.url });
  await expect(readAccessLogs(outside, { bucket, prefix: 'broken/', by: 'key' })).rejects.toMatchObject({
    name: 'AccessDenied',
  });
  expect(denied.count('GetObject')).toBe(1);
});

test('files are read side by side, as many as allowed, and an abort ends it', async () => {
  await prepare();
  const proxy = await startProxy(({ operation }) =>
    operation === 'GetObject' ? () => new Promise((done) => setTimeout(done, 200)) : null,
  );
  const client = new S3Client({ ...(await settings()), endpoint: proxy.url });
  await readAccessLogs(client, { bucket, prefix: byDay, by: 'key', concurrency: 3 });
  expect(proxy.load.most).toBe(3);
  const stop = new AbortController();
  const told: string[] = [];
  const onProgress = (text: string) => {
    told.push(text);
    stop.abort(new Error('Enough.'));
  };
  const slow = readAccessLogs(client, {
    bucket,
    prefix: byDay,
    by: 'key',
    concurrency: 1,
    signal: stop.signal,
    onProgress,
  });
  await expect(slow).rejects.toThrow(/Enough|aborted/);
  expect(told).toEqual(['1 files read, 3 requests']);
});

test('with more groups than are kept, the large ones stay, and what may be missing is told', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 400 }), { maxLength: 3000 }),
      fc.integer({ min: 1, max: 9 }),
      (seeds, limit) => {
        const groups = countGroups(limit);
        const truth = new Map<string, number>();
        // A few values are frequent.
        for (const seed of seeds) {
          const value = `${seed < 200 ? seed % 3 : seed}`;
          truth.set(value, (truth.get(value) ?? 0) + 1);
          groups.add(value, { time: new Date(seed), failed: seed % 2 === 1, bytes: 1 });
        }
        const kept = groups.top(1000);
        expect(kept.length).toBeLessThanOrEqual(limit * 2);
        for (const { value, requests, bytes, missed } of kept) {
          const real = truth.get(value as string) as number;
          expect(requests).toBeLessThanOrEqual(real);
          expect(requests + missed).toBeGreaterThanOrEqual(real);
          expect(missed).toBeLessThanOrEqual(seeds.length / (limit + 1));
          expect(bytes).toBe(requests);
        }
        const found = kept.map(({ value }) => value);
        for (const [value, real] of truth) if (real > seeds.length / (limit + 1)) expect(found).toContain(value);
        if (truth.size <= limit * 2) expect(groups.size()).toBe(truth.size);
      },
    ),
    { numRuns: 200 },
  );
});

test('a time without a zone is UTC', () => {
  const zone = process.env.TZ;
  process.env.TZ = 'America/New_York';
  onTestFinished(() => {
    process.env.TZ = zone ?? '';
    if (zone === undefined) delete process.env.TZ;
  });
  expect(parseTime('2026-11-28T13:05').toISOString()).toBe('2026-11-28T13:05:00.000Z');
  expect(parseTime('2026-11-28').toISOString()).toBe('2026-11-28T00:00:00.000Z');
  expect(parseTime('2026-11-28T13:05:59+01:00').toISOString()).toBe('2026-11-28T12:05:59.000Z');
  expect(parseTime('2026-11-28T13:05:59+0100').toISOString()).toBe('2026-11-28T12:05:59.000Z');
  // Date would take these for times of New York.
  for (const other of ['2026-11-28 13:05', '2026/11/28', '11-28-2026', '28 Nov 2026', '2026-11-28T13:05:59 ', '2026'])
    expect(parseTime(other).getTime(), other).toBeNaN();
  expect(parseTime('2026-11-28T13:05:59.5Z').toISOString()).toBe('2026-11-28T13:05:59.500Z');
});

test('what is no field, no time or no number is refused before anything is sent', async () => {
  const proxy = await startProxy();
  const client = new S3Client({ ...(await settings()), endpoint: proxy.url });
  const wrong: [object, string][] = [
    [{ by: 'colour' }, '"colour" is no field; there is requester'],
    [{ where: { colour: 'red' } }, '"colour" is no field'],
    [{ where: { key: undefined } }, 'where needs a value for key'],
    [{ from: november(2), to: november(2) }, 'from must be before to'],
    [{ from: parseTime('yesterday') }, 'and both be dates'],
    [{ to: parseTime('') }, 'and both be dates'],
    [{ count: 0 }, 'count must be 1 or more, not 0'],
    [{ limit: Number.NaN }, 'limit must be'],
    [{ concurrency: 1.5 }, 'concurrency must be'],
  ];
  for (const [options, message] of wrong) {
    const reading = readAccessLogs(client, { bucket, by: 'key', ...options });
    await expect(reading, message).rejects.toThrow(message);
    await expect(readAccessLogs(client, { bucket, by: 'key', ...options })).rejects.toThrow(RangeError);
  }
  expect(proxy.requests).toEqual([]);
});

test('by the command line', async () => {
  await prepare();
  const where = `s3://paws-example-logs/${byDay}`;
  const options = "--by key --from 2026-11-02 --to 2026-11-03T12:00 --where status=200 'userAgent=-' --local";
  const asked = await run(`npx tsx ${file} ${where} ${options} --json`);
  expect(asked).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(asked.stdout)).toMatchObject({ requests: 2, top: [{ value: 'a b/é.jpg', bytes: 20 }] });
  const wrong = await run(`npx tsx ${file} ${where} --by key --where key --local`);
  expect(wrong).toEqual({ code: 2, stdout: '', stderr: 'Error: where needs a value for key\n' });
  const faults = [{ operation: 's3:GetObject', times: 1, error: { name: 'InvalidObjectState' } }];
  const partly = await run(`npx tsx ${file} ${where} --local --json`, { faults });
  expect(partly).toMatchObject({ code: 1, stderr: expect.stringContaining('1 files could not be read: archived') });
  expect(JSON.parse(partly.stdout)).toMatchObject({ unreadable: 1 });
  const twice = await run(`npx tsx ${file} ${where} --where key=a key=b --local`);
  expect(twice).toEqual({ code: 2, stdout: '', stderr: 'Error: --where takes each field once\n' });
});

test.skipIf(!versitygw)('logs on another S3 server, which checks who asks, are read too', async () => {
  const server = await startVersitygw();
  onTestFinished(server.stop);
  const { url: endpoint, accessKeyId, secretAccessKey } = server;
  const credentials = { accessKeyId, secretAccessKey };
  const there = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials });
  await there.send(new CreateBucketCommand({ Bucket: own.bucket }));
  const Key = 'access/2026-11-28-10-00-00-AAAA';
  await there.send(new PutObjectCommand({ Bucket: own.bucket, Key, Body: `${published.today}\n${published[2014]}` }));
  const command = `npx tsx ${file} s3://paws-example/access/ --by status --endpoint-url ${endpoint} --json`;
  const result = await run(command, { env: keysOf(server) });
  expect(result).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(result.stdout)).toMatchObject({
    requests: 2,
    top: [{ value: '200' }, { value: '404', errors: 1 }],
  });
});
