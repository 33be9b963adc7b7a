import {
  AllocateAddressCommand,
  AssociateAddressCommand,
  DescribeAddressesCommand,
  RunInstancesCommand,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import { afterEach, describe, expect, test } from 'vitest';
import { elasticIp, findIps, releaseIp } from '../../recipes/ec2/06-elastic-ip.ts';
import { type ClientFault, withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';

const { run, file, ec2 } = testRecipe(import.meta);
const command = (options: string, settings = {}) => run(`npx tsx ${file} --local ${options}`, settings);
const paws = [{ Key: 'paws', Value: '2.1' }];

async function launch(Tags?: typeof paws): Promise<string> {
  const { Instances } = await ec2().send(
    new RunInstancesCommand({
      ...{ ImageId: 'ami-0532be01f26a3de55', MinCount: 1, MaxCount: 1 },
      TagSpecifications: Tags && [{ ResourceType: 'instance', Tags }],
    }),
  );
  return Instances?.[0]?.InstanceId as string;
}

async function allocate(Tags?: typeof paws): Promise<string> {
  const TagSpecifications = Tags && [{ ResourceType: 'elastic-ip' as const, Tags }];
  const { AllocationId } = await ec2().send(new AllocateAddressCommand({ Domain: 'vpc', TagSpecifications }));
  return AllocationId as string;
}

async function associate(InstanceId: string, AllocationId: string) {
  await ec2().send(new AssociateAddressCommand({ InstanceId, AllocationId }));
}

async function addresses() {
  return (await ec2().send(new DescribeAddressesCommand({}))).Addresses ?? [];
}

afterEach(async () => {
  for (const { AllocationId } of await addresses()) await releaseIp(ec2(), { allocationId: AllocationId as string });
});

describe('as a command', () => {
  test('an address is allocated, tagged and associated; a second run finds it so; it is released', async () => {
    const id = await launch(paws);
    const once = JSON.parse((await command('--json')).stdout);
    expect(once).toEqual({
      instanceId: id,
      allocationId: expect.stringMatching(/^eipalloc-/),
      address: expect.stringMatching(/^\d+(\.\d+){3}$/),
      ...{ allocated: true, takenFrom: null, replaced: null },
    });
    const expected = {
      ...{ InstanceId: id, AllocationId: once.allocationId, PublicIp: once.address, Domain: 'vpc' },
      Tags: [{ Key: 'paws', Value: '2.6' }],
    };
    expect(await addresses()).toMatchObject([expected]);
    const again = JSON.parse((await command(`${id} --json`)).stdout);
    expect(again).toEqual({ ...once, allocated: false });
    expect(await addresses()).toMatchObject([expected]);

    const asked = await command(`${id} --release`);
    expect(asked).toMatchObject({ code: 2, stdout: '' });
    expect(asked.stderr).toContain(`Release ${once.address} of ${id}? Somebody else may get it.`);
    expect(await addresses()).toMatchObject([expected]);
    const released = await command(`${id} --release --yes --json`);
    expect(JSON.parse(released.stdout)).toMatchObject({ allocationId: once.allocationId, released: true });
    expect(await addresses()).toEqual([]);
    const none = await command(`${id} --release --yes`);
    expect(none).toMatchObject({ code: 1, stderr: `Error: ${id} has no such Elastic IP address\n` });
    await ec2().send(new TerminateInstancesCommand({ InstanceIds: [id] }));
  });

  test('a free address that is named is released without an instance; one in use only of its instance', async () => {
    const [free, busy, id] = [await allocate(paws), await allocate(), await launch()];
    await associate(id, busy);
    const release = (options: string) => command(`${options} --release --yes --json`);
    const released = await release(`--allocation-id ${free}`);
    expect(JSON.parse(released.stdout)).toMatchObject({ allocationId: free, instanceId: null, released: true });
    const stderr = 'Error: the instance has no such Elastic IP address\n';
    expect(await release(`--allocation-id ${busy}`)).toEqual({ code: 1, stdout: '', stderr });
    expect(await addresses()).toMatchObject([{ AllocationId: busy, InstanceId: id }]);
    expect(await release(`${id} --allocation-id ${busy}`)).toMatchObject({ code: 0 });
  });

  test('on AWS the price is told and asked about before an address is allocated', async () => {
    const id = await launch();
    const answers = [
      { operation: 'ec2:DescribeAddresses', output: { Addresses: [] } },
      { operation: 'ec2:DescribeInstances', output: { Reservations: [] } },
    ];
    const env = { AWS_ACCESS_KEY_ID: 'AKIAIOSFODNN7EXAMPLE', AWS_SECRET_ACCESS_KEY: 'x', AWS_REGION: 'us-east-1' };
    const result = await run(`npx tsx ${file} ${id}`, { env, faults: answers });
    expect(result).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('$0.005 an hour') });
    expect(result.stderr).not.toContain('REFUSED');
  });

  test('Ctrl-C after the allocation: released again; an unknown address: 2, and nothing is allocated', async () => {
    const id = await launch();
    const faults = [{ operation: 'ec2:AllocateAddress', signalAfter: 'SIGINT' as const }];
    const [stopped, unknown] = await Promise.all([
      command(id, { faults }),
      command(`${id} --allocation-id eipalloc-0123456789abcdef0`),
    ]);
    expect(stopped).toMatchObject({ code: 130, stdout: '', stderr: 'Interrupted.\n' });
    const stderr = 'Error: there is no address eipalloc-0123456789abcdef0 in this region\n';
    expect(unknown).toEqual({ code: 2, stdout: '', stderr });
    expect(await addresses()).toEqual([]);
  });
});

