import { describe, expect, it } from 'vitest';
import { InvalidError } from '../dataset/errors.ts';
import { CapacityError } from './capacity.ts';
import { readEphemeral, readMutable, readParameters, type Source, sourceName } from './parameters.ts';

const drop = { retention: 'drop' };
const settingsOf = (parameters: Record<string, string>) =>
  readParameters({ dataset: 'imagenet', ...parameters }).settings;

describe("a volume's parameters", () => {
  it('name a dataset, with or without a reference', () => {
    expect(readParameters({ dataset: 'imagenet' })).toEqual({ source: { dataset: 'imagenet' }, settings: drop });
    expect(readParameters({ dataset: 'team/imagenet@v3' }).source).toEqual({ dataset: 'team/imagenet', ref: 'v3' });
    expect(readParameters({ dataset: 'imagenet', version: 'v3' }).source).toEqual({ dataset: 'imagenet', ref: 'v3' });
  });

  it('mean the same in either form', () => {
    const name = (parameters: Record<string, string>) => sourceName(readParameters(parameters).source as Source);
    expect(name({ dataset: 'imagenet@v3' })).toBe('imagenet@v3');
    expect(name({ dataset: 'imagenet', version: 'v3' })).toBe('imagenet@v3');
    expect(name({ dataset: 'imagenet' })).toBe('imagenet');
  });

  it.each([
    [{ prefetch: 'all' }, { prefetch: 'all' }],
    [{ prefetch: 'train/**' }, { prefetch: 'train/**' }],
    [{ prefetch: 'none' }, {}],
    [
      { uid: '0', gid: '4294967294' },
      { uid: 0, gid: 4294967294 },
    ],
    [{ uid: 'dataset', gid: 'dataset', mode: 'dataset' }, {}],
    [{ mode: '0750' }, { mode: 0o750 }],
    [{ mode: '755' }, { mode: 0o755 }],
    [{ deadline: '90s' }, { deadline: 90_000 }],
    [{ deadline: 'default', autosave: 'default' }, {}],
    [{ autosave: '5m' }, { autosave: 300_000 }],
    [{ autosave: 'off' }, { autosave: 0 }],
    [{ bandwidth: '50M' }, { bandwidth: 50 * 2 ** 20 }],
    [{ bandwidth: 'off' }, {}],
    [{ retention: 'keep' }, { retention: 'keep' }],
    [{ retention: 'drop' }, {}],
    [{ follow: 'true' }, { follow: true }],
    [{ follow: 'false' }, {}],
  ] as [Record<string, string>, object][])('set how the volume is served: %j', (parameters, expected) => {
    const settings = settingsOf(parameters);
    expect(settings).toStrictEqual({ ...drop, ...expected });
  });

  it("let Kubernetes' own keys through", () => {
    expect(readParameters({ dataset: 'imagenet', 'csi.storage.k8s.io/pvc/name': 'data' }).source).toEqual({
      dataset: 'imagenet',
    });
  });

  it('are overruled by those that can change', () => {
    const mutable = { version: 'v4', prefetch: 'none', retention: 'keep' };
    expect(readParameters({ dataset: 'imagenet@v3', prefetch: 'all', uid: '7' }, { mutable })).toStrictEqual({
      source: { dataset: 'imagenet', ref: 'v4' },
      settings: { retention: 'keep', uid: 7 },
    });
    expect(() => readParameters({ dataset: 'imagenet' }, { mutable: { uid: '7' } })).toThrow(/"uid": it is settled/);
  });

  it('need no dataset where the volume is made of something that has one', () => {
    expect(readParameters({ retention: 'keep' }, { restored: true })).toEqual({ settings: { retention: 'keep' } });
    expect(readParameters({ dataset: 'imagenet@v3' }, { restored: true }).source?.dataset).toBe('imagenet');
  });

  it.each([
    [{ dataset: 'imagenet', dataSet: 'x' }, /"dataSet".*no such.*dataset.*version.*retention/s],
    [{}, /"dataset": it is missing.*version/s],
    [{ version: 'v3' }, /"dataset": it is missing/],
    [{ dataset: '' }, /"dataset": it is empty/],
    [{ dataset: 'imagenet', version: '' }, /"version": it is empty/],
    [{ dataset: 'imagenet@' }, /"dataset": "imagenet@" is not/],
    [{ dataset: '@v3' }, /"dataset": "@v3" is not/],
    [{ dataset: 'imagenet@v3', version: 'v3' }, /"version": dataset has @v3 already/],
    [{ dataset: 'imagenet', prefetch: 'everything' }, /"prefetch" must be all, none, or a glob.*not 'everything'/],
    [{ dataset: 'imagenet', prefetch: '' }, /"prefetch": it is empty/],
    [{ dataset: 'imagenet', uid: '-1' }, /"uid" must be a number from 0 to 4294967294.*not '-1'/],
    [{ dataset: 'imagenet', uid: '4294967295' }, /"uid" must be/],
    [{ dataset: 'imagenet', uid: 'root' }, /"uid" must be/],
    [{ dataset: 'imagenet', gid: '1.5' }, /"gid" must be a number.*not '1.5'/],
    [{ dataset: 'imagenet', gid: '' }, /"gid": it is empty/],
    [{ dataset: 'imagenet', mode: '0888' }, /"mode" must be an octal number.*0750.*not '0888'/],
    [{ dataset: 'imagenet', mode: '4755' }, /"mode" must be/],
    [{ dataset: 'imagenet', mode: 'u=rwx' }, /"mode" must be/],
    [{ dataset: 'imagenet', deadline: '0s' }, /"deadline" must be from 1s to 1d.*not '0s'/],
    [{ dataset: 'imagenet', deadline: '2d' }, /"deadline" must be/],
    [{ dataset: 'imagenet', deadline: '30' }, /"deadline" must be/],
    [{ dataset: 'imagenet', autosave: '500ms' }, /"autosave" must be from 1s to 1d.*off.*not '500ms'/],
    [{ dataset: 'imagenet', autosave: 'on' }, /"autosave" must be/],
    [{ dataset: 'imagenet', bandwidth: '1K' }, /"bandwidth" must be from 64K on.*off.*not '1K'/],
    [{ dataset: 'imagenet', bandwidth: 'fast' }, /"bandwidth" must be/],
    [{ dataset: 'imagenet', retention: 'burn' }, /"retention" must be drop .*keep .*not 'burn'/],
    [{ dataset: 'imagenet', follow: 'yes' }, /"follow" must be true or false, not 'yes'/],
    [{ dataset: 'imagenet', writable: 'true' }, /"writable": there is no such/],
    [{ dataset: 'imagenet', constructor: 'x' }, /"constructor": there is no such/],
    [JSON.parse('{"dataset":"imagenet","__proto__":"x"}'), /"__proto__": there is no such/],
  ] as [Record<string, string>, RegExp][])('are refused by key, with the choices: %j', (parameters, message) => {
    expect(() => readParameters(parameters)).toThrow(InvalidError);
    expect(() => readParameters(parameters)).toThrow(message);
  });
});

