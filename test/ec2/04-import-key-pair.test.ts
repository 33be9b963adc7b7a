import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { DescribeKeyPairsCommand } from '@aws-sdk/client-ec2';
import { beforeAll, expect, test } from 'vitest';
import { findKeyPair, importKeyPair, readPublicKey } from '../../recipes/ec2/04-import-key-pair.ts';
import { testRecipe } from '../harness.ts';
import { root } from '../run.ts';

const { run, file, folder, ec2 } = testRecipe(import.meta);
const command = `npx tsx ${file} --local`;
const path = (name: string) => `${folder}/${name}`;
const passphrase = 'correct horse';
/** The key's type and its base64, as ssh-keygen has them. */
const half = (name: string) =>
  readFileSync(path(`${name}.pub`), 'utf8')
    .split(' ')
    .slice(0, 2)
    .join(' ');
const known = async (name: string, region?: string) => {
  const answer = await ec2(region).send(new DescribeKeyPairsCommand({ KeyNames: [name], IncludePublicKey: true }));
  return answer.KeyPairs?.[0];
};

/** A client whose list of key pairs is made up; all else goes to LocalStack. */
const listing = (KeyPairs: object[]) => {
  const client = ec2();
  client.middlewareStack.add(
    (next, { commandName }) =>
      (args) =>
        commandName === 'DescribeKeyPairsCommand'
          ? Promise.resolve({ output: { $metadata: {}, KeyPairs }, response: {} })
          : next(args),
    { step: 'initialize' },
  );
  return client;
};

beforeAll(() => {
  const generate = (name: string, ...options: string[]) =>
    execFileSync('ssh-keygen', ['-q', '-C', 'me@desk', '-f', path(name), ...options]);
  generate('ed25519', '-t', 'ed25519', '-N', '');
  generate('rsa', '-t', 'rsa', '-b', '2048', '-N', '');
  generate('other', '-t', 'ed25519', '-N', '');
  generate('ecdsa', '-t', 'ecdsa', '-N', '');
  generate('locked', '-t', 'ed25519', '-N', passphrase);
  generate('locked-ecdsa', '-t', 'ecdsa', '-N', passphrase);
  generate('locked-pem', '-t', 'rsa', '-b', '2048', '-m', 'PEM', '-N', passphrase);
  const convert = (name: string, format: string) =>
    execFileSync('ssh-keygen', ['-e', '-m', format, '-f', path(name)]).toString();
  for (const type of ['rsa', 'ed25519', 'ecdsa'])
    writeFileSync(path(`rfc4716-${type}`), convert(`${type}.pub`, 'RFC4716'));
  const rfc4716 = readFileSync(path('rfc4716-ed25519'), 'utf8');
  // With a header of two lines, and with line ends as on Windows.
  const long = rfc4716.replace(/^Comment: /m, 'Subject: a\\\nb\nComment: ').replaceAll('\n', '\r\n');
  writeFileSync(path('rfc4716-long'), long);
  writeFileSync(path('rfc4716-cut'), rfc4716.replace(/^AAAA.*$/m, 'AAAAC3Nz'));
  writeFileSync(path('rfc4716-empty'), rfc4716.replace(/^AAAA.*$/m, ''));
  writeFileSync(path('windows'), readFileSync(path('rsa.pub'), 'utf8').replace('\n', '\r\n'));
  writeFileSync(path('pkcs8'), execFileSync('openssl', ['genpkey', '-algorithm', 'ed25519']));
  writeFileSync(path('letter'), 'Dear sir');
  writeFileSync(path('empty'), '');
});

test('every kind of file gives the public key that ssh-keygen has of it', async () => {
  for (const [name, key] of Object.entries({
    ...{ ed25519: 'ed25519', 'ed25519.pub': 'ed25519', rsa: 'rsa', 'rsa.pub': 'rsa', windows: 'rsa' },
    ...{ 'rfc4716-rsa': 'rsa', 'rfc4716-ed25519': 'ed25519', 'rfc4716-long': 'ed25519' },
    ...{ locked: 'locked', 'locked.pub': 'locked', 'locked-pem': 'locked-pem' },
  })) {
    let asked = 0;
    const askPassphrase = async () => {
      asked++;
      return passphrase;
    };
    expect(await readPublicKey(path(name), { askPassphrase }), name).toBe(half(key));
    expect(asked, name).toBe(name === 'locked' || name === 'locked-pem' ? 1 : 0);
  }
});

