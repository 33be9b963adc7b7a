import {
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  PutObjectCommand,
  type StorageClass,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { expect, test } from 'vitest';
import type { ClassAmounts } from '../../recipes/s3/05-bucket-size.ts';
import { estimateChange } from '../../recipes/s3/09-cut-storage-cost.ts';
import { toLifecycleRule } from '../../recipes/s3/17-helpers/lifecycle-rule.ts';
import { estimateStorageCost } from '../../recipes/s3/25-estimate-storage-cost.ts';
import { type Prices, usEast1 } from '../../recipes/s3/25-helpers/prices.ts';
import { withFaults } from '../faults.ts';
import { testRecipe } from '../harness.ts';

const { bucket, run, file, s3 } = testRecipe(import.meta);
const client = s3();
const KB = 1024;
const GB = 2 ** 30;
const TB = 2 ** 40;

/** So much in one class, as 3.5 tells it. */
function holding(storageClass: string, amounts: Partial<ClassAmounts>): ClassAmounts {
  const none = { objects: 0, size: 0, oldVersions: 0, oldSize: 0, parts: 0, partsSize: 0, small: 0, smallSize: 0 };
  return { storageClass, ...none, ...amounts };
}
/** What one class costs, and what it would cost elsewhere. */
function estimate(storageClass: string, amounts: Partial<ClassAmounts>, options = {}) {
  const { classes, moves, ...all } = estimateStorageCost([holding(storageClass, amounts)], options);
  const [row] = classes;
  if (!row || classes.length > 1) throw new Error('not one class');
  const move = (to: string) => moves.find((one) => one.to === to) ?? expect.fail(`no move to ${to}`);
  return { ...row, all, moves, move };
}

// Of AWS's examples, those of the FAQ are in the text that https://aws.amazon.com/s3/faqs/ had in 2019, with today's prices.

test("AWS's example of steps in the price: 52,900 GB-months of S3 Standard are $1,215.00 (FAQ, 'How will I be charged')", () => {
  const { month, atLeast, billed } = estimate('STANDARD', { objects: 1, size: 52_900 * GB });
  expect(month).toBeCloseTo(1177.6 + 37.4, 6);
  expect(atLeast).toBe(month);
  expect(billed).toBe(52_900 * GB);
  // Each step, and what is over the last.
  expect(estimate('STANDARD', { objects: 1, size: 50 * TB }).month).toBeCloseTo(1177.6, 6);
  expect(estimate('STANDARD', { objects: 1, size: 501 * TB }).month).toBeCloseTo(
    1177.6 + 460_800 * 0.022 + 1024 * 0.021,
    6,
  );
});

test("AWS's example of archived objects: 100,000 of 1 GB are 100,003.2 GB of Glacier and 0.8 GB of Standard (FAQ)", () => {
  const { month, billed } = estimate('GLACIER', { objects: 100_000, size: 100_000 * GB });
  // AWS takes 32 KB for 0.000032 GB there, so it comes to some 0.2 GB more.
  expect(billed / GB).toBeCloseTo(100_003.2 + 0.8, -0.4);
  expect(billed).toBe(100_000 * (GB + 40 * KB));
  expect(month).toBeCloseTo(100_003.2 * 0.0036 + 0.8 * 0.023, 2);
  expect(month).toBeCloseTo(100_000 * (1 + 32 / KB / KB) * 0.0036 + (100_000 * 8 * 0.023) / KB / KB, 9);
});

test("AWS's example of the minimum size: 6 KB are billed as 6 KB and 122 KB more in infrequent access (FAQ)", () => {
  for (const [storageClass, price] of [
    ['STANDARD_IA', 0.0125],
    ['ONEZONE_IA', 0.01],
    ['GLACIER_IR', 0.004],
  ] as const) {
    const { month, billed, size } = estimate(storageClass, { objects: 1, size: 6 * KB, small: 1, smallSize: 6 * KB });
    expect(size).toBe(6 * KB);
    expect(billed).toBe((6 + 122) * KB);
    expect(month).toBeCloseTo((128 * price) / KB / KB, 15);
  }
  // Each object by itself: a large one does not make up for small ones.
  const mixed = { objects: 2, size: GB, oldVersions: 1, oldSize: 10 * KB, small: 2, smallSize: 20 * KB };
  expect(estimate('STANDARD_IA', mixed).billed).toBe(GB - 10 * KB + 2 * 128 * KB);
});

test("AWS's example of retrieval: 300 GB of Standard-IA are $3.00 (FAQ), and of requests: 620,000 GETs are $0.25", () => {
  expect(estimate('STANDARD_IA', { objects: 1, size: 300 * GB }).read).toBeCloseTo(3, 5);
  const amounts = { objects: 620_000, small: 620_000 };
  expect(estimate('STANDARD', amounts).read).toBeCloseTo(0.248, 9);
  // 310,000 PUTs are $1.55 there: copies into STANDARD, here of objects that cost nothing to read.
  const { move } = estimate('REDUCED_REDUNDANCY', { objects: 310_000 });
  expect(move('STANDARD').move).toBeCloseTo(1.55, 9);
});

test("AWS's example of restoring: 15,000,000 objects of 100 TB are $1,774 by Standard (re:Post, s3-manage-data-retrieval)", () => {
  const { read } = estimate('GLACIER', { objects: 15_000_000, size: 102_400 * GB });
  const downloads = 15_000 * 0.0004;
  expect(read).toBeCloseTo(750 + 1024 + downloads, 6);
});

test("AWS's example of leaving early: 1 GB that is deleted after 30 days is billed for 60 more in Glacier (FAQ)", () => {
  const { early, month } = estimate('GLACIER', { objects: 1, size: GB });
  // Not known is how long it has been there: at most all of its 90 days are left.
  expect(early).toBeCloseTo(month * 3, 12);
  expect((early * 60) / 90).toBeCloseTo(month * 2, 12);
  const months = { STANDARD: 0, INTELLIGENT_TIERING: 0, STANDARD_IA: 1, ONEZONE_IA: 1, GLACIER_IR: 3, DEEP_ARCHIVE: 6 };
  for (const [storageClass, minimum] of Object.entries(months)) {
    const { early, month } = estimate(storageClass, { objects: 1, size: GB });
    expect(early, storageClass).toBeCloseTo(month * minimum, 12);
  }
  // Deleting unfinished uploads is free of that in each class.
  expect(estimate('GLACIER_IR', { partsSize: GB }).early).toBe(0);
});

test('S3 Intelligent-Tiering watches objects of 128 KB and more for a fee, and what that saves is given as bounds', () => {
  const small = { small: 500, smallSize: 500 * 100 * KB };
  const { month, atLeast, all } = estimate('INTELLIGENT_TIERING', {
    ...{ objects: 1500, size: TB, ...small, partsSize: GB },
  });
  const watched = 0.0025;
  expect(month).toBeCloseTo(1024 * 0.023 + watched + 0.023, 9);
  const smallGB = small.smallSize / GB;
  expect(atLeast).toBeCloseTo((1024 - smallGB) * 0.004 + smallGB * 0.023 + watched + 0.023, 9);
  expect(all).toMatchObject({ month, atLeast });
  // Small objects alone are neither watched nor moved.
  const only = estimate('INTELLIGENT_TIERING', { objects: 500, size: small.smallSize, ...small });
  expect(only.month).toBeCloseTo(smallGB * 0.023, 12);
  expect(only.atLeast).toBe(only.month);

  // Unread, it saves after 90 days at the full price; read all the time, it never does. From there, nothing was read.
  const large = { objects: 1000, size: TB };
  const there = estimate('STANDARD', large).move('INTELLIGENT_TIERING');
  expect(there.reads).toBe(0);
  const unread = 1024 * 0.004 + watched;
  expect(there.paysAfter).toBeCloseTo((0.01 + 3 * (1024 * 0.023 + watched - unread)) / (1024 * 0.023 - unread), 9);
  expect(there.paysAfter).toBeGreaterThan(3);
  expect(estimate('INTELLIGENT_TIERING', large).move('STANDARD_IA')).toMatchObject({
    now: 1024 * 0.004 + watched,
    paysAfter: null,
  });
});

test('parts of unfinished uploads cost as their class does, those for archives as STANDARD, and they do not move', () => {
  const prices = {
    STANDARD: 0.023,
    STANDARD_IA: 0.0125,
    ONEZONE_IA: 0.01,
    GLACIER_IR: 0.004,
    GLACIER: 0.023,
    DEEP_ARCHIVE: 0.023,
  };
  for (const [storageClass, price] of Object.entries(prices)) {
    const { month, moves, size, billed, objects, read } = estimate(storageClass, { parts: 3, partsSize: 10 * GB });
    expect(month, storageClass).toBeCloseTo(10 * price, 12);
    expect({ moves, size, billed, objects, read }).toEqual({
      moves: [],
      size: 10 * GB,
      billed: 10 * GB,
      objects: 0,
      read: 0,
    });
  }
  const { move, month } = estimate('STANDARD', { objects: 1, size: GB, parts: 1, partsSize: GB });
  expect(month).toBeCloseTo(0.046, 12);
  expect(move('STANDARD_IA')).toMatchObject({ objects: 1, now: 0.023, month: 0.0125 });
});

test('old versions are billed as objects', () => {
  const asOld = { oldVersions: 7, oldSize: 7 * GB, small: 2, smallSize: 1000 };
  const asCurrent = { objects: 7, size: 7 * GB, small: 2, smallSize: 1000 };
  for (const storageClass of Object.keys(usEast1.classes)) {
    const [old, current] = [asOld, asCurrent].map((amounts) => estimateStorageCost([holding(storageClass, amounts)]));
    expect(old).toEqual(current);
  }
});

test('moving is by rule where there is one, else by copy, which reads and first restores', () => {
  const amounts = { objects: 1000, size: 100 * GB };
  const once = (from: string, to: string) => estimate(from, amounts).move(to).move;
  const rules = {
    STANDARD_IA: 0.01,
    INTELLIGENT_TIERING: 0.01,
    ONEZONE_IA: 0.01,
    GLACIER_IR: 0.02,
    GLACIER: 0.03,
    DEEP_ARCHIVE: 0.05,
  };
  for (const [to, price] of Object.entries(rules)) expect(once('STANDARD', to), to).toBe(price);
  expect(once('GLACIER_IR', 'DEEP_ARCHIVE')).toBe(0.05);
  expect(once('GLACIER', 'DEEP_ARCHIVE')).toBe(0.05);
  // Up, and from ONEZONE_IA to GLACIER_IR, which no rule does.
  expect(once('STANDARD_IA', 'STANDARD')).toBeCloseTo(0.005 + 1, 9);
  expect(once('INTELLIGENT_TIERING', 'STANDARD_IA')).toBeCloseTo(0.01, 9);
  expect(once('ONEZONE_IA', 'GLACIER_IR')).toBeCloseTo(0.02 + 1, 9);
  expect(once('GLACIER_IR', 'STANDARD')).toBeCloseTo(0.005 + 3, 9);
  expect(once('GLACIER', 'STANDARD_IA')).toBeCloseTo(0.01 + 0.05 + 1, 9);
  expect(once('DEEP_ARCHIVE', 'GLACIER')).toBeCloseTo(0.03 + 0.1 + 2, 9);
  expect(once('REDUCED_REDUNDANCY', 'STANDARD_IA')).toBeCloseTo(0.01, 9);
  // Nobody should move anything there.
  expect(estimate('STANDARD', amounts).moves.map(({ to }) => to)).toEqual(Object.keys(rules));

  // 3.17 knows the same rules: it refuses those that S3 does not have.
  for (const [at, from] of Object.keys(rules).entries()) {
    for (const [place, to] of Object.keys(rules).entries()) {
      if (from === to) continue;
      const days = (storageClass: string, days: number) => ({ storageClass: storageClass as 'GLACIER', days });
      const rule = () => toLifecycleRule({ id: 'a', transitions: [days(from, 100), days(to, 300)] });
      const byRule = place > at && !(from === 'ONEZONE_IA' && to === 'GLACIER_IR');
      if (byRule) expect(rule).not.toThrow();
      else expect(rule).toThrow(RangeError);
      // A copy would be told by what reading costs.
      const free: Prices = { ...usEast1, classes: { ...usEast1.classes } };
      for (const [name, prices] of Object.entries(usEast1.classes)) free.classes[name] = { ...prices, retrieval: 1000 };
      expect(estimate(from, amounts, { prices: free }).move(to).move < 1, `${from} to ${to}`).toBe(byRule);
    }
  }
});

test('objects under 128 KB stay where they are, as rules leave them, unless they are to move too', () => {
  const amounts = { objects: 1100, size: 100 * GB, small: 100, smallSize: 100 * 10 * KB };
  const stay = estimate('STANDARD', amounts).move('STANDARD_IA');
  const largeGB = 100 - (1000 * KB) / GB;
  expect(stay).toMatchObject({ objects: 1000, move: 0.01 });
  expect(stay.now).toBeCloseTo(largeGB * 0.023, 12);
  expect(stay.month).toBeCloseTo(largeGB * 0.0125, 12);
  const all = estimate('STANDARD', amounts, { small: true }).move('STANDARD_IA');
  expect(all).toMatchObject({ objects: 1100 });
  expect(all.now).toBeCloseTo(2.3, 12);
  expect(all.month).toBeCloseTo((largeGB + (100 * 128) / KB / KB) * 0.0125, 12);
  expect(all.move).toBeCloseTo(0.011, 12);
  const { moves } = estimate('STANDARD', { objects: 5, size: 5, small: 5, smallSize: 5 });
  expect(moves).toEqual([]);
});

test('a move pays off after so long, with the minimum days, and as long as it is read no oftener', () => {
  // Whoever waits for that long has paid as much either way.
  const amounts = { objects: 100_000, size: 100 * GB };
  const { month: now, read: readNow, moves } = estimate('STANDARD', amounts);
  const days = {
    STANDARD_IA: 30,
    INTELLIGENT_TIERING: 0,
    ONEZONE_IA: 30,
    GLACIER_IR: 90,
    GLACIER: 90,
    DEEP_ARCHIVE: 180,
  };
  for (const { to, month, move, read, paysAfter, reads } of moves) {
    if (to === 'INTELLIGENT_TIERING') continue;
    const months = paysAfter ?? Number.NaN;
    const billed = Math.max(months, days[to as keyof typeof days] / 30);
    expect(months * now, to).toBeCloseTo(move + billed * month, 9);
    expect(now + (reads ?? Number.NaN) * readNow, to).toBeCloseTo(month + (reads ?? Number.NaN) * read, 9);
  }
  const large = estimate('STANDARD', { objects: 1, size: 10 * TB });
  // (0.023 - 0.0125) / 0.01, (0.023 - 0.004) / 0.03
  expect(large.move('STANDARD_IA').reads).toBeCloseTo(1.05, 4);
  expect(large.move('GLACIER_IR').reads).toBeCloseTo(0.6333, 4);
  // All of the minimum is billed: 180 days of DEEP_ARCHIVE cost as much as 7.7 days of STANDARD.
  expect(large.move('DEEP_ARCHIVE').paysAfter).toBeCloseTo((6 * 0.00099) / 0.023, 4);
  // Beyond the minimum only the move counts.
  const many = estimate('STANDARD', { objects: 1_000_000, size: 1_000_000 * 130 * KB });
  const { now: before, month, move, paysAfter } = many.move('STANDARD_IA');
  expect(paysAfter).toBeGreaterThan(1);
  expect(paysAfter).toBeCloseTo(move / (before - month), 9);
  // Where reading costs no more than now, it may be read as often as you like.
  expect(estimate('GLACIER_IR', amounts).move('STANDARD')).toMatchObject({ paysAfter: null, reads: 0 });
  expect(estimate('STANDARD_IA', amounts).move('ONEZONE_IA')).toMatchObject({ reads: null });
  // Small objects cost more in a class that pads them.
  const tiny = estimate('STANDARD', { objects: 10, size: 10 * KB, small: 10, smallSize: 10 * KB }, { small: true });
  for (const { to, paysAfter, reads } of tiny.moves)
    expect({ to, paysAfter, reads }).toEqual({ to, paysAfter: null, reads: 0 });
});

test('all classes add up, in the order given, and nothing costs nothing', () => {
  const some = [holding('GLACIER_IR', { objects: 1, size: TB }), holding('STANDARD', { objects: 1, size: TB })];
  const { classes, moves, ...all } = estimateStorageCost(some);
  expect(all).toEqual({ pricesOf: 'us-east-1', pricesAsOf: '2026-08', month: 4.096 + 23.552, atLeast: 4.096 + 23.552 });
  expect(classes.map(({ storageClass }) => storageClass)).toEqual(['GLACIER_IR', 'STANDARD']);
  expect(moves).toHaveLength(12);
  expect(moves.every(({ from, to }) => from !== to)).toBe(true);
  const valid = { pricesOf: 'us-east-1', pricesAsOf: '2026-08' };
  expect(estimateStorageCost([])).toEqual({ ...valid, month: 0, atLeast: 0, classes: [], moves: [] });
});

test('prices are yours to give', () => {
  const storage = [
    { upTo: 10, gbMonth: 1 },
    { upTo: Number.POSITIVE_INFINITY, gbMonth: 0.5 },
  ];
  const STANDARD = { ...usEast1.classes.STANDARD, storage };
  const prices = {
    region: 'eu-west-1',
    date: '2027-01',
    classes: { STANDARD, GLACIER: usEast1.classes.GLACIER as never },
  };
  const result = estimateStorageCost([holding('STANDARD', { objects: 1, size: 12 * GB })], { prices });
  expect(result).toMatchObject({ pricesOf: 'eu-west-1', pricesAsOf: '2027-01', month: 11 });
  expect(result.moves.map(({ to }) => to)).toEqual(['GLACIER']);
});

test('the prices are those that 3.9 reckons with', async () => {
  const object = { bucket: 'any', key: 'any' };
  for (const [storageClass, { put, minDays }] of Object.entries(usEast1.classes)) {
    if (storageClass === 'REDUCED_REDUNDANCY') continue;
    const upload = await estimateChange(client, { ...object, storageClass, body: '' });
    expect({ put: upload.once * 1000, minDays: upload.minDays }, storageClass).toEqual({ put, minDays });
    for (const size of [5 * KB, GB]) {
      const head = { ETag: '"e"', LastModified: new Date(0), StorageClass: storageClass, ContentLength: size };
      const { client: seeing } = withFaults(s3(), { operation: 'HeadObject', output: head });
      const { monthAfter } = await estimateChange(seeing, { ...object, storageClass });
      const small = size < 128 * KB ? { small: 1, smallSize: size } : {};
      const { month } = estimate(storageClass, { objects: 1, size, ...small });
      expect(month, storageClass).toBeCloseTo(monthAfter, 15);
    }
  }
});

test('what has no price and numbers that can not be are refused', () => {
  expect(() => estimateStorageCost([holding('OUTPOSTS', {})])).toThrow(
    new RangeError(
      'there are no prices for the storage class OUTPOSTS, only for STANDARD, REDUCED_REDUNDANCY, STANDARD_IA, INTELLIGENT_TIERING, ONEZONE_IA, GLACIER_IR, GLACIER, DEEP_ARCHIVE',
    ),
  );
  expect(() => estimateStorageCost([holding('toString', {})])).toThrow(RangeError);
  const wrong = [
    { size: -1 },
    { objects: Number.NaN },
    { partsSize: Number.POSITIVE_INFINITY },
    { objects: 1, small: 2 },
    { size: 1, smallSize: 2 },
  ];
  for (const amounts of wrong)
    expect(() => estimateStorageCost([holding('STANDARD', amounts)]), JSON.stringify(amounts)).toThrow(RangeError);
  expect(() => estimateStorageCost([holding('STANDARD', { oldSize: -1 })])).toThrow(
    'oldSize of STANDARD must be a number from 0 on, not -1',
  );
});

test('a bucket is estimated as it is: classes, small objects, old versions and parts', async () => {
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  const put = (Key: string, size: number, StorageClass?: StorageClass) =>
    client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: Buffer.alloc(size), StorageClass }));
  await put('logs/small', 100);
  await put('logs/large +%', 128 * KB);
  await put('logs/archived', 200_000, 'GLACIER');
  await put('logs/seldom', 10, 'STANDARD_IA');
  const started = { Bucket: bucket, Key: 'logs/upload' };
  const { UploadId } = await client.send(new CreateMultipartUploadCommand({ ...started, StorageClass: 'GLACIER_IR' }));
  await client.send(new UploadPartCommand({ ...started, UploadId, PartNumber: 1, Body: Buffer.alloc(1000) }));

  const command = `npx tsx ${file} s3://paws-example/logs/ --local`;
  const [current, all, wrong, nowhere] = await Promise.all([
    run(`${command} --current --json`),
    run(command),
    run(`npx tsx ${file} paws-example --local`),
    run(`npx tsx ${file} s3://paws-example-nowhere --local`),
  ]);
  expect(current).toMatchObject({ code: 0, stderr: '' });
  const result = JSON.parse(current.stdout);
  expect(result).toMatchObject({
    bucket: 'paws-example',
    prefix: 'logs/',
    pricesOf: 'us-east-1',
    pricesAsOf: '2026-08',
  });
  const rows = result.classes.map(({ storageClass, objects, size, billed }: Record<string, unknown>) => ({
    ...{ storageClass, objects, size, billed },
  }));
  expect(rows).toEqual([
    { storageClass: 'GLACIER', objects: 1, size: 200_000, billed: 200_000 + 40 * KB },
    { storageClass: 'STANDARD', objects: 2, size: 128 * KB + 100, billed: 128 * KB + 100 },
    { storageClass: 'STANDARD_IA', objects: 1, size: 10, billed: 128 * KB },
  ]);
  const standard = result.moves.filter(({ from }: { from: string }) => from === 'STANDARD');
  expect(standard).toHaveLength(6);
  expect(standard.every(({ objects }: { objects: number }) => objects === 1)).toBe(true);

  // LocalStack has STANDARD for every version, but its class for the upload.
  expect(all).toMatchObject({ code: 0, stderr: '' });
  expect(all.stdout).toMatch(/^STANDARD +4 +323 KiB/m);
  expect(all.stdout).toMatch(/^GLACIER_IR +0 +1000 B +1000 B +\$0\.0000000037/m);
  expect(all.stdout).toMatch(/^STANDARD +GLACIER_IR +2 .* \$0\.00004 .* 6\.8 months +0\.21$/m);
  expect(wrong).toMatchObject({ code: 2, stdout: '' });
  expect(nowhere).toMatchObject({ code: 1, stdout: '' });
  expect(nowhere.stderr).toContain('there is no bucket paws-example-nowhere');
});
