/**
 * 2.23 Mount a volume
 *
 * ## Problem
 * A volume is attached to your Linux instance, and you want to keep files on it, now and after each restart. A
 * volume that has data must not lose it.
 *
 * ## Solution
 * Log in (2.19) and run a short script as root. It finds the device by the volume's id, makes a file system only
 * where there is nothing at all, mounts it, and adds it to `/etc/fstab` by its UUID. A second run finds all that
 * done and changes nothing.
 *
 * ## Discussion
 * The device name that the volume was attached under means nothing to a Nitro instance: NVMe devices are numbered as
 * they answer, and may swap places at the next start. Their serial number is the volume's id, and the script looks
 * for that. Instances on Xen (t2, m4 and older) don't show it and are refused.
 *
 * Empty means: `blkid` recognises nothing, nothing is made of the device, and its first 16 MiB are zeros, as all of a
 * new volume's bytes are. A file system that is there, of a restored volume for example, is mounted as it is. A
 * partition table is refused, and so is a part of RAID or LVM, an encrypted one, swap, or anything unknown.
 * Everything is looked at before anything is changed.
 *
 * With `nofail` the machine starts without the volume, too; otherwise a missing one would stop the boot before SSH
 * answers. A volume restored from a snapshot has the UUID of its source. Where both are attached to one machine,
 * which one is mounted would be left to chance, so this is refused: give one of them a new UUID first, with
 * `xfs_admin -U generate` or `tune2fs -U random`.
 *
 * The new directory belongs to root; `sudo chown ec2-user /data` hands it over. A volume that allows Multi-Attach is
 * refused, since neither XFS nor ext4 outlives two machines. Before you detach a volume, unmount it and take its line
 * out of `/etc/fstab`.
 *
 * The user who logs in must be allowed `sudo` without a password, as the first user of EC2's images is. If the
 * connection is lost half-way, run it again.
 *
 * @aws npx tsx recipes/ec2/23-mount-volume.ts /data
 * @aws npx tsx recipes/ec2/23-mount-volume.ts /data vol-0123456789abcdef0 --file-system ext4 --username ubuntu
 * @permission ec2:DescribeVolumes on *
 * @permission ec2:DescribeInstances on *
 * @cost nothing more than the volume costs anyway
 * @undo nothing
 * @emulator Nothing boots on LocalStack. The tests run the script over OpenSSH's own server, on loop devices.
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/ebs-using-volumes.html
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/identify-nvme-ebs-device.html
 */
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { DescribeVolumesCommand, EC2Client } from '@aws-sdk/client-ec2';
import { type Login, runCommand } from './19-run-command.ts';

export interface MountedVolume {
  volumeId: string;
  instanceId: string;
  /** The device for now; another one after a restart, perhaps. */
  device: string;
  mountPoint: string;
  /** `xfs` or `ext4`, or what was on the volume before. */
  fileSystem: string;
  uuid: string;
  /** Whether this run made the file system. */
  formatted: boolean;
  /** Whether this run mounted it. */
  mounted: boolean;
  /** Whether this run added it to /etc/fstab. */
  addedToFstab: boolean;
}

