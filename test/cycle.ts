/** One closed cycle of a recipe, as the tour shows it and `npm run outputs` and the tests run it. */
import { randomInt } from 'node:crypto';
import type { Header } from '../shared/header.ts';
import { type Result, run, type Settings, undoCommand, undosOf } from './run.ts';

/** An account number of LocalStack's that nobody else uses. */
export function newAccount(): string {
  return String(randomInt(100_000_000_000, 281_474_976_710_655)).slice(0, 12);
}

/**
 * Runs `@before`, each `@run` and `@undo`, in turn, and undoes what `@before` made.
 *
 * @param settings - As for `run`.
 * @param told - Is called before and after each command; before, there is no result yet.
 * @returns Whether all went well, and what the first `@run` printed. After a failure only what undoes is run still.
 */
export async function runCycle(
  { before, run: runs, undo }: Pick<Header, 'before' | 'run' | 'undo'>,
  settings: Settings,
  told: (command: string, result?: Result) => void = () => {},
): Promise<{ ok: boolean; output: string }> {
  let output = '';
  let ok = true;
  const step = async (command: string) => {
    told(command);
    const result = await run(command, settings);
    told(command, result);
    ok &&= result.code === 0;
    return result;
  };
  const prepared: { command: string; stdout: string }[] = [];
  for (const command of before) if (ok) prepared.push({ command, ...(await step(command)) });
  for (const command of runs) {
    if (!ok) break;
    const { stdout } = await step(command);
    output ||= stdout;
  }
  // What a failed run may have made is not known by its output.
  if (undo && (output || !undo.includes('{'))) await step(undoCommand(undo, output));
  for (const command of undosOf(prepared)) await step(command);
  return { ok, output };
}
