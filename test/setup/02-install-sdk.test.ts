import { execFile, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { findAwsCli, type InstalledSdk, installSdk } from '../../recipes/setup/02-install-sdk.ts';
import { testRecipe } from '../harness.ts';
import { type FakePackage, serveRegistry } from '../registry.ts';
import { root, temporaryFolder } from '../run.ts';

const { run, file } = testRecipe(import.meta);

/** A folder that holds these files; those named package.json are given as objects. */
function project(files: Record<string, object | string> = {}): string {
  const { path, remove } = temporaryFolder();
  onTestFinished(remove);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(path, name)), { recursive: true });
    writeFileSync(join(path, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return path;
}

const modules = (name: string) => `node_modules/${name}/package.json`;
const look = (folder: string, ...packages: string[]) => installSdk({ folder, packages, dryRun: true });
const states = ({ packages }: InstalledSdk) => Object.fromEntries(packages.map((one) => [one.package, one.state]));

// The package managers, from npm's registry.
const home = temporaryFolder();
afterAll(home.remove);
const programs: Record<string, [name: string, file: string]> = {
  pnpm: ['pnpm@12.21.0', 'pnpm/bin/pnpm.mjs'],
  'pnpm-10': ['pnpm-10@npm:pnpm@10.34.9', 'pnpm-10/bin/pnpm.cjs'],
  yarn: ['yarn@npm:@yarnpkg/cli-dist@4.18.1', 'yarn/bin/yarn.js'],
  'yarn-classic': ['yarn-classic@npm:yarn@1.22.22', 'yarn-classic/bin/yarn.js'],
  bun: ['bun@1.4.5', 'bun/bin/bun.exe'],
};
let installed = false;
beforeAll(() => {
  const words = ['install', '--prefer-offline', '--no-save', '--no-audit', '--no-fund'];
  const names = Object.values(programs).map(([name]) => name);
  const { status } = spawnSync('npm', [...words, ...names], { cwd: home.path, stdio: 'ignore' });
  installed = status === 0;
});

/** A PATH that has one of them beside npm, and no AWS CLI. */
function pathWith(manager: string): string {
  const bin = project();
  const [, program = ''] = programs[manager] ?? [];
  if (program) {
    const target = join(home.path, 'node_modules', program);
    chmodSync(target, 0o755);
    symlinkSync(target, join(bin, manager.replace(/-.*/, '')));
  }
  return [bin, dirname(process.execPath), '/usr/bin', '/bin'].join(delimiter);
}

/** A PATH on which there is a shell and nothing else. */
function emptyPath(): string {
  const bin = project();
  symlinkSync('/bin/sh', join(bin, 'sh'));
  return bin;
}

const native = 'lib/protocol/crypto/build/Release/sshcrypto.node';
const code = (version: string) => `module.exports = ${JSON.stringify({ version })};`;
const fakes: FakePackage[] = [
  // One that exports nothing but its code, and brings another along.
  {
    name: '@aws-sdk/client-s3',
    version: '3.9.1',
    more: { exports: { '.': './index.js' }, dependencies: { '@aws-sdk/client-sts': '^3.0.0' } },
    files: { 'index.js': code('3.9.1') },
  },
  { name: '@aws-sdk/client-sts', version: '3.10.2', files: { 'index.js': code('3.10.2') } },
  { name: '@aws-sdk/client-ec2', version: '3.11.3', files: { 'index.js': code('3.11.3') } },
  {
    name: 'ssh2',
    version: '1.17.0',
    more: { scripts: { install: 'node install.js' } },
    files: {
      'index.js': `exports.version = '1.17.0';
        exports.native = require('node:fs').existsSync(require('node:path').join(__dirname, '${native}'));`,
      'install.js': `const file = '${native}';
        require('node:fs').mkdirSync(require('node:path').dirname(file), { recursive: true });
        require('node:fs').writeFileSync(file, '');`,
    },
  },
];
const names = fakes.map(({ name }) => name);

test.for([
  ['npm', 'package-lock.json', 'npm install', 'not declared'],
  ['pnpm', 'pnpm-lock.yaml', 'pnpm add', 'missing'],
  ['pnpm-10', 'pnpm-lock.yaml', 'pnpm add', 'missing'],
  ['yarn', 'yarn.lock', 'yarn add', 'missing'],
  ['yarn-classic', 'yarn.lock', 'yarn add', 'not declared'],
  ['bun', 'bun.lock', 'bun add', 'not declared'],
] as const)('in a project of %s', { timeout: 600_000 }, async ([manager, lockFile, add, broughtAlong], { skip }) => {
  skip(!installed && manager !== 'npm', 'npm’s registry could not be reached');
  const { url } = await serveRegistry(fakes);
  const folder = project({
    'package.json': { name: 'app', dependencies: { '@aws-sdk/client-s3': '^3.0.0', ssh2: '^1.0.0' } },
    '.npmrc': `registry=${url}/\n`,
    '.yarnrc.yml': `npmRegistryServer: '${url}'\nunsafeHttpWhitelist: ['127.0.0.1']\nenableTelemetry: false\n`,
  });
  const env = { PATH: pathWith(manager), HOME: project() };
  const program = manager.replace(/-.*/, '');
  const shell = async (command: string) =>
    (await promisify(execFile)('sh', ['-c', `${command} < /dev/null`], { cwd: folder, env, timeout: 150_000 })).stdout;
  const recipe = async (...more: string[]): Promise<InstalledSdk> => {
    const result = await run(['npx tsx', file, '--json', '--project', folder, ...more, ...names].join(' '), { env });
    expect(result).toMatchObject({ code: 0, stderr: '' });
    return JSON.parse(result.stdout);
  };
  // What a program in the project gets.
  const load = async (): Promise<Record<string, { version: string; native?: boolean }>> => {
    const node = existsSync(join(folder, '.pnp.cjs')) ? 'yarn node' : 'node';
    const found = names.map((name) => `try { all['${name}'] = require('${name}') } catch {}`).join(';');
    return JSON.parse(await shell(`${node} -e "const all = {}; ${found}; console.log(JSON.stringify(all))"`));
  };
  const dependencies = () => Object.keys(JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).dependencies);

  // The newest pnpm ends as failed if it leaves scripts unrun. Installed is all the same.
  await shell(`${program} install`).catch((error) => expect(error.stderr).toContain('ERR_PNPM_IGNORED_BUILDS'));
  expect(existsSync(join(folder, lockFile))).toBe(true);
  const [before, inUse] = [await recipe(), await load()];
  const ssh2 = inUse.ssh2?.native ? 'installed' : 'no native part';
  // They don't run what packages bring to be run. (The real ssh2 is on Bun's list of those that may.)
  if (/pnpm|bun/.test(manager)) expect(ssh2).toBe('no native part');
  if (manager === 'yarn-classic') expect(ssh2).toBe('installed');
  const packageManager = program;
  const command = `${add} @aws-sdk/client-sts @aws-sdk/client-ec2`;
  expect({ ...before, packages: states(before) }).toEqual({
    packages: {
      '@aws-sdk/client-s3': 'installed',
      '@aws-sdk/client-sts': broughtAlong,
      '@aws-sdk/client-ec2': 'missing',
      ssh2,
    },
    packageManager,
    command,
  });
  for (const { package: name, version } of before.packages) expect(version, name).toBe(inUse[name]?.version ?? null);
  expect(dependencies()).toEqual(['@aws-sdk/client-s3', 'ssh2']);

  const after = await recipe('--install');
  const all = { ...Object.fromEntries(names.map((name) => [name, 'installed'])), ssh2 };
  expect({ ...after, packages: states(after) }).toEqual({ packages: all, packageManager, command });
  expect(Object.fromEntries(after.packages.map((one) => [one.package, one.version]))).toEqual(
    Object.fromEntries(Object.entries(await load()).map(([name, { version }]) => [name, version])),
  );
  expect(dependencies().sort()).toEqual([...names].sort());
  expect(await recipe('--install')).toEqual({ ...after, command: null });

  // As after `git clone`.
  for (const name of ['node_modules', '.pnp.cjs']) rmSync(join(folder, name), { recursive: true, force: true });
  const clone = await recipe();
  expect(Object.values(states(clone))).toEqual(names.map(() => 'not installed'));
  expect(clone.command).toBe(`${program} install`);
  expect(states(await recipe('--install'))).toEqual(all);
});

