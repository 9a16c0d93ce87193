import { BaseSequencer, type TestSpecification } from 'vitest/node';

/**
 * Tests of whole processes first: they take longest, while their files are small, and so would come last where nothing is known of earlier runs. None
 * of them is then left to run alone at the end.
 */
export class ProcessesFirst extends BaseSequencer {
  override async sort(specifications: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(specifications);
    const isOfProcesses = ({ moduleId }: TestSpecification) => moduleId.startsWith(`${this.ctx.config.root}/test/`);
    return [...sorted.filter(isOfProcesses), ...sorted.filter((each) => !isOfProcesses(each))];
  }
}
