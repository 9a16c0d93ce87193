import { expect, it } from 'vitest';
import { ChunkMemory } from './chunk-memory.ts';

const bytes = (length: number) => new Uint8Array(length);

it('drops what was read to its end first, then what was read longest ago, and never what came last', () => {
  const memory = new ChunkMemory(100);
  for (const key of ['a', 'b', 'c', 'd']) memory.put(key, bytes(25));
  memory.get('a');
  memory.finish('c');
  memory.put('e', bytes(25));
  expect(['a', 'b', 'c', 'd', 'e'].filter((key) => memory.has(key))).toEqual(['a', 'b', 'd', 'e']);
  memory.put('f', bytes(40));
  expect(['a', 'b', 'd', 'e', 'f'].filter((key) => memory.has(key))).toEqual(['a', 'e', 'f']);
  expect(memory.bytes).toBe(90);
  memory.put('g', bytes(500));
  expect(memory.has('g')).toBe(true);
  expect(memory.bytes).toBe(500);
  memory.put('h', bytes(1));
  expect(memory.bytes).toBe(1);
  memory.clear();
  expect(memory.bytes).toBe(0);
});

it('keeps what is read again after its end was', () => {
  const memory = new ChunkMemory(20);
  memory.put('a', bytes(10));
  memory.put('b', bytes(10));
  memory.finish('a');
  expect(memory.get('a')).toHaveLength(10);
  memory.put('c', bytes(10));
  expect(memory.has('a')).toBe(true);
  expect(memory.has('b')).toBe(false);
});
