"""docs/proof.md: what was proven by which real part, from the `proof` marks of the tests.

python -m tests.proof           writes the page
python -m tests.proof --check   exits with 1 when the page is not what the tests say
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from coldstart.engine.bundles import BUNDLES
from tests.cluster.karpenter_stacks import UNPROVEN

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "proof.md"
FOLDER = "tests/cluster"

# The words a mark may use, with the binary whose version the page states.
PARTS: Mapping[str, tuple[str, str]] = {
    "Pulumi engine": ("pulumi", "pulumi"),
    "API server": ("control-plane", "kube-apiserver"),
    "controller-manager": ("control-plane", "kube-controller-manager"),
    "scheduler": ("control-plane", "kube-scheduler"),
    "kwok": ("kwok", "kwok"),
    "Karpenter": ("karpenter", "karpenter"),
    "KEDA": ("keda", "keda-operator"),
    "KEDA HTTP add-on": ("keda", "keda-http-interceptor"),
    "Helm": ("helm", "helm"),
    "containerd": ("containerd", "containerd"),
    "Karpenter's user data merge": ("node-texts", "node-texts"),
    "nodeadm": ("node-texts", "node-texts"),
}

_HEAD = """# What is proven, and by which real part

Each line is a test of `make test-cluster`; the parts are built from their published sources at the
version given. `python -m tests.proof` writes this page from the tests' marks.
"""

_UNPROVEN_HEAD = """## What could not be put to Karpenter

Its core and its kwok provider are upstream's. The launch order of an AWS provider, counted
reservations and sold-out answers come from a stand-in (`tools/karpenter/region.go`), and this is
left out:"""


class ProofError(Exception):
    """A mark that the page cannot show; the message names the test."""


@dataclass(frozen=True, slots=True)
class Proof:
    """One statement and the tests that hold it."""

    part: str
    statement: str
    test: str
    cases: int


def collect() -> list[Proof]:
    """The proofs of the marked tests, in the tests' order.

    Raises ProofError for an unknown part, or tests that cannot be collected.
    """
    found = _Items()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = pytest.main(["--collect-only", "-q", str(ROOT / FOLDER)], plugins=[found])
    if code != pytest.ExitCode.OK:
        raise ProofError(f"{FOLDER} cannot be collected:\n{said.getvalue()}")
    cases: dict[tuple[str, str, str], int] = {}
    for item in found.items:
        test = item.nodeid.partition("[")[0]
        # A test without the mark is about the tests' own means.
        for mark in item.iter_markers("proof"):
            part, *rest = mark.args
            if part not in PARTS:
                raise ProofError(f"{test}: part {part!r} is none of {', '.join(PARTS)}")
            statement = rest[0] if rest else _sentence(test)
            key = (part, statement, test)
            cases[key] = cases.get(key, 0) + 1
    return [Proof(*key, count) for key, count in cases.items()]


def page(proofs: list[Proof]) -> str:
    """The page's text."""
    lines = [_HEAD]
    for part in PARTS:
        mine = [proof for proof in proofs if proof.part == part]
        if not mine:
            continue
        lines += [f"## {part} {_version(part)}".rstrip(), "", "| proven | by |", "|---|---|"]
        for proof in mine:
            times = f" ({proof.cases} cases)" if proof.cases > 1 else ""
            file, _, name = proof.test.partition("::")
            lines.append(
                f"| {proof.statement}{times} | [`{name}`](../{file}) |".replace("||", "| |")
            )
        lines.append("")
    lines += [_UNPROVEN_HEAD, "", "| what | why |", "|---|---|"]
    lines += [f"| {item.what} | {item.why} |" for item in UNPROVEN]
    return "\n".join([*lines, ""])


class _Items:
    def __init__(self) -> None:
        self.items: list[pytest.Item] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = list(session.items)


def _sentence(test: str) -> str:
    name = re.sub(r"^test_", "", test.rpartition("::")[2]).replace("_", " ")
    return name[:1].upper() + name[1:]


def _version(part: str) -> str:
    bundle, binary = PARTS[part]
    return next(b.version for b in BUNDLES[bundle].binaries if b.name == binary)


def main(arguments: list[str]) -> int:
    """Entry point."""
    try:
        text = page(collect())
    except ProofError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if arguments == ["--check"]:
        if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
            sys.stderr.write(
                f"{PAGE.relative_to(ROOT)} is not what the tests say: run python -m tests.proof\n"
            )
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
