/** Chromium, headless: to see with a browser what recipes make for browsers. It reaches nothing but this machine. */
import { type BrowserContext, chromium as launcher } from 'playwright-core';
import { onTestFinished } from 'vitest';
import { findProgram } from './program.ts';

/** Where it is; null if it is not installed: `apt install chromium`. Tests that need it are skipped then; CI fails. */
export const chromium = ['chromium', 'chromium-browser', 'google-chrome'].map(findProgram).find(Boolean) ?? null;

/** Names that stand for this machine: LocalStack serves websites by such host names. */
const local = '*.localhost.localstack.cloud';

/** Starts it for one test. */
export async function startChromium(): Promise<BrowserContext> {
  if (!chromium) throw new Error('chromium is not installed: apt install chromium');
  const browser = await launcher.launch({
    executablePath: chromium,
    timeout: 120_000,
    args: [
      // Its sandbox can't be had as root, nor much shared memory in a container.
      ...['--no-sandbox', '--disable-dev-shm-usage'],
      // No other name is found, not even for what Chromium asks by itself.
      `--host-resolver-rules=MAP ${local} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost`,
    ],
  });
  onTestFinished(() => browser.close());
  const context = await browser.newContext();
  context.setDefaultTimeout(120_000);
  await context.route(
    (url) =>
      /^https?:$/.test(url.protocol) &&
      !/^(127\.0\.0\.1|localhost|.*\.localhost\.localstack\.cloud)$/.test(url.hostname),
    (route) => route.abort(),
  );
  return context;
}
