import { describe, expect, it } from 'vitest';
import { LOG_FORMATS, LOG_LEVELS } from '../node/log.ts';
import { FORMATS, readLogSettings } from './log-settings.ts';

describe('how a daemon logs', () => {
  it('is text for a person at a terminal, and JSON for a program', () => {
    expect(readLogSettings({}, { json: false, terminal: true })).toEqual({ level: 'info', format: 'text' });
    expect(readLogSettings({}, { json: false, terminal: false })).toEqual({ level: 'info', format: 'json' });
    expect(readLogSettings({}, { json: true, terminal: true }).format).toBe('json');
  });

  it('is as the environment says, and as the option says rather', () => {
    const env = { LARDER_LOG: 'debug', LARDER_LOG_FORMAT: 'text' };
    expect(readLogSettings(env, { json: false, terminal: false })).toEqual({ level: 'debug', format: 'text' });
    expect(readLogSettings(env, { format: 'json', json: false, terminal: false }).format).toBe('json');
  });

  it('may be at every level and in every format that the log has', () => {
    for (const level of LOG_LEVELS) {
      expect(readLogSettings({ LARDER_LOG: level }, { json: false, terminal: true }).level).toBe(level);
    }
    expect(FORMATS).toEqual(LOG_FORMATS);
    expect(() => readLogSettings({ LARDER_LOG: 'loud' }, { json: false, terminal: true })).toThrow(
      /LARDER_LOG must be one of debug, info, warn, error/,
    );
  });
});
