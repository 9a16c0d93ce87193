import { expect, it } from 'vitest';
import { FAULT_POINTS } from '../../system/fault.ts';
import { contentLives, volumeLives } from './all-lives.ts';
import { describeFaults, lifeOf } from './suite.ts';

it('each fault point is passed by a life', () => {
  const lives = { ...volumeLives, ...contentLives };
  expect(FAULT_POINTS.filter((point) => lifeOf(lives, point) === undefined)).toEqual([]);
});

describeFaults(volumeLives);
