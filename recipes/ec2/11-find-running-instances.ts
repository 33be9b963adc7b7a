/**
 * 2.11 Find running instances
 *
 * ## Problem
 * You want to see every instance that runs: in all regions, and in all of your accounts.
 *
 * ## Solution
 * Ask each account for the regions that it has enabled, then all regions of all accounts at once for their instances.
 * An account is a profile in `~/.aws`. What can't be asked is reported, and the rest is shown.
 *
 * ## Discussion
 * A region that a policy of your organization denies, that throttles or doesn't answer is reported, and the command
 * ends with 1, since the list may lack something. All takes as long as the slowest region: EC2 counts requests for each
 * account and region, so up to 40 regions of 8 accounts are asked at once. Give clients of your own a
 * `connectionTimeout` (1.8), or a region that doesn't answer may hold up all.
 *
 * Instances that AWS starts for you are in the list too, of Auto Scaling groups, ECS, EKS and others, even where your
 * account hides what services manage. What they run in accounts of their own, such as a database of RDS, is not.
 * `launched` is when one was last started, not when it was made. With `--state stopped` you see those that cost no
 * hours but whose volumes cost on.
 *
 * **Profiles.** `new EC2Client({ profile })` takes the keys of the profile, but the `endpoint_url` of the default one,
 * and the region of AWS_REGION if that is set: in China or GovCloud, keys are good for regions of their own only. So
 * give it what `findEndpoint` returns, too: the profile's own, and that the other is ignored. All clients of an account
 * share the credentials of the first. Otherwise a profile that assumes a role would call STS, and perhaps ask for an
 * MFA code, once for every region.
 *
 * @before npx tsx recipes/ec2/01-launch-instance.ts --local
 * @run npx tsx recipes/ec2/11-find-running-instances.ts --regions us-east-1,eu-west-1 --local
 * @output
 *   account       region     instance id          instance type  name  state    launched   address
 *   701677182432  us-east-1  i-6c699e8cd4509ac7b  t3.micro       -     running  0 min ago  54.214.138.203
 * @run npx tsx recipes/ec2/11-find-running-instances.ts --state running,stopped --tag paws --local
 * @aws npx tsx recipes/ec2/11-find-running-instances.ts --profiles dev,prod
 * @permission ec2:DescribeRegions on *
 * @permission ec2:DescribeInstances on *
 * @cost nothing
 * @undo nothing
 * @emulator LocalStack lists regions of China and GovCloud too, and answers there for us-east-1, so instances of
 * us-east-1 are found several times. Slow, denying and throttling regions are the tests' own server in front of it.
 * @book boto.ec2.regions → DescribeRegionsCommand
 * @book ec2.get_all_instances → paginateDescribeInstances
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetManagedResourceVisibility.html
 * @see https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html
 * @see https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
 */
import { setMaxListeners } from 'node:events';
import { EC2Client, type EC2ClientConfig, type Filter, paginateDescribeInstances } from '@aws-sdk/client-ec2';
import { loadConfig, loadSharedConfigFiles } from '@smithy/core/config';
import pMap from 'p-map';
import { findEnabledRegions } from '../setup/14-find-tagged.ts';

export interface FoundInstance {
  /** Number of the account: `123456789012`. */
  account: string;
  region: string;
  instanceId: string;
  instanceType: string;
  /** Value of its tag `Name`; null without one. */
  name: string | null;
  state: string;
  /** When it was last started. */
  launched: Date;
  /** Public IPv4 address; null if it has none. */
  address: string | null;
}

export interface NotAsked {
  /** Null where no profiles were given. */
  profile: string | null;
  /** Null when the account's regions could not be listed, and so none was asked. */
  region: string | null;
  /** Name and message of the error. */
  problem: string;
}

/** What differs between the clients: hand it to `new EC2Client` as it is. */
export type ClientSettings = Pick<EC2ClientConfig, 'profile' | 'region' | 'credentials'>;

const allStates = ['pending', 'running', 'shutting-down', 'terminated', 'stopping', 'stopped'];

