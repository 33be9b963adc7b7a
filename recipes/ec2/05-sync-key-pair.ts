/**
 * 2.5 Have a key pair in every region
 *
 * ## Problem
 * Key pairs belong to a region. You want the same name to mean the same key wherever you launch an instance.
 *
 * ## Solution
 * Look in all regions that your account has enabled, all at once, and import the key where it is missing (2.4). Where
 * the name stands for another key, that is reported, and with `--replace` mended.
 *
 * ## Discussion
 * Each region is a service of its own: one that is slow, throttled, denied by a policy or unreachable is reported,
 * and the others are done. Run it again for the rest: what is in order is only looked at. It takes as long as the
 * slowest region, up to 40 at once; give clients of your own a `connectionTimeout` (1.8), or one may hold up the end.
 *
 * To replace means to delete and to import, and for a moment the region has no key pair of that name: launches fail
 * then with `InvalidKeyPair.NotFound`. The new one has the tags of the old, and another id. If EC2 refuses it, the old
 * key is imported again; if that fails too, the report says so. Ctrl-C waits for replacements that have begun; `kill -9`
 * may leave a region without either: run it again. To go back, you need the old public key, which EC2 forgets.
 *
 * Instances that run keep the key that they were launched with, replaced or not. A region that you enable later has
 * no key pairs: run it again. The undo deletes all that this recipe ever added, of any name; without `--yes` it asks.
 *
 * All clients here share the credentials of the first. Otherwise each would ask for its own, which for an assumed role
 * means a call to STS, and perhaps a question for an MFA code, for every region.
 *
 * @before npx tsx recipes/ec2/16-create-key-pair.ts --local
 * @run npx tsx recipes/ec2/05-sync-key-pair.ts ~/.ssh/paws.pem --regions us-east-1,eu-west-1 --local
 * @output
 *   region     outcome  key pair id            problem
 *   us-east-1  same     key-be01b93660c723559  -
 *   eu-west-1  added    key-1eee2315914518e9b  -
 * @run npx tsx recipes/ec2/05-sync-key-pair.ts ~/.ssh/paws.pem --local
 * @permission ec2:DescribeRegions on *
 * @permission ec2:DescribeKeyPairs on *
 * @permission ec2:ImportKeyPair on arn:aws:ec2:*:*:key-pair/*
 * @permission ec2:CreateTags on arn:aws:ec2:*:*:key-pair/*
 * @permission ec2:DeleteKeyPair on arn:aws:ec2:*:*:key-pair/*
 * @cost nothing
 * @undo npx tsx recipes/setup/09-clean-up.ts --made-by 2.5 --all-regions --local --yes
 * @emulator LocalStack lists regions of China and GovCloud too, and answers there for us-east-1. Slow, denying and
 * throttling regions are the tests' own server in front of it.
 * @book ec2.get_all_key_pairs → DescribeKeyPairsCommand
 * @book ec2.import_key_pair → ImportKeyPairCommand
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-key-pairs.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ImportKeyPair.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/delete-key-pair.html
 */
import { setMaxListeners } from 'node:events';
import { DeleteKeyPairCommand, EC2Client } from '@aws-sdk/client-ec2';
import pMap from 'p-map';
import { checkKeyPair, findKeyPair, importKeyPair, type KnownKeyPair } from './04-import-key-pair.ts';

export interface SyncedKeyPair {
  region: string;
  /**
   * `same`: it was there already. `added`, `replaced`: this was done. `different`: the name stands for another key,
   * which was left. `missing`: only in a dry run, else it would be added. `failed`: why is in `problem`.
   */
  outcome: 'same' | 'added' | 'replaced' | 'different' | 'missing' | 'failed';
  /** Of the key pair with your key; null where there is none. */
  keyPairId: string | null;
  /** Name and message of the error, where it failed; else null. */
  problem: string | null;
}

/** Each region has its own servers and limits, so all of AWS may be asked at once; this spares your machine. */
const concurrency = 40;

/**
 * Gives EC2 a public key under the same name in many regions.
 *
 * @param clientFor - Makes the client for a region.
 * @param options.keyName - Name of the key pair.
 * @param options.publicKey - A line of OpenSSH's: `ssh-ed25519 AAAA…`.
 * @param options.regions - Where it shall be.
 * @param options.replaceIn - Regions in which another key under the name is replaced. None by default.
 * @param options.dryRun - Only looks. False by default.
 * @param options.tags - Tags to put on key pairs that are added. None by default. A replaced one keeps its own.
 * @param options.signal - Ends it: regions that were not reached are reported as failed.
 * @param options.onProgress - Called with a text for people.
 * @returns What became of each region, in their order, each once. Regions that fail don't throw.
 * @throws RangeError for a name or region that can't be one, TypeError for a key that EC2 doesn't take.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ImportKeyPair.html
 *
 * @example
 * const publicKey = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE37aaGGBylBGXSPdKfygFgcx9PLGt2/VlZ4vuUKRP7h';
 * const { credentials } = new EC2Client({}).config;
 * const clientFor = (region: string) => new EC2Client({ region, credentials });
 * const synced = await syncKeyPair(clientFor, { keyName: 'laptop', publicKey, regions: ['us-east-1', 'eu-west-1'] });
 * console.log(synced.filter(({ outcome }) => outcome === 'failed'));
 */
