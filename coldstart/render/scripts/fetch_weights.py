"""Brings one pinned model revision from the Hugging Face Hub into the cluster's own store.

Runs once per revision, in the engine's image. File by file: download, compare with the checksum
the Hub has for it, store, check what was stored, forget the local copy. What is already stored and
right is skipped, so a killed run goes on where it stopped. `.manifest` (sha256, bytes and path per
line, tab-separated) and `.complete` (the manifest's sha256) are written last; readers trust nothing
without them.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

MANIFEST = ".manifest"
COMPLETE = ".complete"
ATTEMPTS = 3
CHUNK_BYTES = 8 * 1024 * 1024
PART_BYTES = 64 * 1024 * 1024
"""S3 takes 10,000 parts per object: this part size reaches 640 GB."""
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".ot", ".gguf", ".tflite")
"""The same weights in other formats, of no use where safetensors exist."""
OTHER_FOLDERS = ("original/", "metal/", "onnx/")
MISTRAL = "consolidated"
"""Mistral's own layout of the same weights, beside the usual one in some of its repositories."""


class FetchError(Exception):
    """What went wrong, for the person who reads the Job's log."""


@dataclass(frozen=True)
class HubFile:
    """A file of the revision. `sha256` is known for large files, `git_blob` for all others."""

    path: str
    size_bytes: int
    sha256: str | None
    git_blob: str


@dataclass(frozen=True)
class Stored:
    """A file as it lies in the store."""

    sha256: str
    size_bytes: int
    path: str


class Hub(Protocol):
    """Where the files come from."""

    def files(self) -> list[HubFile]: ...

    def download(self, path: str, into: Path) -> Path: ...


class Store(Protocol):
    """Where the files go. `incoming` is the local directory that downloads land in."""

    incoming: Path

    def is_complete(self) -> bool: ...

    def find(self, path: str) -> Stored | None: ...

    def take(self, local: Path, stored: Stored) -> None: ...

    def write(self, path: str, text: str) -> None: ...

    def finish(self) -> None: ...


class HuggingFace:
    """One revision of a repository on the Hugging Face Hub; HF_TOKEN is read by the library."""

    def __init__(self, repository: str, revision: str) -> None:
        self._hub = importlib.import_module("huggingface_hub")
        self._repository, self._revision = repository, revision

    def files(self) -> list[HubFile]:
        """Every file of the revision."""
        tree = self._hub.HfApi().list_repo_tree(
            self._repository, revision=self._revision, recursive=True
        )
        return [
            HubFile(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else None, entry.blob_id)
            for entry in tree
            if getattr(entry, "blob_id", None)
        ]

    def download(self, path: str, into: Path) -> Path:
        """The file's local copy under `into`."""
        return Path(
            self._hub.hf_hub_download(
                self._repository, path, revision=self._revision, local_dir=into
            )
        )


class DirectoryStore:
    """A directory, on a shared file system; filled beside its final name, then renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._partial = root.with_name(root.name + ".partial")
        self.incoming = self._partial / ".incoming"

    def is_complete(self) -> bool:
        """Whether an earlier run finished."""
        return (self._root / COMPLETE).exists()

    def find(self, path: str) -> Stored | None:
        """The file as it is on disk, read in full."""
        place = self._partial / path
        if not place.is_file():
            return None
        return Stored(sha256_of(place), place.stat().st_size, path)

    def take(self, local: Path, stored: Stored) -> None:
        """Move a download to its place; on the same file system, so a reader never sees half."""
        place = self._partial / stored.path
        place.parent.mkdir(parents=True, exist_ok=True)
        local.chmod(0o644)
        local.replace(place)

    def write(self, path: str, text: str) -> None:
        """A small file of our own."""
        (self._partial / path).write_text(text)

    def finish(self) -> None:
        """Give the directory its final name."""
        shutil.rmtree(self.incoming, ignore_errors=True)
        self._partial.rename(self._root)


class S3Store:
    """A prefix of a bucket; the sha256 of each object is kept in its metadata."""

    def __init__(self, client: Any, bucket: str, prefix: str, incoming: Path) -> None:
        self._client, self._bucket, self._prefix = client, bucket, prefix
        self.incoming = incoming

    def _key(self, path: str) -> str:
        return f"{self._prefix}/{path}"

    def _head(self, path: str) -> Any:
        try:
            return self._client.head_object(Bucket=self._bucket, Key=self._key(path))
        except Exception as error:
            code = str(getattr(error, "response", {}).get("Error", {}).get("Code"))
            # Who may list below a prefix only gets 403 for a missing object (S3 API, HeadObject).
            if code in {"404", "NoSuchKey", "NotFound"} or (
                code in {"403", "Forbidden"} and not self._listed(path)
            ):
                return None
            raise

    def _listed(self, path: str) -> bool:
        key = self._key(path)
        found = self._client.list_objects_v2(Bucket=self._bucket, Prefix=key, MaxKeys=1)
        return any(item["Key"] == key for item in found.get("Contents", []))

    def is_complete(self) -> bool:
        """Whether an earlier run finished."""
        return self._head(COMPLETE) is not None

    def find(self, path: str) -> Stored | None:
        """The object as S3 describes it."""
        head = self._head(path)
        if head is None:
            return None
        return Stored(head["Metadata"].get("sha256", ""), head["ContentLength"], path)

    def take(self, local: Path, stored: Stored) -> None:
        """Upload; S3 itself checks every part against the sha256 sent with it."""
        transfer = importlib.import_module("boto3.s3.transfer")
        self._client.upload_file(
            str(local),
            self._bucket,
            self._key(stored.path),
            ExtraArgs={"ChecksumAlgorithm": "SHA256", "Metadata": {"sha256": stored.sha256}},
            Config=transfer.TransferConfig(multipart_chunksize=PART_BYTES),
        )
        local.unlink()

    def write(self, path: str, text: str) -> None:
        """A small object of our own."""
        self._client.put_object(
            Bucket=self._bucket,
            Key=self._key(path),
            Body=text.encode(),
            ChecksumAlgorithm="SHA256",
        )

    def finish(self) -> None:
        """Nothing to rename: `.complete` was written last."""


def say(line: str) -> None:
    """One line of progress for the Job's log."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def sha256_of(path: Path) -> str:
    """The file's sha256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_blob_of(path: Path) -> str:
    """The file's git object name, the only checksum the Hub has for small files."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def needed(files: Iterable[HubFile]) -> Iterator[HubFile]:
    """The files a server reads, in order: one format of the weights, and everything small."""
    files = sorted(files, key=lambda file: file.path)
    weights = [f.path for f in files if f.path.endswith(".safetensors") and "/" not in f.path]
    has_safetensors = bool(weights)
    has_usual = not all(path.startswith(MISTRAL) for path in weights)
    for file in files:
        parts = PurePosixPath(file.path)
        if parts.is_absolute() or ".." in parts.parts or set(file.path) & set("\t\n"):
            raise FetchError(f"the revision has a file with an unusable name: {file.path!r}")
        if has_safetensors and file.path.startswith(OTHER_FOLDERS):
            continue
        if has_safetensors and file.path.endswith(OTHER_WEIGHTS):
            continue
        if has_usual and file.path.startswith(MISTRAL) and file.path.endswith(".safetensors"):
            continue
        yield file


