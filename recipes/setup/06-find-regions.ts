/**
 * 1.6 Find regions
 *
 * ## Problem
 * You want to know which regions there are, which of them your account has enabled, which is near, and in which
 * one your code works when it doesn't say.
 *
 * ## Solution
 * EC2 lists the regions, Systems Manager has the names that people know. To work in one, give its code to a
 * client: `new EC2Client({ region: 'eu-west-1' })`. Without it, a client takes the default region: `default by`
 * marks it and says which setting it comes from.
 *
 * ## Discussion
 * The default is the first that is set: AWS_REGION, even when empty; `region` of the profile in ~/.aws, in the file
 * `credentials` before `config`; the region of the EC2 instance that the code runs on (`metadata`). AWS_DEFAULT_REGION
 * is for the AWS CLI and boto only. With none set, clients throw "Region is missing".
 *
 * Regions from before March 2019 are always enabled, later ones when you opt in, which takes minutes, at times hours.
 * EC2 doesn't tell which regions a policy of your organization forbids. One that is not enabled answers as if your
 * credentials were wrong (AuthFailure), and so does an opted-in one to a session token of STS's global endpoint; a
 * misspelt one is a host that is not found (ENOTFOUND). With such a default, this recipe asks in us-east-1.
 *
 * China and GovCloud are partitions of their own: an account sees its own only, and needs a default region in it.
 * The names come from us-east-1, so those accounts get none. `--ping` adds how long each region takes (1.15).
 *
 * @run npx tsx recipes/setup/06-find-regions.ts us-east-1 --zones --local
 * @run npx tsx recipes/setup/06-find-regions.ts --local
 * @aws npx tsx recipes/setup/06-find-regions.ts --zones --ping
 * @output
 *   region      us-east-1
 *   name        US East (N. Virginia)
 *   state       enabled
 *   default by  --local
 *   zones       us-east-1a, us-east-1b, us-east-1c, us-east-1d, us-east-1e, us-east-1f
 * @permission ec2:DescribeRegions on *
 * @permission ec2:DescribeAvailabilityZones on *
 * @permission ssm:GetParameters on arn:aws:ssm:us-east-1::parameter/aws/service/global-infrastructure/*
 * @cost nothing
 * @undo nothing
 * @emulator LocalStack lists three partitions as one, has no region that was opted in to and takes a misspelt one.
 *   AWS's answers to those are the tests' own.
 * @book boto.ec2.regions, boto.ec2.connect_to_region → DescribeRegionsCommand, EC2Client
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeRegions.html
 * @see https://docs.aws.amazon.com/accounts/latest/reference/manage-acct-regions.html
 * @see https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_enable-regions.html
 * @see https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-public-parameters-global-infrastructure.html
 */
import { DescribeAvailabilityZonesCommand, DescribeRegionsCommand, EC2Client } from '@aws-sdk/client-ec2';
import { GetParametersCommand, SSMClient } from '@aws-sdk/client-ssm';
import { getProfileName, loadConfig, NODE_REGION_CONFIG_OPTIONS } from '@smithy/core/config';
import pMap from 'p-map';

export interface Region {
  /** Code: `eu-west-1`. */
  region: string;
  /** Name that people know: `Europe (Ireland)`. Null when it was not asked for or is not to be had. */
  name: string | null;
  /** `unknown` when EC2 has a new word. */
  state: 'enabled' | 'opted in' | 'disabled' | 'unknown';
  /** The setting that makes this region the default; null for all others. */
  defaultBy: string | null;
  /** Names of its availability zones. Null when they were not asked for or are not to be had. */
  zones: string[] | null;
}

export interface DefaultRegion {
  /** Null when no setting names one. */
  region: string | null;
  /** The setting: `AWS_REGION`, `credentials` or `config` (files in ~/.aws), `metadata` (of the instance). */
  by: string | null;
}

const states: Record<string, Region['state']> = {
  ...{ 'opt-in-not-required': 'enabled', 'opted-in': 'opted in', 'not-opted-in': 'disabled' },
};

