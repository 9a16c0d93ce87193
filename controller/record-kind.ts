import { randomBytes } from 'node:crypto';
import type { Digest } from '../dataset/digest.ts';
import { CorruptError, InvalidError } from '../dataset/errors.ts';
import { canonicalJson, type Json, parseCanonicalJson } from '../dataset/format/canonical-json.ts';
import { type Fault, type Fields, faultIn, type Rules } from './record-rules.ts';

/** A kind of records: how they are named, written and read. */
export interface RecordKind<T> {
  /** For messages: `group snapshot`. */
  readonly word: string;
  /** What of an error's facts tells which one it is: `group`. */
  readonly fact: string;
  readonly prefix: string;
  readonly limit: number;
  /** The slot of an id; undefined for what can't be one. */
  slotOfId(id: string): string | undefined;
  isSlot(text: string): boolean;
  /** Versions that it keeps. */
  pinned(record: T): readonly Digest[];
  /**
   * What takes the versions of `next` out of a record again that had `before`: what it is `now` may have been changed since, and undefined where that
   * has other versions anyway. As far as it is not said, a record goes back as a whole, if it is unchanged.
   */
  putBack?(now: T, before: T, next: T): T | undefined;
  /** Errors: InvalidError that names the field that cannot be recorded. */
  encode(record: T): Buffer;
  /** Errors: CorruptError that names the field at fault; `key` names the record in it. */
  decode(bytes: Buffer, key: string): T;
}

/** An id for what is created now. */
export function newId(slot: string): string {
  return `${slot}-${randomBytes(4).toString('hex')}`;
}

interface KindParts<T> extends Pick<RecordKind<T>, 'word' | 'fact' | 'prefix' | 'limit' | 'pinned' | 'putBack'> {
  /** What its slots and ids begin with. */
  readonly letters: string;
  readonly rules: Rules;
  slotOf(record: T): string;
}

/**
 * Records in canonical JSON with `format` 1, an `id` and whatever `rules` say, under keys `<prefix><letters>-<32 hex>`: the slot, which follows from
 * what `slotOf` looks at, and is the id but for its last 8 digits.
 */
export function recordKind<T extends { readonly id: string }>(kind: KindParts<T>): RecordKind<T> {
  const { word, fact, prefix, limit, letters, rules, slotOf, pinned, putBack } = kind;
  const slot = new RegExp(`^${letters}-[0-9a-f]{32}$`);
  const whole = new RegExp(`^(${letters}-[0-9a-f]{32})-[0-9a-f]{8}$`);
  const slotOfId = (id: string) => whole.exec(id)?.[1];
  const faultOf = (fields: Fields, key?: string): Fault | undefined => {
    const { format, id } = fields;
    if (format !== 1) return { field: 'format', value: String(JSON.stringify(format)) };
    const fault = faultIn(fields, rules);
    if (fault !== undefined) return fault;
    const expected = slotOf(fields as unknown as T);
    const isRight =
      typeof id === 'string' && slotOfId(id) === expected && (key ?? prefix + expected) === prefix + expected;
    return isRight ? undefined : { field: 'id', value: String(JSON.stringify(id)) };
  };
  return {
    word,
    fact,
    prefix,
    limit,
    slotOfId,
    isSlot: (text) => slot.test(text),
    pinned,
    ...(putBack && { putBack }),
    encode(record) {
      const fields = { format: 1, ...record } as unknown as Fields;
      const fault = faultOf(fields);
      const refuse = (why: string, facts = {}) =>
        new InvalidError(`${word} ${JSON.stringify(record.id)} cannot be recorded: ${why}`, {
          facts: { [fact]: record.id, ...facts },
        });
      if (fault !== undefined) throw refuse(`${fault.field} is ${fault.value}`, { field: fault.field });
      const bytes = Buffer.from(canonicalJson(fields as Json), 'utf8');
      if (bytes.length > limit) throw refuse(`its record has ${bytes.length} bytes, and may have ${limit}`);
      return bytes;
    },
    decode(bytes, key) {
      const fields = parseCanonicalJson(key, bytes);
      const fault = faultOf(fields, key);
      if (fault !== undefined)
        throw new CorruptError(`${key} is damaged: ${fault.field} is ${fault.value}`, {
          facts: { object: key, field: fault.field },
        });
      const { format: _, ...record } = fields;
      return record as unknown as T;
    },
  };
}
