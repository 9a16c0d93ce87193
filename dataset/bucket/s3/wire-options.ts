export interface Timeouts {
  /** How long a connection may take, in milliseconds. */
  readonly connect: number;
  /** How long neither side may send anything while a request is under way, in milliseconds. */
  readonly stall: number;
}

export interface WireOptions extends Timeouts {
  /** Connections to each host that are kept for later, at most. How many are in use is for the caller to limit. */
  readonly idle: number;
}
