import { readObject } from './bucket/read-object.ts';
import { type Digest, isDigest } from './digest.ts';
import { CorruptError, NotFoundError } from './errors.ts';
import { type Json, parseCanonicalJson } from './format/canonical-json.ts';
import { mapAhead } from './map-ahead.ts';
import type { Repository } from './repository.ts';

/** A record that keeps versions alive, whatever names they have: of a volume or of a snapshot. */
export interface Pin {
  readonly kind: 'volume' | 'snapshot';
  /** The record's. */
  readonly key: string;
  /** What the record is of now. */
  readonly version: Digest;
  /** All that it keeps, `version` first, none twice. */
  readonly versions: readonly Digest[];
  /** The dataset that the record tells of, if it does. */
  readonly dataset: string | undefined;
  /** What its owner calls it, if the record tells. */
  readonly name: string | undefined;
}

/**
 * Where records lie that pin versions: canonical JSON with a version's id as the member `version`, and perhaps others as `base` (what the
 * first changes were made to), `lower` (what is mounted below changes now) and in the list `kept`; whatever else they hold.
 */
const PINNING = [
  ['volumes/', 'volume'],
  ['snapshots/', 'snapshot'],
] as const;

/** The longest record, in bytes. */
const RECORD_LIMIT = 64 * 1024;
const RECORDS_AHEAD = 16;

/**
 * Every record that pins a version, in order of the keys. A CorruptError names the record that does not tell what it pins: who would delete
 * anything must not, since that may be what it pins.
 */
export async function* readPins(
  repository: Pick<Repository, 'bucket'>,
  options: { readonly signal?: AbortSignal } = {},
): AsyncGenerator<Pin> {
  for (const [prefix, kind] of PINNING) {
    const listed = repository.bucket.list(prefix, options);
    for await (const pin of mapAhead(listed, RECORDS_AHEAD, ({ key }) =>
      readPin(repository, kind, key, options.signal),
    ))
      if (pin !== undefined) yield pin;
  }
}

/** Those that tell of a dataset: what stays in use when its names are deleted. */
export async function pinsOfDataset(
  repository: Pick<Repository, 'bucket'>,
  dataset: string,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Pin[]> {
  const found: Pin[] = [];
  for await (const pin of readPins(repository, options)) if (pin.dataset === dataset) found.push(pin);
  return found;
}

/** Undefined where the record was deleted since it was listed. */
async function readPin(
  { bucket }: Pick<Repository, 'bucket'>,
  kind: Pin['kind'],
  key: string,
  signal: AbortSignal | undefined,
): Promise<Pin | undefined> {
  let bytes: Buffer;
  try {
    ({ bytes } = await readObject(bucket, key, RECORD_LIMIT, { signal }));
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
  const { version, base, lower, kept = [], dataset, name } = parseCanonicalJson(key, bytes);
  const digest = (field: string, value: Json | undefined): Digest => {
    if (typeof value === 'string' && isDigest(value)) return value;
    throw new CorruptError(`${key} in ${bucket.name} is damaged: it does not tell which version it keeps (${field})`, {
      facts: { object: key, field },
    });
  };
  const versions = new Set([digest('version', version)]);
  if (base !== undefined) versions.add(digest('base', base));
  if (lower !== undefined) versions.add(digest('lower', lower));
  for (const each of Array.isArray(kept) ? kept : [kept]) versions.add(digest('kept', each));
  const text = (value: unknown) => (typeof value === 'string' ? value : undefined);
  return { kind, key, version: version as Digest, versions: [...versions], dataset: text(dataset), name: text(name) };
}
