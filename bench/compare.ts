/**
 * What the benches of S3 have in common: finds the programs to compare with, runs all in turn, several times over, so
 * that whatever else the machine does falls on all of them, and prints the medians of time, CPU and memory beside those
 * of s5cmd. Ratios count, seconds don't. Time and memory are taken by Python, which can ask for a child's alone.
 */
import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { print } from '../shared/output.ts';
import { findProgram, keysOf, spawnServer, startServer } from '../test/program.ts';

/** One way to do the work. */
export interface Contender {
  name: string;
  /** Program and arguments. No shell takes them apart. */
  command: string[];
  /** All its variables: `env` of a server, and more. This process's own by default. */
  env?: Record<string, string>;
  /** Done before each run and not measured, such as to remove what the last one left. */
  prepare?: () => unknown;
  /** Done after each run and not measured. Is given what was printed; throws if the work was not done right. */
  check?: (printed: string) => unknown;
}

/** Medians of one contender's runs. */
export interface Measured {
  name: string;
  /** Of wall clock. */
  seconds: number;
  /** Seconds of CPU, of user and system, of the process and those it started and waited for. */
  cpu: number;
  /** Bytes of memory that were resident at most in one process. */
  peak: number;
}

/** A server to measure with, and the variables that make a command work there. */
export interface Server {
  url: string;
  env: Record<string, string>;
  stop: () => Promise<void>;
}

const root = join(import.meta.dirname, '..');
const keys = { accessKeyId: 'BENCHMARK', secretAccessKey: 'benchmark-secret' };

/** The words that run a recipe. Commands run in the root of the repository, so give other files by whole paths. */
export function ours(file: string): string[] {
  return [process.execPath, '--import', 'tsx', file];
}

const peers: Record<string, { look: string[]; get: string }> = {
  s5cmd: { look: ['s5cmd', 'version'], get: 'go install github.com/peak/s5cmd/v2@latest' },
  rclone: { look: ['rclone', 'version'], get: 'apt install rclone, or https://rclone.org/install/' },
  aws: { look: ['aws', '--version'], get: 'pip install awscli' },
  boto3: { look: ['python3', '-c', 'import boto3; print("boto3", boto3.__version__)'], get: 'pip install boto3' },
};

/**
 * Finds the peers that work here: `s5cmd`, `rclone`, `aws`, and `boto3` in the python3 of the PATH. Prints the
 * version of each, or how to get it.
 *
 * @returns The names of those that are there.
 */
export async function findPeers(): Promise<Set<string>> {
  const found = new Set<string>();
  for (const [name, { look, get }] of Object.entries(peers)) {
    const version = await output(look).catch(() => null);
    if (version !== null) found.add(name);
    console.log(`${name}: ${version === null ? `not here; ${get}` : version.trim().split('\n')[0]}`);
  }
  return found;
}

/**
 * Runs all in turn, round after round. A first round only fills caches and is not counted.
 *
 * @param options.rounds - How many runs of each are counted. 5 by default.
 * @throws Error with what a command printed when it fails, or when its `check` does.
 */
export async function compare(contenders: Contender[], { rounds = 5 } = {}): Promise<Measured[]> {
  const runs = new Map(contenders.map(({ name }) => [name, [] as Measured[]]));
  for (let round = 0; round <= rounds; round++) {
    // Each begins a round in turn: none always comes after the same other.
    const turn = contenders.map((_, index) => contenders[(index + round) % contenders.length] as Contender);
    for (const one of turn) {
      if (process.stderr.isTTY) process.stderr.write(`\r\x1b[Kround ${round} of ${rounds}: ${one.name}`);
      await one.prepare?.();
      const { printed, ...measured } = await measure(one);
      await one.check?.(printed);
      if (round > 0) runs.get(one.name)?.push(measured);
    }
  }
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  return [...runs].map(([name, all]) => ({
    name,
    seconds: median(all.map(({ seconds }) => seconds)),
    cpu: median(all.map(({ cpu }) => cpu)),
    peak: median(all.map(({ peak }) => peak)),
  }));
}

