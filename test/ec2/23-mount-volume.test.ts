import { execFileSync, spawnSync, spawn as start } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { AttachVolumeCommand, CreateVolumeCommand, type EC2Client, RunInstancesCommand } from '@aws-sdk/client-ec2';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type MountedVolume, mountScript, mountVolume } from '../../recipes/ec2/23-mount-volume.ts';
import { testRecipe } from '../harness.ts';
import { type Sshd, sshdPath, startSshd } from '../sshd.ts';

const { run, file, folder, ec2 } = testRecipe(import.meta);

/** Whether a program is here, and may do what it is for. */
const works = (program: string, ...args: string[]) => spawnSync(program, args, { stdio: 'ignore' }).status === 0;
const programs = works('sudo', '-n', 'true') && works('mkfs.xfs', '-V') && works('mkfs.ext4', '-V');
// Where loop devices and mounts are not allowed, nothing can be installed to help: then the tests aren't there at all.
const allowed = process.platform === 'linux' && works('losetup', '-f') && works('unshare', '-m', 'true');
const disks = allowed && programs;
const none = Object.assign(() => {}, { each: () => () => {} }) as unknown as typeof test;
const onDisks = allowed ? test.skipIf(!disks || !sshdPath) : none;
if (!disks || !sshdPath) {
  console.warn(
    'The script of 2.23 is tested on Linux, by root, with: apt install openssh-server sudo xfsprogs e2fsprogs',
  );
}
const shellcheck = works('shellcheck', '--version');
if (!shellcheck) console.warn('The script of 2.23 is not checked: apt install shellcheck');

/** The machine that stands for the instance: it has devices, mounts and a table of file systems of its own. */
let machine: { pid: number; stop: () => void };
let sshd: Sshd;
const fstab = join(folder, 'fstab');
const keyFile = join(folder, '.ssh/paws.pem');
const loops: string[] = [];

beforeAll(async () => {
  if (!disks || !sshdPath) return;
  writeFileSync(fstab, '# made by hand\nUUID=1234-ABCD /boot/efi vfat defaults 0 0');
  const dev = join(folder, 'dev');
  mkdirSync(join(dev), { recursive: true });
  // A file system for /dev that has no real disk in it, so that a mistake can't touch one.
  const prepare = `set -e
    mount --bind '${fstab}' /etc/fstab
    mount -t tmpfs tmpfs '${dev}'
    cp -a /dev/null /dev/zero /dev/urandom '${dev}'
    mkdir -p '${dev}/disk/by-id'
    mount --bind '${dev}' /dev
    echo ready
    exec cat`;
  const child = start('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', prepare], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  machine = { pid: child.pid as number, stop: () => child.stdin.end() };
  const enter = join(folder, 'enter');
  writeFileSync(enter, `#!/bin/sh\nexec nsenter -t ${machine.pid} -m sh -c "$SSH_ORIGINAL_COMMAND"\n`);
  chmodSync(enter, 0o755);
  sshd = await startSshd({ config: [`ForceCommand ${enter}`] });
  // The key is the one that 2.16 saved.
  await run('npx tsx recipes/ec2/16-create-key-pair.ts --local', { record: undefined });
  appendFileSync(join(sshd.folder, 'authorized_keys'), execFileSync('ssh-keygen', ['-y', '-f', keyFile]));
});
afterAll(async () => {
  await sshd?.stop();
  if (!machine) return;
  for (const at of mounts()) inside('umount', at);
  machine.stop();
  for (const loop of loops) execFileSync('losetup', ['-d', loop]);
});

/** Runs a program on the machine, and returns what it printed. */
const inside = (...words: string[]) =>
  execFileSync('nsenter', ['-t', `${machine.pid}`, '-m', ...words], { encoding: 'utf8' }).trim();
/** Where the test's devices are mounted. */
const mounts = () =>
  inside('findmnt', '-rno', 'TARGET,SOURCE')
    .split('\n')
    .filter((line) => loops.some((loop) => line.endsWith(` ${loop}`)))
    .map((line) => line.split(' ')[0] as string);
