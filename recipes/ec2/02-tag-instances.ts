/**
 * 2.2 Tag instances
 *
 * ## Problem
 * You want to tell your instances apart by project, owner or stage, find them by that, and see it on the bill.
 *
 * ## Solution
 * Take instances by their ids or find them by a tag. Read their tags and those of their volumes and network interfaces,
 * then add, change or remove some on all of them. What is lost by that is shown and asked about first.
 *
 * ## Discussion
 * An instance's volumes and network interfaces don't take over its tags. So all of them are tagged together, as the
 * bill needs it: there a tag counts once you have activated it as a cost allocation tag, and not for the time before it
 * was set. What you attach later has none, and right after a launch not all may be listed: run it again then.
 *
 * Keys and values are case-sensitive: `Name` is the one that the console shows, `name` isn't. A key has up to 128
 * characters, a value 256, and a resource 50 tags. Keys that begin with `aws:` are AWS's own: they don't count, and you
 * can't change them. Everybody who may describe an instance reads its tags, so keep secrets out. IAM policies may look
 * at tags: changing one can give or take permissions. Instances that show their tags in their metadata take only keys of
 * the letters a to z and A to Z, digits and `+-=.,_:@`.
 *
 * Finding takes `*` for any characters and `?` for one or none, unless a backslash is before it. DescribeInstances has
 * filters for a key and for the value of a known key (`tag:stage`), but none for a value under any key. DescribeTags
 * has, but may list instances that are gone: these are sorted out. A tag that was set this moment may not be found yet.
 *
 * Running it again changes nothing more; if it stops half-way, run it again. To never have an instance without tags,
 * set them at launch (2.1). With the tag `paws` an instance is this cookbook's: 1.14 finds it, and 1.9 may delete it.
 *
 * @before npx tsx recipes/ec2/01-launch-instance.ts --local
 * @run npx tsx recipes/ec2/02-tag-instances.ts --set stage=test --set owner=ann --local
 * @output
 *   id                     tags                             lost
 *   i-0abcdef1234567890    paws=2.1, stage=test, owner=ann  -
 *   vol-0abcdef1234567890  paws=2.1, stage=test, owner=ann  -
 *   eni-0abcdef1234567890  stage=test, owner=ann            -
 * @run npx tsx recipes/ec2/02-tag-instances.ts --key stage --value 't*' --set stage=live --remove owner --local --yes
 * @run npx tsx recipes/ec2/02-tag-instances.ts --value live --local
 * @permission ec2:DescribeInstances on *
 * @permission ec2:DescribeTags on *
 * @permission ec2:CreateTags on arn:aws:ec2:*:*:instance/*
 * @permission ec2:CreateTags on arn:aws:ec2:*:*:volume/*
 * @permission ec2:CreateTags on arn:aws:ec2:*:*:network-interface/*
 * @permission ec2:DeleteTags on arn:aws:ec2:*:*:instance/*
 * @permission ec2:DeleteTags on arn:aws:ec2:*:*:volume/*
 * @permission ec2:DeleteTags on arn:aws:ec2:*:*:network-interface/*
 * @cost nothing for tags
 * @undo nothing
 * @emulator LocalStack lists the tags of terminated instances for ever, takes `?` for one character, and no backslash.
 * @book ec2.create_tags → CreateTagsCommand
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/work-with-tags-in-IMDS.html
 */
import {
  CreateTagsCommand,
  DeleteTagsCommand,
  DescribeInstancesCommand,
  EC2Client,
  paginateDescribeInstances,
  paginateDescribeTags,
} from '@aws-sdk/client-ec2';

export interface TaggedResource {
  /** The instance, or a volume or network interface that is attached to it. */
  id: string;
  /** All tags that it has now. */
  tags: Record<string, string>;
  /** What was removed or has another value now, as it was. */
  lost: Record<string, string>;
}

