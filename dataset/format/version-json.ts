import { type Digest, isDigest, sha256 } from '../digest.ts';
import { CorruptError, InvalidError } from '../errors.ts';
import { canonicalJson, parseCanonicalJson } from './canonical-json.ts';

/*
 * A version: canonical JSON (canonical-json.ts) of
 *
 *     {"author":text,"bytes":number,"entries":number,"format":1,"from":[{"dataset":name,"version":version id}],
 *      "message":text,"meta":{text:text},"parents":[version id],"root":segment digest,"time":"2025-01-31T12:00:00.000Z"}
 *
 * `from` is left out where it would be empty. Its id is the SHA-256 of these bytes.
 */

/** A version that another was made from: of data that a model was trained on, say. */
export interface Origin {
  /** The dataset that it was asked for by. */
  readonly dataset: string;
  readonly version: Digest;
}

/** An immutable commit. */
export interface Version {
  readonly id: Digest;
  /** The manifest's root segment. */
  readonly root: Digest;
  /** None for a first version; several for a merge, the one that was merged into first. */
  readonly parents: readonly Digest[];
  readonly author: string;
  /** ISO 8601 in UTC with milliseconds. */
  readonly time: string;
  readonly message: string;
  readonly meta: Readonly<Record<string, string>>;
  /** What it was made from, of any dataset; absent where nothing was said. These are no parents: its tree owes them nothing. */
  readonly from?: readonly Origin[];
  /** Entries of the manifest. */
  readonly entries: number;
  /** The sum of its files' sizes. */
  readonly bytes: number;
}

/** The longest version, in bytes. */
export const VERSION_LIMIT = 1024 * 1024;

const FORMAT = 1;

/** The object of a version, and the version with its id; an InvalidError where a field is not what it must be. */
export function encodeVersion(fields: Omit<Version, 'id'>): { readonly version: Version; readonly object: Buffer } {
  const { root, parents, author, time, message, meta, entries, bytes } = fields;
  const origins = (fields.from ?? []).map(({ dataset, version }) => ({ dataset, version }));
  const from = origins.length > 0 ? { from: origins } : {};
  const fault = versionFault({ root, parents, author, time, message, meta, entries, bytes, ...from });
  if (fault !== undefined) throw new InvalidError(`a version cannot be stored: ${fault}`);
  const json = canonicalJson({ author, bytes, entries, format: FORMAT, ...from, message, meta, parents, root, time });
  const object = Buffer.from(json, 'utf8');
  if (object.length > VERSION_LIMIT)
    throw new InvalidError('a version cannot be stored: its message and meta are too long');
  const id = sha256(object);
  return { version: { id, root, parents, author, time, message, meta, ...from, entries, bytes }, object };
}

/** The version in an object, checked against its id. */
export function decodeVersion(id: Digest, object: Buffer): Version {
  const name = `version ${id}`;
  if (sha256(object) !== id)
    throw new CorruptError(`${name} is damaged: its digest is ${sha256(object)}`, { facts: { object: name } });
  const { format, ...fields } = parseCanonicalJson(name, object);
  const fault = format === FORMAT ? versionFault(fields) : `it has the format ${format}`;
  if (fault !== undefined) throw new CorruptError(`${name} is damaged: ${fault}`, { facts: { object: name, fault } });
  const { root, parents, author, time, message, meta, from, entries, bytes } = fields as unknown as Omit<Version, 'id'>;
  return { id, root, parents, author, time, message, meta, ...(from && { from }), entries, bytes };
}

function versionFault(fields: { readonly [K in keyof Omit<Version, 'id'>]?: unknown }): string | undefined {
  const { root, parents, author, time, message, meta, from, entries, bytes } = fields;
  if (Object.keys(fields).length !== ('from' in fields ? 9 : 8)) return 'it has other fields than a version';
  if (!isDigestValue(root)) return 'its root is no digest';
  if (!Array.isArray(parents) || !parents.every(isDigestValue)) return 'its parents are no version ids';
  if (new Set(parents).size !== parents.length) return 'it has a parent twice';
  if (!isText(author)) return 'its author is no text';
  if (!isText(message)) return 'its message is no text';
  if (!isText(time) || !isTime(time)) return `its time is '${time}'`;
  if (typeof meta !== 'object' || meta === null || Array.isArray(meta)) return 'its meta is no object';
  if (!Object.entries(meta).every(([key, value]) => key.isWellFormed() && isText(value)))
    return 'its meta holds no texts';
  if ('from' in fields && !isOrigins(from)) return 'what it was made from is no list of versions';
  if (!isCount(entries)) return 'its number of entries is no count';
  if (!isCount(bytes)) return 'its number of bytes is no count';
  return undefined;
}

/** At least one, each with a dataset's name and nothing else, none twice. */
function isOrigins(value: unknown): boolean {
  if (!Array.isArray(value) || value.length === 0) return false;
  const met = new Set<string>();
  for (const each of value as unknown[]) {
    if (typeof each !== 'object' || each === null || Object.keys(each).length !== 2) return false;
    const { dataset, version } = each as { readonly dataset?: unknown; readonly version?: unknown };
    if (!isText(dataset) || dataset === '' || !isDigestValue(version)) return false;
    met.add(`${version} ${dataset}`);
  }
  return met.size === value.length;
}

function isDigestValue(value: unknown): boolean {
  return typeof value === 'string' && isDigest(value);
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.isWellFormed();
}

function isTime(value: string): boolean {
  const date = new Date(value);
  return !Number.isNaN(date.getTime()) && date.toISOString() === value;
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
