/**
 * Stands in for Google Cloud Storage's XML API in tests: it takes what the API takes, and refuses what it refuses, as
 * far as the SDK's requests can tell the difference. What it rests on, page by page of
 * https://cloud.google.com/storage/docs:
 *
 * - aws-simple-migration: requests are signed as for S3, with an HMAC key; of the `x-amz-…` headers those are
 *   processed that have an equal among `x-goog-…`, and `x-amz-decoded-content-length`; `x-amz-project-id` names the
 *   project of a new bucket, where no default project is set.
 * - xml-api/reference-headers: which `x-goog-…` headers there are (none for checksums of AWS's kinds).
 * - xml-api/reference-status: the shape of errors.
 * - xml-api/put-bucket-create: the location is in the body; a name in use is 409.
 * - locations: what a location is called. `auto` is none, nor are AWS's names.
 * - xml-api/get-bucket-list: `list-type=2`, `max-keys`, `prefix`.
 * - xml-api/delete-object: deleting what isn't there is 404, NoSuchKey.
 * - xml-api/post-bucket: `?delete` for up to 1,000 objects.
 *
 * The other codes and their statuses are from an older copy of Google's list: BucketNameUnavailable and
 * BucketNotEmpty (409), ExcessHeaderValues, MissingSecurityHeader and BadDigest (400), NoSuchBucket (404),
 * SignatureDoesNotMatch (403).
 *
 * The documentation doesn't say what becomes of a checksum header of AWS's. That Google answers ExcessHeaderValues,
 * and for `?delete` wants Content-MD5 or x-amz-checksum-crc32, is told by
 * https://github.com/milvus-io/milvus-storage/pull/480; that it answers so to x-amz- beside x-goog- headers, by many.
 * This file's own guesses are: the code InvalidLocationConstraint, `US` where a request has no location, 200 and 204
 * for what succeeds, the elements of the lists, what is said to a request without or with an unknown key, and that
 * `x-amz-checksum-mode` of a GET is refused, too.
 */
import { createHash, createHmac } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { SignatureV4 } from '@smithy/signature-v4';
import { serve } from './serve.ts';

export interface Request {
  method: string;
  /** Path and query. */
  url: string;
  headers: Record<string, string>;
  body: string;
}

export interface StoredBucket {
  location: string;
  project: string;
  objects: Map<string, { body: Buffer; type: string }>;
}

/** The key that it takes. */
export const hmacKey = { accessKeyId: 'GOOG1EXAMPLE', secretAccessKey: 'example-secret-of-google' };

const locations =
  /^(US|EU|ASIA|(AFRICA|ASIA|AUSTRALIA|EUROPE|ME|NORTHAMERICA|SOUTHAMERICA|US)-(NORTH|SOUTH|EAST|WEST|CENTRAL)+\d+)$/i;

class Refusal extends Error {
  readonly status: number;
  constructor(status: number, code: string) {
    super(code);
    this.status = status;
  }
}

/** Starts it, for one test. */
export async function serveGoogleXmlApi() {
  const requests: Request[] = [];
  const buckets = new Map<string, StoredBucket>();
  /** Makes a request fail with the status and code that it returns. */
  const refusing: { when?: (request: Request) => [number, string] | undefined } = {};
  const { url } = await serve(async (incoming, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    const headers = incoming.headers as Record<string, string>;
    const request = { method: incoming.method ?? '', url: incoming.url ?? '', headers, body: body.toString() };
    requests.push(request);
    try {
      await checkSignature(incoming, body);
      checkHeaders(request);
      const [status, code] = refusing.when?.(request) ?? [];
      if (status && code) throw new Refusal(status, code);
      const answer = act(request, body, buckets);
      response.writeHead(answer.status ?? 200, { 'content-type': answer.type ?? 'application/xml' }).end(answer.body);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      const text = `<?xml version='1.0' encoding='UTF-8'?><Error><Code>${error.message}</Code><Message>refused</Message></Error>`;
      response.writeHead(error.status, { 'content-type': 'application/xml' }).end(text);
    }
  });
  return { url, requests, buckets, refusing };
}

/** Signs what was signed once more, with the key that is known here. */
async function checkSignature({ method = '', url = '', headers }: IncomingMessage, body: Buffer): Promise<void> {
  const [, keyId, date, region = '', signed] =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d+)\/([^/]*)\/s3\/aws4_request, SignedHeaders=([^,]+), Signature=\w+$/.exec(
      headers.authorization ?? '',
    ) ?? [];
  if (!signed) throw new Refusal(400, 'MissingSecurityHeader');
  if (keyId !== hmacKey.accessKeyId) throw new Refusal(403, 'SignatureDoesNotMatch');
  const { pathname, searchParams } = new URL(url, 'http://server');
  const hash = createHash('sha256').update(body).digest('hex');
  const promised = headers['x-amz-content-sha256'] as string;
  if (/^[0-9a-f]{64}$/.test(promised) && promised !== hash) throw new Refusal(400, 'BadDigest');
  const [, y, mo, d, h, mi, s] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(`${headers['x-amz-date']}`) ?? [];
  const signer = new SignatureV4({
    ...{ service: 's3', region, credentials: hmacKey, uriEscapePath: false, applyChecksum: false },
    sha256: Sha256,
  });
  const again = await signer.sign(
    {
      ...{ method, protocol: 'http:', hostname: 'server', path: pathname, query: Object.fromEntries(searchParams) },
      headers: Object.fromEntries(signed.split(';').map((name) => [name, `${headers[name]}`])),
    },
    {
      signingDate: new Date(`${y}-${mo}-${d}T${h}:${mi}:${s}Z`),
      // The signer leaves some out by itself.
      signableHeaders: new Set(signed.split(';')),
    },
  );
  if (again.headers.authorization !== headers.authorization || !`${headers['x-amz-date']}`.startsWith(`${date}`)) {
    throw new Refusal(403, 'SignatureDoesNotMatch');
  }
}

