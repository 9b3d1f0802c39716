"""The shell scripts of the pods, run for real against stand-ins for rclone, vllm and curl."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from coldstart.render import pods
from tests.unit.pod_sandbox import Pod, shells, wait_until

PREFIX = "chat/weights/rev"
ARCHIVE = "chat/compile-cache/key.tar.gz"
FILES = {"config.json": b"{}", "model 1.safetensors": b"x" * 5000, "sub/tokenizer.json": b"[1]"}

VLLM = """#!/bin/sh
trap 'echo stopped >>"$SANDBOX/vllm.log"; exit 0' TERM
printf '%s\\n' "$@" >"$SANDBOX/vllm.args"
mkdir -p "$CACHE_DIRECTORY/torch_compile_cache/a/locks" "$CACHE_DIRECTORY/modelinfos"
echo graph >"$CACHE_DIRECTORY/torch_compile_cache/a/graph"
echo half >"$CACHE_DIRECTORY/torch_compile_cache/a/model.186.tmp"
echo lock >"$CACHE_DIRECTORY/torch_compile_cache/a/locks/one"
[ -z "$NO_CACHE" ] || rm -rf "$CACHE_DIRECTORY/torch_compile_cache"
[ -z "$DIES" ] || exit 3
echo up >"$SANDBOX/vllm.up"
while :; do sleep 0.05; done
"""
CURL = """#!/bin/sh
echo "$*" >>"$SANDBOX/curl.calls"
[ -e "$SANDBOX/vllm.up" ]
"""
DUMP = """#!/bin/sh
for argument in "$@"; do printf '%s\\0' "$argument"; done >"$SANDBOX/argv"
"""


@pytest.fixture(params=shells(), ids=lambda shell: Path(shell[0]).name)
def shell(request: pytest.FixtureRequest) -> list[str]:
    return request.param


@pytest.fixture
def ubuntu() -> list[str]:
    """The shell of the engine's image, with GNU tools; no busybox there."""
    return shells()[0]


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    made = Pod(tmp_path)
    yield made
    made.stop_all()


def weights(pod: Pod) -> dict[str, str]:
    return {"WEIGHTS_PREFIX": PREFIX, "WEIGHTS_DIRECTORY": str(pod.models / "rev")}


def cache(pod: Pod) -> dict[str, str]:
    return {"RESTORE_ARCHIVE": ARCHIVE, "CACHE_DIRECTORY": str(pod.cache / "vllm")}


def put_archive(pod: Pod, *, recorded: str | None = None, content: bytes | None = None) -> None:
    tree = pod.root / "tree"
    (tree / "torch_compile_cache").mkdir(parents=True)
    (tree / "torch_compile_cache" / "graph").write_text("compiled")
    archive = pod.store / ARCHIVE
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tree, ".")
    if content is not None:
        archive.write_bytes(content)
    digest = recorded or sha256(archive.read_bytes()).hexdigest()
    Path(f"{archive}.sha256").write_text(digest)


def staged(pod: Pod, shell: list[str], **variables: str) -> None:
    """Run the stager until it hands over."""
    pod.start(shell, "stage.sh", **variables)
    wait_until((pod.handover / "ready").exists, "the handover")


def test_the_engine_starts_with_its_arguments_exactly_once_its_files_exist(
    pod: Pod, ubuntu: list[str]
) -> None:
    pod.command("vllm", DUMP)
    arguments = ("vllm", "serve", "/models/a b", '--x={"a": "$HOME `id`"}', "", "*")
    ready = pod.handover / "ready"
    process = pod.start(
        ubuntu, "start-engine.sh", arguments, WAIT_FOR=str(ready), WAIT_SECONDS="20"
    )
    assert not (pod.root / "argv").exists()
    ready.touch()
    assert process.wait(timeout=20) == 0
    assert (pod.root / "argv").read_text().split("\0")[:-1] == list(arguments[1:])


def test_the_engine_gives_up_with_the_reason_when_nothing_arrives(
    pod: Pod, ubuntu: list[str]
) -> None:
    missing = str(pod.handover / "ready")
    code, output = pod.run(ubuntu, "start-engine.sh", ("vllm",), WAIT_FOR=missing, WAIT_SECONDS="0")
    assert code == 1
    assert missing in output and "container stager" in output


def test_a_waiting_engine_ends_at_once_when_it_is_asked_to(pod: Pod, ubuntu: list[str]) -> None:
    process = pod.start(
        ubuntu, "start-engine.sh", ("vllm",), WAIT_FOR="/nowhere", WAIT_SECONDS="600"
    )
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) != 0


def test_weights_are_copied_and_handed_over(pod: Pod, shell: list[str]) -> None:
    pod.put_weights(PREFIX, FILES)
    staged(pod, shell, **weights(pod))
    for path, content in FILES.items():
        assert (pod.models / "rev" / path).read_bytes() == content
    assert (pod.models / "rev" / ".complete").exists()
    assert not (pod.models / "rev.partial").exists()