test('a free address with all tags is used rather than a new one; others are left', async () => {
  const [id, busy] = [await launch(), await launch()];
  const shop = { Key: 'service', Value: 'shop' };
  const [taken, other, plain, mine] = [
    await allocate([shop]),
    await allocate([{ Key: 'service', Value: 'mail' }]),
    await allocate(),
    await allocate([...paws, shop]),
  ];
  await associate(busy, taken);
  const result = await elasticIp(ec2(), { instanceId: id, tags: { service: 'shop' } });
  expect(result).toMatchObject({ allocationId: mine, allocated: false, takenFrom: null });
  const found = Object.fromEntries((await addresses()).map((one) => [one.AllocationId, one.InstanceId || null]));
  expect(found).toEqual({ [taken]: busy, [other]: null, [plain]: null, [mine]: id });
});

test('without tags no free address is taken: it may be somebody else’s', async () => {
  const [id, free] = [await launch(), await allocate(paws)];
  const { allocationId, allocated } = await elasticIp(ec2(), { instanceId: id });
  expect(allocated).toBe(true);
  expect(allocationId).not.toBe(free);
  expect((await addresses()).find(({ AllocationId }) => AllocationId === allocationId)).toMatchObject({ Tags: [] });
});

test('an address is taken from another instance only when that is allowed', async () => {
  const [id, busy, allocationId] = [await launch(), await launch(), await allocate()];
  await associate(busy, allocationId);
  const { client, sent } = withFaults(ec2());
  await expect(elasticIp(client, { instanceId: id, allocationId })).rejects.toThrow(
    `is in use by ${busy}; it is taken`,
  );
  expect(sent).toEqual(['DescribeAddresses']);
  expect(await addresses()).toMatchObject([{ InstanceId: busy }]);
  const moved = await elasticIp(ec2(), { instanceId: id, allocationId, allowReassociation: true });
  expect(moved).toMatchObject({ allocationId, allocated: false, takenFrom: busy });
  expect(await addresses()).toMatchObject([{ InstanceId: id }]);
});

