import { expect, test } from 'vitest';
import { Limiter } from './limiter.ts';

test('so many enter at once, and the others in their order', async () => {
  const limiter = new Limiter(2);
  const entered: number[] = [];
  const places = Array.from({ length: 5 }, async (_, i) => {
    const place = await limiter.enter();
    entered.push(i);
    return place;
  });
  await Promise.all(places.slice(0, 2));
  expect(entered).toEqual([0, 1]);
  (await places[0]!).release();
  (await places[0]!).release();
  await places[2];
  expect(entered).toEqual([0, 1, 2]);
  (await places[1]!).release();
  (await places[2]!).release();
  await Promise.all(places);
  expect(entered).toEqual([0, 1, 2, 3, 4]);
});

test('who is waiting may give up, and takes no place', async () => {
  const limiter = new Limiter(1);
  const first = await limiter.enter();
  const abort = new AbortController();
  const waiting = limiter.enter(abort.signal);
  const next = limiter.enter();
  abort.abort(new Error('enough'));
  await expect(waiting).rejects.toThrow('enough');
  first.release();
  (await next).release();
  (await limiter.enter()).release();
});

test('a store that asks for less gets half as much, once for each wave, and slowly more again', async () => {
  const limiter = new Limiter(16);
  limiter.slowDown(10_000);
  limiter.slowDown(10_500);
  expect(limiter.allowed).toBe(8);
  limiter.slowDown(11_500);
  expect(limiter.allowed).toBe(4);
  for (let i = 0; i < 5; i++) limiter.succeeded();
  expect(limiter.allowed).toBe(5);
  for (let second = 20; second < 30; second++) limiter.slowDown(second * 1000);
  expect(limiter.allowed).toBe(1);
  for (let i = 0; i < 1000; i++) limiter.succeeded();
  expect(limiter.allowed).toBe(16);
});
