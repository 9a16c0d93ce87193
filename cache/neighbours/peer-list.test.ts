import { createSocket } from 'node:dgram';
import { Resolver } from 'node:dns/promises';
import { once } from 'node:events';
import { mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openPeerList, type PeerListOptions } from './peer-list.ts';
import { type Resolver as Names, parsePeerFile, systemResolver } from './peer-source.ts';

let top: string;

beforeAll(() => {
  top = mkdtempSync(join(tmpdir(), 'larder-peers-'));
});

afterAll(() => rmSync(top, { recursive: true, force: true }));

async function open(options: Partial<PeerListOptions> & Pick<PeerListOptions, 'source'>) {
  const warnings: string[] = [];
  const list = await openPeerList({ interval: 60_000, onWarning: (text) => warnings.push(text), ...options });
  const names = () => list.peers.map(({ name, self }) => (self ? `${name} (self)` : name));
  return { list, names, warnings, [Symbol.dispose]: () => list.close() };
}

describe('a file of nodes', () => {
  it('has one address a line, and comments', () => {
    const text =
      '# the first rack\n10.0.0.1:7411\n\n[FD00::2]:7411 # the second\r\nNode-3.example:7411\n10.0.0.1:7411\n';
    expect(parsePeerFile(text, 'nodes')).toEqual([
      '10.0.0.1:7411',
      '[fd00::2]:7411',
      'node-3.example:7411',
      '10.0.0.1:7411',
    ]);
    for (const wrong of ['10.0.0.1', 'a b:1', '[fe80]:1', 'node:70000', ':7411', 'http://node:7411'])
      expect(() => parsePeerFile(`\n${wrong}\n`, 'nodes'), wrong).toThrow(/line 2 of nodes must be HOST:PORT/);
  });

  it('is read again when it was replaced, also where it is a link as in a ConfigMap', async () => {
    const file = join(top, 'nodes');
    writeFileSync(join(top, 'first'), '10.0.0.1:7411\n10.0.0.1:7411\n');
    symlinkSync('first', file);
    using opened = await open({ source: { kind: 'file', path: file } });
    expect(opened.names()).toEqual(['10.0.0.1:7411']);
    writeFileSync(join(top, 'second'), '10.0.0.2:7411\n10.0.0.1:7411\n');
    symlinkSync('second', join(top, 'link'));
    renameSync(join(top, 'link'), file);
    await opened.list.refresh();
    expect(opened.names()).toEqual(['10.0.0.1:7411', '10.0.0.2:7411']);
  });

  it('tells this node by its addresses and port, and else by what it was told', async () => {
    const file = join(top, 'with-self');
    writeFileSync(file, '127.0.0.1:7411\n127.0.0.1:7412\nlocalhost:7413\n10.255.0.1:7411\n');
    using byAddress = await open({ source: { kind: 'file', path: file }, port: 7411 });
    expect(byAddress.names()).toContain('127.0.0.1:7411 (self)');
    expect(byAddress.list.peers.filter(({ self }) => self)).toHaveLength(1);
    using byName = await open({ source: { kind: 'file', path: file }, port: 7413 });
    expect(byName.names()).toContain('localhost:7413 (self)');
    using told = await open({ source: { kind: 'file', path: file }, port: 7411, self: '10.255.0.1:7411' });
    expect(told.names()).toContain('10.255.0.1:7411 (self)');
    // A list that lacks this node: others would not ask it, but what they own is the same for all.
    using added = await open({ source: { kind: 'file', path: file }, self: '10.255.0.9:7411' });
    expect(added.names()).toHaveLength(5);
  });

  it('that is not there is told once, and read when it comes', async () => {
    const file = join(top, 'later');
    using opened = await open({ source: { kind: 'file', path: file } });
    await opened.list.refresh();
    expect(opened.names()).toEqual([]);
    expect(opened.warnings).toHaveLength(1);
    writeFileSync(file, '10.0.0.1:7411\n');
    await opened.list.refresh();
    expect(opened.names()).toEqual(['10.0.0.1:7411']);
  });
});

describe('a name', () => {
  it('stands for its addresses, looked up as the system does', async () => {
    using opened = await open({ source: { kind: 'addresses', name: 'localhost', port: 7411 }, port: 7411 });
    expect(opened.names()).toContain('127.0.0.1:7411 (self)');
  });

  it('with SRV records stands for its services, and is resolved again', async () => {
    await using server = await dnsServer();
    const resolver = new Resolver({ timeout: 1000, tries: 1 });
    resolver.setServers([`127.0.0.1:${server.port}`]);
    const names: Names = { ...systemResolver, services: (name) => resolver.resolveSrv(name) };
    server.services = [{ name: 'node-1.larder.example', port: 7411 }];
    const source = { kind: 'services', name: '_larder._tcp.example' } as const;
    using opened = await open({ source, resolver: names });
    expect(opened.names()).toEqual(['node-1.larder.example:7411']);
    server.services.push({ name: 'Node-2.larder.example', port: 7412 });
    await opened.list.refresh();
    expect(opened.names()).toEqual(['node-1.larder.example:7411', 'node-2.larder.example:7412']);
    // No such name for a moment, as of a service without ready nodes: the list stays.
    server.services = [];
    await opened.list.refresh();
    expect(opened.names()).toHaveLength(2);
    expect(opened.warnings.join()).toMatch(/stays as it was/);
  });
});

interface DnsServer extends AsyncDisposable {
  readonly port: number;
  services: { readonly name: string; readonly port: number }[];
}

/** Answers every question with SRV records (RFC 1035, RFC 2782), or that there is no such name. */
async function dnsServer(): Promise<DnsServer> {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const server: DnsServer = {
    port: socket.address().port,
    services: [],
    [Symbol.asyncDispose]: async () => {
      socket.close();
    },
  };
  socket.on('message', (query, from) => {
    const { services } = server;
    const question = query.subarray(12, query.indexOf(0, 12) + 5);
    const head = Buffer.alloc(12);
    query.copy(head, 0, 0, 2);
    head.writeUInt16BE(services.length > 0 ? 0x8180 : 0x8183, 2);
    head.writeUInt16BE(1, 4);
    head.writeUInt16BE(services.length, 6);
    const answers = services.map(({ name, port }) => {
      const labels = name.split('.').flatMap((label) => [label.length, ...Buffer.from(label)]);
      const data = Buffer.from([0, 0, 0, 0, port >> 8, port & 255, ...labels, 0]);
      const fixed = Buffer.from([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 0, data.length >> 8, data.length & 255]);
      return Buffer.concat([fixed, data]);
    });
    socket.send(Buffer.concat([head, question, ...answers]), from.port, from.address);
  });
  return server;
}
