"""A catalog model from the files of a Hugging Face repository that somebody put on this machine.

`config.json` is enough; with `model.safetensors.index.json` beside it the size of the checkpoint is
what it says, else it is computed from the architecture, and the model's `source` says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from coldstart.catalog.architecture import Architecture, architecture
from coldstart.catalog.entry import BITS, INT4_GROUP_BITS, Precision
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
SPARED = ("ignore", "ignored_layers", "modules_to_not_convert")
"""Where a configuration names what is not quantised; attention among it leaves the experts."""
METHODS = "fp8, mxfp4, gptq, awq or compressed-tensors (4 or 8 bit), modelopt with FP8"
DTYPES: dict[str, Precision] = {"bfloat16": "bf16", "float16": "fp16"}
PACKED: dict[tuple[int, str], Precision] = {
    (4, "int"): "int4",
    (8, "int"): "int8",
    (8, "float"): "fp8",
}
"""Precision by bits of a value and its type, as compressed-tensors names them."""


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
    found, stored = architecture(text, whole), _stored(whole, text)
    index = file.parent / INDEX
    if index.is_file():
        total, how = _index(index, shown.replace(CONFIG, INDEX)), f"{CONFIG} and {INDEX}"
    else:
        total, how = _bytes(found, stored), f"{CONFIG}, parameters and size computed from it"
        if text is not whole:
            how += " without a vision or audio tower"
    try:
        return _model(name, found, stored.precision, total, f"{how}, as given for {name}")
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "config"
        raise ModelFileError(f"{shown}: {key}: {first['msg']}") from None


def _in_project(file: Path, name: str) -> bool:
    return file.parent.parts[-3:] == (FOLDER, *name.split("/"))


def _model(name: str, found: Architecture, precision: Precision, total: int, source: str) -> Model:
    varied = found.window is not None or found.state_layers or found.full_layers < found.layers
    sizes: dict[Precision, int] = {precision: total}
    parameters = found.parameters
    if precision in ("bf16", "fp16"):
        derived: tuple[Precision, ...] = ("fp8", "int8", "int4")
        # What an index counts beyond the text part, such as a vision tower, stays in 16 bit.
        beside = max(0, total - 2 * parameters)
        sizes |= {p: _bytes(found, _Stored(p, BITS[p])) + beside for p in derived}
        parameters = total // 2
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
        native_precision=precision,
        weight_bytes=sizes,
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
        return _quantised(config)
    for holder in (text, whole):
        for key in ("dtype", "torch_dtype"):
            kind = holder.text(key)
            if kind and kind not in DTYPES:
                twice = "; engines compute in 16 bit, so save it in one of them"
                hint = twice if kind == "float32" else ""
                raise holder.fail(key, kind, f"one of {', '.join(DTYPES)}{hint}")
            if kind:
                return _Stored(DTYPES[kind], 16.0)
    return _Stored("bf16", 16.0)


def _quantised(config: Fields) -> _Stored:
    spared = [name for key in SPARED for name in config.texts(key) or ()]
    experts_only = any("attn" in name for name in spared)
    method = config.text("quant_method").replace("_marlin", "")
    algorithm = config.text("quant_algo")
    if method == "fp8" or (method == "modelopt" and algorithm == "FP8"):
        return _Stored("fp8", BITS["fp8"], experts_only)
    if method == "mxfp4":
        return _Stored("mxfp4", BITS["mxfp4"], experts_only=True)
    if method in ("gptq", "awq"):
        bits = config.count("bits", "w_bit")
        if bits not in (4, 8):
            raise config.fail("bits", bits, "4 or 8")
        return _grouped(config, PACKED[bits, "int"], experts_only)
    if method == "compressed-tensors":
        weights, precision = _compressed(config)
        return _grouped(weights, precision, experts_only)
    raise config.fail("quant_method", f"{method} {algorithm}".strip(), METHODS)


def _compressed(config: Fields) -> tuple[Fields, Precision]:
    """The weights of the first group, and the precision that all groups have."""
    groups = config.inner("config_groups")
    found = [groups.inner(name) for name in groups.values] if groups else []
    kinds: list[tuple[Fields, Precision]] = []
    for group in found:
        weights = group.inner("weights") if group else None
        if weights is None:
            continue
        bits, kind = weights.count("num_bits"), weights.text("type", "int")
        if (bits, kind) not in PACKED:
            raise weights.fail("num_bits", f"{bits} {kind}", "4 int, 8 int or 8 float")
        kinds.append((weights, PACKED[bits, kind]))
    if not kinds:
        raise config.missing("config_groups.<group>.weights.num_bits")
    mixed = {precision for _, precision in kinds}
    if len(mixed) > 1:
        raise config.fail("config_groups", " and ".join(sorted(mixed)), "one precision in all")
    return kinds[0]


def _grouped(config: Fields, precision: Precision, experts_only: bool) -> _Stored:
    """With the size of a group where the configuration says it; -1 is a group for each column."""
    group = None if config.get("group_size") == -1 else config.found("group_size")
    bits = 4 + INT4_GROUP_BITS / group if precision == "int4" and group else BITS[precision]
    return _Stored(precision, bits, experts_only)


def _index(path: Path, shown: str) -> int:
    """Bytes of the checkpoint."""
    found = read_json(path, shown, MOST_INDEX_BYTES)
    metadata = found.inner("metadata")
    total = metadata.get("total_size") if metadata else None
    if metadata is None or total is None:
        raise ModelFileError(
            f"{shown}: metadata.total_size: missing: expected bytes of all weights"
        )
    number = isinstance(total, int | float) and not isinstance(total, bool)
    if not number or not 0 < total <= MOST_CHECKPOINT_BYTES or total != int(total):
        raise metadata.fail("total_size", total, f"bytes from 1 to {MOST_CHECKPOINT_BYTES}")
    return int(total)
