import { mkdirSync, writeFileSync } from 'node:fs';
import {
  CreateTagsCommand,
  EC2Client,
  type EC2ClientConfig,
  RunInstancesCommand,
  StopInstancesCommand,
} from '@aws-sdk/client-ec2';
import { afterEach, expect, test, vi } from 'vitest';
import {
  type ClientSettings,
  type FoundInstance,
  findEndpoint,
  findRunningInstances,
  type NotAsked,
} from '../../recipes/ec2/11-find-running-instances.ts';
import { findEnabledRegions } from '../../recipes/setup/14-find-tagged.ts';
import { testRecipe } from '../harness.ts';
import { regionProxy, type Treatment } from '../regions.ts';

const { run, file, folder, ec2, account } = testRecipe(import.meta);
const command = `npx tsx ${file}`;
const env = { AWS_REGION: 'us-east-1', AWS_SECRET_ACCESS_KEY: 'test' };
const localStack = process.env.COOKBOOK_LOCALSTACK as string;

const client = (settings: EC2ClientConfig, accessKeyId = account, endpoint = localStack) =>
  new EC2Client({ endpoint, credentials: { accessKeyId, secretAccessKey: 'test' }, region: 'us-east-1', ...settings });
async function launch(region: string, accessKeyId = account, tags: Record<string, string> = {}) {
  const there = client({ region }, accessKeyId);
  const image = { ImageId: 'ami-0532be01f26a3de55', InstanceType: 't3.micro', MinCount: 1, MaxCount: 1 } as const;
  const { Instances = [] } = await there.send(new RunInstancesCommand(image));
  const [{ InstanceId = '' } = {}] = Instances;
  const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
  if (Tags.length > 0) await there.send(new CreateTagsCommand({ Resources: [InstanceId], Tags }));
  return InstanceId;
}
const ids = (instances: FoundInstance[]) => instances.map(({ instanceId }) => instanceId);
const empty = '<DescribeInstancesResponse><requestId>1</requestId><reservationSet/></DescribeInstancesResponse>';

afterEach(() => {
  vi.unstubAllEnvs();
});

test('three accounts, each a profile with its own endpoint and keys, in 38 regions', async () => {
  const accounts = [1, 2, 3].map((number) => `${account.slice(0, 11)}${number}`) as [string, string, string];
  // The third is elsewhere, and says so in a section for its services.
  const { url, seen } = await regionProxy(() => ({}));
  mkdirSync(`${folder}/.aws`);
  const [one, two, three] = accounts.map(
    (key) => `region = us-east-1\naws_access_key_id = ${key}\naws_secret_access_key = test\n`,
  );
  const profiles = [
    `[profile one]\nendpoint_url = ${localStack}\n${one}`,
    `[profile two]\nendpoint_url = ${localStack}\n${two}`,
    `[profile three]\nservices = elsewhere\nendpoint_url = http://127.0.0.1:1\n${three}`,
    `[services elsewhere]\nec2 =\n  endpoint_url = ${url}\n`,
  ];
  writeFileSync(`${folder}/.aws/config`, profiles.join('\n'));
  const launched = [
    [accounts[0], 'eu-west-1', await launch('eu-west-1', accounts[0], { Name: 'web' })],
    [accounts[0], 'us-west-2', await launch('us-west-2', accounts[0])],
    [accounts[2], 'ap-south-1', await launch('ap-south-1', accounts[2])],
  ];
  // The keys in the environment are another account's, and must not matter.
  const result = await run(`${command} --profiles one,two,three --json`, { env });
  expect(result).toMatchObject({ code: 0, stderr: '' });
  const { instances, problems } = JSON.parse(result.stdout);
  expect(problems).toEqual([]);
  expect(instances.map((row: FoundInstance) => [row.account, row.region, row.instanceId])).toEqual(launched);
  expect(instances[0]).toMatchObject({ instanceType: 't3.micro', name: 'web', state: 'running' });
  expect(instances[0].address).toMatch(/^\d+(\.\d+){3}$/);
  expect(Math.abs(Date.now() - Date.parse(instances[0].launched))).toBeLessThan(600_000);
  expect(instances[1].name).toBeNull();
  const asked = seen.filter(({ action }) => action === 'DescribeInstances').map(({ region }) => region);
  expect(asked.sort()).toEqual((await findEnabledRegions(ec2())).sort());
});

