import {
  type _InstanceType,
  AllocateAddressCommand,
  AssociateAddressCommand,
  DescribeInstancesCommand,
  type EC2Client,
  type InstanceStateName,
  ModifyInstanceAttributeCommand,
  ReleaseAddressCommand,
  RunInstancesCommand,
  StopInstancesCommand,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import { expect, onTestFinished, test, vi } from 'vitest';
import { type Action, changeState, findLosses } from '../../recipes/ec2/20-change-state.ts';
import { withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';

const { run, file, ec2 } = testRecipe(import.meta);
const change = (options: string, settings = {}) => run(`npx tsx ${file} ${options} --local --json`, settings);

async function launch(more: { InstanceType?: _InstanceType; HibernationOptions?: object } = {}): Promise<string> {
  const input = { ImageId: 'ami-0532be01f26a3de55', MinCount: 1, MaxCount: 1, ...more };
  const { Instances } = await ec2().send(new RunInstancesCommand(input));
  return Instances?.[0]?.InstanceId as string;
}

async function describe(id: string) {
  const { Reservations } = await ec2().send(new DescribeInstancesCommand({ InstanceIds: [id] }));
  return Reservations?.[0]?.Instances?.[0];
}

/** A client that writes down what changes something, and answers the first descriptions with these states. */
function watched(...states: string[]): { client: EC2Client; sent: object[] } {
  const client = ec2();
  const sent: object[] = [];
  client.middlewareStack.add(
    (next, { commandName = '' }) =>
      async (args) => {
        if (/^(Start|Stop|Reboot)/.test(commandName)) sent.push({ [commandName]: args.input });
        const answer = await next(args);
        const state = commandName === 'DescribeInstancesCommand' && states.shift();
        const { Reservations } = answer.output as { Reservations?: { Instances: { State: object }[] }[] };
        if (state && Reservations?.[0]?.Instances[0]) Reservations[0].Instances[0].State = { Name: state };
        return answer;
      },
    { step: 'initialize' },
  );
  return { client, sent };
}

test('an instance is stopped, started with another address, and rebooted; asked twice, nothing more is done', async () => {
  const instanceId = await launch();
  const { PublicIpAddress: first } = (await describe(instanceId)) ?? {};
  const { client, sent } = watched();
  const go = (action: Action) => changeState(client, { instanceId, action });

  const stopped = { instanceId, stateBefore: 'running', state: 'stopped', addressBefore: first, address: null };
  expect(await go('stop')).toEqual({ ...stopped, queued: false });
  expect((await describe(instanceId))?.State?.Name).toBe('stopped');
  expect(await go('stop')).toMatchObject({ stateBefore: 'stopped', state: 'stopped' });
  expect(await go('hibernate')).toMatchObject({ stateBefore: 'stopped', state: 'stopped' });

  const started = await go('start');
  const { PublicIpAddress: second, State } = (await describe(instanceId)) ?? {};
  expect(State?.Name).toBe('running');
  expect(second).not.toBe(first);
  expect(started).toMatchObject({ stateBefore: 'stopped', state: 'running', addressBefore: null, address: second });
  expect(await go('start')).toMatchObject({ stateBefore: 'running', state: 'running' });

  expect(await go('reboot')).toMatchObject({ state: 'running', queued: true, addressBefore: second, address: second });
  const InstanceIds = [instanceId];
  expect(sent).toEqual([
    { StopInstancesCommand: { InstanceIds, Hibernate: false } },
    { StartInstancesCommand: { InstanceIds } },
    { RebootInstancesCommand: { InstanceIds } },
  ]);
});

test('what is between two states is waited for first (states answered by the test)', async () => {
  const instanceId = await launch();
  const pending = watched('pending', 'pending');
  const told: string[] = [];
  const onProgress = (text: string) => told.push(text.replace(/\d+ s$/, ''));
  const stop = await changeState(pending.client, { instanceId, action: 'stop', onProgress });
  expect(stop).toMatchObject({ stateBefore: 'pending', state: 'stopped' });
  expect([...new Set(told)]).toEqual([
    `waiting until ${instanceId} is running: `,
    `waiting until ${instanceId} is stopped: `,
  ]);
  expect(pending.sent).toHaveLength(1);

  // A start that is sent while it is stopping would be refused.
  const stopping = watched('stopping', 'stopping');
  const start = await changeState(stopping.client, { instanceId, action: 'start', onProgress });
  expect(start).toMatchObject({ stateBefore: 'stopping', state: 'running' });
  expect(told.at(-1)).toBe(`waiting until ${instanceId} has passed its instance status check: `);
  expect(stopping.sent).toHaveLength(1);
});

test('a start that EC2 takes back ends at once, with its reason (states answered by the test)', async () => {
  const instanceId = await launch();
  await ec2().send(new StopInstancesCommand({ InstanceIds: [instanceId] }));
  const Message = 'Client.InternalError: Client error on launch';
  const states = ['stopped', 'stopped', 'pending', 'stopped'].map((Name) => ({
    State: { Name },
    StateReason: { Message },
  }));
  // Just after the start it may still be told as stopped, with the reason of another time.
  const answers = states.map((one) => ({
    ...{ operation: 'DescribeInstances', output: { Reservations: [{ Instances: [one] }] }, times: 1 },
  }));
  const { client, sent } = withFaults(ec2(), ...answers);
  await expect(changeState(client, { instanceId, action: 'start' })).rejects.toThrow(
    new Error(`${instanceId} is stopped again: ${Message}`),
  );
  expect(sent.filter((one) => one === 'DescribeInstances')).toHaveLength(4);

  // An answer that is late tells of the stop before the start.
  const StateReason = { Code: 'Client.UserInitiatedShutdown', Message: 'User initiated' };
  const late = ['stopped', 'pending', 'stopped'].map((Name) => ({
    ...{ operation: 'DescribeInstances', times: 1 },
    output: { Reservations: [{ Instances: [{ State: { Name }, StateReason }] }] },
  }));
  const started = changeState(withFaults(ec2(), ...late).client, { instanceId, action: 'start' });
  expect(await started).toMatchObject({ state: 'running' });
});

test('answers that are late, of a state before, do not end a wait (states answered by the test)', async () => {
  const instanceId = await launch();
  const answers = (StateReason: object, ...states: InstanceStateName[]) =>
    states.map((Name) => ({
      ...{ operation: 'DescribeInstances', times: 1 },
      output: { Reservations: [{ Instances: [{ State: { Name }, StateReason }] }] },
    }));
  const change = (action: Action, reason: object, ...states: InstanceStateName[]) =>
    changeState(withFaults(ec2(), ...answers(reason, ...states)).client, { instanceId, action });
  const user = { Code: 'Client.UserInitiatedShutdown', Message: 'User initiated' };
  const failed = { Code: 'Client.InternalError', Message: 'Client.InternalError: Client error on launch' };

  expect(await change('stop', {}, 'running', 'pending')).toMatchObject({ state: 'stopped' });
  expect(await change('start', user, 'stopped', 'stopping', 'stopping', 'pending')).toMatchObject({ state: 'running' });

  const itself = { Code: 'Client.InstanceInitiatedShutdown', Message: 'Instance initiated' };
  await ec2().send(new StopInstancesCommand({ InstanceIds: [instanceId] }));
  expect(await change('start', itself, 'stopped', 'stopping', 'pending')).toMatchObject({ state: 'running' });

  // What is no late answer ends it at once.
  const gone = change('stop', {}, 'running', 'terminated');
  await expect(gone).rejects.toThrow('is stopped: that will not come any more');
  await ec2().send(new StopInstancesCommand({ InstanceIds: [instanceId] }));
  const taken = change('start', failed, 'stopped', 'stopped', 'stopping');
  await expect(taken).rejects.toThrow(`is running: that will not come any more ${failed.Message}`);
  const reversed = change('start', user, 'stopped', 'pending', 'stopping');
  await expect(reversed).rejects.toThrow('is running: that will not come any more User initiated');
});

test('after a minute no answer is taken for a late one', async () => {
  const instanceId = await launch();
  let passed = 0;
  const { now } = Date;
  const clock = vi.spyOn(Date, 'now').mockImplementation(() => now() + passed);
  onTestFinished(() => clock.mockRestore());
  const state = (Name: InstanceStateName) => ({ Reservations: [{ Instances: [{ State: { Name } }] }] });
  const { client } = withFaults(
    ec2(),
    { operation: 'DescribeInstances', output: state('running'), times: 1 },
    { operation: 'DescribeInstances', output: state('pending'), times: 1, answered: () => (passed = 61_000) },
  );
  const stopped = changeState(client, { instanceId, action: 'stop' });
  await expect(stopped).rejects.toThrow('is stopped: that will not come any more');
});

test('only an instance that can is hibernated', async () => {
  const able = await launch({ HibernationOptions: { Configured: true } });
  const { client, sent } = watched();
  expect(await changeState(client, { instanceId: able, action: 'hibernate' })).toMatchObject({ state: 'stopped' });
  expect(sent).toEqual([{ StopInstancesCommand: { InstanceIds: [able], Hibernate: true } }]);
  const unable = changeState(client, { instanceId: await launch(), action: 'hibernate' });
  await expect(unable).rejects.toThrow("can't hibernate: that has to be enabled when an instance is launched");
  expect(sent).toHaveLength(1);
});

test('an instance in no state for it, or none at all, is an error, and nothing is sent', async () => {
  const [stopped, gone] = [await launch(), await launch()];
  await ec2().send(new StopInstancesCommand({ InstanceIds: [stopped] }));
  await ec2().send(new TerminateInstancesCommand({ InstanceIds: [gone] }));
  const { client, sent } = watched();
  const go = (instanceId: string, action: string) => changeState(client, { instanceId, action: action as Action });
  await expect(go(stopped, 'reboot')).rejects.toThrow(`${stopped} is stopped: start it instead`);
  await expect(go(gone, 'start')).rejects.toThrow(`${gone} is terminated: it does not come back`);
  expect(await findLosses(client, { instanceId: gone, action: 'stop' })).toEqual([]);
  await expect(go(stopped, 'fly')).rejects.toThrow(RangeError);
  await expect(go('i-0123456789abcdef0', 'stop')).rejects.toMatchObject({ name: 'InvalidInstanceID.NotFound' });
  expect(sent).toEqual([]);
});

test('what would be lost: memory, a public address but no Elastic IP address, instance store', async () => {
  const instanceId = await launch({ InstanceType: 'm5d.large' });
  const { PublicIpAddress } = (await describe(instanceId)) ?? {};
  const losses = (action: Action) => findLosses(ec2(), { instanceId, action });
  const lasting = [`its public address ${PublicIpAddress}`, 'the data on 75 GB of instance store'];
  expect(await losses('stop')).toEqual(['what is in memory', ...lasting]);
  expect(await losses('hibernate')).toEqual(lasting);
  expect(await losses('reboot')).toEqual(['what is in memory']);
  expect(await losses('start')).toEqual([]);

  const { AllocationId } = await ec2().send(new AllocateAddressCommand({}));
  await ec2().send(new AssociateAddressCommand({ InstanceId: instanceId, AllocationId }));
  expect(await losses('stop')).toEqual(['what is in memory', 'the data on 75 GB of instance store']);
  await ec2().send(new StopInstancesCommand({ InstanceIds: [instanceId] }));
  expect(await losses('stop')).toEqual([]);
  await ec2().send(new ReleaseAddressCommand({ AllocationId }));
});

test('it is asked first, a protected instance stays, a wrong word is refused', async () => {
  const [id, shielded] = [await launch(), await launch()];
  const protect = { InstanceId: shielded, DisableApiStop: { Value: true } };
  await ec2().send(new ModifyInstanceAttributeCommand(protect));
  const [asked, refused, wrong, none] = await Promise.all([
    change(`stop ${id}`),
    change(`stop ${shielded} --yes`),
    change(`fly ${id} --yes`),
    change('start --yes'),
  ]);
  expect(asked).toMatchObject({ code: 2, stdout: '' });
  expect(asked.stderr).toMatch(`Really stop ${id}? It loses what is in memory, its public address `);
  expect(refused).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('OperationNotPermitted') });
  const words = 'Error: "fly" is none of stop, start, reboot, hibernate\n';
  expect(wrong).toMatchObject({ code: 2, stdout: '', stderr: words });
  expect(none).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('no instance of this cookbook') });
  for (const one of [id, shielded]) expect((await describe(one))?.State?.Name).toBe('running');
});

test('Ctrl-C while waiting ends with 130; the instance stops all the same', async () => {
  const id = await launch();
  const Reservations = [{ Instances: [{ InstanceId: id, State: { Name: 'stopping' } }] }];
  const result = await change(`stop ${id} --yes`, {
    faults: [
      { operation: 'ec2:DescribeInstances', after: 2, output: { Reservations } },
      { operation: 'ec2:StopInstances', signalAfter: 'SIGINT' },
    ],
  });
  expect(result).toMatchObject({ code: 130, stdout: '' });
  expect((await describe(id))?.State?.Name).toBe('stopped');
});
