import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { HeadBucketCommand, ListBucketsCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { expect, onTestFinished, test } from 'vitest';
import { createBucket } from '../../recipes/s3/01-create-bucket.ts';
import { createBucketInRegion, findBucketRegion } from '../../recipes/s3/02-create-bucket-in-region.ts';
import { withFaults } from '../faults.ts';
import { sandbox, testRecipe } from '../harness.ts';
import { startVersitygw, versitygw } from '../versitygw.ts';

const { bucket, run, file, s3 } = testRecipe(import.meta);
const neighbour = sandbox({ url: `${import.meta.url}?neighbour` });

test('the bucket is in the region, whatever the region of the client that asks', async () => {
  const name = `${bucket}-frankfurt`;
  const made = await createBucketInRegion(s3, { bucket: name, region: 'eu-central-1' });
  expect(made).toEqual({ bucket: name, region: 'eu-central-1', created: true });
  expect(await s3().send(new HeadBucketCommand({ Bucket: name }))).toMatchObject({ BucketRegion: 'eu-central-1' });
  const { Buckets = [] } = await s3().send(new ListBucketsCommand({ Prefix: name }));
  expect(Buckets).toMatchObject([{ Name: name, BucketRegion: 'eu-central-1' }]);
  for (const region of ['us-east-1', 'ap-south-1', 'eu-central-1']) {
    expect(await findBucketRegion(s3(region), { bucket: name })).toBe('eu-central-1');
  }
  // Somebody else's too.
  expect(await findBucketRegion(neighbour.s3(), { bucket: name })).toBe('eu-central-1');
});

test('the old name EU is Ireland, a second run finds the bucket, and then one run tells where it is', async () => {
  const command = `npx tsx ${file} paws-example-old`;
  const result = { bucket: 'paws-example-old', region: 'eu-west-1' };
  const [first, second, where] = [
    await run(`${command} EU --local --json`),
    await run(`${command} eu-west-1 --local --json`),
    await run(`${command} --local --json --region ap-south-1`),
  ];
  expect([first, second, where].map(({ code, stderr }) => ({ code, stderr }))).toEqual(
    Array(3).fill({ code: 0, stderr: '' }),
  );
  expect(JSON.parse(first.stdout)).toEqual({ ...result, created: true });
  expect(JSON.parse(second.stdout)).toEqual({ ...result, created: false });
  expect(JSON.parse(where.stdout)).toEqual({ ...result, created: false });
});

test('the region is named as LocationConstraint everywhere but in us-east-1', async () => {
  const bodies: string[] = [];
  const connect = (region: string) => {
    const client = s3(region);
    client.middlewareStack.add(
      (next, context) => (args) => {
        const { body, hostname } = args.request as { body?: string; hostname: string };
        if (context.commandName === 'CreateBucketCommand') bodies.push(`${body ?? ''}`);
        expect(hostname).toBe('127.0.0.1');
        return next(args);
      },
      { step: 'finalizeRequest' },
    );
    return client;
  };
  await createBucketInRegion(connect, { bucket: `${bucket}-virginia`, region: 'us-east-1' });
  await createBucketInRegion(connect, { bucket: `${bucket}-tokyo`, region: 'ap-northeast-1', tags: { a: 'b' } });
  await createBucketInRegion(connect, { bucket: `${bucket}-gov`, region: 'us-gov-west-1' });
  expect(bodies[0]).not.toContain('LocationConstraint');
  expect(bodies[1]).toContain('<LocationConstraint>ap-northeast-1</LocationConstraint>');
  expect(bodies[1]).toContain('<Key>a</Key>');
  expect(bodies[2]).toContain('<LocationConstraint>us-gov-west-1</LocationConstraint>');
});

test('a bucket of yours in another region is refused, and left there', async () => {
  const name = `${bucket}-there`;
  await createBucket(s3('eu-west-1'), { bucket: name });
  await expect(createBucketInRegion(s3, { bucket: name, region: 'eu-north-1' })).rejects.toMatchObject({
    name: 'BucketInOtherRegion',
    message: `${name} is yours already, in eu-west-1: take another name for eu-north-1`,
  });
  expect(await findBucketRegion(s3(), { bucket: name })).toBe('eu-west-1');
});

test("somebody else's name, and a bucket that is not there, are errors that say so", async () => {
  await createBucket(neighbour.s3(), { bucket: `${bucket}-taken` });
  const [taken, missing] = await Promise.all([
    run(`npx tsx ${file} paws-example-taken eu-west-1 --local`),
    run(`npx tsx ${file} paws-example-missing --local`),
  ]);
  expect(taken).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('BucketAlreadyExists') });
  expect(missing).toEqual({ code: 1, stdout: '', stderr: 'Error: there is no bucket paws-example-missing\n' });
  await expect(findBucketRegion(s3(), { bucket: `${bucket}-missing` })).rejects.toMatchObject({ name: 'NotFound' });
});

test('what is no region is refused before anything is sent', async () => {
  const asked: string[] = [];
  const connect = (region: string) => {
    asked.push(region);
    return s3(region);
  };
  const refused = [
    '',
    'Ireland',
    'eu',
    'eu-west',
    'EU-WEST-1',
    'eu-west-1a',
    'eu_west_1',
    'evil.example/-1',
    '-west-1',
    // The SDK takes it for us-gov-west-1.
    'fips-us-gov-west-1',
  ];
  for (const region of refused) {
    const made = createBucketInRegion(connect, { bucket, region });
    await expect(made, region).rejects.toThrow(`"${region}" is no region such as eu-west-1`);
    await expect(made, region).rejects.toThrow(RangeError);
  }
  expect(asked).toEqual([]);
  await expect(createBucketInRegion(connect, { bucket: 'My_Bucket', region: 'eu-west-1' })).rejects.toThrow(RangeError);
  const result = await run(`npx tsx ${file} paws-example Ireland --local`);
  expect(result).toEqual({ code: 2, stdout: '', stderr: 'Error: "Ireland" is no region such as eu-west-1\n' });
  for (const name of ['s3://paws-example', "''"]) {
    const named = await run(`npx tsx ${file} ${name} --local`);
    expect(named).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('without s3://') });
  }
});

