import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { EC2Client } from '@aws-sdk/client-ec2';
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { loadSharedConfigFiles } from '@smithy/core/config';
import { expect, onTestFinished, test, vi } from 'vitest';
import { callServices, privateCloud } from '../../recipes/setup/04-private-cloud.ts';
import { testRecipe } from '../harness.ts';
import { temporaryFolder } from '../run.ts';
import { serve } from '../serve.ts';
import { startVersitygw, versitygw } from '../versitygw.ts';

const own = testRecipe(import.meta);
const { run, file } = own;
const localStack = process.env.COOKBOOK_LOCALSTACK as string;
const cloud = { profile: 'my-cloud', ec2: 'https://ec2.example.com:8773/', s3: 'https://s3.example.com' };

/** A HOME with these files in its `.aws`. */
function home(files: Record<string, string> = {}) {
  const { path, remove } = temporaryFolder();
  onTestFinished(remove);
  const paths = { configFile: join(path, '.aws/config'), credentialsFile: join(path, '.aws/credentials') };
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(path, '.aws'), { recursive: true });
    writeFileSync(join(path, '.aws', name), text);
  }
  return { path, ...paths };
}

const mode = (path: string) => (statSync(path).mode & 0o777).toString(8);
const keys = (secret: string, id = 'GATEWAYROOT') =>
  `[my-cloud]\naws_access_key_id = ${id}\naws_secret_access_key = ${secret}\n`;

test('where there is no file yet, it is made for its owner alone; a second time nothing changes', async () => {
  const { configFile, credentialsFile } = home();
  const before = await privateCloud({ ...cloud, configFile, credentialsFile });
  expect(before).toMatchObject({ profile: 'my-cloud', state: 'absent', configFile, credentialsFile });
  expect(existsSync(dirname(configFile))).toBe(false);

  const added = await privateCloud({ ...cloud, write: true, configFile, credentialsFile });
  expect(added).toEqual({ ...before, state: 'added' });
  expect([mode(dirname(configFile)), mode(configFile)]).toEqual(['700', '600']);
  expect(readFileSync(configFile, 'utf8')).toBe(`\n${added.config}\n`);
  expect(existsSync(credentialsFile)).toBe(false);

  expect(await privateCloud({ ...cloud, write: true, configFile, credentialsFile })).toMatchObject({ state: 'there' });
  expect(readFileSync(configFile, 'utf8')).toBe(`\n${added.config}\n`);
});

test.each([
  ['without a last line end', '# mine\r\n[default]\r\nregion = eu-west-1'],
  ['with one', '[profile other]\nregion = eu-west-1\ns3 =\n  addressing_style = path\n'],
])('a file %s keeps its mode and its lines', async (_what, text) => {
  const { configFile, credentialsFile } = home({ config: text, credentials: keys('x').replace('my-cloud', 'other') });
  const credentials = readFileSync(credentialsFile, 'utf8');
  chmodSync(configFile, 0o640);
  // The SDK has read the file before, as a program may that writes the profile later.
  await loadSharedConfigFiles({ configFilepath: configFile });
  const { config } = await privateCloud({ ...cloud, region: 'here', write: true, configFile, credentialsFile });
  expect(readFileSync(configFile, 'utf8')).toBe(`${text}\n${config}\n`);
  expect(mode(configFile)).toBe('640');
  expect(readFileSync(credentialsFile, 'utf8')).toBe(credentials);
  // As other programs read it, from what the SDK holds in memory by now.
  const { configFile: found } = await loadSharedConfigFiles({ configFilepath: configFile });
  expect(found).toMatchObject({
    [text.includes('default') ? 'default' : 'other']: { region: 'eu-west-1' },
    'my-cloud': { region: 'here', endpoint_url: 'https://ec2.example.com:8773', services: 'my-cloud' },
    'services.my-cloud': {
      'ec2.endpoint_url': 'https://ec2.example.com:8773',
      's3.endpoint_url': 'https://s3.example.com',
    },
  });
});

