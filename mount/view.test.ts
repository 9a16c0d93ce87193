import { describe, expect, it } from 'vitest';
import { decodeOwner, encodeOwner } from './owner-mark.ts';
import { ownershipWithout } from './upper-view.ts';
import { shownBy, type View, type Viewed, viewName } from './view.ts';

const own = (mode: number, uid = 7, gid = 8) => ({ mode, uid, gid });

describe('a view', () => {
  it('is named by what it shows', () => {
    expect(viewName(undefined)).toBe('');
    expect(viewName({})).toBe('');
    expect(viewName({ uid: 0, gid: 5, mode: 0o750 })).toBe('u0-g5-m750');
    expect(viewName({ gid: 5, mountGroup: 6 })).toBe(viewName({ mountGroup: 6 }));
    expect(viewName({ gid: 6 })).not.toBe(viewName({ mountGroup: 6 }));
  });

  it.each<[View, Viewed, number, number, number, number]>([
    [{}, 'file', 0o4755, 0o4755, 7, 8],
    [{ uid: 1 }, 'file', 0o4755, 0o755, 1, 8],
    [{ uid: 1 }, 'directory', 0o3755, 0o3755, 1, 8],
    [{ gid: 2 }, 'symlink', 0o777, 0o777, 7, 2],
    [{ mode: 0o750 }, 'directory', 0o1700, 0o1750, 7, 8],
    [{ mode: 0o750 }, 'file', 0o604, 0o640, 7, 8],
    [{ mode: 0o750 }, 'file', 0o601, 0o750, 7, 8],
    [{ mode: 0o750 }, 'symlink', 0o777, 0o777, 7, 8],
    [{ mountGroup: 9 }, 'file', 0o640, 0o660, 7, 9],
    [{ mountGroup: 9 }, 'file', 0o400, 0o440, 7, 9],
    [{ mountGroup: 9 }, 'directory', 0o755, 0o2775, 7, 9],
    [{ mountGroup: 9, gid: 5, uid: 1, mode: 0o700 }, 'file', 0o755, 0o770, 1, 9],
    [{ mountGroup: 9 }, 'symlink', 0o777, 0o777, 7, 9],
  ])('%j shows a %s of mode %o with mode %o and owner %i:%i', (view, type, mode, shown, uid, gid) => {
    expect(shownBy(view, type, own(mode))).toEqual({ mode: shown, uid, gid });
  });
});

describe('what a version keeps of a file that is seen through a view', () => {
  const owner = { uid: 0, gid: 100 };
  const view = { uid: 1000, mountGroup: 2000 };
  const through = (seen: ReturnType<typeof own>, marked?: ReturnType<typeof own>, type: Viewed = 'file') =>
    ownershipWithout({ views: [view], owner }, type, seen, marked);

  it('is what the version has, where nobody changed it', () => {
    for (const type of ['file', 'directory', 'symlink'] as const)
      for (const mode of [0o4755, 0o2750, 0o640, 0o1777])
        expect(through(shownBy(view, type, own(mode)), own(mode), type)).toEqual(own(mode));
  });

  it('is what somebody made of it, and no more', () => {
    expect(through(own(0o660, 1000, 2000), own(0o640))).toEqual(own(0o640));
    expect(through(own(0o760, 1000, 2000), own(0o640)), 'chmod u+x').toEqual(own(0o740));
    expect(through(own(0o600, 1000, 2000), own(0o640)), 'chmod 600').toEqual(own(0o600));
    expect(through(own(0o660, 5, 2000), own(0o640)), 'chown 5').toEqual(own(0o640, 5));
    expect(through(own(0o660, 1000, 6), own(0o640)), 'chgrp 6').toEqual(own(0o640, 7, 6));
  });

  it("belongs, where it is new and has the view's owner, to whom the root directory belongs", () => {
    expect(through(own(0o664, 1000, 2000))).toEqual(own(0o664, 0, 100));
    expect(through(own(0o664, 33, 34))).toEqual(own(0o664, 33, 34));
    expect(through(own(0o2775, 1000, 2000), undefined, 'directory')).toEqual(own(0o775, 0, 100));
    expect(through(own(0o2775, 33, 34), undefined, 'directory')).toEqual(own(0o2775, 33, 34));
  });

  it('is the same while the files are taken from one view to another', () => {
    const [from, to] = [{ uid: 1000 }, { uid: 3000, mountGroup: 2000 }];
    const marked = own(0o640);
    for (const views of [[from], [to, from], [to]] as [View, ...View[]][])
      for (const view of [views[0], views.at(-1)!])
        expect(ownershipWithout({ views, owner }, 'file', shownBy(view, 'file', marked), marked)).toEqual(marked);
    // Not marked yet: it is as the earlier view has it.
    expect(ownershipWithout({ views: [to, from], owner }, 'file', own(0o600, 1000, 3), undefined)).toEqual(
      own(0o600, 0, 3),
    );
  });
});

describe('the mark of an owner', () => {
  it('comes back as it was, and is none where somebody else wrote it', () => {
    for (const one of [own(0), own(0o7777, 0xffff_ffff, 0)]) expect(decodeOwner(encodeOwner(one))).toEqual(one);
    for (const text of ['', '644', '644 1', '999 1 1', '644 -1 1', '644 4294967296 1', '644 1 1 '])
      expect(decodeOwner(Buffer.from(text))).toBeUndefined();
    expect(decodeOwner(undefined)).toBeUndefined();
  });
});
