/**
 * 3.25 Estimate what storage costs
 *
 * ## Problem
 * You want to know what a bucket costs a month, and whether another storage class would be cheaper: with its minimum
 * size, its minimum time, the price of moving there, and that of reading what is there.
 *
 * ## Solution
 * Add up the bucket by storage class (3.5), and multiply by a table of prices. What a class bills beyond the bytes
 * follows from the number of objects, and of those under 128 KB, which 3.5 counts. The function itself calls nothing.
 *
 * ## Discussion
 * The prices (25-helpers/prices.ts) are those of us-east-1 in August 2026. Other regions differ, and prices change:
 * check them at https://aws.amazon.com/s3/pricing/, and give your own table as `prices`. A GB is 2^30 bytes on AWS's
 * bills.
 *
 * Reckoned as AWS bills them, if nothing changes for a month: the minimum size of 128 KB, the 40 KB beside each
 * archived object (32 at the price of its class, 8 at that of STANDARD), and parts of unfinished uploads, which GLACIER
 * and DEEP_ARCHIVE bill as STANDARD. Keys and metadata, which no list measures, are left out. For what a list can't
 * tell there are bounds:
 * - INTELLIGENT_TIERING: `month` if all is read all the time, `at least` if nothing has been for 90 days. What this
 *   class archives, which has to be turned on, costs less still.
 * - Leaving early: minimum days are billed even for what is deleted or moved before. How long objects have been in
 *   their class is not known, so `early` is what that costs at most.
 * - The lower prices from 50 and 500 TB on are for all buckets of an account in the region. Here it is these bytes
 *   alone, and parts and what is beside archived objects begin at the first step.
 *
 * Moving is by lifecycle rule (3.17) where S3 has one for it, else by copies (3.9), of what is restored first if need
 * be. By default rules leave objects under 128 KB where they are, and so does this, but for `--small`; and to
 * STANDARD_IA and ONEZONE_IA they move only what is 30 days old. Old versions move, too; but a rule needs an action of
 * its own for them, and a copy leaves them behind.
 *
 * Two numbers decide. `pays after`: how many months the objects must stay there, unread, until the move has paid off,
 * minimum days there reckoned with, but not those of the class they leave (`early`). `reads`: how often a month all may
 * be read until they cost as much as now. From STANDARD to STANDARD_IA that is 1.05 times at most, to GLACIER_IR 0.63,
 * and less for small objects. When nobody knows how often, INTELLIGENT_TIERING costs at worst $0.0025 a month more than
 * STANDARD for a thousand objects of 128 KB and more, and $0.01 once.
 *
 * Not in it: annotations, your own requests and those to KMS, what leaves AWS, taxes, the free tier, tags, replicas,
 * inventories, and the copies that are restored from archives, which are billed as STANDARD as long as they last.
 *
 * @before npx tsx recipes/s3/01-create-bucket.ts paws-example --local
 * @before npx tsx recipes/s3/03-store-private-data.ts s3://paws-example/old.log "Nobody reads this" --local
 * @run npx tsx recipes/s3/25-estimate-storage-cost.ts s3://paws-example --small --local
 * @output
 *   bucket        paws-example
 *   prefix
 *   prices of     us-east-1
 *   prices as of  2026-08
 *   month         $0.00000000036
 *   at least      $0.00000000036
 *
 *   Now:
 *   storage class  objects  size  billed  month           at least        read        early
 *   STANDARD       1        17 B  17 B    $0.00000000036  $0.00000000036  $0.0000004  $0
 *
 *   Moved:
 *   from      to                   objects  now             month           at least        move      read        pays after  reads
 *   STANDARD  STANDARD_IA          1        $0.00000000036  $0.0000015      $0.0000015      $0.00001  $0.000001   never       0
 *   STANDARD  INTELLIGENT_TIERING  1        $0.00000000036  $0.00000000036  $0.00000000036  $0.00001  $0.0000004  never       0
 *   STANDARD  ONEZONE_IA           1        $0.00000000036  $0.0000012      $0.0000012      $0.00001  $0.000001   never       0
 *   STANDARD  GLACIER_IR           1        $0.00000000036  $0.00000049     $0.00000049     $0.00002  $0.00001    never       0
 *   STANDARD  GLACIER              1        $0.00000000036  $0.00000029     $0.00000029     $0.00003  $0.00005    never       0
 *   STANDARD  DEEP_ARCHIVE         1        $0.00000000036  $0.00000021     $0.00000021     $0.00005  $0.0001     never       0
 * @run npx tsx recipes/s3/25-estimate-storage-cost.ts s3://paws-example/logs/ --current --local
 * @permission s3:ListBucket on arn:aws:s3:::BUCKET
 * @permission s3:ListBucketVersions on arn:aws:s3:::BUCKET
 * @permission s3:ListBucketMultipartUploads on arn:aws:s3:::BUCKET
 * @permission s3:ListMultipartUploadParts on arn:aws:s3:::BUCKET/*
 * @cost nothing that lasts: $0.005 to $0.01 for listing a million versions, and $0.005 for 1,000 unfinished uploads
 * @undo nothing
 * @emulator LocalStack bills nothing, and has STANDARD for every version's class; the tests compare with the examples
 *   that AWS has published.
 * @see https://aws.amazon.com/s3/pricing/
 * @see https://aws.amazon.com/s3/faqs/
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
 */
