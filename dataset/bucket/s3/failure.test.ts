import { expect, test } from 'vitest';
import { asksForLess, failureOf, isTransient, isUnreached } from './failure.ts';

const system = (code: string) => failureOf(Object.assign(new Error('x'), { code }));
const answered = (statusCode: number, Code: string, headers: Record<string, string> = {}) =>
  failureOf(Object.assign(new Error('x'), { name: Code, Code, $response: { statusCode, headers } }));

test('what the network did may pass; what this program or its settings did may not', () => {
  for (const code of [
    'ECONNRESET',
    'EPIPE',
    'ETIMEDOUT',
    'ENOTFOUND',
    'EAI_AGAIN',
    'ECONNREFUSED',
    'HPE_INVALID_CONSTANT',
  ])
    expect(isTransient(system(code)), code).toBe(true);
  for (const code of ['ERR_INVALID_CHAR', 'ERR_INVALID_ARG_TYPE', 'DEPTH_ZERO_SELF_SIGNED_CERT', 'TypeError'])
    expect(isTransient(system(code)), code).toBe(false);
  expect(isTransient(failureOf(new TypeError('x is no function')))).toBe(false);
  expect(isUnreached(system('ECONNREFUSED'))).toBe(true);
  expect(isUnreached(system('ECONNRESET'))).toBe(false);
});

test('a store that is busy or broken may be better later; one that refuses will not', () => {
  for (const [status, code] of [
    [500, 'InternalError'],
    [502, ''],
    [503, 'SlowDown'],
    [504, ''],
    [429, ''],
    [408, ''],
    [409, 'ConditionalRequestConflict'],
    [400, 'RequestTimeout'],
    [200, 'SyntaxError'],
  ] as const)
    expect(isTransient(answered(status, code)), `${status} ${code}`).toBe(true);
  for (const [status, code] of [
    [400, 'InvalidArgument'],
    [403, 'AccessDenied'],
    [404, 'NoSuchKey'],
    [409, 'BucketAlreadyExists'],
    [412, 'PreconditionFailed'],
    [416, 'InvalidRange'],
    [501, 'NotImplemented'],
  ] as const)
    expect(isTransient(answered(status, code)), `${status} ${code}`).toBe(false);
  expect(asksForLess(answered(503, 'SlowDown'))).toBe(true);
  expect(asksForLess(answered(500, 'InternalError'))).toBe(false);
});

test('a time to come again is in seconds, or a date', () => {
  expect(answered(503, 'SlowDown', { 'retry-after': '7' }).retryAfter).toBe(7000);
  const date = new Date(Date.now() + 60_000).toUTCString();
  expect(answered(503, 'SlowDown', { 'retry-after': date }).retryAfter).toBeGreaterThan(50_000);
  for (const value of ['soon', '0', new Date(0).toUTCString()])
    expect(answered(503, 'SlowDown', { 'retry-after': value }).retryAfter).toBeUndefined();
});
