/** Looks for a tag in the services, for 1.14. */
import {
  AlarmType,
  type CloudWatchClient,
  ListTagsForResourceCommand as ListAlarmTagsCommand,
  paginateDescribeAlarms,
} from '@aws-sdk/client-cloudwatch';
import {
  DescribeAddressesCommand,
  DescribeKeyPairsCommand,
  type EC2Client,
  paginateDescribeImages,
  paginateDescribeInstances,
  paginateDescribeSecurityGroups,
  paginateDescribeSnapshots,
  paginateDescribeVolumes,
  type Tag,
} from '@aws-sdk/client-ec2';
import { type IAMClient, ListRoleTagsCommand, paginateListRoles, type Role } from '@aws-sdk/client-iam';
import { type Bucket, GetBucketTaggingCommand, paginateListBuckets, type S3Client } from '@aws-sdk/client-s3';
import {
  ListTagsForResourceCommand as ListTopicTagsCommand,
  paginateListTopics,
  type SNSClient,
  type Topic,
} from '@aws-sdk/client-sns';
import pMap from 'p-map';
import type { Tagged, Unseen } from '../14-find-tagged.ts';

/** Each service has its own name for it; of a region that the account, or a session token, is not good for, too. */
export function isDenied({ name }: Error): boolean {
  const notGoodHere = /AuthFailure|InvalidClientTokenId|^InvalidToken|InvalidAccessKeyId|UnrecognizedClient/i;
  return /denied|unauthorized|AuthorizationError/i.test(name) || notGoodHere.test(name);
}

/** The instances, volumes, snapshots, images, security groups, addresses and key pairs of a region that have the tag. */
export async function* findInEc2(ec2: EC2Client, key: string, region: string): AsyncGenerator<Tagged> {
  // To EC2's filter, a star in the key stands for any characters: so each is looked at again.
  const tagged = (id: string | undefined, tags?: Tag[]) => withTag({ id, region }, key, tags);
  const has = { Name: 'tag-key', Values: [key] };
  const Filters = [has];
  const alive = { Name: 'instance-state-name', Values: ['pending', 'running', 'stopping', 'stopped'] };
  for await (const page of paginateDescribeInstances({ client: ec2, pageSize: 500 }, { Filters: [has, alive] })) {
    for (const { Instances = [] } of page.Reservations ?? []) {
      for (const { InstanceId, Tags } of Instances) yield* tagged(InstanceId, Tags);
    }
  }
  const kept = { Name: 'status', Values: ['creating', 'available', 'in-use', 'error'] };
  for await (const page of paginateDescribeVolumes({ client: ec2, pageSize: 500 }, { Filters: [has, kept] })) {
    for (const { VolumeId, Tags } of page.Volumes ?? []) yield* tagged(VolumeId, Tags);
  }
  const mine = { Filters, OwnerIds: ['self'] };
  for await (const page of paginateDescribeSnapshots({ client: ec2, pageSize: 500 }, mine)) {
    for (const { SnapshotId, Tags } of page.Snapshots ?? []) yield* tagged(SnapshotId, Tags);
  }
  const images = { Filters, Owners: ['self'], IncludeDeprecated: true, IncludeDisabled: true };
  for await (const page of paginateDescribeImages({ client: ec2, pageSize: 500 }, images)) {
    for (const { ImageId, Tags } of page.Images ?? []) yield* tagged(ImageId, Tags);
  }
  for await (const page of paginateDescribeSecurityGroups({ client: ec2, pageSize: 500 }, { Filters })) {
    for (const { GroupId, Tags } of page.SecurityGroups ?? []) yield* tagged(GroupId, Tags);
  }
  // Addresses and key pairs come all at once.
  const { Addresses = [] } = await ec2.send(new DescribeAddressesCommand({ Filters }));
  for (const { AllocationId, Tags } of Addresses) yield* tagged(AllocationId, Tags);
  const { KeyPairs = [] } = await ec2.send(new DescribeKeyPairsCommand({ Filters }));
  for (const { KeyPairId, Tags } of KeyPairs) yield* tagged(KeyPairId, Tags);
}

