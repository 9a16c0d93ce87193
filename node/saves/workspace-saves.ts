import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isCollected } from '../../dataset/collect/guard.ts';
import type { Digest } from '../../dataset/digest.ts';
import { NotFoundError, UnavailableError } from '../../dataset/errors.ts';
import { readVersion } from '../../dataset/version.ts';
import { FencedError } from '../../dataset/volume-terms.ts';
import type { Rest } from '../../mount/save/log-end.ts';
import { unmountAndRemove } from '../../mount/unmount.ts';
import { closeWorkspace, isWorkspaceMounted, mountWorkspaceFile, prepareMountPoint } from '../../mount/workspace.ts';
import { abortable } from '../../system/abortable.ts';
import { faultPoint } from '../../system/fault.ts';
import type { LedgerVolume } from '../ledger.ts';
import type { Logger } from '../log.ts';
import type { WorkspacePlace } from '../volumes/workspace.ts';
import {
  changeWorkspaceRecord,
  readWorkspaceRecord,
  removeWorkspace,
  type WorkspaceLease,
} from '../workspace-record.ts';
import type { Membership, Memberships } from './leases.ts';
import type { Resting } from './resting.ts';
import { isEndOfSaver, type Saver } from './saver.ts';
import type { Saved } from './saver-protocol.ts';
import type { SaveState } from './saves.ts';

export interface WorkspaceParts {
  readonly volume: string;
  readonly place: WorkspacePlace;
  /** Its image lies where the volume's image lies while this node has it; else it is an old one that was moved out of the way. */
  readonly isMain: boolean;
  readonly memberships: Memberships;
  readonly saver: Saver;
  readonly resting: Resting;
  readonly log: Logger;
  /** How often it is saved while it is staged, in milliseconds; 0: not at all. */
  readonly interval: () => number;
  /** Told of each save, and of what went wrong instead. */
  readonly onSave: (outcome: Saved['outcome'] | 'failed' | 'aside', milliseconds: number) => void;
}

/**
 * After a save there is a pause of so many times the time of the CPU that it took, but of no more milliseconds than this. What it waited for its turn on a
 * busy machine, or for the network, is no reason to save less often.
 */
const PAUSE = 4;
const MOST_PAUSE = 60_000;
/** After a save that failed, in milliseconds: the pause doubles with each. */
const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 60_000;
/** Between two looks whether somebody still writes to a workspace that is unstaged, in milliseconds. */
const BUSY_PAUSE = 1_000;
/** How often such a workspace is saved that is not saved while it is staged, in milliseconds. */
const BUSY_INTERVAL = 10_000;
/** How often a save is tried whose version a collection takes before it has a name, or whose process ends. */
const TRIES = 3;

/** How far closing has come. */
export type Closing = 'saved' | 'busy' | 'failed';

/** A save that was asked for and has not begun. */
interface Awaited {
  urgent: boolean;
  readonly saved: Promise<void>;
}

interface How {
  /** Nobody can write to it. */
  readonly still: boolean;
  readonly isUrgent: () => boolean;
  readonly onBegin?: () => void;
}

/**
 * The saves of one workspace that has a record in a repository: while it is staged, and after that until all its changes are stored and it is released.
 * What an image is to the volume's record is decided here, before each first save and after each refusal:
 *
 * - the record has the image's generation: a save moves the record;
 * - it has another one, or is gone: what the image has is set aside.
 */
export class WorkspaceSaves {
  readonly volume: string;
  readonly #parts: WorkspaceParts;
  readonly #place: WorkspacePlace;
  readonly #end = new AbortController();
  /** The record, as far as it is this image's. */
  #known: LedgerVolume | undefined;
  /** Where the log of its filesystem ends since a save found that nothing was done. */
  #rest: (Rest & { readonly location: string }) | undefined;
  /** Until when all changes are in the record, by the monotonic clock; and by the other one, where a save told that. */
  #savedUntil = performance.now();
  #savedAt: string | undefined;
  #failing: { since: string; message: string; times: number } | undefined;
  #chain: Promise<unknown> = Promise.resolve();
  #awaited: Awaited | undefined;
  /** A version is being given its name. */
  #naming: Promise<unknown> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  #lastBegun = Number.NEGATIVE_INFINITY;
  #lastEnded = Number.NEGATIVE_INFINITY;
  /** What the last save took of the CPU, in milliseconds. */
  #lastCost = 0;
  #loops = false;
  #closing: { readonly over: Promise<void>; readonly first: Promise<Closing> } | undefined;

