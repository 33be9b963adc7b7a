/**
 * 2.19 Run a command
 *
 * ## Problem
 * You want an instance to do one thing, and a script to know what came of it: what was printed, and whether it
 * went well.
 *
 * ## Solution
 * Ask EC2 for the instance's address, wait until SSH answers there, log in with the key that 2.16 saved, and run the
 * command. What it prints comes as it is printed, standard output and standard error apart, and its exit status
 * becomes the recipe's own.
 *
 * ## Discussion
 * A command that fails is no error: the function returns its exit status, and the recipe ends with it. What goes
 * wrong on the way, with EC2 or SSH, ends with 1 or 2, as a command may, too; a script that must tell the two apart
 * gives `--json`. Then what the command prints goes to standard error, and standard output has the result, with the
 * exit status in it, only if the command came to its end. One that a signal ended has 128 and the signal's number, as
 * in a shell.
 *
 * EC2 may give the address of a stopped instance to somebody else's. So the host key is kept under the instance's id,
 * in a file of its own: taken on trust the first time, and any other is refused from then on, before anything is
 * sent. Not to trust the first time, compare: 2.3 shows the fingerprints that the instance printed at its boot, and
 * `ssh-keygen -lf ~/.ssh/paws_known_hosts` those that were kept.
 *
 * An instance that runs has not booted yet, so a refused or silent connection is tried again for two minutes. The
 * command itself is sent once, and never again after a connection was lost: it may have done its work. Ctrl-C closes
 * the connection; a command that prints nothing runs on over there, so put `timeout 60` before it where that matters.
 *
 * The command is for the shell of the user over there: put it into quotes. Its standard input is empty. The user is
 * `ec2-user` on Amazon Linux, `ubuntu` on Ubuntu, `admin` on Debian.
 *
 * No port for SSH has to be open for Systems Manager's Run Command; it needs its agent and a role on the instance,
 * and is the better way to many machines at once.
 *
 * @aws npx tsx recipes/ec2/19-run-command.ts uptime
 * @aws npx tsx recipes/ec2/19-run-command.ts 'df -h /' i-0123456789abcdef0 --username ubuntu
 * @permission ec2:DescribeInstances on *
 * @cost nothing
 * @undo nothing
 * @emulator Nothing boots on LocalStack. The tests log in to OpenSSH's own server, at an address that they answer.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/connect-linux-inst-ssh.html
 * @see https://docs.aws.amazon.com/systems-manager/latest/userguide/run-command.html
 */
import { access, constants } from 'node:fs/promises';
import { constants as os } from 'node:os';
import type { Writable } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import { DescribeInstancesCommand, EC2Client, waitUntilInstanceRunning } from '@aws-sdk/client-ec2';
import { runOverSsh, type SshResult } from '../../shared/ssh.ts';
import { waitFor } from '../../shared/wait.ts';

/** How to get into an instance. */
export interface Login {
  /** File of the private key, without a passphrase. */
  keyFile: string;
  /** File that the host keys are kept in, in OpenSSH's format; made when missing. */
  knownHosts: string;
  /** `ec2-user` by default. */
  username?: string;
  /** 22 by default. */
  port?: number;
  /** Whether to connect to the private address, from inside the network. False by default. */
  privateAddress?: boolean;
  /** How many seconds SSH has for its first answer. 120 by default; with 0 it is tried once. */
  seconds?: number;
}

export interface RanCommand {
  instanceId: string;
  /** Where the instance was reached. */
  address: string;
  /** The command's exit status; 128 and the signal's number when a signal ended it, as in a shell. */
  exitCode: number;
  /** The signal that ended the command, such as `SIGTERM`. */
  signal: string | null;
  /** `pinned` when the host key was taken on trust now, `known` when it is the one that was pinned before. */
  hostKey: 'pinned' | 'known';
}

