/**
 * 2.28 Create an instance role
 *
 * ## Problem
 * A program on your instance has to call AWS: here, to store metrics. You want no access keys on the machine, where
 * they can be read and live for ever.
 *
 * ## Solution
 * Create a role that EC2 may hand to instances, with a policy that allows one thing: to store metrics in one
 * namespace. Put it into an instance profile of the same name, which is what a launch asks for (2.15). Run it as often
 * as you like: what is there is kept, what is missing is made.
 *
 * ## Discussion
 * A program on the instance finds the role by itself, through the metadata service: any SDK does, and so does the AWS
 * CLI. Its keys change by themselves and last some hours. Every process on the machine can get them, so a role should
 * allow little. For other work put other actions into the policy.
 *
 * `cloudwatch:PutMetricData` knows no resources; what limits it is the condition `cloudwatch:namespace`. Without one,
 * a machine could write into everybody's metrics, and set off alarms.
 *
 * A role of this name that does more, that others than EC2 use, or whose namespace is another one is refused: what
 * it is for can't be known here. If a step fails, what this run made is removed again. IAM deletes a role that a running
 * instance uses, too; its programs can't call AWS any more then.
 *
 * IAM has no regions, and takes some seconds to tell all of them what is new. EC2 goes on refusing a new profile with
 * `Invalid IAM Instance Profile name` for a while, and 2.15 tries again.
 *
 * @run npx tsx recipes/ec2/28-create-instance-role.ts --local
 * @output
 *   role name         paws
 *   role arn          arn:aws:iam::000000000000:role/paws
 *   instance profile  paws
 *   namespace         Paws
 *   made              role paws, policy store-metrics, instance profile paws, role in instance profile
 * @run npx tsx recipes/ec2/28-create-instance-role.ts --local
 * @permission iam:GetRole on arn:aws:iam::*:role/ROLE
 * @permission iam:ListAttachedRolePolicies on arn:aws:iam::*:role/ROLE
 * @permission iam:ListRolePolicies on arn:aws:iam::*:role/ROLE
 * @permission iam:GetRolePolicy on arn:aws:iam::*:role/ROLE
 * @permission iam:CreateRole on arn:aws:iam::*:role/ROLE
 * @permission iam:TagRole on arn:aws:iam::*:role/ROLE
 * @permission iam:PutRolePolicy on arn:aws:iam::*:role/ROLE
 * @permission iam:PassRole on arn:aws:iam::*:role/ROLE
 * @permission iam:DeleteRolePolicy on arn:aws:iam::*:role/ROLE
 * @permission iam:DeleteRole on arn:aws:iam::*:role/ROLE
 * @permission iam:GetInstanceProfile on arn:aws:iam::*:instance-profile/ROLE
 * @permission iam:CreateInstanceProfile on arn:aws:iam::*:instance-profile/ROLE
 * @permission iam:TagInstanceProfile on arn:aws:iam::*:instance-profile/ROLE
 * @permission iam:AddRoleToInstanceProfile on arn:aws:iam::*:instance-profile/ROLE
 * @permission iam:DeleteInstanceProfile on arn:aws:iam::*:instance-profile/ROLE
 * @cost nothing
 * @undo npx tsx recipes/setup/09-clean-up.ts {roleArn} --local --yes
 * @see https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_switch-role-ec2_instance-profiles.html
 * @see https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/iam-cw-condition-keys-namespace.html
 * @see https://docs.aws.amazon.com/IAM/latest/APIReference/API_AddRoleToInstanceProfile.html
 */
import {
  AddRoleToInstanceProfileCommand,
  CreateInstanceProfileCommand,
  CreateRoleCommand,
  DeleteInstanceProfileCommand,
  DeleteRoleCommand,
  DeleteRolePolicyCommand,
  GetInstanceProfileCommand,
  GetRoleCommand,
  GetRolePolicyCommand,
  IAMClient,
  PutRolePolicyCommand,
  paginateListAttachedRolePolicies,
  paginateListRolePolicies,
  RemoveRoleFromInstanceProfileCommand,
  waitUntilInstanceProfileExists,
  waitUntilRoleExists,
} from '@aws-sdk/client-iam';
import { type Made, undo } from '../../shared/undo.ts';
import { waitFor } from '../../shared/wait.ts';
import { tryAgain } from '../s3/13-helpers/try-again.ts';

export interface InstanceRole {
  roleName: string;
  roleArn: string;
  /** What to launch an instance with. Its name is the role's. */
  instanceProfile: string;
  /** The one namespace that metrics may be stored in. */
  namespace: string;
  /** What was missing and has been made; empty when all was there. */
  made: string[];
}

const policyName = 'store-metrics';

