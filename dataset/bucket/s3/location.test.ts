import { resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { InvalidError } from '../../errors.ts';
import { bucketAt, canonicalLocation } from '../at.ts';
import { formatS3Location, parseS3Location } from './location.ts';

const canonical = (location: string) => formatS3Location(parseS3Location(location));

describe('an s3:// location', () => {
  test('has a bucket, a prefix and options', () => {
    expect(
      parseS3Location(
        's3://data/team/a?endpoint=http://127.0.0.1:7070&region=eu-1&path-style=true&sse=aws:kms&sse-key=arn:aws:kms:eu-1:1:key/2&storage-class=STANDARD_IA&tags=team%3Dvision%26cost%3D7&profile=lab&requests=8',
      ),
    ).toEqual({
      bucket: 'data',
      prefix: 'team/a',
      options: {
        endpoint: 'http://127.0.0.1:7070',
        region: 'eu-1',
        pathStyle: true,
        sse: 'aws:kms',
        sseKey: 'arn:aws:kms:eu-1:1:key/2',
        storageClass: 'STANDARD_IA',
        tags: 'team=vision&cost=7',
        profile: 'lab',
        requests: 8,
      },
    });
  });

  test.each([
    ['s3://b', 's3://b'],
    ['s3://b/', 's3://b'],
    ['S3://b//x///y/?', 's3://b/x/y'],
    ['s3://b/x?region=r&endpoint=https://h:9/', 's3://b/x?endpoint=https://h:9&region=r'],
    ['s3://b/x?path-style=false&requests=32', 's3://b/x'],
    ['s3://b/x?credentials=keys', `s3://b/x?credentials=${resolve('keys')}`],
    ['s3://b/a%20b/%C3%A4', 's3://b/a%20b/%C3%A4'],
    ['s3://b/a b/ä?tags=a%3D1', 's3://b/a%20b/%C3%A4?tags=a%3D1'],
    ['s3://b/100%25', 's3://b/100%25'],
  ])('%s is written %s', (location, expected) => {
    expect(canonical(location)).toBe(expected);
    expect(canonical(expected)).toBe(expected);
    expect(canonicalLocation(location)).toBe(expected);
  });

  test.each([
    ['s3://b?endpont=http://h', "no parameter 'endpont': did you mean 'endpoint'?"],
    ['s3://b?constructor=1', "no parameter 'constructor'"],
    ['s3://b?region=a&region=b', "'region' is twice"],
    ['s3://b?region=', 'a value, or leave it out'],
    ['s3://b?path-style=yes', 'true or false'],
    ['s3://b?requests=0', 'from 1 to 10000'],
    ['s3://b?requests=1e3', 'from 1 to 10000'],
    ['s3://b?endpoint=ftp://h', 'a URL such as'],
    ['s3://b?sse=none', 'AES256 or aws:kms'],
    ['s3://b?sse-key=k', "goes with 'sse=aws:kms'"],
    ['s3://b?tags=team', 'key=value'],
    ['s3://b?tags=team%3Dgrün', 'percent-encoded'],
    ['s3://b?profile=a&credentials=/b', 'not both'],
    ['s3://b/100%', "write '%' as '%25'"],
    ['s3://b/a/../c', 'cannot be a prefix'],
    ['s3://', 'is no name of a bucket'],
    ['s3:///x', 'is no name of a bucket'],
    ['s3://b b/x', 'is no name of a bucket'],
  ])('%s is refused: %s', (location, reason) => {
    expect(() => parseS3Location(location)).toThrow(InvalidError);
    expect(() => parseS3Location(location)).toThrow(reason);
  });

  test.each([
    's3://AKIA:topsecret@b/x',
    's3://b?endpoint=http://AKIA:topsecret@h',
    's3://b?endpoint=ftp://u:topsecret@h',
  ])('a secret in one is refused, and not repeated: %s', (location) => {
    expect(() => parseS3Location(location)).toThrow(InvalidError);
    expect(() => parseS3Location(location)).not.toThrow('topsecret');
  });

  test('opens a bucket that is named without its parameters', async () => {
    const { bucket, location } = await bucketAt('s3://b/x/?endpoint=http://127.0.0.1:1&requests=32');
    expect(bucket.name).toBe('s3://b/x');
    expect(location).toBe('s3://b/x?endpoint=http://127.0.0.1:1');
    await bucket.close();
  });

  test('of another kind is refused, and a path is a directory', async () => {
    await expect(bucketAt('gs://bucket/x')).rejects.toThrow('nothing can be kept at gs://');
    expect(canonicalLocation('some/where')).toBe(resolve('some/where'));
  });
});