/**
 * Finds the instances of one or more accounts in all their regions.
 *
 * @param clientFor - Makes a client. Without a region it is the default one, without a profile the default account.
 * @param options.profiles - Profiles of `~/.aws`, one for each account. The default account by default.
 * @param options.regions - Where to look. In each account's enabled regions by default.
 * @param options.states - `['running']` by default.
 * @param options.tags - Only those that have these tags; null stands for any value, `*` for any text within one.
 * @param options.signal - Ends it.
 * @param options.onProgress - Called with a text for people.
 * @returns Instances by account and region, each once, and what could not be asked.
 * @throws RangeError for a state, region or tag that can't be one and for an empty list; the SDK's error when there is
 *   only one account, and its regions can't be listed.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html
 *
 * @example
 * const { instances, problems } = await findRunningInstances(
 *   async (settings) => new EC2Client({ ...(await findEndpoint(settings.profile)), ...settings }),
 *   { profiles: ['dev', 'prod'] },
 * );
 * if (problems.length > 0) console.log(problems);
 * for (const { account, region, instanceId } of instances) console.log(account, region, instanceId);
 */
export async function findRunningInstances(
  clientFor: (settings: ClientSettings) => EC2Client | Promise<EC2Client>,
  {
    profiles,
    regions,
    states = ['running'],
    tags = {},
    signal,
    onProgress,
  }: {
    profiles?: string[];
    regions?: string[];
    states?: string[];
    tags?: Record<string, string | null>;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  } = {},
): Promise<{ instances: FoundInstance[]; problems: NotAsked[] }> {
  if ([profiles, regions, states].some((list) => list?.length === 0)) throw new RangeError('a list is empty');
  const odd = states.find((state) => !allStates.includes(state));
  if (odd !== undefined) throw new RangeError(`"${odd}" is no state; there are ${allStates.join(', ')}`);
  // The region becomes part of a host name.
  const strange = regions?.find((region) => !/^[a-z]+(-[a-z]+)+-\d+$/.test(region));
  if (strange !== undefined) throw new RangeError(`"${strange}" is no code of a region such as eu-west-1`);
  if ('' in tags) throw new RangeError('a tag needs a key: give KEY or KEY=VALUE');
  // Node.js warns of more than ten listeners, and each call adds one.
  if (signal) setMaxListeners(0, signal);

  const ofTags = Object.entries(tags).map(([key, value]) =>
    value === null ? { Name: 'tag-key', Values: [key] } : { Name: `tag:${key}`, Values: [value] },
  );
  const Filters = [{ Name: 'instance-state-name', Values: states }, ...ofTags];
  const accounts = profiles ?? [undefined];
  const problems: NotAsked[] = [];
  /** Goes on with nothing where something fails, and notes it. */
  const attempt = async <Item>(place: ClientSettings, work: Promise<Item[]>): Promise<Item[]> => {
    const { profile = null, region = null } = place as { profile?: string; region?: string };
    try {
      return await work;
    } catch (error) {
      signal?.throwIfAborted();
      if (!region && accounts.length === 1) throw error;
      const { name, message, code } = error as NodeJS.ErrnoException;
      problems.push({ profile, region, problem: `${name}: ${message || code}` });
      return [];
    }
  };

  let asked = 0;
  const ofAccount = async (profile?: string) => {
    const home = await clientFor({ profile });
    const { credentials } = home.config;
    const places = regions ?? (await attempt({ profile }, findEnabledRegions(home, { signal }))).sort();
    const ofRegion = async (region: string) => {
      const ec2 = await clientFor({ profile, region, credentials });
      const found = await attempt({ profile, region }, list(ec2, { region, Filters, signal }));
      onProgress?.(`${++asked} regions asked`);
      return found;
    };
    // Each region has its own servers and limits; this spares your machine.
    return pMap(places, ofRegion, { concurrency: 40 });
  };
  const found = (await pMap(accounts, ofAccount, { concurrency: 8 })).flat(2);
  // Two profiles may be of the same account.
  const unique = new Map(found.map((instance) => [`${instance.region} ${instance.instanceId}`, instance]));
  return { instances: [...unique.values()], problems };
}

/** The instances of one region. */
async function list(
  client: EC2Client,
  { region, Filters, signal: abortSignal }: { region: string; Filters: Filter[]; signal?: AbortSignal },
): Promise<FoundInstance[]> {
  const found: FoundInstance[] = [];
  const input = { Filters, IncludeManagedResources: true };
  for await (const page of paginateDescribeInstances({ client, pageSize: 1000 }, input, { abortSignal })) {
    for (const { OwnerId, Instances = [] } of page.Reservations ?? []) {
      for (const { InstanceId, InstanceType, Tags = [], State, LaunchTime, PublicIpAddress } of Instances) {
        found.push({
          account: OwnerId as string,
          region,
          instanceId: InstanceId as string,
          instanceType: InstanceType as string,
          name: Tags.find(({ Key }) => Key === 'Name')?.Value ?? null,
          state: State?.Name as string,
          launched: LaunchTime as Date,
          address: PublicIpAddress ?? null,
        });
      }
    }
  }
  return found;
}

