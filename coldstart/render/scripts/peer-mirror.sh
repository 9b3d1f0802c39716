#!/bin/bash
# Lets the first pull of a fresh node ask its peers. Spegel's pod writes the same files, but only
# after its own image is here; it then moves these to its backup. Until its port answers, the node
# port reaches the Spegel of another node, and a refused connection falls through to the registry.
set -euo pipefail

metadata=http://169.254.169.254/latest
options=(--fail --silent --show-error --max-time 5 --retry 5 --retry-connrefused)
token=$(curl "${options[@]}" --request PUT \
  --header "X-aws-ec2-metadata-token-ttl-seconds: 60" "$metadata/api/token")
address=$(curl "${options[@]}" \
  --header "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/local-ipv4")

registries=(@REGISTRIES@)
for registry in "${registries[@]}"; do
  mkdir -p "@HOSTS_DIRECTORY@/$registry"
  # No "resolve": images are pinned by digest, and a peer is not asked what a tag means.
  cat >"@HOSTS_DIRECTORY@/$registry/hosts.toml" <<HOSTS
[host."http://$address:30020"]
capabilities = ["pull"]
dial_timeout = "200ms"

[host."http://$address:30021"]
capabilities = ["pull"]
dial_timeout = "200ms"
HOSTS
done
