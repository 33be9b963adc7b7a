import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { createServer as createSecure } from 'node:https';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { EC2Client } from '@aws-sdk/client-ec2';
import { CreateBucketCommand, DeleteBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { expect, onTestFinished, test } from 'vitest';
import { type Answer, probeEndpoint } from '../../recipes/setup/13-probe-endpoint.ts';
import { testRecipe } from '../harness.ts';
import { keysOf } from '../program.ts';
import { serve } from '../serve.ts';
import { startVersitygw, versitygw } from '../versitygw.ts';

const { run, file, bucket, folder, s3 } = testRecipe(import.meta);

const settings = (endpoint: string) => ({
  endpoint,
  region: 'us-east-1',
  credentials: { accessKeyId: 'key', secretAccessKey: 'secret' },
  maxAttempts: 1,
});
const probeS3 = (url: string, options = {}) =>
  probeEndpoint(new S3Client({ ...settings(url), forcePathStyle: true }), options);
const probeEC2 = (url: string, options = {}) => probeEndpoint(new EC2Client(settings(url)), options);

/** What both probes say, once each has said it in one line. */
async function both(url: string, options = {}) {
  const [ec2, s3] = await Promise.all([probeEC2(url, options), probeS3(url, options)]);
  expect(ec2).toMatchObject([{ service: 'ec2', call: 'DescribeRegions' }]);
  expect(s3).toMatchObject([{ service: 's3', call: 'ListBuckets' }]);
  const [one, other] = [...ec2, ...s3].map(({ answer, detail }) => `${answer}: ${detail}`);
  expect(other).toBe(one);
  return one;
}

/** A server that isn't plain HTTP, which ends with the test. */
async function listen(server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => sockets.add(socket)).listen(0, '127.0.0.1');
  await new Promise((listening) => server.once('listening', listening));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** An EC2 that answers with this for an action, and knows no other. */
function fakeEC2(answers: Record<string, (dryRun: boolean) => [status: number, body: string]>) {
  const asked: string[] = [];
  const listener = async (request: IncomingMessage, response: ServerResponse) => {
    const query = new URLSearchParams(await text(request));
    const action = query.get('Action') ?? '';
    const dryRun = query.get('DryRun') === 'true';
    asked.push(dryRun ? `${action}, dry run` : action);
    const [status, body] = answers[action]?.(dryRun) ?? ec2Error(400, 'InvalidAction');
    response.writeHead(status, { 'content-type': 'text/xml' }).end(body);
  };
  return { asked, listener };
}

const ec2Error = (status: number, code: string): [number, string] => [
  status,
  `<Response><Errors><Error><Code>${code}</Code><Message>m</Message></Error></Errors></Response>`,
];
const regions = (): [number, string] => [
  200,
  '<DescribeRegionsResponse><regionInfo><item><regionName>here</regionName></item></regionInfo></DescribeRegionsResponse>',
];
const nothing = (): [number, string] => [200, '<R><reservationSet/><volumeSet/></R>'];
const find = (answers: Answer[], call: string) => answers.find((answer) => answer.call === call);

test.each<[string, number, Record<string, string>, string]>([
  ['a web page that is XML, too', 200, { 'content-type': 'text/html' }, '<html><body>Hi</body></html>'],
  ['a web page', 200, { 'content-type': 'text/html' }, '<!doctype html><p>Hi<br>'],
  ['an empty page', 200, { 'content-type': 'text/xml' }, ''],
  ['JSON', 200, { 'content-type': 'application/json' }, '{"a":1}'],
  ['text without a type', 200, {}, 'hello'],
  ['a page that is not there', 404, { 'content-type': 'text/html' }, '<h1>No</h1>'],
  ['a page to log in on', 302, { location: '/login' }, ''],
  ['a server error', 500, { 'content-type': 'text/plain' }, 'oops'],
])('%s is no EC2 and no S3', async (_what, status, headers, body) => {
  const { url } = await serve((_request, response) => void response.writeHead(status, headers).end(body));
  expect(await both(url)).toBe(`another server: answers ${status}, not as it should`);
});

test('a closed port, silence and a server of another protocol are told apart', async () => {
  // Not a port that was free a moment ago: another test may have taken it.
  expect(await both('http://127.0.0.1:1')).toBe('unreachable: nothing listens on this port');

  const silent = await listen(createServer(() => {}));
  expect(await both(`http://127.0.0.1:${silent}`, { timeout: 300 })).toBe('unreachable: no answer within 0.3 s');
  // As the SDK tells of a port that drops what is sent to it.
  const client = new S3Client(settings('http://127.0.0.1:1'));
  client.send = async () => {
    const message = 'did not establish a connection with the server within the configured timeout of 5000 ms.';
    throw Object.assign(new Error(message), { name: 'TimeoutError' });
  };
  expect(await probeEndpoint(client)).toMatchObject([{ answer: 'unreachable', detail: 'no answer within 5 s' }]);

  const ssh = await listen(createServer((socket) => void socket.end('SSH-2.0-OpenSSH_9.2\r\n')));
  expect(await both(`http://127.0.0.1:${ssh}`)).toMatch(
    /^another server: ends the connection without an answer in HTTP/,
  );

  const { url } = await serve((_request, response) => void response.end());
  expect(await both(url.replace('http:', 'https:'))).toBe('another server: does not speak TLS: try http://');
});

test('an answer that stops half-way ends with the time-out, or at once when the connection is cut', async () => {
  const half: RequestListener = (_request, response) => {
    response.writeHead(200, { 'content-length': '1000' }).write('<ListAllMyBucketsResult>');
  };
  const { url, server } = await serve(half);
  expect(await both(url, { timeout: 500 })).toBe('unreachable: no answer within 0.5 s');
  server.prependListener('request', (_request, response) => void setTimeout(() => response.destroy(), 100));
  expect(await both(url)).toMatch(/^another server: ends the connection/);
});

test('certificates: unknown authority, another host; NODE_EXTRA_CA_CERTS mends the first alone', async () => {
  const certify = (name: string, subject: string, ...more: string[]) => {
    const [key, cert] = [join(folder, `${name}.key`), join(folder, `${name}.pem`)];
    const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
    const about = ['-subj', '/CN=test', '-addext', `subjectAltName=${subject}`];
    execFileSync('openssl', ['req', ...kind, ...about, '-keyout', key, '-out', cert, ...more], { stdio: 'pipe' });
    return { key: readFileSync(key), cert: readFileSync(cert), path: cert };
  };
  const listBuckets: RequestListener = (_request, response) => {
    response.end('<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>');
  };
  const here = certify('here', 'IP:127.0.0.1');
  const other = certify('other', 'DNS:other.example.com');
  const port = await listen(createSecure(here, listBuckets));
  const url = `https://127.0.0.1:${port}`;
  expect(await both(url)).toMatch(/^not trusted: start Node.js with NODE_EXTRA_CA_CERTS=.* \(\w*SELF_SIGNED_CERT\)$/);
  // The other way round.
  expect(await both(url.replace('https:', 'http:'))).toMatch(/^another server: ends the connection.*try https:/);

  const otherUrl = `https://127.0.0.1:${await listen(createSecure(other, listBuckets))}`;
  const command = (where: string) => `npx tsx ${file} s3 --endpoint-url ${where}`;
  const keys = { AWS_ACCESS_KEY_ID: 'key', AWS_SECRET_ACCESS_KEY: 'the-secret', AWS_REGION: 'us-east-1' };
  const [trusted, notRead, otherHost] = await Promise.all([
    run(command(url), { env: { ...keys, NODE_EXTRA_CA_CERTS: here.path } }),
    run(command(url), { env: { ...keys, AWS_CA_BUNDLE: here.path } }),
    run(command(otherUrl), { env: { ...keys, NODE_EXTRA_CA_CERTS: other.path } }),
  ]);
  expect(trusted).toMatchObject({ code: 0, stderr: '', stdout: expect.stringMatching(/ListBuckets +works/) });
  expect(notRead).toMatchObject({ code: 1, stderr: expect.stringContaining('s3: not trusted: start Node.js with') });
  expect(otherHost).toMatchObject({ code: 1, stderr: expect.stringContaining('certificate is for another host name') });
});

test.each([
  ['CERT_HAS_EXPIRED', 'not trusted', /out of date/],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'not trusted', /NODE_EXTRA_CA_CERTS/],
  ['ENOTFOUND', 'unreachable', /host name is not known/],
  ['EHOSTUNREACH', 'unreachable', /^EHOSTUNREACH$/],
])('the test’s own %s is told as %s', async (code, answer, detail) => {
  const client = new EC2Client(settings('http://127.0.0.1:1'));
  const fail = () => async () => {
    throw Object.assign(new Error(code), { code });
  };
  client.middlewareStack.add(fail, { step: 'build' });
  expect(await probeEndpoint(client)).toMatchObject([{ answer, detail: expect.stringMatching(detail) }]);
});

