import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createAsks } from '../../controller/asks.ts';
import { createNodeObserver } from '../../controller/nodes.ts';
import type { CallRecord } from '../../csi/call.ts';
import { createController } from '../../csi/controller.ts';
import { createGroupController } from '../../csi/group-controller.ts';
import { createIdentity } from '../../csi/identity.ts';
import { createKeyedLock } from '../../csi/lock.ts';
import { type CsiServer, startCsiServer } from '../../csi/server.ts';
import { importDirectory } from '../../dataset/import.ts';
import { initRepository, type Repository } from '../../dataset/repository.ts';
import { type CsiClient, connectCsi, mountCapability } from './client.ts';

let directory: string;
let repository: Repository;
let server: CsiServer;
let client: CsiClient;
let first: string;
const records: CallRecord[] = [];

const writer = mountCapability('SINGLE_NODE_WRITER');
const readers = mountCapability('MULTI_NODE_READER_ONLY');

/** A request for a workspace of `birds`, with what the test changes. */
function create(name: string, changes: object = {}): object {
  return { name, volumeCapabilities: [writer], parameters: { dataset: 'birds' }, ...changes };
}

/** The file of a volume's record. */
function recordOf({ volumeId }: { readonly volumeId: string }): string {
  return join(directory, 'repository/volumes', volumeId.slice(0, 'vol-'.length + 32));
}

async function importBirds(files: Record<string, string>): Promise<string> {
  const source = mkdtempSync(join(directory, 'birds-'));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(source, name), text);
  const result = await importDirectory({
    repository,
    source,
    dataset: 'birds',
    branch: 'main',
    message: 'birds',
    author: 'a test',
  });
  return result.version.id;
}

/** What a controller of its own is made of. */
const parts = () => ({
  repository,
  lock: createKeyedLock(),
  nodes: createNodeObserver({ repository }),
  asks: createAsks({ repository }),
});

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'larder-csi-'));
  process.env.LARDER_STATE = join(directory, 'state');
  mkdirSync(join(directory, 'repository'));
  repository = await initRepository(join(directory, 'repository'));
  first = await importBirds({ 'robin.txt': 'r'.repeat(1000), 'wren.txt': 'w'.repeat(2000) });
  server = await startCsiServer({
    endpoint: `unix://${directory}/csi.sock`,
    services: {
      Identity: createIdentity({ version: '1.2.3', controller: true }),
      Controller: createController(parts()),
      GroupController: createGroupController(parts()),
    },
    log: (record) => records.push(record),
  });
  client = connectCsi(server.path);
});

afterAll(async () => {
  client.close();
  await server.close();
  rmSync(directory, { recursive: true });
});

describe('the plugin', () => {
  it('says who it is and that it is ready', async () => {
    expect(await client.call('GetPluginInfo')).toMatchObject({ name: 'csi.larder.dev', vendorVersion: '1.2.3' });
    expect(await client.call('Probe')).toEqual({ ready: { value: true } });
    const { capabilities } = await client.call('GetPluginCapabilities');
    expect(capabilities).toMatchObject([
      { service: { type: 'CONTROLLER_SERVICE' } },
      { service: { type: 'GROUP_CONTROLLER_SERVICE' } },
      { volumeExpansion: { type: 'ONLINE' } },
    ]);
  });

  it('listens on a socket that only its owner may use', () => {
    expect(statSync(server.path).mode & 0o777).toBe(0o600);
  });

  it('answers a call that it does not serve with UNIMPLEMENTED', async () => {
    expect(await client.fail('ControllerPublishVolume')).toMatchObject({ code: status.UNIMPLEMENTED });
    expect(await client.fail('NodeGetInfo')).toMatchObject({ code: status.UNIMPLEMENTED });
  });
});

