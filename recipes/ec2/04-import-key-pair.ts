/**
 * 2.4 Import a key pair
 *
 * ## Problem
 * You have an SSH key already, and want to log in to new instances with it rather than with one that EC2 makes.
 *
 * ## Solution
 * Read the public key from its file, or out of a private key's, and give it to EC2 under a name. If EC2 has that name
 * with this key already, nothing is changed; if it has another key under it, that is an error. The private key stays on
 * your machine.
 *
 * ## Discussion
 * EC2 takes RSA and Ed25519 keys, and only RSA for Windows. Other types are refused here, sizes of RSA by EC2. Files
 * may be OpenSSH's, public keys as in RFC 4716 and private keys that begin with `BEGIN RSA PRIVATE KEY`. For others try
 * `ssh-keygen -y -f FILE > FILE.pub`, which writes the public key. The key's comment, which often has your name and
 * your machine's in it, is not sent.
 *
 * **Two fingerprints.** `fingerprint` is what `ssh-keygen -lf FILE` and SSH clients show, `ec2 fingerprint` what EC2's
 * console shows. For Ed25519 they are the same hash, EC2's without `SHA256:` and with a `=`. For RSA, EC2's is an MD5
 * of the public key if it was imported, and a SHA-1 of the private key if EC2 created it. So one key may have either,
 * and keys are compared here, not fingerprints. This shows the MD5:
 * `ssh-keygen -ef FILE -m PEM | openssl rsa -RSAPublicKey_in -outform DER | openssl md5 -c`
 *
 * A key pair belongs to one region; 2.5 imports it in all. Only instances that are launched with it from now on get it.
 *
 * @before npx tsx recipes/ec2/16-create-key-pair.ts --key-type rsa --local
 * @run npx tsx recipes/ec2/04-import-key-pair.ts ~/.ssh/paws.pem --key-name laptop --local
 * @output
 *   key name         laptop
 *   key pair id      key-192896ea0d38a972c
 *   fingerprint      SHA256:58ENoxqb0m/YEda+fzG1pphuPFqR07F7iW+cA9b+URk
 *   ec2 fingerprint  6c:ab:d5:c0:21:71:12:fe:b6:67:1f:19:b0:9a:e8:7b
 *   imported         yes
 * @permission ec2:DescribeKeyPairs on *
 * @permission ec2:ImportKeyPair on arn:aws:ec2:*:*:key-pair/*
 * @permission ec2:CreateTags on arn:aws:ec2:*:*:key-pair/*
 * @cost nothing
 * @undo npx tsx recipes/setup/09-clean-up.ts {keyPairId} --local --yes
 * @emulator LocalStack writes the fingerprint of an Ed25519 key in another form than EC2.
 * @book ec2.import_key_pair → ImportKeyPairCommand
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ImportKeyPair.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/verify-keys.html
 * @see https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { DescribeKeyPairsCommand, EC2Client, ImportKeyPairCommand } from '@aws-sdk/client-ec2';
import ssh2 from 'ssh2';

export interface ImportedKeyPair {
  keyName: string;
  keyPairId: string;
  /** As `ssh-keygen -lf` shows it: `SHA256:…`. */
  fingerprint: string;
  /** As EC2's console shows it. */
  ec2Fingerprint: string;
  /** False when EC2 had the key under this name already, which is changed in nothing, not even its tags. */
  imported: boolean;
}

/** What EC2 knows of a key pair. */
export interface KnownKeyPair {
  keyPairId: string;
  /** `ssh-ed25519 AAAA…`, without a comment; null if EC2 doesn't tell. */
  publicKey: string | null;
  ec2Fingerprint: string;
  /** Those of your own, without AWS's. */
  tags: Record<string, string>;
}

/**
 * Gives EC2 a public key under a name, or finds that it has the key under that name already.
 *
 * @param ec2 - Its region is the one of the key pair.
 * @param options.keyName - Name of the key pair: up to 255 ASCII characters.
 * @param options.publicKey - A line of OpenSSH's: `ssh-ed25519 AAAA… comment`. The comment is not sent.
 * @param options.tags - Tags to put on a key pair that is imported. None by default.
 * @param options.signal - Aborts it.
 * @returns The key pair, and whether it had to be imported.
 * @throws Error, named DifferentKey, when EC2 has another key under the name; what `checkKeyPair` throws.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ImportKeyPair.html
 *
 * @example
 * const publicKey = await readPublicKey('/home/me/.ssh/id_ed25519.pub');
 * const { imported } = await importKeyPair(new EC2Client({}), { keyName: 'laptop', publicKey });
 * console.log(imported ? 'imported' : 'was there already');
 */