test('each step that is refused is named', async () => {
  for (const operation of ['ListBuckets', 'CreateBucket']) {
    const { client, sent } = withFaults(s3('eu-west-1'), { operation, error: 'AccessDenied' });
    const made = createBucketInRegion(() => client, { bucket: `${bucket}-refused`, region: 'eu-west-1' });
    await expect(made, operation).rejects.toMatchObject({ name: 'AccessDenied' });
    expect(sent.at(-1)).toBe(operation);
  }
});

test("answers of S3's kind (the test's own) tell the region, refusals too", async () => {
  const { client, seen } = await play({
    here: [200, 'us-east-1'],
    elsewhere: [301, 'eu-central-1'],
    malformed: [400, 'ap-south-1'],
    closed: [403, 'sa-east-1'],
    hidden: [403],
    broken: [400],
    silent: [200],
    gone: [404],
  });
  const find = (name: string, s3 = client()) => findBucketRegion(s3, { bucket: name });
  expect(await find('here')).toBe('us-east-1');
  expect(await find('elsewhere')).toBe('eu-central-1');
  expect(await find('malformed')).toBe('ap-south-1');
  expect(await find('closed')).toBe('sa-east-1');
  expect(await find('silent')).toBe('us-east-1');
  await expect(find('hidden')).rejects.toMatchObject({ $metadata: { httpStatusCode: 403 } });
  await expect(find('broken')).rejects.toThrow(/^S3 answers 400 without a word to HeadBucket: .* expired/);
  await expect(find('gone')).rejects.toMatchObject({ name: 'NotFound', message: 'there is no bucket gone' });
  expect(seen.every(({ method }) => method === 'HEAD')).toBe(true);
  seen.length = 0;
  await expect(find('paws--use1-az4--x-s3')).rejects.toThrow(RangeError);
  await expect(find('paws--use1-az4--xa-s3')).rejects.toThrow(RangeError);
  expect(seen).toEqual([]);
});

test('followRegionRedirects does what the Discussion says: twice each call (S3 played by the test)', async () => {
  const { client, seen } = await play({
    elsewhere: [301, 'eu-central-1'],
    illegal: [400, 'af-south-1', 'IllegalLocationConstraintException'],
    malformed: [400, 'eu-central-1', 'AuthorizationHeaderMalformed'],
  });
  const put = (Body: string, more = {}, Bucket = 'elsewhere') =>
    client(more).send(new PutObjectCommand({ Bucket, Key: 'key', Body }));
  await expect(put('text')).rejects.toMatchObject({ $metadata: { httpStatusCode: 301 } });
  expect(seen.map(({ region }) => region)).toEqual(['us-east-1']);
  await put('text', { followRegionRedirects: true });
  expect(seen.map(({ region }) => region)).toEqual(['us-east-1', 'us-east-1', 'eu-central-1']);
  await put('text', { followRegionRedirects: true }, 'illegal');
  await expect(put('text', { followRegionRedirects: true }, 'malformed')).rejects.toMatchObject({
    name: 'AuthorizationHeaderMalformed',
  });
  expect(seen.slice(3).map(({ region }) => region)).toEqual(['us-east-1', 'af-south-1', 'us-east-1']);
});

test.skipIf(!versitygw)('a server with one region is no obstacle', async () => {
  const server = await startVersitygw();
  onTestFinished(server.stop);
  const { url: endpoint, accessKeyId, secretAccessKey } = server;
  const credentials = { accessKeyId, secretAccessKey };
  const connect = (region: string) => new S3Client({ region, endpoint, credentials, forcePathStyle: true });
  const made = await createBucketInRegion(connect, { bucket, region: 'us-east-1' });
  expect(made).toEqual({ bucket, region: 'us-east-1', created: true });
  expect(await findBucketRegion(connect('us-east-1'), { bucket })).toBe('us-east-1');
});

/**
 * A server that answers for each bucket with a status, the bucket's region in S3's header and an error; 200 when the
 * request is signed for that region.
 */
async function play(answers: Record<string, [status: number, region?: string, code?: string]>) {
  const seen: { method: string; region: string }[] = [];
  const server = createServer(({ method = '', url = '', headers }, response) => {
    const [, region = ''] = /Credential=[^/]+\/\d+\/([^/]+)/.exec(headers.authorization ?? '') ?? [];
    seen.push({ method, region });
    const [status = 500, there, code] = answers[/^\/([^/?]+)/.exec(url)?.[1] ?? ''] ?? [];
    const told = there ? { 'x-amz-bucket-region': there } : {};
    response.writeHead(region === there ? 200 : status, told);
    response.end(code && region !== there ? `<Error><Code>${code}</Code></Error>` : '');
  });
  server.listen(0, '127.0.0.1');
  await new Promise((listening) => server.once('listening', listening));
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const credentials = { accessKeyId: 'test', secretAccessKey: 'test' };
  const client = (more = {}) =>
    new S3Client({ region: 'us-east-1', endpoint, credentials, forcePathStyle: true, ...more });
  return { client, seen };
}
