/**
 * 3.17 Let objects expire or move by rule
 *
 * ## Problem
 * Logs, old versions and parts of unfinished uploads pile up, and you pay for what nobody reads. You want S3 to delete
 * it or move it to a cheaper class by itself, without touching the rules that somebody else has set.
 *
 * ## Solution
 * Read the bucket's rules, put yours among them by its id, and write them all back: S3 knows no way to change one rule.
 * Before a rule deletes or moves anything you are told what and from when. `--remove` takes one rule out; without a
 * rule you are told which there are.
 *
 * ## Discussion
 * A rule is about old objects, too: what is old enough when you set it is deleted in the next run. S3 runs rules
 * once a day, counts from when an object was last written, and rounds up to the next midnight UTC. It may take days
 * more until an object is gone, but you don't pay for them. There is no undo, but to turn on versioning before; and
 * `--expire-versions-after` is final even then. Locked versions (3.20) stay until they may go.
 *
 * In a bucket with versioning, expiry only puts a delete marker on an object: its data stay, and cost, until
 * `--expire-versions-after`. In one without, expiry is final. How many objects a rule will delete S3 doesn't say: list
 * the prefix first (3.5). A prefix is no folder: `log` takes `logs/` as well.
 *
 * Moving costs a request for each object, so for small ones it costs more than it saves: S3 moves none under 128 KB
 * unless a rule says so by size, or the bucket keeps to the older way, by which the Glacier classes take them; this
 * setting is kept. The classes for infrequent access are billed for 30 days at least, GLACIER_IR and GLACIER for 90,
 * DEEP_ARCHIVE for 180; from the last two an object must be restored before it can be read (3.25 has the sums). Objects
 * move to the infrequent classes when they are 30 days old: newer editions of the API reference don't have that limit
 * any more, this recipe does.
 *
 * A rule with the same id is replaced whole, with what this recipe knows no option for, such as sizes, and is on then,
 * though it was off: save what there is before, by `aws s3api get-bucket-lifecycle-configuration`. S3 takes no rules in
 * a bucket with MFA delete (3.11). It has no condition for this write: of two programs that change a bucket's rules at
 * the same time, the last wins and the other's rule is lost. For a moment S3 may still tell the former rules, so let
 * some seconds pass between two runs for one bucket. A changed rule takes some minutes to take effect. Rules of
 * the oldest form, with a bare `Prefix`, are written back with the same prefix in a `Filter`: they mean the same.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @run npx tsx recipes/s3/17-set-lifecycle.ts s3://paws-example/logs/ old-logs --expire-after 90 --local --yes
 * @output
 *   bucket   paws-example
 *   id       old-logs
 *   change   added
 *   objects  logs/*
 *   actions  expire after 90 days
 *   rules    1
 * @run npx tsx recipes/s3/17-set-lifecycle.ts s3://paws-example --local
 * @permission s3:GetLifecycleConfiguration on arn:aws:s3:::BUCKET
 * @permission s3:PutLifecycleConfiguration on arn:aws:s3:::BUCKET
 * @permission s3:GetBucketVersioning on arn:aws:s3:::BUCKET
 * @cost nothing for rules and for deleting; for 1,000 objects moved $0.01 to the infrequent classes and to
 * INTELLIGENT_TIERING, where they cost $0.0025 a month more, $0.02 to GLACIER_IR, $0.03 to GLACIER, $0.05 to
 * DEEP_ARCHIVE in us-east-1 (2026), and the rest of minimum days cut short
 * @undo npx tsx recipes/s3/17-set-lifecycle.ts s3://{bucket} {id} --remove --local --yes
 * @emulator LocalStack keeps rules and doesn't act on them; it refuses the old form with a bare Prefix, so here answers
 *   of that form are the tests' own.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLifecycleConfiguration.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html
 */
import { isDeepStrictEqual } from 'node:util';
import {
  DeleteBucketLifecycleCommand,
  GetBucketLifecycleConfigurationCommand,
  GetBucketVersioningCommand,
  type LifecycleRule,
  PutBucketLifecycleConfigurationCommand,
  S3Client,
  type TransitionDefaultMinimumObjectSize,
} from '@aws-sdk/client-s3';
import { describeRule, type Rule, toLifecycleRule } from './17-helpers/lifecycle-rule.ts';

/** A rule of a bucket in words. */
export interface ToldRule {
  id: string;
  enabled: boolean;
  /** Which objects it is about: `logs/*`. */
  objects: string;
  /** What it does: `expire after 90 days`. */
  actions: string;
}

export interface SetLifecycle {
  bucket: string;
  id: string;
  /** `none` when the rule was there already, or, to be removed, was not. */
  change: 'added' | 'replaced' | 'removed' | 'none';
  /** Of the rule as it is now, or, once removed, as it was; null when there was none. */
  objects: string | null;
  actions: string | null;
  /** How many rules the bucket has now. */
  rules: number;
}

