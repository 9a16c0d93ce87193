import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { IdentityFiles } from '../../cache/neighbours/identity.ts';
import { CERTIFICATE_NAME } from '../../cache/neighbours/wire.ts';

/** An authority that signs certificates, made by openssl as docs/nodes.md does it. */
export interface Authority {
  readonly certificate: string;
  /**
   * Makes a key and a certificate, each in a file of a new name.
   * @param names as which DNS names; that of neighbours where none is said
   */
  issue(names?: readonly string[]): IdentityFiles;
}

/** @param directory where its files go, and those that it issues */
export function makeAuthority(directory: string, name: string): Authority {
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const file = (suffix: string) => join(directory, `${name}${suffix}`);
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const [key, certificate] = [file('-ca.key'), file('-ca.pem')];
  openssl('req', '-x509', ...newKey, '-days', '2', '-subj', `/CN=${name}`, '-keyout', key, '-out', certificate);
  let issued = 0;
  return {
    certificate,
    issue(names = [CERTIFICATE_NAME]) {
      issued += 1;
      const files = { certificate: file(`-${issued}.pem`), key: file(`-${issued}.key`), authority: certificate };
      const request = file(`-${issued}.csr`);
      const extensions = file(`-${issued}.ext`);
      writeFileSync(
        extensions,
        `subjectAltName=${names.map((each) => `DNS:${each}`).join(',')}\nextendedKeyUsage=serverAuth,clientAuth\n`,
      );
      openssl('req', ...newKey, '-subj', '/CN=node', '-keyout', files.key, '-out', request);
      const signed = ['-CA', certificate, '-CAkey', key, '-CAcreateserial', '-days', '1', '-extfile', extensions];
      openssl('x509', '-req', '-in', request, ...signed, '-out', files.certificate);
      return files;
    },
  };
}
