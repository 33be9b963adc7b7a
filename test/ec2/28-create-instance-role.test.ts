import {
  AddRoleToInstanceProfileCommand,
  AttachRolePolicyCommand,
  CreateInstanceProfileCommand,
  CreateRoleCommand,
  DeleteInstanceProfileCommand,
  DeleteRolePolicyCommand,
  DetachRolePolicyCommand,
  GetInstanceProfileCommand,
  GetRoleCommand,
  GetRolePolicyCommand,
  IAMClient,
  ListInstanceProfilesCommand,
  ListRolesCommand,
  PutRolePolicyCommand,
  RemoveRoleFromInstanceProfileCommand,
} from '@aws-sdk/client-iam';
import { describe, expect, test } from 'vitest';
import { createInstanceRole, deleteInstanceRole } from '../../recipes/ec2/28-create-instance-role.ts';
import { settingsOf, testRecipe } from '../harness.ts';

const own = testRecipe(import.meta);
const { run, file } = own;
const iam = new IAMClient(settingsOf(own));

/** A client for which something else happens at an operation: an error in place of the answer, or a call after it. */
function faulty(faults: Record<string, string | (() => void)>, times = Number.POSITIVE_INFINITY): IAMClient {
  let left = times;
  const client = new IAMClient(settingsOf(own));
  client.middlewareStack.add(
    (next, { commandName = '' }) =>
      async (args) => {
        const fault = faults[commandName.replace('Command', '')];
        if (typeof fault === 'string' && left-- > 0) {
          const $metadata = { httpStatusCode: 400 };
          throw Object.assign(new Error(`${fault} it is`), { name: fault, $metadata });
        }
        const answer = await next(args);
        if (typeof fault === 'function') fault();
        return answer;
      },
    { step: 'initialize' },
  );
  return client;
}

/** Names of the roles and instance profiles that are there. */
async function left(): Promise<string[]> {
  const { Roles = [] } = await iam.send(new ListRolesCommand({}));
  const { InstanceProfiles = [] } = await iam.send(new ListInstanceProfilesCommand({}));
  return [
    ...Roles.map(({ RoleName }) => `role ${RoleName}`),
    ...InstanceProfiles.map((one) => `profile ${one.InstanceProfileName}`),
  ];
}

const makeRole = (RoleName: string, Service: string) => {
  const Statement = [{ Effect: 'Allow', Principal: { Service }, Action: 'sts:AssumeRole' }];
  const AssumeRolePolicyDocument = JSON.stringify({ Version: '2012-10-17', Statement });
  return iam.send(new CreateRoleCommand({ RoleName, AssumeRolePolicyDocument }));
};

test('EC2 alone may use the role, it may store metrics in one namespace, and both things are tagged', async () => {
  const { stdout } = await run(`npx tsx ${file} --role-name web --namespace Shop/Web --local --json`);
  expect(JSON.parse(stdout)).toEqual({
    roleName: 'web',
    roleArn: `arn:aws:iam::${own.account}:role/web`,
    instanceProfile: 'web',
    namespace: 'Shop/Web',
    made: ['role web', 'policy store-metrics', 'instance profile web', 'role in instance profile'],
  });
  const { Role } = await iam.send(new GetRoleCommand({ RoleName: 'web' }));
  const tag = [{ Key: 'paws', Value: '2.28' }];
  expect(Role?.Tags).toEqual(tag);
  expect(JSON.parse(decodeURIComponent(`${Role?.AssumeRolePolicyDocument}`)).Statement).toEqual([
    { Effect: 'Allow', Principal: { Service: 'ec2.amazonaws.com' }, Action: 'sts:AssumeRole' },
  ]);
  const policy = await iam.send(new GetRolePolicyCommand({ RoleName: 'web', PolicyName: 'store-metrics' }));
  expect(JSON.parse(decodeURIComponent(`${policy.PolicyDocument}`)).Statement).toEqual([
    {
      Effect: 'Allow',
      Action: 'cloudwatch:PutMetricData',
      Resource: '*',
      Condition: { StringEquals: { 'cloudwatch:namespace': 'Shop/Web' } },
    },
  ]);
  const profile = await iam.send(new GetInstanceProfileCommand({ InstanceProfileName: 'web' }));
  expect(profile.InstanceProfile).toMatchObject({ Tags: tag, Roles: [{ RoleName: 'web' }] });
  await deleteInstanceRole(iam, { roleName: 'web' });
  expect(await left()).toEqual([]);
});