  constructor(parts: WorkspaceParts) {
    this.#parts = parts;
    this.#place = parts.place;
    this.volume = parts.volume;
  }

  get location(): string | undefined {
    return this.#lease()?.location;
  }

  get isClosing(): boolean {
    return this.#closing !== undefined;
  }

  state(): SaveState | undefined {
    const record = readWorkspaceRecord(this.#place.record);
    if (record?.lease === undefined) return undefined;
    const { generation, state, aside } = record.lease;
    const { since, message } = this.#failing ?? {};
    return {
      generation,
      version: this.#known?.version ?? record.version,
      ...(this.#savedAt !== undefined && { savedAt: this.#savedAt }),
      lag: Math.round(performance.now() - this.#savedUntil),
      ...(since !== undefined && message !== undefined && { failing: { since, message } }),
      ...(state === 'fenced' && { fenced: aside?.branch === undefined ? {} : { branch: aside.branch } }),
    };
  }

  /** Begins to save every so often. */
  begin(): void {
    this.#loops = true;
    this.#chain = this.#chain.then(() => this.#learn());
    // Those that begin together do not all come together.
    this.#schedule(1 + this.#parts.interval() * (0.5 + Math.random() / 2));
  }

  nudge(): void {
    if (this.#loops) this.#schedule(0);
  }

  /** Saves what there is now. Errors: FencedError; why it could not be saved. */
  async saveNow(signal?: AbortSignal): Promise<SaveState> {
    const saved = this.#closing?.over ?? this.#request(true);
    await abortable(saved, signal);
    const state = this.state();
    if (state === undefined) throw gone(this.volume);
    if (state.fenced === undefined) return state;
    const now = { id: this.volume, name: this.#lease()?.name ?? this.volume, generation: state.generation + 1 };
    throw new FencedError(now, state.generation);
  }

  /**
   * Ends the saves of a workspace on which no overlay is mounted any more: saves until nothing is left to be saved and nobody can write to it, releases
   * it, and unmounts it. Goes on with this in the background.
   * @returns how far it came at first; `busy`: somebody has files of it open for writing
   */
  close(): { readonly over: Promise<void>; readonly first: Promise<Closing> } {
    if (this.#closing !== undefined) return this.#closing;
    this.#loops = false;
    clearTimeout(this.#timer);
    const first = Promise.withResolvers<Closing>();
    const over = this.#close((how) => first.resolve(how));
    over.catch(() => first.resolve('failed'));
    this.#closing = { over, first: first.promise };
    return this.#closing;
  }

  /** Tells others that the last changes are still to be saved. */
  async releaseUnsaved(): Promise<void> {
    const lease = this.#lease();
    if (lease === undefined || lease.state !== 'held') return;
    const member = await this.#membership();
    await this.#recognize(member);
    if (this.#known !== undefined) await member.ledger.release(this.volume, lease.generation, 'unsaved');
  }

  /** Ends all that is under way, wherever it is. Mounts and what is recorded stay as they are. */
  async abandon(reason: string): Promise<void> {
    this.#loops = false;
    clearTimeout(this.#timer);
    this.#end.abort(new UnavailableError(reason));
    await Promise.allSettled([this.#chain, this.#naming, this.#closing?.over]);
  }

  #lease(): WorkspaceLease | undefined {
    return readWorkspaceRecord(this.#place.record)?.lease;
  }

  /** When the next save is to begin. */
  #schedule(delay?: number): void {
    clearTimeout(this.#timer);
    if (!this.#loops || this.#end.signal.aborted) return;
    const interval = this.#parts.interval();
    let wait = delay;
    if (wait === undefined) {
      const pause = this.#failing && Math.min(FIRST_PAUSE * 2 ** (this.#failing.times - 1), LONGEST_PAUSE);
      const rest = Math.max(Math.min(this.#lastCost * PAUSE, MOST_PAUSE), pause ?? 0);
      const at = Math.max(this.#lastBegun + interval, this.#lastEnded + rest);
      wait = at - performance.now();
    }
    // What is set to be saved at its end only, is. A fenced workspace too: it is no longer the volume.
    const isFenced = () => this.#known === undefined && this.#lease()?.state === 'fenced';
    if (delay !== 0 && (interval === 0 || isFenced())) return;
    this.#timer = setTimeout(() => void this.#request(false).catch(() => {}), Math.max(0, wait)).unref();
  }

  /** Joins the save that has not begun, or asks for one. */
  #request(urgent: boolean): Promise<void> {
    if (this.#awaited !== undefined) {
      this.#awaited.urgent ||= urgent;
      return this.#awaited.saved;
    }
    const saved = this.#chain.then(() => this.#once(awaited));
    const awaited: Awaited = { urgent, saved };
    this.#awaited = awaited;
    this.#chain = saved.catch(() => {});
    return saved;
  }

  async #once(awaited: Awaited): Promise<void> {
    // Whoever comes from now on is too late for this one.
    const begin = () => {
      if (this.#awaited === awaited) this.#awaited = undefined;
    };
    try {
      if (!awaited.urgent && this.#rest !== undefined) {
        begin();
        if (await this.#rests()) return;
      }
      await this.#save({ still: false, isUrgent: () => awaited.urgent, onBegin: begin });
    } finally {
      begin();
      if (this.#closing === undefined) this.#schedule();
    }
  }

  /** Whether nothing was done since the last save, which is then one more of those that find nothing. Only a save tells what goes wrong. */
  async #rests(): Promise<boolean> {
    const begun = performance.now();
    const rest = this.#rest!;
    if (this.#known === undefined || this.#failing !== undefined) return false;
    if (!(await this.#parts.resting.goesOn(this.#place.at, rest))) return false;
    const member = await this.#parts.memberships.at(rest.location);
    if (!(await member.wasPresent()) || this.#end.signal.aborted) return false;
    this.#lastBegun = begun;
    this.#lastEnded = performance.now();
    this.#lastCost = 0;
    this.#foundSaved(begun);
    this.#parts.onSave('idle', this.#lastEnded - begun);
    return true;
  }

  /** All changes up to this moment, by the monotonic clock, are in the record. */
  #foundSaved(until: number): void {
    this.#savedUntil = until;
    this.#savedAt = new Date(Date.now() - (performance.now() - until)).toISOString();
  }

  /** One save, with all that follows from it. */
  async #save(how: How): Promise<void> {
    const { signal } = this.#end;
    signal.throwIfAborted();
    this.#lastBegun = performance.now();
    try {
      const outcome = await this.#saveOnce(how);
      this.#lastEnded = performance.now();
      this.#parts.onSave(outcome, this.#lastEnded - this.#lastBegun);
      if (this.#failing !== undefined) {
        this.#parts.log.info(`the changes of workspace ${this.volume} are saved again`, { volume: this.volume });
        this.#failing = undefined;
      }
    } catch (error) {
      this.#lastEnded = performance.now();
      if (!signal.aborted) this.#failed(error);
      throw error;
    }
  }

  #failed(error: unknown): void {
    const { message } = error as Error;
    const { since = new Date().toISOString(), times = 0 } = this.#failing ?? {};
    this.#failing = { since, message, times: times + 1 };
    this.#parts.onSave('failed', this.#lastEnded - this.#lastBegun);
    const text = `the changes of workspace ${this.volume} are not saved since ${since}, and are on this node only: ${message}${this.#closing === undefined ? '' : this.#wayOut()}`;
    this.#parts.log.warn(text, { volume: this.volume, error, repeats: `save ${this.volume}` });
  }

  /** For whoever reads that what was unstaged cannot be saved, and may know that it never will be. */
  #wayOut(): string {
    return `; it is tried again until it succeeds. If these changes may be lost: stop the daemon, delete ${this.#place.file} and start it again, which releases the volume as it was saved last`;
  }

  async #saveOnce(how: How): Promise<Saved['outcome'] | 'aside'> {
    for (let attempt = 1; ; attempt++) {
      await this.#naming;
      const member = await this.#membership();
      await member.present();
      await this.#recognize(member);
      try {
        return await this.#saveAs(member, how);
      } catch (error) {
        if (await this.#forgetsSnapshot(error)) continue;
        // Doing it again stores what is gone; a saver that was killed is started again.
        if (!(isTaken(error) || isEndOfSaver(error)) || attempt >= TRIES) throw error;
      }
    }
  }

  async #membership(): Promise<Membership> {
    const record = readWorkspaceRecord(this.#place.record);
    if (record?.lease === undefined) throw gone(this.volume);
    const member = await this.#parts.memberships.at(record.lease.location);
    if (member.repository.id === record.repository) return member;
    throw new UnavailableError(
      `workspace ${this.volume} has changes to another repository than the one that is now at ${record.lease.location}`,
      { facts: { repository: record.repository } },
    );
  }

  /** Finds out whether the image is the volume's, where that is not known. */
  async #recognize(member: Membership): Promise<void> {
    const record = readWorkspaceRecord(this.#place.record)!;
    const { generation, state } = record.lease!;
    if (this.#known !== undefined || state === 'fenced') return;
    const volume = await this.#readVolume(member);
    if (volume?.generation === generation && volume.lower === record.version) this.#known = volume;
    else await this.#fence(volume);
  }

  /** What the record has, before the first save: a daemon that was started again can tell it from then on. */
  async #learn(): Promise<void> {
    try {
      await this.#recognize(await this.#membership());
    } catch (error) {
      // The first save asks again, and tells what is wrong.
      const text = `what the record of volume ${this.volume} has is not known yet: ${(error as Error).message}`;
      this.#parts.log.debug(text, { volume: this.volume, error });
    }
  }

  /** Undefined where the volume was deleted. */
  async #readVolume(member: Membership): Promise<LedgerVolume | undefined> {
    try {
      return await member.ledger.read(this.volume);
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error;
      await member.confirm();
      return undefined;
    }
  }

  /** The image is no longer the volume's. */
  async #fence(volume: Pick<LedgerVolume, 'generation' | 'holder'> | undefined): Promise<void> {
    this.#known = undefined;
    await this.#changeLease({ state: 'fenced' });
    const why =
      volume === undefined
        ? 'was deleted'
        : `is at generation ${volume.generation}${volume.holder ? `, on node ${volume.holder.node}` : ''}`;
    const text = `volume ${this.volume} ${why}: what this node has of its changes is going to be set aside in a branch`;
    this.#parts.log.warn(text, { volume: this.volume, generation: this.#lease()?.generation });
  }

  async #changeLease(changes: Partial<WorkspaceLease>): Promise<void> {
    await changeWorkspaceRecord(this.#place.record, (record) =>
      record.lease === undefined ? record : { ...record, lease: { ...record.lease, ...changes } },
    );
  }

  async #saveAs(member: Membership, { still, isUrgent, onBegin }: How): Promise<Saved['outcome'] | 'aside'> {
    const record = readWorkspaceRecord(this.#place.record)!;
    const { volume, name, location, generation, aside } = record.lease!;
    const { node } = member.identity;
    const known = this.#known;
    // Of an image that is no longer the volume's, the index alone says what of it was saved.
    const last =
      known === undefined ? (aside?.version ?? 'index') : known.version === record.version ? undefined : known.version;
    let begun = performance.now();
    let isAside = known === undefined;
    this.#rest = undefined;
    const saved = await this.#parts.saver.save(
      {
        file: this.#place.file,
        at: this.#place.at,
        index: this.#place.saves,
        repository: location,
        dataset: record.dataset,
        lower: record.version,
        ...(last !== undefined && { last }),
        still,
        parents: [record.snapshot ?? record.version],
        author: node,
        message: `Workspace ${name} as it was on node ${node}`,
        meta: { volume, node, generation: `${generation}` },
      },
      {
        isUrgent,
        signal: this.#end.signal,
        onBegin: () => {
          begun = performance.now();
          onBegin?.();
        },
        name: (made) => {
          const naming = this.#name(member, made, isAside);
          this.#naming = naming.catch(() => {});
          return naming.then((named) => {
            isAside ||= named === 'aside';
            return named !== 'nothing';
          });
        },
      },
    );
    if (saved.outcome === 'created') faultPoint('save.kept');
    this.#lastCost = saved.cpuMilliseconds;
    if (isAside) this.#savedUntil = begun;
    else this.#foundSaved(begun);
    if (saved.logged !== undefined && !isAside)
      this.#rest = { device: statSync(this.#place.at).dev, location, logged: saved.logged };
    return isAside && saved.outcome === 'created' ? 'aside' : saved.outcome;
  }

  /** Gives what was saved its name: the volume's record, or a branch where the image is no longer the volume's. */
  async #name(member: Membership, { version, root }: Saved, isAside: boolean): Promise<'record' | 'aside' | 'nothing'> {
    faultPoint('save.committed');
    const { generation } = this.#lease()!;
    if (!isAside) {
      try {
        this.#known = await member.ledger.saved(this.volume, generation, version);
        faultPoint('save.recorded');
        return 'record';
      } catch (error) {
        if (isTaken(error)) throw error;
        if (error instanceof FencedError) await this.#fence(await this.#readVolume(member));
        else if (error instanceof NotFoundError) {
          await member.confirm();
          await this.#fence(undefined);
        } else throw error;
      }
    }
    return (await this.#setAside(member, version, root)) ? 'aside' : 'nothing';
  }

  /** @returns false where the volume has it already, so that there is nothing to be kept */
  async #setAside(member: Membership, version: Digest, root: Digest): Promise<boolean> {
    const { repository, ledger, identity } = member;
    const record = readWorkspaceRecord(this.#place.record)!;
    const volume = await this.#readVolume(member);
    for (const id of new Set([volume?.version, volume?.lower, volume?.base, record.version])) {
      if (id !== undefined && (await hasRoot(repository, id, root))) return false;
    }
    // Recorded first: whoever goes on after a crash makes no second branch.
    await this.#changeLease({ aside: { version } });
    faultPoint('aside.committed');
    await this.#nameAside(ledger, identity.node);
    return true;
  }

  /** Gives the version that is recorded as set aside its branch, if it has none. */
  async #nameAside(ledger: Membership['ledger'], node: string): Promise<void> {
    const record = readWorkspaceRecord(this.#place.record)!;
    const { name, generation, aside } = record.lease!;
    if (aside === undefined || aside.branch !== undefined) return;
    const volume = { id: this.volume, name, dataset: record.dataset };
    const branch = await ledger.setAside({ volume, node, generation, version: aside.version });
    faultPoint('aside.branch-made');
    await this.#changeLease({ aside: { ...aside, branch } });
    faultPoint('aside.recorded');
    const text = `changes to volume ${name} of node ${node} that are no longer the volume's are in branch ${branch} of ${record.dataset}`;
    this.#parts.log.warn(text, { volume: this.volume, dataset: record.dataset, version: aside.version, branch });
  }

  /** A snapshot that the next version was to follow on may have been deleted since. */
  async #forgetsSnapshot(error: unknown): Promise<boolean> {
    const { snapshot } = readWorkspaceRecord(this.#place.record) ?? {};
    const isGone = error instanceof NotFoundError && snapshot !== undefined && error.facts.version === snapshot;
    if (isGone) await changeWorkspaceRecord(this.#place.record, ({ snapshot: _, ...record }) => record);
    return isGone;
  }

  async #close(tell: (how: Closing) => void): Promise<void> {
    const { signal } = this.#end;
    await this.#chain;
    for (let pause = FIRST_PAUSE; ; ) {
      signal.throwIfAborted();
      try {
        if (await this.#closeOnce()) {
          tell('saved');
          return;
        }
        tell('busy');
        await sleep(BUSY_PAUSE, undefined, { signal, ref: false });
      } catch (error) {
        signal.throwIfAborted();
        // What `#save` did not tell of.
        if (this.#failing === undefined) this.#failed(error);
        tell('failed');
        await sleep(pause, undefined, { signal, ref: false });
        pause = Math.min(pause * 2, LONGEST_PAUSE);
      }
    }
  }

  /** @returns false while somebody may write to it */
  async #closeOnce(): Promise<boolean> {
    const { at, file } = this.#place;
    if (!existsSync(file)) {
      await this.#closeWithoutImage();
      return true;
    }
    await prepareMountPoint(at);
    await mountWorkspaceFile(this.#place);
    if (!(await closeWorkspace(at))) {
      // Also where it is set to be saved at its end only: this is its end.
      if (performance.now() >= this.#lastBegun + (this.#parts.interval() || BUSY_INTERVAL))
        await this.#save({ still: false, isUrgent: () => false });
      return false;
    }
    // One that was never prepared has no changes; nor has the directory, where it is not mounted.
    if (!isWorkspaceMounted(this.#place)) throw new UnavailableError(`somebody unmounted ${at}: it is mounted again`);
    if (existsSync(join(at, 'upper'))) await this.#save({ still: true, isUrgent: () => true });
    const member = await this.#membership();
    await this.#recognize(member);
    faultPoint('unstage.saved');
    if (this.#known === undefined) await this.#drop(member);
    else await this.#release(member);
    await unmountAndRemove(at);
    faultPoint('unstage.workspace-unmounted');
    return true;
  }

  async #release({ ledger }: Membership): Promise<void> {
    const { generation } = this.#lease()!;
    try {
      await ledger.release(this.volume, generation, 'saved');
    } catch (error) {
      // All that it has is in the record, and was there before it was taken.
      if (!(error instanceof FencedError)) throw error;
    }
    faultPoint('unstage.released');
    await this.#changeLease({ state: 'released' });
  }

  /** Of an image whose changes are set aside, nothing is needed any more. */
  async #drop(member: Membership): Promise<void> {
    await this.#nameAside(member.ledger, member.identity.node);
    await this.#releaseOther(member);
    await unmountAndRemove(this.#place.at);
    await this.#parts.saver.forget(this.#place.saves);
    await removeWorkspace(this.#place);
  }

  async #closeWithoutImage(): Promise<void> {
    const lease = this.#lease();
    if (lease !== undefined) {
      const member = await this.#membership();
      if (lease.aside !== undefined) await this.#nameAside(member.ledger, member.identity.node);
      await this.#releaseOther(member);
    }
    await unmountAndRemove(this.#place.at);
    await this.#parts.saver.forget(this.#place.saves);
    this.#end.signal.throwIfAborted();
    await removeWorkspace(this.#place);
  }

  /** Where the volume was taken for this node, and what was to become its image never was made. */
  async #releaseOther(member: Membership): Promise<void> {
    if (!this.#parts.isMain) return;
    const volume = await this.#readVolume(member);
    const { holder } = volume ?? {};
    const { node, instance } = member.identity;
    if (volume === undefined || holder?.node !== node || holder.instance !== instance) return;
    await member.ledger.release(this.volume, volume.generation, 'saved');
  }
}

/** Whether a collection took a version, or parts of it, before it had a name. */
function isTaken(error: unknown): boolean {
  return isCollected(error) || (error instanceof NotFoundError && error.facts.version !== undefined);
}

async function hasRoot(repository: Membership['repository'], id: Digest, root: Digest): Promise<boolean> {
  try {
    return (await readVersion(repository, id)).root === root;
  } catch (error) {
    if (error instanceof NotFoundError) return false;
    throw error;
  }
}

function gone(volume: string): NotFoundError {
  return new NotFoundError(`this node has no workspace ${volume}: it was unstaged, and its changes are saved`, {
    facts: { volume },
  });
}
