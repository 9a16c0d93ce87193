/** A mounted version, and the directory that it was imported from. */
export interface Mounted {
  readonly directory: string;
  readonly source: string;
  /** Paths below either. */
  readonly files: readonly string[];
}

/** From the soak to a reader. */
export type ReaderOrder =
  | { readonly mounts: readonly Mounted[] }
  | { readonly pause: boolean }
  /** Read every file once and tell; the number comes back. */
  | { readonly pass: number; readonly of: Mounted };

export interface ReadFailure {
  readonly directory: string;
  readonly file: string;
  /** Milliseconds since 1970. */
  readonly began: number;
  readonly ended: number;
  /** Not an error of the system, but other bytes or fewer. */
  readonly wrong: boolean;
  readonly code?: string;
  readonly text: string;
}

/** From a reader. `oldest`: what it waits for longest, in milliseconds. */
export type ReaderReport =
  | {
      readonly alive: {
        readonly reads: number;
        readonly bytes: number;
        readonly longest: number;
        readonly idle: boolean;
      };
      readonly oldest?: { readonly path: string; readonly waits: number };
    }
  | { readonly failed: ReadFailure }
  | { readonly passed: number; readonly failures: readonly string[] };
