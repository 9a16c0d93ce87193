import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sha256 } from '../../dataset/digest.ts';
import { canMount } from '../support/privilege.ts';
import { type CsiClient, connectCsi, mountCapability } from './client.ts';
import { endVolume, makeVolume, type NodeVolume, startVolume } from './node-volume.ts';
import { createPlugin, type TestPlugin } from './plugin.ts';

const readers = mountCapability('MULTI_NODE_READER_ONLY');
const MB = 1_000_000;

interface Read {
  readonly ok: boolean;
  readonly digest: string;
  readonly stderr: string;
  readonly seconds: number;
}

/** As a pod reads: a process of its own, one file after the other. */
function read(...files: readonly string[]): Promise<Read> {
  const began = performance.now();
  const child = spawn('cat', files, { stdio: ['ignore', 'pipe', 'pipe'] });
  const out: Buffer[] = [];
  let stderr = '';
  child.stdout.on('data', (block) => out.push(block));
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      const seconds = (performance.now() - began) / 1000;
      resolve({ ok: code === 0, digest: sha256(Buffer.concat(out)), stderr, seconds });
    });
  });
}

/** Writes a file in blocks that differ, again and again the same ones until there is a file `go` beside it, and then more than there was room for. */
const WRITER = `
cd "$1"
block() { yes "0000$1" | head -c 1048576; }
rounds=0
for i in $(seq 100 219); do block $i >>file || exit 1; done
until [ -e go ]; do block 100 | dd of=file conv=notrunc 2>/dev/null || exit 1; rounds=$((rounds + 1)); echo $rounds >rounds; done
for i in $(seq 220 419); do block $i >>file || exit 1; done
sync file
`;

