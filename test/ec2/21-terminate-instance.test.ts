import {
  AllocateAddressCommand,
  AssociateAddressCommand,
  AttachVolumeCommand,
  CreateVolumeCommand,
  DescribeInstancesCommand,
  type DescribeInstancesCommandInput,
  ModifyInstanceAttributeCommand,
  RunInstancesCommand,
} from '@aws-sdk/client-ec2';
import { expect, test } from 'vitest';
import { terminateInstance } from '../../recipes/ec2/21-terminate-instance.ts';
import { withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';

const { run, file, ec2 } = testRecipe(import.meta);
const terminate = (options: string, settings = {}) => run(`npx tsx ${file} --local ${options}`, settings);

async function launch(tags: { Key: string; Value: string }[] = []): Promise<string> {
  const { Instances } = await ec2().send(
    new RunInstancesCommand({
      ImageId: 'ami-0532be01f26a3de55',
      MinCount: 1,
      MaxCount: 1,
      TagSpecifications: tags.length > 0 ? [{ ResourceType: 'instance', Tags: tags }] : undefined,
    }),
  );
  return Instances?.[0]?.InstanceId as string;
}

async function state(id: string) {
  const { Reservations } = await ec2().send(new DescribeInstancesCommand({ InstanceIds: [id] }));
  return Reservations?.[0]?.Instances?.[0]?.State?.Name;
}

test('the named instance is terminated, no other; a second run finds it so', async () => {
  const [id, other] = [await launch(), await launch()];
  for (const _ of [1, 2]) {
    const result = await terminate(`${id} --yes --json`);
    expect(JSON.parse(result.stdout)).toMatchObject({ instanceId: id, state: 'terminated' });
  }
  expect([await state(id), await state(other)]).toEqual(['terminated', 'running']);
});

test('without an id the newest of the cookbook is taken, and one that has no tag is not', async () => {
  const id = await launch([{ Key: 'paws', Value: '2.1' }]);
  const foreign = await launch();
  expect(JSON.parse((await terminate('--yes --json')).stdout)).toMatchObject({ instanceId: id });
  expect(await state(foreign)).toBe('running');
  const none = await terminate('--yes');
  expect(none).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('no instance of this cookbook is here'),
  });
});

test('volumes and addresses that stay are named before, in the question, and after', async () => {
  const id = await launch();
  const { VolumeId } = await ec2().send(new CreateVolumeCommand({ AvailabilityZone: 'us-east-1a', Size: 1 }));
  await ec2().send(new AttachVolumeCommand({ InstanceId: id, VolumeId, Device: '/dev/sdf' }));
  const { AllocationId } = await ec2().send(new AllocateAddressCommand({}));
  await ec2().send(new AssociateAddressCommand({ InstanceId: id, AllocationId }));
  const asked = await terminate(id);
  expect(asked).toMatchObject({ code: 2, stdout: '' });
  expect(asked.stderr).toContain(
    `Terminate ${id} for good? These stay and go on costing: ${VolumeId}, ${AllocationId}.`,
  );
  expect(await state(id)).toBe('running');
  const done = JSON.parse((await terminate(`${id} --yes --json`)).stdout);
  expect(done).toMatchObject({ keptVolumes: [VolumeId], keptAddresses: [AllocationId], spotRequest: null });
});

test('that a Spot request may launch another is said in the question', async () => {
  const id = await launch();
  const spot = { State: { Name: 'running' }, SpotInstanceRequestId: 'sir-1' };
  const faults = [{ operation: 'ec2:DescribeInstances', output: { Reservations: [{ Instances: [spot] }] } }];
  const asked = await terminate(id, { faults });
  expect(asked).toMatchObject({ code: 2, stdout: '' });
  expect(asked.stderr).toContain(
    'address of it stays. If sir-1 is persistent, it launches another: cancel it first.\n',
  );
});

test('an answer of no at the terminal leaves the instance, yes terminates it', async () => {
  const id = await launch();
  const say = (answer: string) => terminate(id, { terminal: { columns: 100, type: [['[y/N]', answer]] } });
  const no = await say('n\r');
  expect(no).toMatchObject({ code: 1, stdout: expect.stringContaining('Nothing was done.') });
  expect(no.stdout).toMatch(/On http:\/\/127\.0\.0\.1:\d+, access key \d{12}, region us-east-1/);
  expect(await state(id)).toBe('running');
  expect(await say('y\r')).toMatchObject({ code: 0 });
  expect(await state(id)).toBe('terminated');
});

test('a protected instance stays, and why is said', async () => {
  const id = await launch();
  await ec2().send(new ModifyInstanceAttributeCommand({ InstanceId: id, DisableApiTermination: { Value: true } }));
  const result = await terminate(`${id} --yes`);
  expect(result).toMatchObject({ code: 1, stdout: '' });
  expect(result.stderr).toContain('OperationNotPermitted');
  expect(result.stderr).toContain('disableApiTermination');
  expect(await state(id)).toBe('running');
});

test('an unknown id and a word that is none are errors of one or two lines', async () => {
  expect(await terminate('i-0123456789abcdef0 --yes')).toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringMatching(/InvalidInstanceID\.NotFound.*\n$/),
  });
});

test('Ctrl-C while waiting ends with 130; the instance goes all the same', async () => {
  const id = await launch();
  const Reservations = [{ Instances: [{ InstanceId: id, State: { Name: 'shutting-down' } }] }];
  const result = await terminate(`${id} --yes`, {
    faults: [
      { operation: 'ec2:DescribeInstances', after: 2, output: { Reservations } },
      { operation: 'ec2:TerminateInstances', signalAfter: 'SIGINT' },
    ],
  });
  expect(result).toMatchObject({ code: 130, stdout: '' });
  expect(await state(id)).toBe('terminated');
});

test('one that EC2 does not know yet is terminated all the same, if it is said to be new', async () => {
  const instanceId = await launch();
  const unknown = { operation: 'DescribeInstances', error: 'InvalidInstanceID.NotFound', times: 2 };
  const { client, sent } = withFaults(ec2(), unknown);
  await expect(terminateInstance(client, { instanceId })).rejects.toThrow('InvalidInstanceID.NotFound');
  expect(sent).toEqual(['DescribeInstances']);
  // Nor may what it leaves be looked at: that it ends counts more.
  const denied = { operation: 'DescribeAddresses', error: 'UnauthorizedOperation' };
  const again = withFaults(ec2(), unknown, { ...unknown, operation: 'TerminateInstances' }, denied);
  expect(await terminateInstance(again.client, { instanceId, isNew: true })).toMatchObject({ state: 'terminated' });
  expect(await state(instanceId)).toBe('terminated');
});

test.each(['pending', 'stopping'])('an answer from before, %s, does not end the wait', async (Name) => {
  const instanceId = await launch();
  const { client, sent } = withFaults(ec2());
  // As EC2 answers: an instance in another state than the filter asks for is not in the answer.
  const stale = ({ Filters = [] }: DescribeInstancesCommandInput) =>
    Filters.some(({ Values = [] }) => !Values.includes(Name)) ? [] : [{ Instances: [{ State: { Name } }] }];
  client.middlewareStack.add(
    (next) => async (args) =>
      sent.slice(sent.indexOf('TerminateInstances')).length === 2
        ? { output: { $metadata: {}, Reservations: stale(args.input as object) } as never, response: {} }
        : next(args),
    { step: 'initialize' },
  );
  expect(await terminateInstance(client, { instanceId })).toMatchObject({ state: 'terminated' });
  expect(sent.slice(-3)).toEqual(['TerminateInstances', 'DescribeInstances', 'DescribeInstances']);
});
