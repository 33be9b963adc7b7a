/** Finds the snapshots that 2.24 must not delete. */
import {
  DescribeLockedSnapshotsCommand,
  type EC2Client,
  paginateDescribeImages,
  paginateDescribeSnapshotTierStatus,
} from '@aws-sdk/client-ec2';

/**
 * Finds the snapshots in the client's region that an image of yours needs, that are locked, or that are on their way to
 * the archive.
 *
 * @param ec2 - Of the snapshots' region.
 * @param options.signal - Aborts the search.
 * @returns For the id of each why it must stay; one reason is enough.
 * @throws UnauthorizedOperation: what is not known must not be taken for nothing.
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/ebs-deleting-snapshot.html
 *
 * @example
 * const found = await findProtected(new EC2Client({}));
 * console.log(found.get('snap-0123456789abcdef0') ?? 'it may be deleted');
 */
export async function findProtected(
  ec2: EC2Client,
  { signal: abortSignal }: { signal?: AbortSignal } = {},
): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const paged = { client: ec2, pageSize: 1000 };
  const mine = { Owners: ['self'], IncludeDisabled: true, IncludeDeprecated: true };
  for await (const { Images = [] } of paginateDescribeImages(paged, mine, { abortSignal })) {
    for (const { ImageId, BlockDeviceMappings = [] } of Images) {
      for (const { Ebs } of BlockDeviceMappings) if (Ebs?.SnapshotId) found.set(Ebs.SnapshotId, `image ${ImageId}`);
    }
  }

  const findArchiving = async () => {
    // Until they are in the archive their tier is `standard`.
    const Filters = [{ Name: 'last-tiering-operation', Values: ['archival-in-progress'] }];
    const pages = paginateDescribeSnapshotTierStatus(paged, { Filters }, { abortSignal });
    for await (const { SnapshotTierStatuses = [] } of pages) {
      for (const { SnapshotId = '' } of SnapshotTierStatuses) found.set(SnapshotId, 'being archived');
    }
  };
  const findLocked = async () => {
    // The SDK has no paginator for it.
    let NextToken: string | undefined;
    do {
      const command = new DescribeLockedSnapshotsCommand({ NextToken, MaxResults: 1000 });
      const page = await ec2.send(command, { abortSignal });
      for (const { SnapshotId = '', LockState } of page.Snapshots ?? []) {
        if (LockState !== 'expired') found.set(SnapshotId, 'locked');
      }
      NextToken = page.NextToken;
    } while (NextToken);
  };
  // The archive last: what goes there can't stand for its hour or day, and that must be known of a locked one, too.
  for (const find of [findLocked, findArchiving]) {
    await find().catch((error) => {
      // 'Not implemented' is what servers answer that know no archive or no locks, and AWS never does.
      if (error.$metadata?.httpStatusCode !== 501) throw error;
    });
  }
  return found;
}
