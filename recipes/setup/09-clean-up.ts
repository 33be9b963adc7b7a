/**
 * 1.9 Clean up
 *
 * ## Problem
 * You have tried out some recipes, and want to be rid of all that they made before it costs.
 *
 * ## Solution
 * Name what is to go: ids and buckets, all that one recipe made, or everything. It is listed with what it costs to
 * keep, then you are asked, then it is deleted in an order that works: instances before the volumes and security
 * groups that they use, images before their snapshots.
 *
 * ## Discussion
 * Deleting is for good. A bucket is emptied first, with all versions of its objects.
 *
 * What the recipes made is found by its tag with the key `paws` (1.14): backups of 2.8 that you rely on, too, unless
 * you take the tag off. The functions that you copy set no tags of their own; but those of 2.10 and 2.25 copy the
 * original's, and this tag with them.
 *
 * `--all` looks in one region, `--all --all-regions` in every region that your account has enabled. Buckets and roles
 * are found wherever they are. What you may not look at is named in an error at the end.
 *
 * An id that isn't there is told apart from one that was deleted: it may be of another region or account. Of an object
 * S3 tells that only to those who may list the bucket, which the printed policy leaves out: it is `failed` (403).
 *
 * Volumes are detached first, mounted or not, and Elastic IP addresses taken from instances, even if those stay.
 *
 * With an instance go the volumes that belong to it, and with an image the snapshots that nothing else needs. What
 * stays of an instance and goes on costing is `kept`, its Spot request too: a persistent one starts another instance in
 * its place until it is canceled, as does an Auto Scaling group.
 *
 * What can't be deleted, for example a security group that something else uses, is reported at the end, and the
 * rest goes on. Run it again once the cause is fixed.
 *
 * Private keys in your files are left: 2.16 uses them again.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @before npx tsx recipes/ec2/01-launch-instance.ts --local
 * @run npx tsx recipes/setup/09-clean-up.ts --made-by 2.1 --local --yes
 * @output
 *   id                     region     kind            outcome    kept  problem
 *   i-70f84e7c89a09cfd5    us-east-1  instance        deleted    -     -
 *   vol-df051298aaf027bed  us-east-1  volume          not found  -     -
 *   sg-bc7cbbc831631485e   us-east-1  security group  deleted    -     -
 *   key-64b6d6d4ac7c6586d  us-east-1  key pair        deleted    -     -
 * @run npx tsx recipes/setup/09-clean-up.ts --all --all-regions --local --yes
 * @run npx tsx recipes/setup/09-clean-up.ts --all --local --yes
 * @permission ec2:DescribeRegions on *
 * @permission ec2:DescribeVolumes on *
 * @permission ec2:DescribeSecurityGroups on *
 * @permission ec2:DescribeKeyPairs on *
 * @permission ec2:DescribeInstances on *
 * @permission ec2:DescribeAddresses on *
 * @permission ec2:TerminateInstances on *
 * @permission ec2:DisassociateAddress on *
 * @permission ec2:ReleaseAddress on *
 * @permission ec2:DetachVolume on *
 * @permission ec2:DeleteVolume on *
 * @permission ec2:DescribeImages on *
 * @permission ec2:DeregisterImage on *
 * @permission ec2:DescribeSnapshots on *
 * @permission ec2:DeleteSnapshot on *
 * @permission ec2:DeleteSecurityGroup on *
 * @permission ec2:DeleteKeyPair on *
 * @permission ec2:DescribeSecurityGroupRules on *
 * @permission ec2:RevokeSecurityGroupIngress on *
 * @permission ec2:RevokeSecurityGroupEgress on *
 * @permission cloudwatch:DescribeAlarms on *
 * @permission cloudwatch:ListTagsForResource on *
 * @permission cloudwatch:DeleteAlarms on *
 * @permission sns:ListTopics on *
 * @permission sns:ListTagsForResource on *
 * @permission sns:GetTopicAttributes on *
 * @permission sns:DeleteTopic on *
 * @permission iam:ListAttachedRolePolicies on arn:aws:iam::*:role/*
 * @permission iam:ListRolePolicies on arn:aws:iam::*:role/*
 * @permission iam:GetInstanceProfile on arn:aws:iam::*:instance-profile/*
 * @permission iam:RemoveRoleFromInstanceProfile on arn:aws:iam::*:instance-profile/*
 * @permission iam:DeleteRolePolicy on arn:aws:iam::*:role/*
 * @permission iam:DeleteInstanceProfile on arn:aws:iam::*:instance-profile/*
 * @permission iam:DeleteRole on arn:aws:iam::*:role/*
 * @permission iam:ListRoles on *
 * @permission iam:ListRoleTags on *
 * @permission s3:ListAllMyBuckets on *
 * @permission s3:GetBucketTagging on arn:aws:s3:::*
 * @permission s3:ListBucketVersions on arn:aws:s3:::*
 * @permission s3:ListBucketMultipartUploads on arn:aws:s3:::*
 * @permission s3:DeleteObject on arn:aws:s3:::BUCKET/*
 * @permission s3:DeleteObjectVersion on arn:aws:s3:::BUCKET/*
 * @permission s3:AbortMultipartUpload on arn:aws:s3:::BUCKET/*
 * @permission s3:DeleteBucket on arn:aws:s3:::*
 * @permission s3:GetObject on arn:aws:s3:::BUCKET/*
 * @cost the listing of buckets, $0.005 for a million versions; and in storage classes with a minimum time, as in the
 * archive of snapshots, the rest of it
 * @undo nothing
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_TerminateInstances.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucket.html
 */
