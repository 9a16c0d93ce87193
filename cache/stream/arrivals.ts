/** What is on its way into memory beside what was asked for: whoever wants it waits for that rather than ask again. */
export class Arrivals {
  readonly #coming = new Map<string, PromiseWithResolvers<void>>();

  has(key: string): boolean {
    return this.#coming.has(key);
  }

  /** Resolves when it has come, or will not come; undefined where it is not on its way. */
  of(key: string): Promise<void> | undefined {
    return this.#coming.get(key)?.promise;
  }

  expect(keys: readonly string[]): void {
    for (const key of keys) this.#coming.set(key, Promise.withResolvers());
  }

  end(key: string): void {
    this.#coming.get(key)?.resolve();
    this.#coming.delete(key);
  }
}
