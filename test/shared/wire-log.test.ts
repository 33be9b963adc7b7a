/** The wire log: it shows what goes over the wire, changes nothing of it, and gives no secret away. */
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { GetObjectCommand, ListBucketsCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { HttpResponse } from '@smithy/core/transport';
import type { HttpRequest } from '@smithy/types';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { logRequests, operationName, strike } from '../../shared/wire-log.ts';

type Answer = { statusCode?: number; headers?: Record<string, string>; body?: Readable } | Error;

/** An S3 client that is answered by the test, what it sent, and what was logged. */
function client(answer: (request: HttpRequest, attempt: number) => Answer | Promise<Answer>, whole = true) {
  const sent: HttpRequest[] = [];
  const s3 = new S3Client({
    region: 'eu-west-1',
    endpoint: 'http://127.0.0.1:1234',
    forcePathStyle: true,
    credentials: { accessKeyId: 'AKIA', secretAccessKey: 'secret', sessionToken: 'IQoJb3JpZ2luX2VjE' },
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: {
      async handle(request: HttpRequest) {
        sent.push(request);
        const given = await answer(request, sent.length);
        if (given instanceof Error) throw given;
        return { response: new HttpResponse({ statusCode: 200, headers: {}, body: Readable.from([]), ...given }) };
      },
    },
  });
  const log: string[] = [];
  logRequests(s3, (line) => log.push(line), { whole });
  return { s3, sent, log, shown: () => log.join('\n') };
}

const get = new GetObjectCommand({ Bucket: 'b', Key: 'k' });

/** What is shown of a body that S3 answers with, in chunks of any size. */
async function shownBody(body: Buffer, chunk = 1000): Promise<string> {
  const chunks = Array.from({ length: Math.ceil(body.length / chunk) }, (_, at) =>
    body.subarray(at * chunk, (at + 1) * chunk),
  );
  const { s3, log } = client(() => ({ body: Readable.from(chunks, { objectMode: false }) }));
  const { Body } = await s3.send(get);
  expect(Buffer.from((await Body?.transformToByteArray()) ?? [])).toEqual(body);
  return log.at(-1) as string;
}

test('an operation is named as in IAM', () => {
  expect(operationName({ clientName: 'EC2Client', commandName: 'RunInstancesCommand' })).toBe('ec2:RunInstances');
  expect(operationName({})).toBe(':');
});

test('a line a request has the operation, the status and the time', async () => {
  const { s3, log } = client(() => ({}), false);
  await s3.send(get);
  await s3.send(new ListBucketsCommand({}));
  expect(log).toEqual([
    expect.stringMatching(/^s3:GetObject 200 \d+ ms$/),
    expect.stringMatching(/^s3:ListBuckets 200 \d+ ms$/),
  ]);
});

test('each attempt has a line, and so has one that got no answer', async () => {
  const answers: Answer[] = [
    { statusCode: 503 },
    Object.assign(new Error('reset'), { name: 'TimeoutError', code: 'ECONNRESET' }),
    { statusCode: 200 },
  ];
  const { s3, log } = client((_request, attempt) => answers[attempt - 1] as Answer, false);
  await s3.send(get);
  expect(log.map((line) => line.replace(/\d+ ms/, 'N ms'))).toEqual([
    's3:GetObject 503 N ms',
    's3:GetObject TimeoutError N ms',
    's3:GetObject 200 N ms',
  ]);
});

test('logging a client twice gives each line once', async () => {
  const { s3, log } = client(() => ({}), false);
  logRequests(s3, (line) => log.push(line));
  await s3.send(get);
  expect(log).toHaveLength(1);
});

test('whole requests and responses are shown', async () => {
  const { s3, shown } = client(() => ({ headers: { etag: '"1"' } }));
  await s3.send(new PutObjectCommand({ Bucket: 'b', Key: 'a b', Body: 'hello', Metadata: { a: 'b' } }));
  expect(shown()).toContain('> s3:PutObject\n> PUT http://127.0.0.1:1234/b/a%20b?x-id=PutObject\n> ');
  expect(shown()).toContain('\n> x-amz-meta-a: b\n');
  expect(shown()).toContain('\n> hello\ns3:PutObject 200 ');
  expect(shown()).toContain('\n< etag: "1"');
});

test('a URL without port and query is shown as it is, and a body that is no text or stream is passed on', async () => {
  const log: string[] = [];
  const body = new Blob(['x']);
  const s3 = new S3Client({
    ...{ region: 'eu-west-1', credentials: { accessKeyId: 'AKIA', secretAccessKey: 'secret' } },
    requestHandler: {
      async handle(request: HttpRequest) {
        expect(request.body).toBe(body);
        return { response: new HttpResponse({ statusCode: 200, headers: {}, body: Readable.from([]) }) };
      },
    },
  });
  s3.middlewareStack.add(
    (next) => async (args) => {
      Object.assign(args.request as HttpRequest, { body, query: {} });
      return next(args);
    },
    { step: 'finalizeRequest', priority: 'low' },
  );
  logRequests(s3, (text) => log.push(text), { whole: true });
  await s3.send(get);
  expect(log[0]).toContain('> GET https://s3.eu-west-1.amazonaws.com/b/k\n');
  expect(log).toHaveLength(3);
});

test('signature, session token, customer keys and cookies are struck out of headers', async () => {
  const { s3, shown } = client(() => ({
    headers: { 'set-cookie': 'tasty', 'x-amz-s3session-token': 'fresh', 'x-amz-mfa': 'device 654321' },
  }));
  const key = { SSECustomerAlgorithm: 'AES256', SSECustomerKey: 'K'.repeat(32) };
  await s3.send(new PutObjectCommand({ Bucket: 'b', Key: 'k', Body: 'x', ...key }));
  expect(shown()).toMatch(/> authorization: AWS4-HMAC-SHA256 Credential=AKIA\/.*, Signature=\*\*\*\n/);
  expect(shown()).toContain('> x-amz-security-token: ***');
  expect(shown()).toContain('> x-amz-server-side-encryption-customer-key: ***');
  expect(shown()).toContain('< set-cookie: ***\n< x-amz-s3session-token: ***\n< x-amz-mfa: ***');
  for (const secret of ['IQoJb3', Buffer.from('K'.repeat(32)).toString('base64'), 'tasty', 'fresh', '654321']) {
    expect(shown()).not.toContain(secret);
  }
});

test('the log changes nothing of what is sent and received', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ minLength: 1, maxLength: 3000 }), { maxLength: 5 }), async (chunks) => {
      const whole = Buffer.concat(chunks);
      let received = Buffer.alloc(0);
      const { s3 } = client(async ({ body }) => {
        if (body) received = Buffer.concat(await (body as Readable).toArray());
        return { body: Readable.from(chunks, { objectMode: false }) };
      });
      const Body = Readable.from(chunks, { objectMode: false });
      await s3.send(new PutObjectCommand({ Bucket: 'b', Key: 'k', Body, ContentLength: whole.length }));
      expect(received).toEqual(whole);
      const { Body: got } = await s3.send(get);
      expect(Buffer.from((await got?.transformToByteArray()) ?? [])).toEqual(whole);
    }),
    { numRuns: 30 },
  );
});

