import { readObject } from './bucket/read-object.ts';
import { type Digest, isDigest } from './digest.ts';
import { CorruptError, NotFoundError } from './errors.ts';
import { parseCanonicalJson } from './format/canonical-json.ts';
import { mapAhead } from './map-ahead.ts';
import type { Repository } from './repository.ts';

/** A record that keeps a version alive, whatever names it has: of a volume or of a snapshot. */
export interface Pin {
  readonly kind: 'volume' | 'snapshot';
  /** The record's. */
  readonly key: string;
  readonly version: Digest;
  /** The dataset that the record tells of, if it does. */
  readonly dataset: string | undefined;
  /** What its owner calls it, if the record tells. */
  readonly name: string | undefined;
}

/** Where records lie that pin a version: canonical JSON with the version's id as the member `version`, whatever else they hold. */
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
  const { version, dataset, name } = parseCanonicalJson(key, bytes);
  if (typeof version !== 'string' || !isDigest(version))
    throw new CorruptError(`${key} in ${bucket.name} is damaged: it does not tell which version it keeps`, {
      facts: { object: key, field: 'version' },
    });
  const text = (value: unknown) => (typeof value === 'string' ? value : undefined);
  return { kind, key, version, dataset: text(dataset), name: text(name) };
}
