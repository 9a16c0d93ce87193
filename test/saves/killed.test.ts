import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { mountedBelow, until, workspacesOf } from './nodes.ts';
import { describeSaves } from './setting.ts';

describeSaves('the changes to a workspace', (setting) => {
  it('are saved by another process where the one that saves is killed, again and again', async () => {
    const { nodes } = setting;
    const volume = await nodes.workspace('killed', { retention: 'drop', autosave: 0 });
    const node = await nodes.open('n1');
    const at = await node.stage(volume);
    const { saves } = node.node.volumes;
    for (let round = 0; round < 3; round += 1) {
      for (let i = 0; i < 500; i += 1) writeFileSync(join(at, `f${i}`), `${round} ${i}`);
      const saved = saves.saveNow(volume.id);
      const ended = saved.catch(() => undefined);
      const pid = await until('it is started', () => saves.stats().saverPid);
      await setTimeout(round * 60);
      process.kill(pid, 'SIGKILL');
      await ended;
      const { version } = await saves.saveNow(volume.id);
      expect(saves.stats().saverPid).not.toBe(pid);
      const content = await nodes.content(version);
      expect(Object.keys(content).length).toBe(503);
      expect(content.f499).toBe(`${round} 499`);
    }
    expect(workspacesOf(node).filter((name) => name.includes('.clone'))).toEqual([]);
    await node.unstage(volume);
    expect(mountedBelow(nodes.directory).filter(({ mountPoint }) => mountPoint.includes(volume.id))).toEqual([]);
  });
});