const table = () => readFileSync(fstab, 'utf8');
/** The mount point of a test. Not its folder, which the test may have to look into from outside. */
const place = (name: string) => join(folder, 'mnt', name);

const linkOf = (volumeId: string) => `/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${volumeId.replace('-', '')}`;
let made = 0;
const newId = () => `vol-${(++made).toString(16).padStart(17, '0')}`;

/** Gives the machine a disk of 400 MiB of zeros that is a volume's, as Nitro does. XFS wants 300 MiB at least. */
function plugIn(volumeId: string, content: (path: string) => void = () => {}): string {
  const path = join(folder, `${volumeId}.img`);
  writeFileSync(path, '');
  truncateSync(path, 400 << 20);
  content(path);
  const loop = execFileSync('losetup', ['-f', '--show', path], { encoding: 'utf8' }).trim();
  loops.push(loop);
  inside('mknod', loop, 'b', '7', basename(loop).replace('loop', ''));
  inside('ln', '-s', `../../${basename(loop)}`, linkOf(volumeId));
  return loop;
}

/** Writes bytes into a file. */
function poke(path: string, bytes: string | Buffer, at: number): void {
  const handle = openSync(path, 'r+');
  writeSync(handle, typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes, 0, undefined, at);
  closeSync(handle);
}

const instanceId = 'i-0123456789abcdef0';
const running = { InstanceId: instanceId, State: { Name: 'running' as const }, PublicIpAddress: '127.0.0.1' };
const attached = [{ InstanceId: instanceId, State: 'attached' as const }];

/** A client for which EC2 answers that a volume is attached to the machine; the answers are the test's. */
function answering(volume: object = { Attachments: attached }): EC2Client {
  const client = ec2();
  const middleware =
    (_next: unknown, { commandName }: { commandName: string }) =>
    async () => ({
      output: {
        $metadata: {},
        ...(commandName === 'DescribeVolumesCommand'
          ? { Volumes: [volume] }
          : { Reservations: [{ Instances: [running] }] }),
      },
      response: {},
    });
  client.middlewareStack.add(middleware as never, { step: 'build', priority: 'low' });
  return client;
}

const mount = (volumeId: string, mountPoint: string, options: Partial<Parameters<typeof mountVolume>[1]> = {}) => {
  const { port, username } = sshd;
  const login = { port, username, keyFile, knownHosts: join(folder, 'known_hosts'), seconds: 60 };
  return mountVolume(answering(), { volumeId, mountPoint, ...login, ...options });
};

/** Why a volume was not mounted; and the machine must be as it was. */
async function refusal(volumeId: string, mountPoint: string, options = {}): Promise<string> {
  const image = join(folder, `${volumeId}.img`);
  const state = () => [table(), mounts(), existsSync(mountPoint), existsSync(image) && checksum(image)];
  const before = state();
  const error: Error = await mount(volumeId, mountPoint, options).then(
    (result) => new Error(`it was mounted: ${JSON.stringify(result)}`),
    (error) => error,
  );
  expect(state()).toEqual(before);
  expect(error.name, error.message).toBe('VolumeNotMounted');
  expect(error.message).toContain(`${volumeId} was not mounted on ${instanceId}: `);
  return error.message;
}
/** Of the first MiBs, where what a program writes would be. */
const checksum = (path: string) =>
  execFileSync('sh', ['-c', `head -c 40M '${path}' | sha256sum`], { encoding: 'utf8' });

test.skipIf(!shellcheck)('shellcheck finds nothing in the script', () => {
  const { stdout, status } = spawnSync('shellcheck', ['-s', 'sh', '-'], { input: mountScript, encoding: 'utf8' });
  expect(stdout).toBe('');
  expect(status).toBe(0);
});

