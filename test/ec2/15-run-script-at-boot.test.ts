import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  DescribeInstanceAttributeCommand,
  DescribeInstancesCommand,
  DescribeVolumesCommand,
  EC2Client,
} from '@aws-sdk/client-ec2';
import { CreateInstanceProfileCommand, DeleteInstanceProfileCommand, IAMClient } from '@aws-sdk/client-iam';
import { SSMClient } from '@aws-sdk/client-ssm';
import { describe, expect, test } from 'vitest';
import { runScriptAtBoot } from '../../recipes/ec2/15-run-script-at-boot.ts';
import { terminateInstance } from '../../recipes/ec2/21-terminate-instance.ts';
import { makeUserData } from '../../recipes/ec2/30-make-user-data.ts';
import { cloudInit, runScripts, understand } from '../cloud-init.ts';
import { leftovers, settingsOf, testRecipe } from '../harness.ts';

const own = testRecipe(import.meta);
const { run, file, folder, ec2 } = own;
const ssm = new SSMClient(settingsOf(own));
const userData = Buffer.from('#!/bin/sh\necho hello\n');
const tags = { paws: '2.15' };
const quick = { userData, tags, seconds: 0 };

type Answer = (input: Record<string, unknown>) => object | undefined;

/** A client for which some operations are answered, or refused, by the test; and what was asked. */
function faulty(answers: Record<string, Answer>): { client: EC2Client; asked: string[] } {
  const client = new EC2Client(settingsOf(own));
  const asked: string[] = [];
  client.middlewareStack.add(
    (next, { commandName = '' }) =>
      async (args) => {
        const name = commandName.replace('Command', '');
        asked.push(name);
        const answer = answers[name]?.(args.input as Record<string, unknown>);
        if (answer instanceof Error) throw answer;
        return answer ? { output: { $metadata: {}, ...answer } as never, response: {} } : next(args);
      },
    { step: 'initialize' },
  );
  return { client, asked };
}
const failure = (name: string, message = name) => Object.assign(new Error(message), { name });
const unknownProfile = failure(
  'InvalidParameterValue',
  'Value (new) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name',
);
const noRole = failure('InvalidParameterValue', 'IAM Instance Profile "arn:…" has no associated IAM Roles');
const count = (asked: string[], name: string) => asked.filter((one) => one === name).length;

test('the instance has the files as user data, its role, IMDSv2, an encrypted volume, and tags', async () => {
  const iam = new IAMClient(settingsOf(own));
  await iam.send(new CreateInstanceProfileCommand({ InstanceProfileName: 'web' }));
  writeFileSync(join(folder, 'setup.yaml'), '#cloud-config\nhostname: web\n');
  writeFileSync(join(folder, 'start.sh'), '#!/bin/sh\necho grüß\n');
  const command = `npx tsx ${file} setup.yaml start.sh --instance-profile web --local --json`;
  const result = JSON.parse((await run(command)).stdout);
  const InstanceIds = [result.instanceId];
  expect(result).toEqual({
    instanceId: expect.stringMatching(/^i-/),
    imageId: expect.stringMatching(/^ami-/),
    state: 'running',
    userDataSize: expect.any(Number),
    cloudInitFinished: null,
    warnings: [],
  });
  const { Reservations } = await ec2().send(new DescribeInstancesCommand({ InstanceIds }));
  expect(Reservations?.[0]?.Instances?.[0]).toMatchObject({
    State: { Name: 'running' },
    InstanceType: 't3.micro',
    IamInstanceProfile: { Arn: expect.stringMatching(/:instance-profile\/web$/) },
    MetadataOptions: { HttpTokens: 'required', HttpEndpoint: 'enabled' },
    Tags: [{ Key: 'paws', Value: '2.15' }],
  });
  const Filters = [{ Name: 'attachment.instance-id', Values: InstanceIds }];
  const { Volumes } = await ec2().send(new DescribeVolumesCommand({ Filters }));
  expect(Volumes).toMatchObject([{ VolumeType: 'gp3', Encrypted: true, Tags: [{ Key: 'paws', Value: '2.15' }] }]);
  const { UserData } = await ec2().send(
    new DescribeInstanceAttributeCommand({ InstanceId: result.instanceId, Attribute: 'userData' }),
  );
  const bytes = Buffer.from(`${UserData?.Value}`, 'base64');
  expect(bytes).toHaveLength(result.userDataSize);
  if (cloudInit) {
    const { values, scripts } = understand(bytes);
    expect({ values, scripts }).toEqual({
      values: { hostname: 'web' },
      scripts: { '002-start.sh': '#!/bin/sh\necho grüß\n' },
    });
  }
  await terminateInstance(ec2(), { instanceId: result.instanceId });
  await iam.send(new DeleteInstanceProfileCommand({ InstanceProfileName: 'web' }));
});

