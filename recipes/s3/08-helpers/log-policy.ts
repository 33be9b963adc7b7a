/**
 * The part of a bucket policy that lets S3 write access logs into the bucket: puts it in, takes it out, and finds what
 * stands in its way. Nothing else in a policy is changed.
 */

/** From where to where logs are written. */
export interface LogRoute {
  /** `aws`, `aws-cn` or `aws-us-gov`. */
  partition: string;
  /** Number of the account that has both buckets. */
  account: string;
  /** The bucket whose requests are logged. */
  bucket: string;
  /** The bucket that the logs are written to. */
  target: string;
  /** What the keys of the log files begin with; empty for all keys. */
  prefix: string;
}

/** A policy's text as S3 has it. */
interface Policy {
  Version?: string;
  Statement: Statement | Statement[];
}

interface Statement {
  Sid?: string;
  Effect: 'Allow' | 'Deny';
  Principal?: unknown;
  NotPrincipal?: unknown;
  Action?: string | string[];
  NotAction?: string | string[];
  Resource?: string | string[];
  NotResource?: string | string[];
  Condition?: Record<string, Record<string, unknown>>;
}

/** Who writes the logs. */
const service = 'logging.s3.amazonaws.com';

/** The name of our statement: one for each bucket that is logged. Of letters and digits, for a Sid may have no others. */
export function sidOf({ bucket }: Pick<LogRoute, 'bucket'>): string {
  return `AccessLogsOf${bucket.replace(/[^a-z0-9]/g, (char) => char.charCodeAt(0).toString(16).toUpperCase())}`;
}

/**
 * Puts our statement into a policy, in the place of an older one of the same name.
 *
 * @param policy - The policy that is there, or null.
 * @returns The new policy: the same text if there was nothing to do.
 */
export function addStatement(policy: string | null, route: LogRoute): string {
  const { partition, account, bucket, target, prefix } = route;
  const ours: Statement = {
    Sid: sidOf(route),
    Effect: 'Allow',
    Principal: { Service: service },
    Action: 's3:PutObject',
    Resource: `arn:${partition}:s3:::${target}/${prefix}*`,
    // Without these, anybody's bucket could be made to log into this one.
    Condition: {
      ArnLike: { 'aws:SourceArn': `arn:${partition}:s3:::${bucket}` },
      StringEquals: { 'aws:SourceAccount': account },
    },
  };
  const { statements, ...rest } = parse(policy);
  const there = statements.filter(({ Sid }) => Sid === ours.Sid);
  if (policy && there.length === 1 && isSame(there[0], ours)) return policy;
  const Statement = [...statements.filter(({ Sid }) => Sid !== ours.Sid), ours];
  // A policy without a version is of 2008, and its other statements would mean something else under a newer one.
  return JSON.stringify({ ...(policy ? {} : { Version: '2012-10-17' }), ...rest, Statement });
}

/** Takes our statement out. Returns the same text if it was not in, null if nothing else was. */
export function removeStatement(policy: string, route: Pick<LogRoute, 'bucket'>): string | null {
  const { statements, ...rest } = parse(policy);
  const Statement = statements.filter(({ Sid }) => Sid !== sidOf(route));
  if (Statement.length === statements.length) return policy;
  return Statement.length === 0 ? null : JSON.stringify({ ...rest, Statement });
}

/** Whether some statement lets S3 write all of the logs: without a variable or a condition that is not known here. */
export function isAllowed(policy: string | null, route: LogRoute): boolean {
  const known = knownKeys(route);
  // What no policy has stands for the rest of a key: only a wildcard takes it, so that no key is left out.
  const all = `arn:${route.partition}:s3:::${route.target}/${route.prefix.replaceAll('*', '\0')}${'\0'.repeat(99)}`;
  return applying(policy, route).some(({ Effect, Resource, NotResource, Condition = {} }) => {
    const clear = Object.entries(Condition).every(
      ([operator, keys]) => form.test(operator) && Object.keys(keys).every((key) => known(key)),
    );
    const isWhole = !NotResource && some(Resource, (one) => !one.includes('${') && overlap(one, all));
    return Effect === 'Allow' && isWhole && clear && !JSON.stringify(Condition).includes('${');
  });
}

/** The names of the statements that keep S3 from writing the logs, or may: of a condition not known here. */
export function findDenials(policy: string | null, route: LogRoute): string[] {
  const denials = applying(policy, route).filter(({ Effect }) => Effect === 'Deny');
  return denials.map(({ Sid }) => Sid ?? 'one without Sid');
}

