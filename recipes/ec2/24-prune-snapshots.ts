/**
 * 2.24 Prune snapshots
 *
 * ## Problem
 * You back up your volumes every hour or day. Old backups cost, and you want fewer of them the older they are.
 *
 * ## Solution
 * Find the backups that 2.8 made, and look at those of each volume and of each instance by themselves. Keep the newest
 * of each of the last 8 hours, 7 days, 4 weeks and 12 months that have one. Show what would go, ask, and delete it.
 *
 * ## Discussion
 * Hours, days and weeks without a backup are not counted. So if the backups stop, the deleting stops too, and a second
 * run deletes nothing. The newest is kept whatever the numbers are. Times are UTC, and weeks begin on Monday.
 *
 * A set of an instance's snapshots is kept or deleted as a whole. These stay in any case: what 2.8 did not tag, what is
 * not completed, locked, archived, restored from the archive for a time or on its way there, and what an image of yours
 * needs, even a disabled one. With them stays their set. Copies (2.25) stay, too, each by itself: all that you copy
 * today have today's time, however old the data. What launch templates and images in the Recycle Bin name is not looked
 * for, nor whether somebody else uses a shared one. What failed stays for ever, and so do the last of a volume that is
 * gone: 1.16 deletes them.
 *
 * Deleting is for good, unless a retention rule of the Recycle Bin applies: there it costs as before, until its time is
 * over. Each remaining snapshot still restores the whole volume: EC2 keeps the blocks that others need, so you may save
 * less than you expect.
 *
 * Run it after each backup. Amazon Data Lifecycle Manager can do both for you.
 *
 * @before npx tsx recipes/ec2/01-launch-instance.ts --local
 * @before npx tsx recipes/ec2/08-back-up-volume.ts --local
 * @before npx tsx recipes/ec2/08-back-up-volume.ts --local
 * @run npx tsx recipes/ec2/24-prune-snapshots.ts --hourly 1 --daily 0 --weekly 0 --monthly 0 --local --yes
 * @output
 *   source                 start time               snapshot ids            kept as         outcome  problem
 *   vol-23cc672e6d4363eea  2026-11-24 20:30:00 UTC  snap-4307d6593c174b559  newest, hourly  kept     -
 *   vol-23cc672e6d4363eea  2026-11-24 20:29:58 UTC  snap-de7a58b4850a372ac  -               deleted  -
 * @permission ec2:DescribeSnapshots on *
 * @permission ec2:DescribeImages on *
 * @permission ec2:DescribeLockedSnapshots on *
 * @permission ec2:DescribeSnapshotTierStatus on *
 * @permission ec2:DeleteSnapshot on arn:aws:ec2:*::snapshot/*
 * @cost nothing
 * @undo nothing
 * @emulator LocalStack has no locks, archive and disabled images: that they protect is shown with the test's own answers.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteSnapshot.html
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/ebs-deleting-snapshot.html
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/ebs-snapshot-lock.html
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/recycle-bin.html
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/snapshot-lifecycle.html
 */
import { DeleteSnapshotCommand, EC2Client, paginateDescribeSnapshots, type Snapshot } from '@aws-sdk/client-ec2';
import { setTag, volumeTag } from './08-back-up-volume.ts';
import { findProtected } from './24-helpers/protected-snapshots.ts';

/** Of how many hours, days, weeks and months the newest backup is kept. */
export interface Rule {
  hourly: number;
  daily: number;
  weekly: number;
  monthly: number;
}

type Selection = Partial<Rule> & { source?: string; signal?: AbortSignal };
type Wait = { signal?: AbortSignal; onProgress?: (text: string) => void };

export interface PlannedBackup {
  /** The volume, or the instance for a set. */
  source: string;
  startTime: Date;
  snapshotIds: string[];
  /** Why it is kept: `newest`, `hourly`, `locked`, `copied`, `image ami-…`. Empty if it is to be deleted. */
  keptAs: string[];
}

export interface PrunedBackup extends PlannedBackup {
  outcome: 'kept' | 'deleted' | 'failed';
  /** Why it failed; null if it did not. */
  problem: string | null;
}

/** What tells two hours, days, weeks or months apart. */
const periods: Record<keyof Rule, (time: Date) => string> = {
  hourly: (time) => time.toISOString().slice(0, 'YYYY-MM-DDTHH'.length),
  daily: (time) => time.toISOString().slice(0, 'YYYY-MM-DD'.length),
  // The first day of 1970 was a Thursday: three days after a Monday.
  weekly: (time) => `${Math.floor((time.getTime() / 86_400_000 + 3) / 7)}`,
  monthly: (time) => time.toISOString().slice(0, 'YYYY-MM'.length),
};

