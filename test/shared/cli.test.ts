/** The command line that every recipe has, seen from outside: what is printed where, and with which exit code. */
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { copyPart, parseHeader, policyOf } from '../../shared/header.ts';
import { sandbox } from '../harness.ts';
import { freePort } from '../program.ts';
import { root, tsx } from '../run.ts';

const { run, folder, account } = sandbox(import.meta);
const file = 'test/fixtures/recipes/setup/90-probe-command.ts';
const source = readFileSync(root + file, 'utf8');
const probe = `npx tsx ${file}`;
/** How a shell runs TypeScript where `run` leaves the command as it is. */
const node = `'${process.execPath}' --import '${tsx}'`;
const keys = {
  AWS_ACCESS_KEY_ID: 'AKIAIOSFODNN7EXAMPLE',
  AWS_SECRET_ACCESS_KEY: 'secret',
  AWS_REGION: 'eu-west-1',
  AWS_EC2_METADATA_DISABLED: 'true',
};
const ctrlC = '\x03';
const esc = '\x1b';

/** Runs the probe in a terminal and gives what stood on the screen, progress lines included. */
async function inTerminal(command: string, type: [string, string][] = [], { env = {}, columns = 120 } = {}) {
  const { code, stdout } = await run(command, { terminal: { columns, type }, env });
  return { code, screen: stdout.replaceAll('\r\n', '\n') };
}

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await new Promise((listening) => server.once('listening', listening));
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as { port: number }).port}`;
}

test('--help tells title, problem, arguments, options, examples, cost and undo, also without the argument', async () => {
  const { code, stdout, stderr } = await run(`${probe} --help`);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  for (const part of [
    'Usage: npx tsx recipes/setup/90-probe-command.ts [options] <situation>',
    '1.90 Probe the command line',
    'The command line has to be seen in each of its situations.',
    'situation  ',
    'Examples:\n  npx tsx test/fixtures/recipes/setup/90-probe-command.ts list --local\n',
    'Cost: $1 an hour\n',
    'Undo: npx tsx recipes/setup/09-clean-up.ts {made} --local --yes\n',
  ]) {
    expect(stdout).toContain(part);
  }
  const options = [...stdout.matchAll(/^ {2}(?:-h, )?--([a-z-]+)/gm)].map(([, option]) => option);
  expect(options).toEqual(
    'yes local profile region endpoint-url json calls debug timeout policy source help'.split(' '),
  );
});

test('--policy and --source come before a missing argument and before a bad option', async () => {
  const [policy, copied, both] = await Promise.all(
    ['--policy', '--source', '--no-such-option --policy'].map((options) => run(`${probe} ${options}`)),
  );
  expect(policy).toEqual({ code: 0, stdout: policyOf(parseHeader(source, file)), stderr: '' });
  expect(copied).toEqual({ code: 0, stdout: copyPart(source, file), stderr: '' });
  expect(both).toEqual(policy);
});

test('wrong usage is exit 2 with a pointer to --help, and nothing on standard output', async () => {
  const [missing, unknown, many, valueless] = await Promise.all(
    ['', 'list --no-such-option', 'list two', 'list --region'].map((words) => run(`${probe} ${words}`)),
  );
  const help = 'Add --help to see what there is.\n';
  expect(missing).toEqual({ code: 2, stdout: '', stderr: `error: missing required argument 'situation'\n${help}` });
  expect(unknown).toEqual({ code: 2, stdout: '', stderr: `error: unknown option '--no-such-option'\n${help}` });
  expect(many).toMatchObject({ code: 2, stdout: '' });
  expect(many?.stderr).toContain('too many arguments');
  expect(valueless).toMatchObject({ code: 2, stdout: '' });
  expect(valueless?.stderr).toContain("option '--region <name>' argument missing");
});

test.each(['0', '-1', 'abc', '1e99', "''"])('--timeout %s is wrong usage', async (seconds) => {
  expect(await run(`${probe} guard --timeout ${seconds}`)).toEqual({
    code: 2,
    stdout: '',
    stderr: 'Error: --timeout takes a number of seconds above 0\n',
  });
});

test('an empty --profile, --region or --endpoint-url is wrong usage: it is a variable that was not set', async () => {
  const env = { ...keys, AWS_CONFIG_FILE: '/dev/null' };
  const [profile, region, endpoint] = await Promise.all(
    ['profile', 'region', 'endpoint-url'].map((name) => run(`${probe} list --${name} ''`, { env })),
  );
  const stdout = '';
  expect(profile).toEqual({ code: 2, stdout, stderr: 'Error: there is no profile "" in ~/.aws; there is none\n' });
  expect(region).toEqual({ code: 2, stdout, stderr: 'Error: --region takes a name such as eu-west-1\n' });
  expect(endpoint).toEqual({ code: 2, stdout, stderr: 'Error: --endpoint-url takes http://…, not ""\n' });
});

test('an --endpoint-url without http is wrong usage', async () => {
  expect(await run(`${probe} list --endpoint-url localhost:9000`, { env: keys })).toEqual({
    code: 2,
    stdout: '',
    stderr: 'Error: --endpoint-url takes http://…, not "localhost:9000"\n',
  });
});

test("a guard's error is one line and exit 2, and has a stack only with --debug", async () => {
  const [range, type, debug] = await Promise.all(
    ['guard', 'type', 'guard --debug'].map((words) => run(`${probe} ${words}`)),
  );
  expect(range).toEqual({ code: 2, stdout: '', stderr: 'Error: expected 1 to 9, got 10\n' });
  expect(type).toEqual({ code: 2, stdout: '', stderr: 'Error: expected a list, got "a"\n' });
  expect(debug).toMatchObject({ code: 2, stdout: '' });
  expect(debug?.stderr).toMatch(/^Error: expected 1 to 9, got 10\nRangeError: .*\n {4}at .*90-probe-command\.ts:\d+/);
});

test('a recipe that ends with its work unfinished is exit 1 and says so', async () => {
  expect(await run(`${probe} unfinished`)).toEqual({
    code: 1,
    stdout: '',
    stderr: 'Error: the recipe ended with its work unfinished\n',
  });
});

test('an interrupt ends a recipe that never asked for the signal at once', async () => {
  const interrupt = { signal: 'SIGINT' as const, after: 100 };
  expect(await run(`${probe} ignore`, { interrupt })).toEqual({
    code: 130,
    stdout: '',
    stderr: 'waiting\nInterrupted.\n',
  });
});

test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
  '%s lets a recipe that asked for the signal undo what it made',
  async (signal) => {
    const interrupt = { signal, after: 100 };
    expect(await run(`${probe} wait`, { interrupt })).toEqual({
      code: 130,
      stdout: '',
      stderr: 'waiting\nundoing\nundone\nInterrupted. the wait was ended\n',
    });
  },
);

test('an interrupt while something else is undone leaves the undoing alone, and is exit 130', async () => {
  const interrupt = { signal: 'SIGINT' as const, after: 20 };
  const [alone, interrupted] = await Promise.all([run(`${probe} fail`), run(`${probe} failLate`, { interrupt })]);
  expect(alone).toEqual({ code: 1, stdout: '', stderr: 'undoing\nundone\nError: no capacity\n' });
  expect(interrupted).toEqual({
    code: 130,
    stdout: '',
    stderr: 'undoing\nundone\nInterrupted. no capacity\n',
  });
});

test('Ctrl-C at a terminal says what a second one does, and the second one ends at once', async () => {
  const { code, screen } = await inTerminal(`${probe} waitLong`, [
    ['waiting', ctrlC],
    ['still undoing', ctrlC],
  ]);
  expect(code).toBe(130);
  expect(screen).toContain('stopping; press Ctrl-C again to end at once');
  expect(screen).toContain('Interrupted.\n');
  expect(screen).not.toContain('undone');
});

test('one Ctrl-C that npx and tsx hand on once more is one', async () => {
  const interrupt = { signal: 'SIGINT' as const, after: 100 };
  const { code, stderr } = await run(`${probe} waitLong`, { interrupt, env: { HANDED_ON: '2' } });
  expect(code).toBe(130);
  expect(stderr).toBe('waiting\nundoing\nstill undoing\nundone\nInterrupted. the wait was ended\n');
});

test('--timeout ends a recipe with exit 1, after undoing where it undoes, and says that it did', async () => {
  const stalled = await serve(() => {});
  const [asking, other, sending] = await Promise.all([
    run(`${probe} wait --timeout 1`),
    run(`${probe} ignore --timeout 0.5`),
    run(`${probe} request --timeout 1 --endpoint-url ${stalled}`, { env: keys }),
  ]);
  expect(asking).toEqual({
    code: 1,
    stdout: '',
    stderr: 'waiting\nundoing\nundone\nGave up after 1 s (--timeout). the wait was ended\n',
  });
  expect(other).toEqual({ code: 1, stdout: '', stderr: 'waiting\nGave up after 0.5 s (--timeout).\n' });
  // The SDK's own words for it are 'Request aborted'.
  expect(sending).toMatchObject({ code: 1, stdout: '' });
  expect(sending?.stderr).toMatch(/^Gave up after 1 s \(--timeout\)\..*\n$/);
});

test('a question without a terminal names --yes and hangs on nothing; --yes is the answer', async () => {
  const [nobody, piped, quiet, answered] = await Promise.all([
    run(`${probe} confirm --local`),
    run(`${probe} confirm --local`, { stdin: 'y\n' }),
    inTerminal(`${probe} confirm --local 2>errors.txt`),
    run(`${probe} confirm --local --yes`),
  ]);
  const stderr = 'Error: Really?\nThere is no terminal to ask this on: add --yes if that is what you want.\n';
  expect(nobody).toEqual({ code: 2, stdout: '', stderr });
  expect(piped).toEqual({ code: 2, stdout: '', stderr });
  expect(quiet).toEqual({ code: 2, screen: '' });
  expect(readFileSync(`${folder}/errors.txt`, 'utf8')).toBe(stderr);
  expect(answered).toEqual({ code: 0, stdout: 'answer  yes\n', stderr: '' });
});

test.each([
  ['y\r', 0, 'answer  yes'],
  ['Yes\r', 0, 'answer  yes'],
  ['n\r', 1, 'Error: Nothing was done.'],
  ['\r', 1, 'Error: Nothing was done.'],
  ['yesterday\r', 1, 'Error: Nothing was done.'],
  ['\x04', 1, 'Error: Aborted with Ctrl+D'],
])('the answer %j to a question is exit %i', async (typed, code, words) => {
  const result = await inTerminal(`${probe} confirm --local`, [['[y/N] ', typed]]);
  expect(result.code).toBe(code);
  expect(result.screen).toContain(words);
  // Where it would happen, as whom.
  const { COOKBOOK_LOCALSTACK: url } = process.env;
  expect(result.screen).toContain(`On ${url}, access key ${account}, region us-east-1\nReally? [y/N] `);
});

test.each(['confirm', 'undoable'])('Ctrl-C at the question of "%s" is exit 130', async (situation) => {
  const result = await inTerminal(`${probe} ${situation} --local`, [['[y/N] ', ctrlC]]);
  expect(result.code).toBe(130);
  expect(result.screen).toContain('Interrupted.');
  expect(result.screen).not.toContain('answer');
});

test('on AWS a question names the account, whatever endpoint another service has', async () => {
  // The account is the fault's own.
  const faults = [{ operation: 'sts:GetCallerIdentity', output: { Account: '123456789012' } }];
  const { code, stdout } = await run(`${probe} confirm`, {
    env: { ...keys, AWS_ENDPOINT_URL_EC2: 'http://127.0.0.1:9' },
    faults,
    terminal: { columns: 120, type: [['[y/N] ', 'n\r']] },
  });
  expect(stdout).toContain('On AWS, account 123456789012, region eu-west-1\r\nReally? [y/N] ');
  expect(code).toBe(1);
});

test("a question names the service's own endpoint, from the environment or from ~/.aws", async () => {
  const config = `${folder}/services`;
  writeFileSync(config, '[default]\nservices = lab\n[services lab]\ns3 =\n  endpoint_url = http://127.0.0.1:8\n');
  const type: [string, string][] = [['[y/N] ', 'n\r']];
  const [environment, lab, later, early] = await Promise.all([
    inTerminal(`${probe} confirm`, type, { env: { ...keys, AWS_ENDPOINT_URL_S3: 'http://127.0.0.1:9' } }),
    inTerminal(`${probe} confirm`, type, { env: { ...keys, AWS_CONFIG_FILE: config } }),
    inTerminal(`${probe} askLater`, type, { env: { ...keys, AWS_ENDPOINT_URL_S3: 'http://127.0.0.1:9' } }),
    inTerminal(`${probe} askEarly`, type, { env: { ...keys, AWS_ENDPOINT_URL: 'http://127.0.0.1:9' } }),
  ]);
  const rest = `access key ${keys.AWS_ACCESS_KEY_ID}, region eu-west-1\n`;
  expect(environment.screen).toContain(`On http://127.0.0.1:9, ${rest}`);
  expect(lab.screen).toContain(`On http://127.0.0.1:8, ${rest}`);
  // Of several clients the first one is the command's own, and names can't move the cursor.
  expect(later.screen).toContain(`On http://127.0.0.1:9, ${rest}Delete a\\x0d\\x1b[2Kb\nand c? [y/N] `);
  expect(early.screen).toContain(`On http://127.0.0.1:9, ${rest}`);
});

