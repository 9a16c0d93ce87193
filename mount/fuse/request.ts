import {
  ACCESS_IN,
  BATCH_FORGET_IN,
  FEATURE,
  FORGET_IN,
  FORGET_ONE,
  GETATTR_IN,
  GETXATTR_IN,
  IN_HEADER,
  INIT_IN,
  INTERRUPT_IN,
  OP,
  OPEN_IN,
  READ_IN,
  RELEASE_IN,
} from './protocol.ts';

/** What every request says. `pid` is the caller's thread id in the pid namespace of who mounted, 0 if it has none there. */
export interface RequestHeader {
  readonly unique: bigint;
  readonly nodeid: bigint;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
}

export type RequestBody =
  | { readonly op: 'init'; readonly major: number; readonly minor: number; readonly features: bigint }
  | { readonly op: 'lookup'; readonly name: string }
  | { readonly op: 'getattr'; readonly handle: bigint | undefined }
  | { readonly op: 'forget'; readonly nodes: readonly Forgotten[] }
  | { readonly op: 'opendir' | 'open'; readonly flags: number }
  | {
      readonly op: 'readdir' | 'readdirplus' | 'read';
      readonly handle: bigint;
      readonly offset: bigint;
      readonly count: number;
    }
  | { readonly op: 'releasedir' | 'release'; readonly handle: bigint }
  | { readonly op: 'getxattr'; readonly name: string; readonly count: number }
  | { readonly op: 'access'; readonly mask: number }
  | { readonly op: 'interrupt'; readonly target: bigint }
  | { readonly op: 'statfs' | 'destroy' }
  /** One that this codec does not read: to be answered ENOSYS. */
  | { readonly op: 'other'; readonly opcode: number }
  /** Its header is whole and its body is not: to be answered EIO, if it has a `unique`. */
  | { readonly op: 'malformed'; readonly opcode: number; readonly fault: string };

/** A node, and how many answers to LOOKUP that named it the kernel gives back. */
export interface Forgotten {
  readonly nodeid: bigint;
  readonly lookups: bigint;
}

export type FuseRequest = RequestHeader & RequestBody;

/** The length that the message at `offset` claims, or undefined where no whole header is left or the claim cannot be. */
export function messageLength(buffer: Buffer, offset: number): number | undefined {
  if (buffer.length - offset < IN_HEADER.size) return undefined;
  const length = buffer.readUInt32LE(offset + IN_HEADER.length);
  return length < IN_HEADER.size || length > buffer.length - offset ? undefined : length;
}

/** Cuts a run of messages, as they were read one after the other. What is not a whole message ends the run. */
export function* splitMessages(buffer: Buffer): Generator<Buffer> {
  for (let offset = 0; ; ) {
    const length = messageLength(buffer, offset);
    if (length === undefined) return;
    yield buffer.subarray(offset, offset + length);
    offset += length;
  }
}

/**
 * Reads one message. Never throws: a body that is too short or holds nonsense gives `malformed`, and undefined is what has no whole
 * header. Names are bytes (latin1 strings).
 */
export function parseRequest(message: Buffer): FuseRequest | undefined {
  const length = messageLength(message, 0);
  if (length === undefined) return undefined;
  const opcode = message.readUInt32LE(IN_HEADER.opcode);
  const header = {
    unique: message.readBigUInt64LE(IN_HEADER.unique),
    nodeid: message.readBigUInt64LE(IN_HEADER.nodeid),
    uid: message.readUInt32LE(IN_HEADER.uid),
    gid: message.readUInt32LE(IN_HEADER.gid),
    pid: message.readUInt32LE(IN_HEADER.pid),
  };
  const end = length - message.readUInt16LE(IN_HEADER.totalExtensions) * 8;
  if (end < IN_HEADER.size) return { ...header, op: 'malformed', opcode, fault: 'extensions longer than the message' };
  return { ...header, ...parseBody(opcode, header.nodeid, message.subarray(IN_HEADER.size, end)) };
}

