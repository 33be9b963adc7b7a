/** The output of a program as a stream that breaks when the program fails. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { Readable } from 'node:stream';

/**
 * Runs a program, once its output is asked for. Its standard input and standard error are those of this process.
 *
 * @param program - Name or path; no shell comes between, so no argument needs quotes.
 * @param args - Its arguments.
 * @returns What it writes to standard output. It ends only if the program ends with 0; otherwise it breaks, with a
 *   RangeError when there is no such program, or an Error that tells the code or signal. To destroy it ends the
 *   program.
 * @see https://nodejs.org/docs/latest-v20.x/api/child_process.html#event-close
 *
 * @example
 * const dump = outputOf('pg_dump', ['shop']);
 * let size = 0;
 * for await (const chunk of dump) size += chunk.length;
 */
export function outputOf(program: string, args: string[] = []): Readable {
  let child: ChildProcessByStdio<null, Readable, null> | undefined;
  const output = new Readable({
    read() {
      child ??= start();
      child.stdout.resume();
    },
    destroy(error, done) {
      // Closed, so that what the program has started can't write on and on, either.
      child?.stdout.destroy();
      child?.kill();
      done(error);
    },
  });
  const start = () => {
    const started = spawn(program, args, { stdio: ['inherit', 'pipe', 'inherit'] });
    started.stdout.on('data', (chunk) => {
      if (!output.push(chunk)) started.stdout.pause();
    });
    started.on('error', ({ message }) => output.destroy(new RangeError(`${program} can't be run (${message})`)));
    // Not 'exit', which comes before the last of its output does.
    started.on('close', (code, signal) => {
      if (code === 0) output.push(null);
      else output.destroy(new Error(`${program} ended with ${signal ?? code}, not with 0`));
    });
    return started;
  };
  return output;
}
