"""What a `config.json` says of a model's layers, and the parameters that follow from it.

Keys and shapes are those of Hugging Face transformers' configuration and modelling classes; counts
are checked against published checkpoints in tests/unit/test_hugging_face.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from coldstart.catalog.layers import (
    FULL,
    NEITHER,
    SLIDING,
    SPARSE,
    STATE,
    WINDOWS,
    count_of,
    layer_kinds,
    model_kind,
)
from coldstart.catalog.model_files import Fields

QK_NORMS = (
    *("qwen3", "qwen3_moe", "qwen3_next", "qwen3_5", "qwen3_5_moe", "qwen3_vl", "qwen3_vl_moe"),
    "gemma3",
)
FOUR_NORMS = ("gemma2", "gemma3")
TIED_BY_DEFAULT = ("gemma", "gemma2", "gemma3", "cohere", "cohere2")
GATED_OUTPUT = ("qwen3_next", "qwen3_5", "qwen3_5_moe")
STATE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
NOT_SIZED = {
    "attn_type_list": "layer_types instead",
    "block_configs": "the same heads in every layer",
    "cross_attention_layers": "no layers that attend to images",
    "global_head_dim": "heads of one width in all layers",
    "index_topk": "attention without an indexer of its own",
    "swa_num_key_value_heads": "as many KV heads in layers with a window as in the others",
    "vocab_size_per_layer_input": "embeddings of the whole model only",
}
"""Keys of designs whose memory does not follow from the others, and what can be sized."""


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
    parameters: int
    active: int
    table: int
    in_experts: int


@dataclass(frozen=True, slots=True)
class _Mixture:
    """Experts of one layer, and how many layers have them."""

    experts: int
    chosen: int
    inner: int
    shared_inner: int
    layers: int


def architecture(config: Fields, whole: Fields | None = None) -> Architecture:
    """Read a model's configuration; raises ModelFileError for what is wrong.

    `config` is the text part, `whole` the configuration around it of a multimodal model.
    """
    for key, sized in NOT_SIZED.items():
        if config.get(key):
            raise config.fail(key, config.get(key), f"{sized}; this design cannot be sized")
    layers, hidden = config.count("num_hidden_layers"), config.count("hidden_size")
    heads = config.count("num_attention_heads")
    kv_heads = config.found("num_key_value_heads") or heads
    if heads % kv_heads:
        raise config.fail("num_key_value_heads", kv_heads, f"a divisor of the {heads} heads")
    head_dim, latent = _widths(config, hidden // heads)
    inner = config.found(
        "intermediate_size_mlp", "intermediate_size", "ffn_hidden_size", "moe_intermediate_size"
    )
    if inner is None:
        raise config.missing("intermediate_size")
    kinds = layer_kinds(config, layers)
    states, sliding = count_of(kinds, STATE), count_of(kinds, SLIDING)
    mixture = _mixture(config, layers, inner, kinds)
    state_parameters, state_bytes = _state(config, hidden) if states else (0, 0)
    vocabulary = config.count("vocab_size")
    table = vocabulary * hidden * (1 if _tied(config, whole) else 2)
    per_expert = _matrices(config) * hidden * mixture.inner if mixture else 0
    bias = _expert_bias(config, mixture) if mixture else 0
    routed = mixture.layers * mixture.experts if mixture else 0
    parameters = table + hidden + _blocks(config, hidden, inner, mixture, kinds)
    parameters += (count_of(kinds, FULL) + sliding) * _attention(
        config, hidden, heads, kv_heads, head_dim
    )
    parameters += states * state_parameters + routed * (per_expert + bias)
    idle = (routed - mixture.layers * mixture.chosen) * (per_expert + bias) if mixture else 0
    return Architecture(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        inner=inner,
        vocabulary=vocabulary,
        context=config.count("max_position_embeddings", "max_sequence_length", "n_positions"),
        latent=latent,
        window=config.count(*WINDOWS) if sliding else None,
        full_layers=count_of(kinds, FULL),
        state_layers=states,
        state_bytes=state_bytes,
        experts=mixture.experts if mixture else None,
        experts_per_token=mixture.chosen if mixture else None,
        expert_inner=mixture.inner if mixture else None,
        parameters=parameters,
        active=parameters - idle,
        table=table,
        in_experts=routed * per_expert,
    )


def _tied(config: Fields, whole: Fields | None) -> bool:
    """Whether the head is the table of embeddings."""
    key = "tie_word_embeddings"
    holder = whole if whole is not None and config.get(key) is None else config
    return holder.flag(key, model_kind(config) in TIED_BY_DEFAULT)


def _widths(config: Fields, usual: int) -> tuple[int, int | None]:
    """Width of a head, and of the latent where keys and values are made from one (MLA)."""
    latent = config.found("kv_lora_rank")
    if latent is None:
        head_dim = config.found("head_dim") or usual
        if (value := config.found("v_head_dim")) not in (None, head_dim):
            raise config.fail("v_head_dim", value, f"{head_dim}, the width of a key")
        return head_dim, None
    rope = config.count("qk_rope_head_dim")
    widths = config.count("qk_nope_head_dim") + rope + config.count("v_head_dim")
    return widths // 2, latent + rope


def _matrices(config: Fields) -> int:
    """Matrices of a feed-forward block: gate, up and down; squared ReLU has no gate."""
    return 2 if "relu2" in (config.text("mlp_hidden_act"), config.text("hidden_act")) else 3


def _attention(config: Fields, hidden: int, heads: int, kv_heads: int, head_dim: int) -> int:
    kind = model_kind(config)
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
    if experts is None:
        _refuse_other_experts(config)
    if not experts:
        return None
    chosen = config.count("num_experts_per_tok", "experts_per_token", "moe_topk")
    if chosen > experts:
        raise config.fail("num_experts_per_tok", chosen, f"at most the {experts} experts")
    llama4 = model_kind(config) == "llama4"
    usual = config.count("intermediate_size") if llama4 else inner
    width = config.found("moe_intermediate_size", "moe_ffn_hidden_size") or usual
    shared = config.found("n_shared_experts", least=0) or int(llama4)
    shared_inner = config.found(
        "shared_expert_intermediate_size",
        "shared_intermediate_size",
        "moe_shared_expert_intermediate_size",
        least=0,
    )
    if shared_inner is None:
        shared_inner = shared * width
    if count_of(kinds, NEITHER):
        return _Mixture(experts, chosen, width, shared_inner, count_of(kinds, SPARSE))
    first = config.found("first_k_dense_replace", least=0) or 0
    step = config.found("decoder_sparse_step", "interleave_moe_layer_step") or 1
    every = config.found("moe_layer_freq") or 1
    dense = config.numbers("mlp_only_layers")
    found = [
        i for i in range(first, layers) if (i + 1) % step == 0 and i % every == 0 and i not in dense
    ]
    return _Mixture(experts, chosen, width, shared_inner, len(found))


def _refuse_other_experts(config: Fields) -> None:
    """A count of experts under a name that is not known would pass for a dense model."""
    for key, value in config.values.items():
        if "experts" in key and "per_tok" not in key and isinstance(value, int) and value > 1:
            raise config.fail(key, value, "the number of experts as num_experts")


def _expert_bias(config: Fields, mixture: _Mixture) -> int:
    if model_kind(config) != "gpt_oss":
        return 0
    return 2 * mixture.inner + config.count("hidden_size")


def _blocks(
    config: Fields, hidden: int, inner: int, mixture: _Mixture | None, kinds: list[str]
) -> int:
    """Norms, dense MLPs, routers and shared experts of all layers."""
    kind, matrices = model_kind(config), _matrices(config)
    separate = count_of(kinds, NEITHER)  # a block is a mixer or an MLP, not both
    norms = 1 if separate else 4 if kind in FOUR_NORMS else 2
    sparse = mixture.layers if mixture else 0
    dense = (separate or len(kinds)) - sparse
    total = len(kinds) * norms * hidden + dense * matrices * hidden * inner
    if mixture is not None:
        router = hidden * mixture.experts
        router += mixture.experts if kind in ("gpt_oss", "deepseek_v3") else 0
        gate = hidden if config.found("shared_expert_intermediate_size", least=0) else 0
        total += sparse * (router + matrices * hidden * mixture.shared_inner + gate)
    return total


def _state(config: Fields, hidden: int) -> tuple[int, int]:
    """Parameters of one state layer, and bytes of state it keeps of a sequence.

    The convolution's tail is kept in 16 bit, the recurrent state as the configuration says.
    """
    key = "mamba_ssm_dtype" if config.get("mamba_ssm_dtype") else "mamba_ssm_cache_dtype"
    kind = config.text(key) or "bfloat16"
    if kind not in STATE_BYTES:
        raise config.fail(key, kind, f"one of {', '.join(STATE_BYTES)}")
    wide = STATE_BYTES[kind]
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
