/**
 * 1.16 Delete a resource
 *
 * ## Problem
 * You have an id, from a bill, a log or a recipe, and want the thing behind it gone. Each kind of thing has a call
 * of its own, and some need two or three.
 *
 * ## Solution
 * Tell the kind by the id, take away what stands in the way (an address is disassociated, a volume detached, a bucket
 * emptied), and delete it.
 *
 * ## Discussion
 * Deleting is for good. With an instance go the volumes that belong to it, with an image the snapshots that no other
 * image needs, with a bucket all versions of its objects, with a topic its subscriptions. An object in a bucket that
 * keeps versions only gets a delete marker, and 3.19 brings it back; 3.28 deletes the versions, too.
 *
 * What something else still uses is refused by AWS: a security group of an instance, a snapshot of an image. 1.9
 * deletes many things, in an order that works. What stays of an instance and goes on costing is told as `kept`: its
 * Spot request, too, for a persistent one launches the next instance until you cancel it.
 *
 * An ARN names its account. Another id that isn't found may be of another region or account. Of an object that isn't
 * there S3 says so only to those who may list the bucket: without `s3:ListBucket`, which is not in the printed policy,
 * it is denied (403). `s3://bucket/` is refused: with an empty variable, `s3://bucket/$KEY` would be all of it.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @run npx tsx recipes/setup/16-delete-resource.ts s3://paws-example --local --yes
 * @output
 *   id      s3://paws-example
 *   region  us-east-1
 *   kind    bucket
 *   kept    -
 * @permission ec2:DescribeInstances on *
 * @permission ec2:DescribeAddresses on *
 * @permission ec2:TerminateInstances on *
 * @permission ec2:DisassociateAddress on *
 * @permission ec2:ReleaseAddress on *
 * @permission ec2:DescribeVolumes on *
 * @permission ec2:DetachVolume on *
 * @permission ec2:DeleteVolume on *
 * @permission ec2:DeregisterImage on *
 * @permission ec2:DeleteSnapshot on *
 * @permission ec2:DescribeSecurityGroupRules on *
 * @permission ec2:RevokeSecurityGroupIngress on *
 * @permission ec2:RevokeSecurityGroupEgress on *
 * @permission ec2:DeleteSecurityGroup on *
 * @permission ec2:DescribeKeyPairs on *
 * @permission ec2:DeleteKeyPair on *
 * @permission cloudwatch:DescribeAlarms on *
 * @permission cloudwatch:DeleteAlarms on *
 * @permission sns:GetTopicAttributes on *
 * @permission sns:DeleteTopic on *
 * @permission iam:ListAttachedRolePolicies on arn:aws:iam::*:role/*
 * @permission iam:ListRolePolicies on arn:aws:iam::*:role/*
 * @permission iam:GetInstanceProfile on arn:aws:iam::*:instance-profile/*
 * @permission iam:RemoveRoleFromInstanceProfile on arn:aws:iam::*:instance-profile/*
 * @permission iam:DeleteRolePolicy on arn:aws:iam::*:role/*
 * @permission iam:DeleteInstanceProfile on arn:aws:iam::*:instance-profile/*
 * @permission iam:DeleteRole on arn:aws:iam::*:role/*
 * @permission s3:ListBucketVersions on arn:aws:s3:::BUCKET
 * @permission s3:ListBucketMultipartUploads on arn:aws:s3:::BUCKET
 * @permission s3:DeleteObject on arn:aws:s3:::BUCKET/*
 * @permission s3:DeleteObjectVersion on arn:aws:s3:::BUCKET/*
 * @permission s3:AbortMultipartUpload on arn:aws:s3:::BUCKET/*
 * @permission s3:DeleteBucket on arn:aws:s3:::BUCKET
 * @permission s3:GetObject on arn:aws:s3:::BUCKET/*
 * @cost nothing but the listing of a bucket, $0.005 for a million versions
 * @undo nothing
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeregisterImage.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ReleaseAddress.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucket.html
 */
