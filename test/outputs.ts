/** `npm run outputs`: writes into each recipe's `@output` what its first `@run` prints on LocalStack today. */
import { writeFileSync } from 'node:fs';
import { startLocalStack } from '../shared/localstack.ts';
import { mask } from './checks.ts';
import { newAccount, runCycle } from './cycle.ts';
import { listRecipes, root, temporaryFolder } from './run.ts';

process.env.COOKBOOK_LOCALSTACK = await startLocalStack();
for (const recipe of listRecipes()) {
  if (recipe.run.length === 0) continue;
  const { path: cwd, remove } = temporaryFolder();
  const { ok, output } = await runCycle(recipe, { cwd, env: { AWS_ACCESS_KEY_ID: newAccount() } });
  remove();
  const printed = output.trimEnd().replaceAll(cwd, '~');
  if (!ok) {
    console.error(`${recipe.file}: failed, left as it was`);
    process.exitCode = 1;
  } else if (mask(printed) !== mask(recipe.output ?? '')) {
    const block = printed.split('\n').map((line) => ` *   ${line}`.trimEnd());
    // All lines after the tag up to the next one.
    const source = recipe.source.replace(/(?<=\n \* @output\n)(?: \*(?! @).*\n)*/, () => `${block.join('\n')}\n`);
    writeFileSync(`${root}${recipe.file}`, source);
    console.log(`${recipe.file}: written`);
  }
}
