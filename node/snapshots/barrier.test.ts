import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { initRepository, type Repository } from '../../dataset/repository.ts';
import { meet } from './barrier.ts';

let directory: string;
let repository: Repository;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'larder-barrier-'));
  repository = await initRepository(join(directory, 'repository'));
});
afterAll(async () => {
  await repository.bucket.close();
  rmSync(directory, { recursive: true });
});

const of = (node: string, attempt: string) => ({
  bucket: repository.bucket,
  attempt,
  node,
  nodes: ['node a', 'node-b', 'node-c'],
});

it('nobody goes on before all have come', async () => {
  const order: string[] = [];
  const come = async (node: string, after: number) => {
    await sleep(after);
    order.push(`${node} comes`);
    await meet(of(node, 'one'), 'frozen', AbortSignal.timeout(20_000));
    order.push('goes on');
  };
  await Promise.all([come('node a', 0), come('node-b', 100), come('node-c', 200)]);
  expect(order).toEqual(['node a comes', 'node-b comes', 'node-c comes', 'goes on', 'goes on', 'goes on']);
});

it('who does not come is named when it is late, and another attempt or step does not count', async () => {
  await meet({ ...of('node-b', 'two'), nodes: ['node-b'] }, 'frozen', AbortSignal.timeout(20_000));
  await meet({ ...of('node-c', 'two'), nodes: ['node-c'] }, 'ready', AbortSignal.timeout(20_000));
  const failed = await meet(of('node a', 'two'), 'frozen', AbortSignal.timeout(500)).catch((error) => error);
  expect(failed).toMatchObject({ kind: 'unavailable', facts: { attempt: 'two' } });
  expect(failed.message).toMatch(/: node-c did not come to be frozen/);
});
