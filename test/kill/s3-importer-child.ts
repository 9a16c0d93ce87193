import { LarderError } from '../../dataset/errors.ts';
import { importDirectory } from '../../dataset/import.ts';
import { openImpatiently } from '../support/impatient.ts';

/** An import into a repository on S3, in a process of its own: `LOCATION SOURCE DATASET`. Prints that it begins, and the outcome or the failure. */
const [location, source, dataset] = process.argv.slice(2) as [string, string, string];
try {
  const repository = await openImpatiently(location);
  console.log('begins');
  const { outcome } = await importDirectory({
    repository,
    source,
    dataset,
    branch: 'main',
    message: 'from a process of its own',
    author: 'a test',
  });
  await repository.bucket.close();
  console.log(outcome);
} catch (error) {
  if (!(error instanceof LarderError)) throw error;
  console.log(`${error.kind}: ${error.message}`);
  process.exit(3);
}
