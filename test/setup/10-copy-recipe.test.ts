import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DeleteBucketCommand, HeadBucketCommand } from '@aws-sdk/client-s3';
import { expect, onTestFinished, test } from 'vitest';
import { type CopiedRecipe, copyRecipe } from '../../recipes/setup/10-copy-recipe.ts';
import { copyPart } from '../../shared/header.ts';
import { testRecipe } from '../harness.ts';
import { listRecipes, type Result, root, temporaryFolder } from '../run.ts';

const { run, file, folder: home, account, s3 } = testRecipe(import.meta);

function newFolder(): string {
  const { path, remove } = temporaryFolder();
  onTestFinished(remove);
  return path;
}

const copy = (recipe: string, folder: string, cookbook = root) => copyRecipe({ cookbook, recipe, folder });
const read = (...path: string[]) => readFileSync(join(...path), 'utf8');
const packageJson = (folder: string) => JSON.parse(read(folder, 'package.json'));

function shell(command: string, cwd: string, env: Record<string, string> = {}): Promise<Result> {
  const { PATH = '', HOME = '' } = process.env;
  const child = spawn('sh', ['-c', command], { cwd, env: { PATH, HOME, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  const result: Result = { code: null, stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text) => (result.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text) => (result.stderr += text));
  return new Promise((resolve) => child.on('close', (code) => resolve({ ...result, code })));
}

/** Gives a project just the packages that its package.json names, as links to the cookbook's. */
function linkPackages(folder: string): void {
  const { dependencies, devDependencies } = packageJson(folder);
  for (const name of Object.keys({ ...dependencies, ...devDependencies })) {
    const link = join(folder, 'node_modules', name);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(join(root, 'node_modules', name), link);
  }
}

const tsc = (folder: string) => shell(`'${process.execPath}' '${root}node_modules/typescript/bin/tsc' -p .`, folder);

test('for every recipe the new project type-checks, with just the files and packages that it needs', async () => {
  const top = newFolder();
  const recipes = listRecipes();
  const options = new Set<string>();
  for (const { file, source, number } of recipes) {
    const [, chapter = '', name = ''] = /^recipes\/(\w+)\/\d+-(.*)\.ts$/.exec(file) ?? [];
    const folder = join(top, `${chapter}-${name}`);
    const { files, packages } = await copy(number, folder);
    linkPackages(folder);
    options.add(read(folder, 'tsconfig.json'));

    expect(files, file).toEqual(expect.arrayContaining([`${name}.ts`, 'example.ts', 'package.json', 'tsconfig.json']));
    const unlinked = (text: string) => text.replace(/'\.[^']*\/(?:\d+-)?([^/']+\.ts)'/g, "'$1'").trimEnd();
    expect(unlinked(read(folder, `${name}.ts`)), file).toBe(unlinked(copyPart(source, file)));
    const texts = files.filter((name) => name.endsWith('.ts')).map((name) => read(folder, name));
    for (const name of files.filter((one) => !/^example\.ts$|\.json$/.test(one))) {
      expect(
        texts.some((text) => text.includes(`from './${name}'`)),
        `${file}: imports ${name}`,
      ).toBe(true);
    }
    for (const name of Object.keys(packageJson(folder).dependencies)) {
      expect(
        texts.some((text) => text.includes(`from '${name}`)),
        `${file}: imports ${name}`,
      ).toBe(true);
    }
    const { dependencies, devDependencies } = packageJson(folder);
    expect(packages).toEqual(Object.keys({ ...dependencies, ...devDependencies }));
  }
  expect(readdirSync(top)).toHaveLength(recipes.length);
  expect(options.size).toBe(1);

  // One program of them all; each project still finds its own packages only.
  const { compilerOptions } = JSON.parse([...options][0] as string);
  mkdirSync(join(top, 'node_modules/@types'), { recursive: true });
  symlinkSync(join(root, 'node_modules/@types/node'), join(top, 'node_modules/@types/node'));
  writeFileSync(join(top, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*/*.ts'] }));
  expect(await tsc(top)).toEqual({ code: 0, stdout: '', stderr: '' });

  // The check would see a package that lacks.
  writeFileSync(join(top, 'setup-check-runtime/more.ts'), "import pMap from 'p-map';\npMap([], String);\n");
  writeFileSync(
    join(top, 'tsconfig.json'),
    JSON.stringify({ compilerOptions, files: ['setup-check-runtime/more.ts'] }),
  );
  expect((await tsc(top)).stdout).toContain("Cannot find module 'p-map'");
});

test.each([
  ['setup/find-regions', '', undefined],
  ['ec2/find-image', 'ami-', undefined],
  ['s3/create-bucket', 'created\n', 'my-company-reports'],
])('%s installs and runs in its new project', { timeout: 300_000 }, async (recipe, printed, bucket) => {
  const folder = join(newFolder(), 'My Project');
  await copy(recipe, folder);
  const install = await shell('npm install --prefer-offline --no-audit --no-fund', folder);
  expect(install, install.stderr).toMatchObject({ code: 0 });
  expect(await shell('npm run --silent check', folder)).toEqual({ code: 0, stdout: '', stderr: '' });

  const client = s3();
  if (bucket) onTestFinished(async () => void (await client.send(new DeleteBucketCommand({ Bucket: bucket }))));
  const { code, stdout, stderr } = await shell('npm start --silent', folder, {
    HOME: home,
    AWS_ENDPOINT_URL: process.env.COOKBOOK_LOCALSTACK as string,
    AWS_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: account,
    AWS_SECRET_ACCESS_KEY: 'test',
    AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true',
  });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toContain(printed);
  expect(stdout).not.toBe('');
  if (bucket) expect(await client.send(new HeadBucketCommand({ Bucket: bucket }))).toBeTruthy();
});

test('a recipe is named by its number, its name or its file', async () => {
  const copied: CopiedRecipe[] = [];
  const names = [
    '3.1',
    's3/create-bucket',
    'create-bucket',
    'recipes/s3/01-create-bucket.ts',
    './recipes/s3/01-create-bucket.ts',
  ];
  for (const name of names) copied.push(await copy(name, join(newFolder(), 'new')));
  for (const { files } of copied) expect(files).toEqual(copied[0]?.files);
  const folder = join(newFolder(), 'new');
  expect(await copy('2.16', folder)).toEqual({
    folder,
    files: ['create-key-pair.ts', 'undo.ts', 'import-key-pair.ts', 'example.ts', 'package.json', 'tsconfig.json'],
    packages: ['@aws-sdk/client-ec2', 'ssh2', '@types/node', '@types/ssh2', 'tsx', 'typescript'],
  });
  const own = JSON.parse(read(root, 'package.json'));
  const { dependencies, devDependencies } = packageJson(folder);
  for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies })) {
    expect(version, name).toBe({ ...own.dependencies, ...own.devDependencies }[name]);
  }
});

test('what is there is never overwritten, and nothing is written with a wrong name', async () => {
  const top = newFolder();
  mkdirSync(join(top, 'full'));
  writeFileSync(join(top, 'full/notes'), 'mine');
  mkdirSync(join(top, 'empty'));
  writeFileSync(join(top, 'file'), 'mine');
  const command = (recipe: string, folder: string) => run(`npx tsx ${file} ${recipe} '${join(top, folder)}'`);
  const [full, noFolder, unknown, empty] = await Promise.all([
    command('3.1', 'full'),
    command('3.1', 'file'),
    command('3.99', 'unknown'),
    command('3.1', 'empty'),
  ]);
  const path = (name: string) => join(top, name);
  expect(full).toEqual({ code: 2, stdout: '', stderr: `Error: "${path('full')}" is not empty: name a new folder\n` });
  expect(noFolder).toMatchObject({ code: 2, stdout: '' });
  expect(noFolder?.stderr).toBe(`Error: "${path('file')}" is no folder that can be read: ENOTDIR\n`);
  expect(unknown).toMatchObject({ code: 2, stdout: '' });
  expect(unknown?.stderr).toMatch(/^Error: there is no recipe "3\.99": give a number such as 3\.1, .*\n$/);
  expect(empty).toMatchObject({ code: 0, stderr: '' });
  // A second time it is full.
  expect(await command('3.1', 'empty')).toMatchObject({ code: 2, stdout: '' });
  expect(readdirSync(path('full'))).toEqual(['notes']);
  expect(read(path('file'))).toBe('mine');
  expect(existsSync(path('unknown'))).toBe(false);
  for (const name of ['', '.', '/', 'create', '9.1', '../../etc/passwd']) {
    await expect(copy(name, path('unknown')), name).rejects.toThrow(RangeError);
  }
});

/** A small cookbook of one recipe that imports this. */
function cookbook(imported: string, more: Record<string, string> = {}): string {
  const folder = newFolder();
  const recipe = `${imported}\n/**\n * @example\n * doIt();\n */\nexport function doIt() {}\n`;
  const files = { 'recipes/s3/01-do-it.ts': recipe, 'package.json': '{}', 'recipes/ec2/x': '', 'recipes/setup/x': '' };
  for (const [name, text] of Object.entries({ ...files, ...more })) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

test('what can’t be copied whole is not copied at all', async () => {
  const folder = join(newFolder(), 'new');
  await expect(copy('3.1', folder, cookbook("import pMap from 'p-map';"))).rejects.toThrow('does not name p-map');
  const twice = cookbook("import { a } from '../ec2/02-other.ts';\nimport { b } from '../setup/02-other.ts';", {
    'recipes/ec2/02-other.ts': '',
    'recipes/setup/02-other.ts': '',
  });
  await expect(copy('3.1', folder, twice)).rejects.toThrow('same name');
  await expect(copy('3.1', folder, cookbook("import { a } from './03-gone.ts';"))).rejects.toThrow('ENOENT');
  const again = cookbook('', { 'recipes/ec2/05-do-it.ts': '' });
  await expect(copy('do-it', folder, again)).rejects.toThrow(
    'more than one recipe: recipes/ec2/05-do-it.ts, recipes/s3',
  );
  expect(existsSync(folder)).toBe(false);
  // Two recipes that import each other.
  const round = cookbook("import { a } from '../ec2/02-other.ts';", {
    'recipes/ec2/02-other.ts': "import { doIt } from '../s3/01-do-it.ts';\nexport const a = doIt;\n",
  });
  expect((await copy('3.1', folder, round)).files).toEqual([
    'do-it.ts',
    'other.ts',
    'example.ts',
    'package.json',
    'tsconfig.json',
  ]);
  expect(read(folder, 'other.ts')).toContain("from './do-it.ts'");
});

test('a folder that can’t be made is refused, and a write that fails leaves nothing', async () => {
  const top = newFolder();
  mkdirSync(join(top, 'empty'));
  writeFileSync(join(top, 'file'), 'mine');
  // Under /proc the call that makes folders above, too, would never end.
  for (const [folder, code] of [
    ['/proc/none', 'ENOENT'],
    [join(top, 'a/b'), 'ENOENT'],
    [join(top, 'file/b'), 'ENOTDIR'],
  ] as const) {
    await expect(copy('3.1', folder), folder).rejects.toThrow(RangeError);
    await expect(copy('3.1', folder), folder).rejects.toThrow(code);
  }
  // Files may have 1024 bytes at most, fewer than the recipe has.
  const limited = (folder: string) =>
    shell(
      `trap '' XFSZ; ulimit -f 2; exec '${process.execPath}' --import tsx ${file} 3.1 '${join(top, folder)}'`,
      root,
      { TSX_DISABLE_CACHE: '1' },
    );
  for (const folder of ['empty', 'new']) {
    expect(await limited(folder)).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('EFBIG') });
  }
  expect(readdirSync(top).sort()).toEqual(['empty', 'file']);
  expect(readdirSync(join(top, 'empty'))).toEqual([]);
});

test('tsc builds it with the options that the Discussion names', async () => {
  const folder = join(newFolder(), 'new');
  await copy('3.1', folder);
  linkPackages(folder);
  const { noEmit, allowImportingTsExtensions, ...compilerOptions } = JSON.parse(
    read(folder, 'tsconfig.json'),
  ).compilerOptions;
  expect([noEmit, allowImportingTsExtensions]).toEqual([true, true]);
  compilerOptions.rewriteRelativeImportExtensions = true;
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions }));
  expect(await tsc(folder)).toEqual({ code: 0, stdout: '', stderr: '' });
  expect(read(folder, 'example.js')).toContain("from './create-bucket.js'");
});
