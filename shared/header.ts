/**
 * Reads the comment that opens a recipe. Everything that is said about a recipe stands there and only there:
 * `--help`, `--policy`, the README's index, the tour and the tests all come through this parser. It is strict,
 * so that a misspelt, missing or doubled tag is an error at once and never a recipe told wrongly.
 */

/** What a header says. */
export type Header = ReturnType<typeof parseHeader>;

const copyLine = '// ---- command line: leave out when copying ----\n';

/** The sections and tags in the order they stand in. As in regular expressions: `?` one or none, `*` any, `+` some. */
const grammar =
  'Problem Solution Discussion @before* @run* @aws* @output? @permission+ @cost @undo @emulator? @book* @see+';
const blockNames = grammar.replace(/[?*+]/g, '').split(' ');

/**
 * Parses the header of a recipe.
 *
 * @param source - The recipe's text.
 * @param file - What to call the recipe in errors.
 * @throws Error that says what is wrong with the header.
 */
export function parseHeader(source: string, file: string) {
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
    const name = section ?? tag;
    const last = blocks.at(-1);
    if (name) blocks.push({ name, text: rest });
    else if (last) last.text += `\n${line}`;
    else if (line) fail(`"${line}" stands before "## Problem"`);
  }
  // Runs, their output and what needs AWS may alternate.
  const place = (name: string) => blockNames.indexOf(name.replace(/@(output|aws)/, '@run'));
  for (const [at, { name, text }] of blocks.entries()) {
    if (!blockNames.includes(name)) fail(`does not know ${name}`);
    if (!text.trim()) fail(`has an empty ${name}`);
    if (place(name) < place(blocks[at - 1]?.name ?? 'Problem')) fail(`has ${name} too late`);
  }
  const all = (name: string) => blocks.filter((block) => block.name === name).map(({ text }) => text.trim());
  for (const [, name = '', mark = ''] of grammar.matchAll(/(@?\w+)([?*+]?)/g)) {
    const { length } = all(name);
    if (!new RegExp(`^x${mark}$`).test('x'.repeat(length))) fail(`has ${length} times ${name}`);
  }

  const [run, aws, [output]] = [all('@run'), all('@aws'), all('@output')];
  if (!run[0] !== !output || !(run[0] || aws[0])) fail('lacks @run with @output, or @aws');

  const [problem = ''] = all('Problem');
  const [cost = '', undo = 'nothing'] = ['@cost', '@undo'].map((name) => all(name)[0]?.replaceAll('\n', ' '));
  const permissions = all('@permission').filter((text) => text !== 'nothing');
  return {
    /** As in the book: `2.1`. */
    number,
    title,
    problem,
    /** Commands to run first. */
    before: all('@before'),
    /** Commands that work as they stand on LocalStack. */
    run,
    /** Commands that need the real thing. */
    aws,
    /** What the first `run` prints; null where there is none. */
    output: output?.replace(/^ {2}/gm, '') ?? null,
    permissions: permissions.map((text) => {
      const [, action = '', resource = ''] =
        /^([a-z0-9-]+:[A-Z]\w+) on (\S+)$/.exec(text) ?? fail(`can't read @permission ${text}`);
      return { action, resource };
    }),
    cost,
    /** The command that removes what the recipe made, with `{field}` for a field of its result; null for nothing. */
    undo: undo === 'nothing' ? null : undo,
    /** The book's calls that the recipe replaces, each with what does it today: `ec2.run_instances → RunInstancesCommand`. */
    book: all('@book'),
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
