import { DescribeSecurityGroupsCommand } from '@aws-sdk/client-ec2';
import { expect, test } from 'vitest';
import { allowSsh } from '../../recipes/ec2/17-allow-ssh.ts';
import { withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';

const { run, file, ec2 } = testRecipe(import.meta);
const allow = (options: string, settings = {}) => run(`npx tsx ${file} --local ${options}`, settings);

async function groups(name: string) {
  const Filters = [{ Name: 'group-name', Values: [name] }];
  const { SecurityGroups = [] } = await ec2().send(new DescribeSecurityGroupsCommand({ Filters }));
  return SecurityGroups;
}

test('port 22 is open for that address and nothing else, and a second run changes nothing', async () => {
  const first = JSON.parse((await allow('--cidr 203.0.113.25/32 --group-name one --json')).stdout);
  expect(first).toMatchObject({ created: true, ruleId: expect.stringMatching(/^sgr-/) });
  const before = await groups('one');
  expect(before).toMatchObject([
    {
      GroupId: first.groupId,
      Tags: [{ Key: 'paws', Value: '2.17' }],
      IpPermissions: [{ IpProtocol: 'tcp', FromPort: 22, ToPort: 22, IpRanges: [{ CidrIp: '203.0.113.25/32' }] }],
    },
  ]);
  const second = JSON.parse((await allow('--cidr 203.0.113.25/32 --group-name one --json')).stdout);
  expect(second).toEqual({ ...first, created: false, ruleId: null });
  expect(await groups('one')).toEqual(before);
});

test('host bits are set to zero, so that the same network is the same rule', async () => {
  const [first, second] = [
    JSON.parse((await allow('--cidr 198.51.100.77/20 --group-name bits --json')).stdout),
    JSON.parse((await allow('--cidr 198.51.96.1/20 --group-name bits --json')).stdout),
  ];
  expect(first.cidr).toBe('198.51.96.0/20');
  expect(second).toMatchObject({ cidr: '198.51.96.0/20', ruleId: null });
});

test('IPv6 is let in too', async () => {
  await allow('--cidr 2001:db8::/64 --group-name six');
  const [group] = await groups('six');
  expect(group?.IpPermissions?.[0]?.Ipv6Ranges).toMatchObject([{ CidrIpv6: '2001:db8::/64' }]);
  const again = await allow('--cidr 2001:DB8:0:0:9::1/64 --group-name six --json');
  expect(JSON.parse(again.stdout)).toMatchObject({ cidr: '2001:db8::/64', ruleId: null });
});

test('an IPv6 network is written as EC2 writes it, however it is given', async () => {
  const { client } = withFaults(
    ec2(),
    { operation: 'DescribeSecurityGroups', output: { SecurityGroups: [{ GroupId: 'sg-1', GroupName: 'paws' }] } },
    { operation: 'AuthorizeSecurityGroupIngress', output: { SecurityGroupRules: [{ SecurityGroupRuleId: 'sgr-1' }] } },
  );
  for (const [cidr, written] of Object.entries({
    '2001:DB8::1/64': '2001:db8::/64',
    '2001:db8::1/0': '::/0',
    '2001:db8::/10': '2000::/10',
    '2001:db8:ffff::/33': '2001:db8:8000::/33',
    '2001:db8:0:0:1:0:ffff:ffff/112': '2001:db8::1:0:ffff:0/112',
    '2001:0DB8:0:0000::1/128': '2001:db8::1/128',
    '::ffff:192.0.2.1/128': '::ffff:c000:201/128',
    '::/128': '::/128',
  })) {
    expect((await allowSsh(client, { cidr, vpcId: 'vpc-1' })).cidr, cidr).toBe(written);
  }
});

test('a name with * in it opens no other group', async () => {
  await allow('--cidr 203.0.113.1/32 --group-name starry');
  const before = await groups('starry');
  const result = JSON.parse((await allow(`--cidr 203.0.113.2/32 --group-name 'star*' --json`)).stdout);
  expect(result).toMatchObject({ groupName: 'star*', created: true });
  expect(await groups('starry')).toEqual(before);
});

test('a name in other letters is the same group, as for EC2', async () => {
  const { groupId } = JSON.parse((await allow('--cidr 203.0.113.1/32 --group-name Capital --json')).stdout);
  const result = JSON.parse((await allow('--cidr 203.0.113.2/32 --group-name capital --json')).stdout);
  expect(result).toMatchObject({ groupId, groupName: 'Capital', created: false });
});

test.each([
  '203.0.113.25',
  '203.0.113.256/32',
  '203.0.113.0/33',
  'home/8',
  '2001:db8::/129',
  'fe80::1%lo/64',
  '/8',
  '1.2.3.4/-1',
])('%s is refused, before anything is sent', async (cidr) => {
  const result = await allow(`--cidr=${cidr} --calls`);
  expect(result).toMatchObject({ code: 2, stdout: '' });
  expect(result.stderr).toBe(`Error: "${cidr}" is no CIDR such as 203.0.113.25/32\n`);
});

test('neither or both of --cidr and --my-ip are refused', async () => {
  for (const options of ['', '--my-ip --cidr 203.0.113.25/32']) {
    expect(await allow(options)).toEqual({ code: 2, stdout: '', stderr: 'Error: give --cidr or --my-ip\n' });
  }
});

test('the whole world is let in only after confirmation', async () => {
  for (const cidr of ['0.0.0.0/0', '::/0']) {
    const result = await allow(`--cidr ${cidr} --group-name world`);
    expect(result).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('--yes') });
  }
  expect(await groups('world')).toEqual([]);
  expect(await allow('--cidr 0.0.0.0/0 --group-name world --yes')).toMatchObject({ code: 0 });
  expect(await groups('world')).toHaveLength(1);
});

