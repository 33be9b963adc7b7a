import {
  type CreateImageCommandInput,
  DescribeImagesCommand,
  DescribeSnapshotsCommand,
  RunInstancesCommand,
} from '@aws-sdk/client-ec2';
import { expect, test } from 'vitest';
import { createImage } from '../../recipes/ec2/26-create-image.ts';
import { withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';

const { run, file, ec2 } = testRecipe(import.meta);
const image = (options: string, settings = {}) => run(`npx tsx ${file} ${options} --local`, settings);

async function launch(): Promise<string> {
  const input = { ImageId: 'ami-0532be01f26a3de55', MinCount: 1, MaxCount: 1 };
  const { Instances } = await ec2().send(new RunInstancesCommand(input));
  return Instances?.[0]?.InstanceId as string;
}

/** Makes an image, and tells what EC2 was asked for. */
async function make(options: Partial<Parameters<typeof createImage>[1]> & { instanceId: string }) {
  const client = ec2();
  const inputs: CreateImageCommandInput[] = [];
  client.middlewareStack.add(
    (next, { commandName }) =>
      (args) => {
        if (commandName === 'CreateImageCommand') inputs.push(args.input as CreateImageCommandInput);
        return next(args);
      },
    { step: 'initialize' },
  );
  return { result: await createImage(client, options), input: inputs[0] };
}

test('the image is there under its name, and it and its snapshots are tagged', async () => {
  const instanceId = await launch();
  const { stdout } = await image(`${instanceId} --name "web (1)" --description "as of today" --json`);
  const result = JSON.parse(stdout);
  expect(result).toMatchObject({ instanceId, name: 'web (1)', state: 'available' });
  const { Images } = await ec2().send(new DescribeImagesCommand({ ImageIds: [result.imageId] }));
  const Tags = [{ Key: 'paws', Value: '2.26' }];
  expect(Images).toMatchObject([
    {
      Name: 'web (1)',
      Description: 'as of today',
      State: 'available',
      Public: false,
      SourceInstanceId: instanceId,
      Tags,
    },
  ]);
  expect(result.snapshotIds).toEqual(Images?.[0]?.BlockDeviceMappings?.map(({ Ebs }) => Ebs?.SnapshotId));
  expect(result.snapshotIds).toHaveLength(1);
  const { Snapshots } = await ec2().send(new DescribeSnapshotsCommand({ SnapshotIds: result.snapshotIds }));
  expect(Snapshots).toMatchObject([{ Tags }]);
});

test('EC2 is told not to reboot unless asked to; without tags nothing is tagged; names are made of instance and time', async () => {
  const instanceId = await launch();
  const { result, input } = await make({ instanceId });
  expect(input).toMatchObject({ NoReboot: true, Description: `Image of ${instanceId}` });
  expect(input?.TagSpecifications).toBeUndefined();
  expect(result.name).toMatch(new RegExp(`^${instanceId}-image-20\\d{12}$`));
  const { Snapshots } = await ec2().send(new DescribeSnapshotsCommand({ SnapshotIds: result.snapshotIds }));
  expect(Snapshots?.[0]?.Tags ?? []).toEqual([]);
  expect((await make({ instanceId, reboot: true })).input).toMatchObject({ NoReboot: false });
});

test('a reboot is asked about, and without an answer nothing is done', async () => {
  const instanceId = await launch();
  const asked = await image(`${instanceId} --reboot --name asked`);
  expect(asked).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining(`Reboot ${instanceId} now?`) });
  const Filters = [{ Name: 'name', Values: ['asked'] }];
  const { Images } = await ec2().send(new DescribeImagesCommand({ Filters, Owners: ['self'] }));
  expect(Images).toEqual([]);
});

