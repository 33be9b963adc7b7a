import { readFileSync, writeFileSync } from 'node:fs';
import { devNull } from 'node:os';
import { join } from 'node:path';
import {
  CreateBucketCommand,
  DeleteObjectsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  type S3ClientConfig,
} from '@aws-sdk/client-s3';
import { expect, onTestFinished, test, vi } from 'vitest';
import { googleCloudStorage, tryStorage } from '../../recipes/setup/05-google-cloud-storage.ts';
import { hmacKey, type Request, serveGoogleXmlApi } from '../google-xml-api.ts';
import { testRecipe } from '../harness.ts';
import { root } from '../run.ts';

const { run, file, folder, bucket } = testRecipe(import.meta);
const command = `npx tsx ${file}`;

const env = { AWS_ACCESS_KEY_ID: hmacKey.accessKeyId, AWS_SECRET_ACCESS_KEY: hmacKey.secretAccessKey };
const connect = (settings: S3ClientConfig) => new S3Client({ credentials: hmacKey, forcePathStyle: true, ...settings });
const inShort = ({ method, url }: Request) => `${method} ${url.replace(/trial-[\w-]+/, 'KEY').replace(/\?.*/, '')}`;

test('on Google, a bucket and an object are made, read, listed and deleted, in this order', async () => {
  const google = await serveGoogleXmlApi();
  const result = await run(`${command} paws-example --endpoint-url ${google.url} --json`, { env });
  expect(result).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(result.stdout)).toEqual({
    ...{ bucket: 'paws-example', location: 'US', size: 28, read: true, listed: 1, deleted: true },
  });
  expect(google.requests.map(inShort)).toEqual([
    `GET /${bucket}/`,
    `PUT /${bucket}/`,
    `PUT /${bucket}/KEY.txt`,
    `GET /${bucket}/KEY.txt`,
    `GET /${bucket}/`,
    `DELETE /${bucket}/KEY.txt`,
    `DELETE /${bucket}/`,
  ]);
  for (const { headers } of google.requests) {
    expect(Object.keys(headers).filter((name) => /checksum|trailer|x-goog/.test(name))).toEqual([]);
    expect(headers.authorization).toMatch(/^AWS4-HMAC-SHA256 Credential=GOOG1EXAMPLE\/\d{8}\/auto\/s3\/aws4_request,/);
  }
  expect(google.requests[1]?.body).toContain('<LocationConstraint>US</LocationConstraint>');
  expect(google.buckets.size).toBe(0);
});

test('location and project of the new bucket are sent, the project signed and with that request only', async () => {
  const google = await serveGoogleXmlApi();
  google.refusing.when = ({ method, url }) => {
    if (method === 'PUT' && url.includes('.txt')) {
      const [made] = google.buckets.values();
      expect(made).toMatchObject({ location: 'EUROPE-WEST3', project: 'my-project' });
    }
    return undefined;
  };
  const options = `--location europe-west3 --project my-project --endpoint-url ${google.url}`;
  expect(await run(`${command} paws-example ${options}`, { env })).toMatchObject({ code: 0, stderr: '' });
  expect(google.requests.map(({ headers }) => headers['x-amz-project-id']).filter(Boolean)).toEqual(['my-project']);
  expect(google.requests[1]?.headers.authorization).toMatch(/SignedHeaders=[^,]*;x-amz-project-id/);
});

