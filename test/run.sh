#!/bin/sh
# Runs the tests. As root in a mount namespace of their own, so that no mount outlives them; elsewhere the tests that mount are skipped.
# The soak comes last and alone: what it counts as a hang would be the other tests' load.
set -eu
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/.bin:$PATH"
run() {
  if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
    unshare -m --propagation private env LARDER_TEST_NAMESPACE=1 vitest run "$@"
  else
    vitest run "$@"
  fi
}
if [ "$#" -gt 0 ]; then
  run "$@"
  exit
fi
failed=0
run --exclude 'test/soak/**' || failed=1
run test/soak || failed=1
exit "$failed"