test('all regions of three accounts take as long as the slowest, and a tenth', { retry: 2 }, async () => {
  const regions = await findEnabledRegions(ec2());
  let scale = 0;
  const { url, load } = await regionProxy(({ region }) => ({
    delay: scale * (region === 'eu-west-1' ? 15_000 : 9000),
    answer: empty,
  }));
  const profiles = ['one', 'two', 'three'];
  const clientFor = ({ region }: ClientSettings) => client({ region }, account, url);
  const signal = new AbortController().signal;
  const seconds = async () => {
    const start = performance.now();
    const result = await findRunningInstances(clientFor, { profiles, regions, signal });
    expect(result).toEqual({ instances: [], problems: [] });
    return (performance.now() - start) / 1000;
  };
  // What a busy machine needs for the same work when no region is slow is not the regions' time.
  const work = await seconds();
  scale = 1;
  const all = await seconds();
  expect(load.most).toBeGreaterThan(100);
  expect(all).toBeGreaterThan(14.9);
  expect(all - work).toBeLessThan(16.5);
});

test('not more than forty regions of an account are asked at once', async () => {
  const { url, load } = await regionProxy(() => ({ delay: 1000, answer: empty }));
  const regions = Array.from({ length: 60 }, (_, at) => `xx-west-${at + 1}`);
  await findRunningInstances(({ region }) => client({ region }, account, url), { regions });
  expect(load.most).toBeGreaterThan(1);
  expect(load.most).toBeLessThanOrEqual(40);
});

test('regions that are denied, throttled or cut off are reported, the others are right, and the end is 1', async () => {
  const id = await launch('eu-central-1');
  const treatments: Record<string, Treatment> = {
    'eu-west-1': { error: 'UnauthorizedOperation' },
    'eu-west-2': { error: 'RequestLimitExceeded' },
    'eu-west-3': { cut: true },
    'me-south-1': { error: 'AuthFailure' },
  };
  const { url, seen } = await regionProxy(({ region }) => treatments[region] ?? {});
  const words = `--regions eu-west-1,eu-west-2,eu-west-3,eu-central-1,me-south-1 --endpoint-url ${url}`;
  const [text, json] = await Promise.all(['', '--json'].map((more) => run(`${command} ${words} ${more}`, { env })));
  expect(text).toMatchObject({
    code: 1,
    stdout: expect.stringMatching(new RegExp(`^\\d{12} +eu-central-1 +${id} `, 'm')),
  });
  expect(text?.stderr).toContain('eu-west-1 UnauthorizedOperation: UnauthorizedOperation of eu-west-1.\n');
  expect(text?.stderr).toContain('Error: the list may lack something: 4 gave no answer\n');
  const { instances, problems } = JSON.parse(json?.stdout ?? '') as {
    instances: FoundInstance[];
    problems: NotAsked[];
  };
  expect(ids(instances)).toEqual([id]);
  expect(problems.map(({ region }) => region).sort()).toEqual(Object.keys(treatments));
  expect(problems).toContainEqual({
    ...{ profile: null, region: 'eu-west-2', problem: 'RequestLimitExceeded: RequestLimitExceeded of eu-west-2.' },
  });
  expect(problems.find(({ region }) => region === 'eu-west-3')?.problem).toMatch(/ECONNRESET|socket hang up/);
  // A throttled region was tried again.
  expect(seen.filter(({ region }) => region === 'eu-west-2').length).toBeGreaterThan(2);
});

test('an account whose regions can not be listed is reported beside others, and an error when it is alone', async () => {
  const id = await launch('eu-north-1');
  const { url } = await regionProxy(({ action }) =>
    action === 'DescribeRegions' ? { error: 'UnauthorizedOperation' } : {},
  );
  const clientFor = ({ profile, region }: ClientSettings) =>
    client({ region: region ?? 'us-east-1' }, account, profile === 'closed' ? url : localStack);
  const { instances, problems } = await findRunningInstances(clientFor, { profiles: ['closed', 'open'] });
  expect(ids(instances)).toContain(id);
  expect(problems).toEqual([
    { profile: 'closed', region: null, problem: 'UnauthorizedOperation: UnauthorizedOperation of us-east-1.' },
  ]);
  await expect(findRunningInstances(clientFor, { profiles: ['closed'] })).rejects.toThrow('UnauthorizedOperation');
});

test('two profiles of one account show its instances once', async () => {
  const id = await launch('eu-south-1');
  const options = { profiles: ['a', 'b'], regions: ['eu-south-1'] };
  expect(ids((await findRunningInstances(({ region }) => client({ region }), options)).instances)).toEqual([id]);
});

