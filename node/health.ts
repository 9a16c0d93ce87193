/** One thing that may be wrong with a node. */
export interface Check {
  /** A word; `repository` may come several times, with the location after a space. */
  readonly name: string;
  readonly ok: boolean;
  /** What is wrong and what to do, or how well it is. */
  readonly message: string;
}

export interface Health {
  readonly ok: boolean;
  readonly checks: readonly Check[];
}

/** Looks at one thing, or at several of a kind. */
export type Probe = () => Check | readonly Check[] | Promise<Check | readonly Check[]>;

/** Looks at all of them. A probe that throws is itself what is wrong. */
export function createHealth(probes: Readonly<Record<string, Probe>>): () => Promise<Health> {
  const look = async ([name, probe]: [string, Probe]): Promise<readonly Check[]> => {
    try {
      return [await probe()].flat();
    } catch (error) {
      return [{ name, ok: false, message: error instanceof Error ? error.message : String(error) }];
    }
  };
  return async () => {
    const checks = (await Promise.all(Object.entries(probes).map(look))).flat();
    return { ok: checks.every(({ ok }) => ok), checks };
  };
}

/** `wrong keeper: …`, a line each, what is wrong first. */
export function healthLines({ checks }: Health): string[] {
  const line = ({ name, ok, message }: Check) => `${ok ? 'ok   ' : 'wrong'} ${name}: ${message}`;
  return [...checks].sort((a, b) => Number(a.ok) - Number(b.ok)).map(line);
}
