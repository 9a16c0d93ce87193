import { describe, expect, it } from 'vitest';
import { createLogger } from '../node/log.ts';
import { logCalls } from './csi-log.ts';

function record() {
  const records: Record<string, unknown>[] = [];
  const write = (text: string) => records.push(JSON.parse(text));
  using log = createLogger({ format: 'json', level: 'debug', component: 'node', write });
  return { records, calls: logCalls(log, (volume) => ({ dataset: volume === 'pvc-7' ? 'emoji' : undefined })) };
}

describe('the log of CSI calls', () => {
  it('has the volume and what is known of it in each line', () => {
    const { records, calls } = record();
    calls({ method: 'NodeStageVolume', volume: 'pvc-7', milliseconds: 12.34, code: 'OK' });
    expect(records).toMatchObject([
      { level: 'info', message: 'NodeStageVolume OK', volume: 'pvc-7', dataset: 'emoji', milliseconds: 12.3 },
    ]);
  });

  it('has the snapshot that a call is about', () => {
    const { records, calls } = record();
    calls({ method: 'CreateSnapshot', volume: 'pvc-7', snapshot: 'nightly', milliseconds: 1, code: 'OK' });
    calls({
      method: 'DeleteVolumeGroupSnapshot',
      snapshot: 'group-1',
      milliseconds: 1,
      code: 'ABORTED',
      message: 'busy',
    });
    expect(records).toMatchObject([
      { level: 'info', volume: 'pvc-7', snapshot: 'nightly' },
      { level: 'warn', snapshot: 'group-1' },
    ]);
  });

  it('leaves questions to those who ask for them, and tells failures by how much of a surprise they are', () => {
    const { records, calls } = record();
    calls({ method: 'NodeGetVolumeStats', volume: 'pvc-7', milliseconds: 1, code: 'OK' });
    const questions = [
      'Probe',
      'ListSnapshots',
      'ControllerGetVolume',
      'ControllerListVolumeHealth',
      'GroupControllerGetCapabilities',
      'GetVolumeGroupSnapshot',
    ];
    for (const method of questions) calls({ method, milliseconds: 1, code: 'OK' });
    calls({ method: 'NodeExpandVolume', volume: 'pvc-7', milliseconds: 1, code: 'OK' });
    calls({ method: 'NodeStageVolume', volume: 'pvc-8', milliseconds: 1, code: 'NOT_FOUND', message: 'no dataset' });
    calls({
      method: 'NodeStageVolume',
      volume: 'pvc-9',
      milliseconds: 1,
      code: 'INTERNAL',
      error: new TypeError('oh'),
    });
    expect(records.map(({ level }) => level)).toEqual([
      ...['NodeGetVolumeStats', ...questions].map(() => 'debug'),
      'info',
      'warn',
      'error',
    ]);
  });

  it('tells a call that fails again and again once', () => {
    const { records, calls } = record();
    const failed = { method: 'NodeStageVolume', milliseconds: 1, code: 'UNAVAILABLE', message: 'the bucket is away' };
    for (let time = 0; time < 100; time += 1) calls({ ...failed, volume: 'pvc-7' });
    calls({ ...failed, volume: 'pvc-8' });
    expect(records.map(({ volume }) => volume)).toEqual(['pvc-7', 'pvc-8']);
  });
});
