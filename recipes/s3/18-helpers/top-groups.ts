/**
 * Counts by group in bounded memory, however many groups there are (the algorithm of Misra and Gries): when there are
 * too many, those with the fewest are forgotten, and what may be missing from a count is known.
 */

/** What is counted of the requests of one group. */
export interface Group {
  /** The field's value that they have in common; null where the log has none. */
  value: string | null;
  /** How many were counted. */
  requests: number;
  /** Those of them with a status from 400 on. */
  errors: number;
  /** Bytes that S3 sent. */
  bytes: number;
  first: Date;
  last: Date;
  /** At most so many more requests there were, forgotten before. 0: all numbers are exact. */
  missed: number;
}

/** What is added for one request. */
export interface Counted {
  time: Date;
  failed: boolean;
  bytes: number;
}

/** Adds up requests by group. */
export interface Groups {
  add: (value: string | null, request: Counted) => void;
  /** The groups with the most requests, the largest first. */
  top: (count: number) => Group[];
  /** How many groups there are, or were before some had to be forgotten. */
  size: () => number;
}

/**
 * Makes a counter.
 *
 * @param limit - How many groups to keep. A group with more than a `limit`-th of all requests is never forgotten.
 * @see https://doi.org/10.1016/0167-6423(82)90012-0
 *
 * @example
 * const groups = countGroups(1000);
 * groups.add('192.0.2.3', { time: new Date(), failed: false, bytes: 9 });
 * console.log(groups.top(10));
 */
export function countGroups(limit: number): Groups {
  const groups = new Map<string | null, Group & { weight: number }>();
  let [forgotten, known] = [0, 0];

  /** Takes so much from all weights that half of them come to nothing. */
  const prune = () => {
    const weights = [...groups.values()].map(({ weight }) => weight).sort((a, b) => b - a);
    const cut = weights[limit] as number;
    forgotten += cut;
    for (const [value, group] of groups) {
      group.weight -= cut;
      if (group.weight <= 0) groups.delete(value);
    }
  };

  return {
    add(value, { time, failed, bytes }) {
      let group = groups.get(value);
      if (!group) {
        // A part of a longer text keeps the whole of it in memory: so this is a copy.
        const own = value === null ? null : Buffer.from(value).toString();
        group = { value: own, requests: 0, errors: 0, bytes: 0, first: time, last: time, missed: forgotten, weight: 0 };
        groups.set(own, group);
        known++;
      }
      group.requests++;
      group.weight++;
      group.bytes += bytes;
      if (failed) group.errors++;
      if (time < group.first) group.first = time;
      if (time > group.last) group.last = time;
      if (groups.size > limit * 2) prune();
    },
    top(count) {
      const sorted = [...groups.values()].sort((a, b) => b.requests - a.requests);
      return sorted.slice(0, count).map(({ weight, ...group }) => group);
    },
    size: () => known,
  };
}
