/** What was noted in the last while, by name: bounded, the oldest is forgotten first. */
export interface Recent<T> {
  get(name: string): T | undefined;
  set(name: string, value: T): void;
  delete(name: string): void;
}

/** @param age in milliseconds */
export function createRecent<T>(most: number, age: number, now: () => number = () => performance.now()): Recent<T> {
  const noted = new Map<string, { readonly value: T; readonly at: number }>();
  return {
    get(name) {
      const found = noted.get(name);
      if (found === undefined) return undefined;
      if (now() - found.at <= age) return found.value;
      noted.delete(name);
      return undefined;
    },
    set(name, value) {
      noted.delete(name);
      noted.set(name, { value, at: now() });
      if (noted.size > most) for (const oldest of noted.keys()) if (noted.delete(oldest)) break;
    },
    delete: (name) => void noted.delete(name),
  };
}
