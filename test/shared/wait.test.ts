/** Waiting, with waiters made by hand, with the SDK's own on answers made by hand, and once on LocalStack. */
import { EC2Client, waitUntilInstanceRunning } from '@aws-sdk/client-ec2';
import { CreateBucketCommand, waitUntilBucketExists } from '@aws-sdk/client-s3';
import { afterEach, expect, test, vi } from 'vitest';
import { waitFor } from '../../shared/wait.ts';
import { sandbox } from '../harness.ts';

const { s3, bucket } = sandbox(import.meta);
const client = { send: async (_command: string): Promise<unknown> => 'sent' };
const input = { Id: '1' };
const until = 'it is there';

afterEach(() => vi.useRealTimers());

/** A waiter that ends when it is aborted, with an error of its own, as the SDK's do. */
const endless = ({ abortSignal }: { abortSignal?: AbortSignal }) =>
  new Promise<{ final?: string }>((_resolve, reject) => {
    abortSignal?.addEventListener('abort', () => reject(Object.assign(new Error('{}'), { name: 'AbortError' })));
  });

test('the last answer is returned; the waiter gets client, input, signal, and a pace that fits the time', async () => {
  const waiter = vi.fn(async () => ({ final: 'the answer' }));
  const { signal } = new AbortController();
  expect(await waitFor(waiter, client, input, { until, signal })).toBe('the answer');
  const settings = { client: expect.any(Object), maxWaitTime: 300, minDelay: 2, maxDelay: 15 };
  expect(waiter).toHaveBeenLastCalledWith({ ...settings, abortSignal: expect.any(AbortSignal) }, input);
  await waitFor(waiter, client, input, { until, seconds: 1 });
  expect(waiter).toHaveBeenLastCalledWith(expect.objectContaining({ maxWaitTime: 1, minDelay: 0.5 }), input);
});

test('progress is told at once and each second, and no timer is left', async () => {
  vi.useFakeTimers();
  const told: string[] = [];
  const waiter = () => new Promise<{ final: string }>((done) => setTimeout(() => done({ final: 'x' }), 2500));
  const answer = waitFor(waiter, client, input, { until, onProgress: (text) => told.push(text) });
  await vi.advanceTimersByTimeAsync(2500);
  expect(await answer).toBe('x');
  expect(told).toEqual([0, 1, 2].map((second) => `waiting until it is there: ${second} s`));
  expect(vi.getTimerCount()).toBe(0);
});

test('a call that stays without an answer does not outlast the deadline', async () => {
  vi.useFakeTimers();
  const waiting = expect(waitFor(endless, client, input, { until, seconds: 5 })).rejects.toMatchObject({
    name: 'TimeoutError',
    message: 'waited until it is there: not after 5 s',
  });
  await vi.advanceTimersByTimeAsync(65_000);
  await waiting;
  expect(vi.getTimerCount()).toBe(0);
});

test('no timer is left after a failure', async () => {
  vi.useFakeTimers();
  const waiter = () => Promise.reject(new Error('no'));
  await expect(waitFor(waiter, client, input, { until })).rejects.toThrow();
  expect(vi.getTimerCount()).toBe(0);
});

test.each([
  ...['UnauthorizedOperation', 'AccessDenied', 'AccessDeniedException', 'AuthFailure'],
  ...['ExpiredToken', 'ExpiredTokenException', 'RequestExpired'],
])('%s ends the wait at once; other errors of a call are left to the waiter', async (name) => {
  const denied = Object.assign(new Error('not you'), { name });
  const missing = Object.assign(new Error('not yet'), { name: 'InvalidInstanceID.NotFound' });
  const errors = [missing, denied, missing];
  const asked = { send: async () => Promise.reject(errors.shift()) };
  const polling = async (settings: { client: typeof asked; abortSignal?: AbortSignal }) => {
    while (errors.length > 0 && !settings.abortSignal?.aborted) await settings.client.send().catch(() => {});
    throw Object.assign(new Error('{}'), { name: 'AbortError' });
  };
  await expect(waitFor(polling, asked, input, { until })).rejects.toBe(denied);
  expect(errors).toEqual([missing]);
});

