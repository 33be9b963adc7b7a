/**
 * 2.30 Make user data
 *
 * ## Problem
 * A machine is to run some files at its first boot: a cloud-config that installs and writes, a script that starts. EC2
 * takes one piece of user data, of 16 KB at most.
 *
 * ## Solution
 * One file is user data as it is. Put several into one MIME multi-part message, which cloud-init takes apart again, and
 * compress what is too large. Look through it for secrets. Use the result at a launch (2.15) or in a launch template.
 *
 * ## Discussion
 * A file's first line tells cloud-init what it is. About one that it doesn't know it writes no more than a warning into
 * its log, so that is refused here. Of a cloud-config nothing else is checked: `cloud-init schema --config-file FILE` does that.
 *
 * Scripts run in the order of their names, so each gets its number in front. Of several cloud-configs the last would
 * replace the lists of those before, `runcmd` for one. `Merge-Type` has them joined; of single values, the first counts.
 *
 * cloud-init stumbles over a part that is not ASCII, so such a file goes as base64.
 *
 * The 16 KB are 16,384 bytes, counted before base64. cloud-init unpacks gzip by itself. What is still too large belongs
 * into S3; a script fetches it from there.
 *
 * User data is no place for secrets: every program on the machine can read it. What looks like one is named, by file
 * and line; what looks like none may be one all the same.
 *
 * The example stores how full the disk is, as a metric: a script that asks the metadata service who it is and uses the
 * AWS CLI, which Amazon Linux 2023 has, with the keys of the instance's role (2.28); and a systemd timer.
 *
 * @run npx tsx recipes/ec2/30-make-user-data.ts
 * @output
 *   files        disk-usage.yaml, disk-usage.sh
 *   size         2014 of 16384 bytes
 *   compressed   no
 *   secrets      -
 *   output file  -
 * @run npx tsx recipes/ec2/30-make-user-data.ts --namespace Shop/Web --json
 * @permission nothing
 * @cost nothing
 * @undo nothing
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html
 * @see https://cloudinit.readthedocs.io/en/latest/explanation/format.html
 * @see https://cloudinit.readthedocs.io/en/latest/reference/merging.html
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { gzipSync } from 'node:zlib';

export interface BootFile {
  name: string;
  content: string;
}

export interface UserData {
  /** As the machine gets it; not base64. */
  bytes: Buffer;
  compressed: boolean;
  /** Where something looks like a secret: `start.sh, line 3`. */
  secrets: string[];
}

/** How many bytes of user data EC2 takes, before base64. */
export const maximum = 16_384;
/** What cloud-init calls a file that begins with this line. */
const types: Record<string, string> = {
  '#cloud-config': 'text/cloud-config',
  '#cloud-boothook': 'text/cloud-boothook',
  '#part-handler': 'text/part-handler',
  '#include': 'text/x-include-url',
  '#include-once': 'text/x-include-once-url',
  '#cloud-config-archive': 'text/cloud-config-archive',
  '## template: jinja': 'text/jinja2',
};
/** An access key, a private key, or a value for something with such a name. */
const secret =
  /\b(AKIA|ASIA)[A-Z0-9]{16}\b|PRIVATE KEY-----|(password|passwd|secret|token|(api|access)_?key)['"]?\s*[=:]\s*['"]?(?!true|false)[^\s'"$]{4}/i;

/**
 * Makes user data of one file as it is, or of several as a MIME multi-part message; compressed if it is too large.
 *
 * @param files - Scripts, which begin with `#!`, cloud-configs and others that cloud-init knows, in the order to run.
 * @returns The user data, and what in it looks like a secret.
 * @throws RangeError when cloud-init would not know what a file is, and when all is too large even compressed.
 * @see https://cloudinit.readthedocs.io/en/latest/explanation/format.html
 *
 * @example
 * const content = '#!/bin/sh\ndnf install -y nginx && systemctl enable --now nginx\n';
 * const { bytes } = makeUserData([{ name: 'web.sh', content }]);
 * console.log(`${bytes.length} bytes`);
 */
export function makeUserData(files: BootFile[]): UserData {
  if (files.length === 0) throw new RangeError('there is no file to make user data of');
  const parts = files.map(({ name, content }, index) => {
    const [first = ''] = content.split(/\r?\n/, 1);
    const type = first.startsWith('#!') ? 'text/x-shellscript' : types[first.trimEnd()];
    if (!type) throw new RangeError(`${name} begins with none of #!, ${Object.keys(types).join(', ')}`);
    if (/[\0\uFFFD]/.test(content)) throw new RangeError(`${name} is no text in UTF-8`);
    if (!/^[\w.-]+$/.test(name)) throw new RangeError(`a file's name has letters, digits and _ . -, not "${name}"`);
    // Only ASCII comes through as it is. base64 makes the rest larger, and harder to compress.
    const isAscii = Buffer.byteLength(content) === content.length;
    const body = isAscii ? content : Buffer.from(content).toString('base64').replace(/.{76}/g, '$&\n');
    return [
      `Content-Type: ${type}; charset="utf-8"`,
      `Content-Transfer-Encoding: ${isAscii ? '7bit' : 'base64'}`,
      `Content-Disposition: attachment; filename="${String(index + 1).padStart(3, '0')}-${name}"`,
      // A template may become a cloud-config.
      ...(/cloud-config$|jinja2$/.test(type) ? ['Merge-Type: list(append)+dict(no_replace,recurse_list)+str()'] : []),
      `\n${body}`,
    ].join('\n');
  });
  // A line that no part can hold.
  const boundary = createHash('sha256').update(parts.join('')).digest('hex');
  const message = [
    `Content-Type: multipart/mixed; boundary="${boundary}"\nMIME-Version: 1.0\n`,
    ...parts.map((part) => `--${boundary}\n${part}`),
    `--${boundary}--\n`,
  ];
  const plain = Buffer.from(files.length === 1 ? (files[0] as BootFile).content : message.join('\n'));
  const compressed = plain.length > maximum;
  const bytes = compressed ? gzipSync(plain, { level: 9 }) : plain;
  if (bytes.length > maximum)
    throw new RangeError(`user data has at most ${maximum} bytes, this has ${bytes.length} even when compressed`);
  const secrets = files.flatMap(({ name, content }) =>
    content.split('\n').flatMap((line, index) => (secret.test(line) ? [`${name}, line ${index + 1}`] : [])),
  );
  return { bytes, compressed, secrets };
}

