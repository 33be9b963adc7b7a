import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import {
  CreateBucketCommand,
  GetObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
  S3Client,
  type S3ClientConfig,
} from '@aws-sdk/client-s3';
import pMap from 'p-map';
import { expect, onTestFinished, test } from 'vitest';
import { findBucketRegion } from '../../recipes/s3/02-create-bucket-in-region.ts';
import type { ConnectS3 } from '../../recipes/s3/10-helpers/signer.ts';
import { curlCommand, timeLimitedUrl } from '../../recipes/s3/10-time-limited-url.ts';
import { withFaults } from '../faults.ts';
import { settingsOf, testRecipe } from '../harness.ts';
import { keysBeyondXml, oddKeys } from '../odd-keys.ts';
import { findProgram } from '../program.ts';
import { startVersitygw, versitygw } from '../versitygw.ts';

const signed = ['s3:GetObject', 's3:PutObject'];
const { account, bucket: own, run, file, folder, s3 } = testRecipe(import.meta, { signed });
const bucket = `${own}-url`;
const client = s3();
const connect: ConnectS3 = (more) => new S3Client({ ...settingsOf({ account }), forcePathStyle: true, ...more });
const parameter = (url: string, name: string) => new URL(url).searchParams.get(`X-Amz-${name}`);
const text = async (Key: string, from = client, Bucket = bucket) =>
  (await from.send(new GetObjectCommand({ Bucket, Key }))).Body?.transformToString();

/** Makes the tests' bucket with an object in it, or does it again. */
async function makeBucket(): Promise<void> {
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: 'there', Body: 'its text' }));
}

/** Starts versitygw with a bucket and an object in it. */
async function startChecking() {
  const server = await startVersitygw();
  onTestFinished(server.stop);
  const { url: endpoint, accessKeyId, secretAccessKey } = server;
  const credentials = { accessKeyId, secretAccessKey };
  const connect: ConnectS3 = (more) =>
    new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials, ...more });
  const there = connect({});
  await there.send(new CreateBucketCommand({ Bucket: bucket }));
  await there.send(new PutObjectCommand({ Bucket: bucket, Key: 'there', Body: 'its text' }));
  return { connect, there, credentials };
}

/** What a server says to a request: status, and S3's code for an error. */
async function ask(url: string, init?: RequestInit): Promise<string> {
  const answer = await fetch(url, init);
  const body = await answer.text();
  return [answer.status, /<Code>(.*)<\/Code>/.exec(body)?.[1]].filter(Boolean).join(' ');
}

test.skipIf(!versitygw)('a server that checks gives what was signed, for GET and HEAD, and nothing else', async () => {
  const { connect, there, credentials } = await startChecking();
  await there.send(new PutObjectCommand({ Bucket: bucket, Key: 'other', Body: 'secret' }));
  const sign = (more = {}) => timeLimitedUrl(connect, { bucket, key: 'there', ...more });
  const brief = await sign({ expiresIn: 1 });
  const { url } = await sign();
  expect(await (await fetch(url)).text()).toBe('its text');
  const head = await fetch((await sign({ method: 'HEAD' })).url, { method: 'HEAD' });
  expect([head.status, head.headers.get('content-length')]).toEqual([200, '8']);
  const named = await fetch((await sign({ downloadName: `it's "é".txt` })).url);
  const disposition = `attachment; filename="it's \\"_\\".txt"; filename*=UTF-8''it%27s%20%22%C3%A9%22.txt`;
  expect(named.headers.get('content-disposition')).toBe(disposition);

  expect(await ask(url.split('?')[0] as string)).toMatch(/^403 AccessDenied/);
  expect(await ask(url, { method: 'HEAD' })).toBe('403');
  expect(await ask(url, { method: 'PUT', body: 'x' })).toBe('403 SignatureDoesNotMatch');
  expect(await ask(url, { method: 'DELETE' })).toBe('403 SignatureDoesNotMatch');
  expect(await ask(url.replace('/there?', '/other?'))).toBe('403 SignatureDoesNotMatch');
  expect(await ask(url.replace('Expires=3600', 'Expires=3601'))).toBe('403 SignatureDoesNotMatch');
  expect(await ask(url.replace(/(?<=Signature=)./, (digit) => (digit === '0' ? '1' : '0')))).toMatch(/^403 Signature/);
  const wrong = { credentials: { ...credentials, secretAccessKey: 'wrong' } };
  const told = { operation: 'HeadBucket', output: { BucketRegion: 'us-east-1' } };
  const wrongKey: ConnectS3 = (more) => withFaults(connect({ ...more, ...wrong }), told).client;
  expect(await ask((await timeLimitedUrl(wrongKey, { bucket, key: 'there' })).url)).toBe('403 SignatureDoesNotMatch');

  await sleep(Math.max(0, brief.expires.getTime() + 1100 - Date.now()));
  expect(await ask(brief.url)).toMatch(/^403/);
  expect(await ask(url)).toBe('200');
});

