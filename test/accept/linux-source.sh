#!/bin/sh
# Imports Debian's linux-source, some 80,000 real files, mounts it, and compares the mount with the original in every way that
# common tools see a tree. Needs root, Debian, and some 5 GB below $TMPDIR. Given a directory, uses that tree instead.
#   npm run accept [-- DIRECTORY]
set -eu
cd "$(dirname "$0")/../.."
here=$PWD
[ "$(id -u)" = 0 ] || { echo "accept: needs root, for it mounts" >&2; exit 2; }
if [ "${LARDER_TEST_NAMESPACE:-}" != 1 ]; then
  exec unshare -m --propagation private env LARDER_TEST_NAMESPACE=1 sh "$0" "$@"
fi

scratch=$(mktemp -d "${TMPDIR:-/tmp}/larder-accept-XXXXXX")
larder() { "$here/bin/larder" "$@"; }
export LARDER_REPOSITORY="$scratch/repository" LARDER_CACHE="$scratch/cache" LARDER_RUNTIME="$scratch/runtime" LARDER_STATE="$scratch/state"
finish() {
  status=$?
  larder unmount "$scratch/mounted" >/dev/null 2>&1 || true
  for pid in $(larder status --json 2>/dev/null | grep -o '"[a-zA-Z]*[pP]id":[0-9]*' | cut -d: -f2); do kill "$pid" || true; done
  sleep 0.5
  umount -l "$scratch/mounted" 2>/dev/null || true
  rm -rf "$scratch" 2>/dev/null || true
  exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

tree=${1:-}
if [ -z "$tree" ]; then
  cd "$scratch"
  package=$(apt-cache depends linux-source | sed -n 's/.*Depends: \(linux-source-[0-9.]*\)$/\1/p' | head -n 1)
  apt-get download -q "$package"
  dpkg-deb --fsys-tarfile "$package"_*.deb | tar x --wildcards './usr/src/*.tar.xz'
  tar xJf usr/src/*.tar.xz
  rm -rf usr ./*.deb
  tree=$scratch/$package
  cd "$here"
fi
# A program of our own in it, so that executing and mapping are seen too.
program=$scratch/program
cp "$(command -v sha256sum)" "$program"

timed() {
  start=$(date +%s%N)
  "$@"
  printf '        %s ms: %s\n' "$((($(date +%s%N) - start) / 1000000))" "$*"
}
step() { printf 'accept: %s\n' "$1"; }
listing() { (cd "$1" && find . -printf '%y %m %U %G %n %T@ %l %p' \( -type f -printf ' %s\n' -o -printf '\n' \) | sort); }

step "$(find "$tree" | wc -l) paths, $(du -sh "$tree" | cut -f1)"
larder repository init >/dev/null
timed larder import "$tree" linux -m 'as unpacked'
mkdir "$scratch/mounted" "$scratch/again"
timed larder mount linux "$scratch/mounted"

step 'find: types, modes, owners, links, times to the nanosecond, sizes'
listing "$tree" >"$scratch/a"
listing "$scratch/mounted" >"$scratch/b"
cmp "$scratch/a" "$scratch/b"
step 'ls -lR (but for what a directory itself takes, which is the file system'"'"'s affair)'
(cd "$tree" && ls -lR --time-style=full-iso) | sed -E '/^total /d; s/^(d\S+ +\S+ +\S+ +\S+ +)[0-9]+/\1/; s/ +/ /g' >"$scratch/a"
(cd "$scratch/mounted" && ls -lR --time-style=full-iso) | sed -E '/^total /d; s/^(d\S+ +\S+ +\S+ +\S+ +)[0-9]+/\1/; s/ +/ /g' >"$scratch/b"
cmp "$scratch/a" "$scratch/b"
step 'diff -r, every byte through the mount'
timed diff -r --no-dereference "$tree" "$scratch/mounted"
step 'tar c'
tar c -C "$tree" --sort=name . | sha256sum >"$scratch/a"
tar c -C "$scratch/mounted" --sort=name . | sha256sum >"$scratch/b"
cmp "$scratch/a" "$scratch/b"
step 'grep -r'
(cd "$tree" && grep -rc EXPORT_SYMBOL . | sort) >"$scratch/a"
(cd "$scratch/mounted" && grep -rc EXPORT_SYMBOL . | sort) >"$scratch/b"
cmp "$scratch/a" "$scratch/b"

step 'exec and mmap, from a workspace and from its snapshot'
larder unmount "$scratch/mounted" >/dev/null
larder mount linux "$scratch/mounted" --workspace >/dev/null
cp "$program" "$scratch/mounted/program"
larder snapshot create "$scratch/mounted" -m 'a program more' --tag program >/dev/null
larder unmount "$scratch/mounted" >/dev/null
larder mount linux@program "$scratch/mounted" >/dev/null
[ "$("$scratch/mounted/program" "$program" | cut -d' ' -f1)" = "$(sha256sum "$program" | cut -d' ' -f1)" ]
larder unmount "$scratch/mounted" >/dev/null

step 'checkout and verify'
larder checkout linux "$scratch/again" >/dev/null
diff -r --no-dereference "$tree" "$scratch/again"
larder verify --deep
step 'all equal'