test('progress goes to a terminal only, and pipes get no escape sequence', async () => {
  const [terminal, half, pipe, plain] = await Promise.all([
    inTerminal(`${probe} table`),
    inTerminal(`${probe} table 2>progress.txt`),
    run(`${probe} table`),
    inTerminal(`${probe} table`, [], { env: { NO_COLOR: '1' } }),
  ]);
  // Written, taken away, and followed by the table.
  expect(terminal.screen).toContain(`\r${esc}[Kmaking a table\r${esc}[K`);
  expect(half.screen).toBe(pipe.stdout);
  expect(readFileSync(`${folder}/progress.txt`, 'utf8')).toBe('');
  expect(pipe).toMatchObject({ code: 0, stderr: '' });
  expect(pipe.stdout).not.toContain(esc);
  expect(pipe.stdout).toBe(`id    launched                 running  note                            key
i-1   1970-01-01 00:00:00 UTC  yes      -                               a\\x1b[2Jb
i-22  2001-09-09 01:46:40 UTC  no       ${'x'.repeat(30)}  日本
`);
  // Nothing is ever coloured.
  expect(plain.screen).toBe(terminal.screen);
  expect(plain.screen.replaceAll(`${esc}[K`, '')).not.toContain(esc);
});

test('a table too wide for the terminal becomes records', async () => {
  const { screen } = await inTerminal(`${probe} table`, [], { columns: 60 });
  expect(screen).toContain('id        i-1\nlaunched  1970-01-01 00:00:00 UTC\n');
  expect(screen).toContain('\n\nid        i-22\n');
});

