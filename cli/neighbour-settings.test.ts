import { describe, expect, it } from 'vitest';
import { InvalidError } from '../dataset/errors.ts';
import { readNeighbourSettings } from './neighbour-settings.ts';

const TLS = {
  LARDER_NEIGHBOUR_CERT: '/tls/node.pem',
  LARDER_NEIGHBOUR_KEY: '/tls/node.key',
  LARDER_NEIGHBOUR_CA: '/tls/ca.pem',
};

describe('the settings of neighbours', () => {
  it('are none where no list of nodes is set', () => {
    expect(readNeighbourSettings({})).toBeUndefined();
    expect(readNeighbourSettings({ LARDER_NEIGHBOURS: '', LARDER_NEIGHBOUR_STORE: '' })).toBeUndefined();
  });

  it('are a list, where to listen, a certificate, and room', () => {
    const settings = readNeighbourSettings({
      ...TLS,
      LARDER_NEIGHBOURS: 'dns:larder.example:7411',
      LARDER_NEIGHBOUR_LISTEN: '[::]:7411',
      LARDER_NEIGHBOUR_ADDRESS: '10.0.0.7:7411',
      LARDER_NEIGHBOUR_STORE: '8G',
    });
    expect(settings).toEqual({
      source: { kind: 'addresses', name: 'larder.example', port: 7411 },
      listen: { host: '::', port: 7411 },
      self: { host: '10.0.0.7', port: 7411 },
      identity: { certificate: '/tls/node.pem', key: '/tls/node.key', authority: '/tls/ca.pem' },
      store: 8 * 2 ** 30,
    });
  });

  it.each([
    ['file:/etc/larder/nodes', { kind: 'file', path: '/etc/larder/nodes' }],
    ['dns:_larder._tcp.example.org', { kind: 'services', name: '_larder._tcp.example.org' }],
    ['dns:larder:1', { kind: 'addresses', name: 'larder', port: 1 }],
  ])('take the list %s', (text, source) => {
    expect(readNeighbourSettings({ ...TLS, LARDER_NEIGHBOURS: text })?.source).toEqual(source);
  });

  it.each([
    [{ LARDER_NEIGHBOURS: '10.0.0.1:7411' }, /LARDER_NEIGHBOURS must be file:\/PATH, dns:NAME:PORT/],
    [{ LARDER_NEIGHBOURS: 'file:relative' }, /LARDER_NEIGHBOURS must be/],
    [{ LARDER_NEIGHBOURS: 'dns:name:99999' }, /LARDER_NEIGHBOURS must be/],
    [{ LARDER_NEIGHBOURS: 'file:/x', LARDER_NEIGHBOUR_LISTEN: '7411' }, /LARDER_NEIGHBOUR_LISTEN must be HOST:PORT/],
    [
      { LARDER_NEIGHBOURS: 'file:/x', LARDER_NEIGHBOUR_STORE: 'much' },
      /LARDER_NEIGHBOUR_STORE must be a number of bytes/,
    ],
    [{ LARDER_NEIGHBOURS: 'file:/x', LARDER_NEIGHBOUR_KEY: '' }, /LARDER_NEIGHBOUR_KEY must be a PEM file/],
    [{ LARDER_NEIGHBOURS: 'file:/x', LARDER_NEIGHBOUR_TLS: 'maybe' }, /LARDER_NEIGHBOUR_TLS must be one of on, off/],
    [
      { LARDER_NEIGHBOURS: 'file:/x', LARDER_NEIGHBOUR_TLS: 'off', LARDER_NEIGHBOUR_LISTEN: '0.0.0.0:7411' },
      /LARDER_NEIGHBOUR_LISTEN must be a loopback address/,
    ],
    [{ LARDER_NEIGHBOURS: '' }, /LARDER_NEIGHBOUR_CERT is set, and LARDER_NEIGHBOURS is not/],
  ])('that make no sense are refused, and the variable is named: %j', (wrong, message) => {
    const read = () => readNeighbourSettings({ ...TLS, ...wrong });
    expect(read).toThrow(InvalidError);
    expect(read).toThrow(message);
  });

  it('leave TLS out only when told so, and on a loopback address', () => {
    const settings = readNeighbourSettings({
      LARDER_NEIGHBOURS: 'file:/x',
      LARDER_NEIGHBOUR_TLS: 'off',
      LARDER_NEIGHBOUR_LISTEN: '127.0.0.1:0',
    });
    expect(settings?.identity).toBe('plain');
  });
});
