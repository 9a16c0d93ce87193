import { InvalidError } from './errors.ts';

/** A key of a version's metadata: what a filter's comparison could not be told from is not in it. */
const KEY = /^[^\s=!<>]+$/;

/** `key=value` as metadata of a version; an InvalidError where a text is none, or a key comes twice. */
export function parseMeta(texts: readonly string[]): Record<string, string> {
  const meta = new Map<string, string>();
  for (const text of texts) {
    const at = text.indexOf('=');
    const key = at < 0 ? text : text.slice(0, at);
    if (at < 0 || !KEY.test(key))
      throw new InvalidError(
        `'${text}' is no metadata: write key=value, such as accuracy=0.93 (no space, '=', '!', '<' or '>' in the key)`,
        { facts: { meta: text } },
      );
    if (meta.has(key))
      throw new InvalidError(`the metadata '${key}' is given twice: give one value`, { facts: { meta: key } });
    meta.set(key, text.slice(at + 1));
  }
  return Object.fromEntries(meta);
}

type Meta = Readonly<Record<string, string>>;

/** `key`, or `key`, a comparison and a value. */
const CONDITION = /^([^\s=!<>]+)(?:\s*(>=|<=|!=|=|>|<)\s*(.*))?$/s;

/**
 * Whether metadata meets all conditions: `key` (it has one), `key=value`, `key!=value` (also where there is none), `key>0.9`, `key>=…`,
 * `key<…`, `key<=…`, which compare numbers; what is no number meets none of those. An InvalidError where a text is no condition.
 */
export function metaFilter(conditions: readonly string[]): (meta: Meta) => boolean {
  const tests = conditions.map(condition);
  return (meta) => tests.every((test) => test(meta));
}

function condition(text: string): (meta: Meta) => boolean {
  const match = CONDITION.exec(text.trim());
  if (match === null) throw noCondition(text, 'write key, key=value, key!=value or key>0.9');
  const [, key, operator, value = ''] = match;
  const of = (meta: Meta) => (Object.hasOwn(meta, key!) ? meta[key!] : undefined);
  if (operator === undefined) return (meta) => of(meta) !== undefined;
  if (operator === '=') return (meta) => of(meta) === value;
  if (operator === '!=') return (meta) => of(meta) !== value;
  const limit = numberOf(value);
  if (limit === undefined) throw noCondition(text, `'${operator}' compares numbers, and '${value}' is none`);
  const compare = COMPARISONS[operator as keyof typeof COMPARISONS];
  return (meta) => {
    const number = numberOf(of(meta));
    return number !== undefined && compare(number, limit);
  };
}

const COMPARISONS = {
  '>': (a: number, b: number) => a > b,
  '>=': (a: number, b: number) => a >= b,
  '<': (a: number, b: number) => a < b,
  '<=': (a: number, b: number) => a <= b,
} as const;

function numberOf(text: string | undefined): number | undefined {
  const number = text === undefined || text.trim() === '' ? Number.NaN : Number(text);
  return Number.isNaN(number) ? undefined : number;
}

function noCondition(text: string, help: string): InvalidError {
  return new InvalidError(`'${text}' is no condition for metadata: ${help}`, { facts: { condition: text } });
}
