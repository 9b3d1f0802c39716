"""The Job's script that brings weights from the Hub, against a hub and a store of its own."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.pod_sandbox import SCRIPTS, wait_until

REVISION = "b968826d9c46dd6066d109eabc6255188de91218"
SCRIPT = SCRIPTS / "fetch_weights.py"
FILES = {
    "config.json": b"{}",
    "model-00001-of-00002.safetensors": b"a" * 4000,
    "model-00002-of-00002.safetensors": b"b" * 3000,
    "pytorch_model.bin": b"the same again",
    "original/consolidated.00.pth": b"and again",
}
WANTED = [name for name in FILES if name.endswith((".json", ".safetensors"))]

# The part of huggingface_hub the script uses, over a directory; large files have a sha256 there.
HUB = """
import hashlib, json, os, time
from pathlib import Path
from types import SimpleNamespace as Entry

HUB = Path(os.environ["FAKE_HUB"])

class HfApi:
    def list_repo_tree(self, repository, revision, recursive):
        told(f"list {repository} {revision} {recursive}")
        for path, about in json.loads((HUB / "index.json").read_text()).items():
            lfs = Entry(sha256=about["sha256"]) if about["large"] else None
            yield Entry(path=path, size=about["size"], lfs=lfs, blob_id=about["blob"])
        yield Entry(path="original", tree_id="a folder")

def hf_hub_download(repository, path, revision, local_dir):
    told(f"get {path}")
    while (HUB / f"hang-at-{path}").exists():
        time.sleep(0.05)
    place = Path(local_dir) / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes((HUB / "files" / path).read_bytes())
    return str(place)

def told(line):
    with (HUB / "calls").open("a") as calls:
        calls.write(line + "\\n")
"""


class FakeHub:
    """A directory that `huggingface_hub` of the script's process reads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.packages = root / "packages"
        self.packages.mkdir(parents=True)
        (self.packages / "huggingface_hub.py").write_text(HUB)
        index = {}
        for path, content in FILES.items():
            place = root / "files" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324
            index[path] = {
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "large": path.endswith(".safetensors"),
                "blob": blob,
            }
        (root / "index.json").write_text(json.dumps(index))

    def corrupt(self, path: str) -> None:
        file = self.root / "files" / path
        file.write_bytes(b"?" + file.read_bytes()[1:])

    def downloads(self) -> list[str]:
        calls = (self.root / "calls").read_text().splitlines() if self.called else []
        return [call.removeprefix("get ") for call in calls if call.startswith("get ")]

    @property
    def called(self) -> bool:
        return (self.root / "calls").exists()

    def start(self, destination: Path | str, staging_bytes: int = 10_000) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(SCRIPT)],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(self.packages),
                "FAKE_HUB": str(self.root),
                "REPOSITORY": "Qwen/Qwen3-8B",
                "REVISION": REVISION,
                "DESTINATION": str(destination),
                "STAGING_DIRECTORY": "/nowhere",
                "STAGING_BYTES": str(staging_bytes),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def fetch(self, destination: Path | str, **settings: int) -> tuple[int, str]:
        process = self.start(destination, **settings)
        output, _ = process.communicate(timeout=30)
        return process.returncode, output


class FakeS3:
    """The calls of boto3's client the script makes, over a dict."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.uploads: list[str] = []

    def head_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        assert Bucket == "bucket"
        if Key not in self.objects:
            error = Exception("404")
            error.response = {"Error": {"Code": "404"}}  # type: ignore[attr-defined]
            raise error
        return self.objects[Key]

    def list_objects_v2(self, Bucket: str, Prefix: str, MaxKeys: int) -> dict[str, Any]:  # noqa: N803
        assert Bucket == "bucket"
        keys = sorted(key for key in self.objects if key.startswith(Prefix))[:MaxKeys]
        return {"Contents": [{"Key": key} for key in keys]} if keys else {}

    def upload_file(self, file: str, bucket: str, key: str, ExtraArgs: Any, Config: Any) -> None:  # noqa: N803
        content = Path(file).read_bytes()
        assert ExtraArgs["ChecksumAlgorithm"] == "SHA256"
        self.uploads.append(key)
        self.objects[key] = {
            "ContentLength": len(content),
            "Metadata": ExtraArgs["Metadata"],
            "body": content,
        }

    def put_object(self, Bucket: str, Key: str, Body: bytes, ChecksumAlgorithm: str) -> None:  # noqa: N803
        assert (Bucket, ChecksumAlgorithm) == ("bucket", "SHA256")
        self.objects[Key] = {"ContentLength": len(Body), "Metadata": {}, "body": Body}


@pytest.fixture
def hub(tmp_path: Path) -> FakeHub:
    return FakeHub(tmp_path / "hub")


@pytest.fixture
def script(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with stand-ins for what it imports."""
    specification = importlib.util.spec_from_file_location("fetch_weights", SCRIPT)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "fetch_weights", module)
    specification.loader.exec_module(module)
    monkeypatch.setenv("FAKE_HUB", str(hub.root))
    monkeypatch.syspath_prepend(str(hub.packages))
    monkeypatch.delitem(sys.modules, "huggingface_hub", raising=False)
    transfer = ModuleType("boto3.s3.transfer")
    transfer.TransferConfig = dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "boto3.s3.transfer", transfer)
    return module


