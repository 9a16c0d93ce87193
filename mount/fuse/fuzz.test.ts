import { constants } from 'node:os';
import { describe, expect, it } from 'vitest';
import { DIRENT, FEATURE, OP, OUT_HEADER } from './protocol.ts';
import {
  attributesReply,
  dataHeader,
  dataReply,
  directoryReply,
  emptyReply,
  entryReply,
  errorReply,
  initReply,
  openReply,
  resendNotice,
  statfsReply,
} from './reply.ts';
import { parseRequest, showRequest, splitMessages } from './request.ts';
import { message, nameBody, numbersBody, randomNumbers } from './testing/messages.ts';

// LARDER_TEST_SEED repeats a run; LARDER_FUZZ_ROUNDS makes it longer.
const seed = Number(process.env.LARDER_TEST_SEED || Date.now() % 1_000_000);
const ROUNDS = Number(process.env.LARDER_FUZZ_ROUNDS || 10_000);

type Random = ReturnType<typeof randomNumbers>;

const word = (random: Random): bigint => {
  const kinds = [0n, 1n, BigInt(random(256)), 2n ** 31n, 2n ** 32n - 1n, 2n ** 63n, 2n ** 64n - 1n];
  return random(2) === 0 ? kinds[random(kinds.length)]! : (BigInt(random(2 ** 32)) << 32n) | BigInt(random(2 ** 32));
};
const words = (random: Random, count: number) => numbersBody(...Array.from({ length: count }, () => word(random)));

/** A whole message of each kind, and what it must be read as. */
function wellFormed(random: Random): { readonly bytes: Buffer; readonly op: string } {
  const name = nameBody('n'.repeat(1 + random(255)));
  const pairs = random(40);
  const kinds: (readonly [number, Buffer, string])[] = [
    [OP.lookup, name, 'lookup'],
    [OP.forget, words(random, 1), 'forget'],
    [OP.batchForget, Buffer.concat([numbersBody(BigInt(pairs)), words(random, pairs * 2)]), 'forget'],
    [OP.getattr, words(random, 2), 'getattr'],
    [OP.open, words(random, 1), 'open'],
    [OP.opendir, words(random, 1), 'opendir'],
    [OP.read, words(random, 5), 'read'],
    [OP.readdir, words(random, 5), 'readdir'],
    [OP.readdirplus, words(random, 5), 'readdirplus'],
    [OP.release, words(random, 3), 'release'],
    [OP.releasedir, words(random, 3), 'releasedir'],
    [OP.getxattr, Buffer.concat([words(random, 1), name]), 'getxattr'],
    [OP.access, words(random, 1), 'access'],
    [OP.interrupt, words(random, 1), 'interrupt'],
    [OP.init, words(random, 8), 'init'],
    [OP.statfs, Buffer.alloc(0), 'statfs'],
    [OP.destroy, Buffer.alloc(0), 'destroy'],
    [OP.statx, words(random, 4), 'other'],
    [OP.flush, words(random, 3), 'other'],
  ];
  const [opcode, body, op] = kinds[random(kinds.length)]!;
  const fields = { unique: word(random), nodeid: word(random), pid: random(2 ** 32) };
  return { bytes: message({ opcode, body, ...fields }), op };
}

/** The same, damaged: bits turned, cut, lengthened, fields of the header replaced, or another message's end put on. */
function damaged(random: Random): Buffer {
  let { bytes } = wellFormed(random);
  for (let count = 1 + random(3); count > 0; count -= 1) {
    const kind = random(6);
    if (kind === 0 && bytes.length > 0) {
      const at = random(bytes.length);
      bytes[at] = bytes[at]! ^ (1 << random(8));
    } else if (kind === 1) bytes = bytes.subarray(0, random(bytes.length + 1));
    else if (kind === 2) bytes = Buffer.concat([bytes, words(random, random(4))]);
    else if (kind === 3 && bytes.length >= 4) bytes.writeUInt32LE(random(2) === 0 ? random(128) : random(2 ** 32), 0);
    else if (kind === 4 && bytes.length >= 38) bytes.writeUInt16LE(random(65536), 36);
    else {
      const other = wellFormed(random).bytes;
      bytes = Buffer.concat([bytes.subarray(0, random(bytes.length + 1)), other.subarray(random(other.length + 1))]);
    }
  }
  return bytes;
}

