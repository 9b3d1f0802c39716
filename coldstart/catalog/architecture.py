"""What a `config.json` says of a model's layers, and the parameters that follow from it.

Keys and shapes are those of Hugging Face transformers' configuration and modelling classes; counts
are checked against published checkpoints in tests/unit/test_hugging_face.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from coldstart.catalog.model_files import Fields

FULL = ("full_attention", "attention", "*")
SLIDING = ("sliding_attention", "chunked_attention")
STATE = ("linear_attention", "mamba", "mamba2", "M")
NEITHER = ("mlp", "moe", "-", "E")
QK_NORMS = ("qwen3", "qwen3_moe", "qwen3_next", "qwen3_5", "qwen3_5_moe", "gemma3", "gemma3_text")
FOUR_NORMS = ("gemma2", "gemma3", "gemma3_text")
TIED_BY_DEFAULT = ("gemma", "gemma2", "gemma3", "gemma3_text")
GATED_OUTPUT = ("qwen3_next", "qwen3_5", "qwen3_5_moe")
STATE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes of a model and its parameters: all, those of one token, those kept in 16 bit.

    `table` counts the embeddings and the head, which quantisation leaves alone; `in_experts` the
    matrices of all routed experts.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocabulary: int
    context: int
    latent: int | None
    window: int | None
    full_layers: int
    state_layers: int
    state_bytes: int
    experts: int | None
    experts_per_token: int | None
    expert_inner: int | None
    shared_experts: int
    parameters: int
    active: int
    table: int
    in_experts: int


@dataclass(frozen=True, slots=True)
class _Mixture:
    """Experts of one layer."""

    experts: int
    chosen: int
    inner: int
    shared: int
    shared_inner: int
    layers: int


def architecture(config: Fields) -> Architecture:
    """Read the text part of a model's configuration; raises ModelFileError for what is wrong."""
    layers, hidden = config.count("num_hidden_layers"), config.count("hidden_size")
    heads = config.count("num_attention_heads")
    kv_heads = config.found("num_key_value_heads") or heads
    if heads % kv_heads:
        raise config.fail("num_key_value_heads", kv_heads, f"a divisor of the {heads} heads")
    head_dim = config.found("head_dim") or hidden // heads
    inner = config.found("intermediate_size", "ffn_hidden_size", "moe_intermediate_size")
    if inner is None:
        raise config.missing("intermediate_size")
    kinds = _kinds(config, layers)
    latent = config.found("kv_lora_rank")
    mixture = _mixture(config, layers, inner, kinds)
    state_parameters, state_bytes = _state(config, hidden) if _any(kinds, STATE) else (0, 0)
    vocabulary = config.count("vocab_size")
    tied = config.flag("tie_word_embeddings", config.text("model_type") in TIED_BY_DEFAULT)
    table = vocabulary * hidden * (1 if tied else 2)
    per_expert = 3 * hidden * mixture.inner if mixture else 0
    bias = _expert_bias(config, mixture) if mixture else 0
    routed = mixture.layers * mixture.experts if mixture else 0
    in_experts = routed * per_expert
    blocks = _blocks(config, layers, hidden, inner, mixture, kinds)
    mixers = _count(kinds, FULL + SLIDING) * _attention(config, hidden, heads, kv_heads, head_dim)
    mixers += _count(kinds, STATE) * state_parameters
    parameters = table + hidden + blocks + mixers + in_experts + routed * bias
    idle = (routed - mixture.layers * mixture.chosen) * (per_expert + bias) if mixture else 0
    sliding = _count(kinds, SLIDING)
    return Architecture(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        inner=inner,
        vocabulary=vocabulary,
        context=config.count("max_position_embeddings", "max_sequence_length", "n_positions"),
        latent=None if latent is None else latent + config.count("qk_rope_head_dim"),
        window=config.count("sliding_window", "attention_chunk_size") if sliding else None,
        full_layers=_count(kinds, FULL),
        state_layers=_count(kinds, STATE),
        state_bytes=state_bytes,
        experts=mixture.experts if mixture else None,
        experts_per_token=mixture.chosen if mixture else None,
        expert_inner=mixture.inner if mixture else None,
        shared_experts=mixture.shared if mixture else 0,
        parameters=parameters,
        active=parameters - idle,
        table=table,
        in_experts=in_experts,
    )


def _count(kinds: list[str], wanted: tuple[str, ...]) -> int:
    return sum(kind in wanted for kind in kinds)


def _any(kinds: list[str], wanted: tuple[str, ...]) -> bool:
    return _count(kinds, wanted) > 0


def _kinds(config: Fields, layers: int) -> list[str]:
    """The kind of every layer, by whichever of the known ways the configuration tells it."""
    pattern = config.text("hybrid_override_pattern")
    key = "layer_types" if config.get("layer_types") is not None else "layers_block_type"
    kinds = config.texts(key)
    if kinds is None and pattern:
        key, kinds = "hybrid_override_pattern", list(pattern)
    if kinds is None:
        kinds = _regular(config, layers)
    if len(kinds) != layers:
        raise config.fail(key, f"{len(kinds)} entries", f"one for each of the {layers} layers")
    known = FULL + SLIDING + STATE + NEITHER
    for kind in kinds:
        if kind not in known:
            raise config.fail(key, kind, f"one of {', '.join(known)}")
    return kinds


