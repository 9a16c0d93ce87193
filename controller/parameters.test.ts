import { describe, expect, it } from 'vitest';
import { InvalidError } from '../dataset/errors.ts';
import { readParameters, sourceName } from './parameters.ts';

describe("a volume's parameters", () => {
  it('name a dataset, with or without a reference', () => {
    expect(readParameters({ dataset: 'imagenet' })).toEqual({ dataset: 'imagenet' });
    expect(readParameters({ dataset: 'team/imagenet@v3' })).toEqual({ dataset: 'team/imagenet', ref: 'v3' });
    expect(readParameters({ dataset: 'imagenet', version: 'v3' })).toEqual({ dataset: 'imagenet', ref: 'v3' });
  });

  it('mean the same in either form', () => {
    expect(sourceName(readParameters({ dataset: 'imagenet@v3' }))).toBe('imagenet@v3');
    expect(sourceName(readParameters({ dataset: 'imagenet', version: 'v3' }))).toBe('imagenet@v3');
    expect(sourceName(readParameters({ dataset: 'imagenet' }))).toBe('imagenet');
  });

  it('say what a node fetches when it stages the volume', () => {
    expect(readParameters({ dataset: 'imagenet', prefetch: 'all' })).toEqual({ dataset: 'imagenet', prefetch: 'all' });
    expect(readParameters({ dataset: 'imagenet@v3', prefetch: 'train/**' })).toEqual({
      dataset: 'imagenet',
      ref: 'v3',
      prefetch: 'train/**',
    });
    expect(readParameters({ dataset: 'imagenet', prefetch: 'none' })).toEqual({ dataset: 'imagenet' });
  });

  it("let Kubernetes' own keys through", () => {
    expect(readParameters({ dataset: 'imagenet', 'csi.storage.k8s.io/pvc/name': 'data' })).toEqual({
      dataset: 'imagenet',
    });
  });

  it.each([
    [{ dataset: 'imagenet', dataSet: 'x' }, /"dataSet".*no such.*dataset.*version/s],
    [{}, /"dataset": it is missing.*version/s],
    [{ version: 'v3' }, /"dataset": it is missing/],
    [{ dataset: '' }, /"dataset": it is empty/],
    [{ dataset: 'imagenet', version: '' }, /"version": it is empty/],
    [{ dataset: 'imagenet@' }, /"dataset": "imagenet@" is not/],
    [{ dataset: '@v3' }, /"dataset": "@v3" is not/],
    [{ dataset: 'imagenet@v3', version: 'v3' }, /"version": dataset has @v3 already/],
    [{ dataset: 'imagenet', prefetch: 'everything' }, /"prefetch" must be all, none, or a glob.*not 'everything'/],
    [{ dataset: 'imagenet', prefetch: '' }, /"prefetch": it is empty/],
    [{ dataset: 'imagenet', constructor: 'x' }, /"constructor": there is no such/],
  ] as [Record<string, string>, RegExp][])('are refused by key, with the choices: %j', (parameters, message) => {
    expect(() => readParameters(parameters)).toThrow(InvalidError);
    expect(() => readParameters(parameters)).toThrow(message);
  });
});