test('every page is read; an instance without an address or a name has none', async () => {
  const page = (id: string, next = '') =>
    `<DescribeInstancesResponse><requestId>1</requestId><reservationSet><item><ownerId>123456789012</ownerId>
    <instancesSet><item><instanceId>${id}</instanceId><instanceType>t4g.nano</instanceType>
    <instanceState><code>16</code><name>running</name></instanceState><launchTime>2026-05-04T03:02:01.000Z</launchTime>
    </item></instancesSet></item></reservationSet>${next && `<nextToken>${next}</nextToken>`}</DescribeInstancesResponse>`;
  const pages: Record<string, string> = { first: page('i-1', 'b'), b: page('i-2', 'c'), c: page('i-3') };
  const { url, seen } = await regionProxy(({ parameters }) => ({
    answer: pages[parameters.get('NextToken') ?? 'first'] as string,
  }));
  const options = { regions: ['eu-west-1'] };
  const { instances } = await findRunningInstances(({ region }) => client({ region }, account, url), options);
  expect(ids(instances)).toEqual(['i-1', 'i-2', 'i-3']);
  expect(instances[0]).toEqual({
    ...{ account: '123456789012', region: 'eu-west-1', instanceId: 'i-1', instanceType: 't4g.nano', name: null },
    ...{ state: 'running', launched: new Date('2026-05-04T03:02:01Z'), address: null },
  });
  for (const { parameters } of seen) {
    // Else what services manage is left out where an account hides it.
    expect(Object.fromEntries(parameters)).toMatchObject({ MaxResults: '1000', IncludeManagedResources: 'true' });
  }
});

test('only the states and tags that are asked for are found', async () => {
  const region = 'eu-west-2';
  const web = await launch(region, account, { team: 'web', Name: 'a' });
  const data = await launch(region, account, { team: 'data' });
  const stopped = await launch(region, account, { team: 'web' });
  await ec2(region).send(new StopInstancesCommand({ InstanceIds: [stopped] }));
  const find = async (options: object) => {
    const found = await findRunningInstances(({ region }) => client({ region }), { regions: [region], ...options });
    return ids(found.instances).sort();
  };
  expect(await find({})).toEqual([web, data].sort());
  expect(await find({ states: ['stopped'] })).toEqual([stopped]);
  expect(await find({ states: ['stopped', 'running'], tags: { team: 'web' } })).toEqual([web, stopped].sort());
  expect(await find({ tags: { team: null } })).toEqual([web, data].sort());
  expect(await find({ tags: { team: 'web', Name: 'b' } })).toEqual([]);
  const words = `--regions ${region} --state stopped,running --local --json`;
  const [one, any] = await Promise.all(
    ['team=web', 'Name'].map(async (tag) => JSON.parse((await run(`${command} ${words} --tag ${tag}`)).stdout)),
  );
  expect(ids(one.instances).sort()).toEqual([web, stopped].sort());
  expect(ids(any.instances)).toEqual([web]);
});

test('all clients of an account share the credentials of the first', async () => {
  let asked = 0;
  const credentials = async () => {
    asked++;
    return { accessKeyId: account, secretAccessKey: 'test' };
  };
  const clientFor = (settings: ClientSettings) => client({ credentials, ...defined(settings) });
  const regions = ['eu-west-1', 'eu-west-2', 'eu-west-3', 'eu-north-1'];
  expect((await findRunningInstances(clientFor, { regions })).problems).toEqual([]);
  expect(asked).toBe(1);
});

/** Settings without those that are undefined. */
function defined(settings: ClientSettings): ClientSettings {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
}

test('where EC2 is for a profile: its services, its endpoint_url, and variables before them', async () => {
  const path = `${folder}/endpoints`;
  writeFileSync(
    path,
    `[profile plain]\nregion = eu-west-1\n[profile own]\nendpoint_url = http://own\n[profile parts]\nservices = s
endpoint_url = http://rest\n[profile aws]\nendpoint_url = http://aws\nignore_configured_endpoint_urls = true
[services s]\nec2 =\n  endpoint_url = http://part\ns3 =\n  endpoint_url = http://s3\n`,
  );
  vi.stubEnv('AWS_CONFIG_FILE', path);
  vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', '/dev/null');
  const endpoints = async () => {
    const found = await Promise.all(['plain', 'own', 'parts', 'aws'].map(findEndpoint));
    return found.map(({ endpoint }) => endpoint);
  };
  expect(await endpoints()).toEqual([undefined, 'http://own', 'http://part', undefined]);
  await expect(findEndpoint('onw')).rejects.toThrow('there is no profile "onw"');
  vi.stubEnv('AWS_ENDPOINT_URL', 'http://all');
  expect(await endpoints()).toEqual(['http://all', 'http://all', 'http://all', undefined]);
  vi.stubEnv('AWS_ENDPOINT_URL_EC2', 'http://ec2');
  expect(await findEndpoint('own')).toEqual({ endpoint: 'http://ec2', ignoreConfiguredEndpointUrls: true });
  expect(await findEndpoint('plain')).toMatchObject({ region: 'eu-west-1' });
  expect(await findEndpoint()).toEqual({ endpoint: undefined, ignoreConfiguredEndpointUrls: false });
  // As --endpoint-url sets it, against what the file says.
  vi.stubEnv('AWS_IGNORE_CONFIGURED_ENDPOINT_URLS', 'false');
  expect((await findEndpoint('aws')).endpoint).toBe('http://ec2');
  vi.stubEnv('AWS_IGNORE_CONFIGURED_ENDPOINT_URLS', 'true');
  expect(await endpoints()).toEqual([undefined, undefined, undefined, undefined]);
});

