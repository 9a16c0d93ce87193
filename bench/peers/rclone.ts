import { needPrograms, openMounter, type Peer } from './peer.ts';

/**
 * `--use-server-modtime` spares it a HEAD a file, and directories are remembered for as long as the benchmark runs: both in its favour, since
 * nothing changes.
 */
export const rclone: Peer = {
  name: 'rclone',
  install: () => needPrograms('rclone=rclone', 'fusermount3=fuse3'),
  async open({ directory, link, plain }) {
    return openMounter({
      bucket: plain.bucket,
      directory,
      environment: {
        RCLONE_CONFIG: '/dev/null',
        RCLONE_CONFIG_BUCKET_TYPE: 's3',
        RCLONE_CONFIG_BUCKET_PROVIDER: 'Other',
        RCLONE_CONFIG_BUCKET_ENV_AUTH: 'true',
        RCLONE_CONFIG_BUCKET_ENDPOINT: link.endpoint,
        RCLONE_CONFIG_BUCKET_REGION: 'us-east-1',
        RCLONE_CONFIG_BUCKET_FORCE_PATH_STYLE: 'true',
      },
      command: (mount, cache) => [
        ...['rclone', 'mount', `bucket:${plain.bucket}`, mount, '--read-only', '--allow-other'],
        ...['--vfs-cache-mode', 'full', '--cache-dir', cache, '--vfs-cache-max-age', '100h'],
        ...['--dir-cache-time', '100h', '--use-server-modtime'],
      ],
    });
  },
};