describe('a volume', () => {
  it('keeps the version that its dataset had when it was created, also when it is created again', async () => {
    const { volume } = await client.call('CreateVolume', create('settled'));
    expect(volume.volumeContext).toEqual({ dataset: 'birds', version: first, kind: 'workspace' });
    const second = await importBirds({ 'robin.txt': 'R'.repeat(1000) });
    expect(second).not.toBe(first);
    expect((await client.call('CreateVolume', create('settled'))).volume).toEqual(volume);
    const later = await client.call('CreateVolume', create('later'));
    expect(later.volume.volumeContext.version).toBe(second);
    await client.call('DeleteVolume', { volumeId: later.volume.volumeId });
    await client.call('DeleteVolume', { volumeId: volume.volumeId });
  });

  it('is a record in the repository while it is there', async () => {
    const { volume } = await client.call('CreateVolume', create('recorded', { parameters: { dataset: 'birds@main' } }));
    const record = JSON.parse(readFileSync(recordOf(volume), 'utf8'));
    expect(record).toMatchObject({ format: 1, name: 'recorded', kind: 'workspace', dataset: 'birds', ref: 'main' });
    await client.call('DeleteVolume', { volumeId: volume.volumeId });
    expect(existsSync(recordOf(volume))).toBe(false);
  });

  it('of many readers is pinned and as large as its version', async () => {
    const { volume } = await client.call(
      'CreateVolume',
      create('pinned', {
        volumeCapabilities: [readers],
        parameters: { dataset: 'birds', version: first.slice(0, 12) },
      }),
    );
    expect(volume).toMatchObject({ capacityBytes: '3000', volumeContext: { kind: 'pinned', version: first } });
    await client.call('DeleteVolume', { volumeId: volume.volumeId });
  });

  it('of one writer is a workspace of the size that was asked for', async () => {
    const { volume } = await client.call(
      'CreateVolume',
      create('sized', { capacityRange: { requiredBytes: '5000000001', limitBytes: '5000000001' } }),
    );
    expect(volume.capacityBytes).toBe('5000000001');
    const other = create('sized', { capacityRange: { requiredBytes: '5000000002' } });
    expect(await client.fail('CreateVolume', other)).toMatchObject({
      code: status.ALREADY_EXISTS,
      details: expect.stringMatching(/5000000001 bytes.*choose another name/),
    });
    await client.call('DeleteVolume', { volumeId: volume.volumeId });
  });

  it('is not created twice with other properties', async () => {
    const { volume } = await client.call('CreateVolume', create('twice'));
    for (const changes of [{ volumeCapabilities: [readers] }, { parameters: { dataset: 'birds@main' } }])
      expect(await client.fail('CreateVolume', create('twice', changes))).toMatchObject({
        code: status.ALREADY_EXISTS,
      });
    await client.call('DeleteVolume', { volumeId: volume.volumeId });
  });

  it('is recorded once by calls that race, and nobody waits in a queue', async () => {
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, () => client.call('CreateVolume', create('raced'))),
    );
    const ids = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value.volume.volumeId] : []));
    const codes = results.flatMap((result) => (result.status === 'rejected' ? [result.reason.code] : []));
    expect(new Set(ids).size).toBe(1);
    expect(new Set(codes)).toEqual(new Set(codes.length === 0 ? [] : [status.ABORTED]));
    await client.call('DeleteVolume', { volumeId: ids[0] });
  });

  it('is recorded once by two controllers that race', async () => {
    const other = createController(parts());
    const { signal } = new AbortController();
    const request = {
      name: 'two controllers',
      capacityRange: null,
      volumeCapabilities: [{ accessType: 'mount', accessMode: { mode: 'SINGLE_NODE_WRITER' } }],
      parameters: { dataset: 'birds' },
      volumeContentSource: null,
      mutableParameters: {},
    } as const;
    const [one, two] = await Promise.all([
      createController(parts()).CreateVolume(request, signal),
      other.CreateVolume(request, signal),
    ]);
    expect(one.volume).toEqual(two.volume);
    await other.DeleteVolume({ volumeId: one.volume.volumeId }, signal);
  });

  it('is deleted as often as anybody likes', async () => {
    const { volume } = await client.call('CreateVolume', create('gone'));
    await client.call('DeleteVolume', { volumeId: volume.volumeId });
    await client.call('DeleteVolume', { volumeId: volume.volumeId });
    await client.call('DeleteVolume', { volumeId: 'of another plugin/../..' });
  });

  it('by the name of a deleted one is another volume, which late calls for the old one do not reach', async () => {
    const old = await client.call('CreateVolume', create('again'));
    await client.call('DeleteVolume', { volumeId: old.volume.volumeId });
    const { volume } = await client.call('CreateVolume', create('again'));
    expect(volume.volumeId).not.toBe(old.volume.volumeId);
    await client.call('DeleteVolume', { volumeId: old.volume.volumeId });
    expect((await client.call('CreateVolume', create('again'))).volume).toEqual(volume);
    await client.call('DeleteVolume', { volumeId: volume.volumeId });
  });

  it.each([
    ['no name', { name: '' }, /name is missing/],
    ['a name beyond 128 bytes', { name: '\u{e9}'.repeat(65) }, /name has 130 bytes/],
    ['no capability', { volumeCapabilities: [] }, /volume_capabilities/],
    ['many writers', { volumeCapabilities: [mountCapability('MULTI_NODE_MULTI_WRITER')] }, /ReadWriteMany/],
    ['a block device', { volumeCapabilities: [{ block: {}, accessMode: { mode: 1 } }] }, /Filesystem/],
    ['no dataset', { parameters: {} }, /"dataset": it is missing/],
    ['an unknown parameter', { parameters: { dataset: 'birds', branch: 'main' } }, /"branch".*dataset.*version/],
    ['a mutable parameter that cannot change', { mutableParameters: { uid: '5' } }, /"uid".*settled/],
    ['a source that says nothing', { volumeContentSource: {} }, /volume_content_source says nothing/],
    ['a snapshot without an id', { volumeContentSource: { snapshot: {} } }, /snapshot_id is missing/],
    [
      'a size beyond 2^53',
      { capacityRange: { requiredBytes: '9007199254740992' } },
      /required_bytes is 9007199254740992/,
    ],
    ['a size below zero', { capacityRange: { limitBytes: -5 } }, /limit_bytes is -5/],
  ] as [string, object, RegExp][])('is refused with %s', async (_, changes, message) => {
    expect(await client.fail('CreateVolume', create('refused', changes))).toEqual({
      code: status.INVALID_ARGUMENT,
      details: expect.stringMatching(message),
    });
  });

  it('is refused for a dataset or a reference that is not there', async () => {
    const missing = create('missing', { parameters: { dataset: 'bird' } });
    expect(await client.fail('CreateVolume', missing)).toMatchObject({
      code: status.NOT_FOUND,
      details: expect.stringContaining('birds'),
    });
    const tag = create('missing', { parameters: { dataset: 'birds@v9' } });
    expect(await client.fail('CreateVolume', tag)).toMatchObject({ code: status.NOT_FOUND });
  });

  it('is refused for a size that it cannot have', async () => {
    const small = create('small', { capacityRange: { limitBytes: 1_000_000 } });
    expect(await client.fail('CreateVolume', small)).toMatchObject({ code: status.OUT_OF_RANGE });
    const crossed = create('crossed', { capacityRange: { requiredBytes: 2e9, limitBytes: 1e9 } });
    expect(await client.fail('CreateVolume', crossed)).toMatchObject({ code: status.OUT_OF_RANGE });
  });

  it('whose record is damaged is reported, not guessed at', async () => {
    const { volume } = await client.call('CreateVolume', create('damaged'));
    const sound = readFileSync(recordOf(volume));
    writeFileSync(recordOf(volume), sound.subarray(0, 40));
    expect(await client.fail('CreateVolume', create('damaged'))).toMatchObject({
      code: status.DATA_LOSS,
      details: expect.stringContaining(volume.volumeId.slice(0, 36)),
    });
    writeFileSync(recordOf(volume), sound);
    await client.call('DeleteVolume', { volumeId: volume.volumeId });
  });
});

