import { InvalidArgumentError } from 'commander';
import type { SpaceAmount } from '../cache/space-limits.ts';
import { parseBytes, parsePeriod } from '../dataset/quantities.ts';
import { parseSpace } from './format.ts';

/** Reads an option that is a size: `512M`, `20G`, `1.5 GiB`. @returns bytes */
export function bytesOption(text: string): number {
  const bytes = parseBytes(text);
  if (bytes === undefined)
    throw new InvalidArgumentError('A size is a number with K, M, G or T after it, such as 20G.');
  return bytes;
}

/** Reads an option that is an amount of disk space: `500G`, `80%`. */
export function spaceOption(text: string): SpaceAmount {
  const amount = parseSpace(text);
  if (!amount) throw new InvalidArgumentError('It is a size, such as 500G, or a part of the disk, such as 80%.');
  return amount;
}

/** Reads an option that is a span of time: `90s`, `30m`, `24h`, `7d`. @returns milliseconds */
export function periodOption(text: string): number {
  const milliseconds = parsePeriod(text);
  if (milliseconds === undefined)
    throw new InvalidArgumentError('A time is a number with s, m, h, d or w after it, such as 24h.');
  return milliseconds;
}

/** Reads an option that is a whole number, one at least. */
export function countOption(text: string): number {
  const count = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(count) || count < 1) {
    throw new InvalidArgumentError('It is a whole number, 1 at least.');
  }
  return count;
}

/** Collects an option that may be given several times. */
export function collectOption(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}
