#!/bin/sh
# Starts the engine once every file named in WAIT_FOR (separated by spaces) exists. The stager works
# while this container's image is still being pulled, so often there is nothing left to wait for.
set -eu

trap 'exit 143' TERM INT
deadline=$(($(date +%s) + WAIT_SECONDS))
for file in $WAIT_FOR; do
  until [ -e "$file" ]; do
    if [ "$(date +%s)" -ge "$deadline" ]; then
      echo "start-engine: $file did not appear within ${WAIT_SECONDS}s;" \
        "see the log of container stager, and of the Job that fetches the weights" >&2
      exit 1
    fi
    sleep 0.2
  done
done
exec "$@"
