/**
 * Makes a recipe's file a command. Every recipe answers to the same options, prints its result and its errors
 * the same way and ends with the same exit codes: 0 done, 1 AWS or the network said no, 2 wrong usage,
 * 130 interrupted.
 */
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { devNull } from 'node:os';
import { createInterface } from 'node:readline/promises';
import {
  Command,
  CommanderError,
  type CommandUnknownOpts,
  InvalidArgumentError,
  Option,
} from '@commander-js/extra-typings';
import { describeTarget, failedOperation, logging } from './connect.ts';
import { copyPart, type Header, helpOf, parseHeader, policyOf } from './header.ts';
import { clearProgress, printable, printing, progress } from './output.ts';

export { connect } from './connect.ts';
export { bytes, print, progress, transferred, warn } from './output.ts';

/** Add it to a command that deletes, overwrites, opens to the public or costs, and call `confirm`. */
export const yes = new Option('--yes', 'do it without asking');

/** The options that every recipe has, and `--yes`. */
type Options = Partial<
  Record<'profile' | 'region' | 'endpointUrl' | 'timeout', string> &
    Record<'local' | 'json' | 'debug' | 'calls' | 'yes', true>
>;

let header: Header;
let options: Options = {};
const stop = new AbortController();
let stoppable = false;

/**
 * Runs a recipe when its file is the one being run; does nothing when the file is imported.
 *
 * @param meta - The recipe's `import.meta`.
 * @param define - Adds the recipe's own arguments, options and action to the command.
 */
export function recipe(meta: ImportMeta, define: (command: Command) => CommandUnknownOpts): void {
  const file = meta.filename;
  if (!isBeingRun(file)) return;
  process.on('beforeExit', () => end(1, 'Error: the recipe ended with its work unfinished'));
  // A reader that closes the pipe of the result, as head does, has seen enough. Progress may go unseen.
  process.stdout.on('error', ({ code }: NodeJS.ErrnoException) => {
    if (code === 'EPIPE' && stoppable) stop.abort(new CommanderError(0, 'paws.unread', 'Nobody reads on.'));
    else process.exit(code === 'EPIPE' ? 0 : 1);
  });
  process.stderr.on('error', () => {});
  // A slow one gets all of it first: exiting throws away what a pipe has not taken.
  const flushed = (then: () => never) => process.stdout.write('', () => process.stderr.write('', then));
  run(file, define).then(
    () => flushed(() => process.exit()),
    (error) => flushed(() => end(exitCode(error), explain(error))),
  );
}

/** The tags that commands put on what they make, so that `1.9 Clean up` finds it: `{ paws: '2.1' }`. */
export function tags(): Record<string, string> {
  return { paws: header.number };
}

/** Whether the recipe runs on LocalStack by `--local`. */
export const local = (): boolean => options.local === true;

/** Whether the result is to be printed as one JSON document. */
export const json = (): boolean => options.json === true;

/**
 * A signal that Ctrl-C, a `kill`, `--timeout` and a closed pipe of the result abort. A recipe that never asks for it is
 * ended at once instead.
 */
export function interrupted(): AbortSignal {
  stoppable = true;
  return stop.signal;
}

/**
 * Asks before something is lost, opened to the public or costs money; `--yes` is the answer for scripts.
 *
 * @throws Error when the answer is no, or when there is nobody to ask.
 */
export async function confirm(question: string): Promise<void> {
  if (options.yes) return;
  clearProgress();
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new RangeError(`${question}\nThere is no terminal to ask this on: add --yes if that is what you want.`);
  }
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  lines.on('SIGINT', () => process.kill(process.pid, 'SIGINT'));
  const asked = printable(`On ${await describeTarget()}\n${question} [y/N] `);
  const answer = await lines.question(asked, { signal: stop.signal });
  lines.close();
  if (!/^y(es)?$/i.test(answer.trim())) throw new Error('Nothing was done.');
}

