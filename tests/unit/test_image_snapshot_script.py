"""The build of an image snapshot, against a stand-in for the aws command."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "image-snapshot" / "build.sh"
ENGINE = "docker.io/vllm/vllm-openai@sha256:" + "a" * 64
STAGER = "123456789012.dkr.ecr.us-west-2.amazonaws.com/rclone@sha256:" + "b" * 64
ARGUMENTS = (
    (
        "--region=us-west-2 --subnet=subnet-1 --instance-profile=builder "
        "--kubernetes-version=1.35 --bottlerocket-version=v1.64.0"
    )
    .replace("=", " ")
    .split()
)

# Answers as the CLI does with --output text; STATE is a directory the test fills.
FAKE_AWS = """#!/bin/bash
line="$*"
line=${line//$'\\n'/ }
echo "$line" >>"$STATE/calls"
once() { [[ ! -e $STATE/seen-$1 ]] && : >"$STATE/seen-$1"; }
if [[ -e $STATE/fail && $line == *"$(<"$STATE/fail")"* ]]; then
  echo "An error occurred: refused by the test" >&2
  exit 254
fi
while IFS=$'\\t' read -r part answer; do
  if [[ $line == *"$part"* ]]; then echo "$answer"; exit; fi
done <"$STATE/answers"
case $line in
  *" run-instances "*) echo i-0123456789abcdef0 ;;
  *SupportedArchitectures*) echo x86_64 ;;
  *InstanceStorageSupported* | *MapPublicIpOnLaunch*) echo False ;;
  *" get-parameter "*) echo ami-0123456789abcdef0 ;;
  *" describe-instance-information "*) if once agent; then echo None; else echo Online; fi ;;
  *" send-command "*) echo "$line" >"$STATE/sent"; echo command-1 ;;
  *" list-command-invocations "*)
    if [[ -e $STATE/unpullable && $(<"$STATE/sent") == *pull-image* ]]; then echo Failed
    elif once list; then echo None
    elif once progress; then echo InProgress
    else echo Success; fi ;;
  *StandardOutputContent*) echo "$(<"$STATE/images")" ;;
  *StandardErrorContent*) echo "no such image" ;;
  *VolumeId*) echo vol-0123456789abcdef0 ;;
  *Name=tag:*) echo i-found-by-tag ;;
  *" describe-instances "*) if once stop; then echo stopping; else echo stopped; fi ;;
  *" create-snapshot "*) echo snap-0123456789abcdef0 ;;
  *Snapshots*Encrypted*) echo True ;;
  *Snapshots*State*) if once pending; then echo pending; else echo completed; fi ;;
