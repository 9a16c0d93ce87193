import type { ByteString } from '../byte-string.ts';

/**
 * What is known of files with several names, from the first name on. A group is forgotten once all of its names have come, so that
 * memory follows from how many are open at a time.
 */
export class LinkGroups<Value> {
  readonly #groups = new Map<ByteString, { readonly value: Value; left: number }>();

  /** @param names how many names there are in all, this one included; undefined if that is not known */
  add(key: ByteString, value: Value, names = Number.POSITIVE_INFINITY): void {
    if (names > 1) this.#groups.set(key, { value, left: names - 1 });
  }

  /** The group's value, for one more of its names; undefined if the group is not known. */
  take(key: ByteString): Value | undefined {
    const group = this.#groups.get(key);
    if (group === undefined) return undefined;
    group.left--;
    if (group.left === 0) this.#groups.delete(key);
    return group.value;
  }

  get size(): number {
    return this.#groups.size;
  }
}
