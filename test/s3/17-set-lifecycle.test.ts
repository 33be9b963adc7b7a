import {
  CreateBucketCommand,
  GetBucketLifecycleConfigurationCommand,
  type LifecycleRule,
  PutBucketLifecycleConfigurationCommand,
  PutBucketVersioningCommand,
} from '@aws-sdk/client-s3';
import fc from 'fast-check';
import { expect, onTestFinished, test, vi } from 'vitest';
import { describeRule, type Rule, toLifecycleRule, toMove } from '../../recipes/s3/17-helpers/lifecycle-rule.ts';
import { findLosses, listRules, removeLifecycleRule, setLifecycle } from '../../recipes/s3/17-set-lifecycle.ts';
import { withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';
import { oddKeys } from '../odd-keys.ts';

const own = testRecipe(import.meta);
const { run, file } = own;
const s3 = own.s3();

let number = 0;
async function makeBucket(Status?: 'Enabled' | 'Suspended'): Promise<string> {
  const bucket = `${own.bucket}-${++number}`;
  await s3.send(new CreateBucketCommand({ Bucket: bucket }));
  const versioning = (one: 'Enabled' | 'Suspended') =>
    s3.send(new PutBucketVersioningCommand({ Bucket: bucket, VersioningConfiguration: { Status: one } }));
  if (Status) await versioning('Enabled');
  if (Status === 'Suspended') await versioning('Suspended');
  return bucket;
}
const setRules = (bucket: string, Rules: LifecycleRule[], minimum?: 'varies_by_storage_class') =>
  s3.send(
    new PutBucketLifecycleConfigurationCommand({
      Bucket: bucket,
      LifecycleConfiguration: { Rules },
      TransitionDefaultMinimumObjectSize: minimum,
    }),
  );
const configurationOf = async (Bucket: string) => {
  const { $metadata, ...rest } = await s3.send(new GetBucketLifecycleConfigurationCommand({ Bucket }));
  return rest;
};

/** Rules of all kinds that somebody else may have set, also such as this recipe makes none of. */
const theirs: LifecycleRule[] = [
  { ID: 'a', Status: 'Disabled', Filter: { Prefix: 'a/' }, Expiration: { Date: new Date('2031-01-01') } },
  {
    ID: 'b',
    Status: 'Enabled',
    Filter: { And: { Prefix: 'b', ObjectSizeGreaterThan: 0, ObjectSizeLessThan: 9, Tags: [{ Key: 'k', Value: 'v' }] } },
    Transitions: [{ Days: 40, StorageClass: 'STANDARD_IA' }],
    NoncurrentVersionTransitions: [{ NoncurrentDays: 1, StorageClass: 'GLACIER', NewerNoncurrentVersions: 2 }],
    NoncurrentVersionExpiration: { NoncurrentDays: 3, NewerNoncurrentVersions: 2 },
  },
  { ID: 'c', Status: 'Enabled', Filter: {}, AbortIncompleteMultipartUpload: { DaysAfterInitiation: 3 } },
];

test('a rule is put among those there are, replaced in its place and taken out; the others stay', async () => {
  const bucket = await makeBucket();
  await setRules(bucket, theirs, 'varies_by_storage_class');
  const before = await configurationOf(bucket);
  const { client, sent } = withFaults(own.s3());
  const set = (rule: Rule) => setLifecycle(client, { bucket, rule });
  const told = { bucket, id: 'ours', objects: 'logs/*', rules: 4 };

  const rule = { id: 'ours', prefix: 'logs/', expireAfter: 90 };
  expect(await set(rule)).toEqual({ ...told, change: 'added', actions: 'expire after 90 days' });
  const ours = { ID: 'ours', Status: 'Enabled', Filter: { Prefix: 'logs/' }, Expiration: { Days: 90 } };
  expect(await configurationOf(bucket)).toEqual({ ...before, Rules: [...theirs, ours] });
  expect(before.TransitionDefaultMinimumObjectSize).toBe('varies_by_storage_class');

  const puts = () => sent.filter((name) => name.startsWith('Put')).length;
  expect(await set(rule)).toEqual({ ...told, change: 'none', actions: 'expire after 90 days' });
  expect(puts()).toBe(1);

  await set({ id: 'last', abortUploadsAfter: 1 });
  expect(await set({ ...rule, expireAfter: 30 })).toMatchObject({ change: 'replaced', rules: 5 });
  expect((await configurationOf(bucket)).Rules?.map(({ ID, Expiration }) => [ID, Expiration?.Days])).toEqual([
    ...theirs.map(({ ID }) => [ID, undefined]),
    ['ours', 30],
    ['last', undefined],
  ]);
  await removeLifecycleRule(s3, { bucket, id: 'last' });
  const removed = { ...told, rules: 3, change: 'removed', actions: 'expire after 30 days' };
  expect(await removeLifecycleRule(s3, { bucket, id: 'ours' })).toEqual(removed);
  expect(await configurationOf(bucket)).toEqual(before);
  const none = { bucket, id: 'ours', change: 'none', objects: null, actions: null, rules: 3 };
  expect(await removeLifecycleRule(client, { bucket, id: 'ours' })).toEqual(none);
});

test('the last rule goes with the whole configuration', async () => {
  const bucket = await makeBucket();
  await setLifecycle(s3, { bucket, rule: { id: 'only', expireAfter: 1 } });
  expect(await removeLifecycleRule(s3, { bucket, id: 'only' })).toMatchObject({ change: 'removed', rules: 0 });
  await expect(configurationOf(bucket)).rejects.toMatchObject({ name: 'NoSuchLifecycleConfiguration' });
  expect(await listRules(s3, { bucket })).toEqual([]);
  expect(await removeLifecycleRule(s3, { bucket, id: 'only' })).toMatchObject({ change: 'none', rules: 0 });
});

test('rules of the oldest form, in an answer of our own, are written back with a filter', async () => {
  const bucket = await makeBucket();
  const Rules = [
    { ID: 'old', Status: 'Enabled', Prefix: 'logs/', Expiration: { Days: 9 } },
    { ID: 'all', Status: 'Enabled', Prefix: '', Expiration: { Days: 900 } },
    { ID: 'bare', Status: 'Enabled', Expiration: { Days: 901 } },
  ];
  const answer = { operation: 'GetBucketLifecycleConfiguration', output: { Rules } };
  const { client, sent } = withFaults(own.s3(), answer);
  expect(await listRules(client, { bucket })).toMatchObject([{ objects: 'logs/*' }, { objects: 'all' }, {}]);
  await setLifecycle(client, { bucket, rule: { id: 'old', prefix: 'logs/', expireAfter: 9 } });
  expect(sent).not.toContain('PutBucketLifecycleConfiguration');
  await setLifecycle(client, { bucket, rule: { id: 'new', expireAfter: 1 } });
  expect((await configurationOf(bucket)).Rules?.map(({ ID, Prefix, Filter }) => [ID, Prefix, Filter])).toEqual([
    ['old', undefined, { Prefix: 'logs/' }],
    ['all', undefined, { Prefix: '' }],
    ['bare', undefined, { Prefix: '' }],
    ['new', undefined, { Prefix: '' }],
  ]);
});

test('a thousand rules are as many as a bucket has', async () => {
  const bucket = await makeBucket();
  const Rules = Array.from({ length: 1000 }, (_, at) => ({ ...theirs[0], ID: `${at}` }));
  const answer = { operation: 'GetBucketLifecycleConfiguration', output: { Rules } };
  const { client, sent } = withFaults(own.s3(), answer, { operation: 'PutBucketLifecycleConfiguration', output: {} });
  const set = (id: string) => setLifecycle(client, { bucket, rule: { id, expireAfter: 1 } });
  await expect(set('new')).rejects.toThrow(`${bucket} has 1000 rules; S3 takes 1,000`);
  expect(sent).not.toContain('PutBucketLifecycleConfiguration');
  expect(await set('999')).toMatchObject({ change: 'replaced', rules: 1000 });
});

test('every prefix, id and tag that XML can carry comes back as it was', async () => {
  const bucket = await makeBucket();
  for (const prefix of oddKeys) {
    const id = prefix.slice(0, 255);
    const tags = { [[...prefix].slice(0, 128).join('')]: prefix.slice(0, 256) };
    await setLifecycle(s3, { bucket, rule: { id, prefix, tags, expireAfter: 5 } });
    const [rule] = (await configurationOf(bucket)).Rules ?? [];
    expect(rule?.Filter?.And?.Prefix).toBe(prefix);
    expect(rule?.ID).toBe(id);
    expect(rule?.Filter?.And?.Tags).toEqual(Object.entries(tags).map(([Key, Value]) => ({ Key, Value })));
    expect(await removeLifecycleRule(s3, { bucket, id })).toMatchObject({ change: 'removed' });
  }
});

test.each<[string, Partial<Rule>]>([
  ['its id must have 1 to 255', { id: '' }],
  ['its id must have 1 to 255', { id: 'a'.repeat(256) }],
  ['control characters', { prefix: 'bell\u0007' }],
  ['control characters', { tags: { a: '\uFFFE' } }],
  ['1,024 bytes', { prefix: '\u00FC'.repeat(513) }],
  ["tag's key", { tags: { '': 'v' } }],
  ["tag's key", { tags: { k: 'v'.repeat(257) } }],
  ["tag's key", { tags: { k: undefined as never } }],
  ['expireAfter must be a whole number from 1 on, not 0', { expireAfter: 0 }],
  ['expireAfter must be', { expireAfter: 1.5 }],
  ['expireAfter must be', { expireAfter: Number.NaN }],
  ['expireVersionsAfter must be', { expireVersionsAfter: -1 }],
  ['abortUploadsAfter must be', { abortUploadsAfter: 2 ** 31 }],
  ['keepVersions is at most 100', { expireVersionsAfter: 1, keepVersions: 101 }],
  ['keepVersions needs', { keepVersions: 1 }],
  ['uploads have no tags', { tags: { a: 'b' }, abortUploadsAfter: 1 }],
  ['markers have no tags', { tags: { a: 'b' }, expireAfter: undefined, expireDeleteMarkers: true }],
  ['expireAfter removes delete markers too', { expireDeleteMarkers: true }],
  ['it does nothing', { expireAfter: undefined }],
  ['it does nothing', { expireAfter: undefined, transitions: [], expireDeleteMarkers: false }],
  ['is no class', { transitions: [toMove('1:STANDARD')] }],
  ['days must be', { transitions: [{ days: -1, storageClass: 'GLACIER' }] }],
  ['30 days old or older, not 29', { transitions: [toMove('29:STANDARD_IA')] }],
  ['30 days old or older', { transitions: [toMove('29:ONEZONE_IA')] }],
  ["don't move from GLACIER to GLACIER_IR", { transitions: [toMove('1:GLACIER'), toMove('40:GLACIER_IR')] }],
  ["don't move from GLACIER to GLACIER", { transitions: [toMove('1:GLACIER'), toMove('40:GLACIER')] }],
  ["don't move from INTELLIGENT", { transitions: [toMove('1:INTELLIGENT_TIERING'), toMove('40:STANDARD_IA')] }],
  ["don't move from ONEZONE_IA to GLACIER_IR", { transitions: [toMove('30:ONEZONE_IA'), toMove('70:GLACIER_IR')] }],
  ['on the same day', { transitions: [toMove('1:GLACIER'), toMove('1:DEEP_ARCHIVE')] }],
  ['stay in STANDARD_IA for 30 days', { transitions: [toMove('59:GLACIER'), toMove('30:STANDARD_IA')] }],
  ['expires objects after 90 days', { transitions: [toMove('90:GLACIER')] }],
])('a rule that S3 refuses is refused with the reason: %s %j', async (reason, part) => {
  const { client, sent } = withFaults(own.s3());
  const rule = { id: 'rule', expireAfter: 90, ...part };
  await expect(setLifecycle(client, { bucket: 'any', rule })).rejects.toThrow(reason);
  await expect(findLosses(client, { bucket: 'any', rule })).rejects.toThrow(RangeError);
  expect(sent).toEqual([]);
});

test('a rule of all its parts is what S3 gets', () => {
  const tags = { a: 'b', c: '' };
  const transitions = [toMove('95:DEEP_ARCHIVE'), toMove('0:INTELLIGENT_TIERING'), toMove('90:GLACIER_IR')];
  const days = { expireAfter: 96, expireVersionsAfter: 2, keepVersions: 100 };
  const rule = toLifecycleRule({ id: 'x', prefix: 'p', tags, transitions, ...days });
  expect(rule).toEqual({
    ID: 'x',
    Status: 'Enabled',
    Filter: {
      And: {
        Prefix: 'p',
        Tags: [
          { Key: 'a', Value: 'b' },
          { Key: 'c', Value: '' },
        ],
      },
    },
    Transitions: [
      { Days: 0, StorageClass: 'INTELLIGENT_TIERING' },
      { Days: 90, StorageClass: 'GLACIER_IR' },
      { Days: 95, StorageClass: 'DEEP_ARCHIVE' },
    ],
    Expiration: { Days: 96 },
    NoncurrentVersionExpiration: { NoncurrentDays: 2, NewerNoncurrentVersions: 100 },
  });
  expect(describeRule(rule)).toEqual({
    objects: 'p*, tagged a=b, tagged c=',
    actions:
      'move to INTELLIGENT_TIERING after 0 days; move to GLACIER_IR after 90 days; move to DEEP_ARCHIVE after 95 days; ' +
      'expire after 96 days; delete old versions but for the newest 100 after 2 days',
  });
  expect(theirs.map(describeRule)).toEqual([
    { objects: 'a/*', actions: 'expire from 2031-01-01 on' },
    {
      objects: 'b*, tagged k=v, over 0 bytes, under 9 bytes',
      actions:
        'move to STANDARD_IA after 40 days; move old versions but for the newest 2 to GLACIER after 1 days; ' +
        'delete old versions but for the newest 2 after 3 days',
    },
    { objects: 'all', actions: 'abort uploads after 3 days' },
  ]);
  expect(toLifecycleRule({ id: 'x', tags: { a: 'b' }, expireAfter: 1 }).Filter).toEqual({
    Tag: { Key: 'a', Value: 'b' },
  });
  const markers = toLifecycleRule({ id: 'x', expireDeleteMarkers: true });
  expect(markers.Expiration).toEqual({ ExpiredObjectDeleteMarker: true });
  expect(describeRule(markers).actions).toBe('remove delete markers that are left alone');
});

test('whatever passes the check is taken by the server, and is the same when it comes back', async () => {
  const bucket = await makeBucket();
  const days = fc.integer({ min: 1, max: 400 });
  const storageClass = fc.constantFrom('STANDARD_IA', 'INTELLIGENT_TIERING', 'ONEZONE_IA', 'GLACIER_IR', 'GLACIER');
  const rules = fc.record(
    {
      id: fc.constant('any'),
      prefix: fc.stringMatching(/^[a-z]{0,3}$/),
      tags: fc.dictionary(fc.stringMatching(/^[a-z]$/), fc.stringMatching(/^[a-z]?$/), { maxKeys: 2 }),
      transitions: fc.array(fc.record({ days, storageClass }), { maxLength: 2 }),
      expireAfter: days,
      expireVersionsAfter: days,
      keepVersions: fc.integer({ min: 1, max: 100 }),
      abortUploadsAfter: days,
      expireDeleteMarkers: fc.boolean(),
    },
    { requiredKeys: ['id'] },
  );
  const passes = (rule: unknown) => {
    try {
      return !!toLifecycleRule(rule as Rule);
    } catch {
      return false;
    }
  };
  let seen = 0;
  await fc.assert(
    fc.asyncProperty(rules.filter(passes), async (rule) => {
      seen++;
      await setLifecycle(s3, { bucket, rule: rule as Rule });
      expect(await setLifecycle(s3, { bucket, rule: rule as Rule })).toMatchObject({ change: 'none' });
    }),
    { numRuns: 40 },
  );
  expect(seen).toBeGreaterThanOrEqual(40);
});

test('what is lost is told: what goes from when, by the versioning of the bucket, and a rule of the same name', async () => {
  vi.useFakeTimers({ now: new Date('2026-12-31T23:59:00Z'), toFake: ['Date'] });
  onTestFinished(() => void vi.useRealTimers());
  const rule = { id: 'x', prefix: 'a/', expireAfter: 9, expireVersionsAfter: 8, abortUploadsAfter: 7 };
  const uploads = 'from 2027-01-01 on delete the parts of uploads unfinished after 7 days: a/*';
  const versions = 'from 2027-01-01 on delete for good every version that was replaced 8 days before: a/*';
  const plain = await makeBucket();
  expect(await findLosses(s3, { bucket: plain, rule })).toEqual([
    'from 2027-01-01 on delete for good every object that is 9 days old: a/*',
    uploads,
  ]);
  const [enabled, suspended] = [await makeBucket('Enabled'), await makeBucket('Suspended')];
  expect(await findLosses(s3, { bucket: enabled, rule })).toEqual([
    'from 2027-01-01 on hide behind a delete marker every object that is 9 days old: a/*',
    versions,
    uploads,
  ]);
  expect(await findLosses(s3, { bucket: suspended, rule })).toEqual([
    'from 2027-01-01 on delete for good, or hide if it has a version id every object that is 9 days old: a/*',
    versions,
    uploads,
  ]);
  const move = { id: 'x', transitions: [toMove('30:STANDARD_IA'), toMove('90:GLACIER')] };
  const moves = [
    'from 2027-01-01 on move to STANDARD_IA every object that is 30 days old: all',
    'from 2027-01-01 on move to GLACIER every object that is 90 days old, to be restored before it can be read: all',
  ];
  expect(await findLosses(s3, { bucket: plain, rule: move })).toEqual(moves);
  expect(await findLosses(s3, { bucket: plain, remove: 'x' })).toEqual([]);
  await setLifecycle(s3, { bucket: plain, rule: { id: 'x', expireAfter: 3 } });
  expect(await findLosses(s3, { bucket: plain, rule: move })).toEqual([
    'replace the rule "x" (all: expire after 3 days)',
    ...moves,
  ]);
  expect(await findLosses(s3, { bucket: plain, remove: 'x' })).toEqual([
    'remove the rule "x" (all: expire after 3 days)',
  ]);
  expect(await findLosses(s3, { bucket: plain, rule: { id: 'x', expireAfter: 3 } })).toEqual([]);

  // The last rule takes the bucket's own setting with it.
  const one: LifecycleRule = { ID: 'y', Status: 'Enabled', Filter: { Prefix: '' }, Expiration: { Days: 3 } };
  const forgotten = 'forget, with the last rule, that rules move objects under 128 KB too (varies_by_storage_class)';
  for (const [rules, minimum, losses] of [
    [[one], 'varies_by_storage_class', [forgotten]],
    [[one], undefined, []],
    [[one, { ...one, ID: 'z', Filter: { Prefix: 'z' } }], 'varies_by_storage_class', []],
  ] as const) {
    await setRules(plain, [...rules], minimum);
    expect((await findLosses(s3, { bucket: plain, remove: 'y' })).slice(1)).toEqual(losses);
  }
  await setRules(plain, [{ ID: 'x', Status: 'Disabled', Filter: { Prefix: '' }, Expiration: { Days: 3 } }]);
  expect(await findLosses(s3, { bucket: plain, remove: 'x' })).toEqual([
    'remove the rule "x" that is off (all: expire after 3 days)',
  ]);
});

test('an error on the way changes nothing', async () => {
  const bucket = await makeBucket();
  await setRules(bucket, theirs);
  const before = await configurationOf(bucket);
  const rule = { id: 'x', expireAfter: 1 };
  for (const operation of ['GetBucketLifecycleConfiguration', 'PutBucketLifecycleConfiguration']) {
    const { client } = withFaults(own.s3(), { operation, error: 'AccessDenied' });
    await expect(setLifecycle(client, { bucket, rule })).rejects.toMatchObject({ name: 'AccessDenied' });
    await expect(removeLifecycleRule(client, { bucket, id: 'a' })).rejects.toMatchObject({ name: 'AccessDenied' });
  }
  const { client } = withFaults(own.s3(), { operation: 'GetBucketVersioning', error: 'AccessDenied' });
  await expect(findLosses(client, { bucket, rule })).rejects.toMatchObject({ name: 'AccessDenied' });
  expect(await configurationOf(bucket)).toEqual(before);
  const stop = AbortSignal.abort(new Error('Interrupted.'));
  await expect(setLifecycle(s3, { bucket, rule, signal: stop })).rejects.toMatchObject({ name: 'AbortError' });
});

test('the command asks before anything is lost or moved', async () => {
  const bucket = await makeBucket();
  const command = `npx tsx ${file} s3://${bucket} all --local`;
  const asked = await run(`${command} --expire-after 1 --abort-uploads-after 2`);
  expect(asked).toMatchObject({ code: 2, stdout: '' });
  expect(asked.stderr).toMatch(
    /^Error: In the bucket \S+:\nfrom \S+ on delete for good every object that is 1 days old: all/,
  );
  expect(asked.stderr).toContain('add --yes');
  await expect(configurationOf(bucket)).rejects.toMatchObject({ name: 'NoSuchLifecycleConfiguration' });

  const options = '--transitions 30:STANDARD_IA 90:GLACIER --tags a=b=c d= --json';
  expect((await run(`${command} ${options}`)).stderr).toContain('move to GLACIER every object');
  const moved = await run(`${command} ${options} --yes`);
  expect(moved).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(moved.stdout)).toMatchObject({ change: 'added', objects: 'all, tagged a=b=c, tagged d=' });
  const wrong = await run(`${command} --transitions STANDARD_IA --yes`);
  expect(wrong).toMatchObject({ code: 2, stdout: '' });
  expect(wrong.stderr).toBe('Error: a move is DAYS:CLASS, such as 30:STANDARD_IA, not "STANDARD_IA"\n');
  // A name after such an option is taken for one of its words, and nothing would be set.
  for (const words of ['--transitions 30:STANDARD_IA old-logs', '--remove']) {
    const unnamed = await run(`npx tsx ${file} s3://${bucket} ${words} --local --yes`);
    expect(unnamed, words).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringContaining('name the rule first'),
    });
  }
  const doubled = await run(`${command} --expire-after 1 --tags a=b a=c --yes`);
  expect(doubled).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('takes each key once') });
  const unknown = await run(`npx tsx ${file} s3://paws-example-nowhere --local`);
  expect(unknown.stderr).toMatch(/^Error: s3:GetBucketLifecycleConfiguration failed: NoSuchBucket: .*\n$/);
});
