/**
 * 1.6 Find regions
 *
 * ## Problem
 * You want to know which regions there are, which of them your account can use, which is near, and in which
 * one your code works when it doesn't say.
 *
 * ## Solution
 * EC2 lists the regions, Systems Manager has the names that people know. To work in one, give its code to a
 * client: `new EC2Client({ region: 'eu-west-1' })`. Without it, a client takes the default region: `default by`
 * marks it and says which setting it comes from.
 *
 * ## Discussion
 * The default is the first that is set: AWS_REGION, even when empty; `region` of the profile in ~/.aws, where the
 * file `credentials` goes before `config`; the region of the EC2 instance that the code runs on (`metadata`).
 * AWS_DEFAULT_REGION is for the AWS CLI and boto: this SDK doesn't read it. With none set, clients throw
 * "Region is missing", and this recipe asks in us-east-1.
 *
 * Regions from before March 2019 are always enabled, later ones when you opt in, on the console's account page.
 * One that is not enabled answers as if your credentials were wrong (AuthFailure), a misspelt one is a host that
 * is not found (ENOTFOUND). If that happens with your default, this recipe asks in us-east-1.
 *
 * China and GovCloud are partitions of their own, and an account sees its own partition only. The names are asked
 * for in us-east-1, one of the 17 regions that have them; with an account of those two partitions none are shown.
 *
 * `--ping` adds how long each region takes to answer from here (1.15).
 *
 * @run npx tsx recipes/setup/06-find-regions.ts eu-west-1 --zones --local
 * @run npx tsx recipes/setup/06-find-regions.ts --local
 * @aws npx tsx recipes/setup/06-find-regions.ts --zones --ping
 * @output
 *   region      eu-west-1
 *   name        Europe (Ireland)
 *   state       enabled
 *   default by  -
 *   zones       eu-west-1a, eu-west-1b, eu-west-1c
 * @permission ec2:DescribeRegions on *
 * @permission ec2:DescribeAvailabilityZones on *
 * @permission ssm:GetParameters on arn:aws:ssm:us-east-1::parameter/aws/service/global-infrastructure/*
 * @cost nothing
 * @undo nothing
 * @emulator LocalStack lists three partitions as one, has no region that was opted in to and takes a misspelt one.
 *   AWS's answers to those are the tests' own.
 * @book boto.ec2.regions, boto.ec2.connect_to_region
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeRegions.html
 * @see https://docs.aws.amazon.com/accounts/latest/reference/manage-acct-regions.html
 * @see https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-public-parameters-global-infrastructure.html
 */
import { DescribeAvailabilityZonesCommand, DescribeRegionsCommand, EC2Client } from '@aws-sdk/client-ec2';
import { GetParametersCommand, SSMClient } from '@aws-sdk/client-ssm';
import {
  getProfileName,
  loadConfig,
  NODE_REGION_CONFIG_FILE_OPTIONS,
  NODE_REGION_CONFIG_OPTIONS,
} from '@smithy/core/config';
import pMap from 'p-map';

