import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { readVolume } from '../../controller/volumes.ts';
import { bytesOf } from '../../dataset/byte-string.ts';
import { sha256 } from '../../dataset/digest.ts';
import type { Entry } from '../../dataset/entry.ts';
import { sealSegment, unsealSegment } from '../../dataset/format/segment.ts';
import { segmentKey } from '../../dataset/keys.ts';
import { editManifest, readEntries } from '../../dataset/manifest.ts';
import { moveBranch } from '../../dataset/refs.ts';
import { readVersion, writeVersion } from '../../dataset/version.ts';
import { type CsiClient, connectCsi, mountCapability } from '../csi/client.ts';
import { digests, endVolume, makeVolume, type NodeVolume, startVolume } from '../csi/node-volume.ts';
import { createPlugin, type TestPlugin } from '../csi/plugin.ts';
import { canMount } from '../support/privilege.ts';
import { asUser, inPod, podSays } from './pod.ts';

const MIB = 2 ** 20;
const USER = 1000;

const writers = mountCapability('SINGLE_NODE_MULTI_WRITER');
const readers = mountCapability('MULTI_NODE_READER_ONLY');

/** `security.capability` that gives a program CAP_DAC_OVERRIDE, as setcap(8) writes it. */
const DAC_OVERRIDE = '0x0100000202000000000000000000000000000000';

