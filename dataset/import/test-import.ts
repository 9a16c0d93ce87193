import { importDirectory } from '../import.ts';
import { openRepository } from '../repository.ts';

/** For tests: an import in a process of its own. Prints that it begins, and the outcome. */
const [location, source, dataset] = process.argv.slice(2) as [string, string, string];
const repository = await openRepository(location);
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