/**
 * Puts one rule among a bucket's rules, in the place of the one with the same id.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - Name of the bucket.
 * @param options.rule - The rule; days are counted from when an object was last written.
 * @throws RangeError when S3 would refuse the rule.
 * @throws Error when the bucket has 1,000 rules already, which is as many as S3 takes.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLifecycleConfiguration.html
 *
 * @example
 * const s3 = new S3Client({});
 * const rule = { id: 'old-logs', prefix: 'logs/', expireAfter: 90 };
 * console.log((await setLifecycle(s3, { bucket: 'my-company-reports', rule })).change);
 */
export async function setLifecycle(
  s3: S3Client,
  { bucket, rule, signal }: { bucket: string; rule: Rule; signal?: AbortSignal },
): Promise<SetLifecycle> {
  const wanted = toLifecycleRule(rule);
  const lifecycle = await readLifecycle(s3, bucket, signal);
  const at = lifecycle.rules.findIndex(({ ID }) => ID === rule.id);
  const told = describeRule(wanted);
  const result = (change: SetLifecycle['change'], rules: number) => ({ bucket, id: rule.id, change, ...told, rules });
  if (isSame(lifecycle.rules[at], wanted)) return result('none', lifecycle.rules.length);

  const rules = [...lifecycle.rules];
  rules.splice(at < 0 ? rules.length : at, 1, wanted);
  if (rules.length > 1000) throw new Error(`${bucket} has ${rules.length - 1} rules; S3 takes 1,000`);
  await writeLifecycle(s3, bucket, { ...lifecycle, rules }, signal);
  return result(at < 0 ? 'added' : 'replaced', rules.length);
}

/**
 * Takes one rule out of a bucket's rules; the others stay.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - Name of the bucket.
 * @param options.id - Of the rule.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucketLifecycle.html
 *
 * @example
 * const s3 = new S3Client({});
 * const { change } = await removeLifecycleRule(s3, { bucket: 'my-company-reports', id: 'old-logs' });
 * console.log(change === 'removed' ? 'removed' : 'there was none');
 */
export async function removeLifecycleRule(
  s3: S3Client,
  { bucket, id, signal }: { bucket: string; id: string; signal?: AbortSignal },
): Promise<SetLifecycle> {
  const lifecycle = await readLifecycle(s3, bucket, signal);
  const rules = lifecycle.rules.filter(({ ID }) => ID !== id);
  const was = lifecycle.rules.find(({ ID }) => ID === id);
  if (!was) return { bucket, id, change: 'none', objects: null, actions: null, rules: rules.length };

  // S3 takes no configuration without rules.
  if (rules.length > 0) await writeLifecycle(s3, bucket, { ...lifecycle, rules }, signal);
  else await s3.send(new DeleteBucketLifecycleCommand({ Bucket: bucket }), { abortSignal: signal });
  return { bucket, id, change: 'removed', ...describeRule(was), rules: rules.length };
}

/**
 * Tells what is lost by setting a rule, or by removing one: data that will be deleted, or moved for a fee, and a rule
 * that is there now.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - Name of the bucket.
 * @param options.rule - The rule to set.
 * @param options.remove - Id of the rule to remove, where none is to be set.
 * @returns A line for each loss; none when nothing is lost.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-expire-general-considerations.html
 *
 * @example
 * const s3 = new S3Client({});
 * const rule = { id: 'old-logs', prefix: 'logs/', expireAfter: 90 };
 * console.log(await findLosses(s3, { bucket: 'my-company-reports', rule }));
 */
export async function findLosses(
  s3: S3Client,
  { bucket, rule, remove, signal }: { bucket: string; rule?: Rule; remove?: string; signal?: AbortSignal },
): Promise<string[]> {
  const wanted = rule && toLifecycleRule(rule);
  const id = rule?.id ?? remove;
  const { rules, minimum } = await readLifecycle(s3, bucket, signal);
  const was = rules.find(({ ID }) => ID === id);
  if (isSame(was, wanted)) return [];

  const losses: string[] = [];
  if (was) {
    const { objects, actions } = describeRule(was);
    const off = was.Status === 'Disabled' ? ' that is off' : '';
    losses.push(`${rule ? 'replace' : 'remove'} the rule "${id}"${off} (${objects}: ${actions})`);
  }
  if (was && !rule && rules.length === 1 && minimum === 'varies_by_storage_class')
    losses.push('forget, with the last rule, that rules move objects under 128 KB too (varies_by_storage_class)');
  if (!rule || !wanted) return losses;
  const { expireAfter, expireVersionsAfter, abortUploadsAfter } = rule;
  const { Status } = await s3.send(new GetBucketVersioningCommand({ Bucket: bucket }), { abortSignal: signal });
  const { objects } = describeRule(wanted);
  // What is old enough already goes with S3's next run, after the next midnight UTC.
  const midnight = new Date();
  midnight.setUTCHours(24, 0, 0, 0);
  const from = `from ${midnight.toISOString().slice(0, 10)} on`;
  const fate = { Enabled: 'hide behind a delete marker', Suspended: 'delete for good, or hide if it has a version id' };
  const expire = Status ? fate[Status] : 'delete for good';
  if (expireAfter) losses.push(`${from} ${expire} every object that is ${expireAfter} days old: ${objects}`);
  if (expireVersionsAfter && Status) {
    losses.push(
      `${from} delete for good every version that was replaced ${expireVersionsAfter} days before: ${objects}`,
    );
  }
  for (const { days, storageClass } of rule.transitions ?? []) {
    const sleeps = ['GLACIER', 'DEEP_ARCHIVE'].includes(storageClass) ? ', to be restored before it can be read' : '';
    losses.push(`${from} move to ${storageClass} every object that is ${days} days old${sleeps}: ${objects}`);
  }
  if (abortUploadsAfter)
    losses.push(`${from} delete the parts of uploads unfinished after ${abortUploadsAfter} days: ${objects}`);
  return losses;
}

