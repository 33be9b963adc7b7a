import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { checkRuntime, type Tool } from '../../recipes/setup/01-check-runtime.ts';
import { testRecipe } from '../harness.ts';
import { root, temporaryFolder } from '../run.ts';

const { run, file, folder: home } = testRecipe(import.meta);

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

/** The row of one tool. */
async function check(tool: string, settings: Partial<Parameters<typeof checkRuntime>[0]> = {}): Promise<Tool> {
  const tools = await checkRuntime({ folder: root, ...settings });
  const found = tools.filter((one) => one.tool === tool);
  expect(found, `rows of ${tool}`).toHaveLength(1);
  return found[0] as Tool;
}

const modules = (name: string) => `node_modules/${name}/package.json`;

test('what is found here is what node, npm and the packages say of themselves', async () => {
  const { code, stdout, stderr } = await run(`npx tsx ${file} --json --project '${root}'`);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const tools: Tool[] = JSON.parse(stdout);
  const say = (command: string) => execFileSync(command, ['--version'], { encoding: 'utf8' }).trim();
  const installed = (name: string) => JSON.parse(readFileSync(join(root, modules(name)), 'utf8')).version;
  const { dependencies, devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const sdk = Object.keys({ ...dependencies, ...devDependencies }).filter((name) => /@aws-sdk/.test(name));
  expect(sdk.length).toBeGreaterThan(1);
  expect(Object.fromEntries(tools.map(({ tool, version }) => [tool, version]))).toEqual({
    'Node.js': say(process.execPath).slice(1),
    npm: say('npm'),
    ...Object.fromEntries(['typescript', 'tsx', ...sdk].map((name) => [name, installed(name)])),
  });
  // Nobody publishes when these end, so nothing is said of it.
  expect(tools.slice(1, 4).map(({ state }) => state)).toEqual(['no date', 'no date', 'no date']);
  for (const tool of tools) expect(Object.keys(tool)).toEqual(['tool', 'version', 'state', 'until', 'advice']);
});

test.each([
  ['20.19.0', '2026-05-01', 'ended', '2026-04-30', 'install the newest LTS'],
  ['20.20.2', '2025-01-01', 'supported', '2026-04-30', null],
  ['21.7.3', '2026-12-01', 'ended', '2024-06-01', 'install the newest LTS'],
  ['v22.18.0', '2026-10-29', 'supported', '2027-04-30', null],
  ['22.18.0', '2026-10-31', 'ends soon', '2027-04-30', 'install the newest LTS'],
  ['22.18.0', '2027-04-30', 'ends soon', '2027-04-30', 'install the newest LTS'],
  ['22.18.0', '2027-05-01', 'ended', '2027-04-30', 'install the newest LTS'],
  ['23.11.1', '2025-06-02', 'ended', '2025-06-01', 'install the newest LTS'],
  ['24.11.0', '2026-12-01', 'supported', '2028-04-30', null],
  ['25.9.0', '2026-12-01', 'ended', '2026-06-01', 'install the newest LTS'],
  ['26.10.0', '2026-12-01', 'supported', '2029-04-30', null],
  ['26.10.0', '2029-04-30', 'ends soon', '2029-04-30', 'install the newest LTS'],
  ['27.0.0', '2027-05-01', 'supported', '2030-04-30', null],
  // One that is not known here, or no release: nothing is promised.
  ['32.1.1', '2031-05-01', 'no date', null, null],
  ['27.0.0-alpha.1', '2026-12-01', 'no date', null, null],
])('Node.js %s is on %s: %s', async (node, today, state, until, advice) => {
  const row = { tool: 'Node.js', version: node.replace('v', ''), state, until: until && new Date(until), advice };
  expect(await check('Node.js', { node, today: new Date(`${today}T00:00:00Z`) })).toEqual(row);
  expect(await check('Node.js', { node, today: new Date(`${today}T23:59:59Z`) })).toEqual(row);
});

test.each(['20.18.3', '20.9.0', '18.20.8', '8.0.0'])('Node.js %s is too old for the cookbook', async (node) => {
  const needed = 'this cookbook needs 20.19.0 or later: install the newest LTS';
  expect(await check('Node.js', { node, today: new Date('2024-01-01') })).toMatchObject({
    state: 'too old',
    advice: needed,
  });
  const result = await run(`npx tsx ${file} --node ${node} --json`);
  expect(result).toMatchObject({ code: 1, stderr: `Error: Node.js ${node} is too old: ${needed}\n` });
  expect(JSON.parse(result.stdout)[0]).toMatchObject({ state: 'too old' });
});

test('the package that needs the newest Node.js decides, and is named', async () => {
  const engines = (node: string) => ({ version: '3.1.0', engines: { node } });
  const files = {
    'package.json': { dependencies: { '@aws-sdk/a': '3', '@aws-sdk/b': '3' }, devDependencies: { '@aws-sdk/c': '3' } },
    [modules('typescript')]: { version: '7.0.0', engines: { node: '>=16' } },
    [modules('tsx')]: { version: '4.0.0', engines: { node: '*' } },
    [modules('@aws-sdk/a')]: engines('>=99.9'),
    [modules('@aws-sdk/b')]: engines('^99.10.1 || >=101.2.0'),
    [modules('@aws-sdk/c')]: engines('>= 99.2.0'),
  };
  const folder = project(files);
  const needed = '@aws-sdk/b needs 99.10.1 or later: install the newest LTS';
  expect(await check('Node.js', { folder, node: '99.9.9' })).toMatchObject({
    state: 'too old',
    advice: needed,
  });
  expect(await check('Node.js', { folder, node: '99.10.1' })).toMatchObject({ state: 'no date', advice: null });
  const { code, stderr } = await run(`npx tsx ${file} --project '${folder}'`);
  expect(code).toBe(1);
  expect(stderr).toMatch(
    /^Error: Node\.js \d+\.\d+\.\d+ is too old: @aws-sdk\/b needs 99\.10\.1 or later: install the newest LTS\n$/,
  );
  // The project itself may need more than its packages do.
  const own = project({ ...files, 'package.json': { ...files['package.json'], ...engines('>=100') } });
  expect(await check('Node.js', { folder: own, node: '99.10.1' })).toMatchObject({
    state: 'too old',
    advice: 'the project needs 100 or later: install the newest LTS',
  });
});

test.each([
  ['^20.19.0 || >=22.12.0', '20.19'],
  ['>=22 || ^20.19', '20.19'],
  ['>=22.12.0 <25', '22.12'],
  ['<25 >=22.12', '22.12'],
  ['22.x || 24.x', '22.0'],
  ['22 - 24', '22.0'],
  ['~v22.3||^24', '22.3'],
  ['>22.1', '22.1'],
  ['<99', '20.19'],
  ['*', '20.19'],
])('of the range "%s" the lowest version counts: %s', async (range, least) => {
  const folder = project({ [modules('tsx')]: { version: '4.0.0', engines: { node: range } } });
  const [major = 0, minor = 0] = least.split('.').map(Number);
  const before = minor > 0 ? `${major}.${minor - 1}.99` : `${major - 1}.99.99`;
  expect(await check('Node.js', { folder, node: `${least}.0` })).not.toMatchObject({ state: 'too old' });
  expect(await check('Node.js', { folder, node: before })).toMatchObject({ state: 'too old' });
});

test('versions are compared number by number', async () => {
  const number = fc.nat(120);
  await fc.assert(
    fc.asyncProperty(fc.tuple(number, number, number), fc.tuple(number, number, number), async (one, other) => {
      const folder = project({ [modules('tsx')]: { version: '4.0.0', engines: { node: `>=${other.join('.')}` } } });
      const { state } = await check('Node.js', { folder, node: one.join('.') });
      const value = ([a = 0, b = 0, c = 0]: number[]) => a * 1e6 + b * 1e3 + c;
      expect(state === 'too old').toBe(value(one) < Math.max(value(other), value([20, 19, 0])));
    }),
    { numRuns: 15 },
  );
});

test.each([
  ['20.19.0', '2026-06-01', 'supported', '2027-01-07'],
  ['20.19.0', '2026-12-01', 'ends soon', '2027-01-07'],
  ['20.19.0', '2027-01-07', 'ends soon', '2027-01-07'],
  ['20.19.0', '2027-01-08', 'ended', '2027-01-07'],
  ['22.0.0', '2027-05-01', 'supported', '2028-01-07'],
  ['24.0.0', '2029-01-08', 'ended', '2029-01-07'],
  ['26.0.0', '2027-01-08', 'supported', '2030-01-07'],
  // An odd one is newer than what its releases need, but not what they are tested with.
  ['23.11.1', '2026-11-24', 'ended', '2026-01-07'],
  ['32.1.1', '2026-11-24', 'no date', null],
])('the SDK is with Node.js %s on %s: %s', async (node, today, state, until) => {
  const row = await check('@aws-sdk/client-s3', { node, today: new Date(today) });
  const advice = /supported|no date/.test(state) ? null : 'install the newest LTS of Node.js';
  expect(row).toMatchObject({ state, until: until && new Date(until), advice });
});

test('version 2 of the SDK has ended where a project names it, whatever Node.js there is', async () => {
  const folder = project({
    'package.json': { dependencies: { 'aws-sdk': '2', 'aws-sdk-mock': '6', '@aws-sdk/client-s3': '3' } },
    [modules('aws-sdk')]: { version: '2.1692.0' },
    [modules('@aws-sdk/client-s3')]: { version: '3.1.0' },
  });
  const tools = await checkRuntime({ folder, node: '24.0.0', today: new Date('2026-11-24') });
  expect(tools.slice(3)).toEqual([
    {
      tool: 'aws-sdk',
      version: '2.1692.0',
      state: 'ended',
      until: new Date('2025-09-08'),
      advice: 'use @aws-sdk/client-… instead',
    },
    expect.objectContaining({ tool: '@aws-sdk/client-s3', state: 'supported' }),
  ]);
});

test('an older TypeScript is too old, a beta of the least one is not', async () => {
  const at = (version: string) => check('typescript', { folder: project({ [modules('typescript')]: { version } }) });
  const advice = 'npm install --save-dev typescript@latest';
  expect(await at('5.7.3')).toMatchObject({ version: '5.7.3', state: 'too old', advice });
  expect(await at('4.9.5')).toMatchObject({ state: 'too old' });
  expect(await at('5.8.0-beta')).toMatchObject({ state: 'no date', advice: null });
  expect(await at('5.10.0')).toMatchObject({ state: 'no date' });
  expect(await at('10.0.0')).toMatchObject({ state: 'no date' });
});

test('packages that are missing say how to get them; tsx only where Node.js does not run TypeScript', async () => {
  const folder = project();
  const missing = { version: null, state: 'missing', until: null };
  const install = 'npm install --save-dev tsx';
  for (const node of ['20.20.2', '22.17.1', '23.5.0']) {
    expect(await check('tsx', { folder, node }), node).toMatchObject({ ...missing, advice: install });
  }
  for (const node of ['22.18.0', '23.6.0', '23.11.1', '24.0.0', '26.10.0']) {
    const tools = await checkRuntime({ folder, node });
    expect(tools.map(({ tool }) => tool).slice(0, 4), node).toEqual([
      'Node.js',
      'npm',
      'typescript',
      '@aws-sdk/client-ec2',
    ]);
  }
  const there = project({ [modules('tsx')]: { version: '4.1.0' } });
  expect(await check('tsx', { folder: there, node: '24.0.0' })).toMatchObject({ version: '4.1.0', state: 'no date' });
  const typescript = { ...missing, advice: 'npm install --save-dev typescript@latest' };
  expect(await check('typescript', { folder })).toMatchObject(typescript);
  for (const name of ['@aws-sdk/client-ec2', '@aws-sdk/client-s3']) {
    expect(await check(name, { folder })).toMatchObject({ ...missing, advice: `npm install ${name}` });
  }
});

test('packages are found where Node.js finds them', async () => {
  const folder = project({
    // One that exports nothing but its code, one hoisted to a parent folder, another version below it.
    [modules('tsx')]: { version: '4.1.0', exports: { '.': './index.js' } },
    [modules('@aws-sdk/client-s3')]: { version: '3.1.0' },
    [modules('typescript')]: { version: '6.0.0' },
    [`apps/web/${modules('typescript')}`]: { version: '6.1.0' },
    'apps/web/package.json': { dependencies: { '@aws-sdk/client-s3': '3' } },
    // As pnpm has it: a link into its store.
    [`node_modules/.pnpm/x@3.2.0/${modules('@aws-sdk/client-ec2')}`]: { version: '3.2.0' },
  });
  const store = join(folder, 'node_modules/.pnpm/x@3.2.0/node_modules/@aws-sdk/client-ec2');
  symlinkSync(store, join(folder, 'node_modules/@aws-sdk/client-ec2'));
  const versions = async (path: string) =>
    Object.fromEntries((await checkRuntime({ folder: path })).slice(2).map(({ tool, version }) => [tool, version]));

  const web = { typescript: '6.1.0', tsx: '4.1.0', '@aws-sdk/client-s3': '3.1.0' };
  expect(await versions(join(folder, 'apps/web'))).toEqual(web);
  const top = { ...web, typescript: '6.0.0', '@aws-sdk/client-ec2': '3.2.0' };
  expect(await versions(folder)).toEqual(top);
  expect(await versions(join(folder, 'apps'))).toEqual(top);
  // A link elsewhere leads to where it points.
  const link = join(project(), 'link');
  symlinkSync(join(folder, 'apps/web'), link);
  expect(await versions(link)).toEqual(web);
});

test('without --project the project around the current folder is checked, else the cookbook', async () => {
  const names = async (cwd: string) => {
    const { stdout } = await run(`npx tsx ${file} --json`, { cwd });
    return (JSON.parse(stdout) as Tool[]).map(({ tool, state }) => `${tool} ${state}`);
  };
  expect(existsSync(join(home, 'package.json'))).toBe(false);
  expect(await names(home)).toContain('typescript no date');
  const folder = project({
    'package.json': { dependencies: { '@aws-sdk/client-sqs': '3' } },
    'src/a file': '',
  });
  for (const cwd of [folder, join(folder, 'src')]) {
    const found = await names(cwd);
    expect(found).toEqual(expect.arrayContaining(['typescript missing', '@aws-sdk/client-sqs missing']));
    expect(found).not.toContain('@aws-sdk/client-s3 missing');
  }
});

test('a folder that is not there or none, and no version, are refused', async () => {
  const folder = project({ 'a file': '' });
  for (const [path, code] of Object.entries({ nowhere: 'ENOENT', 'a file': 'ENOTDIR' })) {
    const result = await run(`npx tsx ${file} --project '${join(folder, path)}'`);
    expect(result).toMatchObject({ code: 2, stdout: '' });
    expect(result.stderr).toBe(`Error: "${join(folder, path)}" is no folder that can be read: ${code}\n`);
  }
  expect(await run(`npx tsx ${file} --project ''`)).toMatchObject({ code: 2, stdout: '' });
  for (const node of ['20', '22.1', 'lts', '', '24.11.0oops', '24.11.0.1', '24.11.0 || 26']) {
    await expect(checkRuntime({ folder, node }), node).rejects.toThrow(RangeError);
  }
  const wrong = { code: 2, stdout: '', stderr: 'Error: "24" is no version such as 24.11.0\n' };
  expect(await run(`npx tsx ${file} --node 24`)).toEqual(wrong);
  await expect(checkRuntime({ folder, today: new Date('someday') })).rejects.toThrow(RangeError);
});

test('a package.json that can’t be read is an error that names it', async () => {
  const folder = project({ [modules('tsx')]: '{ "version":' });
  const { code, stderr } = await run(`npx tsx ${file} --project '${folder}'`);
  expect(code).toBe(1);
  expect(stderr).toMatch(/^Error: .*\/node_modules\/tsx\/package\.json can't be read: .*JSON.*\n$/);
});

/** A PATH on which npm is a script of the test's own, or is not at all. */
function withNpm(script?: string): { env: { PATH: string } } {
  const folder = project(script === undefined ? {} : { npm: `#!/bin/sh\n${script}\n` });
  if (script !== undefined) chmodSync(join(folder, 'npm'), 0o755);
  // The shell is found by its own path.
  symlinkSync('/bin/sh', join(folder, 'sh'));
  return { env: { PATH: folder } };
}

test.each([
  ['is not on PATH', undefined],
  ['fails', 'echo 1.2.3; exit 1'],
  ['says nothing', 'exit 0'],
])('npm %s: it is missing, and the rest is told', async (_what, script) => {
  const { code, stdout, stderr } = await run(`npx tsx ${file} --json`, withNpm(script));
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const [, npm, typescript] = JSON.parse(stdout) as Tool[];
  const advice = '`npm --version` fails: it comes with Node.js';
  expect(npm).toEqual({ tool: 'npm', version: null, state: 'missing', until: null, advice });
  expect(typescript).toMatchObject({ tool: 'typescript', state: 'no date' });
});

test('an npm that does not answer is waited for no longer than 10 seconds', { timeout: 80_000 }, async () => {
  const start = performance.now();
  const { code, stdout } = await run(`npx tsx ${file} --json`, withNpm('exec /bin/sleep 90'));
  expect(performance.now() - start).toBeLessThan(60_000);
  expect({ code, npm: JSON.parse(stdout)[1].state }).toEqual({ code: 0, npm: 'missing' });
});

test('the wait for npm is ended by --timeout, and by the signal for its reason', async () => {
  const result = await run(`npx tsx ${file} --timeout 1`, withNpm('exec /bin/sleep 90'));
  expect(result).toMatchObject({ code: 1, stdout: '', stderr: 'Gave up after 1 s (--timeout).\n' });
  const signal = AbortSignal.abort(new Error('enough'));
  await expect(checkRuntime({ folder: root, signal })).rejects.toThrow('enough');
});

test('people see days, not times, and a dash where there is none', async () => {
  const { stdout } = await run(`npx tsx ${file} --node 22.18.0`);
  expect(stdout).toMatch(/^tool +version +state +until +advice$/m);
  expect(stdout).toMatch(/^Node\.js +22\.18\.0 +\w.* 2027-04-30 +install the newest LTS$/m);
  expect(stdout).toMatch(/^typescript +\S+ +no date +- +-$/m);
});
