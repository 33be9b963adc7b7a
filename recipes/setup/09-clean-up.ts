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
 * What the recipes made is found by its tag with the key `paws` (1.14). The functions that you copy set no tags of
 * their own, so what your programs make is never deleted by `--all`.
 *
 * `--all` looks in one region, `--all --all-regions` in every region that your account has enabled. Buckets are
 * found wherever they are.
 *
 * An id that isn't there is told apart from one that was deleted: it may be of another region or account. With an
 * instance go the volumes that belong to it, with an image the snapshots that nothing else needs, and an Auto Scaling group starts another one in its place.
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
 *   id                     region     kind            outcome    problem
 *   i-0abcdef1234567890    us-east-1  instance        deleted    -
 *   vol-0abcdef1234567890  us-east-1  volume          not found  -
 *   sg-0abcdef1234567890   us-east-1  security group  deleted    -
 *   key-0abcdef1234567890  us-east-1  key pair        deleted    -
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
 * @permission ec2:DeleteVolume on *
 * @permission ec2:DescribeImages on *
 * @permission ec2:DeregisterImage on *
 * @permission ec2:DescribeSnapshots on *
 * @permission ec2:DeleteSnapshot on *
 * @permission ec2:DeleteSecurityGroup on *
 * @permission ec2:DeleteKeyPair on *
 * @permission ec2:DescribeSecurityGroupRules on *
 * @permission ec2:RevokeSecurityGroupIngress on *
 * @permission s3:ListAllMyBuckets on *
 * @permission s3:GetBucketTagging on arn:aws:s3:::*
 * @permission s3:ListBucketVersions on arn:aws:s3:::*
 * @permission s3:ListBucketMultipartUploads on arn:aws:s3:::*
 * @permission s3:DeleteObject on arn:aws:s3:::BUCKET/*
 * @permission s3:DeleteObjectVersion on arn:aws:s3:::BUCKET/*
 * @permission s3:AbortMultipartUpload on arn:aws:s3:::BUCKET/*
 * @permission s3:DeleteBucket on arn:aws:s3:::*
 * @cost nothing but the listing of buckets, $0.005 for a million versions
 * @undo nothing
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_TerminateInstances.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucket.html
 */

import {
  DeleteKeyPairCommand,
  DeleteSecurityGroupCommand,
  DeleteSnapshotCommand,
  DeleteVolumeCommand,
  DeregisterImageCommand,
  DescribeAddressesCommand,
  DescribeKeyPairsCommand,
  DescribeSecurityGroupRulesCommand,
  DisassociateAddressCommand,
  ReleaseAddressCommand,
  RevokeSecurityGroupIngressCommand,
} from '@aws-sdk/client-ec2';
import { DeleteBucketCommand } from '@aws-sdk/client-s3';
import pMap from 'p-map';
import { terminateInstance } from '../ec2/21-terminate-instance.ts';
import { emptyBucket } from '../s3/28-empty-bucket.ts';
import type { Clients } from './14-find-tagged.ts';

/** Something that can be deleted. */
export interface Resource {
  /** `i-0123456789abcdef0`, `s3://bucket` */
  id: string;
  region: string;
}

export interface Outcome extends Resource {
  /** `instance`, `bucket` */
  kind: string;
  /** What became of it. A volume that went with its instance is not found. */
  outcome: 'deleted' | 'not found' | 'failed';
  /** Why it failed; null if it did not. */
  problem: string | null;
}

interface Kind {
  prefix: string;
  name: string;
  /** What it costs to keep. */
  cost: string;
  remove: (clients: Clients, resource: Resource, signal?: AbortSignal) => Promise<unknown>;
}

/** In the order in which they can be deleted. */
const kinds: Kind[] = [
  {
    prefix: 'i-',
    name: 'instance',
    cost: 'billed by the hour',
    remove: ({ ec2 }, { id, region }, signal) => terminateInstance(ec2(region), { instanceId: id, signal }),
  },
  {
    prefix: 'eipalloc-',
    name: 'address',
    cost: 'billed by the hour',
    remove: async ({ ec2 }, { id, region }) => {
      const { Addresses = [] } = await ec2(region).send(new DescribeAddressesCommand({ AllocationIds: [id] }));
      const AssociationId = Addresses[0]?.AssociationId;
      if (AssociationId) await ec2(region).send(new DisassociateAddressCommand({ AssociationId }));
      await ec2(region).send(new ReleaseAddressCommand({ AllocationId: id }));
    },
  },
  {
    prefix: 'vol-',
    name: 'volume',
    cost: 'billed by the month',
    remove: ({ ec2 }, { id, region }) => ec2(region).send(new DeleteVolumeCommand({ VolumeId: id })),
  },
  {
    prefix: 'ami-',
    name: 'image',
    cost: 'billed for its snapshots by the month',
    remove: ({ ec2 }, { id, region }) =>
      ec2(region).send(new DeregisterImageCommand({ ImageId: id, DeleteAssociatedSnapshots: true })),
  },
  {
    prefix: 'snap-',
    name: 'snapshot',
    cost: 'billed by the month',
    remove: ({ ec2 }, { id, region }) => ec2(region).send(new DeleteSnapshotCommand({ SnapshotId: id })),
  },
  {
    prefix: 'sgr-',
    name: 'security group rule',
    cost: 'free',
    remove: async ({ ec2 }, { id, region }) => {
      const SecurityGroupRuleIds = [id];
      const { SecurityGroupRules = [] } = await ec2(region).send(
        new DescribeSecurityGroupRulesCommand({ SecurityGroupRuleIds }),
      );
      const GroupId = SecurityGroupRules[0]?.GroupId;
      await ec2(region).send(new RevokeSecurityGroupIngressCommand({ GroupId, SecurityGroupRuleIds }));
    },
  },
  {
    prefix: 'sg-',
    name: 'security group',
    cost: 'free',
    remove: ({ ec2 }, { id, region }) => ec2(region).send(new DeleteSecurityGroupCommand({ GroupId: id })),
  },
  {
    prefix: 'key-',
    name: 'key pair',
    cost: 'free',
    // By its name: LocalStack deletes none by its id, and EC2 says nothing of one that is not there.
    remove: async ({ ec2 }, { id, region }) => {
      const Filters = [{ Name: 'key-pair-id', Values: [id] }];
      const { KeyPairs = [] } = await ec2(region).send(new DescribeKeyPairsCommand({ Filters }));
      if (KeyPairs.length === 0) throw Object.assign(new Error(id), { name: 'InvalidKeyPair.NotFound' });
      await ec2(region).send(new DeleteKeyPairCommand({ KeyName: KeyPairs[0]?.KeyName }));
    },
  },
  {
    prefix: 's3://',
    name: 'bucket',
    cost: 'billed for what is in it',
    remove: async ({ s3 }, { id, region }, signal) => {
      const bucket = id.slice('s3://'.length);
      await emptyBucket(s3(region), { bucket, signal });
      await s3(region).send(new DeleteBucketCommand({ Bucket: bucket }));
    },
  },
];

