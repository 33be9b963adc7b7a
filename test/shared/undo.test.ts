/** What was made before a failure is taken back, or named. */
import { expect, test } from 'vitest';
import { type Made, undo } from '../../shared/undo.ts';

/** Things that are made in this order, of which some can't be removed; `removed` tells what was tried. */
function things(...stuck: string[]) {
  const removed: string[] = [];
  const made: Made[] = ['key', 'group', 'instance'].map((id) => ({
    id,
    remove: async () => {
      removed.push(id);
      if (stuck.includes(id)) throw new Error(`${id} is in use`);
    },
  }));
  return { made, removed };
}

test('what was made last goes first, and the error stays the same one', async () => {
  const { made, removed } = things();
  const error = new Error('no capacity');
  const told: string[] = [];
  expect(await undo(made, error, { onProgress: (text) => told.push(text) })).toBe(error);
  expect(removed).toEqual(['instance', 'group', 'key']);
  expect(told).toEqual(['taking back instance', 'taking back group', 'taking back key']);
  expect(error.message).toBe('no capacity');
});

test('each removal waits for the one before', async () => {
  const running: string[] = [];
  const made = ['a', 'b', 'c'].map((id) => ({
    id,
    remove: async () => {
      running.push(id);
      await new Promise((done) => setTimeout(done, 5));
      expect(running).toEqual([id]);
      running.pop();
    },
  }));
  const error = new Error('failed');
  expect(await undo(made, error)).toBe(error);
});

test('the first thing that stays ends it, and what is left is named, with the name of the error', async () => {
  const { made, removed } = things('group');
  const error = Object.assign(new Error('no capacity'), { name: 'InsufficientInstanceCapacity' });
  const result = await undo(made, error);
  expect(removed).toEqual(['instance', 'group']);
  expect(result).toMatchObject({
    name: 'InsufficientInstanceCapacity',
    message: 'no capacity; left are group, key',
    cause: error,
  });
  expect(result).not.toBe(error);
  expect(error.message).toBe('no capacity');
  expect(made).toHaveLength(3);
});

test('an abort, whose message has only a getter, is told as well', async () => {
  const { reason } = AbortSignal.abort();
  expect(reason).toBeInstanceOf(DOMException);
  expect(await undo(things('instance').made, reason)).toMatchObject({
    name: 'AbortError',
    message: 'This operation was aborted; left are instance, group, key',
    cause: reason,
  });
});

test('a removal that throws at once counts as one that failed', async () => {
  const remove = () => {
    throw new Error('no');
  };
  expect(await undo([{ id: 'a', remove }], new Error('failed'))).toMatchObject({ message: 'failed; left are a' });
});

test('where nothing was made, the error comes back', async () => {
  const error = new Error('failed');
  expect(await undo([], error)).toBe(error);
});
