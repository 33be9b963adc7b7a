import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DescribeAvailabilityZonesCommand, DescribeRegionsCommand, EC2Client } from '@aws-sdk/client-ec2';
import { GetParameterCommand, SSMClient } from '@aws-sdk/client-ssm';
import { afterAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { findDefaultRegion, findRegions, type Region } from '../../recipes/setup/06-find-regions.ts';
import { testRecipe } from '../harness.ts';
import { temporaryFolder } from '../run.ts';
import { serve } from '../serve.ts';

const { account, run, file, ec2 } = testRecipe(import.meta);
const command = `npx tsx ${file}`;
const localStack = process.env.COOKBOOK_LOCALSTACK as string;
const credentials = { accessKeyId: account, secretAccessKey: 'test' };
/** A reader's own settings, which lead to LocalStack without --local. */
const own = {
  AWS_ENDPOINT_URL: localStack,
  AWS_SECRET_ACCESS_KEY: 'test',
  AWS_EC2_METADATA_DISABLED: 'true',
};

/** The rows that a run printed as JSON. */
async function list(options: string, settings: Parameters<typeof run>[1] = {}) {
  const { code, stdout, stderr } = await run(`${command} --json ${options}`, settings);
  expect(code, stderr).toBe(0);
  return { regions: [JSON.parse(stdout)].flat() as Region[], stderr };
}

/** The operations that a run sent. */
async function sent(options: string, settings: Parameters<typeof run>[1] = {}) {
  const { path, remove } = temporaryFolder();
  onTestFinished(remove);
  const record = join(path, 'sent');
  const result = await run(`${command} ${options}`, { ...settings, record });
  const lines = existsSync(record) ? readFileSync(record, 'utf8').trim().split('\n') : [];
  return { ...result, sent: lines.map((line) => JSON.parse(line)) };
}

test('all regions are listed once, sorted, with the names that people know', async () => {
  const { Regions = [] } = await ec2().send(new DescribeRegionsCommand({ AllRegions: true }));
  const { regions, stderr } = await list('--local');
  expect(regions.map(({ region }) => region)).toEqual(Regions.map(({ RegionName }) => RegionName).sort());
  expect(regions).toHaveLength(38);
  expect(regions.filter(({ name }) => !name)).toEqual([]);
  const ssm = new SSMClient({ region: 'us-west-2', endpoint: localStack, credentials });
  for (const { region, name } of regions) {
    const Name = `/aws/service/global-infrastructure/regions/${region}/longName`;
    const { Parameter } = await ssm.send(new GetParameterCommand({ Name }));
    expect(name, region).toBe(Parameter?.Value);
  }
  expect(stderr).toBe('');
});

test('regions that are not enabled are asked for and told apart', async () => {
  // LocalStack lists them even if they are not asked for.
  const { sent: calls } = await sent('--local');
  expect(calls[0]).toMatchObject({ operation: 'ec2:DescribeRegions', input: { AllRegions: true } });

  const { Regions = [] } = await ec2().send(new DescribeRegionsCommand({ AllRegions: true }));
  const { regions } = await list('--local');
  const disabled = regions.filter(({ state }) => state === 'disabled').map(({ region }) => region);
  const optIn = Regions.filter(({ OptInStatus }) => OptInStatus === 'not-opted-in');
  expect(disabled).toEqual(optIn.map(({ RegionName }) => RegionName).sort());
  expect(disabled).toContain('ap-east-1');
  expect(regions.filter(({ state }) => state === 'enabled')).toHaveLength(38 - disabled.length);
});

test('a region that was opted in to is told apart too (the answer is the test’s own)', async () => {
  const output = {
    Regions: [
      { RegionName: 'me-south-1', OptInStatus: 'opted-in' },
      { RegionName: 'eu-west-1', OptInStatus: 'opt-in-not-required' },
      { RegionName: 'ap-east-1', OptInStatus: 'not-opted-in' },
      { RegionName: 'private-1' },
      { RegionName: 'private-2', OptInStatus: 'opting-in' },
    ],
  };
  const { regions } = await list('--zones --local', {
    faults: [{ operation: 'ec2:DescribeRegions', output }],
  });
  expect(regions.map(({ region, name, state }) => [region, name, state])).toEqual([
    ['ap-east-1', 'Asia Pacific (Hong Kong)', 'disabled'],
    ['eu-west-1', 'Europe (Ireland)', 'enabled'],
    ['me-south-1', 'Middle East (Bahrain)', 'opted in'],
    ['private-1', null, 'unknown'],
    ['private-2', null, 'unknown'],
  ]);
  expect(regions.map(({ zones }) => zones?.length)).toEqual([undefined, 3, 3, expect.any(Number), expect.any(Number)]);
});

test('zones are those that each region names itself; a region that is not enabled is not asked', async () => {
  const { sent: calls, stdout } = await sent('--zones --json --local');
  const regions: Region[] = JSON.parse(stdout);
  for (const { region, state, zones } of regions) {
    const { AvailabilityZones = [] } = await ec2(region).send(new DescribeAvailabilityZonesCommand({}));
    const names = AvailabilityZones.map(({ ZoneName }) => ZoneName).sort();
    expect(zones, region).toEqual(state === 'disabled' ? null : names);
  }
  const asked = calls.filter(({ operation }) => operation === 'ec2:DescribeAvailabilityZones');
  expect(asked).toHaveLength(regions.filter(({ state }) => state !== 'disabled').length);

  const table = await run(`${command} --zones --local`);
  expect(table.stdout).toMatch(/^us-east-1 +US East \(N\. Virginia\) +enabled +--local +6$/m);
  expect(table.stdout).toMatch(/^ap-east-1 +Asia Pacific \(Hong Kong\) +disabled +- +-$/m);
});

test('names are asked for ten at a time', async () => {
  const { sent: calls } = await sent('--local');
  const batches = calls
    .filter(({ operation }) => operation === 'ssm:GetParameters')
    .map(({ input }) => input.Names as string[]);
  expect(batches.map(({ length }) => length)).toEqual([10, 10, 10, 8]);
  expect(new Set(batches.flat()).size).toBe(38);
  expect(calls.map(({ operation }) => operation)).not.toContain('ec2:DescribeAvailabilityZones');
});

test('one region is asked for alone', async () => {
  const { sent: calls, stdout } = await sent('sa-east-1 --zones --json --local');
  expect(JSON.parse(stdout)).toMatchObject({ region: 'sa-east-1', name: 'South America (Sao Paulo)' });
  expect(calls).toHaveLength(3);
  expect(calls[1].input.Names).toHaveLength(1);
});

test('a pipe gets plain text, and --json one document', async () => {
  const { stdout } = await run(`${command} --local`);
  expect(stdout.trimEnd().split('\n')).toHaveLength(39);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that there is none is the point
  expect(stdout).not.toMatch(/\x1b|undefined|null/);
});

test('an unknown region is refused with the nearest spelling', async () => {
  const { code, stdout, stderr } = await run(`${command} eu-wset-1 --local`);
  expect({ code, stdout, stderr }).toEqual({
    code: 2,
    stdout: '',
    stderr: 'Error: "eu-wset-1" is no region of your account\'s partition; the nearest in spelling is eu-west-1\n',
  });
});

test('a region of another partition is not called a misspelling (the answer is the test’s own)', async () => {
  const output = { Regions: [{ RegionName: 'eu-north-1', OptInStatus: 'opt-in-not-required' }] };
  const faults = [{ operation: 'ec2:DescribeRegions', output }];
  const { code, stderr } = await run(`${command} cn-north-1 --local`, { faults });
  const says = '"cn-north-1" is no region of your account\'s partition; the nearest in spelling is eu-north-1';
  expect({ code, stderr }).toEqual({ code: 2, stderr: `Error: ${says}\n` });
});

test.each([
  ['EU-WEST-1', '; the nearest in spelling is eu-west-1'],
  ['eu-west-1a', '; the nearest in spelling is eu-west-1'],
  ['useast1', '; the nearest in spelling is us-east-1'],
  ['eu_central_2', '; the nearest in spelling is eu-central-2'],
  ['us-east', '; the nearest in spelling is us-east-1'],
  ['europe-west-1', '; the nearest in spelling is eu-west-1'],
  ['p-southeast-7', '; the nearest in spelling is ap-southeast-7'],
  ['frankfurt', ''],
  ['x'.repeat(10_000), ''],
])('%.20s is refused', async (region, nearest) => {
  const before = performance.now();
  await expect(findRegions(ec2, { region })).rejects.toThrow(
    new RangeError(`"${region}" is no region of your account's partition${nearest}`),
  );
  // A word of any length is compared in no time.
  expect(performance.now() - before).toBeLessThan(60_000);
});

test('names that may not be read are missing, and said so', async () => {
  const error = { name: 'AccessDeniedException', message: 'not authorized to perform: ssm:GetParameters' };
  const faults = [{ operation: 'ssm:GetParameters', after: 2, error }];
  const { regions, stderr } = await list('--local', { faults });
  expect(regions).toHaveLength(38);
  expect(regions.filter(({ name }) => name !== null)).toEqual([]);
  expect(stderr).toBe("The names can't be read: AccessDeniedException: not authorized to perform: ssm:GetParameters\n");
});

test('a region whose zones can’t be read is reported, the others are right', async () => {
  const error = {
    name: 'UnauthorizedOperation',
    message: 'You are not authorized to perform this operation.',
  };
  const faults = [{ operation: 'ec2:DescribeAvailabilityZones', after: 1, times: 1, error }];
  const { regions, stderr } = await list('--zones --local', { faults });
  expect(regions).toHaveLength(38);
  const failed = regions.filter(({ state, zones }) => state !== 'disabled' && zones === null);
  expect(failed).toMatchObject([{ region: 'ap-northeast-1', name: 'Asia Pacific (Tokyo)' }]);
  expect(stderr).toBe(
    "The zones of ap-northeast-1 can't be read: UnauthorizedOperation: You are not authorized to perform this operation.\n",
  );
});

test('if the list is denied, that is an error', async () => {
  const error = {
    name: 'UnauthorizedOperation',
    message: 'You are not authorized to perform this operation.',
  };
  const result = await sent('--region eu-west-1 --local', {
    faults: [{ operation: 'ec2:DescribeRegions', error }],
  });
  expect(result).toMatchObject({ code: 1, stdout: '' });
  expect(result.stderr).toContain('ec2:DescribeRegions failed: UnauthorizedOperation');
  expect(result.sent).toHaveLength(1);
});

describe('the default region', () => {
  const { path: home, remove } = temporaryFolder();
  afterAll(remove);
  mkdirSync(join(home, '.aws'));
  writeFileSync(
    join(home, '.aws', 'config'),
    '[default]\nregion = eu-central-1\n[profile work]\nregion = eu-west-3\n[profile both]\nregion = eu-west-2\n[profile none]\n',
  );
  const keys = `aws_access_key_id = ${account}\naws_secret_access_key = test\n`;
  writeFileSync(
    join(home, '.aws', 'credentials'),
    `[default]\n${keys}[both]\n${keys}region = us-west-1\n[work]\n${keys}[none]\n${keys}`,
  );

  /** What the recipe finds in this environment, with what it says, and what a stock client takes. */
  async function inEnvironment(env: Record<string, string>) {
    vi.stubEnv('HOME', home);
    for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) vi.stubEnv(name, undefined);
    vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true');
    for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
    onTestFinished(() => void vi.unstubAllEnvs());
    const said: string[] = [];
    const found = await findDefaultRegion({ onProblem: (text) => said.push(text) });
    const stock = new EC2Client({}).config.region().catch((error: Error) => error.message);
    return { found, said, stock: await stock };
  }

  test.each<[string, string, Record<string, string>]>([
    ['AWS_REGION', 'us-west-2', { AWS_REGION: 'us-west-2', AWS_PROFILE: 'both' }],
    ['config', 'eu-central-1', {}],
    ['config', 'eu-central-1', { AWS_PROFILE: '' }],
    ['config', 'eu-west-3', { AWS_PROFILE: 'work' }],
    ['credentials', 'us-west-1', { AWS_PROFILE: 'both' }],
  ])('comes from %s: %s', async (by, region, env) => {
    expect(await inEnvironment(env)).toEqual({ found: { region, by }, said: [], stock: region });
  });

  // The SDK gives it a second, once.
  test('comes from the instance that the code runs on, as its metadata service has it', { retry: 3 }, async () => {
    const { url } = await serve((request, response) => {
      const token = request.headers['x-aws-ec2-metadata-token'];
      if (request.method === 'PUT') response.end('token');
      else response.writeHead(token === 'token' ? 200 : 401).end('ap-south-1');
    });
    const service = { AWS_EC2_METADATA_SERVICE_ENDPOINT: url, AWS_EC2_METADATA_DISABLED: '' };
    const found = { region: 'ap-south-1', by: 'metadata' };
    const result = await inEnvironment({ ...service, AWS_PROFILE: 'none' });
    expect(result).toEqual({ found, said: [], stock: 'ap-south-1' });
  });

  test('is none where clients have none', async () => {
    const none = { region: null, by: null };
    expect(await inEnvironment({ AWS_PROFILE: 'none' })).toEqual({
      found: none,
      said: [],
      stock: 'Region is missing',
    });
    expect(await inEnvironment({ AWS_PROFILE: 'none', AWS_DEFAULT_REGION: 'eu-west-3' })).toEqual({
      found: none,
      said: ['AWS_DEFAULT_REGION is eu-west-3, but this SDK reads AWS_REGION.'],
      stock: 'Region is missing',
    });
    expect(await inEnvironment({ AWS_REGION: '', AWS_PROFILE: 'both' })).toEqual({
      found: none,
      said: ['The region by AWS_REGION is empty, which makes clients throw: unset it or name one.'],
      stock: expect.stringContaining('region="" is not a valid'),
    });
  });

  test('is compared with AWS_DEFAULT_REGION, whichever setting it comes from', async () => {
    const same = { AWS_PROFILE: 'work', AWS_DEFAULT_REGION: 'eu-west-3' };
    expect(await inEnvironment(same)).toMatchObject({ found: { region: 'eu-west-3', by: 'config' }, said: [] });
    const other = { AWS_PROFILE: 'work', AWS_DEFAULT_REGION: 'us-west-2' };
    expect((await inEnvironment(other)).said).toHaveLength(1);
    // What is told must not be taken for a setting that is not there.
    const onProblem = () => {
      throw new Error('told');
    };
    await expect(findDefaultRegion({ onProblem })).rejects.toThrow('told');
  });

  // With keys beside AWS_PROFILE, the SDK warns: here they are in the profiles.
  const profiles = { AWS_ENDPOINT_URL: localStack, AWS_EC2_METADATA_DISABLED: 'true', HOME: home };

  test.each<[string, string, string, Record<string, string>]>([
    ['config', 'eu-west-3', '--profile work', {}],
    ['--region', 'sa-east-1', '--region sa-east-1', { AWS_REGION: 'us-west-2' }],
    ['--region', 'sa-east-1', '--region sa-east-1 --local', {}],
    ['--local', 'us-east-1', '--local', { AWS_REGION: 'us-west-2' }],
  ])('is marked with %s: %s %s', async (by, region, options, env) => {
    const { regions, stderr } = await list(options, { env: { ...profiles, ...env } });
    expect(regions.filter(({ defaultBy }) => defaultBy !== null)).toMatchObject([{ region, defaultBy: by }]);
    expect(stderr).toBe('');
  });

  test.each([undefined, ''])('is missing with AWS_REGION %o, which is said', async (AWS_REGION) => {
    const env = { ...own, ...(AWS_REGION !== undefined && { AWS_REGION }) };
    const { regions, stderr } = await list('', { env });
    expect(regions).toHaveLength(38);
    expect(regions.filter(({ defaultBy }) => defaultBy !== null)).toEqual([]);
    const empty = 'The region by AWS_REGION is empty, which makes clients throw: unset it or name one.\n';
    const none = 'No region is set, so us-east-1 is asked: set AWS_REGION, or `region` in ~/.aws/config.\n';
    expect(stderr).toBe(AWS_REGION === '' ? empty + none : none);
  });

  test('is not taken from AWS_DEFAULT_REGION, which is said unless it names the same', async () => {
    const other = { AWS_REGION: 'eu-west-1', AWS_DEFAULT_REGION: 'us-west-2' };
    const differs = await list('', { env: { ...own, ...other } });
    expect(differs.regions.filter(({ defaultBy }) => defaultBy)).toMatchObject([{ region: 'eu-west-1' }]);
    expect(differs.stderr).toBe('AWS_DEFAULT_REGION is us-west-2, but this SDK reads AWS_REGION.\n');
    const same = { AWS_REGION: 'eu-west-1', AWS_DEFAULT_REGION: 'eu-west-1' };
    expect(await list('', { env: { ...own, ...same } })).toMatchObject({ stderr: '' });
  });

  test('may be misspelt or not enabled: us-east-1 is asked, and the nearest in spelling said', async () => {
    // What EC2 answers is the test's own: a region that does not exist has no host, one not enabled no keys.
    const error = { name: 'AuthFailure', message: 'AWS was not able to validate the provided access credentials' };
    const faults = [{ operation: 'ec2:DescribeRegions', times: 1, error }];
    const disabled = await list('', { env: { ...own, AWS_REGION: 'ap-east-1' }, faults });
    expect(disabled.regions).toHaveLength(38);
    const marked = disabled.regions.filter(({ defaultBy }) => defaultBy !== null);
    expect(marked).toMatchObject([{ region: 'ap-east-1', state: 'disabled' }]);
    expect(disabled.stderr).toBe('');

    const said: string[] = [];
    const settings = { onProblem: (text: string) => said.push(text) };
    const misspelt = { region: 'eu-wset-1', by: 'AWS_REGION' };
    const regions = await findRegions(failing(noHost, ec2), { ...settings, defaultRegion: misspelt });
    expect(regions).toHaveLength(38);
    expect(regions.filter(({ defaultBy }) => defaultBy !== null)).toEqual([]);
    const nearest = 'the nearest in spelling is eu-west-1';
    expect(said).toEqual([`AWS_REGION: "eu-wset-1" is no region of your account's partition; ${nearest}`]);
  });

  const noHost = Object.assign(new Error('getaddrinfo ENOTFOUND ec2.example'), { code: 'ENOTFOUND' });

  /** Makes clients the first of which ends with this error, the others by `then`. */
  function failing(error: Error, then: (region: string) => EC2Client) {
    let first = true;
    return (region: string) => {
      if (!first) return then(region);
      first = false;
      const requestHandler = { handle: () => Promise.reject(error) };
      return new EC2Client({ region, credentials, maxAttempts: 1, requestHandler });
    };
  }

  test('is not the reason if us-east-1 fails too: the first error is thrown', async () => {
    const defaultRegion = { region: 'cn-nroth-1', by: 'AWS_REGION' };
    const second = failing(Object.assign(new Error('second'), { name: 'AuthFailure' }), ec2);
    await expect(findRegions(failing(noHost, second), { defaultRegion })).rejects.toBe(noHost);

    // Other errors that only speak of the like are not taken for it.
    const other = new Error('not authorized: AuthFailure, ENOTFOUND, Region not accepted');
    await expect(findRegions(failing(other, ec2), { defaultRegion })).rejects.toBe(other);

    // An abort in the second call is an abort.
    const stop = new AbortController();
    const aborting = (region: string) => {
      stop.abort(new Error('enough'));
      return ec2(region);
    };
    const options = { defaultRegion, signal: stop.signal };
    await expect(findRegions(failing(noHost, aborting), options)).rejects.toThrow('enough');
  });

  test('decides where the list is asked for', async () => {
    const asked: string[] = [];
    const clientFor = (region: string) => {
      asked.push(region);
      return ec2(region);
    };
    const defaultRegion = { region: 'eu-north-1', by: 'AWS_REGION' };
    expect(await findRegions(clientFor, { defaultRegion })).toContainEqual(
      expect.objectContaining({ region: 'eu-north-1', defaultBy: 'AWS_REGION', name: null, zones: null }),
    );
    await findRegions(clientFor);
    await findRegions(clientFor, { defaultRegion: { region: null, by: null } });
    expect(asked).toEqual(['eu-north-1', 'us-east-1', 'us-east-1']);
  });

  test('is asked for even when it can’t be part of a host name', async () => {
    const { regions, stderr } = await list('', { env: { ...own, AWS_REGION: 'eu west 1' } });
    expect(regions).toHaveLength(38);
    expect(stderr).toContain('AWS_REGION: "eu west 1" is no region of your account');
  });
});

