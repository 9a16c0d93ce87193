import { importDirectory } from '../dataset/import.ts';
import { writeTag } from '../dataset/refs.ts';
import type { Session } from './session.ts';

export interface ImportOptions {
  readonly message?: string;
  readonly tag?: string;
  readonly author?: string;
  readonly checksum?: boolean;
}
