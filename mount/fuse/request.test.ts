import { describe, expect, it } from 'vitest';
import { FEATURE, OP } from './protocol.ts';
import { parseRequest, showRequest, splitMessages } from './request.ts';
import { message, nameBody, numbersBody, randomNumbers } from './testing/messages.ts';

function shown(buffer: Buffer): string {
  const request = parseRequest(buffer);
  return request ? showRequest(request) : 'no message';
}

describe('a request of the kernel', () => {
  it('reads as what it asks', () => {
    expect(shown(message({ opcode: OP.lookup, unique: 4n, body: nameBody('wait') }))).toBe(
      'lookup 4 node 1 pid 7 name="wait"',
    );
    expect(shown(message({ opcode: OP.getattr, body: numbersBody(1n, 9n) }))).toBe('getattr 2 node 1 pid 7 handle="9"');
    expect(shown(message({ opcode: OP.getattr, body: numbersBody(0n, 9n) }))).toBe(
      'getattr 2 node 1 pid 7 handle=none',
    );
    expect(shown(message({ opcode: OP.interrupt, unique: 5n, body: numbersBody(4n) }))).toBe(
      'interrupt 5 node 1 pid 7 target="4"',
    );
    expect(shown(message({ opcode: OP.forget, nodeid: 9n, body: numbersBody(3n) }))).toBe(
      'forget 2 node 9 pid 7 nodes=[{"nodeid":"9","lookups":"3"}]',
    );
    expect(shown(message({ opcode: OP.batchForget, body: numbersBody(2n, 9n, 1n, 10n, 2n) }))).toBe(
      'forget 2 node 1 pid 7 nodes=[{"nodeid":"9","lookups":"1"},{"nodeid":"10","lookups":"2"}]',
    );
    expect(shown(message({ opcode: OP.readdir, body: numbersBody(1n, 2n, 4096n, 0n, 0n) }))).toBe(
      'readdir 2 node 1 pid 7 handle="1" offset="2" count=4096',
    );
    expect(shown(message({ opcode: OP.getxattr, body: Buffer.concat([numbersBody(16n), nameBody('user.a')]) }))).toBe(
      'getxattr 2 node 1 pid 7 name="user.a" count=16',
    );
    expect(shown(message({ opcode: 4095 }))).toBe('other 2 node 1 pid 7 opcode=4095');
  });

  it('keeps a name byte by byte', () => {
    const request = parseRequest(message({ opcode: OP.lookup, body: Buffer.from([0xff, 0x80, 0x41, 0]) }));
    expect(request).toMatchObject({ op: 'lookup', name: '\xff\x80A' });
  });

  it('offers features of the second word only where the first says that there is one', () => {
    const body = Buffer.alloc(64);
    body.writeUInt32LE(7, 0);
    body.writeUInt32LE(40, 4);
    body.writeUInt32LE(1 << 18, 12);
    body.writeUInt32LE(1 << 7, 16);
    const parallel = FEATURE.parallelDirectoryOperations;
    expect(parseRequest(message({ opcode: OP.init, body }))).toMatchObject({ minor: 40, features: parallel });
    body.writeUInt32LE((1 << 18) | (1 << 30), 12);
    expect(parseRequest(message({ opcode: OP.init, body }))).toMatchObject({
      features: parallel | FEATURE.extended | FEATURE.resend,
    });
  });

  it('is called malformed where its body is too short, has no name, or counts more than there is', () => {
    expect(shown(message({ opcode: OP.interrupt, body: Buffer.alloc(7) }))).toContain('too short');
    expect(shown(message({ opcode: OP.batchForget, body: numbersBody(2n, 9n, 1n) }))).toContain('too short');
    expect(shown(message({ opcode: OP.batchForget, body: numbersBody(0xffffffffn) }))).toContain('too short');
    expect(shown(message({ opcode: OP.lookup, body: Buffer.from('no end') }))).toContain('no name');
    expect(shown(message({ opcode: OP.lookup, body: nameBody('') }))).toContain('no name');
    expect(shown(message({ opcode: OP.lookup, body: nameBody('a'), extensions: 9 }))).toContain('extensions longer');
  });

  it('has extensions at its end that are no part of the body', () => {
    const body = Buffer.concat([nameBody('wait'), Buffer.alloc(3), Buffer.from('12345678')]);
    expect(parseRequest(message({ opcode: OP.lookup, body, extensions: 1 }))).toMatchObject({ name: 'wait' });
  });

  it('is none where the header is cut or claims a length that cannot be', () => {
    expect(parseRequest(message({ opcode: OP.statfs }).subarray(0, 39))).toBeUndefined();
    expect(parseRequest(message({ opcode: OP.statfs, length: 39 }))).toBeUndefined();
    expect(parseRequest(message({ opcode: OP.statfs, length: 41 }))).toBeUndefined();
    expect(parseRequest(message({ opcode: OP.statfs, length: 0 }))).toBeUndefined();
  });

  it('comes out of a run of messages whole, and a broken one ends the run', () => {
    const one = message({ opcode: OP.lookup, body: nameBody('wait') });
    const two = message({ opcode: OP.statfs });
    expect([...splitMessages(Buffer.concat([one, two, one]))].map((part) => part.length)).toEqual([45, 40, 45]);
    expect([...splitMessages(Buffer.concat([one, two.subarray(0, 39)]))]).toHaveLength(1);
    expect([...splitMessages(Buffer.concat([one, message({ opcode: OP.statfs, length: 0 }), one]))]).toHaveLength(1);
  });

  it('never breaks the reader, whatever bytes it is made of', () => {
    const random = randomNumbers(1);
    const opcodes = Object.values(OP);
    let shownTotal = 0;
    for (let round = 0; round < 50_000; round += 1) {
      const body = Buffer.from(Array.from({ length: random(120) }, () => (random(3) === 0 ? random(256) : 0)));
      const whole = message({
        opcode: random(4) === 0 ? random(2 ** 32) : opcodes[random(opcodes.length)]!,
        body,
        extensions: random(8) === 0 ? random(65536) : 0,
      });
      const bytes = random(3) === 0 ? whole.subarray(0, random(whole.length + 1)) : whole;
      if (random(3) === 0 && bytes.length > 0) bytes[random(bytes.length)] = random(256);
      const request = parseRequest(bytes);
      if (request) shownTotal += showRequest(request).length;
      if ([...splitMessages(bytes)].length > bytes.length / 40) throw new Error(`too many in ${bytes.toString('hex')}`);
    }
    expect(shownTotal).toBeGreaterThan(1_000_000);
  });
});
