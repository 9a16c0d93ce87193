import { join } from 'node:path';
import { callLine } from '../../csi/call.ts';
import { startPlugin } from '../../csi/plugin.ts';
import { openNode } from '../../node/node.ts';
import { nodeServiceOf } from '../../node/service.ts';

const [directory, location] = process.argv.slice(2) as [string, string];
const node = await openNode({
  runtime: join(directory, 'runtime'),
  cache: join(directory, 'cache'),
  onWarning: (message) => console.error(message),
});
const plugin = await startPlugin({
  endpoint: `unix://${directory}/csi.sock`,
  version: '0',
  repository: await node.repositories.at(location),
  controller: true,
  node: { id: 'a-node', service: nodeServiceOf(node.volumes, location) },
  log: (record) => console.error(callLine(record)),
});
console.log('ready');
const stop = async () => {
  await plugin.close();
  await node.close();
  process.exit();
};
process.once('SIGTERM', stop);
// The test that started it is gone.
process.stdin.resume().once('end', stop);
