/** The role that a copy job of S3 Batch Operations works as. */

/** A bucket, and what the keys in it begin with. */
export interface Place {
  bucket: string;
  prefix: string;
}

/** Where a job copies from, and where to. */
export interface CopyJob {
  source: Place;
  target: Place;
}

/** What the keys of a job's report begin with, in the target's bucket. */
export const reportPrefix = 'batch-copy';

/** Whether a source is an inventory's manifest, and not a prefix. */
export const isInventory = ({ prefix }: Place) => /(^|\/)manifest\.json$/.test(prefix);

/**
 * The documents of the role that a job works as.
 *
 * @param options.source - What is copied, as for `createCopyJob`.
 * @param options.target - Where to.
 * @param options.partition - `aws-cn` in China, `aws-us-gov` in GovCloud. `aws` by default.
 * @returns Who may take on the role, and what it may do.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-iam-role-policies.html
 *
 * @example
 * const [source, target] = [{ bucket: 'reports', prefix: '' }, { bucket: 'reports-copy', prefix: '' }];
 * const { trust, policy } = batchCopyRole({ source, target });
 * console.log(JSON.stringify(trust), JSON.stringify(policy));
 */
export function batchCopyRole({ source, target, partition = 'aws' }: CopyJob & { partition?: string }): {
  trust: object;
  policy: object;
} {
  const inventory = isInventory(source);
  const arn = (bucket: string, rest = '') => `arn:${partition}:s3:::${bucket}${rest}`;
  const allow = (Action: string[], Resource: string) => ({ Effect: 'Allow', Action, Resource });
  const parts = ['', 'Tagging', 'Annotation'];
  const read = parts.flatMap((part) => [`s3:GetObject${part}`, `s3:GetObjectVersion${part}`]);
  const write = parts.map((part) => `s3:PutObject${part}`);
  return {
    trust: {
      Version: '2012-10-17',
      Statement: [
        { Effect: 'Allow', Principal: { Service: 'batchoperations.s3.amazonaws.com' }, Action: 'sts:AssumeRole' },
      ],
    },
    policy: {
      Version: '2012-10-17',
      Statement: [
        // Which bucket an inventory is of stands in the inventory only.
        allow(read, arn(inventory ? 'SOURCE-BUCKET' : source.bucket, inventory ? '/*' : `/${source.prefix}*`)),
        inventory
          ? allow(['s3:GetObject', 's3:GetObjectVersion'], arn(source.bucket, '/*'))
          : allow(['s3:ListBucket', 's3:PutInventoryConfiguration'], arn(source.bucket)),
        allow(write, arn(target.bucket, `/${target.prefix}*`)),
        allow(['s3:PutObject'], arn(target.bucket, `/${reportPrefix}/*`)),
      ],
    },
  };
}
