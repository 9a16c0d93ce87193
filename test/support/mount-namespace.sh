#!/bin/sh
# Runs the Node of the tests in a mount namespace of its own: what one file mounts, no other sees.
exec unshare -m --propagation private "$LARDER_TEST_NODE" "$@"