/**
 * Lists a bucket's rules.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - Name of the bucket.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLifecycleConfiguration.html
 *
 * @example
 * const s3 = new S3Client({});
 * for (const { id, actions } of await listRules(s3, { bucket: 'my-company-reports' })) {
 *   console.log(id, actions);
 * }
 */
export async function listRules(
  s3: S3Client,
  { bucket, signal }: { bucket: string; signal?: AbortSignal },
): Promise<ToldRule[]> {
  const { rules } = await readLifecycle(s3, bucket, signal);
  return rules.map((rule) => ({ id: rule.ID ?? '', enabled: rule.Status === 'Enabled', ...describeRule(rule) }));
}

interface Lifecycle {
  rules: LifecycleRule[];
  minimum: TransitionDefaultMinimumObjectSize | undefined;
}

async function readLifecycle(s3: S3Client, Bucket: string, abortSignal?: AbortSignal): Promise<Lifecycle> {
  try {
    const answer = await s3.send(new GetBucketLifecycleConfigurationCommand({ Bucket }), { abortSignal });
    const rules = (answer.Rules ?? []).map(({ Prefix, ...rule }) => ({
      ...rule,
      Filter: rule.Filter ?? { Prefix: Prefix ?? '' },
    }));
    return { rules, minimum: answer.TransitionDefaultMinimumObjectSize };
  } catch (error) {
    if ((error as Error).name !== 'NoSuchLifecycleConfiguration') throw error;
    return { rules: [], minimum: undefined };
  }
}

async function writeLifecycle(s3: S3Client, Bucket: string, { rules, minimum }: Lifecycle, abortSignal?: AbortSignal) {
  const LifecycleConfiguration = { Rules: rules };
  // Left out, the minimum size would go back to S3's default for all rules.
  const input = { Bucket, LifecycleConfiguration, TransitionDefaultMinimumObjectSize: minimum };
  await s3.send(new PutBucketLifecycleConfigurationCommand(input), { abortSignal });
}

/** Equal but for the order of fields, and for fields that are undefined. */
function isSame(one: LifecycleRule | undefined, other: LifecycleRule | undefined): boolean {
  const [a, b] = [one, other].map((rule) => JSON.parse(JSON.stringify(rule ?? null)));
  return isDeepStrictEqual(a, b);
}

// ---- command line: leave out when copying ----
import { confirm, connect, interrupted, print, recipe, s3Prefix, sayUndo, yes } from '../../shared/cli.ts';
import { addTag, toMove } from './17-helpers/lifecycle-rule.ts';

recipe(import.meta, (command) =>
  command
    .argument('<objects>', 's3://BUCKET/PREFIX of the objects that the rule is about', s3Prefix)
    .argument('[id]', 'name of the rule; without it you are told which rules there are')
    .option('--transitions <days:CLASS...>', 'when to move objects to which class: 30:STANDARD_IA 90:GLACIER')
    .option('--expire-after <days>', 'when objects expire', Number)
    .option('--expire-versions-after <days>', 'when old versions are deleted', Number)
    .option('--keep-versions <number>', 'how many of the newest old versions to keep all the same', Number)
    .option('--abort-uploads-after <days>', 'when unfinished uploads are aborted', Number)
    .option('--expire-delete-markers', 'remove delete markers that are left alone')
    .option('--tags <key=value...>', 'only objects that have all these tags', addTag)
    .option('--remove', 'take the rule out')
    .addOption(yes)
    .action(async ({ bucket, prefix }, id, { remove, ...options }) => {
      const [s3, signal] = [connect(S3Client), interrupted()];
      const about = Object.keys(options).some((name) => /^(transitions|expire|keep|abort|tags)/.test(name));
      if (!id && (remove || about)) throw new TypeError('name the rule first: --transitions and --tags take the rest');
      if (id === undefined) return print(await listRules(s3, { bucket, signal }));
      const rule = remove ? undefined : { ...options, id, prefix, transitions: options.transitions?.map(toMove) };
      const losses = await findLosses(s3, { bucket, rule, remove: id, signal });
      if (losses.length > 0) await confirm(`In the bucket ${bucket}:\n${losses.join('\n')}\nIs that what you want?`);
      const done = rule ? setLifecycle(s3, { bucket, rule, signal }) : removeLifecycleRule(s3, { bucket, id, signal });
      const result = await done;
      print(result);
      if (result.change === 'added') sayUndo(result);
    }),
);
