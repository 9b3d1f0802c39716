"""From a stack file, or the engine's view of it, to a `StackSpec`, with every problem at once."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from coldstart.spec.model import Layer, StackSpec
from coldstart.spec.problems import (
    Problem,
    SpecError,
    did_you_mean,
    dotted,
    from_pydantic,
    line_of,
    quoted,
)
from coldstart.spec.references import reference_problems

PROJECT = "coldstart"
MAX_FILE_BYTES = 1_000_000
"""A stack file is written by hand; anything larger is not one."""

SECRET_KEYS = ("apiKey", "huggingFaceToken")
_FROM_INFRA = ("network", "cluster", "registry", "storage", "nodePools", "environment")
_PULUMI_KEYS = ("config", "encryptedkey", "encryptionsalt", "environment", "secretsprovider")
"""What the engine itself reads at the top of a stack file."""
_SET_ELSEWHERE = {"stack": "it is the stack's own name", "region": "write aws:region"}
"""Keys that the engine knows under other names."""
_STACK_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
"""What the engine accepts as a stack's name."""
Lines = Mapping[str, int]


def stack_file(root: Path, stack: str) -> Path:
    """Where the file of `stack` lies."""
    return root / "stacks" / f"Pulumi.{stack}.yaml"


def load_stack(root: Path, stack: str) -> StackSpec:
    """Read, parse and check the file of `stack`.

    Raises SpecError naming every problem found, or the stacks that exist when this one does not.
    """
    path = stack_file(root, stack)
    shown = path.relative_to(root).as_posix()
    if not _exists(path, stack):
        files = (root / "stacks").glob("Pulumi.*.yaml")
        known = [file.name[len("Pulumi.") : -len(".yaml")] for file in files]
        raise SpecError(shown, [Problem("", f"there is no such file{did_you_mean(stack, known)}")])
    config, lines = read_config(path, shown)
    return parse_config(config, stack=stack, file=shown, root=root, lines=lines)


def _exists(path: Path, stack: str) -> bool:
    return _STACK_NAME.fullmatch(stack) is not None and path.is_file()


def read_config(path: Path, shown: str) -> tuple[dict[str, Any], dict[str, int]]:
    """The `config:` mapping of a stack file, and the line of every dotted path in it."""
    problems: list[Problem] = []
    lines: dict[str, int] = {}
    try:
        node = _compose(path)
        whole = _plain(node, (), lines, problems, set()) if node else {}
    except _UnreadableError as error:
        raise SpecError(shown, [error.problem]) from None
    except RecursionError:
        raise SpecError(shown, [Problem("", "is not YAML: nested too deeply")]) from None
    config = whole.get("config") if isinstance(whole, dict) else None
    if isinstance(whole, dict):
        problems += [
            Problem(
                key,
                f"is not a key of a stack file's top level{did_you_mean(key, _PULUMI_KEYS)}; "
                "settings stand below config:",
            )
            for key in whole
            if key not in _PULUMI_KEYS
        ]
    if not isinstance(config, dict):
        problems.append(Problem("", "has no config: mapping; see stacks/Pulumi.eks-dev.yaml"))
        config = {}
    if problems:
        raise SpecError(shown, [Problem(_short(p.path), p.message, p.line) for p in problems])
    return config, {_short(path): line for path, line in lines.items()}


def _short(path: str) -> str:
    """`config.coldstart:nodePools.a100` as `nodePools.a100`, the path every message uses."""
    return path.removeprefix("config.").removeprefix(f"{PROJECT}:")


class _UnreadableError(Exception):
    def __init__(self, message: str, line: int | None = None) -> None:
        self.problem = Problem("", message, line)


