import { BLOCK } from './header.ts';

export interface TestMember {
  readonly header: Buffer;
  readonly body: Buffer;
}

/** For tests: a member as the simplest tar writes it. */
export function member(
  name: string,
  text: string,
  { type = name.endsWith('/') ? '5' : '0', link = '' }: { type?: string; link?: string } = {},
): TestMember {
  const body = type === '0' ? Buffer.from(text) : Buffer.alloc(0);
  const header = Buffer.alloc(BLOCK);
  const octal = (value: number, offset: number, length: number) =>
    header.write(value.toString(8).padStart(length - 1, '0'), offset, 'latin1');
  header.write(name, 0, 100, 'utf8');
  octal(0o644, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(body.length, 124, 12);
  octal(1_700_000_000, 136, 12);
  header.fill(0x20, 148, 156);
  header.write(type, 156, 'latin1');
  header.write(link, 157, 100, 'utf8');
  header.write('ustar\x0000', 257, 'latin1');
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return { header, body };
}

/** For tests: an archive of these members, with its end. */
export function tarOf(members: readonly TestMember[]): Buffer {
  const blocks = members.flatMap(({ header, body }) => [
    header,
    body,
    Buffer.alloc((BLOCK - (body.length % BLOCK)) % BLOCK),
  ]);
  return Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)]);
}
