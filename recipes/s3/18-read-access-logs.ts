/**
 * 3.18 Find out who did it, from access logs
 *
 * ## Problem
 * An object is gone, the bill is high, or somebody tries keys: the access logs (3.8) have every request, in thousands of
 * files. You want to know who made how many, from where, of which keys, in some hours.
 *
 * ## Solution
 * List the log files and skip those of other days by their names. Read several at once, line by line as they come, and
 * add up requests by one field: requester, address, key, operation, status. `--where` picks requests, such as the
 * deletions of one key. Memory stays the same, however much there is to read.
 *
 * ## Discussion
 * Who deleted it: look at all that was done first, `--by operation --where key=photos/a.jpg`; for it may have been
 * overwritten, or have expired by a lifecycle rule (`S3.EXPIRE.OBJECT`, of a versioned bucket `S3.CREATE.DELETEMARKER`).
 * Then `--where 'operation=*DELETE*' key=photos/a.jpg status=204`, without what was refused. A requester is an ARN or a
 * canonical user id; `-` is somebody without credentials. A copy makes two records. What a client says of itself, as
 * referer and user agent, S3 writes as it comes, quotes and all: it can't pass for another field here, but it need not
 * be true.
 *
 * Keys are given decoded, as objects are called: S3 encodes them twice. A line that is none of a log is counted as bad.
 *
 * Logs come within hours, some later, and now and then a record never: a number is a good estimate, and that there
 * is no record proves nothing. For proof turn on CloudTrail's data events before: within minutes, signed, with the
 * parameters of the call, for a fee for each event; they lack what only S3 knows, such as the keys of a deletion of many
 * (DeleteObjects), sizes, lifecycle and requests that failed to authenticate.
 *
 * Up to 100,000 groups are counted; of more, those with the fewest requests are forgotten. Then `missed` tells how many
 * requests a group may have had beyond those counted, and any that made more than a 50,000th of all is still there.
 *
 * Give the prefix down to the bucket, `access/123456789012/us-east-1/my-bucket/`, and the list begins at the first
 * day asked for; otherwise all names are listed, and all files delivered since `--from` are read, whatever `--to` is,
 * for a record may come late. Files that a rule has archived can't be read: that is an error, once the others are
 * counted. It costs $0.005 for 1,000 pages of names and $0.0004 for 1,000 files in us-east-1. For years of logs and
 * questions in SQL use Athena.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @before npx tsx recipes/s3/03-store-private-data.ts s3://paws-example/access/2026-11-28-10-05-00-1A2B3C4D - --local <<'END'
 * 79a59df9 shop [28/Nov/2026:10:00:01 +0000] 192.0.2.3 arn:aws:iam::123456789012:user/ann 3E57EXAMPLE REST.GET.OBJECT a.jpg "GET /a.jpg HTTP/1.1" 200 - 4096 4096 9 7 "-" "curl/8" -
 * 79a59df9 shop [28/Nov/2026:10:00:02 +0000] 192.0.2.3 arn:aws:iam::123456789012:user/ann 891CEXAMPLE REST.DELETE.OBJECT a.jpg "DELETE /a.jpg HTTP/1.1" 204 - - 4096 9 - "-" "curl/8" -
 * 79a59df9 shop [28/Nov/2026:10:00:03 +0000] 192.0.2.9 - A120EXAMPLE REST.GET.OBJECT a.jpg "GET /a.jpg HTTP/1.1" 403 AccessDenied 243 - 9 - "-" "curl/8" -
 * END
 * @run npx tsx recipes/s3/18-read-access-logs.ts s3://paws-example/access/ --local
 * @output
 *   value                               requests  errors  bytes  first                    last                     missed
 *   arn:aws:iam::123456789012:user/ann  2         0       4 KiB  2026-11-28 10:00:01 UTC  2026-11-28 10:00:02 UTC  0
 *   -                                   1         1       243 B  2026-11-28 10:00:03 UTC  2026-11-28 10:00:03 UTC  0
 * @run npx tsx recipes/s3/18-read-access-logs.ts s3://paws-example/access/ --where 'operation=*DELETE*' key=a.jpg --local
 * @permission s3:ListBucket on arn:aws:s3:::LOGS
 * @permission s3:GetObject on arn:aws:s3:::LOGS/*
 * @cost nothing that lasts: the requests, and data transfer if you are outside the bucket's region
 * @undo nothing
 * @emulator LocalStack writes no logs: files with the records that AWS publishes as examples are put there instead.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/logging-with-S3.html
 */
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { GetObjectCommand, S3Client } from '@aws-sdk/client-s3';
import pMap, { pMapSkip } from 'p-map';
import { type LogFile, listLogFiles } from './18-helpers/log-files.ts';
import { type LogRecord, parseLogLine } from './18-helpers/log-record.ts';
import { countGroups, type Group } from './18-helpers/top-groups.ts';

