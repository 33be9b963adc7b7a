/**
 * 1.1 Check Node.js, npm, TypeScript and the SDK
 *
 * ## Problem
 * You want to know whether what is installed here runs these recipes and your project, whether it still gets
 * fixes and until when, and what to do if not.
 *
 * ## Solution
 * Compare the version of Node.js with its published end-of-life dates, and with the lowest that `engines` of the
 * project, TypeScript, tsx and the SDK name; they are read from `node_modules` (Yarn's Plug'n'Play has none).
 * `--node` checks the version that your server has; npm is still this machine's.
 *
 * ## Discussion
 * `ends soon` begins half a year before the end; then what is installed works as before, but security holes stay
 * open. `no date`: none is published, or none was known in November 2026. Only a Node.js that is too old makes the
 * exit code 1: with anything else your code may well run.
 *
 * Take a Node.js with long-term support (LTS): up to 26 an even number, from 27 on any. The SDK is tested with those,
 * until eight months after their end: releases after the first week of January 2027 need Node.js 22. Till then 20
 * gives a NodeVersionSupportWarning; AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED=true silences it.
 *
 * **Is tsx needed?** Not with Node.js 22.18, 23.6 and later: `node recipes/setup/01-check-runtime.ts` works. Node.js
 * blanks the types out. It checks none (`npx tsc` does), ignores `tsconfig.json` with its `paths`, and refuses what
 * is more than types: enums, parameter properties, namespaces with code. `erasableSyntaxOnly` keeps these out.
 *
 * **ES module or CommonJS?** `.mts` files are ES modules, `.cts` CommonJS; for `.ts` the nearest `package.json` decides
 * by `"type": "module"` or `"commonjs"`. Without a `type` tools differ. The SDK works in both. Recipes are ES modules:
 * copy one into a project with `"type": "module"`, or name the copy `.mts`.
 *
 * @run npx tsx recipes/setup/01-check-runtime.ts --node 23.11.1
 * @output
 *   tool                           version   state    until       advice
 *   Node.js                        23.11.1   ended    2025-06-01  install the newest LTS
 *   npm                            11.19.1   no date  -           -
 *   typescript                     7.0.2     no date  -           -
 *   tsx                            4.23.15   no date  -           -
 *   @aws-sdk/checksums             3.1002.6  ended    2026-01-07  install the newest LTS of Node.js
 *   @aws-sdk/client-cloudwatch     3.1164.0  ended    2026-01-07  install the newest LTS of Node.js
 *   @aws-sdk/client-ec2            3.1169.0  ended    2026-01-07  install the newest LTS of Node.js
 *   @aws-sdk/client-iam            3.1169.0  ended    2026-01-07  install the newest LTS of Node.js
 *   @aws-sdk/client-s3             3.1175.0  ended    2026-01-07  install the newest LTS of Node.js
 *   @aws-sdk/client-s3-control     3.1112.0  ended    2026-01-07  install the newest LTS of Node.js
 *   @aws-sdk/client-sns            3.1169.0  ended    2026-01-07  install the newest LTS of Node.js
 *   @aws-sdk/client-ssm            3.1169.0  ended    2026-01-07  install the newest LTS of Node.js
 *   @aws-sdk/client-sts            3.1174.0  ended    2026-01-07  install the newest LTS of Node.js
 *   @aws-sdk/s3-presigned-post     3.1164.0  ended    2026-01-07  install the newest LTS of Node.js
 *   @aws-sdk/s3-request-presigner  3.1169.0  ended    2026-01-07  install the newest LTS of Node.js
 *   @aws-sdk/client-sqs            3.1175.0  ended    2026-01-07  install the newest LTS of Node.js
 * @run npx tsx recipes/setup/01-check-runtime.ts
 * @permission nothing
 * @cost nothing
 * @undo nothing
 * @book Python 2.6 or 2.7
 * @see https://nodejs.org/en/about/previous-releases
 * @see https://nodejs.org/api/typescript.html
 * @see https://aws.amazon.com/blogs/developer/aws-sdk-for-javascript-aligns-with-node-js-release-schedule/
 * @see https://github.com/aws/aws-sdk-js-v3/issues/7983
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
  state: 'supported' | 'ends soon' | 'ended' | 'too old' | 'missing' | 'no date';
  /** Last day of support; for version 3 of the SDK, of its new releases for this Node.js. Null where none is known. */
  until: Date | null;
  /** What to do; null where there is nothing. */
  advice: string | null;
}

const { compare } = new Intl.Collator('en', { numeric: true });
/** Last days of support, from https://github.com/nodejs/Release in November 2026. */
const nodeEnds: Record<string, string> = {
  ...{ 18: '2025-04-30', 20: '2026-04-30', 22: '2027-04-30', 24: '2028-04-30', 26: '2029-04-30', 27: '2030-04-30' },
  ...{ 19: '2023-06-01', 21: '2024-06-01', 23: '2025-06-01', 25: '2026-06-01' },
};