test('--json is one document of raw values that a program can read', async () => {
  const read = `node -e 'const rows = JSON.parse(fs.readFileSync(0)); console.log(rows.length, rows[0])'`;
  const { code, stdout, stderr } = await run(`${probe} table --json | ${read}`);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toContain("launched: '1970-01-01T00:00:00.000Z'");
  expect(stdout).toContain('running: true,\n  note: null,');
});

test('a reader that has seen enough ends the recipe quietly, a slow one gets all of it', async () => {
  const many = (situation: string) => `${node} '${root}${file}' ${situation}`;
  const [head, undone, left, headOfErrors, slow, slowOfErrors] = await Promise.all([
    run(`(${many('many')}; echo "ended with $?" >&2) | head -1`),
    run(`(${many('manyUndone')}; echo "ended with $?" >&2) | head -1`),
    run(`(${many('manyUndone')}; echo "ended with $?" >&2) | head -1`, { env: { LEFT: 'vol-1' } }),
    run(`((${many('chatty')} 2>&1; echo "ended with $?" >&3) | head -1) 3>&2`, { env: { CHATTY_DONE: 'done' } }),
    run(`${many('many')} | (read -r first; sleep 1; wc -l)`),
    run(`${many('chatty')} 2>&1 | (read -r first; sleep 1; wc -l)`),
  ]);
  expect(head).toEqual({ code: 0, stdout: 'line  0\n', stderr: 'ended with 0\n' });
  // One that takes back what it made does so first, and says what is left.
  expect(undone).toEqual({ code: 0, stdout: 'line  0\n', stderr: 'undone\nended with 0\n' });
  expect(left.stderr).toBe('undone\nNobody reads on.; left are vol-1\nended with 1\n');
  expect(headOfErrors).toEqual({ code: 0, stdout: 'line 0\n', stderr: 'ended with 0\n' });
  // Who stops looking at the progress does not stop the work.
  expect(existsSync(`${folder}/done`)).toBe(true);
  expect(slow.stdout.trim()).toBe('19999');
  expect(slowOfErrors.stdout.trim()).toBe('19999');
});