import type { ClassAmounts } from './05-bucket-size.ts';
import { type ClassPrices, type Prices, usEast1 } from './25-helpers/prices.ts';

/** What is stored in one class, and what that costs. Old versions count as objects, here and below. */
export interface ClassCost {
  storageClass: string;
  objects: number;
  /** Bytes, parts of unfinished uploads too. */
  size: number;
  /** Bytes that are billed. */
  billed: number;
  /** Dollars a month, at most. */
  month: number;
  /** Dollars a month if nothing has been read for 90 days. Only with INTELLIGENT_TIERING that is less. */
  atLeast: number;
  /** Dollars for reading all objects once. */
  read: number;
  /** Dollars at most for deleting or moving all objects, if they have not been there for the minimum days. */
  early: number;
}

/** What the objects of one class would cost in another. Parts of unfinished uploads are not among them. */
export interface MoveCost {
  from: string;
  to: string;
  /** How many would move. */
  objects: number;
  /** Dollars a month for these, as they are, at least. */
  now: number;
  /** Dollars a month for them there, at most and at least. */
  month: number;
  atLeast: number;
  /** Dollars once for moving, without what leaving before the minimum days costs (`early`). */
  move: number;
  /** Dollars for reading them all once, there. */
  read: number;
  /** Months that they must stay, without being read, for the move to pay off; null if it never does. */
  paysAfter: number | null;
  /** How often a month all can be read until nothing is saved; null: as often as you like. */
  reads: number | null;
}

export interface StorageCost {
  /** Where and when the prices were valid. */
  pricesOf: string;
  pricesAsOf: string;
  /** Dollars a month for all there is, at most and at least. */
  month: number;
  atLeast: number;
  /** What there is, in the order given: with 3.5 the largest first. */
  classes: ClassCost[];
  /** Of each of these, to each other class. */
  moves: MoveCost[];
}

/**
 * Works out what storage costs a month, and what it would cost in other classes.
 *
 * @param storageClasses - What there is in each class, in bytes, as `bucketSize` (3.5) returns it.
 * @param options.prices - Those of us-east-1 by default.
 * @param options.small - Whether to move objects under 128 KB too, which rules leave where they are. False by default.
 * @throws RangeError for a class that has no prices, and for numbers that can't be.
 * @see https://aws.amazon.com/s3/pricing/
 *
 * @example
 * const none = { oldVersions: 0, oldSize: 0, parts: 0, partsSize: 0, small: 0, smallSize: 0 };
 * const { month } = estimateStorageCost([{ storageClass: 'STANDARD', objects: 500, size: 2 ** 40, ...none }]);
 * console.log(`$${month} a month`); // $23.552
 */
export function estimateStorageCost(
  storageClasses: ClassAmounts[],
  { prices = usEast1, small = false }: { prices?: Prices; small?: boolean } = {},
): StorageCost {
  const stored = storageClasses.map((amounts) => toStored(amounts, prices));
  const classes = stored.map((one) => bill(one, prices));
  const sum = (name: 'month' | 'atLeast') => classes.reduce((so, row) => so + row[name], 0);

  const moves: MoveCost[] = [];
  for (const one of stored) {
    // Parts stay: which class an upload goes to was said when it began.
    const going = { ...one, partsSize: 0, ...(!small && { small: 0, smallSize: 0 }) };
    const { storageClass: from, objects, atLeast: now, read: readNow } = bill(going, prices);
    for (const to of waterfall) {
      if (objects === 0 || to === from || !Object.hasOwn(prices.classes, to)) continue;
      const { month, atLeast, read } = bill({ ...going, storageClass: to }, prices);
      const move = moving(going, to, prices);

      // What is watched is cheaper once it has not been read for 90 days. Whoever deletes sooner than the minimum days
      // pays for them all the same.
      const saved = now - atLeast;
      const start = move + 3 * (month - atLeast);
      const minimum = (prices.classes[to]?.minDays ?? 0) / 30;
      const paysAfter = start / saved >= minimum ? start / saved : (start + month * minimum) / now;
      const often = read > readNow ? (now - month) / (read - readNow) : null;
      const reads = now > month ? often : 0;
      const pays = saved > 0 ? { paysAfter, reads } : { paysAfter: null, reads: 0 };
      moves.push({ from, to, objects, now, month, atLeast, move, read, ...pays });
    }
  }
  const valid = { pricesOf: prices.region, pricesAsOf: prices.date };
  return { ...valid, month: sum('month'), atLeast: sum('atLeast'), classes, moves };
}

/** Of what there is in a class, all that bears on its price: objects and old versions from 128 KB on, and smaller ones. */
interface Stored {
  storageClass: string;
  large: number;
  largeSize: number;
  small: number;
  smallSize: number;
  partsSize: number;
}