/** The fields that requests can be counted and picked by. */
export const fields = ['requester', 'remoteIp', 'key', 'operation', 'status', 'errorCode', 'userAgent'] as const;
export type Field = (typeof fields)[number];

export interface AccessReport {
  /** How many log files were read. */
  files: number;
  /** How many were not read, for their names are of other days. */
  skipped: number;
  /** How many can't be read: archived, or deleted meanwhile. */
  unreadable: number;
  /** How many requests were in the time asked for and picked. */
  requests: number;
  /** Lines that are no records. */
  bad: number;
  /** How many groups there are; with groups forgotten, some may be counted more than once. */
  groups: number;
  /** The groups with the most requests. */
  top: Group[];
}

/**
 * Reads access logs, and counts requests by one of their fields.
 *
 * @param s3 - Of the region of the bucket that has the logs.
 * @param options.bucket - The bucket that has the logs.
 * @param options.prefix - Only log files whose keys begin so. All by default.
 * @param options.by - The field to count by. `requester` by default.
 * @param options.from - Only requests from then on. From the beginning by default.
 * @param options.to - Only requests before. To the end by default.
 * @param options.where - Only requests with these values; `*` is any text, and `-` no value.
 * @param options.count - How many groups to return. 20 by default.
 * @param options.limit - How many groups are kept at least: more take more memory. 50,000 by default.
 * @param options.concurrency - How many files are read at once. 16 by default.
 * @param options.signal - Stops the reading.
 * @param options.onProgress - Called with a text for people.
 * @throws RangeError when a field, time or number is none; AbortError.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html
 *
 * @example
 * const s3 = new S3Client({});
 * const { top } = await readAccessLogs(s3, { bucket: 'my-logs', where: { operation: '*DELETE*' } });
 * for (const { value, requests } of top) console.log(value, requests);
 */
export async function readAccessLogs(
  s3: S3Client,
  options: {
    bucket: string;
    prefix?: string;
    by?: Field;
    from?: Date;
    to?: Date;
    where?: Partial<Record<Field, string>>;
    count?: number;
    limit?: number;
    concurrency?: number;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<AccessReport> {
  const {
    bucket,
    prefix = '',
    by = 'requester',
    where = {},
    count = 20,
    limit = 50_000,
    concurrency = 16,
    signal,
    onProgress,
  } = options;
  const { from = new Date(0), to = new Date(8.64e15) } = options;
  for (const field of [by, ...Object.keys(where)]) {
    if (!fields.includes(field as Field)) throw new RangeError(`"${field}" is no field; there is ${fields.join(', ')}`);
  }
  const [empty] = Object.entries(where).find(([, pattern]) => typeof pattern !== 'string') ?? [];
  if (empty) throw new RangeError(`where needs a value for ${empty}`);
  // Written so that a date that is none is refused, too.
  if (!(from < to)) throw new RangeError('from must be before to, and both be dates');
  for (const [name, number] of Object.entries({ count, limit, concurrency })) {
    if (!(Number.isSafeInteger(number) && number >= 1))
      throw new RangeError(`${name} must be 1 or more, not ${number}`);
  }
  // Each request listens to the signal, and Node warns of more than ten.
  if (signal) setMaxListeners(0, signal);
  const report: AccessReport = { files: 0, skipped: 0, unreadable: 0, requests: 0, bad: 0, groups: 0, top: [] };
  const groups = countGroups(limit);
  const picks = Object.entries(where).map(([field, pattern]) => ({ field: field as Field, test: matcher(pattern) }));

  const addLine = (line: string) => {
    if (line === '') return;
    const record = parseLogLine(line);
    if (!record) report.bad++;
    if (!record || record.time < from || record.time >= to) return;
    if (!picks.every(({ field, test }) => test(fieldOf(record, field)))) return;
    report.requests++;
    const { time, status, bytesSent } = record;
    groups.add(fieldOf(record, by), { time, failed: (status ?? 0) >= 400, bytes: bytesSent ?? 0 });
  };

  const readFile = async ({ key, size }: LogFile) => {
    // The SDK doesn't repeat an answer that breaks off: so go on after the last whole line, and count none twice.
    let done = 0;
    for (let attempt = 1; done < size; attempt++) {
      const Range = done > 0 ? `bytes=${done}-` : undefined;
      let part: Buffer = Buffer.alloc(0);
      try {
        const { Body } = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: key, Range }), {
          abortSignal: signal,
        });
        for await (const chunk of Body as AsyncIterable<Uint8Array>) {
          part = Buffer.concat([part, chunk]);
          const end = part.lastIndexOf(10) + 1;
          for (const line of part.toString('utf8', 0, end).split('\n')) addLine(line);
          part = part.subarray(end);
          done += end;
        }
        // The last line may have no end.
        addLine(part.toString());
        done += part.length;
      } catch (error) {
        signal?.throwIfAborted();
        if (['InvalidObjectState', 'NoSuchKey'].includes((error as Error).name)) {
          report.unreadable++;
          return pMapSkip;
        }
        // Connections break, and S3 may be too busy for longer than the SDK's own tries last.
        const { httpStatusCode: status = 0 } = (error as { $metadata?: { httpStatusCode?: number } }).$metadata ?? {};
        if ((status > 0 && status < 500) || attempt === 5) {
          throw Object.assign(error as Error, { message: `${(error as Error).message} (reading ${key})` });
        }
        await sleep((status ? 1000 : 100) * 2 ** attempt, undefined, { signal });
      }
    }
    report.files++;
    onProgress?.(`${report.files} files read, ${report.requests} requests`);
    // Kept as results, millions of files would fill the memory.
    return pMapSkip;
  };

  const onSkip = () => report.skipped++;
  const files = listLogFiles(s3, { bucket, prefix, from, to, signal, onSkip });
  await pMap(files, readFile, { concurrency, signal });
  return { ...report, groups: groups.size(), top: groups.top(count) };
}