/**
 * Creates a role for instances, and its instance profile, that may store metrics in one namespace and nothing else.
 *
 * @param iam - Of any region.
 * @param options.roleName - Name of the role and of the instance profile. `paws` by default.
 * @param options.namespace - The namespace of the metrics. `Paws` by default.
 * @param options.tags - Tags to put on a role and a profile that are created. None by default.
 * @param options.signal - Aborts the work; what was made is removed again.
 * @param options.onProgress - Called with a text for people.
 * @returns The role, and what had to be made.
 * @throws RangeError when a name can't be. Error when the role or the profile is there for something else. The SDK's
 *   error of the step that failed, once what was made is removed; its message names what is left.
 * @see https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_switch-role-ec2_instance-profiles.html
 *
 * @example
 * const iam = new IAMClient({});
 * const { instanceProfile } = await createInstanceRole(iam, { roleName: 'web', namespace: 'Shop/Web' });
 * console.log(`launch with the instance profile ${instanceProfile}`);
 */
export async function createInstanceRole(
  iam: IAMClient,
  {
    roleName = 'paws',
    namespace = 'Paws',
    tags = {},
    signal,
    onProgress,
  }: {
    roleName?: string;
    namespace?: string;
    tags?: Record<string, string>;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  } = {},
): Promise<InstanceRole> {
  if (!/^[\w+=,.@-]{1,64}$/.test(roleName))
    throw new RangeError(`a role's name has 1 to 64 letters, digits and _ + = , . @ -, not "${roleName}"`);
  if (!/^(?!AWS\/|:)[\w./#: -]{1,255}$/.test(namespace))
    throw new RangeError(`a namespace has letters, digits and . - _ / # : and is not AWS's own, not "${namespace}"`);
  const [RoleName, InstanceProfileName] = [roleName, roleName];
  const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));

  // All is looked at before anything is made. What is there for something else is left alone.
  const role = await findRole(iam, { roleName, namespace });
  const profile = await findProfile(iam, roleName);
  const other = profile?.role !== roleName && profile?.role;
  if (other) throw new Error(`there is an instance profile ${roleName} with the role ${other}: choose another name`);

  const made: Made[] = [];
  // What was created this moment may be unknown to the part of IAM that answers the next call.
  const known = { passing: ['NoSuchEntityException'], signal };
  try {
    onProgress?.(`creating what is missing of ${roleName}`);
    signal?.throwIfAborted();
    let roleArn = role?.arn;
    if (!roleArn) {
      const AssumeRolePolicyDocument = JSON.stringify(trustOf(await iam.config.region()));
      const { Role } = await iam.send(new CreateRoleCommand({ RoleName, AssumeRolePolicyDocument, Tags }));
      roleArn = Role?.Arn as string;
      made.push({ id: `role ${roleName}`, remove: () => iam.send(new DeleteRoleCommand({ RoleName })) });
      await waitFor(waitUntilRoleExists, iam, { RoleName }, { until: `role ${roleName} is known`, signal });
    }

    signal?.throwIfAborted();
    if (!role?.allowed) {
      const PolicyName = policyName;
      const PolicyDocument = JSON.stringify(policyFor(namespace));
      await tryAgain(() => iam.send(new PutRolePolicyCommand({ RoleName, PolicyName, PolicyDocument })), known);
      const remove = () => iam.send(new DeleteRolePolicyCommand({ RoleName, PolicyName }));
      made.push({ id: `policy ${policyName}`, remove });
    }

    signal?.throwIfAborted();
    if (!profile) {
      await iam.send(new CreateInstanceProfileCommand({ InstanceProfileName, Tags }));
      const remove = () => iam.send(new DeleteInstanceProfileCommand({ InstanceProfileName }));
      made.push({ id: `instance profile ${roleName}`, remove });
      const until = `instance profile ${roleName} is known`;
      await waitFor(waitUntilInstanceProfileExists, iam, { InstanceProfileName }, { until, signal });
    }

    signal?.throwIfAborted();
    if (!profile?.role) {
      // The last step: it needs no undoing.
      await tryAgain(() => iam.send(new AddRoleToInstanceProfileCommand({ InstanceProfileName, RoleName })), known);
    }
    const all = [...made.map(({ id }) => id), ...(profile?.role ? [] : ['role in instance profile'])];
    return { roleName, roleArn, instanceProfile: InstanceProfileName, namespace, made: all };
  } catch (error) {
    throw await undo(made, error, { onProgress });
  }
}

/**
 * Deletes a role that `createInstanceRole` made, with its policy and the instance profile of its name, whoever made that.
 * Instances that run with it can't call AWS any more.
 *
 * @param iam - Of any region.
 * @param options.roleName - Name of the role.
 * @throws NoSuchEntityException when there is no such role. Error, before anything is deleted, when it has policies
 *   that `createInstanceRole` didn't make. DeleteConflictException when it is in another instance profile, too.
 * @see https://docs.aws.amazon.com/IAM/latest/APIReference/API_DeleteRole.html
 *
 * @example
 * const iam = new IAMClient({});
 * await deleteInstanceRole(iam, { roleName: 'web' });
 * console.log('gone');
 */
