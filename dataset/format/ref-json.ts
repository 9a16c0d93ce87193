import { type Digest, isDigest } from '../digest.ts';
import { CorruptError } from '../errors.ts';
import { canonicalJson, parseCanonicalJson } from './canonical-json.ts';

/*
 * A branch or a tag: canonical JSON (canonical-json.ts) of
 *
 *     {"format":1,"moved":"2025-01-31T12:00:00.000Z","version":version id}
 *
 * `moved` is when it got this version.
 */

export interface Ref {
  readonly version: Digest;
  /** ISO 8601 in UTC with milliseconds. */
  readonly moved: string;
}

/** The longest ref, in bytes. */
export const REF_LIMIT = 4096;

const FORMAT = 1;

export function encodeRef({ version, moved }: Ref): Buffer {
  return Buffer.from(canonicalJson({ format: FORMAT, moved, version }), 'utf8');
}

/** @param name the ref as messages call it: `branch 'main' of 'imagenet'` */
export function decodeRef(name: string, object: Buffer): Ref {
  const { format, moved, version, ...others } = parseCanonicalJson(name, object);
  const sound =
    format === FORMAT &&
    typeof version === 'string' &&
    isDigest(version) &&
    typeof moved === 'string' &&
    !Number.isNaN(Date.parse(moved)) &&
    Object.keys(others).length === 0;
  if (!sound) throw new CorruptError(`${name} is damaged: it has other fields than a ref`, { facts: { object: name } });
  return { version, moved };
}
