#!/usr/bin/env bash
# Builds the EBS snapshot that `image: snapshot` mounts: a Bottlerocket data volume which already
# holds the engine image, unpacked. See docs/image-snapshot.md.
set -euo pipefail
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  echo "build.sh: needs bash 4.4 or newer, this is $BASH_VERSION" >&2
  exit 2
fi
# Without it a failure inside $(…) would go unnoticed.
shopt -s inherit_errexit

readonly CONTAINERD="--address /run/containerd/containerd.sock --namespace k8s.io"
readonly BUILD_TAG="coldstart.dev/image-snapshot-build"
# Seconds between two questions to AWS.
readonly POLL_SECONDS=${COLDSTART_POLL_SECONDS:-10}

usage() {
  cat <<'TEXT'
usage: build.sh --region REGION --subnet SUBNET --instance-profile NAME \
                --kubernetes-version 1.35 --bottlerocket-version 1.64.0 [options] IMAGE@sha256:… …

Starts one instance in a private subnet, pulls the images onto its data volume, snapshots the
volume, terminates the instance, and prints `imageSnapshot: snap-…` for the stack file.

  --region REGION                 where the cluster runs
  --subnet SUBNET                 a private subnet that reaches the registry and Systems Manager
  --instance-profile NAME         allows AmazonSSMManagedInstanceCore and pulling the images
  --kubernetes-version VERSION    as in the stack file (1.35)
  --bottlerocket-version VERSION  as in the nodes' AMI alias (1.64.0)
  --security-group GROUP          default: the VPC's default group; no inbound rule is needed
  --instance-type TYPE            without instance store (default: m7i.xlarge)
  --volume-gib GIB                no larger than the pool's data volume (default: 60)
  --kms-key KEY                   default: the account's key for EBS
  --timeout-seconds SECONDS       for everything together (default: 3600)
  --dry-run                       print the plan, call nothing
TEXT
}

say() { printf '%4ds  %s\n' "$SECONDS" "$*" >&2; }

fail() {
  printf 'build.sh: %s\n' "$*" >&2
  exit 1
}

misuse() {
  printf 'build.sh: %s\n\n' "$*" >&2
  usage >&2
  exit 2
}

region="" subnet="" instance_profile="" kubernetes_version="" bottlerocket_version=""
security_group="" instance_type=m7i.xlarge volume_gib=60 kms_key="" timeout_seconds=3600
dry_run=false images=()

parse() {
  while (($# > 0)); do
    case $1 in
      --dry-run) dry_run=true ;;
      --help | -h)
        usage
        exit 0
        ;;
      --region | --subnet | --instance-profile | --kubernetes-version | --bottlerocket-version | \
        --security-group | --instance-type | --volume-gib | --kms-key | --timeout-seconds)
        (($# > 1)) || misuse "$1 needs a value"
        local name=${1#--}
        printf -v "${name//-/_}" '%s' "$2"
        shift
        ;;
      -*) misuse "unknown option $1" ;;
      *) images+=("$1") ;;
    esac
    shift
  done
}