test.each([
  ['an address of its own', '[profile my-cloud]\nendpoint_url = https://user:password@other.example.com\n', ''],
  ['its name in quotes', '[profile "my-cloud"]\nregion = us-east-1\n', ''],
  ['services of this name', '[services my-cloud]\ns3 =\n  endpoint_url = https://s3.example.com\n', ''],
  ['keys of this name, AWS’s perhaps', '', keys('AWS-secret')],
])('a name is refused that has %s, and nothing is written', async (_what, config, credentials) => {
  const { path, configFile } = home({ config, credentials });
  const { code, stdout, stderr } = await run(`npx tsx ${file} my-cloud --s3 https://s3.example.com --write`, {
    cwd: path,
  });
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toMatch(/^Error: "my-cloud" is in .*\.aws\/(config|credentials) already.*: take another name\n$/);
  expect(stderr).not.toMatch(/password|AWS-secret/);
  expect(readFileSync(configFile, 'utf8')).toBe(config);
});

test('the variables name files as they do for the SDK: ~/ is the home folder, and nothing is not set', async () => {
  const { path, credentialsFile } = home({ credentials: keys('x').replace('my-cloud', 'other') });
  const env = { AWS_CONFIG_FILE: '~/own/config', AWS_SHARED_CREDENTIALS_FILE: '' };
  const command = `npx tsx ${file} my-cloud --s3 https://s3.example.com --write --json`;
  const { code, stdout, stderr } = await run(command, { cwd: path, env });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(JSON.parse(stdout)).toMatchObject({ state: 'added', configFile: join(path, 'own/config'), credentialsFile });
  expect(readFileSync(join(path, 'own/config'), 'utf8')).toContain('[profile my-cloud]');
  expect(existsSync(join(path, '~'))).toBe(false);
});

test('a profile with one setting changed is another one', async () => {
  const { configFile, credentialsFile } = home();
  const settings = { ...cloud, configFile, credentialsFile };
  const { config } = await privateCloud(settings);
  for (const [from, to, what] of [
    ['region = us-east-1', 'region = x', 'region'],
    ['= https://s3.example.com', '= https://s4.example.com', 's3.endpoint_url'],
    ['services = my-cloud', 'services = other', 'services'],
    ['request_checksum_calculation = when_required\n', '', 'request_checksum_calculation'],
    ['region', 'ignore_configured_endpoint_urls = true\nregion', 'ignore_configured_endpoint_urls'],
  ] as const) {
    mkdirSync(dirname(configFile), { recursive: true });
    writeFileSync(configFile, config.replace(from, to));
    await expect(privateCloud(settings), what).rejects.toThrow(`with another ${what}: take`);
  }
  // Lines of the reader's own don't matter, nor how the file is spaced.
  writeFileSync(configFile, config.replace('region = ', 'output=json\n credential_process = x\nregion='));
  expect(await privateCloud(settings)).toMatchObject({ state: 'there', credentials: null });
});

test('one service is enough; others go to the same address, never to AWS', async () => {
  const { configFile, credentialsFile } = home();
  const { config } = await privateCloud({ profile: 'x', s3: 'http://[::1]:9000/s3/', configFile, credentialsFile });
  expect(config.match(/.*endpoint_url.*/g)).toEqual([
    'endpoint_url = http://[::1]:9000/s3',
    '  endpoint_url = http://[::1]:9000/s3',
  ]);
  expect(config).not.toContain('ec2');
});

test.each([
  [{ profile: 'default' }, /not "default"/],
  [{ profile: 'my cloud' }, /letters, digits/],
  [{ profile: 'a]\n[profile b' }, /letters, digits/],
  // The recipes' --profile takes a name with a dot for a section of another kind.
  [{ profile: 'a.b' }, /letters, digits/],
  [{ profile: '' }, /letters, digits/],
  [{ region: 'x\ny' }, /region/],
  [{ s3: undefined, ec2: undefined }, /of EC2, of S3 or of both/],
  [{ s3: 's3.example.com' }, /give an endpoint/],
  [{ s3: '' }, /give an endpoint/],
  [{ ec2: 'ftp://s3.example.com' }, /give an endpoint/],
  [{ s3: 'https://user:secret@s3.example.com' }, /^(?!.*secret).*without a user/],
  [{ s3: 'https://s3.example.com/?key=secret' }, /^(?!.*secret).*or a query/],
])('%j is refused, and nothing is written', async (bad, message) => {
  const { configFile, credentialsFile } = home();
  const attempt = privateCloud({ ...cloud, ...bad, write: true, configFile, credentialsFile });
  await expect(attempt).rejects.toThrow(RangeError);
  await expect(attempt).rejects.toThrow(message);
  expect(existsSync(configFile)).toBe(false);
});