test('a file that has no key for EC2 and a passphrase that is wrong or missing are told apart', async () => {
  for (const [name, words] of Object.entries({
    ...{ ecdsa: 'this one is ecdsa-sha2-nistp256', letter: 'Unsupported key format', empty: 'Unsupported key format' },
    ...{
      'rfc4716-ecdsa': 'this one is ecdsa-sha2-nistp256',
      'rfc4716-cut': "can't be read",
      'rfc4716-empty': "can't be",
    },
    ...{ pkcs8: 'Unsupported key format', '.': 'EISDIR', missing: 'ENOENT', locked: 'has a passphrase' },
  })) {
    const error = await readPublicKey(path(name)).catch((error) => error);
    expect(error, name).toBeInstanceOf(TypeError);
    expect(error.message, name).toContain(words);
  }
  for (const name of ['locked', 'locked-pem']) {
    const error = await readPublicKey(path(name), { askPassphrase: async () => 'wrong' }).catch((error) => error);
    expect(error.message).toBe(`${path(name)} can't be opened with this passphrase`);
    expect(error).not.toBeInstanceOf(TypeError);
  }
  const ecdsa = readPublicKey(path('locked-ecdsa'), { askPassphrase: async () => passphrase });
  await expect(ecdsa).rejects.toThrow('this one is ecdsa-sha2-nistp256');
});

test.each(['ed25519', 'rsa'])('EC2 has the %s key, with tags, and without the comment', async (type) => {
  const result = await importKeyPair(ec2(), {
    keyName: `mine ${type}`,
    publicKey: readFileSync(path(`${type}.pub`), 'utf8'),
    tags: { project: 'moon' },
  });
  const pair = await known(`mine ${type}`);
  const [, fingerprint] = execFileSync('ssh-keygen', ['-lf', path(type)])
    .toString()
    .split(' ');
  const { KeyPairId: keyPairId, KeyFingerprint: ec2Fingerprint } = pair ?? {};
  expect(result).toEqual({ keyName: `mine ${type}`, keyPairId, fingerprint, ec2Fingerprint, imported: true });
  expect(pair).toMatchObject({ KeyType: type, PublicKey: half(type), Tags: [{ Key: 'project', Value: 'moon' }] });
});

test('the fingerprint of an imported RSA key is what the command in the header says', async () => {
  const { ec2Fingerprint } = await importKeyPair(ec2(), { keyName: 'md5', publicKey: half('rsa') });
  const [, script = ''] = /^ \* `(ssh-keygen -ef .*)`$/m.exec(readFileSync(`${root}${file}`, 'utf8')) ?? [];
  const printed = execFileSync('sh', ['-c', script.replace('FILE', `'${path('rsa')}'`)], { stdio: 'pipe' }).toString();
  expect(ec2Fingerprint).toMatch(/^([0-9a-f]{2}:){15}[0-9a-f]{2}$/);
  expect(printed).toContain(ec2Fingerprint);
});

test('the same key again is fine, whatever its comment; another one under the name is refused and changes nothing', async () => {
  const first = await importKeyPair(ec2(), { keyName: 'twice', publicKey: half('ed25519') });
  const publicKey = `${half('ed25519')} somebody@else`;
  expect(await importKeyPair(ec2(), { keyName: 'twice', publicKey })).toEqual({ ...first, imported: false });
  const error = await importKeyPair(ec2(), { keyName: 'twice', publicKey: half('other') }).catch((error) => error);
  expect(error.name).toBe('DifferentKey');
  for (const key of ['ed25519', 'other']) {
    const [, fingerprint] = execFileSync('ssh-keygen', ['-lf', path(key)])
      .toString()
      .split(' ');
    expect(error.message).toContain(fingerprint);
  }
  expect((await known('twice'))?.PublicKey).toBe(half('ed25519'));
});

test('a run at the same moment is found out: the same key is fine, another one is not', async () => {
  // LocalStack looks for the name and takes it in two steps, EC2 in one: so here one comes after the other.
  const client = ec2();
  let last: Promise<unknown> = Promise.resolve();
  client.middlewareStack.add(
    (next, { commandName }) =>
      (args) => {
        if (commandName !== 'ImportKeyPairCommand') return next(args);
        const sent = last.then(() => next(args));
        last = sent.catch(() => {});
        return sent;
      },
    { step: 'initialize' },
  );
  const at = (publicKey: string) => importKeyPair(client, { keyName: 'race', publicKey });
  const same = await Promise.all([1, 2, 3, 4].map(() => at(half('ed25519'))));
  expect(same.filter(({ imported }) => imported)).toHaveLength(1);
  expect(new Set(same.map(({ keyPairId }) => keyPairId)).size).toBe(1);

  await expect(at(half('other'))).rejects.toThrow('another key');
});