test('a name that can not be is refused with the rule, before anything is made', async () => {
  const { client, sent } = withFaults(ec2());
  for (const name of ['ab', '', 'x'.repeat(129), 'a:b', 'smörgås', 'a\nb', 'a*b']) {
    const failed = createImage(client, { instanceId: 'i-0123456789abcdef0', name });
    await expect(failed, name).rejects.toThrow(RangeError);
  }
  expect(sent).toEqual([]);
  const instanceId = await launch();
  for (const name of ['abc', 'x'.repeat(128), "(a) [b] c.d/e-f'g@h_1"]) {
    expect((await createImage(ec2(), { instanceId, name })).name).toBe(name);
  }
  const [wrong, unknown] = await Promise.all([
    image(`${instanceId} --name a:b`),
    image('i-0123456789abcdef0 --name abc'),
  ]);
  expect(wrong).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('has 3 to 128 letters') });
  expect(unknown).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('InvalidInstanceID.NotFound') });
});

test('a call that is refused makes no image; each state that is an end ends the wait, with its reason', async () => {
  const instanceId = await launch();
  for (const error of ['UnauthorizedOperation', 'InvalidAMIName.Duplicate', 'IncorrectState']) {
    const { client, sent } = withFaults(ec2(), { operation: 'CreateImage', error });
    const failed = createImage(client, { instanceId });
    await expect(failed).rejects.toMatchObject({ name: error, message: error });
    expect(sent).toEqual(['DescribeInstances', 'CreateImage']);
  }
  for (const State of ['failed', 'error', 'invalid', 'deregistered']) {
    const Images = [{ State, StateReason: { Code: 'Client.X', Message: 'the volume is gone' } }];
    const { client } = withFaults(ec2(), { operation: 'DescribeImages', output: { Images } });
    const failed = createImage(client, { instanceId });
    await expect(failed, State).rejects.toThrow(
      /ami-\w+ is available: that will not come any more the volume is gone; this image is there, complete or not: ami-\w+$/,
    );
  }
});

test('of a hibernated instance none is made', async () => {
  const instanceId = await launch();
  const StateReason = { Code: 'Client.UserInitiatedHibernate' };
  const hibernated = { State: { Name: 'stopped' }, StateReason };
  const output = { Reservations: [{ Instances: [hibernated] }] };
  const { client, sent } = withFaults(ec2(), { operation: 'DescribeInstances', output });
  await expect(createImage(client, { instanceId })).rejects.toThrow(`${instanceId} is hibernated`);
  expect(sent).toEqual(['DescribeInstances']);
});

test('what fails or is aborted after the image was begun names it', async () => {
  const instanceId = await launch();
  const stop = new AbortController();
  const denied = 'UnauthorizedOperation';
  const faults = [
    { operation: 'DescribeImages', error: denied },
    { operation: 'CreateTags', error: denied },
    { operation: 'CreateImage', answered: () => stop.abort(new Error('enough')) },
  ];
  for (const fault of faults) {
    const { client } = withFaults(ec2(), fault);
    const failed = createImage(client, { instanceId, tags: { a: 'b' }, signal: stop.signal });
    const error = (await failed.catch((reason: Error) => reason)) as Error;
    expect(error.message).toMatch(/^(UnauthorizedOperation|enough); this image is there, complete or not: ami-\w{17}$/);
    const [imageId = ''] = /ami-\w+/.exec(error.message) ?? [];
    const { Images } = await ec2().send(new DescribeImagesCommand({ ImageIds: [imageId] }));
    expect(Images).toHaveLength(1);
  }
  // Aborted before, it is not begun.
  const { client, sent } = withFaults(ec2());
  await expect(createImage(client, { instanceId, signal: stop.signal })).rejects.toThrow(/^enough$/);
  expect(sent).toEqual([]);
  const interrupted = await image(instanceId, {
    faults: [{ operation: 'ec2:CreateImage', signalAfter: 'SIGINT' }],
  });
  expect(interrupted).toMatchObject({ code: 130, stdout: '' });
  expect(interrupted.stderr).toMatch(/^Interrupted\.; this image is there, complete or not: ami-\w{17}\n$/);
});
