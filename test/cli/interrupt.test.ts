import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { createWorld } from './support.ts';

const { directory, ok, documents, start } = createWorld();
const source = join(directory, 'source');

describe('an interrupt', () => {
  it('ends an import cleanly: no name moves, nothing is damaged, and it can be done again', async () => {
    // Several packs of 32 MiB: it is at work for a while after the first.
    mkdirSync(source);
    for (let at = 0; at < 200; at++) writeFileSync(join(source, `file-${at}`), randomBytes(2 ** 20));
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
