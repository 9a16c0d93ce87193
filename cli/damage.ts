import { textOf } from '../dataset/byte-string.ts';
import type { Affected, Damage } from '../dataset/verify.ts';
import { formatCount } from './format.ts';
import { bytesFields, type Output } from './output.ts';

/** What is wrong with an object, and the files that it affects: lines, or a document. */
export function printDamage(output: Output, { object, kind, fault, affected, affectedCount }: Damage): void {
  output.document({ object, kind, fault, affected: affected.map(affectedDocument), affectedCount });
  const said = kind === 'missing' ? '' : `: ${fault}`;
  output.line(`${output.style('red', `${kind} ${object}`)}${said}`);
  if (affectedCount === 0) output.line('  nothing needs it');
  for (const { dataset, ref, path } of affected) {
    const name = dataset === '' ? ref : `${dataset}@${ref}`;
    output.line(`  ${name}  ${path === undefined ? 'all of it' : textOf(path)}`);
  }
  const more = affectedCount - affected.length;
  if (more > 0) output.line(`  and ${formatCount(more)} more`);
}

function affectedDocument({ dataset, ref, version, path }: Affected): object {
  return { dataset, ref, version, ...(path !== undefined && bytesFields('path', path)) };
}
