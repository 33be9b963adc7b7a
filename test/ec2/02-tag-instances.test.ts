import {
  CreateTagsCommand,
  DescribeInstancesCommand,
  DescribeTagsCommand,
  RunInstancesCommand,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import { describe, expect, test } from 'vitest';
import { findInstances, tagInstances } from '../../recipes/ec2/02-tag-instances.ts';
import { testRecipe } from '../harness.ts';

const { run, file, ec2 } = testRecipe(import.meta);
const tag = (options: string, settings = {}) => run(`npx tsx ${file} --local --json ${options}`, settings);

async function launch(tags: Record<string, string> = {}): Promise<string> {
  const ImageId = 'ami-0532be01f26a3de55';
  const { Instances } = await ec2().send(new RunInstancesCommand({ ImageId, MinCount: 1, MaxCount: 1 }));
  const instanceId = Instances?.[0]?.InstanceId as string;
  const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
  if (Tags.length > 0) await ec2().send(new CreateTagsCommand({ Resources: [instanceId], Tags }));
  return instanceId;
}

/** The instance and what is attached to it. */
async function partsOf(instanceId: string): Promise<string[]> {
  const { Reservations } = await ec2().send(new DescribeInstancesCommand({ InstanceIds: [instanceId] }));
  const instance = Reservations?.[0]?.Instances?.[0];
  const volumes = instance?.BlockDeviceMappings?.map(({ Ebs }) => Ebs?.VolumeId as string) ?? [];
  const interfaces = instance?.NetworkInterfaces?.map((one) => one.NetworkInterfaceId as string) ?? [];
  return [instanceId, ...volumes, ...interfaces];
}

async function tagsOf(id: string): Promise<Record<string, string>> {
  const Filters = [{ Name: 'resource-id', Values: [id] }];
  const { Tags = [] } = await ec2().send(new DescribeTagsCommand({ Filters }));
  return Object.fromEntries(Tags.map(({ Key, Value }) => [Key, Value]));
}

test('tags are added, changed and removed on the instance and what is attached; others keep theirs', async () => {
  const [id, other] = [await launch({ stage: 'test', owner: 'ann' }), await launch({ stage: 'test' })];
  const parts = await partsOf(id);
  expect(parts).toHaveLength(3);
  const result = await tag(`${id} --set stage=live --set 'note=a=b c' --set empty= --remove owner --yes`);
  expect(JSON.parse(result.stdout)).toEqual([
    { id, tags: { stage: 'live', note: 'a=b c', empty: '' }, lost: { stage: 'test', owner: 'ann' } },
    ...parts.slice(1).map((id) => ({ id, tags: { stage: 'live', note: 'a=b c', empty: '' }, lost: {} })),
  ]);
  for (const part of parts) expect(await tagsOf(part)).toEqual({ stage: 'live', note: 'a=b c', empty: '' });
  expect(await tagsOf(other)).toEqual({ stage: 'test' });

  const again = JSON.parse((await tag(`${id} --set stage=live --remove owner`)).stdout);
  expect(again.map(({ lost }: { lost: object }) => lost)).toEqual([{}, {}, {}]);
});

test('a key that the metadata of an instance can not show is refused, for all', async () => {
  const metadata = { HttpTokens: 'required', InstanceMetadataTags: 'enabled' } as const;
  const input = { ImageId: 'ami-0532be01f26a3de55', MinCount: 1, MaxCount: 1, MetadataOptions: metadata };
  const { Instances } = await ec2().send(new RunInstancesCommand(input));
  const [shown, hidden] = [Instances?.[0]?.InstanceId as string, await launch()];
  for (const key of ['a b', 'team/owner', 'Größe', 'a*', '.', '..', '_index']) {
    const failed = tagInstances(ec2(), { instanceIds: [hidden, shown], set: { fine: '1', [key]: '2' } });
    await expect(failed, key).rejects.toThrow(`${shown} shows its tags in its metadata, where "${key}" can be no key`);
  }
  expect(await tagsOf(hidden)).toEqual({});
  for (const [id, key] of [
    [hidden, 'team/owner'],
    [shown, 'team.owner_+-=,:@1'],
  ] as const) {
    await tagInstances(ec2(), { instanceIds: [id], set: { [key]: 'x' } });
    expect(await tagsOf(id)).toEqual({ [key]: 'x' });
  }
});

test('without an id the newest of the cookbook is shown, and nothing is changed', async () => {
  expect(await tag('')).toMatchObject({ code: 1, stderr: expect.stringContaining('no instance of this cookbook') });
  const id = await launch({ paws: '2.1' });
  expect(JSON.parse((await tag('--no-attached')).stdout)).toEqual([{ id, tags: { paws: '2.1' }, lost: {} }]);
});

test('what would be lost is named, and asked about', async () => {
  const id = await launch({ stage: 'test', owner: 'ann', kept: 'yes' });
  const refused = await tag(`${id} --set stage=live --set new=1 --remove owner --no-attached`);
  expect(refused).toMatchObject({ code: 2, stdout: '' });
  expect(refused.stderr).toContain(`Remove or overwrite these tags? ${id}: stage=test, owner=ann\n`);
  expect(await tagsOf(id)).toEqual({ stage: 'test', owner: 'ann', kept: 'yes' });
});

test('a value that looks like nothing is asked about, too', async () => {
  const id = await launch({ note: 'todo: -' });
  const refused = await tag(`${id} --remove note --no-attached`);
  expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining(`tags? ${id}: note=todo: -\n`) });
  expect(await tagsOf(id)).toEqual({ note: 'todo: -' });
});

