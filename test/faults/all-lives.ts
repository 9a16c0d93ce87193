import { asideLife } from './aside-life.ts';
import { ephemeralLife, grownLife, recordLife, savedLife, stagedLife } from './lives.ts';
import { groupLife, snapshotLife } from './snapshot-lives.ts';
import type { Lives } from './suite.ts';

/** Of volumes as a node and the controller have them. */
export const volumeLives: Lives = {
  create: recordLife,
  delete: recordLife,
  modify: recordLife,
  expand: recordLife,
  stage: stagedLife,
  publish: stagedLife,
  unpublish: stagedLife,
  unstage: stagedLife,
  grow: grownLife,
  ephemeral: ephemeralLife,
};

/** Of what is in them. */
export const contentLives: Lives = {
  save: savedLife,
  aside: asideLife,
  snapshot: snapshotLife,
  group: groupLife,
};
