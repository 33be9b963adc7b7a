import {
  CreateBucketCommand,
  DeleteObjectCommand,
  GetBucketVersioningCommand,
  GetObjectLegalHoldCommand,
  GetObjectLockConfigurationCommand,
  GetObjectRetentionCommand,
  PutObjectCommand,
  PutObjectLockConfigurationCommand,
  type PutObjectRetentionCommandInput,
} from '@aws-sdk/client-s3';
import { expect, onTestFinished, test, vi } from 'vitest';
import { type LockMode, lockObjects, lockVersion } from '../../recipes/s3/20-lock-objects.ts';
import { emptyBucket } from '../../recipes/s3/28-empty-bucket.ts';
import { withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';
import { oddKeys } from '../odd-keys.ts';

const { bucket: own, run, file, s3 } = testRecipe(import.meta);
const client = s3();
const tomorrow = () => new Date(Math.ceil(Date.now() / 1000) * 1000 + 86_400_000);

async function makeBucket(name: string, { locks = false } = {}): Promise<string> {
  const Bucket = `${own}-${name}`;
  await client.send(new CreateBucketCommand({ Bucket, ObjectLockEnabledForBucket: locks }));
  return Bucket;
}

async function put(Bucket: string, Key = 'key'): Promise<string> {
  const { VersionId = 'null' } = await client.send(new PutObjectCommand({ Bucket, Key, Body: 'text' }));
  return VersionId;
}

const remove = (Bucket: string, VersionId: string, more: object = {}) =>
  client.send(new DeleteObjectCommand({ Bucket, Key: 'key', VersionId, ...more }));
const none = { mode: null, days: null, years: null };

test('it is turned on for a bucket that is there, with versioning; before, the status says that it is not', async () => {
  const bucket = await makeBucket('enable');
  expect(await lockObjects(client, { bucket })).toEqual({ bucket, enabled: false, ...none });
  await put(bucket);
  expect(await lockVersion(client, { bucket, key: 'key' })).toMatchObject({
    versionId: 'null',
    mode: null,
    legalHold: false,
  });
  expect(await lockObjects(client, { bucket, release: true })).toMatchObject({ enabled: false });
  expect(await lockObjects(client, { bucket, enable: true })).toEqual({ bucket, enabled: true, ...none });
  const { Status } = await client.send(new GetBucketVersioningCommand({ Bucket: bucket }));
  expect(Status).toBe('Enabled');
});

test('a default locks new versions, stays when Object Lock is turned on again, and can be released', async () => {
  const bucket = await makeBucket('default');
  const before = await put(bucket);
  expect(await lockObjects(client, { bucket, mode: 'GOVERNANCE', days: 7 })).toEqual({
    ...{ bucket, enabled: true, mode: 'GOVERNANCE', days: 7, years: null },
  });
  const after = await put(bucket);
  const lock = await lockVersion(client, { bucket, key: 'key' });
  expect(lock).toMatchObject({ versionId: after, mode: 'GOVERNANCE', legalHold: false });
  expect(Math.abs(Number(lock.retainUntil) - Date.now() - 7 * 86_400_000)).toBeLessThan(60_000);
  expect(await lockVersion(client, { bucket, key: 'key', versionId: before })).toMatchObject({ mode: null });
  const { client: one, sent } = withFaults(s3());
  expect(await lockObjects(one, { bucket, enable: true })).toMatchObject({ mode: 'GOVERNANCE', days: 7 });
  expect(sent).not.toContain('PutObjectLockConfiguration');
  expect(await lockObjects(client, { bucket, release: true })).toEqual({ bucket, enabled: true, ...none });
  const answer = await client.send(new GetObjectLockConfigurationCommand({ Bucket: bucket }));
  expect(answer.ObjectLockConfiguration?.ObjectLockEnabled).toBe('Enabled');
  expect(await lockVersion(client, { bucket, key: 'key' })).toMatchObject({ mode: 'GOVERNANCE' });
});

test('a default becomes longer and stricter, and weaker only once it is released', async () => {
  const bucket = await makeBucket('weaker', { locks: true });
  const set = (mode: LockMode, days: number) => lockObjects(client, { bucket, mode, days });
  await set('GOVERNANCE', 365);
  await expect(set('GOVERNANCE', 364)).rejects.toThrow(
    `by default ${bucket} locks for 365 days in GOVERNANCE mode: release that first to weaken it`,
  );
  await set('GOVERNANCE', 730);
  const Rule = { DefaultRetention: { Mode: 'COMPLIANCE', Years: 2 } } as const;
  const ObjectLockConfiguration = { ObjectLockEnabled: 'Enabled', Rule } as const;
  await client.send(new PutObjectLockConfigurationCommand({ Bucket: bucket, ObjectLockConfiguration }));
  await expect(set('GOVERNANCE', 3650)).rejects.toThrow('730 days in COMPLIANCE mode: release that first');
  await expect(set('COMPLIANCE', 729)).rejects.toThrow('730 days in COMPLIANCE mode: release that first');
  await lockObjects(client, { bucket, release: true });
  expect(await set('GOVERNANCE', 1)).toMatchObject({ mode: 'GOVERNANCE', days: 1 });
});

test('versioning that was turned on a moment ago is waited for, and named where the rest fails', async () => {
  const bucket = await makeBucket('half');
  const random = vi.spyOn(Math, 'random').mockReturnValue(0);
  onTestFinished(() => random.mockRestore());
  const attempt = (error: string, times?: number) => {
    const { client: one, sent } = withFaults(s3(), { operation: 'PutObjectLockConfiguration', error, times });
    return { sent, done: lockObjects(one, { bucket, enable: true }) };
  };
  await expect(attempt('AccessDenied').done).rejects.toThrow(
    new RegExp(`^AccessDenied\\.? Versioning of ${bucket} is on since\\.$`),
  );
  // It was on before the second try: then that state doesn't pass.
  const { sent, done } = attempt('InvalidBucketState');
  await expect(done).rejects.toThrow(/^InvalidBucketState$/);
  expect(sent.filter((operation) => operation === 'PutObjectLockConfiguration')).toHaveLength(1);

  const other = await makeBucket('patient');
  const { client: one } = withFaults(s3(), {
    ...{ operation: 'PutObjectLockConfiguration', error: 'InvalidBucketState', times: 2 },
  });
  expect(await lockObjects(one, { bucket: other, enable: true })).toMatchObject({ enabled: true });
});

test('a version in governance mode can not be deleted until its lock is released', async () => {
  const bucket = await makeBucket('governance', { locks: true });
  const version = await put(bucket);
  const retainUntil = tomorrow();
  const lock = { bucket, key: 'key', versionId: version, mode: 'GOVERNANCE' as const, retainUntil, legalHold: false };
  expect(await lockVersion(client, { bucket, key: 'key', mode: 'GOVERNANCE', retainUntil })).toEqual(lock);
  const Key = 'key';
  const { Retention } = await client.send(new GetObjectRetentionCommand({ Bucket: bucket, Key, VersionId: version }));
  expect(Retention).toEqual({ Mode: 'GOVERNANCE', RetainUntilDate: retainUntil });
  await expect(remove(bucket, version)).rejects.toMatchObject({ name: 'AccessDenied' });
  // A new version on top has no lock, and is what is meant when none is named.
  const newer = await put(bucket);
  expect(await lockVersion(client, { bucket, key: 'key' })).toMatchObject({ versionId: newer, mode: null });
  const later = new Date(retainUntil.getTime() + 86_400_000);
  const longer = { bucket, key: 'key', versionId: version, mode: 'GOVERNANCE' as const, retainUntil: later };
  expect(await lockVersion(client, longer)).toMatchObject({ retainUntil: later });
  await expect(lockVersion(client, { ...longer, retainUntil })).rejects.toMatchObject({ name: 'AccessDenied' });
  const command = `npx tsx ${file} s3://paws-example-governance/key --version-id ${version} --release --local --json`;
  const asked = await run(command);
  expect(asked).toMatchObject({
    code: 2,
    stdout: '',
    stderr: expect.stringContaining('Take the lock or legal hold off s3://'),
  });
  const release = await run(`${command} --yes`);
  expect(release).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(release.stdout)).toEqual({
    ...{
      bucket: 'paws-example-governance',
      key: 'key',
      versionId: version,
      mode: null,
      retainUntil: null,
      legalHold: false,
    },
  });
  await remove(bucket, version);
});