esac
"""


class Account:
    """The imaginary AWS account: what it answers, what it was asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, str] = {}
        self.fails_at = ""
        commands = path / "bin"
        commands.mkdir()
        (commands / "aws").write_text(FAKE_AWS)
        (commands / "aws").chmod(0o755)
        (path / "images").write_text(f"{ENGINE}\n{STAGER}\n")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        (self.path / "answers").write_text(
            "".join(f"{part}\t{answer}\n" for part, answer in self.answers.items())
        )
        if self.fails_at:
            (self.path / "fail").write_text(self.fails_at)
        return subprocess.Popen(
            ["bash", str(SCRIPT), *arguments],
            env={
                "STATE": str(self.path),
                "PATH": f"{self.path / 'bin'}:{os.environ['PATH']}",
                "COLDSTART_POLL_SECONDS": "0",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def build(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments) as running:
            try:
                out, err = running.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                running.kill()
                raise
        return subprocess.CompletedProcess(arguments, running.returncode, out, err)

    @property
    def calls(self) -> list[str]:
        file = self.path / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def order(self) -> list[str]:
        """The changing calls, by action."""
        changing = ("run", "send", "stop", "create", "terminate", "delete")
        actions = [word for call in self.calls for word in call.split()[1:6]]
        return [word for word in actions if word.partition("-")[0] in changing and "-" in word]

    def call(self, action: str) -> str:
        (found,) = [call for call in self.calls if f" {action} " in call]
        return found


@pytest.fixture
def account(tmp_path: Path) -> Account:
    return Account(tmp_path)


def test_the_snapshot_is_taken_of_a_stopped_instance_which_is_then_terminated(
    account: Account,
) -> None:
    done = account.build(*ARGUMENTS, ENGINE, STAGER)
    assert done.returncode == 0, done.stderr
    assert account.order() == [
        "run-instances",
        "send-command",  # is the admin container there?
        "send-command",  # the first image
        "send-command",  # the second
        "send-command",  # are both complete?
        "stop-instances",
        "create-snapshot",
        "terminate-instances",
    ]


def test_only_the_line_for_the_stack_file_goes_to_standard_output(account: Account) -> None:
    assert account.build(*ARGUMENTS, ENGINE).stdout == "imageSnapshot: snap-0123456789abcdef0\n"


def test_the_instance_is_private_and_its_volumes_are_encrypted(account: Account) -> None:
    account.build(*ARGUMENTS, "--kms-key", "alias/nodes", ENGINE)
    launch = account.call("run-instances")
    assert "--no-associate-public-ip-address" in launch
    assert "HttpTokens=required" in launch
    assert launch.count("Encrypted=true") == launch.count("KmsKeyId=alias/nodes") == 2
    assert "DeviceName=/dev/xvdb" in launch


def test_the_nodes_own_version_of_bottlerocket_is_used(account: Account) -> None:
    account.build(*ARGUMENTS, ENGINE)
    path = "/aws/service/bottlerocket/aws-k8s-1.35/x86_64/1.64.0/image_id"
    assert path in account.call("get-parameter")


def test_the_snapshotter_stays_the_one_of_the_nodes(account: Account) -> None:
    account.build(*ARGUMENTS, ENGINE)
    assert "snapshotter" not in account.call("run-instances")


def test_no_password_reaches_the_command_history(account: Account) -> None:
    account.build(*ARGUMENTS, STAGER)
    (pull,) = [call for call in account.calls if "pull-image" in call]
    assert (
        f"host-ctr --containerd-socket /run/containerd/containerd.sock --namespace k8s.io "
        f"pull-image --source {STAGER}" in pull
    )
    assert not [call for call in account.calls if "password" in call or "--user " in call]


def test_the_snapshot_says_what_it_holds(account: Account) -> None:
    account.build(*ARGUMENTS, ENGINE)
    tags = account.call("create-snapshot")
    assert f"Value={ENGINE}" in tags
    assert "{Key=coldstart.dev/bottlerocket,Value=1.64.0}" in tags


@pytest.mark.parametrize(
    "step",
    [
        "describe-instance-information",
        "send-command",
        "list-command-invocations",
        "get-command-invocation",
        "stop-instances",
        "State.Name",
        "VolumeId",
        "create-snapshot",
        "describe-snapshots",
    ],
)
def test_a_failure_at_any_step_terminates_the_instance(account: Account, step: str) -> None:
    account.fails_at = step
    done = account.build(*ARGUMENTS, ENGINE)
    assert done.returncode != 0
    assert "imageSnapshot" not in done.stdout
    assert "--instance-ids i-0123456789abcdef0" in account.call("terminate-instances")


def test_an_interrupted_build_terminates_its_instance(account: Account) -> None:
    account.answers = {"describe-instance-information": "None"}
    with account.start(*ARGUMENTS, ENGINE) as running:
        deadline = time.monotonic() + 30
        while "run-instances" not in account.order() and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=30) == 143
    assert account.order() == ["run-instances", "terminate-instances"]


def test_an_instance_whose_id_was_lost_is_found_by_its_tag_and_terminated(
    account: Account,
) -> None:
    account.fails_at = "run-instances"
    assert account.build(*ARGUMENTS, ENGINE).returncode != 0
    launched = account.call("run-instances").split("--client-token ")[1].split()[0]
    search = account.call("describe-instances")
    assert f"Name=tag:coldstart.dev/image-snapshot-build,Values={launched}" in search
    assert "--instance-ids i-found-by-tag" in account.call("terminate-instances")


@pytest.mark.parametrize("step", ["describe-instance-types", "describe-subnets", "get-parameter"])
def test_a_failed_check_starts_nothing_and_removes_nothing(account: Account, step: str) -> None:
    account.fails_at = step
    assert account.build(*ARGUMENTS, ENGINE).returncode != 0
    assert account.order() == []


def test_an_unfinished_snapshot_is_deleted(account: Account) -> None:
    account.answers = {"Snapshots[0].State": "error"}
    done = account.build(*ARGUMENTS, ENGINE)
    assert done.returncode != 0
    assert 'snap-0123456789abcdef0 ended as "error"' in done.stderr
    assert account.order()[-2:] == ["delete-snapshot", "terminate-instances"]


def test_an_unencrypted_snapshot_is_not_handed_out(account: Account) -> None:
    account.answers = {"Snapshots[0].Encrypted": "False"}
    done = account.build(*ARGUMENTS, ENGINE)
    assert done.returncode != 0
    assert "delete-snapshot" in account.order()


def test_an_image_that_did_not_unpack_is_noticed(account: Account) -> None:
    (account.path / "images").write_text(f"{STAGER}\n")
    done = account.build(*ARGUMENTS, ENGINE, STAGER)
    assert done.returncode != 0
    assert f"{ENGINE} is not complete and unpacked" in done.stderr
    assert "create-snapshot" not in account.order()


def test_an_image_that_cannot_be_pulled_says_why(account: Account) -> None:
    (account.path / "unpullable").touch()
    done = account.build(*ARGUMENTS, ENGINE)
    assert done.returncode != 0
    assert "no such image" in done.stderr
    assert f'{ENGINE} --label io.cri-containerd.image=managed" ended as "Failed"' in done.stderr


def test_everything_together_has_a_deadline(account: Account) -> None:
    account.answers = {"describe-instance-information": "None"}
    done = account.build(*ARGUMENTS, "--timeout-seconds", "1", ENGINE)
    assert done.returncode != 0
    assert 'is still "None" after 1 s' in done.stderr
    assert account.order() == ["run-instances", "terminate-instances"]


def test_a_terminate_that_fails_is_reported_with_the_instance(account: Account) -> None:
    account.fails_at = "terminate-instances"
    done = account.build(*ARGUMENTS, ENGINE)
    assert done.returncode == 1
    assert "could not terminate i-0123456789abcdef0: it costs money" in done.stderr
    assert done.stdout == "imageSnapshot: snap-0123456789abcdef0\n"


def test_an_instance_type_with_nvme_is_refused(account: Account) -> None:
    account.answers = {"InstanceStorageSupported": "True"}
    done = account.build(*ARGUMENTS, "--instance-type", "m6id.xlarge", ENGINE)
    assert done.returncode == 1
    assert "m6id.xlarge has instance store" in done.stderr
    assert account.order() == []


def test_a_public_subnet_is_refused(account: Account) -> None:
    account.answers = {"MapPublicIpOnLaunch": "True"}
    done = account.build(*ARGUMENTS, ENGINE)
    assert "subnet-1 gives out public addresses" in done.stderr
    assert account.order() == []


@pytest.mark.parametrize(
    "image",
    [
        "docker.io/vllm/vllm-openai:v0.31.0",
        "docker.io/vllm/vllm-openai:v0.31.0@sha256:" + "a" * 64,
        "docker.io/vllm/vllm-openai@sha256:abc",
        "docker.io/x@sha256:" + "a" * 64 + "; reboot",
        "vllm-openai@sha256:" + "a" * 64,
    ],
)
def test_an_image_that_is_not_pinned_by_digest_alone_is_refused(
    account: Account, image: str
) -> None:
    done = account.build(*ARGUMENTS, image)
    assert done.returncode == 2
    assert "is not pinned" in done.stderr
    assert account.calls == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (ARGUMENTS, "name at least one image"),
        ([*ARGUMENTS[2:], ENGINE], "--region is required"),
        ([*ARGUMENTS, "--bottlerocket-version", "latest", ENGINE], "pin what the nodes run"),
        ([*ARGUMENTS, "--volume-gib", "60GiB", ENGINE], "--volume-gib is a whole number"),
        ([*ARGUMENTS, "--speed", "9", ENGINE], "unknown option --speed"),
        ([*ARGUMENTS, ENGINE, "--kms-key"], "--kms-key needs a value"),
    ],
)
def test_a_wrong_call_names_the_argument_and_shows_the_usage(
    account: Account, arguments: list[str], message: str
) -> None:
    done = account.build(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "usage: build.sh" in done.stderr
    assert account.calls == []


def test_a_dry_run_shows_the_plan_and_calls_nothing(account: Account) -> None:
    done = account.build(*ARGUMENTS, "--dry-run", ENGINE)
    assert done.returncode == 0
    assert account.calls == []
    for part in (ENGINE, "subnet-1", "m7i.xlarge", "1.64.0", "60 GiB"):
        assert part in done.stdout