test('in China, EC2 has another name', async () => {
  const china = new IAMClient(settingsOf(own, 'cn-north-1'));
  await createInstanceRole(china);
  const { Role } = await china.send(new GetRoleCommand({ RoleName: 'paws' }));
  expect(decodeURIComponent(`${Role?.AssumeRolePolicyDocument}`)).toContain('"Service":"ec2.amazonaws.com.cn"');
  expect((await createInstanceRole(china)).made).toEqual([]);
  await deleteInstanceRole(china, { roleName: 'paws' });
});

test('a second run makes nothing, and what is missing is made', async () => {
  const options = { roleName: 'twice', tags: { a: 'b' } };
  const { made } = await createInstanceRole(iam, options);
  expect(made).toHaveLength(4);
  expect((await createInstanceRole(iam, options)).made).toEqual([]);
  const names = { InstanceProfileName: 'twice', RoleName: 'twice' };
  await iam.send(new RemoveRoleFromInstanceProfileCommand(names));
  expect((await createInstanceRole(iam, options)).made).toEqual(['role in instance profile']);
  await iam.send(new RemoveRoleFromInstanceProfileCommand(names));
  await iam.send(new DeleteInstanceProfileCommand(names));
  // What is half there is deleted as well as what is whole.
  await deleteInstanceRole(iam, { roleName: 'twice' });
  expect(await left()).toEqual([]);
  await expect(deleteInstanceRole(iam, { roleName: 'twice' })).rejects.toThrow(
    expect.objectContaining({ name: 'NoSuchEntityException' }),
  );
});

describe('when a step fails, what the run made is gone', () => {
  const steps: [string, string][] = [
    ['CreateRole', 'LimitExceededException'],
    ['CreateRole', 'EntityAlreadyExistsException'],
    ['PutRolePolicy', 'AccessDenied'],
    ['PutRolePolicy', 'MalformedPolicyDocumentException'],
    ['CreateInstanceProfile', 'LimitExceededException'],
    ['CreateInstanceProfile', 'EntityAlreadyExistsException'],
    ['AddRoleToInstanceProfile', 'AccessDenied'],
    ['AddRoleToInstanceProfile', 'UnmodifiableEntityException'],
  ];
  test.each(steps)('%s: %s', async (operation, name) => {
    const failed = createInstanceRole(faulty({ [operation]: name }), { roleName: 'failing' });
    await expect(failed).rejects.toThrow(expect.objectContaining({ name, message: `${name} it is` }));
    expect(await left()).toEqual([]);
  });

  test.each(['GetInstanceProfile', 'CreateRole', 'PutRolePolicy', 'CreateInstanceProfile'])(
    'Ctrl-C during %s',
    async (operation) => {
      const stop = new AbortController();
      const client = faulty({ [operation]: () => stop.abort(new Error('Interrupted.')) });
      await expect(createInstanceRole(client, { signal: stop.signal })).rejects.toThrow('Interrupted.');
      expect(await left()).toEqual([]);
    },
  );

  test('as a command', async () => {
    const faults = [{ operation: 'iam:AddRoleToInstanceProfile', error: { name: 'AccessDenied' } }];
    const result = await run(`npx tsx ${file} --local`, { faults });
    expect(result).toMatchObject({ code: 1, stdout: '' });
    expect(result.stderr).toContain('permission iam:AddRoleToInstanceProfile is missing');
    expect(await left()).toEqual([]);
  });
});

test('what one part of IAM does not know yet is tried again', async () => {
  for (const operation of ['PutRolePolicy', 'AddRoleToInstanceProfile']) {
    const unknown = faulty({ [operation]: 'NoSuchEntityException' }, 1);
    expect((await createInstanceRole(unknown, { roleName: 'new' })).made).toHaveLength(4);
    await deleteInstanceRole(iam, { roleName: 'new' });
  }
});

test('when a step fails, what was there before is as it was; what can not be removed is named', async () => {
  await makeRole('mine', 'ec2.amazonaws.com');
  const client = faulty({ AddRoleToInstanceProfile: 'AccessDenied' });
  await expect(createInstanceRole(client, { roleName: 'mine' })).rejects.toThrow('AccessDenied');
  expect(await left()).toEqual(['role mine']);
  const stuck = faulty({ AddRoleToInstanceProfile: 'AccessDenied', DeleteInstanceProfile: 'AccessDenied' });
  await expect(createInstanceRole(stuck, { roleName: 'mine' })).rejects.toThrow(
    'AccessDenied it is; left are instance profile mine, policy store-metrics',
  );
  expect(await left()).toEqual(['role mine', 'profile mine']);
  await deleteInstanceRole(iam, { roleName: 'mine' });
  expect(await left()).toEqual([]);
});