describe('parameters that change', () => {
  it('are those that pods can live with', () => {
    expect(readMutable({})).toEqual({ settings: {} });
    expect(readMutable({ version: 'v4', autosave: 'off', 'csi.storage.k8s.io/pvc/name': 'x' })).toStrictEqual({
      ref: 'v4',
      settings: { autosave: 0 },
    });
  });

  it('go back to their defaults by the words for those', () => {
    const words = { prefetch: 'none', deadline: 'default', autosave: 'default', bandwidth: 'off', follow: 'false' };
    const { settings } = readMutable({ ...words, retention: 'drop' });
    const none = undefined;
    expect(settings).toStrictEqual({
      prefetch: none,
      deadline: none,
      autosave: none,
      bandwidth: none,
      follow: none,
      retention: 'drop',
    });
  });

  it.each([
    [{ dataset: 'other' }, /"dataset": it is settled when the volume is created.*can change are: version/s],
    [{ uid: '7' }, /"uid": it is settled/],
    [{ gid: '7' }, /"gid": it is settled/],
    [{ mode: '0700' }, /"mode": it is settled/],
    [{ iops: '7' }, /"iops": there is no such.*parameters that can change are: version.*autosave/s],
    [{ version: '' }, /"version": it is empty/],
    [{ autosave: 'never' }, /"autosave" must be .*not 'never'/],
    [{ constructor: 'x' }, /"constructor": there is no such/],
  ] as [Record<string, string>, RegExp][])('are refused by key, with the choices: %j', (parameters, message) => {
    expect(() => readMutable(parameters)).toThrow(InvalidError);
    expect(() => readMutable(parameters)).toThrow(message);
  });
});

describe('attributes of an ephemeral volume', () => {
  const pod = { 'csi.storage.k8s.io/ephemeral': 'true', 'csi.storage.k8s.io/pod.name': 'train-0' };

  it('make a pinned volume, or a workspace that is gone with its pod', () => {
    expect(readEphemeral({ ...pod, dataset: 'imagenet@v3', prefetch: 'all' })).toStrictEqual({
      source: { dataset: 'imagenet', ref: 'v3' },
      kind: 'pinned',
      settings: { ...drop, prefetch: 'all' },
    });
    expect(readEphemeral({ ...pod, dataset: 'imagenet', writable: 'false' }).kind).toBe('pinned');
    expect(readEphemeral({ dataset: 'imagenet', writable: 'true', gid: '9' })).toStrictEqual({
      source: { dataset: 'imagenet' },
      kind: 'workspace',
      capacityBytes: 2 ** 30,
      settings: { ...drop, gid: 9 },
    });
    expect(readEphemeral({ dataset: 'imagenet', writable: 'true', size: '2G' }).capacityBytes).toBe(2 ** 31);
  });

  it.each([
    [{}, /"dataset": it is missing.*writable.*size/s],
    [{ dataset: 'imagenet', writable: 'yes' }, /"writable" must be true or false, not 'yes'/],
    [{ dataset: 'imagenet', size: '2G' }, /"size": it needs writable: true/],
    [{ dataset: 'imagenet', writable: 'true', size: '-1' }, /"size": "-1" is not a number of bytes/],
    [{ dataset: 'imagenet', writable: 'true', size: '0' }, /"size": "0" is not/],
    [{ dataset: 'imagenet', autosave: '10s' }, /"autosave": an ephemeral volume ends with its pod/],
    [{ dataset: 'imagenet', retention: 'keep' }, /"retention": an ephemeral volume ends with its pod/],
    [{ dataset: 'imagenet', follow: 'true' }, /"follow": an ephemeral volume is looked up when its pod starts/],
    [{ dataset: 'imagenet', mode: 'x' }, /"mode" must be/],
    [{ dataset: 'imagenet', iops: '7' }, /"iops": there is no such/],
  ] as [Record<string, string>, RegExp][])('are refused by key, with the choices: %j', (attributes, message) => {
    expect(() => readEphemeral(attributes)).toThrow(InvalidError);
    expect(() => readEphemeral(attributes)).toThrow(message);
  });

  it('ask for no more than a volume can have', () => {
    const attributes = { dataset: 'imagenet', writable: 'true', size: '1P' };
    expect(() => readEphemeral(attributes)).toThrow(CapacityError);
  });
});