onDisks(
  'a new volume is formatted, mounted and in fstab; a second run changes nothing; the command tells',
  async () => {
    const { Instances } = await ec2().send(
      new RunInstancesCommand({ ImageId: 'ami-12345678', InstanceType: 't3.micro', MinCount: 1, MaxCount: 1 }),
    );
    const { InstanceId, Placement } = Instances?.[0] ?? {};
    const { VolumeId = '' } = await ec2().send(
      new CreateVolumeCommand({
        AvailabilityZone: Placement?.AvailabilityZone,
        Size: 1,
        TagSpecifications: [{ ResourceType: 'volume', Tags: [{ Key: 'paws', Value: '2.7' }] }],
      }),
    );
    await ec2().send(new AttachVolumeCommand({ InstanceId, VolumeId, Device: '/dev/sdf' }));
    const loop = plugIn(VolumeId);
    const before = table();

    const login = `--port ${sshd.port} --username ${sshd.username} --key-file ${sshd.privateKey}`;
    const where = `--endpoint-url ${process.env.COOKBOOK_LOCALSTACK} --json`;
    const settings = {
      env: {
        AWS_ACCESS_KEY_ID: (await ec2().config.credentials()).accessKeyId,
        AWS_SECRET_ACCESS_KEY: 'test',
        AWS_REGION: 'us-east-1',
      },
      // LocalStack's own address is made up. All else is its answer.
      faults: [
        { operation: 'ec2:DescribeInstances', output: { Reservations: [{ Instances: [{ ...running, InstanceId }] }] } },
      ],
    };
    const first = await run(`npx tsx ${file} ${place('new')} ${login} ${where}`, settings);
    expect(first).toMatchObject({ code: 0, stderr: '' });
    const result: MountedVolume = JSON.parse(first.stdout);
    expect(result).toEqual({
      volumeId: VolumeId,
      instanceId: InstanceId,
      device: loop,
      mountPoint: '~/mnt/new',
      fileSystem: 'xfs',
      uuid: expect.stringMatching(/^[0-9a-f-]{36}$/),
      formatted: true,
      mounted: true,
      addedToFstab: true,
    });
    expect(inside('blkid', '-p', '-s', 'UUID', '-o', 'value', loop)).toBe(result.uuid);
    expect(inside('findmnt', '-rno', 'SOURCE,FSTYPE', place('new'))).toBe(`${loop} xfs`);
    // The last line of the table had no end, and is whole.
    expect(table()).toBe(`${before}\nUUID=${result.uuid} ${place('new')} xfs defaults,nofail 0 2\n`);

    inside('sh', '-c', `echo kept > '${place('new')}/file'`);
    const after = table();
    const second = await run(`npx tsx ${file} ${place('new')} ${VolumeId} ${login} ${where}`, settings);
    expect(JSON.parse(second.stdout)).toEqual({ ...result, formatted: false, mounted: false, addedToFstab: false });
    expect(table()).toBe(after);
    expect(inside('cat', `${place('new')}/file`)).toBe('kept');

    // The line is right: after a restart, it alone mounts the volume.
    inside('umount', place('new'));
    inside('mount', place('new'));
    expect(inside('cat', `${place('new')}/file`)).toBe('kept');
  },
);

onDisks('a file system that is there is mounted with its files, whatever type is asked for', async () => {
  const volumeId = newId();
  const loop = plugIn(volumeId, (path) => execFileSync('mkfs.ext4', ['-q', path]));
  const first = await mount(volumeId, place('old'), { fileSystem: 'xfs' });
  expect(first).toMatchObject({
    device: loop,
    fileSystem: 'ext4',
    formatted: false,
    mounted: true,
    addedToFstab: true,
  });
  inside('sh', '-c', `echo kept > '${place('old')}/file'`);

  // Each half of what was done is found missing, and only that is done.
  const done = table();
  inside('umount', place('old'));
  expect(await mount(volumeId, place('old'))).toMatchObject({ formatted: false, mounted: true, addedToFstab: false });
  expect(table()).toBe(done);
  writeFileSync(fstab, done.replace(/\n[^\n]*\n$/, '\n'));
  expect(await mount(volumeId, place('old'))).toMatchObject({ formatted: false, mounted: false, addedToFstab: true });
  expect(table()).toBe(done);
  expect(inside('cat', `${place('old')}/file`)).toBe('kept');

  // A part of it that is mounted elsewhere, in a place with a blank even, is no reason to refuse.
  const part = place('a part');
  inside('sh', '-c', `mkdir '${place('old')}/part' '${part}' && mount --bind '${place('old')}/part' '${part}'`);
  expect(await mount(volumeId, place('old'))).toMatchObject({ formatted: false, mounted: false, addedToFstab: false });
  // Nor is the whole of it.
  inside('sh', '-c', `umount '${part}' && mount --bind '${place('old')}' '${part}'`);
  expect(await mount(volumeId, place('old'))).toMatchObject({ formatted: false, mounted: false, addedToFstab: false });
  inside('umount', part);

  // In another place: refused while mounted, and while only planned.
  expect(await refusal(volumeId, place('elsewhere'))).toMatch(/is mounted already, at .*mnt\/old/);
  inside('umount', place('old'));
  expect(await refusal(volumeId, place('elsewhere'))).toMatch(/\/etc\/fstab has \S+ for .*mnt\/old/);
});