/** Rules move objects down this list, and not from ONEZONE_IA to GLACIER_IR. */
const waterfall = 'STANDARD STANDARD_IA INTELLIGENT_TIERING ONEZONE_IA GLACIER_IR GLACIER DEEP_ARCHIVE'.split(' ');

function toStored({ storageClass, ...amounts }: ClassAmounts, { classes }: Prices): Stored {
  if (!Object.hasOwn(classes, storageClass)) {
    const known = Object.keys(classes).join(', ');
    throw new RangeError(`there are no prices for the storage class ${storageClass}, only for ${known}`);
  }
  const { objects, oldVersions, size, oldSize, small, smallSize, partsSize } = amounts;
  const large = { large: objects + oldVersions - small, largeSize: size + oldSize - smallSize };
  for (const [name, amount] of Object.entries({ ...amounts, ...large })) {
    if (!(amount >= 0 && amount < Number.POSITIVE_INFINITY))
      throw new RangeError(`${name} of ${storageClass} must be a number from 0 on, not ${amount}`);
  }
  return { storageClass, ...large, small, smallSize, partsSize };
}

/** What one class costs with so much in it. */
function bill({ storageClass, large, largeSize, small, smallSize, partsSize }: Stored, { classes }: Prices): ClassCost {
  const price = classes[storageClass] ?? classes.STANDARD;
  const objects = large + small;
  const size = largeSize + smallSize;
  const archived = price.restore !== null;

  const own = largeSize + (price.padsSmall ? small * 128 * KB : smallSize) + (archived ? objects * 32 * KB : 0);
  const asStandard = archived ? objects * 8 * KB : 0;
  const watching = (large / 1000) * price.monitoring;
  const month = cost(own, price) + cost(asStandard, classes.STANDARD) + watching;
  const parts = cost(partsSize, archived ? classes.STANDARD : price);
  const unread =
    price.unreadGbMonth === null ? month : toGB(largeSize) * price.unreadGbMonth + cost(smallSize, price) + watching;
  return {
    ...{ storageClass, objects, size: size + partsSize, billed: own + asStandard + partsSize },
    ...{ month: month + parts, atLeast: Math.min(month, unread) + parts },
    read: (objects / 1000) * (price.get + (price.restore ?? 0)) + toGB(size) * price.retrieval,
    // Unfinished uploads can be aborted at any time.
    early: (month * price.minDays) / 30,
  };
}

/** What it costs once to move so much: by rule, or else by copy, which reads the object, once it is restored. */
function moving({ storageClass: from, large, largeSize, small, smallSize }: Stored, to: string, { classes }: Prices) {
  const [source, target] = [classes[from] ?? classes.STANDARD, classes[to] ?? classes.STANDARD];
  const thousands = (large + small) / 1000;
  const down = waterfall.includes(from) && waterfall.indexOf(from) < waterfall.indexOf(to);
  if (down && target.transition !== null && !(from === 'ONEZONE_IA' && to === 'GLACIER_IR')) {
    return thousands * target.transition;
  }
  return thousands * (target.put + (source.restore ?? 0)) + toGB(largeSize + smallSize) * source.retrieval;
}

/** Dollars a month for so many bytes, each step of the price for as much as falls on it. */
function cost(bytes: number, { storage }: ClassPrices): number {
  let dollars = 0;
  let from = 0;
  for (const { upTo, gbMonth } of storage) {
    dollars += Math.max(0, Math.min(toGB(bytes), upTo) - from) * gbMonth;
    from = upTo;
  }
  return dollars;
}

const KB = 1024;
const toGB = (bytes: number) => bytes / 2 ** 30;

// ---- command line: leave out when copying ----
import { S3Client } from '@aws-sdk/client-s3';
import { bytes, connect, interrupted, json, print, progress, recipe, s3Prefix, warn } from '../../shared/cli.ts';
import { findBucketRegion } from './02-create-bucket-in-region.ts';
import { bucketSize } from './05-bucket-size.ts';
import { money, paysAfter, reads } from './25-helpers/format.ts';

recipe(import.meta, (command) =>
  command
    .argument('<target>', 's3://BUCKET, or s3://BUCKET/PREFIX for all keys that begin so', s3Prefix)
    .option('--current', 'count current objects only, for which s3:ListBucket is enough')
    .option('--small', 'move objects under 128 KB too, which lifecycle rules leave where they are')
    .action(async (target, { current, small }) => {
      const signal = interrupted();
      const region = await findBucketRegion(connect(S3Client), { ...target, signal });
      if (region !== usEast1.region) warn(`The bucket is in ${region}, where prices differ.`);
      const s3 = connect(S3Client, { region });
      const { storageClasses } = await bucketSize(s3, { ...target, current, signal, onProgress: progress });
      const { classes, moves, ...all } = estimateStorageCost(storageClasses, { small });
      if (json()) return print({ ...target, ...all, classes, moves });
      print({ ...target, ...all }, money);
      console.log('\nNow:');
      print(classes, { ...money, size: bytes, billed: bytes });
      console.log('\nMoved:');
      print(moves, { ...money, paysAfter, reads });
    }),
);
