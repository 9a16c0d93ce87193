import { describe, expect, it } from 'vitest';
import { ConflictError, CorruptError, InvalidError, NotFoundError, UnavailableError } from '../dataset/errors.ts';
import { exitCodeOf } from './exit-code.ts';

describe('the exit status', () => {
  it('tells the kinds of failure apart', () => {
    const errors = [UnavailableError, InvalidError, NotFoundError, ConflictError, CorruptError];
    expect(errors.map((kind) => exitCodeOf(new kind('x')))).toEqual([1, 2, 3, 4, 5]);
    expect(exitCodeOf(new Error('x'))).toBe(1);
  });
});