describe.skipIf(!canMount)('a pod', () => {
  let plugin: TestPlugin;
  let client: CsiClient;
  let source: string;
  let pinned: NodeVolume;
  let mine: NodeVolume;
  let others: NodeVolume;
  /** Where pods have them. */
  const at: { pinned: string; mine: string; others: string } = { pinned: '', mine: '', others: '' };

  beforeAll(async () => {
    plugin = await createPlugin();
    source = join(plugin.directory, 'source');
    mkdirSync(join(source, 'deep'), { recursive: true });
    for (let i = 0; i < 20; i++) writeFileSync(join(source, `deep/${i}.bin`), `${i} `.repeat(500));
    copyFileSync('/usr/bin/id', join(source, 'id'));
    chmodSync(join(source, 'id'), 0o6755);
    symlinkSync('/etc/shadow', join(source, 'shadow'));
    symlinkSync('../../../../../../../../../../etc/shadow', join(source, 'deep/shadow'));
    await plugin.importDataset('shared', source);
    await plugin.start();
    client = connectCsi(plugin.socket);
    const make = (name: string, capability: object) =>
      makeVolume(client, join(plugin.directory, 'kubelet'), name, capability, {
        parameters: { dataset: 'shared' },
        ...(capability === writers && { capacityRange: { requiredBytes: 300 * MIB } }),
      });
    pinned = await make('pinned', readers);
    mine = await make('mine', writers);
    others = await make('others', writers);
    at.pinned = await startVolume(client, pinned);
    at.mine = await startVolume(client, mine);
    at.others = await startVolume(client, others);
  });

  afterAll(async () => {
    for (const one of [pinned, mine, others]) await endVolume(client, one, 'pod');
    // What was being written into the cache is closed after a moment.
    const left = () => [...plugin.leftovers(), ...plugin.records()];
    await vi.waitUntil(() => left().length === 0, 30_000).catch(() => {});
    const all = left();
    client.close();
    await plugin.close();
    expect(all).toEqual([]);
  });

  /** What the workspace's record has once it was unstaged; it is staged again afterwards. */
  async function saved(one: NodeVolume): Promise<Entry[]> {
    await client.call('NodeUnpublishVolume', one.unpublish('pod'));
    await client.call('NodeUnstageVolume', one.stage);
    const { version } = await readVolume(plugin.repository, one.volumeId);
    const { root } = await readVersion(plugin.repository, version);
    const entries: Entry[] = [];
    for await (const batch of readEntries(plugin.repository, root)) entries.push(...batch);
    await startVolume(client, one);
    return entries;
  }

  it('gets nobody else’s rights from a program of a dataset, nor from one that it writes itself', () => {
    const asPlainUser = 'setpriv --reuid=1000 --regid=1000 --clear-groups';
    // That it would work elsewhere: the pod's own file system.
    const control = `cp /data/id /scratch/id && chmod 6755 /scratch/id && ${asPlainUser} /scratch/id -u`;
    expect(podSays({ '/data': at.pinned }, control)).toBe('0');
    for (const volume of [at.pinned, at.mine]) {
      expect(podSays({ '/data': volume }, 'stat -c %a /data/id')).toBe('6755');
      expect(podSays({ '/data': volume }, `${asPlainUser} /data/id -u; ${asPlainUser} /data/id -g`)).toBe('1000\n1000');
    }
    podSays({ '/data': at.mine }, 'cp /usr/bin/id /data/own && chmod 4755 /data/own');
    expect(podSays({ '/data': at.mine }, '/data/own -u', { uid: USER })).toBe('1000');
  });

  it('gets no capabilities from a file, and a dataset keeps none', async () => {
    const give = (path: string) =>
      `cp /usr/bin/cat ${path} && chmod 755 ${path} && setfattr -n security.capability -v ${DAC_OVERRIDE} ${path}`;
    const read = (path: string) =>
      `echo secret >/tmp/secret; chmod 600 /tmp/secret; setpriv --reuid=1000 --regid=1000 --clear-groups ${path} /tmp/secret`;
    expect(podSays({}, `${give('/scratch/cat')}; ${read('/scratch/cat')}`)).toBe('secret');
    const tried = inPod({ '/data': at.mine }, `${give('/data/cat')}; ${read('/data/cat')}`);
    expect(tried).toMatchObject({ status: 1, stderr: expect.stringMatching(/Permission denied/) });
    const entries = await saved(mine);
    const kept = entries.find(({ path }) => path === 'cat');
    expect(kept).toMatchObject({ type: 'file', mode: 0o755 });
    expect(kept!.xattrs).toBeUndefined();
  });

  it('opens no device by a node that it makes, and none is saved', async () => {
    const open = (path: string) => `mknod ${path} c 1 3 && echo x >${path}`;
    expect(podSays({}, open('/scratch/null'))).toBe('');
    expect(inPod({ '/data': at.mine }, open('/data/null'))).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/Permission denied/),
    });
    expect(
      podSays({ '/data': at.mine }, 'mknod /data/disk b 7 0; head -c1 /data/disk 2>/dev/null || echo refused'),
    ).toBe('refused');
    // That is how overlayfs says that a name is gone: nobody may say it for the layer below.
    expect(inPod({ '/data': at.mine }, 'mknod /data/whiteout c 0 0').status).not.toBe(0);
    const paths = (await saved(mine)).map(({ path }) => path);
    expect(paths).not.toContain('null');
    expect(paths).not.toContain('disk');
    expect(paths).toContain('deep/0.bin');
  });

  it('cannot forge the marks of the layers with attributes, even with all capabilities', async () => {
    const before = digests(at.others);
    const mark = (name: string, value: string, path: string) =>
      inPod({ '/data': at.mine }, `setfattr -n ${name} -v ${value} ${path}`, { privileged: true });
    podSays({ '/data': at.mine }, 'mkdir /data/forged && echo one >/data/forged/file');
    expect(inPod({ '/data': at.mine }, 'setfattr -n trusted.overlay.redirect -v /deep /data/forged').status).not.toBe(
      0,
    );
    mark('trusted.overlay.redirect', '/deep', '/data/forged');
    mark('trusted.overlay.opaque', 'y', '/data/deep');
    mark('trusted.overlay.metacopy', '""', '/data/forged/file');
    mark('trusted.other', 'kept', '/data/forged/file');
    mark('user.of-the-pod', 'kept', '/data/forged/file');
    const entries = await saved(mine);
    // Mounted anew, nothing has been redirected, and nothing below is hidden.
    expect(readdirSync(join(at.mine, 'forged'))).toEqual(['file']);
    expect(readdirSync(join(at.mine, 'deep'))).toHaveLength(21);
    const file = entries.find(({ path }) => path === 'forged/file');
    expect(file).toMatchObject({ type: 'file', size: 4 });
    expect(file!.xattrs?.map(({ name }) => name)).toEqual(['user.of-the-pod']);
    expect(entries.filter(({ path }) => path.startsWith('deep/'))).toHaveLength(21);
    expect(digests(at.others)).toEqual(before);
  });

  it('follows links within its own root only, and what is saved follows none', async () => {
    for (const volume of [at.pinned, at.mine]) {
      for (const link of ['/data/shadow', '/data/deep/shadow'])
        expect(inPod({ '/data': volume }, `cat ${link}`)).toMatchObject({
          status: 1,
          stderr: expect.stringMatching(/No such file/),
        });
    }
    // A directory that becomes a link to the machine's, where a reader of the whole tree would walk into it.
    podSays({ '/data': at.mine }, 'mkdir /data/was && echo x >/data/was/x && rm -r /data/was && ln -s /etc /data/was');
    podSays({ '/data': at.mine }, 'ln -s /etc/passwd /data/passwd && ln -s . /data/circle');
    const entries = await saved(mine);
    const found = new Map(entries.map((entry) => [entry.path as string, entry]));
    expect(found.get('was')).toMatchObject({ type: 'symlink', target: '/etc' });
    expect(found.get('passwd')).toMatchObject({ type: 'symlink', target: '/etc/passwd' });
    expect(found.get('circle')).toMatchObject({ type: 'symlink', target: '.' });
    expect(entries.filter(({ path }) => path.startsWith('was/') || path.startsWith('circle/'))).toEqual([]);
  });

  it('fills its own volume and nobody else’s', () => {
    const full = inPod({ '/data': at.mine }, 'yes | head -c 400M >/data/full; stat -f -c %a /data');
    expect(full.stderr).toMatch(/No space left on device/);
    expect(Number(full.stdout)).toBeLessThan(MIB / 4096);
    const written = 'yes | head -c 40M >/data/more && sync /data/more && stat -c %s /data/more && rm /data/more';
    expect(podSays({ '/data': at.others }, written)).toBe(String(40 * MIB));
    expect(podSays({ '/data': at.others }, 'cat /data/deep/*.bin | wc -c')).toMatch(/^\d+$/);
    // Its room comes back when nobody writes its pages out any more, as a save may.
    podSays({ '/data': at.mine }, 'rm /data/full && sync -f /data/id');
  });

  it('finds neither the cache nor the runtime directory, in its own root and as a user of the machine', () => {
    expect(podSays({ '/data': at.pinned }, 'find / -xdev -name "*.erofs" -o -xdev -name objects | head -1')).toBe('');
    expect(
      podSays({ '/data': at.pinned }, `ls -d ${plugin.cache} ${plugin.runtime} 2>&1 | grep -c "No such file"`),
    ).toBe('2');
    // Who reads the machine's directories through a hostPath, say.
    chmodSync(plugin.directory, 0o755);
    for (const directory of [plugin.cache, plugin.runtime]) {
      expect(statSync(directory).mode & 0o777).toBe(0o700);
      expect(asUser(USER, `ls ${directory}`)).toMatchObject({ stderr: expect.stringMatching(/Permission denied/) });
    }
    const [fan] = readdirSync(join(plugin.cache, 'objects')).filter(
      (name) => readdirSync(join(plugin.cache, 'objects', name)).length > 0,
    );
    const [object] = readdirSync(join(plugin.cache, 'objects', fan!));
    const path = join(plugin.cache, 'objects', fan!, object!);
    expect(asUser(USER, `cat ${path}`)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/Permission denied/),
    });
    // The same user reads through the volume all that the volume shows.
    expect(podSays({ '/data': at.pinned }, 'cat /data/deep/*.bin | sha256sum', { uid: USER })).toMatch(/^[0-9a-f]{64}/);
  });

  it('shares objects with its neighbours, and nothing that it does to them', async () => {
    const names = Array.from({ length: 20 }, (_, i) => `deep/${i}.bin`);
    const original = digests(source);
    const read = 'cat /data/deep/*.bin >/dev/null';
    for (const volume of [at.pinned, at.mine, at.others])
      inPod({ '/data': volume }, read.replace('/dev/null', '/tmp/x'));
    const objects = () =>
      readdirSync(join(plugin.cache, 'objects'), { recursive: true, withFileTypes: true }).filter((one) =>
        one.isFile(),
      );
    // One for three volumes.
    const wanted = new Set(names.map((name) => original[name]));
    expect(objects().filter(({ name }) => wanted.has(name as never))).toHaveLength(wanted.size);

    podSays(
      { '/data': at.mine },
      [
        'cd /data/deep',
        'echo mine >>0.bin',
        'truncate -s 0 1.bin',
        'rm 2.bin',
        'mv 3.bin moved.bin',
        'chmod 600 4.bin && echo mine >4.bin',
        'ln 5.bin linked.bin && echo mine >>linked.bin',
        'chown 1000:1000 6.bin && truncate -s 3 6.bin',
        'rm -r /data/deep/7.bin && mkdir /data/deep/7.bin',
      ].join(' && '),
    );
    expect(inPod({ '/data': at.pinned }, 'echo x >>/data/deep/0.bin').stderr).toMatch(/Read-only file system/);
    for (const volume of [at.pinned, at.others]) {
      const shown = digests(volume);
      expect(names.map((name) => shown[name])).toEqual(names.map((name) => original[name]));
    }
    for (const { name, parentPath } of objects()) expect(sha256(readFileSync(join(parentPath, name)))).toBe(name);
    expect(statSync(join(at.others, 'deep/6.bin')).uid).toBe(statSync(join(source, 'deep/6.bin')).uid);
  });

  it('has no volume of its own by the name of a folder, nor by that of another volume', async () => {
    const inline = (volumeId: string) => ({
      volumeId,
      targetPath: join(plugin.directory, 'inline'),
      volumeCapability: mountCapability('SINGLE_NODE_WRITER'),
      volumeContext: { dataset: 'shared', writable: 'true', 'csi.storage.k8s.io/ephemeral': 'true' },
    });
    for (const id of ['..', '.', '../workspaces', 'a/b', '%2e%2e'])
      expect(await client.fail('NodePublishVolume', inline(id)), id).toMatchObject({ code: status.INVALID_ARGUMENT });
    for (const { volumeId } of [mine, pinned])
      expect(await client.fail('NodePublishVolume', inline(volumeId))).toMatchObject({ code: status.ALREADY_EXISTS });
    // Neither while it is staged, nor when only its changes are there.
    await client.call('NodeUnpublishVolume', mine.unpublish('pod'));
    await client.call('NodeUnstageVolume', mine.stage);
    expect(await client.fail('NodePublishVolume', inline(mine.volumeId))).toMatchObject({
      code: status.ALREADY_EXISTS,
    });
    at.mine = await startVolume(client, mine);
    expect(readdirSync(at.mine)).toContain('id');
  });

  it('has no volume of a manifest whose paths lead out of it', async () => {
    const { repository } = plugin;
    const about = { mode: 0o755, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanos: 0 };
    const bytes = Buffer.from('* * * * * root evil');
    const entries: Entry[] = [
      { ...about, type: 'directory', path: bytesOf('') },
      { ...about, type: 'directory', path: bytesOf('xx') },
      { ...about, type: 'file', path: bytesOf('xx/evil'), size: bytes.length, content: { kind: 'inline', bytes } },
    ];
    const changes = async function* () {
      yield entries.map((entry) => ({ kind: 'put' as const, entry }));
    };
    const { root } = await editManifest(repository, undefined, changes(), { leaf: async () => {} });
    const object: Buffer[] = [];
    for await (const block of (await repository.bucket.get(segmentKey(root))).body) object.push(Buffer.from(block));
    const raw = unsealSegment(root, Buffer.concat(object));
    const at = raw.indexOf('xx');
    expect(at).toBeGreaterThan(0);
    raw.write('..', at);
    const forged = sealSegment(raw);
    await repository.bucket.put(segmentKey(forged.digest), forged.object);
    const fields = { parents: [], author: 'a test', message: '', meta: {}, entries: 3, bytes: bytes.length };
    const { id } = await writeVersion(repository, { ...fields, root: forged.digest });
    await moveBranch(repository, 'evil', 'main', { expect: 'absent', version: id });
    for (const capability of [readers, writers]) {
      const name = `evil-${capability === readers}`;
      const one = await makeVolume(client, join(plugin.directory, 'kubelet'), name, capability, {
        parameters: { dataset: 'evil' },
      });
      expect(await client.fail('NodeStageVolume', one.stage)).toMatchObject({
        code: status.DATA_LOSS,
        details: expect.stringMatching(/has a path that has the component '\.\.'/),
      });
      await endVolume(client, one);
    }
  });
});