test('a key is removed whatever its value, and removing nothing removes nothing', async () => {
  const id = await launch({ full: 'x', empty: '', kept: 'yes' });
  // What is sent is looked at, too: LocalStack takes a DeleteTags without tags for nothing to do, EC2 deletes them all.
  const client = ec2();
  const sent: string[] = [];
  const note = (next: (args: never) => Promise<never>, { commandName = '' }) => {
    sent.push(commandName);
    return next;
  };
  client.middlewareStack.add(note as never, { step: 'initialize' });
  await tagInstances(client, { instanceIds: [id], set: { new: '1' } });
  expect(sent).toContain('CreateTagsCommand');
  expect(sent).not.toContain('DeleteTagsCommand');
  expect(await tagsOf(id)).toEqual({ full: 'x', empty: '', kept: 'yes', new: '1' });
  const remove = ['full', 'empty', 'never there', 'constructor'];
  await tagInstances(ec2(), { instanceIds: [id], remove, attached: false });
  expect(await tagsOf(id)).toEqual({ kept: 'yes', new: '1' });
});

test('no instance is none, not all of them', async () => {
  const id = await launch();
  expect(await tagInstances(ec2(), { instanceIds: [], set: { stage: 'live' } })).toEqual([]);
  expect(await tagsOf(id)).toEqual({});
});

test('instances are found by key, by value and with wildcards, but none that is gone', async () => {
  const [web, db] = [await launch({ role: 'web-1' }), await launch({ role: 'db', side: 'web-1' })];
  const gone = await launch({ role: 'web-1' });
  await ec2().send(new TerminateInstancesCommand({ InstanceIds: [gone] }));
  const find = async (tag: object) => (await findInstances(ec2(), tag)).sort();
  expect(await find({ key: 'role', value: 'web-?' })).toEqual([web]);
  expect(await find({ key: 'ro*' })).toEqual([web, db].sort());
  expect(await find({ value: 'web-1' })).toEqual([web, db].sort());
  expect(await find({ key: 'role', value: 'web' })).toEqual([]);

  const changed = await tag("--key role --value 'web*' --set seen=1 --no-attached");
  expect(JSON.parse(changed.stdout)).toEqual([{ id: web, tags: { role: 'web-1', seen: '1' }, lost: {} }]);
  expect(await tag('--key nobody --remove role')).toMatchObject({ code: 0, stdout: '[]\n' });
});