test('without its settings Google refuses: checksums of requests and of answers, and the region as location', async () => {
  const { url: endpoint, buckets } = await serveGoogleXmlApi();
  const settings = googleCloudStorage({ endpoint });
  const changes: Partial<S3ClientConfig>[] = [
    { requestChecksumCalculation: 'WHEN_SUPPORTED' },
    { responseChecksumValidation: 'WHEN_SUPPORTED' },
  ];
  for (const change of changes) {
    const s3 = connect({ ...settings, ...change });
    await expect(tryStorage(s3, { bucket }), `${Object.keys(change)}`).rejects.toMatchObject({
      name: 'ExcessHeaderValues',
    });
    expect(buckets.size).toBe(0);
  }
  const s3 = connect(settings);
  const Bucket = bucket;
  await expect(s3.send(new CreateBucketCommand({ Bucket }))).rejects.toMatchObject({
    name: 'InvalidLocationConstraint',
  });
  await expect(tryStorage(s3, { bucket, location: 'eu-west-1' })).rejects.toMatchObject({
    name: 'InvalidLocationConstraint',
  });
  expect(settings.endpoint).toBe(endpoint);
  expect(googleCloudStorage().endpoint).toBe('https://storage.googleapis.com');
  expect(await tryStorage(s3, { bucket })).toMatchObject({ read: true, deleted: true });
});

test('deleting many has a checksum with any setting, and works', async () => {
  const { url: endpoint, requests } = await serveGoogleXmlApi();
  const s3 = connect(googleCloudStorage({ endpoint }));
  const CreateBucketConfiguration = { LocationConstraint: 'EU' } as const;
  await s3.send(new CreateBucketCommand({ Bucket: bucket, CreateBucketConfiguration }));
  const Objects = ['one', 'two'].map((Key) => ({ Key }));
  for (const object of Objects) await s3.send(new PutObjectCommand({ Bucket: bucket, ...object, Body: 'text' }));
  const { Deleted } = await s3.send(new DeleteObjectsCommand({ Bucket: bucket, Delete: { Objects } }));
  expect(Deleted).toEqual(Objects);
  expect(requests.at(-1)?.headers['x-amz-checksum-crc32']).toMatch(/^\S+==$/);
  expect(await s3.send(new ListObjectsV2Command({ Bucket: bucket }))).toMatchObject({ KeyCount: 0 });
});

