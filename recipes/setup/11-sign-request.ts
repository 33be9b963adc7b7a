/**
 * 1.11 Sign a request
 *
 * ## Problem
 * You want to see what is done with your secret key, or to call AWS from a program that has no SDK.
 *
 * ## Solution
 * Sign with Signature Version 4: write the request in one fixed form, sum it up in a string, make a key for the day,
 * and sign the string with it. The command prints the steps; with `--json` the headers to send, too, with which anybody
 * can send the request. `--send` sends it without asking, whatever it changes, and needs the permission for it. The
 * example is AWS's, with LocalStack's keys.
 *
 * ## Discussion
 * AWS signs what it receives in the same way, and compares. A difference is `SignatureDoesNotMatch`, and S3 shows
 * the canonical request as it saw it. Mostly a path or query was sent otherwise than signed (so send to the returned
 * `url`), a signed header changed on the way, or the service or secret key is another. To a wrong region S3 says
 * `AuthorizationHeaderMalformed`, and which one it expects.
 *
 * A signature is for one request: method, host, path, query, signed headers and, by its hash, the body. Who catches it
 * can repeat that for some minutes: AWS documents five in most cases, 15 for S3 (`RequestTimeTooSkewed`). The SDK
 * corrects for a wrong clock, this doesn't. A stream, which can't be read twice, goes to S3 as `UNSIGNED-PAYLOAD`,
 * over HTTPS. A presigned URL (3.10) has the signature in its query. The book's Signature Version 2 is refused by
 * regions since 2014, and by buckets since 24 June 2020.
 *
 * @run npx tsx recipes/setup/11-sign-request.ts GET https://examplebucket.s3.amazonaws.com/test.txt --header 'Range: bytes=0-9' --date 2013-05-24T00:00:00Z --local
 * @output
 *   canonicalRequest
 *   GET
 *   /test.txt
 *
 *   host:examplebucket.s3.amazonaws.com
 *   range:bytes=0-9
 *   x-amz-content-sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
 *   x-amz-date:20130524T000000Z
 *
 *   host;range;x-amz-content-sha256;x-amz-date
 *   e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
 *
 *   stringToSign
 *   AWS4-HMAC-SHA256
 *   20130524T000000Z
 *   20130524/us-east-1/s3/aws4_request
 *   7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972
 *
 *   signature
 *   92ed4eb3380a999465c73914de9a57436f1842008c05b6fe487200c794cb80fc
 * @aws npx tsx recipes/setup/11-sign-request.ts GET 'https://sts.us-east-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15' --service sts --region us-east-1 --send
 * @permission nothing
 * @cost nothing; with --send, what the request costs
 * @undo nothing
 * @emulator LocalStack checks no signatures: versitygw, moto server, AWS's examples and the SDK's own signer do.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
 * @see https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
 */
import { createHash, createHmac } from 'node:crypto';

export interface RequestToSign {
  /** `GET`, in capitals. */
  method: string;
  /** Whole and percent-encoded: a `#` or `?` in an object's key is `%23` or `%3F`. In the query, `+` is a space. */
  url: string;
  /** To sign and send beside those made here; none that proxies change, such as User-Agent. None by default. */
  headers?: Record<string, string>;
  /** Empty by default. To a string `fetch` adds a Content-Type, which S3 wants signed: give one, or send bytes. */
  body?: string | Uint8Array;
  /** In place of `body`: its SHA-256 in hexadecimal, or `UNSIGNED-PAYLOAD`. */
  payloadHash?: string;
  /** Of the endpoint; `us-east-1` for global ones such as IAM's. */
  region: string;
  /** As signatures call it: `s3`, `ec2`, `sts`, `execute-api`. */
  service: string;
  credentials: { accessKeyId: string; secretAccessKey: string; sessionToken?: string };
  /** Now by default. */
  date?: Date;
}

export interface SignedRequest {
  canonicalRequest: string;
  stringToSign: string;
  signature: string;
  /** Where to send it: the given URL, encoded as it was signed. */
  url: string;
  /** All headers to send but `host`, which every HTTP client adds. */
  headers: Record<string, string>;
}

/** These encode a path once, all others twice. A session of s3express has its token elsewhere: not done here. */
const encodedOnce = ['s3', 's3express', 's3-object-lambda', 's3-outposts'];

