/**
 * 3.10 Make a URL that works for a while
 *
 * ## Problem
 * Somebody without an AWS account is to download one private object, or to upload one, without a password and only
 * for a while.
 *
 * ## Solution
 * Sign the request in advance with your own credentials, and put the signature into the URL: a presigned URL. Whoever
 * has it can send that one request until it ends. `--curl` prints it as a command that sends it.
 *
 * ## Discussion
 * Signing asks nobody: the URL is made for an object that isn't there and for one that you may not read, and fails only
 * when it is used. It may do what its signer may do at that moment (`s3:GetObject`, `s3:PutObject`), so take the
 * permission away, or delete the access key, and it ends early; nothing else revokes one. Until then it works for
 * anybody and any number of times. Treat it as a password: it stays in browser histories and logs.
 *
 * **How long.** One second to seven days, and never longer than the credentials that signed it. Those of a role or of
 * SSO end within hours; the end is taken into account where the SDK knows it, and the result says so. A policy may
 * refuse a URL sooner (`s3:signatureAge`). For longer, hand out a URL of your own that redirects to a fresh one.
 *
 * **Uploads.** S3 replaces an object that is there, each time the URL is used; with `--create-only` it answers 412
 * instead, or 409 to one of two uploads at the same time. A deleted object whose versions are kept is not there.
 * `--content-type` and `--content-length` are signed, so that another type or length is a 403; without them
 * anything up to 5 GB goes. For a range of lengths, and in an HTML form, use 3.23. By default the SDK would
 * sign the checksum of an empty body, which S3 compares with what is uploaded: `WHEN_REQUIRED` turns that off.
 *
 * **When it is refused.** S3's answer says why. 403 `AccessDenied`: it has ended ('Request has expired'), or the signer
 * lacks a permission; for objects encrypted with KMS that may be `kms:Decrypt` (GET) or `kms:GenerateDataKey` (PUT).
 * Without `s3:ListBucket` a missing object is denied, too. 403 `InvalidAccessKeyId`: the key is deleted. 400
 * `ExpiredToken`: temporary credentials have ended. 403 `SignatureDoesNotMatch`: something signed differs, be it the
 * method, a header or the URL; a GET URL does not answer HEAD. URLs of one region fail in another, so the bucket's
 * region is looked up. Where a key has a segment `.` or `..`, no URL works: browsers and curl take it out of the path.
 * A script in a web page (`fetch`) also needs a CORS rule of the bucket; a link or curl doesn't. 400 `InvalidRequest`:
 * the bucket locks what is written (3.20's default), and the upload lacks a `Content-MD5`.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @run npx tsx recipes/s3/10-time-limited-url.ts s3://paws-example/report.pdf --local
 * @run npx tsx recipes/s3/10-time-limited-url.ts s3://paws-example/report.pdf --method PUT --content-type application/pdf --curl --local
 * @output
 *   method    GET
 *   headers   -
 *   expires   2026-11-28 08:00:08 UTC
 *   ended by  time
 *   url       http://127.0.0.1:4566/paws-example/report.pdf?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD&X-Amz-Credential=155496462437%2F20261128%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20261128T070008Z&X-Amz-Expires=3600&X-Amz-Signature=486a3a1e729b99d8be44c06fc1c5cb76607061176469e1c39d5548a366d96ebc&X-Amz-SignedHeaders=host&x-id=GetObject
 * @permission s3:ListBucket on arn:aws:s3:::BUCKET
 * @permission s3:GetObject on arn:aws:s3:::BUCKET/*
 * @permission s3:PutObject on arn:aws:s3:::BUCKET/*
 * @cost nothing; each use of the URL is a request of yours, and what is downloaded is traffic of yours
 * @undo nothing
 * @emulator LocalStack checks neither the signature nor the end. Tested with versitygw, which does.
 * @book key.generate_url → getSignedUrl
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html
 */