/**
 * Lists all regions of your account's partition, those that are not enabled too.
 *
 * @param clientFor - Makes the client for a region.
 * @param options.region - Lists this one only.
 * @param options.defaultRegion - To mark it and to ask in; else us-east-1 is asked, so in China and GovCloud give it.
 * @param options.ssm - Asked for the names; us-east-1 is one of the regions that have them. None by default.
 * @param options.zones - Whether to ask each enabled region for its zones, ten at a time. False by default.
 * @param options.signal - Ends the asking.
 * @param options.onProblem - Told what is missing and why, and that the default is no region.
 * @returns The regions, sorted by code.
 * @throws RangeError when `region` is none of them, with the one that is nearest in spelling.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeRegions.html
 *
 * @example
 * const clientFor = (region: string) => new EC2Client({ region });
 * const regions = await findRegions(clientFor);
 * console.log(regions.filter(({ state }) => state !== 'disabled').map(({ region }) => region));
 */
export async function findRegions(
  clientFor: (region: string) => EC2Client,
  {
    region: only,
    defaultRegion: { region: preset, by } = { region: null, by: null },
    ssm,
    zones = false,
    signal,
    onProblem,
  }: {
    region?: string;
    defaultRegion?: DefaultRegion;
    ssm?: SSMClient;
    zones?: boolean;
    signal?: AbortSignal;
    onProblem?: (text: string) => void;
  } = {},
): Promise<Region[]> {
  const ask = (region: string) =>
    clientFor(region).send(new DescribeRegionsCommand({ AllRegions: true }), { abortSignal: signal });
  const { Regions = [] } = await ask(preset || 'us-east-1').catch(async (error) => {
    // A misspelt region has no host or can't be part of one, and one that is not enabled knows no credentials.
    const isRegion = error.code === 'ENOTFOUND' || error.name === 'AuthFailure' || /^Region not/.test(error.message);
    const answer = isRegion && (await ask('us-east-1').catch(() => signal?.throwIfAborted()));
    if (!answer) throw error;
    return answer;
  });
  const optIn = new Map(Regions.map(({ RegionName = '', OptInStatus = '' }) => [RegionName, OptInStatus]));
  const all = [...optIn.keys()].sort();
  const isNone = (name: string) => {
    const changes = (region: string) => distance(name.toLowerCase(), region);
    const [near] = all.filter((region) => changes(region) < Infinity).sort((a, b) => changes(a) - changes(b));
    return `"${name}" is no region of your account's partition${near ? `; the nearest in spelling is ${near}` : ''}`;
  };
  if (only && !optIn.has(only)) throw new RangeError(isNone(only));
  if (preset && !optIn.has(preset)) onProblem?.(`${by}: ${isNone(preset)}`);

  // What can't be read is null, and the rest is shown all the same.
  const missing = (what: string) => (error: Error) => {
    signal?.throwIfAborted();
    onProblem?.(`The ${what} can't be read: ${error.name}: ${error.message}`);
    return null;
  };
  const shown = only ? [only] : all;
  const names = ssm && (await findNames(ssm, shown, signal).catch(missing('names')));
  return pMap(
    shown,
    async (region) => {
      const state = states[optIn.get(region) as string] ?? 'unknown';
      const asked = zones && state !== 'disabled';
      return {
        region,
        name: names?.get(region) ?? null,
        state,
        defaultBy: region === preset ? by : null,
        zones: asked ? await findZones(clientFor(region), signal).catch(missing(`zones of ${region}`)) : null,
      };
    },
    { concurrency: 10 },
  );
}

/** The names of regions, by code. A call takes ten. */
async function findNames(ssm: SSMClient, regions: string[], signal?: AbortSignal): Promise<Map<string, string>> {
  const paths = regions.map((region) => `/aws/service/global-infrastructure/regions/${region}/longName`);
  const batches: string[][] = [];
  while (paths.length > 0) batches.push(paths.splice(0, 10));
  const ask = (Names: string[]) => ssm.send(new GetParametersCommand({ Names }), { abortSignal: signal });
  const parameters = (await Promise.all(batches.map(ask))).flatMap(({ Parameters = [] }) => Parameters);
  return new Map(parameters.map(({ Name = '', Value = '' }) => [Name.split('/')[5] as string, Value]));
}

/** The names of a region's zones, without Local Zones, which are listed too once you opt in to one. */
async function findZones(ec2: EC2Client, abortSignal?: AbortSignal): Promise<string[]> {
  const Filters = [{ Name: 'zone-type', Values: ['availability-zone'] }];
  const { AvailabilityZones = [] } = await ec2.send(new DescribeAvailabilityZonesCommand({ Filters }), { abortSignal });
  return AvailabilityZones.map(({ ZoneName = '' }) => ZoneName).sort();
}

