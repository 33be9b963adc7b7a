/**
 * 1.1 Check Node.js, npm, TypeScript and the SDK
 *
 * ## Problem
 * You want to know whether what is installed here runs these recipes and your project, whether it still gets
 * fixes and until when, and what to do if not.
 *
 * ## Solution
 * Compare the version of Node.js with its published end-of-life dates and with what the project's packages need;
 * look those up in `node_modules` as Node.js does (Yarn's Plug'n'Play has none), and ask npm for its own version.
 * `--node` checks the version that your server has.
 *
 * ## Discussion
 * `ends soon` begins half a year before the end. After the end all works as before, but security holes stay open.
 * Only a Node.js that is too old, for this cookbook or for one of the packages, makes the exit code 1.
 *
 * Take a Node.js with long-term support (LTS). Up to 26 those are the even numbers, and odd ones end within eight
 * months; from 27 on there is one version a year, and all have it. The SDK drops a version of Node.js in the January
 * after its end: releases after the first week of January 2027 need Node.js 22, and a TypeScript of the last two and
 * a half years. Version 2 of the SDK (the package `aws-sdk`) ended in 2025.
 *
 * **Is tsx needed?** Not with Node.js 22.18 and later: `node recipes/setup/01-check-runtime.ts` works. Node.js
 * blanks the types out. It checks none (`npx tsc` does), ignores `tsconfig.json` with its `paths`, and refuses what
 * is more than types: enums, parameter properties, namespaces with code. `erasableSyntaxOnly` in `tsconfig.json`,
 * since TypeScript 5.8, keeps these out of your code.
 *
 * **ES module or CommonJS?** `.mts` and `.mjs` are ES modules, `.cts` and `.cjs` CommonJS; for `.ts` and `.js` the
 * nearest `package.json` decides by `"type": "module"` or `"commonjs"`. Without a `type` tools differ. The SDK works
 * in both. Recipes are ES modules: copy one into a project with `"type": "module"`, or name the copy `.mts`.
 *
 * @run npx tsx recipes/setup/01-check-runtime.ts --node 23.11.1
 * @output
 *   tool                 version   state      until       advice
 *   Node.js              23.11.1   ended      2025-06-01  install the newest LTS
 *   npm                  11.19.1   supported  -           -
 *   typescript           7.0.2     supported  -           -
 *   tsx                  4.23.15   supported  -           -
 *   @aws-sdk/client-ec2  3.1169.0  supported  -           -
 *   @aws-sdk/client-s3   3.1175.0  supported  -           -
 *   @aws-sdk/client-ssm  3.1169.0  supported  -           -
 *   @aws-sdk/client-sts  3.1174.0  supported  -           -
 * @run npx tsx recipes/setup/01-check-runtime.ts
 * @permission nothing
 * @cost nothing
 * @undo nothing
 * @book Python 2.6 or 2.7
 * @see https://nodejs.org/en/about/previous-releases
 * @see https://nodejs.org/api/typescript.html
 * @see https://github.com/aws/aws-sdk-js-v3/issues/7983
 * @see https://aws.amazon.com/blogs/developer/updating-typescript-version-support-in-aws-sdk-for-javascript-v3/
 */
import { exec } from 'node:child_process';
import { readdir, readFile, realpath } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

export interface Tool {
  /** `Node.js`, `npm`, or the name of a package. */
  tool: string;
  /** Null where it is missing. */
  version: string | null;
  state: 'supported' | 'ends soon' | 'ended' | 'too old' | 'missing';
  /** Last day of support; for the SDK, with this Node.js. Null where none is published. */
  until: Date | null;
  /** What to do; null where it is supported. */
  advice: string | null;
}

/** Last days of support, from https://github.com/nodejs/Release in November 2026. */
const nodeEnds: Record<string, string> = {
  ...{ 18: '2025-04-30', 20: '2026-04-30', 22: '2027-04-30', 24: '2028-04-30', 26: '2029-04-30', 27: '2030-04-30' },
  ...{ 19: '2023-06-01', 21: '2024-06-01', 23: '2025-06-01', 25: '2026-06-01' },
};

/**
 * Looks at the Node.js, npm, TypeScript, tsx and AWS SDK that a project is run with.
 *
 * @param options.folder - The project's. Of the SDK, the packages that its package.json names are looked at, or
 *   else the clients of EC2 and S3.
 * @param options.node - Version of Node.js. The running one by default.
 * @param options.today - Day that the states are told for. Today by default.
 * @param options.signal - Ends the wait for npm, which is given 10 seconds.
 * @returns Node.js, npm, TypeScript, tsx and the packages of the SDK, in this order.
 * @throws RangeError when the folder can't be read, `node` is no full version or `today` no date.
 * @throws Error when a package.json can't be read.
 * @see https://nodejs.org/en/about/previous-releases
 *
 * @example
 * const tools = await checkRuntime({ folder: '.' });
 * const problems = tools.filter(({ state }) => state !== 'supported');
 * for (const { tool, state, advice } of problems) console.log(tool, state, advice);
 */
