/**
 * 1.2 Install the SDK
 *
 * ## Problem
 * You want the AWS SDK in your project: which packages are there already, in which version, and what to type for
 * those that are missing.
 *
 * ## Solution
 * Look each package up as Node.js would from the project's folder, see in `package.json` whether the project asks
 * for it, and put together the command of the package manager that the project uses: its lock file tells which.
 * `--install` runs the command, which changes `package.json`, the lock file and `node_modules`.
 *
 * ## Discussion
 * **One package a service.** Each has its own client with its own types, so you load only what you use. All take
 * their credentials and settings from the same places. The code that they share comes with them.
 *
 * **node_modules is the isolated environment.** A project has its own packages in its own versions; nothing is
 * installed for the whole machine. Commit the lock file, and `npm ci` makes the same folder elsewhere. Yarn's
 * Plug'n'Play does without the folder: packages stay zipped, and code is started with `yarn node`.
 *
 * `not declared` works by luck: another package brought it along, and its next update may take it away.
 * `not installed` stands in `package.json`, but nobody has installed it here yet.
 *
 * **SSH** is not part of the SDK. `ssh2` is JavaScript with a native part for ciphers, compiled when it is installed,
 * and does without it. `no native part` is no error: there is no compiler, or the package manager runs what packages
 * bring to be run only when told to. Tell npm 12 with `npm install-scripts approve ssh2` and `npm rebuild ssh2`, pnpm
 * with `pnpm approve-builds`, Yarn with `"dependenciesMeta": { "ssh2": { "built": true } }` and `yarn install`. Bun
 * knows ssh2 and asks nobody. With pnpm 12, even `pnpm install` ends as failed until you have answered.
 *
 * **The AWS CLI** reads the same `~/.aws`, and with it you log in (`aws login` from 2.32 on, `aws configure`). It isn't
 * an npm package. Version 1 gets no new features any more, and ends on July 15, 2027.
 *
 * @run npx tsx recipes/setup/02-install-sdk.ts @aws-sdk/client-ec2 @aws-sdk/client-s3 ssh2
 * @output
 *   package              version  state    use
 *   @aws-sdk/client-ec2  -        missing  instances and volumes
 *   @aws-sdk/client-s3   -        missing  buckets and objects
 *   ssh2                 -        missing  SSH to instances
 *
 *   package manager  npm
 *   command          npm install @aws-sdk/client-ec2 @aws-sdk/client-s3 ssh2
 * @run npx tsx recipes/setup/02-install-sdk.ts
 * @permission nothing
 * @cost nothing
 * @undo nothing
 * @book installing boto
 * @book an isolated environment
 * @book the SSH library
 * @book the command-line tools
 * @see https://docs.aws.amazon.com/sdk-for-javascript/v3/developer-guide/setting-up.html
 * @see https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html
 * @see https://aws.amazon.com/blogs/developer/cli-v1-maintenance-mode-announcement/
 * @see https://pnpm.io/cli/approve-builds
 * @see https://yarnpkg.com/advanced/pnpapi
 */
import { exec, execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, readFile, realpath } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

export interface SdkPackage {
  package: string;
  /** Of the one that Node.js would load; null where there is none. */
  version: string | null;
  state: 'installed' | 'no native part' | 'not declared' | 'not installed' | 'missing';
  /** What the cookbook has it for; null for a package that it doesn't use. */
  use: string | null;
}

export interface InstalledSdk {
  packages: SdkPackage[];
  packageManager: 'npm' | 'pnpm' | 'yarn' | 'bun';
  /** What adds the packages that lack, to be run in the folder, or what was run; null where none lacks. */
  command: string | null;
}

const uses: Record<string, string> = {
  '@aws-sdk/client-ec2': 'instances and volumes',
  '@aws-sdk/client-s3': 'buckets and objects',
  '@aws-sdk/s3-request-presigner': 'links to objects',
  '@aws-sdk/s3-presigned-post': 'upload forms',
  '@aws-sdk/client-s3-control': 'batch jobs',
  '@aws-sdk/checksums': 'checksums of objects',
  '@aws-sdk/client-cloudwatch': 'metrics and alarms',
  '@aws-sdk/client-sns': 'notifications',
  '@aws-sdk/client-ssm': 'newest images',
  '@aws-sdk/client-sts': 'who you are',
  '@aws-sdk/client-iam': 'roles of instances',
  ssh2: 'SSH to instances',
};