test('compliance says what it means and needs a yes; then nobody ends it', async () => {
  const bucket = await makeBucket('compliance', { locks: true });
  const version = await put(bucket);
  const command = `npx tsx ${file} s3://paws-example-compliance/key --mode compliance --days 1 --local`;
  const asked = await run(command);
  expect(asked).toMatchObject({ code: 2, stdout: '' });
  const date = new Date(Date.now() + 86_400_000).toISOString().slice(0, 10);
  expect(asked.stderr).toContain(`Lock s3://paws-example-compliance/key until ${date}T`);
  expect(asked.stderr).toContain('Nobody, not even AWS, can shorten that or delete before.');
  await expect(lockVersion(client, { bucket, key: 'key' })).resolves.toMatchObject({ mode: null });
  await lockVersion(client, { bucket, key: 'key', mode: 'COMPLIANCE', retainUntil: tomorrow() });
  await expect(lockVersion(client, { bucket, key: 'key', release: true })).rejects.toMatchObject({
    name: 'AccessDenied',
  });
  await expect(remove(bucket, version, { BypassGovernanceRetention: true })).rejects.toMatchObject({
    name: 'AccessDenied',
  });
  // Another one for seconds, for no test has a day.
  const other = await put(bucket);
  const retainUntil = new Date(Math.ceil(Date.now() / 1000) * 1000 + 5000);
  await lockVersion(client, { bucket, key: 'key', mode: 'COMPLIANCE', retainUntil });
  await new Promise((done) => setTimeout(done, retainUntil.getTime() - Date.now() + 500));
  await remove(bucket, other);

  const forAll = await run(`npx tsx ${file} s3://paws-example-compliance --mode compliance --days 30 --local`);
  expect(forAll).toMatchObject({ code: 2, stdout: '' });
  expect(forAll.stderr).toContain(
    'Turn on Object Lock for paws-example-compliance, for good, and lock each new version for 30 days in compliance mode? Nobody',
  );
  expect(await lockObjects(client, { bucket })).toMatchObject({ mode: null });
});