test('what was made is told at a terminal, with its cost and the command that undoes it where it is', async () => {
  mkdirSync(`${folder}/.aws`, { recursive: true });
  writeFileSync(`${folder}/.aws/config`, '[profile work]\nregion = eu-west-2\n');
  const [local, region, elsewhere, aws, pipe] = await Promise.all([
    inTerminal(`${probe} made --local --yes`),
    inTerminal(`${probe} made --local --region eu-west-1`),
    inTerminal(`${probe} made --profile work --region eu-west-3 --endpoint-url http://127.0.0.1:9`),
    inTerminal(`${probe} made`),
    run(`${probe} made --local`),
  ]);
  const undo = 'Undo: npx tsx recipes/setup/09-clean-up.ts i-1 sg-2';
  expect(local.screen).toMatch(/\n\nCost: \$1 an hour\n.*\n$/);
  expect(local.screen).toContain(`${undo} --local\n`);
  expect(region.screen).toContain(`${undo} --local --region eu-west-1\n`);
  expect(elsewhere.screen).toContain(`${undo} --profile work --region eu-west-3 --endpoint-url http://127.0.0.1:9\n`);
  expect(aws.screen).toContain(`${undo}\n`);
  expect(pipe).toEqual({ code: 0, stdout: 'made  i-1, sg-2\ntags  paws,1.90\n', stderr: '' });
});

