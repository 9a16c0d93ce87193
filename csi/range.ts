import type { CapacityRange as Range } from '../controller/capacity.ts';
import { sizeOf } from './int64.ts';
import type { CapacityRange } from './messages/volume.ts';

/** Zero says nothing about a bound. */
export function rangeOf(range: CapacityRange | null): Range {
  const required = sizeOf(range?.requiredBytes ?? '0', 'capacity_range.required_bytes');
  const limit = sizeOf(range?.limitBytes ?? '0', 'capacity_range.limit_bytes');
  return { ...(required !== 0 && { required }), ...(limit !== 0 && { limit }) };
}