test('a legal hold keeps a version without a date, beside a lock, until it is taken off', async () => {
  const bucket = await makeBucket('hold', { locks: true });
  const version = await put(bucket);
  const command = `npx tsx ${file} s3://paws-example-hold/key --local --json`;
  const on = await run(`${command} --legal-hold on --mode governance --days 1`);
  expect(on).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(on.stdout)).toMatchObject({ versionId: version, mode: 'GOVERNANCE', legalHold: true });
  const hold = await client.send(new GetObjectLegalHoldCommand({ Bucket: bucket, Key: 'key', VersionId: version }));
  expect(hold.LegalHold?.Status).toBe('ON');
  expect(await lockVersion(client, { bucket, key: 'key', release: true })).toMatchObject({
    mode: null,
    legalHold: true,
  });
  await expect(remove(bucket, version, { BypassGovernanceRetention: true })).rejects.toMatchObject({
    name: 'AccessDenied',
  });
  expect(await lockVersion(client, { bucket, key: 'key', legalHold: false })).toMatchObject({ legalHold: false });
  await remove(bucket, version);
});

test('an event hold that others have set stays, with its mode (the answers are the test’s own)', async () => {
  const bucket = await makeBucket('event', { locks: true });
  await put(bucket);
  const kept = { Mode: 'GOVERNANCE', DefaultEventHold: { Days: 30 } };
  const ObjectLockConfiguration = { ObjectLockEnabled: 'Enabled', Rule: { DefaultRetention: { ...kept, Days: 7 } } };
  const inputs: object[] = [];
  const held = { EventHold: 'ON', EventHoldDuration: { Years: 1 } };
  const { client: one } = withFaults(
    s3(),
    { operation: 'GetObjectLockConfiguration', output: { ObjectLockConfiguration } },
    { operation: 'PutObjectLockConfiguration', output: {}, answered: (input) => inputs.push(input) },
    { operation: 'GetObjectRetention', times: 2, output: { Retention: { Mode: 'GOVERNANCE', ...held } } },
    { operation: 'GetObjectRetention', output: { Retention: { Mode: 'GOVERNANCE', ...held, EventHold: 'OFF' } } },
    { operation: 'PutObjectRetention', output: {}, answered: (input) => inputs.push(input) },
  );
  await lockObjects(one, { bucket, mode: 'COMPLIANCE', days: 7 });
  await lockObjects(one, { bucket, release: true });
  await lockVersion(one, { bucket, key: 'key', release: true });
  await lockVersion(one, { bucket, key: 'key', release: true });
  expect(inputs).toMatchObject([
    { ObjectLockConfiguration: { Rule: { DefaultRetention: { ...kept, Mode: 'COMPLIANCE', Days: 7 } } } },
    { ObjectLockConfiguration: { Rule: { DefaultRetention: { ...kept, Days: undefined } } } },
    { Retention: { Mode: 'GOVERNANCE', RetainUntilDate: undefined, ...held }, BypassGovernanceRetention: true },
    { Retention: { Mode: undefined, EventHold: undefined, EventHoldDuration: undefined } },
  ]);
});

