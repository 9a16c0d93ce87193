#!/bin/sh
# Runs the tests. As root in a mount namespace of their own, so that no mount outlives them; elsewhere the tests that mount are skipped.
set -eu
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/.bin:$PATH"
if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
  exec unshare -m --propagation private env LARDER_TEST_NAMESPACE=1 vitest run "$@"
fi
exec vitest run "$@"
