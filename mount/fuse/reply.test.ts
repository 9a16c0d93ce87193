import { describe, expect, it } from 'vitest';
import { negotiate } from './negotiate.ts';
import { DIRENT, FEATURE, NOTIFY, OUT_HEADER, UNIQUE_RESENT } from './protocol.ts';
import { directoryReply, emptyReply, entryReply, errorReply, initReply, resendNotice, statfsReply } from './reply.ts';

const attributes = { ino: 5n, mode: 0o040500, size: 0, nlink: 2, uid: 0, gid: 0, time: 0 };

describe('an answer', () => {
  it('names its own length and the request, the mark of a resent one included', () => {
    const unique = UNIQUE_RESENT | 6n;
    for (const buffer of [emptyReply(unique), statfsReply(unique, 255), errorReply(unique, 5)]) {
      expect(buffer.readUInt32LE(OUT_HEADER.length)).toBe(buffer.length);
      expect(buffer.readBigUInt64LE(OUT_HEADER.unique)).toBe(unique);
    }
    expect(errorReply(6n, 5).readInt32LE(OUT_HEADER.error)).toBe(-5);
  });

  it('gives an entry in the layout of the kernel', () => {
    const bytes = entryReply(6n, 9n, attributes, { entry: 3, attributes: 4 });
    expect(bytes.length).toBe(144);
    const words = Array.from({ length: 18 }, (_, index) => bytes.readBigUInt64LE(index * 8));
    expect(words).toEqual([144n, 6n, 9n, 0n, 3n, 4n, 0n, 5n, 0n, 0n, 0n, 0n, 0n, 0n, 0o040500n << 32n, 2n, 0n, 4096n]);
  });

  it('lists a directory in pieces that fit, from any offset on, and ends with an empty one', () => {
    const entries = Array.from({ length: 40 }, (_, index) => ({
      ino: BigInt(index),
      name: 'n'.repeat(index),
      type: 4,
    }));
    const names: string[] = [];
    let offset = 0n;
    for (let rounds = 0; ; rounds += 1) {
      expect(rounds).toBeLessThan(50);
      const bytes = directoryReply(6n, entries, offset, 200).subarray(OUT_HEADER.size);
      expect(bytes.length).toBeLessThanOrEqual(200);
      if (bytes.length === 0) break;
      for (let at = 0; at < bytes.length; ) {
        const length = bytes.readUInt32LE(at + DIRENT.nameLength);
        names.push(bytes.toString('latin1', at + DIRENT.size, at + DIRENT.size + length));
        offset = bytes.readBigUInt64LE(at + DIRENT.offset);
        at += Math.ceil((DIRENT.size + length) / 8) * 8;
      }
    }
    expect(names).toEqual(entries.map((entry) => entry.name));
    expect(directoryReply(6n, entries, 2n ** 64n - 1n, 4096)).toHaveLength(OUT_HEADER.size);
  });

  it('asks for a resend with a header alone', () => {
    expect(resendNotice().toString('hex')).toBe(
      `10000000${NOTIFY.resend.toString(16).padStart(2, '0')}000000${'00'.repeat(8)}`,
    );
  });
});

describe('INIT', () => {
  const all = 2n ** 64n - 1n;

  it('settles on what both know', () => {
    const result = negotiate({ major: 7, minor: 44, features: all });
    expect(result).toMatchObject({ settled: { minor: 40, resend: true, parallel: true } });
    const older = negotiate({ major: 7, minor: 38, features: all & ~FEATURE.resend });
    expect(older).toMatchObject({ settled: { minor: 38, resend: false, parallel: true } });
  });

  it('takes nothing that was not offered', () => {
    const result = negotiate({ major: 7, minor: 40, features: FEATURE.asyncRead });
    expect('answer' in result && result.answer.features).toBe(FEATURE.asyncRead);
  });

  it('names its own version to a kernel of a later major, which asks again, and refuses one that is too old', () => {
    expect(negotiate({ major: 8, minor: 1, features: all })).toMatchObject({
      settled: undefined,
      answer: { major: 7 },
    });
    expect(negotiate({ major: 7, minor: 30, features: all })).toHaveProperty('refused');
  });

  it('is answered with both words of features', () => {
    const result = negotiate({ major: 7, minor: 40, features: all });
    if (!('answer' in result)) throw new Error('refused');
    const bytes = initReply(2n, result.answer);
    expect(bytes).toHaveLength(80);
    expect(bytes.readUInt32LE(16 + 12) & (1 << 18)).not.toBe(0);
    expect(bytes.readUInt32LE(16 + 32)).toBe((1 << 5) | (1 << 7));
    expect([bytes.readUInt16LE(16 + 28), bytes.readUInt32LE(16 + 36)]).toEqual([256, 1]);
  });
});
