"""The Jobs that prepare weights and compile caches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coldstart.planning import StackPlan
from tests.program import workload_runs as runs
from tests.program.recording import Recorded, Resource


def job(recorded: Recorded, component: str) -> Resource:
    (found,) = [
        item
        for item in recorded.of_type("Job")
        if item.at("metadata.labels")["app.kubernetes.io/component"] == component
    ]
    return found


def fetch_container(recorded: Recorded) -> dict[str, Any]:
    return job(recorded, "weights").at("spec.template.spec.containers.0")


def with_engine(plan: StackPlan, digest: str) -> StackPlan:
    image = replace(plan.images["engine"], digest=digest)
    return replace(plan, images={**plan.images, "engine": image})


def of_revision(revision: str) -> Recorded:
    return runs.served(runs.planned(runs.stack_spec(
        {"chat": {"weights": "stream", "source": f"hf://Qwen/Qwen3-8B@{revision}"}})))  # fmt: skip


def test_the_fetch_job_pins_the_commit_and_writes_where_servers_read() -> None:
    variables = runs.variables(fetch_container(runs.run(runs.STREAM)))
    assert variables["REVISION"] == runs.REVISION
    assert variables["REPOSITORY"] == "Qwen/Qwen3-8B"
    assert variables["DESTINATION"] == runs.engine(runs.run(runs.STREAM, "none"))["args"][0]
    shared = runs.run(runs.SHARED, "none")
    destination = runs.variables(fetch_container(shared))["DESTINATION"]
    assert destination == runs.engine(shared)["args"][2]


def test_the_stager_reads_what_the_fetch_job_wrote() -> None:
    recorded = runs.run(runs.LOCAL)
    destination = runs.variables(fetch_container(recorded))["DESTINATION"]
    (stager,) = runs.server(recorded).at("spec.template.spec.initContainers")
    assert destination == f"s3://{runs.BUCKET}/{runs.variables(stager)['WEIGHTS_PREFIX']}"


def test_weights_are_fetched_once_per_revision() -> None:
    first, second = of_revision(runs.REVISION), of_revision(runs.OTHER_REVISION)
    assert job(first, "weights").name != job(second, "weights").name
    again = runs.served(with_engine(runs.plan_for(runs.STREAM), f"sha256:{'a' * 64}"))
    kept = job(again, "weights")
    assert kept.name == job(runs.run(runs.STREAM), "weights").name
    assert kept.at("metadata.name") == job(runs.run(runs.STREAM), "weights").at("metadata.name")
    assert kept.options.ignore_changes == ("spec.template.spec.containers[0].image",)


def test_finished_jobs_stay_so_that_the_next_update_does_not_run_them_again() -> None:
    for item in runs.fleet().of_type("Job"):
        assert item.at("spec.ttlSecondsAfterFinished") is None


def test_a_failed_fetch_is_made_anew_by_the_next_update() -> None:
    annotations = job(runs.run(runs.LOCAL), "weights").at("metadata.annotations")
    assert annotations == {"pulumi.com/replaceUnready": "true"}


def test_an_update_waits_for_the_weights_as_long_as_fetching_them_may_take() -> None:
    fetch = job(runs.run(runs.LOCAL), "weights")
    deadline = fetch.at("spec.activeDeadlineSeconds")
    assert fetch.options.timeouts["create"] == f"{deadline:.0f}s"
    assert fetch.urn in runs.server(runs.run(runs.LOCAL)).dependencies, "no GPU without weights"


@pytest.mark.parametrize("way", [runs.LOCAL, runs.SHARED])
def test_the_volume_for_fetching_holds_what_the_script_is_told_it_holds(way: str) -> None:
    recorded = runs.run(way)
    pod = job(recorded, "weights").at("spec.template.spec")
    staging = int(runs.variables(pod["containers"][0])["STAGING_BYTES"])
    volume = next(v for v in pod["volumes"] if v["name"] == "store")
    if way == runs.SHARED:
        assert volume["persistentVolumeClaim"]["claimName"] == "weights"
    else:
        assert volume["emptyDir"]["sizeLimit"] == f"{staging // 1024**2}Mi"


def test_the_golden_cache_is_compiled_by_the_very_command_that_serves() -> None:
    for way in (runs.LOCAL, runs.STREAM, runs.SHARED):
        recorded = runs.run(way)
        serving = runs.engine(recorded)
        publishing = job(recorded, "compile-cache").at("spec.template.spec.containers.0")
        assert publishing["args"] == serving["args"]
        assert publishing["image"] == serving["image"]
        differing = runs.variables(publishing).items() ^ runs.variables(serving).items()
        assert not [name for name, _ in differing if name.startswith("VLLM_")], way
        assert publishing["resources"] == serving["resources"]
        assert "VLLM_API_KEY" not in {item["name"] for item in publishing["env"]}


def test_the_archive_is_published_where_servers_look_for_it() -> None:
    recorded = runs.run(runs.LOCAL)
    (reader,) = runs.server(recorded).at("spec.template.spec.initContainers")
    (writer,) = job(recorded, "compile-cache").at("spec.template.spec.initContainers")
    key = runs.plan_for(runs.LOCAL).models["chat"].compile_cache.key
    archive = runs.variables(reader)["RESTORE_ARCHIVE"]
    assert (
        archive == runs.variables(writer)["PUBLISH_ARCHIVE"] == f"chat/compile-cache/{key}.tar.gz"
    )
    assert "RESTORE_ARCHIVE" not in runs.variables(writer), "a cache made of a cache proves nothing"


def test_no_server_waits_for_the_golden_cache() -> None:
    recorded = runs.run(runs.LOCAL)
    publishing = job(recorded, "compile-cache")
    assert publishing.urn not in runs.server(recorded).dependencies
    assert publishing.at("metadata.annotations")["pulumi.com/skipAwait"] == "true"


def test_the_publishing_job_of_a_key_is_never_run_twice() -> None:
    publishing = job(runs.run(runs.LOCAL), "compile-cache")
    key = runs.plan_for(runs.LOCAL).models["chat"].compile_cache.key
    assert key in publishing.name and key in publishing.at("metadata.name")
    assert "spec" in publishing.options.ignore_changes


def test_without_a_golden_cache_nothing_publishes_and_nothing_restores() -> None:
    recorded = runs.run(runs.LOCAL, "none")
    assert len(recorded.of_type("Job")) == 1
    (stager,) = runs.server(recorded).at("spec.template.spec.initContainers")
    assert "RESTORE_ARCHIVE" not in runs.variables(stager)


def test_scripts_change_their_name_with_their_text_and_are_immutable() -> None:
    configs = [c for c in runs.fleet().of_type("ConfigMap") if c.at("immutable")]
    assert len(configs) == 3 + 3 + 2
    mounted = {
        volume["configMap"]["name"]
        for _, template in runs.pod_templates(runs.fleet())
        for volume in template["spec"].get("volumes", [])
        if "configMap" in volume
    }
    assert mounted == {config.at("metadata.name") for config in configs}
