import {
  CreateImageCommand,
  CreateSnapshotCommand,
  CreateTagsCommand,
  CreateVolumeCommand,
  DescribeImagesCommand,
  DescribeSnapshotsCommand,
  EC2Client,
  RunInstancesCommand,
} from '@aws-sdk/client-ec2';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { backUpInstance, backUpVolume } from '../../recipes/ec2/08-back-up-volume.ts';
import { keepByRule, planPruning, pruneSnapshots, type Rule } from '../../recipes/ec2/24-prune-snapshots.ts';
import { withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';

const { run, file, ec2 } = testRecipe(import.meta);
const prune = (options: string, settings = {}) => run(`npx tsx ${file} ${options} --local`, settings);
const onlyNewest = '--hourly 1 --daily 0 --weekly 0 --monthly 0';

/** A snapshot in a history that a test made up. */
interface Told {
  id: string;
  time: Date;
  tags: Record<string, string>;
  /** Empty if it is no copy, or what EC2 says of copies: a volume that is none, or how it was copied. */
  copied: '' | 'vol-ffff' | 'vol-ffffffff' | 'vol-0123456789abcdef0' | 'time-based';
  state: string;
  tier: string;
  image: 'none' | 'available' | 'disabled';
  lock: 'none' | 'governance' | 'expired';
}

/** A client of an EC2 that has just these snapshots, answers in small pages and deletes what it is told to. */
function ec2Of(world: Map<string, Told>): EC2Client {
  const page = <Item>(items: Item[], { NextToken = '0' }: { NextToken?: string }) => {
    const end = Number(NextToken) + 3;
    return { items: items.slice(Number(NextToken), end), NextToken: end < items.length ? `${end}` : undefined };
  };
  // biome-ignore lint/suspicious/noExplicitAny: the inputs of five operations
  const answers: Record<string, (input: any) => object> = {
    DescribeSnapshotsCommand: (input) => {
      expect(input.MaxResults).toBe(1000);
      // Of others', too, if nobody says 'self'; but for the filter it would be all that there are.
      expect(input.OwnerIds).toEqual(['self']);
      const { items, NextToken } = page([...world.values()], input);
      const Snapshots = items.map(({ id, time, tags, copied, state, tier }) => ({
        SnapshotId: id,
        VolumeId: copied.startsWith('vol-') ? copied : tags['paws:volume'],
        TransferType: copied.startsWith('vol-') ? undefined : copied || undefined,
        StartTime: time,
        State: state,
        StorageTier: tier === 'archive' ? 'archive' : 'standard',
        RestoreExpiryTime: tier === 'restored' ? new Date() : undefined,
        Tags: Object.entries(tags).map(([Key, Value]) => ({ Key, Value })),
      }));
      return { Snapshots, NextToken };
    },
    DescribeImagesCommand: (input) => {
      expect(input.Owners).toEqual(['self']);
      const seen = [...world.values()].filter(
        ({ image }) => image === 'available' || (input.IncludeDisabled && image === 'disabled'),
      );
      const { items, NextToken } = page(seen, input);
      const Images = items.map(({ id }) => ({
        ImageId: `ami-${id}`,
        BlockDeviceMappings: [{ VirtualName: 'ephemeral0' }, { Ebs: { SnapshotId: id } }],
      }));
      return { Images, NextToken };
    },
    DescribeSnapshotTierStatusCommand: (input) => {
      expect(input.Filters).toEqual([{ Name: 'last-tiering-operation', Values: ['archival-in-progress'] }]);
      const { items, NextToken } = page(
        [...world.values()].filter(({ tier }) => tier === 'archiving'),
        input,
      );
      return { SnapshotTierStatuses: items.map(({ id }) => ({ SnapshotId: id })), NextToken };
    },
    DescribeLockedSnapshotsCommand: (input) => {
      expect(input.MaxResults).toBe(1000);
      const { items, NextToken } = page(
        [...world.values()].filter(({ lock }) => lock !== 'none'),
        input,
      );
      return { Snapshots: items.map(({ id, lock }) => ({ SnapshotId: id, LockState: lock })), NextToken };
    },
    DeleteSnapshotCommand: ({ SnapshotId }) => {
      const { image, lock } = world.get(SnapshotId) as Told;
      if (image !== 'none' || lock === 'governance')
        throw Object.assign(new Error(SnapshotId), { name: 'InvalidSnapshot.InUse' });
      world.delete(SnapshotId);
      return {};
    },
  };
  const client = new EC2Client({ region: 'us-east-1', credentials: { accessKeyId: 'x', secretAccessKey: 'x' } });
  client.middlewareStack.add(
    (_next, { commandName = '' }) =>
      async ({ input }) => ({ output: { $metadata: {}, ...answers[commandName]?.(input) } as never, response: {} }),
    { step: 'build' },
  );
  return client;
}

const minute = 60_000;
const start = Date.UTC(2024, 10, 20);
/** Backups are of the same moment, close to each other or far apart. */
const times = fc
  .oneof(fc.constantFrom(0, 59, 1440), fc.nat(3 * 1440), fc.nat(60 * 1440), fc.nat(900 * 1440))
  .map((at) => start + at * minute);
const none: Rule = { hourly: 0, daily: 0, weekly: 0, monthly: 0 };
const rules = fc.oneof(
  {
    weight: 9,
    arbitrary: fc.record<Rule>({ hourly: fc.nat(9), daily: fc.nat(8), weekly: fc.nat(5), monthly: fc.nat(13) }),
  },
  fc.constant(none),
);
const mostly = <T>(usual: T, ...others: T[]) =>
  fc.oneof({ weight: 12, arbitrary: fc.constant(usual) }, fc.constantFrom(...others));
const members = fc.record({
  copied: mostly<Told['copied']>('', 'vol-ffff', 'vol-ffffffff', 'vol-0123456789abcdef0', 'time-based'),
  state: mostly('completed', 'pending', 'error'),
  tier: mostly('standard', 'archive', 'restored', 'archiving'),
  image: mostly<Told['image']>('none', 'available', 'disabled'),
  lock: mostly<Told['lock']>('none', 'governance', 'expired'),
  late: fc.nat(7200),
});
const backups = fc.record({
  source: fc.constantFrom('vol-1', 'vol-2', 'i-1', 'i-2', 'none', 'image'),
  at: times,
  members: fc.array(members, { minLength: 1, maxLength: 3 }),
});
type History = (typeof backups extends fc.Arbitrary<infer One> ? One : never)[];
const histories = fc.array(backups, { maxLength: 60, size: 'max' });

/** Of somebody else, and of the cookbook, but no backup. */
const foreign: Record<string, Record<string, string>> = {
  none: { Name: 'data', 'paws:other': 'x' },
  image: { paws: '2.26' },
};

function worldOf(history: History): Map<string, Told> {
  const snapshots = history.flatMap(({ source, at, members }, index): Told[] => {
    const isSet = source.startsWith('i-');
    const parts = isSet ? members : members.slice(0, 1);
    return parts.map(({ late, ...member }, part) => {
      const set = { 'paws:set': `${source} ${index}`, 'paws:volume': `vol-1${part}` };
      const tags = foreign[source] ?? (isSet ? set : { 'paws:volume': source });
      return { ...member, id: `snap-${index}-${part}`, time: new Date(at + late * 1000), tags };
    });
  });
  // EC2 promises no order.
  snapshots.sort((a, b) => (a.id.split('').reverse().join('') < b.id.split('').reverse().join('') ? -1 : 1));
  return new Map(snapshots.map((snapshot) => [snapshot.id, snapshot]));
}

/** The snapshots of each backup, by what the tags say. */
function backupsIn(world: Map<string, Told>): { source: string; time: number; snapshots: Told[] }[] {
  const groups: Record<string, Told[]> = {};
  for (const one of world.values()) {
    if (!one.tags['paws:volume']) continue;
    // A copy belongs to no set.
    const key = (!one.copied && one.tags['paws:set']) || one.id;
    groups[key] = [...(groups[key] ?? []), one];
  }
  return Object.values(groups).map((snapshots) => ({
    source: (snapshots[0]?.tags['paws:set'] ?? snapshots[0]?.tags['paws:volume'] ?? '').replace(/ .*/, ''),
    time: Math.min(...snapshots.map(({ time }) => time.getTime())),
    snapshots,
  }));
}

/** The rule told another way: the newest backup of each of the last hours, days, weeks and months that have one. */
function expectedTimes(all: number[], rule: Rule): Set<number> {
  const startOf: Record<keyof Rule, (date: Date) => void> = {
    hourly: (date) => date.setUTCMinutes(0, 0, 0),
    daily: (date) => date.setUTCHours(0, 0, 0, 0),
    weekly: (date) => {
      date.setUTCHours(0, 0, 0, 0);
      while (date.getUTCDay() !== 1) date.setUTCDate(date.getUTCDate() - 1);
    },
    monthly: (date) => {
      date.setUTCHours(0, 0, 0, 0);
      date.setUTCDate(1);
    },
  };
  const expected = new Set(all.length > 0 ? [Math.max(...all)] : []);
  for (const [name, toStart] of Object.entries(startOf)) {
    const begins = all.map((time) => {
      const date = new Date(time);
      toStart(date);
      return date.getTime();
    });
    const last = [...new Set(begins)].sort((a, b) => b - a).slice(0, rule[name as keyof Rule]);
    for (const begin of last) expected.add(Math.max(...all.filter((_, index) => begins[index] === begin)));
  }
  return expected;
}

describe('over random histories, on an EC2 of the test', () => {
  test('the rule keeps the newest of each of the last hours, days, weeks and months, and no other', () => {
    fc.assert(
      fc.property(fc.uniqueArray(times, { maxLength: 200, size: 'max' }), rules, (all, rule) => {
        const kept = keepByRule(
          all.map((time) => new Date(time)),
          rule,
        );
        expect(new Set(all.filter((_, index) => kept[index]?.length))).toEqual(expectedTimes(all, rule));
        for (const [name, count] of Object.entries(rule)) {
          expect(kept.filter((why) => why.includes(name)).length).toBeLessThanOrEqual(count);
        }
      }),
      { numRuns: 150 },
    );
  });

  test('what stays is what the rule, an image, a lock, an archive, its being a copy or its own making keeps, sets whole; a second run deletes nothing', async () => {
    let deletedInAll = 0;
    await fc.assert(
      fc.asyncProperty(histories, rules, async (history, rule) => {
        const world = worldOf(history);
        const before = new Map(world);
        const client = ec2Of(world);
        const pruned = await pruneSnapshots(client, { backups: await planPruning(client, rule) });
        expect(pruned.filter(({ outcome }) => outcome === 'failed')).toEqual([]);

        const all = backupsIn(before);
        for (const source of ['vol-1', 'vol-2', 'i-1', 'i-2']) {
          const own = all.filter((backup) => backup.source === source);
          const usable = own.filter(({ snapshots }) =>
            snapshots.every(({ copied, state, tier }) => !copied && state === 'completed' && tier === 'standard'),
          );
          const expected = expectedTimes(
            usable.map(({ time }) => time),
            rule,
          );
          const byRule = new Map<number, number>();
          for (const { time, snapshots } of own) {
            const left = snapshots.filter(({ id }) => world.has(id)).length;
            expect([0, snapshots.length]).toContain(left);
            const isUsable = usable.some((one) => one.snapshots === snapshots);
            const isProtected = snapshots.some(({ image, lock }) => image !== 'none' || lock === 'governance');
            if (!isUsable || isProtected) expect(left).toBe(snapshots.length);
            if (isUsable && !expected.has(time) && !isProtected) expect(left).toBe(0);
            if (isUsable && left) byRule.set(time, (byRule.get(time) ?? 0) + 1);
          }
          for (const time of expected) expect(byRule.get(time)).toBeGreaterThanOrEqual(1);
        }
        for (const { id, tags } of before.values()) if (!tags['paws:volume']) expect(world.has(id)).toBe(true);

        deletedInAll += before.size - world.size;
        const size = world.size;
        const again = new Map([...world].reverse());
        await pruneSnapshots(ec2Of(again), { backups: await planPruning(ec2Of(again), rule) });
        expect(again.size).toBe(size);
      }),
      { numRuns: 150 },
    );
    // The histories are such that there is something to delete.
    expect(deletedInAll).toBeGreaterThan(200);
  });
});

test('copies of copies, of whatever volumes, are not taken for backups of one volume', async () => {
  const Snapshots = ['vol-ffff', 'vol-ffffffff'].flatMap((id) =>
    [1, 2].map((number) => ({
      SnapshotId: `snap-${id}-${number}`,
      VolumeId: id,
      StartTime: new Date(number),
      State: 'completed' as const,
      Tags: [{ Key: 'paws:volume', Value: id }],
    })),
  );
  const { client } = withFaults(ec2(), { operation: 'DescribeSnapshots', output: { Snapshots } });
  const backups = await planPruning(client);
  expect(backups.map(({ keptAs }) => keptAs)).toEqual([['copied'], ['copied'], ['copied'], ['copied']]);
});

async function makeVolume(): Promise<string> {
  const { VolumeId } = await ec2().send(new CreateVolumeCommand({ AvailabilityZone: 'us-east-1a', Size: 1 }));
  return VolumeId as string;
}

async function launch(): Promise<string> {
  const ImageId = 'ami-0532be01f26a3de55';
  const { Instances } = await ec2().send(new RunInstancesCommand({ ImageId, MinCount: 1, MaxCount: 1 }));
  return Instances?.[0]?.InstanceId as string;
}

/** Backups of a new volume, a second apart, for LocalStack knows no less. */
async function backUpOften(times: number): Promise<{ volumeId: string; ids: string[] }> {
  const volumeId = await makeVolume();
  const ids: string[] = [];
  for (let made = 0; made < times; made++) {
    if (made > 0) await new Promise((done) => setTimeout(done, 1100));
    ids.push(...(await backUpVolume(ec2(), { volumeId })).snapshotIds);
  }
  return { volumeId, ids };
}

async function areThere(ids: string[]): Promise<boolean[]> {
  const Filters = [{ Name: 'snapshot-id', Values: ids }];
  const { Snapshots = [] } = await ec2().send(new DescribeSnapshotsCommand({ Filters }));
  return ids.map((id) => Snapshots.some(({ SnapshotId }) => SnapshotId === id));
}

test('of a volume and of an instance the newest stay; a dry run and a question without an answer delete nothing', async () => {
  const [volumeId, instanceId] = [await makeVolume(), await launch()];
  const ids: string[][] = [];
  for (const _ of [1, 2]) {
    ids.push(
      (await backUpVolume(ec2(), { volumeId })).snapshotIds,
      (await backUpInstance(ec2(), { instanceId })).snapshotIds,
    );
    // LocalStack knows no fractions of a second.
    await new Promise((done) => setTimeout(done, 1100));
  }
  const { SnapshotId: foreign } = await ec2().send(new CreateSnapshotCommand({ VolumeId: volumeId }));
  const all = [...ids.flat(), foreign as string];

  const [planned, asked] = await Promise.all([prune(`${onlyNewest} --dry-run`), prune(onlyNewest)]);
  expect(planned).toMatchObject({ code: 0, stderr: '' });
  expect(planned.stdout.match(/would be deleted/g)).toHaveLength(2);
  expect(planned.stdout).toContain(`${ids[2]}  newest, hourly`);
  expect(asked).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining(`Z: ${ids[0]}\n`) });
  expect(asked.stderr).toContain('Delete these for good, and keep 2?\n');
  expect(await areThere(all)).toEqual(all.map(() => true));

  const done = JSON.parse((await prune(`${volumeId} ${onlyNewest} --json --yes`)).stdout);
  expect(done).toEqual([
    expect.objectContaining({ source: volumeId, snapshotIds: ids[2], keptAs: ['newest', 'hourly'], outcome: 'kept' }),
    expect.objectContaining({ source: volumeId, snapshotIds: ids[0], keptAs: [], outcome: 'deleted', problem: null }),
  ]);
  expect(await areThere(all)).toEqual([false, true, true, true, true]);
});