test('a download is read only as fast as its reader reads', async () => {
  let made = 0;
  const endless = new Readable({
    read() {
      made += 16_384;
      this.push(Buffer.alloc(16_384, 'a'));
    },
  });
  const { s3 } = client(() => ({ body: endless }));
  const { Body } = await s3.send(get);
  const reader = (Body as Readable)[Symbol.asyncIterator]();
  await reader.next();
  await new Promise((done) => setTimeout(done, 50));
  // What fits into the buffers of a few streams.
  expect(made).toBeLessThan(1_000_000);
  const before = made;
  for (let chunk = 0; chunk < 100; chunk++) await reader.next();
  expect(made).toBeGreaterThan(before + 1_000_000);
  // A reader that goes away takes the connection with it.
  (Body as Readable).destroy();
  await new Promise((done) => setTimeout(done, 10));
  expect(endless.destroyed).toBe(true);
});

test('an upload is read only as fast as the server takes it', async () => {
  let made = 0;
  const file = new Readable({
    read() {
      made += 16_384;
      this.push(made > 3_000_000 ? null : Buffer.alloc(16_384, 'a'));
    },
  });
  let early = 0;
  const { s3 } = client(async ({ body }) => {
    await new Promise((done) => setTimeout(done, 50));
    early = made;
    await text(body as Readable);
    return {};
  });
  await s3.send(new PutObjectCommand({ Bucket: 'b', Key: 'k', Body: file, ContentLength: 2_998_272 }));
  expect(early).toBeLessThan(1_000_000);
  expect(made).toBeGreaterThan(3_000_000);
});

test('a download that breaks is the same error to its reader', async () => {
  async function* broken() {
    yield Buffer.from('half');
    throw new Error('connection reset');
  }
  const { s3 } = client(() => ({ body: Readable.from(broken(), { objectMode: false }) }));
  const { Body } = await s3.send(get);
  await expect(Body?.transformToString()).rejects.toThrow('connection reset');
});

test('bodies are cut after 4 KiB, also in the middle of a character, with how long they are', async () => {
  expect(await shownBody(Buffer.from('a'.repeat(4096)))).toBe(`< ${'a'.repeat(4096)}`);
  expect(await shownBody(Buffer.from('a'.repeat(5000)))).toBe(`< ${'a'.repeat(4096)}… (5000 bytes)`);
  for (const [character, before] of [
    ['é', 4095],
    ['日', 4094],
    ['日', 4095],
    ['😀', 4093],
    ['😀', 4095],
  ] as const) {
    const body = Buffer.from('a'.repeat(before) + character.repeat(10));
    expect(await shownBody(body)).toBe(`< ${'a'.repeat(before)}… (${body.length} bytes)`);
  }
});

