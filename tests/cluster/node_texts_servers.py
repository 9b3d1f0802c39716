"""Small servers that stand in for EC2, systemd and OCI registries on a test's node."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import re
import socket
import struct
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Handler = type[BaseHTTPRequestHandler]
RequestLog = list[tuple[str, str, str]]
"""Server, method and path of each request, in order."""

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_LAYERS = 3
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_DBUS_HEADER = struct.Struct("<4BIII")
"""Byte order, type, flags, version; length of the body, serial, length of the header fields."""
_DBUS_RETURN = b"l\2\1\1" + struct.pack("<III", 0, 1, 8) + b"\5\1u\0"
"""A method return without a body, up to the serial it replies to."""
_TOKEN = "stand-in-token"
_TOKEN_LIFE = "X-aws-ec2-metadata-token-ttl-seconds"


@contextmanager
def serve(handler: Handler, address: str, port: int) -> Iterator[None]:
    """Serve HTTP until the block is left."""
    with ThreadingHTTPServer((address, port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # containerd tries TLS first, and knows a plain server by an answer that begins with "HTTP/".
    default_request_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Requests are logged by whoever wants them."""

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@dataclass(frozen=True)
class Ec2:
    """The instance metadata service and the one EC2 call that nodeadm makes."""

    user_data: str
    instance_type: str
    address: str

    @cached_property
    def _documents(self) -> Mapping[str, str]:
        identity = {
            "instanceId": "i-0123456789abcdef0",
            "instanceType": self.instance_type,
            "region": "us-west-2",
            "availabilityZone": "us-west-2a",
            "privateIp": self.address,
        }
        return {
            "/latest/user-data": self.user_data,
            "/latest/dynamic/instance-identity/document": json.dumps(identity),
            "/latest/meta-data/mac": "02:00:00:00:00:01",
            "/latest/meta-data/local-ipv4": self.address,
            "/latest/meta-data/services/domain": "amazonaws.com",
        }

    @property
    def metadata(self) -> Handler:
        """Version 2 of the service only: a request without a token is refused."""
        documents = self._documents

        class Metadata(_Quiet):
            def do_PUT(self) -> None:
                life = self.headers.get(_TOKEN_LIFE)
                if self.path == "/latest/api/token" and life:
                    self.answer(200, _TOKEN.encode(), {_TOKEN_LIFE: life})
                else:
                    self.answer(400)

            def do_GET(self) -> None:
                if self.headers.get("X-aws-ec2-metadata-token") != _TOKEN:
                    self.answer(401)
                elif self.path in documents:
                    self.answer(200, documents[self.path].encode())
                else:
                    self.answer(404)

        return Metadata

    @property
    def api(self) -> Handler:
        """DescribeInstances, for the private name; any other action is refused."""
        host = f"ip-{self.address.replace('.', '-')}.us-west-2.compute.internal"
        body = (
            '<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
            "<reservationSet><item><instancesSet><item>"
            "<instanceId>i-0123456789abcdef0</instanceId>"
            f"<privateDnsName>{host}</privateDnsName>"
            "</item></instancesSet></item></reservationSet></DescribeInstancesResponse>"
        )

        class Api(_Quiet):
            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                known = b"Action=DescribeInstances&" in sent
                self.answer(200 if known else 400, body.encode() if known else b"")

        return Api


@contextmanager
def serve_systemd(path: Path) -> Iterator[None]:
    """Accept connections to systemd's private bus, of which nodeadm opens two.

    While it only writes files it asks systemd for nothing.
    """
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=_shake_hands, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield


def _shake_hands(connection: socket.socket) -> None:
    """D-Bus authentication that trusts whoever can open the socket, and an answer to one call."""
    with connection, connection.makefile("rb") as lines:
        for line in lines:
            words = line.lstrip(b"\0").split()
            if words == [b"AUTH"]:
                connection.sendall(b"REJECTED EXTERNAL\r\n")
            elif words[:1] == [b"AUTH"]:
                connection.sendall(b"OK 00000000000000000000000000000000\r\n")
            elif words == [b"NEGOTIATE_UNIX_FD"]:
                connection.sendall(b"AGREE_UNIX_FD\r\n")
            elif words == [b"BEGIN"]:
                break
        header = lines.read(_DBUS_HEADER.size)
        if len(header) == _DBUS_HEADER.size:
            serial = _DBUS_HEADER.unpack(header)[5]
            connection.sendall(_DBUS_RETURN + struct.pack("<I", serial))
        lines.read()


@dataclass(frozen=True)
class Image:
    """An image of a few small layers."""

    blobs: Mapping[str, bytes]
    manifest: bytes
    digest: str
    digests: Mapping[str, list[str]]
    """By kind: manifest, config, layers."""


def image() -> Image:
    """The same image every time: a file per layer."""
    layers = [_layer(number) for number in range(_LAYERS)]
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {},
            "rootfs": {
                "type": "layers",
                "diff_ids": [_digest(gzip.decompress(layer)) for layer in layers],
            },
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, config),
            "layers": [_descriptor(_LAYER, layer) for layer in layers],
        }
    ).encode()
    blobs = {_digest(blob): blob for blob in (config, *layers)}
    digests = {
        "manifest": [_digest(manifest)],
        "config": [_digest(config)],
        "layers": [_digest(layer) for layer in layers],
    }
    return Image(blobs, manifest, _digest(manifest), digests)


def _layer(number: int) -> bytes:
    content = f"layer {number}\n".encode() * 2000
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo(f"opt/layer-{number}")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return gzip.compress(archive.getvalue(), mtime=0)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


@dataclass(frozen=True)
class Registry:
    """A registry that holds one image or none, and writes down who asked for what."""

    name: str
    image: Image | None
    log: RequestLog

    @property
    def handler(self) -> Handler:
        """The part of the distribution API that a pull uses, without authentication."""
        registry = self

        class Distribution(_Quiet):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                registry.log.append((registry.name, self.command, path))
                found = registry.find(path)
                if found is None:
                    self.answer(404)
                    return
                media_type, content = found
                headers = {"Content-Type": media_type, "Docker-Content-Digest": _digest(content)}
                self.answer(200, content, headers)

            do_HEAD = do_GET  # noqa: N815

        return Distribution

    def find(self, path: str) -> tuple[str, bytes] | None:
        """The media type and content behind a path."""
        asked = re.fullmatch(r"/v2/.+/(manifests|blobs)/([^/]+)", path)
        if asked is None or self.image is None:
            return None
        kind, reference = asked.groups()
        if kind == "manifests":
            held = reference in {self.image.digest, "1"}
            return (_MANIFEST, self.image.manifest) if held else None
        blob = self.image.blobs.get(reference)
        return None if blob is None else ("application/octet-stream", blob)
