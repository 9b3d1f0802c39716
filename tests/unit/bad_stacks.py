"""Stack files that cannot be used: every field spoilt in its own ways, and files meant to harm."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

STACKS = Path(__file__).parents[2] / "stacks"
GIVEN = "eks-prod"
C = "coldstart:"
A100, BIG = (f"{C}nodePools", "a100"), (f"{C}models", "qwen3-32b")
L40S, SMALL = (f"{C}nodePools", "l40s"), (f"{C}models", "qwen3-8b")
LONG = "x" * 5000
DAY = dt.date(2026, 1, 1)
Key = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class BadStack:
    """A file that must be refused, and the words its messages must contain."""

    name: str
    content: bytes
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Field:
    key: Key
    wrong: Sequence[Any]


_COUNT = (-1, 2.5, True, None)
_NO_COUNT = ([1], {"a": 1}, float("nan"), float("inf"), DAY)
_TEXT = (5, None, [["a"]], LONG, "a\nb")
_CHOICE = (5, {"a": "b"}, "nonsense", "\x1b[31mred")
_FLAG = (7, "perhaps", None)
_MAPPING = (5, "text", [1])
_DURATION = (300, "5 minutes", "-5s", "9" * 400 + "s")
_TEXTS = ("one", [5], [None], {"a": "b"}, [["a"]])

FIELDS = (
    _Field(("aws:region",), (5, "uswest2", "US-WEST-2", LONG, "us-west-2\n", ["us-west-2"])),
    _Field((f"{C}platform",), (*_CHOICE, "gke-autopilot")),
    _Field((f"{C}environment",), (*_CHOICE, "production")),
    _Field((f"{C}layers",), ("infra", ["infar"], [["infra"]], {"infra": True}, 5, None)),
    _Field((f"{C}infraStack",), (5, ["x"], "nowhere", "../../etc/passwd", "a\x00b", LONG)),
    _Field((f"{C}servingNamespaces",), (["qwen3-8b"], "qwen3-8b", [5])),
    _Field((f"{C}network",), _MAPPING),
    _Field((f"{C}network", "cidr"), ("10.40.1.0/16", "10.0.0.0/8", "10.40.0.0/24", "fd00::/16")),
    _Field((f"{C}network", "cidr"), ("8.8.0.0/16", "127.0.0.0/16", "here", 5, None, [1, 2])),
    _Field((f"{C}network", "zones"), (*_COUNT, 1, 5)),
    _Field((f"{C}network", "natGateways"), _CHOICE),
    _Field((f"{C}cluster",), _MAPPING),
    _Field((f"{C}cluster", "version"), (1.35, "1.99", "v1.35", None, [1, 35])),
    _Field((f"{C}cluster", "adminCidrs"), ("203.0.113.0/24", ["0.0.0.0/0"], ["203.0.113.5/24"])),
    _Field((f"{C}cluster", "adminCidrs"), (["everywhere"], [5], ["10.0.0.0/24"] * 41)),
    _Field((f"{C}cluster", "adminPrincipals"), (["root"], ["arn:aws:iam::1:role/x"], "me")),
    _Field((f"{C}cluster", "systemInstanceType"), ("p4d.24xlarge", "m7i.lrge", 5)),
    _Field((f"{C}cluster", "systemNodes"), (*_COUNT[:2], 1)),
    _Field((f"{C}registry",), _MAPPING),
    _Field((f"{C}registry", "pullThroughCache"), _FLAG),
    _Field((f"{C}registry", "dockerHubCredential"), ("hunter2", 5, "arn:aws:s3:::bucket")),
    _Field((f"{C}storage",), _MAPPING),
    _Field((f"{C}storage", "sharedFileSystem"), _FLAG),
    _Field((f"{C}engine",), (*_MAPPING, {"image": "vllm:latest"}, {"image": 5})),
    _Field((f"{C}engine",), ({"imageSize": 5}, {"imageSize": "0GB"}, {"imageSize": "9GB"})),
    _Field((f"{C}prices",), (*_MAPPING, {"instances": {"p4d.24xlarge": 5}}, {"shares": [1]})),
    _Field((f"{C}prices", "instances"), (*_MAPPING, {"p4d": {"spot": 1}}, {5: {"spot": 1}})),
    _Field((f"{C}prices", "shares"), (*_MAPPING, {"a100": {"spot": "half"}}, {"a100": {}})),
    _Field((f"{C}nodePools",), (*_MAPPING, None)),
    _Field(A100, (*_MAPPING, None)),
    _Field((*A100, "accelerator"), (*_TEXT, "nvidia-a100-40g", "nvidia-t4g-16gb")),
    _Field((*A100, "instanceTypes"), ([], "p4d", [["a"]], ["p4d.24xlrge"], ["g6.xlarge"], [5])),
    _Field((*A100, "capacity"), ("spot", ["spto"], ["spot", "spot"], [5], {"spot": 1})),
    _Field((*A100, "reservations"), (5, {"ids": ["r-1"]}, {"ids": "cr-1"}, {"tags": {"a": 1}})),
    _Field((*A100, "reservations"), ({"ids": ["cr-1"], "tags": {"a": "b"}}, {"tag": {"a": "b"}})),
    _Field((*A100, "os"), _CHOICE),
    _Field((*A100, "image"), (*_CHOICE, "lazy")),
    _Field((*A100, "imageSnapshot"), ("snap-xyz", "vol-12345678", 5)),
    _Field((*A100, "localStorage"), (*_CHOICE, "raid5")),
    _Field((*A100, "maxNodes"), (*_COUNT, *_NO_COUNT, 0)),
    _Field((*A100, "warmNodes"), (*_COUNT[:2], 5)),
    _Field((*A100, "expireAfter"), (*_DURATION, "5m", "9999d")),
    _Field((f"{C}models",), (*_MAPPING, None)),
    _Field(BIG, (*_MAPPING, None)),
    _Field((*BIG, "source"), (*_TEXT, "Qwen/Qwen3-32B", "hf://Qwen/Qwen3-32B@main")),
    _Field((*BIG, "source"), ("hf://Qwen/Qwen3-32b@" + "a" * 40, "https://huggingface.co/Qwen")),
    _Field((*BIG, "nodePool"), (*_TEXT, DAY, "🚀", "a10", "A100")),
    _Field((*BIG, "precision"), ("fp7", "int4", 16, None)),
    _Field((*BIG, "tensorParallel"), (*_COUNT, 3, 16, 1)),
    _Field((*BIG, "maxModelLen"), (*_COUNT, 1_000_000, "32k")),
    _Field((*BIG, "maxConcurrency"), _COUNT[:4]),
    _Field((*BIG, "weights"), (*_CHOICE, "oci")),
    _Field((*BIG, "loadFormat"), ("gguf", 5, None, "safetensors")),
    _Field((*BIG, "compileCache"), (*_CHOICE, "shared")),
    _Field((*BIG, "scaling"), (*_MAPPING, None, {}, {"max": 0}, {"min": 3, "max": 2})),
    _Field((*BIG, "scaling", "min"), _COUNT[:3]),
    _Field((*BIG, "scaling", "max"), (*_COUNT[:2], 60)),
    _Field((*BIG, "scaling", "waitingRequests"), (0, "many")),
    _Field((*BIG, "scaling", "kvCachePercent"), (0, 91, "80%")),
    _Field((*BIG, "maxRequestDuration"), (*_DURATION, "2h")),
    _Field((*BIG, "coldStartBudget"), (*_DURATION, "0s", "5s")),
)
REQUIRED: tuple[Key, ...] = (
    ("aws:region",),
    (f"{C}platform",),
    (f"{C}nodePools",),
    (f"{C}models",),
    (*A100, "accelerator"),
    (*A100, "maxNodes"),
    (*BIG, "source"),
    (*BIG, "nodePool"),
    (*BIG, "scaling"),
    (*BIG, "scaling", "max"),
)
MISSPELT: Mapping[Key, str] = {
    (f"{C}platform",): f"{C}platfrom",
    (f"{C}environment",): f"{C}enviroment",
    (f"{C}network",): f"{C}newtork",
    (f"{C}cluster",): "coldstrat:cluster",
    (f"{C}registry",): "registry",
    (f"{C}storage",): f"{C}Storage",
    (f"{C}nodePools",): f"{C}nodepools",
    (f"{C}models",): f"{C}model",
    (f"{C}network", "cidr"): "cdir",
    (f"{C}network", "zones"): "zone",
    (f"{C}cluster", "version"): "verison",
    (f"{C}cluster", "adminCidrs"): "admin_cidrs",
    (f"{C}registry", "pullThroughCache"): "pullthroughCache",
    (f"{C}storage", "sharedFileSystem"): "sharedFilesystem",
    (*A100, "accelerator"): "acelerator",
    (*A100, "capacity"): "capcity",
    (*A100, "reservations"): "reservation",
    (*A100, "maxNodes"): "maxnodes",
    (*L40S, "warmNodes"): "warm_nodes",
    A100: "A100",
    (*BIG, "source"): "sources",
    (*BIG, "nodePool"): "node_pool",
    (*BIG, "scaling"): "scalling",
    (*BIG, "coldStartBudget"): "coldstartBudget",
    (*BIG, "scaling", "min"): "minimum",
    BIG: "vllm",
    SMALL: "kube-models",
}


@cache
def good(stack: str = GIVEN) -> Mapping[str, Any]:
    """The `config:` mapping of a stack that works; copy it before a change."""
    return yaml.safe_load((STACKS / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8"))["config"]


def every_bad_stack() -> Iterator[BadStack]:
    """All of them, each under a name of its own."""
    yield from _wrong_values()
    yield from _missing_keys()
    yield from _misspelt_keys()
    yield from _contradictions()
    yield from _split_stacks()
    yield from _hostile_texts()


def dumped(config: Any) -> bytes:
    """A stack file of that configuration."""
    text = yaml.safe_dump({"config": dict(config)}, sort_keys=False, allow_unicode=True)
    return text.encode("utf-8", "surrogatepass")


def shown_path(key: Key) -> str:
    """The path a message gives to a place in the file."""
    parts = [str(part).removeprefix(C) for part in key]
    return ".".join(parts)


def with_value(config: Mapping[str, Any], key: Key, value: Any) -> dict[str, Any]:
    """A copy with one value replaced or added."""
    changed = copy.deepcopy(dict(config))
    inner: Any = changed
    for part in key[:-1]:
        inner = inner.setdefault(part, {})
    inner[key[-1]] = value
    return changed


def without(config: Mapping[str, Any], key: Key) -> dict[str, Any]:
    """A copy with one key left out."""
    changed = copy.deepcopy(dict(config))
    inner: Any = changed
    for part in key[:-1]:
        inner = inner[part]
    del inner[key[-1]]
    return changed


def _wrong_values() -> Iterator[BadStack]:
    for field in FIELDS:
        for number, value in enumerate(field.wrong):
            said = repr(value)
            name = f"{shown_path(field.key)} = {said[:40]} ({number})"
            content = dumped(with_value(good(), field.key, value))
            yield BadStack(name, content, (shown_path(field.key[:2]),))


def _missing_keys() -> Iterator[BadStack]:
    for key in REQUIRED:
        yield BadStack(
            f"without {shown_path(key)}", dumped(without(good(), key)), (shown_path(key),)
        )


def _misspelt_keys() -> Iterator[BadStack]:
    for key, wrong in MISSPELT.items():
        inner: Any = good()
        for part in key:
            inner = inner[part]
        changed = with_value(without(good(), key), (*key[:-1], wrong), inner)
        yield BadStack(
            f"{shown_path(key)} misspelt {wrong}", dumped(changed), (wrong.removeprefix(C),)
        )


def _contradictions() -> Iterator[BadStack]:
    daemon, spot = "localStorage: daemonset", "capacity: reserved"
    cases: list[tuple[str, dict[Key, Any], tuple[str, ...]]] = [
        (
            "snapshot under RAID0",
            {
                (*L40S, "image"): "snapshot",
                (*L40S, "localStorage"): "raid0",
                (*L40S, "imageSnapshot"): "snap-12345678",
            },
            ("nodePools.l40s.image", "RAID0", "Use"),
        ),
        ("snapshot without a snapshot", {(*L40S, "image"): "snapshot"}, ("imageSnapshot",)),
        ("Bottlerocket on NVSwitch", {(*A100, "os"): "bottlerocket"}, ("NVSwitch",)),
        ("peers on Bottlerocket", {(*L40S, "image"): "peer", (*L40S, "os"): "bottlerocket"}, ()),
        (daemon + " in prod", {(*A100, "localStorage"): "daemonset"}, ("environment: dev",)),
        ("script on Bottlerocket",
         {(*L40S, "os"): "bottlerocket", (*L40S, "localStorage"): "user-data"},
         ("nodePools.l40s.localStorage",)),
        ("peer alone", {(*A100, "image"): "peer", (*A100, "maxNodes"): 1}, ("no peer",)),
        (spot + " without one", {(*L40S, "capacity"): ["reserved"]}, ("nodePools.l40s",)),
        ("reservation unused", {(*A100, "capacity"): ["spot"]}, ("nodePools.a100",)),
        ("more warm than nodes", {(*L40S, "warmNodes"): 9}, ("warmNodes 9",)),
        ("more replicas than nodes", {(*BIG, "scaling"): {"max": 9}}, ("maxNodes: 5",)),
        ("more at least than nodes",
         {(*BIG, "scaling"): {"min": 8, "max": 8}, (*SMALL, "nodePool"): "a100"},
         ("nodePools.a100.maxNodes",)),
        ("too large for one GPU", {(*BIG, "nodePool"): "l40s"}, ("models.qwen3-32b",)),
        ("bf16 on a T4", {(*L40S, "accelerator"): "nvidia-t4-16gb"}, ("precision",)),
        ("shared without a file system",
         {(*BIG, "weights"): "local", (*A100, "localStorage"): "none"},
         ("models.qwen3-32b.weights",)),
        ("stream with a file loader",
         {(*BIG, "weights"): "stream", (*BIG, "loadFormat"): "safetensors"},
         ("models.qwen3-32b.loadFormat",)),
        ("models in an infra stack", {(f"{C}layers",): ["infra"]}, ("models",)),
        ("a workload stack of nothing", {(f"{C}layers",): ["workload"]}, ("infraStack",)),
        ("both a cluster and another's", {(f"{C}infraStack",): "eks-prod-infra"}, ("infraStack",)),
        ("a plain secret", {(f"{C}apiKey",): "hunter2"}, ("apiKey", "--secret")),
        ("a plain token", {(f"{C}huggingFaceToken",): "hf_x"}, ("huggingFaceToken",)),
        ("a secret that is a number", {(f"{C}apiKey",): 5}, ("apiKey",)),
        ("region in the wrong place", {(f"{C}region",): "us-west-2"}, ("aws:region",)),
        ("a name of its own", {(f"{C}stack",): "other"}, ("stack",)),
        ("two pools of one name",
         {(*L40S, "capacity"): ["on-demand", "spot"], (f"{C}nodePools", "l40s-spot"): {
             "accelerator": "nvidia-l40s-48gb", "maxNodes": 1}},
         ("l40s-spot",)),
        ("an unknown section", {(f"{C}nodeGroups",): {}, (f"{C}gpus",): 4}, ("gpus",)),
        ("everything at once",
         {(*A100, "maxNodes"): -1, (*BIG, "nodePool"): "x", (f"{C}network", "zones"): 9},
         ("nodePools.a100.maxNodes", "models.qwen3-32b.nodePool", "network.zones")),
    ]  # fmt: skip
    for name, changes, words in cases:
        config = good()
        for key, value in changes.items():
            config = with_value(config, key, value)
        yield BadStack(name, dumped(config), words)


def _split_stacks() -> Iterator[BadStack]:
    workload = good("eks-prod-workload")
    cases: dict[str, tuple[Key, Any, tuple[str, ...]]] = {
        "a cluster that is not there": ((f"{C}infraStack",), "eks-prod-ifra", ("infraStack",)),
        "itself as the cluster": ((f"{C}infraStack",), "bad", ("infraStack",)),
        "another workload as the cluster": (
            (f"{C}infraStack",),
            "eks-prod-workload",
            ("makes no cluster",),
        ),
        "a cluster it describes again": ((f"{C}cluster",), {"version": "1.35"}, ("cluster",)),
        "pools of its own": ((f"{C}nodePools",), {}, ()),
        "another region": (("aws:region",), "us-east-1", ("aws:region",)),
        "models as a number": ((f"{C}models",), 5, ("models",)),
        "models as a list": ((f"{C}models",), ["qwen3-8b"], ("models",)),
        "a model without identity": (
            (f"{C}models", "other"),
            workload[f"{C}models"]["qwen3-8b"],
            ("models.other", "servingNamespaces"),
        ),
    }
    del cases["pools of its own"]  # an empty mapping counts as not set
    for name, (key, value, words) in cases.items():
        yield BadStack(f"split: {name}", dumped(with_value(workload, key, value)), words)


def _replaced(old: str, new: str) -> bytes:
    text = (STACKS / f"Pulumi.{GIVEN}.yaml").read_text(encoding="utf-8")
    assert old in text, f"{old!r} is no longer in {GIVEN}: point the case at another text"
    return text.replace(old, new, 1).encode("utf-8")


def _hostile_texts() -> Iterator[BadStack]:
    whole = (STACKS / f"Pulumi.{GIVEN}.yaml").read_bytes()
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1},' * 9}]\n" for i in range(1, 10))
    cases: dict[str, bytes] = {
        "empty": b"",
        "only a comment": b"# nothing\n",
        "a list": b"- config\n",
        "a word": b"config\n",
        "config is null": b"config:\n",
        "config is a list": b"config: [a]\n",
        "config is text": b"config: text\n",
        "config stands twice": whole + b"config: {}\n",
        "a key stands twice": _replaced("maxNodes: 4", "maxNodes: 4\n      maxNodes: 5"),
        "a pool stands twice": _replaced("    l40s:\n", "    a100: {}\n    l40s:\n"),
        "settings outside config": whole + b"coldstart:engine: {}\n",
        "two documents": whole + b"---\na: 1\n",
        "a tab": _replaced("      maxNodes: 4", "\tmaxNodes: 4"),
        "wrong indent": _replaced("      maxNodes: 4", "     maxNodes: 4"),
        "an open bracket": _replaced("[spot, on-demand]", "[spot, on-demand"),
        "an open quote": _replaced('"1.35"', '"1.35'),
        "an unknown tag": _replaced("maxNodes: 4", "maxNodes: !gpu 4"),
        "a Python tag": _replaced("maxNodes: 4", "maxNodes: !!python/object/apply:os.getcwd []"),
        "not a bool": _replaced("sharedFileSystem: true", "sharedFileSystem: !!bool perhaps"),
        "not a timestamp": _replaced("maxNodes: 4", "maxNodes: !!timestamp soon"),
        "not an int": _replaced("maxNodes: 4", "maxNodes: !!int four"),
        "an empty int": _replaced("maxNodes: 4", "maxNodes: !!int ''"),
        "not a float": _replaced("maxNodes: 4", "maxNodes: !!float x"),
        "binary": _replaced("maxNodes: 4", "maxNodes: !!binary aGVsbG8="),
        "a hex digit flood": _replaced("maxNodes: 4", "maxNodes: 0x" + "f" * 5000),
        "a digit flood": _replaced("maxNodes: 4", "maxNodes: " + "9" * 5000),
        "a date": _replaced("maxNodes: 4", "maxNodes: 2026-02-30"),
        "an alias": _replaced("    l40s:\n", "    other: &o {x: 1}\n    more: *o\n    l40s:\n"),
        "an alias of nothing": _replaced("maxNodes: 4", "maxNodes: *nothing"),
        "an alias of itself": b"config: &c\n  coldstart:models: *c\n",
        "a merge key": b"config:\n  <<: {a: 1}\n",
        "an alias bomb": ("config:\n  " + bomb.replace("\n", "\n  ")).encode(),
        "nested lists": b"config: " + b"[" * 700,
        "nested mappings": b"config: " + b"{a: " * 1500,
        "nested and closed": b"config:\n  coldstart:models: " + b"[" * 90 + b"]" * 90 + b"\n",
        "nested JSON": b"config:\n  coldstart:models: '" + b"[" * 90_000 + b"'\n",
        "broken JSON": b"config:\n  coldstart:models: '{\"a\": '\n",
        "JSON with NaN": _replaced("coldstart:storage:", "coldstart:engine: '{\"imageSize\": NaN}'"
                                   "\n  coldstart:storage:"),
        "numbers as keys": b"config: {1: 2, 1.5: 2, 2026-01-01: 3}\n",
        "a list as key": b"config: {[1, 2]: 3}\n",
        "null as key": b"config: {null: 3, '': 4}\n",
        "emoji as key": "config:\n  coldstart:🚀: 1\n  🚀: 2\n".encode(),
        "a line break in a key": b'config:\n  "coldstart:a\\nb": 1\n',
        "a cursor in a key": b'config:\n  "coldstart:a\\e[2Jb": 1\n',
        "a cursor in a value": _replaced("nodePool: l40s", 'nodePool: "\\e[2J\\a"'),
        "half a character": _replaced("nodePool: l40s", 'nodePool: "\\ud800"'),
        "right to left": _replaced("nodePool: l40s", 'nodePool: "\\u202el40s"'),
        "a zero byte": _replaced("maxNodes: 4", "maxNodes: \x004"),
        "a bell": _replaced("maxNodes: 4", "maxNodes: \x074"),
        "not UTF-8": whole + b"# \xff\xfe\n",
        "UTF-16": whole.decode().encode("utf-16"),
        "UTF-32": whole.decode().encode("utf-32"),
        "Latin-1": _replaced("a100:", "a100é:").decode().encode("latin-1"),
        "random bytes": bytes(range(256)) * 8,
        "a PNG": b"\x89PNG\r\n\x1a\n" + bytes(64),
        "10 MB of comment": b"#" * 10_000_000,
        "just over the limit": b"#" * 1_000_001,
        "a long key": b"config:\n  coldstart:" + b"k" * 20_000 + b": 1\n",
        "a long value": _replaced("nodePool: l40s", "nodePool: " + "v" * 20_000),
        "many wrong keys": b"config:\n" + b"".join(b"  coldstart:k%d: 1\n" % i for i in range(300)),
        "a shell": _replaced("nodePool: l40s", "nodePool: $(reboot)"),
        "markup": _replaced("nodePool: l40s", "nodePool: '[red]l40s[/red]'"),
        "a template": _replaced("nodePool: l40s", "nodePool: '{{ l40s }} ${l40s} %(l40s)s'"),
        "a path": _replaced("nodePool: l40s", "nodePool: ../../../etc/shadow"),
        "HTML": b"<!doctype html><html><body>404</body></html>\n",
        "JSON, cut": b'{"config": {"aws:region": "us-west-2"',
        "conflict markers": b"<<<<<<< HEAD\n" + whole + b"=======\n>>>>>>> other\n",
    }  # fmt: skip
    for name, content in cases.items():
        yield BadStack(f"hostile: {name}", content)