test('more instances than go into one call', async () => {
  const launched = new RunInstancesCommand({ ImageId: 'ami-0532be01f26a3de55', MinCount: 201, MaxCount: 201 });
  const { Instances = [] } = await ec2().send(launched);
  const instanceIds = Instances.map(({ InstanceId }) => InstanceId as string);
  const options = { instanceIds, set: { many: 'yes' }, attached: false };
  expect(await tagInstances(ec2(), options)).toHaveLength(201);
  // EC2 may count the values of all filters together, and may answer with a page that has nothing but a token.
  const client = ec2();
  const values: number[] = [];
  type Call = { input: { Filters: { Values: string[] }[]; NextToken?: string } };
  const inPages = (next: (args: Call) => Promise<object>, { commandName = '' }) => {
    return async (args: Call) => {
      values.push(args.input.Filters.flatMap(({ Values }) => Values).length);
      if (commandName === 'DescribeInstancesCommand' && !args.input.NextToken) {
        return { response: {}, output: { $metadata: {}, Reservations: [], NextToken: 'more' } };
      }
      return next(commandName === 'DescribeTagsCommand' ? args : { ...args, input: { Filters: args.input.Filters } });
    };
  };
  client.middlewareStack.add(inPages as never, { step: 'initialize' });
  expect((await findInstances(client, { key: 'many' })).sort()).toEqual(instanceIds.sort());
  expect(Math.max(...values)).toBeLessThanOrEqual(200);
  const [, ...before] = await tagInstances(ec2(), { ...options, remove: ['other'], dryRun: true });
  expect(before.every(({ tags }) => tags.many === 'yes')).toBe(true);
});

describe('what EC2 would refuse is refused before anything is changed', () => {
  const full = Object.fromEntries(Array.from({ length: 50 }, (_, at) => [`key-${at}`, '']));
  const cases: [string, { set?: Record<string, string>; remove?: string[] }, RegExp][] = [
    ['an empty key', { set: { '': 'x' } }, /must have 1 to 128 characters/],
    ['a long key', { set: { ['é'.repeat(129)]: '' } }, /must have 1 to 128 characters/],
    ['a long value', { set: { a: 'é'.repeat(257) } }, /more than 256 characters/],
    ["AWS's own prefix", { set: { 'AWS:x': '' } }, /for AWS itself/],
    ["AWS's own prefix, removed", { remove: ['aws:x'] }, /for AWS itself/],
    ['set and removed', { set: { a: '' }, remove: ['a'] }, /to be set and to be removed/],
    ['the 51st', { set: { 'key-50': '' }, remove: ['key-1'] }, /would have 51 tags, and 50 is the most/],
  ];
  test.each(cases)('%s', async (_name, changes, message) => {
    const id = await launch(full);
    const error = await tagInstances(ec2(), { instanceIds: [id], ...changes }).catch((error) => error);
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toMatch(message);
    expect(await tagsOf(id)).toEqual(full);
  });

  test('but not what is just within: 128 characters, 256 characters, 50 tags', async () => {
    const id = await launch(Object.fromEntries(Object.entries(full).slice(1)));
    const set = { ['𝄞'.repeat(128)]: '𝄞'.repeat(256) };
    const [resource] = await tagInstances(ec2(), { instanceIds: [id], set, attached: false });
    expect(await tagsOf(id)).toEqual(resource?.tags);
    expect(await tagInstances(ec2(), { instanceIds: [id], set, attached: false })).toEqual([resource]);
  });
});

test('an unknown id, a tag without a value, and ids beside a search are one clear line', async () => {
  const [unknown, bare, both] = await Promise.all([
    tag('i-0123456789abcdef0 --set stage=live'),
    tag('i-0123456789abcdef0 --set stage'),
    tag('i-0123456789abcdef0 --key stage --remove stage'),
  ]);
  expect(unknown).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('InvalidInstanceID.NotFound') });
  expect(bare).toMatchObject({ code: 2, stdout: '', stderr: 'Error: --set takes KEY=VALUE\n' });
  expect(both).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('go without ids') });
});

test('if removing fails, what was set is there and nothing is removed', async () => {
  const id = await launch({ owner: 'ann' });
  const faults = [{ operation: 'ec2:DeleteTags', error: { name: 'UnauthorizedOperation' } }];
  const result = await tag(`${id} --set stage=live --remove owner --yes`, { faults });
  expect(result).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('permission ec2:DeleteTags') });
  expect(await tagsOf(id)).toEqual({ stage: 'live', owner: 'ann' });
});