import pMap from 'p-map';
import { whileRefused } from '../ec2/01-helpers/while-refused.ts';
import type { Connect } from './14-find-tagged.ts';
import { deleteResource, kindOf, kinds, type Resource } from './16-delete-resource.ts';

export interface Outcome extends Resource {
  /** `instance`, `bucket` */
  kind: string;
  /** What became of it. A volume that went with its instance is not found. */
  outcome: 'deleted' | 'not found' | 'failed';
  /** What may go on costing: volumes, addresses and Spot request of an instance, if not deleted beside it. */
  kept: string[];
  /** Why it failed; null if it did not. */
  problem: string | null;
}

/**
 * Deletes resources, in the order in which that works.
 *
 * @param connect - Makes a client for a region.
 * @param options.resources - What to delete.
 * @param options.signal - Ends the work; what was not reached is reported as failed.
 * @param options.onProgress - Called with a text for people.
 * @returns What became of each resource, in the order of the deletions.
 * @throws RangeError when an id is of no kind that is known, before anything is deleted.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_TerminateInstances.html
 *
 * @example
 * const resources = [{ id: 'i-0123456789abcdef0', region: 'eu-west-1' }];
 * const outcomes = await cleanUp((Client, settings) => new Client(settings), { resources });
 * console.log(outcomes);
 */
export async function cleanUp(
  connect: Connect,
  {
    resources,
    signal,
    onProgress,
  }: { resources: Resource[]; signal?: AbortSignal; onProgress?: (text: string) => void },
): Promise<Outcome[]> {
  const work = resources.map((one) => ({ id: one.id, region: regionOf(one), kind: kindOf(one.id).name as string }));
  const outcomes: Outcome[] = [];
  for (const { name } of kinds) {
    const ofKind = work.filter(({ kind }) => kind === name);
    // One kind after the other, but all of a kind at once: an instance takes minutes to go.
    await pMap(ofKind, async (resource) => outcomes.push(await tryDelete(resource)), { concurrency: 8 });
  }
  const gone = outcomes.filter(({ outcome }) => outcome !== 'failed').map(({ id }) => id);
  return outcomes.map((one) => ({ ...one, kept: one.kept.filter((id) => !gone.includes(id)) }));

  async function tryDelete(resource: Resource & { kind: string }): Promise<Outcome> {
    try {
      signal?.throwIfAborted();
      onProgress?.(`deleting ${resource.id}`);
      const { kept } = await onceFree(resource);
      return { ...resource, outcome: 'deleted', kept, problem: null };
    } catch (error) {
      const { name, message } = error as Error;
      // But for a volume that somebody else detaches meanwhile.
      if (/^(?!InvalidAttachment).*NotFound|^NoSuch(Bucket|EntityException)$|^InvalidAMIID.Unavailable$/.test(name))
        return { ...resource, outcome: 'not found', kept: [], problem: null };
      return { ...resource, outcome: 'failed', kept: [], problem: `${name}: ${message}` };
    }
  }

  /** The network interface of an instance may hold its security group for some time after it is terminated. */
  async function onceFree(resource: Resource & { kind: string }) {
    const { region } = resource;
    const hasHeld = outcomes.some((one) => one.kind === 'instance' && one.region === region && !one.problem);
    const tries = resource.kind === 'security group' && hasHeld ? 12 : 1;
    const remove = () => deleteResource(connect, { ...resource, signal });
    return whileRefused(remove, { names: ['DependencyViolation'], tries, seconds: 5, signal });
  }
}

/** An ARN names its region itself. */
function regionOf({ id, region }: Resource): string {
  return /^arn:[^:]+:[^:]+:([^:]+):/.exec(id)?.[1] ?? region;
}

// ---- command line: leave out when copying ----
import { EC2Client } from '@aws-sdk/client-ec2';
import { confirm, connect, interrupted, print, progress, recipe, yes } from '../../shared/cli.ts';
import { findEnabledRegions, findTagged, refuseUnseen } from './14-find-tagged.ts';

recipe(import.meta, (command) =>
  command
    .argument('[targets...]', `what to delete: ${kinds.map(({ id }) => `${id}…`).join(', ')}`)
    .option('--made-by <recipe>', 'all that this recipe made, such as 2.1')
    .option('--all', 'all that the cookbook made')
    .option('--all-regions', 'look in every region that the account has enabled')
    .addOption(yes)
    .action(async (targets, { madeBy: value, all, allRegions }) => {
      if ([targets.length > 0, value, all].filter(Boolean).length !== 1)
        throw new TypeError('name targets, or give --made-by or --all');
      if (targets.length > 0 && allRegions) throw new TypeError('--all-regions goes with --made-by or --all');
      const ec2 = connect(EC2Client);
      const regions = allRegions ? await findEnabledRegions(ec2) : [await ec2.config.region()];
      const hits = targets[0] ? null : await findTagged(connect, { key: 'paws', value, regions, onProgress: progress });
      const resources = hits?.found ?? targets.map((id) => ({ id, region: regions[0] as string }));
      const placeless = targets[0] ? /^s3:|:iam::/ : /:iam::/; // a role, and a bucket that was only named
      const place = (one: Resource) => (placeless.test(one.id) ? '' : ` in ${regionOf(one)}`);
      const list = resources.map((one) => `  ${one.id}${place(one)}, ${kindOf(one.id).cost}\n`).join('');
      if (list) await confirm(`${list}Delete these for good?`);
      const outcomes = await cleanUp(connect, { resources, signal: interrupted(), onProgress: progress });
      print(outcomes);
      refuseUnseen(hits?.unseen ?? []);
      const failed = outcomes.filter(({ outcome }) => outcome === 'failed').length;
      if (failed > 0) throw new Error(`${failed} of ${outcomes.length} could not be deleted`);
    }),
);