test('--ping is refused with --local, and nothing is sent', async () => {
  expect(await sent('--ping --local')).toEqual({
    code: 2,
    stdout: '',
    stderr: 'Error: --ping measures the way to AWS: not with --local\n',
    sent: [],
  });
});

test('--ping asks each region’s EC2 at AWS, and shows the times that there are', async () => {
  const { code, stdout, stderr } = await run(`${command} --ping`, {
    env: { ...own, AWS_REGION: 'us-east-1' },
  });
  // The tests refuse the connections, and say so. So there is no time.
  const hosts = [...stderr.matchAll(/^REFUSED BY THE TESTS: a connection to (\S+)$/gm)].map(([, host]) => host);
  expect(hosts).toHaveLength(38);
  expect(hosts).toEqual(expect.arrayContaining(['ec2.eu-west-1.amazonaws.com', 'ec2.cn-north-1.amazonaws.com.cn']));
  expect(code).toBe(0);
  expect(stdout).toMatch(/^region .* default by +latency$/m);
  expect(stdout).toMatch(/^eu-west-1 .* -$/m);
});

test('one signal serves all requests, without a warning, and ends them for its reason', async () => {
  const warned = vi.fn();
  process.on('warning', warned);
  onTestFinished(() => void process.off('warning', warned));
  const ssm = new SSMClient({ region: 'us-east-1', endpoint: localStack, credentials });
  const stop = new AbortController();
  const options = { ssm, zones: true, signal: stop.signal };
  expect(await findRegions(ec2, options)).toHaveLength(38);
  await new Promise((done) => setTimeout(done, 10));
  expect(warned).not.toHaveBeenCalled();

  const problems = vi.fn();
  const slow = await serve(() => {});
  const stalled = (name: string) => new EC2Client({ region: name, endpoint: slow.url, credentials });
  const finding = findRegions(stalled, { ...options, onProblem: problems });
  setTimeout(() => stop.abort(new Error('enough')), 100);
  await expect(finding).rejects.toMatchObject({ name: 'AbortError' });
  await expect(findRegions(ec2, options)).rejects.toMatchObject({ name: 'AbortError' });
  expect(problems).not.toHaveBeenCalled();
});

test('an abort while zones are asked for is not taken for a region that failed', async () => {
  const stop = new AbortController();
  const slow = await serve(() => setTimeout(() => stop.abort(new Error('enough')), 100));
  const problems = vi.fn();
  let first = true;
  const clientFor = (name: string) => {
    if (!first) return new EC2Client({ region: name, endpoint: slow.url, credentials });
    first = false;
    return ec2(name);
  };
  const finding = findRegions(clientFor, { zones: true, signal: stop.signal, onProblem: problems });
  await expect(finding).rejects.toThrow('enough');
  expect(problems).not.toHaveBeenCalled();
});