export async function checkRuntime({
  folder,
  node = process.version,
  today = new Date(),
  signal,
}: {
  folder: string;
  node?: string;
  today?: Date;
  signal?: AbortSignal;
}): Promise<Tool[]> {
  const version = node.replace(/^v/, '');
  if (!/^\d+\.\d+\.\d+/.test(version)) throw new RangeError(`"${node}" is no version such as 24.11.0`);
  if (Number.isNaN(today.getTime())) throw new RangeError('today is no date');
  await readdir(folder).catch(({ code }) => {
    throw new RangeError(`"${folder}" is no folder that can be read: ${code}`);
  });

  // Node.js looks for packages from where a file really is, whatever link leads there.
  const project = await realpath(folder);
  const find = (name: string) => findPackage(project, name);
  const { dependencies, devDependencies } = (await readPackage(project)) ?? {};
  const named = Object.keys({ ...dependencies, ...devDependencies }).filter((name) => name.startsWith('@aws-sdk/'));
  const sdk = await Promise.all((named.length > 0 ? named : ['@aws-sdk/client-ec2', '@aws-sdk/client-s3']).map(find));
  const [typescript, tsx] = [await find('typescript'), await find('tsx')];
  // Through a shell, since on Windows npm is a script.
  const npm = await promisify(exec)('npm --version', { timeout: 10_000, signal }).catch(() => null);
  signal?.throwIfAborted();

  // Of all that needs Node.js, the strictest decides.
  const { name, needs } = [{ name: 'this cookbook', needs: '20.19.0' }, typescript, tsx, ...sdk].reduce(
    (strict, one) => (isOlder(strict.needs, one.needs) ? one : strict),
  );
  const why = isOlder(version, needs) ? `${name} needs ${needs} or later: ` : '';
  const runsTypes = !isOlder(version, '22.18') && !/^23\.[0-5]\./.test(version);
  const sdkEnd = isOlder(version, '20') ? '2026-01-12' : isOlder(version, '22') ? '2027-01-07' : undefined;

  const judge = (tool: string, version: string | null, advice: string, least = '0', end?: string): Tool => {
    const until = version && end ? new Date(end) : null;
    const days = until ? (until.getTime() - today.getTime()) / 86_400_000 : Number.POSITIVE_INFINITY;
    // The last day counts as a whole.
    let state: Tool['state'] = days <= -1 ? 'ended' : days <= 182 ? 'ends soon' : 'supported';
    if (!version) state = 'missing';
    else if (isOlder(version, least)) state = 'too old';
    return { tool, version, state, until, advice: state === 'supported' ? null : advice };
  };
  return [
    judge('Node.js', version, `${why}install the newest LTS`, needs, nodeEnds[Number.parseInt(version, 10)]),
    judge('npm', npm?.stdout.trim() || null, '`npm --version` does not work: npm comes with Node.js'),
    judge('typescript', typescript.version, 'npm install --save-dev typescript@latest', '5.8'),
    judge('tsx', tsx.version, runsTypes ? 'not needed: this Node.js runs .ts files' : 'npm install --save-dev tsx'),
    ...sdk.map(({ name, version }) =>
      judge(name, version, version ? 'later releases need Node.js 22' : `npm install ${name}`, '0', sdkEnd),
    ),
  ];
}

/** Finds a package as Node.js does. `require.resolve` can't: some packages don't export their package.json. */
async function findPackage(folder: string, name: string) {
  for (let at = folder; ; at = dirname(at)) {
    const found = await readPackage(join(at, 'node_modules', name));
    if (!found && at !== dirname(at)) continue;
    const [, needs = '0'] = /(?:>=|\^|~) *(\d[\d.]*)/.exec(found?.engines?.node ?? '') ?? [];
    return { name, version: found?.version ?? null, needs };
  }
}

type Words = Record<string, string>;
type PackageJson = { version?: string; engines?: Words; dependencies?: Words; devDependencies?: Words };

/** Null where there is no package.json. */
async function readPackage(folder: string): Promise<PackageJson | null> {
  const file = join(folder, 'package.json');
  try {
    return JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw new Error(`${file} can't be read: ${message}`);
  }
}

const isOlder = (one: string, other: string) => one.localeCompare(other, 'en', { numeric: true }) < 0;

// ---- command line: leave out when copying ----
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { interrupted, print, recipe } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .option('--project <folder>', 'check this one (default: here, or the cookbook where there is no package.json)')
    .option('--node <version>', 'check this version of Node.js instead of the running one')
    .action(async ({ project, node }) => {
      const here = existsSync('package.json') ? '.' : fileURLToPath(new URL('../..', import.meta.url));
      const tools = await checkRuntime({ folder: project ?? here, node, signal: interrupted() });
      print(tools, { until: (day: Date | null) => day?.toISOString().slice(0, 10) ?? '-' });
      const [{ version, state, advice }] = tools as [Tool];
      if (state === 'too old') throw new Error(`Node.js ${version} is too old: ${advice}`);
    }),
);