test('the undoing command quotes names for the shell', async () => {
  const { screen } = await inTerminal(`${probe} named --local`);
  const words = `'s3://paws-example/it'\\''s $(date)' s3://paws-example/a/b.txt`;
  expect(screen).toContain(`Undo: npx tsx recipes/setup/09-clean-up.ts ${words} --local\n`);
});

test('the file is the one being run through a symbolic link, without its .ts, and from any folder', async () => {
  symlinkSync(root + file, `${folder}/link.ts`);
  symlinkSync(root + file, `${folder}/bare`);
  mkdirSync(`${folder}/deep`);
  const results = await Promise.all(
    [
      `${node} link.ts guard`,
      `${node} bare guard`,
      `cd deep && ${node} ../link.ts guard`,
      `'${root}node_modules/.bin/tsx' '${root}${file.slice(0, -3)}' guard`,
    ].map((command) => run(command)),
  );
  for (const result of results) {
    expect(result).toEqual({ code: 2, stdout: '', stderr: 'Error: expected 1 to 9, got 10\n' });
  }
});

test('an imported file does nothing', async () => {
  writeFileSync(`${folder}/import.ts`, `import '${root}${file}';\nconsole.log('imported');\n`);
  expect(await run(`${node} import.ts guard`)).toEqual({ code: 0, stdout: 'imported\n', stderr: '' });
});

