import { describe, expect, it } from 'vitest';
import { createRoom, openRoom } from './room.ts';

describe('the room in a cache', () => {
  it('is given out once, and not beyond its end', () => {
    const shared = createRoom(10);
    const [one, other] = [openRoom(shared), openRoom(shared)];
    expect(one.take(6)).toBe(true);
    expect(other.take(5)).toBe(false);
    expect(other.bytes).toBe(4);
    one.give(6);
    expect(other.take(10)).toBe(true);
  });

  it('has no end where none was set', () => {
    expect(openRoom(createRoom()).take(2 ** 50)).toBe(true);
  });
});