export async function importKeyPair(
  ec2: EC2Client,
  {
    keyName,
    publicKey: line,
    tags = {},
    signal,
  }: { keyName: string; publicKey: string; tags?: Record<string, string>; signal?: AbortSignal },
): Promise<ImportedKeyPair> {
  const publicKey = checkKeyPair({ keyName, publicKey: line });
  const fingerprint = fingerprintOf(publicKey);
  const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
  const input = {
    KeyName: keyName,
    // The SDK encodes it in base64, once more: what EC2 gets is the line of text.
    PublicKeyMaterial: Buffer.from(publicKey),
    TagSpecifications: Tags.length > 0 ? [{ ResourceType: 'key-pair' as const, Tags }] : undefined,
  };
  // Not looked up first: what EC2 lists may be older than the last change, and another run may come between.
  try {
    const made = await ec2.send(new ImportKeyPairCommand(input), { abortSignal: signal });
    const [keyPairId, ec2Fingerprint] = [made.KeyPairId as string, made.KeyFingerprint as string];
    return { keyName, keyPairId, fingerprint, ec2Fingerprint, imported: true };
  } catch (error) {
    const taken = (error as Error).name === 'InvalidKeyPair.Duplicate' && (await findKeyPair(ec2, { keyName, signal }));
    if (!taken) throw error;
    const { publicKey: other, keyPairId, ec2Fingerprint } = taken;
    if (other === publicKey) return { keyName, keyPairId, fingerprint, ec2Fingerprint, imported: false };
    const theirs = other ? `with the fingerprint ${fingerprintOf(other)}` : 'that it does not show';
    const message = `EC2 has another key under the name ${keyName}, one ${theirs}; yours has ${fingerprint}`;
    throw Object.assign(new Error(message), { name: 'DifferentKey' });
  }
}

/**
 * Looks up a key pair by its name.
 *
 * @param ec2 - Of the key pair's region.
 * @param options.keyName - Its name.
 * @param options.signal - Aborts it.
 * @returns What EC2 knows of it; null when there is none.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeKeyPairs.html
 *
 * @example
 * const known = await findKeyPair(new EC2Client({}), { keyName: 'laptop' });
 * console.log(known?.publicKey ?? 'there is none');
 */
export async function findKeyPair(
  ec2: EC2Client,
  { keyName, signal }: { keyName: string; signal?: AbortSignal },
): Promise<KnownKeyPair | null> {
  // By a filter, which finds nothing where a name would be an error.
  const input = { Filters: [{ Name: 'key-name', Values: [keyName] }], IncludePublicKey: true };
  const { KeyPairs = [] } = await ec2.send(new DescribeKeyPairsCommand(input), { abortSignal: signal });
  // A name with * or ? in it matches others, too.
  const pair = KeyPairs.find(({ KeyName }) => KeyName === keyName);
  if (!pair) return null;
  const { KeyPairId, PublicKey = '', KeyFingerprint, Tags = [] } = pair;
  return {
    keyPairId: KeyPairId as string,
    publicKey: PublicKey.trim().split(/\s+/).slice(0, 2).join(' ') || null,
    ec2Fingerprint: KeyFingerprint as string,
    tags: Object.fromEntries(Tags.flatMap(({ Key = '', Value = '' }) => (/^aws:/.test(Key) ? [] : [[Key, Value]]))),
  };
}

/**
 * Refuses what EC2 would not take as a key pair, before anything is sent.
 *
 * @param options.keyName - Name of the key pair.
 * @param options.publicKey - A line of OpenSSH's.
 * @returns The public key without its comment.
 * @throws RangeError for such a name, TypeError for a key that is neither RSA nor Ed25519.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/create-key-pairs.html
 *
 * @example
 * const line = await readPublicKey('/home/me/.ssh/id_ed25519.pub');
 * console.log(checkKeyPair({ keyName: 'laptop', publicKey: line }));
 */
