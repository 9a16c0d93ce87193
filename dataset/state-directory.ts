import { homedir } from 'node:os';
import { join } from 'node:path';

/**
 * Where a user keeps what is known about repositories and can be made anew: LARDER_STATE, else `larder` in the user's data
 * folder (XDG_DATA_HOME), which is /var/lib for root.
 */
export function stateDirectory(environment: NodeJS.ProcessEnv = process.env): string {
  const { LARDER_STATE: state, XDG_DATA_HOME: data } = environment;
  if (state) return state;
  if (data) return join(data, 'larder');
  return process.getuid?.() === 0 ? '/var/lib/larder' : join(homedir(), '.local', 'share', 'larder');
}