test('what is no file is named', async () => {
  const { path, credentialsFile } = home();
  const attempt = privateCloud({ ...cloud, write: true, configFile: path, credentialsFile });
  await expect(attempt).rejects.toThrow(new RegExp(`^EISDIR: .*${path}`));
});

test('what beats a profile is refused, since nothing would go to the cloud', async () => {
  const { path } = home();
  const command = `npx tsx ${file} my-cloud --s3 http://127.0.0.1:9 --write`;
  const results = await Promise.all([
    run(command, { cwd: path, env: { AWS_ENDPOINT_URL_S3: 'http://127.0.0.1:8' } }),
    run(command, { cwd: path, env: { AWS_IGNORE_CONFIGURED_ENDPOINT_URLS: 'true' } }),
    run(`${command} --endpoint-url http://127.0.0.1:8`, { cwd: path }),
    run(`${command} --local`, { cwd: path }),
  ]);
  for (const { code, stdout, stderr } of results) {
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/^Error: AWS_\w+ beats every profile: unset it/);
  }
  expect(existsSync(join(path, '.aws'))).toBe(false);
});

test('a client goes there when AWS_PROFILE names the profile, and to AWS when only its own setting does', async () => {
  const { configFile, credentialsFile } = home();
  await privateCloud({ ...cloud, region: 'here', write: true, configFile, credentialsFile });
  writeFileSync(credentialsFile, keys('secret'));
  expect(await privateCloud({ ...cloud, region: 'here', configFile, credentialsFile })).toMatchObject({
    state: 'there',
    credentials: null,
  });
  vi.stubEnv('AWS_CONFIG_FILE', configFile);
  vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', credentialsFile);
  // Other keys beside AWS_PROFILE: not taken, but warned of.
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'OTHER');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'other');
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
  onTestFinished(() => void vi.unstubAllEnvs().restoreAllMocks());
  const send = async (settings: { profile?: string }) => {
    const client = new S3Client({ ...settings, forcePathStyle: true });
    let sent: { hostname: string; headers: Record<string, string> } | undefined;
    client.middlewareStack.add(
      () => async (args) => {
        sent = args.request as typeof sent;
        throw new Error('seen');
      },
      { step: 'deserialize', priority: 'low' },
    );
    await client.send(new PutObjectCommand({ Bucket: 'b', Key: 'k', Body: 'x' })).catch(() => {});
    return sent;
  };
  const own = await send({ profile: 'my-cloud' });
  expect(own?.hostname).toBe('s3.here.amazonaws.com');
  vi.stubEnv('AWS_PROFILE', 'my-cloud');
  const named = await send({});
  expect(named?.hostname).toBe('s3.example.com');
  expect(named?.headers.authorization).toMatch(/Credential=GATEWAYROOT\/\d+\/here\/s3\//);
  expect(warn.mock.calls.flat().join()).toMatch(/Multiple credential sources.*future version may change/s);
  expect(Object.keys(named?.headers ?? {}).filter((name) => name.includes('checksum'))).toEqual([]);
});

test('once keys are there each service is called, and told apart from a web page and a closed port', async () => {
  const { url } = await serve((_request, response) => response.end('<html><body>Welcome</body></html>'));
  const call = async (where: string, json = '') => {
    const { path, configFile } = home();
    const command = `npx tsx ${file} my-cloud ${where}`;
    expect(await run(`${command} --write`, { cwd: path })).toMatchObject({ code: 0, stderr: '' });
    // Not called as long as there are no keys, whatever is in the environment.
    expect((await run(command, { cwd: path, env: { AWS_SECRET_ACCESS_KEY: 'other' } })).stdout).toContain(
      'YOUR_KEY_ID',
    );
    writeFileSync(join(path, '.aws/credentials'), keys('the-secret', '123456789012'));
    const { mtimeMs } = statSync(configFile);
    const result = await run(`${command} --write ${json}`, { cwd: path });
    expect(statSync(configFile).mtimeMs).toBe(mtimeMs);
    expect(`${result.stdout}${result.stderr}`).not.toContain('the-secret');
    return result;
  };
  const [region, good, page, mixed] = await Promise.all([
    run(`npx tsx ${file} my-cloud --s3 ${url}`, { cwd: home().path, env: { AWS_REGION: 'here' } }),
    call(`--ec2 ${localStack} --s3 ${localStack}`, '--json'),
    call(`--ec2 ${url} --s3 ${url}`),
    call(`--ec2 http://127.0.0.1:1 --s3 ${localStack}`),
  ]);
  expect(region).toMatchObject({ code: 0, stdout: expect.stringContaining('\nregion = here\n') });
  expect(good).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(good.stdout)).toMatchObject({
    state: 'there',
    credentials: null,
    calls: [
      { service: 'ec2', works: true, answer: expect.stringMatching(/^regions: \d+$/) },
      { service: 's3', works: true, answer: expect.stringMatching(/^buckets: \d+$/) },
    ],
  });
  expect(page).toMatchObject({ code: 1, stderr: expect.stringContaining('1.13 looks closer') });
  expect(page.stdout).toMatch(/ec2 +no +an answer, but not of EC2\ns3 +no +an answer, but not of S3\n/);
  expect(mixed).toMatchObject({ code: 1 });
  expect(mixed.stdout).toMatch(/ec2 +no +\w*Error: connect ECONNREFUSED 127\.0\.0\.1:1\ns3 +yes +buckets: \d+\n/);
});

