/** A version's manifest: the tree of segments that holds its entries. Layout: dataset/format and docs/formats.md. */
export type { ChunkRef } from './format/chunk-list.ts';
export { chunksOf } from './format/chunk-list.ts';
export type { IndexNode, SegmentRef } from './format/index-node.ts';
export type { EntryChange } from './manifest/change-cursor.ts';
export { pathOfChange } from './manifest/change-cursor.ts';
export { type EditedManifest, editManifest } from './manifest/edit.ts';
export { findEntry, type ReadOptions, readEntries, readSegments } from './manifest/read.ts';
export type { BaseLeaf, ManifestSink, NewLeaf } from './manifest/segment-writer.ts';
export { isIndex, readAnySegment, readSegment, type Segment } from './manifest/segments.ts';
