import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { isErrno, UnavailableError } from '../dataset/errors.ts';

const execute = promisify(execFile);

/** Runs a system tool to its end. Its last words are the error's; `PATH` is widened by where distributions keep such tools. */
export async function runTool(program: string, args: readonly string[], fromPackage: string): Promise<string> {
  const env = { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' };
  try {
    return (await execute(program, args, { env })).stdout;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) {
      throw new UnavailableError(`${program} is needed and not installed: install the package ${fromPackage}`, {
        cause: error,
        facts: { program, package: fromPackage },
      });
    }
    const words = (error as { stderr?: string }).stderr?.trim().split('\n').slice(-3).join(' | ');
    throw new UnavailableError(`${program} failed: ${words || (error as Error).message}`, {
      cause: error,
      facts: { program },
    });
  }
}
