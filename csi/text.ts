/** A text, or its beginning, of at most `limit` characters. Half a character, which cannot be sent, is replaced. */
export function shortened(text: string, limit: number): string {
  return text.slice(0, limit).toWellFormed();
}
