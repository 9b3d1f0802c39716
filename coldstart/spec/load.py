"""From a stack file, or the engine's view of it, to a `StackSpec`, with every problem at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from coldstart.spec.model import Layer, StackSpec
from coldstart.spec.problems import Problem, SpecError, did_you_mean, dotted, from_pydantic
from coldstart.spec.references import reference_problems

PROJECT = "coldstart"
MAX_FILE_BYTES = 1_000_000
"""A stack file is written by hand; anything larger is not one."""

SECRET_KEYS = ("apiKey", "huggingFaceToken")
_FROM_INFRA = ("network", "cluster", "registry", "storage", "nodePools", "environment")
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
    if not path.is_file():
        known = [p.name[len("Pulumi.") : -len(".yaml")] for p in path.parent.glob("Pulumi.*.yaml")]
        raise SpecError(shown, [Problem("", f"there is no such file{did_you_mean(stack, known)}")])
    config, lines = read_config(path, shown)
    return parse_config(config, stack=stack, file=shown, root=root, lines=lines)


def read_config(path: Path, shown: str) -> tuple[dict[str, Any], dict[str, int]]:
    """The `config:` mapping of a stack file, and the line of every dotted path in it."""
    data = path.read_bytes()
    if len(data) > MAX_FILE_BYTES:
        raise SpecError(
            shown,
            [Problem("", f"has {len(data)} bytes; the limit is {MAX_FILE_BYTES} for a stack file")],
        )
    try:
        node = yaml.compose(data.decode("utf-8"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise SpecError(
            shown, [Problem("", f"is not UTF-8 text: {error.reason} at byte {error.start}")]
        ) from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        text = getattr(error, "problem", None) or "nested too deeply"
        line = mark.line + 1 if mark else None
        raise SpecError(shown, [Problem("", f"is not YAML: {text}", line)]) from None
    problems: list[Problem] = []
    lines: dict[str, int] = {}
    whole = _plain(node, (), lines, problems, set()) if node else {}
    config = whole.get("config") if isinstance(whole, dict) else None
    if not isinstance(config, dict):
        problems.append(Problem("", "has no config: mapping; see stacks/Pulumi.eks-dev.yaml"))
    if problems:
        raise SpecError(shown, problems)
    assert isinstance(config, dict)  # noqa: S101
    prefix = f"config.{PROJECT}:"
    return config, {
        (
            path.removeprefix(prefix) if path.startswith(prefix) else path.removeprefix("config.")
        ): line
        for path, line in lines.items()
    }


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
        except (yaml.YAMLError, ValueError) as error:
            problems.append(Problem(dotted(loc), f"cannot be read: {error}", line))
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
    data: dict[str, Any] = {"stack": stack, "region": config.get("aws:region")}
    if data["region"] is None:
        del data["region"]
    problems: list[Problem] = []
    for key, value in config.items():
        namespace, _, name = key.partition(":")
        if not name:
            problems.append(Problem(key, f"has no namespace; write {PROJECT}:{key}"))
        elif namespace == PROJECT and name in SECRET_KEYS:
            if not (isinstance(value, str | Mapping) and _is_secret(value)):
                problems.append(
                    Problem(name, f"must be encrypted: pulumi config set --secret {PROJECT}:{name}")
                )
        elif namespace == PROJECT and (decoded := _decoded(value)) not in ("", [], {}):
            data[name] = decoded
    for name in ("stack", "region"):
        if f"{PROJECT}:{name}" in config:
            problems.append(
                Problem(
                    name,
                    "is not set here"
                    + (
                        "; write aws:region" if name == "region" else "; it is the stack's own name"
                    ),
                )
            )
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
    problems += reference_problems(data)
    if problems or spec is None:
        raise SpecError(file, [_placed(problem, lines) for problem in problems])
    return spec


def _is_secret(value: str | Mapping[str, Any]) -> bool:
    return isinstance(value, Mapping) and "secure" in value


def _decoded(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return json.loads(value)
        except ValueError:
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
    if not path.is_file():
        problems.append(Problem("infraStack", f"there is no {path.relative_to(root)}"))
        return data
    base, _ = read_config(path, path.relative_to(root).as_posix())
    inherited = {
        key.partition(":")[2]: _decoded(value)
        for key, value in base.items()
        if key.partition(":")[0] == PROJECT and key.partition(":")[2] not in SECRET_KEYS
    }
    granted = inherited.pop("servingNamespaces", [])
    inherited.pop("layers", None)
    for model in data.get("models") or {}:
        if isinstance(granted, list) and model not in granted:
            problems.append(
                Problem(
                    f"models.{model}",
                    f"has no storage identity: add it to servingNamespaces in "
                    f"{path.relative_to(root)} and run pulumi up there first; granted: "
                    f"{', '.join(map(str, granted)) or 'none'}",
                )
            )
    if base.get("aws:region") != data.get("region"):
        problems.append(
            Problem(
                "aws:region",
                f'"{data.get("region")}" differs from the cluster\'s '
                f'"{base.get("aws:region")}" in {infra}',
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
    path = problem.path
    while path and path not in lines:
        path = path.rpartition("[")[0] if path.endswith("]") else path.rpartition(".")[0]
    return Problem(problem.path, problem.message, lines.get(path) if path else None)
