import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import koffi from 'koffi';

/**
 * Zstandard in one call with a context that is kept. `node:zlib` makes a stream object and a context for every call, which costs
 * ten times what a small chunk's compression does; the Node binary has the library's functions, so they are called directly.
 * Where it does not export them (a Node built otherwise), `node:zlib` does the same work.
 */
interface Library {
  compress(target: Uint8Array, source: Uint8Array, level: number): number;
  decompress(target: Uint8Array, source: Uint8Array): number;
}

let library: Library | undefined;

function load(): Library {
  library ??= native() ?? viaNode;
  return library;
}

function native(): Library | undefined {
  const self = koffi.load(null);
  const find = (name: string, result: string, types: string[]) => {
    try {
      return self.func(name, result, types) as unknown as (...args: unknown[]) => number | bigint;
    } catch {
      // The symbol is not there: the caller falls back.
      return undefined;
    }
  };
  const createCompressor = find('ZSTD_createCCtx', 'void *', []);
  const createDecompressor = find('ZSTD_createDCtx', 'void *', []);
  const compress = find('ZSTD_compressCCtx', 'size_t', ['void *', 'void *', 'size_t', 'void *', 'size_t', 'int']);
  const decompress = find('ZSTD_decompressDCtx', 'size_t', ['void *', 'void *', 'size_t', 'void *', 'size_t']);
  if (!createCompressor || !createDecompressor || !compress || !decompress) return undefined;
  // Kept for the life of the thread: a megabyte or so each.
  const compressor = createCompressor();
  const decompressor = createDecompressor();
  if (!compressor || !decompressor) return undefined;
  // An error is a size that no buffer has: the negative error code as an unsigned 64-bit number.
  const sizeOf = (result: number | bigint, limit: number) => (result <= limit ? Number(result) : -1);
  return {
    compress: (target, source, level) =>
      sizeOf(compress(compressor, target, target.length, source, source.length, level), target.length),
    decompress: (target, source) =>
      sizeOf(decompress(decompressor, target, target.length, source, source.length), target.length),
  };
}

const viaNode: Library = {
  compress(target, source, level) {
    const result = zstdCompressSync(source, { params: { [constants.ZSTD_c_compressionLevel]: level } });
    if (result.length > target.length) return -1;
    target.set(result);
    return result.length;
  },
  decompress(target, source) {
    try {
      const result = zstdDecompressSync(source, { maxOutputLength: Math.max(1, target.length) });
      target.set(result);
      return result.length;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code?.startsWith('ZSTD_') || code === 'ERR_BUFFER_TOO_LARGE' || code?.startsWith('Z_')) return -1;
      throw error;
    }
  },
};

/**
 * Compresses `source` into `target` as one frame that states its content's size.
 * @returns the frame's length in bytes, or -1 where it does not fit into `target`
 */
export function zstdCompress(target: Uint8Array, source: Uint8Array, level: number): number {
  return target.length === 0 ? -1 : load().compress(target, source, level);
}

/**
 * Decompresses one frame, or several in a row.
 * @returns the content's length in bytes, or -1 where `source` is damaged or its content does not fit into `target`
 */
export function zstdDecompress(target: Uint8Array, source: Uint8Array): number {
  return load().decompress(target, source);
}
