/**
 * 3.20 Lock objects
 *
 * ## Problem
 * Some objects must not be deleted or changed before a date, by mistake, by malware, or by an administrator: records
 * that a law asks for, or backups.
 *
 * ## Solution
 * Turn on Object Lock for the bucket, once; that turns on versioning, too. Then lock a version of an object until a
 * date, hold it without a date, or give the bucket a default for all that is written from now on.
 *
 * ## Discussion
 * A lock is on one version, not on the key: a new version can always be put on top, and a plain deletion still adds a
 * delete marker (3.19 removes it). What can't be done is to delete the locked version.
 * - Governance: whoever has `s3:BypassGovernanceRetention` can end it (`--release`) or delete the version all the
 *   same. Keep that permission apart; the root user has it, and so has every policy that allows `s3:*`.
 * - Compliance: nobody can shorten it or delete the version before the date, not the root user, not AWS; only closing
 *   the account does. Until then it is billed. It can be prolonged. Try it out with governance and one day.
 * - Legal hold: no date; holds beside a retention until somebody with `s3:PutObjectLegalHold` takes it off.
 * - Event hold (2026): protected until it is taken off, and for a time after that. What there is of it is kept here.
 *
 * Object Lock can't be turned off again, and versioning can't be suspended then. A bucket with it can't take server
 * access logs (3.8). Buckets that are there already can have it since November 2023. The default of a bucket is for new
 * versions only; those that are there stay unlocked. To make it weaker, release it first. An upload that is locked
 * needs a checksum or MD5, which the SDK sends, but no presigned URL or form (3.10, 3.23): a default in their bucket
 * makes S3 refuse them.
 *
 * `--days` count from now: run again, they prolong a lock. Whoever has `s3:PutObjectRetention` can lock for 100 years,
 * in compliance mode for good: limit them in the bucket's policy (`s3:object-lock-remaining-retention-days`). A lock
 * does not guard the KMS key that encrypts an object, and without that it can't be read.
 *
 * Lifecycle rules don't delete locked versions. To delete a bucket, its locks must be over. What the lock of a version
 * is can only be seen with `s3:GetObjectRetention` and `s3:GetObjectLegalHold`; `s3:BypassGovernanceRetention` is for
 * `--release`, and to turn governance into compliance. Millions of objects take S3 Batch Operations.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @before npx tsx recipes/s3/03-store-private-data.ts s3://paws-example/report.txt "some text" --local
 * @run npx tsx recipes/s3/20-lock-objects.ts s3://paws-example --enable --local --yes
 * @output
 *   bucket   paws-example
 *   enabled  yes
 *   mode     -
 *   days     -
 *   years    -
 * @run npx tsx recipes/s3/20-lock-objects.ts s3://paws-example/report.txt --mode governance --days 1 --local
 * @permission s3:GetBucketVersioning on arn:aws:s3:::BUCKET
 * @permission s3:PutBucketVersioning on arn:aws:s3:::BUCKET
 * @permission s3:GetBucketObjectLockConfiguration on arn:aws:s3:::BUCKET
 * @permission s3:PutBucketObjectLockConfiguration on arn:aws:s3:::BUCKET
 * @permission s3:GetObject on arn:aws:s3:::BUCKET/*
 * @permission s3:GetObjectVersion on arn:aws:s3:::BUCKET/*
 * @permission s3:GetObjectRetention on arn:aws:s3:::BUCKET/*
 * @permission s3:GetObjectLegalHold on arn:aws:s3:::BUCKET/*
 * @permission s3:PutObjectRetention on arn:aws:s3:::BUCKET/*
 * @permission s3:PutObjectLegalHold on arn:aws:s3:::BUCKET/*
 * @permission s3:BypassGovernanceRetention on arn:aws:s3:::BUCKET/*
 * @cost locks are free; versions that are overwritten or deleted stay, and are billed, until the lock is over at least
 * @undo npx tsx recipes/s3/20-lock-objects.ts s3://{bucket}/report.txt --release --local --yes
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-configure.html
 */
