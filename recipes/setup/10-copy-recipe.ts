/**
 * 1.10 Start a project from a recipe
 *
 * ## Problem
 * You want a recipe's function in a project of your own, with all that it needs and nothing else.
 *
 * ## Solution
 * Take the part of the recipe above its command line, follow its imports to the other files of the cookbook that it
 * builds on, and put them side by side in a new folder. Add the example from the function's comment as `example.ts`,
 * a `package.json` with just the packages that are imported, in the versions that the cookbook is tested with, and a
 * `tsconfig.json`.
 *
 * ## Discussion
 * Then, in the new folder: `npm install`, and `npm run check` for the types. `npm start` runs `example.ts` with your
 * own credentials on your own account: read it first, and put in your names.
 *
 * The files are yours from here on. They know nothing of the cookbook: the functions take clients that you make,
 * with `new S3Client({})` or as you like. The licence asks for no notice.
 *
 * Only a new or an empty folder will do; nothing is ever overwritten, and if a file can't be written, those before it
 * are removed. For a project that is there already, print the part of a file with `--source`, and see with 1.2 which
 * packages lack. Files keep their names without the number, and import each other with `.ts`, which tsx and Node.js
 * from 22.18 on run as it is. If you build with `tsc`, set `rewriteRelativeImportExtensions` in place of `noEmit` and
 * `allowImportingTsExtensions`.
 *
 * Versions are read from the cookbook's own `package.json`: what is installed can't always be looked into.
 *
 * @run npx tsx recipes/setup/10-copy-recipe.ts s3/create-bucket paws-example-project
 * @output
 *   folder    paws-example-project
 *   files     create-bucket.ts, example.ts, package.json, tsconfig.json
 *   packages  @aws-sdk/client-s3, @types/node, tsx, typescript
 * @permission nothing
 * @cost nothing
 * @undo rm -r {folder}
 * @see https://docs.npmjs.com/cli/configuring-npm/package-json
 * @see https://www.typescriptlang.org/tsconfig/rewriteRelativeImportExtensions.html
 */
import { mkdir, open, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';

export interface CopiedRecipe {
  folder: string;
  /** Names of the files in it. */
  files: string[];
  /** Names of the packages that its package.json asks for. */
  packages: string[];
}

/**
 * Starts a project from one recipe of the cookbook.
 *
 * @param options.cookbook - Folder of the cookbook.
 * @param options.recipe - Its number such as `3.1`, its name such as `s3/create-bucket`, or its file.
 * @param options.folder - The project's, which is made in a folder that is there; if it is there itself, it must be empty.
 * @returns What was written.
 * @throws RangeError when there is no such recipe, or the folder is not empty or can't be made.
 * @throws Error when a recipe imports a package that the cookbook's package.json doesn't name.
 * @see https://docs.npmjs.com/cli/configuring-npm/package-json
 *
 * @example
 * const cookbook = '../paws-cookbook';
 * const { files } = await copyRecipe({ cookbook, recipe: 's3/create-bucket', folder: 'my-project' });
 * console.log(`wrote ${files.join(', ')}`);
 */
export async function copyRecipe({
  cookbook,
  recipe,
  folder,
}: {
  cookbook: string;
  recipe: string;
  folder: string;
}): Promise<CopiedRecipe> {
  const file = await findRecipe(cookbook, recipe);
  const there = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw new RangeError(`"${folder}" is no folder that can be read: ${error.code}`);
  });
  if (there.length > 0) throw new RangeError(`"${folder}" is not empty: name a new folder`);

  // The recipe, then what it imports, then what that imports. Names are free of numbers, so they must not clash.
  const files: Record<string, string> = {};
  const imported = new Set<string>();
  const waiting = [join(cookbook, file)];
  for (const path of waiting) {
    const source = (await readFile(path, 'utf8')).replace(/\n\/\/ -+ command line: [\s\S]*/, '');
    files[newName(path)] = source.replace(imports, (statement, name: string) => {
      if (!name.startsWith('.')) {
        imported.add(name);
        return statement;
      }
      const other = resolve(path, '..', name);
      if (!waiting.some((one) => resolve(one) === other)) waiting.push(other);
      return statement.replace(`'${name}'`, `'./${newName(other)}'`);
    });
  }
  if (Object.keys(files).length < waiting.length) throw new Error(`two files that ${file} needs have the same name`);
  files['example.ts'] = exampleOf(files[newName(file)] as string, newName(file));
  for (const [, name = ''] of files['example.ts'].matchAll(imports)) if (!name.startsWith('.')) imported.add(name);

  const { dependencies, devDependencies } = await choosePackages(cookbook, [...imported]);
  files['package.json'] = json({
    private: true,
    type: 'module',
    scripts: { start: 'tsx example.ts', check: 'tsc' },
    dependencies,
    devDependencies,
  });
  files['tsconfig.json'] = json({
    compilerOptions: {
      ...{ target: 'es2023', module: 'nodenext', types: ['node'], noEmit: true },
      ...{ strict: true, noUncheckedIndexedAccess: true, skipLibCheck: true },
      ...{ erasableSyntaxOnly: true, verbatimModuleSyntax: true, allowImportingTsExtensions: true },
    },
  });

  // Without `recursive`, which makes Node.js try for ever under /proc.
  const made = await mkdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw new RangeError(`"${folder}" can't be made: ${error.code}`);
    return false;
  });
  const written: string[] = [];
  try {
    for (const [name, text] of Object.entries(files)) {
      // 'wx' opens a file only if it is new, even if another program makes it at this moment.
      const file = await open(join(folder, name), 'wx');
      written.push(join(folder, name));
      await file.writeFile(text).finally(() => file.close());
    }
  } catch (error) {
    for (const path of written) await rm(path);
    // It stays if another program has put something in.
    if (made !== false) await rmdir(folder).catch(() => {});
    throw error;
  }
  return {
    folder,
    files: written.map((path) => basename(path)),
    packages: Object.keys({ ...dependencies, ...devDependencies }),
  };
}