describe('a new instance profile', () => {
  test.each([
    ['that EC2 does not know yet', unknownProfile],
    ['whose role EC2 does not know yet', noRole],
  ])('%s is tried again', async (_name, error) => {
    let calls = 0;
    const { client, asked } = faulty({ RunInstances: () => (++calls < 2 ? error : undefined) });
    const told: string[] = [];
    const more = { profileSeconds: 4, onProgress: (text: string) => told.push(text) };
    const { instanceId } = await runScriptAtBoot(client, ssm, { ...quick, ...more });
    expect(count(asked, 'RunInstances')).toBe(2);
    expect(told).toContainEqual(
      expect.stringMatching(/^launching a t3\.micro; EC2 doesn't know its profile yet: [1-9]\d* s$/),
    );
    await terminateInstance(ec2(), { instanceId });
    expect(await leftovers(own)).toEqual([]);
  });

  test('that EC2 never hears of is an error in the end', async () => {
    const { client, asked } = faulty({ RunInstances: () => unknownProfile });
    const started = Date.now();
    const failed = runScriptAtBoot(client, ssm, { ...quick, instanceProfile: 'new', profileSeconds: 1 });
    await expect(failed).rejects.toBe(unknownProfile);
    expect(Date.now() - started).toBeGreaterThanOrEqual(1000);
    expect(count(asked, 'RunInstances')).toBeGreaterThanOrEqual(2);
  });

  test('is no reason to try other errors again, and Ctrl-C ends it', async () => {
    const other = failure('InvalidParameterValue', 'Value (x) for parameter groupId is invalid.');
    const once = faulty({ RunInstances: () => other });
    await expect(runScriptAtBoot(once.client, ssm, quick)).rejects.toBe(other);
    expect(count(once.asked, 'RunInstances')).toBe(1);

    const stop = new AbortController();
    const { client } = faulty({ RunInstances: () => unknownProfile });
    setTimeout(() => stop.abort(new Error('Interrupted.')), 1000);
    const failed = runScriptAtBoot(client, ssm, { ...quick, signal: stop.signal });
    await expect(failed).rejects.toThrow('Interrupted.');
    expect(await leftovers(own)).toEqual([]);
  });
});

describe('when a step fails, the instance is gone', () => {
  test.each([
    ['RunInstances', 'InsufficientInstanceCapacity'],
    ['RunInstances', 'UnauthorizedOperation'],
    ['DescribeInstanceStatus', 'UnauthorizedOperation'],
    ['GetConsoleOutput', 'UnauthorizedOperation'],
  ])('%s: %s', async (operation, name) => {
    const { client } = faulty({ [operation]: () => failure(name) });
    await expect(runScriptAtBoot(client, ssm, quick)).rejects.toThrow(name);
    expect(await leftovers(own)).toEqual([]);
  });

  test('Ctrl-C while it waits for cloud-init', async () => {
    writeFileSync(join(folder, 'ok.sh'), '#!/bin/sh\n');
    const faults = [{ operation: 'ec2:GetConsoleOutput', signal: 'SIGINT' as const }];
    const result = await run(`npx tsx ${file} ok.sh --local`, { faults });
    expect(result).toMatchObject({ code: 130, stdout: '', stderr: expect.stringMatching(/^Interrupted\./) });
    expect(result.stderr).not.toContain('left are');
    expect(await leftovers(own)).toEqual([]);
  });

  test('an instance that EC2 does not know yet, too', async () => {
    const stop = new AbortController();
    const unknown = [failure('InvalidInstanceID.NotFound'), failure('InvalidInstanceID.NotFound')];
    const { client } = faulty({
      DescribeInstances: () => {
        stop.abort(new Error('enough'));
        return unknown.shift();
      },
    });
    await expect(runScriptAtBoot(client, ssm, { ...quick, signal: stop.signal })).rejects.toThrow(/^enough$/);
    expect(await leftovers(own)).toEqual([]);
  });

  test('or named, when it can not be terminated', async () => {
    const denied = () => failure('UnauthorizedOperation');
    const { client } = faulty({ GetConsoleOutput: denied, TerminateInstances: denied });
    const error: Error = await runScriptAtBoot(client, ssm, quick).catch((reason) => reason);
    expect(error.message).toMatch(/; left are i-\w+$/);
    await terminateInstance(ec2(), { instanceId: error.message.split(' ').at(-1) as string });
  });
});

test.each(['stopping', 'stopped'])('an instance that shut itself down and is %s is kept', async (Name) => {
  const { client, asked } = faulty({
    DescribeInstances: () => ({ Reservations: [{ Instances: [{ State: { Name } }] }] }),
    DescribeInstanceStatus: () => ({
      InstanceStatuses: [{ InstanceState: { Name }, InstanceStatus: { Status: 'not-applicable' } }],
    }),
  });
  const result = await runScriptAtBoot(client, ssm, quick);
  expect(result.state).toBe(Name);
  expect(asked).not.toContain('TerminateInstances');
  await terminateInstance(ec2(), { instanceId: result.instanceId });
  expect(await leftovers(own)).toEqual([]);
});

test.each(['shutting-down', 'terminated'])('an instance that is %s before its check is an error', async (Name) => {
  const { client } = faulty({
    DescribeInstanceStatus: () => ({
      InstanceStatuses: [{ InstanceState: { Name }, InstanceStatus: { Status: 'not-applicable' } }],
    }),
  });
  await expect(runScriptAtBoot(client, ssm, quick)).rejects.toThrow(new RegExp(`^i-\\w+ is ${Name}$`));
  expect(await leftovers(own)).toEqual([]);
});

describe('what cloud-init said', () => {
  const end =
    '[   30.1] cloud-init[2000]: Cloud-init v. 22.2.2 finished at Tue, 24 Nov 2026 09:12:40 +0000. Datasource DataSourceEc2.  Up 30.10 seconds';
  const output = (text: string) => ({ Output: Buffer.from(text).toString('base64') });

  test('is waited for, and older instances are asked for what EC2 has', async () => {
    let calls = 0;
    const inputs: unknown[] = [];
    const { client } = faulty({
      GetConsoleOutput: ({ Latest }) => {
        inputs.push(Latest);
        if (Latest) return failure('UnsupportedOperation');
        return output(++calls < 2 ? 'booting\r\n' : `booting\r\n${end}\r\n`);
      },
    });
    const result = await runScriptAtBoot(client, ssm, { ...quick, seconds: 60 });
    expect(result).toMatchObject({ cloudInitFinished: new Date('2026-11-24T09:12:40Z'), warnings: [] });
    expect(inputs).toEqual([true, false, true, false]);
    await terminateInstance(ec2(), { instanceId: result.instanceId });
  });

  test.skipIf(!cloudInit)('of a script that fails is a warning', async () => {
    const files = ['echo first', 'echo second; exit 3', 'echo third'].map((body, index) => ({
      name: `${index}.sh`,
      content: `#!/bin/sh\n${body}\n`,
    }));
    const { bytes } = makeUserData(files);
    // These are cloud-init's own words: it ran the scripts on this machine.
    const words = runScripts(bytes);
    expect(words).toMatch(/^first\nsecond\nthird\n/);
    const { client } = faulty({ GetConsoleOutput: () => output(`${words}\n${end}\n`) });
    const result = await runScriptAtBoot(client, ssm, { ...quick, userData: bytes });
    expect(result.warnings).toEqual([
      expect.stringMatching(/^cc_scripts_user\.py\[WARNING\]: Failed to run module scripts-user \(scripts in /),
    ]);
    await terminateInstance(ec2(), { instanceId: result.instanceId });
    expect(await leftovers(own)).toEqual([]);
  });
});

test('what is wrong is told before anything is made', async () => {
  const { client, asked } = faulty({ DescribeVpcs: () => ({ Vpcs: [] }) });
  const refused = (more: object) => expect(runScriptAtBoot(client, ssm, { ...quick, ...more }));
  await refused({ userData: Buffer.alloc(16_385) }).rejects.toThrow('at most 16384 bytes, not 16385');
  for (const instanceProfile of ['', 'arn:aws:iam::111122223333:instance-profile/paws'])
    await refused({ instanceProfile }).rejects.toThrow(RangeError);
  for (const seconds of [-1, Number.NaN]) await refused({ seconds }).rejects.toThrow(RangeError);
  expect(asked).toEqual([]);
  await refused({}).rejects.toThrow('create-default-vpc');
  await refused({ instanceType: 't9.huge' }).rejects.toThrow('instance types do not exist');
  expect(asked).not.toContain('RunInstances');

  writeFileSync(join(folder, 'secret.sh'), '#!/bin/sh\npassword=hunter22\n');
  const env = { AWS_ACCESS_KEY_ID: 'AKIAIOSFODNN7EXAMPLE', AWS_SECRET_ACCESS_KEY: 'x', AWS_REGION: 'us-east-1' };
  const [secret, missing, large] = await Promise.all([
    run(`npx tsx ${file} secret.sh --local`),
    run(`npx tsx ${file} missing.sh --local`),
    run(`npx tsx ${file} --instance-type p5.48xlarge`, { env }),
  ]);
  expect(secret).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('secret.sh, line 2') });
  expect(secret.stderr).not.toContain('hunter22');
  expect(missing).toMatchObject({ code: 2, stdout: '', stderr: "Error: missing.sh can't be read (ENOENT)\n" });
  expect(large).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('may cost dollars an hour') });
  expect(await leftovers(own)).toEqual([]);
});