/**
 * Looks at the Node.js, npm, TypeScript, tsx and AWS SDK that a project is run with.
 *
 * @param options.folder - In the project, whose package.json tells the packages of the SDK; else EC2's and S3's.
 * @param options.node - Version of Node.js. The running one by default.
 * @param options.today - Day that the states are told for. Today by default.
 * @param options.signal - Ends the wait for npm, which is given 10 seconds.
 * @returns Node.js, npm, TypeScript, tsx (where it is there or needed) and the packages of the SDK, in this order.
 * @throws RangeError when the folder can't be read, `node` is no full version or `today` no date.
 * @throws Error when a package.json can't be read.
 * @see https://nodejs.org/en/about/previous-releases
 *
 * @example
 * const tools = await checkRuntime({ folder: '.' });
 * const problems = tools.filter(({ advice }) => advice !== null);
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
  if (!/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version)) throw new RangeError(`"${node}" is no version such as 24.11.0`);
  if (Number.isNaN(today.getTime())) throw new RangeError('today is no date');
  await readdir(folder).catch(({ code }) => {
    throw new RangeError(`"${folder}" is no folder that can be read: ${code}`);
  });

  // Node.js looks for packages from where a file really is, whatever link leads there.
  const start = await realpath(folder);
  const project = await findPackage(start);
  const find = async (name: string) => ({ ...(await findPackage(start, join('node_modules', name))), name });
  const named = Object.keys({ ...project?.dependencies, ...project?.devDependencies });
  const used = named.filter((name) => /^(aws-sdk$|@aws-sdk\/)/.test(name));
  const sdk = await Promise.all((used.length > 0 ? used : ['@aws-sdk/client-ec2', '@aws-sdk/client-s3']).map(find));
  const [typescript, tsx] = [await find('typescript'), await find('tsx')];
  // Through a shell, since on Windows npm is a script.
  const npm = await promisify(exec)('npm --version', { timeout: 10_000, signal }).catch(() => signal?.throwIfAborted());

  // Of all that need a newer Node.js, the strictest is named.
  const cookbook = { name: 'this cookbook', engines: { node: '20.19.0' } };
  const [strictest] = [cookbook, { ...project, name: 'the project' }, typescript, tsx, ...sdk]
    .map(({ name, engines }) => ({ name, least: lowestOf(engines?.node) }))
    .filter(({ least }) => compare(version, least) < 0)
    .sort((a, b) => compare(b.least, a.least));
  const why = strictest ? `${strictest.name} needs ${strictest.least} or later: ` : '';
  const runsTypes = compare(version, '22.18') >= 0 && !/^23\.[0-5]\./.test(version);
  // A nightly build or an alpha is no release, and gets no fixes.
  const end = version.includes('-') ? undefined : nodeEnds[Number.parseInt(version, 10)];
  // AWS's rule is eight months more, which for Node.js 20 it announced as the first week of January.
  const sdkEnd = end && `${Number.parseInt(end, 10) + 1}-01-07`;
  type Facts = { tool: string; version?: string; least?: string; end?: string; advice: string };
  const judge = ({ tool, version, least = '0', end, advice }: Facts): Tool => {
    const until = version && end ? new Date(end) : null;
    const days = until && (until.getTime() - today.getTime()) / 86_400_000;
    let state: Tool['state'] = 'supported';
    if (!version) state = 'missing';
    else if (compare(version, least) < 0) state = 'too old';
    else if (days === null) state = 'no date';
    // The last day counts as a whole.
    else if (days <= 182) state = days <= -1 ? 'ended' : 'ends soon';
    return { tool, version: version || null, state, until, advice: /supported|no date/.test(state) ? null : advice };
  };
  return [
    judge({ tool: 'Node.js', version, least: strictest?.least, end, advice: `${why}install the newest LTS` }),
    judge({ tool: 'npm', version: npm?.stdout.trim(), advice: '`npm --version` fails: it comes with Node.js' }),
    // For `erasableSyntaxOnly`. The SDK alone is content with 5.6: https://github.com/aws/aws-sdk-js-v3/issues/8194
    judge({ ...typescript, tool: 'typescript', least: '5.8', advice: 'npm install --save-dev typescript@latest' }),
    judge({ ...tsx, tool: 'tsx', advice: 'npm install --save-dev tsx' }),
    ...sdk.map(({ name: tool, version }) => {
      const advice = version ? 'install the newest LTS of Node.js' : `npm install ${tool}`;
      if (tool !== 'aws-sdk') return judge({ tool, version, end: sdkEnd, advice });
      return judge({ tool, version, end: '2025-09-08', advice: 'use @aws-sdk/client-… instead' });
    }),
  ].filter(({ tool, version }) => tool !== 'tsx' || version !== null || !runsTypes);
}

type Words = Record<string, string>;
type Package = { version?: string; engines?: Words; dependencies?: Words; devDependencies?: Words };

/** Reads the nearest package.json, here or above. `require.resolve` can't: some packages don't export theirs. */
async function findPackage(folder: string, path = ''): Promise<Package | null> {
  const file = join(folder, path, 'package.json');
  try {
    return JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT' && code !== 'ENOTDIR') throw new Error(`${file} can't be read: ${message}`);
    return folder === dirname(folder) ? null : findPackage(dirname(folder), path);
  }
}

/** The lowest version that a range such as `^20.19.0 || >=22.12.0` takes; its gaps and its end are not looked at. */
function lowestOf(range = ''): string {
  return range.match(/(?<=(^|\||>=?|\^|~) *v?)\d+(\.\d+)*/g)?.sort(compare)[0] ?? '0';
}

// ---- command line: leave out when copying ----
import { interrupted, print, recipe } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .option('--project <folder>', 'check the project there (default: the one around this folder, or the cookbook)')
    .option('--node <version>', 'check this version of Node.js instead of the running one')
    .action(async ({ project, node }) => {
      const here = (await findPackage(process.cwd())) ? process.cwd() : join(import.meta.dirname, '../..');
      const tools = await checkRuntime({ folder: project ?? here, node, signal: interrupted() });
      print(tools, { until: (day: Date | null) => day?.toISOString().slice(0, 10) ?? '-' });
      const [{ version, state, advice }] = tools as [Tool];
      if (state === 'too old') throw new Error(`Node.js ${version} is too old: ${advice}`);
    }),
);
