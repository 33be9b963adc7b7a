/** Reads one line of an S3 server access log: every field that AWS documents, from 2014's 18 fields to today's 27. */

/** One request to a bucket. Null is what the log has as `-`, and what older logs don't have. */
export interface LogRecord {
  /** Canonical user id of the bucket's owner. */
  bucketOwner: string | null;
  bucket: string | null;
  /** When the request came in. */
  time: Date;
  remoteIp: string | null;
  /** Canonical user id or ARN; null for a request without credentials. */
  requester: string | null;
  requestId: string | null;
  /** `REST.GET.OBJECT`, `WEBSITE.GET.OBJECT`, `BATCH.DELETE.OBJECT`, `S3.EXPIRE.OBJECT`. */
  operation: string | null;
  /** Decoded: as the object is called. */
  key: string | null;
  /** Method, path and version, as they were sent: `GET /a%20b?x-user=me HTTP/1.1`. */
  requestUri: string | null;
  status: number | null;
  errorCode: string | null;
  /** Bytes of the answer; null for 0. */
  bytesSent: number | null;
  /** Bytes of the object. */
  objectSize: number | null;
  /** Milliseconds from the request to the last byte of the answer. */
  totalTime: number | null;
  /** Milliseconds that S3 worked before the first byte of the answer. */
  turnAroundTime: number | null;
  referer: string | null;
  userAgent: string | null;
  versionId: string | null;
  hostId: string | null;
  /** `SigV4`, or null without credentials. */
  signatureVersion: string | null;
  /** Null for a request over http. */
  cipherSuite: string | null;
  /** `AuthHeader`, or `QueryString` for a presigned URL. */
  authenticationType: string | null;
  hostHeader: string | null;
  tlsVersion: string | null;
  accessPointArn: string | null;
  /** `Yes` when only an access control list let the request in. */
  aclRequired: string | null;
  /** Region that the request came from, where it is known. */
  sourceRegion: string | null;
  /** Fields that AWS has added since. */
  more: string[];
}

/** The fields up to the turn-around time. The request may have quotes in its path, but no spaces there. */
const first =
  /^(\S+) (\S+) \[(\d\d)\/(\w{3})\/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)\] (\S+) (\S+) (\S+) (\S+) (\S+) (?:"(\S+(?: \S+){0,2})"|-) (\d{3}|-) (\S+) (\d+|-) (\d+|-) (\d+|-) (\d+|-) /;
/** The fields from the version id on: that one alone, or six more at least. None of them has quotes. */
const last = /^\S+(?: \S+ (?:Sig\w+|-) \S+ (?:\w+|-) \S+ (?:TLS\S+|-)(?: .*)?)?$/;
const months = 'JanFebMarAprMayJunJulAugSepOctNovDec';

/**
 * Reads a line of a log.
 *
 * S3 writes what a client sends as referer and user agent as it comes, with quotes and spaces: so the line is read from
 * its beginning up to these two, and from its end back to them. Nothing in them can pass for another field.
 *
 * @param line - Without the line's end.
 * @returns The record; null when the line is none.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html
 *
 * @example
 * const read = (text: string) => text.split('\n').map(parseLogLine);
 * const denied = (text: string) => read(text).filter((record) => record?.status === 403);
 * console.log(denied('one line, and another').length);
 */
export function parseLogLine(line: string): LogRecord | null {
  const head = first.exec(line);
  const middle = head && findMiddle(line.slice(head[0].length));
  // The months' names are three letters each.
  const month = head ? months.indexOf(`${head[4]}`) / 3 : -1;
  if (!head || !middle || month < 0 || month % 1 !== 0) return null;
  const at = Date.UTC(Number(head[5]), month, Number(head[3]), Number(head[6]), Number(head[7]), Number(head[8]));
  // Logs are in UTC: `+0000`.
  const offset = Number(`${head[9]}1`) * (Number(head[10]) * 60 + Number(head[11]));
  const tail = middle.tail.split(' ');
  return {
    bucketOwner: text(head[1]),
    bucket: text(head[2]),
    time: new Date(at - offset * 60_000),
    remoteIp: text(head[12]),
    requester: text(head[13]),
    requestId: text(head[14]),
    operation: text(head[15]),
    key: decodeKey(text(head[16])),
    requestUri: text(head[17]),
    status: number(head[18]),
    errorCode: text(head[19]),
    bytesSent: number(head[20]),
    objectSize: number(head[21]),
    totalTime: number(head[22]),
    turnAroundTime: number(head[23]),
    referer: text(middle.referer),
    userAgent: text(middle.userAgent),
    versionId: text(tail[0]),
    hostId: text(tail[1]),
    signatureVersion: text(tail[2]),
    cipherSuite: text(tail[3]),
    authenticationType: text(tail[4]),
    hostHeader: text(tail[5]),
    tlsVersion: text(tail[6]),
    accessPointArn: text(tail[7]),
    aclRequired: text(tail[8]),
    sourceRegion: text(tail[9]),
    more: tail.slice(10),
  };
}

/** Parts referer, user agent and what comes after. The two are in quotes, or a bare `-`. */
function findMiddle(part: string): { referer: string; userAgent: string; tail: string } | null {
  // After the last quote there is nothing of the client's.
  const close = part.lastIndexOf('"');
  let [referer, userAgent, tail] = ['-', '-', part.slice(close + 2)];
  if (close < 0) tail = part.slice(4);
  else if (part.startsWith('- "')) userAgent = part.slice(3, close);
  else {
    const quoted = part.slice(1, close);
    const between = quoted.indexOf('" "');
    if (between < 0) [referer, tail] = [quoted, tail.slice(2)];
    else [referer, userAgent] = [quoted.slice(0, between), quoted.slice(between + 3)];
  }
  return last.test(tail) ? { referer, userAgent, tail } : null;
}

function text(field: string | undefined): string | null {
  return field === undefined || field === '-' ? null : field;
}

function number(field: string | undefined): number | null {
  return field === undefined || field === '-' ? null : Number(field);
}

/** S3 encodes a key twice: ` ` is `%2520`. Where it did so once, the second time finds nothing to do. */
function decodeKey(key: string | null): string | null {
  let decoded = key;
  for (let time = 0; time < 2 && decoded?.includes('%'); time++) {
    try {
      decoded = decodeURIComponent(decoded);
    } catch {
      break;
    }
  }
  return decoded;
}