/**
 * Adds, changes and removes tags of instances, and of the volumes and network interfaces that are attached to them.
 *
 * @param ec2 - Of the instances' region.
 * @param options.instanceIds - The instances.
 * @param options.set - Tags to add, or to give another value. None by default.
 * @param options.remove - Keys of tags to remove, whatever their value. None by default.
 * @param options.attached - Whether to include their volumes and network interfaces. True by default.
 * @param options.dryRun - Whether to change nothing and to tell only how it would be. False by default.
 * @param options.signal - Aborts between calls; what is done stays done.
 * @returns Each resource that was looked at.
 * @throws RangeError, before anything is changed, when EC2 would refuse a tag or a resource would have over 50.
 * @throws InvalidInstanceID.NotFound when an instance isn't there.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateTags.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const instanceIds = ['i-0123456789abcdef0'];
 * const resources = await tagInstances(ec2, { instanceIds, set: { stage: 'live' }, remove: ['owner'] });
 * for (const { id, tags } of resources) console.log(id, tags.stage);
 */
export async function tagInstances(
  ec2: EC2Client,
  {
    instanceIds,
    set = {},
    remove = [],
    attached = true,
    dryRun = false,
    signal,
  }: {
    instanceIds: string[];
    set?: Record<string, string>;
    remove?: string[];
    attached?: boolean;
    dryRun?: boolean;
    signal?: AbortSignal;
  },
): Promise<TaggedResource[]> {
  checkTags(set, remove);
  const options = { abortSignal: signal };
  const found = new Set<string>();
  // Without ids DescribeInstances answers for every instance there is; of an empty list there are no batches.
  for (const InstanceIds of batches(instanceIds)) {
    const { Reservations = [] } = await ec2.send(new DescribeInstancesCommand({ InstanceIds }), options);
    for (const instance of Reservations.flatMap(({ Instances = [] }) => Instances)) {
      found.add(instance.InstanceId as string);
      const odd = Object.keys(set).find((key) => !/^(?!(\.\.?|_index)$)[\w+=.,:@-]*$/.test(key));
      if (odd && instance.MetadataOptions?.InstanceMetadataTags === 'enabled')
        throw new RangeError(`${instance.InstanceId} shows its tags in its metadata, where "${odd}" can be no key`);
      if (!attached) continue;
      for (const { Ebs } of instance.BlockDeviceMappings ?? []) found.add(Ebs?.VolumeId as string);
      for (const { NetworkInterfaceId } of instance.NetworkInterfaces ?? []) found.add(NetworkInterfaceId as string);
    }
  }
  const ids = [...found];
  const before = await readTags(ec2, ids, signal);

  // Worked out rather than read again afterwards: for a moment EC2 may still answer with the old tags.
  const resources = ids.map((id) => {
    const old = before.get(id) ?? {};
    // New tags are there before old ones go, so both have to fit.
    const all = { ...old, ...set };
    const own = Object.keys(all).filter((key) => !key.startsWith('aws:')).length;
    if (own > 50) throw new RangeError(`${id} would have ${own} tags, and 50 is the most: remove some first`);
    const tags = Object.fromEntries(Object.entries(all).filter(([key]) => !remove.includes(key)));
    const lost = Object.fromEntries(Object.entries(old).filter(([key, value]) => tags[key] !== value));
    return { id, tags, lost };
  });
  if (dryRun) return resources;

  const Tags = Object.entries(set).map(([Key, Value]) => ({ Key, Value }));
  const gone = remove.map((Key) => ({ Key }));
  for (const Resources of batches(ids)) {
    if (Tags.length > 0) await ec2.send(new CreateTagsCommand({ Resources, Tags }), options);
    // Without a list of tags DeleteTags would delete them all; with a value, only tags that have this value.
    if (gone.length > 0) await ec2.send(new DeleteTagsCommand({ Resources, Tags: gone }), options);
  }
  return resources;
}

/**
 * Finds the instances that have a tag. Key and value may have wildcards: `*` and `?`; a backslash makes them plain.
 *
 * @param ec2 - Of the region to look in.
 * @param options.key - Key of the tag. Any by default.
 * @param options.value - Value of the tag. Any by default.
 * @returns Ids of the instances that are not terminated.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeTags.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const instanceIds = await findInstances(ec2, { key: 'Name', value: 'web-*' });
 * console.log(instanceIds.join('\n'));
 */