/**
 * Deletes resources, in the order in which that works.
 *
 * @param clients - Functions that return a client for a region.
 * @param options.resources - What to delete.
 * @param options.signal - Ends the work; what was not reached is reported as failed.
 * @param options.onProgress - Called with a text for people.
 * @returns What became of each resource, in the order of the deletions.
 * @throws RangeError when an id is of no kind that is known, before anything is deleted.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_TerminateInstances.html
 *
 * @example
 * const clients = { ec2: (region: string) => new EC2Client({ region }), s3: (region: string) => new S3Client({ region }) };
 * const resources = [{ id: 'i-0123456789abcdef0', region: 'eu-west-1' }];
 * console.log(await cleanUp(clients, { resources }));
 */
export async function cleanUp(
  clients: Clients,
  {
    resources,
    signal,
    onProgress,
  }: { resources: Resource[]; signal?: AbortSignal; onProgress?: (text: string) => void },
): Promise<Outcome[]> {
  const work = resources.map((resource) => ({ resource, kind: kindOf(resource) }));
  const outcomes: Outcome[] = [];
  for (const kind of kinds) {
    const ofKind = work.filter((one) => one.kind === kind);
    // One kind after the other, but all of a kind at once: an instance takes minutes to go.
    await pMap(ofKind, async ({ resource }) => outcomes.push(await tryRemove(kind, resource)), { concurrency: 8 });
  }
  return outcomes;

  async function tryRemove(kind: Kind, resource: Resource): Promise<Outcome> {
    const { id, region } = resource;
    const about = { id, region, kind: kind.name };
    try {
      signal?.throwIfAborted();
      onProgress?.(`deleting ${id}`);
      await kind.remove(clients, resource, signal);
      return { ...about, outcome: 'deleted', problem: null };
    } catch (error) {
      const { name, message } = error as Error;
      if (/\.NotFound$|^NoSuchBucket$/.test(name)) return { ...about, outcome: 'not found', problem: null };
      return { ...about, outcome: 'failed', problem: `${name}: ${message}` };
    }
  }
}

function kindOf({ id }: Resource): Kind {
  const kind = kinds.find(({ prefix }) => id.startsWith(prefix));
  if (!kind) throw new RangeError(`"${id}" is none of ${kinds.map(({ prefix }) => `${prefix}…`).join(', ')}`);
  return kind;
}

// ---- command line: leave out when copying ----
import { EC2Client } from '@aws-sdk/client-ec2';
import { S3Client } from '@aws-sdk/client-s3';
import { confirm, connect, interrupted, print, progress, recipe, yes } from '../../shared/cli.ts';
import { findEnabledRegions, findTagged } from './14-find-tagged.ts';

recipe(import.meta, (command) =>
  command
    .argument('[targets...]', `what to delete: ${kinds.map(({ prefix }) => `${prefix}…`).join(', ')}`)
    .option('--made-by <recipe>', 'all that this recipe made, such as 2.1')
    .option('--all', 'all that the cookbook made')
    .option('--all-regions', 'look in every region that the account has enabled')
    .addOption(yes)
    .action(async (targets, { madeBy: value, all, allRegions }) => {
      const ways = [targets.length > 0, value, all].filter(Boolean).length;
      if (ways !== 1) throw new TypeError('name targets, or give --made-by or --all');
      if (targets.length > 0 && allRegions) throw new TypeError('--all-regions goes with --made-by or --all');
      const ec2 = (region?: string) => connect(EC2Client, region ? { region } : {});
      const s3 = (region: string) => connect(S3Client, { region, followRegionRedirects: true });
      const region = await ec2().config.region();
      const regions = allRegions ? await findEnabledRegions(ec2()) : [region];
      const named = targets.map((id) => ({ id, region }));
      const resources = all || value ? await findTagged({ ec2, s3 }, { key: 'paws', value, regions }) : named;
      const list = resources.map((one) => `  ${one.id} in ${one.region}, ${kindOf(one).cost}\n`).join('');
      if (list) await confirm(`${list}Delete these for good?`);
      const outcomes = await cleanUp({ ec2, s3 }, { resources, signal: interrupted(), onProgress: progress });
      print(outcomes);
      const failed = outcomes.filter(({ outcome }) => outcome === 'failed').length;
      if (failed > 0) throw new Error(`${failed} of ${outcomes.length} could not be deleted`);
    }),
);