test('what the instance had before is named, and kept', async () => {
  const [id, old, allocationId] = [await launch(), await allocate(), await allocate()];
  await associate(id, old);
  expect(await elasticIp(ec2(), { instanceId: id, allocationId })).toMatchObject({ allocationId, replaced: old });
  expect(await addresses()).toHaveLength(2);
});

test('an address on another private address of the instance is not replaced', async () => {
  const [instanceId, allocationId] = [await launch(), await allocate()];
  const at = (AllocationId: string, PrivateIpAddress?: string) =>
    PrivateIpAddress
      ? { AllocationId, PrivateIpAddress, InstanceId: instanceId, AssociationId: 'eipassoc-1' }
      : { AllocationId };
  for (const [addresses, replaced] of [
    [[at('eipalloc-1', '10.0.0.6')], null],
    [[at('eipalloc-1', '10.0.0.6'), at('eipalloc-2', '10.0.0.5')], 'eipalloc-2'],
  ] as const) {
    const State = { Name: 'running' };
    const Instances = [{ State, PrivateIpAddress: '10.0.0.5' }];
    const { client } = withFaults(
      ec2(),
      { operation: 'DescribeAddresses', output: { Addresses: [...addresses, at(allocationId)] } },
      { operation: 'DescribeInstances', output: { Reservations: [{ Instances }] } },
    );
    expect(await elasticIp(client, { instanceId, allocationId, allowReassociation: true })).toMatchObject({ replaced });
  }
});

test('an address that its instance took along when it was terminated is released', async () => {
  const allocationId = await allocate();
  const Addresses = [{ AllocationId: allocationId, AssociationId: 'eipassoc-1', InstanceId: 'i-1' }];
  const { client } = withFaults(
    ec2(),
    { operation: 'DescribeAddresses', output: { Addresses } },
    { operation: 'DisassociateAddress', error: 'InvalidAssociationID.NotFound' },
  );
  expect(await releaseIp(client, { allocationId })).toMatchObject({ released: true });
  expect((await addresses()).map(({ AllocationId }) => AllocationId)).not.toContain(allocationId);
});

test('the second address of an instance can be named, too', async () => {
  const [id, first, second] = [await launch(), await allocate(), await allocate()];
  // LocalStack lets an instance have two, as EC2 does one with two network interfaces.
  for (const one of [first, second]) await associate(id, one);
  for (const allocationId of [first, second]) {
    expect(await findIps(ec2(), { instanceId: id, allocationId })).toMatchObject({
      ...{ own: { allocationId }, chosen: { allocationId } },
    });
  }
});

test('an instance that has the address is asked for once more, and nothing but a look is sent', async () => {
  const id = await launch();
  const { allocationId } = await elasticIp(ec2(), { instanceId: id });
  for (const options of [{}, { allocationId }, { tags: { service: 'shop' } }]) {
    const { client, sent } = withFaults(ec2());
    expect(await elasticIp(client, { instanceId: id, ...options })).toMatchObject({ allocationId, allocated: false });
    expect(sent).toEqual(['DescribeAddresses']);
  }
});

test.each(['pending', 'shutting-down', 'terminated'])(
  'an instance that is %s gets none, before one is made',
  async (Name) => {
    const output = { Reservations: [{ Instances: [{ State: { Name } }] }] };
    const { client, sent } = withFaults(ec2(), { operation: 'DescribeInstances', output });
    await expect(elasticIp(client, { instanceId: 'i-1' })).rejects.toThrow(`i-1 is ${Name}: it takes no address`);
    expect(sent).not.toContain('AllocateAddress');
  },
);

