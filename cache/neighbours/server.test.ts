import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { type RequestOptions, request } from 'node:https';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Digest } from '../../dataset/digest.ts';
import { InvalidError } from '../../dataset/errors.ts';
import { locationsKey, packKey } from '../../dataset/keys.ts';
import { type Authority, makeAuthority } from '../../test/support/certificates.ts';
import { createClusterWorld, read } from '../../test/support/neighbours.ts';
import type { IdentityFiles } from './identity.ts';
import { CERTIFICATE_NAME } from './wire.ts';

const world = createClusterWorld();

describe('the server', () => {
  it('answers what is no request of a neighbour with what is wrong about it, and goes on', async () => {
    await using sharing = await world.cluster(1);
    const [node] = sharing.nodes;
    const { port } = node!.neighbours.address!;
    const { id } = world.repository;
    const pack = world.version.packs[0]!;
    const size = (await world.packOf(pack)).length;
    const path = `/v1/${id}/${packKey(pack)}`;
    const locations = `/v1/${id}/${locationsKey(world.version.staged.map.segments[0]!)}`;
    const missing = `/v1/${id}/packs/ab/${'ab'.repeat(32)}`;
    const ask = (asked: string, headers: Record<string, string> = {}, method = 'GET') =>
      statusOf({ port, path: asked, headers, method, ...pemOf(world.identity) });
    expect(await ask(path)).toBe(200);
    expect(await ask(path, { range: 'bytes=0-9' })).toBe(206);
    expect(await ask('/')).toBe(400);
    expect(await ask(`/v1/${id}/repository.json`)).toBe(400);
    expect(await ask(`/v1/${id}/../${id}/${packKey(pack)}`)).toBe(400);
    expect(await ask(path, { range: 'bytes=9-0' })).toBe(400);
    expect(await ask(path, { range: 'bytes=-9' })).toBe(400);
    expect(await ask(path, { 'if-match': '*' })).toBe(400);
    expect(await ask(path, {}, 'POST')).toBe(405);
    expect(await ask('/v1')).toBe(204);
    expect(await ask(`/v1/${id}`, {}, 'POST')).toBe(204);
    expect(await ask(`/v1/${id}`)).toBe(400);
    expect(await ask(`/v1/${'0'.repeat(36)}/${packKey(pack)}`)).toBe(404);
    expect(await ask(path, { 'if-match': '"other"' })).toBe(412);
    expect(await ask(path, { range: `bytes=0-${size}` })).toBe(416);
    expect(await ask(locations, { range: 'bytes=0-9' })).toBe(416);
    expect(await ask(missing)).toBe(502);
    expect(await statusOf({ port, path, ...pemOf(world.authority.issue(['other'])) })).toBe(403);
    expect(await ask(path)).toBe(200);
  });

  it('does not serve more at a time than it may, and says so', async () => {
    await using sharing = await world.cluster(1, { identity: 'plain' });
    const [node] = sharing.nodes;
    const gate = Promise.withResolvers<void>();
    node!.origin.before = () => gate.promise;
    const path = `/v1/${world.repository.id}/${packKey(world.version.packs[0]!)}`;
    let refused = 0;
    const statuses = await Promise.all(
      // 64 are answered, 256 wait.
      Array.from({ length: 330 }, async () => {
        const answer = await fetch(`http://${node!.name}${path}`, { headers: { range: 'bytes=0-9' } });
        if (answer.status === 503) refused += 1;
        if (refused === 10) gate.resolve();
        await answer.arrayBuffer();
        return answer.status;
      }),
    );
    expect(statuses.filter((status) => status === 206)).toHaveLength(320);
    expect(node!.neighbours.stats().refused).toBe(10);
    expect(node!.origin.gets).toBe(1);
  });
});