test('bytes that are no text are said to be binary', async () => {
  expect(await shownBody(Buffer.from([0, 1, 2]))).toBe('< (binary, 3 bytes)');
  expect(await shownBody(Buffer.from([0x89, 0x50, 0xff, 0xd8, 65, 66, 67]))).toBe('< (binary, 7 bytes)');
  expect(await shownBody(Buffer.from('日本'))).toBe('< 日本');
});

/** Where secrets stand in bodies: what is before and what is after. */
const places: [string, string][] = [
  ['<keyMaterial>', '</keyMaterial>'],
  ['<SecretAccessKey>', '</SecretAccessKey>'],
  ['<ns2:SessionToken>', '</ns2:SessionToken>'],
  ['<passwordData>', '</passwordData>'],
  ['<Password>', '</Password>'],
  ['{"KeyMaterial":"', '"}'],
  ['{"SecretAccessKey" : "', '"}'],
  ['{"SessionToken": "a\\"b', '"}'],
  ['{"SecretString":"', '\\n"}'],
  ['{"Password":"', '"}'],
  ['-----BEGIN RSA PRIVATE KEY-----\n', '\n-----END RSA PRIVATE KEY-----'],
  ['-----BEGIN PRIVATE KEY-----\nMII\nMII\n', '\n-----END PRIVATE KEY-----'],
  ['{"key":"-----BEGIN OPENSSH PRIVATE KEY-----\\n', '\\n-----END OPENSSH PRIVATE KEY-----"}'],
  ['https://b.s3.amazonaws.com/k?X-Amz-Expires=60&X-Amz-Signature=', '&x-id=GetObject'],
  ['https://b.s3.amazonaws.com/k?X-Amz-Security-Token=', '&X-Amz-Expires=60'],
  ['https://b--use1-az4--x-s3.amazonaws.com/k?X-Amz-S3session-Token=', '&X-Amz-Expires=60'],
  ['Action=CreateUser&Password=', '&Version=1'],
  ['Action=RunInstances&UserData=', '&Version=1'],
  ['Action=ModifyInstanceAttribute&UserData.Value=', '&Version=1'],
  ['Action=CopySnapshot&PresignedUrl=https%3A%2F%2Fec2.eu-west-1.amazonaws.com%2F%3FX-Amz-Signature%3D', '&Version=1'],
  ['<userData>\n <value>', '</value></userData>'],
  ['<userData>', '</userData>'],
  ['SessionToken=', ''],
  ['Action=ConfirmSubscription&Token=', '&Version=1'],
  // S3 and others say again what they don't take.
  ['<Token-0>', '</Token-0>'],
  ['<SignatureProvided>', '</SignatureProvided>'],
  ['<CanonicalRequest>GET\n/\n\nx-amz-security-token:', '\n</CanonicalRequest>'],
  ['<CanonicalRequestBytes>47 45 54 ', '</CanonicalRequestBytes>'],
  ["should have been\n'POST\n/\nx-amz-security-token:", "\n\nhost'"],
  ['x-amz-server-side-encryption-customer-key:', '\nx-amz-date:1'],
];

test('a secret at any place of a body never appears, also where the body is cut', async () => {
  const secret = fc.stringMatching(/^QXZ[A-Z0-9]{5,60}$/);
  const filler = (max: number) =>
    fc
      .stringMatching(/^[a-z <>"=&\n]{0,40}$/)
      .chain((some) => fc.nat({ max }).map((length) => some + 'a'.repeat(length)));
  const lengths = fc.oneof(
    filler(4200),
    fc.integer({ min: 3990, max: 4095 }).map((length) => 'a'.repeat(length)),
  );
  await fc.assert(
    fc.asyncProperty(
      lengths,
      fc.constantFrom(...places),
      secret,
      filler(2000),
      fc.integer({ min: 7, max: 5000 }),
      async (before, [open, close], hidden, after, chunk) => {
        const body = `${before}\n${open}${hidden}${close}\n${after}`;
        const shown = await shownBody(Buffer.from(body), chunk);
        expect(shown).not.toContain('QXZ');
        expect(strike(body)).not.toContain('QXZ');
      },
    ),
    { numRuns: 100 },
  );
});

test.each(places)('of %j…%j nothing but the secret is struck out', (open, close) => {
  const struck = strike(`before ${open}QXZ123${close} after`);
  expect(struck).toContain('***');
  expect(struck).toMatch(/^before /);
  expect(struck).toMatch(/ after$/);
  expect(struck).toContain(`${close.replace(/^(\\n|\n)/, '')} after`);
});

test('what is no secret stays', () => {
  for (const plain of [
    '<keyName>paws</keyName><keyFingerprint>1f:51</keyFingerprint>',
    '-----BEGIN PUBLIC KEY-----\nMII\n-----END PUBLIC KEY-----',
    '{"Password Policy":"long"}',
    'https://b.s3.amazonaws.com/k?X-Amz-Credential=AKIA&X-Amz-Date=1',
    'https://b.s3.amazonaws.com/?list-type=2&continuation-token=abc&NextToken=def',
  ]) {
    expect(strike(plain)).toBe(plain);
  }
});