test('what EC2 lists may lag behind: a name that is shown and free is imported, one that is taken and not shown fails', async () => {
  const stale = { KeyName: 'lag', KeyPairId: 'key-0123456789abcdef0', KeyFingerprint: '0=', PublicKey: half('other') };
  const options = { keyName: 'lag', publicKey: half('ed25519') };
  expect(await importKeyPair(listing([stale]), options)).toMatchObject({ imported: true });
  expect((await known('lag'))?.PublicKey).toBe(half('ed25519'));
  await expect(importKeyPair(listing([]), options)).rejects.toMatchObject({ name: 'InvalidKeyPair.Duplicate' });
});

test('a key pair whose key EC2 does not tell counts as another', async () => {
  const hidden = { KeyName: 'old', KeyPairId: 'key-0123456789abcdef0', KeyFingerprint: '00:11' };
  await importKeyPair(ec2(), { keyName: 'old', publicKey: half('rsa') });
  const again = importKeyPair(listing([hidden]), { keyName: 'old', publicKey: half('rsa') });
  await expect(again).rejects.toThrow('one that it does not show');
});

test('a name with a wildcard finds only itself', async () => {
  await importKeyPair(ec2(), { keyName: 'wild', publicKey: half('rsa') });
  expect(await findKeyPair(ec2(), { keyName: 'wil*' })).toBeNull();
  expect(await importKeyPair(ec2(), { keyName: 'wil*', publicKey: half('ed25519') })).toMatchObject({ imported: true });
  expect((await findKeyPair(ec2(), { keyName: 'wil*' }))?.publicKey).toBe(half('ed25519'));
});

test.each([
  ['', 'rsa'],
  [' paws', 'rsa'],
  ['paws ', 'rsa'],
  ['pfötchen', 'rsa'],
  ['a\nb', 'rsa'],
  ['x'.repeat(256), 'rsa'],
])('the name "%s" is refused before anything is sent', async (keyName, key) => {
  const refused = importKeyPair(null as never, { keyName, publicKey: half(key) });
  await expect(refused).rejects.toThrow("can't be a key pair");
});

test('at the command line: a private key stays here, tags are set, a second run changes nothing', async () => {
  const first = await run(`${command} ed25519 --key-name cli --debug --json`);
  expect(first.code).toBe(0);
  const secret = readFileSync(path('ed25519'), 'utf8').split('\n')[2] as string;
  expect(first.stderr).toContain('ec2:ImportKeyPair');
  expect(first.stdout + first.stderr).not.toContain(secret);
  expect((await known('cli'))?.Tags).toEqual([{ Key: 'paws', Value: '2.4' }]);
  const second = await run(`${command} ed25519.pub --key-name cli --json`);
  expect(JSON.parse(second.stdout)).toEqual({ ...JSON.parse(first.stdout), imported: false });
});

test('at the command line: wrong input ends with 2 and one line, another key with 1', async () => {
  const [missing, letter, locked, name] = await Promise.all(
    ['nowhere.pub', 'letter', 'locked', "rsa.pub --key-name ''"].map((words) => run(`${command} ${words}`)),
  );
  for (const result of [missing, letter, locked, name]) {
    expect(result).toMatchObject({ code: 2, stdout: '' });
    expect(result?.stderr).toMatch(/^Error: .+\n$/);
  }
  await importKeyPair(ec2(), { keyName: 'taken', publicKey: half('other') });
  expect(await run(`${command} rsa.pub --key-name taken`)).toMatchObject({
    ...{ code: 1, stdout: '', stderr: expect.stringContaining('EC2 has another key under the name taken') },
  });
});

test('in a terminal, the passphrase is asked for and not shown; a wrong one ends with 1, Ctrl-C with 130', async () => {
  const type = (keys: string) =>
    run(`${command} locked --key-name locked`, { terminal: { columns: 100, type: [['Passphrase: ', keys]] } });
  const [right, wrong, stopped] = await Promise.all([type(`${passphrase}\r`), type('wrong\r'), type('\x03')]);
  expect(right.code).toBe(0);
  expect(right.stdout).not.toContain('horse');
  expect(right.stdout).toMatch(/Undo: npx tsx recipes\/setup\/09-clean-up\.ts key-[0-9a-f]{17} --local/);
  expect((await known('locked'))?.PublicKey).toBe(half('locked'));
  expect(wrong).toMatchObject({ code: 1, stdout: expect.stringContaining("can't be opened with this passphrase") });
  expect(stopped.code).toBe(130);
});
