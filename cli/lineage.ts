import { shortId } from '../dataset/digest.ts';
import type { LineageNode } from '../dataset/lineage.ts';
import { plainText, subjectOf } from './describe.ts';
import { formatDate } from './format.ts';
import type { Output } from './output.ts';

/** The branches and tags that a version has in a dataset. */
export type NamesOf = (node: LineageNode) => readonly string[];

export function lineageDocument(node: LineageNode, namesOf: NamesOf): object {
  const { origin, version, through, cut, from } = node;
  return {
    ...origin,
    missing: version === undefined && cut !== 'limit',
    names: namesOf(node),
    ...(version && { time: version.time, author: version.author, message: version.message, meta: version.meta }),
    ...(through && { through: through.id }),
    ...(cut && { cut }),
    from: from.map((each) => lineageDocument(each, namesOf)),
  };
}

/**
 * A tree as people read it:
 *
 *     models@3f2a5c0d9b1e 2026-11-25 16:05 (main) epoch 3
 *     ├─ images@9b1e3f2a5c0d 2026-11-24 10:00 (tag: v3) cleaned
 *     │  └─ raw@5c0d9b1e3f2a: not in this repository
 *     └─ labels@0d9b1e3f2a5c 2026-11-24 11:00 (main) by hand
 */
export function lineageLines(node: LineageNode, namesOf: NamesOf, style: Output['style']): string[] {
  const lines: string[] = [];
  const draw = (at: LineageNode, first: string, rest: string) => {
    lines.push(first + nodeText(at, namesOf(at), style));
    for (const [i, each] of at.from.entries()) {
      const isLast = i === at.from.length - 1;
      draw(each, `${rest}${isLast ? '└─ ' : '├─ '}`, `${rest}${isLast ? '   ' : '│  '}`);
    }
  };
  draw(node, '', '');
  return lines;
}

function nodeText({ origin, version, through, cut }: LineageNode, names: readonly string[], style: Output['style']) {
  const name = `${plainText(origin.dataset)}@${style('yellow', shortId(origin.version))}`;
  if (cut === 'limit') return `${name}: and what it was made from, which is not shown`;
  if (version === undefined) return `${name}: not in this repository`;
  const decoration = names.length > 0 ? ` (${names.join(', ')})` : '';
  const note =
    cut === 'shown'
      ? ' (see above)'
      : through === undefined
        ? ''
        : ` (from what ${shortId(through.id)} before it was made from)`;
  return `${name} ${formatDate(version.time)}${decoration} ${subjectOf(version.message)}`.trimEnd() + note;
}
