import { createHash } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { DescribeAvailabilityZonesCommand, EC2Client } from '@aws-sdk/client-ec2';
import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
import { afterEach, describe, expect, test } from 'vitest';
import { explainFailure, type FirstSteps, firstSteps } from '../../recipes/setup/03-first-steps.ts';
import { testRecipe } from '../harness.ts';
import { moto, startMoto } from '../moto.ts';
import { serve } from '../serve.ts';

const { account, run, file, folder, ec2 } = testRecipe(import.meta);
const command = `npx tsx ${file}`;
const endpoint = process.env.COOKBOOK_LOCALSTACK as string;
const credentials = { accessKeyId: account, secretAccessKey: 'test' };
/** A reader's own settings, which lead to LocalStack without --local. No key is among them. */
const own = { AWS_ENDPOINT_URL: endpoint, AWS_REGION: 'eu-west-1', AWS_ACCESS_KEY_ID: '' };
const offline = { ...own, AWS_EC2_METADATA_DISABLED: 'true' };
const secret = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY';

/** Writes files of ~/.aws, which the next test does not see. */
function settings(files: Record<string, string>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(folder, '.aws', name, '..'), { recursive: true });
    writeFileSync(join(folder, '.aws', name), text);
  }
}
afterEach(() => rmSync(join(folder, '.aws'), { recursive: true, force: true }));

/** What a run that works prints as JSON. */
async function steps(options: string, env: Record<string, string>, more: { record?: undefined } = {}) {
  const { code, stdout, stderr } = await run(`${command} --json ${options}`, { env, ...more });
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout) as FirstSteps;
}

/** How a run that fails ends. No secret is on the screen. */
async function failure(
  options: string,
  more: Parameters<typeof run>[1],
): Promise<{ code: number | null; stderr: string }> {
  const { code, stdout, stderr } = await run(`${command} ${options}`, more);
  expect(stdout).toBe('');
  expect(stderr).not.toContain(secret);
  return { code, stderr };
}

test('it is told whose the credentials are and which zones there are, as AWS says when asked directly', async () => {
  const { clockOffset, ...found } = await steps('--local --region eu-west-1', {});
  // The server's Date is a whole second.
  expect(Math.abs(clockOffset)).toBeLessThan(30);
  const sts = new STSClient({ region: 'eu-west-1', endpoint, credentials });
  const { Account, Arn } = await sts.send(new GetCallerIdentityCommand({}));
  const { AvailabilityZones = [] } = await ec2('eu-west-1').send(new DescribeAvailabilityZonesCommand({}));
  expect(found).toEqual({
    ...{ account: Account, arn: Arn, source: 'environment', accessKeyId: account, temporary: false, expires: null },
    ...{ region: 'eu-west-1', zones: AvailabilityZones.map(({ ZoneName }) => ZoneName).sort() },
  });
  expect(found.zones).toHaveLength(3);
});