test('with the profile of the discussion a stock client works there, and only with all of it', async () => {
  const google = await serveGoogleXmlApi();
  const header = readFileSync(join(root, file), 'utf8').replace(/^ \* ?/gm, '');
  const [, profile = ''] = /```ini\n([^`]*)```/.exec(header) ?? [];
  const filled = profile
    .replace('GOOG1E…', hmacKey.accessKeyId)
    .replace('…', hmacKey.secretAccessKey)
    .replace('https://storage.googleapis.com', google.url);
  const clientOf = (name: string, config: string) => {
    writeFileSync(join(folder, name), config);
    vi.stubEnv('AWS_CONFIG_FILE', join(folder, name));
    vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', devNull);
    vi.stubEnv('AWS_PROFILE', 'google');
    return new S3Client({ forcePathStyle: true });
  };
  onTestFinished(() => void vi.unstubAllEnvs());
  const stock = clientOf('whole', filled);
  expect(await tryStorage(stock, { bucket })).toMatchObject({ read: true, deleted: true });
  const create = stock.send(new CreateBucketCommand({ Bucket: bucket }));
  await expect(create).rejects.toMatchObject({ name: 'InvalidLocationConstraint' });
  expect(google.requests.at(-1)?.body).toContain('<LocationConstraint>auto</LocationConstraint>');
  for (const line of ['request_checksum_calculation', 'response_checksum_validation']) {
    const config = filled.replace(new RegExp(`^${line}.*\n`, 'm'), '');
    expect(config).not.toBe(filled);
    await expect(tryStorage(clientOf(line, config), { bucket })).rejects.toMatchObject({ name: 'ExcessHeaderValues' });
  }
  // The command takes the key of the profile, and the endpoint by itself.
  const AWS_CONFIG_FILE = join(folder, 'whole');
  const recipe = await run(`${command} paws-example --profile google`, {
    env: { AWS_CONFIG_FILE, AWS_ENDPOINT_URL: google.url },
  });
  expect(recipe).toMatchObject({ code: 0, stderr: '' });
});

test('a bucket that is there is left as it is', async () => {
  const google = await serveGoogleXmlApi();
  google.buckets.set(bucket, { location: 'EU', project: 'mine', objects: new Map() });
  const result = await run(`${command} paws-example --endpoint-url ${google.url}`, { env });
  expect(result).toEqual({
    ...{ code: 1, stdout: '' },
    stderr: 'Error: the bucket "paws-example" is there already; give a name that is not in use\n',
  });
  expect(google.buckets.get(bucket)).toMatchObject({ location: 'EU' });
  expect(google.requests).toHaveLength(1);
});

test('when a call fails, what was made is deleted again', async () => {
  const google = await serveGoogleXmlApi();
  const s3 = connect({ ...googleCloudStorage({ endpoint: google.url }), maxAttempts: 1 });
  for (const failing of ['PUT KEY', 'GET KEY', 'GET list']) {
    google.requests.length = 0;
    google.refusing.when = (request) => {
      const what = `${request.method} ${request.url.includes('trial-') ? 'KEY' : 'list'}`;
      return what === failing && google.buckets.size > 0 ? [403, 'AccessDenied'] : undefined;
    };
    await expect(tryStorage(s3, { bucket }), failing).rejects.toMatchObject({ name: 'AccessDenied' });
    expect(google.buckets.size, failing).toBe(0);
  }
  google.refusing.when = ({ method, url }) =>
    method === 'DELETE' && url.includes('trial-') ? [403, 'AccessDenied'] : undefined;
  await expect(tryStorage(s3, { bucket })).rejects.toThrow(
    new RegExp(`^refused; left are ${bucket}/trial-[\\w-]+\\.txt, ${bucket}$`),
  );
  google.buckets.clear();
  google.refusing.when = undefined;
  const stop = new AbortController();
  google.refusing.when = ({ method, url }) => {
    if (method === 'PUT' && url.includes('trial-')) stop.abort();
    return undefined;
  };
  await expect(tryStorage(s3, { bucket, signal: stop.signal })).rejects.toMatchObject({ name: 'AbortError' });
  expect(google.buckets.size).toBe(0);
  // The bucket itself is known only from the answer.
  const early = new AbortController();
  google.refusing.when = ({ method }) => {
    if (method === 'PUT') early.abort();
    return undefined;
  };
  await expect(tryStorage(s3, { bucket, signal: early.signal })).rejects.toMatchObject({ name: 'AbortError' });
  expect([...google.buckets.keys()]).toEqual([bucket]);
});

test('a wrong secret, a key of AWS and bad input are told in a line', async () => {
  const google = await serveGoogleXmlApi();
  const there = `--endpoint-url ${google.url}`;
  const secret = await run(`${command} paws-example ${there}`, { env: { ...env, AWS_SECRET_ACCESS_KEY: 'other' } });
  expect(secret).toEqual({
    ...{ code: 1, stdout: '' },
    stderr:
      'Error: s3:ListObjectsV2 failed: SignatureDoesNotMatch: refused\n' +
      'The credentials are wrong, or of another account or partition.\n',
  });
  google.requests.length = 0;
  const aws = await run(`${command} paws-example ${there}`, { env: { ...env, AWS_ACCESS_KEY_ID: 'AKIAEXAMPLE' } });
  expect(aws).toEqual({
    ...{ code: 2, stdout: '' },
    stderr: 'Error: that is a key of AWS: give --profile with one of Google\n',
  });
  const place = await run(`${command} paws-example ${there} --location 'the moon'`, { env });
  expect(place).toEqual({ code: 2, stdout: '', stderr: 'Error: "the moon" is no location such as US\n' });
  expect(google.requests).toEqual([]);
});

test('without an endpoint it goes to Google, with the HMAC key of the environment', async () => {
  const { code, stderr } = await run(`${command} paws-example`, { env: { ...env, AWS_MAX_ATTEMPTS: '1' } });
  expect(code).toBe(1);
  expect(stderr).toMatch(/^REFUSED BY THE TESTS: a connection to storage\.googleapis\.com$/m);
});
