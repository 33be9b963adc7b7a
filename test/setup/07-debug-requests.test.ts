import { ListBucketsCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { expect, test } from 'vitest';
import { debugRequests } from '../../recipes/setup/07-debug-requests.ts';
import { testRecipe } from '../harness.ts';
import { serve } from '../serve.ts';

const { run, file, s3 } = testRecipe(import.meta);

test.each(['--whole', '--debug'])(
  'by %s the whole request and response are shown, and no signature',
  async (option) => {
    const { code, stdout } = await run(`npx tsx ${file} ${option} --local`);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^> s3:ListBuckets\n> GET http:\/\/127\.0\.0\.1:\d+\/\?\S*max-buckets=10\n/);
    expect(stdout).toMatch(/\n> authorization: AWS4-HMAC-SHA256 Credential=.* Signature=\*\*\*\n/);
    expect(stdout).toMatch(/\ns3:ListBuckets 200 \d+ ms\n< /);
    expect(stdout).toContain('<ListAllMyBucketsResult');
    expect(stdout).toMatch(/\nstatus {2,}200\nattempts {2,}1\nretry delay {2,}0 ms\n/);
  },
);

test('as JSON there is one document that holds the log', async () => {
  const { code, stdout, stderr } = await run(`npx tsx ${file} --local --json`);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(JSON.parse(stdout)).toEqual({
    log: [expect.stringMatching(/^s3:ListBuckets 200 \d+ ms$/)],
    status: 200,
    attempts: 1,
    retryDelay: 0,
    requestId: expect.any(String),
    extendedRequestId: expect.any(String),
  });
});

test('a request that fails is in the log, too, each attempt on a line', async () => {
  const { url } = await serve((_, response) => response.writeHead(503).end());
  const env = { AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b', AWS_REGION: 'us-east-1' };
  const { code, stdout, stderr } = await run(`npx tsx ${file} --endpoint-url ${url}`, { env, record: undefined });
  expect(code).toBe(1);
  expect(stdout).toMatch(/^(s3:ListBuckets 503 \d+ ms\n){3}$/);
  expect(stderr).toMatch(/^Error: s3:ListBuckets failed: /);
  const document = await run(`npx tsx ${file} --endpoint-url ${url} --json`, { env, record: undefined });
  expect(document).toMatchObject({ code: 1, stderr });
  const line = expect.stringMatching(/^s3:ListBuckets 503 \d+ ms$/);
  expect(JSON.parse(document.stdout)).toEqual({ log: [line, line, line] });
});

test('the client goes on telling, and two calls of the function tell no line twice', async () => {
  const client = s3();
  const log: string[] = [];
  const write = (text: string) => log.push(text);
  await debugRequests(client, { write });
  expect(await debugRequests(client, { write })).toMatchObject({ status: 200, attempts: 1, retryDelay: 0 });
  expect(log).toHaveLength(2);
  await client.send(new ListBucketsCommand({}));
  expect(log[2]).toMatch(/^s3:ListBuckets 200 \d+ ms$/);
});

test('a logger of the SDK has one entry for a call of several attempts, without what is marked as sensitive', async () => {
  let requests = 0;
  const { url: endpoint } = await serve((_, response) => response.writeHead(++requests < 3 ? 503 : 200).end());
  const entries: unknown[] = [];
  const ignore = () => {};
  const logger = {
    trace: ignore,
    debug: ignore,
    info: (entry: unknown) => entries.push(entry),
    warn: ignore,
    error: ignore,
  };
  const credentials = { accessKeyId: 'a', secretAccessKey: 'b' };
  const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials, logger });
  const SSECustomerKey = Buffer.alloc(32, 'k').toString('base64');
  const secret = { SSECustomerAlgorithm: 'AES256', SSECustomerKey };
  await client.send(new PutObjectCommand({ Bucket: 'b', Key: 'k', Body: 'text', ...secret }));
  expect(entries).toMatchObject([{ commandName: 'PutObjectCommand', metadata: { attempts: 3 } }]);
  expect(JSON.stringify(entries)).not.toContain(SSECustomerKey);
});

test('an abort ends the call', async () => {
  const write = () => {};
  await expect(debugRequests(s3(), { write, signal: AbortSignal.abort() })).rejects.toThrow('abort');
});