/** Prints a table with a line for each, and ratios to the one named, where it took part. */
export function report(title: string, measured: Measured[], { against = 's5cmd' } = {}): void {
  const base = measured.find(({ name }) => name === against);
  console.log(`\n${title}`);
  print(
    measured.map(({ name, seconds, cpu, peak }) => ({
      command: name,
      seconds: seconds.toFixed(2),
      [`of ${against}`]: base ? (seconds / base.seconds).toFixed(2) : null,
      cpu: cpu.toFixed(2),
      [`cpu of ${against}`]: base ? (cpu / base.cpu).toFixed(2) : null,
      peak: `${Math.round(peak / 1e6)} MB`,
    })),
  );
}

/** Date and machine, as a number in the documentation has to have them. */
export function machine(): string {
  const [{ model } = { model: 'unknown' }] = cpus();
  return `${new Date().toISOString().slice(0, 10)}, Node.js ${process.version}, ${cpus().length} × ${model}`;
}

/** Makes an empty folder, in memory where there is such a file system. */
export function fastFolder(): { path: string; remove: () => void } {
  const isThere = process.platform === 'linux' && readdirSync('/dev').includes('shm');
  const path = mkdtempSync(join(isThere ? '/dev/shm' : tmpdir(), 'paws-bench-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/**
 * Starts versitygw, a real S3 server that checks signatures and checksums and keeps its objects in a folder.
 *
 * @param options.keepAlive - Keeps connections open, as S3 does and versitygw by itself doesn't: what counts with small
 *   requests. False by default.
 * @returns Null where it is not installed; a line says how to get it.
 */
export async function startGateway(folder: string, { keepAlive = false } = {}): Promise<Server | null> {
  const program = findProgram('versitygw');
  if (!program) {
    console.log('versitygw: not here; test/install-servers');
    return null;
  }
  const { url, stop } = await startServer((port) =>
    spawnServer(
      program,
      ['--port', `127.0.0.1:${port}`, '--quiet', ...(keepAlive ? ['--keep-alive'] : []), 'posix', folder],
      {
        ROOT_ACCESS_KEY: keys.accessKeyId,
        ROOT_SECRET_KEY: keys.secretAccessKey,
      },
    ),
  );
  return { url, env: cleanEnvironment(), stop };
}

/** The variables of a command that must find only a server of the bench, whatever the reader has set. */
export function cleanEnvironment(): Record<string, string> {
  return {
    ...keysOf(keys),
    AWS_DEFAULT_REGION: 'us-east-1',
    AWS_CONFIG_FILE: '/dev/null',
    AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
    RCLONE_CONFIG: '/dev/null',
    PATH: process.env.PATH ?? '',
    HOME: tmpdir(),
  };
}

/** Runs a command to its end. What it used is written to file 3, so that it can print as it likes. */
const timer = `
import json, os, sys, time
os.set_inheritable(3, False)
begun = time.perf_counter()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(pid, 0)
seconds = time.perf_counter() - begun
unit = 1 if sys.platform == 'darwin' else 1024
os.write(3, json.dumps({
    'seconds': seconds, 'cpu': used.ru_utime + used.ru_stime, 'peak': used.ru_maxrss * unit,
    'code': os.waitstatus_to_exitcode(status)
}).encode())
`;

async function measure({
  name,
  command,
  env = process.env as Record<string, string>,
}: Contender): Promise<Measured & { printed: string }> {
  const child = spawn('python3', ['-c', timer, ...command], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    cwd: root,
    env,
  });
  const [printed, failure, told] = await Promise.all(
    [child.stdout, child.stderr, child.stdio[3]].map((stream) => text(stream as NodeJS.ReadableStream)),
  );
  const { code, ...used } = JSON.parse(told || '{}');
  if (code !== 0) throw new Error(`${name} failed (${code}): ${failure || printed}`);
  return { name, ...used, printed: printed as string };
}

function output([program = '', ...args]: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(program, args, (error, stdout) => (error ? reject(error) : resolve(stdout)));
  });
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
