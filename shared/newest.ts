/** What a command works on when it is given no id: the newest of the things that this cookbook made. */
import { type EC2Client, paginateDescribeInstances } from '@aws-sdk/client-ec2';

/**
 * The id of the newest instance that a recipe launched and that is not terminated.
 *
 * @throws Error when there is none.
 */
export async function newestInstance(ec2: EC2Client): Promise<string> {
  const Filters = [
    { Name: 'tag-key', Values: ['paws'] },
    { Name: 'instance-state-name', Values: ['pending', 'running', 'stopping', 'stopped'] },
  ];
  const found: { id: string; launched: number }[] = [];
  for await (const { Reservations = [] } of paginateDescribeInstances({ client: ec2 }, { Filters })) {
    for (const { InstanceId, LaunchTime } of Reservations.flatMap(({ Instances = [] }) => Instances)) {
      found.push({ id: InstanceId as string, launched: Number(LaunchTime) });
    }
  }
  const [newest] = found.sort((a, b) => b.launched - a.launched);
  if (!newest) throw new Error('no instance of this cookbook is here: launch one with recipe 2.1, or name one');
  return newest.id;
}
