/**
 * Finds or starts the LocalStack that `--local` talks to, and is the command behind `npm run localstack`.
 *
 * It runs without Docker: from PyPI, in a virtual environment in the user's cache folder (220 MB, 20 s, once),
 * as a process of its own that is there in one second and stays for the next recipe. Versions after 4.14.0
 * want an account, 4.14.0 itself breaks on Python 3.11, and with today's newest dependencies none of them
 * works, so the version and all it needs are locked by hash. Left to itself it would listen on all
 * interfaces and take any key: localstack.py, which does what needs a lock, binds it to 127.0.0.1.
 */
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { clearProgress, progress } from './output.ts';

const run = promisify(execFile);
const version = '4.13.1';
const launcher = join(import.meta.dirname, 'localstack.py');
const requirements = join(import.meta.dirname, 'localstack-requirements.txt');

/**
 * The address of the LocalStack to use: `COOKBOOK_LOCALSTACK`, by default http://127.0.0.1:4566.
 *
 * @returns The address, without a path.
 * @throws RangeError if the variable holds anything but an http address of this machine.
 */
export function localStackUrl(): string {
  const text = process.env.COOKBOOK_LOCALSTACK || 'http://127.0.0.1:4566';
  const url = URL.canParse(text) ? new URL(text).origin : '';
  if (/^https?:\/\/(127(\.\d+){3}|\[::1\]|localhost)(:\d+)?$/.test(url)) return url;
  throw new RangeError(`COOKBOOK_LOCALSTACK must be on this machine, as http://127.0.0.1:4567 is, not '${text}'`);
}

/**
 * Makes sure that a LocalStack answers: uses the one that does, a container too, or else installs and starts one.
 *
 * However many call it at once, there is one installation and one server, which outlives this process.
 *
 * @param options.onProgress Told at each look what it waits for.
 * @param options.timeout How long an installed server may take to answer, in milliseconds, by default 120,000.
 * @returns The address, as from {@link localStackUrl}.
 * @throws RangeError as {@link localStackUrl} does; Error if the port is taken, no Python fits or the start fails.
 */
export async function startLocalStack({ onProgress = (_: string) => {}, timeout = 120_000 } = {}): Promise<string> {
  const url = localStackUrl();
  const taken = `${url} is taken by something that is not LocalStack.\nCOOKBOOK_LOCALSTACK=http://127.0.0.1:4567 chooses another port.`;
  const first = await ask(url, 'health');
  if (first) return url;
  if (first === '') throw new Error(taken);
  const canStart = /^http:\/\/(127\.0\.0\.1|localhost)(:|$)/.test(url);
  if (!canStart) throw new Error(`Nothing answers at ${url}; one can be started at http://127.0.0.1:PORT only.`);

  const python = await findPython();
  const { cache, folder, port, log } = places();
  const hash = createHash('sha256').update(readFileSync(requirements)).digest('hex').slice(0, 8);
  const venv = join(cache, `${version}-py${python.version}-${hash}`);
  const name = `LocalStack ${version}${python.version === '3.11' ? ', without KMS on Python 3.11' : ''}`;
  mkdirSync(folder, { recursive: true });
  const lastWords = () => readFileSync(log, 'utf8').trim().split('\n').at(-1);
  const failure = (what: string) => new Error(`LocalStack ${what}\nSee ${log}, or: npm run localstack -- reset`);
  const launch = () => {
    const arg = ['-I', launcher, 'start', folder, port, venv, requirements];
    // A session of its own: neither this process's end nor Ctrl-C in its terminal reaches it. What it says goes to the
    // log from the start.
    const output = openSync(log, 'a');
    const child = spawn(python.path, arg, { detached: true, stdio: ['ignore', output, output] }).on('error', () => {});
    closeSync(output);
    child.unref();
    return child;
  };

  const begun = Date.now();
  let [child, installed] = [launch(), 0];
  for (let turn = 0; ; turn++) {
    const answers = await ask(url, 'health');
    const code = child.exitCode ?? child.signalCode;
    if (answers) {
      // Where a container was quicker, ours lives on without a port.
      const running = await ask(url, 'info');
      if (code === null && running && running !== `${version}:cookbook-${child.pid}`) child.kill();
      return url;
    }
    if (!installed && existsSync(join(venv, 'bin/python'))) installed = Date.now();
    const seconds = Math.floor((Date.now() - (installed || begun)) / 1000);
    const doing = installed ? `starting ${name}` : `installing ${name}, once`;
    onProgress(`${doing}: ${seconds} s`);

    // 0 and 98 are localstack.py's words for a server that is starting already, and for a port that is taken.
    if (code && code !== 98) throw failure(`ended (${code}): ${lastWords()}; to install it anew, delete ${venv}`);
    // A container that is just starting gets some time.
    if (code === 98 && Date.now() - begun > 10_000) throw new Error(taken);
    if (installed && Date.now() - installed > timeout) throw failure(`does not answer after ${seconds} s`);
    // The process that is at it may fail: every 25th look it is our turn.
    if (code !== null && turn % 25 === 24) child = launch();
    // 64 that wait must not keep the installation, or a slow start, from the processor.
    await sleep(installed ? Math.min(1000, Math.max(100, (Date.now() - installed) / 10)) : 1000);
  }
}

