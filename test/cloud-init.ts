/** cloud-init itself, Debian's or Ubuntu's package, to show what a machine makes of user data. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const program = '/usr/bin/cloud-init';
/** The Python that cloud-init is installed for. */
const python = existsSync(program) ? (/^#!(\S+)/.exec(readFileSync(program, 'utf8'))?.[1] ?? null) : null;
const helper = fileURLToPath(new URL('./cloud-init.py', import.meta.url));

/** Whether cloud-init is here. */
export const cloudInit =
  python !== null && spawnSync(python, ['-c', 'import cloudinit.user_data'], { stdio: 'ignore' }).status === 0;
if (!cloudInit) console.warn('User data is not tried out: apt install cloud-init');

export interface Understood {
  parts: { type: string; name: string }[];
  /** All cloud-configs in one, as text and as values. */
  config: string;
  values: Record<string, unknown>;
  /** By their names, in the order in which they run. */
  scripts: Record<string, string>;
}

/** What cloud-init understands of user data. */
export function understand(bytes: Buffer): Understood {
  return JSON.parse(call([helper], bytes).stdout);
}

/** Runs the scripts of user data, here and now, and returns what cloud-init writes to the console. */
export function runScripts(bytes: Buffer): string {
  const { stdout, stderr } = call([helper, '--run'], bytes);
  return `${stdout.slice(stdout.indexOf('\n') + 1)}${stderr}`;
}

/** What `cloud-init schema` says of a cloud-config. */
export function checkSchema(file: string): string {
  const { stdout, stderr } = spawnSync(python as string, [program, 'schema', '--config-file', file], {
    encoding: 'utf8',
  });
  return `${stdout}${stderr}`.trim();
}

function call(args: string[], input: Buffer) {
  const result = spawnSync(python as string, args, { input, encoding: 'utf8', maxBuffer: 1 << 26 });
  if (result.status !== 0) throw new Error(result.stderr);
  return result;
}