test('what an image needs stays, and what another one deletes meanwhile counts as deleted', async () => {
  const [volumeId, instanceId] = [await makeVolume(), await launch()];
  const { ImageId = '' } = await ec2().send(new CreateImageCommand({ InstanceId: instanceId, Name: 'needed' }));
  const { Images = [] } = await ec2().send(new DescribeImagesCommand({ ImageIds: [ImageId] }));
  const needed = Images[0]?.BlockDeviceMappings?.[0]?.Ebs?.SnapshotId as string;
  await ec2().send(new CreateTagsCommand({ Resources: [needed], Tags: [{ Key: 'paws:volume', Value: volumeId }] }));
  await new Promise((done) => setTimeout(done, 1100));
  await backUpVolume(ec2(), { volumeId });
  const rule = { hourly: 0, daily: 0, weekly: 0, monthly: 0 };
  const backups = await planPruning(ec2(), { source: volumeId, ...rule });
  expect(backups.map(({ keptAs }) => keptAs)).toEqual([['newest'], ['copied', `image ${ImageId}`]]);

  const gone = [{ source: volumeId, startTime: new Date(), snapshotIds: ['snap-0123456789abcdef0'], keptAs: [] }];
  expect(await pruneSnapshots(ec2(), { backups: gone })).toMatchObject([{ outcome: 'deleted' }]);
});