/** What runs on the instance, as root, with three arguments: volume, mount point and type of file system. */
export const mountScript = `
set -eu
refuse() { echo "$*" >&2; exit 1; }
link=/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_$(echo "$1" | tr -d -)
# As the system has it, past links.
mount_point=$(readlink -m "$2")
case $mount_point in
  *[[:space:]]*) refuse "$2 leads to '$mount_point', and /etc/fstab takes no blanks" ;;
esac
type=$3

# The device appears a moment after the volume was attached.
for second in 1 2 3 4 5 6 7 8 9 10; do
  [ -b "$link" ] || sleep 1
done
[ -b "$link" ] || refuse "no device has its id after $second s; only instances on Nitro show it"
device=$(readlink -f "$link")

# One run at a time. The device's own lock would keep udev from seeing the new file system.
exec 9</etc/fstab
flock -w 60 9 || refuse "another run of this holds /etc/fstab"

# What is there: blkid ends with 2 where it recognises nothing.
status=0
found=$(blkid -p -o export "$device") || status=$?
field() { echo "$found" | sed -n "s/^$1=//p"; }
[ -z "$(field PTTYPE)" ] || refuse "$device has a partition table ($(field PTTYPE)), as root volumes have"
[ "$(lsblk -rno NAME "$device" | wc -l)" -eq 1 ] || refuse "$device has partitions, or something is made of it"
if [ "$status" -eq 2 ]; then
  empty=yes uuid=
  # Not fooled by a device that can't be read, either.
  cmp -s -n 16777216 "$device" /dev/zero || refuse "$device is not empty, and what it holds is unknown"
  command -v "mkfs.$type" >/dev/null || refuse "there is no mkfs.$type: install it, or take another file system"
elif [ "$status" -eq 0 ] && [ "$(field USAGE)" = filesystem ]; then
  empty=no uuid=$(field UUID) type=$(field TYPE)
  [ -n "$uuid" ] || refuse "the file system of $device, $type, has no UUID"
  same=$(blkid -c /dev/null -o device -t "UUID=$uuid" | wc -l)
  [ "$same" -le 1 ] || refuse "another device has the same UUID as $device, $uuid"
else
  refuse "$device holds no plain file system: $(field TYPE)"
fi

# Where it is, and what is in the place. A part of it may be mounted elsewhere, too: that is another thing.
at=$(findmnt -rno TARGET,FSROOT --source "$device" | sed -n 's| /$||p')
if printf '%s\\n' "$at" | grep -qxF "$mount_point"; then at=$mount_point; fi
there=$(findmnt -rno SOURCE --mountpoint "$mount_point") || true
line=$(findmnt -rno SOURCE --fstab --target "$mount_point") || true
planned=
[ "$empty" = yes ] || planned=$(findmnt -rno TARGET --fstab --source "UUID=$uuid") || true
if [ "$at" != "$mount_point" ]; then
  [ -z "$at" ] || refuse "$device is mounted already, at $at"
  [ -z "$there" ] || refuse "$there is mounted at $mount_point"
  [ ! -e "$mount_point" ] || [ -d "$mount_point" ] || refuse "$mount_point is no directory"
  [ ! -e "$mount_point" ] || [ -z "$(ls -A "$mount_point")" ] || refuse "$mount_point has files, which would be hidden"
fi
[ -z "$line" ] || [ "$line" = "UUID=$uuid" ] || refuse "/etc/fstab has $line for $mount_point"
[ -z "$planned" ] || [ "$planned" = "$mount_point" ] || refuse "/etc/fstab has $device for $planned"

formatted=no mounted=no added=no
if [ "$empty" = yes ]; then
  "mkfs.$type" -q "$device"
  uuid=$(blkid -p -s UUID -o value "$device")
  formatted=yes
fi
if [ -z "$at" ]; then
  mkdir -p "$mount_point"
  mount -t "$type" "$device" "$mount_point"
  mounted=yes
fi
if [ -z "$line" ]; then
  # A last line without an end would run into ours.
  [ -z "$(tail -c 1 /etc/fstab)" ] || echo >>/etc/fstab
  echo "UUID=$uuid $mount_point $type defaults,nofail 0 2" >>/etc/fstab
  [ ! -d /run/systemd/system ] || systemctl daemon-reload
  added=yes
fi
echo "$device $mount_point $type $uuid $formatted $mounted $added"
`;

/**
 * Mounts a volume on the instance that it is attached to, now and at each start. Formats it only if it is empty.
 *
 * @param ec2 - Of the volume's region.
 * @param options.volumeId - The volume, attached to a Linux instance on Nitro.
 * @param options.mountPoint - Where to mount it: an absolute path of a directory that is empty, or is made.
 * @param options.fileSystem - What to make on an empty volume: `xfs` by default, or `ext4`.
 * @param options.keyFile - And the rest of the login, as for `runCommand`.
 * @param options.signal - Closes the connection; the script runs on over there.
 * @param options.onProgress - Called with a text for people.
 * @returns Where it is mounted, and what this run had to do for that.
 * @throws RangeError for options that can't be. Error when the volume is attached to no instance or allows
 *   Multi-Attach. VolumeNotMounted with the script's reason: nothing was changed if it was a refusal. Those of
 *   `runCommand`.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeVolumes.html
 *
 * @example
 * const volume = { volumeId: 'vol-0123456789abcdef0', mountPoint: '/data' };
 * const login = { keyFile: './paws.pem', knownHosts: './known_hosts' };
 * const { device, formatted } = await mountVolume(new EC2Client({}), { ...volume, ...login });
 * console.log(device, formatted ? 'was empty' : 'has its files');
 */