/** npm last: a package-lock.json beside another lock file was most often left there by mistake. */
const lockFiles: Record<string, InstalledSdk['packageManager']> = {
  ...{ 'pnpm-lock.yaml': 'pnpm', 'yarn.lock': 'yarn', 'bun.lock': 'bun', 'bun.lockb': 'bun' },
  ...{ 'package-lock.json': 'npm', 'npm-shrinkwrap.json': 'npm' },
};

/**
 * Installs the packages of the AWS SDK that a project lacks, or only tells which.
 *
 * @param options.folder - The project's, or a folder in it.
 * @param options.packages - Their names; by default the SDK's packages for EC2, S3 and what belongs to them, and ssh2.
 * @param options.dryRun - Change nothing. False by default.
 * @param options.onProgress - Is told the command before it is run.
 * @param options.signal - Ends the package manager.
 * @returns The packages as they are found at the end.
 * @throws RangeError when the folder can't be read or a name is none.
 * @throws Error when a package.json can't be read, or when the package manager fails.
 * @see https://docs.aws.amazon.com/sdk-for-javascript/v3/developer-guide/setting-up.html
 *
 * @example
 * const packages = ['@aws-sdk/client-s3', '@aws-sdk/lib-storage'];
 * const { command } = await installSdk({ folder: '.', packages, dryRun: true });
 * console.log(command ?? 'nothing lacks');
 */
export async function installSdk({
  folder,
  packages: names = Object.keys(uses),
  dryRun = false,
  onProgress = () => {},
  signal,
}: {
  folder: string;
  packages?: string[];
  dryRun?: boolean;
  onProgress?: (command: string) => void;
  signal?: AbortSignal;
}): Promise<InstalledSdk> {
  // They become words of a command, which must not take one for an option.
  const wrong = names.find((name) => !/^(@[a-z0-9][\w.-]*\/)?[a-z0-9][\w.-]*$/.test(name));
  if (wrong !== undefined) throw new RangeError(`"${wrong}" is no name of a package such as @aws-sdk/client-s3`);
  await readdir(folder).catch(({ code }) => {
    throw new RangeError(`"${folder}" is no folder that can be read: ${code}`);
  });

  // Node.js looks for packages from where a file really is, whatever link leads there.
  const project = await realpath(folder);
  const { declared, packageManager, plugAndPlay } = await readProject(project);
  const find = plugAndPlay ? zippedIn(plugAndPlay) : findPackage;
  const found = await Promise.all(names.map((name) => find(project, name)));
  const packages = names.map((name, at): SdkPackage => {
    const { version = null, native = false } = found[at] ?? {};
    let state: SdkPackage['state'] = name === 'ssh2' && !native ? 'no native part' : 'installed';
    if (!declared.has(name)) state = version ? 'not declared' : 'missing';
    else if (!version) state = 'not installed';
    return { package: name, version, state, use: uses[name] ?? null };
  });

  // Adding also installs what is declared. Adding that again would raise its version.
  const add = packages.filter(({ state }) => /missing|not declared/.test(state)).map((one) => one.package);
  const install = packages.some(({ state }) => state === 'not installed');
  const words = [add.length > 0 && packageManager !== 'npm' ? 'add' : 'install', ...add];
  const command = add.length > 0 || install ? [packageManager, ...words].join(' ') : null;
  if (dryRun || !command) return { packages, packageManager, command };

  onProgress(command);
  // Through a shell where package managers are scripts. Elsewhere a shell would keep the signal from them.
  const shell = process.platform === 'win32';
  const running = promisify(execFile)(packageManager, words, { cwd: project, signal, shell });
  // Nobody is there to answer a question.
  running.child.stdin?.end();
  await running.catch((error: Error & { stdout: string; stderr: string }) => {
    signal?.throwIfAborted();
    const said = `${error.stderr}\n${error.stdout}`;
    // pnpm's word for: all is installed, but some packages brought scripts that were not run.
    if (said.includes('ERR_PNPM_IGNORED_BUILDS')) return;
    const lines = said.split('\n').filter((line) => /err|YN\d/i.test(line));
    throw new Error(`"${command}" failed: ${lines.slice(0, 3).join('\n') || error.message}`, { cause: error });
  });
  return { ...(await installSdk({ folder, packages: names, dryRun: true })), command };
}

