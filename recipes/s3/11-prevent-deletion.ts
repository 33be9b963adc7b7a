/**
 * 3.11 Prevent deletion
 *
 * ## Problem
 * A script with a wrong prefix, or an upload to a key that was taken, destroys data in a moment. You want to be able
 * to take that back.
 *
 * ## Solution
 * Turn on versioning: from then on S3 keeps what is overwritten or deleted as older versions. With MFA delete, nobody
 * gets rid of a version without a code from the device of your account's root user.
 *
 * ## Discussion
 * What a deletion does then: one that names only the key puts a delete marker on top. The object is gone for readers
 * (404), its versions are all there; 3.19 takes the marker away. A deletion that names a version is final; it needs
 * another permission, `s3:DeleteObjectVersion`. Few should have it, nor `s3:PutLifecycleConfiguration`, whose rules
 * delete versions without it, nor `s3:PutBucketVersioning`. Overwriting makes the new object the current version. 3.29
 * lists the versions of an object, and makes an older one the current one.
 *
 * Versioning can't be turned off again, only suspended. The versions stay, and stay billed. What is written from then
 * on gets the version id `null`, and so has what was there before versioning. There is one `null` version of a key:
 * when suspended, the next upload or deletion replaces it, and its data is lost.
 *
 * Each version is billed as a whole object, as long as it is there. A rule that deletes noncurrent versions after some
 * days keeps that in bounds (3.17). A rule that expired objects for good now only adds markers, until it has one for
 * noncurrent versions too. After versioning is first turned on, AWS recommends to wait 15 minutes before writing:
 * until then, new objects may now and then be answered with 404.
 *
 * MFA delete asks for device and code when a version is deleted and when versioning changes. Only the root user, with
 * access keys of its own, can turn it on and off and delete versions then, and only over HTTPS; others get
 * `AccessDenied`. The device must be one that shows six digits, no passkey or security key. Where an organization
 * manages root access centrally, its member accounts may have no root user to log in as. The console can't do it, and
 * lifecycle rules don't go with it. AWS advises against keys of the root user: make them for this, and delete them
 * after. A code works once; wait for the next before the next call. For most buckets Object Lock (3.20) does more: in
 * compliance mode it binds the root user, too. A bucket that has it can't be suspended, nor can the source of a
 * replication: `InvalidBucketState`.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @run npx tsx recipes/s3/11-prevent-deletion.ts paws-example --local
 * @output
 *   bucket      paws-example
 *   versioning  Enabled
 *   mfa delete  no
 *   changed     yes
 * @aws npx tsx recipes/s3/11-prevent-deletion.ts paws-example --mfa-delete on --mfa-device arn:aws:iam::123456789012:mfa/root-account-mfa-device --mfa-code 123456
 * @permission s3:GetBucketVersioning on arn:aws:s3:::BUCKET
 * @permission s3:PutBucketVersioning on arn:aws:s3:::BUCKET
 * @cost each older version is billed as an object of its own: $0.023 a GB a month in us-east-1 (S3 Standard, 2026)
 * @undo npx tsx recipes/s3/11-prevent-deletion.ts {bucket} --suspend --local --yes
 * @emulator LocalStack takes any device and code. The tests look at the header that is sent.
 * @book bucket.configure_versioning → PutBucketVersioningCommand
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketVersioning.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/MultiFactorAuthenticationDelete.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeletingObjectsfromVersioningSuspendedBuckets.html
 */
import { GetBucketVersioningCommand, PutBucketVersioningCommand, S3Client } from '@aws-sdk/client-s3';

export interface BucketVersioning {
  bucket: string;
  /** Null when it was never on. */
  versioning: 'Enabled' | 'Suspended' | null;
  /** Whether versions are deleted only with a code of the root user's device. */
  mfaDelete: boolean;
  /** False when all was so already. */
  changed: boolean;
}

/**
 * Turns versioning of a bucket on, or suspends it; turns MFA delete on or off.
 *
 * @param s3 - Of the bucket's region; with the root user's keys where MFA delete is on or is to be changed.
 * @param options.bucket - Name of the bucket.
 * @param options.versioning - `Enabled` by default, or as it is when MFA delete is changed. What was never on is not
 *   suspended: that couldn't be taken back.
 * @param options.mfaDelete - Whether to ask for a code before a version is deleted. As it is by default.
 * @param options.mfaDevice - ARN or serial number of the root user's device, where MFA delete is on or changed.
 * @param options.mfaCode - The six digits that it shows now.
 * @throws RangeError when device and code are missing or can't be, or would go over HTTP.
 * @throws AccessDenied when MFA delete is changed by another than the root user, or the code is wrong.
 * @throws InvalidBucketState when a bucket with Object Lock or replication is to be suspended.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketVersioning.html
 *
 * @example
 * const s3 = new S3Client({});
 * const { versioning, changed } = await preventDeletion(s3, { bucket: 'my-company-reports' });
 * console.log(changed ? `versioning is now ${versioning}` : 'it was so already');
 */