test('only reads and dry runs are sent', async () => {
  const record = join(folder, 'all-that-was-sent');
  await s3().send(new CreateBucketCommand({ Bucket: `${bucket}-reads` }));
  onTestFinished(async () => void (await s3().send(new DeleteBucketCommand({ Bucket: `${bucket}-reads` }))));
  const result = await run(`npx tsx ${file} --bucket paws-example-reads --local --json`, { record });
  expect(result).toMatchObject({ code: 0, stderr: '' });
  const answers: Answer[] = JSON.parse(result.stdout);
  expect(answers.map(({ answer }) => answer)).toEqual(answers.map(() => 'works'));
  const sent = readFileSync(record, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(sent.length).toBe(answers.length);
  for (const { operation, input } of sent) {
    if (!/^(ec2:Describe|s3:(List|Get))/.test(operation)) expect(input, operation).toMatchObject({ DryRun: true });
  }
});

test('a server that does not know DryRun is asked about no call that writes', async () => {
  const { asked, listener } = fakeEC2({
    DescribeRegions: regions,
    DescribeInstances: nothing,
    DescribeVolumes: nothing,
  });
  const { url } = await serve(listener);
  const answers = await probeEC2(url);
  expect(find(answers, 'DescribeInstances')).toMatchObject({ answer: 'works', detail: null });
  expect(find(answers, 'DescribeInstances, dry run')).toMatchObject({
    answer: 'failed',
    detail: 'DryRun was not understood: the call was carried out',
  });
  expect(find(answers, 'DescribeTags')).toMatchObject({ answer: 'not offered', detail: 'InvalidAction' });
  expect(asked.filter((action) => !action.startsWith('Describe'))).toEqual([]);
});

test('works, denied, not offered and failed are told apart', async () => {
  const dry = (otherwise: [number, string]) => (dryRun: boolean) =>
    dryRun ? ec2Error(412, 'DryRunOperation') : otherwise;
  const { listener } = fakeEC2({
    DescribeRegions: () => ec2Error(403, 'UnauthorizedOperation'),
    DescribeInstances: dry(nothing()),
    DescribeVolumes: () => [200, '<R/>'],
    DescribeImages: () => ec2Error(501, 'InternalFailure'),
    DescribeTags: () => ec2Error(503, 'Unavailable'),
    DescribeAddresses: () => ec2Error(400, 'Unsupported'),
    DescribeSnapshots: () => ec2Error(400, 'VPCIdNotSpecified'),
    RunInstances: () => ec2Error(400, 'InvalidAMIID.NotFound'),
    AttachVolume: () => ec2Error(403, 'UnauthorizedOperation'),
    CreateSnapshot: () => [200, '<R><snapshotId>snap-1</snapshotId></R>'],
  });
  const { url } = await serve(listener);
  const answers = await probeEC2(url);
  const said = Object.fromEntries(answers.map(({ call, answer, detail }) => [call, `${answer}: ${detail}`]));
  expect(said).toMatchObject({
    DescribeRegions: 'denied: UnauthorizedOperation',
    DescribeInstances: 'works: null',
    DescribeVolumes: 'another server: answers 200, not as it should',
    DescribeImages: 'not offered: InternalFailure',
    DescribeTags: 'failed: Unavailable: m',
    DescribeAddresses: 'failed: Unsupported: m',
    DescribeSnapshots: 'works: VPCIdNotSpecified',
    'DescribeInstances, dry run': 'works: DryRunOperation',
    'RunInstances, dry run': 'works: InvalidAMIID.NotFound',
    'AttachVolume, dry run': 'denied: UnauthorizedOperation',
    'CreateSnapshot, dry run': 'failed: DryRun was not understood: the call was carried out',
    DescribeKeyPairs: 'not offered: InvalidAction',
  });
});

test('who may not list buckets may still ask about one', async () => {
  const { url } = await serve((request, response) => {
    const [status, code] = request.url?.startsWith('/?') ? [403, 'AccessDenied'] : [404, 'NoSuchTagSet'];
    response.writeHead(status, { 'content-type': 'application/xml' }).end(`<Error><Code>${code}</Code></Error>`);
  });
  const answers = await probeS3(url, { bucket: 'some' });
  expect(answers).toHaveLength(13);
  expect(answers[0]).toMatchObject({ call: 'ListBuckets', answer: 'denied', detail: 'AccessDenied' });
  expect(answers[1]).toMatchObject({ call: 'ListObjectsV2', answer: 'works', detail: 'NoSuchTagSet' });
});

test('a bucket of another region is told as failed, with what S3 says; lists are asked for one entry', async () => {
  const asked: string[] = [];
  const { url } = await serve((request, response) => {
    asked.push(request.url ?? '');
    const first = request.url?.startsWith('/?');
    const body = first
      ? '<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>'
      : '<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>';
    response.writeHead(first ? 200 : 301, { 'content-type': 'application/xml' }).end(body);
  });
  const [, ...answers] = await probeS3(url, { bucket: 'some' });
  expect(answers).toHaveLength(12);
  for (const answer of answers) {
    expect(answer).toMatchObject({ answer: 'failed', detail: 'PermanentRedirect: elsewhere' });
  }
  expect(asked.filter((path) => /max-(keys|uploads)=1(&|$)/.test(path))).toHaveLength(3);
});

test('an abort ends the probing', async () => {
  const reason = new Error('Enough.');
  const silent = await listen(createServer(() => {}));
  const stop = new AbortController();
  setTimeout(() => stop.abort(reason), 100);
  await expect(probeS3(`http://127.0.0.1:${silent}`, { signal: stop.signal })).rejects.toBe(reason);
});

test('wrong usage is refused, an unknown bucket and missing credentials are errors', async () => {
  const [kind, noS3, noName, unknown, nobody] = await Promise.all([
    run(`npx tsx ${file} s4 --local`),
    run(`npx tsx ${file} ec2 --bucket paws-example --local`),
    run(`npx tsx ${file} --bucket "" --local`),
    run(`npx tsx ${file} s3 --bucket paws-example-nowhere --local`),
    run(`npx tsx ${file} s3 --endpoint-url http://127.0.0.1:1 --region x`, {
      env: { AWS_ACCESS_KEY_ID: '', AWS_EC2_METADATA_DISABLED: 'true' },
    }),
  ]);
  expect(kind).toEqual({ code: 2, stdout: '', stderr: 'Error: "s4" is neither ec2 nor s3\n' });
  expect(noS3).toEqual({ code: 2, stdout: '', stderr: 'Error: --bucket NAME is for s3\n' });
  expect(noName).toEqual({ code: 2, stdout: '', stderr: 'Error: --bucket NAME is for s3\n' });
  expect(unknown).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(/ failed: NoSuchBucket: /) });
  expect(nobody).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('No credentials were found') });
});

