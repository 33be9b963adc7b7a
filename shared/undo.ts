/**
 * Takes back what a function made before it failed, so that it leaves things as they were or says what is left.
 * Imports nothing, so that it can be copied with a recipe.
 */

/** Something that was made, and how to remove it. */
export interface Made {
  /** What to call it in an error: its id. */
  id: string;
  remove: () => Promise<unknown>;
}

/** How to remove: see the parameters of undo. */
type UndoOptions = { onProgress?: (text: string) => void };

/**
 * Removes what was made, the last first, and stops at the first thing that stays: what was made before it may be
 * needed by it, as a key is by a running instance.
 *
 * @param made - What was made, in the order in which it was.
 * @param error - Why it has to go.
 * @param options.onProgress - Called with a text for people.
 * @returns The error to throw: the same one, or one of the same name that tells what is left.
 *
 * @example
 * const made: Made[] = [{ id: 'vol-1', remove: () => Promise.resolve() }];
 * const error = await undo(made, new Error('no capacity'));
 * console.log(error.message);
 */
export async function undo(made: Made[], error: unknown, { onProgress }: UndoOptions = {}): Promise<Error> {
  const left = [...made].reverse();
  for (const [at, last] of left.entries()) {
    onProgress?.(`taking back ${last.id}`);
    try {
      await last.remove();
    } catch {
      const { name, message } = error as Error;
      const ids = left.slice(at).map(({ id }) => id);
      return Object.assign(new Error(`${message}; left are ${ids.join(', ')}`, { cause: error }), { name });
    }
  }
  return error as Error;
}
