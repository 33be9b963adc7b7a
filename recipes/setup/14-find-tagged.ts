/**
 * 1.14 Find what carries a tag
 *
 * ## Problem
 * You tag what you make, and want the list: of one project, or of all that this cookbook's recipes left behind.
 * Instances and what goes with them are looked for in one region or in all, roles and buckets wherever they are.
 *
 * ## Solution
 * Ask EC2 in each region for the tag, many regions at once, and read the tags of each alarm, topic,
 * role and bucket.
 *
 * ## Discussion
 * The commands of this cookbook tag what they make with the key `paws` and the recipe's number as value. The
 * functions that you copy set only the tags that you give them.
 *
 * EC2 goes on listing a terminated instance for an hour, so instances are asked for by their state too. Of other
 * things, those are found that the recipes make: volumes, snapshots, images, addresses, security groups, key pairs,
 * alarms, topics, roles and buckets. DescribeTags would find all kinds of EC2 in one call, but without knowing whether
 * a thing is still there.
 *
 * Buckets, roles, alarms and topics have to be asked one by one. With many of them, or for other services, the Resource
 * Groups Tagging API is faster (`aws resourcegroupstaggingapi get-resources --tag-filters Key=paws`); it answers for
 * one region a call, may lag behind, and knows no roles.
 *
 * Where a policy of your organization forbids regions, yours a service or a call, or a bucket's own its tags, all else is
 * listed, and an error at the end names what could not be looked at, or not to its end.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @run npx tsx recipes/setup/14-find-tagged.ts --local
 * @output
 *   id                 region     value
 *   s3://paws-example  us-east-1  3.1
 * @run npx tsx recipes/setup/14-find-tagged.ts --all-regions --value 2.1 --local
 * @permission ec2:DescribeRegions on *
 * @permission ec2:DescribeInstances on *
 * @permission ec2:DescribeVolumes on *
 * @permission ec2:DescribeSnapshots on *
 * @permission ec2:DescribeImages on *
 * @permission ec2:DescribeAddresses on *
 * @permission ec2:DescribeSecurityGroups on *
 * @permission ec2:DescribeKeyPairs on *
 * @permission cloudwatch:DescribeAlarms on *
 * @permission cloudwatch:ListTagsForResource on *
 * @permission sns:ListTopics on *
 * @permission sns:ListTagsForResource on *
 * @permission iam:ListRoles on *
 * @permission iam:ListRoleTags on *
 * @permission s3:ListAllMyBuckets on *
 * @permission s3:GetBucketTagging on arn:aws:s3:::*
 * @cost nothing
 * @undo nothing
 * @emulator LocalStack's list of regions has those of China and GovCloud in it, where it answers for us-east-1, so
 * with --all-regions things are found several times. AWS lists only the regions of your own partition.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketTagging.html
 */
import { CloudWatchClient } from '@aws-sdk/client-cloudwatch';
import { DescribeRegionsCommand, EC2Client } from '@aws-sdk/client-ec2';
import { IAMClient } from '@aws-sdk/client-iam';
import { S3Client } from '@aws-sdk/client-s3';
import { SNSClient } from '@aws-sdk/client-sns';
import type { STSClient } from '@aws-sdk/client-sts';
import pMap from 'p-map';
import { findAlarms, findBuckets, findInEc2, findRoles, findTopics, isDenied } from './14-helpers/find-in-services.ts';

/** Makes a client of any service for a region: `(Client, settings) => new Client(settings)`. */
export type Connect = <Client extends CloudWatchClient | EC2Client | IAMClient | S3Client | SNSClient | STSClient>(
  Client: new (settings: Settings) => Client,
  settings: Settings,
) => Client;

type Settings = { region: string; followRegionRedirects?: boolean; maxAttempts?: number };

export interface Tagged {
  /** `i-0123456789abcdef0`, `s3://bucket` */
  id: string;
  region: string;
  /** The tag's value. */
  value: string;
}

/** Where you may not look: a region, a service in one, IAM, S3 or a bucket, and the error that said so. */
export interface Unseen {
  where: string;
  error: Error;
}

/**
 * Finds the instances, volumes, snapshots, images, addresses, security groups, key pairs, alarms, topics, roles and
 * buckets with a tag.
 *
 * @param connect - Makes a client for a region.
 * @param options.key - Key of the tag.
 * @param options.value - Value of the tag. Any by default.
 * @param options.regions - Where to look. Roles and buckets are found wherever they are.
 * @param options.onProgress - Called with a text for people.
 * @returns What was found, nothing that is being deleted already, roles with the first region; and where you may not
 *   look.
 * @throws The SDK's error when none of the regions may be looked at, or for another reason than that.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html
 *
 * @example
 * const where = { key: 'project', value: 'moon', regions: ['eu-west-1'] };
 * const { found } = await findTagged((Client, settings) => new Client(settings), where);
 * for (const { id, region } of found) console.log(id, region);
 */