def _compose(path: Path) -> yaml.Node | None:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise _UnreadableError(
                f"has {size} bytes; the limit is {MAX_FILE_BYTES} for a stack file"
            )
        return yaml.compose(path.read_bytes().decode("utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise _UnreadableError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise _UnreadableError(f"is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except yaml.MarkedYAMLError as error:
        text = " ".join(part for part in (error.context, error.problem) if part)
        mark = error.problem_mark
        raise _UnreadableError(f"is not YAML: {text}", mark.line + 1 if mark else None) from None
    except yaml.reader.ReaderError as error:
        raise _UnreadableError(
            f"is not YAML: {error.reason} at character {error.position}"
        ) from None


def _plain(
    node: yaml.Node,
    loc: tuple[str | int, ...],
    lines: dict[str, int],
    problems: list[Problem],
    seen: set[int],
) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(dotted(loc), line)
    if id(node) in seen:
        problems.append(Problem(dotted(loc), "is a YAML alias; write the value out", line))
        return None
    if not isinstance(node, yaml.ScalarNode):
        seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        return [
            _plain(child, (*loc, i), lines, problems, seen) for i, child in enumerate(node.value)
        ]
    if not isinstance(node, yaml.MappingNode):
        try:
            return yaml.SafeLoader("").construct_object(node)
        except yaml.MarkedYAMLError as error:
            problems.append(Problem(dotted(loc), f"cannot be read: {error.problem}", line))
        except (ValueError, LookupError, AttributeError):
            kind = node.tag.rpartition(":")[2]
            problems.append(Problem(dotted(loc), f"{quoted(node.value)} is no {kind}", line))
        return None
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else None
        where = key_node.start_mark.line + 1
        if key is None:
            problems.append(Problem(dotted(loc), "has a key that is not text", where))
            continue
        if key in found:
            problems.append(Problem(dotted((*loc, key)), "stands twice in the file", where))
        lines[dotted((*loc, key))] = where
        found[key] = _plain(value_node, (*loc, key), lines, problems, seen)
    return found


def parse_config(
    config: Mapping[str, Any],
    *,
    stack: str,
    file: str,
    root: Path,
    lines: Lines | None = None,
) -> StackSpec:
    """Build the spec from configuration keys (`coldstart:nodePools`, `aws:region`, …).

    Values may be JSON text, as the engine hands objects to a program; an empty one counts as not
    set, which is what the engine gives for a key the file leaves out. With `infraStack` the
    cluster's part is taken from that stack's file. Raises SpecError.
    """
    lines = lines or {}
    data, problems = _settings(config, stack)
    infra = data.get("infraStack")
    if isinstance(infra, str) and not problems:
        data = _with_infra(data, infra, root, problems)
    problems += _layer_problems(data)
    spec: StackSpec | None = None
    try:
        spec = StackSpec.model_validate(data)
    except ValidationError as error:
        for problem in from_pydantic(error.errors(include_url=False), data, StackSpec):
            path = "aws:region" if problem.path == "region" else problem.path
            problems.append(Problem(path, problem.message))
    unknown, local = reference_problems(data, root)
    problems += unknown
    if problems or spec is None:
        raise SpecError(file, [_placed(problem, lines) for problem in problems])
    spec._lines, spec._local_models = lines, local
    return spec


def _settings(config: Mapping[str, Any], stack: str) -> tuple[dict[str, Any], list[Problem]]:
    """The project's own keys without their namespace, and the problems of all keys."""
    data: dict[str, Any] = {"stack": stack}
    if config.get("aws:region") is not None:
        data["region"] = config["aws:region"]
    problems: list[Problem] = []
    for key, value in config.items():
        namespace, _, name = key.partition(":")
        problem = _key_problem(key, value)
        if problem is not None:
            problems.append(problem)
        elif namespace == PROJECT and name not in SECRET_KEYS:
            decoded = _decoded(value)
            if decoded not in ("", [], {}):
                data[name] = decoded
    return data, problems


def _key_problem(key: str, value: Any) -> Problem | None:
    namespace, _, name = key.partition(":")
    if not name:
        return Problem(key, f"has no namespace; write {PROJECT}:{key}")
    if namespace != PROJECT:
        near = difflib.get_close_matches(namespace, [PROJECT], cutoff=0.75)
        meant = f"is of another namespace; did you mean {PROJECT}:{name}?"
        return Problem(key, meant) if near else None
    if name in SECRET_KEYS and not _is_secret(value):
        return Problem(name, f"must be encrypted: pulumi config set --secret {PROJECT}:{name}")
    if name in _SET_ELSEWHERE:
        return Problem(name, f"is not set here; {_SET_ELSEWHERE[name]}")
    return None


def _is_secret(value: object) -> bool:
    return isinstance(value, Mapping) and "secure" in value


def _decoded(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _with_infra(
    data: dict[str, Any], infra: str, root: Path, problems: list[Problem]
) -> dict[str, Any]:
    """The workload stack's own keys on top of the cluster its infra stack describes."""
    repeated = [key for key in _FROM_INFRA if key in data]
    problems += [
        Problem(key, f"belongs to the stack {infra} that makes the cluster; remove it here")
        for key in repeated
    ]
    path = stack_file(root, infra)
    shown = path.relative_to(root).as_posix()
    if not _exists(path, infra):
        problems.append(Problem("infraStack", f"there is no {shown}"))
        return data
    base, lines = read_config(path, shown)
    if f"{PROJECT}:infraStack" in base:
        problems.append(
            Problem("infraStack", f"{shown} makes no cluster either; name the stack that does")
        )
        return data
    parse_config(base, stack=infra, file=shown, root=root, lines=lines)
    inherited = {
        key.partition(":")[2]: _decoded(value)
        for key, value in base.items()
        if key.partition(":")[0] == PROJECT and key.partition(":")[2] not in SECRET_KEYS
    }
    granted = inherited.pop("servingNamespaces", [])
    inherited.pop("layers", None)
    models = data.get("models")
    for model in models if isinstance(models, Mapping) else ():
        if model not in granted:
            problems.append(
                Problem(
                    f"models.{model}",
                    f"has no storage identity: add it to servingNamespaces in "
                    f"{shown} and run pulumi up there first; granted: "
                    f"{', '.join(map(str, granted)) or 'none'}",
                )
            )
    if base.get("aws:region") != data.get("region"):
        problems.append(
            Problem(
                "aws:region",
                f"{quoted(data.get('region'))} differs from the cluster's "
                f"{quoted(base.get('aws:region'))} in {shown}",
            )
        )
    return {**inherited, **data}


def _layer_problems(data: Mapping[str, Any]) -> list[Problem]:
    layers = data.get("layers", [Layer.INFRA.value, Layer.WORKLOAD.value])
    if not isinstance(layers, list) or not layers:
        return [Problem("layers", "must list infra, workload or both")]
    problems: list[Problem] = []
    infra, workload = Layer.INFRA.value in layers, Layer.WORKLOAD.value in layers
    if workload and not infra and not data.get("infraStack"):
        problems.append(
            Problem(
                "infraStack",
                "is required when layers is [workload]: the stack that made the cluster",
            )
        )
    if infra and data.get("infraStack"):
        problems.append(
            Problem("infraStack", "is for layers: [workload]; this stack makes its own cluster")
        )
    if infra and not workload and data.get("models"):
        problems.append(
            Problem(
                "models",
                "are for the workload layer; an infra stack grants "
                "storage identities with servingNamespaces",
            )
        )
    if workload and data.get("servingNamespaces"):
        problems.append(
            Problem(
                "servingNamespaces",
                "is for a stack with layers: [infra]; here the models are the namespaces",
            )
        )
    if workload and not data.get("models"):
        problems.append(Problem("models", "is required: name at least one model to serve"))
    if not data.get("nodePools"):
        problems.append(Problem("nodePools", "is required: name at least one pool of GPU nodes"))
    return problems


def _placed(problem: Problem, lines: Lines) -> Problem:
    return Problem(problem.path, problem.message, line_of(problem.path, lines))