class Sha256 {
  private readonly parts: Uint8Array[] = [];
  private readonly secret: Uint8Array | string | undefined;
  constructor(secret?: unknown) {
    this.secret = secret as Uint8Array | string | undefined;
  }
  update(part: Uint8Array | string): void {
    this.parts.push(Buffer.from(part as string));
  }
  async digest(): Promise<Uint8Array> {
    const hash = this.secret === undefined ? createHash('sha256') : createHmac('sha256', this.secret);
    for (const part of this.parts) hash.update(part);
    return hash.digest();
  }
  reset(): void {
    this.parts.length = 0;
  }
}

function checkHeaders({ method, url, headers }: Request): void {
  const names = Object.keys(headers);
  const amz = names.filter((name) => name.startsWith('x-amz-'));
  if (amz.length > 0 && names.some((name) => name.startsWith('x-goog-'))) throw new Refusal(400, 'ExcessHeaderValues');
  const checksums = amz.filter((name) => /checksum|trailer/.test(name));
  if (method === 'POST' && /\?delete\b/.test(url)) {
    if (!headers['content-md5'] && !headers['x-amz-checksum-crc32']) throw new Refusal(400, 'MissingSecurityHeader');
  } else if (checksums.length > 0) {
    throw new Refusal(400, 'ExcessHeaderValues');
  }
}

function act({ method, url, headers, body: text }: Request, body: Buffer, buckets: Map<string, StoredBucket>) {
  const { pathname, searchParams } = new URL(url, 'http://server');
  const [, name = '', ...rest] = decodeURIComponent(pathname).split('/');
  const key = rest.join('/');
  const ok = (status: number, body?: string | Buffer, type?: string) => ({ status, body, type });

  if (method === 'PUT' && !key) {
    if (buckets.has(name)) throw new Refusal(409, 'BucketNameUnavailable');
    const location = /<LocationConstraint>([^<]*)</.exec(text)?.[1] ?? 'US';
    if (!locations.test(location)) throw new Refusal(400, 'InvalidLocationConstraint');
    const project = headers['x-amz-project-id'] ?? 'the-default-project';
    buckets.set(name, { location: location.toUpperCase(), project, objects: new Map() });
    return ok(200);
  }
  const bucket = buckets.get(name);
  if (!bucket) throw new Refusal(404, 'NoSuchBucket');
  const { objects } = bucket;
  if (method === 'DELETE' && !key) {
    if (objects.size > 0) throw new Refusal(409, 'BucketNotEmpty');
    buckets.delete(name);
    return ok(204);
  }
  if (method === 'GET' && !key) {
    const keys = [...objects.keys()].filter((one) => one.startsWith(searchParams.get('prefix') ?? '')).sort();
    const shown = keys.slice(0, Number(searchParams.get('max-keys') ?? 1000));
    const contents = shown.map(
      (one) => `<Contents><Key>${one}</Key><Size>${objects.get(one)?.body.length}</Size></Contents>`,
    );
    const counts = `<KeyCount>${shown.length}</KeyCount><IsTruncated>${shown.length < keys.length}</IsTruncated>`;
    return ok(200, `<ListBucketResult><Name>${name}</Name>${counts}${contents.join('')}</ListBucketResult>`);
  }
  if (method === 'POST' && searchParams.has('delete')) {
    const keys = [...text.matchAll(/<Key>([^<]*)</g)].map(([, one = '']) => one);
    for (const one of keys) objects.delete(one);
    const deleted = keys.map((one) => `<Deleted><Key>${one}</Key></Deleted>`);
    return ok(200, `<DeleteResult>${deleted.join('')}</DeleteResult>`);
  }
  if (method === 'PUT') {
    objects.set(key, { body, type: headers['content-type'] ?? 'application/octet-stream' });
    return ok(200);
  }
  const object = objects.get(key);
  if (!object) throw new Refusal(404, 'NoSuchKey');
  if (method === 'GET') return ok(200, object.body, object.type);
  if (method === 'DELETE') {
    objects.delete(key);
    return ok(204);
  }
  throw new Refusal(501, 'NotImplemented');
}