test('the package manager is told by its lock file, else by package.json, also of the workspace above', async () => {
  const managerOf = async (files: Record<string, object | string>, at = '.') => {
    const { packageManager, command } = await look(join(project(files), at), 'ssh2');
    expect(command).toBe(packageManager === 'npm' ? 'npm install ssh2' : `${packageManager} add ssh2`);
    return packageManager;
  };
  expect(await managerOf({})).toBe('npm');
  for (const [name, manager] of [
    ['pnpm-lock.yaml', 'pnpm'],
    ['yarn.lock', 'yarn'],
    ['bun.lock', 'bun'],
    ['bun.lockb', 'bun'],
    ['npm-shrinkwrap.json', 'npm'],
  ] as const) {
    expect(await managerOf({ [name]: '' }), name).toBe(manager);
    expect(await managerOf({ [name]: '', 'package-lock.json': '{}' }), name).toBe(manager);
    expect(await managerOf({ [name]: '', 'apps/web/package.json': {} }, 'apps/web'), name).toBe(manager);
  }
  expect(await managerOf({ 'package.json': { packageManager: 'pnpm@10.1.0' } })).toBe('pnpm');
  expect(await managerOf({ 'package.json': { packageManager: 'pnpm@10.1.0' }, 'yarn.lock': '' })).toBe('yarn');
  expect(await managerOf({ 'package.json': { packageManager: 'cargo@1.0.0' } })).toBe('npm');
});

