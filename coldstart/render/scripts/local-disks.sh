#!/bin/bash
# Puts pod storage on the instance's NVMe disks. cloud-init runs this once per instance, before
# nodeadm starts the kubelet; the unit it installs runs at every later boot.
set -euo pipefail

cat >/usr/local/sbin/coldstart-local-disks <<'PROGRAM'
#!/bin/bash
set -euo pipefail

array=/dev/md/kubernetes
mount_point=/mnt/k8s-disks/0
bound=/var/lib/kubelet

fail() {
  echo "coldstart-local-disks: $*" >&2
  exit 1
}

# By model: an EBS volume is an NVMe device as well, and is never touched.
mapfile -t disks < <(lsblk --nodeps --noheadings --paths --output NAME,MODEL |
  awk '/Amazon EC2 NVMe Instance Storage/ { print $1 }' | sort)
((${#disks[@]} > 0)) || fail "this instance type has no instance store"

assembled() {
  lsblk --noheadings --list --paths --output NAME,TYPE "${disks[0]}" |
    awk '$2 ~ /^raid/ { name = $1 } END { print name }'
}

device=$(assembled)
if [[ -z $device ]]; then
  if mdadm --examine "${disks[@]}" >/dev/null 2>&1; then
    mdadm --assemble --run "$array" "${disks[@]}"
  else
    for disk in "${disks[@]}"; do
      [[ -z $(wipefs --no-act --noheadings "$disk") ]] || fail "$disk is not blank; left alone"
    done
    mdadm --create "$array" --run --force --level=0 --homehost=any \
      --raid-devices="${#disks[@]}" "${disks[@]}"
  fi
  udevadm settle --timeout=30
  device=$array
fi

if ! mountpoint --quiet "$mount_point"; then
  if [[ -z $(blkid --probe --match-tag TYPE --output value "$device" || true) ]]; then
    mkfs.xfs -q "$device"
  fi
  mkdir -p "$mount_point"
  mount -t xfs -o noatime "$device" "$mount_point"
fi

if ! mountpoint --quiet "$bound"; then
  mkdir -p "$bound"
  if [[ ! -d $mount_point/kubelet ]]; then
    rm -rf "$mount_point/kubelet.partial"
    cp -a "$bound" "$mount_point/kubelet.partial"
    mv "$mount_point/kubelet.partial" "$mount_point/kubelet"
  fi
  mount --bind "$mount_point/kubelet" "$bound"
fi
PROGRAM
chmod 0755 /usr/local/sbin/coldstart-local-disks

# Required by the kubelet: a node without its disks would fill its root volume with pods.
cat >/etc/systemd/system/coldstart-local-disks.service <<'UNIT'
[Unit]
Description=Pod storage on the instance store
Before=nodeadm-run.service containerd.service kubelet.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/coldstart-local-disks

[Install]
WantedBy=multi-user.target
RequiredBy=kubelet.service
UNIT

systemctl daemon-reload
systemctl enable coldstart-local-disks.service
systemctl start coldstart-local-disks.service
