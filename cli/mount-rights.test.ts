import { expect, it } from 'vitest';
import { requireMountRights } from './mount-rights.ts';

it('names the way without root where this process may not mount', () => {
  expect(() => requireMountRights('Name:\tnode\nCapEff:\t0000000000000000\n')).toThrow("'larder checkout'");
  expect(() => requireMountRights('CapEff:\t000001ffffdfffff\n')).toThrow('CAP_SYS_ADMIN');
});

it('lets root, and whoever has CAP_SYS_ADMIN alone, go on', () => {
  requireMountRights('CapEff:\t000001ffffffffff\n');
  requireMountRights('CapEff:\t0000000000200000\n');
});
