"""The stack file: every problem at once, each with its place and what would work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bad_stacks import STACKS, dumped, good, with_value, without
from stack_examples import A100, BIG, L40S, ROOT, SMALL, C, refused, spec_of

from coldstart.planning import plan_stack
from coldstart.spec import (
    AUTO,
    CapacityType,
    Environment,
    Layer,
    SpecError,
    StackSpec,
    load_stack,
    parse_config,
    stack_file,
)
from coldstart.spec.load import MAX_FILE_BYTES

EVERY_STACK = sorted(file.name.split(".")[1] for file in STACKS.glob("Pulumi.*.yaml"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "stacks").mkdir()
    for file in STACKS.glob("Pulumi.*.yaml"):
        (tmp_path / "stacks" / file.name).write_bytes(file.read_bytes())
    return tmp_path


def told(checkout: Path, content: bytes | str, stack: str = "mine") -> list[str]:
    file = checkout / "stacks" / f"Pulumi.{stack}.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SpecError) as caught:
        load_stack(checkout, stack)
    return str(caught.value).splitlines()


def text_of(stack: str = "eks-prod") -> str:
    return (STACKS / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8")


def line_of(text: str, part: str) -> int:
    return next(i for i, line in enumerate(text.splitlines(), 1) if part in line)


@pytest.mark.parametrize("stack", EVERY_STACK)
def test_the_stacks_of_the_repository_run_as_they_stand(stack: str) -> None:
    assert plan_stack(load_stack(ROOT, stack)).spec.stack == stack


@pytest.mark.parametrize("stack", EVERY_STACK)
def test_objects_arrive_as_json_from_the_engine_and_mean_the_same(stack: str) -> None:
    config = {k: v if isinstance(v, str) else json.dumps(v) for k, v in good(stack).items()}
    from_engine = parse_config(config, stack=stack, file="f", root=ROOT)
    assert from_engine.model_dump() == load_stack(ROOT, stack).model_dump()


def test_a_wish_that_cannot_be_planned_is_told_with_its_line() -> None:
    spec = load_stack(ROOT, "eks-prod")
    lines = stack_file(ROOT, "eks-prod").read_text().splitlines()
    line = spec.line_of("models.qwen3-8b.coldStartBudget")
    assert line is not None
    assert "coldStartBudget: 4m" in lines[line - 1]
    assert spec.line_of("models.qwen3-8b.weights") == lines.index("    qwen3-8b:") + 1


def test_a_short_file_leaves_every_choice_to_auto() -> None:
    pool, model = spec_of().node_pools["a100"], spec_of().models["qwen3-32b"]
    assert {pool.os, pool.image, pool.local_storage} == {AUTO}
    assert {model.weights, model.load_format, model.compile_cache, model.precision} == {AUTO}
    assert pool.capacity[0] is CapacityType.RESERVED


def test_prod_is_meant_where_nothing_is_said() -> None:
    config = without(good(), (f"{C}environment",))
    spec = parse_config(config, stack="s", file="f", root=ROOT)
    assert spec.environment is Environment.PROD
    assert spec.layers == (Layer.INFRA, Layer.WORKLOAD)


def test_every_problem_is_told_at_once_in_the_order_of_the_file(checkout: Path) -> None:
    text = text_of()
    for old, new in (("zones: 3", "zones: 9"), ("maxNodes: 4", "maxnodes: 4"),
                     ("nodePool: a100", "nodePool: a10"), ("min: 1", "min: -1")):  # fmt: skip
        text = text.replace(old, new, 1)
    lines = told(checkout, text)
    paths = [line.split(": ")[1] for line in lines]
    assert paths == [
        "network.zones",
        "nodePools.a100.maxNodes",
        "nodePools.a100.maxnodes",
        "models.qwen3-32b.nodePool",
        "models.qwen3-32b.scaling.min",
    ]
    assert lines[0].startswith(f"stacks/Pulumi.mine.yaml:{line_of(text, 'zones: 9')}: ")
    assert lines[3].startswith(f"stacks/Pulumi.mine.yaml:{line_of(text, 'nodePool: a10')}: ")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("coldstart:nodePools:", "coldstart:nodepools:", 'did you mean "nodePools"?'),
        ("nvidia-l40s-48gb", "nvidia-l40-48gb", 'did you mean "nvidia-l40s-48gb"?'),
        ("nodePool: l40s", "nodePool: l40", 'did you mean "l40s"?'),
        ("Qwen/Qwen3-8B@", "Qwen/Qwen3-8b@", 'did you mean "Qwen/Qwen3-8B"?'),
        ("min: 1, max: 6}", "mn: 1, max: 6}", 'did you mean "min"?'),
        ("capacity: [spot, on-demand]", "capacity: [spott]", 'did you mean "spot"?'),
        ("coldstart:platform: eks", "coldstart:platform: ekss", 'did you mean "eks"?'),
        ("environment: prod", "environment: prd", 'did you mean "prod"?'),
        ('"1.35"', '"9.99"', "choose from: 1.34, 1.35, 1.36"),
        ("coldstart:storage:", "coldstrt:storage:", "did you mean coldstart:storage?"),
        ("  coldstart:storage:", "  storage:", "write coldstart:storage"),
        ("config:\n", "confg:\n", 'did you mean "config"?'),
        ("  aws:region: us-west-2\n", "", "aws:region: is required"),
        ("us-west-2\n", "uswest2\n", "write for example us-west-2"),
        ("coldStartBudget: 5m", "coldStartBudget: 300", "write it with a unit"),
        ("cidr: 10.40.0.0/16", "cidr: 10.40.1.0/16", "write for example 10.40.0.0/16"),
        ("[203.0.113.0/24]", "[0.0.0.0/0]", "opens the API endpoint to (nearly) everyone"),
        ("@b968826d9c46dd6066d109eabc6255188de91218", "@main", "@<40-digit commit>"),
    ],
)
def test_a_near_miss_says_what_was_meant(checkout: Path, old: str, new: str, said: str) -> None:
    text = text_of()
    assert old in text
    assert any(said in line for line in told(checkout, text.replace(old, new, 1)))


def test_a_stack_that_does_not_exist_names_the_one_that_was_meant(checkout: Path) -> None:
    with pytest.raises(SpecError, match='there is no such file; did you mean "eks-prod"'):
        load_stack(checkout, "eks-pord")


@pytest.mark.parametrize("name", ["../stacks/eks", "a/b", "x" * 300, "a\0b", ""])
def test_a_stack_name_cannot_leave_the_stacks_folder(checkout: Path, name: str) -> None:
    with pytest.raises(SpecError, match="there is no such file"):
        load_stack(checkout, name)


def test_a_misspelt_instance_type_names_the_nearest_that_carries_the_gpu() -> None:
    said = refused({(*L40S, "instanceTypes"): ["g6e.xlrge"]})
    assert '"g6e.xlrge" does not carry nvidia-l40s-48gb; did you mean "g6e.xlarge"?' in said


def test_a_type_with_another_gpu_does_not_belong_into_the_pool() -> None:
    assert '"g6.xlarge" does not carry' in refused({(*L40S, "instanceTypes"): ["g6.xlarge"]})


@pytest.mark.parametrize("value", [True, "yes please", 2.5])
def test_yes_is_not_one_node(value: object) -> None:
    assert "nodePools.a100.maxNodes" in refused({(*A100, "maxNodes"): value})


def test_a_version_without_quotes_is_told_about_quotes(checkout: Path) -> None:
    (line,) = told(checkout, text_of().replace('"1.35"', "1.35"))
    assert "cluster.version: 1.35: must be text; put it in quotes" in line


def test_a_key_that_stands_twice_is_not_the_last_one_wins(checkout: Path) -> None:
    text = text_of().replace("maxNodes: 4", "maxNodes: 4\n      maxNodes: 5")
    (line,) = told(checkout, text)
    place = f"stacks/Pulumi.mine.yaml:{line_of(text, 'maxNodes: 5')}: nodePools.a100.maxNodes: "
    assert line == place + "stands twice in the file"


def test_an_alias_is_refused_where_it_is_used(checkout: Path) -> None:
    text = text_of().replace("    l40s:\n", "    x: &x {maxNodes: 1}\n    y: *x\n    l40s:\n", 1)
    assert any(
        "nodePools.y: is a YAML alias; write the value out" in t for t in told(checkout, text)
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"config:\n  a: \xff\n", "is not UTF-8 text: invalid start byte at byte 13"),
        (b"config: [1, 2", "is not YAML: while parsing a flow sequence"),
        (b"config:\n\taws:region: x\n", "found character '\\t' that cannot start any token"),
        (b"config:\n  a: \x00\n", "is not YAML: special characters are not allowed"),
        (b"config: " + b"[" * 700, "nested too deeply"),
        (b"", "has no config: mapping; see stacks/Pulumi.eks-dev.yaml"),
        (b"config: {}\n---\nconfig: {}\n", "expected a single document in the stream"),
        (b"#" * (MAX_FILE_BYTES + 1), f"the limit is {MAX_FILE_BYTES} for a stack file"),
        (b"config: {}\nmodels: {}\n", "models: is not a key of a stack file's top level"),
        (b"config:\n  ? [a, b]\n  : c\n", "has a key that is not text"),
    ],
)
def test_a_file_that_is_no_stack_file_says_why(checkout: Path, content: bytes, said: str) -> None:
    assert any(said in line for line in told(checkout, content))


def test_a_folder_in_the_place_of_a_stack_file_is_no_stack_file(checkout: Path) -> None:
    (checkout / "stacks" / "Pulumi.mine.yaml").mkdir()
    with pytest.raises(SpecError, match="there is no such file"):
        load_stack(checkout, "mine")


def test_control_characters_of_a_file_never_reach_the_terminal(checkout: Path) -> None:
    text = text_of().replace("nodePool: l40s", 'nodePool: "\\e[2J\\r\\n\\u202e"', 1)
    (line,) = told(checkout, text)
    assert line.isprintable()
    assert "\\x1b[2J\\r\\n\\u202e" in line


def test_a_secret_in_plain_text_is_refused_and_not_repeated(checkout: Path) -> None:
    for key in ("apiKey", "huggingFaceToken"):
        (line,) = told(checkout, dumped(with_value(good(), (f"{C}{key}",), "hunter2")))
        assert f"{key}: must be encrypted: pulumi config set --secret coldstart:{key}" in line
        assert "hunter2" not in line


def test_an_encrypted_secret_is_accepted_and_stays_out_of_the_spec(checkout: Path) -> None:
    config = with_value(good(), (f"{C}apiKey",), {"secure": "v1:abc"})
    (checkout / "stacks" / "Pulumi.mine.yaml").write_bytes(dumped(config))
    assert "v1:abc" not in load_stack(checkout, "mine").model_dump_json()


def test_what_the_engine_keeps_beside_the_config_is_left_alone(checkout: Path) -> None:
    text = "encryptionsalt: v1:abc=\nsecretsprovider: passphrase\n" + text_of()
    (checkout / "stacks" / "Pulumi.mine.yaml").write_text(text)
    assert load_stack(checkout, "mine").region == "us-west-2"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({(f"{C}layers",): ["infra"]}, "models: are for the workload layer"),
        ({(f"{C}layers",): ["workload"]}, "infraStack: is required when layers is [workload]"),
        ({(f"{C}infraStack",): "eks-prod-infra"}, "this stack makes its own cluster"),
        ({(f"{C}servingNamespaces",): ["a"]}, "here the models are the namespaces"),
        ({(f"{C}models",): {}}, "models: is required: name at least one model to serve"),
        ({(f"{C}nodePools",): {}}, "nodePools: is required: name at least one pool"),
        ({(f"{C}region",): "us-west-2"}, "region: is not set here; write aws:region"),
        ({(*A100, "capacity"): ["spot"]}, "capacity reserved and reservations go together"),
        ({(*L40S, "capacity"): ["reserved"]}, "capacity reserved and reservations go together"),
        ({(*A100, "warmNodes"): 5}, "warmNodes 5 exceeds maxNodes 4"),
        ({(*BIG, "scaling"): {"min": 3, "max": 2}}, "min 3 exceeds max 2"),
        ({(*A100, "expireAfter"): "5m"}, "must be between 1h and 365d"),
        ({(f"{C}models", "vllm"): good()[f"{C}models"]["qwen3-8b"]}, "VLLM_PORT"),
        ({(f"{C}models", "keda"): good()[f"{C}models"]["qwen3-8b"]}, "is reserved"),
        ({(f"{C}network", "cidr"): "169.254.0.0/16"}, "is not private address space"),
        ({(f"{C}cluster", "systemInstanceType"): "g6.xlarge"}, "not a known type without GPUs"),
    ],
)
def test_keys_that_contradict_each_other_say_which_rule_holds(changes: dict, said: str) -> None:
    assert said in refused(changes)


WORKLOAD = "eks-prod-workload"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({(f"{C}infraStack",): "eks-prod-ifra"}, "there is no stacks/Pulumi.eks-prod-ifra.yaml"),
        ({(f"{C}infraStack",): WORKLOAD}, "makes no cluster either; name the stack that does"),
        ({(f"{C}infraStack",): "../x"}, "infraStack: there is no stacks/Pulumi.../x.yaml"),
        ({(f"{C}cluster",): {"version": "1.35"}}, "cluster: belongs to the stack eks-prod-infra"),
        ({("aws:region",): "us-east-1"}, 'differs from the cluster\'s "us-west-2"'),
        ({(f"{C}models", "more"): good()[f"{C}models"]["qwen3-8b"]}, "has no storage identity"),
    ],
)
def test_a_workload_stack_keeps_to_the_cluster_it_names(changes: dict, said: str) -> None:
    assert said in refused(changes, WORKLOAD)


def test_mistakes_of_the_cluster_stack_are_told_with_its_own_file_and_line(checkout: Path) -> None:
    infra = text_of("eks-prod-infra").replace("maxNodes: 4", "maxNodes: 0")
    (checkout / "stacks" / "Pulumi.eks-prod-infra.yaml").write_text(infra)
    with pytest.raises(SpecError) as caught:
        load_stack(checkout, WORKLOAD)
    line = line_of(infra, "maxNodes: 0")
    assert str(caught.value).startswith(
        f"stacks/Pulumi.eks-prod-infra.yaml:{line}: nodePools.a100.maxNodes: 0"
    )


def test_a_workload_stack_inherits_the_cluster_and_not_its_secrets(checkout: Path) -> None:
    infra = with_value(good("eks-prod-infra"), (f"{C}apiKey",), {"secure": "v1:abc"})
    (checkout / "stacks" / "Pulumi.eks-prod-infra.yaml").write_bytes(dumped(infra))
    spec = load_stack(checkout, WORKLOAD)
    assert spec.layers == (Layer.WORKLOAD,)
    assert spec.cluster_name == "eks-prod-infra"
    assert set(spec.node_pools) == {"a100", "l40s"}
    assert set(spec.models) == {"qwen3-32b", "qwen3-8b"}


def test_a_spec_cannot_be_changed_after_it_was_checked() -> None:
    with pytest.raises(Exception, match="frozen"):
        spec_of().environment = Environment.DEV  # type: ignore[misc]


def test_every_key_of_the_schema_is_spelt_in_camel_case() -> None:
    names = [f.alias or name for name, f in StackSpec.model_fields.items()]
    assert not [name for name in names if "_" in name]


def test_one_problem_is_told_once_per_place() -> None:
    said = refused({(*SMALL, "source"): "hf://Qwen/Qwen3-8B"})
    assert len(said.splitlines()) == 1