// The codes are those of https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html.
describe('when a step fails, what was allocated is released and the rest is as it was', () => {
  const steps: [string, ClientFault][] = [
    ['InvalidInstanceID.NotFound', { operation: 'DescribeInstances', error: 'InvalidInstanceID.NotFound' }],
    ['AddressLimitExceeded', { operation: 'AllocateAddress', error: 'AddressLimitExceeded' }],
    ['Gateway.NotAttached', { operation: 'AssociateAddress', error: 'Gateway.NotAttached' }],
    ['UnauthorizedOperation', { operation: 'AssociateAddress', error: 'UnauthorizedOperation' }],
    ['Resource.AlreadyAssociated', { operation: 'AssociateAddress', error: 'Resource.AlreadyAssociated' }],
  ];
  test.each(steps)('%s', async (name, fault) => {
    const [id, other] = [await launch(), await allocate()];
    const before = await addresses();
    await expect(elasticIp(withFaults(ec2(), fault).client, { instanceId: id })).rejects.toMatchObject({ name });
    expect(await addresses()).toEqual(before);
    // An address that was there is not released.
    const named = { instanceId: id, allocationId: other };
    if (fault.operation !== 'AllocateAddress') {
      await expect(elasticIp(withFaults(ec2(), fault).client, named)).rejects.toMatchObject({ name });
    }
    expect(await addresses()).toEqual(before);
  });

  test('the answer to the association is lost: it is taken back and the address released', async () => {
    const id = await launch();
    const answered = () => {
      throw Object.assign(new Error('read ECONNRESET'), { name: 'TimeoutError' });
    };
    const { client, sent } = withFaults(ec2(), { operation: 'AssociateAddress', answered });
    await expect(elasticIp(client, { instanceId: id })).rejects.toMatchObject({ name: 'TimeoutError' });
    expect(sent.slice(-3)).toEqual(['DescribeAddresses', 'DisassociateAddress', 'ReleaseAddress']);
    expect(await addresses()).toEqual([]);
  });

  test('a new address that is not known everywhere at once is given all the same, or released', async () => {
    const id = await launch();
    const unknown = { error: 'InvalidAllocationID.NotFound', times: 1 };
    const { client, sent } = withFaults(ec2(), { operation: 'AssociateAddress', ...unknown });
    const { allocationId } = await elasticIp(client, { instanceId: id });
    expect(sent.slice(-3)).toEqual(['AllocateAddress', 'AssociateAddress', 'AssociateAddress']);
    expect(await addresses()).toMatchObject([{ AllocationId: allocationId, InstanceId: id }]);

    const denied = { operation: 'AssociateAddress', error: 'UnauthorizedOperation' };
    const late = withFaults(ec2(), denied, { operation: 'ReleaseAddress', ...unknown });
    const failed = elasticIp(late.client, { instanceId: await launch() });
    await expect(failed).rejects.toThrow(/^UnauthorizedOperation$/);
    expect(await addresses()).toHaveLength(1);
    const nobodys = withFaults(ec2());
    const released = releaseIp(nobodys.client, { allocationId: 'eipalloc-0123456789abcdef0' });
    await expect(released).rejects.toMatchObject({ name: unknown.error });
    expect(nobodys.sent).toEqual(['DescribeAddresses', 'ReleaseAddress']);
    // One that was named and is gone is not asked for again.
    const named = withFaults(ec2(), { operation: 'AssociateAddress', error: unknown.error });
    const gone = elasticIp(named.client, { instanceId: await launch(), allocationId: await allocate() });
    await expect(gone).rejects.toMatchObject({ name: unknown.error });
    expect(named.sent.filter((one) => one === 'AssociateAddress')).toHaveLength(1);
  });

  test('what can not be released is named', async () => {
    const id = await launch();
    const faults = ['AssociateAddress', 'ReleaseAddress'].map((operation) => ({
      operation,
      error: 'UnauthorizedOperation',
    }));
    const work = elasticIp(withFaults(ec2(), ...faults).client, { instanceId: id });
    work.catch(() => {});
    const { own } = await findIps(ec2(), { instanceId: id });
    expect(own).toBeNull();
    await expect(work).rejects.toThrow(/^UnauthorizedOperation; left are eipalloc-\w+$/);
  });
});