def _regular(config: Fields, layers: int) -> list[str]:
    every = config.found("full_attention_interval")
    if every:
        return [FULL[0] if (i + 1) % every == 0 else STATE[0] for i in range(layers)]
    if config.found("attn_layer_period"):
        period, offset = (
            config.count("attn_layer_period"),
            config.found("attn_layer_offset", least=0),
        )
        return [FULL[0] if i % period == (offset or 0) else "mamba" for i in range(layers)]
    window = config.found("sliding_window")
    if window is None or not config.flag("use_sliding_window", True):
        return [FULL[0]] * layers
    every = config.found("sliding_window_pattern")
    if every:
        return [FULL[0] if (i + 1) % every == 0 else SLIDING[0] for i in range(layers)]
    return [SLIDING[0]] * layers


def _attention(config: Fields, hidden: int, heads: int, kv_heads: int, head_dim: int) -> int:
    kind = config.text("model_type")
    if config.get("kv_lora_rank") is not None:
        latent, rope = config.count("kv_lora_rank"), config.count("qk_rope_head_dim")
        nope, value = config.count("qk_nope_head_dim"), config.count("v_head_dim")
        rank = config.found("q_lora_rank")
        query = heads * (nope + rope)
        queries = hidden * rank + rank + rank * query if rank else hidden * query
        keys = hidden * (latent + rope) + latent + latent * heads * (nope + value)
        return queries + keys + heads * value * hidden
    query, key = heads * head_dim, kv_heads * head_dim
    total = 2 * hidden * (query + key) + (hidden * query if kind in GATED_OUTPUT else 0)
    total += 2 * head_dim if kind in QK_NORMS else 0
    if config.flag("attention_bias", kind == "qwen2"):
        total += query + 2 * key + (hidden if kind != "qwen2" else 0)
    return total + (heads if kind == "gpt_oss" else 0)


def _mixture(config: Fields, layers: int, inner: int, kinds: list[str]) -> _Mixture | None:
    experts = config.found("num_experts", "num_local_experts", "n_routed_experts", least=0)
    if not experts:
        return None
    chosen = config.count("num_experts_per_tok", "experts_per_token", "moe_topk")
    if chosen > experts:
        raise config.fail("num_experts_per_tok", chosen, f"at most the {experts} experts")
    width = config.found("moe_intermediate_size", "moe_ffn_hidden_size") or inner
    shared = config.found("n_shared_experts", least=0) or 0
    shared_width = config.found(
        "shared_expert_intermediate_size",
        "shared_intermediate_size",
        "moe_shared_expert_intermediate_size",
        least=0,
    )
    shared_inner = shared_width if shared_width is not None else shared * width
    sparse = range(config.found("first_k_dense_replace", least=0) or 0, layers)
    step, dense = config.found("decoder_sparse_step") or 1, config.get("mlp_only_layers") or []
    found = [i for i in sparse if (i + 1) % step == 0 and i not in dense]
    if _any(kinds, NEITHER):
        found = [i for i, kind in enumerate(kinds) if kind in ("moe", "E")]
    return _Mixture(experts, chosen, width, shared or bool(shared_inner), shared_inner, len(found))


def _expert_bias(config: Fields, mixture: _Mixture) -> int:
    if config.text("model_type") != "gpt_oss":
        return 0
    return 2 * mixture.inner + config.count("hidden_size")


def _blocks(
    config: Fields,
    layers: int,
    hidden: int,
    inner: int,
    mixture: _Mixture | None,
    kinds: list[str],
) -> int:
    """Norms, dense MLPs, routers and shared experts of all layers."""
    kind = config.text("model_type")
    separate = _any(kinds, NEITHER)  # a block is a mixer or an MLP, not both
    norms = 1 if separate else 4 if kind in FOUR_NORMS else 2
    ungated = config.text("mlp_hidden_act") == "relu2"
    dense = _count(kinds, ("mlp", "-")) if separate else layers - (mixture.layers if mixture else 0)
    total = layers * norms * hidden + dense * (2 if ungated else 3) * hidden * inner
    if mixture is not None:
        router = hidden * mixture.experts
        router += mixture.experts if kind in ("gpt_oss", "deepseek_v3") else 0
        gate = hidden if config.found("shared_expert_intermediate_size", least=0) else 0
        total += mixture.layers * (router + 3 * hidden * mixture.shared_inner + gate)
    return total


def _state(config: Fields, hidden: int) -> tuple[int, int]:
    """Parameters of one state layer, and bytes of state it keeps of a sequence.

    The convolution's tail is kept in 16 bit, the recurrent state as the configuration says.
    """
    wide = STATE_BYTES.get(config.text("mamba_ssm_dtype", config.text("mamba_ssm_cache_dtype")), 2)
    if config.get("linear_num_value_heads") is not None:
        keys = config.count("linear_num_key_heads") * config.count("linear_key_head_dim")
        heads, head_dim = (
            config.count("linear_num_value_heads"),
            config.count("linear_value_head_dim"),
        )
        values, kernel = heads * head_dim, config.count("linear_conv_kernel_dim")
        parameters = hidden * (2 * keys + 2 * values + 2 * heads) + values * hidden
        parameters += (2 * keys + values) * kernel + 2 * heads + head_dim
        recurrent = values * config.count("linear_key_head_dim")
        return parameters, (2 * keys + values) * (kernel - 1) * 2 + recurrent * wide
    heads = config.count("mamba_n_heads", "mamba_num_heads")
    head_dim = config.count("mamba_d_head", "mamba_head_dim")
    size = config.count("mamba_d_state", "ssm_state_size")
    groups, kernel = (
        config.count("mamba_n_groups", "n_groups"),
        config.count("mamba_d_conv", "conv_kernel"),
    )
    width = heads * head_dim
    mixed = width + 2 * groups * size
    parameters = hidden * (width + mixed + heads) + mixed * (kernel + 1) + 3 * heads + width
    return parameters + width * hidden, mixed * (kernel - 1) * 2 + width * size * wide
