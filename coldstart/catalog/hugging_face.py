"""A catalog model from the files of a Hugging Face repository that somebody put on this machine.

`config.json` is enough; with `model.safetensors.index.json` beside it the size of the checkpoint is
what it says, else it is computed from the architecture, and the model's `source` says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from coldstart.catalog.architecture import Architecture, architecture
from coldstart.catalog.entry import Precision
from coldstart.catalog.model_files import Fields, ModelFileError, read_json
from coldstart.catalog.models import Model

__all__ = ["FOLDER", "ModelFileError", "local_model", "read_model"]


@dataclass(frozen=True, slots=True)
class _Stored:
    """How a checkpoint keeps its weights; `experts_only` when the rest stays in 16 bit."""

    precision: Precision
    bits: float
    experts_only: bool = False


FOLDER = "models"
"""Below the project's root: `models/<organisation>/<name>/config.json`."""
CONFIG, INDEX = "config.json", "model.safetensors.index.json"
MOST_CONFIG_BYTES, MOST_INDEX_BYTES = 1_000_000, 64_000_000
"""The longest published ones have some 60 kB and 30 MB."""
MOST_CHECKPOINT_BYTES = 10 * 10**12
SHARD_BYTES = 5 * 10**9
"""What transformers' save_pretrained puts into one file unless told otherwise."""
INT4_GROUP, INT4_GROUP_BITS = 128, 20
"""Values that share a scale of 16 bit and a zero point of 4 unless told otherwise (AWQ, GPTQ)."""
MXFP4_BITS = 4 + 8 / 32
"""A value and its part of the scale of 32 (OCP Microscaling Formats)."""
BITS = {
    "fp8": 8.0,
    "int8": 8.0,
    "int4": 4 + INT4_GROUP_BITS / INT4_GROUP,
    "mxfp4": MXFP4_BITS,
}
"""Bits a parameter takes; others take 16."""
SPARED = ("ignore", "ignored_layers", "modules_to_not_convert")
"""Where a configuration names what is not quantised; attention among it leaves the experts."""
METHODS = "fp8, mxfp4, gptq, awq or compressed-tensors (4 or 8 bit), modelopt with FP8"


def local_model(root: Path, repository: str) -> Model | None:
    """The model of `repository` from below `root`, None where its config.json is not there."""
    folder = root / FOLDER / repository
    return read_model(folder, repository) if (folder / CONFIG).is_file() else None


