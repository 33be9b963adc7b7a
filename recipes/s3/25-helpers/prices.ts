/**
 * What S3 costs, in dollars: the prices of us-east-1 as they were in August 2026. Check them, and fill in those of your
 * region, at https://aws.amazon.com/s3/pricing/ before you rely on a sum.
 */

/** What one storage class costs. A GB is 2 ** 30 bytes here, as on AWS's bills. */
export interface ClassPrices {
  /** A GB and month: the price for so many GB, the next price for the next ones; the last for all that is over. */
  storage: { upTo: number; gbMonth: number }[];
  /** A thousand uploads or copies into the class. */
  put: number;
  /** A thousand downloads. */
  get: number;
  /** A thousand objects moved into the class by a lifecycle rule; null where no rule moves any. */
  transition: number | null;
  /** A GB that is read, or restored. */
  retrieval: number;
  /** A thousand objects that are restored, which they must be before they can be read; null where they need not be. */
  restore: number | null;
  /** Whether an object smaller than 128 KB is billed as one of 128 KB. */
  padsSmall: boolean;
  /** Days that are billed at least. */
  minDays: number;
  /** A thousand objects of 128 KB and more that S3 watches, a month. */
  monitoring: number;
  /** A GB and month of what it watches, once that has not been read for 90 days; null where nothing is watched. */
  unreadGbMonth: number | null;
}

/** The prices of one region. */
export interface Prices {
  region: string;
  /** When they were valid: `2026-08`. */
  date: string;
  /** By the name that S3's API has for the class. STANDARD must be among them. */
  classes: { STANDARD: ClassPrices; [storageClass: string]: ClassPrices };
}

/** For all storage, much or little. */
const flat = (gbMonth: number) => [{ upTo: Number.POSITIVE_INFINITY, gbMonth }];

/** The first 50 TB, the next 450 TB, and what is over. */
const byVolume = [
  { upTo: 50 * 1024, gbMonth: 0.023 },
  { upTo: 500 * 1024, gbMonth: 0.022 },
  { upTo: Number.POSITIVE_INFINITY, gbMonth: 0.021 },
];

const always = { retrieval: 0, restore: null, padsSmall: false, minDays: 0, monitoring: 0, unreadGbMonth: null };
const infrequent = { ...always, padsSmall: true, minDays: 30 };
const archived = { ...always, get: 0.0004 };

/** Restoring is at the Standard speed. Bulk is slower, and free from GLACIER, a quarter or less from DEEP_ARCHIVE. */
export const usEast1: Prices = {
  region: 'us-east-1',
  date: '2026-08',
  classes: {
    STANDARD: { ...always, storage: byVolume, put: 0.005, get: 0.0004, transition: null },
    // Of the time of the book. It costs more than STANDARD today, and nobody should move anything there.
    REDUCED_REDUNDANCY: { ...always, storage: flat(0.024), put: 0.005, get: 0.0004, transition: null },
    STANDARD_IA: { ...infrequent, storage: flat(0.0125), put: 0.01, get: 0.001, transition: 0.01, retrieval: 0.01 },
    INTELLIGENT_TIERING: {
      ...{ ...always, storage: byVolume, put: 0.005, get: 0.0004, transition: 0.01 },
      ...{ monitoring: 0.0025, unreadGbMonth: 0.004 },
    },
    ONEZONE_IA: { ...infrequent, storage: flat(0.01), put: 0.01, get: 0.001, transition: 0.01, retrieval: 0.01 },
    GLACIER_IR: {
      ...{ ...infrequent, storage: flat(0.004), put: 0.02, get: 0.01, transition: 0.02 },
      ...{ retrieval: 0.03, minDays: 90 },
    },
    GLACIER: {
      ...{ ...archived, storage: flat(0.0036), put: 0.03, transition: 0.03 },
      ...{ retrieval: 0.01, restore: 0.05, minDays: 90 },
    },
    DEEP_ARCHIVE: {
      ...{ ...archived, storage: flat(0.00099), put: 0.05, transition: 0.05 },
      ...{ retrieval: 0.02, restore: 0.1, minDays: 180 },
    },
  },
};
