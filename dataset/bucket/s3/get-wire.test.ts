import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import * as net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as tls from 'node:tls';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { makeAuthority } from '../../../test/support/certificates.ts';
import { createRandom } from '../../../test/support/random.ts';
import { GetWire } from './get-wire.ts';
import { Inflow } from './inflow.ts';
import type { WireRequest } from './wire-request.ts';

const MIB = 1024 * 1024;
const PIECE = 64 * 1024;
const bytes = createRandom(11).bytes(3 * MIB + 17);

/** Answers the `nth` request (from 1) of all that came. */
type Answer = (socket: net.Socket, nth: number, path: string) => void;

const whole = (body: Buffer, headers = '') =>
  Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n${headers}\r\n`), body]);

let directory: string;
let pem: { key: Buffer; cert: Buffer };
const trusted = tls.getCACertificates('default');

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'larder-get-wire-'));
  const authority = makeAuthority(directory, 'stores');
  const { certificate, key } = authority.issue(['localhost']);
  pem = { key: readFileSync(key), cert: readFileSync(certificate) };
  tls.setDefaultCACertificates([...trusted, readFileSync(authority.certificate, 'utf8')]);
});

afterAll(() => {
  tls.setDefaultCACertificates(trusted);
  rmSync(directory, { recursive: true });
});

describe.each(['http:', 'https:'])('%s', (protocol) => {
  let server: net.Server;
  let port: number;
  let answer: Answer;
  let requests: { connection: net.Socket; path: string }[];
  const open = new Set<net.Socket>();
  let wire: GetWire;

  beforeEach(async () => {
    requests = [];
    const serve = (socket: net.Socket) => {
      open.add(socket);
      socket.on('close', () => open.delete(socket)).on('error', () => {});
      let text = '';
      socket.on('data', (part) => {
        text += part.toString('latin1');
        for (let end = text.indexOf('\r\n\r\n'); end >= 0; end = text.indexOf('\r\n\r\n')) {
          const path = text.split(' ')[1]!;
          text = text.slice(end + 4);
          requests.push({ connection: socket, path });
          answer(socket, requests.length, path);
        }
      });
    };
    server = protocol === 'https:' ? tls.createServer(pem, serve) : net.createServer(serve);
    server.listen(0, 'localhost');
    await once(server, 'listening');
    ({ port } = server.address() as net.AddressInfo);
    wire = new GetWire({ idle: 2, connect: 30_000, stall: 30_000 });
  });

  afterEach(async () => {
    wire.destroy();
    for (const socket of open) socket.destroy();
    server.close();
    await once(server, 'close');
  });

  const asked = (path = '/x'): WireRequest => ({
    protocol,
    hostname: 'localhost',
    port,
    method: 'GET',
    path,
    headers: { host: `localhost:${port}` },
  });

  /** All of a body, read through `pieces` of memory that is used again and again. */
  async function get({
    length = bytes.length,
    slow,
    signal,
    path,
  }: {
    length?: number;
    slow?: () => Promise<void>;
    signal?: AbortSignal;
    path?: string;
  } = {}): Promise<Buffer> {
    const { head, body } = await wire.send(asked(path), signal);
    expect(head.status).toBe(200);
    const memory = new SharedArrayBuffer(256 * 1024);
    let given = 0;
    let used = 0;
    let wake = () => {};
    const isFull = () => given + PIECE - used > memory.byteLength;
    const piece = () => {
      given += PIECE;
      return new Uint8Array(memory, (given - PIECE) % memory.byteLength, PIECE);
    };
    const inflow = new Inflow(() => {
      if (!isFull()) return piece();
      return new Promise((resolve) => {
        wake = () => {
          if (isFull()) return;
          wake = () => {};
          resolve(piece());
        };
      });
    }, length);
    try {
      inflow.from(body);
      const parts: Buffer[] = [];
      for (let block = await inflow.next(); block !== undefined; block = await inflow.next()) {
        expect(block.buffer).toBe(memory);
        await slow?.();
        parts.push(Buffer.from(block));
        used += block.length;
        wake();
      }
      return Buffer.concat(parts);
    } finally {
      inflow.close();
    }
  }

  /** Sends bytes in parts, each by itself. */
  async function dribble(socket: net.Socket, all: Buffer, part: () => number): Promise<void> {
    for (let at = 0; at < all.length && !socket.destroyed; ) {
      const next = all.subarray(at, at + part());
      socket.write(next);
      at += next.length;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  test('a body comes into the memory of its reader, and one connection serves many', async () => {
    answer = (socket) => socket.write(whole(bytes));
    for (let times = 0; times < 3; times++) expect((await get()).equals(bytes)).toBe(true);
    expect(new Set(requests.map(({ connection }) => connection)).size).toBe(1);
  });

  test('an answer is the same however it is cut on its way', async () => {
    const random = createRandom(4);
    const short = bytes.subarray(0, 3000);
    answer = (socket, nth) =>
      void dribble(
        socket,
        Buffer.concat([Buffer.from('HTTP/1.1 100 Continue\r\n\r\n'), whole(short)]),
        nth === 1 ? () => 1 : () => 1 + random.below(400),
      );
    for (let times = 0; times < 4; times++) expect((await get({ length: short.length })).equals(short)).toBe(true);
  });

  test('a body in chunks, and one that the end of the connection ends, come whole', async () => {
    const random = createRandom(5);
    answer = (socket, nth) => {
      if (nth > 2) return socket.end(Buffer.concat([Buffer.from('HTTP/1.1 200 OK\r\n\r\n'), bytes]));
      const parts: Buffer[] = [Buffer.from('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')];
      for (let at = 0; at < bytes.length; ) {
        const part = bytes.subarray(at, at + 1 + random.below(100_000));
        parts.push(Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from('\r\n'));
        at += part.length;
      }
      parts.push(Buffer.from('0\r\n\r\n'));
      void dribble(socket, Buffer.concat(parts), () => 1 + random.below(70_000));
    };
    for (let times = 0; times < 3; times++) expect((await get()).equals(bytes)).toBe(true);
    expect(requests[1]!.connection).toBe(requests[0]!.connection);
  });

  test('a reader that is slow is waited for, and is no connection that stands still', async () => {
    wire.destroy();
    wire = new GetWire({ idle: 2, connect: 30_000, stall: 300 });
    answer = (socket) => socket.write(whole(bytes));
    let waits = 0;
    const found = await get({ slow: () => (++waits > 3 ? Promise.resolve() : sleep(700)) });
    expect(found.equals(bytes)).toBe(true);
    expect(waits).toBeGreaterThan(3);
  });

  test.each([
    ['before its head', 0],
    ['in its head', 20],
    ['in its body', 100_000],
  ])('an answer that stands still %s ends with a timeout', async (_, after) => {
    wire.destroy();
    wire = new GetWire({ idle: 2, connect: 30_000, stall: 300 });
    answer = (socket) => socket.write(whole(bytes).subarray(0, after));
    await expect(get()).rejects.toMatchObject({ code: 'ETIMEDOUT' });
  });

  test('a connection that is cut or reset in a body breaks that off', async () => {
    answer = (socket, nth) => {
      socket.write(whole(bytes).subarray(0, 500_000), () => {
        if (nth === 1) socket.end();
        else if (socket instanceof tls.TLSSocket) socket.destroy();
        else socket.resetAndDestroy();
      });
    };
    for (let times = 0; times < 2; times++) await expect(get()).rejects.toMatchObject({ code: 'ECONNRESET' });
  });

  test('a signal ends a request at once, in its body too, and nothing is written to the memory any more', async () => {
    answer = (socket, nth) => (nth === 1 ? undefined : socket.write(whole(bytes).subarray(0, -1)));
    const waiting = new AbortController();
    const never = get({ signal: waiting.signal });
    await expect.poll(() => requests.length).toBe(1);
    waiting.abort(new Error('enough'));
    await expect(never).rejects.toThrow('enough');

    const reading = new AbortController();
    const { body } = await wire.send(asked(), reading.signal);
    const memory = new Uint8Array(new SharedArrayBuffer(4 * MIB));
    const inflow = new Inflow(() => memory, bytes.length);
    inflow.from(body);
    expect(await inflow.next()).toBeInstanceOf(Buffer);
    reading.abort(new Error('enough of that'));
    memory.fill(0);
    const rest = async () => {
      while ((await inflow.next()) !== undefined);
    };
    await expect(rest()).rejects.toThrow('enough of that');
    await expect.poll(() => open.size).toBe(0);
    expect(memory.every((byte) => byte === 0)).toBe(true);
    await expect(wire.send(asked(), AbortSignal.abort(new Error('before')))).rejects.toThrow('before');
  });

  test('a kept connection that the server has closed is no failure', async () => {
    answer = (socket, nth) => {
      // The second request finds the connection open, and gets no answer.
      if (nth === 2) socket.destroy();
      else socket.write(whole(bytes));
    };
    for (let times = 0; times < 2; times++) expect((await get()).equals(bytes)).toBe(true);
    expect(requests).toHaveLength(3);
    for (const socket of open) socket.destroy();
    expect((await get()).equals(bytes)).toBe(true);
  });

  test('the first request of a connection that is closed without an answer fails', async () => {
    answer = (socket) => socket.destroy();
    await expect(get()).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(requests).toHaveLength(1);
  });

  test.each([
    ['says that it closes', whole(bytes, 'Connection: close\r\n')],
    ['says that it keeps it for no time', whole(bytes, 'Keep-Alive: timeout=0\r\n')],
    ['sends more than it announced', Buffer.concat([whole(bytes), Buffer.from('more')])],
  ])('a connection whose server %s serves no other request', async (_, text) => {
    answer = (socket) => socket.write(text);
    for (let times = 0; times < 2; times++) {
      expect((await get()).equals(bytes)).toBe(true);
      await expect.poll(() => open.size).toBe(0);
    }
    expect(new Set(requests.map(({ connection }) => connection)).size).toBe(2);
  });

  test('what nobody asked for ends a connection', async () => {
    answer = (socket, nth) => {
      socket.write(whole(bytes));
      if (nth === 1) setTimeout(() => socket.write(whole(Buffer.from('forged'))), 50);
    };
    expect((await get()).equals(bytes)).toBe(true);
    await expect.poll(() => open.size).toBe(0);
    expect((await get()).equals(bytes)).toBe(true);
  });

  test('a length of which little comes makes no memory', async () => {
    answer = (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 999999999999999\r\n\r\nlittle');
    const { body } = await wire.send(asked(), undefined);
    let pieces = 0;
    const inflow = new Inflow(() => {
      pieces += 1;
      return new Uint8Array(1000);
    }, 999_999_999_999_999);
    inflow.from(body);
    expect((await inflow.next())!.toString()).toBe('little');
    await expect(inflow.next()).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(pieces).toBe(1);
  });

  test('what is no HTTP is refused, and a body longer than what is wanted too', async () => {
    answer = (socket, nth) => socket.write(nth === 1 ? 'SSH-2.0-OpenSSH_9.9\r\n' : whole(bytes));
    await expect(get()).rejects.toMatchObject({ code: 'WrongAnswer' });
    await expect(get({ length: 1000 })).rejects.toMatchObject({ code: 'WrongAnswer' });
  });

  test('many at once get each their own, and few connections are kept', async () => {
    const part = (path: string) => bytes.subarray(Number(path.slice(1)) * 1000, Number(path.slice(1)) * 1000 + 300_000);
    answer = (socket, _, path) => socket.write(whole(part(path)));
    const paths = Array.from({ length: 40 }, (_, i) => `/${i}`);
    const found = await Promise.all(paths.map((path) => get({ path, length: 300_000 })));
    expect(found.every((each, i) => each.equals(part(paths[i]!)))).toBe(true);
    await expect.poll(() => open.size).toBe(2);
  });
});

test('a certificate of another name, or of an authority that is not trusted, is refused', async () => {
  const server = tls.createServer(pem, (socket) => socket.on('error', () => {}).end('HTTP/1.1 200 OK\r\n\r\n'));
  server.on('tlsClientError', () => {}).listen(0);
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  const wire = new GetWire({ idle: 1, connect: 30_000, stall: 30_000 });
  const request = { protocol: 'https:', port, method: 'GET', path: '/', headers: {} };
  await expect(wire.send({ ...request, hostname: '127.0.0.1' }, undefined)).rejects.toMatchObject({
    code: 'ERR_TLS_CERT_ALTNAME_INVALID',
  });
  const before = tls.getCACertificates('default');
  tls.setDefaultCACertificates(trusted);
  await expect(wire.send({ ...request, hostname: 'localhost' }, undefined)).rejects.toMatchObject({
    code: expect.stringMatching(/CERT|SIGNATURE/),
  });
  tls.setDefaultCACertificates(before);
  server.close();
  await once(server, 'close');
});

test('a host may be an address of IPv6', async (context) => {
  const server = net.createServer((socket) => socket.once('data', () => socket.write(whole(Buffer.from('six')))));
  const listening = once(server, 'listening').then(
    () => true,
    () => false,
  );
  server.listen(0, '::1');
  if (!(await listening)) return context.skip('there is no IPv6 here');
  const { port } = server.address() as net.AddressInfo;
  const wire = new GetWire({ idle: 1, connect: 30_000, stall: 30_000 });
  const request = { protocol: 'http:', hostname: '[::1]', port, method: 'GET', path: '/', headers: {} };
  const { body } = await wire.send(request, undefined);
  const inflow = new Inflow(() => new Uint8Array(3), 3);
  inflow.from(body);
  expect((await inflow.next())!.toString()).toBe('six');
  wire.destroy();
  server.close();
  await once(server, 'close');
});

test('what cannot stand in a request is not sent', async () => {
  const wire = new GetWire({ idle: 1, connect: 30_000, stall: 30_000 });
  const request = { protocol: 'http:', hostname: 'localhost', port: 1, method: 'GET', path: '/', headers: {} };
  await expect(wire.send({ ...request, path: '/a b' }, undefined)).rejects.toThrow(TypeError);
  await expect(wire.send({ ...request, headers: { a: '1\r\nb: 2' } }, undefined)).rejects.toThrow(TypeError);
  await expect(wire.send({ ...request, headers: { 'a\r\nb': '1' } }, undefined)).rejects.toThrow(TypeError);
});