export async function syncKeyPair(
  clientFor: (region: string) => EC2Client,
  {
    keyName,
    publicKey: line,
    regions,
    replaceIn = [],
    dryRun = false,
    tags,
    signal,
    onProgress,
  }: {
    keyName: string;
    publicKey: string;
    regions: string[];
    replaceIn?: string[];
    dryRun?: boolean;
    tags?: Record<string, string>;
    signal?: AbortSignal;
    onProgress?: (text: string) => void;
  },
): Promise<SyncedKeyPair[]> {
  const publicKey = checkKeyPair({ keyName, publicKey: line });
  // The region becomes part of a host name.
  const strange = regions.find((region) => !/^[a-z]+(-[a-z]+)+-\d+$/.test(region));
  if (strange !== undefined) throw new RangeError(`"${strange}" is no code of a region such as eu-west-1`);
  // Node.js warns of more than ten listeners, and each call adds one.
  if (signal) setMaxListeners(0, signal);

  // Twice the same would be replaced twice at once.
  const places = [...new Set(regions)];
  let done = 0;
  const sync = async (region: string): Promise<SyncedKeyPair> => {
    const row: SyncedKeyPair = { region, outcome: 'failed', keyPairId: null, problem: null };
    try {
      signal?.throwIfAborted();
      const ec2 = clientFor(region);
      const known = await findKeyPair(ec2, { keyName, signal });
      if (known?.publicKey === publicKey) return { ...row, outcome: 'same', keyPairId: known.keyPairId };
      if (known && (dryRun || !replaceIn.includes(region))) return { ...row, outcome: 'different' };
      if (known) {
        const keyPairId = await replace(ec2, { keyName, publicKey, old: known });
        return { ...row, outcome: 'replaced', keyPairId };
      }
      if (dryRun) return { ...row, outcome: 'missing' };
      const { imported, keyPairId } = await importKeyPair(ec2, { keyName, publicKey, tags, signal });
      return { ...row, outcome: imported ? 'added' : 'same', keyPairId };
    } catch (error) {
      const { name, message, code } = error as NodeJS.ErrnoException;
      return { ...row, problem: `${name}: ${message || code}` };
    } finally {
      onProgress?.(`${++done} of ${places.length} regions`);
    }
  };
  return pMap(places, sync, { concurrency });
}

/** Puts another key under a name, and the old one again if that fails. No signal may end it half-way. */
async function replace(
  ec2: EC2Client,
  { keyName, publicKey, old }: { keyName: string; publicKey: string; old: KnownKeyPair },
): Promise<string> {
  if (!old.publicKey) throw new Error('EC2 does not show the old key, so it could not be put back');
  const { tags } = old;
  try {
    await ec2.send(new DeleteKeyPairCommand({ KeyName: keyName }));
    return (await importKeyPair(ec2, { keyName, publicKey, tags })).keyPairId;
  } catch (error) {
    const { name, message, code } = error as NodeJS.ErrnoException;
    const back = await importKeyPair(ec2, { keyName, publicKey: old.publicKey, tags }).catch(() => null);
    const now = back ? 'the old key is there' : 'the old key could not be put back: run this again';
    throw Object.assign(new Error(`${message || code}; ${now}`, { cause: error }), { name });
  }
}

// ---- command line: leave out when copying ----
import { confirm, connect, interrupted, print, progress, recipe, sayUndo, tags, yes } from '../../shared/cli.ts';
import { findEnabledRegions } from '../setup/14-find-tagged.ts';
import { askPassphrase, readPublicKey } from './04-import-key-pair.ts';

recipe(import.meta, (command) =>
  command
    .argument('<file>', 'your public or private key, such as ~/.ssh/id_ed25519.pub')
    .option('--key-name <name>', 'name of the key pair', 'paws')
    .option('--regions <names>', 'such as eu-west-1,us-east-1 (default: all that your account has enabled)')
    .option('--replace', 'where the name stands for another key, replace it')
    .option('--dry-run', 'only look')
    .addOption(yes)
    .action(async (file, { keyName, regions: given, replace, dryRun }) => {
      const publicKey = await readPublicKey(file, { askPassphrase });
      const home = connect(EC2Client);
      const regions = given?.split(',') ?? (await findEnabledRegions(home)).sort();
      const clientFor = (region: string) => connect(EC2Client, { region, credentials: home.config.credentials });
      const options = { keyName, publicKey, regions, dryRun, tags: tags(), signal: interrupted() };
      const looked = replace ? await syncKeyPair(clientFor, { ...options, dryRun: true }) : [];
      const replaceIn = looked.flatMap(({ region, outcome }) => (outcome === 'different' ? region : []));
      if (replaceIn.length > 0 && !dryRun)
        await confirm(`${keyName} is another key in ${replaceIn.join(', ')}. Replace it?`);
      const rows = await syncKeyPair(clientFor, { ...options, replaceIn, onProgress: progress });
      print(rows, { problem: (problem: string | null) => problem?.replace(/:.*/s, '') ?? '-' });
      if (rows.some(({ outcome }) => outcome === 'added')) sayUndo(rows);
      const wrong = rows.filter(({ outcome }) => outcome === 'failed' || outcome === 'different');
      for (const one of wrong) console.error(`${one.region}: ${one.problem ?? '--replace replaces the other key'}`);
      if (wrong.length > 0) throw new Error(`not in order in ${wrong.length} of ${rows.length} regions`);
    }),
);
