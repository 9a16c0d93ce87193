import { LarderError } from '../../dataset/errors.ts';
import { importDirectory } from '../../dataset/import.ts';
import { openRepository } from '../../dataset/repository.ts';
import { openImpatiently } from '../support/impatient.ts';
import { dieAtPut } from '../support/kills.ts';

/**
 * An import in a process of its own: `LOCATION SOURCE DATASET MOMENT`, which kills itself at that moment (as of `dieAtPut`). Prints that it begins, and
 * the number of objects stored or the failure.
 */
const [location, source, dataset, moment] = process.argv.slice(2) as [string, string, string, string];
try {
  const repository = await (location.startsWith('s3:') ? openImpatiently : openRepository)(location);
  const stored = dieAtPut(repository.bucket, moment);
  console.log('begins');
  await importDirectory({
    repository,
    source,
    dataset,
    branch: 'main',
    message: 'from a process of its own',
    author: 'a test',
  });
  await repository.bucket.close();
  console.log(stored());
} catch (error) {
  if (!(error instanceof LarderError)) throw error;
  console.log(`${error.kind}: ${error.message}`);
  process.exit(3);
}
