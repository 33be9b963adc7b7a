/**
 * Reads the comment that opens a recipe. Everything that is said about a recipe stands there and only there:
 * `--help`, `--policy`, the README's index, the tour and the tests all come through this parser. It is strict,
 * so that a misspelt, missing or doubled tag is an error at once and never a recipe told wrongly.
 */
export interface Header {
  /** As in the book: `2.1`. */
  number: string;
  title: string;
  problem: string;
  solution: string;
  discussion: string;
  /** Commands to run first. */
  before: string[];
  /** Commands that work as they stand on LocalStack. */
  run: string[];
  /** Commands that need the real thing. */
  aws: string[];
  /** What the first `run` prints; null where there is none. */
  output: string | null;
  permissions: { action: string; resource: string }[];
  cost: string;
  /** The command that removes what the recipe made, with `{field}` for a field of its result; null for nothing. */
  undo: string | null;
  /** What LocalStack can't prove, and what does; null if it proves all. */
  emulator: string | null;
  see: string[];
  /** The book's calls that the recipe replaces. */
  book: string[];
}

const copyLine = '// ---- command line: leave out when copying ----\n';

/** The sections and tags, in the order they stand in, and how often each may: at least, at most. */
const many = Number.POSITIVE_INFINITY;
const blockNames: Record<string, [number, number]> = {
  ...{ Problem: [1, 1], Solution: [1, 1], Discussion: [1, 1] },
  ...{ '@before': [0, many], '@run': [0, many], '@aws': [0, many], '@output': [0, 1], '@permission': [1, many] },
  ...{ '@cost': [1, 1], '@undo': [1, 1], '@emulator': [0, 1], '@book': [0, many], '@see': [1, many] },
};

/**
 * Parses the header of a recipe.
 *
 * @param source - The recipe's text.
 * @param file - What to call the recipe in errors.
 * @throws Error that says what is wrong with the header.
 */
export function parseHeader(source: string, file: string): Header {
  const fail = (problem: string): never => {
    throw new Error(`${file}: header: ${problem}`);
  };
  const comment = /^\/\*\*\n([\s\S]*?)\n \*\//.exec(source)?.[1] ?? fail('must open the file');
  const [first = '', ...lines] = comment.split('\n').map((line) => line.replace(/^ \* ?/, ''));
  const [, number = '', title = ''] = /^(\d\.\d+) (\S.*)$/.exec(first) ?? fail(`"${first}" is no "2.1 Launch …"`);

  // A section or a tag owns the lines up to the next one.
  const blocks: { name: string; text: string }[] = [];
  for (const line of lines) {
    const [, section, tag, rest = ''] = /^(?:## (\w+)|(@\w+)(?: (.*))?)$/.exec(line) ?? [];
    const last = blocks.at(-1);
    if (section ?? tag) blocks.push({ name: (section ?? tag) as string, text: rest });
    else if (last) last.text += `\n${line}`;
    else if (line) fail(`"${line}" stands before "## Problem"`);
  }
  const order = Object.keys(blockNames);
  for (const [at, { name, text }] of blocks.entries()) {
    if (!order.includes(name)) fail(`does not know ${name}`);
    if (!text.trim()) fail(`has an empty ${name}`);
    // Runs and their output may alternate.
    const place = (name: string) => order.indexOf(/@(run|output|aws)/.test(name) ? '@run' : name);
    if (place(name) < place(blocks[at - 1]?.name ?? 'Problem')) fail(`has ${name} too late`);
  }
  const all = (name: string) => blocks.filter((block) => block.name === name).map(({ text }) => text.trim());
  for (const [name, [least, most]] of Object.entries(blockNames)) {
    const { length } = all(name);
    if (length < least || length > most) fail(`has ${length} times ${name}`);
  }
  const [run, output, aws] = ['@run', '@output', '@aws'].map((name) => all(name).length > 0);
  if (run !== output || !(run || aws)) fail('lacks @run with @output, or @aws');

  const one = (name: string) => all(name)[0] ?? null;
  const line = (name: string) => one(name)?.replaceAll('\n', ' ') ?? null;
  const permissions = all('@permission').filter((text) => text !== 'nothing');
  return {
    ...{ number, title },
    ...{
      problem: one('Problem') as string,
      solution: one('Solution') as string,
      discussion: one('Discussion') as string,
    },
    ...{ before: all('@before'), run: all('@run'), aws: all('@aws') },
    output: one('@output')?.replace(/^ {2}/gm, '') ?? null,
    permissions: permissions.map((text) => {
      const [, action, resource] =
        /^([a-z0-9-]+:[A-Z]\w+) on (\S+)$/.exec(text) ?? fail(`can't read @permission ${text}`);
      return { action: action as string, resource: resource as string };
    }),
    cost: line('@cost') as string,
    undo: line('@undo') === 'nothing' ? null : line('@undo'),
    emulator: line('@emulator'),
    ...{ see: all('@see'), book: all('@book') },
  };
}

/**
 * The part of a recipe that readers copy: all that stands above its command line.
 *
 * @throws Error if the line that parts the two is missing.
 */
export function copyPart(source: string, file: string): string {
  const [above = '', below] = source.split(copyLine);
  if (below === undefined) throw new Error(`${file}: lacks the line "${copyLine.trim()}"`);
  return `${above.trimEnd()}\n`;
}

/** What `--help` adds to the options. */
export function helpOf({ run, aws, permissions, cost, undo }: Header): string {
  const examples = [...run, ...aws].map((line) => `  ${line}\n`).join('');
  const real = '  Without --local they work on AWS, with your own credentials and region.\n';
  return `Examples:\n${examples}${permissions.length > 0 ? real : ''}\nCost: ${cost}\nUndo: ${undo ?? 'nothing'}`;
}

/** The least IAM policy that a recipe works with, as JSON. Words in capitals stand for your own. */
export function policyOf({ permissions }: Header): string {
  const Statement = [...new Set(permissions.map(({ resource }) => resource))].map((Resource) => {
    const Action = permissions.filter(({ resource }) => resource === Resource).map(({ action }) => action);
    return { Effect: 'Allow', Action, Resource };
  });
  return `${JSON.stringify({ Version: '2012-10-17', Statement }, null, 2)}\n`;
}