def s3_store(script: ModuleType, client: FakeS3, tmp_path: Path) -> Any:
    return script.S3Store(client, "bucket", "chat/weights/rev", tmp_path / "staging")


def hugging_face(script: ModuleType) -> Any:
    return script.HuggingFace("Qwen/Qwen3-8B", REVISION)


def manifest_of(text: str) -> dict[str, tuple[str, int]]:
    rows = [line.split("\t") for line in text.splitlines()]
    return {path: (digest, int(size)) for digest, size, path in rows}


def test_every_needed_file_arrives_with_its_manifest(hub: FakeHub, tmp_path: Path) -> None:
    destination = tmp_path / "store" / "rev"
    code, output = hub.fetch(destination)
    assert code == 0, output
    there = {str(p.relative_to(destination)) for p in destination.rglob("*") if p.is_file()}
    assert there == {*WANTED, ".manifest", ".complete"}
    manifest = (destination / ".manifest").read_text()
    assert manifest_of(manifest) == {
        name: (hashlib.sha256(FILES[name]).hexdigest(), len(FILES[name])) for name in WANTED
    }
    digest = hashlib.sha256(manifest.encode()).hexdigest()
    assert (destination / ".complete").read_text() == digest
    assert f"list Qwen/Qwen3-8B {REVISION} True" in (hub.root / "calls").read_text()


def test_weights_are_readable_by_every_user_of_the_file_system(
    hub: FakeHub, tmp_path: Path
) -> None:
    hub.fetch(tmp_path / "rev")
    assert {(tmp_path / "rev" / name).stat().st_mode & 0o777 for name in WANTED} == {0o644}


def test_a_second_run_touches_neither_the_hub_nor_the_store(hub: FakeHub, tmp_path: Path) -> None:
    hub.fetch(tmp_path / "rev")
    (hub.root / "calls").unlink()
    code, output = hub.fetch(tmp_path / "rev")
    assert code == 0 and "complete already" in output
    assert not hub.called


def test_a_killed_run_goes_on_with_the_file_it_stopped_at(hub: FakeHub, tmp_path: Path) -> None:
    hang = hub.root / f"hang-at-{WANTED[2]}"
    hang.touch()
    process = hub.start(tmp_path / "rev")
    wait_until(lambda: WANTED[2] in hub.downloads(), "the last download")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert not (tmp_path / "rev").exists(), "nobody may see half of it"
    hang.unlink()
    (hub.root / "calls").unlink()
    code, output = hub.fetch(tmp_path / "rev")
    assert code == 0, output
    assert WANTED[1] not in hub.downloads(), "the large file before was stored already"
    assert (tmp_path / "rev" / WANTED[1]).read_bytes() == FILES[WANTED[1]]


@pytest.mark.parametrize("name", [WANTED[0], WANTED[1]])
def test_a_download_that_differs_from_the_hubs_checksum_is_refused(
    hub: FakeHub, tmp_path: Path, name: str
) -> None:
    hub.corrupt(name)
    code, output = hub.fetch(tmp_path / "rev")
    assert code == 1
    assert f"fetch_weights: {name}" in output and "3 times over" in output
    assert "Traceback" not in output
    assert not (tmp_path / "rev").exists()


def test_a_stored_file_that_changed_is_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    partial = tmp_path / "rev.partial"
    partial.mkdir()
    (partial / WANTED[1]).write_bytes(b"?" * len(FILES[WANTED[1]]))
    code, output = hub.fetch(tmp_path / "rev")
    assert code == 0, output
    assert (tmp_path / "rev" / WANTED[1]).read_bytes() == FILES[WANTED[1]]


def test_a_file_larger_than_the_staging_volume_is_named_with_both_sizes(
    hub: FakeHub, tmp_path: Path
) -> None:
    code, output = hub.fetch(tmp_path / "rev", staging_bytes=3999)
    assert code == 1
    assert f"{WANTED[1]} has 4000 bytes" in output and "takes 3999" in output