function parse(policy: string | null): Omit<Policy, 'Statement'> & { statements: Statement[] } {
  const { Statement = [], ...rest }: Partial<Policy> = policy ? JSON.parse(policy) : {};
  return { ...rest, statements: [Statement].flat() };
}

/** Equal but for the order of fields, and for a list of one in place of its only member: S3 may change both. */
function isSame(one: unknown, other: unknown): boolean {
  const [a, b] = [one, other].map((part) => (Array.isArray(part) && part.length === 1 ? part[0] : part));
  if (typeof a !== 'object' || typeof b !== 'object' || !a || !b) return a === b;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => isSame(a[key], b[key]));
}

/** The statements that are about S3 writing these logs. */
function applying(policy: string | null, route: LogRoute): Statement[] {
  const keys = `arn:${route.partition}:s3:::${route.target}/${route.prefix}*`;
  return parse(policy).statements.filter((statement) => {
    const { Principal, NotPrincipal, Action, NotAction, Resource, NotResource, Condition } = statement;
    const who = NotPrincipal ? !names(NotPrincipal) : names(Principal);
    const what =
      (NotAction === undefined) === some(Action ?? NotAction, (one) => overlap(one.toLowerCase(), 's3:putobject'));
    // A NotResource leaves out all of these keys, or may be about some.
    const where = NotResource
      ? !some(NotResource, (one) => one.endsWith('*') && keys.startsWith(one.slice(0, -1)))
      : some(Resource, (one) => overlap(one, keys));
    return who && what && where && !isKnownFalse(Condition ?? {}, route);
  });
}

function some(patterns: string | string[] | undefined, test: (pattern: string) => boolean): boolean {
  return [patterns ?? []].flat().some(test);
}

/** Whether a principal is everybody, or the service that writes the logs. */
function names(principal: unknown): boolean {
  if (typeof principal !== 'object' || !principal) return principal === '*';
  return Object.entries(principal).some(([kind, who]) =>
    [who].flat().some((one) => (one === '*' && kind !== 'Federated') || (one === service && kind === 'Service')),
  );
}

/** The operators of conditions that are known here. */
const form = /^(String|Arn|Bool)(Not)?(Equals|Like)?(IgnoreCase)?(IfExists)?$/;

/** Tells the value that a condition's key has when S3 writes the logs; undefined for one that is not known here. */
function knownKeys({ account, partition, bucket }: LogRoute): (key: string) => string | undefined {
  const values: Record<string, string> = {
    'aws:securetransport': 'true',
    'aws:principalisawsservice': 'true',
    'aws:principalservicename': service,
    'aws:sourceaccount': account,
    'aws:sourcearn': `arn:${partition}:s3:::${bucket}`,
  };
  return (key) => values[key.toLowerCase()];
}

/** Whether a condition can't hold when S3 writes the logs: one of its parts does not. */
function isKnownFalse(condition: NonNullable<Statement['Condition']>, route: LogRoute): boolean {
  const known = knownKeys(route);
  return Object.entries(condition).some(([operator, keys]) => {
    const [, kind, not, how] = form.exec(operator) ?? [];
    // Only these know wildcards; the others take a star for a star.
    const isPattern = kind === 'Arn' || how === 'Like';
    return Object.entries(keys).some(([key, wanted]) => {
      const value = known(key)?.toLowerCase();
      if (!kind || value === undefined) return false;
      const fits = (one: string) => (isPattern || one.includes('${') ? overlap(one, value) : one === value);
      const matches = [wanted].flat().some((one) => fits(`${one}`.toLowerCase()));
      return not ? matches : !matches;
    });
  });
}

/** Whether some text fits both patterns, in which `*` is any text and `?` any character. */
function overlap(first: string, second: string): boolean {
  // A variable in a policy may be anything.
  const [a, b] = [first.replace(/\$\{.*?\}/g, '*'), second];
  // By row: whether the rest of `a` from here and the rest of `b` from each place go together.
  let below: boolean[] = [];
  for (let i = a.length; i >= 0; i--) {
    const row: boolean[] = [];
    for (let j = b.length; j >= 0; j--) {
      const [one, other] = [a[i], b[j]];
      if (one === undefined && other === undefined) row[j] = true;
      else if (one === '*') row[j] = below[j] || (other !== undefined && (row[j + 1] as boolean));
      else if (other === '*') row[j] = row[j + 1] || (one !== undefined && (below[j] as boolean));
      else row[j] = one !== undefined && other !== undefined && (one === other || one === '?') && !!below[j + 1];
    }
    below = row;
  }
  return below[0] as boolean;
}
