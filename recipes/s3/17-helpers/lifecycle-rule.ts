/** Checks a lifecycle rule by S3's rules before it is sent, puts it into S3's form, and tells in words what it does. */
import type { LifecycleRule, LifecycleRuleFilter, TransitionStorageClass } from '@aws-sdk/client-s3';

/** A move to another storage class. */
export interface Move {
  /** Days from when the object was last written; 0 for the next midnight. */
  days: number;
  storageClass: TransitionStorageClass;
}

/** What S3 is to do with which objects. */
export interface Rule {
  /** Its name in the bucket, of 1 to 255 characters. */
  id: string;
  /** Only keys that begin so; `log` takes `logs/` too. All by default. */
  prefix?: string;
  /** Only objects that have all these tags. */
  tags?: Record<string, string>;
  transitions?: Move[];
  /** Days from when an object was last written to when it expires. */
  expireAfter?: number;
  /** Days from when a version was replaced or deleted to when it is deleted for good. */
  expireVersionsAfter?: number;
  /** How many of the newest old versions are kept longer than that: 1 to 100. */
  keepVersions?: number;
  /** Days from when an upload began to when it is aborted, if it is unfinished. */
  abortUploadsAfter?: number;
  /** Whether delete markers that have no version left are removed. False by default. */
  expireDeleteMarkers?: boolean;
}

/** The classes, in the order in which objects can move; none moves back. */
const classes: string[] = ['STANDARD_IA', 'INTELLIGENT_TIERING', 'ONEZONE_IA', 'GLACIER_IR', 'GLACIER', 'DEEP_ARCHIVE'];
const infrequent = ['STANDARD_IA', 'ONEZONE_IA'];

/** Characters that a rule's XML can't carry. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are meant
const noXml = /[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]/;

/**
 * Checks a rule, and puts it into S3's form.
 *
 * @param rule - The rule.
 * @throws RangeError that names the rule of S3's that it breaks.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html
 *
 * @example
 * const rule = toLifecycleRule({ id: 'old-logs', prefix: 'logs/', expireAfter: 90 });
 * console.log(rule.Expiration?.Days);
 */
export function toLifecycleRule(rule: Rule): LifecycleRule {
  const { id, prefix = '', tags = {}, transitions = [], expireAfter, expireVersionsAfter } = rule;
  const { keepVersions, abortUploadsAfter, expireDeleteMarkers = false } = rule;
  const refuse = (problem: string) => {
    throw new RangeError(`rule "${id}": ${problem}`);
  };
  const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));

  if (!/^.{1,255}$/s.test(id)) refuse('its id must have 1 to 255 characters');
  if ([id, prefix, ...Object.entries(tags).flat()].some((text) => noXml.test(text))) {
    refuse('its id, prefix and tags can have no control characters, for it is sent as XML');
  }
  if (Buffer.byteLength(prefix) > 1024) refuse('no key is longer than 1,024 bytes, so no prefix is');
  if (
    Tags.some(({ Key, Value }) => !/^.{1,128}$/su.test(Key) || typeof Value !== 'string' || !/^.{0,256}$/su.test(Value))
  ) {
    refuse("a tag's key has 1 to 128 characters, its value at most 256");
  }
  const days = { expireAfter, expireVersionsAfter, abortUploadsAfter, keepVersions };
  for (const [name, number] of Object.entries(days)) {
    if (number !== undefined && !(Number.isSafeInteger(number) && number >= 1 && number < 2 ** 31)) {
      refuse(`${name} must be a whole number from 1 on, not ${number}`);
    }
  }
  if (keepVersions !== undefined && keepVersions > 100) refuse(`keepVersions is at most 100, not ${keepVersions}`);
  if (keepVersions !== undefined && expireVersionsAfter === undefined) refuse('keepVersions needs expireVersionsAfter');
  if (Tags.length > 0 && abortUploadsAfter !== undefined) {
    refuse('unfinished uploads have no tags: abort them by a rule without tags');
  }
  if (expireDeleteMarkers && Tags.length > 0) {
    refuse('delete markers have no tags: remove them by a rule without tags');
  }
  if (expireDeleteMarkers && expireAfter !== undefined) {
    refuse('expireAfter removes delete markers too: expireDeleteMarkers needs a rule without it');
  }
  const something = [
    transitions[0],
    expireAfter,
    expireVersionsAfter,
    abortUploadsAfter,
    expireDeleteMarkers || undefined,
  ];
  if (something.every((one) => one === undefined)) refuse('it does nothing');

  const sorted = [...transitions].sort((a, b) => a.days - b.days);
  for (const [at, { days, storageClass }] of sorted.entries()) {
    const place = classes.indexOf(storageClass);
    if (place < 0) refuse(`"${storageClass}" is no class that objects move to; there is ${classes.join(', ')}`);
    if (!Number.isSafeInteger(days) || days < 0) refuse(`days must be a whole number from 0 on, not ${days}`);
    if (infrequent.includes(storageClass) && days < 30) {
      refuse(`objects move to ${storageClass} when they are 30 days old or older, not ${days}`);
    }
    const before = sorted[at - 1];
    if (!before) continue;
    const from = before.storageClass;
    if (classes.indexOf(from) >= place) refuse(`objects don't move from ${from} to ${storageClass}`);
    if (from === 'ONEZONE_IA' && storageClass === 'GLACIER_IR')
      refuse("objects don't move from ONEZONE_IA to GLACIER_IR");
    if (days === before.days) refuse(`objects can't move to ${from} and ${storageClass} on the same day`);
    if (infrequent.includes(from) && days < before.days + 30) {
      refuse(`objects stay in ${from} for 30 days before they move to ${storageClass}`);
    }
  }
  const last = sorted.at(-1);
  if (last && expireAfter !== undefined && expireAfter <= last.days) {
    refuse(`it expires objects after ${expireAfter} days, so it can't move them after ${last.days}`);
  }

  const rest = {
    Transitions: sorted.map(({ days, storageClass }) => ({ Days: days, StorageClass: storageClass })),
    Expiration: expireDeleteMarkers ? { ExpiredObjectDeleteMarker: true } : { Days: expireAfter },
    NoncurrentVersionExpiration: { NoncurrentDays: expireVersionsAfter, NewerNoncurrentVersions: keepVersions },
    AbortIncompleteMultipartUpload: { DaysAfterInitiation: abortUploadsAfter },
  };
  return {
    ID: id,
    Status: 'Enabled',
    Filter: filterOf(prefix, Tags),
    ...(sorted.length > 0 && { Transitions: rest.Transitions }),
    ...((expireDeleteMarkers || expireAfter !== undefined) && { Expiration: rest.Expiration }),
    ...(expireVersionsAfter !== undefined && { NoncurrentVersionExpiration: rest.NoncurrentVersionExpiration }),
    ...(abortUploadsAfter !== undefined && { AbortIncompleteMultipartUpload: rest.AbortIncompleteMultipartUpload }),
  };
}

