import { describe, expect, it } from 'vitest';
import { type Digest, sha256 } from '../dataset/digest.ts';
import { CorruptError, InvalidError } from '../dataset/errors.ts';
import { canonicalJson, type Json } from '../dataset/format/canonical-json.ts';
import type { VolumeSettings } from '../dataset/volume-terms.ts';
import { createRandom, type Random } from '../test/support/random.ts';
import { newId } from './record-kind.ts';
import { KEPT_LIMIT, type Volume, volumeRecords, volumeSlot } from './volume.ts';

const volume: Volume = {
  id: newId(volumeSlot('pvc-1')),
  name: 'pvc-1',
  kind: 'workspace',
  dataset: 'imagenet',
  ref: 'v3',
  base: sha256('a base'),
  version: sha256('a version'),
  lower: sha256('a lower'),
  kept: [sha256('an old lower')],
  capacityBytes: 2 ** 31,
  asked: { ref: 'v3', capacityBytes: 2 ** 30, settings: { retention: 'drop' } },
  settings: { prefetch: 'train/**', autosave: 0, retention: 'keep' },
  generation: 2,
  holder: { node: 'node-8', instance: 'i8', since: '2026-01-02T04:00:00.000Z', unsaved: true },
  savedAt: '2026-01-02T04:10:00.000Z',
  aside: ['aside/pvc-1/node-7-1'],
  created: '2026-01-02T03:04:05.678Z',
};
const key = `volumes/${volumeSlot('pvc-1')}`;

describe("a volume's id", () => {
  it('leads to the record of the name, and is new with each creation', () => {
    expect(volumeSlot('pvc-1')).not.toBe(volumeSlot('pvc-2'));
    expect(volumeRecords.slotOfId(newId(volumeSlot('pvc-1')))).toBe(volumeSlot('pvc-1'));
    expect(newId(volumeSlot('pvc-1'))).not.toBe(newId(volumeSlot('pvc-1')));
    expect(volumeRecords.isSlot(volumeSlot('a name with / and .. and \u{1f600}'))).toBe(true);
  });

  it('is told from text that could lead elsewhere', () => {
    for (const id of [
      '',
      'vol-',
      '../repository.json',
      `${volume.id}/x`,
      `${volume.id}\n`,
      'fake-vol-id',
      volumeSlot('x'),
    ])
      expect(volumeRecords.slotOfId(id), id).toBeUndefined();
  });
});