validate() {
  local name image
  for name in region subnet instance_profile kubernetes_version bottlerocket_version; do
    [[ -n ${!name} ]] || misuse "--${name//_/-} is required"
  done
  [[ $kubernetes_version =~ ^1\.[0-9]+$ ]] || misuse "--kubernetes-version is 1.35, not \"$kubernetes_version\""
  bottlerocket_version=${bottlerocket_version#v}
  [[ $bottlerocket_version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] ||
    misuse "--bottlerocket-version is 1.64.0, not \"$bottlerocket_version\": pin what the nodes run"
  for name in volume_gib timeout_seconds; do
    [[ ${!name} =~ ^[1-9][0-9]*$ ]] || misuse "--${name//_/-} is a whole number, not \"${!name}\""
  done
  ((${#images[@]} > 0)) || misuse "name at least one image"
  for image in "${images[@]}"; do
    # A tag beside the digest would be stored as another name than the one pods ask for.
    [[ $image =~ ^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)+@sha256:[0-9a-f]{64}$ ]] ||
      misuse "image \"$image\" is not pinned: write registry/repository@sha256:<64 digits>, without a tag"
  done
}

plan() {
  local key=${kms_key:-"the account's key for EBS"}
  cat <<TEXT
region           $region
subnet           $subnet (must be private)
instance         $instance_type with profile $instance_profile; refused if it has instance store
system           Bottlerocket $bottlerocket_version for Kubernetes $kubernetes_version
data volume      $volume_gib GiB gp3, encrypted with $key
images           ${images[*]}
deadline         $timeout_seconds s, after which everything started here is removed
steps            check type, subnet and AMI; run instance; pull and verify each image; stop;
                 snapshot /dev/xvdb; terminate
TEXT
}

ec2() { aws ec2 --region "$region" --output text "$@"; }
ssm() { aws ssm --region "$region" --output text "$@"; }

build_id="" instance_id="" snapshot_id="" launched=false completed=false

# Removes what this run started, and only that; runs however the script ends.
clean_up() {
  local status=$?
  trap - EXIT
  trap '' INT TERM
  if [[ -n $snapshot_id ]] && ! $completed; then
    say "deleting the unfinished snapshot $snapshot_id"
    ec2 delete-snapshot --snapshot-id "$snapshot_id" >/dev/null ||
      say "could not delete $snapshot_id: delete it by hand"
  fi
  if $launched && [[ -z $instance_id ]]; then
    # The answer to run-instances was lost; the tag names what it made.
    instance_id=$(ec2 describe-instances --filters "Name=tag:$BUILD_TAG,Values=$build_id" \
      --query 'Reservations[].Instances[].InstanceId') || true
  fi
  if [[ -n $instance_id ]]; then
    say "terminating $instance_id"
    # One id, or the few found by tag.
    # shellcheck disable=SC2086
    ec2 terminate-instances --instance-ids $instance_id >/dev/null || {
      say "could not terminate $instance_id: it costs money until you terminate it by hand"
      ((status != 0)) || status=1
    }
  fi
  if $completed; then
    echo "imageSnapshot: $snapshot_id"
  fi
  exit "$status"
}

# in_time WHAT STATE: ends the run when everything together has taken too long.
in_time() {
  ((SECONDS < timeout_seconds)) || fail "$1 is still \"$2\" after $timeout_seconds s"
}

# until_is WANTED WHAT COMMAND: asks until the answer is WANTED, a bad end, or it is too late.
until_is() {
  local answer
  while true; do
    answer=$("$3")
    case $answer in
      "$1") return ;;
      error | terminated | shutting-down) fail "$2 ended as \"$answer\"" ;;
    esac
    in_time "$2" "$answer"
    sleep "$POLL_SECONDS"
  done
}

check_inputs() {
  local has_disks is_public
  has_disks=$(ec2 describe-instance-types --instance-types "$instance_type" \
    --query 'InstanceTypes[0].InstanceStorageSupported')
  [[ $has_disks == False ]] ||
    fail "$instance_type has instance store, where the images could land instead of the volume; use a type without, such as m7i.xlarge"
  is_public=$(ec2 describe-subnets --subnet-ids "$subnet" --query 'Subnets[0].MapPublicIpOnLaunch')
  [[ $is_public == False ]] || fail "$subnet gives out public addresses; use a private subnet"
}

architecture() {
  local found
  found=$(ec2 describe-instance-types --instance-types "$instance_type" \
    --query 'InstanceTypes[0].ProcessorInfo.SupportedArchitectures[0]')
  case $found in
    x86_64 | arm64) echo "$found" ;;
    *) fail "$instance_type has architecture \"$found\"; use an x86_64 or arm64 type" ;;
  esac
}

ami() {
  local path="/aws/service/bottlerocket/aws-k8s-$kubernetes_version/$1/$bottlerocket_version/image_id"
  ssm get-parameter --name "$path" --query Parameter.Value ||
    fail "no AMI at $path; is this Bottlerocket version released for Kubernetes $kubernetes_version?"
}

volume() {
  local device=$1 gib=$2 key=""
  [[ -z $kms_key ]] || key=",KmsKeyId=$kms_key"
  echo "DeviceName=$device,Ebs={VolumeSize=$gib,VolumeType=gp3,Iops=6000,Throughput=600,Encrypted=true,DeleteOnTermination=true$key}"
}

launch() {
  local image_id=$1 options=()
  [[ -z $security_group ]] || options+=(--security-group-ids "$security_group")
  # The admin container is the way to the host's containerd; the snapshotter stays the default one,
  # as on the nodes: Bottlerocket empties a volume that was filled with another.
  launched=true
  instance_id=$(ec2 run-instances --image-id "$image_id" --instance-type "$instance_type" \
    --subnet-id "$subnet" --no-associate-public-ip-address --count 1 \
    --client-token "$build_id" --iam-instance-profile "Name=$instance_profile" \
    --metadata-options HttpTokens=required,HttpPutResponseHopLimit=1 \
    --instance-initiated-shutdown-behavior terminate \
    --block-device-mappings "$(volume /dev/xvda 10)" "$(volume /dev/xvdb "$volume_gib")" \
    --tag-specifications \
    "ResourceType=instance,Tags=[{Key=Name,Value=coldstart-image-snapshot},{Key=$BUILD_TAG,Value=$build_id}]" \
    --user-data $'[settings.host-containers.admin]\nenabled = true\n' \
    ${options[@]+"${options[@]}"} --query 'Instances[0].InstanceId')
  [[ $instance_id == i-* ]] || fail "run-instances answered \"$instance_id\""
}

