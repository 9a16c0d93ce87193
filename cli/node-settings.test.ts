import { describe, expect, it } from 'vitest';
import { InvalidError } from '../dataset/errors.ts';
import { bytes, choice, readNodeSettings } from './node-settings.ts';

describe('what the environment says of a node', () => {
  it('is left out where it says nothing', () => {
    expect(readNodeSettings({ LARDER_DEADLINE: '' })).toEqual({});
  });

  it('is read with its units', () => {
    expect(readNodeSettings({ LARDER_DEADLINE: '90s' })).toEqual({ deadline: 90_000 });
    expect(bytes({ A: '64M' }, 'A')).toBe(64 * 2 ** 20);
    expect(readNodeSettings({ LARDER_SCRUB_RATE: '2M', LARDER_VERITY: 'off' })).toEqual({
      scrubRate: 2 * 2 ** 20,
      verity: 'off',
    });
    expect(readNodeSettings({ LARDER_SCRUB_RATE: 'off' })).toEqual({ scrubRate: 0 });
    expect(readNodeSettings({ LARDER_PASSTHROUGH: 'off' })).toEqual({ passthrough: false });
    expect(readNodeSettings({ LARDER_READ_AHEAD: 'off' })).toEqual({ readAhead: false });
    expect(choice({ A: 'off' }, 'A', ['auto', 'off'])).toBe('off');
  });

  it('limits the cache by bytes or by a part of its disk', () => {
    expect(readNodeSettings({ LARDER_CACHE_LIMIT: '80%' })).toEqual({ limits: { limit: { percent: 80 } } });
    expect(readNodeSettings({ LARDER_CACHE_LIMIT: '500G', LARDER_CACHE_MIN_FREE: '0' })).toEqual({
      limits: { limit: { bytes: 500 * 2 ** 30 }, minFree: { bytes: 0 } },
    });
    for (const value of ['101%', '-1G', 'half']) {
      expect(() => readNodeSettings({ LARDER_CACHE_LIMIT: value })).toThrow(/LARDER_CACHE_LIMIT must be .*80%/);
    }
  });

  it('is refused by its name where it makes no sense', () => {
    expect(() => readNodeSettings({ LARDER_DEADLINE: 'soon' })).toThrow(/LARDER_DEADLINE must be .*30s.* not 'soon'/);
    expect(() => readNodeSettings({ LARDER_SCRUB_RATE: 'fast' })).toThrow(/LARDER_SCRUB_RATE must be .*'off'/);
    expect(() => choice({ A: 'on' }, 'A', ['auto', 'off'])).toThrow(InvalidError);
  });
});
