import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { createWorld } from './support.ts';

const { directory, ok, documents, start } = createWorld();
/** Real files enough to be at work for a while. */
const source = resolve(import.meta.dirname, '..', '..', 'node_modules');

describe('an interrupt', () => {
  it('ends an import cleanly: no name moves, nothing is damaged, and it can be done again', async () => {
    ok('repository', 'init');
    const run = start(['import', source, 'packages', '--json']);
    while (!existsSync(join(directory, 'repository', 'packs'))) await sleep(5);
    run.kill('SIGINT');
    const { status, stdout, stderr } = await run.ended;
    expect({ status, stdout }).toEqual({ status: 130, stdout: '' });
    expect(JSON.parse(stderr)).toMatchObject({ error: { kind: 'interrupted', exitStatus: 130 } });
    expect(documents('list')).toEqual([]);
    expect(documents('verify', '--deep').at(-1)).toMatchObject({ summary: { damaged: 0 } });
    expect(documents('import', source, 'packages')).toMatchObject([{ unchanged: false }]);
  });
});
