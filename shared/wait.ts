/**
 * Waits until AWS has done what it was asked to do, with the SDK's own waiters. What is added: polling that
 * starts at two seconds (EC2's waiters start at 15), a deadline that is always there, a line of progress, and
 * errors that say in words what was waited for. Imports nothing, so that it can be copied with a recipe.
 */

/** Any of the SDK's `waitUntil…` functions. */
type Waiter<Client, Input, Answer> = (
  settings: { client: Client; abortSignal?: AbortSignal; maxWaitTime: number; minDelay: number; maxDelay: number },
  input: Input,
) => Promise<{ final?: Answer }>;

/** How to wait: see the parameters of waitFor. */
interface WaitOptions<Answer> {
  until: string;
  seconds?: number;
  signal?: AbortSignal;
  onProgress?: (text: string) => void;
  onAnswer?: (answer: Answer) => void;
}

/**
 * Waits with one of the SDK's waiters. Describe the thing once yourself first: a waiter takes an error that it
 * does not know, such as one of an id that is not found, for 'not yet' and goes on until the deadline. Only a denial,
 * or credentials that are no longer good, end the wait here.
 *
 * @param waiter - For example `waitUntilInstanceRunning`.
 * @param client - The client that the waiter asks with.
 * @param input - What to ask for, as for the describing command.
 * @param options.until - What is waited for, in words: `i-0abc is running`.
 * @param options.seconds - When to give up. 300 by default.
 * @param options.signal - Aborts the wait.
 * @param options.onProgress - Called each second with a text for people.
 * @param options.onAnswer - Called with each answer of the service, before the waiter looks at it.
 * @returns The service's last answer, which shows what was waited for.
 * @throws TimeoutError after `seconds`; the signal's reason when it is aborted; the error of a call that was
 *   denied or had no good credentials; Error when what is waited for can't come any more. The SDK's own error is the
 *   cause.
 * @see https://docs.aws.amazon.com/sdk-for-javascript/v3/developer-guide/waiters.html
 *
 * @example
 * const ec2 = new EC2Client({});
 * const input = { InstanceIds: ['i-0123456789abcdef0'] };
 * const answer = await waitFor(waitUntilInstanceRunning, ec2, input, { until: 'the instance is running' });
 */
export async function waitFor<Client extends { send: (...call: never[]) => unknown }, Input, Answer>(
  waiter: Waiter<Client, Input, Answer>,
  client: Client,
  input: Input,
  { until, seconds = 300, signal, onProgress, onAnswer }: WaitOptions<Answer>,
): Promise<Answer> {
  signal?.throwIfAborted();
  const start = Date.now();
  const tell = () => onProgress?.(`waiting until ${until}: ${Math.round((Date.now() - start) / 1000)} s`);
  tell();
  const ticking = setInterval(tell, 1000);
  // The waiter would ask on until the deadline when it may not ask at all, or not any more.
  const denial = new AbortController();
  // It looks at its deadline only between two calls, and one may stay without an answer: then it gets a minute more.
  const late = Object.assign(new Error(`waited until ${until}: not after ${seconds} s`), { name: 'TimeoutError' });
  const overdue = setTimeout(() => denial.abort(late), Math.min((seconds + 60) * 1000, 2 ** 31 - 1));
  let lapses = 0;
  const send = async (...call: never[]) => {
    try {
      const answer = await client.send(...call);
      lapses = 0;
      onAnswer?.(answer as Answer);
      return answer;
    } catch (error) {
      const { name } = error as Error;
      // A provider of credentials that fails once may do better the next time.
      const isOver = /ProviderError$/.test(name) ? ++lapses > 2 : /denied|unauthorized|expired|AuthFailure/i.test(name);
      if (isOver) denial.abort(error);
      throw error;
    }
  };
  try {
    const settings = {
      client: Object.create(client, { send: { value: send } }) as Client,
      maxWaitTime: seconds,
      minDelay: Math.min(2, seconds / 2),
      maxDelay: 15,
      abortSignal: signal ? AbortSignal.any([signal, denial.signal]) : denial.signal,
    };
    return (await waiter(settings, input)).final as Answer;
  } catch (cause) {
    signal?.throwIfAborted();
    denial.signal.throwIfAborted();
    // The SDK's message is the whole last answer as JSON. What counts in it: why EC2 gave up, or what was answered.
    const { name, message } = cause as Error;
    const [, observed = ''] =
      /"StateReason":\{[^}]*"Message":"([^"]*)"/.exec(message) ?? /"observedResponses":(\{[^}]*\})/.exec(message) ?? [];
    const reason = name === 'TimeoutError' ? `not after ${seconds} s` : 'that will not come any more';
    const told = `waited until ${until}: ${reason} ${observed}`.trim();
    throw Object.assign(new Error(told, { cause }), { name });
  } finally {
    clearInterval(ticking);
    clearTimeout(overdue);
  }
}