def problem(local: Path, file: HubFile, digest: str) -> str | None:
    """How a download differs from what the Hub says of it, or None."""
    size_bytes = local.stat().st_size
    if size_bytes != file.size_bytes:
        return f"has {size_bytes} bytes, the Hub says {file.size_bytes}"
    if file.sha256 is not None:
        return None if digest == file.sha256 else f"has sha256 {digest}, the Hub says {file.sha256}"
    blob = git_blob_of(local)
    return None if blob == file.git_blob else f"is git blob {blob}, the Hub says {file.git_blob}"


def download(hub: Hub, file: HubFile, incoming: Path) -> tuple[Path, Stored]:
    """The verified local copy. Raises FetchError when it stays wrong."""
    found = ""
    for _ in range(ATTEMPTS):
        local = hub.download(file.path, incoming)
        digest = sha256_of(local)
        found = problem(local, file, digest) or ""
        if not found:
            return local, Stored(digest, file.size_bytes, file.path)
        local.unlink()
        say(f"{file.path} {found}; downloading it again")
    raise FetchError(f"{file.path} {found}, {ATTEMPTS} times over")


def fetch(hub: Hub, store: Store, staging_bytes: int) -> None:
    """Bring every needed file into the store; a second call after success does nothing."""
    if store.is_complete():
        say("complete already")
        return
    store.incoming.mkdir(parents=True, exist_ok=True)
    files = list(needed(hub.files()))
    if not files:
        raise FetchError("the revision has no files")
    manifest: list[Stored] = []
    for number, file in enumerate(files, start=1):
        if file.size_bytes > staging_bytes:
            raise FetchError(
                f"{file.path} has {file.size_bytes} bytes and is staged whole, the staging volume "
                f"takes {staging_bytes}"
            )
        kept = store.find(file.path) if file.sha256 else None
        if kept is None or (kept.sha256, kept.size_bytes) != (file.sha256, file.size_bytes):
            local, kept = download(hub, file, store.incoming)
            store.take(local, kept)
            if store.find(file.path) != kept:
                raise FetchError(f"{file.path} is in the store, but not as it was sent")
        manifest.append(kept)
        say(f"{number}/{len(files)} {file.path} {kept.sha256}")
    text = "".join(f"{file.sha256}\t{file.size_bytes}\t{file.path}\n" for file in manifest)
    store.write(MANIFEST, text)
    store.write(COMPLETE, hashlib.sha256(text.encode()).hexdigest())
    store.finish()


def store_at(destination: str, incoming: Path) -> Store:
    """The store that `s3://bucket/prefix` or an absolute path names."""
    scheme, found, rest = destination.partition("://")
    if destination.startswith("/"):
        return DirectoryStore(Path(destination))
    if not found or scheme != "s3":
        raise FetchError(f"cannot store weights at {destination}: use s3:// or an absolute path")
    bucket, _, prefix = rest.partition("/")
    client = importlib.import_module("boto3").client("s3")
    return S3Store(client, bucket, prefix.strip("/"), incoming)


def main() -> int:
    """Fetch what the environment names; 1 with one line on stderr when it cannot be done."""
    try:
        hub = HuggingFace(os.environ["REPOSITORY"], os.environ["REVISION"])
        store = store_at(os.environ["DESTINATION"], Path(os.environ["STAGING_DIRECTORY"]))
        fetch(hub, store, int(os.environ["STAGING_BYTES"]))
    except FetchError as error:
        sys.stderr.write(f"fetch_weights: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