describe(`any bytes (seed ${seed})`, () => {
  it('are read as what they are, where they are whole', () => {
    const random = randomNumbers(seed);
    for (let round = 0; round < ROUNDS; round += 1) {
      const { bytes, op } = wellFormed(random);
      const request = parseRequest(bytes);
      if (request?.op !== op)
        throw new Error(`round ${round}: ${op} was read as ${request?.op}: ${bytes.toString('hex')}`);
      if (request.unique !== bytes.readBigUInt64LE(8) || request.nodeid !== bytes.readBigUInt64LE(16))
        throw new Error(`round ${round}: another header: ${bytes.toString('hex')}`);
    }
  });

  it('are a request, a malformed one, or none: nothing is thrown, nothing is read behind the end, and no work is made of a number', () => {
    const random = randomNumbers(seed + 1);
    const seen = new Set<string>();
    for (let round = 0; round < ROUNDS; round += 1) {
      const bytes =
        random(8) === 0 ? Buffer.from(Array.from({ length: random(200) }, () => random(256))) : damaged(random);
      const request = parseRequest(bytes);
      seen.add(request?.op ?? 'none');
      if (request) {
        const length = bytes.readUInt32LE(0);
        if (length > bytes.length) throw new Error(`round ${round}: longer than it is: ${bytes.toString('hex')}`);
        if (request.op === 'forget' && request.nodes.length * 8 > length)
          throw new Error(`round ${round}: more nodes than bytes: ${bytes.toString('hex')}`);
        if ('name' in request && request.name.length >= length)
          throw new Error(`round ${round}: a name from elsewhere`);
        showRequest(request);
      }
      const parts = [...splitMessages(bytes)];
      if (parts.reduce((sum, part) => sum + part.length, 0) > bytes.length || parts.length > bytes.length / 40)
        throw new Error(`round ${round}: cut into too much: ${bytes.toString('hex')}`);
    }
    for (const op of ['none', 'malformed', 'other', 'lookup', 'read', 'forget', 'init']) expect(seen).toContain(op);
  });
});

describe(`any answer (seed ${seed})`, () => {
  it('has the length that it claims, that the kernel expects, and an error that the kernel takes', () => {
    const random = randomNumbers(seed + 2);
    const errors = Object.values(constants.errno);
    for (let round = 0; round < ROUNDS / 10; round += 1) {
      const unique = word(random);
      const attributes = {
        ino: word(random),
        mode: random(2 ** 32),
        size: random(2) === 0 ? Number.MAX_SAFE_INTEGER : random(2 ** 32),
        nlink: random(2 ** 32),
        uid: random(2 ** 32),
        gid: random(2 ** 32),
        time: random(2 ** 32),
      };
      const valid = { entry: random(2 ** 32), attributes: random(2 ** 32) };
      const init = {
        major: 7,
        minor: random(100),
        maxReadahead: random(2 ** 32),
        features: word(random) | FEATURE.extended,
        maxWrite: random(2 ** 32),
        maxBackground: random(65536),
        maxPages: random(65536),
        maxStackDepth: random(3),
      };
      const data = Buffer.alloc(random(5000), 7);
      const answers: (readonly [Buffer, number])[] = [
        [errorReply(unique, errors[random(errors.length)]!), 0],
        [emptyReply(unique), 0],
        [entryReply(unique, word(random), attributes, valid), 128],
        [attributesReply(unique, attributes, valid.entry), 104],
        [openReply(unique, word(random), random(2 ** 32), random(2 ** 31)), 16],
        [statfsReply(unique, 255), 80],
        [initReply(unique, init), 64],
        [dataReply(unique, data), data.length],
        [Buffer.concat([dataHeader(unique, data.length), data]), data.length],
      ];
      for (const [bytes, size] of answers) {
        const error = bytes.readInt32LE(OUT_HEADER.error);
        const right =
          bytes.length === OUT_HEADER.size + size &&
          bytes.readUInt32LE(OUT_HEADER.length) === bytes.length &&
          bytes.readBigUInt64LE(OUT_HEADER.unique) === unique &&
          error <= 0 &&
          error > -512;
        if (!right) throw new Error(`round ${round}: ${bytes.toString('hex')}`);
      }
    }
    expect(resendNotice()).toHaveLength(OUT_HEADER.size);
  });

  it('lists every entry of a directory once, whatever room the kernel gives', () => {
    const random = randomNumbers(seed + 3);
    for (let round = 0; round < ROUNDS / 300; round += 1) {
      const entries = Array.from({ length: random(30) }, (_, index) => ({
        ino: BigInt(index),
        name: String.fromCharCode(...Array.from({ length: 1 + random(255) }, () => 1 + random(255))),
        type: random(16),
      }));
      const names: string[] = [];
      for (let offset = 0n, turns = 0; ; turns += 1) {
        if (turns > 40) throw new Error(`round ${round}: the listing has no end`);
        const room = 280 + random(2000);
        const bytes = directoryReply(1n, entries, offset, room).subarray(OUT_HEADER.size);
        if (bytes.length > room || bytes.length % 8 !== 0)
          throw new Error(`round ${round}: ${bytes.length} for ${room}`);
        if (bytes.length === 0) break;
        for (let at = 0; at < bytes.length; ) {
          const length = bytes.readUInt32LE(at + DIRENT.nameLength);
          names.push(bytes.toString('latin1', at + DIRENT.size, at + DIRENT.size + length));
          offset = bytes.readBigUInt64LE(at + DIRENT.offset);
          at += Math.ceil((DIRENT.size + length) / 8) * 8;
        }
      }
      expect(names).toEqual(entries.map((entry) => entry.name));
    }
  });
});