test('a group of its own is removed again when the rule is refused; one that was there stays', async () => {
  const faults = [
    { operation: 'ec2:AuthorizeSecurityGroupIngress', error: { name: 'RulesPerSecurityGroupLimitExceeded' } },
  ];
  const result = await allow('--cidr 203.0.113.1/32 --group-name fresh', { faults });
  expect(result).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('RulesPerSecurityGroupLimitExceeded'),
  });
  expect(await groups('fresh')).toEqual([]);
  await allow('--cidr 203.0.113.1/32 --group-name kept');
  expect(await allow('--cidr 203.0.113.2/32 --group-name kept', { faults })).toMatchObject({ code: 1 });
  expect(await groups('kept')).toHaveLength(1);

  // One that can't be removed is named, and so is what went wrong first.
  const stuck = [...faults, { operation: 'ec2:DeleteSecurityGroup', error: { name: 'UnauthorizedOperation' } }];
  const { code, stderr } = await allow('--cidr 203.0.113.1/32 --group-name stuck', { faults: stuck });
  const [group] = await groups('stuck');
  expect(code).toBe(1);
  expect(stderr).toMatch(/AuthorizeSecurityGroupIngress failed: RulesPerSecurityGroupLimitExceeded: /);
  expect(stderr).toContain(`; left are ${group?.GroupId}\n`);
});

test('an account without a default VPC is told what to do', async () => {
  const faults = [{ operation: 'ec2:DescribeVpcs', output: { Vpcs: [] } }];
  const result = await allow('--cidr 203.0.113.1/32', { faults });
  expect(result).toMatchObject({ code: 1, stderr: expect.stringContaining('create-default-vpc') });
});

test('--my-ip asks nobody outside with --local, and checkip.amazonaws.com without', async () => {
  const local = await allow('--my-ip --json');
  expect(JSON.parse(local.stdout)).toMatchObject({ cidr: '127.0.0.1/32' });
  const env = {
    AWS_ACCESS_KEY_ID: 'AKIAIOSFODNN7EXAMPLE',
    AWS_SECRET_ACCESS_KEY: 'x',
    AWS_REGION: 'us-east-1',
  };
  const real = await run(`npx tsx ${file} --my-ip`, { env });
  expect(real.stderr).toContain('REFUSED BY THE TESTS: a connection to checkip.amazonaws.com');
  expect(real.code).toBe(1);
});
