/**
 * Starts a recipe as `--import tsx` does, in less than half of the time, for the tests need it some thousand times: its
 * types are stripped by the same esbuild, but only once, and large packages are not compiled anew at each start. What was
 * made is kept in the folder TEST_CACHE, which lasts as long as a run of the tests. The lines in stack traces are not
 * those of the source.
 */
import { createHash } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import Module, { register } from 'node:module';
import { dirname, join } from 'node:path';
import vm from 'node:vm';

register('./start-hooks.mjs', import.meta.url);

const compile = Module.prototype._compile;
const compiled = new Map();
Module.prototype._compile = function (content, filename, ...rest) {
  const isLarge = content.length > 20_000 && filename.includes('node_modules') && rest[0] !== 'module';
  if (!isLarge) return compile.call(this, content, filename, ...rest);
  const kept = join(process.env.TEST_CACHE, createHash('sha256').update(filename).digest('hex'));
  let cachedData;
  try {
    cachedData = readFileSync(kept);
  } catch {}
  const importModuleDynamically = vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER;
  const script = new vm.Script(Module.wrap(content), { filename, cachedData, importModuleDynamically });
  if (!cachedData || script.cachedDataRejected) compiled.set(kept, script);
  const run = script.runInThisContext();
  return run.call(this.exports, this.exports, Module.createRequire(filename), this, filename, dirname(filename));
};
// By then the functions that a recipe calls are compiled, too.
process.on('exit', () => {
  try {
    for (const [kept, script] of compiled) {
      writeFileSync(`${kept}.${process.pid}`, script.createCachedData());
      renameSync(`${kept}.${process.pid}`, kept);
    }
  } catch {
    // The next start is slower; the recipe has nothing to do with it.
  }
});