test('governance becomes compliance by the bypass, which is not used to shorten a lock', async () => {
  const bucket = await makeBucket('stricter', { locks: true });
  await put(bucket);
  const seen: unknown[] = [];
  const answered = (input: object) => seen.push((input as PutObjectRetentionCommandInput).BypassGovernanceRetention);
  const { client: one } = withFaults(s3(), { operation: 'PutObjectRetention', output: {}, answered });
  const until = tomorrow();
  const lock = (mode: LockMode, seconds: number) =>
    lockVersion(one, { bucket, key: 'key', mode, retainUntil: new Date(until.getTime() + seconds * 1000) });
  await lock('COMPLIANCE', 0);
  await lockVersion(client, { bucket, key: 'key', mode: 'GOVERNANCE', retainUntil: until });
  await lock('GOVERNANCE', 1);
  await lock('COMPLIANCE', -1);
  await lock('COMPLIANCE', 0);
  expect(seen).toEqual([undefined, undefined, undefined, true]);
});

test('keys of all sorts are locked and released', async () => {
  const bucket = await makeBucket('odd', { locks: true });
  for (const key of oddKeys) {
    await put(bucket, key);
    const lock = await lockVersion(client, {
      bucket,
      key,
      mode: 'GOVERNANCE',
      retainUntil: tomorrow(),
      legalHold: true,
    });
    expect(lock).toMatchObject({ key, mode: 'GOVERNANCE', legalHold: true });
  }
  expect(await emptyBucket(client, { bucket })).toMatchObject({ versions: 0, kept: oddKeys.length });
  for (const key of oddKeys) await lockVersion(client, { bucket, key, release: true, legalHold: false });
  expect(await emptyBucket(client, { bucket })).toMatchObject({ versions: oddKeys.length, kept: 0 });
});

