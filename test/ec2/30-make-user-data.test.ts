import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { diskUsageFiles, makeUserData } from '../../recipes/ec2/30-make-user-data.ts';
import { checkSchema, cloudInit, understand } from '../cloud-init.ts';
import { testRecipe } from '../harness.ts';

const { run, file, folder } = testRecipe(import.meta);
const withCloudInit = test.skipIf(!cloudInit);
const shellcheck = spawnSync('shellcheck', ['--version'], { stdio: 'ignore' }).status === 0;
if (!shellcheck) console.warn('The scripts of 2.30 are not checked: apt install shellcheck');

const script = (name: string, body = '') => ({ name, content: `#!/bin/sh\n${body}` });
const config = (name: string, body: string) => ({ name, content: `#cloud-config\n${body}` });
/** Letters that don't compress below three quarters of their number. */
const noise = (length: number) => randomBytes(length).toString('base64').slice(0, length);

withCloudInit('one file is user data as it is: a script, or a cloud-config', () => {
  const boot = script('boot.sh', 'echo "grüß Gott" 🐾\n');
  const { bytes, compressed } = makeUserData([boot]);
  expect({ text: bytes.toString(), compressed }).toEqual({ text: boot.content, compressed: false });
  expect(Object.values(understand(bytes).scripts)).toEqual([boot.content]);
  const { parts, values } = understand(makeUserData([config('a.yaml', 'hostname: käfer\n')]).bytes);
  expect(parts).toMatchObject([{ type: 'text/cloud-config' }]);
  expect(values).toEqual({ hostname: 'käfer' });
});

withCloudInit('several files are one bundle: scripts in their order, cloud-configs joined', () => {
  const { bytes } = makeUserData([
    config('z.yaml', 'hostname: first\nruncmd:\n  - [echo, one]\nusers: [default]\n'),
    script('z.sh', 'echo 1'),
    script('a.sh', 'echo 2\n'),
    config('a.yaml', 'hostname: second\nruncmd:\n  - [echo, zwölf]\ntimezone: UTC\n'),
    { name: 'hook', content: '#cloud-boothook\n#!/bin/sh\ntrue\n' },
  ]);
  const { parts, values, scripts } = understand(bytes);
  expect(parts.map(({ type, name }) => `${name} ${type}`)).toEqual([
    '001-z.yaml text/cloud-config',
    '002-z.sh text/x-shellscript',
    '003-a.sh text/x-shellscript',
    '004-a.yaml text/cloud-config',
    '005-hook text/cloud-boothook',
  ]);
  expect(values).toEqual({
    hostname: 'first',
    runcmd: [
      ['echo', 'one'],
      ['echo', 'zwölf'],
    ],
    users: ['default'],
    timezone: 'UTC',
  });
  expect(Object.entries(scripts)).toEqual([
    ['002-z.sh', '#!/bin/sh\necho 1'],
    ['003-a.sh', '#!/bin/sh\necho 2\n'],
  ]);
});

withCloudInit(
  'an archive, a template and a list of addresses are known; what they hold is joined with the rest',
  () => {
    const include = { name: 'more.txt', content: '#include-once\n' };
    const { parts, values } = understand(
      makeUserData([
        { name: 'all.yaml', content: '#cloud-config-archive\n- "#cloud-config\\nruncmd: [one]\\n"\n' },
        { name: 'host.yaml', content: '## template: jinja\n#cloud-config\nruncmd: [{{ "t" ~ "wo" }}]\n' },
        include,
      ]).bytes,
    );
    expect(parts.map(({ type }) => type)).toEqual(['text/cloud-config', 'text/jinja2']);
    expect(values).toEqual({ runcmd: ['one', 'two'] });
    expect(makeUserData([include]).bytes.toString()).toBe(include.content);
  },
);

withCloudInit('whatever is in the files comes through', () => {
  // Without carriage returns, which cloud-init takes out of scripts; nor what the function refuses.
  const texts = fc.sample(
    fc
      .string({ unit: fc.oneof(fc.constantFrom('\n', '--', '=', 'From ', '\t'), fc.string({ unit: 'binary' })) })
      .filter((text) => !/[\0\r\uFFFD]|\p{Surrogate}/u.test(text)),
    200,
  );
  const files = texts.map((text, index) => script(`${index}.sh`, text));
  for (const from of [0, 100]) {
    const some = files.slice(from, from + 100);
    const { scripts: found } = understand(makeUserData(some).bytes);
    expect(Object.values(found)).toEqual(some.map(({ content }) => content));
  }
});