@pytest.mark.parametrize("destination", ["gs://bucket/prefix", "relative/path"])
def test_an_unknown_kind_of_store_is_refused_with_what_works(
    hub: FakeHub, destination: str
) -> None:
    code, output = hub.fetch(destination)
    assert code == 1 and "use s3:// or an absolute path" in output


def test_s3_gets_every_file_with_its_sha256_and_the_marker_last(
    script: ModuleType, tmp_path: Path
) -> None:
    client = FakeS3()
    store = s3_store(script, client, tmp_path)
    script.fetch(hugging_face(script), store, 10_000)
    prefix = "chat/weights/rev"
    assert list(client.objects) == [*(f"{prefix}/{n}" for n in (*WANTED, ".manifest", ".complete"))]
    for name in WANTED:
        stored = client.objects[f"{prefix}/{name}"]
        assert stored["body"] == FILES[name]
        assert stored["Metadata"] == {"sha256": hashlib.sha256(FILES[name]).hexdigest()}
    left = [file for file in (tmp_path / "staging").rglob("*") if file.is_file()]
    assert left == [], "a local copy would fill the staging volume"


def test_s3_keeps_large_files_that_are_right_and_replaces_those_that_are_not(
    script: ModuleType, tmp_path: Path
) -> None:
    client = FakeS3()
    store = s3_store(script, client, tmp_path)
    script.fetch(hugging_face(script), store, 10_000)
    del client.objects["chat/weights/rev/.complete"]
    client.objects[f"chat/weights/rev/{WANTED[2]}"]["Metadata"] = {"sha256": "0" * 64}
    client.uploads.clear()
    script.fetch(hugging_face(script), store, 10_000)
    assert f"chat/weights/rev/{WANTED[1]}" not in client.uploads
    assert f"chat/weights/rev/{WANTED[2]}" in client.uploads


def test_an_object_that_is_not_what_was_sent_stops_the_run(
    script: ModuleType, tmp_path: Path
) -> None:
    class Loses(FakeS3):
        def upload_file(self, *arguments: Any, **named: Any) -> None:
            super().upload_file(*arguments, **named)
            self.objects[self.uploads[-1]]["ContentLength"] -= 1

    client = Loses()
    with pytest.raises(script.FetchError, match="not as it was sent"):
        script.fetch(hugging_face(script), s3_store(script, client, tmp_path), 10_000)
    assert "chat/weights/rev/.complete" not in client.objects


def test_a_store_that_refuses_access_is_not_taken_for_empty(
    script: ModuleType, tmp_path: Path
) -> None:
    class Refuses(FakeS3):
        def head_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
            error = PermissionError(f"403 {Bucket} {Key}")
            error.response = {"Error": {"Code": "403"}}  # type: ignore[attr-defined]
            raise error

        def list_objects_v2(self, Bucket: str, Prefix: str, MaxKeys: int) -> dict[str, Any]:  # noqa: N803
            raise PermissionError(f"403 {Bucket} {Prefix}")

    with pytest.raises(PermissionError):
        script.fetch(hugging_face(script), s3_store(script, Refuses(), tmp_path), 10_000)


def test_a_missing_object_that_s3_hides_behind_403_is_fetched(
    script: ModuleType, tmp_path: Path
) -> None:
    """As S3 answers an identity that may list only below its own prefix."""

    class Hides(FakeS3):
        def head_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
            if Key not in self.objects:
                error = Exception("403")
                error.response = {"Error": {"Code": "403"}}  # type: ignore[attr-defined]
                raise error
            return super().head_object(Bucket, Key)

    client = Hides()
    script.fetch(hugging_face(script), s3_store(script, client, tmp_path), 10_000)
    assert "chat/weights/rev/.complete" in client.objects


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a\tb"])
def test_a_file_name_that_would_leave_the_store_is_refused(script: ModuleType, path: str) -> None:
    with pytest.raises(script.FetchError, match="unusable name"):
        list(script.needed([script.HubFile(path, 1, None, "")]))


def test_other_formats_are_fetched_where_there_are_no_safetensors(script: ModuleType) -> None:
    files = [script.HubFile(path, 1, None, "") for path in ("pytorch_model.bin", "config.json")]
    names = [file.path for file in script.needed(files)]
    assert names == ["config.json", "pytorch_model.bin"]


@pytest.mark.parametrize(
    ("paths", "fetched"),
    [
        (["model-00001.safetensors", "consolidated.safetensors"], ["model-00001.safetensors"]),
        (["consolidated.safetensors", "params.json"], ["consolidated.safetensors", "params.json"]),
    ],
)
def test_weights_that_a_repository_has_twice_are_fetched_once(
    script: ModuleType, paths: list[str], fetched: list[str]
) -> None:
    files = [script.HubFile(path, 1, None, "") for path in paths]
    assert [file.path for file in script.needed(files)] == fetched