/** The alarms of a region that have the tag: each has to be asked. */
export async function* findAlarms(client: CloudWatchClient, key: string, region: string): AsyncGenerator<Tagged> {
  const look = async ({ AlarmArn: id }: { AlarmArn?: string }) => {
    const { Tags } = await client.send(new ListAlarmTagsCommand({ ResourceARN: id })).catch(noneIfGone);
    return withTag({ id, region }, key, Tags);
  };
  // Without these it would tell of metric alarms only.
  const AlarmTypes = Object.values(AlarmType);
  for await (const page of paginateDescribeAlarms({ client }, { AlarmTypes })) {
    const { MetricAlarms = [], CompositeAlarms = [], LogAlarms = [] } = page;
    const alarms = [...MetricAlarms, ...CompositeAlarms, ...LogAlarms];
    yield* (await pMap(alarms, look, { concurrency: 4 })).flat();
  }
}

/** The topics of a region that have the tag: each has to be asked. */
export async function* findTopics(client: SNSClient, key: string, region: string): AsyncGenerator<Tagged> {
  const look = async ({ TopicArn: id }: Topic) => {
    const { Tags } = await client.send(new ListTopicTagsCommand({ ResourceArn: id })).catch(noneIfGone);
    return withTag({ id, region }, key, Tags);
  };
  for await (const { Topics = [] } of paginateListTopics({ client }, {})) {
    yield* (await pMap(Topics, look, { concurrency: 4 })).flat();
  }
}

/** The roles of the account that have the tag: each has to be asked. They are told with a region, and have none. */
export async function* findRoles(client: IAMClient, key: string, region: string): AsyncGenerator<Tagged> {
  const look = async ({ Arn: id, RoleName }: Role) => {
    const { Tags } = await client.send(new ListRoleTagsCommand({ RoleName })).catch(noneIfGone);
    return withTag({ id, region }, key, Tags);
  };
  for await (const { Roles = [] } of paginateListRoles({ client }, {})) {
    yield* (await pMap(Roles, look, { concurrency: 4 })).flat();
  }
}

/** The buckets of the account that have the tag, each asked in its own region; adds those that may not be asked. */
export async function* findBuckets(
  s3: (region: string) => S3Client,
  key: string,
  home: string,
  unseen: Unseen[],
): AsyncGenerator<Tagged> {
  const clients = new Map<string, S3Client>();
  const look = async ({ Name, BucketRegion: region = home }: Bucket) => {
    const client = clients.get(region) ?? s3(region);
    clients.set(region, client);
    try {
      // A bucket answers for its tags in its own region only.
      const { TagSet } = await client.send(new GetBucketTaggingCommand({ Bucket: Name }));
      return withTag({ id: `s3://${Name}`, region }, key, TagSet);
    } catch (error) {
      // No tags at all, or deleted since the list was made.
      if (['NoSuchTagSet', 'NoSuchBucket'].includes((error as Error).name)) return [];
      if (!isDenied(error as Error)) throw error;
      unseen.push({ where: `s3://${Name}`, error: error as Error });
      return [];
    }
  };
  for await (const { Buckets = [] } of paginateListBuckets({ client: s3(home) }, { MaxBuckets: 1000 })) {
    yield* (await pMap(Buckets, look, { concurrency: 16 })).flat();
  }
}

/** The thing with the tag's value, if it has the tag. */
function withTag({ id, region }: { id?: string; region: string }, key: string, tags: Tag[] = []): Tagged[] {
  return tags
    .filter(({ Key }) => Key === key)
    .map(({ Value }) => ({ id: id as string, region, value: Value as string }));
}

/** For what was deleted since the list was made. */
function noneIfGone(error: Error): { Tags?: Tag[] } {
  if (/NotFound|NoSuchEntity/.test(error.name)) return {};
  throw error;
}
