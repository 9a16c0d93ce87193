#!/bin/sh
# Installs what the demo lacks and runs it: as root in a mount namespace of its own, so that nothing of it outlives it.
set -eu
cd "$(dirname "$0")/.."
sh bin/prepare mkfs.xfs=xfsprogs
if [ ! -d demo/data/node_modules/emoji-16/img ]; then
  echo "larder: fetching two releases of the demo's image set (npm ci)" >&2
  npm ci --prefix demo/data --no-progress >&2
  # The time that the releases' own archives give every file; npm sets the time of installing instead.
  find demo/data/node_modules -type f -exec touch -d '1985-10-26T08:15:00Z' {} +
fi
export PATH="$PWD/node_modules/.bin:$PATH"
if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
  exec unshare -m --propagation private node demo/main.ts "$@"
fi
exec node demo/main.ts "$@"
