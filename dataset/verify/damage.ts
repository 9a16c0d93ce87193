import { type ByteString, textOf } from '../byte-string.ts';
import type { Digest } from '../digest.ts';
import { CorruptError, NotFoundError } from '../errors.ts';

/** An object of the repository that is not as it must be. */
export interface Damage {
  /** Its key; of an object in place, `source <bucket>/<key>`. */
  readonly object: string;
  readonly kind: 'missing' | 'damaged';
  /** What is wrong, in words that follow "it": `is missing`, or what its reader said. */
  readonly fault: string;
  /** Entries that it affects, of one version that has each; at most `AFFECTED_LIMIT` of them. */
  readonly affected: readonly Affected[];
  /** How many there are in all, as far as can be told: none for an object that nothing needs. */
  readonly affectedCount: number;
}

export interface Affected {
  /** Empty where only a volume's or a snapshot's record leads to the version, and does not tell. */
  readonly dataset: string;
  /** The branch or tag that was followed to the version, or the key of the record. */
  readonly ref: string;
  /** Undefined where the name itself is damaged. */
  readonly version: Digest | undefined;
  /** Undefined where the whole version is affected. */
  readonly path: ByteString | undefined;
}

/** The most entries that are named for one damaged object. */
export const AFFECTED_LIMIT = 20;

interface FoundDamage {
  readonly kind: Damage['kind'];
  readonly fault: string;
  readonly affected: Affected[];
  affectedCount: number;
}

/** Damage by object: what is met again only adds whom it affects. */
export class DamageList {
  readonly #found = new Map<string, FoundDamage>();

  *[Symbol.iterator](): Generator<Damage> {
    for (const [object, damage] of this.#found) yield { object, ...damage };
  }

  has(object: string): boolean {
    return this.#found.has(object);
  }

  note(object: string, kind: Damage['kind'], fault: string, affected: readonly Affected[] = [], count = 0): void {
    let found = this.#found.get(object);
    if (found === undefined) {
      found = { kind, fault, affected: [], affectedCount: 0 };
      this.#found.set(object, found);
    }
    found.affectedCount += count;
    found.affected.push(...affected.slice(0, AFFECTED_LIMIT - found.affected.length));
  }

  /** Throws `error` where it tells of no damage. */
  noteError(object: string, error: unknown, affected: readonly Affected[], count: number): void {
    const cause = error instanceof CorruptError ? error.cause : undefined;
    if (error instanceof NotFoundError || cause instanceof NotFoundError)
      this.note(object, 'missing', 'it is missing', affected, count);
    else if (error instanceof CorruptError) this.note(object, 'damaged', faultOf(error), affected, count);
    else throw error;
  }
}

export function faultOf(error: CorruptError): string {
  return (error.facts.fault as string | undefined) ?? error.message;
}

/** One line for people: the object, what is wrong with it, and whom it affects. */
export function describeDamage({ object, fault, affected, affectedCount }: Damage): string {
  const [first] = affected;
  if (first === undefined) return `${object}: ${fault}; nothing needs it`;
  const where = first.path === undefined ? 'all of it' : `'${textOf(first.path)}'`;
  const more = affectedCount > 1 ? ` and ${affectedCount - 1} more` : '';
  return `${object}: ${fault}; affects ${where}${more} of ${first.dataset}@${first.ref}`;
}