def test_weights_that_are_not_complete_are_never_handed_over(pod: Pod, shell: list[str]) -> None:
    pod.put_weights(PREFIX, FILES)
    (pod.store / PREFIX / ".complete").unlink()
    code, output = pod.run(shell, "stage.sh", **weights(pod))
    assert code == 1 and "has the Job that fetches them finished" in output
    assert not (pod.handover / "ready").exists()


def test_a_file_of_another_size_than_in_the_manifest_is_dropped_and_named(
    pod: Pod, shell: list[str]
) -> None:
    pod.put_weights(PREFIX, FILES)
    (pod.store / PREFIX / "model 1.safetensors").write_bytes(b"short")
    code, output = pod.run(shell, "stage.sh", **weights(pod))
    assert code == 1
    assert "model 1.safetensors has 5 bytes, the manifest says 5000" in output
    assert not (pod.models / "rev.partial" / "model 1.safetensors").exists()
    assert not (pod.models / "rev").exists() and not (pod.handover / "ready").exists()


def test_a_manifest_that_was_changed_afterwards_is_refused(pod: Pod, shell: list[str]) -> None:
    pod.put_weights(PREFIX, FILES)
    with (pod.store / PREFIX / ".manifest").open("a") as manifest:
        manifest.write("0\t0\tevil\n")
    code, output = pod.run(shell, "stage.sh", **weights(pod))
    assert code == 1 and "fetch the weights again" in output


def test_a_restarted_stager_does_not_copy_again(pod: Pod, shell: list[str]) -> None:
    pod.put_weights(PREFIX, FILES)
    staged(pod, shell, **weights(pod))
    before = pod.calls()
    (pod.handover / "ready").unlink()
    staged(pod, shell, **weights(pod))
    assert pod.calls() == before


def test_a_stager_deleted_in_the_middle_of_a_copy_ends_at_once(pod: Pod, shell: list[str]) -> None:
    pod.put_weights(PREFIX, {"config.json": b"{}", "big": b"x"})
    (pod.root / "rclone.hangs.at.big").touch()
    process = pod.start(shell, "stage.sh", **weights(pod))
    wait_until(lambda: any(call.startswith("copy ") for call in pod.calls()), "the copy")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    assert not (pod.handover / "ready").exists()


def test_a_stager_on_a_shared_disk_leaves_nothing_behind(pod: Pod, shell: list[str]) -> None:
    pod.put_weights(PREFIX, FILES)
    directory = pod.models / "rev"
    process = pod.start(shell, "stage.sh", **weights(pod), CLEAN_ON_EXIT=str(directory))
    wait_until((pod.handover / "ready").exists, "the handover")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    assert not directory.exists()


def test_the_compile_cache_is_restored_from_the_golden_archive(pod: Pod, shell: list[str]) -> None:
    put_archive(pod)
    pod.put_weights(PREFIX, FILES)
    staged(pod, shell, **weights(pod), **cache(pod))
    assert (pod.cache / "vllm" / "torch_compile_cache" / "graph").read_text() == "compiled"
    assert (pod.models / "rev" / ".complete").exists()
    assert sorted(file.name for file in pod.cache.iterdir()) == ["vllm"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("missing", "no golden compile cache"),
        ("changed", "another sha256"),
        ("not an archive", "does not unpack"),
        ("without archive", "could not be read"),
    ],
)
def test_a_bad_archive_costs_a_line_in_the_log_and_nothing_else(
    pod: Pod, shell: list[str], damage: str, said: str
) -> None:
    if damage == "changed":
        put_archive(pod, recorded="0" * 64)
    elif damage == "not an archive":
        put_archive(pod, content=b"this is no archive")
    elif damage == "without archive":
        put_archive(pod)
        (pod.store / ARCHIVE).unlink()
    process = pod.start(shell, "stage.sh", **cache(pod))
    wait_until((pod.handover / "ready").exists, "the handover")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert said in output
    assert list(pod.cache.iterdir()) == []


def test_an_archive_is_published_before_its_checksum(pod: Pod, shell: list[str]) -> None:
    (pod.exchange / "archive.tar.gz").write_bytes(b"archive")
    (pod.exchange / "archive.sha256").write_text(sha256(b"archive").hexdigest())
    (pod.exchange / "made").touch()
    pod.start(shell, "stage.sh", PUBLISH_ARCHIVE=ARCHIVE, PUBLISH_SECONDS="20",
              EXCHANGE=str(pod.exchange))  # fmt: skip
    wait_until((pod.exchange / "published").exists, "the upload")
    assert (pod.store / ARCHIVE).read_bytes() == b"archive"
    uploads = [call.split()[-1] for call in pod.calls() if f"store:bucket/{ARCHIVE}" in call][1:]
    assert uploads == [f"store:bucket/{ARCHIVE}", f"store:bucket/{ARCHIVE}.sha256"]