test.skipIf(!versitygw)('a server that checks takes only what was signed for an upload', async () => {
  const { connect, there } = await startChecking();
  const sign = async (more: object) =>
    (await timeLimitedUrl(connect, { bucket, method: 'PUT', key: 'new', ...more })).url;
  const put = (url: string, body: string, headers = {}) => ask(url, { method: 'PUT', body, headers });

  const any = await sign({});
  expect(await put(any, 'first')).toBe('200');
  expect(await put(any, 'second', { 'content-type': 'text/css' })).toBe('200');
  expect(await text('new', there)).toBe('second');

  const typed = await sign({ contentType: 'image/png' });
  expect(await put(typed, 'third', { 'content-type': 'image/png' })).toBe('200');
  expect((await there.send(new HeadObjectCommand({ Bucket: bucket, Key: 'new' }))).ContentType).toBe('image/png');
  expect(await put(typed, 'x', { 'content-type': 'text/html' })).toBe('403 SignatureDoesNotMatch');
  expect(await put(typed, 'x')).toBe('403 SignatureDoesNotMatch');

  const sized = await sign({ contentLength: 6 });
  expect(await put(sized, 'fourth')).toBe('200');
  for (const body of ['', 'less', 'more than that']) expect(await put(sized, body), body).toMatch(/^40[03]/);
  const empty = await sign({ contentLength: 0, key: 'empty' });
  expect(await put(empty, 'more')).toMatch(/^403/);
  expect(await put(empty, '')).toBe('200');
  expect(await text('new', there)).toBe('fourth');

  const once = await sign({ createOnly: true, key: 'once' });
  expect(await put(once, 'x')).toBe('403 SignatureDoesNotMatch');
  expect(await put(once, 'once', { 'if-none-match': '*' })).toBe('200');
  expect(await put(once, 'twice', { 'if-none-match': '*' })).toBe('412 PreconditionFailed');
  expect(await text('once', there)).toBe('once');
});

test('the URL says what it is, and has no checksum of an empty body', async () => {
  await makeBucket();
  for (const method of ['GET', 'HEAD', 'PUT'] as const) {
    const { url, expires } = await timeLimitedUrl(connect, { bucket, key: 'there', method, expiresIn: 604_800 });
    expect(url).not.toMatch(/checksum|crc32/i);
    expect(parameter(url, 'Expires')).toBe('604800');
    const date = parameter(url, 'Date')?.replace(/(....)(..)(..T..)(..)(..Z)/, '$1-$2-$3:$4:$5') as string;
    expect(expires.getTime()).toBe(Date.parse(date) + 604_800_000);
    expect(Math.abs(Date.parse(date) - Date.now())).toBeLessThan(60_000);
  }
  const options = { contentType: 'a/b', contentLength: 5, createOnly: true };
  const { url, headers } = await timeLimitedUrl(connect, { bucket, key: 'there', method: 'PUT', ...options });
  expect(parameter(url, 'SignedHeaders')).toBe('content-length;content-type;host;if-none-match');
  expect(headers).toEqual({ 'content-type': 'a/b', 'content-length': '5', 'if-none-match': '*' });
});

test("it is signed in the bucket's region, and on AWS goes to a host there", async () => {
  const elsewhere = `${own}-ireland`;
  await s3('eu-west-1').send(new CreateBucketCommand({ Bucket: elsewhere }));
  const asked: S3ClientConfig[] = [];
  const onAws: ConnectS3 = (settings) => {
    asked.push(settings);
    const credentials = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'x' };
    return asked.length === 1 ? client : new S3Client({ credentials, ...settings });
  };
  const { url } = await timeLimitedUrl(onAws, { bucket: elsewhere, key: 'a b' });
  expect(url).toMatch(new RegExp(`^https://${elsewhere}\\.s3\\.eu-west-1\\.amazonaws\\.com/a%20b\\?`));
  expect(parameter(url, 'Credential')).toContain('/eu-west-1/s3/');
});