describe('the list of volumes', () => {
  const ids: string[] = [];
  beforeAll(async () => {
    for (let i = 0; i < 7; i++) ids.push((await client.call('CreateVolume', create(`listed ${i}`))).volume.volumeId);
    ids.sort();
  });
  afterAll(async () => {
    for (const volumeId of ids) await client.call('DeleteVolume', { volumeId });
  });

  const page = async (startingToken: string, maxEntries: number) => {
    const { entries, nextToken } = await client.call('ListVolumes', { startingToken, maxEntries });
    return { ids: entries.map(({ volume }: { volume: { volumeId: string } }) => volume.volumeId), nextToken };
  };

  it('has every volume once, in pages of any size', async () => {
    for (const size of [0, 1, 3, 7, 100]) {
      const seen: string[] = [];
      let token = '';
      do {
        const next = await page(token, size);
        if (size > 0) expect(next.ids.length).toBeLessThanOrEqual(size);
        seen.push(...next.ids);
        token = next.nextToken;
      } while (token !== '');
      expect(seen).toEqual(ids);
    }
  });

  it('goes on after a page whose last volume was deleted', async () => {
    const { nextToken } = await page('', 3);
    await client.call('DeleteVolume', { volumeId: ids[2] });
    expect((await page(nextToken, 0)).ids).toEqual(ids.slice(3));
    ids.splice(2, 1);
  });

  it('cannot be continued from where no page ended', async () => {
    expect(await client.fail('ListVolumes', { startingToken: 'invalid-token' })).toMatchObject({
      code: status.ABORTED,
    });
    expect(await client.fail('ListVolumes', { maxEntries: -1 })).toMatchObject({ code: status.INVALID_ARGUMENT });
  });
});

