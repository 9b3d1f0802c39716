"""The catalog is consistent and sourced, and is refused with file and key where it is not."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from coldstart.catalog import (
    Catalog,
    CatalogError,
    ContainerImage,
    UnknownKeyError,
    load,
    load_folder,
)
from coldstart.catalog.loader import DATA

SPOT_AND_GPU_REGIONS = ("us-east-1", "us-east-2", "us-west-2")


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load()


@pytest.fixture
def spoilt(tmp_path: Path) -> Callable[[str, str, str], str]:
    """Copy the data, replace one text in one file, and return the error the load ends in."""

    def spoil(file: str, old: str, new: str) -> str:
        folder = tmp_path / "data"
        shutil.copytree(DATA, folder)
        text = (folder / file).read_text(encoding="utf-8")
        assert old in text, f"{old!r} is no longer in {file}: point the test at another entry"
        (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
        with pytest.raises(CatalogError) as caught:
            load_folder(folder)
        return str(caught.value).replace(str(folder), "data")

    return spoil


def everything(catalog: Catalog) -> list[tuple[str, str]]:
    tables = (
        catalog.accelerators,
        catalog.instance_types,
        catalog.models,
        catalog.images,
        catalog.engines,
        catalog.prices,
        catalog.fixed_prices,
        catalog.token_prices,
        catalog.gpu_second_prices,
        catalog.rental_prices,
        catalog.limits,
        catalog.figures,
        catalog.charts,
        catalog.eks_releases,
    )
    return [(str(key), entry.source) for table in tables for key, entry in table.items()]


def test_the_catalog_is_read_once(catalog: Catalog) -> None:
    assert load() is catalog


def test_every_entry_says_where_it_was_read(catalog: Catalog) -> None:
    named = re.compile(r"https?://|[\w-]+[./][\w-]+|datasheet|docs")
    for key, source in everything(catalog):
        assert named.search(source), f"{key}: {source!r} names no document"


def test_entries_cannot_be_changed(catalog: Catalog) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        catalog.accelerator("nvidia-a100-40gb").memory_gib = 80.0


def test_p4d_and_g6e_have_the_hardware_ec2_reports(catalog: Catalog) -> None:
    p4d = catalog.instance("p4d.24xlarge")
    assert (p4d.accelerator, p4d.accelerator_count, p4d.nvme_gb) == ("nvidia-a100-40gb", 8, 8000)
    assert (p4d.family, p4d.size, p4d.network_mbps, p4d.efa_interfaces) == (
        "p4d",
        "24xlarge",
        400_000,
        4,
    )
    g6e = catalog.instance("g6e.12xlarge")
    assert (g6e.accelerator, g6e.accelerator_count, g6e.vcpu) == ("nvidia-l40s-48gb", 4, 48)


def test_only_g5g_runs_on_arm(catalog: Catalog) -> None:
    arm = {kind.family for kind in catalog.instance_types.values() if kind.arch == "arm64"}
    assert arm == {"g5g"}


def test_fractional_and_unsupported_gpus_are_left_out(catalog: Catalog) -> None:
    families = {kind.family for kind in catalog.instance_types.values()}
    assert families.isdisjoint({"g6f", "gr6f", "g4ad", "p3", "p3dn"})


def test_instances_come_with_the_smallest_first(catalog: Catalog) -> None:
    found = [kind.name for kind in catalog.instances_with("nvidia-l40s-48gb")]
    assert found[0] == "g6e.xlarge"
    assert found[-1] == "g6e.48xlarge"
    assert found.index("g6e.16xlarge") < found.index("g6e.12xlarge")


def test_asking_for_an_unknown_accelerator_names_the_known_ones(catalog: Catalog) -> None:
    with pytest.raises(UnknownKeyError, match=r"nvidia-a100-40gb.*nvidia-t4-16gb"):
        catalog.instances_with("nvidia-a100")


def test_no_bf16_on_turing_and_no_fp8_arithmetic_on_ampere(catalog: Catalog) -> None:
    nvidia = [a for a in catalog.accelerators.values() if a.vendor == "nvidia"]
    for accelerator in nvidia:
        major = float(accelerator.compute_capability)
        assert ("bf16" in accelerator.precisions) == (major >= 8.0), accelerator.key
        assert ("fp8" in accelerator.precisions) == (major >= 8.9), accelerator.key
    assert catalog.accelerator("nvidia-a100-40gb").runs("fp8")
    assert not catalog.accelerator("nvidia-t4-16gb").runs("mxfp4")


def test_arithmetic_is_given_for_what_the_hardware_computes_and_never_with_sparsity(
    catalog: Catalog,
) -> None:
    for accelerator in catalog.accelerators.values():
        known = {str(key): tflops for key, tflops in accelerator.dense_tflops.items()}
        assert set(known) <= {*accelerator.precisions}, accelerator.key
        assert ("fp8" in known) == ("fp8" in accelerator.precisions), accelerator.key
        for eight_bit in {"fp8", "int8"} & set(known):
            assert 1.9 < known[eight_bit] / known["fp16"] < 2.1, accelerator.key
    assert catalog.accelerator("nvidia-h100-80gb").dense_tflops["bf16"] == 989


def test_weights_without_arithmetic_of_their_own_are_multiplied_in_16_bit(
    catalog: Catalog,
) -> None:
    ampere = catalog.accelerator("nvidia-a100-80gb")
    assert ampere.flops_per_second("fp8") == ampere.flops_per_second("bf16") == 312e12
    assert ampere.flops_per_second("int8") == 624e12


def test_every_nvidia_accelerator_can_be_rented(catalog: Catalog) -> None:
    for key in (k for k, a in catalog.accelerators.items() if a.vendor == "nvidia"):
        assert catalog.instances_with(key), f"{key} is on no instance type"


def test_bf16_checkpoints_weigh_two_bytes_per_stored_parameter(catalog: Catalog) -> None:
    for model in catalog.models.values():
        if model.native_precision == "bf16":
            expected = model.parameters_billion * 2e9
            assert abs(model.checkpoint_bytes - expected) < 1e-3 * expected, model.name


def test_fewer_bits_weigh_less(catalog: Catalog) -> None:
    for model in catalog.models.values():
        weights = model.weight_bytes
        if {"bf16", "fp8", "int4"} <= weights.keys():
            assert weights["bf16"] > weights["fp8"] > weights["int4"], model.name


def test_every_model_is_pinned_to_the_commit_its_source_names(catalog: Catalog) -> None:
    assert len({model.revision for model in catalog.models.values()}) == len(catalog.models)
    for name, model in catalog.models.items():
        assert f"https://huggingface.co/{name}/tree/{model.revision} " in model.source


def test_a_model_without_a_commit_is_refused_with_the_page_that_has_them(
    spoilt: Callable[..., str],
) -> None:
    error = spoilt(
        "models.yaml", "revision: 9216db5781bf21249d130ec9da846c4624c16137", "revision: null"
    )
    assert "data/models.yaml: Qwen/Qwen3-32B.revision: None: expected a commit of " in error
    assert "https://huggingface.co/Qwen/Qwen3-32B/commits/main" in error


def test_a_model_in_which_no_layer_looks_at_other_tokens_is_refused(
    spoilt: Callable[..., str],
) -> None:
    error = spoilt("models.yaml", "  layers: 64\n", "  layers: 64\n  full_attention_layers: 0\n")
    assert "Qwen/Qwen3-32B" in error and "no layer looks at other tokens" in error


def test_models_match_the_shape_their_parameters_imply(catalog: Catalog) -> None:
    """Attention projections and embeddings alone never exceed the parameters of the whole."""
    for model in catalog.models.values():
        projections = model.hidden_size * model.head_dim * (model.attention_heads + model.kv_heads)
        attention = 2 * projections * model.layers
        embedding = model.vocabulary_size * model.hidden_size
        assert attention + embedding < model.parameters_billion * 1e9, model.name


def test_images_are_pinned_by_digest(catalog: Catalog) -> None:
    for image in catalog.images.values():
        assert re.fullmatch(r"[a-z0-9.]+/[a-z0-9/-]+:[\w.-]+@sha256:[0-9a-f]{64}", image.reference)


def test_a_short_digest_is_refused() -> None:
    with pytest.raises(ValidationError, match="digest"):
        ContainerImage(
            key="engine",
            repository="docker.io/vllm/vllm-openai",
            tag="v1",
            digest="sha256:c1c9f6fd",
            digest_of="index",
            compressed_bytes=None,
            unpacked_bytes=None,
            source="https://hub.docker.com",
        )


def test_the_engine_image_unpacks_to_more_than_it_downloads(catalog: Catalog) -> None:
    image = catalog.image("engine")
    assert image.compressed_bytes and image.unpacked_bytes
    assert 2 < image.unpacked_bytes / image.compressed_bytes < 3


def test_the_engine_takes_the_flags_the_workload_needs(catalog: Catalog) -> None:
    engine = catalog.engine("vllm-0.31.0")
    for flag in ("--shutdown-timeout", "--safetensors-load-strategy", "kv-cache-memory-bytes"):
        assert engine.accepts(flag), flag
    assert not engine.accepts("--swap-space")
    assert {"runai_streamer", "fastsafetensors", "instanttensor"} <= set(engine.load_formats)
    assert catalog.image(engine.image).tag == f"v{engine.version}"


def test_relocating_the_cache_keeps_its_key_and_loading_plugins_changes_it(
    catalog: Catalog,
) -> None:
    ignored = catalog.engine("vllm-0.31.0").compile_cache_ignored_environment
    assert {"VLLM_CACHE_ROOT", "VLLM_API_KEY", "VLLM_HOST_IP"} <= ignored
    assert ignored.isdisjoint({"VLLM_PLUGINS", "VLLM_ENGINE_READY_TIMEOUT_S"})


def test_prices_are_known_for_the_gpu_families_of_the_stacks(catalog: Catalog) -> None:
    for region in SPOT_AND_GPU_REGIONS:
        for instance in ("p4d.24xlarge", "g6e.12xlarge", "g6.xlarge", "m7i.large"):
            price = catalog.price(region, instance)
            assert price is not None and price.on_demand_usd_per_hour, (region, instance)


def test_spot_is_never_dearer_than_on_demand_and_always_dated(catalog: Catalog) -> None:
    for key, price in catalog.prices.items():
        if price.spot_usd_per_hour is not None:
            assert price.spot_date is not None, key
            if price.on_demand_usd_per_hour is not None:
                assert price.spot_usd_per_hour <= price.on_demand_usd_per_hour, key


def test_a_price_that_is_not_known_is_none(catalog: Catalog) -> None:
    assert catalog.price("us-east-1", "g7.2xlarge") is None
    assert catalog.price("mars-north-1", "g6.xlarge") is None


def test_a_bigger_size_of_a_family_never_costs_less(catalog: Catalog) -> None:
    for accelerator in catalog.accelerators:
        for region in SPOT_AND_GPU_REGIONS:
            by_family: dict[str, list[tuple[int, int, float]]] = {}
            for kind in catalog.instances_with(accelerator):
                price = catalog.price(region, kind.name)
                if price and price.on_demand_usd_per_hour:
                    row = (kind.accelerator_count, kind.vcpu, price.on_demand_usd_per_hour)
                    by_family.setdefault(kind.family, []).append(row)
            for family, rows in by_family.items():
                for count in {row[0] for row in rows}:
                    costs = [usd for gpus, _, usd in rows if gpus == count]
                    assert costs == sorted(costs), (family, region)


def test_list_prices_name_the_regions_they_know(catalog: Catalog) -> None:
    assert catalog.fixed_price("eks_control_plane").usd("us-west-2") == 0.10
    with pytest.raises(LookupError, match=r"us-east-1"):
        catalog.fixed_price("nat_gateway_hour").usd("mars-north-1")


def test_snapshot_volumes_hydrate_between_100_and_300_mib_per_second(catalog: Catalog) -> None:
    low = catalog.limit("volume_initialization_rate_min_mib_per_second")
    high = catalog.limit("volume_initialization_rate_max_mib_per_second")
    assert (low.value, high.value, low.unit) == (100, 300, "MiB/s")


def test_parallel_pull_is_published_as_faster_than_one_layer_at_a_time(catalog: Catalog) -> None:
    def rate(key: str) -> float:
        return catalog.figure(key).bytes_per_second or 0.0

    assert rate("image.parallel.bottlerocket") > rate("image.parallel.al2023")
    assert rate("image.parallel.al2023") > 3 * rate("image.registry")


def test_a_rate_agrees_with_the_seconds_and_size_it_was_read_from(catalog: Catalog) -> None:
    for figure in catalog.figures.values():
        if figure.bytes_per_second and figure.size_bytes and figure.seconds_p50:
            implied = figure.size_bytes / figure.seconds_p50
            assert abs(implied - figure.bytes_per_second) < 0.02 * implied, figure.key


def test_a_restored_compile_cache_beats_an_empty_one(catalog: Catalog) -> None:
    sizes = [key.removeprefix("compile.cold.") for key in catalog.figures if ".cold." in key]
    assert sizes
    for size in sizes:
        cold, warm = catalog.figure(f"compile.cold.{size}"), catalog.figure(f"compile.warm.{size}")
        assert (cold.seconds_p50 or 0) > 2 * (warm.seconds_p50 or 0)


def test_charts_are_pinned_to_a_release(catalog: Catalog) -> None:
    for chart in catalog.charts.values():
        assert re.fullmatch(r"\d+\.\d+\.\d+", chart.version), chart.key
    assert catalog.chart("karpenter").version == catalog.chart("karpenter-crd").version == "1.14.1"
    assert catalog.chart("spegel").is_oci and not catalog.chart("keda").is_oci


def test_each_kubernetes_version_has_all_addons(catalog: Catalog) -> None:
    needed = {
        "vpc-cni",
        "coredns",
        "kube-proxy",
        "aws-ebs-csi-driver",
        "aws-efs-csi-driver",
        "eks-pod-identity-agent",
        "eks-node-monitoring-agent",
    }
    for version, release in catalog.eks_releases.items():
        assert needed <= release.addons.keys(), version
        assert release.addons["kube-proxy"].startswith(f"v{version}."), version
        assert release.standard_support_ends < release.extended_support_ends
    assert catalog.eks_release("1.35").standard_support_ends == date(2027, 3, 27)


def test_a_wrong_type_is_refused_with_file_key_and_value(spoilt: Callable[..., str]) -> None:
    error = spoilt("models.yaml", "layers: 64", "layers: many")
    assert error.startswith("data/models.yaml: Qwen/Qwen3-32B.layers: 'many': ")
    assert "valid integer" in error


def test_an_unknown_field_is_refused(spoilt: Callable[..., str]) -> None:
    error = spoilt("limits.yaml", "{value: 100, unit", "{valeu: 100, unit")
    assert "data/limits.yaml: volume_initialization_rate_min_mib_per_second.value" in error
    assert "volume_initialization_rate_min_mib_per_second.valeu" in error


def test_an_entry_without_source_is_refused(spoilt: Callable[..., str]) -> None:
    error = spoilt("charts.yaml", "  source: https://github.com/spegel-org", "  sauce: https://g")
    assert "data/charts.yaml: spegel.source: Field required" in error


def test_a_source_on_somebodys_machine_is_refused(spoilt: Callable[..., str]) -> None:
    error = spoilt("charts.yaml", "source: https://github.com/spegel-org/", "source: /home/me/")
    assert "data/charts.yaml: spegel.source" in error and "public citation" in error


def test_an_instance_with_an_unknown_accelerator_is_refused(spoilt: Callable[..., str]) -> None:
    error = spoilt("aws_instance_types.yaml", "p4d.24xlarge: [nvidia-a100-40gb", "p4d.24xlarge: [a")
    assert "data/aws_instance_types.yaml: p4d.24xlarge.accelerator: 'a'" in error
    assert "nvidia-a100-80gb" in error


def test_a_gpu_memory_that_contradicts_the_accelerator_is_refused(
    spoilt: Callable[..., str],
) -> None:
    error = spoilt("aws_instance_types.yaml", "8, 40960, 96", "8, 81920, 96")
    assert "p4d.24xlarge.accelerator_memory_mib: 81920: nvidia-a100-40gb has 40.0 GiB" in error


def test_a_price_for_an_unknown_instance_is_refused(spoilt: Callable[..., str]) -> None:
    error = spoilt("aws_prices.yaml", "g4dn.xlarge:", "g4dn.extralarge:")
    assert "data/aws_prices.yaml: us-east-1.g4dn.extralarge" in error


def test_a_serverless_price_of_an_unknown_model_is_refused(spoilt: Callable[..., str]) -> None:
    error = spoilt("serverless_prices.yaml", "openai/gpt-oss-120b:", "openai/gpt-oss-121b:")
    assert "data/serverless_prices.yaml: digitalocean.openai/gpt-oss-121b: " in error
    assert "expected a model of models.yaml" in error


def test_a_serverless_price_without_its_three_values_is_refused(spoilt: Callable[..., str]) -> None:
    error = spoilt("serverless_prices.yaml", "[0.10, 0.70, openai-gpt-oss-120b]", "[0.10, 0.70]")
    assert (
        "[0.1, 0.7]: expected [input_usd_per_million, output_usd_per_million, served_as]" in error
    )


def test_a_price_of_nothing_is_refused(spoilt: Callable[..., str]) -> None:
    error = spoilt("serverless_gpu_prices.yaml", "nvidia-l4-24gb: 0.000222", "nvidia-l4-24gb: 0")
    assert "modal.nvidia-l4-24gb.usd_per_second: 0: Input should be greater than 0" in error


def test_a_serverless_gpu_that_no_accelerator_is_is_refused(spoilt: Callable[..., str]) -> None:
    error = spoilt("serverless_gpu_prices.yaml", "nvidia-t4-16gb:", "nvidia-t5-16gb:")
    assert "modal.nvidia-t5-16gb: 'nvidia-t5-16gb': expected a key of accelerators.yaml" in error


def test_output_tokens_never_cost_less_than_input_tokens(catalog: Catalog) -> None:
    for price in catalog.token_prices.values():
        assert price.output_usd_per_million >= price.input_usd_per_million, price


def test_serverless_prices_of_a_model_come_by_provider(catalog: Catalog) -> None:
    found = [price.provider for price in catalog.token_prices_of("openai/gpt-oss-120b")]
    assert found == ["bedrock", "deepinfra", "digitalocean", "fireworks", "groq", "together"]
    assert catalog.token_prices_of("Qwen/Qwen3-1.7B") == ()


def test_the_rented_mi300x_has_every_price_that_was_published_for_it(catalog: Catalog) -> None:
    found = {p.date.isoformat(): p.usd_per_hour for p in catalog.rental_prices.values()}
    assert found == {"2026-05-28": 1.99, "2026-06-23": 1.88, "2026-10-08": 2.59}


def test_an_engine_with_an_unknown_image_is_refused(spoilt: Callable[..., str]) -> None:
    error = spoilt("engines.yaml", "image: engine", "image: motor")
    assert "data/engines.yaml: vllm-0.31.0.image: 'motor'" in error and "stager" in error


def test_a_model_whose_heads_do_not_divide_is_refused(spoilt: Callable[..., str]) -> None:
    error = spoilt("models.yaml", "kv_heads: 8", "kv_heads: 7")
    assert "Qwen/Qwen3-32B" in error and "multiple of kv_heads 7" in error


def test_a_row_with_a_missing_value_is_refused(spoilt: Callable[..., str]) -> None:
    error = spoilt("aws_instance_types.yaml", "g6.xlarge: [nvidia-l4-24gb, 1,", "g6.xlarge: [1,")
    assert "data/aws_instance_types.yaml: rows.g6.xlarge" in error and "expected 12 values" in error


def test_a_key_given_twice_is_refused(spoilt: Callable[..., str]) -> None:
    error = spoilt("limits.yaml", "gp3_max_iops:", "gp3_baseline_iops:")
    assert "data/limits.yaml" in error and "'gp3_baseline_iops' is given twice" in error


def test_text_that_is_not_yaml_is_refused_with_its_line(spoilt: Callable[..., str]) -> None:
    error = spoilt("charts.yaml", "karpenter:\n", "karpenter: [\n")
    assert "data/charts.yaml: not valid YAML" in error and "line" in error


def test_all_faults_of_all_files_are_reported_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(DATA, folder)
    (folder / "charts.yaml").unlink()
    limits = yaml.safe_load((folder / "limits.yaml").read_text(encoding="utf-8"))
    limits["gp3_max_iops"]["value"] = "much"
    (folder / "limits.yaml").write_text(yaml.safe_dump(limits), encoding="utf-8")
    with pytest.raises(CatalogError) as caught:
        load_folder(folder)
    lines = str(caught.value).splitlines()
    assert any("charts.yaml: the file is missing" in line for line in lines)
    assert any("gp3_max_iops.value: 'much'" in line for line in lines)


def test_the_catalog_needs_no_pulumi() -> None:
    for path in DATA.parent.glob("*.py"):
        assert "import pulumi" not in path.read_text(encoding="utf-8")


def test_a_region_where_every_family_was_compared_costs_what_us_east_1_costs(
    catalog: Catalog,
) -> None:
    """us-east-2 and us-west-2 carry us-east-1's list prices: a slip in one row would show here."""
    for (region, instance), price in catalog.prices.items():
        if region in ("us-east-2", "us-west-2"):
            east = catalog.price("us-east-1", instance)
            assert east is not None and east.on_demand_usd_per_hour is not None, instance
            assert price.on_demand_usd_per_hour == pytest.approx(
                east.on_demand_usd_per_hour, rel=1e-5
            ), (region, instance)


def test_a_slice_with_a_missing_value_is_refused(spoilt: Callable[..., str]) -> None:
    error = spoilt("mig_profiles.yaml", "[1g.5gb, 1, 1, 7]", "[1g.5gb, 1, 1]")
    assert "data/mig_profiles.yaml: nvidia-a100-40gb.profiles[0]" in error
    assert "expected 4 values" in error


def test_slices_of_an_unknown_gpu_are_refused(spoilt: Callable[..., str]) -> None:
    error = spoilt("mig_profiles.yaml", "nvidia-h200-141gb:", "nvidia-h200:")
    assert "data/mig_profiles.yaml: nvidia-h200: 'nvidia-h200': expected a key" in error