/** Tells, on a terminal, what a result goes on costing and the command that removes it. */
export function sayUndo(result: object): void {
  if (!process.stderr.isTTY || !header.undo) return;
  const { local, profile, region, endpointUrl } = options;
  const given = Object.entries({ profile, region, 'endpoint-url': endpointUrl }).filter(([, value]) => value);
  const where = [local ? ' --local' : '', ...given.map(([name, value]) => ` --${name} ${quote(value)}`)].join('');
  const command = fill(header.undo, result).replace(' --yes', '');
  const undo = command.replace(' --local', () => where);
  process.stderr.write(printable(`\nCost: ${header.cost}\nUndo: ${undo}\n`));
}

/** Takes apart an argument that names one object: `s3://BUCKET/KEY`. The key is all that follows, slashes and all. */
export function s3Object(uri: string): { bucket: string; key: string } {
  const { bucket, prefix: key } = s3Prefix(uri);
  if (!key) throw new InvalidArgumentError('It has no key: s3://BUCKET/KEY names an object.');
  return { bucket, key };
}

/** Takes apart an argument that names a bucket, or all keys in it that begin alike: `s3://BUCKET/PREFIX`. */
export function s3Prefix(uri: string): { bucket: string; prefix: string } {
  // s3://BUCKET/ is refused: with an empty variable, s3://BUCKET/$PREFIX would mean the whole bucket.
  const [, bucket, prefix = ''] = /^s3:\/\/([^/]+)(?:\/(.+))?$/s.exec(uri) ?? [];
  if (!bucket) throw new InvalidArgumentError('It is neither s3://BUCKET nor s3://BUCKET/ and more.');
  return { bucket, prefix };
}

/** Takes an argument that is a bucket's name alone: `s3://BUCKET` and an empty variable are wrong usage. */
export function bucketName(name: string): string {
  if (!/^[^/\s]+$/.test(name)) throw new InvalidArgumentError('It takes the name of a bucket, without s3://.');
  return name;
}

/** Fills `{field}` in a header's command from a result: a list becomes several words. */
export function fill(command: string, result: object): string {
  return command.replace(/\{(\w+)\}/g, (_, name) => [Reflect.get(result, name) ?? []].flat().map(quote).join(' '));
}

/** A word as a shell needs it. */
function quote(word: unknown): string {
  return /^[\w@%+=:,./-]+$/.test(`${word}`) ? `${word}` : `'${`${word}`.replaceAll("'", "'\\''")}'`;
}

/** What was typed may be a symbolic link, or lack the `.ts`. */
function isBeingRun(file: string): boolean {
  const typed = ['', '.ts'].map((ending) => `${process.argv[1]}${ending}`).filter((path) => existsSync(path));
  return typed.some((path) => realpathSync(path) === realpathSync(file));
}

async function run(file: string, define: (command: Command) => CommandUnknownOpts): Promise<void> {
  const source = readFileSync(file, 'utf8');
  const name = file.replaceAll('\\', '/').replace(/.*(?=recipes\/)/, '');
  header = parseHeader(source, name);
  const command = define(new Command(`npx tsx ${name}`));
  command
    .description(`${header.number} ${header.title}\n\n${header.problem}`)
    .option('--local', 'work on LocalStack, started if need be, never on AWS')
    .option('--profile <name>', 'use this profile of ~/.aws')
    .option('--region <name>', 'work in this region')
    .option('--endpoint-url <url>', 'send requests to this server')
    .option('--json', 'print the result as one JSON document')
    .option('--calls', 'show a line for each request')
    .option('--debug', 'show requests and responses, without secrets, and stack traces')
    .option('--timeout <seconds>', 'give up after so long')
    .option('--policy', 'print the IAM policy that the recipe needs, and end')
    .option('--source', 'print the part of the recipe to copy, and end')
    .addHelpText('after', `\n${helpOf(header)}`)
    .showHelpAfterError('Add --help to see what there is.')
    .exitOverride()
    .on('option:policy', () => finish(policyOf(header)))
    .on('option:source', () => finish(copyPart(source, name)))
    .hook('preAction', () => prepare(command.opts()));
  await command.parseAsync();
}