/**
 * Finds where EC2 is for a profile: a client that is given one takes the `endpoint_url` of the default profile.
 *
 * @param profile - Name of a profile in `~/.aws`. Without one there is nothing to find: the client looks itself.
 * @returns Settings for the client. The region is the profile's, undefined if it has none; the endpoint is undefined
 *   where it is AWS. Variables such as AWS_ENDPOINT_URL beat the file.
 * @throws RangeError when there is no such profile: a client would look for other credentials without a word.
 * @see https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
 *
 * @example
 * const ec2 = new EC2Client({ profile: 'my-cloud', ...(await findEndpoint('my-cloud')) });
 * console.log(await ec2.config.region());
 */
export async function findEndpoint(
  profile?: string,
): Promise<{ region?: string; endpoint: string | undefined; ignoreConfiguredEndpointUrls: boolean }> {
  if (profile === undefined) return { endpoint: undefined, ignoreConfiguredEndpointUrls: false };
  const { configFile, credentialsFile } = await loadSharedConfigFiles();
  const { region } = { ...configFile[profile], ...credentialsFile[profile] };
  if (!{ ...configFile, ...credentialsFile }[profile])
    throw new RangeError(`there is no profile "${profile}" in ~/.aws`);
  const ignored = loadConfig<string>(
    {
      environmentVariableSelector: (env) => env.AWS_IGNORE_CONFIGURED_ENDPOINT_URLS,
      configFileSelector: ({ ignore_configured_endpoint_urls }) => ignore_configured_endpoint_urls,
      default: 'false',
    },
    { profile },
  );
  const url = loadConfig<string>(
    {
      environmentVariableSelector: (env) => env.AWS_ENDPOINT_URL_EC2 || env.AWS_ENDPOINT_URL,
      configFileSelector: ({ services, endpoint_url: general }, file) =>
        file?.[`services.${services}`]?.['ec2.endpoint_url'] ?? general,
      default: '',
    },
    { profile },
  );
  const endpoint = (await ignored()) === 'true' ? undefined : (await url()) || undefined;
  return { region, endpoint, ignoreConfiguredEndpointUrls: true };
}

// ---- command line: leave out when copying ----
import { connect, interrupted, json, local, print, progress, recipe } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .option('--profiles <names>', 'profiles of ~/.aws, each an account, asked in its own region: dev,prod')
    .option('--regions <names>', 'such as eu-west-1,us-east-1 (default: all that the account has enabled)')
    .option('--state <states>', 'such as running,stopped', 'running')
    .option('--tag <key=value>', 'only instances with this tag; with a key alone, of any value')
    .action(async ({ profiles, regions, state, tag }) => {
      if (profiles !== undefined && local()) throw new RangeError('--profiles are of ~/.aws: not with --local');
      // The SDK uses the profiles' keys all the same, but warns of keys in the environment.
      for (const name of profiles === undefined ? [] : ['ACCESS_KEY_ID', 'SECRET_ACCESS_KEY', 'SESSION_TOKEN'])
        delete process.env[`AWS_${name}`];
      const clientFor = async (settings: ClientSettings) =>
        connect(EC2Client, { ...(await findEndpoint(settings.profile)), ...settings });
      const [, key = '', value = null] = /^([^=]*)(?:=(.*))?$/s.exec(tag ?? '') ?? [];
      const which = { profiles: profiles?.split(','), regions: regions?.split(','), states: state.split(',') };
      const more = { tags: tag === undefined ? {} : { [key]: value }, signal: interrupted(), onProgress: progress };
      const { instances, problems } = await findRunningInstances(clientFor, { ...which, ...more });
      print(json() ? { instances, problems } : instances, { launched: ago });
      for (const one of problems) console.error([one.profile, one.region, one.problem].filter(Boolean).join(' '));
      if (problems.length > 0) throw new Error(`the list may lack something: ${problems.length} gave no answer`);
    }),
);

function ago(launched: Date): string {
  const hours = (Date.now() - launched.getTime()) / 3_600_000;
  if (hours < 2) return `${Math.floor(hours * 60)} min ago`;
  return hours < 48 ? `${Math.floor(hours)} h ago` : `${Math.floor(hours / 24)} d ago`;
}