def test_an_upload_asks_nothing_about_an_object_that_is_not_there_yet(
    pod: Pod, shell: list[str]
) -> None:
    """S3 answers 403, not 404, to who may list a prefix only; rclone would give up on that."""
    (pod.exchange / "archive.tar.gz").write_bytes(b"archive")
    (pod.exchange / "archive.sha256").write_text(sha256(b"archive").hexdigest())
    (pod.exchange / "made").touch()
    pod.start(shell, "stage.sh", PUBLISH_ARCHIVE=ARCHIVE, PUBLISH_SECONDS="20",
              EXCHANGE=str(pod.exchange))  # fmt: skip
    wait_until((pod.exchange / "published").exists, "the upload")
    uploads = [call.split() for call in pod.calls() if call.split()[-1].startswith("store:")]
    assert len(uploads) == 2 and all("--no-check-dest" in call for call in uploads)


def test_an_archive_that_exists_is_not_made_again(
    pod: Pod, shell: list[str], ubuntu: list[str]
) -> None:
    put_archive(pod)
    staged(pod, shell, PUBLISH_ARCHIVE=ARCHIVE, PUBLISH_SECONDS="20", EXCHANGE=str(pod.exchange))
    assert (pod.exchange / "published").exists()
    pod.command("vllm", VLLM)
    code, output = publish(pod, ubuntu)
    assert code == 0 and "nothing to do" in output
    assert not (pod.root / "vllm.args").exists()


def publish(pod: Pod, ubuntu: list[str], **variables: str) -> tuple[int, str]:
    return pod.run(
        ubuntu,
        "publish-compile-cache.sh",
        ("vllm", "serve", "/models/rev", "--served-model-name=chat"),
        **publisher(pod, **variables),
    )


def publisher(pod: Pod, **variables: str) -> dict[str, str]:
    usual = {
        "WAIT_FOR": str(pod.handover / "ready"),
        "DEADLINE_SECONDS": "20",
        "PORT": "8000",
        "SERVED_MODEL": "chat",
        "CACHE_DIRECTORY": str(pod.cache / "vllm"),
        "EXCHANGE": str(pod.exchange),
        "NO_CACHE": "",
        "DIES": "",
    }
    return {**usual, **variables}


def test_the_golden_archive_holds_what_one_served_request_compiled_and_nothing_half_done(
    pod: Pod, ubuntu: list[str]
) -> None:
    pod.command("vllm", VLLM)
    pod.command("curl", CURL)
    pod.start(ubuntu, "stage.sh", PUBLISH_ARCHIVE=ARCHIVE, PUBLISH_SECONDS="20",
              EXCHANGE=str(pod.exchange))  # fmt: skip
    code, output = publish(pod, ubuntu)
    assert code == 0, output
    with tarfile.open(pod.store / ARCHIVE) as tar:
        members = {member.name: member for member in tar.getmembers()}
    assert "./torch_compile_cache/a/graph" in members
    assert not [name for name in members if name.endswith(".tmp") or "locks/" in name]
    assert {(m.mtime, m.uid, m.gid) for m in members.values()} == {(0, 0, 0)}
    assert (pod.root / "vllm.log").read_text() == "stopped\n"
    (asked,) = [
        call for call in (pod.root / "curl.calls").read_text().splitlines() if "completions" in call
    ]
    assert json.loads(asked.split("--data ")[1].split(" http")[0])["model"] == "chat"


def test_the_same_cache_always_makes_the_same_archive(pod: Pod, ubuntu: list[str]) -> None:
    pod.command("vllm", VLLM)
    pod.command("curl", CURL)
    (pod.handover / "ready").touch()
    digests = []
    for _ in range(2):
        process = pod.start(ubuntu, "publish-compile-cache.sh", ("vllm", "serve"), **publisher(pod))
        wait_until((pod.exchange / "made").exists, "the archive")
        (pod.exchange / "published").touch()
        assert process.wait(timeout=20) == 0
        digests.append((pod.exchange / "archive.sha256").read_text())
        shutil.rmtree(pod.exchange)
        pod.exchange.mkdir()
        (pod.root / "vllm.up").unlink()
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"DIES": "1"}, "ended before it was ready"),
        ({"NO_CACHE": "1"}, "is compilation switched off"),
    ],
)
def test_nothing_is_published_when_the_engine_made_nothing(
    pod: Pod, ubuntu: list[str], variables: dict[str, str], said: str
) -> None:
    pod.command("vllm", VLLM)
    pod.command("curl", CURL)
    (pod.handover / "ready").touch()
    code, output = publish(pod, ubuntu, **variables)
    assert code == 1 and said in output
    assert not (pod.exchange / "made").exists()


@pytest.mark.parametrize("name", sorted(file.name for file in pods.SCRIPTS.glob("*.sh")))
def test_every_script_of_a_pod_is_one_the_shell_can_read(shell: list[str], name: str) -> None:
    text = pods.script(name)
    reader = shell if text.startswith("#!/bin/sh") else ["bash"]
    done = subprocess.run(
        [*reader, "-n", str(pods.SCRIPTS / name)],
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