describe('where the credentials came from', () => {
  const expires = '2099-01-01T00:00:00.000Z';
  const session = {
    ...{ AccessKeyId: account, SecretAccessKey: secret, Token: 'token', SessionToken: 'token', Expiration: expires },
    ...{ Version: 1, Code: 'Success', AccountId: account },
  };
  const ended = { temporary: true, expires };
  const role = `arn:aws:iam::${account}:role/reader`;

  test('a profile with a key, a process or a role', async () => {
    settings({
      credentials: `[keys]\naws_access_key_id = ${account}\naws_secret_access_key = ${secret}\n`,
      config: [
        `[profile process]\ncredential_process = cat ${join(folder, '.aws/session')}`,
        `[profile role]\nrole_arn = ${role}\nsource_profile = keys`,
      ].join('\n'),
      session: JSON.stringify(session),
    });
    const [keys, process, assumed] = await Promise.all(
      // Assuming a role needs a permission, which is the profile's and not the recipe's.
      ['keys', 'process', 'role'].map((name) => steps(`--profile ${name}`, own, { record: undefined })),
    );
    expect(keys).toMatchObject({ source: 'profile keys', temporary: false, expires: null });
    expect(process).toMatchObject({ source: 'credential_process of profile process', ...ended });
    expect(assumed).toMatchObject({ source: 'role that profile role assumes', temporary: true });
    expect(assumed?.arn).toContain('assumed-role/reader/');
    expect(Date.parse(`${assumed?.expires}`)).toBeGreaterThan(Date.now());
  });

  // The SDK gives instance metadata a second, once.
  test('the environment, a container and an instance', { retry: 3 }, async () => {
    const { url } = await serve(({ url = '', method }, response) => {
      if (method === 'PUT' || url.endsWith('/')) response.end('reader');
      else response.end(JSON.stringify(session));
    });
    const env = { AWS_ACCESS_KEY_ID: account, AWS_SECRET_ACCESS_KEY: secret, AWS_SESSION_TOKEN: 'token' };
    const [environment, container, instance] = await Promise.all([
      steps('', { ...own, ...env }),
      steps('', { ...own, AWS_CONTAINER_CREDENTIALS_FULL_URI: `${url}/container` }),
      steps('', { ...own, AWS_EC2_METADATA_SERVICE_ENDPOINT: url }),
    ]);
    expect(environment).toMatchObject({ source: 'environment', temporary: true, expires: null });
    expect(container).toMatchObject({ source: 'role of the container', ...ended });
    expect(instance).toMatchObject({ source: 'instance metadata, or a function in code', ...ended });
  });

  test('a web identity token', async () => {
    settings({ token: 'e30.e30.e30' });
    const identity = { AWS_WEB_IDENTITY_TOKEN_FILE: join(folder, '.aws/token'), AWS_ROLE_ARN: role };
    const found = await steps('', { ...own, ...identity }, { record: undefined });
    expect(found).toMatchObject({ source: 'role assumed with a web identity token', temporary: true });
  });

  test('code', async () => {
    const source = async (given: typeof credentials | (() => Promise<typeof credentials>)) => {
      const config = { region: 'eu-west-1', endpoint, credentials: given };
      return (await firstSteps(new STSClient(config), new EC2Client(config))).source;
    };
    // The SDK marks the object that it is given: so each client has one of its own.
    expect(await source({ ...credentials })).toBe('code');
    const key = { accessKeyId: account, secretAccessKey: 'test' };
    expect(await source(async () => key)).toBe('instance metadata, or a function in code');
  });
});

test('without credentials it says how to get some, soon, even if nobody answers as instance metadata', async () => {
  const { url } = await serve(() => {});
  const start = performance.now();
  const { code, stderr } = await failure('', { env: { ...own, AWS_EC2_METADATA_SERVICE_ENDPOINT: url } });
  expect(performance.now() - start).toBeLessThan(100_000);
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr:
      'Error: Could not load credentials from any providers\n' +
      'No credentials were found: run `aws configure` or `aws login`, or give --profile; --local needs none.\n',
  });
});

test('half a key names the missing half', async () => {
  const [id, key] = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'];
  settings({
    credentials: [
      `[default]\naws_secret_access_key = ${secret}`,
      `[blank]\naws_access_key_id = AKIA1\naws_secret_access_key =\n`,
    ].join('\n'),
    config: '[profile process]\ncredential_process = false\n',
  });
  const errors = [
    [{ [id]: 'AKIA1' }, `environment: ${id} is set, but ${key} is not: set both`],
    [{ [key]: secret }, `environment: ${key} is set, but ${id} is not: set both`],
    [{}, 'profile default in ~/.aws: aws_secret_access_key is set, but aws_access_key_id is not: set both'],
    [
      { AWS_PROFILE: 'blank', [key]: secret },
      'profile blank in ~/.aws: aws_access_key_id is set, but aws_secret_access_key is not: set both',
    ],
    [{ AWS_PROFILE: 'process' }, 'profile process: its credential_process gives none; run it by hand to see why'],
  ] as const;
  const told = await Promise.all(errors.map(([env]) => failure('', { env: { ...offline, ...env } })));
  expect(told).toEqual(errors.map(([, error]) => ({ code: 1, stderr: `Error: ${error}\n` })));
});