withCloudInit('16,384 bytes go as they are, one more compressed, and cloud-init unpacks both', () => {
  const head = script('a.sh').content.length;
  const sized = (size: number) => makeUserData([script('a.sh', '#'.repeat(size - head))]);
  expect(sized(16_384)).toMatchObject({ compressed: false, bytes: { length: 16_384 } });
  const over = sized(16_385);
  expect(over.compressed).toBe(true);
  expect(over.bytes.length).toBeLessThan(200);
  expect(gunzipSync(over.bytes)).toHaveLength(16_385);
  expect(Object.values(understand(over.bytes).scripts)).toEqual([`#!/bin/sh\n${'#'.repeat(16_385 - head)}`]);

  const bundle = makeUserData([config('a.yaml', 'hostname: large\n'), script('b.sh', `# ${noise(18_000)}\n`)]);
  expect(bundle.compressed).toBe(true);
  expect(bundle.bytes.length).toBeLessThanOrEqual(16_384);
  const { values, scripts } = understand(bundle.bytes);
  expect(values).toEqual({ hostname: 'large' });
  expect(scripts['002-b.sh']).toHaveLength(head + 2 + 18_000 + 1);
  // Characters are not bytes: these are over the limit by their bytes alone.
  expect(makeUserData([script('a.sh', 'ä'.repeat(10_000))]).compressed).toBe(true);
});

test('what is too large even compressed is refused, with its size', () => {
  expect(() => makeUserData([script('a.sh', noise(40_000))])).toThrow(
    /^user data has at most 16384 bytes, this has 3\d{4} even when compressed$/,
  );
});

test('what cloud-init would not understand is refused', () => {
  const refused = (name: string, content: string) => expect(() => makeUserData([{ name, content }]));
  expect(() => makeUserData([])).toThrow(RangeError);
  for (const content of [
    '',
    'echo hello\n',
    '# cloud-config\n',
    '#cloud-configuration\n',
    ' #!/bin/sh\n',
    '\uFEFF#!/bin/sh\n',
  ])
    refused('a', content).toThrow('a begins with none of #!, #cloud-config');
  refused('a', '#!/bin/sh\n\0').toThrow('a is no text in UTF-8');
  refused('a', `#!/bin/sh\n${Buffer.from([0xe4]).toString()}`).toThrow('a is no text in UTF-8');
  for (const name of ['', 'a b', 'a"\nX: y', '../a']) refused(name, '#!/bin/sh\n').toThrow("a file's name has");
  for (const namespace of ['', 'AWS/EC2', "a'; reboot; '", '$(reboot)', 'a\nb'])
    expect(() => diskUsageFiles(namespace)).toThrow(RangeError);
});

test('what looks like a secret is told by its line, and only that', () => {
  const secrets = (text: string) => makeUserData([script('ok.sh'), script('a.sh', `echo\n${text}\n`)]).secrets;
  for (const text of [
    'export AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG',
    'id=AKIAIOSFODNN7EXAMPLE',
    '-----BEGIN OPENSSH PRIVATE KEY-----',
    'password: hunter22',
    "db_password = 'hunter22'",
    '{"token": "abcdef"}',
    'API-KEY=1234; api_key=12345',
  ])
    expect(secrets(text), text).toEqual(['a.sh, line 3']);
  for (const text of ['password=$(aws secretsmanager …)', 'password="$SECRET"', 'lock_passwd: true', 'echo token'])
    expect(secrets(text), text).toEqual([]);
  expect(makeUserData(diskUsageFiles('Paws')).secrets).toEqual([]);
});

