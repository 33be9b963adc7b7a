/** Where requests go: `--local` never reaches AWS, and nothing else reaches LocalStack by accident. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { expect, test } from 'vitest';
import { sandbox } from '../harness.ts';

const { run, folder } = sandbox(import.meta);
const probe = 'npx tsx test/fixtures/recipes/setup/90-probe-command.ts';
const keys = {
  AWS_ACCESS_KEY_ID: 'AKIAIOSFODNN7EXAMPLE',
  AWS_SECRET_ACCESS_KEY: 'secret',
  AWS_REGION: 'eu-west-1',
};
const refusedAws = /REFUSED BY THE TESTS: a connection to s3\.[a-z0-9-]+\.amazonaws\.com/;

mkdirSync(`${folder}/.aws`);
writeFileSync(
  `${folder}/.aws/config`,
  `[default]
region = eu-west-3
endpoint_url = https://default.example.com
[profile work]
region = eu-west-2
aws_access_key_id = AKIAWORK
aws_secret_access_key = work
[profile cloud]
region = garage
aws_access_key_id = AKIACLOUD
aws_secret_access_key = cloud
services = cloud
[services cloud]
s3 =
  endpoint_url = http://127.0.0.1:1
`,
);

/** A server that notes for which access keys it was asked, and answers as an S3 without buckets. */
async function fakeS3() {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(
      /Credential=([^/]+)\/\d+\/([^/]+)/
        .exec(request.headers.authorization ?? '')
        ?.slice(1)
        .join(' ') ?? '',
    );
    response.end('<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>');
  }).listen(0, '127.0.0.1');
  await new Promise((listening) => server.once('listening', listening));
  return {
    asked,
    url: `http://127.0.0.1:${(server.address() as { port: number }).port}`,
    close: () => server.close(),
  };
}

test('the tests refuse AWS: without that, nothing here would show anything', async () => {
  const result = await run(`${probe} list`, { env: { ...keys, AWS_CONFIG_FILE: '/dev/null' } });
  expect(result).toMatchObject({ code: 1, stdout: '' });
  expect(result.stderr).toMatch(refusedAws);
});

test.each<[string, Record<string, string>]>([
  ['nothing', {}],
  ['keys', keys],
  ['a session token', { ...keys, AWS_SESSION_TOKEN: 'token' }],
  ['an endpoint for all', { AWS_ENDPOINT_URL: 'https://other.example.com' }],
  ['an endpoint for one service', { AWS_ENDPOINT_URL_S3: 'https://s3.example.com' }],
  ['endpoints ignored', { AWS_IGNORE_CONFIGURED_ENDPOINT_URLS: 'true' }],
  ['FIPS and dual-stack', { AWS_USE_FIPS_ENDPOINT: 'true', AWS_USE_DUALSTACK_ENDPOINT: 'true' }],
  ['a profile', { AWS_PROFILE: 'work' }],
  ['a profile that is not there', { AWS_PROFILE: 'nobody' }],
  ['credentials of a container', { AWS_CONTAINER_CREDENTIALS_FULL_URI: 'http://127.0.0.1:1/' }],
  ['a role', { AWS_ROLE_ARN: 'arn:aws:iam::1:role/x', AWS_WEB_IDENTITY_TOKEN_FILE: '/etc/hostname' }],
  ['another default region', { AWS_DEFAULT_REGION: 'eu-north-1', AWS_REGION: 'eu-north-1' }],
])('--local reaches only LocalStack with %s set', async (_name, env) => {
  expect(await run(`${probe} list --local`, { env })).toEqual({
    code: 0,
    stdout: 'buckets  0\n',
    stderr: '',
  });
});

test("--local works in us-east-1, or in --region, whatever the reader's settings say", async () => {
  const env = { AWS_REGION: 'eu-north-1' };
  expect(await run(`${probe} region --local`, { env })).toMatchObject({ stdout: 'region  us-east-1\n' });
  expect(await run(`${probe} region --local --region sa-east-1`, { env })).toMatchObject({
    stdout: 'region  sa-east-1\n',
  });
});

test('--local goes with neither --profile nor --endpoint-url', async () => {
  for (const option of ['--profile work', '--endpoint-url http://127.0.0.1:1']) {
    const result = await run(`${probe} list --local ${option}`);
    expect(result).toMatchObject({ code: 2, stdout: '' });
    expect(result.stderr).toBe('Error: --local goes with neither --profile nor --endpoint-url\n');
  }
});

test('COOKBOOK_LOCALSTACK on another machine is refused', async () => {
  const result = await run(`${probe} list --local`, {
    env: { COOKBOOK_LOCALSTACK: 'http://198.51.100.1:4566' },
  });
  expect(result).toMatchObject({ code: 2, stdout: '' });
  expect(result.stderr).toContain('COOKBOOK_LOCALSTACK');
  expect(result.stderr).not.toContain('REFUSED');
});

test('without --local AWS is asked, though LocalStack runs', async () => {
  const result = await run(`${probe} list --region eu-central-1`, {
    env: { ...keys, AWS_CONFIG_FILE: '/dev/null' },
  });
  expect(result.stderr).toContain('a connection to s3.eu-central-1.amazonaws.com');
});

test("without --local the reader's own endpoint is used, from the environment or from the file", async () => {
  const server = await fakeS3();
  const env = { ...keys, AWS_ENDPOINT_URL_S3: server.url };
  expect(await run(`${probe} list`, { env })).toMatchObject({ code: 0 });
  expect(server.asked).toEqual([`${keys.AWS_ACCESS_KEY_ID} eu-west-1`]);
  server.close();
  const result = await run(`${probe} list`, { env: keys });
  expect(result.stderr).toContain('a connection to default.example.com');
});

test('--endpoint-url beats every other endpoint', async () => {
  const server = await fakeS3();
  const env = {
    ...keys,
    AWS_ENDPOINT_URL: 'https://other.example.com',
    AWS_ENDPOINT_URL_S3: 'https://s3.example.com',
    AWS_IGNORE_CONFIGURED_ENDPOINT_URLS: 'true',
  };
  expect(await run(`${probe} list --endpoint-url ${server.url}`, { env })).toMatchObject({ code: 0 });
  expect(server.asked).toEqual([`${keys.AWS_ACCESS_KEY_ID} eu-west-1`]);
  server.close();
});

test('--profile beats keys in the environment, and takes region and endpoint from the profile', async () => {
  const env = { AWS_ACCESS_KEY_ID: 'AKIAENV', AWS_SECRET_ACCESS_KEY: 'env', AWS_SESSION_TOKEN: 'env' };
  const server = await fakeS3();
  expect(await run(`${probe} list --profile work --endpoint-url ${server.url}`, { env })).toMatchObject({
    code: 0,
  });
  expect(server.asked).toEqual(['AKIAWORK eu-west-2']);
  server.close();
  const result = await run(`${probe} list --profile cloud --calls`, { env });
  expect(result.stderr).toContain('ECONNREFUSED 127.0.0.1:1');
});

test('a profile that is not there is refused, with those that are', async () => {
  const result = await run(`${probe} list --profile wrok`, { env: keys });
  expect(result).toEqual({
    code: 2,
    stdout: '',
    stderr: 'Error: there is no profile "wrok" in ~/.aws; there is default, work, cloud\n',
  });
});