test('--calls shows one line a request, --debug all of it without the secrets', async () => {
  // One after the other: both make the same key pair.
  const calls = await run(`${probe} secrets --local --calls`);
  const debug = await run(`${probe} secrets --local --debug`);
  expect(calls).toMatchObject({ code: 0, stdout: '' });
  expect(calls.stderr.replace(/\d+ ms/g, 'N ms')).toBe(
    'ec2:CreateKeyPair 200 N ms\nec2:DeleteKeyPair 200 N ms\ns3:PutObject 404 N ms\ns3:GetObject 404 N ms\n',
  );
  expect(debug).toMatchObject({ code: 0, stdout: '' });
  expect(debug.stderr).toContain('\n> POST http://127.0.0.1:');
  expect(debug.stderr).toContain('Action=CreateKeyPair');
  expect(debug.stderr).toContain('<keyMaterial>***</keyMaterial>');
  expect(debug.stderr).toContain('x-amz-server-side-encryption-customer-key: ***');
  expect(debug.stderr).toContain('\n> hello');
  expect(debug.stderr).not.toContain(Buffer.from('S'.repeat(32)).toString('base64'));
  expect(debug.stderr).not.toContain('PRIVATE KEY');
  expect(debug.stderr).not.toMatch(/Signature=(?!\*\*\*)/);
});

test('no credentials and no region are explained', async () => {
  const empty = { AWS_ACCESS_KEY_ID: '', AWS_EC2_METADATA_DISABLED: 'true' };
  const { AWS_REGION: _, ...anywhere } = keys;
  const [credentials, region] = await Promise.all([
    run(`${probe} list --region eu-west-1`, { env: { ...empty, HOME: `${folder}/deep` } }),
    run(`${probe} list`, { env: { ...anywhere, AWS_CONFIG_FILE: '/dev/null' } }),
  ]);
  expect(credentials).toMatchObject({ code: 1, stdout: '' });
  expect(credentials?.stderr).toMatch(
    /^Error: s3:ListBuckets failed: CredentialsProviderError: .*\nNo credentials .*--profile; --local needs none\.\n$/,
  );
  expect(region).toMatchObject({ code: 1, stdout: '' });
  expect(region?.stderr).toMatch(/^Error: s3:ListBuckets failed: .*Region is missing\nGive --region, .*\n$/);
});

test('a session that has ended is told from credentials that were never there', async () => {
  const config = join(folder, 'sso-config');
  const session = 'sso_start_url = https://example.invalid/start\nsso_region = us-east-1\n';
  const profile = 'sso_session = my\nsso_account_id = 123456789012\nsso_role_name = reader\nregion = us-east-1\n';
  writeFileSync(config, `[sso-session my]\n${session}[profile my.work]\n${profile}`);
  const env = { AWS_CONFIG_FILE: config, AWS_ACCESS_KEY_ID: '', AWS_EC2_METADATA_DISABLED: 'true' };
  const { code, stderr } = await run(`${probe} list --profile my.work`, { env });
  expect(code).toBe(1);
  expect(stderr).toMatch(/CredentialsProviderError: .*\nThe session has ended: log in again with `aws login` or /);
});

