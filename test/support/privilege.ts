import { existsSync } from 'node:fs';

/** Why tests that mount cannot run here; undefined where they can. */
export const whyNoMounts: string | undefined =
  process.getuid?.() !== 0
    ? 'mounting needs root'
    : process.env.LARDER_TEST_NAMESPACE !== '1'
      ? 'run by test/run.sh, which makes a mount namespace of their own'
      : existsSync('/dev/fuse')
        ? undefined
        : 'there is no /dev/fuse';

/** Whether tests may mount. Where `LARDER_TEST_MOUNTS=required`, as in CI, that they may not is a failure. */
export const canMount = whyNoMounts === undefined;

if (!canMount) {
  if (process.env.LARDER_TEST_MOUNTS === 'required')
    throw new Error(`the tests that mount must run here: ${whyNoMounts}`);
  console.warn(`skipped, what mounts: ${whyNoMounts}`);
}
