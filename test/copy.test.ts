/** What readers copy compiles on its own, and so do the examples in its doc comments. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { copyPart } from '../shared/header.ts';
import { examplesIn } from './checks.ts';
import { listRecipes, root, temporaryFolder } from './run.ts';

const { dependencies } = JSON.parse(readFileSync(`${root}package.json`, 'utf8'));
const recipes = listRecipes();

test('above the line, recipes import only the SDK and field libraries that package.json names', () => {
  for (const { file, source } of recipes) {
    const modules = [...copyPart(source, file).matchAll(/^(?:import|\}) .*?from '([^'.][^']*)';$/gm)].map(
      ([, name]) => name,
    );
    // '@smithy/core/config' is a part of the package '@smithy/core'.
    const packages = modules.map((name = '') => /^(@[^/]+\/)?[^/]+/.exec(name)?.[0] ?? '');
    const strangers = packages.filter(
      (name) => !dependencies[name] && !builtinModules.includes(name.replace('node:', '')),
    );
    expect(strangers, file).toEqual([]);
  }
});

test('all copied parts and their examples compile under strict in a bare project', { timeout: 120_000 }, () => {
  const { path: folder, remove } = temporaryFolder();
  const examples = recipes.flatMap(({ file, source }) =>
    examplesIn(copyPart(source, file)).map((code, at) => ({
      name: file.replace('.ts', `.example-${at}.ts`),
      code: code.replace('./FILE', `./${file.split('/').at(-1)}`),
    })),
  );
  for (const { file, source } of recipes) {
    mkdirSync(join(folder, file, '..'), { recursive: true });
    writeFileSync(join(folder, file), copyPart(source, file));
    for (const [, helper = ''] of copyPart(source, file).matchAll(/'\.\/(\d\d-helpers\/[^']+)'/g)) {
      cpSync(join(root, file, '..', helper), join(folder, file, '..', helper));
    }
  }
  for (const { name, code } of examples) writeFileSync(join(folder, name), code);
  mkdirSync(join(folder, 'shared'));
  for (const name of ['wait.ts', 'undo.ts', 'ssh.ts', 'wire-log.ts']) {
    cpSync(join(root, 'shared', name), join(folder, 'shared', name));
  }
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  const compilerOptions = {
    ...{ strict: true, noUncheckedIndexedAccess: true, noUnusedLocals: true, skipLibCheck: true, noEmit: true },
    ...{ target: 'es2023', module: 'nodenext', types: ['node'], allowImportingTsExtensions: true },
    ...{ verbatimModuleSyntax: true, erasableSyntaxOnly: true },
  };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['recipes', 'shared'] }));
  const { stdout, status } = spawnSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', folder]);
  remove();
  expect(`${stdout}`).toBe('');
  expect(status).toBe(0);
  expect(examples.length).toBeGreaterThanOrEqual(recipes.length);
});