describe('certificates', () => {
  it('of another authority are refused on both sides', async () => {
    await using sharing = await world.cluster(1);
    const stranger = await sharing.add({ identity: makeAuthority(world.top, 'stranger').issue() });
    await sharing.listed(sharing.nodes.map(({ name }) => name));
    for (const pack of world.version.packs)
      for (const { bucket } of sharing.nodes)
        expect((await read(bucket, packKey(pack))).equals(await world.packOf(pack))).toBe(true);
    const [first] = sharing.nodes;
    expect(first!.neighbours.stats()).toMatchObject({ served: 0, received: 0, passedOver: [stranger.name] });
    expect(stranger.neighbours.stats()).toMatchObject({ served: 0, received: 0, passedOver: [first!.name] });
  });

  it('of the same authority for something else are refused on both sides', async () => {
    await using sharing = await world.cluster(1);
    const other = await sharing.add({ identity: world.authority.issue(['some-web-server']) });
    await sharing.listed(sharing.nodes.map(({ name }) => name));
    for (const pack of world.version.packs) for (const { bucket } of sharing.nodes) await read(bucket, packKey(pack));
    const [first] = sharing.nodes;
    expect(first!.neighbours.stats()).toMatchObject({ served: 0, received: 0, passedOver: [other.name] });
    expect(other.neighbours.stats()).toMatchObject({ served: 0, received: 0, passedOver: [first!.name] });
  });

  it('are needed: without one nothing is answered', async () => {
    await using sharing = await world.cluster(1);
    const { port } = sharing.nodes[0]!.neighbours.address!;
    const outcome = await new Promise<string>((resolve) => {
      const asking = request({ host: '127.0.0.1', port, path: '/', rejectUnauthorized: false }, ({ statusCode }) =>
        resolve(`status ${statusCode}`),
      );
      asking.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
      asking.end();
    });
    expect(outcome).toMatch(/ECONNRESET|ERR_SSL|EPIPE/);
  });

  it('may be replaced while nodes run, by those of a new authority', async () => {
    const files = {
      certificate: join(world.top, 'own.pem'),
      key: join(world.top, 'own.key'),
      authority: join(world.top, 'own-ca.pem'),
    };
    const install = (from: Authority) => {
      const issued = from.issue();
      for (const kind of ['certificate', 'key', 'authority'] as const) copyFileSync(issued[kind], files[kind]);
    };
    install(world.authority);
    await using sharing = await world.cluster(2, { identity: files });
    const [first, second] = world.version.packs as [Digest, Digest];
    await read(sharing.others(first)[0]!.bucket, packKey(first));
    install(makeAuthority(world.top, 'successor'));
    for (const { neighbours } of sharing.nodes) await neighbours.refresh();
    const reader = sharing.others(second)[0]!;
    const before = reader.neighbours.stats().received;
    await read(reader.bucket, packKey(second));
    expect(reader.neighbours.stats().received - before).toBe((await world.packOf(second)).length);
    // A half-written one changes nothing.
    writeFileSync(files.key, 'no key');
    for (const { neighbours } of sharing.nodes) await neighbours.refresh();
    expect(reader.warnings.join()).toMatch(/stays as it was/);
    await read(reader.bucket, packKey(second));
    expect(reader.neighbours.stats().passedOver).toEqual([]);
  });

  it('of two authorities serve together while one takes the other’s place', async () => {
    const successor = makeAuthority(world.top, 'next');
    const both = join(world.top, 'both.pem');
    writeFileSync(
      both,
      readFileSync(world.authority.certificate, 'utf8') + readFileSync(successor.certificate, 'utf8'),
    );
    await using sharing = await world.cluster(1, { identity: { ...world.identity, authority: both } });
    await sharing.add({ identity: { ...successor.issue(), authority: both } });
    await sharing.listed(sharing.nodes.map(({ name }) => name));
    for (const pack of world.version.packs) for (const { bucket } of sharing.nodes) await read(bucket, packKey(pack));
    for (const { neighbours } of sharing.nodes) {
      expect(neighbours.stats().passedOver).toEqual([]);
      expect(neighbours.stats().received).toBeGreaterThan(0);
    }
  });

  it('that are none are told when the node starts', async () => {
    const wrong = { ...world.authority.issue(), key: world.authority.certificate };
    await expect(world.cluster(1, { identity: wrong })).rejects.toThrow(InvalidError);
    const missing = { ...world.authority.issue(), authority: join(world.top, 'not-there.pem') };
    await expect(world.cluster(1, { identity: missing })).rejects.toThrow(/not-there\.pem cannot be read/);
  });
});

function pemOf({ certificate, key, authority: from }: IdentityFiles) {
  return { cert: readFileSync(certificate), key: readFileSync(key), ca: readFileSync(from) };
}

/** Sends one request, and reads the answer to its end. */
function statusOf(options: RequestOptions): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const asking = request({ host: '127.0.0.1', servername: CERTIFICATE_NAME, ...options }, (answer) => {
      answer.on('end', () => resolve(answer.statusCode)).on('error', reject);
      answer.resume();
    });
    asking.on('error', reject);
    asking.end();
  });
}
