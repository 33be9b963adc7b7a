/**
 * 1.15 Measure the latency of regions
 *
 * ## Problem
 * You want to know which region is nearest to where your program runs, in milliseconds rather than on a map.
 *
 * ## Solution
 * Ask EC2 in each region for a page that needs no credentials, several times on one connection, and take the
 * median: a round trip over HTTPS and little more. Credentials are needed only where you name no regions.
 *
 * ## Discussion
 * The answer that opens the connection isn't counted: it takes two or three round trips more. Ten regions are
 * measured at a time, so that they disturb each other little.
 *
 * Measure from where your users or servers are; from your desk it tells about your desk. Latency is not all:
 * prices, services and the law differ from region to region.
 *
 * @aws npx tsx recipes/setup/15-measure-latency.ts eu-west-1 us-east-1
 * @aws npx tsx recipes/setup/15-measure-latency.ts
 * @permission ec2:DescribeRegions on *
 * @cost nothing
 * @undo nothing
 * @emulator LocalStack is no region. The measuring is proven against local servers with known delays.
 * @see https://docs.aws.amazon.com/general/latest/gr/ec2-service.html
 */
import pMap from 'p-map';
import { withDeadline } from './08-set-timeouts.ts';

/** How host names end where it is not `amazonaws.com`: in China and in the European Sovereign Cloud. */
const suffixes: Record<string, string> = { cn: 'amazonaws.com.cn', eusc: 'amazonaws.eu' };

/**
 * Adds to regions how long they take to answer from here, measuring ten at a time.
 *
 * @param regions - Objects that have the code of a region as `region`, such as those of 1.6.
 * @param options.urlOf - What to get of a region: its EC2 by default, by IPv4. Isolated regions (us-iso-…) need another,
 *   and so does a machine with IPv6 alone: `https://ec2.REGION.api.aws/ping`.
 * @param options.tries - How often, after a first time that opens the connection. 5 by default.
 * @param options.timeout - Milliseconds that an answer may take. 3,000 by default.
 * @param options.signal - Ends the measuring.
 * @returns The nearest first, with the median in milliseconds, the upper one of an even number. Tries without an answer
 *   or with an error of the server (5xx) are left out. Null where none is left, or the first had no answer.
 * @throws RangeError when `tries` is no count, TypeError for a wrong URL, the reason of `signal` when it is aborted.
 * @see https://docs.aws.amazon.com/general/latest/gr/ec2-service.html
 *
 * @example
 * const regions = [{ region: 'eu-west-1' }, { region: 'us-east-1' }];
 * const [nearest] = await measureLatency(regions);
 * console.log(nearest?.region, nearest?.latency);
 */
export async function measureLatency<Row extends { region: string }>(
  regions: Row[],
  {
    urlOf = (region) => `https://ec2.${region}.${suffixes[region.replace(/-.*/, '')] ?? 'amazonaws.com'}/ping`,
    tries = 5,
    timeout = 3000,
    signal,
  }: { urlOf?: (region: string) => string; tries?: number; timeout?: number; signal?: AbortSignal } = {},
): Promise<(Row & { latency: number | null })[]> {
  if (!Number.isInteger(tries) || tries < 1) throw new RangeError(`tries must be 1 or more, not ${tries}`);
  const measure = async (url: URL) => {
    const times: number[] = [];
    for (let [i, connected] = [0, false]; i <= tries; i++) {
      const start = performance.now();
      try {
        const status = await withDeadline((signal) => ping(url, signal), { deadline: timeout, signal });
        if (connected && status < 500) times.push(performance.now() - start);
        connected = true;
      } catch {
        // A silent region would cost the time-out for each try.
        if (i === 0) return null;
        connected = false;
      }
    }
    return times.sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? null;
  };
  const rows = await pMap(regions, async (row) => ({ ...row, latency: await measure(new URL(urlOf(row.region))) }), {
    concurrency: 10,
    signal,
  });
  return rows.sort((a, b) => (a.latency ?? Infinity) - (b.latency ?? Infinity));
}

/** The status that a server answers with. */
async function ping(url: URL, signal: AbortSignal): Promise<number> {
  // Not HEAD: fetch closes the connection after it. The body is read so that the next call finds it free.
  const answer = await fetch(url, { redirect: 'manual', signal });
  await answer.arrayBuffer();
  return answer.status;
}

// ---- command line: leave out when copying ----
import { EC2Client } from '@aws-sdk/client-ec2';
import { connect, interrupted, local, print, progress, recipe } from '../../shared/cli.ts';
import { findEnabledRegions } from './14-find-tagged.ts';

recipe(import.meta, (command) =>
  command
    .argument('[regions...]', 'codes of regions (default: all that your account has enabled)')
    .option('--tries <number>', 'how often to ask each', '5')
    .action(async (names, options) => {
      if (local()) throw new RangeError('this measures the way to AWS: not with --local');
      const tries = Number(options.tries);
      if (!/^([1-9]\d{0,2}|1000)$/.test(options.tries))
        throw new RangeError(`--tries takes 1 to 1000, not "${options.tries}"`);
      const strange = names.find((name) => !/^[a-z]+(-[a-z]+)+-\d+$/.test(name));
      if (strange !== undefined) throw new RangeError(`"${strange}" is no code of a region such as eu-west-1`);
      const codes = names.length > 0 ? names : await findEnabledRegions(connect(EC2Client));
      progress(`measuring ${codes.length} regions`);
      const rows = await measureLatency(
        codes.map((region) => ({ region })),
        { tries, signal: interrupted() },
      );
      print(rows, { latency: (time: number | null) => (time === null ? 'no answer' : `${Math.round(time)} ms`) });
    }),
);