onDisks('ext4 is made when asked for, and runs at the same time wait for each other: one formats', async () => {
  const volumeId = newId();
  plugIn(volumeId);
  const holder = start('nsenter', ['-t', `${machine.pid}`, '-m', 'flock', '/etc/fstab', 'sh', '-c', 'echo held; cat']);
  await once(holder.stdout, 'data');
  const runs = [1, 2, 3].map(() => mount(volumeId, place('twice'), { fileSystem: 'ext4' }));
  const waiter = new RegExp(`-> FLOCK .*:${statSync(fstab).ino} `, 'g');
  await expect.poll(() => readFileSync('/proc/locks', 'utf8').match(waiter), { timeout: 50_000 }).toHaveLength(3);
  holder.stdin.end();
  const results = await Promise.all(runs);
  expect(results.map(({ formatted }) => formatted).sort()).toEqual([false, false, true]);
  expect(new Set(results.map(({ uuid }) => uuid)).size).toBe(1);
  expect(results[0]).toMatchObject({ fileSystem: 'ext4' });
  expect(table().match(/mnt\/twice/g)).toHaveLength(1);
});

/** A partition table of the old kind, with one partition. */
const partitions = Buffer.alloc(512);
partitions.set([0x80, 0, 2, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0, 8, 0], 446);
partitions.set([0x55, 0xaa], 510);
/** What LVM writes on a device, with its checksum. */
const lvm = 'LABELONE\x01\0\0\0\0\0\0\0\x91\x07\xdb\x2b\x20\0\0\0LVM2 001abcdefghijklmnopqrstuvwxyz012345';

onDisks.each<[string, (path: string) => void, RegExp]>([
  ['a partition table', (path) => poke(path, partitions, 0), /has a partition table \(dos\), as root volumes have/],
  ['swap', (path) => execFileSync('mkswap', [path], { stdio: 'ignore' }), /no plain file system: swap/],
  ['an encrypted volume', (path) => poke(path, 'LUKS\xba\xbe\0\x01', 0), /no plain file system: crypto_LUKS/],
  ['a part of LVM', (path) => poke(path, lvm, 512), /no plain file system: LVM2_member/],
  [
    'a single byte that nothing recognises',
    (path) => poke(path, '\n', (16 << 20) - 1),
    /is not empty, and what it holds is unknown/,
  ],
  [
    'a file system without a UUID',
    (path) => poke(path, '-rom1fs-\0\0\x10\0\0\0\0\0made by hand\0\0\0\0', 0),
    /the file system of \S+, romfs, has no UUID/,
  ],
])('%s is refused, and stays', async (_name, content, message) => {
  const volumeId = newId();
  plugIn(volumeId, content);
  expect(await refusal(volumeId, place('refused'))).toMatch(message);
});

onDisks('a second volume with the same UUID, as one restored from a snapshot has, is refused', async () => {
  const [one, two] = [newId(), newId()];
  plugIn(one, (path) => execFileSync('mkfs.ext4', ['-q', path]));
  plugIn(two, (path) => execFileSync('cp', [join(folder, `${one}.img`), path]));
  expect(await refusal(two, place('copy'))).toMatch(/another device has the same UUID/);
});