test('a profile that is not there is named, with those that are', async () => {
  const config =
    '[profile dev]\nregion = eu-west-1\n[profile my.own]\nregion = eu-west-1\n[sso-session corp]\nsso_region = eu-west-1\n';
  settings({ config, credentials: '[default]\nregion = eu-west-1\n' });
  expect(await failure('', { env: { ...offline, AWS_PROFILE: 'dve' } })).toEqual({
    code: 1,
    stderr: 'Error: AWS_PROFILE or the client names "dve", which ~/.aws has not; there is dev, my.own, default\n',
  });
  expect(await failure('--profile dve', { env: offline })).toMatchObject({ code: 2 });

  const none = Object.assign(new Error('Could not load credentials'), { name: 'CredentialsProviderError' });
  const sts = new STSClient({ region: 'eu-west-1', profile: 'dve' });
  expect(await explainFailure(none, sts, ec2)).toMatchObject({
    name: 'IncompleteSettings',
    message: expect.stringMatching(/^AWS_PROFILE or the client names "dve", which/),
    cause: none,
  });
});

const sha1 = (text: string) => createHash('sha1').update(text).digest('hex');

test('a session that has ended, or never began, names the command that begins one', async () => {
  const [startUrl, account] = ['https://corp.awsapps.com/start', 'sso_account_id = 123456789012\nsso_role_name = Dev'];
  const ended = JSON.stringify({
    accessToken: secret,
    expiresAt: '2020-01-01T00:00:00Z',
    startUrl,
    region: 'eu-west-1',
  });
  settings({
    config: [
      `[sso-session corp]\nsso_start_url = ${startUrl}\nsso_region = eu-west-1`,
      `[profile sso]\nsso_session = corp\n${account}`,
      `[sso-session other]\nsso_start_url = ${startUrl}/other\nsso_region = eu-west-1`,
      `[profile never]\nsso_session = other\n${account}`,
      `[profile legacy]\nsso_start_url = ${startUrl}\nsso_region = eu-west-1\n${account}`,
      `[profile login]\nlogin_session = arn:aws:iam::123456789012:user/alice`,
      `[sso-session signedout]\nsso_start_url = ${startUrl}\nsso_region = eu-west-1`,
      `[profile revoked]\nsso_session = signedout\n${account}`,
      `[profile role]\nrole_arn = arn:aws:iam::123456789012:role/reader\nsource_profile = sso`,
    ].join('\n'),
    [`sso/cache/${sha1('corp')}.json`]: ended,
    [`sso/cache/${sha1(startUrl)}.json`]: ended,
    [`sso/cache/${sha1('signedout')}.json`]: ended.replace('2020', '2099'),
  });
  // AWS's words for a session that was ended before its time.
  const { url } = await serve((_, response) => {
    response.writeHead(401, { 'x-amzn-errortype': 'UnauthorizedException' });
    response.end('{"message":"Session token not found or invalid"}');
  });
  const env = { ...offline, AWS_ENDPOINT_URL: url };
  const names = ['sso', 'never', 'legacy', 'login', 'revoked', 'role'];
  // What the SDK itself asks for credentials is no request of the recipe's.
  const more = { env, record: undefined };
  const told = await Promise.all(names.map((name) => failure(`--profile ${name}`, more)));
  const error = (name: string, login: string) =>
    `Error: the session of profile ${name} has ended or never began: run \`${login} --profile ${name}\`\n`;
  expect(told).toEqual(
    names.map((name) => ({
      code: 1,
      stderr: error(name === 'role' ? 'sso' : name, name === 'login' ? 'aws login' : 'aws sso login'),
    })),
  );
});