export async function mountVolume(
  ec2: EC2Client,
  {
    volumeId,
    mountPoint,
    fileSystem = 'xfs',
    signal,
    onProgress,
    ...login
  }: Login & {
    volumeId: string;
    mountPoint: string;
    fileSystem?: 'xfs' | 'ext4';
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<MountedVolume> {
  // They become a part of a command, and of a line of /etc/fstab.
  if (!/^vol-[0-9a-f]{8,17}$/.test(volumeId)) throw new RangeError(`"${volumeId}" is no volume's id`);
  if (!/^(\/[\w.-]+)+$/.test(mountPoint)) {
    throw new RangeError(
      `a mount point is an absolute path of letters, digits and _ . - like /data, not "${mountPoint}"`,
    );
  }
  if (!['xfs', 'ext4'].includes(fileSystem)) throw new RangeError(`a file system is xfs or ext4, not "${fileSystem}"`);

  const answer = await ec2.send(new DescribeVolumesCommand({ VolumeIds: [volumeId] }), { abortSignal: signal });
  const { Attachments = [], MultiAttachEnabled } = answer.Volumes?.[0] ?? {};
  const instanceId = Attachments.find(({ State }) => /^attach(ed|ing)$/.test(`${State}`))?.InstanceId;
  if (MultiAttachEnabled) throw new Error(`${volumeId} allows Multi-Attach, which ${fileSystem} does not bear`);
  if (!instanceId) throw new Error(`${volumeId} is attached to no instance; 2.7 attaches one`);

  const words = ['sudo', '-n', 'sh', '-c', mountScript, 'mount-volume', volumeId, mountPoint, fileSystem];
  const command = words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const printed = Promise.all([text(stdout), text(stderr)]);
  const { exitCode } = await runCommand(ec2, { instanceId, command, ...login, stdout, stderr, signal, onProgress });
  stdout.end();
  stderr.end();
  const [out, err] = await printed;
  if (exitCode !== 0) {
    const reason = `${volumeId} was not mounted on ${instanceId}: ${err.trim().replaceAll('\n', '; ')}`;
    throw Object.assign(new Error(reason), { name: 'VolumeNotMounted' });
  }
  const [device, at, type, uuid, ...did] = out.trim().split(/\s+/).slice(-7) as [string, string, string, string];
  const [formatted, mounted, addedToFstab] = did.map((word) => word === 'yes') as [boolean, boolean, boolean];
  return { volumeId, instanceId, device, mountPoint: at, fileSystem: type, uuid, formatted, mounted, addedToFstab };
}

// ---- command line: leave out when copying ----
import { homedir } from 'node:os';
import { connect, interrupted, local, print, progress, recipe } from '../../shared/cli.ts';
import { newestVolume } from '../../shared/newest.ts';

recipe(import.meta, (command) =>
  command
    .argument('<mount-point>', 'where to mount it, such as /data')
    .argument('[volume-id]', 'the volume (default: the newest one of this cookbook)')
    .option('--file-system <type>', 'xfs or ext4, for an empty volume', 'xfs')
    .option('--username <name>', 'user to log in as', 'ec2-user')
    .option('--key-file <path>', 'file of the private key', `${homedir()}/.ssh/paws.pem`)
    .option('--known-hosts <path>', 'file of the host keys', `${homedir()}/.ssh/paws_known_hosts`)
    .option('--port <number>', "port of the instance's SSH server", '22')
    .option('--private-address', 'connect to the private address, from inside the network')
    .option('--seconds <number>', 'how long to wait for SSH to answer', '120')
    .action(async (mountPoint, given, { fileSystem: type, ...options }) => {
      if (local()) throw new RangeError("nothing boots on LocalStack, and its addresses are somebody else's");
      const ec2 = connect(EC2Client);
      const fileSystem = type as 'xfs' | 'ext4';
      const login = { ...options, port: Number(options.port), seconds: Number(options.seconds) };
      const volumeId = given ?? (await newestVolume(ec2));
      const more = { signal: interrupted(), onProgress: progress };
      print(await mountVolume(ec2, { volumeId, mountPoint, fileSystem, ...login, ...more }));
    }),
);
