import { isDigest } from '../dataset/digest.ts';
import type { Json } from '../dataset/format/canonical-json.ts';

/** What a record has, as it was read. */
export type Fields = { readonly [member: string]: Json | undefined };
export type Rule = (value: Json) => boolean;
/** What the members of a record must be; of members that it does not name, nothing is asked. */
export interface Rules {
  readonly [member: string]: Rule | Optional | Rules;
}
/** What may be missing. */
class Optional {
  readonly rule: Rule | Rules;
  constructor(rule: Rule | Rules) {
    this.rule = rule;
  }
}
export const optional = (rule: Rule | Rules) => new Optional(rule);

export const isText: Rule = (value) => typeof value === 'string' && value !== '';
export const isVersion: Rule = (value) => typeof value === 'string' && isDigest(value);
export const isCount: Rule = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
export const isMoment: Rule = (value) => typeof value === 'string' && !Number.isNaN(Date.parse(value));
export const isFlag: Rule = (value) => typeof value === 'boolean';
export const oneOf = (...words: readonly string[]): Rule => {
  return (value) => words.includes(value as string);
};
export const listOf = (rule: Rule, limit: number): Rule => {
  return (value) => Array.isArray(value) && value.length > 0 && value.length <= limit && value.every(rule);
};

export interface Fault {
  /** `holder.node`, say. */
  readonly field: string;
  /** As JSON. */
  readonly value: string;
}

/** The first member that is not as the rules want it; `prefix` stands before its name. */
export function faultIn(fields: Fields, rules: Rules, prefix = ''): Fault | undefined {
  for (const [member, rule] of Object.entries(rules)) {
    const value = Object.hasOwn(fields, member) ? fields[member] : undefined;
    const field = prefix + member;
    if (value === undefined && rule instanceof Optional) continue;
    const needed = rule instanceof Optional ? rule.rule : rule;
    if (typeof needed === 'function') {
      if (value === undefined || !needed(value)) return { field, value: String(JSON.stringify(value)) };
    } else {
      if (typeof value !== 'object' || value === null || Array.isArray(value))
        return { field, value: String(JSON.stringify(value)) };
      const fault = faultIn(value as Fields, needed as Rules, `${field}.`);
      if (fault !== undefined) return fault;
    }
  }
  return undefined;
}