test.skipIf(!versitygw)('an S3 alone: what it offers, wrong keys, another region, and that it is no EC2', async () => {
  const server = await startVersitygw();
  onTestFinished(server.stop);
  const { url, accessKeyId, secretAccessKey } = server;
  const client = (secret: string, region = 'us-east-1') =>
    new S3Client({
      endpoint: url,
      region,
      credentials: { accessKeyId, secretAccessKey: secret },
      forcePathStyle: true,
    });
  await client(secretAccessKey).send(new CreateBucketCommand({ Bucket: bucket }));
  const { code, stdout, stderr } = await run(`npx tsx ${file} --endpoint-url ${url} --bucket paws-example`, {
    env: keysOf(server),
  });
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr: expect.stringMatching(/^Error: ec2: another server: answers 405, not as it should\n$/),
  });
  expect(stdout).toMatch(/s3 +ListObjectVersions +works/);
  expect(stdout).toMatch(/s3 +GetBucketPolicy +works +NoSuchBucketPolicy/);
  expect(stdout).toMatch(/s3 +GetPublicAccessBlock +not offered +NotImplemented/);

  expect(await probeEndpoint(client('wrong'))).toMatchObject([
    { answer: 'wrong credentials', detail: 'SignatureDoesNotMatch' },
  ]);
  expect(await probeEndpoint(client(secretAccessKey, 'eu-west-1'))).toMatchObject([
    { answer: 'failed', detail: expect.stringContaining('expecting "us-east-1"') },
  ]);
});
