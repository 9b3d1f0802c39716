"""Keys, certificates and tokens of one control plane, made anew for each.

Python's standard library makes no certificates, so the `openssl` command does; keys and tokens are
in files of mode 0600 in a folder of mode 0700, never in arguments.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coldstart.controlplane.errors import ControlPlaneError

_DAYS = "365"
_DEADLINE_SECONDS = 60.0
_LOOPBACK = "IP:127.0.0.1,DNS:localhost"
_SERVICE = "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:10.96.0.1"

IDENTITIES: Mapping[str, tuple[str, ...]] = {
    "admin": ("system:masters",),
    "system:kube-controller-manager": (),
    "system:kube-scheduler": (),
}
"""Users with a token from the start, and their groups."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Paths of all that was made, and the tokens by user."""

    folder: Path
    tokens: Mapping[str, str]

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    def certificate(self, name: str) -> Path:
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    @property
    def token_file(self) -> Path:
        return self.folder / "tokens.csv"


def make_keys(folder: Path) -> Keys:
    """Make everything in `folder`, which is created.

    Three authorities, as the components want them apart: the cluster's, etcd's, and the one by
    which extension API servers know the aggregator.
    Raises ControlPlaneError without a usable openssl.
    """
    folder.mkdir(mode=0o700)
    for name in ("ca", "etcd-ca", "front-proxy-ca"):
        _authority(folder, name)
    _certificate(folder, "serving", "ca", f"{_LOOPBACK},{_SERVICE}", "serverAuth")
    _certificate(folder, "etcd", "etcd-ca", _LOOPBACK, "serverAuth,clientAuth")
    _certificate(folder, "front-proxy-client", "front-proxy-ca", "", "clientAuth")
    _key(folder / "service-accounts.key")
    tokens = {user: secrets.token_urlsafe(32) for user in IDENTITIES}
    rows = (f'{tokens[user]},{user},{user},"{",".join(IDENTITIES[user])}"\n' for user in IDENTITIES)
    write_private(folder / "tokens.csv", "".join(rows))
    return Keys(folder, tokens)


def write_kubeconfig(path: Path, url: str, ca: Path, token: str) -> Path:
    """A kubeconfig complete in itself, so that it can be copied; JSON is YAML too."""
    authority = base64.b64encode(ca.read_bytes()).decode()
    data = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "local", "cluster": {"server": url, "certificate-authority-data": authority}}
        ],
        "users": [{"name": "local", "user": {"token": token}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "local"}}],
        "current-context": "local",
    }
    return write_private(path, json.dumps(data, indent=2) + "\n")


def write_private(path: Path, text: str) -> Path:
    """Write `text` so that nobody else could read it at any moment."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def _authority(folder: Path, name: str) -> None:
    _key(folder / f"{name}.key")
    extensions = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
    settings = _settings(folder, name, f"coldstart {name}", extensions)
    common = ["-config", settings, "-key", f"{name}.key", "-days", _DAYS, "-out", f"{name}.crt"]
    _openssl(folder, "req", "-new", "-x509", "-sha256", *common)


def _certificate(folder: Path, name: str, authority: str, names: str, usage: str) -> None:
    _key(folder / f"{name}.key")
    extensions = (
        "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
        f"extendedKeyUsage={usage}\n"
    )
    if names:
        extensions += f"subjectAltName={names}\n"
    settings = _settings(folder, name, name, extensions)
    request = f"{name}.csr"
    _openssl(folder, "req", "-new", "-config", settings, "-key", f"{name}.key", "-out", request)
    signing = ["-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-CAcreateserial"]
    taken = ["-days", _DAYS, "-extfile", settings, "-extensions", "extensions"]
    _openssl(
        folder, "x509", "-req", "-sha256", "-in", request, *signing, *taken, "-out", f"{name}.crt"
    )


def _settings(folder: Path, name: str, common_name: str, extensions: str) -> str:
    path = folder / f"{name}.cnf"
    path.write_text(
        "[req]\nprompt=no\ndistinguished_name=name\nx509_extensions=extensions\n"
        f"[name]\nCN={common_name}\n[extensions]\n{extensions}",
        encoding="utf-8",
    )
    return path.name


def _key(path: Path) -> None:
    _openssl(
        path.parent,
        *("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path.name),
    )
    path.chmod(0o600)


def _openssl(folder: Path, *words: str) -> None:
    found = shutil.which("openssl")
    if found is None:
        raise ControlPlaneError("openssl is missing from PATH: install the package openssl")
    try:
        done = subprocess.run(
            [found, *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_DEADLINE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ControlPlaneError(f"openssl {words[0]} in {folder}: {error}") from None
    if done.returncode != 0:
        raise ControlPlaneError(f"openssl {words[0]} in {folder} failed: {done.stderr.strip()}")