export interface Region {
  /** Code: `eu-west-1`. */
  region: string;
  /** Name that people know: `Europe (Ireland)`. Null when it was not asked for or is not to be had. */
  name: string | null;
  /** EC2 calls these `opt-in-not-required`, `opted-in` and `not-opted-in`. */
  state: 'enabled' | 'opted in' | 'disabled';
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

type Tell = (text: string) => void;

const states: Record<string, Region['state']> = { 'opted-in': 'opted in', 'not-opted-in': 'disabled' };

/**
 * Lists all regions of your account's partition, those that are not enabled too.
 *
 * @param clientFor - Makes the client for a region.
 * @param options.region - Lists this one only.
 * @param options.home - The default region, to mark it and to ask in. Us-east-1 is asked without it.
 * @param options.ssm - Asked for the names; us-east-1 is one of the regions that have them. None by default.
 * @param options.zones - Whether to ask each enabled region for its zones, ten at a time. False by default.
 * @param options.signal - Ends the asking.
 * @param options.onProblem - Told what is missing and why, and that the default is no region.
 * @returns The regions, sorted by code.
 * @throws RangeError when `region` is unknown, with the nearest spelling.
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
    home,
    ssm,
    zones = false,
    signal,
    onProblem,
  }: {
    region?: string;
    home?: DefaultRegion;
    ssm?: SSMClient;
    zones?: boolean;
    signal?: AbortSignal;
    onProblem?: Tell;
  } = {},
): Promise<Region[]> {
  const ask = (region: string) =>
    clientFor(region).send(new DescribeRegionsCommand({ AllRegions: true }), { abortSignal: signal });
  const { Regions = [] } = await ask(home?.region || 'us-east-1').catch((error) => {
    // A misspelt region has no host, and one that is not enabled knows no credentials.
    if (/ENOTFOUND|AuthFailure|Region not accepted/.test(error)) return ask('us-east-1');
    throw error;
  });
  const optIn = new Map(Regions.map(({ RegionName = '', OptInStatus = '' }) => [RegionName, OptInStatus]));
  const all = [...optIn.keys()].sort();
  const unknown = (name: string) => {
    const near = all.map((region) => ({ region, changes: distance(name.toLowerCase(), region) }));
    const [best] = near.filter(({ changes }) => changes < 5).sort((a, b) => a.changes - b.changes);
    return `"${name}" is no region${best ? `: the nearest spelling is ${best.region}` : ''}`;
  };
  if (only && !optIn.has(only)) throw new RangeError(unknown(only));
  if (home?.region && !optIn.has(home.region)) onProblem?.(`The default by ${home.by}, ${unknown(home.region)}`);

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
      const state = states[optIn.get(region) as string] ?? 'enabled';
      const asked = zones && state !== 'disabled';
      return {
        region,
        name: names?.get(region) ?? null,
        state,
        defaultBy: region === home?.region ? home.by : null,
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
  const answers = await pMap(
    batches,
    (Names) => ssm.send(new GetParametersCommand({ Names }), { abortSignal: signal }),
    { concurrency: 4 },
  );
  const parameters = answers.flatMap(({ Parameters = [] }) => Parameters);
  return new Map(parameters.map(({ Name = '', Value = '' }) => [Name.split('/')[5] as string, Value]));
}

/** The names of a region's zones, without Local Zones, which are listed too once you opt in to one. */
async function findZones(ec2: EC2Client, signal?: AbortSignal): Promise<string[]> {
  const Filters = [{ Name: 'zone-type', Values: ['availability-zone'] }];
  const command = new DescribeAvailabilityZonesCommand({ Filters });
  const { AvailabilityZones = [] } = await ec2.send(command, { abortSignal: signal });
  return AvailabilityZones.map(({ ZoneName = '' }) => ZoneName).sort();
}

/** How many letters to change, add or leave out to make one word the other, counted up to a limit. */
function distance(a: string, b: string, limit = 5): number {
  if (!a || !b || limit === 0) return Math.min(limit, a.length + b.length);
  const [x, y] = [a.slice(1), b.slice(1)];
  if (a[0] === b[0]) return distance(x, y, limit);
  return 1 + Math.min(distance(x, y, limit - 1), distance(a, y, limit - 1), distance(x, b, limit - 1));
}

/**
 * Finds the region that a client takes when it is given none, and the setting that names it.
 *
 * @param options.onProblem - Told when AWS_DEFAULT_REGION, which is not read, names another one.
 * @returns The region and the setting; both null where clients would throw "Region is missing".
 * @throws Nothing.
 * @see https://docs.aws.amazon.com/sdkref/latest/guide/feature-region.html
 *
 * @example
 * const { region, by } = await findDefaultRegion();
 * const ec2 = new EC2Client({ region: region ?? 'eu-west-1' });
 * console.log(await ec2.config.region(), by ?? 'set by nothing');
 */
export async function findDefaultRegion({ onProblem }: { onProblem?: Tell } = {}): Promise<DefaultRegion> {
  // The SDK's own loader goes through the sources in the SDK's order; here each says which it is.
  const load = loadConfig<DefaultRegion>(
    {
      environmentVariableSelector: ({ AWS_REGION, AWS_DEFAULT_REGION = AWS_REGION }) => {
        if (AWS_DEFAULT_REGION !== AWS_REGION)
          onProblem?.(`AWS_DEFAULT_REGION is ${AWS_DEFAULT_REGION}, but this SDK reads AWS_REGION.`);
        return AWS_REGION === undefined ? undefined : { region: AWS_REGION, by: 'AWS_REGION' };
      },
      configFileSelector: ({ region }, credentials) => {
        const by = credentials?.[getProfileName({})]?.region ? 'credentials' : 'config';
        return region === undefined ? undefined : { region, by };
      },
      default: async () => ({ region: await loadConfig(NODE_REGION_CONFIG_OPTIONS)(), by: 'metadata' }),
    },
    NODE_REGION_CONFIG_FILE_OPTIONS,
  );
  return load().catch(() => ({ region: null, by: null }));
}

// ---- command line: leave out when copying ----
import { connect, local, print, progress, recipe } from '../../shared/cli.ts';
import { measureLatency } from './15-measure-latency.ts';

recipe(import.meta, (command) =>
  command
    .argument('[region]', 'show this one only, such as eu-west-1')
    .option('--zones', 'ask each enabled region for its zones')
    .option('--ping', 'measure how long each takes to answer from here; the nearest first')
    .action(async (region, options) => {
      if (options.ping && local()) throw new RangeError('--ping measures the way to AWS: not with --local');
      const onProblem = (text: string) => console.error(text);
      const home = await findDefaultRegion({ onProblem });
      if ('region' in options) home.by = '--region';
      else if (local()) home.by = '--local';
      if (!home.region)
        onProblem('No region is set, so us-east-1 is asked: set AWS_REGION, or `region` in ~/.aws/config.');

      const clientFor = (region: string) => connect(EC2Client, { region });
      const ssm = connect(SSMClient, { region: 'us-east-1' });
      const found = await findRegions(clientFor, { region, home, ssm, zones: options.zones, onProblem });
      const rows = found.map(({ zones, ...row }) => (options.zones ? { ...row, zones } : row));
      if (options.ping) progress('measuring');
      const result = options.ping ? await measureLatency(rows) : rows;
      const latency = (time: number | null) => (time === null ? '-' : `${Math.round(time)} ms`);
      if (region) print(result[0] as object, { latency });
      else print(result, { latency, zones: (zones: string[] | null) => `${zones?.length ?? '-'}` });
    }),
);