test('packages are found where Node.js finds them, and declared where npm would see it', async () => {
  const folder = project({
    'package.json': { devDependencies: { ssh2: '1' }, peerDependencies: { b: '1' }, optionalDependencies: { c: '1' } },
    [modules('ssh2')]: { version: '1.1.0' },
    [`node_modules/ssh2/${native}`]: '',
    [modules('b')]: { version: '1.2.0', exports: { '.': './index.js' } },
    [modules('c')]: { version: '1.3.0' },
    'apps/web/package.json': { dependencies: { d: '1' } },
    [`apps/web/${modules('c')}`]: { version: '2.3.0' },
    [`apps/web/${modules('d')}`]: { version: '1.4.0' },
  });
  const link = join(project(), 'link');
  symlinkSync(join(folder, 'apps/web'), link);
  for (const path of [join(folder, 'apps/web'), link]) {
    const { packages, command } = await look(path, 'ssh2', 'b', 'c', 'd');
    expect(packages.map(({ version, state }) => `${version} ${state}`)).toEqual(
      ['1.1.0', '1.2.0', '2.3.0', '1.4.0'].map((version) => `${version} installed`),
    );
    expect(command).toBe(null);
  }
  expect(states(await look(folder, 'd'))).toEqual({ d: 'missing' });
});

test('the packages that the recipes use are those of the cookbook', async () => {
  const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const sdk = Object.keys(dependencies).filter((name) => /^@aws-sdk\/|^ssh2$/.test(name));
  const { packages } = await installSdk({ folder: root, dryRun: true });
  expect(packages.map((one) => one.package)).toEqual(expect.arrayContaining(sdk));
  for (const { package: name, use } of packages) expect(use, name).not.toBe(null);
});

test('people get a table, the command and the AWS CLI, found or not', async () => {
  const bin = project({ aws: '#!/bin/sh\necho aws-cli/2.35.4 Python/3.14.0 Linux/6.8.0 exe/x86_64\n' });
  chmodSync(join(bin, 'aws'), 0o755);
  const without = pathWith('npm');
  const [found, missing, json] = await Promise.all([
    run(`npx tsx ${file}`, { env: { PATH: `${bin}${delimiter}${without}` } }),
    run(`npx tsx ${file}`, { env: { PATH: emptyPath() } }),
    run(`npx tsx ${file} --json`, { env: { PATH: `${bin}${delimiter}${without}` } }),
  ]);
  expect(found).toMatchObject({ code: 0, stderr: '' });
  expect(found?.stdout).toMatch(
    /^package +version +state +use\n@aws-sdk\/client-ec2 +- +missing +instances and volumes\n/,
  );
  expect(found?.stdout).toMatch(
    /\n\npackage manager +npm\ncommand +npm install @aws-sdk\/client-ec2 .* ssh2\naws cli +2\.35\.4\n$/,
  );
  expect(missing).toMatchObject({ code: 0, stderr: '' });
  expect(missing?.stdout).toMatch(/\naws cli +not found\n$/);
  expect(JSON.parse(json?.stdout ?? '')).toMatchObject({ packageManager: 'npm', awsCli: '2.35.4' });
  await expect(findAwsCli({ signal: AbortSignal.abort(new Error('stop')) })).rejects.toThrow('stop');
});

