import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Ask, asksPrefix } from '../dataset/asks.ts';
import { UnavailableError } from '../dataset/errors.ts';
import { initRepository, type Repository } from '../dataset/repository.ts';
import { collect } from '../test/support/collect.ts';
import { createAsks } from './asks.ts';

const save: Ask = { kind: 'save-now', volume: 'vol-1' };
const cut: Ask = { kind: 'cut', volume: 'vol-1', snapshot: 'snap-1' };

describe('what is asked of a node', () => {
  let directory: string;
  let repository: Repository;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'larder-asks-'));
    repository = await initRepository(directory);
  });
  afterAll(async () => {
    await repository.bucket.close();
    rmSync(directory, { recursive: true });
  });
  const left = () => collect(repository.bucket.list(asksPrefix('node ä/1')));

  it('is taken back by who gives up, so that nobody does it later', async () => {
    const asker = new AbortController();
    const asked = createAsks({ repository }).ask('node ä/1', save, { signal: asker.signal });
    await expect.poll(left).toHaveLength(1);
    asker.abort(new UnavailableError('the caller has given up'));
    await expect(asked).rejects.toThrow('the caller has given up');
    expect(await left()).toEqual([]);
  });

  it('is taken back when the node does not answer in time, and the error names the node and what to do', async () => {
    const asked = createAsks({ repository, patience: 100 }).ask('node ä/1', save);
    await expect(asked).rejects.toThrow(/node node ä\/1 did not answer within 0 s.*larder status/);
    expect(await left()).toEqual([]);
  });

  it('is done at once where the node is this process, and a clone is made whole, whoever gives up meanwhile', async () => {
    const { signal } = new AbortController();
    const handled: unknown[] = [];
    const handle = async (ask: Ask, given?: AbortSignal) => {
      handled.push([ask.kind, given]);
      return { kind: 'saved' } as const;
    };
    const { ask } = createAsks({ repository, local: { node: 'here', handle } });
    await ask('here', save, { signal });
    await ask('here', cut, { signal });
    expect(handled).toEqual([
      ['save-now', signal],
      ['cut', undefined],
    ]);
  });
});
