/**
 * The policy that `--policy` prints is enough, and nothing in it is too much: every recipe that moto server can serve
 * works there for a user who has just that policy, and names an action that is denied when it, or all, are taken out.
 * moto checks each call for one action and knows no resource but `*`; what a call needs beside, such as CreateTags for
 * tags at launch, it can't prove.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, test } from 'vitest';
import { policyOf } from '../shared/header.ts';
import { type Moto, moto, startMoto } from './moto.ts';
import { ownAction } from './permissions.ts';
import { keysOf } from './program.ts';
import { elsewhere, listRecipes, type Recipe, type Result, run, temporaryFolder } from './run.ts';

/**
 * moto neither confirms a subscription by HTTP nor signs what it sends, so nothing is ever received (2.29); it turns
 * Object Lock on for empty buckets only (3.20).
 */
const notServed = ['2.29', '3.20'];

const recipes = listRecipes().filter(
  ({ number, run, permissions }) => run.length > 0 && permissions.length > 0 && !notServed.includes(number),
);

/** Servers that no test is using. */
const free: Moto[] = [];
afterAll(() => Promise.all(free.map(({ stop }) => stop())));

test.skipIf(!moto).concurrent.for(recipes)(
  '$number $title: its policy is the least',
  { timeout: 1_200_000 },
  async (recipe, { expect, onTestFinished }) => {
    const server = free.pop() ?? (await startMoto());
    // What is still running after a failure must not meet the next test.
    onTestFinished(async ({ task }) => {
      if (task.result?.state === 'pass') free.push(server);
      else await server.stop();
    });

    const go = (command: string, keys: Record<string, string>, cwd: string, more = {}) =>
      run(elsewhere(command, server.url), { cwd, env: keys, ...more });

    /** Forgets all that was made, and makes what the recipe needs, as somebody who may do everything. */
    const prepare = async (): Promise<string> => {
      await server.reset();
      const { path, remove } = temporaryFolder();
      onTestFinished(remove);
      for (const command of recipe.before) {
        expect(await go(command, keysOf(server), path), command).toMatchObject({ code: 0 });
      }
      return path;
    };

    /** Runs the recipe's commands as a user who lacks some actions, up to the first that is denied something, or all. */
    let users = 0;
    const attempt = async (
      cwd: string,
      { missing = [], all = false }: { missing?: string[]; all?: boolean } = {},
    ): Promise<{ results: Result[]; sent: string[] }> => {
      const policy = policyOf(lacking(recipe, missing)).replace(/"Resource": "[^"]+"/g, '"Resource": "*"');
      const user = keysOf(await server.makeUser(policy, `reader${++users}`));
      const record = join(cwd, `sent${users}`);
      const results: Result[] = [];
      for (const command of recipe.run) {
        const result = await go(command, user, cwd, { record });
        results.push(result);
        if (!all && (result.code !== 0 || result.stderr || /denied/.test(result.stdout))) break;
      }
      const lines = existsSync(record) ? readFileSync(record, 'utf8').trim().split('\n') : [];
      return { results, sent: lines.map((line) => JSON.parse(line).operation) };
    };

    /** Whether a text has an action's name, or that of an operation that needs it. */
    const names = (text: string, action: string) =>
      [action, ...sent.filter((operation) => ownAction(operation) === action)].some((name) =>
        new RegExp(`\\b${name.split(':')[1]}\\b`).test(text),
      );
    const isDenial = (text: string) => /denied|not authorized/i.test(text);

    /** Whether a user who lacks an action was told so, with its name; or what was printed. */
    const denial = async (cwd: string, action: string): Promise<string> => {
      const { code, stdout, stderr } = (await attempt(cwd, { missing: [action] })).results.at(-1) as Result;
      // What moto answers when it denies a call to SSM or CloudWatch is XML, which no SDK can read there.
      const answer = `${stdout}${stderr}`.replace(/Unexpected token '<'.* is not valid JSON/, `${action} denied`);
      // Exit 0 is for a recipe that tells what it can't do and goes on with the rest.
      const denied = code === 1 || isDenial(answer);
      return denied && names(answer, action) ? 'denied and named' : `exit ${code}: ${answer}`;
    };

    let cwd = await prepare();
    const { results, sent } = await attempt(cwd);
    expect(results.at(-1)).toMatchObject({ code: 0, stderr: '' });

    const checked = sent.map(ownAction);
    cwd = await prepare();
    const actions = recipe.permissions.map(({ action }) => action).filter((action) => checked.includes(action));
    // A recipe that goes on after a denial tells of several at once, a line each.
    const without = await attempt(cwd, { missing: actions, all: true });
    const denials = without.results.flatMap(({ stdout, stderr }) => `${stdout}${stderr}`.split('\n')).filter(isDenial);
    for (const action of actions.filter((one) => !denials.some((line) => names(line, one)))) {
      let told = await denial(cwd, action);
      if (told !== 'denied and named') {
        // An attempt before may have changed things so that the action was not needed: once more, from the start.
        cwd = await prepare();
        told = await denial(cwd, action);
      }
      expect(told, action).toBe('denied and named');
    }
  },
);

/** A recipe whose header lacks some actions. */
function lacking(recipe: Recipe, missing: string[]): Recipe {
  return { ...recipe, permissions: recipe.permissions.filter(({ action }) => !missing.includes(action)) };
}
