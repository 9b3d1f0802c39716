"""What `coldstart lint` reads, and what it says about input that is broken or hostile."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.lint import yaml_documents
from policies.lint.sources import Stack, read
from policies.reading.values import Unknown

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: n}\nspec: {containers: []}\n"


def _read(*paths: Path | str, stdin: bytes = b"") -> list[Stack]:
    return read([str(path) for path in paths], io.BytesIO(stdin))


def _one(tmp_path: Path, content: str | bytes, name: str = "a.yaml") -> Stack:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return _read(file)[0]


def test_each_document_is_a_resource_with_its_first_line(tmp_path: Path):
    stack = _one(tmp_path, f"# head\n---\n{POD}---\n{POD.replace('name: a', 'name: b')}")
    places = [stack.place_of(resource).line for resource in stack.resources]
    assert [r.name for r in stack.resources] == ["n/a", "n/b"]
    assert places == [3, 8]
    assert stack.resources[0].type == "kubernetes:core/v1:Pod"


def test_items_of_lists_are_resources_also_without_their_own_kind(tmp_path: Path):
    text = (
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: apps/v1, kind: Deployment, metadata: {name: a}}\n"
        "- {apiVersion: v1, kind: ConfigMapList, items: [{metadata: {name: b}}]}\n"
    )
    assert [(r.type, r.name) for r in _one(tmp_path, text).resources] == [
        ("kubernetes:apps/v1:Deployment", "a"),
        ("kubernetes:core/v1:ConfigMap", "b"),
    ]


def test_what_is_no_kubernetes_object_is_passed_over(tmp_path: Path):
    stack = _one(tmp_path, "replicas: 3\n---\n- 1\n---\n\n---\ntext\n")
    assert stack.resources == [] and stack.problems == []


def test_dates_stay_text_as_they_are_for_the_api_server(tmp_path: Path):
    stack = _one(tmp_path, POD.replace("name: a", "name: a, labels: {day: 2026-01-01}"))
    assert stack.resources[0].properties["metadata"]["labels"]["day"] == "2026-01-01"


def test_a_folder_is_one_stack_in_the_order_of_names_and_hidden_folders_are_left(tmp_path: Path):
    for name in ("b/z.yml", "a.yaml", ".git/c.yaml", "notes.txt"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(POD)
    stack = _read(tmp_path)[0]
    assert [Path(stack.place_of(r).path).name for r in stack.resources] == ["a.yaml", "z.yml"]


def test_standard_input_is_read_once_and_named(tmp_path: Path):
    stack = _read("-", stdin=POD.encode())[0]
    assert stack.place_of(stack.resources[0]).path == "<stdin>"


BROKEN = [
    ("a: [\n", 2, "not valid YAML"),
    ("a: \x00", 1, "character U+0000 is not allowed"),
    (b"a: \xff\n", 1, "is not UTF-8"),
    (b"# \xc3\xa4\nb: \xe4\n", 2, "is not UTF-8"),
    ("a: &x [*x]\n", 1, "an anchor contains itself"),
    ("a: &x {b: {c: *x}}\n", 1, "an anchor contains itself"),
    ("a: " + "[" * 100_000, 1, "nested deeper than"),
    ("- " * 50_000, 1, "nested deeper than"),
    ("a: {{ .Values.x }}\nb: {{- if x }}\n", 2, "helm template"),
    ("a: !!python/object/apply:os.system [x]\n", 1, "not valid YAML"),
    ("a: 1\na\n", 3, "not valid YAML"),
    ("? [a]\n: b\n", 1, "not valid YAML"),
    (f"a: 1\n---\nb: {'9' * 5_000}\n", 3, "a number"),
    ("", 1, "empty"),
    ("\n \n", 1, "empty"),
]


@pytest.mark.parametrize(("content", "line", "says"), BROKEN, ids=range(len(BROKEN)))
def test_broken_input_is_one_problem_with_its_line(
    tmp_path: Path, content: str | bytes, line: int, says: str
):
    stack = _one(tmp_path, content, "bad.yaml")
    (problem,) = stack.problems
    assert problem.path.endswith("bad.yaml") and says in problem.message
    assert problem.line == line


def test_a_broken_manifest_of_a_folder_is_a_problem_and_the_rest_is_read(tmp_path: Path):
    (tmp_path / "bad.yaml").write_text("apiVersion: [\n")
    (tmp_path / "good.yaml").write_text(POD)
    stack = _read(tmp_path)[0]
    assert len(stack.resources) == 1 and len(stack.problems) == 1


def test_files_of_a_folder_that_can_hold_no_object_are_left(tmp_path: Path):
    (tmp_path / "pod.yaml").write_text(POD)
    (tmp_path / "tsconfig.json").write_text('{"include": ["src"], // a comment\n}')
    (tmp_path / "stack.yaml").write_text("Resources: {Role: !Sub arn}\n")
    stack = _read(tmp_path)[0]
    assert (stack.files, len(stack.resources), stack.problems) == (1, 1, [])
    assert _read(tmp_path / "stack.yaml")[0].problems


@pytest.mark.parametrize(
    "escaped",
    ['{"\\u0061piVersion": "v1", "kind": "Pod"}', '{"\\x61piVersion": "v1", "kind": "Pod"}'],
)
def test_a_key_written_with_escapes_hides_no_object(tmp_path: Path, escaped: str):
    (tmp_path / "pod.yaml").write_text(escaped)
    assert [item.kind for item in _read(tmp_path)[0].resources] == ["Pod"]


def test_patches_that_a_kustomization_names_are_no_objects_of_a_folder(tmp_path: Path):
    files = {
        "overlay/kustomization.yaml": (
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
            "resources: [../base]\n"
            "patches: [{path: ../patches/one.yaml}, {patch: inline, target: {kind: Pod}}]\n"
            "patchesJson6902: [{path: two.yaml}]\n"
            "patchesStrategicMerge: [three.yaml, 'kind: Pod\\n']\n"
        ),
        "other/Kustomization": "patches: [{path: four.yaml}, 7]\npatchesStrategicMerge: text\n",
        "patches/one.yaml": POD,
        "overlay/two.yaml": POD,
        "overlay/three.yaml": POD,
        "other/four.yaml": POD,
        "base/pod.yaml": POD,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    stack = _read(tmp_path)[0]
    pods = [stack.place_of(item).path for item in stack.resources if item.kind == "Pod"]
    assert [Path(path).name for path in pods] == ["pod.yaml"]
    assert stack.problems == []
    assert len(_read(tmp_path / "overlay/two.yaml")[0].resources) == 1


def test_a_broken_kustomization_is_said_once_and_names_no_patches(tmp_path: Path):
    (tmp_path / "kustomization.yaml").write_text("apiVersion: v1\npatches: [\n")
    (tmp_path / "pod.yaml").write_text(POD)
    stack = _read(tmp_path)[0]
    assert len(stack.problems) == len(stack.resources) == 1


def test_an_equals_sign_alone_is_text_as_it_is_for_the_api_server(tmp_path: Path):
    stack = _one(tmp_path, POD.replace("name: a", "name: a, labels: {sign: =}"))
    assert stack.resources[0].properties["metadata"]["labels"]["sign"] == "="


@pytest.mark.parametrize("written", ["${replicas}", '"${replicas}"', "<REPLICAS>", "N_REPLICAS"])
def test_a_count_that_a_template_fills_in_later_is_not_known_yet(tmp_path: Path, written: str):
    text = f"apiVersion: apps/v1\nkind: Deployment\nspec:\n  replicas: {written}\n"
    (deployment,) = _one(tmp_path, text).resources
    assert deployment.properties["spec"]["replicas"] == Unknown(("spec", "replicas"))


def test_counts_written_as_text_are_known(tmp_path: Path):
    text = (
        "apiVersion: policy/v1\nkind: PodDisruptionBudget\n"
        'spec:\n  minAvailable: "50%"\n  replicas: "3"\n  maxUnavailable: null\n  maxSurge: ${x}\n'
    )
    spec = _one(tmp_path, text).resources[0].properties["spec"]
    assert (spec["minAvailable"], spec["replicas"], spec["maxUnavailable"]) == ("50%", "3", None)


def test_documents_before_the_broken_one_are_judged(tmp_path: Path):
    stack = _one(tmp_path, f"{POD}---\na: [\n")
    assert len(stack.resources) == 1 and len(stack.problems) == 1


def test_aliases_that_unfold_without_end_are_refused_unfolded_ones_are_not(tmp_path: Path):
    levels = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    levels += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "aliases unfold" in _one(tmp_path, "\n".join(levels)).problems[0].message
    assert _one(tmp_path, "\n".join(levels[:3])).problems == []


def test_aliases_that_nest_are_as_deep_as_the_tree_they_stand_for(tmp_path: Path):
    def nested(levels: int) -> str:
        lines = [f"- &a{n} {{x: *a{n - 1}}}" for n in range(1, levels)]
        # With enough beside them, only the depth is too much.
        return "\n".join(["- &a0 {x: 1}", *lines, *["- 1"] * 30_000])

    assert _one(tmp_path, nested(150)).problems == []
    (problem,) = _one(tmp_path, nested(600)).problems
    assert "nested deeper than 200 levels by its aliases" in problem.message


def test_what_a_file_unfolds_to_stays_in_proportion_to_its_text(tmp_path: Path):
    tens = {name: ",".join([what] * 10) for name, what in (("a", "x"), ("b", "*a"), ("c", "*b"))}
    bomb = "".join(f"{name}: &{name} [{items}]\n" for name, items in tens.items())
    assert _one(tmp_path, bomb).problems == []
    stack = _one(tmp_path, "---\n".join([bomb] * 100))
    assert "aliases unfold to more than" in stack.problems[0].message


def test_more_values_than_can_be_held_are_refused_before_a_tree_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(yaml_documents, "MAX_NODES", 10)
    (problem,) = _one(tmp_path, "a:\n" + "- 1\n" * 10).problems
    assert "more than 10 values" in problem.message and problem.line == 9
    assert _one(tmp_path, "a:\n" + "- 1\n" * 5).problems == []


def test_a_manifest_in_another_encoding_is_not_passed_over_in_a_folder(tmp_path: Path):
    (tmp_path / "wide.yaml").write_bytes(POD.encode("utf-16"))
    assert "is not UTF-8" in _read(tmp_path)[0].problems[0].message


def test_a_pipe_of_a_folder_is_left_and_a_named_one_is_read(tmp_path: Path):
    (tmp_path / "pod.yaml").write_text(POD)
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    assert len(_read(tmp_path)[0].resources) == 1
    writer = threading.Thread(target=pipe.write_text, args=(POD,))
    writer.start()
    assert len(_read(pipe)[0].resources) == 1
    writer.join()


def test_a_file_over_the_limit_is_named_with_the_limit_and_not_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("policies.lint.sources.MAX_FILE_BYTES", 100)
    monkeypatch.setattr(yaml_documents, "MAX_FILE_BYTES", 100)
    stack = _one(tmp_path, "#" * 101)
    assert "larger than the limit" in stack.problems[0].message
    assert _one(tmp_path, "#" * 100).problems == []


def test_a_missing_path_and_a_folder_with_nothing_to_read_are_problems(tmp_path: Path):
    missing, unset, empty = _read(tmp_path / "none", "", tmp_path)
    assert "no such file" in missing.problems[0].message
    assert "no such file" in unset.problems[0].message and unset.files == 0
    assert "no .yaml" in empty.problems[0].message


def test_an_unreadable_file_is_a_problem(tmp_path: Path):
    link = tmp_path / "a.yaml"
    link.symlink_to(link)
    assert "cannot be read" in _read(tmp_path)[0].problems[0].message


UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
SECRET = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}


def test_a_preview_gives_planned_resources_with_unknown_values_marked(tmp_path: Path):
    def step(op: str, name: str, **inputs: object) -> dict[str, object]:
        urn = f"urn:pulumi:s::p::aws:eks/cluster:Cluster::{name}"
        return {
            "op": op,
            "newState": {"urn": urn, "type": "aws:eks/cluster:Cluster"} | {"inputs": inputs},
        }

    steps = [
        step("create", "a", vpcConfig={"endpointPublicAccess": UNKNOWN}, key=SECRET),
        step("delete", "b"),
        step("create-replacement", "c", version=1),
        step("replace", "c", version=1),
    ]
    found = _one(tmp_path, json.dumps({"steps": steps}), "preview.json").resources
    assert [r.name for r in found] == ["a", "c"]
    assert found[0].properties["vpcConfig"]["endpointPublicAccess"] == Unknown(
        ("a", "vpcConfig", "endpointPublicAccess")
    )
    assert isinstance(found[0].properties["key"], Unknown)


def test_an_export_gives_the_resources_there_are(tmp_path: Path):
    def state(name: str, **more: object) -> dict[str, object]:
        urn = f"urn:pulumi:s::p::aws:sqs/queue:Queue::{name}"
        return {"urn": urn, "type": "aws:sqs/queue:Queue", "inputs": {"name": name}, **more}

    text = json.dumps({"deployment": {"resources": [state("a"), state("b", delete=True)]}})
    assert [r.name for r in _one(tmp_path, text, "state.json").resources] == ["a"]


@settings(max_examples=200, deadline=None, database=None)
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_bytes_make_the_reader_fail(raw: bytes):
    stack = _read("-", stdin=raw)[0]
    assert stack.files == 1