/**
 * Finds the AWS CLI on the PATH.
 *
 * @param options.signal - Ends the wait for it, which is given 10 seconds.
 * @returns Its version, or null.
 * @see https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html
 *
 * @example
 * const version = await findAwsCli();
 * if (!version?.startsWith('2.')) console.log('install version 2 of the AWS CLI');
 * else console.log(`the AWS CLI is there in version ${version}`);
 */
export async function findAwsCli({ signal }: { signal?: AbortSignal } = {}): Promise<string | null> {
  const said = await promisify(exec)('aws --version', { timeout: 10_000, signal }).catch(() => null);
  signal?.throwIfAborted();
  return /aws-cli\/(\S+)/.exec(said?.stdout ?? '')?.[1] ?? null;
}

/** What the folder's project and the workspace above it say. */
async function readProject(folder: string) {
  const declared = new Set<string>();
  let packageManager: InstalledSdk['packageManager'] | undefined;
  let plugAndPlay: string | undefined;
  for (let at = folder; ; at = dirname(at)) {
    const { packageManager: field = '', ...json } = (await readPackage(at)) ?? {};
    const { dependencies, devDependencies, optionalDependencies, peerDependencies } = json;
    const all = { ...dependencies, ...devDependencies, ...optionalDependencies, ...peerDependencies };
    for (const name of Object.keys(all)) declared.add(name);
    const lockFile = Object.keys(lockFiles).find((name) => existsSync(join(at, name)));
    const [named] = /^(npm|pnpm|yarn|bun)(?=@)/.exec(field) ?? [];
    packageManager ??= lockFile ? lockFiles[lockFile] : (named as InstalledSdk['packageManager'] | undefined);
    if (existsSync(join(at, '.pnp.cjs'))) plugAndPlay ??= join(at, '.pnp.cjs');
    if (at === dirname(at)) return { declared, packageManager: packageManager ?? 'npm', plugAndPlay };
  }
}

interface Found {
  version: string;
  native: boolean;
}

const nativePart = 'lib/protocol/crypto/build/Release/sshcrypto.node';

/** Finds a package as Node.js does. `require.resolve` can't: some packages don't export their package.json. */
async function findPackage(folder: string, name: string): Promise<Found | null> {
  for (let at = folder; ; at = dirname(at)) {
    const path = join(at, 'node_modules', name);
    const { version } = (await readPackage(path)) ?? {};
    if (version) return { version, native: existsSync(join(path, nativePart)) };
    if (at === dirname(at)) return null;
  }
}

/** Finds a package as Yarn's Plug'n'Play does: most are in zip files, those with a native part are unpacked. */
function zippedIn(plugAndPlay: string): typeof findPackage {
  const require = createRequire(plugAndPlay);
  // It may have been written anew since it was last loaded.
  delete require.cache[plugAndPlay];
  const api = require(plugAndPlay);
  return async (folder, name) => {
    try {
      const path = api.resolveToUnqualified(name, `${folder}/`);
      const { reference } = api.findPackageLocator(path);
      const [, version = reference] = /npm(?::|%3A)([^:#]+)/.exec(reference) ?? [];
      return { version, native: existsSync(join(path, nativePart)) };
    } catch {
      return null;
    }
  };
}

type PackageJson = { version?: string; packageManager?: string } & Partial<
  Record<'dependencies' | 'devDependencies' | 'optionalDependencies' | 'peerDependencies', Record<string, string>>
>;

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

// ---- command line: leave out when copying ----
import { interrupted, json, print, progress, recipe } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('[packages...]', 'names of packages (default: those that the recipes use)')
    .option('--project <folder>', 'folder of the project', '.')
    .option('--install', 'run the command that adds what lacks')
    .action(async (names, { project, install }) => {
      const packages = names.length > 0 ? names : undefined;
      const [signal, onProgress] = [interrupted(), (command: string) => progress(`running ${command}`)];
      const sdk = await installSdk({ folder: project, packages, dryRun: !install, onProgress, signal });
      const result = packages ? sdk : { ...sdk, awsCli: await findAwsCli({ signal }) };
      if (json()) return print(result);
      // For people the packages are a table of their own.
      const { packages: rows, ...rest } = result;
      print(rows);
      console.log();
      print(rest, { awsCli: (version: string | null) => version ?? 'not found' });
    }),
);
