/** The parser of recipes' headers: it reads what is right and names what is wrong. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { copyPart, helpOf, parseHeader, policyOf } from '../../shared/header.ts';
import { listRecipes } from '../run.ts';

const lines = [
  '2.1 Launch an instance',
  '',
  '## Problem',
  'You want a machine,',
  'and now.',
  '',
  '## Solution',
  'Launch one.',
  '',
  '## Discussion',
  'Two things:',
  '',
  '- it costs',
  '- it runs',
  '',
  '@before first --local',
  '@run launch --local',
  '@output',
  '  id     i-1',
  '    deep',
  '  state  running',
  '@run launch --local --again',
  '@aws launch --key me',
  '@permission ec2:RunInstances on *',
  '@permission ec2:CreateTags on arn:aws:ec2:*:*:instance/*',
  '@permission iam:PassRole on *',
  '@cost $1 an hour,',
  'each',
  '@undo terminate {id} --local',
  '@emulator nothing runs',
  '@book ec2.run_instances',
  '@see https://example.com/a',
  '@see https://example.com/b',
];

const sourceOf = (header: string[]) =>
  `/**\n${header.map((line) => ` * ${line}`.trimEnd()).join('\n')}\n */\ncode();\n`;
const parse = (header: string[]) => parseHeader(sourceOf(header), 'some.ts');
const without = (...starts: string[]) => lines.filter((line) => !starts.some((start) => line.startsWith(start)));
const instead = (start: string, ...others: string[]) =>
  lines.flatMap((line) => (line.startsWith(start) ? others : [line]));

test('a header is read whole', () => {
  expect(parse(lines)).toEqual({
    number: '2.1',
    title: 'Launch an instance',
    problem: 'You want a machine,\nand now.',
    before: ['first --local'],
    run: ['launch --local', 'launch --local --again'],
    aws: ['launch --key me'],
    output: 'id     i-1\n  deep\nstate  running',
    permissions: [
      { action: 'ec2:RunInstances', resource: '*' },
      { action: 'ec2:CreateTags', resource: 'arn:aws:ec2:*:*:instance/*' },
      { action: 'iam:PassRole', resource: '*' },
    ],
    cost: '$1 an hour, each',
    undo: 'terminate {id} --local',
    book: ['ec2.run_instances'],
  });
});

test('what a header may lack is null or empty', () => {
  const least = without('@before', '@run', '@output', '  ', '@permission ec2', '@undo', '@emulator', '@book').map(
    (line) =>
      line.replace('@permission iam:PassRole on *', '@permission nothing').replace('each', 'each\n * @undo nothing'),
  );
  expect(parse(least)).toMatchObject({
    before: [],
    run: [],
    output: null,
    permissions: [],
    undo: null,
    book: [],
  });
});

test.each<[string, string[], string]>([
  ['a first line without a number', instead('2.1', 'Launch an instance'), '"Launch an instance" is no "2.1 Launch …"'],
  ['a first line without a title', instead('2.1', '2.1'), '"2.1" is no "2.1 Launch …"'],
  ['text before the first section', instead('## Problem', 'Hello', '## Problem'), '"Hello" stands before "## Problem"'],
  ['a tag that nobody knows', instead('@cost', '@costs $1', '@cost $1'), 'does not know @costs'],
  ['a section that nobody knows', instead('## Discussion', '## Notes', 'x', '## Discussion'), 'does not know Notes'],
  ['a doubled section', instead('## Solution', '## Problem', 'x', '## Solution'), 'has 2 times Problem'],
  ['a doubled @output', instead('@aws', '@output x', '@aws x'), 'has 2 times @output'],
  ['a doubled @cost', instead('@cost', '@cost x', '@cost $1'), 'has 2 times @cost'],
  ['a doubled @undo', instead('@undo', '@undo x', '@undo y'), 'has 2 times @undo'],
  ['a doubled @emulator', instead('@emulator', '@emulator x', '@emulator y'), 'has 2 times @emulator'],
  ['no problem', without('## Problem', 'You want', 'and now'), 'has 0 times Problem'],
  ['no solution', without('## Solution', 'Launch one'), 'has 0 times Solution'],
  ['no discussion', without('## Discussion', 'Two', '- '), 'has 0 times Discussion'],
  ['no @permission', without('@permission'), 'has 0 times @permission'],
  ['no @cost', without('@cost', 'each'), 'has 0 times @cost'],
  ['no @undo', without('@undo'), 'has 0 times @undo'],
  ['no @see', without('@see'), 'has 0 times @see'],
  ['an empty section', without('Launch one.'), 'has an empty Solution'],
  ['an empty tag', instead('@emulator', '@emulator'), 'has an empty @emulator'],
  ['an empty @output', without('  '), 'has an empty @output'],
  ['sections in another order', [...lines.slice(0, 2), '## Solution', 'x', ...lines.slice(2)], 'has Problem too late'],
  ['tags in another order', [...without('@cost', 'each'), '@cost $1'], 'has @cost too late'],
  ['@before after @run', instead('@permission ec2:R', '@before x', '@permission ec2:A on *'), 'has @before too late'],
  [
    'a permission without a resource',
    instead('@permission ec2:R', '@permission ec2:Run'),
    "can't read @permission ec2:Run",
  ],
  [
    'a permission without a service',
    instead('@permission ec2:R', '@permission Run on *'),
    "can't read @permission Run on *",
  ],
  [
    'a permission with more',
    instead('@permission ec2:R', '@permission ec2:Run on * too'),
    "can't read @permission ec2:Run on * too",
  ],
  [
    'a permission of two lines',
    instead('@permission ec2:R', '@permission ec2:Run on', '*'),
    "can't read @permission ec2:Run on",
  ],
  ['@run without @output', without('@output', '  '), 'lacks @run with @output, or @aws'],
  ['neither @run nor @aws', without('@run', '@output', '  ', '@aws'), 'lacks @run with @output, or @aws'],
  ['@output without @run', without('@run'), 'lacks @run with @output, or @aws'],
])('%s is an error that names it', (_what, header, problem) => {
  expect(() => parse(header)).toThrow(`some.ts: header: ${problem}`);
});

test.each([
  ['nothing', ''],
  ['code first', `import 'fs';\n${sourceOf(lines)}`],
  ['another kind of comment', sourceOf(lines).replace('/**', '/*')],
  ['a comment without an end', sourceOf(lines).replace(' */', '')],
])('a file that opens with %s has no header', (_what, source) => {
  expect(() => parseHeader(source, 'some.ts')).toThrow('some.ts: header: must open the file');
});

test('any part of a header, in any order, is read or refused with a message', () => {
  fc.assert(
    fc.property(fc.shuffledSubarray(lines), (some) => {
      try {
        expect(parse(some).number).toBe('2.1');
      } catch (error) {
        expect((error as Error).message).toMatch(/^some\.ts: header: ./);
      }
    }),
  );
});

test('all recipes have a header that can be read, each with a number of its own', () => {
  const recipes = listRecipes();
  expect(recipes.length).toBeGreaterThan(5);
  expect(new Set(recipes.map(({ number }) => number)).size).toBe(recipes.length);
});

test('the part to copy ends above the command line', () => {
  const line = '// ---- command line: leave out when copying ----\n';
  expect(copyPart(`code();\n\n\n${line}recipe();\n`, 'some.ts')).toBe('code();\n');
  expect(() => copyPart('code();\n', 'some.ts')).toThrow(`some.ts: lacks the line "${line.trim()}"`);
});

test('the policy allows each action on its resource, one statement a resource', () => {
  expect(JSON.parse(policyOf(parse(lines)))).toEqual({
    Version: '2012-10-17',
    Statement: [
      { Effect: 'Allow', Action: ['ec2:RunInstances', 'iam:PassRole'], Resource: '*' },
      { Effect: 'Allow', Action: ['ec2:CreateTags'], Resource: 'arn:aws:ec2:*:*:instance/*' },
    ],
  });
});

test('help has the commands, the cost and how to undo', () => {
  expect(helpOf(parse(lines))).toBe(`Examples:
  launch --local
  launch --local --again
  launch --key me
  Without --local they work on AWS, with your own credentials and region.

Cost: $1 an hour, each
Undo: terminate {id} --local`);
  expect(helpOf(parse(instead('@undo', '@undo nothing')))).toMatch(/\nUndo: nothing$/);
});