/** S3 takes one condition as it is, and several in an `And`. */
function filterOf(prefix: string, Tags: { Key: string; Value: string }[]): LifecycleRuleFilter {
  const [first, ...more] = Tags;
  if (!first) return { Prefix: prefix };
  if (!prefix && more.length === 0) return { Tag: first };
  return { And: { ...(prefix && { Prefix: prefix }), Tags } };
}

/**
 * Tells in words which objects a rule is about and what it does; those too that others have made.
 *
 * @param rule - As S3 has it.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_LifecycleRule.html
 *
 * @example
 * const { objects, actions } = describeRule(toLifecycleRule({ id: 'a', prefix: 'logs/', expireAfter: 90 }));
 * console.log(`${objects}: ${actions}`); // logs/*: expire after 90 days
 */
export function describeRule(rule: LifecycleRule): { objects: string; actions: string } {
  const { Filter: filter = {}, Transitions = [], Expiration, NoncurrentVersionTransitions = [] } = rule;
  const { NoncurrentVersionExpiration: old, AbortIncompleteMultipartUpload: uploads } = rule;
  const {
    Prefix,
    Tags = filter.Tag ? [filter.Tag] : [],
    ObjectSizeGreaterThan: min,
    ObjectSizeLessThan: max,
  } = filter.And ?? { ...filter, Prefix: filter.Prefix ?? rule.Prefix };
  const objects = [
    Prefix ? `${Prefix}*` : 'all',
    ...Tags.map(({ Key, Value }) => `tagged ${Key}=${Value}`),
    ...(min === undefined ? [] : [`over ${min} bytes`]),
    ...(max === undefined ? [] : [`under ${max} bytes`]),
  ];
  const when = (days?: number, date?: Date) =>
    date ? `from ${date.toISOString().slice(0, 10)} on` : `after ${days} days`;
  const but = (keep?: number) => (keep === undefined ? '' : ` but for the newest ${keep}`);
  const actions = [
    ...Transitions.map(({ Days, Date: date, StorageClass }) => `move to ${StorageClass} ${when(Days, date)}`),
    ...(Expiration?.Days !== undefined || Expiration?.Date ? [`expire ${when(Expiration.Days, Expiration.Date)}`] : []),
    ...(Expiration?.ExpiredObjectDeleteMarker ? ['remove delete markers that are left alone'] : []),
    ...NoncurrentVersionTransitions.map(
      ({ NoncurrentDays, StorageClass, NewerNoncurrentVersions }) =>
        `move old versions${but(NewerNoncurrentVersions)} to ${StorageClass} ${when(NoncurrentDays)}`,
    ),
    ...(old ? [`delete old versions${but(old.NewerNoncurrentVersions)} ${when(old.NoncurrentDays)}`] : []),
    ...(uploads ? [`abort uploads ${when(uploads.DaysAfterInitiation)}`] : []),
  ];
  return { objects: objects.join(', '), actions: actions.join('; ') };
}

/**
 * Reads a move as it is written on a command line.
 *
 * @param text - `30:STANDARD_IA`: days and class.
 * @throws RangeError when it is none.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_Transition.html
 *
 * @example
 * console.log(toMove('30:STANDARD_IA').days);
 */
export function toMove(text: string): Move {
  const [, days, storageClass] = /^(\d+):(.+)$/s.exec(text) ?? [];
  if (!storageClass) throw new RangeError(`a move is DAYS:CLASS, such as 30:STANDARD_IA, not "${text}"`);
  // A class that there is not is told when the rule is checked.
  return { days: Number(days), storageClass: storageClass as TransitionStorageClass };
}

/**
 * Adds a tag as it is written on a command line to those before it.
 *
 * @param text - `key=value`.
 * @param others - The tags before it. None by default.
 * @throws RangeError when its key was given before: an object has one value of a key.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
 *
 * @example
 * console.log(addTag('team=web', { kind: 'log' }));
 */
export function addTag(text: string, others: Record<string, string> = {}): Record<string, string> {
  const [key = '', value] = text.split(/=(.*)/s);
  if (Object.hasOwn(others, key)) throw new RangeError(`--tags takes each key once, and ${key} is there twice`);
  // A tag without a value is told when the rule is checked.
  return { ...others, [key]: value as string };
}