test('a server that is not there is explained', async () => {
  const [closed, nowhere, fetched, addresses] = await Promise.all([
    run(`${probe} list --endpoint-url http://127.0.0.1:${await freePort()}`, { env: keys }),
    // Without the preload, which would refuse the name; .invalid never has an address.
    run(`${node} '${root}${file}' list --endpoint-url http://paws.invalid`, { env: keys }),
    run(`${probe} fetch`),
    run(`${probe} addresses`),
  ]);
  const advice = 'The server could not be reached: check --region, --endpoint-url and the network.\n';
  expect(closed).toMatchObject({ code: 1, stdout: '' });
  expect(closed?.stderr).toMatch(/^Error: s3:ListBuckets failed: .*ECONNREFUSED.*\n/);
  expect(nowhere).toMatchObject({ code: 1, stdout: '' });
  expect(nowhere?.stderr).toMatch(/^Error: s3:ListBuckets failed: .*(ENOTFOUND|EAI_AGAIN) paws\.invalid\n/);
  // A TypeError, but no guard's.
  expect(fetched).toMatchObject({ code: 1, stdout: '' });
  expect(addresses).toMatchObject({ code: 1, stdout: '' });
  expect(addresses?.stderr).toContain('ECONNREFUSED');
  for (const { stderr } of [closed, nowhere, fetched, addresses]) {
    expect(stderr.endsWith(advice), stderr).toBe(true);
    expect(stderr.trim().split('\n')).toHaveLength(2);
  }
});

const arn = 'arn:aws:iam::123456789012:user/reader';
const denied = `User: ${arn} is not authorized to perform: s3:ListAllMyBuckets because no identity-based policy allows it`;
const permission = (action: string) =>
  `The permission ${action} is missing, or a policy denies it; --policy prints all that this recipe needs.`;
const wrongKeys = 'The credentials are wrong, or of another account or partition.';
const expired = 'The credentials have expired: log in again.';

test.each([
  ['list', 'ExpiredToken', 400, 'The provided token has expired.', expired],
  ['list', 'AccessDenied', 403, denied, permission('s3:ListAllMyBuckets')],
  ['list', 'AccessDenied', 403, 'Access Denied', permission('s3:ListAllMyBuckets')],
  ['list', 'InvalidAccessKeyId', 403, 'The key does not exist in our records.', wrongKeys],
  ['list', 'SignatureDoesNotMatch', 403, 'The signature does not match.', wrongKeys],
  ['list', 'RequestTimeTooSkewed', 403, 'The difference is too large.', ''],
  ['secrets', 'AuthFailure', 401, 'AWS was not able to validate the provided access credentials', wrongKeys],
  ['secrets', 'RequestExpired', 400, 'Request has expired.', expired],
  [
    'secrets',
    'UnauthorizedOperation',
    403,
    `You are not authorized to perform this operation. User: ${arn} is not authorized to perform: ec2:CreateKeyPair on resource: *`,
    permission('ec2:CreateKeyPair'),
  ],
])('%s, answered %s %i "%s", is explained in two lines', async (situation, name, status, message, advice) => {
  // The bodies are those of S3 and EC2, the server is the test's own.
  const error = `<Error><Code>${name}</Code><Message>${message}</Message></Error>`;
  const url = await serve((_request, response) => {
    response.writeHead(status, { 'content-type': 'application/xml' });
    response.end(situation === 'list' ? error : `<Response><Errors>${error}</Errors></Response>`);
  });
  const { code, stdout, stderr } = await run(`${probe} ${situation} --endpoint-url ${url}`, { env: keys });
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  const operation = situation === 'list' ? 's3:ListBuckets' : 'ec2:CreateKeyPair';
  expect(stderr).toBe(`Error: ${operation} failed: ${name}: ${message}\n${advice && `${advice}\n`}`);
});

test('a 403 without a body, as HEAD has it, is a missing permission', async () => {
  const url = await serve((_request, response) => response.writeHead(403).end());
  const { code, stderr } = await run(`${probe} head --endpoint-url ${url}`, { env: keys });
  expect(code).toBe(1);
  expect(stderr).toMatch(/^Error: s3:HeadBucket failed: .*\n.*\n$/);
  // The answer names no action: it is one of those that the header has.
  expect(stderr).toContain(permission('s3:ListAllMyBuckets'));
});