/** Prints a text and ends the command line before its arguments are looked at. */
function finish(text: string): never {
  process.stdout.write(text);
  throw new CommanderError(0, 'paws.finished', '');
}

/** Makes ready what the common options ask for, before there is a client. */
async function prepare(given: Options): Promise<void> {
  options = given;
  printing.json = options.json === true;
  Object.assign(logging, { wire: options.debug === true, calls: options.calls === true });
  let pressed = Number.NEGATIVE_INFINITY;
  const interrupt = () => {
    // npx and tsx hand on what the terminal has sent to the recipe already: one Ctrl-C comes up to three times.
    if (performance.now() - pressed < 500) return;
    pressed = performance.now();
    if (!stoppable || stop.signal.aborted) end(130, 'Interrupted.');
    progress('stopping; press Ctrl-C again to end at once');
    stop.abort(new Error('Interrupted.'));
  };
  // The others come from whoever stops a job, and from a terminal that is closed.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, interrupt);
  if (options.timeout !== undefined) {
    const time = Number(options.timeout) * 1000;
    if (!(time > 0 && time < 2 ** 31)) throw new RangeError('--timeout takes a number of seconds above 0');
    const reason = `Gave up after ${options.timeout} s (--timeout).`;
    setTimeout(() => (stoppable ? stop.abort(new Error(reason)) : end(1, reason)), time).unref();
  }
  if (options.region === '') throw new RangeError('--region takes a name such as eu-west-1');
  await (options.local ? goLocal : goElsewhere)(options);
}

/** Sets the variables that the SDK reads to LocalStack. */
async function goLocal({ profile, endpointUrl, region = 'us-east-1' }: Options): Promise<void> {
  if (profile || endpointUrl) throw new RangeError('--local goes with neither --profile nor --endpoint-url');
  const { env } = process;
  // An access key of 12 digits is an account number of LocalStack's, and never a key of AWS's.
  const [account = 'test'] = /^\d{12}$/.exec(env.AWS_ACCESS_KEY_ID ?? '') ?? [];
  // Whatever is left of the reader's own settings could send a request to AWS: so nothing is left.
  for (const name of Object.keys(env)) if (name.toUpperCase().startsWith('AWS_')) delete env[name];
  const { startLocalStack } = await import('./localstack.ts');
  env.AWS_ENDPOINT_URL = await startLocalStack({ onProgress: progress });
  Object.assign(env, { AWS_CONFIG_FILE: devNull, AWS_SHARED_CREDENTIALS_FILE: devNull, AWS_REGION: region });
  Object.assign(env, { AWS_ACCESS_KEY_ID: account, AWS_SECRET_ACCESS_KEY: 'test' });
}

/** Sets the variables that the SDK reads to where the reader wants to go. */
async function goElsewhere({ profile, endpointUrl: url, region }: Options): Promise<void> {
  const { env } = process;
  if (profile !== undefined) {
    // The SDK takes a misspelt profile for none, and then whatever other credentials there are.
    const { parseKnownFiles } = await import('@smithy/core/config');
    const known = Object.keys(await parseKnownFiles({})).filter((name) => !/^(sso-session|services)\./.test(name));
    const there = `there is ${known.join(', ') || 'none'}`;
    if (!known.includes(profile)) throw new RangeError(`there is no profile "${profile}" in ~/.aws; ${there}`);
    for (const name of ['ACCESS_KEY_ID', 'SECRET_ACCESS_KEY', 'SESSION_TOKEN']) delete env[`AWS_${name}`];
    env.AWS_PROFILE = profile;
  }
  if (region) env.AWS_REGION = region;
  if (url !== undefined) {
    if (!/^https?:\/\/[^/]/.test(url)) throw new RangeError(`--endpoint-url takes http://…, not "${url}"`);
    for (const name of Object.keys(env)) if (name.startsWith('AWS_ENDPOINT_URL_')) delete env[name];
    env.AWS_ENDPOINT_URL = url;
    env.AWS_IGNORE_CONFIGURED_ENDPOINT_URLS = 'false';
  }
}