test('a service that denies the call is there and knows the keys; one that does not know them does not work', async () => {
  const called = async (codes: { ec2: string; s3: string }) => {
    const { url } = await serve((request, response) => {
      const [service, open, close] =
        request.method === 'POST'
          ? (['ec2', '<Response><Errors>', '</Errors></Response>'] as const)
          : (['s3', '', ''] as const);
      response.writeHead(403).end(`${open}<Error><Code>${codes[service]}</Code><Message>m</Message></Error>${close}`);
    });
    const credentials = { accessKeyId: 'key', secretAccessKey: 'secret' };
    const settings = { endpoint: url, region: 'here', credentials, maxAttempts: 1 };
    return callServices({ ec2: new EC2Client(settings), s3: new S3Client(settings) });
  };
  expect(await called({ ec2: 'UnauthorizedOperation', s3: 'AccessDenied' })).toEqual([
    { service: 'ec2', works: true, answer: 'UnauthorizedOperation: m' },
    { service: 's3', works: true, answer: 'AccessDenied: m' },
  ]);
  expect(await called({ ec2: 'AuthFailure', s3: 'InvalidAccessKeyId' })).toMatchObject([
    { works: false },
    { works: false },
  ]);
});

test.skipIf(!versitygw)(
  'recipes run unchanged on two servers by --profile alone, with the profile’s keys',
  async () => {
    const server = await startVersitygw();
    onTestFinished(server.stop);
    const { path } = home();
    const elsewhere = { cwd: path, record: undefined };
    const command = `npx tsx ${file} my-cloud --ec2 ${localStack} --s3 ${server.url}`;
    await run(`${command} --write`, { cwd: path });
    writeFileSync(join(path, '.aws/credentials'), keys('wrong-secret'));
    const refused = await run(command, { cwd: path });
    expect(refused).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/ec2 +yes.*\ns3 +no +SignatureDoesNotMatch: /),
    });
    expect(refused.stdout).not.toContain('wrong-secret');

    writeFileSync(join(path, '.aws/credentials'), keys(server.secretAccessKey, server.accessKeyId));
    expect(await run(command, { cwd: path })).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/s3 +yes +buckets: 0/),
    });

    const recipe = (rest: string) => run(`npx tsx recipes/${rest} --profile my-cloud --json`, elsewhere);
    const created = await recipe('s3/01-create-bucket.ts paws-example');
    expect(created).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(created.stdout)).toEqual({ bucket: 'paws-example', region: 'us-east-1', created: true });
    const credentials = { accessKeyId: server.accessKeyId, secretAccessKey: server.secretAccessKey };
    const client = new S3Client({ endpoint: server.url, region: 'us-east-1', credentials, forcePathStyle: true });
    const { bucket } = own;
    for (const Key of ['a', 'b']) await client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: 'x' }));
    const emptied = await recipe('s3/28-empty-bucket.ts s3://paws-example --yes');
    expect(emptied).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(emptied.stdout)).toMatchObject({ bucket: 'paws-example', versions: 2, kept: 0, empty: true });

    // Which asks SSM too: that has no address of its own, and goes where EC2 is.
    const regions = await recipe('setup/06-find-regions.ts');
    expect(regions).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(regions.stdout).length).toBeGreaterThan(10);
  },
);