def read_model(path: Path, name: str | None = None) -> Model:
    """The model whose `config.json` is `path`, or lies in it.

    `name` is the repository, else the last two folders. Raises ModelFileError naming file, key,
    value and what is expected.
    """
    file = path / CONFIG if path.is_dir() or path.suffix != ".json" else path
    name = name or "/".join(file.resolve().parent.parts[-2:])
    shown = f"{FOLDER}/{name}/{CONFIG}" if _in_project(file, name) else str(file)
    whole = read_json(file, shown, MOST_CONFIG_BYTES)
    text = whole.inner("text_config") or whole.inner("llm_config") or whole
    found = architecture(text)
    stored = _stored(whole, text)
    precision = stored.precision
    index = file.parent / INDEX
    size = _index(index, shown.replace(CONFIG, INDEX)) if index.is_file() else None
    computed = _bytes(found, stored)
    total, files = size if size else (computed, -(-computed // SHARD_BYTES))
    how = f"{CONFIG} and {INDEX}" if size else f"{CONFIG}, parameters and size computed from it"
    if text is not whole and not size:
        how += " without a vision or audio tower"
    parameters = found.parameters
    if precision in ("bf16", "fp16") and size:
        parameters = total // 2
    try:
        return _model(
            name, found, precision, parameters, total, files, f"{how}, as given for {name}"
        )
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "config"
        raise ModelFileError(f"{shown}: {key}: {first['msg']}") from None


def _in_project(file: Path, name: str) -> bool:
    return file.parent.parts[-3:] == (FOLDER, *name.split("/"))


def _model(
    name: str,
    found: Architecture,
    precision: Precision,
    parameters: int,
    total: int,
    files: int,
    source: str,
) -> Model:
    varied = found.window is not None or found.state_layers or found.full_layers < found.layers
    sizes: dict[Precision, int] = {precision: total}
    if precision in ("bf16", "fp16"):
        derived: tuple[Precision, ...] = ("fp8", "int8", "int4")
        sizes |= {p: _bytes(found, _Stored(p, BITS[p])) for p in derived}
    return Model(
        name=name,
        parameters_billion=parameters / 1e9,
        active_parameters_billion=min(found.active, parameters) / 1e9,
        layers=found.layers,
        kv_heads=found.kv_heads,
        attention_heads=found.heads,
        head_dim=found.head_dim,
        hidden_size=found.hidden,
        intermediate_size=found.inner,
        vocabulary_size=found.vocabulary,
        context_tokens=found.context,
        kv_latent_dim=found.latent,
        sliding_window_tokens=found.window,
        full_attention_layers=found.full_layers if varied else None,
        state_layers=found.state_layers,
        state_bytes_per_layer=found.state_bytes,
        experts=found.experts,
        experts_per_token=found.experts_per_token,
        expert_intermediate_size=found.expert_inner,
        shared_experts=found.shared_experts,
        native_precision=precision,
        weight_bytes=sizes,
        weight_files=files,
        gated=False,
        license="not in config.json",
        revision=None,
        source=source,
    )


def _bytes(found: Architecture, stored: _Stored) -> int:
    """Bytes of all weights: embeddings, head and what quantisation spares stay in 16 bit."""
    apart = stored.experts_only and found.in_experts
    small = found.in_experts if apart else found.parameters - found.table
    return round(small * stored.bits / 8) + 2 * (found.parameters - small)


def _stored(whole: Fields, text: Fields) -> _Stored:
    config = whole.inner("quantization_config") or text.inner("quantization_config")
    if config is not None:
        spared = [name for key in SPARED for name in config.texts(key) or ()]
        precision, group = _quantised(config)
        bits = 4 + INT4_GROUP_BITS / group if precision == "int4" and group else BITS[precision]
        apart = precision == "mxfp4" or any("attn" in name for name in spared)
        return _Stored(precision, bits, apart)
    key = "dtype" if text.get("dtype") or whole.get("dtype") else "torch_dtype"
    holder = text if text.get(key) is not None else whole
    kind = holder.text(key, "bfloat16")
    known: dict[str, Precision] = {"bfloat16": "bf16", "float16": "fp16", "float32": "bf16"}
    if kind not in known:
        raise holder.fail(key, kind, f"one of {', '.join(known)}")
    return _Stored(known[kind], 16.0)


def _quantised(config: Fields) -> tuple[Precision, int | None]:
    """Precision and the values that share a scale, None where the configuration does not say."""
    method = config.text("quant_method").replace("_marlin", "")
    if method == "fp8" or method == "mxfp4":
        return method, None
    if method in ("gptq", "awq"):
        bits = config.count("bits", "w_bit")
        if bits not in (4, 8):
            raise config.fail("bits", bits, "4 or 8")
        return "int4" if bits == 4 else "int8", _group(config)
    if method == "compressed-tensors":
        return _compressed(config)
    algorithm = config.text("quant_algo")
    if method == "modelopt" and algorithm == "FP8":
        return "fp8", None
    raise config.fail("quant_method", f"{method} {algorithm}".strip(), METHODS)


def _compressed(config: Fields) -> tuple[Precision, int | None]:
    groups = config.inner("config_groups")
    group = groups.inner(next(iter(groups.values))) if groups and groups.values else None
    weights = group.inner("weights") if group else None
    if weights is None:
        raise config.missing("config_groups.<group>.weights.num_bits")
    bits, kind = weights.count("num_bits"), weights.text("type", "int")
    table: dict[tuple[int, str], Precision] = {
        (4, "int"): "int4",
        (8, "int"): "int8",
        (8, "float"): "fp8",
    }
    if (bits, kind) not in table:
        raise weights.fail("num_bits", f"{bits} {kind}", "4 int, 8 int or 8 float")
    return table[bits, kind], _group(weights)


def _group(config: Fields) -> int | None:
    """The group size; -1 is one group for each column."""
    return None if config.get("group_size") == -1 else config.found("group_size")


def _index(path: Path, shown: str) -> tuple[int, int]:
    """Bytes of the checkpoint and its number of files."""
    found = read_json(path, shown, MOST_INDEX_BYTES)
    metadata = found.inner("metadata")
    total = metadata.get("total_size") if metadata else None
    if metadata is None or total is None:
        raise ModelFileError(
            f"{shown}: metadata.total_size: missing: expected bytes of all weights"
        )
    whole = isinstance(total, int | float) and not isinstance(total, bool) and total == int(total)
    if not whole or not 0 < total <= MOST_CHECKPOINT_BYTES:
        raise metadata.fail("total_size", total, f"bytes from 1 to {MOST_CHECKPOINT_BYTES}")
    names = found.inner("weight_map")
    files = {str(file) for file in names.values.values()} if names else set()
    if not files:
        raise ModelFileError(f"{shown}: weight_map: missing: expected a file for every tensor")
    return int(total), len(files)