describe("a volume's record", () => {
  it('has this form', () => {
    const { id, base, version, lower, kept } = volume;
    expect(volumeRecords.encode(volume).toString()).toBe(
      '{"aside":["aside/pvc-1/node-7-1"],"asked":{"capacityBytes":1073741824,"ref":"v3","settings":{"retention":"drop"}},' +
        `"base":"${base}","capacityBytes":2147483648,"created":"2026-01-02T03:04:05.678Z","dataset":"imagenet","format":1,"generation":2,` +
        `"holder":{"instance":"i8","node":"node-8","since":"2026-01-02T04:00:00.000Z","unsaved":true},"id":"${id}","kept":["${kept}"],` +
        `"kind":"workspace","lower":"${lower}","name":"pvc-1","ref":"v3","savedAt":"2026-01-02T04:10:00.000Z",` +
        `"settings":{"autosave":0,"prefetch":"train/**","retention":"keep"},"version":"${version}"}\n`,
    );
  });

  it('is read back as it was, whatever of it there is', () => {
    const random = createRandom(7);
    for (let round = 0; round < 500; round++) {
      const any = anyVolume(random);
      const bytes = volumeRecords.encode(any);
      const back = volumeRecords.decode(bytes, `volumes/${volumeSlot(any.name)}`);
      expect(back).toEqual(any);
      expect(volumeRecords.encode(back)).toEqual(bytes);
    }
  });

  it('keeps members that it does not know when it is changed', () => {
    const later = {
      lease: { node: 'n1' },
      asked: { ...volume.asked, zone: 'a' },
      settings: { ...volume.settings, colour: 'red' },
      holder: { ...volume.holder, rack: 7 },
    } as unknown as Record<string, Json>;
    const { holder, ...read } = volumeRecords.decode(Buffer.from(record(later)), key);
    const changed: Volume = { ...read, holder: { ...holder!, since: volume.created }, generation: 3 };
    const expected = record({
      ...later,
      holder: { ...(later.holder as object), since: volume.created },
      generation: 3,
    });
    expect(volumeRecords.encode(changed).toString()).toBe(expected);
  });

  it('is not written with a member that could not be read, or longer than it may be', () => {
    const bad = { ...volume, holder: { ...volume.holder!, node: '' } };
    expect(() => volumeRecords.encode(bad)).toThrow(InvalidError);
    expect(() => volumeRecords.encode(bad)).toThrow(/cannot be recorded: holder\.node is ""/);
    expect(() => volumeRecords.encode({ ...volume, version: 'abc' as Digest })).toThrow(/version is "abc"/);
    expect(() => volumeRecords.encode({ ...volume, dataset: 'x'.repeat(40_000) })).toThrow(/40\d+ bytes|4\d{4} bytes/);
  });

  it.each([
    ['no JSON', 'volume\n', /no JSON/],
    ['cut short', volumeRecords.encode(volume).subarray(0, 90), /no JSON/],
    ['under a name that its id does not follow from', record({ name: 'pvc-2' }), /id is "vol-/],
    ['a list', '[]\n', /canonical form/],
    ['nothing', 'null\n', /canonical form/],
    ['of a later format', record({ format: 2 }), /format is 2/],
    ["another volume's", record({ id: newId(volumeSlot('pvc-2')) }), /id is "vol-/],
    ['without a name', record({ name: '' }), /name is ""/],
    ['of no kind', record({ kind: 'block' }), /kind is "block"/],
    ['without a dataset', record({ dataset: undefined }), /dataset is undefined/],
    ['with an empty reference', record({ ref: '' }), /ref is ""/],
    ['with a short version', record({ version: 'abc' }), /version is "abc"/],
    ['with a size below zero', record({ capacityBytes: -1 }), /capacityBytes is -1/],
    ['with a size in text', record({ capacityBytes: '1' }), /capacityBytes is "1"/],
    ['with no date', record({ created: 'today' }), /created is "today"/],
    ['without a base', record({ base: undefined }), /base is undefined/],
    ['with a lower that is none', record({ lower: 7 }), /lower is 7/],
    ['with kept versions that are none', record({ kept: ['x'] }), /kept is \["x"\]/],
    ['with an empty list', record({ aside: [] }), /aside is \[\]/],
    ['without what was asked', record({ asked: undefined }), /asked is undefined/],
    ['with text for what was asked', record({ asked: 'v3' }), /asked is "v3"/],
    ['without settings', record({ settings: undefined }), /settings is undefined/],
    ['without a retention', record({ settings: {} }), /settings\.retention is undefined/],
    ['with an unknown retention', record({ settings: { retention: 'burn' } }), /settings\.retention is "burn"/],
    [
      'with a mode beyond permissions',
      record({ settings: { retention: 'drop', mode: 0o1000 } }),
      /settings\.mode is 512/,
    ],
    ['with settings that it was not asked', record({ asked: { capacityBytes: 1 } }), /asked\.settings is undefined/],
    ['with half a generation', record({ generation: 0.5 }), /generation is 0.5/],
    ['without a generation', record({ generation: undefined }), /generation is undefined/],
    ['with a holder that is none', record({ holder: 'n1' }), /holder is "n1"/],
    [
      'with a holder without an instance',
      record({ holder: { node: 'n', since: volume.created } }),
      /holder\.instance is undef/,
    ],
    [
      'with a holder since no date',
      record({ holder: { node: 'n', instance: 'i', since: 'now' } }),
      /holder\.since is "now"/,
    ],
    ['with a source of no kind', record({ source: { kind: 'tape', id: 'x' } }), /source\.kind is "tape"/],
    ['with no date of a save', record({ savedAt: 'now' }), /savedAt is "now"/],
  ] as [string, string | Buffer, RegExp][])('is refused when it is %s', (_, bytes, message) => {
    expect(() => volumeRecords.decode(Buffer.from(bytes), key)).toThrow(CorruptError);
    expect(() => volumeRecords.decode(Buffer.from(bytes), key)).toThrow(message);
  });
});

function record(changes: Record<string, Json | undefined>): string {
  return canonicalJson({ format: 1, ...(volume as unknown as Record<string, Json>), ...changes });
}

/** A volume with or without each member that may be missing. */
function anyVolume(random: Random): Volume {
  const version = () => sha256(random.bytes(8));
  const text = () => random.pick(['a', 'pvc-1', 'team/é', '\u{1f600}', '"\\', ' x', '__proto__', 'constructor']);
  const maybe = <T>(name: string, make: () => T) => (random.oneIn(2) ? { [name]: make() } : {});
  const identity = () => ({ node: text(), instance: text() });
  const settings = (): VolumeSettings => ({
    ...maybe('prefetch', text),
    ...maybe('uid', () => random.below(2 ** 32 - 1)),
    ...maybe('gid', () => random.below(2 ** 32 - 1)),
    ...maybe('mode', () => random.below(0o1000)),
    ...maybe('deadline', () => random.below(1e9)),
    ...maybe('autosave', () => random.below(1e6)),
    ...maybe('bandwidth', () => random.below(2 ** 50)),
    ...maybe('follow', () => random.oneIn(2)),
    retention: random.pick(['drop', 'keep']),
  });
  const name = `${text()}${random.below(1000)}`;
  return {
    id: newId(volumeSlot(name)),
    name,
    kind: random.pick(['pinned', 'workspace']),
    dataset: text(),
    ...maybe('ref', text),
    base: version(),
    version: version(),
    ...maybe('lower', version),
    ...maybe('kept', () => Array.from({ length: 1 + random.below(KEPT_LIMIT) }, version)),
    capacityBytes: random.below(2 ** 53 - 1),
    asked: { ...maybe('ref', text), capacityBytes: random.below(2 ** 44), settings: settings() },
    settings: settings(),
    ...maybe('source', () => ({ kind: random.pick(['snapshot', 'volume']), id: text() })),
    generation: random.below(1e9),
    ...maybe('holder', () => ({
      ...identity(),
      since: new Date(random.below(2e12)).toISOString(),
      ...maybe('unsaved', () => true),
    })),
    ...maybe('last', identity),
    ...maybe('savedAt', () => new Date(random.below(2e12)).toISOString()),
    ...maybe('aside', () => Array.from({ length: 1 + random.below(KEPT_LIMIT) }, text)),
    created: new Date(random.below(2e12)).toISOString(),
  } as Volume;
}
