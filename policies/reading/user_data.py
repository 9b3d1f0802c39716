"""What a node's user data sets: MIME parts, NodeConfig documents, containerd and Bottlerocket TOML.

Everything is lenient: text that cannot be read says nothing, since a judge of other people's
programs meets every dialect. The node's own agent reports the syntax error.
"""

from __future__ import annotations

import base64
import binascii
import email
import re
import tomllib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from policies.reading.values import is_true, list_at, mapping_at

# EC2 refuses user data over 16 KiB; the bound leaves room and keeps hostile input cheap.
_MAX_USER_DATA_BYTES = 256 * 1024
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_V3_IMAGES = "io.containerd.cri.v1.images"
_V3_RUNTIME = "io.containerd.cri.v1.runtime"
_LEGACY = "io.containerd.grpc.v1.cri"
_NODE_CONFIG_API = "node.eks.aws/"
_LOOPBACK = re.compile(r"127\.0\.0\.1|localhost|\[::1\]|NODE_IP|:3002[01]\b|spegel", re.IGNORECASE)
_SECTION = re.compile(r"\s*\[[^=#]+\]\s*(?:#.*)?")


@dataclass
class NodeSettings:
    """Settings of a node as its user data states them, each part empty when not stated."""

    node_config: dict[str, Any] = field(default_factory=dict)
    containerd: dict[str, Any] = field(default_factory=dict)
    bottlerocket: dict[str, Any] = field(default_factory=dict)
    scripts: list[str] = field(default_factory=list)

    @property
    def is_bottlerocket(self) -> bool:
        return bool(self.bottlerocket)

    @property
    def soci_field(self) -> str | None:
        """The setting that turns SOCI parallel pull on, or None."""
        if is_true(self.node_config.get("featureGates", {}).get("FastImagePull")):
            return "NodeConfig spec.featureGates.FastImagePull=true"
        if mapping_at(self.bottlerocket, "container-runtime").get("snapshotter") == "soci":
            return 'settings.container-runtime.snapshotter="soci"'
        return None

    @property
    def version_3_plugins(self) -> tuple[Mapping[str, Any], ...]:
        """CRI settings under the plugins of containerd's configuration version 3."""
        plugins = mapping_at(self.containerd, "plugins")
        return tuple(mapping_at(plugins, key) for key in (_V3_IMAGES, _V3_RUNTIME))

    @property
    def has_version_3_plugins(self) -> bool:
        plugins = mapping_at(self.containerd, "plugins")
        return _V3_IMAGES in plugins or _V3_RUNTIME in plugins

    @property
    def legacy_plugin(self) -> Mapping[str, Any]:
        """CRI settings under the plugin of containerd's configuration version 2."""
        return mapping_at(self.containerd, "plugins", _LEGACY)

    @property
    def images_plugin(self) -> Mapping[str, Any]:
        """CRI image settings as nodeadm applies them: beside a v3 key, legacy keys are dropped."""
        if self.has_version_3_plugins:
            return self.version_3_plugins[0]
        return {**self.legacy_plugin, **mapping_at(self.legacy_plugin, "containerd")}

    @property
    def keeps_layers(self) -> bool:
        """Whether `discard_unpacked_layers = false` is stated, as a peer mirror needs."""
        return self.images_plugin.get("discard_unpacked_layers") is False

    @property
    def peer_mirror_field(self) -> str | None:
        """The setting that opens this node to a peer mirror, or None."""
        if self.keeps_layers:
            return "containerd discard_unpacked_layers=false"
        for mirror in list_at(self.bottlerocket, "container-registry", "mirrors"):
            if any(_LOOPBACK.search(str(url)) for url in list_at(mirror, "endpoint")):
                return "settings.container-registry.mirrors with a loopback endpoint"
        for script in self.scripts:
            if "hosts.toml" in script and _LOOPBACK.search(script):
                return "a hosts.toml written by the user data script"
        return None

    @property
    def local_storage(self) -> Mapping[str, Any]:
        return mapping_at(self.node_config, "instance", "localStorage")

    @property
    def ephemeral_bind(self) -> str | None:
        """The Bottlerocket bootstrap command that moves containerd to instance storage, or None."""
        for name, command in mapping_at(self.bottlerocket, "bootstrap-commands").items():
            for words in list_at(command, "commands"):
                line = " ".join(map(str, words)) if isinstance(words, list) else str(words)
                if "ephemeral-storage bind" in line and _binds_containerd(line):
                    return f"settings.bootstrap-commands.{name}: {line}"
        return None


