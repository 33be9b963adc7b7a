/** Finds the log files of some days: S3 writes a date into their names. */
import { ListObjectsV2Command, type ListObjectsV2Output, type S3Client } from '@aws-sdk/client-s3';

/** A log file. */
export interface LogFile {
  key: string;
  /** Bytes. */
  size: number;
}

const day = 86_400_000;

/**
 * Lists the log files that may have requests of a time.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - The bucket that has the logs.
 * @param options.prefix - What their keys begin with.
 * @param options.from - The first moment asked for.
 * @param options.to - The moment after the last.
 * @param options.onSkip - Called for each object that is passed over.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_PartitionedPrefix.html
 *
 * @example
 * const s3 = new S3Client({});
 * const time = { from: new Date('2026-11-28'), to: new Date('2026-11-29') };
 * for await (const { key } of listLogFiles(s3, { bucket: 'my-logs', prefix: '', ...time })) console.log(key);
 */
export async function* listLogFiles(
  s3: S3Client,
  options: { bucket: string; prefix: string; from: Date; to: Date; signal?: AbortSignal; onSkip?: () => void },
): AsyncGenerator<LogFile> {
  const { bucket, prefix, from, to, signal, onSkip } = options;
  const list = (more: object): Promise<ListObjectsV2Output> => {
    const command = new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, EncodingType: 'url', ...more });
    return s3.send(command, { abortSignal: signal });
  };
  const decode = (key = '') => decodeURIComponent(key.replaceAll('+', ' '));

  // Where the folders of days come next in the keys, the list is in their order: begin and end in the middle of it.
  const [first] = (await list({ MaxKeys: 1 })).Contents ?? [];
  const isByDay = /^\d{4}\/\d\d\/\d\d\//.test(decode(first?.Key).slice(prefix.length));
  const begin = `${prefix}${from.toISOString().slice(0, 10).replaceAll('-', '/')}`;
  let token: string | undefined;
  do {
    const page = await list(token ? { ContinuationToken: token } : { StartAfter: isByDay ? begin : undefined });
    for (const { Key, Size = 0 } of page.Contents ?? []) {
      const key = decode(Key);
      const place = compareToTime(key, from, to);
      if (place === 'in') yield { key, size: Size };
      else onSkip?.();
      if (place === 'after' && isByDay) return;
    }
    token = page.NextContinuationToken;
  } while (token);
}

/** Whether a file may have requests of the time, by its name: `…2026-11-28-13-05-59-1A2B3C4D`. */
function compareToTime(key: string, from: Date, to: Date): 'before' | 'in' | 'after' | 'no log' {
  const [, path = '', date, hours, minutes, seconds] =
    /^(.*?)(\d{4}-\d\d-\d\d)-(\d\d)-(\d\d)-(\d\d)-[^/-]+$/s.exec(key) ?? [];
  const time = Date.parse(`${date}T${hours}:${minutes}:${seconds}Z`);
  if (Number.isNaN(time)) return 'no log';
  // In folders by the day of the requests, a name has no time of the day.
  const isWholeDay = path.endsWith(`${date?.replaceAll('-', '/')}/`) && time % day === 0;
  // Else it has the time of the delivery, and that is after all requests in it, but nobody knows how long after.
  if (!isWholeDay) return time <= Number(from) ? 'before' : 'in';
  if (time + day <= Number(from)) return 'before';
  // One day more: in folders by the day of delivery, this may be a file that was delivered right at midnight.
  return time - day >= Number(to) ? 'after' : 'in';
}

/**
 * Reads a time as it is written on a command line. Without a zone it is UTC, as in logs.
 *
 * @param text - `2026-11-28`, `2026-11-28T13:05` or `2026-11-28T13:05:59+01:00`.
 * @returns An invalid date when it is none.
 * @see https://developer.mozilla.org/docs/Web/JavaScript/Reference/Global_Objects/Date#date_time_string_format
 *
 * @example
 * console.log(parseTime('2026-11-28T13:05').toISOString());
 */
export function parseTime(text: string): Date {
  // Date takes more, but as a time of this machine's zone.
  const form = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?$/;
  return new Date(!form.test(text) ? Number.NaN : /T[\d:.]+$/.test(text) ? `${text}Z` : text);
}
