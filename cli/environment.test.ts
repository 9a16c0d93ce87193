import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Machine, readEnvironment } from './environment.ts';

const user: Machine = { uid: 1000, user: 'ada', host: 'lab', home: '/home/ada', temporary: '/tmp' };
const root: Machine = { ...user, uid: 0, user: 'root', home: '/root' };

describe('the environment', () => {
  it('has defaults for a user', () => {
    expect(readEnvironment({}, user)).toEqual({
      repository: '/home/ada/.local/share/larder/repository',
      cache: '/home/ada/.cache/larder',
      runtime: '/tmp/larder-1000',
      author: 'ada@lab',
      node: 'lab',
      csiEndpoint: undefined,
    });
  });

  it('has defaults for root that everyone on the node finds', () => {
    expect(readEnvironment({ XDG_CACHE_HOME: '/x', XDG_RUNTIME_DIR: '/y' }, root)).toMatchObject({
      repository: '/var/lib/larder/repository',
      cache: '/var/lib/larder/cache',
      runtime: '/run/larder',
    });
  });

  it('follows the XDG base directories', () => {
    const env = { XDG_DATA_HOME: '/d', XDG_CACHE_HOME: '/c', XDG_RUNTIME_DIR: '/r' };
    expect(readEnvironment(env, user)).toMatchObject({
      repository: '/d/larder/repository',
      cache: '/c/larder',
      runtime: '/r/larder',
    });
  });

  it('lets an option win over a variable, and a variable over a default', () => {
    const env = { LARDER_REPOSITORY: '/env', LARDER_CACHE: '/cache', LARDER_RUNTIME: '/run/x', LARDER_AUTHOR: 'Ada' };
    expect(readEnvironment(env, root)).toMatchObject({
      repository: '/env',
      cache: '/cache',
      runtime: '/run/x',
      author: 'Ada',
    });
    expect(readEnvironment(env, root, '/option').repository).toBe('/option');
  });

  it('makes every path absolute, and writes a URL in the one way', () => {
    const env = { LARDER_REPOSITORY: 'repository', LARDER_CACHE: 'cache', LARDER_RUNTIME: '../run' };
    expect(readEnvironment(env, user)).toMatchObject({
      repository: resolve('repository'),
      cache: resolve('cache'),
      runtime: resolve('../run'),
    });
    expect(readEnvironment(env, user, 's3://bucket/a//b/?region=x&endpoint=http://h/').repository).toBe(
      's3://bucket/a/b?endpoint=http://h&region=x',
    );
    expect(readEnvironment(env, user, 's3://bucket/a?credentials=keys').repository).toBe(
      `s3://bucket/a?credentials=${resolve('keys')}`,
    );
    expect(readEnvironment(env, user, 'gs://bucket/a').repository).toBe('gs://bucket/a');
  });

  it('takes an empty variable for an absent one', () => {
    expect(readEnvironment({ LARDER_REPOSITORY: '', CSI_ENDPOINT: '' }, user)).toEqual(readEnvironment({}, user));
  });
});
