/** Reads the settings of a bucket that make it a website, and puts them back, for 3.12. */
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

/** A bucket's policy, as far as it matters here. */
export interface Policy {
  Statement: { Sid?: string; Effect?: string; Principal?: unknown; Condition?: unknown }[];
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
