/** What a command works on when it is given no id: the newest of the things that this cookbook made. */
import {
  type EC2Client,
  paginateDescribeInstances,
  paginateDescribeSnapshots,
  paginateDescribeVolumes,
} from '@aws-sdk/client-ec2';

type Found = [time?: Date, id?: string];

const tagged = { Name: 'tag-key', Values: ['paws'] };

/**
 * The id of the newest instance that a recipe launched and that is not terminated.
 *
 * @throws Error when there is none.
 */
export async function newestInstance(ec2: EC2Client): Promise<string> {
  const alive = { Name: 'instance-state-name', Values: ['pending', 'running', 'stopping', 'stopped'] };
  const found: Found[] = [];
  const pages = paginateDescribeInstances({ client: ec2, pageSize: 1000 }, { Filters: [tagged, alive] });
  for await (const { Reservations = [] } of pages)
    for (const one of Reservations.flatMap(({ Instances = [] }) => Instances))
      found.push([one.LaunchTime, one.InstanceId]);
  return newest(found, 'instance', 'launch one with recipe 2.1');
}

/**
 * The id of the newest volume that a recipe made: the root volume of an instance, too.
 *
 * @throws Error when there is none.
 */
export async function newestVolume(ec2: EC2Client): Promise<string> {
  const alive = { Name: 'status', Values: ['creating', 'available', 'in-use'] };
  const found: Found[] = [];
  const pages = paginateDescribeVolumes({ client: ec2, pageSize: 1000 }, { Filters: [tagged, alive] });
  for await (const { Volumes = [] } of pages) for (const one of Volumes) found.push([one.CreateTime, one.VolumeId]);
  return newest(found, 'volume', 'make one with recipe 2.7');
}

/**
 * The id of the newest snapshot that a recipe made.
 *
 * @throws Error when there is none.
 */
export async function newestSnapshot(ec2: EC2Client): Promise<string> {
  const found: Found[] = [];
  const pages = paginateDescribeSnapshots({ client: ec2, pageSize: 1000 }, { OwnerIds: ['self'], Filters: [tagged] });
  for await (const { Snapshots = [] } of pages)
    for (const one of Snapshots) found.push([one.StartTime, one.SnapshotId]);
  return newest(found, 'snapshot', 'make one with recipe 2.8');
}

function newest(found: Found[], what: string, advice: string): string {
  // LocalStack tells whole seconds, and lists what is newer later.
  const [, id] = found.sort(([a], [b]) => Number(a) - Number(b)).at(-1) ?? [];
  if (!id) throw new Error(`no ${what} of this cookbook is here: ${advice}, or name one`);
  return id;
}
