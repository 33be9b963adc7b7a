import { createHash, createHmac } from 'node:crypto';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { HttpRequest } from '@smithy/core/protocols';
import { SignatureV4 } from '@smithy/signature-v4';
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { type RequestToSign, signRequest } from '../../recipes/setup/11-sign-request.ts';
import { testRecipe } from '../harness.ts';
import { moto, startMoto } from '../moto.ts';
import { keysOf } from '../program.ts';
import { startVersitygw, versitygw } from '../versitygw.ts';

const { account, run, file } = testRecipe(import.meta);

/** The keys and the bucket of the examples that AWS publishes. */
const accessKeyId = 'AKIAIOSFODNN7EXAMPLE';
const secretAccessKey = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY';
const env = { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_REGION: 'us-east-1' };
const example: RequestToSign = {
  ...{ method: 'GET', url: 'https://examplebucket.s3.amazonaws.com/', region: 'us-east-1', service: 's3' },
  ...{ credentials: { accessKeyId, secretAccessKey }, date: new Date('2013-05-24T00:00:00Z') },
};
const exampleUrl = (rest: string) => `${example.url}${rest}`;

test("AWS's published examples have their published signatures", () => {
  const put = {
    ...{ method: 'PUT', url: exampleUrl('test$file.text'), body: 'Welcome to Amazon S3.' },
    headers: { Date: 'Fri, 24 May 2013 00:00:00 GMT', 'x-amz-storage-class': 'REDUCED_REDUNDANCY' },
  };
  const published: [Partial<RequestToSign>, string][] = [
    [
      { url: exampleUrl('test.txt'), headers: { Range: 'bytes=0-9' } },
      'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
    ],
    [put, '98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd'],
    [{ url: exampleUrl('?lifecycle') }, 'fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543'],
    [{ url: exampleUrl('?max-keys=2&prefix=J') }, '34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7'],
  ];
  for (const [request, signature] of published) {
    expect(signRequest({ ...example, ...request }).signature, request.url).toBe(signature);
  }
});

test('the steps of an example are those that AWS publishes', () => {
  const empty = createHash('sha256').digest('hex');
  const signed = signRequest({ ...example, url: exampleUrl('test.txt'), headers: { Range: 'bytes=0-9' } });
  const names = 'host;range;x-amz-content-sha256;x-amz-date';
  const authorization =
    `AWS4-HMAC-SHA256 Credential=${accessKeyId}/20130524/us-east-1/s3/aws4_request, ` +
    `SignedHeaders=${names}, Signature=${signed.signature}`;
  expect(signed).toEqual({
    canonicalRequest: [
      ...['GET', '/test.txt', '', 'host:examplebucket.s3.amazonaws.com', 'range:bytes=0-9'],
      ...[`x-amz-content-sha256:${empty}`, 'x-amz-date:20130524T000000Z', '', names, empty],
    ].join('\n'),
    stringToSign: [
      ...['AWS4-HMAC-SHA256', '20130524T000000Z', '20130524/us-east-1/s3/aws4_request'],
      '7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972',
    ].join('\n'),
    signature: 'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
    url: exampleUrl('test.txt'),
    headers: { range: 'bytes=0-9', 'x-amz-content-sha256': empty, 'x-amz-date': '20130524T000000Z', authorization },
  });
});

/** The hash that the SDK's signer asks for. */
class Sha256 {
  readonly #hash;
  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#hash = secret === undefined ? createHash('sha256') : createHmac('sha256', secret as Uint8Array);
  }
  update(data: Uint8Array): void {
    this.#hash.update(data);
  }
  async digest(): Promise<Uint8Array> {
    return this.#hash.digest();
  }
  reset(): void {}
}

/** The authorization that the SDK's own signer makes. */
async function authorize(
  { service, region, credentials, date }: Pick<RequestToSign, 'service' | 'region' | 'credentials' | 'date'>,
  request: Partial<HttpRequest>,
): Promise<string | undefined> {
  const uriEscapePath = service !== 's3';
  const signer = new SignatureV4({ service, region, credentials, sha256: Sha256, uriEscapePath, applyChecksum: true });
  const { headers } = await signer.sign(new HttpRequest(request), { signingDate: date });
  return headers.authorization;
}

const percent = (text: string) =>
  [...Buffer.from(text)].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