/**
 * Reads files for `makeUserData`, in their order.
 *
 * @param paths - Where they are.
 * @throws RangeError when one can't be read.
 * @see https://nodejs.org/docs/latest-v20.x/api/fs.html#fspromisesreadfilepath-options
 *
 * @example
 * const files = await readBootFiles(['boot/setup.yaml', 'boot/start.sh']);
 * const { bytes } = makeUserData(files);
 * console.log(`${bytes.length} bytes`);
 */
export async function readBootFiles(paths: string[]): Promise<BootFile[]> {
  return Promise.all(
    paths.map(async (path) => {
      const content = await readFile(path, 'utf8').catch(({ code }) => {
        throw new RangeError(`${path} can't be read (${code})`);
      });
      return { name: basename(path), content };
    }),
  );
}

/**
 * The files that make a machine store how full its disk is, every five minutes.
 *
 * @param namespace - The namespace of the metric `DiskUsage`; the machine's role must allow it.
 * @returns A cloud-config and a script.
 * @throws RangeError when the namespace can't be.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
 *
 * @example
 * const files = diskUsageFiles('Shop/Web');
 * const { bytes } = makeUserData(files);
 * console.log(`${bytes.length} bytes`);
 */
export function diskUsageFiles(namespace: string): BootFile[] {
  // It becomes a part of a script.
  if (!/^(?!AWS\/|:)[\w./#: -]{1,255}$/.test(namespace))
    throw new RangeError(`a namespace has letters, digits and . - _ / # : and is not AWS's own, not "${namespace}"`);
  return [
    { name: 'disk-usage.yaml', content: config.replace('NAMESPACE', namespace) },
    { name: 'disk-usage.sh', content: start },
  ];
}

const config = `#cloud-config
write_files:
  - path: /usr/local/bin/disk-usage
    permissions: '0755'
    content: |
      #!/bin/sh
      # Stores in CloudWatch how full the disk is, in percent.
      set -eu
      metadata=http://169.254.169.254/latest
      token=$(curl -sSf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/api/token")
      ask() { curl -sSf -H "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/$1"; }
      region=$(ask placement/region)
      instance=$(ask instance-id)
      used=$(df --output=pcent / | tr -dc 0-9)
      aws cloudwatch put-metric-data --region "$region" --namespace 'NAMESPACE' --metric-name DiskUsage \\
        --dimensions "InstanceId=$instance" --unit Percent --value "$used"
  - path: /etc/systemd/system/disk-usage.service
    content: |
      [Unit]
      Description=Store the disk usage in CloudWatch
      [Service]
      Type=oneshot
      ExecStart=/usr/local/bin/disk-usage
  - path: /etc/systemd/system/disk-usage.timer
    content: |
      [Unit]
      Description=Store the disk usage every five minutes
      [Timer]
      OnCalendar=*:0/5
      [Install]
      WantedBy=timers.target
`;

const start = `#!/bin/sh
# Stores the first value now, so that a mistake shows in the console output.
set -eu
systemctl daemon-reload
systemctl enable --now disk-usage.timer
/usr/local/bin/disk-usage
`;

// ---- command line: leave out when copying ----
import { writeFile } from 'node:fs/promises';
import { json, print, recipe } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('[files...]', 'scripts and cloud-configs (default: those that store the disk usage)')
    .option('--namespace <name>', 'namespace of the disk usage', 'Paws')
    .option('--output-file <path>', 'write the user data to this new file')
    .action(async (paths, { namespace, outputFile = null }) => {
      if (outputFile === '') throw new RangeError('--output-file takes a path');
      const files = paths.length > 0 ? await readBootFiles(paths) : diskUsageFiles(namespace);
      const { bytes, ...found } = makeUserData(files);
      const refuse = ({ code }: NodeJS.ErrnoException) => {
        throw new RangeError(`${outputFile} can't be written (${code})`);
      };
      if (outputFile) await writeFile(outputFile, bytes, { flag: 'wx', mode: 0o600 }).catch(refuse);
      const result = { files: files.map(({ name }) => name), size: bytes.length, ...found, outputFile };
      const whole = json() ? { userData: bytes.toString('base64') } : {};
      print({ ...result, ...whole }, { size: (size: number) => `${size} of ${maximum} bytes` });
    }),
);