function end(code: number, text: string): never {
  clearProgress();
  if (text) process.stderr.write(`${printable(text)}\n`);
  process.exit(code);
}

function exitCode(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (stop.signal.aborted) return stop.signal.reason.message === 'Interrupted.' ? 130 : 1;
  // A guard's error comes from no request and has no deeper cause.
  const guard = (error instanceof RangeError || error instanceof TypeError) && !error.cause && !failedOperation(error);
  // A file that was named and can't be opened, or is a folder, is wrong usage, too.
  const { syscall, code } = error as NodeJS.ErrnoException;
  return guard || syscall === 'open' || code === 'EISDIR' ? 2 : 1;
}

/** One or two lines for people: what failed, why, and what to do next. */
function explain(error: unknown): string {
  // commander has printed its own.
  if (error instanceof CommanderError) return '';
  type Details = { cause?: { code?: string }; code?: string; $metadata?: { httpStatusCode?: number } };
  const { name, message, stack, cause, code = cause?.code, $metadata } = error as Error & Details;
  const operation = failedOperation(error) ?? failedOperation(cause);
  const what = operation ? `${operation} failed: ${name}: ${message}` : message || code;
  // What an abort looks like from inside says neither who aborted nor why.
  const why = stop.signal.aborted ? stop.signal.reason.message : 'Error:';
  const told = stop.signal.aborted ? '' : `${name}: ${message} ${code ?? $metadata?.httpStatusCode}`;
  const [next = ''] = Object.entries(advice).find(([, pattern]) => pattern.test(told)) ?? [];
  const action = /perform: (\S+)/.exec(message)?.[1] ?? (operation ? likelyAction(operation) : '');
  // An error of a recipe's own may quote S3's words, and then it is not known what was denied.
  const advised = action || !next.includes('{action}') ? next.replace('{action}', action) : '';
  const lines = [message.startsWith(why) ? message : `${why} ${what}`, advised, options.debug ? stack : ''];
  return lines.filter(Boolean).join('\n');
}

/** Of S3's operations few are named as their actions: then it is one of those that the header has. */
function likelyAction(operation: string): string {
  const likely = operation.replace(/^s3control/, 's3');
  const [service] = likely.split(':');
  const all = header.permissions.map(({ action }) => action).filter((action) => action.startsWith(`${service}:`));
  return all.includes(likely) ? likely : [...new Set(all)].join(' or ') || likely;
}

/** What to do about an error, and the names or messages that call for it; the first that fits. */
const advice: Record<string, RegExp> = {
  'The session has ended: log in again with `aws login` or `aws sso login`.':
    /CredentialsProviderError.*(expired|login|[Tt]oken)/,
  'The credentials have expired: log in again.': /Expired/,
  'No credentials were found: run `aws configure` or `aws login`, or give --profile; --local needs none.':
    /Could not load credentials|CredentialsProviderError/,
  'Give --region, or set AWS_REGION or a region in ~/.aws/config (AWS_DEFAULT_REGION is not read).':
    /Region is missing/,
  'The permission {action} is missing, or a policy denies it; --policy prints all that this recipe needs.':
    /AccessDenied|UnauthorizedOperation|AuthorizationError|UnknownError 403/,
  'The credentials are wrong, or of another account or partition.':
    /InvalidClientTokenId|InvalidAccessKeyId|SignatureDoesNotMatch|AuthFailure/,
  'The server could not be reached: check --region, --endpoint-url and the network.':
    /^(?!Ssh).*(ENOTFOUND|ECONNREFUSED|ECONNRESET|EAI_AGAIN|TimeoutError: (?!waited))/s,
};