const rfc3986 = (text: string) => encodeURIComponent(text).replace(/[!'()*]/g, (char) => percent(char).toUpperCase());
const odd = fc.oneof(
  fc.constantFrom(
    '',
    ' ',
    '+',
    '%',
    "!'()*",
    'a/b',
    'a',
    'a-b',
    'a b',
    'A',
    'ü',
    '日本',
    '&=',
    '?#',
    '.a',
    '~_',
    '$,;:@',
  ),
  fc.string({ unit: 'binary', maxLength: 8 }),
);

test('1,000 odd requests get the signature of the SDK, and a URL that is sent as it was signed', async () => {
  const headerValue = fc.oneof(fc.stringMatching(/^[ -~\t]{0,20}$/), fc.constant('  a   b\t c  '));
  const request = fc.record({
    method: fc.constantFrom('GET', 'PUT', 'POST', 'DELETE', 'HEAD'),
    host: fc.constantFrom('examplebucket.s3.amazonaws.com', 'localhost:4566', '[::1]:8080', '127.0.0.1'),
    segments: fc.array(
      odd.filter((text) => !text.split('/').some((one) => /^\.{1,2}$/.test(one))),
      { maxLength: 4 },
    ),
    query: fc.array(fc.tuple(odd, odd), { maxLength: 5 }),
    encoding: fc.constantFrom(encodeURIComponent, percent, rfc3986),
    headers: fc.dictionary(
      fc.constantFrom('Range', 'content-type', 'X-Amz-Acl', 'x-amz-meta-b', 'x-custom_1'),
      headerValue,
    ),
    body: fc.oneof(fc.constant(undefined), fc.string({ unit: 'binary' }), fc.uint8Array()),
    unsigned: fc.boolean(),
    region: fc.constantFrom('us-east-1', 'eu-central-1'),
    service: fc.constantFrom('s3', 'execute-api', 'es'),
    sessionToken: fc.option(fc.stringMatching(/^[!-~]{1,40}$/), { nil: undefined }),
    date: fc.date({ min: new Date('2000-01-01'), max: new Date('2099-12-31'), noInvalidDate: true }),
  });
  await fc.assert(
    fc.asyncProperty(request, async ({ host, segments, query, encoding, unsigned, body, sessionToken, ...rest }) => {
      const credentials = { accessKeyId, secretAccessKey, sessionToken };
      const payload = unsigned ? { payloadHash: 'UNSIGNED-PAYLOAD' } : { body };
      const path = `/${segments.map(encoding).join('/')}`;
      // A parameter without a value may be written without "=", and a space as "+".
      const pairs = query.map(([name, value]) => `${encoding(name)}${name && !value ? '' : '='}${encoding(value)}`);
      const search = pairs.join('&').replaceAll('%20', '+');
      const signed = signRequest({ ...rest, ...payload, credentials, url: `http://${host}${path}?${search}` });

      const values: Record<string, string[]> = Object.create(null);
      for (const [name, value] of query) values[name] = [...(values[name] ?? []), value];
      // S3 has no encoded slashes: its keys are paths.
      const sent = segments.map((one) =>
        rest.service === 's3' ? one.split('/').map(rfc3986).join('/') : rfc3986(one),
      );
      const headers = { ...rest.headers, host, ...(unsigned && { 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' }) };
      const same = { method: rest.method, path: `/${sent.join('/')}`, query: values, headers, body: payload.body };
      expect(signed.headers.authorization).toBe(await authorize({ ...rest, credentials }, same));
      expect(new URL(signed.url).href).toBe(signed.url);
      expect(signRequest({ ...rest, ...payload, credentials, url: signed.url })).toEqual(signed);
    }),
    { numRuns: 1000 },
  );
}, 60_000);

test('parameters are sorted by name before value, where "=" would come in between', () => {
  const { canonicalRequest } = signRequest({ ...example, url: exampleUrl('?a-b=1&a=2&a=10&B=&a.c') });
  expect(canonicalRequest.split('\n')[2]).toBe('B=&a=10&a=2&a-b=1&a.c=');
});

test('a session token is signed and sent; secret key and signing key are nowhere', async () => {
  const options = `GET ${exampleUrl('')} --date 2013-05-24T00:00:00Z`;
  const token = { env: { ...env, AWS_SESSION_TOKEN: 'a-token' } };
  const [shown, { code, stdout, stderr }] = await Promise.all([
    run(`npx tsx ${file} ${options}`, token),
    run(`npx tsx ${file} ${options} --json --debug`, token),
  ]);
  expect([shown.code, code]).toEqual([0, 0]);
  expect(shown.stdout).toContain('\nx-amz-security-token:***\n');
  expect(shown.stdout + shown.stderr).not.toContain('a-token');
  const { headers } = JSON.parse(stdout);
  expect(headers['x-amz-security-token']).toBe('a-token');
  expect(headers.authorization).toContain('x-amz-date;x-amz-security-token');
  const key = ['20130524', 'us-east-1', 's3', 'aws4_request'].reduce<Buffer | string>(
    (last, part) => createHmac('sha256', last).update(part).digest(),
    `AWS4${secretAccessKey}`,
  ) as Buffer;
  for (const secret of [secretAccessKey, key.toString('hex'), key.toString('base64')]) {
    expect(stdout + stderr).not.toContain(secret);
  }
});

/** A server that keeps the signed requests that it is sent; another program may ask who is at its port. */
async function listen(answer: { status?: number; headers?: Record<string, string>; body?: string } = {}) {
  const received: (IncomingMessage & { body?: Buffer })[] = [];
  const server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray());
    if (request.headers.authorization) received.push(Object.assign(request, { body }));
    response.writeHead(answer.status ?? 200, answer.headers).end(answer.body);
  }).listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await new Promise((listening) => server.once('listening', listening));
  return { received, address: `127.0.0.1:${(server.address() as AddressInfo).port}` };
}

test('what reaches the server is what was signed', async () => {
  for (const service of ['s3', 'execute-api']) {
    const { received, address } = await listen({ body: 'thanks' });
    const target = `'http://${address}/a%20b/!(ü)*$.txt?list&x=+1&x=%2B'`;
    const more = `--header 'Content-Type: text/plain' --header 'x-two:  1   2' --body 'Grüße' --service ${service}`;
    const result = await run(`npx tsx ${file} PUT ${target} ${more} --send --json`, { env });
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(result.stdout)).toEqual({ status: 200, body: 'thanks' });
    const [{ url: path = '', headers, body } = {} as IncomingMessage & { body?: Buffer }] = received;
    expect(headers.authorization).toContain('=content-type;host;x-amz-content-sha256;x-amz-date;x-two,');
    expect(headers['x-two']).toBe('1   2');
    const hash = createHash('sha256').update('Grüße').digest('hex');
    expect([`${body}`, headers['x-amz-content-sha256']]).toEqual(['Grüße', hash]);
    const names = /SignedHeaders=([^,]+)/.exec(headers.authorization ?? '')?.[1]?.split(';') ?? [];
    const date = `${headers['x-amz-date']}`.replace(/(\d{4})(\d\d)(\d\dT\d\d)(\d\d)/, '$1-$2-$3:$4:');
    expect(Math.abs(Date.parse(date) - Date.now())).toBeLessThan(60_000);
    const request = {
      ...{ method: 'PUT', path: path.replace(/\?.*/, ''), query: { list: '', x: [' 1', '+'] }, body },
      headers: Object.fromEntries(names.map((name) => [name, `${headers[name]}`])),
    };
    expect(headers.authorization).toBe(await authorize({ ...example, service, date: new Date(date) }, request));
  }
});

test('no header is sent unsigned that S3 wants signed', async () => {
  const { received, address } = await listen();
  const { code } = await run(`npx tsx ${file} PUT http://${address}/a.txt --body text --send`, { env });
  expect([code, `${received[0]?.body}`]).toEqual([0, 'text']);
  expect(received[0]?.headers).not.toHaveProperty('content-type');
});

test('spaces inside the value of a header are sent, though signed as one', () => {
  const { canonicalRequest, headers } = signRequest({ ...example, headers: { 'x-amz-meta-title': ' a  b\t c ' } });
  expect(canonicalRequest).toContain('\nx-amz-meta-title:a b c\n');
  expect(headers['x-amz-meta-title']).toBe('a  b\t c');
});

/** Signs as somebody at a server that checks signatures; `send` sends it, with changes. */
function signedBy(credentials: RequestToSign['credentials'], service: string) {
  const sign = (method: string, url: string, more: Partial<RequestToSign> = {}) =>
    signRequest({ method, url, region: 'us-east-1', service, credentials, ...more });
  const send = async (...[method, url, more]: Parameters<typeof sign>) => {
    const signed = sign(method, url, more);
    const body = more?.body === undefined ? undefined : Buffer.from(more.body);
    const request = { method, headers: signed.headers, body };
    const ask = async (change: { url?: string; method?: string; headers?: Record<string, string>; body?: Buffer }) => {
      const { url: to = signed.url, headers, ...rest } = change;
      const answer = await fetch(to, { ...request, ...rest, headers: { ...request.headers, ...headers } });
      return { status: answer.status, headers: answer.headers, text: await answer.text() };
    };
    return { signed, ask, ...(await ask({})) };
  };
  return send;
}

test.skipIf(!versitygw)('versitygw takes signed requests, and refuses what was changed on the way', async () => {
  const gateway = await startVersitygw();
  onTestFinished(gateway.stop);
  const send = signedBy(gateway, 's3');
  expect(await send('PUT', `${gateway.url}/signed`)).toMatchObject({ status: 200 });
  const object = `${gateway.url}/signed/a%20b/!(%C3%BC)*$'+~.txt`;
  const headers = { 'content-type': 'text/plain', 'x-amz-meta-title': 'a  b' };
  const put = await send('PUT', object, { body: 'Grüße', headers });
  expect(put).toMatchObject({ status: 200 });
  const get = await send('GET', object, { headers: { range: 'bytes=0-2' } });
  expect(get).toMatchObject({ status: 206, text: 'Gr\ufffd' });
  expect(get.headers.get('x-amz-meta-title')).toBe('a  b');
  const unsigned = await send('PUT', `${gateway.url}/signed/b`, { payloadHash: 'UNSIGNED-PAYLOAD' });
  expect(await unsigned.ask({ body: Buffer.from('any') })).toMatchObject({ status: 200 });
  const list = await send('GET', `${gateway.url}/signed?prefix=a+b/&list-type=2&delimiter=`);
  expect(list).toMatchObject({ status: 200, text: expect.stringContaining('<KeyCount>1</KeyCount>') });

  const changed = await Promise.all([
    put.ask({ url: put.signed.url.replace('.txt', '.tx') }),
    put.ask({ url: `${put.signed.url}?tagging` }),
    put.ask({ headers: { 'x-amz-meta-title': 'c' } }),
    get.ask({ method: 'DELETE' }),
    list.ask({ url: list.signed.url.replace('prefix=a', 'prefix=b') }),
    ...[{ region: 'eu-west-1' }, { service: 'ec2' }, { date: new Date('2013-05-24') }].map((more) =>
      send('GET', object, more),
    ),
  ]);
  for (const { status, text } of changed) expect([400, 403], text).toContain(status);
  expect(changed[0]?.text).toContain('SignatureDoesNotMatch');
  const body = await put.ask({ body: Buffer.from('Gruss!!') });
  expect(body).toMatchObject({ status: 400, text: expect.stringContaining('XAmzContentSHA256Mismatch') });
  const command = `npx tsx ${file} GET '${put.signed.url}' --send`;
  const right = await run(command, { env: keysOf(gateway) });
  expect(right).toEqual({ code: 0, stdout: 'status  200\nbody    Grüße\n', stderr: '' });
  const wrong = await run(command, { env: { ...keysOf(gateway), AWS_SECRET_ACCESS_KEY: 'another' } });
  expect(wrong).toMatchObject({ code: 1, stdout: expect.stringMatching(/^status +403\n.*SignatureDoesNotMatch/) });
});

test.skipIf(!moto)('moto server takes signed requests to EC2, STS and S3, and refuses changed ones', async () => {
  const server = await startMoto();
  onTestFinished(server.stop);
  const query = `${server.url}/?Action=DescribeRegions&Version=2016-11-15&RegionName.1=eu-west-1`;
  const ec2 = await signedBy(server, 'ec2')('GET', query);
  expect(ec2).toMatchObject({ status: 200, text: expect.stringContaining('eu-west-1') });
  const changed = await ec2.ask({ url: ec2.signed.url.replace('eu-west-1', 'eu-west-2') });
  expect(changed).toMatchObject({ status: 401, text: expect.stringContaining('AuthFailure') });

  const headers = { 'content-type': 'application/x-www-form-urlencoded' };
  const form = { headers, body: 'Action=GetCallerIdentity&Version=2011-06-15' };
  const who = await signedBy(server, 'sts')('POST', `${server.url}/`, form);
  expect(who).toMatchObject({ status: 200, text: expect.stringContaining(':user/admin<') });
  const another = await signedBy({ ...server, secretAccessKey: 'another' }, 'sts')('POST', `${server.url}/`, form);
  expect(another).toMatchObject({ status: 403, text: expect.stringContaining('SignatureDoesNotMatch') });

  const s3 = signedBy(server, 's3');
  expect(await s3('PUT', `${server.url}/paws-example`)).toMatchObject({ status: 200 });
  const put = await s3('PUT', `${server.url}/paws-example/a%20b.txt`, { body: 'text' });
  expect(put).toMatchObject({ status: 200 });
  const moved = await put.ask({ url: put.signed.url.replace('.txt', '.tx') });
  expect(moved).toMatchObject({ status: 403, text: expect.stringContaining('SignatureDoesNotMatch') });
});

test('an answer that says no, or sends elsewhere, is shown and ends with 1', async () => {
  const elsewhere = await listen();
  const headers = { location: `http://${elsewhere.address}/` };
  const { address } = await listen({ status: 307, headers, body: '<Error>\n  <Code>TemporaryRedirect</Code>' });
  const result = await run(`npx tsx ${file} GET http://${address}/ --send`, { env });
  expect(result).toEqual({
    ...{ code: 1, stderr: '' },
    stdout: 'status  307\nbody    <Error> <Code>TemporaryRedirect</Code>\n',
  });
  expect(elsewhere.received).toEqual([]);
});

test('a session token or a key that the server says again is struck out', async () => {
  const canonical =
    'GET\n/\n\nhost:x\nx-amz-security-token:QXZ1\nx-amz-server-side-encryption-customer-key:QXZ2\n\nhost';
  const body = `<CanonicalRequest>${canonical}</CanonicalRequest><Token-0>QXZ3</Token-0>
    <SignatureProvided>QXZ4</SignatureProvided><CanonicalRequestBytes>QXZ5</CanonicalRequestBytes>`;
  const { address } = await listen({ status: 403, body });
  const { stdout } = await run(`npx tsx ${file} GET http://${address}/ --send`, { env });
  expect(stdout).not.toContain('QXZ');
  expect(stdout).toContain('<CanonicalRequest>GET / host:x x-amz-security-token:*** ');
});

test('only the start of a long answer is shown, and a server that is not there is said to be so', async () => {
  const { address } = await listen({ body: 'x'.repeat(100_000) });
  const long = await run(`npx tsx ${file} GET http://${address}/ --send --json`, { env });
  expect(JSON.parse(long.stdout).body).toBe('x'.repeat(2000));
  const result = await run(`npx tsx ${file} GET http://127.0.0.1:59999/ --send`, { env });
  expect(result).toMatchObject({ code: 1, stdout: '' });
  expect(result.stderr).toContain('The server could not be reached');
});

test('on LocalStack, signed requests make, list and delete a bucket, and ask STS', async () => {
  const server = process.env.COOKBOOK_LOCALSTACK;
  const send = async (request: string) => {
    const result = await run(`npx tsx ${file} ${request} --send --local --json`);
    expect(result, request).toMatchObject({ stderr: '' });
    return { code: result.code, ...JSON.parse(result.stdout) };
  };
  expect(await send(`PUT ${server}/paws-example`)).toMatchObject({ code: 0, status: 200 });
  const list = await send(`GET ${server}/`);
  expect(list).toMatchObject({ code: 0, status: 200, body: expect.stringContaining('<Name>paws-example</Name>') });
  expect(await send(`DELETE ${server}/paws-example`)).toMatchObject({ code: 0, status: 204, body: '' });
  expect(await send(`GET ${server}/paws-example/a.txt`)).toMatchObject({ code: 1, status: 404 });
  const form = `--header 'content-type: application/x-www-form-urlencoded' --service sts`;
  const who = await send(`POST ${server}/ ${form} --body 'Action=GetCallerIdentity&Version=2011-06-15'`);
  expect(who).toMatchObject({ code: 0, body: expect.stringContaining(`<Account>${account}</Account>`) });
});

test('with --local nothing is sent to another machine', async () => {
  const others = ['examplebucket.s3.amazonaws.com', '127.0.0.1.example.com', 'localhost.example.com', '10.0.0.1'];
  const results = await Promise.all(others.map((host) => run(`npx tsx ${file} GET http://${host}/ --send --local`)));
  for (const result of results) {
    expect(result).toMatchObject({ code: 2, stdout: '' });
    expect(result.stderr).toMatch(
      /^Error: --send with --local, or by http, sends to this machine only, not to http:.*\n$/,
    );
  }
});

test('what can not be signed is refused with the rule', () => {
  const refused: [Partial<Record<keyof RequestToSign, unknown>>, RegExp, ErrorConstructor?][] = [
    [{ method: 'get' }, /method must be in capitals, such as GET, not "get"/],
    [{ method: undefined }, /method must be a string, not undefined/, TypeError],
    [{ url: 'examplebucket' }, /url must be http/],
    [{ url: 'ftp://example.com/' }, /url must be http/],
    [{ url: 'https://me:word@example.com/' }, /url must be http/],
    [{ url: exampleUrl('a#b') }, /encoded/],
    [{ url: exampleUrl('a b') }, /encoded/],
    [{ url: exampleUrl('a\\b') }, /encoded/],
    [{ url: exampleUrl('100%') }, /encoded$/],
    [{ url: exampleUrl('%FF') }, /url must be encoded from UTF-8/],
    [{ url: exampleUrl('?x=%ff') }, /url must be encoded from UTF-8/],
    [{ url: exampleUrl('a/../b') }, /no segment \. or \.\./],
    [{ url: exampleUrl('a/%2E.') }, /no segment \. or \.\./],
    [{ url: exampleUrl('a%2f.%2fb?c') }, /no segment \. or \.\./],
    [{ url: new URL(example.url) }, /url must be a string, not object/, TypeError],
    [{ region: '' }, /region must be a name such as eu-west-1/],
    [{ region: 'us-east-1/s3' }, /region must/],
    [{ service: 'S 3' }, /service must/],
    [{ headers: { Host: 'example.com' } }, /header host is made here/],
    [{ headers: { 'X-Amz-Date': '1' } }, /is made here: leave it out/],
    [{ headers: { 'X-Amz-Content-Sha256': '1' } }, /is made here: leave it out/],
    [{ headers: { Authorization: '1' } }, /is made here: leave it out/],
    [{ headers: { a: 'ü' } }, /header a must be ASCII$/],
    [{ headers: { a: '1\n2' } }, /invalid header value/, TypeError],
    [{ headers: { 'a b': '1' } }, /invalid header name/, TypeError],
    [{ payloadHash: 'ABC' }, /payloadHash must be a SHA-256/],
    [{ date: new Date('soon') }, /date must be a time/],
    [{ date: '2013-05-24' }, /getTime/, TypeError],
  ];
  for (const [request, message, kind = RangeError] of refused) {
    const sign = () => signRequest({ ...example, ...request } as RequestToSign);
    expect(sign, String(message)).toThrow(message);
    expect(sign, String(message)).toThrow(kind);
  }
  for (const url of ['https://example.com', exampleUrl('..a/.b./c..'), exampleUrl('?a=/../'), 'http://[::1]:80/']) {
    expect(() => signRequest({ ...example, url }), url).not.toThrow();
  }
});

test('wrong credentials are refused without showing them', () => {
  const refused = [
    { accessKeyId: 'AK/IA', secretAccessKey },
    { accessKeyId, secretAccessKey: `${secretAccessKey}\n` },
    { accessKeyId, secretAccessKey: '' },
    { accessKeyId: '', secretAccessKey },
    { accessKeyId, secretAccessKey, sessionToken: 'a token' },
  ];
  for (const credentials of refused) {
    const sign = () => signRequest({ ...example, credentials });
    expect(sign).toThrow(
      /^(accessKeyId must be given, in ASCII without white space and \/|(secretAccessKey must be given, in|sessionToken must be) ASCII without white space)$/,
    );
    expect(sign).toThrow(RangeError);
  }
});

test('a command with wrong input ends with 2', async () => {
  const wrong: Record<string, RegExp> = {
    [`get ${example.url}`]: /method must/,
    'GET examplebucket/a.txt': /url must/,
    [`GET ${exampleUrl('a/../b')}`]: /url must/,
    [`GET ${example.url} --service ''`]: /service must/,
    [`GET ${example.url} --date soon`]: /date must/,
    [`GET ${example.url} --header range`]: /--header takes 'name: value', with a colon/,
    [`GET ${example.url} --header 'host: example.com'`]: /header host is made here/,
    'GET http://example.com/ --send': /by http, sends to this machine only/,
    [`GET '${exampleUrl('%ff')}'`]: /UTF-8/,
    'GET http://127.0.0.1:59999/ --body text --send': /GET/,
    GET: /missing required argument 'url'/,
  };
  const results = await Promise.all(Object.keys(wrong).map((words) => run(`npx tsx ${file} ${words}`, { env })));
  for (const [at, [words, message]] of Object.entries(wrong).entries()) {
    expect(results[at], words).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(message) });
  }
});