test('the region is told by refusals too, and a bucket that is not there is an error', async () => {
  const server = createServer((request, answer) => {
    const [, status] = request.url?.split('/') ?? [];
    answer.writeHead(Number(status), { 'x-amz-bucket-region': 'eu-north-1' }).end();
  }).listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const there = connect({ endpoint, maxAttempts: 1 });
  for (const status of ['200', '301', '400', '403']) {
    expect(await findBucketRegion(there, { bucket: status }), status).toBe('eu-north-1');
  }
  await expect(findBucketRegion(there, { bucket: '404' })).rejects.toMatchObject({ name: 'NotFound' });
  const nowhere = timeLimitedUrl(connect, { bucket: `${bucket}-nowhere`, key: 'k' });
  await expect(nowhere).rejects.toThrow(`there is no bucket ${bucket}-nowhere`);
});

test('it never ends after the credentials, and says what ends it', async () => {
  await makeBucket();
  const keys = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'x', sessionToken: 'token' };
  const soon = new Date(Date.now() + 100_000);
  const sign = (more: object, expiresIn: number) => {
    const as: ConnectS3 = (settings) => connect({ ...settings, credentials: async () => ({ ...keys, ...more }) });
    return timeLimitedUrl(as, { bucket, key: 'there', expiresIn });
  };
  const cut = await sign({ expiration: soon }, 200);
  expect(cut.endedBy).toBe('credentials');
  expect(Math.abs(cut.expires.getTime() - soon.getTime())).toBeLessThanOrEqual(2000);
  expect(cut.expires.getTime()).toBeLessThanOrEqual(soon.getTime());
  expect(Number(parameter(cut.url, 'Expires'))).toBeLessThanOrEqual(100);
  expect(await sign({ expiration: soon }, 50)).toMatchObject({ endedBy: 'time' });
  expect(await sign({}, 50)).toMatchObject({ endedBy: 'unknown' });
  expect(await sign({ sessionToken: undefined }, 50)).toMatchObject({ endedBy: 'time' });
  await expect(sign({ expiration: new Date(Date.now() - 1000) }, 50)).rejects.toThrow('have expired');
});

test('keys of all sorts go up and down through a URL; those that no client sends are refused', async () => {
  await makeBucket();
  const dots = (key: string) => key.split('/').some((part) => part === '.' || part === '..');
  const keys = [...oddKeys, ...keysBeyondXml];
  await pMap(
    keys,
    async (key, index) => {
      const sign = (method: 'GET' | 'PUT') => timeLimitedUrl(connect, { bucket, key, method });
      if (dots(key)) return await expect(sign('GET'), key).rejects.toThrow(RangeError);
      expect(await ask((await sign('PUT')).url, { method: 'PUT', body: `text ${index}` }), key).toBe('200');
      expect(await text(key), key).toBe(`text ${index}`);
      expect(await (await fetch((await sign('GET')).url)).text(), key).toBe(`text ${index}`);
    },
    { concurrency: 4 },
  );
  expect(keys.filter(dots).length).toBeGreaterThan(4);
});

test.skipIf(!findProgram('curl'))('the curl command works in a shell, with odd keys too', async () => {
  await makeBucket();
  const shell = (command: string) => promisify(execFile)('sh', ['-c', command], { cwd: folder });
  const name = "-it's $(touch oops) é {a,b}[1-2].txt";
  const key = `in/${name}`;
  await writeFile(join(folder, name), 'from a file');
  const put = await timeLimitedUrl(connect, {
    bucket,
    key,
    method: 'PUT',
    contentType: "a/b; c='d'",
    contentLength: 11,
  });
  await shell(curlCommand(put));
  expect(await text(key)).toBe('from a file');
  expect((await client.send(new HeadObjectCommand({ Bucket: bucket, Key: key }))).ContentType).toBe("a/b; c='d'");
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: 'newer' }));
  await shell(curlCommand(await timeLimitedUrl(connect, { bucket, key })));
  // What was there is kept.
  expect(await readFile(join(folder, name), 'utf8')).toBe('from a file');
  expect(await readFile(join(folder, `${name}.1`), 'utf8')).toBe('newer');
  const { stdout } = await shell(curlCommand(await timeLimitedUrl(connect, { bucket, key, method: 'HEAD' })));
  expect(stdout).toMatch(/^HTTP\/1.1 200/);
  await expect(readFile(join(folder, 'oops'))).rejects.toThrow('ENOENT');
  expect(curlCommand({ method: 'GET', headers: {}, url: 'http://x/folder/?y=z' })).toContain('--output ./file ');
  expect(curlCommand({ method: 'GET', headers: {}, url: 'http://x/a%0Ab%2Fc?y=z' })).toContain('--output ./a_b_c ');
  await expect(shell(curlCommand(await timeLimitedUrl(connect, { bucket, key: 'no such' })))).rejects.toThrow('404');
  // A refused upload is an error, and S3's words are shown.
  const taken = await timeLimitedUrl(connect, { bucket, key, method: 'PUT', createOnly: true });
  await expect(shell(curlCommand(taken))).rejects.toMatchObject({
    code: 22,
    stdout: expect.stringContaining('<Code>PreconditionFailed</Code>'),
  });
});