test('all calls are for one version, though another is written meanwhile', async () => {
  const bucket = await makeBucket('meanwhile', { locks: true });
  const version = await put(bucket);
  const { client: one } = withFaults(s3(), { operation: 'PutObjectRetention', answered: () => put(bucket) });
  const lock = { mode: 'GOVERNANCE' as const, retainUntil: tomorrow(), legalHold: true };
  expect(await lockVersion(one, { bucket, key: 'key', ...lock })).toMatchObject({ versionId: version, ...lock });
});

test('what makes no sense is refused before anything is sent', async () => {
  const { client: one, sent } = withFaults(s3());
  const [bucket, key, mode, days] = [own, 'key', 'GOVERNANCE' as const, 1];
  for (const wrong of [
    { mode },
    { days },
    { mode, days: 0 },
    { mode, days: 1.5 },
    { mode, days: 36_501 },
    { mode, days: NaN },
  ]) {
    await expect(lockObjects(one, { bucket, ...wrong }), JSON.stringify(wrong)).rejects.toThrow(RangeError);
  }
  await expect(lockObjects(one, { bucket, mode, days, release: true })).rejects.toThrow('set or released');
  const past = new Date(Date.now() - 1000);
  for (const wrong of [
    { mode },
    { retainUntil: tomorrow() },
    { mode, retainUntil: past },
    { mode, retainUntil: new Date('x') },
  ]) {
    await expect(lockVersion(one, { bucket, key, ...wrong }), JSON.stringify(wrong)).rejects.toThrow(RangeError);
  }
  const both = { mode, retainUntil: tomorrow(), release: true };
  await expect(lockVersion(one, { bucket, key, ...both })).rejects.toThrow('set or released');
  await expect(lockVersion(one, { bucket, key, versionId: '' })).rejects.toThrow('the version has no id');
  expect(sent).toEqual([]);
  for (const [options, message] of [
    ['s3://paws-example/key --enable', '--enable is for a bucket'],
    ['s3://paws-example/ --mode compliance --days 1 --yes', 'neither s3://BUCKET nor'],
    ['s3://paws-example --legal-hold on', '--legal-hold and --version-id are for an object'],
    ['s3://paws-example/key --mode governance --days soon', '1 to 36,500 days, not NaN'],
    ['s3://paws-example --mode governance --days soon', '1 to 36,500 days, not NaN'],
    ['s3://paws-example/key --mode compliance', 'a mode and days, or a mode and a date, go together'],
    ['s3://paws-example/key --version-id "" --release', 'the version has no id'],
    ['s3://paws-example --version-id "" --release', 'the version has no id'],
  ]) {
    const result = await run(`npx tsx ${file} ${options} --local`);
    expect(result, options).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining(message as string) });
  }
});

test('errors go up as they are: no lock in this bucket, no such object, no permission', async () => {
  const bucket = await makeBucket('errors');
  await put(bucket);
  const lock = { bucket, key: 'key', mode: 'GOVERNANCE' as const, retainUntil: tomorrow() };
  await expect(lockVersion(client, lock)).rejects.toMatchObject({ name: 'InvalidRequest' });
  await expect(lockVersion(client, { ...lock, key: 'other' })).rejects.toMatchObject({ name: 'NotFound' });
  for (const operation of ['HeadObject', 'GetObjectRetention', 'GetObjectLegalHold']) {
    const { client: one } = withFaults(s3(), { operation, error: 'AccessDenied' });
    await expect(lockVersion(one, { bucket, key: 'key' })).rejects.toMatchObject({ name: 'AccessDenied' });
  }
  for (const operation of ['GetObjectLockConfiguration', 'PutBucketVersioning', 'PutObjectLockConfiguration']) {
    const { client: one } = withFaults(s3(), { operation, error: 'AccessDenied' });
    await expect(lockObjects(one, { bucket, enable: true })).rejects.toMatchObject({ name: 'AccessDenied' });
  }
});