export async function findInstances(
  ec2: EC2Client,
  { key = '*', value = '*' }: { key?: string; value?: string },
): Promise<string[]> {
  const Filters = [
    { Name: 'resource-type', Values: ['instance'] },
    { Name: 'key', Values: [key] },
    { Name: 'value', Values: [value] },
  ];
  const tagged = new Set<string>();
  for await (const { Tags = [] } of paginateDescribeTags({ client: ec2, pageSize: 1000 }, { Filters })) {
    for (const { ResourceId } of Tags) tagged.add(ResourceId as string);
  }
  const found: string[] = [];
  const alive = { Name: 'instance-state-name', Values: ['pending', 'running', 'stopping', 'stopped'] };
  for (const Values of batches([...tagged])) {
    // As a filter, ids that EC2 has forgotten are no error.
    const Filters = [{ Name: 'instance-id', Values }, alive];
    for await (const { Reservations = [] } of paginateDescribeInstances({ client: ec2, pageSize: 1000 }, { Filters })) {
      found.push(...Reservations.flatMap(({ Instances = [] }) => Instances.map((one) => one.InstanceId as string)));
    }
  }
  return found;
}

/** The tags of each resource that has some. */
async function readTags(ec2: EC2Client, ids: string[], signal?: AbortSignal) {
  const tags = new Map<string, Record<string, string>>();
  for (const Values of batches(ids)) {
    const Filters = [{ Name: 'resource-id', Values }];
    const pages = paginateDescribeTags({ client: ec2, pageSize: 1000 }, { Filters }, { abortSignal: signal });
    for await (const { Tags = [] } of pages) {
      for (const { ResourceId: id = '', Key = '', Value = '' } of Tags) tags.set(id, { ...tags.get(id), [Key]: Value });
    }
  }
  return tags;
}

/** A filter takes 200 values, but EC2 may count those of all filters of a call (`FilterLimitExceeded`). */
function* batches(ids: string[]): Generator<string[]> {
  for (let at = 0; at < ids.length; at += 100) yield ids.slice(at, at + 100);
}

/** Refuses tags that EC2 would refuse, and says why. */
function checkTags(set: Record<string, string>, remove: string[]): void {
  for (const [key, value] of [...Object.entries(set), ...remove.map((key) => [key, ''] as const)]) {
    const refuse = (why: string) => {
      throw new RangeError(`the key "${key}" ${why}`);
    };
    // Characters as Unicode counts them, not JavaScript.
    if (key === '' || [...key].length > 128) refuse('must have 1 to 128 characters');
    if (/^aws:/i.test(key)) refuse('begins with aws:, which is for AWS itself');
    if ([...value].length > 256) refuse('has a value of more than 256 characters');
    if (Object.hasOwn(set, key) && remove.includes(key)) refuse('is to be set and to be removed');
  }
}

// ---- command line: leave out when copying ----
import { confirm, connect, interrupted, print, recipe, yes } from '../../shared/cli.ts';
import { newestInstance } from '../../shared/newest.ts';

const list = (text: string, before: string[] = []) => [...before, text];
const show = (tags: object) => Array.from(Object.entries(tags), (tag) => tag.join('=')).join(', ') || '-';

recipe(import.meta, (command) =>
  command
    .argument('[instance-id...]', 'the instances (default: the newest one of this cookbook)')
    .option('--key <key>', 'find instances by the key of a tag instead')
    .option('--value <value>', 'find instances by the value of a tag instead')
    .option('--set <key=value>', 'tag to add or change; may be repeated', list, [])
    .option('--remove <key>', 'tag to remove; may be repeated', list, [])
    .option('--no-attached', 'leave volumes and network interfaces alone')
    .addOption(yes)
    .action(async (given, { key, value, set, remove, attached }) => {
      const pairs = set.map((text) => /^([^=]+)=(.*)$/s.exec(text)?.slice(1) ?? [text]);
      const search = key !== undefined || value !== undefined;
      if (pairs.some(({ length }) => length < 2)) throw new RangeError('--set takes KEY=VALUE');
      if (search && given.length > 0) throw new RangeError('--key and --value go without ids of instances');
      const ec2 = connect(EC2Client);
      const named = search ? await findInstances(ec2, { key, value }) : given;
      const instanceIds = search || named.length > 0 ? named : [await newestInstance(ec2)];
      const options = { instanceIds, set: Object.fromEntries(pairs), remove, attached };
      const planned = await tagInstances(ec2, { ...options, dryRun: true });
      const lost = planned.flatMap((one) => (Object.keys(one.lost).length > 0 ? `${one.id}: ${show(one.lost)}` : []));
      if (lost.length > 0) await confirm(`Remove or overwrite these tags? ${lost.join('; ')}`);
      print(await tagInstances(ec2, { ...options, signal: interrupted() }), { tags: show, lost: show });
    }),
);