onDisks('a place that is taken is refused, and the empty volume stays empty', async () => {
  const [volumeId, other] = [newId(), newId()];
  plugIn(volumeId);
  mkdirSync(place('full'), { recursive: true });
  writeFileSync(join(place('full'), 'file'), '');
  expect(await refusal(volumeId, place('full'))).toMatch(/has files, which would be hidden/);
  expect(await refusal(volumeId, join(place('full'), 'file'))).toMatch(/is no directory/);
  symlinkSync(place('with a blank'), place('link'));
  expect(await refusal(volumeId, place('link'))).toMatch(/link leads to '.*with a blank', and \/etc\/fstab takes no/);

  plugIn(other, (path) => execFileSync('mkfs.ext4', ['-q', path]));
  const { device, uuid } = await mount(other, place('taken'));
  expect(await refusal(volumeId, place('taken'))).toContain(`${device} is mounted at`);
  inside('umount', place('taken'));
  expect(await refusal(volumeId, place('taken'))).toContain(`/etc/fstab has UUID=${uuid} for`);
});

onDisks('a device that has partitions of which no table is left is refused', async () => {
  const volumeId = newId();
  const loop = plugIn(volumeId);
  execFileSync('addpart', [loop, '1', '2048', '4096']);
  expect(await refusal(volumeId, place('parts'))).toMatch(/has partitions, or something is made of it/);
  execFileSync('delpart', [loop, '1']);
});

onDisks('a device that does not come, and a program that is missing, are said', async () => {
  const [missing, volumeId] = [newId(), newId()];
  expect(await refusal(missing, place('none'))).toMatch(/no device has its id after 10 s; only instances on Nitro/);
  plugIn(volumeId);
  const program = inside('sh', '-c', 'readlink -f "$(command -v mkfs.xfs)"');
  inside('mount', '--bind', '/dev/null', program);
  try {
    expect(await refusal(volumeId, place('none'))).toMatch(/there is no mkfs\.xfs: install it, or take another/);
  } finally {
    inside('umount', program);
  }
});

test('guards, and what EC2 knows already, come before any login', async () => {
  const login = { keyFile: import.meta.filename, knownHosts: join(folder, 'unused') };
  const given = (options: object, volume?: object) =>
    mountVolume(answering(volume), { volumeId: newId(), mountPoint: '/data', ...login, ...options });
  for (const mountPoint of ['data', '/', '/with space', "/a'b", '/data/', '/a\tb', '']) {
    await expect(given({ mountPoint }), mountPoint).rejects.toThrow(/a mount point is an absolute path/);
  }
  await expect(given({ volumeId: '$(reboot)' })).rejects.toThrow(new RangeError('"$(reboot)" is no volume\'s id'));
  await expect(given({ fileSystem: 'ntfs' })).rejects.toThrow(
    new RangeError('a file system is xfs or ext4, not "ntfs"'),
  );
  await expect(given({}, { Attachments: [] })).rejects.toThrow(/is attached to no instance; 2\.7 attaches one/);
  const shared = { Attachments: attached, MultiAttachEnabled: true };
  await expect(given({}, shared)).rejects.toThrow(/allows Multi-Attach/);
  expect(existsSync(join(folder, 'unused'))).toBe(false);
});

test('on the command line, wrong input ends with 2, and a volume that is not there with EC2’s own error', async () => {
  const [path, local, unknown] = await Promise.all([
    run(`npx tsx ${file} data vol-0123456789abcdef0 --endpoint-url http://127.0.0.1:9`, {
      env: { AWS_REGION: 'us-east-1', AWS_ACCESS_KEY_ID: 'x', AWS_SECRET_ACCESS_KEY: 'x' },
    }),
    run(`npx tsx ${file} /data --local`),
    run(`npx tsx ${file} /data vol-0123456789abcdef0 --endpoint-url ${process.env.COOKBOOK_LOCALSTACK}`, {
      env: { AWS_REGION: 'us-east-1', AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'x' },
    }),
  ]);
  expect(path).toMatchObject({
    code: 2,
    stdout: '',
    stderr: expect.stringMatching(/^Error: a mount point is .*"data"\n$/),
  });
  expect(local).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('nothing boots on LocalStack') });
  expect(unknown).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('InvalidVolume.NotFound') });
});