function parseBody(opcode: number, nodeid: bigint, body: Buffer): RequestBody {
  const short = (size: number) => body.length < size;
  const malformed = (fault: string): RequestBody => ({ op: 'malformed', opcode, fault });
  const tooShort = () => malformed(`a body of ${body.length} bytes is too short`);
  switch (opcode) {
    case OP.lookup: {
      const name = cString(body, 0);
      return name === undefined || name === '' ? malformed('no name') : { op: 'lookup', name };
    }
    case OP.forget:
      if (short(FORGET_IN.size)) return tooShort();
      return { op: 'forget', nodes: [{ nodeid, lookups: body.readBigUInt64LE(FORGET_IN.lookups) }] };
    case OP.batchForget: {
      if (short(BATCH_FORGET_IN.size)) return tooShort();
      const count = body.readUInt32LE(BATCH_FORGET_IN.count);
      if (count * FORGET_ONE.size > body.length - BATCH_FORGET_IN.size) return tooShort();
      const nodes: Forgotten[] = [];
      for (let index = 0; index < count; index += 1) {
        const at = BATCH_FORGET_IN.size + index * FORGET_ONE.size;
        nodes.push({
          nodeid: body.readBigUInt64LE(at + FORGET_ONE.nodeid),
          lookups: body.readBigUInt64LE(at + FORGET_ONE.lookups),
        });
      }
      return { op: 'forget', nodes };
    }
    case OP.getattr: {
      if (short(GETATTR_IN.size)) return tooShort();
      const hasHandle = (body.readUInt32LE(GETATTR_IN.flags) & 1) === 1;
      return { op: 'getattr', handle: hasHandle ? body.readBigUInt64LE(GETATTR_IN.handle) : undefined };
    }
    case OP.open:
    case OP.opendir:
      if (short(OPEN_IN.size)) return tooShort();
      return { op: opcode === OP.open ? 'open' : 'opendir', flags: body.readUInt32LE(OPEN_IN.flags) };
    case OP.read:
    case OP.readdir:
    case OP.readdirplus:
      if (short(READ_IN.size)) return tooShort();
      return {
        op: opcode === OP.read ? 'read' : opcode === OP.readdir ? 'readdir' : 'readdirplus',
        handle: body.readBigUInt64LE(READ_IN.handle),
        offset: body.readBigUInt64LE(READ_IN.offset),
        count: body.readUInt32LE(READ_IN.count),
      };
    case OP.release:
    case OP.releasedir:
      if (short(RELEASE_IN.size)) return tooShort();
      return { op: opcode === OP.release ? 'release' : 'releasedir', handle: body.readBigUInt64LE(RELEASE_IN.handle) };
    case OP.getxattr: {
      if (short(GETXATTR_IN.size)) return tooShort();
      const name = cString(body, GETXATTR_IN.size);
      if (name === undefined) return malformed('no name');
      return { op: 'getxattr', name, count: body.readUInt32LE(GETXATTR_IN.count) };
    }
    case OP.access:
      if (short(ACCESS_IN.size)) return tooShort();
      return { op: 'access', mask: body.readUInt32LE(ACCESS_IN.mask) };
    case OP.interrupt:
      if (short(INTERRUPT_IN.size)) return tooShort();
      return { op: 'interrupt', target: body.readBigUInt64LE(INTERRUPT_IN.unique) };
    case OP.init: {
      if (short(INIT_IN.shortSize)) return tooShort();
      const low = BigInt(body.readUInt32LE(INIT_IN.flags));
      const extended = (low & FEATURE.extended) !== 0n && !short(INIT_IN.flags2 + 4);
      const high = extended ? BigInt(body.readUInt32LE(INIT_IN.flags2)) : 0n;
      return {
        op: 'init',
        major: body.readUInt32LE(INIT_IN.major),
        minor: body.readUInt32LE(INIT_IN.minor),
        features: low | (high << 32n),
      };
    }
    case OP.statfs:
      return { op: 'statfs' };
    case OP.destroy:
      return { op: 'destroy' };
    default:
      return { op: 'other', opcode };
  }
}

/** The bytes at `start` up to a NUL; undefined where there is none. */
function cString(body: Buffer, start: number): string | undefined {
  const end = body.indexOf(0, start);
  return end < 0 || start > body.length ? undefined : body.toString('latin1', start, end);
}

/** One line for people and tests, such as `lookup 4 node 1 pid 77 "wait"`. */
export function showRequest(request: FuseRequest): string {
  const { unique, nodeid, uid: _uid, gid: _gid, pid, op, ...rest } = request;
  const facts = Object.entries(rest).map(([key, value]) => `${key}=${showValue(value)}`);
  return [op, unique, `node ${nodeid}`, `pid ${pid}`, ...facts].join(' ');
}

function showValue(value: unknown): string {
  return JSON.stringify(value, (_key, part) => (typeof part === 'bigint' ? String(part) : part)) ?? 'none';
}
