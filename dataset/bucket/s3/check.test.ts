import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { checkOf } from './check.ts';
import { crc32Of, crc32Text, sliceOf } from './parts.ts';

const bytes = Buffer.from('123456789');

function faultOf(headers: Record<string, string>, found: Uint8Array = bytes): string | undefined {
  const check = checkOf(headers);
  check?.update(found.subarray(0, 4));
  check?.update(found.subarray(4));
  return check === undefined ? 'unchecked' : check.fault();
}

test('bytes are compared with what the store keeps of the whole object', () => {
  // The check value of CRC-32 in every catalogue: CBF43926.
  expect(crc32Text(crc32Of([bytes.subarray(0, 3), bytes.subarray(3)]))).toBe(
    Buffer.from('cbf43926', 'hex').toString('base64'),
  );
  const headers = {
    'x-amz-checksum-crc32': 'y/Q5Jg==',
    'x-amz-checksum-sha256': createHash('sha256').update(bytes).digest('base64'),
    'x-amz-checksum-sha1': createHash('sha1').update(bytes).digest('base64'),
  };
  for (const [name, value] of Object.entries(headers)) {
    expect(faultOf({ [name]: value })).toBeUndefined();
    expect(faultOf({ [name]: value }, Buffer.from('12345678!'))).toContain('and was');
  }
});

test('checksums of parts, unknown ones and those of an encoded object are left alone', () => {
  expect(faultOf({ 'x-amz-checksum-crc32': 'y/Q5Jg==-3' })).toBe('unchecked');
  expect(faultOf({ 'x-amz-checksum-crc32': 'AAAAAA==', 'x-amz-checksum-type': 'COMPOSITE' })).toBe('unchecked');
  expect(faultOf({ 'x-amz-checksum-crc64nvme': 'AAAAAAAAAAA=' })).toBe('unchecked');
  expect(faultOf({ 'x-amz-checksum-crc32': 'AAAAAA==', 'content-encoding': 'gzip' })).toBe('unchecked');
  expect(faultOf({})).toBe('unchecked');
});

test('a slice of parts is all of it and no more', () => {
  const parts = [bytes.subarray(0, 0), bytes.subarray(0, 2), bytes.subarray(2, 7), bytes.subarray(7)];
  for (let start = 0; start < bytes.length; start++)
    for (let end = start; end <= bytes.length; end++)
      expect(Buffer.concat(sliceOf(parts, start, end)).toString()).toBe(bytes.subarray(start, end).toString());
});