test('a role that may not be assumed: the error stays, and no key is blamed', async () => {
  settings({
    credentials: '[keys]\naws_access_key_id = AKIA1\naws_secret_access_key = 1\n',
    config: `[profile role]\nrole_arn = arn:aws:iam::${account}:role/reader\nsource_profile = keys\n`,
  });
  const { url } = await serve((_, response) => {
    response.writeHead(403, { 'content-type': 'text/xml' });
    const error = '<Code>ExpiredToken</Code><Message>The token is expired.</Message>';
    response.end(`<ErrorResponse><Error><Type>Sender</Type>${error}</Error></ErrorResponse>`);
  });
  const env = { ...offline, AWS_ENDPOINT_URL: url };
  expect(await failure('--profile role', { env, record: undefined })).toEqual({
    code: 1,
    stderr: 'Error: The token is expired.\nThe credentials have expired: log in again.\n',
  });
});

describe.skipIf(!moto)('on moto server, which checks signatures', () => {
  test('a wrong secret, an unknown key and a missing session token are told apart', async () => {
    const server = await startMoto();
    try {
      const at = { ...own, AWS_ENDPOINT_URL: server.url, AWS_ACCESS_KEY_ID: server.accessKeyId };
      const right = { ...at, AWS_SECRET_ACCESS_KEY: server.secretAccessKey };
      expect(await steps('', right)).toMatchObject({ arn: expect.stringContaining(':user/admin') });

      const told = async (options: string, env: object = {}) => {
        const { code, stderr } = await failure(options, { env: { ...at, AWS_SECRET_ACCESS_KEY: secret, ...env } });
        expect(code).toBe(1);
        return stderr.split('\n');
      };
      const [wrong = [], debug = [], unknown = [], half = []] = await Promise.all([
        ...[told(''), told('--debug')],
        ...[told('', { AWS_ACCESS_KEY_ID: 'AKIAGONE' }), told('', { AWS_ACCESS_KEY_ID: 'ASIAHALF' })],
      ]);
      const begin = 'Error: sts:GetCallerIdentity failed:';
      expect(wrong).toEqual([
        `${begin} SignatureDoesNotMatch: the secret access key is not that of the ` +
          `access key ${server.accessKeyId} (from: environment): copy both again`,
        ...['The credentials are wrong, or of another account or partition.', ''],
      ]);
      expect(debug).toContain(wrong[0]);
      expect(unknown[0]).toBe(
        `${begin} InvalidClientTokenId: AWS does not know the access key AKIAGONE (from: environment): ` +
          'it was deleted, made inactive, or is not for this region',
      );
      expect(half[0]).toBe(
        `${begin} InvalidClientTokenId: the access key ASIAHALF (from: environment) is a session's, ` +
          'and its session token is missing',
      );
    } finally {
      await server.stop();
    }
  });
});

/** The settings of somebody whose key works, on LocalStack. */
const whole = { ...own, AWS_ACCESS_KEY_ID: account, AWS_SECRET_ACCESS_KEY: secret };

test.each(['ExpiredToken', 'ExpiredTokenException', 'RequestExpired'])(
  'a session that AWS calls %s is over (the answer is the test’s own)',
  async (name) => {
    const faults = [
      { operation: 'sts:GetCallerIdentity', error: { name, message: 'The security token … is expired' } },
    ];
    const { code, stderr } = await failure('', { env: { ...whole, AWS_CREDENTIAL_EXPIRATION: '2020-01-01' }, faults });
    expect(code).toBe(1);
    expect(stderr).toMatch(/: the session of the access key \d{12} \(from: environment\) is over\n.*log in again/);
  },
);

