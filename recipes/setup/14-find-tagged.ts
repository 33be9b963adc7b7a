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
 * one region a call, may lag behind, and knows neither key pairs nor roles.
 *
 * Where a policy of your organization forbids regions, `--all-regions` ends with an error that names the first of them:
 * look in each of those that you may use (`--region`).
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
import {
  AlarmType,
  CloudWatchClient,
  ListTagsForResourceCommand as ListAlarmTagsCommand,
  paginateDescribeAlarms,
} from '@aws-sdk/client-cloudwatch';
import {
  DescribeAddressesCommand,
  DescribeKeyPairsCommand,
  DescribeRegionsCommand,
  EC2Client,
  paginateDescribeImages,
  paginateDescribeInstances,
  paginateDescribeSecurityGroups,
  paginateDescribeSnapshots,
  paginateDescribeVolumes,
  type Tag,
} from '@aws-sdk/client-ec2';
import { IAMClient, ListRoleTagsCommand, paginateListRoles, type Role } from '@aws-sdk/client-iam';
import { type Bucket, GetBucketTaggingCommand, paginateListBuckets, S3Client } from '@aws-sdk/client-s3';
import {
  ListTagsForResourceCommand as ListTopicTagsCommand,
  paginateListTopics,
  SNSClient,
  type Topic,
} from '@aws-sdk/client-sns';
import pMap from 'p-map';

