#!/bin/sh
# Native sidecar of the engine. It runs while the kubelet still pulls the engine's image: copies the
# weights to local disk, restores the golden compile cache, leaves $HANDOVER/ready, then idles. In a
# publishing pod it uploads the archive that the engine's container leaves in $EXCHANGE.
# POSIX sh and busybox only: the rclone image has nothing else. rclone takes its options from
# RCLONE_* variables; the remote is called "store".
set -u

restorer=
say() { printf '%s stager: %s\n' "$(date -u +%H:%M:%SZ)" "$*"; }
stop() {
  # $! and not a variable set after it: the signal may come between the two. KILL, since a child
  # that is forked but not yet the program still has this trap and would swallow a TERM.
  # shellcheck disable=SC2086
  kill -KILL ${!:-} $restorer 2>/dev/null
  if [ -n "${CLEAN_ON_EXIT:-}" ]; then rm -rf "$CLEAN_ON_EXIT"; fi
  exit 0
}
trap stop TERM INT

# sh runs a trap only between commands; behind `wait` a pod deleted while it loads goes at once.
run() {
  "$@" &
  wait "$!"
}

# fetch <command …> <object> <file>: whether the object is now at the file. rclone takes a missing
# object for an empty directory, copies nothing and succeeds (rclone#3427): only the file can tell.
fetch() {
  for place in "$@"; do :; done
  rm -f "$place"
  "$@" && [ -f "$place" ]
}

sizes_match() {
  tab=$(printf '\t')
  while IFS="$tab" read -r digest size path; do
    actual=$(stat -c %s "$1/$path" 2>/dev/null || echo missing)
    if [ "$actual" != "$size" ]; then
      say "$path has $actual bytes, the manifest says $size (sha256 $digest); dropped"
      rm -f "$1/$path"
      return 1
    fi
  done <"$1/.manifest"
}

stage_weights() {
  if [ -e "$WEIGHTS_DIRECTORY/.complete" ]; then return 0; fi
  from="store:$STORE_BUCKET/$WEIGHTS_PREFIX"
  partial="$WEIGHTS_DIRECTORY.partial"
  mkdir -p "$partial" || return 1
  if ! fetch run rclone copyto "$from/.complete" "$partial/.complete"; then
    say "no complete weights at $from: has the Job that fetches them finished?"
    return 1
  fi
  fetch run rclone copyto "$from/.manifest" "$partial/.manifest" || return 1
  if [ "$(sha256sum <"$partial/.manifest" | cut -c1-64)" != "$(cat "$partial/.complete")" ]; then
    say "the manifest at $from is not the one its .complete names: fetch the weights again"
    return 1
  fi
  cut -f3 "$partial/.manifest" >"$partial/.files"
  run rclone copy --size-only --files-from-raw "$partial/.files" "$from" "$partial" || return 1
  sizes_match "$partial" || return 1
  mv "$partial" "$WEIGHTS_DIRECTORY" || return 1
  say "weights are at $WEIGHTS_DIRECTORY"
}

# A missing or damaged archive costs compile time, never correctness: say so and go on.
restore_cache() {
  if [ -e "$CACHE_DIRECTORY" ]; then return 0; fi
  from="store:$STORE_BUCKET/$RESTORE_ARCHIVE"
  work="$CACHE_DIRECTORY.restoring"
  rm -rf "$work"
  mkdir -p "$work/tree"
  if ! fetch timeout "$RESTORE_SECONDS" rclone copyto "$from.sha256" "$work/expected"; then
    say "no golden compile cache at $from: the engine compiles for itself"
  elif ! fetch timeout "$RESTORE_SECONDS" rclone copyto "$from" "$work/archive"; then
    say "the golden compile cache at $from could not be read: the engine compiles for itself"
  elif [ "$(sha256sum <"$work/archive" | cut -c1-64)" != "$(cut -c1-64 "$work/expected")" ]; then
    say "the golden compile cache at $from has another sha256 than recorded: not used"
  elif ! tar -xzf "$work/archive" -C "$work/tree"; then
    say "the golden compile cache at $from does not unpack: not used"
  else
    mv "$work/tree" "$CACHE_DIRECTORY" && say "compile cache is at $CACHE_DIRECTORY"
  fi
  rm -rf "$work"
}

already_published() {
  fetch timeout "$RESTORE_SECONDS" rclone copyto \
    "store:$STORE_BUCKET/$PUBLISH_ARCHIVE.sha256" "$EXCHANGE/existing"
}

# The checksum goes last: a reader takes an archive without one for absent. What is at the place is
# not asked: S3 answers 403 for a missing object where listing is allowed below a prefix only.
publish_cache() {
  to="store:$STORE_BUCKET/$PUBLISH_ARCHIVE"
  deadline=$(($(date +%s) + PUBLISH_SECONDS))
  until [ -e "$EXCHANGE/made" ]; do
    if [ "$(date +%s)" -ge "$deadline" ]; then
      say "no archive to publish after ${PUBLISH_SECONDS}s"
      return 1
    fi
    run sleep 1
  done
  run rclone copyto --no-check-dest "$EXCHANGE/archive.tar.gz" "$to" || return 1
  run rclone copyto --no-check-dest "$EXCHANGE/archive.sha256" "$to.sha256" || return 1
  : >"$EXCHANGE/published"
  say "published $to"
}

if [ -n "${PUBLISH_ARCHIVE:-}" ] && already_published; then
  say "$PUBLISH_ARCHIVE exists already"
  : >"$EXCHANGE/published"
elif [ ! -e "$HANDOVER/ready" ]; then
  if [ -n "${RESTORE_ARCHIVE:-}" ]; then
    restore_cache &
    restorer=$!
  fi
  if [ -n "${WEIGHTS_PREFIX:-}" ]; then stage_weights || exit 1; fi
  if [ -n "$restorer" ]; then wait "$restorer"; fi
  restorer=
fi
: >"$HANDOVER/ready"
if [ -n "${PUBLISH_ARCHIVE:-}" ] && [ ! -e "$EXCHANGE/published" ]; then
  publish_cache || exit 1
fi
# Bounded by the pod's life: a native sidecar ends after the containers it serves.
while :; do run sleep 3600; done
