import { CorruptError, InvalidError } from '../dataset/errors.ts';
import { canonicalJson, parseCanonicalJson } from '../dataset/format/canonical-json.ts';
import { escapeName, unescapeName } from '../dataset/names.ts';

/*
 * A node's sign of life: canonical JSON of
 *
 *     {"beat":uuid,"format":1,"freeBytes":count,"instance":uuid,"node":"node-7"}
 *
 * under the key nodes/<escaped node>/alive, written anew every few seconds. `beat` is another each time, so that no two are the same bytes.
 */

export interface HeartbeatRecord extends NodeFacts {
  readonly node: string;
  /** Whose installation it is: NodeIdentity's. */
  readonly instance: string;
  readonly beat: string;
}

/** What a node tells of itself. */
export interface NodeFacts {
  /** Room for workspaces' changes on the disk of its cache, in bytes. */
  readonly freeBytes?: number;
}

export const NODES = 'nodes/';
const ALIVE = '/alive';
export const HEARTBEAT_LIMIT = 4096;
/** One component of a key. */
const NAME_LIMIT = 200;

/** Errors: InvalidError where a node cannot be called so. */
export function heartbeatKey(node: string): string {
  const escaped = escapeName(node);
  if (node === '' || !node.isWellFormed() || escaped.length > NAME_LIMIT)
    throw new InvalidError(`a node cannot be called ${JSON.stringify(node)}: give 1 to ${NAME_LIMIT} bytes`, {
      facts: { node },
    });
  return `${NODES}${escaped}${ALIVE}`;
}

/** The node whose heartbeat has this key; undefined for what else is below `nodes/`. */
export function nodeOfKey(key: string): string | undefined {
  if (!key.startsWith(NODES) || !key.endsWith(ALIVE)) return undefined;
  const escaped = key.slice(NODES.length, -ALIVE.length);
  return escaped === '' || escaped.includes('/') ? undefined : unescapeName(escaped);
}

export function encodeHeartbeat({ node, instance, beat, freeBytes }: HeartbeatRecord): Buffer {
  return Buffer.from(canonicalJson({ format: 1, node, instance, beat, freeBytes }), 'utf8');
}

/** Errors: CorruptError that names the field at fault. */
export function decodeHeartbeat(bytes: Buffer, key: string): HeartbeatRecord {
  const fields = parseCanonicalJson(key, bytes);
  const { format, node, instance, beat, freeBytes } = fields;
  const check = (field: string, holds: boolean) => {
    if (!holds)
      throw new CorruptError(`${key} is damaged: ${field} is ${JSON.stringify(fields[field])}`, {
        facts: { object: key, field },
      });
  };
  check('format', format === 1);
  check('node', typeof node === 'string' && nodeOfKey(key) === node);
  check('instance', typeof instance === 'string' && instance !== '');
  check('beat', typeof beat === 'string' && beat !== '');
  check('freeBytes', freeBytes === undefined || (Number.isSafeInteger(freeBytes) && (freeBytes as number) >= 0));
  return { node, instance, beat, ...(freeBytes !== undefined && { freeBytes }) } as HeartbeatRecord;
}
