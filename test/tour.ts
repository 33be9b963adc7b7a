/**
 * The tour: runs the recipes of the book on LocalStack, each with what it needs before and what undoes it, and
 * shows each command as a reader would type it with what it printed. In the end nothing may be left, in any region.
 *
 * npm start                           all recipes of the book
 * npm start -- s3                     one chapter of it
 * npm start -- ec2/launch-instance    one recipe, of the book or not
 */
import { styleText } from 'node:util';
import { startLocalStack } from '../shared/localstack.ts';
import { clearProgress, progress } from '../shared/output.ts';
import { newAccount, runCycle } from './cycle.ts';
import { listRecipes, type Recipe, run, temporaryFolder } from './run.ts';

const [wanted] = process.argv.slice(2);
const all = listRecipes();
const names = (recipe: Recipe) => recipe.file.replace(/^recipes\/(\w+)\/\d+-(.*)\.ts$/, '$1/$2');
const recipes = all.filter((recipe) =>
  wanted?.includes('/') ? names(recipe) === wanted : recipe.book.length > 0 && names(recipe).startsWith(wanted ?? ''),
);
if (recipes.length === 0) {
  const there = all.map((recipe) => names(recipe)).join(', ');
  console.error(`There is no "${wanted}": give setup, ec2, s3 or one of ${there}.`);
  process.exit(2);
}

process.env.COOKBOOK_LOCALSTACK = await startLocalStack({ onProgress: progress });
clearProgress();
const env = { AWS_ACCESS_KEY_ID: newAccount() };
const { path: cwd, remove } = temporaryFolder();
process.on('exit', remove);
const failed: Recipe[] = [];
const style = (format: 'bold' | 'dim' | 'red', text: string) =>
  process.stdout.isTTY && !process.env.NO_COLOR ? styleText(format, text) : text;

for (const recipe of recipes) {
  console.log(style('bold', `\n${recipe.number} ${recipe.title}`));
  if (recipe.run.length === 0) console.log(style('dim', 'needs AWS itself, so the tour passes over it'));
  for (const command of recipe.aws) console.log(style('dim', `on AWS: ${command}`));
  if (recipe.run.length === 0) continue;
  const { ok } = await runCycle(recipe, { cwd, env }, (command, result) => {
    if (!result) console.log(style('dim', `$ ${command}`));
    else process.stdout.write(`${result.stdout}${result.stderr}`.replaceAll(cwd, '~'));
  });
  if (!ok) {
    failed.push(recipe);
    console.log(style('red', 'This failed.'));
  }
}

console.log(style('bold', '\nWhat is left, in any region'));
const look = 'npx tsx recipes/setup/14-find-tagged.ts --all-regions --local';
console.log(style('dim', `$ ${look}`));
const { stdout: left, stderr } = await run(look, { cwd, env });
process.stdout.write(`${left}${stderr}`);
const clean = left === 'none\n';
console.log(`\n${recipes.length - failed.length} of ${recipes.length} recipes worked on LocalStack.`);
for (const { number, title } of failed) console.log(style('red', `failed: ${number} ${title}`));
process.exit(failed.length > 0 || !clean ? 1 : 0);
