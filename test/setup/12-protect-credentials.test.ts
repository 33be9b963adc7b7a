import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CreateAccessKeyCommand, IAMClient, UpdateAccessKeyCommand } from '@aws-sdk/client-iam';
import { AssumeRoleCommand, STSClient } from '@aws-sdk/client-sts';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { type Check, protectCredentials } from '../../recipes/setup/12-protect-credentials.ts';
import { testRecipe } from '../harness.ts';
import { moto, startMoto } from '../moto.ts';
import { temporaryFolder } from '../run.ts';

const { account, run, file, folder: home } = testRecipe(import.meta);
const command = `npx tsx ${file}`;
const endpoint = process.env.COOKBOOK_LOCALSTACK as string;
/** They look like keys, and are put together here so that no search finds them in this file. */
const id = ['AKIA', 'ABCDEFGHIJKLMNOP'].join('');
const secret = ['abcdefghij/bcdefghij+', 'bcdefghijabcdefghij'].join('');

beforeEach(() => rmSync(join(home, '.aws'), { recursive: true, force: true }));

/** Writes a file with this mode. */
function put(path: string, text: string, mode = 0o600): string {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

/** A folder that holds these files. */
function project(files: Record<string, string>): string {
  const { path, remove } = temporaryFolder();
  onTestFinished(remove);
  for (const [name, text] of Object.entries(files)) put(join(path, name), text);
  return path;
}

const modeOf = (path: string) => statSync(path).mode & 0o777;

/** What a run on LocalStack finds, as JSON; it ends with 1 if not all is well. */
async function find(options: string, settings: Parameters<typeof run>[1] = {}): Promise<Check[]> {
  const { code, stdout, stderr } = await run(`${command} --json ${options}`, settings);
  const checks: Check[] = JSON.parse(stdout);
  const bad = checks.filter(({ state }) => state === 'problem' || state === 'unknown').length;
  expect({ code, stderr }).toEqual(
    bad > 0 ? { code: 1, stderr: `Error: ${bad} of these are not ok\n` } : { code: 0, stderr: '' },
  );
  return checks;
}

/** Where problems of one kind were found. */
const places = (checks: Check[], check: Check['check']) =>
  checks.filter((row) => row.check === check && row.state !== 'ok').map(({ where }) => where);

describe('files', () => {
  test('of ~/.aws that others can read or write are told, and closed by --fix only', async () => {
    const open = [
      put(join(home, '.aws/config'), '', 0o604),
      put(join(home, '.aws/credentials'), '', 0o640),
      put(join(home, '.aws/sso/cache/token.json'), '', 0o622),
    ];
    const closed = [put(join(home, '.aws/cli/cache/a.json'), '', 0o600), put(join(home, '.aws/b'), '', 0o400)];
    const own = put(join(project({}), 'elsewhere'), '', 0o644);
    const env = { AWS_SHARED_CREDENTIALS_FILE: own };
    const tilde = open.map((path) => path.replace(home, '~'));
    const where = [...tilde, own].sort();

    const found = await find('--local', { env });
    expect(places(found, 'file modes').sort()).toEqual(where);
    expect(found[0]).toEqual({
      ...{ check: 'file modes', state: 'problem', where: expect.any(String) },
      advice: expect.stringMatching(/^mode 6\d\d, open to others: chmod go= it, or --fix$/),
    });
    expect([...open, ...closed, own].map(modeOf)).toEqual([0o604, 0o640, 0o622, 0o600, 0o400, 0o644]);

    const fixed = await find('--local --fix', { env });
    expect(places(fixed, 'file modes').sort()).toEqual(where);
    expect(fixed[0]).toMatchObject({ state: 'fixed', advice: expect.stringContaining('who may have read it') });
    expect([...open, ...closed, own].map(modeOf)).toEqual([0o600, 0o600, 0o600, 0o600, 0o400, 0o600]);
    expect(places(await find('--local', { env }), 'file modes')).toEqual([]);
  });

  test('that the variables name are found as the SDK finds them', async () => {
    put(join(home, 'own/credentials'), '', 0o644);
    const env = {
      ...{
        AWS_ENDPOINT_URL: endpoint,
        AWS_REGION: 'us-east-1',
        AWS_ACCESS_KEY_ID: account,
        AWS_SECRET_ACCESS_KEY: 'a',
      },
      ...{ AWS_SHARED_CREDENTIALS_FILE: '~/own/credentials', AWS_CONFIG_FILE: '' },
    };
    expect(places(await find('', { env }), 'file modes')).toEqual(['~/own/credentials']);
  });

  test('that are executable stay so', async () => {
    const script = put(join(home, '.aws/get-key'), '', 0o755);
    expect((await find('--local --fix'))[0]).toMatchObject({ state: 'fixed', where: '~/.aws/get-key' });
    expect(modeOf(script)).toBe(0o700);
  });

  test('that are links to files are looked at where they lead, other links and pipes are left alone', async () => {
    const there = project({ credentials: '' });
    chmodSync(join(there, 'credentials'), 0o644);
    mkdirSync(join(home, '.aws'));
    symlinkSync(join(there, 'credentials'), join(home, '.aws/credentials'));
    symlinkSync(there, join(home, '.aws/folder'));
    symlinkSync('nowhere', join(home, '.aws/nothing'));
    execFileSync('mkfifo', [join(home, '.aws/pipe')]);
    const work = project({ 'src/a.ts': '' });
    execFileSync('mkfifo', [join(work, 'pipe')]);
    expect(places(await find(`'${work}' --local`), 'file modes')).toEqual(['~/.aws/credentials']);
  });

  test('that are private keys in a project are told, public keys are not', async () => {
    const work = project({
      'a.pem': '-----BEGIN RSA PRIVATE KEY-----\nMII',
      'keys/b': 'a line before\n-----BEGIN OPENSSH PRIVATE KEY-----\nb3B',
      'closed.pem': '-----BEGIN PRIVATE KEY-----\nMII',
      'c.pub': '-----BEGIN PUBLIC KEY-----\nMII',
      'notes.md': 'It begins with -----BEGIN PRIVATE KEY-----',
    });
    for (const name of ['a.pem', 'keys/b', 'c.pub', 'notes.md']) chmodSync(join(work, name), 0o644);
    const where = ['a.pem', 'keys/b'].map((name) => join(work, name));
    expect(places(await find(`'${work}' --local --fix`), 'file modes').sort()).toEqual(where);
    expect(where.map(modeOf)).toEqual([0o600, 0o600]);
    expect(modeOf(join(work, 'c.pub'))).toBe(0o644);
  });
});

test('access keys in a project are found by line and never shown', async () => {
  const work = project({
    '.env': `# mine\nAWS_ACCESS_KEY_ID=${id}\nAWS_SECRET_ACCESS_KEY=${secret}\n`,
    'src/a.ts': `new S3Client({ credentials: { accessKeyId: '${id}', secretAccessKey: "${secret}" } });`,
    'deploy.yaml': `aws:\r\n  secret_key: ${secret}\r\n`,
    'two.csv': `${id},${id.replace('AKIA', 'ASIA')},${id}\n`,
    'data.json': `{"SecretAccessKey": "${secret}", "AccessKeyId": "${id.replace('AKIA', 'ASIA')}"}`,
  });
  const { code, stdout, stderr } = await run(`${command} '${work}' --local`);
  expect(code).toBe(1);
  expect(`${stdout}${stderr}`).not.toContain(secret);
  const of = (key: string) => `the id of an access key, ${key}`;
  const rows = [...stdout.matchAll(/^keys in files +problem +(\S+) +(.*): delete it here, and in IAM if .*$/gm)];
  expect(rows.map(([, where, what]) => [where?.replace(`${work}/`, ''), what])).toEqual([
    ['.env:2', of(id)],
    ['.env:3', 'a secret access key'],
    ['data.json:1', `a secret access key, ${of(id.replace('AKIA', 'ASIA'))}`],
    ['deploy.yaml:2', 'a secret access key'],
    ['src/a.ts:1', `a secret access key, ${of(id)}`],
    ['two.csv:1', `${of(id)}, ${of(id.replace('AKIA', 'ASIA'))}`],
  ]);
});

test('what only looks like a key is not taken for one, nor is searched what the recipe says it does not search', async () => {
  const work = project({
    'examples.md': 'AKIAIOSFODNN7EXAMPLE\nsecretAccessKey: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n',
    'hash.txt': `commit ${'0123456789abcdef'.repeat(3).slice(0, 40)}\nsecretAccessKey = process.env.KEY\n`,
    'longer.txt': `X${id}\n${id}Q\nsecretAccessKey: ${secret}${secret}\n`,
    'node_modules/a/index.js': id,
    'deep/.git/config': id,
    'large.txt': `${id}\n${'x'.repeat(1_000_000)}`,
  });
  const elsewhere = project({ 'a.ts': id });
  symlinkSync(elsewhere, join(work, 'link'));
  expect(places(await find(`'${work}' --local`), 'keys in files')).toEqual([]);
});

test('~/.aws is where keys belong, even if the project is the home folder', async () => {
  put(join(home, '.aws/credentials'), `[default]\naws_access_key_id = ${id}\naws_secret_access_key = ${secret}\n`);
  const notes = put(join(home, 'notes'), id);
  onTestFinished(() => rmSync(notes));
  expect(places(await find('--local'), 'keys in files')).toEqual(['~/notes:1']);
});

const whole = {
  ...{ AWS_ENDPOINT_URL: endpoint, AWS_REGION: 'us-east-1', AWS_EC2_METADATA_DISABLED: 'true' },
  ...{ AWS_ACCESS_KEY_ID: account, AWS_SECRET_ACCESS_KEY: 'test' },
};
const access = (checks: Check[]) => checks.filter(({ check }) => check === 'user' || check === 'access keys');

test('the root user is a problem, on LocalStack only without --local', async () => {
  const arn = `arn:aws:iam::${account}:root`;
  const advice = 'the root user: use a role, or a user of your own';
  const [root] = access(await find('', { env: whole }));
  expect(root).toEqual({ check: 'user', state: 'problem', where: arn, advice });
  const [local] = access(await find('--local'));
  expect(local).toEqual({ check: 'user', state: 'ok', where: arn, advice: null });
});

test('a key of the root user is to be deleted, however new (the answer is the test’s own)', async () => {
  const output = { AccessKeyMetadata: [{ AccessKeyId: id, Status: 'Active' }] };
  const faults = [{ operation: 'iam:ListAccessKeys', output }];
  const [, key] = access(await find('', { env: whole, faults }));
  expect(key).toMatchObject({
    state: 'problem',
    where: id,
    advice: expect.stringMatching(/^of the root user, .*delete/),
  });
});

test('without credentials the files are looked at, and nothing else is wrong', async () => {
  const found = await find('', { env: { ...whole, AWS_ACCESS_KEY_ID: '' } });
  expect(access(found).map(({ state, where, advice }) => [state, where, advice?.slice(0, 11)])).toEqual([
    ['ok', null, 'none in use'],
    ['ok', null, 'none in use'],
  ]);
});

test('a session that has ended is not the same as no credentials', async () => {
  const login = 'login_session = arn:aws:iam::123456789012:user/alice';
  put(join(home, '.aws/config'), `[default]\n${login}\n`);
  const found = await find('', { env: { ...whole, AWS_ACCESS_KEY_ID: '' } });
  expect(access(found)).toMatchObject([
    { state: 'unknown', advice: expect.stringMatching(/^CredentialsProviderError: Failed to load token/) },
    { state: 'unknown' },
  ]);
});

test('what can’t be asked is unknown, with AWS’s own words', async () => {
  const error = { name: 'AccessDenied', message: 'not authorized to perform: iam:ListAccessKeys' };
  const found = await find('', { env: whole, faults: [{ operation: 'iam:ListAccessKeys', error }] });
  expect(access(found)[1]).toEqual({
    ...{ check: 'access keys', state: 'unknown', where: null },
    advice: 'AccessDenied: not authorized to perform: iam:ListAccessKeys',
  });
  const wrong = { name: 'InvalidClientTokenId', message: 'invalid' };
  const none = await find('', { env: whole, faults: [{ operation: 'sts:GetCallerIdentity', error: wrong }] });
  expect(access(none).map(({ state }) => state)).toEqual(['unknown', 'unknown']);
});

test('of a session no key is asked for', async () => {
  const config = { region: 'us-east-1', endpoint, credentials: { accessKeyId: account, secretAccessKey: 'test' } };
  const role = { RoleArn: `arn:aws:iam::${account}:role/reader`, RoleSessionName: 'test' };
  const { Credentials } = await new STSClient(config).send(new AssumeRoleCommand(role));
  const session = {
    AWS_ACCESS_KEY_ID: Credentials?.AccessKeyId as string,
    AWS_SECRET_ACCESS_KEY: Credentials?.SecretAccessKey as string,
    AWS_SESSION_TOKEN: Credentials?.SessionToken as string,
  };
  const found = await find('', { env: { ...whole, ...session } });
  expect(access(found)).toEqual([
    { check: 'user', state: 'ok', where: expect.stringContaining(':assumed-role/reader/test'), advice: null },
    {
      ...{ check: 'access keys', state: 'ok', where: session.AWS_ACCESS_KEY_ID },
      advice: 'of a session, which ends by itself',
    },
  ]);
});

describe.skipIf(!moto)('on moto server, which has users', () => {
  test('new, old and inactive keys are told apart', async () => {
    const { url, stop, ...credentials } = await startMoto();
    try {
      const config = { region: 'us-east-1', endpoint: url, credentials };
      const [sts, iam] = [new STSClient(config), new IAMClient(config)];
      const { AccessKey } = await iam.send(new CreateAccessKeyCommand({ UserName: 'admin' }));
      const second = AccessKey?.AccessKeyId as string;
      await iam.send(new UpdateAccessKeyCommand({ AccessKeyId: second, UserName: 'admin', Status: 'Inactive' }));
      const look = (options: object = {}) =>
        protectCredentials(sts, iam, { files: [], project: project({}), ...options });

      const [user, ...keys] = access(await look());
      expect(user).toMatchObject({ state: 'ok', where: expect.stringMatching(/:user\/admin$/) });
      const [first, inactive] = [credentials.accessKeyId, second].map((key) => keys.find(({ where }) => where === key));
      expect(first).toMatchObject({ state: 'ok', advice: '0 days old; of a user, so it works until it is deleted' });
      expect(inactive).toMatchObject({ state: 'problem', advice: 'inactive, 0 days old: delete it' });
      expect(keys).toHaveLength(2);

      const old = access(await look({ maxAge: 1e-9 })).find(({ where }) => where === credentials.accessKeyId);
      expect(old).toMatchObject({ state: 'problem', advice: '0 days old: replace it, or use aws login instead' });

      // The same by the command, which finds the credentials as the SDK does.
      const env = { ...whole, AWS_ENDPOINT_URL: url, AWS_ACCESS_KEY_ID: credentials.accessKeyId };
      const found = await find('', { env: { ...env, AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey } });
      expect(access(found)).toEqual([user, ...keys]);
    } finally {
      await stop();
    }
  });
});

test('no folder and no number of days are refused before anything is done', async () => {
  const open = put(join(home, '.aws/credentials'), '', 0o644);
  const [nowhere, aFile, age] = await Promise.all(
    [`nowhere --fix`, `'${open}' --fix`, '--max-age never --fix'].map((options) =>
      run(`${command} ${options} --local`),
    ),
  );
  const no = (what: string) => ({ code: 2, stdout: '', stderr: `Error: ${what}\n` });
  expect(nowhere).toEqual(no('"nowhere" is no folder that can be read: ENOENT'));
  expect(aFile).toEqual(no('"~/.aws/credentials" is no folder that can be read: ENOTDIR'));
  expect(age).toEqual(no('maxAge takes a number of days above 0, not NaN'));
  expect(modeOf(open)).toBe(0o644);
});

test('the search is ended by the signal', async () => {
  const config = { region: 'us-east-1', endpoint, credentials: { accessKeyId: account, secretAccessKey: 'test' } };
  const signal = AbortSignal.abort(new Error('enough'));
  const settings = { files: [], project: project({ a: '' }), signal };
  await expect(protectCredentials(new STSClient(config), new IAMClient(config), settings)).rejects.toThrow('enough');
});
