"""Which layers of a `config.json` look at all tokens, at a window of them, or keep a state."""

from __future__ import annotations

from collections.abc import Sequence

from coldstart.catalog.model_files import Fields

FULL = ("full_attention", "attention", "*")
SLIDING = ("sliding_attention", "chunked_attention")
STATE = ("linear_attention", "mamba", "mamba2", "M")
SPARSE = ("moe", "E")
NEITHER = ("mlp", "-", *SPARSE)
EVERY = {"gemma2": 2, "gpt_oss": 2, "cohere2": 4, "llama4": 4, "gemma3": 6}
"""Every which layer looks at all tokens when the configuration does not say (defaults of
transformers' configuration classes)."""
WINDOWS = ("sliding_window", "attention_chunk_size")


def model_kind(config: Fields) -> str:
    """The `model_type`; the text part of a multimodal model is the same kind."""
    return config.text("model_type").removesuffix("_text")


def count_of(kinds: Sequence[str], wanted: Sequence[str]) -> int:
    """How many of `kinds` are among `wanted`."""
    return sum(kind in wanted for kind in kinds)


def layer_kinds(config: Fields, layers: int) -> list[str]:
    """The kind of every layer, by whichever of the known ways the configuration tells it."""
    pattern = config.text("hybrid_override_pattern")
    key = "layer_types" if config.get("layer_types") is not None else "layers_block_type"
    kinds = config.texts(key)
    if kinds is None and pattern:
        key, kinds = "hybrid_override_pattern", list(pattern)
    if kinds is None:
        key, kinds = "model_type", _regular(config, layers)
    if len(kinds) != layers:
        raise config.fail(key, f"{len(kinds)} entries", f"one for each of the {layers} layers")
    known = FULL + SLIDING + STATE + NEITHER
    for kind in kinds:
        if kind not in known:
            raise config.fail(key, kind, f"one of {', '.join(known)}")
    if count_of(kinds, NEITHER) == layers:
        raise config.fail(key, kinds[0], "a layer that looks at other tokens among them")
    return kinds


def _regular(config: Fields, layers: int) -> list[str]:
    every = config.found("full_attention_interval")
    if every:
        return [FULL[0] if (i + 1) % every == 0 else STATE[0] for i in range(layers)]
    if config.found("attn_layer_period"):
        period = config.count("attn_layer_period")
        offset = config.found("attn_layer_offset", least=0) or 0
        return [FULL[0] if i % period == offset else "mamba" for i in range(layers)]
    state = [key for key in config.values if key.startswith(("mamba_", "ssm_", "linear_num_"))]
    if state:
        raise config.fail(state[0], config.get(state[0]), "layer_types beside it, one kind a layer")
    kind = model_kind(config)
    # Qwen's configurations carry a window that is off unless use_sliding_window says otherwise.
    used = config.flag("use_sliding_window", not kind.startswith("qwen"))
    if not used or config.found(*WINDOWS) is None:
        return [FULL[0]] * layers
    full_below = config.found("max_window_layers", least=0)
    if full_below is not None:
        return [FULL[0] if i < full_below else SLIDING[0] for i in range(layers)]
    every = config.found("sliding_window_pattern") or EVERY.get(kind)
    if every:
        return [FULL[0] if (i + 1) % every == 0 else SLIDING[0] for i in range(layers)]
    return [SLIDING[0]] * layers