export async function deleteInstanceRole(iam: IAMClient, { roleName }: { roleName: string }): Promise<void> {
  const [RoleName, InstanceProfileName] = [roleName, roleName];
  const others = (await listPolicies(iam, roleName)).filter((name) => name !== policyName);
  if (others.length > 0) throw new Error(`role ${roleName} is for more than metrics: it has ${others.join(', ')}`);
  // Of a role that was only half made, or half deleted, some of this isn't there.
  const profile = await findProfile(iam, roleName);
  if (profile?.role === roleName) {
    await iam.send(new RemoveRoleFromInstanceProfileCommand({ InstanceProfileName, RoleName }));
    profile.role = null;
  }
  if (profile?.role === null) await iam.send(new DeleteInstanceProfileCommand({ InstanceProfileName }));
  await unlessMissing(iam.send(new DeleteRolePolicyCommand({ RoleName, PolicyName: policyName })));
  await iam.send(new DeleteRoleCommand({ RoleName }));
}

/** Who may use the role: EC2, which has another name in China. */
function trustOf(region: string) {
  const Service = region.startsWith('cn-') ? 'ec2.amazonaws.com.cn' : 'ec2.amazonaws.com';
  return { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal: { Service }, Action: 'sts:AssumeRole' }] };
}

const policyFor = (namespace: string) => ({
  Version: '2012-10-17',
  Statement: [
    {
      Effect: 'Allow',
      Action: 'cloudwatch:PutMetricData',
      Resource: '*',
      Condition: { StringEquals: { 'cloudwatch:namespace': namespace } },
    },
  ],
});

/** The role, if it is there, and whether it has its policy. */
async function findRole(
  iam: IAMClient,
  { roleName, namespace }: { roleName: string; namespace: string },
): Promise<{ arn: string; allowed: boolean } | null> {
  const RoleName = roleName;
  const answer = await unlessMissing(iam.send(new GetRoleCommand({ RoleName })));
  if (!answer?.Role) return null;
  const refuse = (why: string) => new Error(`there is a role ${roleName}, and it ${why}: choose another name`);
  const trust = trustOf(await iam.config.region());
  if (!isSame(answer.Role.AssumeRolePolicyDocument, trust)) throw refuse('is not for EC2 alone');
  const policies = await listPolicies(iam, roleName);
  const others = policies.filter((name) => name !== policyName);
  if (others.length > 0) throw refuse(`may do more, by ${others.join(', ')}`);
  if (policies.length > 0) {
    const { PolicyDocument } = await iam.send(new GetRolePolicyCommand({ RoleName, PolicyName: policyName }));
    if (!isSame(PolicyDocument, policyFor(namespace))) throw refuse(`may do something else than write to ${namespace}`);
  }
  return { arn: answer.Role.Arn as string, allowed: policies.length > 0 };
}

/** The instance profile, if it is there, and the role in it: one at most. */
async function findProfile(iam: IAMClient, name: string): Promise<{ role: string | null } | null> {
  const answer = await unlessMissing(iam.send(new GetInstanceProfileCommand({ InstanceProfileName: name })));
  return answer?.InstanceProfile ? { role: answer.InstanceProfile.Roles?.[0]?.RoleName ?? null } : null;
}

/** Names of all the policies that a role has, its own and attached ones. */
async function listPolicies(iam: IAMClient, RoleName: string): Promise<string[]> {
  const names: string[] = [];
  for await (const { AttachedPolicies = [] } of paginateListAttachedRolePolicies({ client: iam }, { RoleName })) {
    names.push(...AttachedPolicies.map(({ PolicyName }) => PolicyName as string));
  }
  for await (const { PolicyNames = [] } of paginateListRolePolicies({ client: iam }, { RoleName })) {
    names.push(...PolicyNames);
  }
  return names;
}

/** Whether IAM's text of a policy, which is URL-encoded, says the same. */
function isSame(text: string | undefined, document: object): boolean {
  return JSON.stringify(JSON.parse(decodeURIComponent(text ?? '{}'))) === JSON.stringify(document);
}

async function unlessMissing<Answer>(call: Promise<Answer>): Promise<Answer | null> {
  try {
    return await call;
  } catch (error) {
    if ((error as Error).name === 'NoSuchEntityException') return null;
    throw error;
  }
}

// ---- command line: leave out when copying ----
import { connect, interrupted, print, progress, recipe, sayUndo, tags } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .option('--role-name <name>', 'name of the role and its instance profile', 'paws')
    .option('--namespace <name>', 'the namespace that metrics may be stored in', 'Paws')
    .action(async (options) => {
      const more = { tags: tags(), signal: interrupted(), onProgress: progress };
      const result = await createInstanceRole(connect(IAMClient), { ...options, ...more });
      print(result);
      // What undoes it deletes all four.
      if (result.made.length === 4) sayUndo(result);
    }),
);
