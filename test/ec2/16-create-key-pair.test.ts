import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { DeleteKeyPairCommand, DescribeKeyPairsCommand } from '@aws-sdk/client-ec2';
import { expect, test } from 'vitest';
import { testRecipe } from '../harness.ts';
import { startProxy } from '../proxy.ts';

const { run, file, folder, ec2 } = testRecipe(import.meta);
const create = (options: string, settings = {}) => run(`npx tsx ${file} --local --json ${options}`, settings);
const publicHalf = (path: string) =>
  execFileSync('ssh-keygen', ['-y', '-f', path]).toString().trim().split(' ').slice(0, 2);

async function known(name: string, region?: string) {
  const Filters = [{ Name: 'key-name', Values: [name] }];
  const { KeyPairs = [] } = await ec2(region).send(new DescribeKeyPairsCommand({ Filters, IncludePublicKey: true }));
  return KeyPairs;
}

test.each(['ed25519', 'rsa'])(
  'ssh-keygen reads the %s key; only the owner can; EC2 has its public half',
  async (type) => {
    const path = `${folder}/.ssh/${type}.pem`;
    const result = await create(`--key-name ${type} --key-type ${type}`);
    expect(JSON.parse(result.stdout)).toMatchObject({
      keyName: type,
      file: `~/.ssh/${type}.pem`,
      created: true,
      imported: false,
    });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(`${folder}/.ssh`).mode & 0o777).toBe(0o700);
    const [pair] = await known(type);
    expect(pair).toMatchObject({ KeyType: type, Tags: [{ Key: 'paws', Value: '2.16' }] });
    expect(pair?.PublicKey?.split(' ').slice(0, 2)).toEqual(publicHalf(path));
  },
);

test('a second run changes nothing', async () => {
  const path = `${folder}/twice.pem`;
  const first = JSON.parse((await create(`--key-name twice --file ${path}`)).stdout);
  const key = readFileSync(path, 'utf8');
  const second = JSON.parse((await create(`--key-name twice --file ${path}`)).stdout);
  expect(second).toEqual({ ...first, created: false });
  expect(readFileSync(path, 'utf8')).toBe(key);
  expect(await known('twice')).toHaveLength(1);
});

test('the file serves a second region, and EC2 again after a clean-up', async () => {
  const path = `${folder}/far.pem`;
  await create(`--key-name far --file ${path}`);
  const there = JSON.parse((await create(`--key-name far --file ${path} --region eu-west-1`)).stdout);
  expect(there).toMatchObject({ created: false, imported: true });
  expect((await known('far', 'eu-west-1'))[0]?.PublicKey?.split(' ').slice(0, 2)).toEqual(publicHalf(path));
  await ec2().send(new DeleteKeyPairCommand({ KeyName: 'far' }));
  expect(JSON.parse((await create(`--key-name far --file ${path}`)).stdout)).toMatchObject({
    imported: true,
  });
});

test('a key pair that EC2 has and does not list yet is no error', async () => {
  const path = `${folder}/young.pem`;
  const first = JSON.parse((await create(`--key-name young --file ${path}`)).stdout);
  const faults = [{ operation: 'ec2:DescribeKeyPairs', times: 1, output: { KeyPairs: [] } }];
  const again = await create(`--key-name young --file ${path}`, { faults });
  expect(JSON.parse(again.stdout)).toEqual({ ...first, created: false });
});

test('a name whose private key is elsewhere is an error, and so is one that belongs to another file', async () => {
  await create(`--key-name here --file ${folder}/here.pem`);
  const missing = await create(`--key-name here --file ${folder}/missing.pem`);
  expect(missing).toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringContaining('hands its private key out only once'),
  });
  await create(`--key-name other --file ${folder}/other.pem`);
  const other = readFileSync(`${folder}/other.pem`, 'utf8');
  const mixed = await create(`--key-name here --file ${folder}/other.pem`);
  expect(mixed).toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringContaining('another key under the name here'),
  });
  expect(readFileSync(`${folder}/other.pem`, 'utf8')).toBe(other);
});

test('a file that is no key, a folder, or one in an unwritable place costs no key pair', async () => {
  writeFileSync(`${folder}/letter.pem`, 'Dear sir');
  mkdirSync(`${folder}/folder.pem`);
  writeFileSync(`${folder}/plain`, '');
  for (const [path, code] of Object.entries({ 'letter.pem': 1, 'folder.pem': 2, 'plain/key.pem': 2 })) {
    const result = await create(`--key-name lost --file ${folder}/${path}`);
    expect(result, path).toMatchObject({ code, stdout: '' });
    expect(result.stderr, path).toMatch(/^Error: .+\n$/);
  }
  expect(readFileSync(`${folder}/letter.pem`, 'utf8')).toBe('Dear sir');
  expect(await known('lost')).toEqual([]);
});

