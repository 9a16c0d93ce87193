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

  it('knows what was taken until that is given back, settled or forgotten', () => {
    const room = openRoom(createRoom(10));
    room.take(6);
    expect(room.take(5)).toBe(false);
    expect(room.pending).toBe(6);
    room.give(1);
    room.settle(2);
    expect([room.bytes, room.pending]).toEqual([5, 3]);
    room.forgetPending();
    room.change(-20);
    expect([room.bytes, room.pending]).toEqual([-15, 0]);
    expect(room.take(1)).toBe(false);
  });

  it('has no end where none was set', () => {
    expect(openRoom(createRoom()).take(2 ** 50)).toBe(true);
  });
});