def _binds_containerd(line: str) -> bool:
    # Without --dirs (Bottlerocket 1.46 and newer) every known directory is bound.
    return "--dirs" not in line or "/var/lib/containerd" in line


def node_settings(user_data: str, *, encoded: bool = False) -> NodeSettings:
    """Read user data; `encoded` says it is base64 (launch templates), possibly of gzip."""
    text = _decoded(user_data) if encoded else user_data
    settings = NodeSettings()
    if len(text) > _MAX_USER_DATA_BYTES:
        return settings
    for part in _parts(text):
        _read_part(part, settings)
    return settings


def _decoded(user_data: str) -> str:
    try:
        raw = base64.b64decode(user_data, validate=False)
    except (binascii.Error, ValueError):
        return user_data
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = zlib.decompressobj(wbits=31).decompress(raw, _MAX_USER_DATA_BYTES)
        except zlib.error:
            return ""
    return raw[: _MAX_USER_DATA_BYTES + 1].decode("utf-8", errors="replace")


def _parts(text: str) -> Iterator[str]:
    head = text.lstrip()[:2000].lower()
    if "content-type: multipart/" not in head:
        yield text
        return
    for part in email.message_from_string(text.lstrip()).walk():
        if part.is_multipart():
            continue
        payload = part.get_payload(decode=True)
        yield payload.decode("utf-8", "replace") if isinstance(payload, bytes) else str(payload)


def _read_part(part: str, settings: NodeSettings) -> None:
    if _NODE_CONFIG_API in part and not part.lstrip().startswith("#!"):
        for document in _yaml_documents(part):
            if str(document.get("apiVersion", "")).startswith(_NODE_CONFIG_API):
                _merge_node_config(mapping_at(document, "spec"), settings)
        return
    if re.search(r"^\s*\[\[?\s*settings\b", part, re.MULTILINE):
        _deep_merge(settings.bottlerocket, mapping_at(toml(part), "settings"))
        return
    settings.scripts.append(part)


def _yaml_documents(text: str) -> list[Mapping[str, Any]]:
    try:
        documents = list(yaml.load_all(text, Loader=_LOADER))
    except (yaml.YAMLError, ValueError, RecursionError):
        return []
    return [document for document in documents if isinstance(document, Mapping)]


def _merge_node_config(spec: Mapping[str, Any], settings: NodeSettings) -> None:
    # Only what the rules read: a full merge of hostile YAML aliases would explode.
    gates = mapping_at(spec, "featureGates")
    settings.node_config.setdefault("featureGates", {}).update(gates)
    storage = mapping_at(spec, "instance", "localStorage")
    merged = settings.node_config.setdefault("instance", {}).setdefault("localStorage", {})
    merged.update({key: storage[key] for key in ("strategy", "disabledMounts") if key in storage})
    containerd = mapping_at(spec, "containerd").get("config")
    if isinstance(containerd, str):
        _deep_merge(settings.containerd, toml(containerd))


def toml(text: str) -> dict[str, Any]:
    """TOML, read line by line where the whole does not parse, without the lines that do not."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        pass
    tree: dict[str, Any] = {}
    section = ""
    for line in text.splitlines()[:5000]:
        if _SECTION.fullmatch(line):
            section = line
            continue
        try:
            _deep_merge(tree, tomllib.loads(f"{section}\n{line}\n"))
        except (tomllib.TOMLDecodeError, RecursionError):
            continue
    return tree


def _deep_merge(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        present = base.get(key)
        if isinstance(present, dict) and isinstance(value, Mapping):
            _deep_merge(present, value)
        elif isinstance(value, Mapping):
            base[key] = {}
            _deep_merge(base[key], value)
        else:
            base[key] = value
