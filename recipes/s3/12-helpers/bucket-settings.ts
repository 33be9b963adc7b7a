/** Reads, judges and puts back the settings of a bucket that make it a website, for 3.12. */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  DeleteBucketPolicyCommand,
  DeleteBucketWebsiteCommand,
  GetBucketPolicyCommand,
  GetBucketWebsiteCommand,
  GetPublicAccessBlockCommand,
  type PublicAccessBlockConfiguration,
  PutBucketPolicyCommand,
  PutBucketWebsiteCommand,
  type S3Client,
  type WebsiteConfiguration,
} from '@aws-sdk/client-s3';

/** What our statement in a bucket's policy is known by. */
export const sid = 'PawsStaticWebsite';

/** A bucket's policy, as far as it matters here. */
export interface Policy {
  Statement: {
    Sid?: string;
    Effect?: string;
    Principal?: unknown;
    Action?: string | string[];
    Condition?: Record<string, object>;
  }[];
}

/** What a bucket has of that which makes a website; null for what it hasn't. */
export async function readSettings(s3: S3Client, bucket: string) {
  const orNull = async <Output>(asked: Promise<Output>, none: string): Promise<Output | null> =>
    asked.catch((error) => {
      if (error.name === none) return null;
      throw error;
    });
  const Bucket = bucket;
  const site = await orNull(s3.send(new GetBucketWebsiteCommand({ Bucket })), 'NoSuchWebsiteConfiguration');
  const blocked = s3.send(new GetPublicAccessBlockCommand({ Bucket }));
  const access = await orNull(blocked, 'NoSuchPublicAccessBlockConfiguration');
  const rules = await orNull(s3.send(new GetBucketPolicyCommand({ Bucket })), 'NoSuchBucketPolicy');
  const website: WebsiteConfiguration | null = site && withoutMetadata(site);
  const block: PublicAccessBlockConfiguration | null = access?.PublicAccessBlockConfiguration ?? null;
  const policy: Policy | null = rules?.Policy ? JSON.parse(rules.Policy) : null;
  return { website, block, policy };
}

/**
 * Refuses a bucket that can't be a website, or would be more than one: a statement for everybody that
 * `RestrictPublicBuckets` holds back now would come into force with ours, and with it all that it allows.
 */
export function checkSettings(bucket: string, settings: Awaited<ReturnType<typeof readSettings>>): void {
  const { website, block, policy } = settings;
  if (website?.RedirectAllRequestsTo) throw new Error(`${bucket} redirects all requests: nothing was changed.`);
  const statements = others(policy);
  const named = (some: typeof statements) => some.map(({ Sid }) => Sid ?? 'one without Sid').join(', ');
  const held = block?.RestrictPublicBuckets ? statements.filter(isPublic) : [];
  const awake = 'that only RestrictPublicBuckets holds back: take them out first';
  if (held[0]) throw new Error(`the policy of ${bucket} has public statements (${named(held)}) ${awake}`);
  const secure = statements.filter(({ Effect, Principal, Action = [], Condition = {} }) => {
    const isForAll = Effect === 'Deny' && /"\*"/.test(`${JSON.stringify(Principal)}`);
    const isForReading = [Action].flat().some((action) => /^(s3:)?(\*|Get\*|GetObject)$/i.test(action));
    return isForAll && isForReading && /"aws:SecureTransport"/i.test(JSON.stringify(Condition));
  });
  const plain = 'and a website has nothing else: use CloudFront';
  if (secure[0]) throw new Error(`the policy of ${bucket} denies HTTP without TLS (${named(secure)}), ${plain}`);
}

/** The statements that are not ours. A policy with a single one may have no list. */
export function others(policy: Policy | null): Policy['Statement'] {
  return [policy?.Statement ?? []].flat().filter(({ Sid }) => Sid !== sid);
}

function withoutMetadata<Output extends { $metadata: unknown }>({ $metadata, ...rest }: Output) {
  return rest;
}

/** Puts a policy, or deletes it for null. */
export async function putPolicy(s3: S3Client, bucket: string, policy: Policy | null): Promise<void> {
  if (!policy) await s3.send(new DeleteBucketPolicyCommand({ Bucket: bucket }));
  else await s3.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy: JSON.stringify(policy) }));
}

/** Puts a website configuration, or deletes it for null. */
export async function putWebsite(s3: S3Client, bucket: string, website: WebsiteConfiguration | null): Promise<void> {
  if (!website) await s3.send(new DeleteBucketWebsiteCommand({ Bucket: bucket }));
  else await s3.send(new PutBucketWebsiteCommand({ Bucket: bucket, WebsiteConfiguration: website }));
}

/**
 * Sends something again while it is denied, six times in 15 seconds: a change of settings that allows it may take a
 * while.
 */
export async function whileDenied<Answer>(send: () => Promise<Answer>, signal?: AbortSignal): Promise<Answer> {
  for (let tries = 1; ; tries++) {
    try {
      return await send();
    } catch (error) {
      if ((error as Error).name !== 'AccessDenied' || tries === 6) throw error;
      // Interrupted, it is denied still.
      await sleep(3000, undefined, { signal }).catch(() => {
        throw error;
      });
    }
  }
}

/** By a fixed value of one of these, a condition makes a statement for everybody one that S3 doesn't call public. */
const limits = [
  ...['SourceIp', 'SourceArn', 'SourceVpc', 'SourceVpce', 'SourceOwner', 'SourceAccount'].map((name) => `aws:${name}`),
  ...['aws:userid', 'aws:PrincipalOrgID', 's3:DataAccessPointArn', 's3:DataAccessPointAccount'],
].map((key) => key.toLowerCase());

/**
 * Whether a statement lets everybody in, as Block Public Access sees it. In doubt it does.
 *
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html
 */
export function isPublic({ Effect, Principal, Condition = {} }: Policy['Statement'][number]): boolean {
  if (Effect !== 'Allow' || !/"\*"/.test(`${JSON.stringify(Principal)}`)) return false;
  // `StringNotEquals` and its like leave nearly everybody in; so do wildcards, variables and networks wider than /8 (IPv6: /32).
  const fixed = (value: string) => !/[*?]|\$\{|\/[0-7]$|:.*\/([12]?\d|3[01])$/.test(value);
  return !Object.entries(Condition).some(
    ([operator, keys]) =>
      /^(String(Equals(IgnoreCase)?|Like)|Arn(Equals|Like)|IpAddress)$/i.test(operator) &&
      Object.entries(keys).some(([key, values]) => limits.includes(key.toLowerCase()) && [values].flat().every(fixed)),
  );
}
