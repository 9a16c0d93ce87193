import { describe, expect, it } from 'vitest';
import { sha256 } from '../dataset/digest.ts';
import { CorruptError } from '../dataset/errors.ts';
import { canonicalJson, type Json } from '../dataset/format/canonical-json.ts';
import { decodeVolume, encodeVolume, isSlot, newVolumeId, slotOf, slotOfId, type Volume, volumeKey } from './volume.ts';

const volume: Volume = {
  id: newVolumeId('pvc-1'),
  name: 'pvc-1',
  kind: 'workspace',
  dataset: 'imagenet',
  ref: 'v3',
  version: sha256('a version'),
  capacityBytes: 2 ** 30,
  created: '2026-01-02T03:04:05.678Z',
};
const key = volumeKey(slotOf('pvc-1'));

describe("a volume's id", () => {
  it('leads to the record of the name, and is new with each creation', () => {
    expect(slotOf('pvc-1')).not.toBe(slotOf('pvc-2'));
    expect(slotOfId(newVolumeId('pvc-1'))).toBe(slotOf('pvc-1'));
    expect(newVolumeId('pvc-1')).not.toBe(newVolumeId('pvc-1'));
    expect(isSlot(slotOf('a name with / and .. and \u{1f600}'))).toBe(true);
  });

  it('is told from text that could lead elsewhere', () => {
    for (const id of ['', 'vol-', '../repository.json', `${volume.id}/x`, `${volume.id}\n`, 'fake-vol-id', slotOf('x')])
      expect(slotOfId(id), id).toBeUndefined();
  });
});

describe("a volume's record", () => {
  it('has this form', () => {
    expect(encodeVolume(volume).toString()).toBe(
      `{"capacityBytes":1073741824,"created":"2026-01-02T03:04:05.678Z","dataset":"imagenet","format":1,"id":"${volume.id}",` +
        `"kind":"workspace","name":"pvc-1","ref":"v3","version":"${volume.version}"}\n`,
    );
  });

  it('is read back as it was', () => {
    expect(decodeVolume(encodeVolume(volume), key)).toEqual(volume);
    const { ref: _, ...headless } = volume;
    expect(decodeVolume(encodeVolume(headless), key)).toEqual(headless);
    const fetched = { ...volume, prefetch: 'train/**' };
    expect(decodeVolume(encodeVolume(fetched), key)).toEqual(fetched);
  });

  it('is read past fields of a later version', () => {
    expect(decodeVolume(Buffer.from(record({ lease: { node: 'n1' } })), key)).toEqual(volume);
  });

  it.each([
    ['no JSON', 'volume\n', /no JSON/],
    ['cut short', encodeVolume(volume).subarray(0, 90), /no JSON/],
    ['under a name that its id does not follow from', record({ name: 'pvc-2' }), /id is "vol-/],
    ['a list', '[]\n', /canonical form/],
    ['nothing', 'null\n', /canonical form/],
    ['of a later format', record({ format: 2 }), /format is 2/],
    ["another volume's", record({ id: newVolumeId('pvc-2') }), /id is "vol-/],
    ['without a name', record({ name: '' }), /name is ""/],
    ['of no kind', record({ kind: 'block' }), /kind is "block"/],
    ['without a dataset', record({ dataset: undefined }), /dataset is undefined/],
    ['with an empty reference', record({ ref: '' }), /ref is ""/],
    ['with a short version', record({ version: 'abc' }), /version is "abc"/],
    ['with a size below zero', record({ capacityBytes: -1 }), /capacityBytes is -1/],
    ['with a size in text', record({ capacityBytes: '1' }), /capacityBytes is "1"/],
    ['with no date', record({ created: 'today' }), /created is "today"/],
  ] as [string, string | Buffer, RegExp][])('is refused when it is %s', (_, bytes, message) => {
    expect(() => decodeVolume(Buffer.from(bytes), key)).toThrow(CorruptError);
    expect(() => decodeVolume(Buffer.from(bytes), key)).toThrow(message);
  });
});

function record(changes: Record<string, Json | undefined>): string {
  return canonicalJson({ format: 1, ...volume, ...changes });
}