test('a locked snapshot stays; a search that is denied deletes nothing; a deletion that fails is reported, the others go on', async () => {
  const { volumeId, ids } = await backUpOften(3);
  const options = `${volumeId} ${onlyNewest} --yes`;
  const denied = await prune(options, {
    faults: [{ operation: 'ec2:DescribeLockedSnapshots', error: { name: 'UnauthorizedOperation' } }],
  });
  expect(denied).toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringContaining('ec2:DescribeLockedSnapshots is missing'),
  });
  expect(await areThere(ids)).toEqual([true, true, true]);

  const locked = { Snapshots: [{ SnapshotId: ids[0], LockState: 'compliance' }] };
  const { stdout } = await prune(`${options} --dry-run`, {
    faults: [{ operation: 'ec2:DescribeLockedSnapshots', output: locked }],
  });
  expect(stdout).toContain(`${ids[0]}  locked\n`);
  expect(stdout).toContain(`${ids[1]}  would be deleted\n`);

  const inUse = await prune(options, {
    faults: [
      { operation: 'ec2:DeleteSnapshot', times: 1, error: { name: 'InvalidSnapshot.InUse', message: 'an image' } },
    ],
  });
  expect(inUse).toMatchObject({ code: 1, stderr: 'Error: 1 of 2 backups could not be deleted\n' });
  expect(inUse.stdout).toContain(`InvalidSnapshot.InUse: an image; left are ${ids[1]}`);
  expect(await areThere(ids)).toEqual([false, true, true]);
});