withCloudInit('the example is a valid cloud-config, and its script does what it says', () => {
  const { values, config: text, scripts } = understand(makeUserData(diskUsageFiles('Shop/Web 1')).bytes);
  const path = join(folder, 'merged.yaml');
  writeFileSync(path, text);
  expect(checkSchema(path)).toBe(`Valid cloud-config: ${path}`);
  writeFileSync(path, '#cloud-config\nwrite_files: [{ content: a }]\n');
  expect(checkSchema(path)).toContain("'path' is a required property");

  const written = values.write_files as { path: string; content: string; permissions?: string }[];
  expect(written.map(({ path, permissions }) => `${path} ${permissions ?? ''}`.trim())).toEqual([
    '/usr/local/bin/disk-usage 0755',
    '/etc/systemd/system/disk-usage.service',
    '/etc/systemd/system/disk-usage.timer',
  ]);
  expect(Object.keys(scripts)).toEqual(['002-disk-usage.sh']);

  // Its programs are ours: a metadata service that wants a token, and an AWS CLI that shows what it is told.
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  const program = (name: string, body: string) => {
    writeFileSync(join(bin, name), `#!/bin/sh\n${body}`);
    chmodSync(join(bin, name), 0o755);
  };
  program(
    'curl',
    `case "$*" in
      *PUT*token-ttl*/api/token) echo TOKEN ;;
      *'aws-ec2-metadata-token: TOKEN'*/meta-data/placement/region) echo eu-west-1 ;;
      *'aws-ec2-metadata-token: TOKEN'*/meta-data/instance-id) echo i-0123456789abcdef0 ;;
      *) exit 22 ;;
    esac`,
  );
  program('aws', 'for word; do echo "$word"; done');
  const env = { PATH: `${bin}:${process.env.PATH}` };
  const ran = spawnSync('sh', ['-c', written[0]?.content as string], { env, encoding: 'utf8' });
  expect(ran).toMatchObject({ status: 0, stderr: '' });
  const told = ran.stdout.trim().split('\n');
  expect(told.slice(0, -1)).toEqual([
    ...['cloudwatch', 'put-metric-data', '--region', 'eu-west-1', '--namespace', 'Shop/Web 1'],
    ...['--metric-name', 'DiskUsage', '--dimensions', 'InstanceId=i-0123456789abcdef0', '--unit', 'Percent', '--value'],
  ]);
  expect(told.at(-1)).toMatch(/^(\d\d?|100)$/);
  // Where it may not ask, it stores nothing.
  program('curl', 'exit 22');
  expect(spawnSync('sh', ['-c', written[0]?.content as string], { env, encoding: 'utf8' })).toMatchObject({
    status: 22,
    stdout: '',
  });
});

test.skipIf(!shellcheck || !cloudInit)('shellcheck finds nothing in the scripts of the example', () => {
  const { values, scripts } = understand(makeUserData(diskUsageFiles('Paws')).bytes);
  const [written] = values.write_files as { content: string }[];
  for (const input of [...Object.values(scripts), written?.content as string]) {
    const { status, stdout } = spawnSync('shellcheck', ['-'], { input, encoding: 'utf8' });
    expect({ status, stdout }).toEqual({ status: 0, stdout: '' });
  }
});

test('as a command: files that are there, into a new file that only you can read', async () => {
  writeFileSync(join(folder, 'start.sh'), '#!/bin/sh\npassword=hunter22\n');
  const command = `npx tsx ${file} start.sh --output-file user-data --json`;
  const { code, stdout } = await run(command);
  expect({ code, ...JSON.parse(stdout) }).toEqual({
    code: 0,
    files: ['start.sh'],
    size: 28,
    compressed: false,
    secrets: ['start.sh, line 2'],
    outputFile: 'user-data',
    userData: Buffer.from('#!/bin/sh\npassword=hunter22\n').toString('base64'),
  });
  expect(readFileSync(join(folder, 'user-data'), 'utf8')).toBe('#!/bin/sh\npassword=hunter22\n');
  expect(statSync(join(folder, 'user-data')).mode & 0o777).toBe(0o600);
  const [again, missing, empty] = await Promise.all([
    run(command),
    run(`npx tsx ${file} nothing.sh`),
    run(`npx tsx ${file} start.sh --output-file=`),
  ]);
  expect(empty).toMatchObject({ code: 2, stdout: '', stderr: 'Error: --output-file takes a path\n' });
  expect(again).toMatchObject({ code: 2, stdout: '', stderr: "Error: user-data can't be written (EEXIST)\n" });
  expect(missing).toMatchObject({ code: 2, stdout: '', stderr: "Error: nothing.sh can't be read (ENOENT)\n" });
});
