import { type ByteString, bytesOf } from '../dataset/byte-string.ts';

/** One character of a name that is UTF-8, or one byte of one that is not. */
const CHARACTER = '(?:[\\x00-\\x2e\\x30-\\x7f]|[\\xc0-\\xff][\\x80-\\xbf]*|[\\x80-\\xbf])';

/**
 * A test of whether a path matches `pattern`, or lies below a directory that does. In it, `*` is any run without a slash, `**` any
 * run, `?` one character, `[a-z]` one of a set (`[!a-z]` one outside), `{a,b}` either; `\` takes the next one literally.
 */
export function globMatcher(pattern: string): (path: ByteString) => boolean {
  const source = bytesOf(pattern.replace(/^\/+|\/+$/g, ''));
  let expression = '';
  let depth = 0;
  for (let at = 0; at < source.length; at += 1) {
    const character = source[at]!;
    if (character === '*') {
      if (source[at + 1] !== '*') {
        expression += '[^/]*';
      } else if (source[at + 2] === '/' && (at === 0 || source[at - 1] === '/')) {
        expression += '(?:.*/)?';
        at += 2;
      } else {
        expression += '.*';
        at += 1;
      }
    } else if (character === '?') {
      expression += CHARACTER;
    } else if (character === '[' && source.indexOf(']', at + 2) > 0) {
      const end = source.indexOf(']', at + 2);
      const set = source.slice(at + 1, end).replace(/[\\[\]^]/g, '\\$&');
      expression += `(?!/)${set.startsWith('!') ? `[^${set.slice(1)}]` : `[${set}]`}`;
      at = end;
    } else if (character === '{' && source.indexOf('}', at) > 0) {
      expression += '(?:';
      depth += 1;
    } else if (character === '}' && depth > 0) {
      expression += ')';
      depth -= 1;
    } else if (character === ',' && depth > 0) {
      expression += '|';
    } else {
      if (character === '\\' && at + 1 < source.length) at += 1;
      expression += source[at]!.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
    }
  }
  const compiled = new RegExp(`^${expression}${')'.repeat(depth)}(?:/.*)?$`, 's');
  return (path) => source === '' || compiled.test(path);
}
