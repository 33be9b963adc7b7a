/** With --debug, a recipe shows all that it sends and gets, but no secret: every recipe that there is. */
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sandbox } from './harness.ts';
import { elsewhere, listRecipes } from './run.ts';

const recipes = listRecipes()
  .filter(({ run, permissions }) => run.length > 0 && permissions.length > 0)
  .map((recipe) => ({ ...recipe, own: sandbox({ url: `${import.meta.url}?${recipe.file}` }) }));

test.concurrent.each(recipes)(
  '$number $title: no secret in the log',
  { timeout: 1_200_000 },
  async ({ own: { run, folder }, source, before, run: runs }) => {
    const [secretKey, token] = [randomBytes(30).toString('base64'), randomBytes(150).toString('base64')];
    const env = { AWS_SECRET_ACCESS_KEY: secretKey, AWS_SESSION_TOKEN: token, AWS_REGION: 'us-east-1' };
    for (const command of before) expect(await run(command)).toMatchObject({ code: 0 });
    const record = join(folder, 'sent');
    let [shown, log] = ['', ''];
    for (const command of runs) {
      // With --local the keys would be LocalStack's own.
      const there = elsewhere(command, process.env.COOKBOOK_LOCALSTACK as string).replace('.ts', '.ts --debug');
      const { code, stdout, stderr } = await run(there, { env, record });
      // 1 is for what a recipe finds wrong: that the caller is root, as all are on LocalStack.
      expect({ code, command, stderr }).toMatchObject({ code: expect.toBeOneOf([0, 1]) });
      shown += stdout + stderr;
      // A recipe may show the log as its result.
      log += source.includes('logRequests') ? stdout + stderr : stderr;
    }

    if (existsSync(record)) {
      expect(log).toMatch(/^> authorization: .*Signature=\*\*\*$/m);
      expect(log).toMatch(/^> x-amz-security-token: \*\*\*$/m);
    }
    // A URL within a form is encoded twice.
    [shown, log] = [shown, log].map((text) => `${text}\n${decode(text)}\n${decode(decode(text))}`) as [string, string];
    expect(log).not.toMatch(/Signature=(?!\*\*\*)/);
    expect(log).not.toMatch(/customer-key: (?!\*\*\*)/i);
    // A URL or form that is signed for others to send carries the token: that is its purpose.
    const signs = /s3-request-presigner|s3-presigned-post/.test(source);
    for (const secret of [secretKey, token, ...privateKeys(folder)]) {
      const where = signs && secret === token ? log : shown;
      expect(where.includes(secret), 'a secret was shown').toBe(false);
    }
  },
);

function decode(text: string): string {
  return text.replace(/%([0-9a-f]{2})/gi, (_, code) => String.fromCharCode(Number.parseInt(code, 16)));
}

/** The lines of all private keys that were saved in a folder. */
function privateKeys(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile())
    .map((path) => readFileSync(path, 'utf8'))
    .filter((text) => text.includes('PRIVATE KEY-----'))
    .flatMap((text) => text.split('\n').filter((line) => line.length > 20 && !line.startsWith('-----')));
}
