import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { generatedObjects } from '../bench/scale/objects.ts';
import type { Digest } from '../dataset/digest.ts';
import { UnavailableError } from '../dataset/errors.ts';
import { readSegment } from '../dataset/manifest.ts';
import { initRepository, type Repository } from '../dataset/repository.ts';
import { importListing } from '../dataset/source/import-listing.ts';
import { ensureImage } from './image-build.ts';
import { buildImage } from './image-files.ts';

/** More than are built in this process. */
const FILES = 25_000;

let folder: string;
let repository: Repository;
let version: { readonly repository: Repository; readonly version: Digest; readonly root: Digest };
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'larder-image-build-'));
  repository = await initRepository(join(folder, 'repository'));
  const imported = await importListing({
    repository,
    dataset: 'generated',
    branch: 'main',
    // Nothing is ever asked of it.
    bucket: { bucket: 'generated', location: 's3://generated?endpoint=http://127.0.0.1:9&region=us-east-1' },
    prefix: '',
    listing: generatedObjects(FILES),
    author: 'test',
    message: '',
  });
  version = { repository, version: imported.version.id, root: imported.version.root };
});
afterAll(async () => {
  await repository.bucket.close();
  rmSync(folder, { recursive: true, force: true });
});

function imagesFolder(): string {
  const images = join(folder, `images-${readdirSync(folder).length}`);
  mkdirSync(images);
  return images;
}

it('makes the same image and map in a process of its own as in place', async () => {
  const images = imagesFolder();
  const { file, map } = await ensureImage(images, version);
  const here = { file: join(images, 'here.erofs'), mapFile: join(images, 'here.map') };
  await buildImage({ repository, root: version.root, ...here });
  expect(readFileSync(file).equals(readFileSync(here.file))).toBe(true);
  expect(readFileSync(map.file).equals(readFileSync(here.mapFile))).toBe(true);
  expect(map.objects).toBe(FILES);
  const [first] = map.segments;
  const entry = (await readSegment(repository, first!)).find((one) => one.type === 'file')!;
  expect(map.candidates((entry as { content: { id: Digest } }).content.id)).toContain(first);
  expect(readdirSync(images).filter((name) => name.includes('.tmp'))).toEqual([]);
});

it('makes an image for a view in a process of its own too, and leaves the map that is there', async () => {
  const images = imagesFolder();
  const { map } = await ensureImage(images, version);
  const made = statSync(map.file).mtimeMs;
  const view = { uid: 1000, mountGroup: 2000 };
  const { file } = await ensureImage(images, version, { view });
  const here = join(images, 'here.erofs');
  await buildImage({ repository, root: version.root, view, file: here, mapFile: undefined });
  expect(readFileSync(file).equals(readFileSync(here))).toBe(true);
  expect(statSync(map.file).mtimeMs).toBe(made);
});

it('takes an image that is there, and makes a damaged map anew', async () => {
  const images = imagesFolder();
  const { map } = await ensureImage(images, version);
  const away = { ...repository.bucket, get: () => Promise.reject(new UnavailableError('the bucket is away')) };
  const unreachable = { ...version, repository: { ...repository, bucket: away } };
  await ensureImage(images, unreachable);
  truncateSync(map.file, 1000);
  await expect(ensureImage(images, unreachable)).rejects.toThrow('the bucket is away');
  expect((await ensureImage(images, version)).map.objects).toBe(FILES);
  writeFileSync(map.file, 'what an older format had');
  expect((await ensureImage(images, version)).map.objects).toBe(FILES);
});

it('ends with the reason when it is not wanted any more, and leaves nothing', async () => {
  const images = imagesFolder();
  const stopping = new AbortController();
  let reads = 0;
  const get: Repository['bucket']['get'] = (key, options) => {
    reads += 1;
    if (reads === 20) stopping.abort(new Error('nobody wants it'));
    return repository.bucket.get(key, options);
  };
  const counted = { ...version, repository: { ...repository, bucket: { ...repository.bucket, get } } };
  await expect(ensureImage(images, counted, { signal: stopping.signal })).rejects.toThrow('nobody wants it');
  expect(readdirSync(images)).toEqual([]);
});
