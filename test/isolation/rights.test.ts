import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createAsks } from '../../controller/asks.ts';
import { createNodeObserver } from '../../controller/nodes.ts';
import { startPlugin } from '../../csi/plugin.ts';
import { UnavailableError } from '../../dataset/errors.ts';
import { importDirectory } from '../../dataset/import.ts';
import { initRepository } from '../../dataset/repository.ts';
import { type RunningNode, startNode } from '../../node/daemon.ts';
import { silentLogger } from '../../node/log.ts';
import type { Rights, Use } from '../../node/rights.ts';
import { nodeServiceOf } from '../../node/service.ts';
import { type CsiClient, connectCsi, mountCapability } from '../csi/client.ts';
import { endVolume, makeVolume } from '../csi/node-volume.ts';
import { canMount } from '../support/privilege.ts';

const readers = mountCapability('MULTI_NODE_READER_ONLY');

describe.skipIf(!canMount)('a dataset that not everyone may use', () => {
  const stack = new AsyncDisposableStack();
  let directory: string;
  let running: RunningNode;
  let client: CsiClient;
  let kubelet: string;
  /** Namespaces that may use it; undefined while nobody can say. */
  let allowed: string[] | undefined;
  let asked: Use[];

  const rights: Rights = {
    async mayUse(use) {
      asked.push(use);
      if (allowed === undefined) throw new UnavailableError('the cluster does not answer');
      if (use.pod !== undefined && allowed.includes(use.pod.namespace)) return true;
      return { reason: `no binding gives "use" of it: ask its owner` };
    },
  };

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'larder-rights-'));
    stack.defer(() => rmSync(directory, { recursive: true }));
    process.env.LARDER_STATE = join(directory, 'state');
    const repository = await initRepository(join(directory, 'repository'));
    stack.defer(() => repository.bucket.close());
    const source = join(directory, 'source');
    mkdirSync(source);
    writeFileSync(join(source, 'file'), 'secret '.repeat(1000));
    const about = { dataset: 'secret', branch: 'main', message: 'for a test', author: 'a test' };
    await importDirectory({ repository, source, ...about });
    const paths = { runtime: join(directory, 'run'), cache: join(directory, 'cache') };
    running = stack.use(await startNode({ ...paths, log: silentLogger, version: 'a test', rights }));
    const socket = join(directory, 'csi.sock');
    const server = await startPlugin({
      endpoint: `unix://${socket}`,
      version: 'a test',
      repository,
      controller: { nodes: createNodeObserver({ repository }), asks: createAsks({ repository }) },
      node: { id: 'node', service: nodeServiceOf(running.node.volumes, repository.location), health: running.health },
      log: () => {},
    });
    stack.defer(() => server.close());
    client = connectCsi(socket);
    stack.defer(() => client.close());
    kubelet = join(directory, 'kubelet');
  });
  afterAll(() => stack.disposeAsync());
  beforeEach(() => {
    asked = [];
    allowed = ['birds'];
  });

  const podOf = (namespace: string) => ({
    volumeContext: {
      'csi.storage.k8s.io/pod.namespace': namespace,
      'csi.storage.k8s.io/pod.name': 'a-pod',
      'csi.storage.k8s.io/serviceAccount.name': 'trainer',
    },
  });
  const volume = (name: string) => makeVolume(client, kubelet, name, readers, { parameters: { dataset: 'secret' } });
  /** Not by this thread itself, which serves the ring. */
  const sizeAt = async (directory: string) => (await readFile(join(directory, 'file'))).length;
  const leftovers = () => [
    ...readdirSync(join(directory, 'run', 'staged')),
    ...(existsSync(join(directory, 'run', 'ephemeral')) ? readdirSync(join(directory, 'run', 'ephemeral')) : []),
  ];

  it('is given to a pod of a namespace that may, and to no other', async () => {
    const one = await volume('asked');
    await client.call('NodeStageVolume', one.stage);
    const refused = await client.fail('NodePublishVolume', one.publish('foreign', podOf('strangers')));
    expect(refused).toMatchObject({
      code: status.PERMISSION_DENIED,
      details: 'pod strangers/a-pod (trainer) may not use dataset secret: no binding gives "use" of it: ask its owner',
    });
    expect(existsSync(one.targetOf('foreign'))).toBe(false);
    expect(running.node.volumes.records.get(one.volumeId)?.published).toEqual([]);
    await client.call('NodePublishVolume', one.publish('own', podOf('birds')));
    expect(await sizeAt(one.targetOf('own'))).toBe(7000);
    expect(asked.map(({ dataset, volume, pod }) => [dataset, volume, pod?.namespace])).toEqual([
      ['secret', one.volumeId, 'strangers'],
      ['secret', one.volumeId, 'birds'],
    ]);
    await endVolume(client, one, 'own');
  });

  it('stays with a pod that has it when the right is taken away, and is not given again', async () => {
    const one = await volume('revoked');
    await client.call('NodeStageVolume', one.stage);
    await client.call('NodePublishVolume', one.publish('pod', podOf('birds')));
    allowed = [];
    await client.call('NodePublishVolume', one.publish('pod', podOf('birds')));
    expect(await sizeAt(one.targetOf('pod'))).toBe(7000);
    await client.call('NodeUnpublishVolume', one.unpublish('pod'));
    expect(await client.fail('NodePublishVolume', one.publish('pod', podOf('birds')))).toMatchObject({
      code: status.PERMISSION_DENIED,
    });
    await endVolume(client, one);
  });

  it('is given to nobody while nobody can say who may', async () => {
    const one = await volume('unknown');
    await client.call('NodeStageVolume', one.stage);
    allowed = undefined;
    expect(await client.fail('NodePublishVolume', one.publish('pod', podOf('birds')))).toMatchObject({
      code: status.UNAVAILABLE,
      details: expect.stringMatching(/the cluster does not answer/),
    });
    expect(existsSync(one.targetOf('pod'))).toBe(false);
    await endVolume(client, one);
  });

  it('is not even staged for a pod that names it in its own specification', async () => {
    const targetPath = join(kubelet, 'inline');
    mkdirSync(kubelet, { recursive: true });
    const inline = (namespace: string) => {
      const volumeContext = { dataset: 'secret', 'csi.storage.k8s.io/ephemeral': 'true' };
      const volumeCapability = mountCapability('SINGLE_NODE_WRITER');
      const more = { volumeContext: { ...podOf(namespace).volumeContext, ...volumeContext } };
      return { volumeId: 'csi-inline', targetPath, volumeCapability, ...more };
    };
    expect(await client.fail('NodePublishVolume', inline('strangers'))).toMatchObject({
      code: status.PERMISSION_DENIED,
    });
    expect([existsSync(targetPath), leftovers()]).toEqual([false, []]);
    await client.call('NodePublishVolume', inline('birds'));
    expect(await sizeAt(targetPath)).toBe(7000);
    expect(asked).toHaveLength(2);
    await client.call('NodeUnpublishVolume', { volumeId: 'csi-inline', targetPath });
    expect(leftovers()).toEqual([]);
  });
});
