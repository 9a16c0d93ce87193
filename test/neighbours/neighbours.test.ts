import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { hasNetworks } from '../support/networks.ts';
import { hasS3Server, S3_SERVER_TIMEOUT } from '../support/s3-server.ts';
import type { Plan, Result } from './lab.ts';

const MB = 1_000_000;

/** Some 32 MB over links of 50 MB/s. */
const DATASET = { files: 300, fileBytes: 110_000, rate: 50 * MB };

/** The bucket may give all nodes together so many times the dataset. */
const GOAL = 1.05;

async function lab(plan: Plan): Promise<Result> {
  const program = join(import.meta.dirname, 'lab.ts');
  const { stdout } = await promisify(execFile)('unshare', ['-n', process.execPath, program, JSON.stringify(plan)], {
    maxBuffer: 10 ** 8,
  });
  const result: Result = JSON.parse(stdout);
  const { bucketBytes, datasetBytes, reports, seconds } = result;
  const peak = Math.max(...reports.map(({ memory }) => memory));
  console.log(
    `${plan.nodes} nodes${plan.fault ? `, one ${plan.fault}` : ''}${plan.late ? `, ${plan.late} late` : ''}: the bucket gave ` +
      `${(bucketBytes / datasetBytes).toFixed(3)} of the dataset in ${seconds.toFixed(1)} s; at most ${(peak / MB).toFixed(0)} MB resident`,
  );
  return result;
}

function expectAllRight({ reports }: Result, nodes: number): void {
  expect(reports).toHaveLength(nodes);
  for (const { objects, wrong } of reports) {
    expect(objects).toBe(DATASET.files);
    expect(wrong).toBe(0);
  }
}

describe.skipIf(!hasNetworks || !hasS3Server)('nodes behind links of 50 MB/s that read one version at once', () => {
  it.each([2, 8])('cost the bucket little more than one reading: %i', { timeout: S3_SERVER_TIMEOUT }, async (nodes) => {
    const result = await lab({ ...DATASET, nodes });
    expectAllRight(result, nodes);
    expect(result.bucketBytes / result.datasetBytes).toBeLessThan(GOAL);
  });

  it.skipIf(!process.env.LARDER_TEST_NODES)(
    'cost the bucket little more than one reading: as many as LARDER_TEST_NODES says',
    { timeout: S3_SERVER_TIMEOUT },
    async () => {
      const nodes = Number(process.env.LARDER_TEST_NODES);
      const result = await lab({ ...DATASET, nodes, silence: 60_000 });
      expectAllRight(result, nodes);
      expect(result.bucketBytes / result.datasetBytes).toBeLessThan(GOAL);
    },
  );

  it.each(['killed', 'stopped'] as const)(
    'all have every byte where one of them is %s in the middle',
    { timeout: S3_SERVER_TIMEOUT },
    async (fault) => {
      const result = await lab({ ...DATASET, nodes: 4, fault });
      expectAllRight(result, 3);
    },
  );

  it('take in nodes that come while they read', { timeout: S3_SERVER_TIMEOUT }, async () => {
    const result = await lab({ ...DATASET, nodes: 4, late: 2 });
    expectAllRight(result, 4);
    // What was begun before they came had another owner.
    expect(result.bucketBytes / result.datasetBytes).toBeLessThan(2);
  });
});
