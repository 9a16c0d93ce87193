import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { crc32Text } from './parts.ts';

/** Compares bytes with what the store says about the whole object. */
export interface Check {
  update(block: Uint8Array): void;
  /** What is wrong, after all bytes. */
  fault(): string | undefined;
}

/**
 * The check that an answer's headers allow, if any. A checksum with a dash is one of the parts' checksums, and tells nothing about
 * the bytes as a whole; CRC-32C and CRC-64/NVME are left alone, as Node has neither.
 */
export function checkOf(headers: Readonly<Record<string, string>>): Check | undefined {
  // An encoding that a proxy takes off changes the bytes.
  if (headers['content-encoding'] !== undefined && headers['content-encoding'] !== 'aws-chunked') return undefined;
  const crc = headers['x-amz-checksum-crc32'];
  if (isWhole(headers, crc)) {
    let sum = 0;
    return {
      update: (block) => {
        sum = crc32(block, sum);
      },
      fault: () => compared('CRC-32', crc32Text(sum), crc),
    };
  }
  for (const algorithm of ['sha256', 'sha1'] as const) {
    const expected = headers[`x-amz-checksum-${algorithm}`];
    if (!isWhole(headers, expected)) continue;
    const sum = createHash(algorithm);
    return {
      update: (block) => sum.update(block),
      fault: () => compared(algorithm === 'sha1' ? 'SHA-1' : 'SHA-256', sum.digest('base64'), expected),
    };
  }
  return undefined;
}

function isWhole(headers: Readonly<Record<string, string>>, sum: string | undefined): sum is string {
  return sum !== undefined && !sum.includes('-') && headers['x-amz-checksum-type'] !== 'COMPOSITE';
}

function compared(name: string, found: string, expected: string): string | undefined {
  return found === expected ? undefined : `its ${name} is ${found}, and was ${expected}`;
}
