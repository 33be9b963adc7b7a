/** What start.mjs has Node.js do with each module. */
import { createHash } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);

/** Node.js would look for the exports of a client in two megabytes of code, each time. */
export async function resolve(specifier, context, next) {
  const isSdk = /^@aws-sdk\/[^/]+$/.test(specifier) && context.parentURL?.endsWith('.ts');
  return isSdk ? { url: `sdk:${specifier}`, format: 'module', shortCircuit: true } : next(specifier, context);
}

export async function load(url, context, next) {
  if (url.startsWith('sdk:')) {
    const name = url.slice('sdk:'.length);
    const names = await once(name, () => Object.keys(require(name)).join(', '));
    const source = `import { createRequire } from 'node:module';
      export const { ${names} } = createRequire(${JSON.stringify(import.meta.url)})('${name}');`;
    return { format: 'module', source, shortCircuit: true };
  }
  if (!url.endsWith('.ts')) return next(url, context);
  const text = readFileSync(fileURLToPath(url), 'utf8');
  const source = await once(text, async () => {
    const { transform } = await import('esbuild');
    const tsconfigRaw = { compilerOptions: { verbatimModuleSyntax: true } };
    return (await transform(text, { loader: 'ts', target: 'es2023', tsconfigRaw })).code;
  });
  return { format: 'module', source, shortCircuit: true };
}

/** What is made of a text, made once. */
async function once(text, make) {
  const kept = join(process.env.TEST_CACHE, createHash('sha256').update(text).digest('hex'));
  try {
    return readFileSync(kept, 'utf8');
  } catch {}
  const made = await make();
  writeFileSync(`${kept}.${process.pid}`, made);
  renameSync(`${kept}.${process.pid}`, kept);
  return made;
}