/** How many letters to change, add or leave out to make one word the other; infinite above the limit. */
function distance(a: string, b: string, limit = 4): number {
  if (limit < 0) return Infinity;
  if (!a || !b) return a.length + b.length <= limit ? a.length + b.length : Infinity;
  const [x, y] = [a.slice(1), b.slice(1)];
  if (a[0] === b[0]) return distance(x, y, limit);
  return 1 + Math.min(distance(x, y, limit - 1), distance(a, y, limit - 1), distance(x, b, limit - 1));
}

/**
 * Finds the region that a client takes when it is given neither region nor profile, and the setting that names it.
 *
 * @param options.onProblem - Told when AWS_DEFAULT_REGION, which is not read, names another one, or a setting is empty.
 * @returns The region and the setting; both null where clients would throw instead.
 * @throws Nothing.
 * @see https://docs.aws.amazon.com/sdkref/latest/guide/feature-region.html
 *
 * @example
 * const { region, by } = await findDefaultRegion();
 * const ec2 = new EC2Client({ region: region ?? 'eu-west-1' });
 * console.log(await ec2.config.region(), by ?? 'set by nothing');
 */
export async function findDefaultRegion({
  onProblem,
}: {
  onProblem?: (text: string) => void;
} = {}): Promise<DefaultRegion> {
  let variables: NodeJS.ProcessEnv = {};
  // The SDK's own loader (@internal, so pin its version) keeps the SDK's order; here each source says which it is.
  const load = loadConfig<DefaultRegion>(
    {
      environmentVariableSelector: (env) => {
        variables = env;
        return env.AWS_REGION === undefined ? undefined : { region: env.AWS_REGION, by: 'AWS_REGION' };
      },
      configFileSelector: ({ region }, credentials) => {
        const by = credentials?.[getProfileName({})]?.region ? 'credentials' : 'config';
        return region === undefined ? undefined : { region, by };
      },
      default: async () => ({ region: await loadConfig(NODE_REGION_CONFIG_OPTIONS)(), by: 'metadata' }),
    },
    { preferredFile: 'credentials' },
  );
  const { region, by } = await load().catch(() => ({ region: null, by: null }));
  const { AWS_DEFAULT_REGION: other = region } = variables;
  if (other !== region) onProblem?.(`AWS_DEFAULT_REGION is ${other}, but this SDK reads AWS_REGION.`);
  if (region === '') onProblem?.(`The region by ${by} is empty, which makes clients throw: unset it or name one.`);
  return region ? { region, by } : { region: null, by: null };
}

// ---- command line: leave out when copying ----
import { connect, local, print, progress, recipe } from '../../shared/cli.ts';
import { measureLatency } from './15-measure-latency.ts';

recipe(import.meta, (command) =>
  command
    .argument('[region]', 'show this one only, such as eu-west-1')
    .option('--zones', 'ask each enabled region for its zones; a list shows how many')
    .option('--ping', 'measure how long each takes to answer from here; the nearest first')
    .action(async (region, options) => {
      if (options.ping && local()) throw new RangeError('--ping measures the way to AWS: not with --local');
      const onProblem = (text: string) => console.error(text);
      const { region: preset, by } = await findDefaultRegion({ onProblem });
      if (!preset) onProblem('No region is set, so us-east-1 is asked: set AWS_REGION, or `region` in ~/.aws/config.');
      // --region and --local set AWS_REGION for this run: name what was typed.
      const typed = 'region' in options ? '--region' : local() && '--local';
      const defaultRegion = { region: preset, by: typed || by };
      const clientFor = (region: string) => connect(EC2Client, { region });
      const ssm = connect(SSMClient, { region: 'us-east-1' });
      const found = await findRegions(clientFor, { region, defaultRegion, ssm, zones: options.zones, onProblem });
      const rows = found.map(({ zones, ...row }) => (options.zones ? { ...row, zones } : row));
      if (options.ping) progress('measuring');
      const result = options.ping ? await measureLatency(rows) : rows;
      const latency = (time: number | null) => (time === null ? '-' : `${Math.round(time)} ms`);
      if (region) print(result[0] as object, { latency });
      else print(result, { latency, zones: (zones: string[] | null) => `${zones?.length ?? '-'}` });
    }),
);