/** The version of the LocalStack that answers, '' if something else does, null if nothing does within 2 s. */
async function ask(url: string, page: 'health' | 'info'): Promise<string | null> {
  try {
    const answer = await fetch(`${url}/_localstack/${page}`, { redirect: 'manual', signal: AbortSignal.timeout(2000) });
    const { version, services, session_id } = Object(await answer.json());
    return version && (services || session_id) ? version : '';
  } catch (error) {
    return error instanceof SyntaxError ? '' : null;
  }
}

function places() {
  const cache = resolve(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'paws-cookbook/localstack');
  const port = new URL(localStackUrl()).port || '80';
  return { cache, port, folder: join(cache, port), log: join(cache, port, 'localstack.log') };
}

/** A Python that LocalStack runs on, the newest first, wherever it is. */
async function findPython(): Promise<{ path: string; version: string }> {
  const docker = `docker run --rm -d -p 127.0.0.1:${places().port}:4566 localstack/localstack:${version}`;
  if (process.platform === 'win32') throw new Error(`On Windows, use WSL, or start LocalStack by ${docker}`);

  const named = process.env.COOKBOOK_PYTHON;
  for (const wanted of ['3.13', '3.12', '3.11']) {
    for await (const path of named ? [named] : candidates(wanted)) {
      // Debian's python3 has no ensurepip, and so no working venv, without the package python3-venv.
      const code = 'import sys, venv, ensurepip; print("%d.%d" % sys.version_info[:2])';
      const found = await run(path, ['-I', '-c', code], { timeout: 10_000 }).catch(() => null);
      if (found?.stdout.trim() === wanted) return { path, version: wanted };
    }
  }
  throw new Error(`LocalStack ${version} needs Python 3.11 to 3.13 with venv; ${named ? `COOKBOOK_PYTHON=${named} is not such a one` : 'found none'}.
Debian, Ubuntu: apt install python3 python3-venv. macOS: brew install python@3.13. Both: uv python install 3.13.
COOKBOOK_PYTHON=/path/to/python3 names one that is elsewhere. Or use Docker: ${docker}`);
}

async function* candidates(wanted: string): AsyncGenerator<string> {
  const folders = (process.env.PATH ?? '').split(delimiter).filter(Boolean);
  const paths = [`python${wanted}`, 'python3'].flatMap((name) => folders.map((folder) => join(folder, name)));
  // pyenv's commands on the PATH fail for versions that are not selected.
  const pyenv = join(process.env.PYENV_ROOT || join(homedir(), '.pyenv'), 'versions');
  const versions = (existsSync(pyenv) ? readdirSync(pyenv) : []).filter((name) => name.startsWith(`${wanted}.`));
  versions.sort((a, b) => b.localeCompare(a, 'en', { numeric: true }));
  paths.push(...versions.map((name) => join(pyenv, name, 'bin/python3')));
  yield* paths.filter((path) => existsSync(path));
  // Only what uv itself installed: among the others it stops at the first that fails.
  const arg = ['python', 'find', '--no-project', '--python-preference', 'only-managed', wanted];
  const uv = await run('uv', arg).catch(() => null);
  if (uv) yield uv.stdout.trim();
}

/** The pid of the server that was started from here, '' if there is none; 'stop' ends it. */
async function server(command: 'pid' | 'stop'): Promise<string> {
  if (!existsSync(join(places().folder, 'server.lock'))) return '';
  return (await run((await findPython()).path, ['-I', launcher, command, places().folder])).stdout.trim();
}

async function stop(): Promise<string> {
  const url = localStackUrl();
  if (await server('stop')) return `stopped ${url}`;
  if (!(await ask(url, 'health'))) return `nothing to stop: no LocalStack runs at ${url}`;
  throw new Error(`The LocalStack at ${url} was not started from here: left alone.`);
}

async function status(): Promise<string> {
  const found = await ask(localStackUrl(), 'health');
  const pid = await server('pid');
  return `address  ${localStackUrl()}
answers  ${found === null ? 'nothing' : found ? `LocalStack ${found}` : 'something that is not LocalStack'}
started  ${pid ? `from here, pid ${pid}` : 'not from here'}
log      ${places().log}
Python   ${(await findPython().catch(() => null))?.path ?? 'none that fits'}`;
}

const start = () => startLocalStack({ onProgress: progress }).finally(clearProgress);
const logs = async () => readFileSync(places().log, 'utf8').trimEnd();
const commands = new Map(Object.entries({ start, stop, reset: () => stop().then(start), status, logs }));
const usage = () => Promise.reject(RangeError(`usage: npm run localstack -- ${[...commands.keys()].join('|')}`));

// tsx leaves symbolic links and a left-out '.ts' as they were typed.
const file = ['', '.ts'].map((end) => `${process.argv[1]}${end}`).find((path) => existsSync(path));
if (file && realpathSync(file) === realpathSync(import.meta.filename)) {
  process.stdout.on('error', () => process.exit()); // '| head' has seen enough
  (commands.get(process.argv[2] ?? '') ?? usage)().then(console.log, (error: Error) => {
    console.error(error.message);
    process.exitCode = error instanceof RangeError ? 2 : 1;
  });
}
