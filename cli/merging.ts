import { InvalidArgumentError } from 'commander';
import { type ByteString, textOf } from '../dataset/byte-string.ts';
import { shortId } from '../dataset/digest.ts';
import type { Entry } from '../dataset/entry.ts';
import { InvalidError } from '../dataset/errors.ts';
import type { Choices, Conflict, ConflictKind, Side } from '../dataset/merge.ts';
import { contentId, displayPath, entryDocument } from './describe.ts';
import { formatBytes, formatCount, formatOctal } from './format.ts';
import { bytesFields, type Output } from './output.ts';

/** What the user says about conflicts, as options. */
export interface ChoiceOptions {
  readonly ours?: boolean;
  readonly theirs?: boolean;
  readonly take?: readonly (readonly [path: string, side: Side])[];
}

/** Conflicts that are listed for people. */
const LISTED = 100;

const KINDS: Readonly<Record<ConflictKind, string>> = {
  'both-modified': 'changed on both sides',
  'both-added': 'added on both sides',
  'deleted-by-ours': 'removed here, changed there',
  'deleted-by-theirs': 'changed here, removed there',
  'file-directory': 'a directory on one side only',
};

/** Reads `PATH=ours` or `PATH=theirs`, which may be given several times. */
export function takeOption(text: string, before: ChoiceOptions['take'] = []): ChoiceOptions['take'] {
  const equals = text.lastIndexOf('=');
  const side = text.slice(equals + 1);
  if (equals < 0 || (side !== 'ours' && side !== 'theirs'))
    throw new InvalidArgumentError('Write PATH=ours or PATH=theirs.');
  return [...before, [text, side]];
}

/** @param pathOf reads a path from the text of an argument */
export function choicesOf({ ours, theirs, take = [] }: ChoiceOptions, pathOf: (text: string) => ByteString): Choices {
  if (ours && theirs) {
    throw new InvalidError(
      '--ours and --theirs together cannot be: give one, and --take PATH=… for what differs from it',
    );
  }
  const taken = new Map<ByteString, Side>();
  for (const [text, side] of take) {
    const path = pathOf(text);
    if (taken.has(path) && taken.get(path) !== side)
      throw new InvalidError(`'${textOf(path)}' is to be taken from both sides: give one --take for it`);
    taken.set(path, side);
  }
  const prefer = ours ? 'ours' : theirs ? 'theirs' : undefined;
  return { ...(prefer && { prefer }), take: taken };
}

/** Lists conflicts as they are found: all of them for programs, the first ones for people. `end` says how many were left out. */
export class ConflictReport {
  readonly #output: Output;
  #count = 0;

  constructor(output: Output) {
    this.#output = output;
  }

  async add(conflict: Conflict): Promise<void> {
    const output = this.#output;
    this.#count++;
    if (output.json) output.document(conflictDocument(conflict));
    else if (this.#count <= LISTED) for (const line of conflictLines(conflict, output.style)) output.line(line);
    await output.drain();
  }

  end(): void {
    const more = this.#count - LISTED;
    if (more > 0) this.#output.line(`and ${formatCount(more)} more conflicts, which --json lists`);
  }
}

function conflictDocument({ kind, path, whole, taken, base, ours, theirs }: Conflict): object {
  return {
    ...bytesFields('path', path),
    conflict: kind,
    whole,
    taken: taken ?? null,
    base: base ? entryDocument(base) : null,
    ours: ours ? entryDocument(ours) : null,
    theirs: theirs ? entryDocument(theirs) : null,
  };
}

/**
 * Two lines, the second one with what either side has:
 *
 *     C labels.csv  changed on both sides
 *         ours: 19 B, 3f2a5c0d9b1e   theirs: 25 B, 9b1e3f2a5c0d
 */
function conflictLines({ kind, path, whole, taken, ours, theirs }: Conflict, style: Output['style']): string[] {
  const name = `${displayPath(path)}${whole ? ' and all below it' : ''}`;
  const choice = taken === undefined ? '' : `; ${taken} taken`;
  const [a, b] = [sideText(ours), sideText(theirs)];
  // Where the same is said of both, it is something else that differs.
  const more = a === b && ours && theirs;
  return [
    `${style(taken === undefined ? 'red' : 'yellow', `C ${name}`)}  ${KINDS[kind]}${choice}`,
    `    ours: ${more ? `${a}, ${metadataText(ours)}` : a}   theirs: ${more ? `${b}, ${metadataText(theirs)}` : b}`,
  ];
}

function sideText(entry: Entry | undefined): string {
  if (entry === undefined) return 'nothing';
  if (entry.type === 'directory') return 'a directory';
  if (entry.type === 'symlink') return `a symlink to ${textOf(entry.target)}`;
  return `${formatBytes(entry.size)}, ${shortId(contentId(entry))}`;
}

function metadataText({ mode, uid, gid, xattrs = [] }: Entry): string {
  return `mode ${formatOctal(mode)}, owner ${uid}:${gid}${xattrs.length > 0 ? `, ${xattrs.length} attributes` : ''}`;
}