/**
 * Runs one command on an instance over SSH. A command that fails is no error: look at the exit code.
 *
 * @param ec2 - Of the instance's region.
 * @param options.instanceId - The instance. One that is starting is waited for.
 * @param options.command - For the user's shell over there. Its standard input is empty.
 * @param options.stdout - Where its standard output goes, as it comes. Never ended.
 * @param options.stderr - Where its standard error goes.
 * @param options.signal - Closes the connection; a silent command runs on over there.
 * @param options.onProgress - Called with a text for people while waiting, and with an empty one before the command.
 * @returns How the command ended, once all that it printed is written.
 * @throws TypeError or RangeError for options that can't be. Error when the instance isn't running or has no public
 *   address. Those of `runOverSsh`: SshUnreachable, SshNotAnswering, SshAuthenticationFailed, SshHostKeyChanged,
 *   SshConnectionLost, SshPrivateKeyUnusable.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html
 *
 * @example
 * const { stdout, stderr } = process;
 * const login = { keyFile: './paws.pem', knownHosts: './known_hosts' };
 * const uptime = { instanceId: 'i-0123456789abcdef0', command: 'uptime', ...login, stdout, stderr };
 * const { exitCode } = await runCommand(new EC2Client({}), uptime);
 * console.log(exitCode === 0 ? 'done' : 'failed');
 */
