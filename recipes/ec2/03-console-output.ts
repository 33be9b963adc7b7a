/**
 * 2.3 Read the console output
 *
 * ## Problem
 * An instance doesn't answer, or you want to know whether its boot script has run, and you can't log in (yet). Or you
 * are about to log in for the first time and want to know its host key.
 *
 * ## Solution
 * Get what the system wrote to its console, take out what could drive your terminal, and pick out the two things that
 * are looked for most: when cloud-init was done, and the fingerprints of the SSH host keys.
 *
 * ## Discussion
 * EC2 saves the console shortly after an instance starts, stops, reboots or terminates, and keeps the last 64 KB for at
 * least an hour. So there is none at first (`--wait`), then perhaps not all, and after days it is old. Nitro types give
 * you what is there at this moment: `--latest`. Windows shows its last three errors instead.
 *
 * cloud-init writes a line at the end of every boot, also when your script failed. The last one counts: as long as a
 * boot goes on, that of the one before. An image without cloud-init, or with its own `final_message`, has none.
 * What the script prints may stand in there, secrets too, and anybody with this permission can read them.
 *
 * cloud-init shows the host keys once, at an instance's first boot. Compare a fingerprint with what `ssh` asks you at
 * your first login: it came by way of AWS, and not from whoever answered at the address. The first keys in the output
 * count, since what runs later on the machine can write there as well. So get them before they have left the 64 KB.
 *
 * If it says too little: GetConsoleScreenshot has a picture of the screen of a running instance. On the EC2 serial
 * console you can type, too; that is for Nitro types, and has to be enabled for the account.
 *
 * @before npx tsx recipes/ec2/01-launch-instance.ts --local
 * @run npx tsx recipes/ec2/03-console-output.ts --lines 3 --local
 * @output
 *   Built 1 zonelists
 *   Kernel command line: root=/dev/sda1 ro 4
 *   Enabling fast FPU save and restore... done.
 *
 *   instance id          i-0abcdef1234567890
 *   timestamp            2026-11-24 20:32:53 UTC
 *   cloud init finished  -
 *   uptime seconds       -
 * @aws npx tsx recipes/ec2/03-console-output.ts --latest --wait
 * @permission ec2:DescribeInstances on *
 * @permission ec2:GetConsoleOutput on arn:aws:ec2:*:*:instance/*
 * @cost nothing
 * @undo nothing
 * @emulator LocalStack has one and the same log of 2006 for every instance, at once. The test answers with lines as
 * cloud-init writes them.
 * @book ec2.get_console_output → GetConsoleOutputCommand
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-console.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configure-access-to-serial-console.html
 * @see https://docs.cloud-init.io/en/latest/reference/modules.html
 */
import { setTimeout } from 'node:timers/promises';
import { EC2Client, GetConsoleOutputCommand } from '@aws-sdk/client-ec2';

export interface HostKey {
  /** `ED25519` */
  type: string;
  bits: number;
  /** `SHA256:…` as `ssh` shows it. */
  fingerprint: string;
}

export interface ConsoleOutput {
  instanceId: string;
  /** Text that can be printed as it is; null if there is none yet. */
  output: string | null;
  /** When EC2 saved it last; null if it didn't yet. */
  timestamp: Date | null;
  /** When cloud-init was done last; null if that is not told, or not legible. */
  cloudInitFinished: Date | null;
  /** For how many seconds the machine was up then. */
  uptimeSeconds: number | null;
  /** Those that the first boot has shown. */
  hostKeys: HostKey[];
}

/**
 * Gets the console output of an instance.
 *
 * @param ec2 - Of the instance's region.
 * @param options.instanceId - The instance; it may be stopped or terminated.
 * @param options.latest - Whether to get what is there now; only on Nitro types. False by default.
 * @param options.lines - So many lines from the end. All by default.
 * @param options.waitSeconds - How long to wait until there is some. 0 by default.
 * @param options.signal - Aborts the wait.
 * @param options.onProgress - Called with a text for people.
 * @returns The output, and what is found in it.
 * @throws InvalidInstanceID.NotFound when there is no such instance.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleOutput.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const { hostKeys } = await consoleOutput(ec2, { instanceId: 'i-0123456789abcdef0', waitSeconds: 600 });
 * for (const { type, fingerprint } of hostKeys) console.log(type, fingerprint);
 */