import { GetObjectCommand, HeadObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { type ConnectS3, connectSigner, type EndedBy } from './10-helpers/signer.ts';

export interface TimeLimitedUrl {
  method: 'GET' | 'HEAD' | 'PUT';
  /** Headers that must be sent with it, just so. */
  headers: Record<string, string>;
  /** When it ends. */
  expires: Date;
  /** What ends it: the `time` asked for, or `credentials` that end earlier, or may do so: `unknown`. */
  endedBy: EndedBy;
  url: string;
}

const week = 7 * 24 * 3600;
/** The most that one PutObject takes, in bytes. */
const largest = 5 * 1024 ** 3;

/**
 * Makes a URL with which anybody can send one request for one object, for a while.
 *
 * @param connect - Makes a client. It is called again if the bucket is in another region than the first is for.
 * @param options.bucket - Name of the bucket.
 * @param options.key - Key of the object, which need not be there.
 * @param options.method - What the URL is for. `GET` by default.
 * @param options.expiresIn - For how many seconds, 1 to 604,800, which are seven days. 3,600 by default.
 * @param options.downloadName - GET: browsers save the object under this name instead of showing it.
 * @param options.contentType - PUT: the only type that can be uploaded. Any by default.
 * @param options.contentLength - PUT: the only length in bytes that can be uploaded. Any up to 5 GiB by default.
 * @param options.createOnly - PUT: fails where there is an object already. False by default: it is replaced.
 * @throws RangeError when an option is out of its range or belongs to another method.
 * @throws NotFound when there is no such bucket; Error when the credentials end this second.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html
 *
 * @example
 * const connect = (settings: object) => new S3Client(settings);
 * const { url, expires } = await timeLimitedUrl(connect, { bucket: 'my-company-reports', key: '2026/may.pdf' });
 * console.log(`${url} works until ${expires.toISOString()}`);
 */
export async function timeLimitedUrl(
  connect: ConnectS3,
  options: {
    bucket: string;
    key: string;
    method?: 'GET' | 'HEAD' | 'PUT';
    expiresIn?: number;
    downloadName?: string;
    contentType?: string;
    contentLength?: number;
    createOnly?: boolean;
  },
): Promise<TimeLimitedUrl> {
  checkOptions(options);
  const { bucket, key, method = 'GET', expiresIn = 3600, downloadName, contentType, contentLength } = options;

  // Of the bucket's region, adding no checksums, and no longer than the credentials that sign.
  const { s3, seconds, endedBy } = await connectSigner(connect, { bucket, expiresIn });

  const object = { Bucket: bucket, Key: key };
  const headers: Record<string, string> = {};
  if (contentType !== undefined) headers['content-type'] = contentType;
  if (contentLength !== undefined) headers['content-length'] = `${contentLength}`;
  if (options.createOnly) headers['if-none-match'] = '*';
  const command = {
    GET: () =>
      new GetObjectCommand({ ...object, ResponseContentDisposition: downloadName && attachment(downloadName) }),
    HEAD: () => new HeadObjectCommand(object),
    PUT: () =>
      new PutObjectCommand({
        ...object,
        ContentType: contentType,
        ContentLength: contentLength,
        IfNoneMatch: headers['if-none-match'],
      }),
  }[method]();
  // The time in a URL is in whole seconds.
  const signingDate = new Date(Math.floor(Date.now() / 1000) * 1000);
  const url = await getSignedUrl(s3, command, {
    expiresIn: seconds,
    signingDate,
    // The type is left out of the signature unless it is named here.
    signableHeaders: new Set(['host', ...Object.keys(headers)]),
  });
  return { method, headers, expires: new Date(signingDate.getTime() + seconds * 1000), endedBy, url };
}

/**
 * Writes a time-limited URL as a curl command for a POSIX shell. It saves to, or uploads from, a file in the current
 * folder that is named as the last part of the key. A file that is there is kept: curl writes `name.1` instead.
 * When a download is refused, `--fail` hides S3's answer: leave it out, and the answer is in the file.
 *
 * @param signed - What `timeLimitedUrl` returned.
 * @see https://curl.se/docs/manpage.html
 *
 * @example
 * const connect = (settings: object) => new S3Client(settings);
 * const signed = await timeLimitedUrl(connect, { bucket: 'my-company-reports', key: 'in.txt', method: 'PUT' });
 * console.log(curlCommand(signed));
 */
export function curlCommand({ url, method, headers }: Omit<TimeLimitedUrl, 'expires' | 'endedBy'>): string {
  const quote = (word: string) => (/^[\w./:=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
  const name = decodeURIComponent(new URL(url).pathname.split('/').at(-1) || 'file').replace(/[\p{Cc}/]/gu, '_');
  // curl reads the length off the file by itself.
  const sent = Object.entries(headers).filter(([header]) => header !== 'content-length');
  const doing = {
    GET: ['--fail', '--no-clobber', '--output', quote(`./${name}`)],
    HEAD: ['--fail', '--head'],
    // Without --globoff, a name with brackets or braces would stand for several files.
    PUT: ['--fail-with-body', '--globoff', '--upload-file', quote(`./${name}`)],
  }[method];
  const lines = sent.flatMap(([header, value]) => ['--header', quote(`${header}: ${value}`)]);
  return ['curl', ...doing, ...lines, quote(url)].join(' ');
}

/** The header that makes a browser save a file under a name: one for old programs, one with all characters. */
function attachment(name: string): string {
  const simple = name.replace(/[^ -~]/g, '_').replace(/["\\]/g, '\\$&');
  const whole = encodeURIComponent(name).replace(
    /['()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `attachment; filename="${simple}"; filename*=UTF-8''${whole}`;
}

/** Refuses what S3 would refuse, or worse, only when the URL is used. */
function checkOptions(options: Parameters<typeof timeLimitedUrl>[1]): void {
  const { key, method = 'GET', expiresIn = 3600, downloadName, contentType, contentLength, createOnly } = options;
  const size = new TextEncoder().encode(key).length;
  if (size < 1 || size > 1024) throw new RangeError(`a key has 1 to 1,024 bytes, not ${size}`);
  if (key.split('/').some((segment) => segment === '.' || segment === '..'))
    throw new RangeError(`no URL works for "${key}": browsers and curl take . and .. out of the path`);
  if (!(Number.isInteger(expiresIn) && expiresIn >= 1 && expiresIn <= week))
    throw new RangeError(`expiresIn must be 1 to ${week} whole seconds, not ${expiresIn}`);
  if (method !== 'GET' && downloadName !== undefined) throw new RangeError('downloadName is for GET only');
  if (downloadName !== undefined && !/^[^\p{Cc}/\\]+$/u.test(downloadName))
    throw new RangeError('downloadName must be a name without slashes and control characters');
  if (method !== 'PUT' && (contentType !== undefined || contentLength !== undefined || createOnly))
    throw new RangeError('contentType, contentLength and createOnly are for PUT only');
  if (contentType !== undefined && !/^[!-~][ -~]*$/.test(contentType))
    throw new RangeError(`contentType must be a type such as image/png, not "${contentType}"`);
  if (
    contentLength !== undefined &&
    !(Number.isInteger(contentLength) && contentLength >= 0 && contentLength <= largest)
  )
    throw new RangeError(`contentLength must be 0 to ${largest} bytes, not ${contentLength}`);
}

// ---- command line: leave out when copying ----
import { S3Client } from '@aws-sdk/client-s3';
import { connect, json, print, recipe, s3Object, warn } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('<object>', 's3://BUCKET/KEY', s3Object)
    .option('--method <name>', 'GET, PUT or HEAD', 'GET')
    .option('--expires-in <seconds>', '1 to 604800', Number, 3600)
    .option('--download-name <name>', 'GET: the file name that browsers save it under')
    .option('--content-type <type>', 'PUT: the only type that can be uploaded')
    .option('--content-length <bytes>', 'PUT: the only length that can be uploaded', Number)
    .option('--create-only', 'PUT: fail where there is an object already')
    .option('--curl', 'print a curl command (curl 7.83 or later)')
    .action(async (object, { curl, method, ...options }) => {
      if (method !== 'GET' && method !== 'PUT' && method !== 'HEAD')
        throw new RangeError(`--method takes GET, PUT or HEAD, not ${method}`);
      const signed = await timeLimitedUrl((settings) => connect(S3Client, settings), { ...object, method, ...options });
      if (signed.endedBy === 'credentials') warn('Your credentials end before the time that you asked for.');
      if (signed.endedBy === 'unknown') warn('Your credentials are temporary: when they end, it ends too.');
      const list = (headers: object) =>
        Object.entries(headers)
          .map((pair) => pair.join(': '))
          .join(', ') || '-';
      if (curl && !json())
        console.log(`${curlCommand(signed)}\n# until ${signed.expires.toISOString()}, curl 7.83 or later`);
      else print(signed, { headers: list });
    }),
);
