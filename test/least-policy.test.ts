/**
 * The policy that `--policy` prints is enough, and nothing in it is too much: every recipe that moto server can serve
 * works there for a user who has just that policy, and fails with an error that names the action when one is taken out.
 * moto checks each call for one action and knows no resource but `*`; what a call needs beside, such as CreateTags for
 * tags at launch, it can't prove.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'vitest';
import { policyOf } from '../shared/header.ts';
import { moto, startMoto } from './moto.ts';
import { ownAction } from './permissions.ts';
import { keysOf } from './program.ts';
import { elsewhere, listRecipes, type Recipe, type Result, run, temporaryFolder, undoCommand } from './run.ts';

/** Actions that moto doesn't know: it takes these calls for `s3:ListBucket`. */
const notChecked = ['BucketPublicAccessBlock', 'EncryptionConfiguration', 'BucketObjectLockConfiguration'];

const recipes = listRecipes().filter(({ run, permissions }) => run.length > 0 && permissions.length > 0);

test.skipIf(!moto).concurrent.for(recipes)(
  '$number $title: its policy is the least',
  { timeout: 1_200_000 },
  async (recipe, { expect, onTestFinished }) => {
    const server = await startMoto();
    onTestFinished(server.stop);

    /** Runs the recipe's commands as a user who lacks one action, or none, until something is denied. */
    const attempt = async (missing?: string): Promise<Result & { sent: string[] }> => {
      await server.reset();
      const { path: cwd, remove } = temporaryFolder();
      onTestFinished(remove);
      const admin = keysOf(server);
      const policy = policyOf(without(recipe, missing)).replace(/"Resource": "[^"]+"/g, '"Resource": "*"');
      const user = keysOf(await server.makeUser(policy));
      const record = join(cwd, 'sent');
      const go = (command: string, env: Record<string, string>, more = {}) =>
        run(elsewhere(command, server.url), { cwd, env, ...more });

      for (const command of recipe.before) expect(await go(command, admin), command).toMatchObject({ code: 0 });
      const results: Result[] = [];
      for (const command of recipe.run) {
        const result = await go(command, user, { record });
        results.push(result);
        if (result.code !== 0 || result.stderr || /denied/.test(result.stdout)) break;
      }
      const undo = recipe.undo && undoCommand(recipe.undo, results[0]?.stdout ?? '');
      if (undo && results.every(({ code }) => code === 0))
        expect(await go(undo, admin), undo).toMatchObject({ code: 0 });
      const lines = existsSync(record) ? readFileSync(record, 'utf8').trim().split('\n') : [];
      return { ...(results.at(-1) as Result), sent: lines.map((line) => JSON.parse(line).operation) };
    };

    const { sent, ...whole } = await attempt();
    expect(whole).toMatchObject({ code: 0, stderr: '' });
    const checked = sent.map(ownAction).filter((action) => !notChecked.includes(action.replace('s3:Get', '')));
    for (const { action } of recipe.permissions.filter(({ action }) => checked.includes(action))) {
      const { code, stdout, stderr } = await attempt(action);
      // What moto answers when it denies a call to SSM is XML, which no SDK can read there.
      const answer = `${stdout}${stderr}`.replace(/Unexpected token '<'.* is not valid JSON/, `${action} denied`);
      // Exit 0 is for a recipe that tells what it can't do and goes on with the rest.
      expect(`exit ${code}: ${answer}`, action).toMatch(/^exit 1|denied|not authorized/i);
      const names = [action, ...sent.filter((operation) => ownAction(operation) === action)];
      const named = names.some((name) => answer.includes(name.split(':')[1] as string));
      expect(named, `${action} is named in: ${answer}`).toBe(true);
    }
  },
);

/** A recipe whose header lacks an action. */
function without(recipe: Recipe, missing?: string): Recipe {
  return { ...recipe, permissions: recipe.permissions.filter(({ action }) => action !== missing) };
}