export async function consoleOutput(
  ec2: EC2Client,
  {
    instanceId,
    latest = false,
    lines = Number.POSITIVE_INFINITY,
    waitSeconds = 0,
    signal,
    onProgress,
  }: {
    instanceId: string;
    latest?: boolean;
    lines?: number;
    waitSeconds?: number;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<ConsoleOutput> {
  if (!(lines >= 1)) throw new RangeError(`lines must be 1 or more, not ${lines}`);
  const start = Date.now();
  const input = { InstanceId: instanceId, Latest: latest };
  let answer = await ec2.send(new GetConsoleOutputCommand(input), { abortSignal: signal });
  // The SDK has no waiter for this. Output that is empty is none.
  while (!answer.Output && Date.now() - start < waitSeconds * 1000) {
    onProgress?.(`waiting until ${instanceId} has console output: ${Math.round((Date.now() - start) / 1000)} s`);
    await setTimeout(Math.min(5000, waitSeconds * 1000), undefined, { signal });
    answer = await ec2.send(new GetConsoleOutputCommand(input), { abortSignal: signal });
  }

  const text = answer.Output ? makeHarmless(Buffer.from(answer.Output, 'base64').toString()) : null;
  return {
    instanceId,
    output: text === null ? null : text.split('\n').slice(-lines).join('\n'),
    timestamp: answer.Timestamp ?? null,
    ...findEnd(text ?? ''),
    hostKeys: findHostKeys(text ?? ''),
  };
}

/** Whoever writes to the console could otherwise move your cursor, set titles, or hide text. */
function makeHarmless(text: string): string {
  // Escape and [: colours, and moves of the cursor. They are dropped, and what is left is shown as \u{1b}.
  const controls = new RegExp(`${String.fromCharCode(0x1b)}\\[[0-?]*[ -/]*[@-~]`, 'g');
  return text
    .replace(controls, '')
    .replace(/\r+\n?/g, '\n')
    .replace(/[\p{Cc}\p{Cf}]/gu, (char) => (/[\n\t]/.test(char) ? char : `\\u{${char.codePointAt(0)?.toString(16)}}`))
    .trimEnd();
}

/** `Cloud-init v. 22.2.2 finished at Tue, 24 Nov 2026 09:12:40 +0000. Datasource DataSourceEc2.  Up 12.34 seconds` */
function findEnd(text: string): Pick<ConsoleOutput, 'cloudInitFinished' | 'uptimeSeconds'> {
  // With limits, for whoever writes to the console could make the search take hours.
  const ends = text.matchAll(/Cloud-init v\. .{1,60} finished at (.{1,160}?)\. .{0,300}Up (\d+(?:\.\d+)?) seconds/g);
  const [, at = '', seconds] = [...ends].at(-1) ?? [];
  // The kernel may have written into the midst of the line.
  return { cloudInitFinished: Date.parse(at) ? new Date(at) : null, uptimeSeconds: seconds ? Number(seconds) : null };
}

/** `256 SHA256:… root@ip-10-0-0-1 (ED25519)`, after what the system's logger puts in front; older images have MD5. */
function findHostKeys(text: string): HostKey[] {
  const [, block = ''] = /BEGIN SSH HOST KEY FINGERPRINTS([\s\S]*?)END SSH HOST KEY FINGERPRINTS/.exec(text) ?? [];
  const line = /\b(\d+) (SHA256:[\w+/]{43}|(?:MD5:)?(?:[0-9a-f]{2}:){15}[0-9a-f]{2}) .{0,300}\((\S{1,40})\)/g;
  return Array.from(block.matchAll(line), ([, bits, fingerprint = '', type = '']) => ({
    type,
    bits: Number(bits),
    fingerprint,
  }));
}

// ---- command line: leave out when copying ----
import { connect, interrupted, json, print, progress, recipe } from '../../shared/cli.ts';
import { newestInstance } from '../../shared/newest.ts';

recipe(import.meta, (command) =>
  command
    .argument('[instance-id]', 'the instance (default: the newest one of this cookbook)')
    .option('--latest', 'get what is there at this moment (Nitro types only)')
    .option('--lines <count>', 'so many lines from the end (default: all)', Number)
    .option('--wait', 'wait up to ten minutes until there is some')
    .action(async (given, { wait, ...options }) => {
      const ec2 = connect(EC2Client);
      const instanceId = given ?? (await newestInstance(ec2));
      const more = { waitSeconds: wait ? 600 : 0, signal: interrupted(), onProgress: progress };
      const result = await consoleOutput(ec2, { instanceId, ...options, ...more });
      const { output, hostKeys, ...found } = result;
      if (output === null)
        throw new Error(`${instanceId} has no console output yet: --wait waits, --latest may have some`);
      if (json()) return print(result);
      progress('');
      console.log(`${output}\n`);
      print(found);
      if (hostKeys.length > 0) console.log();
      if (hostKeys.length > 0) print(hostKeys);
    }),
);
