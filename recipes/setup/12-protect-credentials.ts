/**
 * 1.12 Protect your credentials
 *
 * ## Problem
 * You want to know whether somebody else can get at your credentials: through an open file, a key left in a
 * project, or an old key that nobody remembers.
 *
 * ## Solution
 * Look at the modes of the files in `~/.aws` and of private keys in a project, search the project's files for access
 * keys, ask AWS whose the credentials in use are and how old this user's access keys are. Nothing is changed, but
 * `--fix` takes away all that others may do with open files: 0644 becomes 0600, 0755 becomes 0700.
 *
 * ## Discussion
 * The best key is none. `aws login` and `aws sso login` give sessions that end by themselves; servers, functions and
 * CI get a role. A key of a user works for whoever has it until you delete it. Have one only where nothing else
 * works, and replace it: make a second one, use it, make the first inactive, and delete it once nothing broke. The
 * root user may do everything in the account: it should have none.
 *
 * A key found in a file that was ever committed or sent is not yours alone any more. Deleting the line doesn't help,
 * for it stays in the history: delete the key in IAM (a session's, ASIA…, ends by itself). Found are ids of keys and
 * secrets next to their usual names; AWS's own examples, which end in EXAMPLE, are no keys. `node_modules`, `.git` and
 * so git's history, files over 1 MB, what you can't read and folders behind symbolic links are not searched.
 *
 * Only modes of files are looked at, not of folders, and none on Windows. Look before you use `--fix`: a server that
 * runs as another user can't read a key any more. IAM's dates are of the user's own keys; of a session nothing is
 * asked. `--max-age` is 90 days by default, as the CIS benchmark has it. The exit code is 1 when there is a problem or
 * something could not be asked, so that CI can run it.
 *
 * @run npx tsx recipes/setup/12-protect-credentials.ts --local
 * @aws npx tsx recipes/setup/12-protect-credentials.ts ~/my-project
 * @output
 *   check          state  where                           advice
 *   file modes     ok     -                               -
 *   keys in files  ok     -                               -
 *   user           ok     arn:aws:iam::123456789012:root  -
 *   access keys    ok     -                               not asked of this root user
 * @permission iam:ListAccessKeys on arn:aws:iam::ACCOUNT:user/USER
 * @cost nothing
 * @undo nothing
 * @emulator On LocalStack everybody is the root user, so with --local that is no problem. Moto server has users.
 * @see https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html
 * @see https://docs.aws.amazon.com/accounts/latest/reference/root-user-access-key.html
 * @see https://docs.aws.amazon.com/sdkref/latest/guide/file-location.html
 */
import { chmod, readdir, readFile, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type AccessKeyMetadata, IAMClient, ListAccessKeysCommand } from '@aws-sdk/client-iam';
import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';

export interface Check {
  check: 'file modes' | 'keys in files' | 'user' | 'access keys';
  /** `unknown` when it could not be asked. */
  state: 'ok' | 'problem' | 'fixed' | 'unknown';
  /** The file, user or key, never a secret. Null when nothing was found. */
  where: string | null;
  /** What is wrong and what to do. Null when nothing. */
  advice: string | null;
}

const maxBytes = 1_000_000;
const accessKeys = /\b(?:AKIA|ASIA)[A-Z0-9]{16}\b/g;
const secretKeys = /secret_?(?:access_?)?key\W{1,8}[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])/gi;
const privateKey = /^-----BEGIN [A-Z ]*PRIVATE KEY-----/m;

/**
 * Looks for credentials that somebody else could use.
 *
 * @param sts - Asked whose the credentials in use are.
 * @param iam - Of the same credentials. Asked for the user's access keys.
 * @param options.files - Files and folders that should be open to nobody else: `~/.aws`. What is missing is fine.
 * @param options.project - Folder to search for access keys, and for private keys that others can read.
 * @param options.fix - Whether to take from open files what others may do with them. False by default.
 * @param options.maxAge - Days after which an access key is old. 90 by default.
 * @param options.rootAllowed - For LocalStack, where everybody is the root user. False by default.
 * @param options.signal - Ends the search.
 * @returns All that was found; for each check that found nothing a line that is `ok`.
 * @throws RangeError when the project is no folder, or `maxAge` no number above 0.
 * @see https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html
 *
 * @example
 * const [sts, iam] = [new STSClient({}), new IAMClient({})];
 * const checks = await protectCredentials(sts, iam, { files: ['/home/me/.aws'], project: '.' });
 * console.log(checks.filter(({ state }) => state === 'problem'));
 */