test('wrong folders and names are refused before anything is run', async () => {
  const folder = project({ 'a file': '' });
  const wrong = (more: string) => run(`npx tsx ${file} --install ${more}`);
  const [nowhere, noFolder, shell, version] = await Promise.all([
    wrong(`--project '${join(folder, 'nowhere')}'`),
    wrong(`--project '${join(folder, 'a file')}'`),
    wrong(`--project '${folder}' 'ssh2; touch here'`),
    wrong(`--project '${folder}' ssh2@1`),
  ]);
  const no = (path: string, code: string) => `Error: "${join(folder, path)}" is no folder that can be read: ${code}\n`;
  expect(nowhere).toEqual({ code: 2, stdout: '', stderr: no('nowhere', 'ENOENT') });
  expect(noFolder).toEqual({ code: 2, stdout: '', stderr: no('a file', 'ENOTDIR') });
  const name = (text: string) => `Error: "${text}" is no name of a package such as @aws-sdk/client-s3\n`;
  expect(shell).toEqual({ code: 2, stdout: '', stderr: name('ssh2; touch here') });
  expect(version).toEqual({ code: 2, stdout: '', stderr: name('ssh2@1') });
  for (const name of ['', '-g', '--global', '@aws-sdk', '../x', 'a b', '$HOME']) {
    await expect(look(folder, name), name).rejects.toThrow(RangeError);
  }
  expect(existsSync(join(folder, 'here'))).toBe(false);
});

test('a package.json that can’t be read, and a package manager that fails, are errors that say so', async () => {
  const broken = project({ 'package.json': '{ "name":' });
  const { url } = await serveRegistry([]);
  const folder = project({ 'package.json': {}, '.npmrc': `registry=${url}/\n` });
  const [unread, unknown, absent] = await Promise.all([
    run(`npx tsx ${file} --project '${broken}'`),
    run(`npx tsx ${file} --project '${folder}' --install no-such-package`),
    run(`npx tsx ${file} --project '${folder}' --install ssh2`, { env: { PATH: emptyPath() } }),
  ]);
  expect(unread).toMatchObject({ code: 1, stdout: '' });
  expect(unread?.stderr).toMatch(/^Error: .*\/package\.json can't be read: .*JSON.*\n$/);
  expect(unknown).toMatchObject({ code: 1, stdout: '' });
  expect(unknown?.stderr).toMatch(/^Error: "npm install no-such-package" failed: .*E404/);
  expect(absent).toMatchObject({ code: 1, stdout: '' });
  expect(absent?.stderr).toMatch(/^Error: "npm install ssh2" failed: spawn npm ENOENT\n$/);
  expect(readFileSync(join(folder, 'package.json'), 'utf8')).toBe('{}');
});

test('an abort ends the package manager, too', async () => {
  const folder = project({ 'package.json': { packageManager: 'yarn@1.22.22' } });
  const [bin, pid] = [project({ yarn: `#!/bin/sh\necho $$ > '${folder}/pid'\nexec sleep 60\n` }), join(folder, 'pid')];
  chmodSync(join(bin, 'yarn'), 0o755);
  vi.stubEnv('PATH', [bin, '/usr/bin', '/bin'].join(delimiter));
  onTestFinished(() => void vi.unstubAllEnvs());
  const stop = new AbortController();
  const running = installSdk({ folder, packages: ['ssh2'], signal: stop.signal });
  const ended = expect(running).rejects.toThrow('enough');
  await expect.poll(() => existsSync(pid) && readFileSync(pid, 'utf8'), { timeout: 60_000 }).toMatch(/^\d+\n$/);
  stop.abort(new Error('enough'));
  await ended;
  const lives = () => {
    try {
      return process.kill(Number(readFileSync(pid, 'utf8')), 0);
    } catch {
      return false;
    }
  };
  await expect.poll(lives, { timeout: 60_000 }).toBe(false);
});