test("a profile without an endpoint goes to AWS, not to the default profile's server", async () => {
  const { url, seen } = await regionProxy(() => ({}));
  const keys = `region = us-east-1\naws_access_key_id = ${account}\naws_secret_access_key = test\n`;
  writeFileSync(`${folder}/two`, `[default]\nendpoint_url = ${url}\n${keys}[profile prod]\n${keys}`);
  const settings = { env: { ...env, AWS_CONFIG_FILE: `${folder}/two` } };
  const result = await run(`${command} --profiles prod --regions us-east-1`, settings);
  expect(result).toMatchObject({ code: 1, stderr: expect.stringContaining('connection to ec2.us-east-1.amazonaws') });
  expect(seen).toEqual([]);
});

test('an account is asked for its regions in the region of its profile, whatever AWS_REGION says', async () => {
  const { url, seen } = await regionProxy(() => ({ error: 'UnauthorizedOperation' }));
  const keys = `aws_access_key_id = ${account}\naws_secret_access_key = test\nendpoint_url = ${url}\n`;
  writeFileSync(`${folder}/far`, `[profile far]\nregion = cn-north-1\n${keys}[profile none]\n${keys}`);
  const settings = { env: { ...env, AWS_REGION: 'eu-west-3', AWS_CONFIG_FILE: `${folder}/far` } };
  const asked = async (options: string) => {
    seen.length = 0;
    expect(await run(`${command} ${options}`, settings)).toMatchObject({ code: 1 });
    return seen.map(({ action, region }) => `${action} ${region}`);
  };
  expect(await asked('--profiles far')).toEqual(['DescribeRegions cn-north-1']);
  expect(await asked('--profiles none')).toEqual(['DescribeRegions eu-west-3']);
});

test('wrong states, regions, tags and profiles are refused before anything is sent', async () => {
  const never = () => {
    throw new Error('sent');
  };
  await expect(findRunningInstances(never, { states: ['runing'] })).rejects.toThrow('"runing" is no state');
  await expect(findRunningInstances(never, { regions: ['eu-west-1', 'Ireland'] })).rejects.toThrow('"Ireland" is no');
  await expect(findRunningInstances(never, { tags: { '': 'x' } })).rejects.toThrow('a tag needs a key');
  for (const name of ['profiles', 'regions', 'states']) {
    await expect(findRunningInstances(never, { [name]: [] }), name).rejects.toThrow('a list is empty');
  }
  const results = await Promise.all([
    ...['--state runing --local', '--tag =web --local', '--profiles one --local'].map((words) =>
      run(`${command} ${words}`),
    ),
    run(`${command} --profiles nobody`, { env }),
  ]);
  for (const result of results) expect(result).toMatchObject({ code: 2, stdout: '' });
  expect(results[3]?.stderr).toContain('there is no profile "nobody" in ~/.aws');
});

test('Ctrl-C and --timeout end the listing of regions, too', async () => {
  const { url, seen } = await regionProxy(() => ({ delay: 600_000 }));
  const faults = [{ operation: 'ec2:DescribeRegions', signal: 'SIGINT' as const }];
  const [stopped, late] = await Promise.all([
    run(`${command} --endpoint-url ${url}`, { env, faults }),
    run(`${command} --endpoint-url ${url} --timeout 5`, { env }),
  ]);
  expect(stopped).toEqual({ code: 130, stdout: '', stderr: 'Interrupted.\n' });
  expect(late).toEqual({ code: 1, stdout: '', stderr: 'Gave up after 5 s (--timeout).\n' });
  expect(seen.map(({ action }) => action)).not.toContain('DescribeInstances');
});

test('Ctrl-C ends at once with 130 and no list', async () => {
  const { url } = await regionProxy(({ region }) => ({ delay: region === 'eu-west-1' ? 120_000 : 0 }));
  const result = await run(`${command} --regions eu-west-1,eu-west-2 --endpoint-url ${url}`, {
    env,
    faults: [{ operation: 'ec2:DescribeInstances', after: 1, signalAfter: 'SIGINT' }],
  });
  expect(result).toMatchObject({ code: 130, stdout: '', stderr: 'Interrupted.\n' });
});
