import { IN_HEADER } from '../protocol.ts';

/** A message as the kernel sends it. */
export function message(options: {
  readonly opcode: number;
  readonly unique?: bigint;
  readonly nodeid?: bigint;
  readonly pid?: number;
  readonly body?: Uint8Array;
  /** What the header claims, where it is not the truth. */
  readonly length?: number;
  readonly extensions?: number;
}): Buffer {
  const body = options.body ?? Buffer.alloc(0);
  const buffer = Buffer.alloc(IN_HEADER.size + body.length);
  buffer.writeUInt32LE(options.length ?? buffer.length, IN_HEADER.length);
  buffer.writeUInt32LE(options.opcode, IN_HEADER.opcode);
  buffer.writeBigUInt64LE(options.unique ?? 2n, IN_HEADER.unique);
  buffer.writeBigUInt64LE(options.nodeid ?? 1n, IN_HEADER.nodeid);
  buffer.writeUInt32LE(options.pid ?? 7, IN_HEADER.pid);
  buffer.writeUInt16LE(options.extensions ?? 0, IN_HEADER.totalExtensions);
  buffer.set(body, IN_HEADER.size);
  return buffer;
}

export function nameBody(name: string): Buffer {
  return Buffer.from(`${name}\0`, 'latin1');
}

export function numbersBody(...values: readonly bigint[]): Buffer {
  const buffer = Buffer.alloc(values.length * 8);
  for (const [index, value] of values.entries()) buffer.writeBigUInt64LE(value, index * 8);
  return buffer;
}

/** A small generator (mulberry32) so that a failing run can be repeated. */
export function randomNumbers(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}
