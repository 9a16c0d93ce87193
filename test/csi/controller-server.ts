import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createAsks } from '../../controller/asks.ts';
import { createNodeObserver } from '../../controller/nodes.ts';
import type { CallRecord } from '../../csi/call.ts';
import { startPlugin } from '../../csi/plugin.ts';
import { importDirectory } from '../../dataset/import.ts';
import { initRepository, type Repository } from '../../dataset/repository.ts';
import { type CsiClient, connectCsi } from './client.ts';

/** A controller that is no node, on a repository of its own, and a client of it. */
export interface ControllerServer extends AsyncDisposable {
  readonly directory: string;
  readonly repository: Repository;
  readonly client: CsiClient;
  readonly records: readonly CallRecord[];
  /** Imports files into `birds` as its next version. @returns the version's id */
  importBirds(files: Readonly<Record<string, string>>): Promise<string>;
}

export async function startController(): Promise<ControllerServer> {
  const directory = mkdtempSync(join(tmpdir(), 'larder-csi-'));
  process.env.LARDER_STATE = join(directory, 'state');
  mkdirSync(join(directory, 'repository'));
  const repository = await initRepository(join(directory, 'repository'));
  const records: CallRecord[] = [];
  const server = await startPlugin({
    endpoint: `unix://${directory}/csi.sock`,
    version: '1.2.3',
    repository,
    controller: { nodes: createNodeObserver({ repository }), asks: createAsks({ repository }) },
    log: (record) => records.push(record),
  });
  const client = connectCsi(server.path);
  return {
    directory,
    repository,
    client,
    records,
    async importBirds(files) {
      const source = mkdtempSync(join(directory, 'birds-'));
      for (const [name, text] of Object.entries(files)) writeFileSync(join(source, name), text);
      const where = { repository, source, dataset: 'birds', branch: 'main' };
      return (await importDirectory({ ...where, message: 'birds', author: 'a test' })).version.id;
    },
    async [Symbol.asyncDispose]() {
      client.close();
      await server.close();
      await repository.bucket.close();
      rmSync(directory, { recursive: true });
    },
  };
}
