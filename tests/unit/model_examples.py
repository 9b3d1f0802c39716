"""Published models for tests: from the catalog, or from their config.json."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from coldstart.catalog import Model, load
from coldstart.catalog.hugging_face import read_model

DATA = Path(__file__).parent / "data"
CONFIGS: dict[str, dict[str, Any]] = yaml.safe_load(
    (DATA / "model_configs.yaml").read_text(encoding="utf-8")
)


def put(folder: Path, config: Any, index: Any = None) -> Path:
    """A repository's files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if index is not None:
        text = json.dumps(index)
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    return folder


@cache
def published(name: str) -> Model:
    """The model `name`, from the catalog where it has it."""
    known = load().models.get(name)
    if known is not None:
        return known
    with TemporaryDirectory() as folder:
        return read_model(put(Path(folder) / name, CONFIGS[name]), name)


QWEN2_VL_72B = Model.model_validate(
    {
        **load().model("Qwen/Qwen3-32B").model_dump(),
        "name": "Qwen/Qwen2-VL-72B-Instruct",
        "parameters_billion": 73.4,
        "active_parameters_billion": 73.4,
        "layers": 80,
        "hidden_size": 8192,
        "intermediate_size": 29568,
        "vocabulary_size": 152064,
        "weight_bytes": {"bf16": 146_800_000_000},
        "source": "https://huggingface.co/Qwen/Qwen2-VL-72B-Instruct (config.json)",
    }
)
"""The model of seed 002; a vision tower is in its size, not in its shape."""