import { AlarmType, CloudWatchClient, DeleteAlarmsCommand, DescribeAlarmsCommand } from '@aws-sdk/client-cloudwatch';
import {
  DeleteKeyPairCommand,
  DeleteSecurityGroupCommand,
  DeleteSnapshotCommand,
  DeregisterImageCommand,
  DescribeKeyPairsCommand,
  DescribeSecurityGroupRulesCommand,
  EC2Client,
  RevokeSecurityGroupEgressCommand,
  RevokeSecurityGroupIngressCommand,
} from '@aws-sdk/client-ec2';
import { IAMClient } from '@aws-sdk/client-iam';
import { DeleteBucketCommand, DeleteObjectCommand, HeadObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { DeleteTopicCommand, GetTopicAttributesCommand, SNSClient } from '@aws-sdk/client-sns';
import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
import { releaseIp } from '../ec2/06-elastic-ip.ts';
import { terminateInstance } from '../ec2/21-terminate-instance.ts';
import { deleteInstanceRole } from '../ec2/28-create-instance-role.ts';
import { emptyBucket } from '../s3/28-empty-bucket.ts';
import type { Connect } from './14-find-tagged.ts';
import { deleteVolume } from './16-helpers/delete-volume.ts';

/** Something that can be deleted. */
export interface Resource {
  /** `i-0123456789abcdef0`, `s3://bucket`, `s3://bucket/key`, `arn:aws:sns:eu-west-1:111122223333:topic` */
  id: string;
  /** Where it is. An ARN's own region counts more. */
  region: string;
}

export interface DeletedResource extends Resource {
  /** `instance`, `bucket` */
  kind: string;
  /** What goes on costing: volumes and addresses of an instance. Its Spot request, if persistent, launches another. */
  kept: string[];
}

/** The kinds that are known, in the order in which they can be deleted, and what it costs to keep one. */
export const kinds = [
  { name: 'alarm', id: 'arn:aws:cloudwatch:', cost: 'billed by the month' },
  { name: 'topic', id: 'arn:aws:sns:', cost: 'free while nothing is sent' },
  { name: 'instance', id: 'i-', cost: 'billed by the hour' },
  { name: 'address', id: 'eipalloc-', cost: 'billed by the hour' },
  { name: 'volume', id: 'vol-', cost: 'billed by the month' },
  { name: 'image', id: 'ami-', cost: 'billed for its snapshots by the month' },
  { name: 'snapshot', id: 'snap-', cost: 'billed by the month' },
  { name: 'security group rule', id: 'sgr-', cost: 'free' },
  { name: 'security group', id: 'sg-', cost: 'free' },
  { name: 'key pair', id: 'key-', cost: 'free' },
  { name: 'role', id: 'arn:aws:iam:', cost: 'free' },
  { name: 'object', id: 's3://…/', cost: 'billed by its size' },
  { name: 'bucket', id: 's3://', cost: 'billed for what is in it' },
] as const;

/**
 * Deletes one resource of any kind.
 *
 * @param connect - Makes a client for a region.
 * @param options.id - Its id; its ARN, if it is an alarm or a topic; `s3://` and its name, if it is a bucket,
 *   with `/` and a key, if it is an object.
 * @param options.region - Where it is; the region in an ARN counts more.
 * @param options.signal - Ends the emptying of a bucket, or the wait for an instance that is on its way out.
 * @returns The resource, what kind it was of, and what stays of it.
 * @throws RangeError when the id is of no kind that is known; the SDK's error when there is no such thing (its name
 *   says NotFound, or NoSuchBucket) or when something else uses it; Error when a part of it could not be deleted.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeregisterImage.html
 *
 * @example
 * const id = 'ami-0123456789abcdef0';
 * const { kind } = await deleteResource((Client, settings) => new Client(settings), { id, region: 'eu-west-1' });
 * console.log(`deleted ${kind} ${id}`);
 */
export async function deleteResource(
  connect: Connect,
  { id, region: given, signal }: Resource & { signal?: AbortSignal },
): Promise<DeletedResource> {
  const { name: kind } = kindOf(id);
  const region = /^arn:[^:]+:[^:]+:([^:]+):/.exec(id)?.[1] ?? given;
  const ec2 = connect(EC2Client, { region });
  const kept: string[] = [];
  switch (kind) {
    case 'instance': {
      const { keptVolumes, keptAddresses, spotRequest } = await terminateInstance(ec2, { instanceId: id, signal });
      kept.push(...keptVolumes, ...keptAddresses, ...(spotRequest ? [spotRequest] : []));
      break;
    }
    case 'address': {
      await releaseIp(ec2, { allocationId: id });
      break;
    }
    case 'volume': {
      await deleteVolume(ec2, { volumeId: id, signal });
      break;
    }
    case 'image': {
      const image = { ImageId: id, DeleteAssociatedSnapshots: true };
      const { DeleteSnapshotResults = [] } = await ec2.send(new DeregisterImageCommand(image));
      const results = DeleteSnapshotResults.map((one) => `${one.SnapshotId} (${one.ReturnCode})`);
      // Skipped are those that another image needs.
      const stay = results.filter((text) => !/\((success|skipped)\)/.test(text)).join(', ');
      if (stay) throw new Error(`the image is gone, but not its snapshots ${stay}`);
      break;
    }
    case 'snapshot': {
      await ec2.send(new DeleteSnapshotCommand({ SnapshotId: id }));
      break;
    }
    case 'security group rule': {
      const SecurityGroupRuleIds = [id];
      const { SecurityGroupRules = [] } = await ec2.send(
        new DescribeSecurityGroupRulesCommand({ SecurityGroupRuleIds }),
      );
      const { GroupId, IsEgress } = SecurityGroupRules[0] ?? {};
      const rule = { GroupId, SecurityGroupRuleIds };
      if (IsEgress) await ec2.send(new RevokeSecurityGroupEgressCommand(rule));
      else await ec2.send(new RevokeSecurityGroupIngressCommand(rule));
      break;
    }
    case 'security group': {
      await ec2.send(new DeleteSecurityGroupCommand({ GroupId: id }));
      break;
    }
    case 'key pair': {
      // By its name: LocalStack deletes none by its id, and EC2 says nothing of one that is not there.
      const Filters = [{ Name: 'key-pair-id', Values: [id] }];
      const { KeyPairs = [] } = await ec2.send(new DescribeKeyPairsCommand({ Filters }));
      if (KeyPairs.length === 0) throw notFound(id);
      await ec2.send(new DeleteKeyPairCommand({ KeyName: KeyPairs[0]?.KeyName }));
      break;
    }
    case 'alarm': {
      const AlarmNames = [...(/(?<=:alarm:).*/.exec(id) ?? [''])];
      const cloudwatch = connect(CloudWatchClient, { region });
      // It tells of metric alarms only, unless it is asked for the others.
      const AlarmTypes = Object.values(AlarmType);
      const found = await cloudwatch.send(new DescribeAlarmsCommand({ AlarmNames, AlarmTypes }));
      const { MetricAlarms = [], CompositeAlarms = [], LogAlarms = [] } = found;
      // It is deleted by its name, and this account may have one of the same name as another.
      const isIt = ({ AlarmArn }: { AlarmArn?: string }) => AlarmArn === id;
      if (![...MetricAlarms, ...CompositeAlarms, ...LogAlarms].some(isIt)) throw notFound(id);
      await cloudwatch.send(new DeleteAlarmsCommand({ AlarmNames }));
      break;
    }
    case 'topic': {
      const sns = connect(SNSClient, { region });
      // SNS says nothing of a topic that is not there.
      await sns.send(new GetTopicAttributesCommand({ TopicArn: id }));
      await sns.send(new DeleteTopicCommand({ TopicArn: id }));
      break;
    }
    case 'role': {
      const { Account } = await connect(STSClient, { region }).send(new GetCallerIdentityCommand({}));
      // It is deleted by its name, too, which is without its path.
      if (id.split(':')[4] !== Account) throw notFound(id);
      await deleteInstanceRole(connect(IAMClient, { region }), { roleName: id.slice(id.lastIndexOf('/') + 1) });
      break;
    }
    case 'object': {
      const s3 = connect(S3Client, { region, followRegionRedirects: true });
      const [, Bucket, Key] = objectId.exec(id) ?? [];
      // S3 says nothing of an object that is not there. Of one with a key of your own (SSE-C) it wants that key: 400.
      await s3.send(new HeadObjectCommand({ Bucket, Key })).catch((error) => {
        if (error.$metadata?.httpStatusCode !== 400) throw error;
      });
      await s3.send(new DeleteObjectCommand({ Bucket, Key }));
      break;
    }
    case 'bucket': {
      const s3 = connect(S3Client, { region, followRegionRedirects: true });
      const bucket = id.slice('s3://'.length);
      const { kept: left, examples } = await emptyBucket(s3, { bucket, signal });
      const [first] = examples;
      const why = `${first?.key}: ${first?.code}: ${first?.message}`;
      if (left > 0) throw new Error(`${left} in it could not be deleted, such as ${why}`);
      await s3.send(new DeleteBucketCommand({ Bucket: bucket }));
      break;
    }
  }
  return { id, region, kind, kept };
}

/**
 * Tells what kind of thing an id belongs to.
 *
 * @param id - `i-0123456789abcdef0`, `s3://bucket`
 * @returns Its kind, and what it costs to keep.
 * @throws RangeError when it is of no kind that is known.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/resource-ids.html
 *
 * @example
 * const { name, cost } = kindOf('vol-0123456789abcdef0');
 * const text = `${name}: ${cost}`;
 * console.log(text);
 */
export function kindOf(id: string): (typeof kinds)[number] {
  // China and GovCloud have other words than aws in their ARNs.
  const plain = id.replace(/^arn:aws-[a-z-]+:/, 'arn:aws:');
  // Users, groups and policies of IAM are nothing that the recipes make.
  const kind = kinds.find(({ name, id: start }) => {
    if (name === 'object') return objectId.test(plain);
    if (name === 'bucket') return /^s3:\/\/[^/]+$/.test(plain);
    return plain.startsWith(start) && (name !== 'role' || plain.includes(':role/'));
  });
  if (!kind) throw new RangeError(`"${id}" is none of ${kinds.map((one) => `${one.id}…`).join(', ')}`);
  return kind;
}

/** `s3://bucket/key` */
const objectId = /^s3:\/\/([^/]+)\/(.+)$/s;

function notFound(id: string): Error {
  return Object.assign(new Error(`there is no ${id}`), { name: 'NotFound' });
}

// ---- command line: leave out when copying ----
import { confirm, connect, interrupted, print, recipe, yes } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('<id>', `${kinds.map((one) => `${one.id}…`).join(', ')}`)
    .addOption(yes)
    .action(async (id) => {
      const region = await connect(EC2Client).config.region();
      const { name, cost } = kindOf(id);
      await confirm(`Delete the ${name} ${id} for good? It is ${cost}.`);
      print(await deleteResource(connect, { id, region, signal: interrupted() }));
    }),
);
