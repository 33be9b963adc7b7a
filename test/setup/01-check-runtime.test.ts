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
  const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const sdk = Object.keys(dependencies).filter((name) => /@aws-sdk/.test(name));
  expect(sdk.length).toBeGreaterThan(1);
  expect(Object.fromEntries(tools.map(({ tool, version }) => [tool, version]))).toEqual({
    'Node.js': say(process.execPath).slice(1),
    npm: say('npm'),
    ...Object.fromEntries(['typescript', 'tsx', ...sdk].map((name) => [name, installed(name)])),
  });
  expect(tools.slice(1, 4).map(({ state }) => state)).toEqual(['supported', 'supported', 'supported']);
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
  ['31.0.0', '2031-05-01', 'supported', null, null],
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
  const folder = project({
    'package.json': { dependencies: { '@aws-sdk/a': '3', '@aws-sdk/b': '3' }, devDependencies: { '@aws-sdk/c': '3' } },
    [modules('typescript')]: { version: '7.0.0', engines: { node: '>=16' } },
    [modules('tsx')]: { version: '4.0.0', engines: { node: '*' } },
    [modules('@aws-sdk/a')]: engines('>=99.9'),
    [modules('@aws-sdk/b')]: engines('^99.10.1 || >=101.2.0'),
    [modules('@aws-sdk/c')]: engines('>= 99.2.0'),
  });
  const needed = '@aws-sdk/b needs 99.10.1 or later: install the newest LTS';
  expect(await check('Node.js', { folder, node: '99.9.9' })).toMatchObject({
    state: 'too old',
    advice: needed,
  });
  expect(await check('Node.js', { folder, node: '99.10.1' })).toMatchObject({ state: 'supported', advice: null });
  const { code, stderr } = await run(`npx tsx ${file} --project '${folder}'`);
  expect(code).toBe(1);
  expect(stderr).toMatch(
    /^Error: Node\.js \d+\.\d+\.\d+ is too old: @aws-sdk\/b needs 99\.10\.1 or later: install the newest LTS\n$/,
  );
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
  ['21.7.3', '2027-01-08', 'ended', '2027-01-07'],
  ['18.20.8', '2026-12-01', 'ended', '2026-01-12'],
  ['22.0.0', '2027-01-08', 'supported', null],
  ['24.0.0', '2028-04-01', 'supported', null],
])('the SDK is with Node.js %s on %s: %s', async (node, today, state, until) => {
  const row = await check('@aws-sdk/client-s3', { node, today: new Date(today) });
  const advice = state === 'supported' ? null : 'later releases need Node.js 22';
  expect(row).toMatchObject({ state, until: until && new Date(until), advice });
});

test('an older TypeScript is too old, a beta of the least one is not', async () => {
  const at = (version: string) => check('typescript', { folder: project({ [modules('typescript')]: { version } }) });
  const advice = 'npm install --save-dev typescript@latest';
  expect(await at('5.7.3')).toMatchObject({ version: '5.7.3', state: 'too old', advice });
  expect(await at('4.9.5')).toMatchObject({ state: 'too old' });
  expect(await at('5.8.0-beta')).toMatchObject({ state: 'supported', advice: null });
  expect(await at('5.10.0')).toMatchObject({ state: 'supported' });
  expect(await at('10.0.0')).toMatchObject({ state: 'supported' });
});

test('packages that are missing say how to get them; tsx only where Node.js does not run TypeScript', async () => {
  const folder = project();
  const missing = { version: null, state: 'missing', until: null };
  const install = 'npm install --save-dev tsx';
  for (const node of ['20.20.2', '22.17.1', '23.5.0']) {
    expect(await check('tsx', { folder, node }), node).toMatchObject({ ...missing, advice: install });
  }
  for (const node of ['22.18.0', '23.6.0', '23.11.1', '24.0.0', '26.10.0']) {
    const advice = 'not needed: this Node.js runs .ts files';
    expect(await check('tsx', { folder, node }), node).toMatchObject({ ...missing, advice });
  }
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

test('without --project the current folder is checked if it is a project, else the cookbook', async () => {
  const names = async (cwd: string) => {
    const { stdout } = await run(`npx tsx ${file} --json`, { cwd });
    return (JSON.parse(stdout) as Tool[]).map(({ tool, state }) => `${tool} ${state}`);
  };
  expect(existsSync(join(home, 'package.json'))).toBe(false);
  expect(await names(home)).toContain('typescript supported');
  expect(await names(project({ 'package.json': {} }))).toContain('typescript missing');
});

test('a folder that is not there or none, and no version, are refused', async () => {
  const folder = project({ 'a file': '' });
  for (const [path, code] of Object.entries({ nowhere: 'ENOENT', 'a file': 'ENOTDIR' })) {
    const result = await run(`npx tsx ${file} --project '${join(folder, path)}'`);
    expect(result).toMatchObject({ code: 2, stdout: '' });
    expect(result.stderr).toBe(`Error: "${join(folder, path)}" is no folder that can be read: ${code}\n`);
  }
  expect(await run(`npx tsx ${file} --project ''`)).toMatchObject({ code: 2, stdout: '' });
  for (const node of ['20', '22.1', 'lts', '']) {
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
  const advice = '`npm --version` does not work: npm comes with Node.js';
  expect(npm).toEqual({ tool: 'npm', version: null, state: 'missing', until: null, advice });
  expect(typescript).toMatchObject({ state: 'supported' });
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
  expect(stdout).toMatch(/^typescript +\S+ +supported +- +-$/m);
});