/**
 * Signs a request to AWS with Signature Version 4. Sends nothing.
 *
 * @param request - What to sign, for which service and region, and with whose credentials.
 * @returns The steps, and what to send. Neither the secret key nor the signing key is in it.
 * @throws TypeError or RangeError when something can't be signed, or can't be sent as it is signed.
 * @see https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
 *
 * @example
 * const { AWS_ACCESS_KEY_ID: accessKeyId = '', AWS_SECRET_ACCESS_KEY: secretAccessKey = '' } = process.env;
 * const credentials = { accessKeyId, secretAccessKey, sessionToken: process.env.AWS_SESSION_TOKEN };
 * const where = { url: 'https://s3.us-east-1.amazonaws.com/', service: 's3', region: 'us-east-1' };
 * const { url, headers } = signRequest({ method: 'GET', ...where, credentials });
 * console.log(await (await fetch(url, { headers })).text());
 */
export function signRequest(request: RequestToSign): SignedRequest {
  checkRequest(request);
  const { method, body = '', payloadHash = sha256(body), region, service, credentials, date = new Date() } = request;
  const { origin, host, pathname, searchParams } = new URL(request.url);
  const time = date.toISOString().replace(/[-:]|\.\d+/g, ''); // 20130524T000000Z

  // Step 1: the canonical request. The path is decoded and encoded anew, so that one way of writing it remains. To S3
  // %2F is a slash like another; elsewhere it stays in its segment.
  const isS3 = encodedOnce.includes(service);
  const segments = isS3 ? decodeURIComponent(pathname).split('/') : pathname.split('/').map(decodeURIComponent);
  const path = segments.map(encode).join('/');
  // This path is sent. S3 signs it as it is, other services without empty segments and encoded a second time.
  const canonicalPath = isS3 ? path : path.replace(/\/+/g, '/').split('/').map(encode).join('/');
  // Sorted by name, then by value. As "=" would sort after some characters of names, a line feed stands for it.
  const parameters = [...searchParams].map((pair) => pair.map(encode).join('\n')).sort();
  const query = parameters.map((pair) => pair.replace('\n', '=')).join('&');
  // `Headers` makes names lower-case, trims values and sorts by name.
  const headers = new Headers({ ...request.headers, host, 'x-amz-content-sha256': payloadHash, 'x-amz-date': time });
  if (credentials.sessionToken) headers.set('x-amz-security-token', credentials.sessionToken);
  // Values are sent as they are, and signed with single spaces.
  const headerLines = [...headers].map(([name, value]) => `${name}:${value.replace(/[ \t]+/g, ' ')}\n`).join('');
  const signedHeaders = [...headers.keys()].join(';');
  const canonicalRequest = [method, canonicalPath, query, headerLines, signedHeaders, payloadHash].join('\n');

  // Step 2: the string to sign. The scope says what the key of step 3 is good for.
  const day = time.slice(0, 8);
  const scope = `${day}/${region}/${service}/aws4_request`;
  const stringToSign = ['AWS4-HMAC-SHA256', time, scope, sha256(canonicalRequest)].join('\n');

  // Step 3: the signing key. Each HMAC narrows the key down to one more part of the scope, and has no way back.
  const dayKey = hmac(`AWS4${credentials.secretAccessKey}`, day);
  const regionKey = hmac(dayKey, region);
  const serviceKey = hmac(regionKey, service);
  const signingKey = hmac(serviceKey, 'aws4_request');

  // Step 4: the signature, and the header that carries it. The HTTP client sends `host` by itself.
  const signature = hmac(signingKey, stringToSign).toString('hex');
  const credential = `Credential=${credentials.accessKeyId}/${scope}`;
  const authorization = `AWS4-HMAC-SHA256 ${credential}, SignedHeaders=${signedHeaders}, Signature=${signature}`;
  headers.delete('host');
  const url = `${origin}${path}${query && '?'}${query}`;
  return { canonicalRequest, stringToSign, signature, url, headers: { ...Object.fromEntries(headers), authorization } };
}

const sha256 = (data: string | Uint8Array) => createHash('sha256').update(data).digest('hex');
const hmac = (key: string | Buffer, text: string) => createHmac('sha256', key).update(text).digest();
/** Percent-encodes all but letters, digits and `-._~`; JavaScript's own function spares five more. */
const encode = (text: string) =>
  encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);