test('Ctrl-C lets the deletion that is under way end, and begins no other', async () => {
  const { volumeId, ids } = await backUpOften(3);
  const result = await prune(`${volumeId} ${onlyNewest} --yes`, {
    faults: [{ operation: 'ec2:DeleteSnapshot', signal: 'SIGINT' }],
  });
  expect(result).toMatchObject({ code: 130, stdout: expect.stringContaining(`Interrupted.; left are ${ids[0]}`) });
  expect(await areThere(ids)).toEqual([true, false, true]);
});

test('a wrong number or source is refused before anything is asked for; one without backups is an error', async () => {
  const [unknown, empty, ...results] = await Promise.all(
    ['foo', '"" --yes', '--daily x --yes', '--daily " " --yes'].map((options) => prune(options)),
  );
  expect(empty).toMatchObject({ code: 2, stdout: '', stderr: 'Error: "" is neither vol-… nor i-…\n' });
  expect(unknown).toMatchObject({ code: 2, stdout: '', stderr: 'Error: "foo" is neither vol-… nor i-…\n' });
  for (const result of results) {
    expect(result).toMatchObject({ code: 2, stdout: '', stderr: 'Error: daily takes a whole number, not NaN\n' });
  }
  expect(await prune('vol-0123456789abcdef0 --yes')).toEqual({
    code: 1,
    stdout: '',
    stderr: 'Error: there is no backup of vol-0123456789abcdef0 in this region\n',
  });
  for (const daily of [-1, 1.5, Number.POSITIVE_INFINITY]) {
    const denied = ec2Of(new Map());
    await expect(planPruning(denied, { daily })).rejects.toThrow(RangeError);
  }
});

test('yes at the terminal deletes, no does not', async () => {
  const { volumeId, ids } = await backUpOften(2);
  const say = (answer: string) =>
    prune(`${volumeId} ${onlyNewest}`, { terminal: { columns: 160, type: [['[y/N]', answer]] } });
  expect(await say('n\r')).toMatchObject({ code: 1, stdout: expect.stringContaining('Nothing was done.') });
  expect(await areThere(ids)).toEqual([true, true]);
  expect(await say('y\r')).toMatchObject({ code: 0 });
  expect(await areThere(ids)).toEqual([false, true]);
});