function fieldOf(record: LogRecord, field: Field): string | null {
  return field === 'status' && record.status !== null ? `${record.status}` : (record[field] as string | null);
}

/** A test for a value by a pattern, in which `*` is any text. */
function matcher(pattern: string): (value: string | null) => boolean {
  if (pattern === '-') return (value) => value === null;
  const parts = pattern.split('*').map((part) => part.replace(/[\\^$.+?()[\]{}|]/g, '\\$&'));
  const whole = new RegExp(`^${parts.join('.*')}$`, 's');
  return (value) => value !== null && whole.test(value);
}

// ---- command line: leave out when copying ----
import { bytes, connect, interrupted, json, print, progress, recipe, s3Prefix, warn } from '../../shared/cli.ts';
import { parseTime } from './18-helpers/log-files.ts';

recipe(import.meta, (command) =>
  command
    .argument('<logs>', 's3://BUCKET/PREFIX of the log files', s3Prefix)
    .option('--by <field>', `count by this field: ${fields.join(', ')} (default: ${fields[0]})`)
    .option('--from <time>', 'only requests from then on, such as 2026-11-28T13:05, in UTC', parseTime)
    .option('--to <time>', 'only requests before', parseTime)
    .option('--where <field=value...>', 'only requests with these values; * is any text, - no value')
    .option('--count <number>', 'how many groups to show (default: 20)', Number)
    .option('--concurrency <number>', 'how many files to read at once (default: 16)', Number)
    .action(async (logs, { by = fields[0], where = [], from, to, count, concurrency }) => {
      const picks = Object.fromEntries(where.map((pick) => pick.split(/=(.*)/s)));
      if (Object.keys(picks).length < where.length) throw new RangeError('--where takes each field once');
      const options = { ...logs, from, to, count, concurrency, signal: interrupted(), onProgress: progress };
      const report = await readAccessLogs(connect(S3Client), { ...options, by: by as Field, where: picks });
      print(json() ? report : report.top, { bytes });
      const { files, skipped, unreadable, requests, bad, groups } = report;
      const rest = `${skipped} passed over; ${bad} lines are bad`;
      warn(`${requests} requests of ${groups} groups, in ${files} files; ${rest}`);
      if (unreadable > 0) throw new Error(`${unreadable} files could not be read: archived, or deleted meanwhile`);
    }),
);