test('credentials that can not be had ends the wait at the third time, not at the first', async () => {
  const lacking = () => Object.assign(new Error('none'), { name: 'CredentialsProviderError' });
  const missing = Object.assign(new Error('not yet'), { name: 'InvalidInstanceID.NotFound' });
  const answers = [lacking(), lacking(), null, lacking(), lacking(), lacking(), missing];
  const asked = {
    send: async () => {
      const error = answers.shift();
      if (error) throw error;
    },
  };
  const polling = async (settings: { client: typeof asked; abortSignal?: AbortSignal }) => {
    while (answers.length > 0 && !settings.abortSignal?.aborted) await settings.client.send().catch(() => {});
    throw Object.assign(new Error('{}'), { name: 'AbortError' });
  };
  await expect(waitFor(polling, asked, input, { until })).rejects.toThrow('none');
  expect(answers).toEqual([missing]);
});

test('an aborted signal is thrown before anything is asked', async () => {
  const waiter = vi.fn(endless);
  const reason = new Error('Interrupted.');
  const waiting = waitFor(waiter, client, input, { until, signal: AbortSignal.abort(reason) });
  await expect(waiting).rejects.toBe(reason);
  expect(waiter).not.toHaveBeenCalled();
});

test("an abort while it waits is the signal's own reason, at once", async () => {
  const controller = new AbortController();
  const reason = new Error('Interrupted.');
  const waiting = waitFor(endless, client, input, { until, signal: controller.signal });
  controller.abort(reason);
  await expect(waiting).rejects.toBe(reason);

  // The SDK's own waiter, too, though it is asleep for a hundred seconds.
  const real = new AbortController();
  const start = Date.now();
  const seldom: typeof waitUntilBucketExists = (settings, input) =>
    waitUntilBucketExists({ ...settings, minDelay: 100, maxDelay: 100 }, input);
  const asleep = waitFor(seldom, s3(), { Bucket: `${bucket}-never` }, { until, signal: real.signal });
  setTimeout(() => real.abort(reason), 300);
  await expect(asleep).rejects.toBe(reason);
  expect(Date.now() - start).toBeLessThan(60_000);
});

/** An EC2 client whose every answer is an instance in this state. */
function instanceIs(instance: object): EC2Client {
  const ec2 = new EC2Client({ region: 'us-east-1' });
  ec2.send = async () => ({ Reservations: [{ Instances: [instance] }] });
  return ec2;
}

test('what can never come is an error with the reason that EC2 gives', async () => {
  const ec2 = instanceIs({
    State: { Name: 'terminated' },
    StateReason: { Code: 'Client.VolumeLimitExceeded', Message: 'Client.VolumeLimitExceeded: Volume limit exceeded' },
  });
  const error = await waitFor(waitUntilInstanceRunning, ec2, { InstanceIds: ['i-1'] }, { until: 'i-1 runs' }).catch(
    (error) => error,
  );
  expect(error).toMatchObject({
    name: 'Error',
    message: 'waited until i-1 runs: that will not come any more Client.VolumeLimitExceeded: Volume limit exceeded',
  });
  expect(error.cause).toBeInstanceOf(Error);
});

test('an error without a reason says at least what was waited for', async () => {
  const waiter = () => Promise.reject(Object.assign(new Error('{"state":"FAILURE"}'), { name: 'Error' }));
  await expect(waitFor(waiter, client, input, { until })).rejects.toThrow(
    /^waited until it is there: that will not come any more$/,
  );
});

test('on LocalStack: a deadline says what was seen, and success returns the answer', async () => {
  const wait = (seconds: number) =>
    waitFor(waitUntilBucketExists, s3(), { Bucket: bucket }, { until: `${bucket} exists`, seconds });
  const error = await wait(1).catch((error) => error);
  expect(error).toMatchObject({ name: 'TimeoutError', cause: { name: 'TimeoutError' } });
  expect(error.message).toMatch(/^waited until paws-\w+ exists: not after 1 s \{"404: .*":\d+\}$/);
  setTimeout(() => s3().send(new CreateBucketCommand({ Bucket: bucket })), 300);
  expect(await wait(50)).toMatchObject({ BucketRegion: 'us-east-1' });
});