/**
 * Decides which backups of one source are kept, by their times alone.
 *
 * @param times - When the backups were made, in any order.
 * @param rule - How many are kept.
 * @returns For each time, in the order given, what it is kept as; nothing if it is not.
 * @throws RangeError when a number is negative or no integer.
 * @see https://en.wikipedia.org/wiki/Backup_rotation_scheme
 *
 * @example
 * const times = [new Date('2026-03-01T12:00:00Z'), new Date('2026-03-01T18:00:00Z')];
 * const kept = keepByRule(times, { hourly: 0, daily: 7, weekly: 4, monthly: 12 });
 * console.log(kept[1]); // ['newest', 'daily', 'weekly', 'monthly']; kept[0] is empty
 */
export function keepByRule(times: Date[], rule: Rule): string[][] {
  for (const [name, value] of Object.entries(rule)) {
    if (!Number.isInteger(value) || value < 0) throw new RangeError(`${name} takes a whole number, not ${value}`);
  }
  const keptAs = times.map((): string[] => []);
  const newestFirst = times.map((time, index) => ({ time, index })).sort((a, b) => Number(b.time) - Number(a.time));
  if (newestFirst[0]) keptAs[newestFirst[0].index]?.push('newest');
  for (const [name, periodOf] of Object.entries(periods)) {
    const seen = new Set<string>();
    for (const { time, index } of newestFirst) {
      const period = periodOf(time);
      if (seen.has(period) || seen.size >= rule[name as keyof Rule]) continue;
      seen.add(period);
      keptAs[index]?.push(name);
    }
  }
  return keptAs;
}

/**
 * Finds all backups in the client's region that 2.8 made, and decides which are kept. Changes nothing.
 *
 * @param ec2 - Of the snapshots' region.
 * @param options.source - Only backups of this volume or instance. All by default.
 * @param options.signal - Aborts the search.
 * @param options - The rest as in `Rule`: 8 hours, 7 days, 4 weeks and 12 months by default.
 * @returns The backups, by source, the newest first.
 * @throws RangeError when a number is negative or no integer, TypeError when the source is no id.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSnapshots.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const backups = await planPruning(ec2, { daily: 30 });
 * console.log(backups.filter(({ keptAs }) => keptAs.length === 0));
 */
export async function planPruning(
  ec2: EC2Client,
  { source, hourly = 8, daily = 7, weekly = 4, monthly = 12, signal }: Selection = {},
): Promise<PlannedBackup[]> {
  // An empty one, as of a shell's variable that is not set, must not mean all.
  if (source !== undefined && !/^(vol|i)-/.test(source)) throw new TypeError(`"${source}" is neither vol-… nor i-…`);
  const rule = { hourly, daily, weekly, monthly };
  keepByRule([], rule);

  const found: Snapshot[] = [];
  const own = { OwnerIds: ['self'], Filters: [{ Name: 'tag-key', Values: ['paws:*'] }] };
  const paged = { client: ec2, pageSize: 1000 };
  for await (const { Snapshots = [] } of paginateDescribeSnapshots(paged, own, { abortSignal: signal })) {
    found.push(...Snapshots);
  }
  // The same order each time, so that of two of the same moment the same one is kept.
  const order = ({ StartTime, SnapshotId }: Snapshot) => `${StartTime?.toISOString()} ${SnapshotId}`;
  found.sort((a, b) => (order(a) < order(b) ? 1 : -1));

  const protectedBy = await findProtected(ec2, { signal });
  const backups = new Map<string, PlannedBackup>();
  for (const { SnapshotId = '', StartTime, State, Tags, ...snapshot } of found) {
    const { VolumeId = '', TransferType, StorageTier, RestoreExpiryTime } = snapshot;
    const tags = Object.fromEntries((Tags ?? []).map(({ Key, Value }) => [Key, Value]));
    const { [setTag]: set, [volumeTag]: volume } = tags;
    const of = set?.split(' ')[0] || volume;
    if (!of || (source && of !== source)) continue;
    // A copy has its original's tags, and a volume id of no volume, `vol-ffffffff`. It is no part of the original's set.
    const isCopy = TransferType || /^vol-f+$/.test(VolumeId) || (volume && volume !== VolumeId);
    // Snapshots of one set belong together, any other stands for itself. The oldest comes last: its time is taken.
    const id = (!isCopy && set) || SnapshotId;
    const { snapshotIds = [], keptAs = [] } = backups.get(id) ?? {};
    snapshotIds.push(SnapshotId);
    if (State !== 'completed') keptAs.push('not completed');
    // One that is restored from the archive for a time has the tier `standard`, and goes back there.
    if (StorageTier === 'archive' || RestoreExpiryTime) keptAs.push('archived');
    if (isCopy) keptAs.push('copied');
    const why = protectedBy.get(SnapshotId);
    if (why) keptAs.push(why);
    backups.set(id, { source: of, startTime: StartTime as Date, snapshotIds, keptAs });
  }

  const all = [...backups.values()];
  return [...new Set(all.map((backup) => backup.source))].flatMap((of) => {
    const ofSource = all.filter((backup) => backup.source === of);
    // What can't be restored right now, or has another time than its data, must not stand for its hour or day.
    const usable = ofSource.filter(({ keptAs }) => !/not completed|archiv|copied/.test(`${keptAs}`));
    const times = usable.map(({ startTime }) => startTime);
    for (const [index, why] of keepByRule(times, rule).entries()) usable[index]?.keptAs.unshift(...why);
    return ofSource.map((backup) => ({ ...backup, keptAs: [...new Set(backup.keptAs)] }));
  });
}

