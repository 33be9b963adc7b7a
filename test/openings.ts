/** Finds, among the calls that recipes were seen to send, those that let others in. */
import type { Sent } from './permissions.ts';

/** The recipes whose subject it is to open something to the world, after a confirmation. */
const openers = ['2.17', '3.12'];

/** What is wrong with the calls of a recipe, if any lets the world in. */
export function checkOpenings({ number }: { number: string }, sent: Sent[]): string[] {
  const open = sent.filter(opensAccess);
  if (!openers.includes(number)) return open.map(({ operation }) => `${operation} lets the world in`);
  return open.filter(({ confirmed }) => !confirmed).map(({ operation }) => `${operation} was not confirmed`);
}

/** Whether a call lets anybody in, or takes away what keeps everybody out. */
export function opensAccess({ operation, input }: Sent): boolean {
  if (operation === 's3:DeletePublicAccessBlock') return true;
  if (operation === 's3:PutPublicAccessBlock') {
    const { BlockPublicAcls, IgnorePublicAcls, BlockPublicPolicy, RestrictPublicBuckets } =
      input.PublicAccessBlockConfiguration ?? {};
    return !(BlockPublicAcls && IgnorePublicAcls && BlockPublicPolicy && RestrictPublicBuckets);
  }
  // The bare names: with `PutObjectAcl`, `ModifyImageAttribute` and so on they are the same everywhere.
  return everyPart(input).some((part) => {
    const { Effect, Principal, ACL, CidrIp, CidrIpv6, ObjectOwnership, URI, Group, ...others } = part;
    const grants = Object.entries(others).filter(([name]) => /^Grant(?:FullControl|Read|Write)/.test(name));
    const groups = [others.UserGroups, others.GroupNames, Group].flat();
    return (
      (Effect === 'Allow' && anybody(Principal)) ||
      /^(?:public|authenticated)-/.test(`${ACL}`) ||
      [CidrIp, CidrIpv6].some((cidr) => /\/0+$/.test(`${cidr}`)) ||
      /^(?:BucketOwnerPreferred|ObjectWriter)$/.test(`${ObjectOwnership}`) ||
      [URI, ...grants.map(([, grantee]) => grantee)].some((who) =>
        /groups\/.*(?:All|Authenticated)Users/.test(`${who}`),
      ) ||
      groups.includes('all')
    );
  });
}

/** `*`, alone or as one of several. */
function anybody(principal: unknown): boolean {
  if (typeof principal === 'string') return principal === '*';
  return typeof principal === 'object' && principal !== null && Object.values(principal).some(anybody);
}

/** All objects within a value, those too that are written as JSON in a string, as policies are. */
function everyPart(value: unknown): Record<string, unknown>[] {
  if (typeof value === 'string' && /^\s*[{[]/.test(value)) {
    try {
      return everyPart(JSON.parse(value));
    } catch {
      return [];
    }
  }
  if (typeof value !== 'object' || value === null) return [];
  const inner = Object.values(value).flatMap(everyPart);
  return Array.isArray(value) ? inner : [value as Record<string, unknown>, ...inner];
}