export async function findTagged(
  connect: Connect,
  {
    key,
    value,
    regions,
    onProgress,
  }: { key: string; value?: string; regions: string[]; onProgress?: (text: string) => void },
): Promise<{ found: Tagged[]; unseen: Unseen[] }> {
  const unseen: Unseen[] = [];
  // One call for each thing is more than CloudWatch, SNS and IAM take at once: calls that are throttled wait.
  const maxAttempts = 10;
  let asked = 0;
  const inRegion = async (region: string) => {
    const services = {
      EC2: findInEc2(connect(EC2Client, { region }), key, region),
      CloudWatch: findAlarms(connect(CloudWatchClient, { region, maxAttempts }), key, region),
      SNS: findTopics(connect(SNSClient, { region, maxAttempts }), key, region),
    };
    const [found, denied, errors] = [[] as Tagged[], [] as string[], [] as Error[]];
    for (const [service, things] of Object.entries(services)) {
      try {
        for await (const one of things) found.push(one);
      } catch (error) {
        Object.assign(error as Error, { message: `${region}: ${(error as Error).message}` });
        if (!isDenied(error as Error)) throw error;
        denied.push(service);
        errors.push(error as Error);
      }
    }
    const where = denied.length === 3 && found.length === 0 ? region : `${denied.join(', ')} in ${region}`;
    if (errors[0]) unseen.push({ where, error: errors[0] });
    const dark = unseen.filter((one) => regions.includes(one.where));
    if (dark.length === regions.length) throw dark[0]?.error;
    onProgress?.(`${++asked} of ${regions.length} regions looked at`);
    return found;
  };
  const anywhere = async (service: string, things: AsyncGenerator<Tagged>) => {
    const found: Tagged[] = [];
    try {
      for await (const one of things) found.push(one);
    } catch (error) {
      if (!isDenied(error as Error)) throw error;
      unseen.push({ where: service, error: error as Error });
    }
    return found;
  };
  const home = regions[0] as string;
  const all = await Promise.all([
    pMap(regions, inRegion, { concurrency: 16 }),
    // Roles belong to no region: they are told with the first.
    anywhere('IAM', findRoles(connect(IAMClient, { region: home, maxAttempts }), key, home)),
    anywhere(
      'S3',
      findBuckets((region) => connect(S3Client, { region }), key, home, unseen),
    ),
  ]);
  return { found: all.flat(2).filter((one) => value === undefined || one.value === value), unseen };
}

/**
 * Throws if something could not be looked at.
 *
 * @param unseen - What `findTagged` tells.
 * @throws Error that names all of it, with the first error's name and reason.
 * @see https://docs.aws.amazon.com/organizations/latest/userguide/orgs_manage_policies_scps.html
 *
 * @example
 * const where = { key: 'project', regions: ['eu-west-1', 'eu-north-1'] };
 * const { found, unseen } = await findTagged((Client, settings) => new Client(settings), where);
 * console.log(found);
 * refuseUnseen(unseen);
 */
export function refuseUnseen(unseen: Unseen[]): void {
  const [first] = unseen;
  if (!first) return;
  const { name, message } = first.error;
  const told = `could not look at ${unseen.map(({ where }) => where).join(', ')}: ${message}`;
  throw Object.assign(new Error(told, { cause: first.error }), { name });
}

/**
 * The regions that the account may use.
 *
 * @param ec2 - A client of any region.
 * @param options.signal - Aborts it.
 * @returns Names of regions: `eu-west-1`.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeRegions.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const regions = await findEnabledRegions(ec2);
 * console.log(regions.join(', '));
 */
export async function findEnabledRegions(ec2: EC2Client, { signal }: { signal?: AbortSignal } = {}): Promise<string[]> {
  const Filters = [{ Name: 'opt-in-status', Values: ['opt-in-not-required', 'opted-in'] }];
  const { Regions = [] } = await ec2.send(new DescribeRegionsCommand({ Filters }), { abortSignal: signal });
  return Regions.map(({ RegionName }) => RegionName as string);
}

// ---- command line: leave out when copying ----
import { connect, print, progress, recipe } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .option('--key <key>', 'key of the tag', 'paws')
    .option('--value <value>', 'value of the tag (default: any)')
    .option('--all-regions', 'look in every region that the account has enabled')
    .action(async ({ key, value, allRegions }) => {
      const here = connect(EC2Client);
      const regions = allRegions ? await findEnabledRegions(here) : [await here.config.region()];
      const { found, unseen } = await findTagged(connect, { key, value, regions, onProgress: progress });
      print(found);
      refuseUnseen(unseen);
    }),
);
