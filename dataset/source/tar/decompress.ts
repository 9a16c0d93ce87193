import { Readable, type Transform } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { CorruptError, InvalidError } from '../../errors.ts';
import { PullBytes } from './pull-bytes.ts';
import { zstdFrames } from './zstd-frames.ts';

/** What a stream begins with that Larder does not read, and what does. */
const OTHERS = [
  { name: 'bzip2', magic: Buffer.from('BZh', 'latin1'), program: 'bzip2' },
  { name: 'xz', magic: Buffer.from('fd377a585a00', 'hex'), program: 'xz' },
  { name: 'lz4', magic: Buffer.from('04224d18', 'hex'), program: 'lz4' },
] as const;

const GZIP = Buffer.from('1f8b', 'hex');
/** A frame, or a frame to be skipped before one. */
const ZSTD = [Buffer.from('28b52ffd', 'hex'), Buffer.from('2a4d18', 'hex')] as const;
const UNIT = 1 << 20;

/**
 * The bytes of a stream, decompressed where it begins as gzip or zstd does, in one piece or several.
 * @param name for messages
 */
export async function* decompressed(stream: AsyncIterable<Uint8Array>, name: string): AsyncGenerator<Buffer> {
  const bytes = new PullBytes(stream);
  try {
    const start = Buffer.from(await bytes.exactly(6));
    const begins = (magic: Buffer, at = 0) => start.subarray(at, at + magic.length).equals(magic);
    const other = OTHERS.find(({ magic }) => begins(magic));
    if (other)
      throw new InvalidError(
        `${name} is compressed with ${other.name}, which Larder does not read: try '${other.program} -dc FILE | larder import - NAME'`,
        { facts: { compression: other.name } },
      );
    async function* all(): AsyncGenerator<Buffer> {
      if (start.length > 0) yield start;
      for (let block = await bytes.some(UNIT); block !== undefined; block = await bytes.some(UNIT)) yield block;
    }
    if (begins(GZIP)) yield* through(createGunzip(), all(), `${name} cannot be decompressed as gzip`);
    else if (begins(ZSTD[0]) || (begins(ZSTD[1], 1) && (start[0]! & 0xf0) === 0x50)) {
      for await (const frame of zstdFrames(new PullBytes(all())))
        yield* through(createZstdDecompress(), frame, `${name} cannot be decompressed as zstd`);
    } else yield* all();
  } finally {
    await bytes.close();
  }
}

/** What a decompressor makes of a stream. */
async function* through(output: Transform, stream: AsyncIterable<Buffer>, failure: string): AsyncGenerator<Buffer> {
  // A decompressor may hold a block while the next is asked for, which ours are not good for.
  async function* copies(): AsyncGenerator<Buffer> {
    for await (const block of stream) if (block.length > 0) yield Buffer.from(block);
  }
  const input = Readable.from(copies(), { objectMode: false });
  // What makes the input fail makes the output fail with the same.
  input.on('error', (error) => output.destroy(error));
  input.pipe(output);
  try {
    for await (const block of output) yield block as Buffer;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (typeof code !== 'string' || !/^(Z_|ZSTD_|ERR_ZLIB|ERR_ZSTD|ERR_STREAM_PREMATURE)/.test(code)) throw error;
    throw new CorruptError(`${failure}: ${(error as Error).message}; it may be cut short`, { cause: error });
  } finally {
    input.destroy();
    output.destroy();
  }
}
