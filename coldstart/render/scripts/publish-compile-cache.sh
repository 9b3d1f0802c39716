#!/bin/sh
# Makes the golden compile cache: starts the engine exactly as serving pods do, lets it answer one
# request, stops it and packs what it compiled. One such Job writes per key. The stager beside it
# stages the weights first and uploads the archive afterwards.
set -eu

engine=
say() { printf '%s publish: %s\n' "$(date -u +%H:%M:%SZ)" "$*"; }
fail() {
  say "$*" >&2
  if [ -n "$engine" ]; then kill -KILL "$engine" 2>/dev/null || true; fi
  exit 1
}
trap 'fail "stopped"' TERM INT
deadline=$(($(date +%s) + DEADLINE_SECONDS))
in_time() { [ "$(date +%s)" -lt "$deadline" ]; }
url="http://127.0.0.1:$PORT"

for file in $WAIT_FOR; do
  until [ -e "$file" ]; do
    in_time || fail "$file did not appear within ${DEADLINE_SECONDS}s: see container stager"
    sleep 0.2
  done
done
if [ -e "$EXCHANGE/published" ]; then
  say "an archive with this key exists already: nothing to do"
  exit 0
fi

"$@" &
engine=$!
until curl --fail --silent --output /dev/null --max-time 5 "$url/health"; do
  kill -0 "$engine" 2>/dev/null || fail "the engine ended before it was ready: see its log above"
  in_time || fail "the engine was not ready within ${DEADLINE_SECONDS}s"
  sleep 0.5
done
# Some kernels are compiled by the first request, not by the start.
curl --fail --silent --show-error --output /dev/null --max-time 300 \
  --header 'Content-Type: application/json' \
  --data "{\"model\": \"$SERVED_MODEL\", \"prompt\": \"One, two,\", \"max_tokens\": 8}" \
  "$url/v1/completions" || fail "the engine did not answer a completion"
kill -TERM "$engine"
while kill -0 "$engine" 2>/dev/null; do
  in_time || fail "the engine did not stop within ${DEADLINE_SECONDS}s"
  sleep 0.2
done
engine=

if [ -z "$(ls -A "$CACHE_DIRECTORY/torch_compile_cache" 2>/dev/null)" ]; then
  fail "the engine left nothing in $CACHE_DIRECTORY/torch_compile_cache: is compilation switched off?"
fi
# Same content, same bytes: order, times and owners are fixed. Locks and half-written files of one
# process mean nothing to another.
tar --create --use-compress-program='gzip -n -1' --file "$EXCHANGE/archive.partial" \
  --directory "$CACHE_DIRECTORY" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner \
  --exclude='*.lock' --exclude='*.tmp' --exclude='locks/*' .
mv "$EXCHANGE/archive.partial" "$EXCHANGE/archive.tar.gz"
sha256sum <"$EXCHANGE/archive.tar.gz" | cut -c1-64 >"$EXCHANGE/archive.sha256"
: >"$EXCHANGE/made"
say "packed $(stat -c %s "$EXCHANGE/archive.tar.gz") bytes"
until [ -e "$EXCHANGE/published" ]; do
  in_time || fail "the archive was not uploaded within ${DEADLINE_SECONDS}s: see container stager"
  sleep 0.2
done