test('when EC2 refuses, no file is left; when the key can not be saved, no key pair is', async () => {
  const path = `${folder}/refused.pem`;
  const refused = await create(`--key-name refused --file ${path}`, {
    faults: [{ operation: 'ec2:CreateKeyPair', error: { name: 'UnauthorizedOperation' } }],
  });
  expect(refused).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('The permission ec2:CreateKeyPair is missing'),
  });
  expect(() => statSync(path)).toThrow('ENOENT');

  const unsaved = await create(`--key-name unsaved --file ${folder}/unsaved.pem`, {
    faults: [{ operation: 'ec2:CreateKeyPair', output: { KeyPairId: 'key-0123456789abcdef0' } }],
  });
  expect(unsaved.code).not.toBe(0);
  expect(() => statSync(`${folder}/unsaved.pem`)).toThrow('ENOENT');
});

test('the private key is on no screen', async () => {
  const result = await create(`--key-name quiet --file ${folder}/quiet.pem --debug`);
  const line = readFileSync(`${folder}/quiet.pem`, 'utf8').split('\n')[2] as string;
  expect(result.stderr).toContain('ec2:CreateKeyPair');
  expect(result.stdout + result.stderr).not.toContain(line);
});

test('Ctrl-C: a pair that is being created is saved, and none is begun', async () => {
  const faults = [{ operation: 'ec2:CreateKeyPair', signal: 'SIGINT' as const }];
  const stopped = await create(`--key-name stopped --file ${folder}/stopped.pem`, { faults });
  expect(JSON.parse(stopped.stdout)).toMatchObject({ keyName: 'stopped', created: true });
  const [pair] = await known('stopped');
  expect(pair?.PublicKey?.split(' ').slice(0, 2)).toEqual(publicHalf(`${folder}/stopped.pem`));
  const early = await create(`--key-name early --file ${folder}/early.pem`, {
    faults: [{ operation: 'ec2:DescribeKeyPairs', signal: 'SIGINT' }],
  });
  expect(early).toMatchObject({ code: 130, stdout: '', stderr: expect.stringMatching(/^Interrupted\./) });
  expect([existsSync(`${folder}/early.pem`), await known('early')]).toEqual([false, []]);
});

test('when the answer with the private key is lost, that is said, and no file is left', async () => {
  // The second request, after DescribeKeyPairs; what the SDK sends again does not count.
  let first = 0;
  const { url } = await startProxy(({ headers }) =>
    /^attempt=1\b/.test(`${headers['amz-sdk-request']}`) && ++first === 2 ? 'lose' : null,
  );
  const result = await run(
    `npx tsx ${file} --json --key-name lost --file ${folder}/lost.pem --endpoint-url ${url} --region us-east-1`,
    { env: { AWS_SECRET_ACCESS_KEY: 'test' } },
  );
  expect(result).toMatchObject({ code: 1, stdout: '' });
  expect(result.stderr).toMatch(
    /InvalidKeyPair\.Duplicate: .* \(maybe by this run, and the answer was lost: then delete lost\)\n$/,
  );
  expect([existsSync(`${folder}/lost.pem`), (await known('lost')).length]).toEqual([false, 1]);
  // Of another run, it is only in the way.
  const faults = [{ operation: 'ec2:CreateKeyPair', error: { name: 'InvalidKeyPair.Duplicate' } }];
  expect((await create(`--key-name theirs --file ${folder}/theirs.pem`, { faults })).stderr).not.toContain('lost');
});

test('a public key is no private one, and a type that there is not costs no file', async () => {
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', `${folder}/half`]);
  const [half, type] = await Promise.all([
    create(`--key-name half --file ${folder}/half.pub`),
    create(`--key-name dsa --file ${folder}/dsa.pem --key-type dsa`),
  ]);
  expect(half).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('half.pub is a public key') });
  expect(type).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('choices are ed25519, rsa') });
  expect([await known('half'), existsSync(`${folder}/dsa.pem`)]).toEqual([[], false]);
});

test('a key pair that can neither be saved nor deleted is named', async () => {
  const result = await create(`--key-name stuck --file ${folder}/stuck.pem`, {
    faults: [
      { operation: 'ec2:CreateKeyPair', output: { KeyPairId: 'key-0123456789abcdef0' } },
      { operation: 'ec2:DeleteKeyPair', error: { name: 'UnauthorizedOperation' } },
    ],
  });
  expect(result).toMatchObject({ code: 1, stderr: expect.stringMatching(/; left are key-0123456789abcdef0\n$/) });
  expect(result.stderr).not.toContain('UnauthorizedOperation');
  expect(existsSync(`${folder}/stuck.pem`)).toBe(false);
});
