"""How a model is served, scaled and kept warm."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from coldstart.planning import ModelPlan
from components.contract import ContractError, pool_facts, verified
from tests.program import crds
from tests.program import workload_runs as runs
from tests.program.recording import Recorded, revealed

GOLDEN = Path(__file__).parent.parent / "golden" / "pods"
CASES = {
    "local": (runs.LOCAL, "golden", 1),
    "local-no-cache": (runs.LOCAL, "none", 1),
    "stream": (runs.STREAM, "golden", 1),
    "stream-no-cache": (runs.STREAM, "none", 1),
    "stream-from-zero": (runs.STREAM, "golden", 0),
    "shared": (runs.SHARED, "golden", 1),
    "shared-no-cache": (runs.SHARED, "none", 1),
}


def model(way: str, cache_mode: str = "golden", minimum: int = 1) -> ModelPlan:
    return runs.plan_for(way, cache_mode, minimum).models["chat"]


def pod(way: str, cache_mode: str = "golden") -> dict[str, Any]:
    return runs.server(runs.run(way, cache_mode)).at("spec.template.spec")


def whole_numbers(value: Any) -> Any:
    """The wire knows only floats; Kubernetes reads 8000."""
    if isinstance(value, dict):
        return {key: whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def budget_seconds(plan: ModelPlan) -> int:
    return plan.probe.period_seconds * plan.probe.failure_threshold


@pytest.mark.parametrize("case", CASES)
def test_the_serving_pod_is_what_was_last_reviewed(case: str) -> None:
    template = runs.server(runs.run(*CASES[case])).at("spec.template")
    rendered = json.dumps(whole_numbers(template), indent=2, sort_keys=True) + "\n"
    file = GOLDEN / f"{case}.json"
    if os.environ.get("COLDSTART_UPDATE_GOLDEN") == "1":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(rendered, encoding="utf-8")
        pytest.fail(f"wrote {file.name}: review it, then run without COLDSTART_UPDATE_GOLDEN")
    assert rendered == file.read_text(encoding="utf-8")


def test_every_golden_pod_belongs_to_a_case() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == set(CASES)


def test_local_weights_are_staged_by_a_native_sidecar_while_the_engine_image_is_pulled() -> None:
    (stager,) = pod(runs.LOCAL)["initContainers"]
    assert stager["restartPolicy"] == "Always"
    assert "rclone" in stager["image"], "a small image, so that it starts long before the engine"
    engine = runs.engine(runs.run(runs.LOCAL))
    assert engine["command"] == ["/bin/sh", "/scripts/start-engine.sh"]
    assert runs.variables(engine)["WAIT_FOR"] == "/handover/ready"
    assert runs.variables(engine)["WAIT_SECONDS"] == str(budget_seconds(model(runs.LOCAL)))


def test_the_stager_puts_the_weights_where_the_engine_looks_for_them() -> None:
    (stager,) = pod(runs.LOCAL)["initContainers"]
    engine = runs.engine(runs.run(runs.LOCAL))
    path = engine["args"][2]
    assert engine["args"][:2] == ["vllm", "serve"]
    assert runs.variables(stager)["WEIGHTS_DIRECTORY"] == path
    for container in (stager, engine):
        mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
        assert path.startswith(mounts["weights"] + "/")


def test_staged_weights_may_stay_in_the_page_cache() -> None:
    (stager,) = pod(runs.LOCAL)["initContainers"]
    limit_mib = int(stager["resources"]["limits"]["memory"].removesuffix("Mi"))
    assert limit_mib * 1024**2 > model(runs.LOCAL).weight_bytes
    assert int(stager["resources"]["requests"]["memory"].removesuffix("Mi")) < 1024


def test_a_streaming_engine_opens_the_bucket_itself() -> None:
    engine = runs.engine(runs.run(runs.STREAM, "none"))
    assert engine["command"] == ["vllm", "serve"]
    assert engine["args"][0] == f"s3://{runs.BUCKET}/chat/weights/{runs.REVISION}"
    assert engine["envFrom"] == [{"configMapRef": {"name": "object-store"}}]
    settings = runs.run(runs.STREAM, "none").one("ConfigMap", "chat-object-store").at("data")
    assert settings["AWS_REGION"] == settings["RCLONE_CONFIG_STORE_REGION"] == "us-west-2"
    assert settings["RCLONE_CONFIG_STORE_TYPE"] == "s3"
    assert settings["STORE_BUCKET"] == runs.BUCKET


def test_a_pod_with_nothing_to_bring_has_no_sidecar() -> None:
    assert pod(runs.STREAM, "none").get("initContainers", []) == []
    assert pod(runs.SHARED, "none").get("initContainers", []) == []


def test_shared_weights_are_opened_once_they_are_complete() -> None:
    engine = runs.engine(runs.run(runs.SHARED, "none"))
    path = f"/shared/chat/weights/{runs.REVISION}"
    assert engine["args"][2] == path
    assert runs.variables(engine)["WAIT_FOR"] == f"{path}/.complete"


def test_a_shared_volume_is_bound_by_hand_to_the_tenants_own_access_point() -> None:
    recorded = runs.run(runs.SHARED)
    volume, claim = recorded.one("PersistentVolume"), recorded.one("PersistentVolumeClaim")
    assert volume.at("spec.csi") == {"driver": "efs.csi.aws.com", "volumeHandle": "fs-1::fsap-chat"}
    assert volume.at("spec.claimRef.namespace") == claim.at("metadata.namespace") == "chat"
    assert volume.at("spec.accessModes") == claim.at("spec.accessModes") == ["ReadWriteMany"]
    assert claim.at("spec.storageClassName") == "", "the default class would make another volume"
    assert claim.at("spec.volumeName") == volume.at("metadata.name")
    assert volume.at("spec.persistentVolumeReclaimPolicy") == "Retain"


def test_shared_weights_on_a_cluster_without_a_file_system_are_refused_with_the_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = runs.contract_of
    monkeypatch.setattr(
        runs,
        "contract_of",
        lambda plan, ready: real(runs.plan_for(runs.STREAM), ready),
    )
    with pytest.raises(ContractError, match="sharedFileSystem: true"):
        runs.served(runs.plan_for(runs.SHARED))


def test_a_file_system_another_stack_does_not_have_is_asked_for_there() -> None:
    plan = runs.plan_for(runs.SHARED)
    exported = {"schemaVersion": 1, "pools": {n: pool_facts(p) for n, p in plan.pools.items()}}
    with pytest.raises(ContractError, match="run pulumi up on infra first"):
        verified(exported, "infra", plan)


def test_only_shared_weights_wait_for_the_file_systems_driver() -> None:
    driver = "efs.csi.aws.com/agent-not-ready"
    tolerated = {
        name: {
            t["key"] for t in runs.server(runs.fleet(), name).at("spec.template.spec.tolerations")
        }
        for name in ("near", "streamed", "shared")
    }
    assert driver in tolerated["near"] & tolerated["streamed"]
    assert driver not in tolerated["shared"]
    assert all("nvidia.com/gpu" in keys for keys in tolerated.values())


def test_the_startup_probe_is_the_planned_budget_on_health() -> None:
    plan, engine = model(runs.LOCAL), runs.engine(runs.run(runs.LOCAL))
    probe = engine["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= plan.probe.covers_seconds
    assert probe["failureThreshold"] == plan.probe.failure_threshold
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert engine[kind]["httpGet"] == {"path": "/health", "port": "http"}
        assert "initialDelaySeconds" not in engine[kind], "it would only add to every start"
    liveness = engine["livenessProbe"]
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60


def test_policies_can_read_the_predicted_cold_start_and_the_shared_cache_from_the_pod() -> None:
    plan = model(runs.LOCAL)
    annotations = runs.server(runs.run(runs.LOCAL)).at("spec.template.metadata.annotations")
    predicted = "coldstart.dev/predicted-cold-start-seconds"
    assert annotations[predicted] == str(plan.predicted_startup_seconds)
    assert annotations["coldstart.dev/compile-cache"] == "shared"
    without = runs.server(runs.run(runs.LOCAL, "none")).at("spec.template.metadata.annotations")
    assert "coldstart.dev/compile-cache" not in without


def test_a_loading_pod_is_not_disrupted_and_a_loaded_one_may_be() -> None:
    annotations = runs.server(runs.run(runs.LOCAL)).at("spec.template.metadata.annotations")
    protected = annotations["karpenter.sh/do-not-disrupt"]
    assert protected == f"{budget_seconds(model(runs.LOCAL))}s", "a duration, not true for ever"


def test_a_replica_leaves_the_service_before_it_is_stopped() -> None:
    plan, spec = model(runs.LOCAL).drain, pod(runs.LOCAL)
    waits = runs.engine(runs.run(runs.LOCAL))["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert waits == plan.endpoint_removal_seconds > 0
    assert spec["terminationGracePeriodSeconds"] > waits + plan.shutdown_timeout_seconds


def test_memory_gpus_and_shared_memory_are_bounded_and_cpu_is_not() -> None:
    plan, engine = model(runs.LOCAL), runs.engine(runs.run(runs.LOCAL))
    stated = engine["resources"]
    gpus = str(plan.fit.tensor_parallel)
    assert stated["limits"] == {
        "memory": f"{plan.host.memory_limit_mib}Mi", "nvidia.com/gpu": gpus,
    }  # fmt: skip
    assert stated["requests"]["nvidia.com/gpu"] == gpus
    volumes = {v["name"]: v for v in pod(runs.LOCAL)["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": f"{plan.host.shm_mib}Mi"}
    assert plan.host.shm_mib < plan.host.memory_limit_mib


def test_the_pods_disks_fit_what_it_asks_of_the_node() -> None:
    for way in (runs.LOCAL, runs.STREAM):
        on_disk_mib = sum(
            int(volume["emptyDir"]["sizeLimit"].removesuffix("Mi"))
            for volume in pod(way)["volumes"]
            if "emptyDir" in volume and volume["emptyDir"].get("medium") != "Memory"
        )
        assert on_disk_mib <= model(way).host.ephemeral_storage_mib, way


def test_the_number_of_replicas_belongs_to_keda() -> None:
    assert runs.server(runs.run(runs.LOCAL)).at("spec.replicas") is None


def test_a_rollout_follows_the_plan_and_has_time_for_a_cold_start() -> None:
    deployment, plan = runs.server(runs.run(runs.LOCAL)), model(runs.LOCAL)
    rollout = plan.rollout.value
    assert deployment.at("spec.strategy.rollingUpdate") == {
        "maxSurge": rollout.max_surge, "maxUnavailable": rollout.max_unavailable,
    }  # fmt: skip
    assert deployment.at("spec.progressDeadlineSeconds") > budget_seconds(plan)
    timeouts = deployment.options.timeouts
    assert timeouts["create"] == f"{deployment.at('spec.progressDeadlineSeconds'):.0f}s"


def test_the_service_carries_the_models_name_and_is_never_waited_for() -> None:
    service = runs.run(runs.LOCAL).one("Service")
    assert service.at("metadata.name") == "chat"
    assert service.at("spec.ports") == [{"name": "http", "port": 8000, "targetPort": "http"}]
    assert service.at("metadata.annotations")["pulumi.com/skipAwait"] == "true"
    labels = runs.server(runs.run(runs.LOCAL)).at("spec.template.metadata.labels")
    assert service.at("spec.selector").items() <= labels.items()


def test_one_replica_can_still_be_drained() -> None:
    budget = runs.run(runs.LOCAL).one("PodDisruptionBudget")
    assert budget.at("spec.maxUnavailable") == 1
    assert budget.at("spec.minAvailable") is None


def test_prometheus_is_told_to_read_every_pod_monitor() -> None:
    release = runs.run(runs.LOCAL).one("Release", "kube-prometheus-stack")
    assert (
        release.at("values.prometheus.prometheusSpec.podMonitorSelectorNilUsesHelmValues") is False
    )
    monitors = runs.run(runs.LOCAL).of_type("PodMonitor")
    assert all(release.urn in monitor.dependencies for monitor in monitors)
    ports = {m.at("metadata.name"): m.at("spec.podMetricsEndpoints.0.port") for m in monitors}
    assert ports == {"chat": "http", "accelerators": "metrics"}


def test_the_accelerator_exporter_is_read_where_its_chart_puts_it() -> None:
    monitor = runs.run(runs.LOCAL).one("PodMonitor", "accelerators")
    assert monitor.at("spec.namespaceSelector.matchNames") == ["dcgm-exporter"]
    assert monitor.at("spec.selector.matchLabels") == {"app.kubernetes.io/name": "dcgm-exporter"}


def test_scaling_asks_the_prometheus_that_the_release_makes() -> None:
    recorded = runs.run(runs.LOCAL)
    name = recorded.one("Release", "kube-prometheus-stack").at("values.fullnameOverride")
    for trigger in recorded.one("ScaledObject").at("spec.triggers"):
        address = trigger["metadata"]["serverAddress"]
        assert address == f"http://{name}-prometheus.monitoring.svc:9090"


def test_a_broken_metric_is_an_error_and_never_reads_as_no_load() -> None:
    scaled = runs.run(runs.LOCAL).one("ScaledObject")
    for trigger in scaled.at("spec.triggers"):
        assert trigger["metadata"]["ignoreNullValues"] == "false"
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert scaled.at("spec.fallback.behavior") == "currentReplicasIfHigher"
    assert scaled.at("spec.fallback.replicas") >= 1


def test_scaling_follows_the_plan_with_explicit_behaviour() -> None:
    scaled, plan = runs.run(runs.LOCAL).one("ScaledObject"), model(runs.LOCAL).scaling
    assert (scaled.at("spec.minReplicaCount"), scaled.at("spec.maxReplicaCount")) == (1, 3)
    behavior = scaled.at("spec.advanced.horizontalPodAutoscalerConfig.behavior")
    down = behavior["scaleDown"]
    assert down["stabilizationWindowSeconds"] == plan.scale_down_window_seconds
    assert down["policies"][0]["value"] == 1, "one at a time"
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert scaled.at("spec.scaleTargetRef.name") == "chat"


def test_warm_capacity_that_the_plan_chose_reaches_the_cluster() -> None:
    plan = runs.priced_plan()
    recorded = runs.served(plan)
    minimum, nodes = plan.models["chat"].scaling.min_replicas, plan.pools["l40s"].warm_nodes
    assert minimum > 1
    assert nodes > 0
    assert recorded.one("ScaledObject", "chat").at("spec.minReplicaCount") == minimum
    assert recorded.one("ScaledObject", "fixed").at("spec.minReplicaCount") == 1
    assert recorded.one("Deployment", "warm-capacity-l40s").at("spec.replicas") == nodes


def test_a_model_at_zero_is_woken_by_the_requests_a_proxy_holds() -> None:
    recorded = runs.run(runs.STREAM, minimum=0)
    plan = model(runs.STREAM, minimum=0).scaling
    assert plan.wake is not None
    scaled, route = recorded.one("ScaledObject", "chat"), recorded.one("InterceptorRoute")
    assert "fallback" not in scaled.inputs["spec"], "KEDA takes a fallback for activity"
    push = scaled.at("spec.triggers")[-1]
    assert push["type"] == "external-push"
    assert push["metadata"] == {
        "scalerAddress": "keda-add-ons-http-external-scaler.keda:9090",
        "interceptorRoute": route.at("metadata.name"),
    }
    assert route.at("spec.timeouts.readiness") == f"{plan.wake.hold_seconds}s"
    assert route.at("spec.target") == {"service": "chat", "portName": "http"}
    entry = recorded.one("Service", "chat-entry")
    assert entry.at("spec.externalName").startswith("keda-add-ons-http-interceptor-proxy.keda.")
    assert recorded.outputs["endpoints"]["chat"] == "http://entry.chat.svc:8080/v1"
    assert "entry.chat.svc" in route.at("spec.rules.0.hosts")


def test_a_schedule_is_a_cron_trigger_beside_those_that_wake_from_zero() -> None:
    recorded = runs.served(runs.scheduled_plan())
    (planned,) = runs.scheduled_plan().models["chat"].scaling.schedules.value
    scaled = recorded.one("ScaledObject", "chat")
    triggers = {trigger["name"]: trigger for trigger in scaled.at("spec.triggers")}
    assert [t["type"] for t in triggers.values()] == [
        "prometheus", "prometheus", "cron", "external-push",
    ]  # fmt: skip
    assert triggers["schedule-0"]["metadata"] == {
        "timezone": "Europe/Berlin",
        "start": planned.start,
        "end": "0 18 * * mon,fri",
        "desiredReplicas": "2",
    }
    assert crds.check(recorded.custom_objects()) == []


def test_without_a_model_at_zero_there_is_no_waking_proxy() -> None:
    recorded = runs.run(runs.STREAM)
    assert recorded.of_type("InterceptorRoute") == []
    assert {release.name for release in recorded.of_type("Release")} == {
        "keda", "kube-prometheus-stack",
    }  # fmt: skip


def test_custom_resources_pass_their_own_definitions() -> None:
    objects = runs.fleet().custom_objects()
    assert {o["kind"] for o in objects} == {
        "ScaledObject", "PodMonitor", "InterceptorRoute", "PrometheusRule",
    }  # fmt: skip
    assert crds.check(objects) == []


def test_charts_are_pinned_and_come_up_whole_or_not_at_all() -> None:
    for release in runs.fleet().of_type("Release"):
        assert release.at("version") and release.at("atomic") is True
        assert release.at("repositoryOpts.repo").startswith("https://")


def test_a_warm_node_is_held_whole_with_the_engine_image_on_it() -> None:
    reserve = runs.run(runs.LOCAL, warm=1).one("Deployment", "warm-capacity-l40s")
    spec = reserve.at("spec.template.spec")
    gpus = runs.plan_for(runs.LOCAL, warm=1).pools["l40s"].gpus_per_node
    assert reserve.at("spec.replicas") == 1
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == str(gpus)
    assert spec["initContainers"][0]["image"] == runs.engine(runs.run(runs.LOCAL))["image"]
    assert spec["terminationGracePeriodSeconds"] == 0


def test_serving_preempts_jobs_and_jobs_preempt_the_reserve() -> None:
    classes = {p.name: p for p in runs.run(runs.LOCAL, warm=1).of_type("PriorityClass")}
    serving, jobs, warm = (
        classes[f"coldstart-{name}"] for name in ("serving", "jobs", "warm-capacity")
    )
    assert serving.at("value") > jobs.at("value") > 0 > warm.at("value") >= -10
    assert warm.at("preemptionPolicy") == "Never"
    used = {
        template["spec"]["priorityClassName"]
        for _, template in runs.pod_templates(runs.run(runs.LOCAL, warm=1))
    }
    assert used == set(classes)


def test_the_gpu_quota_covers_every_replica_a_rollout_step_and_the_publishing_job() -> None:
    plan = model(runs.LOCAL)
    quota = runs.run(runs.LOCAL).one("ResourceQuota").at("spec.hard")
    replicas = plan.scaling.max_replicas + 1 + 1
    assert plan.rollout.value.max_surge + plan.rollout.value.max_unavailable == 1
    assert quota == {"requests.nvidia.com/gpu": str(replicas * plan.fit.tensor_parallel)}


def test_pods_run_on_their_own_pool() -> None:
    for _, template in runs.pod_templates(runs.run(runs.LOCAL, warm=1)):
        spec = template["spec"]
        on_gpu = "nodeSelector" in spec
        assert on_gpu == any(
            "nvidia.com/gpu" in c["resources"]["requests"] for c in runs.containers(spec)
        )
        if on_gpu:
            assert spec["nodeSelector"] == {"coldstart.dev/node-pool": "l40s"}
        else:
            assert not spec.get("tolerations"), "system nodes only"


def test_a_cluster_of_another_stack_is_served_exactly_like_ones_own() -> None:
    def objects(recorded: Recorded) -> dict[tuple[str, str], Any]:
        return {
            (item.type, item.name): revealed(item.inputs)
            for item in recorded.resources
            if item.custom
            and item.name not in ("the-cluster-is-ready", "workload")
            and not item.type.startswith("pulumi:")
        }

    assert objects(runs.served_on_reference(runs.fleet_plan())) == objects(runs.fleet())