describe('the capabilities of a volume', () => {
  let volumeId: string;
  let context: Record<string, string>;
  beforeAll(async () => {
    const { volume } = await client.call('CreateVolume', create('capable'));
    volumeId = volume.volumeId;
    context = volume.volumeContext;
  });
  afterAll(() => client.call('DeleteVolume', { volumeId }));

  const validate = (changes: object) =>
    client.call('ValidateVolumeCapabilities', { volumeId, volumeCapabilities: [writer], ...changes });

  it('are confirmed where it has them', async () => {
    // Of keys that it does not have, whatever they are called, nothing is asked.
    const volumeContext = { ...context, valueOf: 'x' };
    const { confirmed } = await validate({ volumeContext, parameters: { dataset: 'birds' } });
    expect(confirmed).toMatchObject({ volumeContext, parameters: { dataset: 'birds' } });
    expect(confirmed.volumeCapabilities).toMatchObject([{ accessMode: { mode: 'SINGLE_NODE_WRITER' } }]);
  });

  it.each([
    [{ volumeCapabilities: [writer, readers] }, /no access mode MULTI_NODE_READER_ONLY/],
    [{ parameters: { dataset: 'fish' } }, /made from birds, not fish/],
    [{ parameters: { colour: 'red' } }, /"colour"/],
    [{ volumeContext: { version: 'abc' } }, /version is [0-9a-f]{64}, not abc/],
  ])('are not confirmed for %j, with the reason', async (changes, message) => {
    const answer = await validate(changes);
    expect(answer.confirmed).toBeNull();
    expect(answer.message).toMatch(message);
  });

  it('cannot be asked of nothing', async () => {
    expect(await client.fail('ValidateVolumeCapabilities')).toMatchObject({ code: status.INVALID_ARGUMENT });
    expect(await client.fail('ValidateVolumeCapabilities', { volumeId })).toMatchObject({
      code: status.INVALID_ARGUMENT,
    });
    const unknown = { volumeId: 'fake', volumeCapabilities: [writer] };
    expect(await client.fail('ValidateVolumeCapabilities', unknown)).toMatchObject({ code: status.NOT_FOUND });
  });
});

describe('the log', () => {
  it('has a record for each call, without what is secret', async () => {
    records.length = 0;
    const { volume } = await client.call('CreateVolume', create('logged', { secrets: { token: 'hunter2' } }));
    await client.fail('CreateVolume', create('logged', { parameters: {}, secrets: { token: 'hunter2' } }));
    await client.call('DeleteVolume', { volumeId: volume.volumeId, secrets: { token: 'hunter2' } });
    expect(records).toMatchObject([
      { method: 'CreateVolume', volume: 'logged', code: 'OK' },
      { method: 'CreateVolume', volume: 'logged', code: 'INVALID_ARGUMENT' },
      { method: 'DeleteVolume', volume: volume.volumeId, code: 'OK' },
    ]);
    expect(JSON.stringify(records)).not.toContain('hunter2');
  });
});
