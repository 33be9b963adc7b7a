/** What a command works on when it is given no id: the newest of the things that this cookbook made. */
import {
  type EC2Client,
  paginateDescribeInstances,
  paginateDescribeSnapshots,
  paginateDescribeVolumes,
} from '@aws-sdk/client-ec2';

interface Found {
  id?: string;
  time?: Date;
}

const tagged = { Name: 'tag-key', Values: ['paws'] };

/**
 * The id of the newest instance that a recipe launched and that is not terminated.
 *
 * @throws Error when there is none.
 */
export async function newestInstance(ec2: EC2Client): Promise<string> {
  const alive = { Name: 'instance-state-name', Values: ['pending', 'running', 'stopping', 'stopped'] };
  const found: Found[] = [];
  for await (const { Reservations = [] } of paginateDescribeInstances({ client: ec2 }, { Filters: [tagged, alive] })) {
    for (const { Instances = [] } of Reservations) {
      found.push(...Instances.map(({ InstanceId, LaunchTime }) => ({ id: InstanceId, time: LaunchTime })));
    }
  }
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
  for await (const { Volumes = [] } of paginateDescribeVolumes({ client: ec2 }, { Filters: [tagged, alive] })) {
    found.push(...Volumes.map(({ VolumeId, CreateTime }) => ({ id: VolumeId, time: CreateTime })));
  }
  return newest(found, 'volume', 'make one with recipe 2.7');
}

/**
 * The id of the newest snapshot that a recipe made.
 *
 * @throws Error when there is none.
 */
export async function newestSnapshot(ec2: EC2Client): Promise<string> {
  const mine = { OwnerIds: ['self'], Filters: [tagged] };
  const found: Found[] = [];
  for await (const { Snapshots = [] } of paginateDescribeSnapshots({ client: ec2 }, mine)) {
    found.push(...Snapshots.map(({ SnapshotId, StartTime }) => ({ id: SnapshotId, time: StartTime })));
  }
  return newest(found, 'snapshot', 'make one with recipe 2.8');
}

function newest(found: Found[], what: string, advice: string): string {
  // LocalStack tells whole seconds, and lists what is newer later.
  const last = found.sort((a, b) => Number(a.time) - Number(b.time)).at(-1);
  if (!last?.id) throw new Error(`no ${what} of this cookbook is here: ${advice}, or name one`);
  return last.id;
}