import {
  type DefaultRetention,
  GetObjectLegalHoldCommand,
  GetObjectLockConfigurationCommand,
  GetObjectRetentionCommand,
  HeadObjectCommand,
  PutObjectLegalHoldCommand,
  PutObjectLockConfigurationCommand,
  PutObjectRetentionCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { preventDeletion } from './11-prevent-deletion.ts';
import { tryAgain } from './13-helpers/try-again.ts';

export type LockMode = 'GOVERNANCE' | 'COMPLIANCE';

export interface BucketLock {
  bucket: string;
  /** Whether objects in the bucket can be locked. */
  enabled: boolean;
  /** How new versions are locked; null when they aren't. */
  mode: LockMode | null;
  /** For how many days new versions are locked; null where it is none, or is given in years. */
  days: number | null;
  years: number | null;
}

export interface ObjectLock {
  bucket: string;
  key: string;
  versionId: string;
  /** Null when the version has no date. */
  mode: LockMode | null;
  retainUntil: Date | null;
  legalHold: boolean;
}

/**
 * Turns on Object Lock for a bucket, and sets how new versions are locked by default; without either it only looks.
 * A default that is there may become stricter or longer; to weaken it takes its release first.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - Name of the bucket.
 * @param options.enable - Turns it on, for good; a default that is there stays. False by default.
 * @param options.mode - Locks new versions so, with `days`. Turns Object Lock on, too.
 * @param options.days - For how long: 1 to 36,500.
 * @param options.release - Takes the default away. Locks on versions stay; an event hold, and the mode it takes, too.
 * @throws RangeError when mode and days don't go together.
 * @throws Error when new versions would be locked less than by the default that is there.
 * @throws The SDK's error; its message tells if versioning is on since.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectLockConfiguration.html
 *
 * @example
 * const s3 = new S3Client({});
 * const { enabled, mode } = await lockObjects(s3, { bucket: 'my-backups', mode: 'GOVERNANCE', days: 30 });
 * console.log(enabled, mode);
 */
export async function lockObjects(
  s3: S3Client,
  options: { bucket: string; enable?: boolean; mode?: LockMode; days?: number; release?: boolean },
): Promise<BucketLock> {
  const { bucket, enable = false, mode, days, release = false } = options;
  checkLock(options);

  const { rule, ...before } = await readBucket(s3, bucket);
  const now = before.days ?? (before.years ?? 0) * 365;
  // An event hold alone has a mode, and no days.
  if (mode && now > 0 && ((before.mode === 'COMPLIANCE' && mode !== before.mode) || Number(days) < now)) {
    const rule = `${now} days in ${before.mode} mode`;
    throw new Error(`by default ${bucket} locks for ${rule}: release that first to weaken it`);
  }
  if (mode || (release && before.mode) || (enable && !before.enabled)) {
    // S3 takes Object Lock only where versioning is on.
    const { changed } = await preventDeletion(s3, { bucket });
    // It replaces the whole rule: an event hold in it stays, and takes a mode.
    const { DefaultEventHold } = rule ?? {};
    const DefaultRetention = { Mode: mode ?? (DefaultEventHold && rule?.Mode), Days: days, DefaultEventHold };
    const Rule = mode || DefaultEventHold ? { DefaultRetention } : undefined;
    const ObjectLockConfiguration = { ObjectLockEnabled: 'Enabled' as const, Rule };
    const put = new PutObjectLockConfigurationCommand({ Bucket: bucket, ObjectLockConfiguration });
    // That versioning is on may not be known everywhere yet.
    await tryAgain(() => s3.send(put), { passing: changed ? ['InvalidBucketState'] : [] }).catch((error) => {
      if (changed) error.message += ` Versioning of ${bucket} is on since.`;
      throw error;
    });
  }
  const { rule: _, ...after } = await readBucket(s3, bucket);
  return after;
}

/**
 * Locks one version of an object, or takes a lock off; without either it only looks.
 *
 * @param s3 - Of the bucket's region.
 * @param options.bucket - Name of a bucket with Object Lock.
 * @param options.key - Key of the object.
 * @param options.versionId - The current version by default.
 * @param options.mode - Locks it so, until `retainUntil`: a lock can be prolonged, and governance become compliance.
 * @param options.retainUntil - Until when.
 * @param options.legalHold - Holds it without a date, or no longer. As it is by default.
 * @param options.release - Takes a lock in governance mode off; an event hold, and the mode it takes, stay.
 * @throws RangeError when mode and date don't go together, the date is past, or the version's id is empty.
 * @throws AccessDenied when a lock would be shortened, or released in compliance mode.
 * @throws InvalidRequest when the bucket has no Object Lock.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectRetention.html
 *
 * @example
 * const s3 = new S3Client({});
 * const version = { bucket: 'my-backups', key: 'july.tar' };
 * await lockVersion(s3, { ...version, mode: 'GOVERNANCE', retainUntil: new Date('2030-01-01T00:00:00Z') });
 */
export async function lockVersion(
  s3: S3Client,
  options: {
    bucket: string;
    key: string;
    versionId?: string;
    mode?: LockMode;
    retainUntil?: Date;
    legalHold?: boolean;
    release?: boolean;
  },
): Promise<ObjectLock> {
  const { bucket, key, mode, retainUntil, legalHold, release = false } = options;
  checkLock(options);
  if (retainUntil && !(retainUntil.getTime() > Date.now()))
    throw new RangeError('a lock ends at a moment that lies ahead');

  // A lock is on a version: so all calls are for one and the same, whatever is written meanwhile.
  const { VersionId = 'null' } = await s3.send(
    new HeadObjectCommand({ Bucket: bucket, Key: key, VersionId: options.versionId }),
  );
  const version = { Bucket: bucket, Key: key, VersionId };

  if (mode || release) {
    // It replaces all that the version has: an event hold that is on stays, and takes a mode.
    const { Retention: before = {} } = (await orNone(s3.send(new GetObjectRetentionCommand(version)))) ?? {};
    const { Mode, EventHold, EventHoldDuration } = before.EventHold === 'ON' ? before : {};
    const Retention = { Mode: mode ?? Mode, RetainUntilDate: retainUntil, EventHold, EventHoldDuration };
    // The bypass would let a lock be shortened, too.
    const stricter = mode === 'COMPLIANCE' && before.Mode === 'GOVERNANCE';
    const longer = Number(retainUntil) >= Number(before.RetainUntilDate ?? 0);
    const bypass = { BypassGovernanceRetention: release || (stricter && longer) || undefined };
    await s3.send(new PutObjectRetentionCommand({ ...version, Retention, ...bypass }));
  }
  if (legalHold !== undefined) {
    const LegalHold = { Status: legalHold ? ('ON' as const) : ('OFF' as const) };
    await s3.send(new PutObjectLegalHoldCommand({ ...version, LegalHold }));
  }

  const { Retention } = (await orNone(s3.send(new GetObjectRetentionCommand(version)))) ?? {};
  const { LegalHold } = (await orNone(s3.send(new GetObjectLegalHoldCommand(version)))) ?? {};
  return {
    ...{ bucket, key, versionId: VersionId, mode: Retention?.Mode ?? null },
    ...{ retainUntil: Retention?.RetainUntilDate ?? null, legalHold: LegalHold?.Status === 'ON' },
  };
}

/** Refuses what makes sense neither for a bucket nor for a version. */
function checkLock(
  options: Partial<{ mode: LockMode; days: number; retainUntil: Date; release: boolean; versionId: string }>,
): void {
  const { mode, days, retainUntil, release = false, versionId } = options;
  if ((mode === undefined) !== ((days ?? retainUntil) === undefined))
    throw new RangeError('a mode and days, or a mode and a date, go together');
  if (mode && release) throw new RangeError('a lock is set or released, not both');
  if (days !== undefined && !(Number.isInteger(days) && days >= 1 && days <= 36_500))
    throw new RangeError(`a lock holds for 1 to 36,500 days, not ${days}`);
  if (versionId === '') throw new RangeError('the version has no id');
}

async function readBucket(s3: S3Client, bucket: string): Promise<BucketLock & { rule?: DefaultRetention }> {
  const answer = await orNone(s3.send(new GetObjectLockConfigurationCommand({ Bucket: bucket })));
  const { ObjectLockEnabled, Rule: { DefaultRetention: rule } = {} } = answer?.ObjectLockConfiguration ?? {};
  const { Mode = null, Days = null, Years = null } = rule ?? {};
  return { bucket, enabled: ObjectLockEnabled === 'Enabled', mode: Mode, days: Days, years: Years, rule };
}

/** S3 says that there is no lock by an error. */
async function orNone<Answer>(question: Promise<Answer>): Promise<Answer | null> {
  return question.catch((error: Error) => {
    if (/^(NoSuchObjectLockConfiguration|ObjectLockConfigurationNotFoundError)$/.test(error.name)) return null;
    // Where the bucket has no Object Lock, none of its versions has a lock.
    if (error.name === 'InvalidRequest' && /Object Lock Configuration/i.test(error.message)) return null;
    throw error;
  });
}

// ---- command line: leave out when copying ----
import { Option } from '@commander-js/extra-typings';
import { confirm, connect, print, recipe, s3Prefix, yes } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('<target>', 's3://BUCKET for all that is written from now on, s3://BUCKET/KEY for one object', s3Prefix)
    .option('--enable', 'turn on Object Lock for the bucket, for good')
    .addOption(new Option('--mode <mode>', 'lock').choices(['governance', 'compliance'] as const))
    .option('--days <number>', 'for so many days', Number)
    .addOption(new Option('--legal-hold <state>', 'hold an object without a date').choices(['on', 'off'] as const))
    .option('--release', "take an object's lock in governance mode off, or the default of a bucket")
    .option('--version-id <id>', 'of this version, not the current one')
    .addOption(yes)
    .action(async ({ bucket, prefix: key }, { enable, days, legalHold, release, versionId, ...options }) => {
      const [mode, hold] = [options.mode?.toUpperCase() as LockMode | undefined, legalHold && legalHold === 'on'];
      const forGood = mode === 'COMPLIANCE' ? ' Nobody, not even AWS, can shorten that or delete before.' : '';
      if (key && enable) throw new RangeError('--enable is for a bucket: s3://BUCKET');
      if (!key && (legalHold || versionId)) throw new RangeError('--legal-hold and --version-id are for an object');
      checkLock({ mode, days, release, versionId });
      const [s3, where] = [connect(S3Client), key ? `s3://${bucket}/${key}` : `new versions in ${bucket}`];
      if (release || legalHold === 'off') await confirm(`Take the lock or legal hold off ${where}?`);
      const retainUntil = key && days !== undefined ? new Date(Date.now() + days * 86_400_000) : undefined;
      const byDefault = mode ? `, and lock each new version for ${days} days in ${options.mode} mode` : '';
      const lockOne = `Lock ${where} until ${retainUntil?.toISOString()}`;
      const question = key ? lockOne : `Turn on Object Lock for ${bucket}, for good${byDefault}`;
      if (forGood || (!key && (enable || mode))) await confirm(`${question}?${forGood}`);
      if (!key) return print(await lockObjects(s3, { bucket, enable, mode, days, release }));
      print(await lockVersion(s3, { bucket, key, versionId, mode, retainUntil, legalHold: hold, release }));
    }),
);
