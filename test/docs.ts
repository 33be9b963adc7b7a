/**
 * `npm run docs`: writes the README's index of recipes and the table of the book's calls from the recipes'
 * headers. With `--check` it changes nothing, and fails when they are not as they should be.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { listRecipes, type Recipe, root } from './run.ts';

const chapters = { setup: '1 Setup', ec2: '2 EC2', s3: '3 S3' };
const link = ({ number, title, file }: Recipe) => `[${number} ${title}](${file})`;

function index(recipes: Recipe[]): string {
  return Object.entries(chapters)
    .map(([folder, title]) => {
      const own = recipes.filter(({ file }) => file.startsWith(`recipes/${folder}/`));
      const lines = own.map((recipe) => `- ${link(recipe)}`);
      return `### ${title}\n\n${lines.join('\n')}`;
    })
    .join('\n\n');
}

function calls(recipes: Recipe[]): string {
  const rows = recipes.flatMap((recipe) =>
    recipe.book.map((line) => {
      const [call, today = ''] = line.split(' → ');
      const commands = today.split(', ').map((name) => name && `\`${name}\``);
      return `| \`${call}\` | ${link(recipe)} | ${commands.join(', ')} |`;
    }),
  );
  return `| boto, 2011 | recipe | AWS SDK for JavaScript v3 |\n|---|---|---|\n${rows.join('\n')}`;
}

/** A README with the index and the table of calls as the headers have them. */
export function withDocs(readme: string, recipes: Recipe[]): string {
  let text = readme;
  for (const [name, body] of Object.entries({ index: index(recipes), calls: calls(recipes) })) {
    const place = new RegExp(`(<!-- ${name} -->\\n)[\\s\\S]*?(<!-- end -->)`);
    if (!place.test(text)) throw new Error(`README.md has no place for ${name}`);
    text = text.replace(place, (_, start, end) => `${start}\n${body}\n\n${end}`);
  }
  return text;
}

if (process.argv[1] === import.meta.filename) {
  const path = `${root}README.md`;
  const old = readFileSync(path, 'utf8');
  const text = withDocs(old, listRecipes());
  if (text !== old && process.argv.includes('--check')) {
    console.error('README.md is not what the headers of the recipes say: run `npm run docs`.');
    process.exit(1);
  }
  writeFileSync(path, text);
}
