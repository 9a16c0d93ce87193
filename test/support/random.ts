/** Seeded random numbers (xorshift128 by Marsaglia, seeded by splitmix32): a test that fails can be run again. */
export interface Random {
  /** A whole number from 0 up to, but not including, `limit` (at most 2^53 - 1). */
  below(limit: number): number;
  /** True once in `n` times. */
  oneIn(n: number): boolean;
  pick<T>(values: readonly T[]): T;
  bytes(length: number): Buffer;
}

export function createRandom(seed: number): Random {
  let mix = seed >>> 0;
  const next32 = () => {
    mix = (mix + 0x9e3779b9) >>> 0;
    let z = mix;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
  let [x, y, z, w] = [next32(), next32(), next32(), next32() | 1];
  const u32 = () => {
    const t = x ^ (x << 11);
    [x, y, z] = [y, z, w];
    w = (w ^ (w >>> 19) ^ t ^ (t >>> 8)) >>> 0;
    return w;
  };
  const below = (limit: number) => {
    const value = u32() * 0x20_0000 + (u32() >>> 11);
    return value % limit;
  };
  return {
    below,
    oneIn: (n) => below(n) === 0,
    pick: (values) => {
      if (values.length === 0) throw new RangeError('nothing to pick from');
      return values[below(values.length)]!;
    },
    bytes: (length) => {
      const out = Buffer.alloc(length);
      for (let i = 0; i < length; i++) out[i] = u32();
      return out;
    },
  };
}