/**
 * Deletes the backups of a plan that nothing keeps.
 *
 * @param ec2 - Of the snapshots' region.
 * @param options.backups - What `planPruning` returned.
 * @param options.signal - Ends the work after the backup that is being deleted.
 * @param options.onProgress - Called with a text for people.
 * @returns All backups of the plan and what became of each. One that fails doesn't stop the others.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteSnapshot.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const backups = await planPruning(ec2, { source: 'vol-0123456789abcdef0' });
 * console.log(await pruneSnapshots(ec2, { backups }));
 */
export async function pruneSnapshots(
  ec2: EC2Client,
  { backups, signal, onProgress }: { backups: PlannedBackup[] } & Wait,
): Promise<PrunedBackup[]> {
  const pruned: PrunedBackup[] = [];
  for (const backup of backups) {
    if (backup.keptAs.length > 0) {
      pruned.push({ ...backup, outcome: 'kept', problem: null });
      continue;
    }
    const left = [...backup.snapshotIds];
    try {
      signal?.throwIfAborted();
      for (; left[0]; left.shift()) {
        onProgress?.(`deleting ${left[0]}`);
        // Not aborted by the signal: half a set is worth nothing.
        await ec2.send(new DeleteSnapshotCommand({ SnapshotId: left[0] })).catch((error: Error) => {
          if (error.name !== 'InvalidSnapshot.NotFound') throw error;
        });
      }
      pruned.push({ ...backup, outcome: 'deleted', problem: null });
    } catch (error) {
      const { name, message } = error as Error;
      pruned.push({ ...backup, outcome: 'failed', problem: `${name}: ${message}; left are ${left.join(', ')}` });
    }
  }
  return pruned;
}

// ---- command line: leave out when copying ----
import { confirm, connect, interrupted, print, progress, recipe, yes } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('[source]', 'only backups of this volume or instance (default: all)')
    .option('--hourly <count>', 'of how many hours the newest backup is kept', '8')
    .option('--daily <count>', 'of how many days', '7')
    .option('--weekly <count>', 'of how many weeks', '4')
    .option('--monthly <count>', 'of how many months', '12')
    .option('--dry-run', 'only show what would be kept and what deleted')
    .addOption(yes)
    .action(async (source, { hourly, daily, weekly, monthly, dryRun }) => {
      const number = (text: string) => Number(text.trim() || Number.NaN);
      const rule = { hourly: number(hourly), daily: number(daily), weekly: number(weekly), monthly: number(monthly) };
      const ec2 = connect(EC2Client);
      const signal = interrupted();
      const backups = await planPruning(ec2, { source, ...rule, signal });
      if (source && backups.length === 0) throw new Error(`there is no backup of ${source} in this region`);
      if (dryRun) return print(backups, { keptAs: (why: string[]) => why.join(', ') || 'would be deleted' });
      const old = backups.filter(({ keptAs }) => keptAs.length === 0);
      const list = old.map((one) => `  ${one.source} ${one.startTime.toISOString()}: ${one.snapshotIds}\n`).join('');
      if (old.length > 0) await confirm(`${list}Delete these for good, and keep ${backups.length - old.length}?`);
      const pruned = await pruneSnapshots(ec2, { backups, signal, onProgress: progress });
      print(pruned);
      const failed = pruned.filter(({ outcome }) => outcome === 'failed').length;
      if (failed > 0) throw new Error(`${failed} of ${old.length} backups could not be deleted`);
    }),
);