export function checkKeyPair({ keyName, publicKey }: { keyName: string; publicKey: string }): string {
  if (!/^(?! )[\x20-\x7e]{1,255}(?<! )$/.test(keyName)) {
    throw new RangeError(`"${keyName}" can't be a key pair: give 1 to 255 ASCII characters, no space at either end`);
  }
  return parsePublicKey(publicKey);
}

/**
 * Reads the public key from a file that has it, or has the private key.
 *
 * @param file - Path of the file.
 * @param options.askPassphrase - Called when the file is a private key with a passphrase. Without it that is an error.
 * @returns A line as OpenSSH has it, without comment: `ssh-ed25519 AAAA…`.
 * @throws TypeError when the file holds no key that EC2 takes, Error when the passphrase is wrong.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/create-key-pairs.html
 *
 * @example
 * const publicKey = await readPublicKey('/home/me/.ssh/id_ed25519');
 * console.log(publicKey);
 */
export async function readPublicKey(
  file: string,
  { askPassphrase }: { askPassphrase?: () => Promise<string> } = {},
): Promise<string> {
  let text = '';
  try {
    text = await readFile(file, 'utf8');
    return parsePublicKey(text);
  } catch (error) {
    const { message } = error as Error;
    if (!/^this key can't be read: Encrypted/.test(message)) throw new TypeError(`${file}: ${message}`);
    if (!askPassphrase) throw new TypeError(`${file} has a passphrase: give its public key, ${file}.pub, instead`);
  }
  const passphrase = await askPassphrase();
  // Not the parser's own words: a wrong passphrase shows as any kind of damage.
  if (ssh2.utils.parseKey(text, passphrase) instanceof Error)
    throw new Error(`${file} can't be opened with this passphrase`);
  return parsePublicKey(text, passphrase);
}

/** `ssh-ed25519 AAAA…`, from a key in any format that can be read. */
function parsePublicKey(text: string, passphrase?: string): string {
  const key = ssh2.utils.parseKey(fromRfc4716(text.trim()), passphrase);
  if (key instanceof Error) throw new TypeError(`this key can't be read: ${key.message}`);
  if (key.type !== 'ssh-rsa' && key.type !== 'ssh-ed25519') {
    throw new TypeError(`EC2 takes RSA and Ed25519 keys, and this one is ${key.type}`);
  }
  return `${key.type} ${key.getPublicSSH().toString('base64')}`;
}

/** Makes a line of OpenSSH's of a public key as in RFC 4716, of which ssh2 knows only RSA's. */
function fromRfc4716(text: string): string {
  if (!text.startsWith('---- BEGIN SSH2 PUBLIC KEY')) return text;
  // A backslash goes on with a header in the next line.
  const lines = text.replace(/\\\r?\n/g, '').split(/\r?\n/);
  const key = Buffer.from(lines.filter((line) => !/^----|:/.test(line)).join(''), 'base64');
  // It begins with its type, and that with its length.
  return key.length < 4 ? text : `${key.subarray(4, 4 + key.readUInt32BE())} ${key.toString('base64')}`;
}

/** What `ssh-keygen -lf` shows. */
function fingerprintOf(publicKey: string): string {
  const [, key = ''] = publicKey.split(' ');
  return `SHA256:${createHash('sha256').update(key, 'base64').digest('base64').replace(/=+$/, '')}`;
}

// ---- command line: leave out when copying ----
import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { connect, interrupted, print, recipe, sayUndo, tags } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .argument('<file>', 'your public or private key, such as ~/.ssh/id_ed25519.pub')
    .option('--key-name <name>', 'name of the key pair', 'paws')
    .action(async (file, { keyName }) => {
      const publicKey = await readPublicKey(file, { askPassphrase });
      const options = { keyName, publicKey, tags: tags(), signal: interrupted() };
      const result = await importKeyPair(connect(EC2Client), options);
      print(result);
      if (result.imported) sayUndo(result);
    }),
);

/** Asks on the terminal, and shows nothing of what is typed. */
export async function askPassphrase(): Promise<string> {
  if (!process.stdin.isTTY) throw new TypeError('no terminal to ask for the passphrase on: give the .pub file');
  const output = new Writable({ write: (_text, _encoding, done) => done() });
  const lines = createInterface({ input: process.stdin, output, terminal: true });
  lines.on('SIGINT', () => process.kill(process.pid, 'SIGINT'));
  lines.on('close', () => process.stderr.write('\n'));
  process.stderr.write('Passphrase: ');
  return lines.question('').finally(() => lines.close());
}
