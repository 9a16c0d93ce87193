import { needPrograms, openMounter, type Peer } from './peer.ts';

export const s3fs: Peer = {
  name: 's3fs',
  install: () => needPrograms('s3fs=s3fs'),
  async open({ directory, link, plain, bench }) {
    const { accessKey, secretKey } = bench.server.credentials;
    const options = [
      'use_path_request_style',
      'endpoint=us-east-1',
      'ro',
      'allow_other',
      'umask=022',
      `url=${link.endpoint}`,
    ];
    return openMounter({
      bucket: plain.bucket,
      directory,
      environment: { AWSACCESSKEYID: accessKey, AWSSECRETACCESSKEY: secretKey },
      command: (mount, cache) => [
        's3fs',
        plain.bucket,
        mount,
        '-f',
        '-o',
        [...options, `use_cache=${cache}`].join(','),
      ],
    });
  },
};
