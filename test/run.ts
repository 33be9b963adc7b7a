/** Runs the commands of recipes' headers as a reader would type them, in a folder and with a HOME of their own. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { fill } from '../shared/cli.ts';
import { type Header, parseHeader } from '../shared/header.ts';
import type { Fault } from './preload.ts';
import { cacheFolder } from './program.ts';

export const root = fileURLToPath(new URL('..', import.meta.url));
/** What lets Node run TypeScript: `node --import`. */
export const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;

export interface Recipe extends Header {
  /** Path from the root of the repository: `recipes/ec2/01-launch-instance.ts`. */
  file: string;
  source: string;
}

/** All recipes, in the order of their numbers. */
export function listRecipes(): Recipe[] {
  return ['setup', 'ec2', 's3'].flatMap((chapter) =>
    readdirSync(join(root, 'recipes', chapter))
      .filter((name) => name.endsWith('.ts'))
      .sort()
      .map((name) => {
        const file = `recipes/${chapter}/${name}`;
        const source = readFileSync(join(root, file), 'utf8');
        return { file, source, ...parseHeader(source, file) };
      }),
  );
}

export interface Result {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface Settings {
  /** Where to run: a folder that is HOME, too. */
  cwd: string;
  /** Variables beside PATH and HOME, and for --local the folder of caches; nothing else is inherited. */
  env?: Record<string, string>;
  faults?: Fault[];
  /** The file to write the sent operations to. */
  record?: string;
  /** Start it by tsx, as a reader does, where the tests have a quicker way: start.mjs. */
  byTsx?: boolean;
  stdin?: string;
  /** Sends this signal so many milliseconds after the first output on standard error or output, once `when` holds. */
  interrupt?: { signal: NodeJS.Signals; after: number; when?: () => boolean };
  /** Run in a terminal of this width, and type keys each time that a text has appeared. */
  terminal?: { columns: number; type?: [text: string, keys: string][] };
}

/** A temporary folder, and how to remove it. */
export function temporaryFolder(): { path: string; remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), 'paws-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/**
 * Runs `npx tsx recipes/… …`, without npx, which would not pass an interrupt on as a terminal does.
 *
 * @param command - As it stands in a header; a shell takes it apart.
 */
export function run(
  command: string,
  { cwd, env, faults, record, byTsx, stdin, interrupt, terminal }: Settings,
): Promise<Result> {
  const [start, preload] = ['./start.mjs', './preload.ts'].map((name) => new URL(name, import.meta.url));
  const { TEST_CACHE } = process.env;
  const node = `exec '${process.execPath}' --import '${TEST_CACHE && !byTsx ? start : tsx}' --import '${preload}'`;
  const words = ['sh', '-c', command.replace(/^npx tsx (\S+)/, `${node} '${root}$1'`)];
  if (terminal) words.unshift('python3', `${root}test/terminal.py`, `${terminal.columns}`);
  const [program = '', ...args] = words;
  const child = spawn(program, args, {
    cwd,
    env: {
      PATH: process.env.PATH,
      HOME: cwd,
      ...(process.env.COOKBOOK_LOCALSTACK && { COOKBOOK_LOCALSTACK: process.env.COOKBOOK_LOCALSTACK }),
      ...(TEST_CACHE && !byTsx && { TEST_CACHE }),
      // Where the lock of the test's LocalStack is: one that answers late is waited for, and no other one started.
      ...(/ --local\b/.test(command) && { XDG_CACHE_HOME: cacheFolder }),
      ...(faults && { TEST_FAULTS: JSON.stringify(faults) }),
      ...(record && { TEST_RECORD: record }),
      ...env,
    },
  });
  const typing = [...(terminal?.type ?? [])];
  const result: Result = { code: null, stdout: '', stderr: '' };
  const send = () => {
    if (!interrupt || (child.exitCode ?? child.signalCode) !== null) return;
    if (interrupt.when?.() ?? true) child.kill(interrupt.signal);
    else setTimeout(send, 20);
  };
  const collect = (name: 'stdout' | 'stderr') => (chunk: string) => {
    if (interrupt && !result.stdout && !result.stderr) setTimeout(send, interrupt.after);
    result[name] += chunk;
    const [text, keys] = typing[0] ?? [];
    if (text && result[name].includes(text)) {
      child.stdin.write(keys as string);
      typing.shift();
    }
  };
  child.stdout.setEncoding('utf8').on('data', collect('stdout'));
  child.stderr.setEncoding('utf8').on('data', collect('stderr'));
  child.stdin.on('error', () => {});
  if (!terminal) child.stdin.end(stdin);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ ...result, code }));
  });
}

/** A recipe's printed result as an object, to fill its `@undo` from: `bucket   paws-example` → `{ bucket }`. */
export function printedResult(stdout: string): Record<string, string[]> {
  const fields = [...stdout.matchAll(/^(\S+(?: \S+)*?) {2,}(.*)$/gm)];
  return Object.fromEntries(
    fields.map(([, label = '', value = '']) => [
      label.replace(/ (\w)/g, (_, letter) => letter.toUpperCase()),
      value.split(', '),
    ]),
  );
}

/** The command that undoes what a run printed. */
export function undoCommand(undo: string, stdout: string): string {
  return fill(undo, printedResult(stdout));
}

/**
 * The commands that undo what `@before` made, the last first: the `@undo` of each one's own recipe.
 *
 * @param before - The commands, and what each printed.
 */
export function undosOf(before: { command: string; stdout: string }[]): string[] {
  return [...before].reverse().flatMap(({ command, stdout }) => {
    const [, file = ''] = /tsx (\S+)/.exec(command) ?? [];
    const { undo } = parseHeader(readFileSync(join(root, file), 'utf8'), file);
    return undo ? [undoCommand(undo, stdout)] : [];
  });
}

/** A recipe's command for another server than `--local` finds, which has to be told what only `--local` leaves out. */
export function elsewhere(command: string, url: string): string {
  const [, file] = /tsx (\S+)/.exec(command) ?? [];
  // A command of the shell's own, such as rm.
  if (!file) return command;
  // This machine's address as others see it can't be found in a test.
  const asks = readFileSync(join(root, file), 'utf8').includes('findMyAddress') && !command.includes('--cidr');
  const address = asks ? ' --cidr 127.0.0.1/32' : '';
  return command.replace(' --my-ip', '').replace(' --local', `${address} --endpoint-url ${url}`);
}