export async function protectCredentials(
  sts: STSClient,
  iam: IAMClient,
  {
    files,
    project,
    fix = false,
    maxAge = 90,
    rootAllowed = false,
    signal,
  }: {
    files: string[];
    project: string;
    fix?: boolean;
    maxAge?: number;
    rootAllowed?: boolean;
    signal?: AbortSignal;
  },
): Promise<Check[]> {
  if (!(maxAge > 0)) throw new RangeError(`maxAge takes a number of days above 0, not ${maxAge}`);
  await readdir(project).catch(({ code }) => {
    throw new RangeError(`"${project}" is no folder that can be read: ${code}`);
  });

  const own = await listFiles(files.map((file) => resolve(file)));
  const found: Check[] = [];
  for (const file of own) found.push(...(await checkMode(file, fix)));
  for (const file of await listFiles([resolve(project)])) {
    signal?.throwIfAborted();
    // Keys belong into ~/.aws, which may lie in the project.
    if (!own.includes(file)) found.push(...(await searchFile(file, fix)));
  }
  found.push(...(await checkAccess(sts, iam, { maxAge, rootAllowed, signal })));

  const order: Check['check'][] = ['file modes', 'keys in files', 'user', 'access keys'];
  return order.flatMap((check) => {
    const rows = found.filter((row) => row.check === check);
    return rows.length > 0 ? rows : [row(check, 'ok', null, null)];
  });
}

/** All files in folders, and the files that are named themselves. */
async function listFiles(paths: string[]): Promise<string[]> {
  const lists = await Promise.all(
    paths.map(async (path) => {
      const entries = await readdir(path, { withFileTypes: true }).catch(() => null);
      // No folder, or none that may be read.
      if (!entries) return [path];
      const inside = entries.filter(({ name }) => name !== 'node_modules' && name !== '.git');
      const folders = inside.filter((entry) => entry.isDirectory()).map(({ name }) => join(path, name));
      const others = inside.filter((entry) => !entry.isDirectory()).map(({ name }) => join(path, name));
      return [...others, ...(await listFiles(folders))];
    }),
  );
  return lists.flat().sort();
}

function row(check: Check['check'], state: Check['state'], where: string | null, advice: string | null): Check {
  return { check, state, where, advice };
}

/** A problem if others than its owner can do anything with a file. Windows has no such modes. */
async function checkMode(file: string, fix: boolean): Promise<Check[]> {
  const info = await stat(file).catch(() => null);
  if (process.platform === 'win32' || !info?.isFile() || (info.mode & 0o077) === 0) return [];
  const mode = `mode ${(info.mode & 0o777).toString(8)}`;
  if (!fix) return [row('file modes', 'problem', file, `${mode}, open to others: chmod go= it, or --fix`)];
  // A credential_process may be a script of yours, which stays executable.
  return chmod(file, info.mode & 0o700).then(
    () => [row('file modes', 'fixed', file, `${mode} was open to others, who may have read it`)],
    ({ code }) => [row('file modes', 'problem', file, `${mode}, open to others, and can't be changed: ${code}`)],
  );
}

/** Access keys in a file, by line; and the file's mode if it is a private key. */
async function searchFile(file: string, fix: boolean): Promise<Check[]> {
  // Reading anything else than a file could wait for ever.
  const info = await stat(file).catch(() => null);
  if (!info?.isFile() || info.size > maxBytes) return [];
  const text = await readFile(file, 'utf8').catch(() => '');
  const found = text.split('\n').flatMap((line, at) => {
    const isReal = (match: string) => !match.includes('EXAMPLE');
    const ids = [...new Set((line.match(accessKeys) ?? []).filter(isReal))];
    const secret = (line.match(secretKeys) ?? []).some(isReal) ? ['a secret access key'] : [];
    const what = [...secret, ...ids.map((id) => `the id of an access key, ${id}`)].join(', ');
    if (!what) return [];
    const advice = `${what}: delete it here, and in IAM if the file was ever shared`;
    return [row('keys in files', 'problem', `${file}:${at + 1}`, advice)];
  });
  return privateKey.test(text) ? [...found, ...(await checkMode(file, fix))] : found;
}