describe.skipIf(!canMount)('what a volume is allowed', () => {
  let plugin: TestPlugin;
  let client: CsiClient;

  const sourceOf = (dataset: string) => join(plugin.directory, 'sources', dataset);
  const dataset = async (name: string, files: number, size: number) => {
    mkdirSync(sourceOf(name), { recursive: true });
    for (let i = 0; i < files; i++) writeFileSync(join(sourceOf(name), `${i}`), randomBytes(size));
    await plugin.importDataset(name, sourceOf(name));
  };
  const volume = (name: string, parameters: object): Promise<NodeVolume> =>
    makeVolume(client, join(plugin.directory, 'kubelet'), name, readers, { parameters });
  const filesOf = (directory: string, from: number, to: number) =>
    Array.from({ length: to - from }, (_, at) => join(directory, `${from + at}`));
  const digestOf = (files: readonly string[]) => sha256(Buffer.concat(files.map((file) => readFileSync(file))));

  beforeAll(async () => {
    plugin = await createPlugin();
    await dataset('hurried', 3, 50_000);
    await dataset('patient', 3, 50_000);
    await dataset('narrow', 12, MB / 2);
    await dataset('widened', 12, MB / 2);
    await plugin.start();
    client = connectCsi(plugin.socket);
  });

  afterAll(async () => {
    const left = [...plugin.mounts(), ...plugin.records()];
    client.close();
    await plugin.close();
    expect(left).toEqual([]);
  });

  it('is to wait so long for bytes: who is in a hurry has an error, who is not has the file when the bucket is back', async () => {
    const hurried = await volume('hurried', { dataset: 'hurried', deadline: '2s' });
    const patient = await volume('patient', { dataset: 'patient', deadline: '5m' });
    const [soon, late] = [await startVolume(client, hurried), await startVolume(client, patient)];
    const packs = join(plugin.repository.location, 'packs');
    renameSync(packs, `${packs}-away`);
    const waiting = read(join(late, '0'));
    const given = await read(join(soon, '0'));
    expect(given).toMatchObject({ ok: false, stderr: expect.stringMatching(/Input\/output error/) });
    expect(given.seconds).toBeGreaterThan(0.5);
    // The node's own deadline is a minute.
    expect(given.seconds).toBeLessThan(30);
    renameSync(`${packs}-away`, packs);
    expect(await waiting).toMatchObject({ ok: true, digest: digestOf([join(sourceOf('patient'), '0')]) });
    expect(await read(join(soon, '0'))).toMatchObject({ ok: true });
    for (const one of [hurried, patient]) await endVolume(client, one, 'pod');
  });

  it('is to be fetched so fast, and once it is cached to be read as fast as the disk is', async () => {
    const narrow = await volume('narrow', { dataset: 'narrow', bandwidth: '2M' });
    const pod = await startVolume(client, narrow);
    const files = filesOf(pod, 0, 12);
    const first = await read(...files);
    expect(first).toMatchObject({ ok: true, digest: digestOf(filesOf(sourceOf('narrow'), 0, 12)) });
    // Six megabytes, of which half of one comes at once.
    expect(first.seconds).toBeGreaterThan(2);
    const again = await read(...files);
    expect(again).toMatchObject({ ok: true, digest: first.digest });
    expect(again.seconds).toBeLessThan(first.seconds / 2);
    await endVolume(client, narrow, 'pod');
  });

  it('grows under a writer, who meets neither an error nor the old end', async () => {
    const writers = mountCapability('SINGLE_NODE_SINGLE_WRITER');
    const one = await makeVolume(client, join(plugin.directory, 'kubelet'), 'grown', writers, {
      parameters: { dataset: 'hurried', autosave: 'off' },
      capacityRange: { requiredBytes: 300 * 2 ** 20 },
    });
    const pod = await startVolume(client, one);
    const writer = spawn('sh', ['-c', WRITER, 'writer', pod], { stdio: 'inherit' });
    const ended = new Promise((resolve) => writer.on('close', resolve));
    const roundsOf = () => (existsSync(join(pod, 'rounds')) ? Number(readFileSync(join(pod, 'rounds'), 'utf8')) : 0);
    await expect.poll(roundsOf, { timeout: 60_000 }).toBeGreaterThan(0);
    for (const mebibytes of [400, 500, 1000]) {
      const before = roundsOf();
      const expansion = { volumeId: one.volumeId, capacityRange: { requiredBytes: mebibytes * 2 ** 20 } };
      await client.call('ControllerExpandVolume', expansion);
      await client.call('NodeExpandVolume', { ...expansion, volumePath: pod });
      await expect.poll(roundsOf).toBeGreaterThan(before);
    }
    writeFileSync(join(pod, 'go'), '');
    expect(await ended).toBe(0);
    const file = readFileSync(join(pod, 'file'));
    expect(file.length).toBe(320 * 2 ** 20);
    for (let at = 0; at < 320; at++) {
      const block = Buffer.alloc(2 ** 20, `${String(at + 100).padStart(7, '0')}\n`);
      expect(file.subarray(at * 2 ** 20, (at + 1) * 2 ** 20).equals(block), `block ${at}`).toBe(true);
    }
    await endVolume(client, one, 'pod');
  });

  it('changes within half a minute of ControllerModifyVolume, while a pod reads', async () => {
    const widened = await volume('widened', { dataset: 'widened', bandwidth: '200K' });
    const pod = await startVolume(client, widened);
    const reading = read(...filesOf(pod, 0, 12));
    const began = performance.now();
    await client.call('ControllerModifyVolume', {
      volumeId: widened.volumeId,
      mutableParameters: { bandwidth: 'off', deadline: '45s' },
    });
    await expect.poll(() => plugin.log(), { timeout: 60_000, interval: 100 }).toMatch(/has other settings now/);
    const taken = (performance.now() - began) / 1000;
    expect(plugin.log()).toMatch(/has other settings now: deadline 45000, bandwidth as by default/);
    expect(taken).toBeLessThan(30);
    const done = await reading;
    expect(done).toMatchObject({ ok: true, digest: digestOf(filesOf(sourceOf('widened'), 0, 12)) });
    // At the old speed it would have been half a minute.
    expect(done.seconds).toBeLessThan(taken + 10);
    await endVolume(client, widened, 'pod');
  });
});