test('what S3 would refuse is refused before anything is sent', async () => {
  const none: ConnectS3 = () => {
    throw new Error('asked');
  };
  const put = { method: 'PUT' as const };
  const refused: [object, string][] = [
    [{ key: '' }, '1 to 1,024 bytes, not 0'],
    [{ key: '\u00FC'.repeat(513) }, '1 to 1,024 bytes, not 1026'],
    [{ expiresIn: 0 }, '1 to 604800 whole seconds, not 0'],
    [{ expiresIn: 604_801 }, 'not 604801'],
    [{ expiresIn: 1.5 }, 'not 1.5'],
    [{ expiresIn: Number.NaN }, 'not NaN'],
    [{ downloadName: '../x' }, 'without slashes'],
    [{ downloadName: 'a\r\nb' }, 'control characters'],
    [{ downloadName: '' }, 'downloadName'],
    [{ downloadName: 'x', ...put }, 'for GET only'],
    [{ contentType: 'a/b' }, 'for PUT only'],
    [{ contentLength: 0, method: 'HEAD' }, 'for PUT only'],
    [{ createOnly: true }, 'for PUT only'],
    [{ contentType: '', ...put }, 'such as image/png'],
    [{ contentType: 'a\nb', ...put }, 'such as image/png'],
    [{ contentType: '\u00E9/b', ...put }, 'such as image/png'],
    [{ contentLength: -1, ...put }, '0 to 5368709120 bytes, not -1'],
    [{ contentLength: 5 * 1024 ** 3 + 1, ...put }, 'not 5368709121'],
    [{ contentLength: 1.5, ...put }, 'not 1.5'],
  ];
  for (const [options, words] of refused) {
    const signing = timeLimitedUrl(none, { bucket, key: 'k', ...options });
    await expect(signing, words).rejects.toThrow(RangeError);
    await expect(timeLimitedUrl(none, { bucket, key: 'k', ...options }), words).rejects.toThrow(words);
  }
  await expect(timeLimitedUrl(none, { bucket, key: 'k' })).rejects.toThrow('asked');
});

test('the command prints one JSON document that works, says no to another method, and tells a wrong bucket', async () => {
  await makeBucket();
  const given = '--expires-in 60 --content-type text/plain --json --curl';
  const { code, stdout } = await run(`npx tsx ${file} s3://paws-example-url/by-hand --method PUT ${given} --local`);
  const { url, expires, ...rest } = JSON.parse(stdout.replaceAll('paws-example', own));
  expect({ code, ...rest }).toEqual({
    code: 0,
    method: 'PUT',
    headers: { 'content-type': 'text/plain' },
    endedBy: 'time',
  });
  expect(Date.parse(expires)).toBeGreaterThan(Date.now());
  expect(await ask(url, { method: 'PUT', body: 'x', headers: rest.headers })).toBe('200');
  const wrong = await run(`npx tsx ${file} s3://paws-example-url/k --method DELETE --local`);
  expect(wrong).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('takes GET, PUT or HEAD') });
  const nowhere = await run(`npx tsx ${file} s3://paws-example-nowhere/k --local`);
  expect(nowhere).toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringContaining('no bucket paws-example-nowhere'),
  });
});

test('on a terminal it warns of credentials that end before', async () => {
  await makeBucket();
  const credentials = { AWS_ACCESS_KEY_ID: account, AWS_SECRET_ACCESS_KEY: 'test', AWS_SESSION_TOKEN: 'token' };
  const command = `npx tsx ${file} s3://paws-example-url/k --endpoint-url ${process.env.COOKBOOK_LOCALSTACK}`;
  const ask = (more = {}) =>
    run(command, { env: { AWS_REGION: 'us-east-1', ...credentials, ...more }, terminal: { columns: 120 } });
  const { stdout } = await ask({ AWS_CREDENTIAL_EXPIRATION: new Date(Date.now() + 1_800_000).toISOString() });
  expect(stdout).toContain('Your credentials end before the time');
  expect((await ask()).stdout).toContain('Your credentials are temporary');
});
