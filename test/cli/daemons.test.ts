import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { connectCsi } from '../csi/client.ts';
import { canMount } from '../support/privilege.ts';
import { createWorld } from './support.ts';

const { directory, ok, start, larder } = createWorld();
const socket = join(directory, 'csi.sock');
const endpoint = { CSI_ENDPOINT: `unix://${socket}` };

async function appeared(path: string, ended: Promise<unknown>): Promise<void> {
  let over = false;
  void ended.then(() => {
    over = true;
  });
  while (!existsSync(path)) {
    if (over) throw new Error(`it ended before ${path} was there: ${JSON.stringify(await ended)}`);
    await sleep(20);
  }
}

describe('the controller', () => {
  it('answers CSI calls until it is told to end, and then ends in order', async () => {
    ok('repository', 'init');
    const { ended, kill } = start(['controller', 'serve'], endpoint);
    await appeared(socket, ended);
    const client = connectCsi(socket);
    expect(await client.call('Probe')).toEqual({ ready: { value: true } });
    const { capabilities } = (await client.call('GetPluginCapabilities')) as { capabilities: unknown[] };
    expect(capabilities).toContainEqual(
      expect.objectContaining({ service: expect.objectContaining({ type: 'CONTROLLER_SERVICE' }) }),
    );
    client.close();
    kill('SIGTERM');
    expect(await ended).toMatchObject({ status: 0, stdout: '' });
    expect(existsSync(socket)).toBe(false);
  });

  it('is not started without a repository', async () => {
    const { ended } = start(['controller', 'serve', '--repository', join(directory, 'nowhere')], endpoint);
    expect(await ended).toMatchObject({ status: 3, stderr: expect.stringContaining("'larder repository init") });
  });
});

describe.skipIf(!canMount)('the node', () => {
  it("answers the command line, CSI's node calls and the controller's, until it is told to end", async () => {
    const { ended, kill } = start(['node', 'serve', '--controller'], { ...endpoint, LARDER_NODE: 'node-7' });
    await appeared(socket, ended);
    const client = connectCsi(socket);
    expect(await client.call('NodeGetInfo')).toMatchObject({ nodeId: 'node-7' });
    expect(await client.call('ControllerGetCapabilities')).toBeDefined();
    client.close();
    expect(JSON.parse(ok('status', '--json'))).toMatchObject({ volumes: [] });
    kill('SIGTERM');
    expect(await ended).toMatchObject({ status: 0, stdout: '' });
    expect(larder('status').status).toBe(1);
  });
});
