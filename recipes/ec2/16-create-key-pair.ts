/**
 * 2.16 Create a key pair
 *
 * ## Problem
 * You want to log in to instances by SSH, and for that a key pair: EC2 keeps the public half and puts it on new
 * instances, you keep the private half.
 *
 * ## Solution
 * Let EC2 create the pair and save the private key in a file that only you can read. Run it as often as you
 * like: a key pair that is there with its file is left as it is.
 *
 * ## Discussion
 * EC2 hands the private key out once, in the answer, and forgets it. So the file is opened before EC2 is asked:
 * a full disk or a wrong folder must not cost a key; and Ctrl-C waits for the answer. A file that is there is never
 * overwritten.
 *
 * Key pairs belong to a region. Where the file is there and EC2 doesn't know the name, in your second region or
 * after a clean-up, the public half of the file is imported, and one file serves everywhere. Where EC2 knows the
 * name and the file is missing, the private key can't be had again: name the right file, take another name, or delete
 * the key pair. Undoing leaves the file.
 *
 * The default is Ed25519. Take RSA for Windows, whose administrator password EC2 encrypts with it.
 *
 * If others may log in too, import their public keys instead of handing this file around (2.4).
 *
 * @run npx tsx recipes/ec2/16-create-key-pair.ts --local
 * @output
 *   key name      paws
 *   key pair id   key-a2157666eff8431db
 *   file          ~/.ssh/paws.pem
 *   created       yes
 *   imported      no
 * @permission ec2:DescribeKeyPairs on *
 * @permission ec2:CreateKeyPair on arn:aws:ec2:*:*:key-pair/*
 * @permission ec2:ImportKeyPair on arn:aws:ec2:*:*:key-pair/*
 * @permission ec2:CreateTags on arn:aws:ec2:*:*:key-pair/*
 * @permission ec2:DeleteKeyPair on arn:aws:ec2:*:*:key-pair/*
 * @cost nothing
 * @undo npx tsx recipes/setup/09-clean-up.ts {keyPairId} --local --yes
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateKeyPair.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/create-key-pairs.html
 */
import { mkdir, open, readFile, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { CreateKeyPairCommand, DeleteKeyPairCommand, EC2Client, type KeyType } from '@aws-sdk/client-ec2';
import ssh2 from 'ssh2';
import { type Made, undo } from '../../shared/undo.ts';
import { findKeyPair, importKeyPair } from './04-import-key-pair.ts';

export interface CreatedKeyPair {
  keyName: string;
  keyPairId: string;
  /** Path of the private key. */
  file: string;
  /** Whether EC2 created the pair, and the file was written. */
  created: boolean;
  /** Whether EC2 was given the public half of a file that was there. */
  imported: boolean;
}

/**
 * Creates a key pair and saves its private key, or finds that both are there.
 *
 * @param ec2 - Its region is the one of the key pair.
 * @param options.keyName - Name of the key pair.
 * @param options.file - Where the private key is, or is saved with mode 0600; its folder is made if need be.
 * @param options.keyType - Of a new pair: `ed25519`, the default, or `rsa`.
 * @param options.tags - Tags to put on a key pair that is created or imported. None by default.
 * @param options.signal - Ends it before a pair is created or imported; one that is being created is saved.
 * @returns The key pair, and what had to be done.
 * @throws Error when EC2's key pair and the file don't belong together, when EC2 has the pair but the file is missing,
 *   or when the file is no private key without a passphrase.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateKeyPair.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const { keyName } = await createKeyPair(ec2, { keyName: 'work', file: './work.pem' });
 * console.log(`launch instances with key pair ${keyName}`);
 */
export async function createKeyPair(
  ec2: EC2Client,
  {
    keyName,
    file,
    keyType = 'ed25519',
    tags = {},
    signal,
  }: { keyName: string; file: string; keyType?: KeyType; tags?: Record<string, string>; signal?: AbortSignal },
): Promise<CreatedKeyPair> {
  const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
  const TagSpecifications = Tags.length > 0 ? [{ ResourceType: 'key-pair' as const, Tags }] : undefined;
  const known = await findKeyPair(ec2, { keyName, signal });
  const publicKey = await readPublicKey(file);

  if (known && publicKey) {
    if (known.publicKey !== publicKey) {
      throw new Error(
        `EC2 has another key under the name ${keyName} than the one in ${file}: take another name or file`,
      );
    }
    return { keyName, keyPairId: known.keyPairId, file, created: false, imported: false };
  }
  if (known) {
    throw new Error(`EC2 has the key pair ${keyName} but hands its private key out only once, and there is no ${file}`);
  }
  signal?.throwIfAborted();
  if (publicKey) {
    // Without the signal, too: whether there is a pair would be unknown.
    const { keyPairId, imported } = await importKeyPair(ec2, { keyName, publicKey, tags });
    return { keyName, keyPairId, file, created: false, imported };
  }

  // 'wx' opens a file only if it is new, even if another program makes it at this moment.
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const handle = await open(file, 'wx', 0o600);
  const made: Made[] = [{ id: file, remove: () => rm(file) }];
  try {
    // Without the signal: EC2 would have a key pair, and nobody its private key.
    const pair = await ec2.send(new CreateKeyPairCommand({ KeyName: keyName, KeyType: keyType, TagSpecifications }));
    const keyPairId = pair.KeyPairId as string;
    made.unshift({ id: keyPairId, remove: () => ec2.send(new DeleteKeyPairCommand({ KeyName: keyName })) });
    await handle.writeFile(pair.KeyMaterial as string);
    await handle.sync();
    return { keyName, keyPairId, file, created: true, imported: false };
  } catch (error) {
    const { name, $metadata } = error as Error & { $metadata?: { attempts?: number } };
    if (name === 'InvalidKeyPair.Duplicate' && ($metadata?.attempts ?? 1) > 1) {
      (error as Error).message += ` (maybe by this run, and the answer was lost: then delete ${keyName})`;
    }
    // A key pair without its private key only blocks the name.
    throw await undo(made, error);
  } finally {
    await handle.close();
  }
}

/** The public half of a private key's file, as `ssh-ed25519 AAAA…`; undefined where there is no file. */
async function readPublicKey(file: string): Promise<string | undefined> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  const key = ssh2.utils.parseKey(text);
  if (key instanceof Error) throw new Error(`${file} can't be read as a private key: ${key.message}`);
  if (!key.isPrivateKey()) throw new Error(`${file} is a public key: name the file of its private half`);
  return `${key.type} ${key.getPublicSSH().toString('base64')}`;
}

// ---- command line: leave out when copying ----
import { homedir } from 'node:os';
import { Option } from '@commander-js/extra-typings';
import { connect, interrupted, print, recipe, sayUndo, tags } from '../../shared/cli.ts';

recipe(import.meta, (command) =>
  command
    .option('--key-name <name>', 'name of the key pair', 'paws')
    .option('--file <path>', 'file of the private key (default: ~/.ssh/NAME.pem)')
    .addOption(
      new Option('--key-type <type>', 'type of a new key (default: ed25519)').choices(['ed25519', 'rsa'] as const),
    )
    .action(async ({ keyName, keyType, file = `${homedir()}/.ssh/${keyName}.pem` }) => {
      const result = await createKeyPair(connect(EC2Client), {
        keyName,
        file,
        keyType,
        tags: tags(),
        signal: interrupted(),
      });
      print(result);
      if (result.created || result.imported) sayUndo(result);
    }),
);
