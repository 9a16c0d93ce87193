import { describe, expect, it } from 'vitest';
import { canMount } from '../support/privilege.ts';
import { hasS3Server, S3_SERVER_TIMEOUT } from '../support/s3-server.ts';
import { runSoak } from './soak.ts';

/** `npm run soak` goes on for an hour. */
const MINUTES = Number(process.env.LARDER_SOAK_MINUTES || 3);
const SEED = Number(process.env.LARDER_SEED || Date.now() % 1_000_000);

describe.skipIf(!canMount || !hasS3Server)('nodes that read while everything around them breaks', () => {
  it(`get no wrong byte, wait no longer than the deadline, and leave nothing behind (LARDER_SEED=${SEED})`, {
    timeout: S3_SERVER_TIMEOUT + MINUTES * 60_000 * 3,
  }, async () => {
    const lines: string[] = [];
    const report = await runSoak({ seed: SEED, duration: MINUTES * 60_000, log: (line) => lines.push(line) });
    if (report.violations.length > 0) console.log(lines.join('\n'));
    console.log(`soak, seed ${SEED}: ${JSON.stringify(report)}`);
    expect(report.violations).toEqual([]);
    expect(report.reads).toBeGreaterThan(100);
  });
});
