import type { Digest } from './digest.ts';
import { escapeName } from './names.ts';

/** Where objects of a repository lie. Two hexadecimal digits between keep folders of a directory bucket small. */
function spread(kind: string, id: Digest): string {
  return `${kind}/${id.slice(0, 2)}/${id}`;
}

export const PACKS = 'packs/';
export const SEGMENTS = 'segments/';
export const LOCATIONS = 'locations/';
export const VERSIONS = 'versions/';
export const DATASETS = 'datasets/';
export const SOURCES = 'sources/';

export function packKey(pack: Digest): string {
  return spread('packs', pack);
}

export function segmentKey(segment: Digest): string {
  return spread('segments', segment);
}

export function locationsKey(segment: Digest): string {
  return spread('locations', segment);
}

export function versionKey(version: Digest): string {
  return spread('versions', version);
}

/** The record of where a bucket is whose objects versions refer to. */
export function sourceKey(bucket: string): string {
  return SOURCES + escapeName(bucket);
}

/** Marks of versions whose parents were left out. */
export const SHALLOW = 'shallow/';

export function shallowKey(version: Digest): string {
  return SHALLOW + version;
}

export type RefKind = 'branch' | 'tag';

/** The folder of a dataset's refs, with its slash. */
export function refsPrefix(dataset: string, kind: RefKind): string {
  return `${DATASETS}${escapeName(dataset)}/${kind === 'branch' ? 'branches' : 'tags'}/`;
}

export function refKey(dataset: string, kind: RefKind, name: string): string {
  return refsPrefix(dataset, kind) + escapeName(name);
}