test('what is there for something else is refused and left as it is', async () => {
  const create = (roleName: string, namespace?: string) => createInstanceRole(iam, { roleName, namespace });
  await makeRole('lambda', 'lambda.amazonaws.com');
  await expect(create('lambda')).rejects.toThrow('there is a role lambda, and it is not for EC2 alone');

  await create('one', 'One');
  await expect(create('one', 'Two')).rejects.toThrow('may do something else than write to Two');

  const admin = { RoleName: 'admin', PolicyArn: 'arn:aws:iam::aws:policy/AdministratorAccess' };
  await create('admin');
  await iam.send(new AttachRolePolicyCommand(admin));
  await expect(create('admin')).rejects.toThrow('may do more, by AdministratorAccess');
  const before = await left();
  await expect(deleteInstanceRole(iam, { roleName: 'admin' })).rejects.toThrow('it has AdministratorAccess');
  const { InstanceProfile } = await iam.send(new GetInstanceProfileCommand({ InstanceProfileName: 'admin' }));
  expect(InstanceProfile?.Roles).toHaveLength(1);

  const names = { InstanceProfileName: 'other', RoleName: 'lambda' };
  await iam.send(new CreateInstanceProfileCommand(names));
  await iam.send(new AddRoleToInstanceProfileCommand(names));
  await expect(create('other')).rejects.toThrow('there is an instance profile other with the role lambda');
  expect((await left()).sort()).toEqual([...before, 'profile other'].sort());
  // Nor is a profile deleted that has another role.
  await makeRole('other', 'ec2.amazonaws.com');
  await deleteInstanceRole(iam, { roleName: 'other' });
  expect((await left()).sort()).toEqual([...before, 'profile other'].sort());

  await iam.send(new DetachRolePolicyCommand(admin));
  await iam.send(new RemoveRoleFromInstanceProfileCommand(names));
  await iam.send(new DeleteInstanceProfileCommand(names));
  for (const roleName of ['lambda', 'one', 'admin']) await deleteInstanceRole(iam, { roleName });
  expect(await left()).toEqual([]);
});

test('policies that come in pages are all seen', async () => {
  const small = new IAMClient(settingsOf(own));
  const paged =
    (next: (args: never) => Promise<never>) =>
    ({ input }: { input: object }) =>
      next({ input: { ...input, MaxItems: 1 } } as never);
  small.middlewareStack.add(paged as never, { step: 'initialize' });
  await createInstanceRole(iam, { roleName: 'many' });
  const Statement = [{ Effect: 'Allow', Action: 's3:GetObject', Resource: '*' }];
  const PolicyDocument = JSON.stringify({ Version: '2012-10-17', Statement });
  const many = { RoleName: 'many', PolicyName: 'z', PolicyDocument };
  await iam.send(new PutRolePolicyCommand(many));
  const attached = ['ReadOnlyAccess', 'SecurityAudit'].map((name) => `arn:aws:iam::aws:policy/${name}`);
  for (const PolicyArn of attached) await iam.send(new AttachRolePolicyCommand({ ...many, PolicyArn }));
  await expect(createInstanceRole(small, { roleName: 'many' })).rejects.toThrow('by ReadOnlyAccess, SecurityAudit, z:');
  for (const PolicyArn of attached) await iam.send(new DetachRolePolicyCommand({ ...many, PolicyArn }));
  await iam.send(new DeleteRolePolicyCommand(many));
  await deleteInstanceRole(small, { roleName: 'many' });
  expect(await left()).toEqual([]);
});

test('names that can not be are refused before any request', async () => {
  const none = { send: () => expect.fail('sent') } as unknown as IAMClient;
  for (const roleName of ['', 'a b', 'role/path', 'x'.repeat(65)])
    await expect(createInstanceRole(none, { roleName })).rejects.toThrow(RangeError);
  for (const namespace of ['', 'AWS/EC2', ':a', 'a*', `\${aws:userid}`, 'x'.repeat(256)])
    await expect(createInstanceRole(none, { namespace })).rejects.toThrow(RangeError);
  const result = await run(`npx tsx ${file} --namespace AWS/EC2 --local`);
  expect(result).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('not "AWS/EC2"') });
});