test.each([
  [-20, 'ahead'],
  [20, 'behind'],
])('a clock that is %i minutes from right is told, and the calls work', async (minutes, words) => {
  // LocalStack, as it would answer with a clock of its own.
  const { url } = await serve((question, response) => {
    const on = request(
      `${endpoint}${question.url}`,
      { method: question.method, headers: question.headers },
      (answer) => {
        const date = new Date(Date.now() + minutes * 60_000).toUTCString();
        response.writeHead(answer.statusCode as number, { ...answer.headers, date });
        answer.pipe(response);
      },
    );
    question.pipe(on);
  });
  const env = { ...whole, AWS_ENDPOINT_URL: url };
  const [people, json] = await Promise.all([run(command, { env }), steps('', env)]);
  expect(people.code).toBe(0);
  expect(people.stdout).toMatch(new RegExp(`^clock offset +20 min ${words}$`, 'm'));
  expect(people.stderr).toBe(
    `This machine's clock is 20 min ${words}. The SDK makes up for it, others don't: set it.\n`,
  );
  expect(Math.abs(json.clockOffset - minutes * 60)).toBeLessThan(10);
});

describe('the region', () => {
  const regionFault = (error: { name: string; message: string }) => [{ operation: 'sts:GetCallerIdentity', error }];
  const noHost = { name: 'Error', message: 'getaddrinfo ENOTFOUND sts.eu-wset-1.amazonaws.com' };
  const noRegion = (name: string) =>
    `Error: "${name}" is no region of your account's partition; the nearest in spelling is eu-west-1\n`;

  test('is missing or empty: it says how to set it', async () => {
    const { AWS_REGION: _, ...none } = whole;
    const more = { AWS_EC2_METADATA_DISABLED: 'true' };
    const [missing, empty] = await Promise.all(
      [none, { ...none, AWS_REGION: '' }].map((env) => failure('', { env: { ...env, ...more } })),
    );
    expect(missing).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^Error: Region is missing\nGive --region/),
    });
    const words = /^Error: Region is missing: a setting names it, but is empty\nGive --region/;
    expect(empty).toMatchObject({ code: 1, stderr: expect.stringMatching(words) });
  });

  test('does not exist: the nearest spelling is told (that the host is not found is the test’s own)', async () => {
    const faults = regionFault(noHost);
    expect(await failure('--region eu-wset-1', { env: whole, faults })).toEqual({
      code: 2,
      stderr: noRegion('eu-wset-1'),
    });
    expect(await failure("--region 'eu west 1'", { env: whole })).toEqual({ code: 2, stderr: noRegion('eu west 1') });
  });

  test('is not enabled: it says so (the answer is the test’s own)', async () => {
    const faults = regionFault({ name: 'InvalidClientTokenId', message: 'The security token included … is invalid' });
    const { code, stderr } = await failure('--region ap-east-1', { env: whole, faults });
    expect(code).toBe(1);
    expect(stderr).toContain("ap-east-1 is not enabled in your account: enable it on the console's account page\n");
  });

  test('is right, but there is no network or no permission to ask: the first error stays', async () => {
    const regions = (error: { name: string; message: string }) => ({ operation: 'ec2:DescribeRegions', error });
    const denied = { name: 'UnauthorizedOperation', message: 'You are not authorized to perform this operation.' };
    for (const why of [noHost, denied]) {
      const faults = [...regionFault(noHost), regions(why)];
      const { code, stderr } = await failure('', { env: whole, faults });
      expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringContaining('ENOTFOUND sts.eu-wset-1') });
    }
  });
});

test('a missing permission is named, and any other error is left as it is', async () => {
  const error = { name: 'UnauthorizedOperation', message: 'You are not authorized to perform this operation.' };
  const faults = [{ operation: 'ec2:DescribeAvailabilityZones', error }];
  const { code, stderr } = await failure('', { env: whole, faults });
  expect(code).toBe(1);
  expect(stderr).toContain('The permission ec2:DescribeAvailabilityZones is missing');
  const strange = new Error('strange');
  const sts = new STSClient({ region: 'eu-west-1', endpoint, credentials });
  expect(await explainFailure(strange, sts, ec2)).toBe(strange);
});

test('a server that is no STS is not taken for one', async () => {
  const faults = [{ operation: 'sts:GetCallerIdentity', output: {} }];
  expect(await failure('', { env: whole, faults })).toEqual({
    code: 1,
    stderr: 'Error: The server does not say whose the credentials are: is it an STS?\n',
  });
});