/** Makes a client of any service for a region: `(Client, settings) => new Client(settings)`. */
export type Connect = <Client extends CloudWatchClient | EC2Client | IAMClient | S3Client | SNSClient>(
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

/**
 * Finds the instances, volumes, snapshots, images, addresses, security groups, key pairs, alarms, topics, roles and
 * buckets with a tag.
 *
 * @param connect - Makes a client for a region.
 * @param options.key - Key of the tag.
 * @param options.value - Value of the tag. Any by default.
 * @param options.regions - Where to look. Roles and buckets are found wherever they are.
 * @returns What was found; nothing that is being deleted already.
 * @throws The SDK's error when a region or a bucket can't be looked at.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html
 *
 * @example
 * const where = { key: 'project', value: 'moon', regions: ['eu-west-1'] };
 * const found = await findTagged((Client, settings) => new Client(settings), where);
 * for (const { id, region } of found) console.log(id, region);
 */
export async function findTagged(
  connect: Connect,
  { key, value, regions }: { key: string; value?: string; regions: string[] },
): Promise<Tagged[]> {
  // One call for each thing is more than CloudWatch, SNS and IAM take at once: calls that are throttled wait.
  const maxAttempts = 10;
  const inRegion = async (region: string) => {
    try {
      return [
        ...(await findInEc2(connect(EC2Client, { region }), key, region)),
        ...(await findAlarms(connect(CloudWatchClient, { region, maxAttempts }), key, region)),
        ...(await findTopics(connect(SNSClient, { region, maxAttempts }), key, region)),
      ];
    } catch (error) {
      throw Object.assign(error as Error, { message: `${region}: ${(error as Error).message}` });
    }
  };
  const home = regions[0] as string;
  const found = await Promise.all([
    pMap(regions, inRegion, { concurrency: 16 }),
    // Roles belong to no region: they are told with the first.
    findRoles(connect(IAMClient, { region: home, maxAttempts }), key, home),
    findBuckets((region) => connect(S3Client, { region }), key, home),
  ]);
  return found.flat(2).filter((one) => value === undefined || one.value === value);
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

async function findInEc2(ec2: EC2Client, key: string, region: string): Promise<Tagged[]> {
  const found: Tagged[] = [];
  const add = (id: string | undefined, tags: Tag[] = []) => {
    // To EC2's filter, a star in the key stands for any characters.
    const tag = tags.find(({ Key }) => Key === key);
    if (tag) found.push({ id: id as string, region, value: tag.Value as string });
  };
  const tagged = { Name: 'tag-key', Values: [key] };
  const Filters = [tagged];
  const alive = { Name: 'instance-state-name', Values: ['pending', 'running', 'stopping', 'stopped'] };
  for await (const page of paginateDescribeInstances({ client: ec2, pageSize: 500 }, { Filters: [tagged, alive] })) {
    for (const { Instances = [] } of page.Reservations ?? []) {
      for (const { InstanceId, Tags } of Instances) add(InstanceId, Tags);
    }
  }
  const kept = { Name: 'status', Values: ['creating', 'available', 'in-use', 'error'] };
  for await (const page of paginateDescribeVolumes({ client: ec2, pageSize: 500 }, { Filters: [tagged, kept] })) {
    for (const { VolumeId, Tags } of page.Volumes ?? []) add(VolumeId, Tags);
  }
  const mine = { Filters, OwnerIds: ['self'] };
  for await (const page of paginateDescribeSnapshots({ client: ec2, pageSize: 500 }, mine)) {
    for (const { SnapshotId, Tags } of page.Snapshots ?? []) add(SnapshotId, Tags);
  }
  const images = { Filters, Owners: ['self'], IncludeDeprecated: true, IncludeDisabled: true };
  for await (const page of paginateDescribeImages({ client: ec2, pageSize: 500 }, images)) {
    for (const { ImageId, Tags } of page.Images ?? []) add(ImageId, Tags);
  }
  for await (const page of paginateDescribeSecurityGroups({ client: ec2, pageSize: 500 }, { Filters })) {
    for (const { GroupId, Tags } of page.SecurityGroups ?? []) add(GroupId, Tags);
  }
  // Addresses and key pairs come all at once.
  const { Addresses = [] } = await ec2.send(new DescribeAddressesCommand({ Filters }));
  for (const { AllocationId, Tags } of Addresses) add(AllocationId, Tags);
  const { KeyPairs = [] } = await ec2.send(new DescribeKeyPairsCommand({ Filters }));
  for (const { KeyPairId, Tags } of KeyPairs) add(KeyPairId, Tags);
  return found;
}

async function findAlarms(cloudwatch: CloudWatchClient, key: string, region: string): Promise<Tagged[]> {
  const found: Tagged[] = [];
  const look = async ({ AlarmArn: id }: { AlarmArn?: string }) => {
    const { Tags = [] } = await cloudwatch.send(new ListAlarmTagsCommand({ ResourceARN: id })).catch(noneIfGone);
    const tag = Tags.find(({ Key }) => Key === key);
    if (tag) found.push({ id: id as string, region, value: tag.Value as string });
  };
  // Without these it would tell of metric alarms only.
  const AlarmTypes = Object.values(AlarmType);
  for await (const page of paginateDescribeAlarms({ client: cloudwatch }, { AlarmTypes })) {
    const { MetricAlarms = [], CompositeAlarms = [], LogAlarms = [] } = page;
    await pMap([...MetricAlarms, ...CompositeAlarms, ...LogAlarms], look, { concurrency: 4 });
  }
  return found;
}

async function findTopics(sns: SNSClient, key: string, region: string): Promise<Tagged[]> {
  const found: Tagged[] = [];
  const look = async ({ TopicArn: id }: Topic) => {
    const { Tags = [] } = await sns.send(new ListTopicTagsCommand({ ResourceArn: id })).catch(noneIfGone);
    const tag = Tags.find(({ Key }) => Key === key);
    if (tag) found.push({ id: id as string, region, value: tag.Value as string });
  };
  for await (const { Topics = [] } of paginateListTopics({ client: sns }, {})) {
    await pMap(Topics, look, { concurrency: 4 });
  }
  return found;
}

async function findRoles(iam: IAMClient, key: string, region: string): Promise<Tagged[]> {
  const found: Tagged[] = [];
  const look = async ({ Arn: id, RoleName }: Role) => {
    const { Tags = [] } = await iam.send(new ListRoleTagsCommand({ RoleName })).catch(noneIfGone);
    const tag = Tags.find(({ Key }) => Key === key);
    if (tag) found.push({ id: id as string, region, value: tag.Value as string });
  };
  for await (const { Roles = [] } of paginateListRoles({ client: iam }, {})) {
    await pMap(Roles, look, { concurrency: 4 });
  }
  return found;
}

/** For what was deleted since the list was made. */
function noneIfGone(error: Error): { Tags?: Tag[] } {
  if (/NotFound|NoSuchEntity/.test(error.name)) return {};
  throw error;
}

async function findBuckets(s3: (region: string) => S3Client, key: string, home: string): Promise<Tagged[]> {
  const found: Tagged[] = [];
  const clients = new Map<string, S3Client>();
  const look = async ({ Name, BucketRegion: region = home }: Bucket) => {
    const client = clients.get(region) ?? s3(region);
    clients.set(region, client);
    try {
      // A bucket answers for its tags in its own region only.
      const { TagSet = [] } = await client.send(new GetBucketTaggingCommand({ Bucket: Name }));
      const tag = TagSet.find(({ Key }) => Key === key);
      if (tag) found.push({ id: `s3://${Name}`, region, value: tag.Value as string });
    } catch (error) {
      // No tags at all, or deleted since the list was made.
      if (!['NoSuchTagSet', 'NoSuchBucket'].includes((error as Error).name)) throw error;
    }
  };
  for await (const { Buckets = [] } of paginateListBuckets({ client: s3(home) }, { MaxBuckets: 1000 })) {
    await pMap(Buckets, look, { concurrency: 16 });
  }
  return found;
}

// ---- command line: leave out when copying ----
import { connect, print, recipe } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .option('--key <key>', 'key of the tag', 'paws')
    .option('--value <value>', 'value of the tag (default: any)')
    .option('--all-regions', 'look in every region that the account has enabled')
    .action(async ({ key, value, allRegions }) => {
      const here = connect(EC2Client);
      const regions = allRegions ? await findEnabledRegions(here) : [await here.config.region()];
      print(await findTagged(connect, { key, value, regions }));
    }),
);
