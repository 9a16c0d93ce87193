import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe } from 'vitest';
import { canMount } from '../support/privilege.ts';
import { type SmallDisk, smallDisk } from '../support/small-disk.ts';
import { createNodes, type Nodes } from './nodes.ts';

/**
 * Tests that each have nodes of their own, whose caches are on a disk with reflink, as a node's disk should have.
 * @param locate gives the location of each test's repository, if it is not a directory
 */
export function describeSaves(
  what: string,
  tests: (setting: { readonly nodes: Nodes }) => void,
  locate?: () => Promise<string>,
): void {
  describe.skipIf(!canMount)(what, { timeout: 120_000 }, () => {
    let disk: SmallDisk;
    let nodes: Nodes;
    beforeAll(async () => {
      disk = await smallDisk({ type: 'xfs', bytes: 2 * 2 ** 30 });
    });
    afterAll(() => disk?.[Symbol.asyncDispose]());
    beforeEach(async () => {
      nodes = await createNodes({ cache: disk.directory, ...(locate && { location: await locate() }) });
    });
    afterEach(async () => {
      await nodes[Symbol.asyncDispose]();
      for (const name of readdirSync(disk.directory)) rmSync(join(disk.directory, name), { recursive: true });
    });
    tests({
      get nodes() {
        return nodes;
      },
    });
  });
}
