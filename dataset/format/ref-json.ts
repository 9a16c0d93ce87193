import { type Digest, isDigest } from '../digest.ts';
import { CorruptError } from '../errors.ts';
import { canonicalJson, parseCanonicalJson } from './canonical-json.ts';

/*
 * A branch or a tag: canonical JSON (canonical-json.ts) of
 *
 *     {"format":1,"moved":"2025-01-31T12:00:00.000Z","protect":"merge","version":version id}
 *
 * `moved` is when it got this version; `protect` is there only in a protected branch.
 */

export interface Ref {
  readonly version: Digest;
  /** ISO 8601 in UTC with milliseconds. */
  readonly moved: string;
  /** `merge`: the branch moves only by a merge, and is not deleted. Absent where it is not protected, and in a tag. */
  readonly protect?: 'merge';
}

/** The longest ref, in bytes. */
export const REF_LIMIT = 4096;

const FORMAT = 1;

export function encodeRef({ version, moved, protect }: Ref): Buffer {
  return Buffer.from(canonicalJson({ format: FORMAT, moved, ...(protect && { protect }), version }), 'utf8');
}

/** @param name the ref as messages call it: `branch 'main' of 'imagenet'` */
export function decodeRef(name: string, object: Buffer): Ref {
  const { format, moved, version, protect, ...others } = parseCanonicalJson(name, object);
  const sound =
    format === FORMAT &&
    typeof version === 'string' &&
    isDigest(version) &&
    typeof moved === 'string' &&
    !Number.isNaN(Date.parse(moved)) &&
    (protect === undefined || protect === 'merge') &&
    Object.keys(others).length === 0;
  if (!sound) throw new CorruptError(`${name} is damaged: it has other fields than a ref`, { facts: { object: name } });
  return { version, moved, ...(protect && { protect }) };
}
