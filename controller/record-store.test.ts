import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { initRepository, type Repository } from '../dataset/repository.ts';
import { newId } from './record-kind.ts';
import { PAGE_LIMIT, PageError, RecordStore } from './record-store.ts';
import { type GroupRecord, groupRecords, groupSlot } from './snapshot.ts';

describe('a list of records', () => {
  let directory: string;
  let repository: Repository;
  let store: RecordStore<GroupRecord>;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'larder-records-'));
    repository = await initRepository(directory);
    store = new RecordStore(repository, groupRecords);
    const add = (at: number) => {
      const name = `group ${at}`;
      return store.add({ id: newId(groupSlot(name)), name, sources: ['v'], snapshots: ['s'], about: {} });
    };
    for (let at = 0; at <= PAGE_LIMIT; at += 50)
      await Promise.all(Array.from({ length: Math.min(50, PAGE_LIMIT + 1 - at) }, (_, i) => add(at + i)));
  });
  afterAll(async () => {
    await repository.bucket.close();
    rmSync(directory, { recursive: true });
  });

  it('comes in pages that fit in an answer, however much is asked for', async () => {
    for (const limit of [undefined, 1_000_000]) {
      const first = await store.page({ ...(limit !== undefined && { limit }) }, ({ name }) => name);
      expect(first.found).toHaveLength(PAGE_LIMIT);
      const second = await store.page({ after: first.next! }, ({ name }) => name);
      expect(second).toEqual({ found: [expect.any(String)] });
      expect(new Set([...first.found, ...second.found]).size).toBe(PAGE_LIMIT + 1);
    }
  });

  it('is not read to its end when nobody waits for it any more', async () => {
    const reader = new AbortController();
    let seen = 0;
    const look = () => {
      if (++seen === 10) reader.abort(new Error('the caller has given up'));
      return undefined;
    };
    await expect(store.page({ signal: reader.signal }, look)).rejects.toThrow();
    expect(seen).toBeLessThan(PAGE_LIMIT);
  });

  it('has no page that begins where none ended', async () => {
    await expect(store.page({ after: 'group-x' }, ({ name }) => name)).rejects.toBeInstanceOf(PageError);
  });
});