/** Statements that import or export from elsewhere; in comments they never begin a line. */
const imports = /^(?:import|export) (?:[^;'"]*? from )?'([^']+)';$/gm;

/** `recipes/s3/01-create-bucket.ts` → `create-bucket.ts` */
const newName = (path: string) => basename(path).replace(/^\d+-/, '');

const json = (value: object) => `${JSON.stringify(value, null, 2)}\n`;

async function findRecipe(cookbook: string, wanted: string): Promise<string> {
  const chapters = { setup: 1, ec2: 2, s3: 3 };
  const found: string[] = [];
  for (const [chapter, number] of Object.entries(chapters)) {
    for (const name of await readdir(join(cookbook, 'recipes', chapter))) {
      const [, digits, words] = /^(\d+)-(.*)\.ts$/.exec(name) ?? [];
      const file = `recipes/${chapter}/${name}`;
      const names = [file, `${number}.${Number(digits)}`, `${chapter}/${words}`, words];
      if (names.includes(wanted.replace(/^\.\//, ''))) found.push(file);
    }
  }
  if (found.length === 1) return found[0] as string;
  if (found.length > 1) throw new RangeError(`"${wanted}" is more than one recipe: ${found.join(', ')}`);
  throw new RangeError(`there is no recipe "${wanted}": give a number such as 3.1, or a name such as s3/create-bucket`);
}

/** The example in the comment of a recipe's function, with the imports that it needs. */
function exampleOf(source: string, file: string): string {
  const main = file.replace('.ts', '').replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
  const [, text] =
    new RegExp(` \\* @example\\n((?: \\*(?!/).*\\n)+) \\*/\\nexport (?:async )?function\\*? ${main}\\b`).exec(source) ??
    [];
  if (!text) throw new Error(`${file} has no example in the comment of ${main}`);
  const code = text.replace(/^ \* ?/gm, '');
  const own = [...source.matchAll(/^export (?:async )?function\*? (\w+)/gm)].map(([, name]) => name as string);
  // A command that the recipe does not use is of the same service as the example's client.
  const service = (name: string) => (/(\w+)Client$/.exec(name) ?? /(\w+)Client\b/.exec(code))?.[1]?.toLowerCase();
  const lines = [...new Set(code.match(/\b\w+Client\b|(?<=new )\w+Command\b/g))].map((name) => {
    const [, from] = [...source.matchAll(imports)].find(([all]) => new RegExp(`\\b${name}\\b`).test(all)) ?? [];
    return `import { ${name} } from '${from ?? `@aws-sdk/client-${service(name)}`}';`;
  });
  const used = own.filter((name) => new RegExp(`\\b${name}\\(`).test(code));
  return `${[...lines.sort(), `import { ${used.join(', ')} } from './${file}';`].join('\n')}\n\n${code}`;
}

/** The versions of what is imported, and of what is needed to run and check it. */
async function choosePackages(cookbook: string, names: string[]) {
  type Versions = Record<string, string>;
  const own = JSON.parse(await readFile(join(cookbook, 'package.json'), 'utf8'));
  const known: Versions = { ...own.dependencies, ...own.devDependencies };
  const dependencies: Versions = {};
  const devDependencies: Versions = {};
  for (const name of names.filter((name) => !name.startsWith('node:')).sort()) {
    // '@smithy/core/config' is a part of the package '@smithy/core'.
    const [part = ''] = /^(@[^/]+\/)?[^/]+/.exec(name) ?? [];
    const version = known[part];
    if (!version) throw new Error(`the cookbook's package.json does not name ${part}, which the recipe imports`);
    dependencies[part] = version;
  }
  const types = Object.keys(dependencies).map((name) => `@types/${name.replace('@', '').replace('/', '__')}`);
  for (const name of ['@types/node', ...types, 'tsx', 'typescript'].filter((name) => known[name])) {
    devDependencies[name] = known[name] as string;
  }
  return { dependencies, devDependencies };
}

// ---- command line: leave out when copying ----
import { fileURLToPath } from 'node:url';
import { print, recipe, sayUndo } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('<recipe>', 'number or name of the recipe, such as 3.1 or s3/create-bucket')
    .argument('<folder>', 'folder to make for the project')
    .action(async (recipe, folder) => {
      const result = await copyRecipe({ cookbook: fileURLToPath(new URL('../..', import.meta.url)), recipe, folder });
      print(result);
      sayUndo(result);
    }),
);
