/** `npm run outputs`: writes into each recipe's `@output` what its first `@run` prints on LocalStack today. */
import { writeFileSync } from 'node:fs';
import { startLocalStack } from '../shared/localstack.ts';
import { mask } from './checks.ts';
import { newAccount, runCycle } from './cycle.ts';
import { listRecipes, root, temporaryFolder } from './run.ts';

/** A recipe's source with this text as its `@output`. */
export function withOutput(source: string, printed: string): string {
  const block = printed.split('\n').map((line) => `${` *   ${line}`.trimEnd()}\n`);
  // All lines after the tag up to the next one.
  return source.replace(/(?<=\n \* @output\n)(?: \*(?! @).*\n)*/, () => block.join(''));
}

if (process.argv[1] === import.meta.filename) {
  process.env.COOKBOOK_LOCALSTACK = await startLocalStack();
  for (const { file, source, ...recipe } of listRecipes()) {
    if (recipe.run.length === 0) continue;
    const { path: cwd, remove } = temporaryFolder();
    const { ok, output } = await runCycle(recipe, { cwd, env: { AWS_ACCESS_KEY_ID: newAccount() } });
    remove();
    const printed = output.trimEnd().replaceAll(cwd, '~');
    if (!ok) {
      console.error(`${file}: failed, left as it was`);
      process.exitCode = 1;
    } else if (mask(printed) !== mask(recipe.output ?? '')) {
      writeFileSync(`${root}${file}`, withOutput(source, printed));
      console.log(`${file}: written`);
    }
  }
}