# on_host COMMAND: runs it on the host through Systems Manager and prints what it said.
on_host() {
  local command_id status
  command_id=$(send "$1")
  status=$(settled "$command_id")
  if [[ $status != Success ]]; then
    invocation "$command_id" StandardErrorContent >&2
    fail "\"$1\" ended as \"$status\" on $instance_id"
  fi
  invocation "$command_id" StandardOutputContent
}

send() {
  ssm send-command --instance-ids "$instance_id" --document-name AWS-RunShellScript \
    --parameters "commands=[\"apiclient exec admin sheltie $1\"],executionTimeout=[\"$timeout_seconds\"]" \
    --query Command.CommandId
}

invocation() {
  ssm get-command-invocation --command-id "$1" --instance-id "$instance_id" --query "$2"
}

# settled COMMAND_ID: waits for its end and prints how it ended.
settled() {
  local status
  while true; do
    # A list is empty, not an error, while the invocation is not there yet.
    status=$(ssm list-command-invocations --command-id "$1" --query 'CommandInvocations[0].Status')
    case $status in
      None | Pending | InProgress | Delayed) in_time "command $1" "$status" ;;
      *)
        echo "$status"
        return
        ;;
    esac
    sleep "$POLL_SECONDS"
  done
}

# The agent answers from another container, often before the admin container has started.
wait_for_host() {
  local command_id status
  while true; do
    command_id=$(send "ctr $CONTAINERD version")
    status=$(settled "$command_id")
    [[ $status != Success ]] || return 0
    in_time "the admin container of $instance_id" "$status"
    sleep "$POLL_SECONDS"
  done
}

agent_status() {
  ssm describe-instance-information --filters "Key=InstanceIds,Values=$instance_id" \
    --query 'InstanceInformationList[0].PingStatus'
}

instance_state() {
  ec2 describe-instances --instance-ids "$instance_id" \
    --query 'Reservations[0].Instances[0].State.Name'
}

snapshot_state() {
  ec2 describe-snapshots --snapshot-ids "$snapshot_id" --query 'Snapshots[0].State'
}

pull() {
  local image ready
  for image in "${images[@]}"; do
    say "pulling $image"
    # host-ctr signs in to ECR with the instance's own role: no password passes through here.
    on_host "host-ctr ${CONTAINERD/--address/--containerd-socket} pull-image --source $image --label io.cri-containerd.image=managed" >/dev/null
  done
  ready=$(on_host "ctr $CONTAINERD images check --quiet")
  for image in "${images[@]}"; do
    grep --quiet --line-regexp --fixed-strings -- "$image" <<<"$ready" ||
      fail "$image is not complete and unpacked on the volume"
  done
}

take_snapshot() {
  local volume_id encrypted tags image
  volume_id=$(ec2 describe-instances --instance-ids "$instance_id" --query \
    "Reservations[0].Instances[0].BlockDeviceMappings[?DeviceName=='/dev/xvdb'].Ebs.VolumeId")
  [[ $volume_id == vol-* ]] || fail "$instance_id has no data volume /dev/xvdb"
  tags="{Key=Name,Value=coldstart-image-snapshot},{Key=$BUILD_TAG,Value=$build_id}"
  tags+=",{Key=coldstart.dev/bottlerocket,Value=$bottlerocket_version}"
  for image in "${!images[@]}"; do
    tags+=",{Key=coldstart.dev/image-$image,Value=${images[image]}}"
  done
  snapshot_id=$(ec2 create-snapshot --volume-id "$volume_id" \
    --description "Bottlerocket data volume with engine images" \
    --tag-specifications "ResourceType=snapshot,Tags=[$tags]" --query SnapshotId)
  [[ $snapshot_id == snap-* ]] || fail "create-snapshot answered \"$snapshot_id\""
  until_is completed "snapshot $snapshot_id" snapshot_state
  encrypted=$(ec2 describe-snapshots --snapshot-ids "$snapshot_id" --query 'Snapshots[0].Encrypted')
  [[ $encrypted == True ]] || fail "snapshot $snapshot_id is not encrypted"
}

main() {
  local processor image_id
  parse "$@"
  validate
  if $dry_run; then
    plan
    return
  fi
  command -v aws >/dev/null || fail "the aws command is not on PATH; install AWS CLI version 2"
  build_id="coldstart-$(date +%s)-$$-$RANDOM"
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  say "checking $instance_type, $subnet and the AMI"
  check_inputs
  processor=$(architecture)
  image_id=$(ami "$processor")
  say "starting $instance_type from $image_id"
  launch "$image_id"
  say "waiting for $instance_id to reach Systems Manager"
  until_is Online "the agent of $instance_id" agent_status
  wait_for_host
  pull
  say "stopping $instance_id"
  ec2 stop-instances --instance-ids "$instance_id" >/dev/null
  until_is stopped "$instance_id" instance_state
  say "taking the snapshot"
  take_snapshot
  completed=true
}

main "$@"
