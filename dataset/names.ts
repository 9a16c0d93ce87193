import { InvalidError } from './errors.ts';

/** The branch that a dataset's name alone means. */
export const DEFAULT_BRANCH = 'main';

/** Another word for the head of the default branch; no branch or tag may be called so. */
export const LATEST = 'latest';

/** The longest name, counted in bytes of its escaped form, so that it fits a file name with room to spare. */
const LENGTH_LIMIT = 200;

export type NameKind = 'dataset' | 'branch' | 'tag';

/**
 * Checks a name that a person chose. Letters and digits of any script, `-`, `_`, `.`, `+`, `=`, `/` and spaces inside are fine.
 * @returns the name; an InvalidError tells what is wrong
 */
export function validateName(kind: NameKind, name: string): string {
  const fault = nameFault(kind, name);
  if (fault === undefined) return name;
  throw new InvalidError(`'${printable(name)}' cannot be a ${kind}'s name: ${fault}`, {
    facts: { [kind]: printable(name) },
  });
}

/** What is wrong with `name`, in words that follow a colon; undefined if nothing is. */
export function nameFault(kind: NameKind, name: string): string | undefined {
  if (name === '') return 'it is empty';
  if (!name.isWellFormed()) return 'it is not valid Unicode';
  if (/[\p{Cc}\p{Zl}\p{Zp}]/u.test(name)) return 'it has a control character';
  if (/^\s|\s$/u.test(name)) return 'it begins or ends with a space';
  const forbidden = /[@:?*\\"'<>|#%~^[\]{}$&;`!]/.exec(name);
  if (forbidden !== null) return `it has '${forbidden[0]}'`;
  for (const part of name.split('/')) {
    if (part === '') return "a part of it between '/' is empty";
    if (part.startsWith('.') || part.startsWith('-')) return `a part of it begins with '${part[0]}'`;
  }
  if (kind !== 'dataset') {
    if (name === LATEST) return `'${LATEST}' always means the head of '${DEFAULT_BRANCH}'`;
    if (/^[0-9a-f]{12,64}$/.test(name)) return 'it looks like a version id';
  }
  if (escapeName(name).length > LENGTH_LIMIT) return `it is longer than ${LENGTH_LIMIT} bytes`;
  return undefined;
}

/** One key component for a name: every byte of its UTF-8 but `A-Z a-z 0-9 _ -` and a `.` that is not the first becomes %XX. */
export function escapeName(name: string): string {
  let out = '';
  for (const byte of Buffer.from(name, 'utf8')) {
    const character = String.fromCharCode(byte);
    const plain = /[A-Za-z0-9_-]/.test(character) || (character === '.' && out !== '');
    out += plain ? character : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return out;
}

/** The name that `escapeName` made `escaped` of; undefined where it made no such thing. */
export function unescapeName(escaped: string): string | undefined {
  const bytes: number[] = [];
  for (let i = 0; i < escaped.length; i++) {
    if (escaped[i] === '%') {
      bytes.push(Number.parseInt(escaped.slice(i + 1, i + 3), 16));
      i += 2;
    } else bytes.push(escaped.charCodeAt(i));
  }
  const name = Buffer.from(bytes).toString('utf8');
  return escapeName(name) === escaped ? name : undefined;
}

/** The one of `candidates` that `name` was most likely meant to be; undefined where none is near. */
export function nearestName(name: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(name.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Optimal string alignment: insertions, deletions, replacements, and swaps of neighbours. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let cost = Math.min(replace, previous[j]! + 1, current[j - 1]! + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) cost = Math.min(cost, before[j - 2]! + 1);
      current.push(cost);
    }
    before = previous;
    previous = current;
  }
  return previous[b.length]!;
}

function printable(name: string): string {
  return name.toWellFormed().replace(/\p{Cc}/gu, '\u{fffd}');
}
