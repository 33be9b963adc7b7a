import { CloudWatchClient, DescribeAlarmsCommand } from '@aws-sdk/client-cloudwatch';
import {
  AttachVolumeCommand,
  CreateKeyPairCommand,
  CreateVolumeCommand,
  DescribeVolumesCommand,
  RunInstancesCommand,
} from '@aws-sdk/client-ec2';
import { ListTopicsCommand, SNSClient } from '@aws-sdk/client-sns';
import { expect, test } from 'vitest';
import { deleteResource, kindOf } from '../../recipes/setup/16-delete-resource.ts';
import { leftovers, settingsOf, testRecipe } from '../harness.ts';
import { makeOneOfEach } from '../one-of-each.ts';

const own = testRecipe(import.meta);
const { run, file, ec2 } = own;
const settings = settingsOf(own);

/** What the account has left of all this. */
async function left(): Promise<unknown[]> {
  const { MetricAlarms = [] } = await new CloudWatchClient(settings).send(new DescribeAlarmsCommand({}));
  const { Topics = [] } = await new SNSClient(settings).send(new ListTopicsCommand({}));
  return [...MetricAlarms, ...Topics, ...(await leftovers(own))];
}

test('one of each kind goes, by 1.9 in the right order; a second time each is not there', async () => {
  const ids = await makeOneOfEach(own);
  const command = `npx tsx recipes/setup/09-clean-up.ts ${[...ids]
    .reverse()
    .map((id) => `'${id}'`)
    .join(' ')} --local --yes --json`;
  const { stdout } = await run(command);
  expect(JSON.parse(stdout).map((one: { id: string; outcome: string }) => [one.id, one.outcome])).toEqual(
    ids.map((id) => [id.replace(own.bucket, 'paws-example'), 'deleted']),
  );
  expect(await left()).toEqual([]);
  const again: { kind: string; outcome: string }[] = JSON.parse((await run(command)).stdout);
  // EC2 goes on knowing an instance that is terminated.
  const there = again.filter(({ outcome }) => outcome !== 'not found');
  expect(there).toMatchObject([{ kind: 'instance', outcome: 'deleted' }]);
});

test('the region in an ARN counts, in every partition', async () => {
  const regions: string[] = [];
  const clients = (Client: { name: string }, { region }: { region: string }) => {
    regions.push(`${Client.name} ${region}`);
    return { send: async () => ({}) };
  };
  const id = 'arn:aws-cn:sns:cn-north-1:111122223333:topic';
  await deleteResource(clients as never, { id, region: 'eu-west-1' });
  expect(regions).toContain('SNSClient cn-north-1');
  expect(kindOf('arn:aws-us-gov:cloudwatch:us-gov-west-1:111122223333:alarm:a')).toMatchObject({ name: 'alarm' });
});

test('it is asked first, and an id of no known kind or of nothing is an error', async () => {
  const { KeyPairId } = await ec2().send(new CreateKeyPairCommand({ KeyName: 'kept' }));
  const results = await Promise.all(
    [`${KeyPairId}`, 'eni-0123456789abcdef0 --yes', 'key-0123456789abcdef0 --yes'].map((options) =>
      run(`npx tsx ${file} ${options} --local`),
    ),
  );
  expect(results.map(({ code }) => code)).toEqual([2, 2, 1]);
  expect(results[0]?.stderr).toContain(`Delete the key pair ${KeyPairId} for good? It is free.`);
  expect(results[1]?.stderr).toContain('"eni-0123456789abcdef0" is none of arn:aws:cloudwatch:…');
  expect(results[2]?.stderr).toContain('there is no key-0123456789abcdef0');
  const deleted = await run(`npx tsx ${file} ${KeyPairId} --local --yes --json`);
  expect(JSON.parse(deleted.stdout)).toEqual({ id: KeyPairId, region: 'us-east-1', kind: 'key pair' });
});

test('a volume is detached first', async () => {
  const launch = { ImageId: 'ami-0532be01f26a3de55', MinCount: 1, MaxCount: 1 };
  const { Instances } = await ec2().send(new RunInstancesCommand(launch));
  const { VolumeId } = await ec2().send(new CreateVolumeCommand({ AvailabilityZone: 'us-east-1a', Size: 1 }));
  const InstanceId = Instances?.[0]?.InstanceId;
  await ec2().send(new AttachVolumeCommand({ InstanceId, VolumeId, Device: '/dev/sdf' }));
  const result = await run(`npx tsx ${file} ${VolumeId} --local --yes --json`);
  expect(JSON.parse(result.stdout)).toMatchObject({ id: VolumeId, kind: 'volume' });
  const { Volumes } = await ec2().send(new DescribeVolumesCommand({}));
  expect(Volumes).not.toContainEqual(expect.objectContaining({ VolumeId }));
});