export async function preventDeletion(
  s3: S3Client,
  options: {
    bucket: string;
    versioning?: 'Enabled' | 'Suspended';
    mfaDelete?: boolean;
    mfaDevice?: string;
    mfaCode?: string;
  },
): Promise<BucketVersioning> {
  const { bucket, mfaDevice, mfaCode } = options;
  if (mfaDevice !== undefined && !/^[\w+=/:,.@-]{9,256}$/.test(mfaDevice)) {
    throw new RangeError(`"${mfaDevice}" is no MFA device: its ARN or serial number has 9 to 256 letters and digits`);
  }
  if (mfaCode !== undefined && !/^\d{6}$/.test(mfaCode)) {
    throw new RangeError(`"${mfaCode}" is no code of an MFA device: it has six digits`);
  }
  const MFA = mfaDevice && mfaCode ? `${mfaDevice} ${mfaCode}` : undefined;
  if (options.mfaDelete !== undefined && !MFA) throw new RangeError('changing MFA delete takes mfaDevice and mfaCode');

  // What is so already is left alone: with MFA delete on, each change needs the root user.
  const { Status = null, MFADelete } = await s3.send(new GetBucketVersioningCommand({ Bucket: bucket }));
  const hadMfaDelete = MFADelete === 'Enabled';
  const mfaDelete = options.mfaDelete ?? hadMfaDelete;
  // To change MFA delete is no reason to change versioning, unless it was never on: MFA delete needs it.
  const kept = mfaDelete ? (Status ?? 'Enabled') : Status;
  const versioning = options.versioning ?? (options.mfaDelete === undefined ? 'Enabled' : kept);
  const neverOn = !Status && versioning !== 'Enabled';
  if ((Status === versioning || neverOn) && hadMfaDelete === mfaDelete)
    return { bucket, versioning: Status, mfaDelete, changed: false };
  // Left out where MFA delete has no part in it: to be named, it needs a code.
  const byMfa = hadMfaDelete || mfaDelete || undefined;
  if (byMfa && !MFA) throw new RangeError(`MFA delete is on in ${bucket}: a change takes mfaDevice and mfaCode`);

  const change = new PutBucketVersioningCommand({
    Bucket: bucket,
    MFA: byMfa && MFA,
    VersioningConfiguration: {
      Status: versioning ?? undefined,
      MFADelete: byMfa && (mfaDelete ? 'Enabled' : 'Disabled'),
    },
  });
  // A code must not go through a network for all to read, and S3 would refuse it. This machine itself is no network.
  change.middlewareStack.add(
    (next) => (args) => {
      const { protocol, hostname } = args.request as { protocol: string; hostname: string };
      if (byMfa && protocol !== 'https:' && !/^(localhost|127(\.\d+){3})$/.test(hostname)) {
        throw new RangeError(`an MFA code is sent over HTTPS only, not to ${protocol}//${hostname}`);
      }
      return next(args);
    },
    { step: 'build' },
  );
  await s3.send(change).catch((error) => {
    // The guard above is the caller's business, not a request that failed.
    throw error instanceof RangeError ? new RangeError(error.message) : error;
  });
  return { bucket, versioning, mfaDelete, changed: true };
}

// ---- command line: leave out when copying ----
import { Option } from '@commander-js/extra-typings';
import { bucketName, confirm, connect, print, recipe, sayUndo, warn, yes } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('<bucket>', 'name of the bucket', bucketName)
    .option('--suspend', 'suspend versioning')
    .addOption(new Option('--mfa-delete <state>', 'needs the keys of the root user').choices(['on', 'off'] as const))
    .option('--mfa-device <arn>', "ARN or serial number of the root user's MFA device")
    .option('--mfa-code <code>', 'the six digits that it shows now')
    .addOption(yes)
    .action(async (bucket, { suspend, mfaDelete, ...mfa }) => {
      const s3 = connect(S3Client);
      const root = `Only the root user's access keys, over HTTPS, can turn MFA delete ${mfaDelete}.`;
      if (mfaDelete) await confirm(`${root} While it is on, nobody else deletes versions in ${bucket}. Go on?`);
      if (suspend) await confirm(`Suspend versioning of ${bucket}? What is overwritten or deleted then can be lost.`);
      const result = await preventDeletion(s3, {
        bucket,
        versioning: suspend && 'Suspended',
        mfaDelete: mfaDelete && mfaDelete === 'on',
        ...mfa,
      });
      print(result);
      if (!result.changed || suspend || result.mfaDelete || mfaDelete) return;
      warn('If versioning was never on before, AWS advises to wait 15 minutes before you write.');
      sayUndo(result);
    }),
);