/** Refuses what can't be signed, or would be sent otherwise than signed. Its errors name no secret. */
function checkRequest({ headers, credentials, payloadHash = '0'.repeat(64), date, ...request }: RequestToSign): void {
  const check = (name: string, value: string, rule: RegExp, words: string) => {
    if (typeof value !== 'string') throw new TypeError(`${name} must be a string, not ${typeof value}`);
    if (!rule.test(value)) throw new RangeError(`${name} must ${words}`);
  };
  check('method', request.method, /^[A-Z]+$/, `be in capitals, such as GET, not "${request.method}"`);
  const address = /^https?:\/\/[^/?@\s\\#%]+([/?]([^\s\\#%]|%[0-9a-f]{2})*)?$/i;
  check('url', request.url, address, 'be http(s)://host/path, with white space, #, \\ and % encoded');
  check('url', request.url, /^(?![^?]*(\/|%2f)(\.|%2e){1,2}(\/|%2f|\?|$))/i, 'have no segment . or ..: none is sent');
  try {
    decodeURIComponent(request.url);
  } catch {
    throw new RangeError('url must be encoded from UTF-8, as by encodeURIComponent');
  }
  check('region', request.region, /^[\w-]+$/, `be a name such as eu-west-1, not "${request.region}"`);
  check('service', request.service, /^[\w-]+$/, `be a name such as s3, not "${request.service}"`);
  check('payloadHash', payloadHash, /^([0-9a-f]{64}|UNSIGNED-PAYLOAD)$/, 'be a SHA-256 in lower-case hexadecimal');
  check('accessKeyId', credentials.accessKeyId, /^[!-.0-~]+$/, 'be given, in ASCII without white space and /');
  check('secretAccessKey', credentials.secretAccessKey, /^[!-~]+$/, 'be given, in ASCII without white space');
  check('sessionToken', credentials.sessionToken ?? '', /^[!-~]*$/, 'be ASCII without white space');
  for (const [name, value] of new Headers(headers)) {
    if (/^(authorization|host|x-amz-(date|content-sha256|security-token))$/.test(name))
      throw new RangeError(`header ${name} is made here: leave it out`);
    check(`header ${name}`, value, /^[ -~\t]*$/, 'be ASCII');
  }
  if (Number.isNaN(date?.getTime())) throw new RangeError('date must be a time such as 2013-05-24T00:00:00Z');
}

// ---- command line: leave out when copying ----
import { S3Client } from '@aws-sdk/client-s3';
import { connect, json, local, print, recipe } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('<method>', 'GET, PUT, POST, …')
    .argument('<url>', 'the whole URL, percent-encoded')
    .option('--service <name>', 'what signatures call the service', 's3')
    .option('--header <name:value>', 'header to send; repeatable', (line, all: string[] = []) => all.concat(line))
    .option('--body <text>', 'the body (default: empty)', (text) => Buffer.from(text))
    .option('--date <time>', 'sign for this time (default: now)', (text) => new Date(text))
    .option('--send', 'send the request, whatever it does, and print the start of the answer')
    .action(async (method, url, { header = [], send, ...rest }) => {
      if (header.some((line) => !/^.+:/.test(line))) throw new RangeError("--header takes 'name: value', with a colon");
      const { credentials, region } = connect(S3Client).config;
      const headers = Object.fromEntries(new Headers(header.map((line) => line.split(/:(.*)/, 2) as [string, string])));
      const who = { credentials: await credentials(), region: await region() };
      const { url: to, headers: sent, ...steps } = signRequest({ ...rest, ...who, method, url, headers });
      const hide = (text: string) => text.replace(/((-token|r-key):|<(Token-\d|\w+ded|\w+stBytes)>)[^<"\n]+/g, '$1***');
      if (send) {
        if ((local() || to.startsWith('http:')) && !/^https?:\/\/(localhost|127(\.\d+){3}|\[::1\])[:/]/.test(to))
          throw new RangeError(`--send with --local, or by http, sends to this machine only, not to ${url}`);
        const answer = await fetch(to, { method, headers: sent, body: rest.body, redirect: 'manual' });
        const body = hide(await answer.text()).slice(0, 2000);
        print({ status: answer.status, body }, { body: (text: string) => text.replace(/\s+/g, ' ') });
        process.exitCode = answer.ok ? 0 : 1;
      } else if (json()) print({ ...steps, url: to, headers: sent });
      else for (const [step, text] of Object.entries(steps)) console.log(`${step}\n${hide(text)}\n`);
    }),
);