/** Whose the credentials in use are, and how old the access keys of this user. */
async function checkAccess(
  sts: STSClient,
  iam: IAMClient,
  { maxAge, rootAllowed, signal }: { maxAge: number; rootAllowed: boolean; signal?: AbortSignal },
): Promise<Check[]> {
  const answer = (check: Check['check'], { name, message }: Error) => {
    signal?.throwIfAborted();
    // A session that has ended is an error of the same name.
    const none = message.startsWith('Could not load credentials');
    return row(check, none ? 'ok' : 'unknown', null, none ? `none in use: ${message}` : `${name}: ${message}`);
  };
  try {
    const { accessKeyId, sessionToken } = await sts.config.credentials();
    const { Arn = '' } = await sts.send(new GetCallerIdentityCommand({}), { abortSignal: signal });
    const isRoot = Arn.endsWith(':root');
    if (isRoot && rootAllowed) {
      return [row('user', 'ok', Arn, null), row('access keys', 'ok', null, 'not asked of this root user')];
    }
    const user = isRoot
      ? row('user', 'problem', Arn, 'the root user: use a role, or a user of your own')
      : row('user', 'ok', Arn, null);

    // IAM finds the user by the key that signs; a session's key is no user's.
    if (sessionToken) return [user, row('access keys', 'ok', accessKeyId, 'of a session, which ends by itself')];
    const keys = await iam.send(new ListAccessKeysCommand({}), { abortSignal: signal }).then(
      ({ AccessKeyMetadata = [] }) => AccessKeyMetadata.map((key) => checkAge(key, { maxAge, isRoot })),
      (error) => [answer('access keys', error)],
    );
    return [user, ...keys];
  } catch (error) {
    return [answer('user', error as Error), answer('access keys', error as Error)];
  }
}

function checkAge(
  { AccessKeyId = '', CreateDate, Status }: AccessKeyMetadata,
  { maxAge, isRoot }: { maxAge: number; isRoot: boolean },
): Check {
  const days = (Date.now() - (CreateDate?.getTime() ?? 0)) / 86_400_000;
  const age = `${Math.floor(days)} days old`;
  const is = (state: Check['state'], advice: string) => row('access keys', state, AccessKeyId, advice);
  if (isRoot) return is('problem', `of the root user, ${age}: delete it`);
  if (Status !== 'Active') return is('problem', `inactive, ${age}: delete it`);
  if (days > maxAge) return is('problem', `${age}: replace it, or use aws login instead`);
  return is('ok', `${age}; of a user, so it works until it is deleted`);
}

// ---- command line: leave out when copying ----
import { homedir } from 'node:os';
import { connect, interrupted, local, print, recipe } from '../../shared/cli.ts';

const { AWS_CONFIG_FILE = '', AWS_SHARED_CREDENTIALS_FILE = '' } = process.env;

recipe(import.meta, (command) =>
  command
    .argument('[project]', 'folder to search for keys', '.')
    .option('--fix', 'take from open files what others may do with them')
    .option('--max-age <days>', 'days after which an access key is old', '90')
    .action(async (project, { fix, maxAge }) => {
      const named = ['~/.aws', AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE].filter((file) => file);
      // As the SDK takes it, where no shell did.
      const files = named.map((file) => file.replace(/^~(?=\/)/, () => homedir()));
      const settings = { files, project, fix, maxAge: Number(maxAge), rootAllowed: local() };
      const signal = interrupted();
      const checks = await protectCredentials(connect(STSClient), connect(IAMClient), { ...settings, signal });
      print(checks);
      const open = checks.filter(({ state }) => state === 'problem' || state === 'unknown').length;
      if (open > 0) throw new Error(`${open} of these are not ok`);
    }),
);
