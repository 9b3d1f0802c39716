"""A model's own files: what is read from them, and what is said of bad ones."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from bad_stacks import SMALL, good, with_value
from hypothesis import given, settings
from hypothesis import strategies as st
from model_examples import CONFIGS, published, put

from coldstart.catalog import Model, load
from coldstart.catalog.hugging_face import ModelFileError, local_model, read_model
from coldstart.planning import plan_stack
from coldstart.spec import SpecError, StackSpec, parse_config

CATALOG = load()
LLAMA = CONFIGS["meta-llama/Llama-3.1-8B-Instruct"]
COMPUTED = sorted(set(CONFIGS) & set(CATALOG.models))
NOT_IN_CONFIG = {"source", "license", "gated", "revision"}


def read(folder: Path, config: Any, index: Any = None, name: str = "org/name") -> Model:
    return read_model(put(folder / name, config, index), name)


def said(folder: Path, changes: Mapping[str, Any], base: Mapping[str, Any] = LLAMA) -> str:
    """What is said of a configuration with those values; ... removes a key."""
    config = {k: v for k, v in {**base, **changes}.items() if v is not ...}
    with pytest.raises(ModelFileError) as caught:
        read(folder, config)
    return str(caught.value)


@pytest.mark.parametrize("name", COMPUTED)
def test_parameters_and_shapes_are_what_the_catalog_has_from_published_checkpoints(
    name: str, tmp_path: Path
) -> None:
    known, found = CATALOG.model(name), read(tmp_path, CONFIGS[name], name=name)
    assert found.parameters_billion == pytest.approx(known.parameters_billion, abs=1e-9)
    for field in set(Model.model_fields) - NOT_IN_CONFIG - {"weight_bytes"}:
        if field != "active_parameters_billion":
            assert getattr(found, field) == getattr(known, field), field
    for precision, size in found.weight_bytes.items():
        whole = {"deepseek-ai/DeepSeek-V3": 0.024}.get(name, 0)  # its extra layer is not in it
        assert size == pytest.approx(known.weight_bytes[precision], rel=whole or 1e-9), precision


@pytest.mark.parametrize(
    ("name", "billion"),
    [
        ("Qwen/Qwen3-235B-A22B-FP8", 235.09),
        ("meta-llama/Llama-2-7b-hf", 6.738),
        ("moonshotai/Kimi-K2-Thinking", 1026.4),
        ("ibm-granite/granite-4.0-h-small", 32.2),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 107.77),
        ("meta-llama/Llama-4-Maverick-17B-128E-Instruct", 400.71),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 31.58),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", 79.67),
    ],
)
def test_parameters_of_mixtures_latents_and_hybrids_are_those_of_the_model_cards(
    name: str, billion: float
) -> None:
    assert published(name).parameters_billion == pytest.approx(billion, rel=0.001)


def test_the_source_says_that_sizes_are_computed_when_there_is_no_index(tmp_path: Path) -> None:
    computed = read(tmp_path / "a", LLAMA)
    assert "parameters and size computed from it" in computed.source
    index = {
        "metadata": {"total_size": 16_060_522_496},
    }
    told = read(tmp_path / "b", LLAMA, index)
    assert "computed" not in told.source
    assert told.checkpoint_bytes == 16_060_522_496
    assert told.parameters_billion == 8.030261248


def test_a_folder_and_its_config_file_are_the_same_model(tmp_path: Path) -> None:
    folder = put(tmp_path / "org" / "name", LLAMA)
    assert read_model(folder) == read_model(folder / "config.json")
    assert read_model(folder).name == "org/name"


def test_the_text_part_of_a_multimodal_model_is_read(tmp_path: Path) -> None:
    found = read(tmp_path, {"architectures": ["X"], "text_config": LLAMA, "vision_config": {}})
    assert found.parameters_billion == 8.030261248
    assert "without a vision or audio tower" in found.source


def test_a_window_on_every_fourth_layer_is_read_from_a_pattern(tmp_path: Path) -> None:
    config = {**LLAMA, "sliding_window": 1024, "sliding_window_pattern": 4}
    found = read(tmp_path, config)
    assert (found.full_layers, found.sliding_layers) == (8, 24)
    assert found.sliding_window_tokens == 1024


def test_a_window_that_is_switched_off_is_none(tmp_path: Path) -> None:
    found = read(tmp_path, {**LLAMA, "sliding_window": 1024, "use_sliding_window": False})
    assert found.sliding_window_tokens is None


def test_blocks_without_attention_keep_nothing(tmp_path: Path) -> None:
    """Nemotron-H writes one letter a layer: M a state, * attention, - an MLP."""
    config = {
        **LLAMA,
        "model_type": "nemotron_h",
        "num_hidden_layers": 5,
        "hybrid_override_pattern": "M-M*-",
        "mlp_hidden_act": "relu2",
        "mamba_num_heads": 128,
        "mamba_head_dim": 80,
        "ssm_state_size": 128,
        "n_groups": 8,
        "conv_kernel": 4,
    }
    found = read(tmp_path, config)
    assert (found.full_layers, found.state_layers, found.sliding_layers) == (1, 2, 0)
    assert found.state_bytes_per_layer == (128 * 80 + 2 * 8 * 128) * 3 * 2 + 128 * 80 * 128 * 2


@pytest.mark.parametrize(
    ("changes", "full", "sliding"),
    [
        ({"model_type": "gemma2", "sliding_window": 4096}, 16, 16),
        ({"model_type": "gemma3_text", "sliding_window": 1024}, 5, 27),
        ({"model_type": "mistral", "sliding_window": 4096}, 0, 32),
        ({"model_type": "qwen2", "sliding_window": 4096}, 32, 0),
        (
            {
                "model_type": "qwen2",
                "sliding_window": 4096,
                "use_sliding_window": True,
                "max_window_layers": 20,
            },
            20,
            12,
        ),
        ({"model_type": "llama4_text", "attention_chunk_size": 8192}, 8, 24),
    ],
)
def test_layers_with_a_window_are_those_of_the_models_class_where_the_file_does_not_say(
    changes: Mapping[str, Any], full: int, sliding: int, tmp_path: Path
) -> None:
    found = read(tmp_path, {**LLAMA, **changes})
    assert (found.full_layers, found.sliding_layers) == (full, sliding)


def test_a_multimodal_model_ties_its_embeddings_where_its_outer_part_says_so(
    tmp_path: Path,
) -> None:
    text = {k: v for k, v in LLAMA.items() if k != "tie_word_embeddings"}
    outer = {"text_config": text, "vision_config": {}, "tie_word_embeddings": True}
    tied, apart = read(tmp_path / "a", outer), read(tmp_path / "b", {"text_config": text})
    table = LLAMA["vocab_size"] * LLAMA["hidden_size"]
    assert apart.parameters_billion - tied.parameters_billion == pytest.approx(table / 1e9)


def test_a_head_with_a_latent_is_as_wide_as_its_queries_and_values_in_the_mean(
    tmp_path: Path,
) -> None:
    """Not hidden / heads, which would be 56 for DeepSeek-V3: queries have 192 and values 128."""
    config = CONFIGS["deepseek-ai/DeepSeek-V3"]
    assert read(tmp_path, config).head_dim == (192 + 128) / 2
    narrow = {**config, "v_head_dim": 64}
    assert read(tmp_path / "narrow", narrow).head_dim == (192 + 64) / 2


def test_what_an_index_has_beyond_the_text_part_stays_in_16_bit(tmp_path: Path) -> None:
    index = {"metadata": {"total_size": 16_060_522_496 + 1_000_000_000}}
    seeing, reading = read(tmp_path / "a", LLAMA, index), read(tmp_path / "b", LLAMA)
    for precision in ("fp8", "int8", "int4"):
        beside = seeing.weight_bytes[precision] - reading.weight_bytes[precision]
        assert beside == 1_000_000_000


@pytest.mark.parametrize(
    ("quantisation", "precision"),
    [
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4"),
        ({"quant_method": "gptq", "bits": 8}, "int8"),
        ({"quant_method": "gptq_marlin", "bits": 4, "group_size": -1}, "int4"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}},
            },
            "fp8",
        ),
    ],
)
def test_a_quantised_checkpoint_has_its_own_precision_and_no_other(
    quantisation: Mapping[str, Any], precision: str, tmp_path: Path
) -> None:
    found = read(tmp_path, {**LLAMA, "quantization_config": quantisation})
    assert found.native_precision == precision
    assert set(found.weight_bytes) == {precision}
    assert found.checkpoint_bytes < 9.2e9


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"hidden_size": ...}, "hidden_size: missing: expected the key with a whole number"),
        ({"vocab_size": "many"}, "vocab_size: 'many': expected a whole number from 1 to 100000000"),
        ({"num_hidden_layers": -3}, "num_hidden_layers: -3: expected a whole number from 1"),
        ({"num_hidden_layers": True}, "num_hidden_layers: True: expected a whole number"),
        ({"hidden_size": 10**9}, "hidden_size: 1000000000: expected a whole number from 1 to"),
        ({"num_key_value_heads": 7}, "num_key_value_heads: 7: expected a divisor of the 32 heads"),
        ({"torch_dtype": "int3"}, "torch_dtype: 'int3': expected one of bfloat16, float16"),
        (
            {"torch_dtype": "float32"},
            "torch_dtype: 'float32': expected one of bfloat16, float16; engines compute in 16 bit",
        ),
        (
            {
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "config_groups": {
                        "group_0": {"weights": {"num_bits": 8, "type": "float"}},
                        "group_1": {"weights": {"num_bits": 4, "type": "int"}},
                    },
                }
            },
            "quantization_config.config_groups: 'fp8 and int4': expected one precision in all",
        ),
        ({"moe_num_experts": 64}, "moe_num_experts: 64: expected the number of experts as num_ex"),
        (
            {"num_experts": 4, "num_experts_per_tok": 2, "mlp_only_layers": 5},
            "mlp_only_layers: 5: expected a list of whole numbers",
        ),
        ({"mamba_n_heads": 24}, "mamba_n_heads: 24: expected layer_types beside it"),
        ({"index_topk": 2048}, "index_topk: 2048: expected attention without an indexer"),
        ({"v_head_dim": 64}, "v_head_dim: 64: expected 128, the width of a key"),
        ({"layer_types": ["mlp"] * 32}, "layer_types: 'mlp': expected a layer that looks at other"),
        (
            {"full_attention_interval": 4, "linear_num_value_heads": 8, "mamba_ssm_dtype": "int1"},
            "mamba_ssm_dtype: 'int1': expected one of float32",
        ),
        (
            {"quantization_config": {"quant_method": "bitsandbytes"}},
            "quantization_config.quant_method: 'bitsandbytes': expected fp8, mxfp4, gptq, awq",
        ),
        (
            {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}},
            "quantization_config.quant_method: 'modelopt NVFP4': expected fp8",
        ),
        (
            {"quantization_config": {"quant_method": "awq", "bits": 3}},
            "quantization_config.bits: 3: expected 4 or 8",
        ),
        ({"quantization_config": "fp8"}, "quantization_config: 'fp8': expected an object"),
        ({"layer_types": ["full_attention"]}, "layer_types: '1 entries': expected one for each"),
        (
            {"layer_types": ["quantum_attention"] * 32},
            "layer_types: 'quantum_attention': expected one of full_attention",
        ),
        (
            {"num_experts": 4, "num_experts_per_tok": 9},
            "num_experts_per_tok: 9: expected at most the 4 experts",
        ),
        ({"kv_lora_rank": 512}, "qk_rope_head_dim: missing"),
        ({"full_attention_interval": 4}, "mamba_n_heads: missing: expected the key (or"),
    ],
)
def test_each_bad_value_is_named_with_file_key_and_what_is_expected(
    changes: Mapping[str, Any], expected: str, tmp_path: Path
) -> None:
    message = said(tmp_path, changes)
    assert expected in message
    assert message.count("\n") == 0
    assert "config.json: " in message


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    def message(path: Path) -> str:
        with pytest.raises(ModelFileError) as caught:
            read_model(path)
        return str(caught.value)

    assert "there is no such file" in message(tmp_path)
    file = tmp_path / "config.json"
    file.write_text("{'not': json")
    assert "is not JSON" in message(tmp_path)
    file.write_text("[1]")
    assert "expected a JSON object, found list" in message(tmp_path)
    file.write_bytes(b"\xff\xfe{}")
    assert "is not JSON" in message(tmp_path)
    file.write_text("[" * 50_000)
    assert "is not JSON" in message(tmp_path)
    file.write_text(" " * 1_000_001)
    assert "has 1000001 bytes: expected at most 1000000" in message(file)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ({}, "metadata.total_size: missing"),
        ({"metadata": {"total_size": -1}}, "total_size: -1: expected"),
        ({"metadata": {"total_size": 10**14}}, "expected bytes from 1"),
        ({"metadata": {"total_size": math.inf}}, "total_size: inf: expected bytes from 1"),
    ],
)
def test_a_bad_index_is_named(index: Any, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError) as caught:
        read(tmp_path, LLAMA, index)
    assert "model.safetensors.index.json: " in str(caught.value)
    assert expected in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(sorted(CONFIGS)), data=st.data())
def test_any_value_in_any_key_gives_a_model_or_one_clear_error(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = CONFIGS[name]
    key = data.draw(st.sampled_from(sorted(base)))
    config = {**base, key: data.draw(JSON)}
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    try:
        read_model(folder, "org/name")
    except ModelFileError as error:
        assert "config.json" in str(error)


# A stack whose model only its config.json describes.
SOURCE = f"hf://acme/llama-tuned@{'a' * 40}"


def spec_with(root: Path) -> StackSpec:
    config = with_value(good("eks-prod"), (*SMALL, "source"), SOURCE)
    return parse_config(config, stack="eks-prod", file="stacks/Pulumi.eks-prod.yaml", root=root)


def test_a_model_the_catalog_lacks_is_planned_from_its_config_json(tmp_path: Path) -> None:
    put(tmp_path / "models" / "acme" / "llama-tuned", LLAMA)
    plan = plan_stack(spec_with(tmp_path))
    model = plan.models["qwen3-8b"]
    assert model.repository == "acme/llama-tuned"
    assert model.weight_bytes == 16_060_522_496
    assert model.fit.weights_gib == pytest.approx(14.96, abs=0.01)


def test_a_model_without_files_is_refused_with_the_place_to_put_them(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        spec_with(tmp_path)
    assert '"acme/llama-tuned" is not in the model catalog' in str(caught.value)
    assert "put its config.json into models/acme/llama-tuned/" in str(caught.value)


def test_a_bad_config_json_is_an_error_of_the_stacks_source(tmp_path: Path) -> None:
    put(tmp_path / "models" / "acme" / "llama-tuned", {**LLAMA, "vocab_size": 0})
    with pytest.raises(SpecError) as caught:
        spec_with(tmp_path)
    message = str(caught.value)
    assert "models.qwen3-8b.source: models/acme/llama-tuned/config.json: vocab_size: 0" in message


def test_the_catalog_comes_before_files(tmp_path: Path) -> None:
    put(tmp_path / "models" / "Qwen" / "Qwen3-8B", {"broken": True})
    config = good("eks-prod")
    spec = parse_config(config, stack="eks-prod", file="f", root=tmp_path)
    assert not spec.local_models
    assert local_model(tmp_path, "nobody/nothing") is None


def test_no_repository_leads_out_of_the_models_folder(tmp_path: Path) -> None:
    put(tmp_path / "secret", LLAMA)
    (tmp_path / "models").mkdir()
    config = with_value(good("eks-prod"), (*SMALL, "source"), f"hf://../secret@{'a' * 40}")
    with pytest.raises(SpecError) as caught:
        parse_config(config, stack="eks-prod", file="f", root=tmp_path)
    assert '"../secret" is not in the model catalog' in str(caught.value)
