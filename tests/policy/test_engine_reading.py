"""How an engine is recognised and its command line read, whoever wrote it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from policies.manifests import resource_of
from policies.reading.engine_names import removed
from policies.reading.engines import Engine, engines_of
from policies.reading.scalers import metrics_in
from policies.reading.values import NotYetKnown, Unknown
from policies.reading.workloads import pods_of


def _engines(**container: Any) -> list[Engine]:
    spec = {"containers": [{"name": "engine", "image": "example.com/build:1", **container}]}
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
    return [engine for pod in pods_of(resource_of(document)) for engine in engines_of(pod)]


def _one(**container: Any) -> Engine:
    (engine,) = _engines(**container)
    return engine


@pytest.mark.parametrize(
    "container",
    [
        {"image": "vllm/vllm-openai:v0.33.0", "args": ["--model", "/m", "--port", 8000.0]},
        {"command": ["vllm", "serve", "/m"], "args": ["--port=8000"]},
        {"command": ["/usr/local/bin/vllm", "serve"], "args": ["/m", "--port=8000"]},
        {"command": ["python3", "-m", "vllm.entrypoints.openai.api_server", "--model=/m"]
         , "args": ["--port", "8000"]},
        {"command": ["/bin/sh", "/start.sh"], "args": ["vllm", "serve", "/m", "--port=8000"]},
        {"command": ["sh", "-c"], "args": ["exec vllm serve /m --port 8000 2>&1 | tee log"]},
        {"command": ["bash", "-exc", "# don't\nsleep 1; vllm serve /m \\\n --port=8000 &\nwait"]},
        {"command": ["bash", "-c", "export A='x; y'\nvllm serve \"$M\" --port=${PORT}"],
         "env": [{"name": "M", "value": "/m"}, {"name": "PORT", "value": "8000"}]},
        {"command": ["vllm", "serve", "$(M)", "--port=8000"],
         "env": [{"name": "M", "value": "/m"}]},
    ],
)  # fmt: skip
def test_an_engine_is_found_however_it_is_started(container: dict[str, Any]):
    engine = _one(**container)
    assert engine.model == "/m" and engine.number("port") == 8000


@pytest.mark.parametrize(
    "container",
    [
        {"image": "vllm/vllm-openai:v0.33.0", "command": ["python3", "/scripts/fetch.py"]},
        {"image": "vllm/vllm-openai:v0.33.0", "command": ["sleep", "infinity"]},
        {"image": "lmsysorg/sglang:v0.5.5", "command": ["python3", "-m", "sglang.launch_server"]},
        {"image": "ghcr.io/huggingface/text-generation-inference:3.3", "args": ["--model-id=a/b"]},
        {"command": ["vllm-router", "--port=8000"]},
        {"command": ["sh", "-c", "# vllm serve /m\nsleep 5"]},
    ],
)
def test_what_is_no_engine_is_left_alone(container: dict[str, Any]):
    assert _engines(**container) == []


def test_flags_read_alike_with_dashes_underscores_and_short_names():
    engine = _one(
        command=["vllm", "serve", "/m", "-tp", "4", "--max_model_len", "-1", "--enforce-eager"]
    )
    assert engine.number("tensor-parallel-size") == 4
    assert engine.flags["max-model-len"] == "-1" and engine.flags["enforce-eager"] is None


@pytest.mark.parametrize("words", [["--config=/etc/v.yaml"], ["$(EXTRA)"], ["--x", "${MORE}"]])
def test_a_flag_that_may_come_from_elsewhere_is_not_called_missing(words: list[str]):
    assert not _one(command=["vllm", "serve", "/m", *words]).tells_all


def test_an_unknown_argument_leaves_the_engine_undecided():
    with pytest.raises(NotYetKnown):
        _engines(command=["vllm", "serve", Unknown(("args", "0"))])
    with pytest.raises(NotYetKnown):
        _engines(
            command=["vllm", "serve", "$(M)"], env=[{"name": "M", "value": Unknown(("env", "0"))}]
        )


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("vllm/vllm-openai:v0.9.0.1", (0, 9)),
        ("registry:5000/vllm/vllm-openai:v0.33.0-x86_64@sha256:ab", (0, 33)),
        ("vllm/vllm-openai@sha256:ab", None),
        ("registry:5000/vllm/vllm-openai", None),
        ("example.com/engine:v1.2.3", None),
    ],
)
def test_the_version_comes_from_the_tag_of_a_vllm_image(image: str, version: Any):
    assert _one(image=image, command=["vllm", "serve", "/m"]).version == version


def test_an_unreadable_script_is_read_as_far_as_it_goes():
    assert _one(command=["sh", "-c", "vllm serve /m --chat-template 'open"]).model == "/m"
    assert _engines(command=["sh", "-c", "'" * 60_000]) == []


@pytest.mark.parametrize(
    ("query", "metrics"),
    [
        ('sum by (pod) (rate(a:b_total{x="c_d"}[5m])) > bool 1e3', ["a:b_total"]),
        ("sum(up) or vector(0)", ["up"]),
        ("avg_over_time(queue[1m] offset 5m) and on (pod) ready", ["queue", "ready"]),
        ("1 + 2", []),
    ],
)
def test_the_metrics_of_a_query_are_told_from_its_functions(query: str, metrics: list[str]):
    assert metrics_in(query) == metrics


@pytest.mark.parametrize("kind", ["flags", "variables", "metrics"])
def test_every_name_that_is_gone_says_since_when_and_what_instead(kind: str):
    assert len(removed(kind)) >= 3
    for item in removed(kind).values():
        assert item.gone > (0, 5) and item.instead and not re.search(r"[.\s]$", item.instead)


def test_a_variable_that_would_fill_the_memory_stays_a_reference():
    long = {"name": "LONG", "value": "x" * 1_000}
    assert _one(command=["vllm", "serve", "$(LONG)"], env=[long]).model == "x" * 1_000
    often = _one(
        command=["vllm", "serve", "/m", "--served-model-name", "$(LONG)" * 100], env=[long]
    )
    assert often.value("served-model-name") == "$(LONG)" * 100


def test_empty_lines_of_a_script_take_no_comment_with_them():
    script = "\n" * 20 + "  # don't\n\n\tvllm serve /m  # 'x\n"
    assert _one(command=["sh", "-c", script]).model == "/m"
