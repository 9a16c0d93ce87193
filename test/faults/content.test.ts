import { expect, it } from 'vitest';
import { contentLives } from './all-lives.ts';
import { savedLife } from './lives.ts';
import { describeFaults } from './suite.ts';

describeFaults(contentLives, ({ world: current, expectDeath }) => {
  it('after save.cloned, with the process that saves: the same', async () => {
    const world = current();
    const point = 'save.cloned';
    world.arm(point);
    const life = savedLife(world, `both killed at ${point}`);
    await expect.poll(() => world.passed(), { interval: 10 }).toMatchObject({ point, isDaemon: false });
    await world.node.stop('SIGKILL');
    await life;
    await expectDeath(point, ['SIGKILL']);
  });
});