export async function runCommand(
  ec2: EC2Client,
  {
    instanceId,
    command,
    stdout,
    stderr,
    keyFile,
    knownHosts,
    username = 'ec2-user',
    port = 22,
    privateAddress = false,
    seconds = 120,
    signal,
    onProgress,
  }: Login & {
    instanceId: string;
    command: string;
    stdout: Writable;
    stderr: Writable;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<RanCommand> {
  if (!/^i-[0-9a-f]{8,17}$/.test(instanceId)) {
    throw new TypeError(`"${instanceId}" is no instance's id; a command of several words goes into quotes`);
  }
  if (!command.trim()) throw new TypeError('the command is empty');
  if (!(Number.isInteger(port) && port > 0 && port < 65_536)) throw new RangeError(`a port is 1 to 65535, not ${port}`);
  if (!(seconds >= 0 && seconds < Infinity)) throw new RangeError(`seconds are 0 or more, not ${seconds}`);
  await access(keyFile, constants.R_OK).catch(({ code }) => {
    throw new RangeError(`the key file ${keyFile} can't be read (${code}): 2.16 makes one, or name yours`);
  });

  const address = await findAddress(ec2, { instanceId, privateAddress, signal, onProgress });
  // A key that was taken on trust in an attempt that failed is still a new one.
  let hostKey: RanCommand['hostKey'] = 'known';
  const remember = (tried: Partial<SshResult>) => {
    if (tried.hostKey === 'pinned') hostKey = 'pinned';
  };
  const attempt = (command: string, connectTimeout: number) => {
    const host = { host: address, port, knownHosts, hostKeyAlias: instanceId };
    const login = { ...host, username, privateKey: keyFile };
    const trying = runOverSsh({ ...login, command, stdout, stderr, connectTimeout, signal });
    trying.then(remember, remember);
    return trying;
  };
  let result: SshResult;
  try {
    // Most instances have been up for long, and answer at once.
    result = await attempt(command, 5);
  } catch (error) {
    if (seconds === 0 || !isNotYet(error)) throw error;
    await waitForSsh(attempt, { error, instanceId, seconds, signal, onProgress });
    result = await attempt(command, 20);
  }
  const exitCode = result.exitCode ?? 128 + (os.signals[result.signal as NodeJS.Signals] ?? 0);
  return { instanceId, address, ...result, hostKey, exitCode };
}

/** The address to connect to, once the instance runs. */
async function findAddress(
  ec2: EC2Client,
  {
    instanceId,
    privateAddress,
    ...more
  }: { instanceId: string; privateAddress: boolean; signal?: AbortSignal; onProgress?: (text: string) => void },
): Promise<string> {
  const InstanceIds = [instanceId];
  const answer = await ec2.send(new DescribeInstancesCommand({ InstanceIds }), { abortSignal: more.signal });
  let instance = answer.Reservations?.[0]?.Instances?.[0];
  if (instance?.State?.Name === 'pending') {
    const running = { until: `${instanceId} is running`, ...more };
    const { Reservations } = await waitFor(waitUntilInstanceRunning, ec2, { InstanceIds }, running);
    instance = Reservations?.[0]?.Instances?.[0];
    more.onProgress?.('');
  }
  const state = instance?.State?.Name;
  if (state !== 'running') throw new Error(`${instanceId} is ${state}, not running; 2.20 starts a stopped one`);
  const ipv4 = privateAddress ? instance?.PrivateIpAddress : instance?.PublicIpAddress;
  // An IPv6 address is public and private.
  const address = ipv4 ?? instance?.Ipv6Address;
  if (!address) {
    throw new Error(`${instanceId} has no public address: 2.6 gives it one, or connect to its private address`);
  }
  return address;
}

/** Tries to log in until that goes well, with a command that does nothing and so can be sent again. */
async function waitForSsh(
  attempt: (command: string, connectTimeout: number) => Promise<SshResult>,
  {
    error: first,
    instanceId,
    seconds,
    signal,
    onProgress,
  }: {
    error: unknown;
    instanceId: string;
    seconds: number;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<void> {
  const start = Date.now();
  const passed = () => (Date.now() - start) / 1000;
  const tell = () => onProgress?.(`waiting until ${instanceId} answers to SSH: ${Math.round(passed())} s`);
  tell();
  const ticking = setInterval(tell, 1000);
  try {
    let error = first as Error;
    while (passed() < seconds) {
      // A pause, for a port that is closed says so at once.
      await setTimeout(Math.min(2, seconds - passed()) * 1000, undefined, { signal }).catch(() =>
        signal?.throwIfAborted(),
      );
      try {
        await attempt(':', Math.max(1, Math.min(20, seconds - passed())));
        return;
      } catch (next) {
        if (!isNotYet(next) && (next as Error).name !== 'SshConnectionLost') throw next;
        error = next as Error;
      }
    }
    throw Object.assign(new Error(`not within ${seconds} s: ${error.message}`, { cause: error }), { name: error.name });
  } finally {
    clearInterval(ticking);
    onProgress?.('');
  }
}

/** Whether an error is one that a machine gives while it boots; the command has not been sent then. */
function isNotYet(error: unknown): boolean {
  return ['SshUnreachable', 'SshNotAnswering'].includes((error as Error).name);
}

// ---- command line: leave out when copying ----
import { homedir } from 'node:os';
import { connect, interrupted, json, local, print, progress, recipe } from '../../shared/cli.ts';
import { newestInstance } from '../../shared/newest.ts';

recipe(import.meta, (command) =>
  command
    .argument('<command>', "for the instance's shell, in quotes")
    .argument('[instance-id]', 'the instance (default: the newest one of this cookbook)')
    .option('--username <name>', 'user to log in as', 'ec2-user')
    .option('--key-file <path>', 'file of the private key', `${homedir()}/.ssh/paws.pem`)
    .option('--known-hosts <path>', 'file of the host keys', `${homedir()}/.ssh/paws_known_hosts`)
    .option('--port <number>', "port of the instance's SSH server", '22')
    .option('--private-address', 'connect to the private address, from inside the network')
    .option('--seconds <number>', 'how long to wait for SSH to answer', '120')
    .action(async (command, given, options) => {
      if (local()) throw new RangeError("nothing boots on LocalStack, and its addresses are somebody else's");
      const ec2 = connect(EC2Client);
      const { stderr, stdout } = process;
      const login = { ...options, port: Number(options.port), seconds: Number(options.seconds) };
      const streams = { stdout: json() ? stderr : stdout, stderr, signal: interrupted(), onProgress: progress };
      const instanceId = given ?? (await newestInstance(ec2));
      const result = await runCommand(ec2, { command, instanceId, ...login, ...streams });
      const { address, hostKey, exitCode } = result;
      if (json()) print(result);
      else if (stderr.isTTY)
        stderr.write(`${instanceId} at ${address}, host key ${hostKey}: exit status ${exitCode}\n`);
      process.exitCode = exitCode;
    }),
);
