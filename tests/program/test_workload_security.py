"""What the workload's pods may do, and what may reach them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.program import workload_runs as runs
from tests.program.harness import run_program
from tests.program.recording import Recorded, Resource, open_texts, secret_texts

RESTRICTED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip
ENFORCE = "pod-security.kubernetes.io/enforce"


def violations(pod: Mapping[str, Any]) -> Iterator[str]:
    """Where a pod spec breaks Pod Security "restricted" (Kubernetes 1.35)."""
    security = pod.get("securityContext", {})
    for setting in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(setting):
            yield setting
    for volume in pod.get("volumes", []):
        for kind in set(volume) - {"name"} - RESTRICTED_VOLUMES:
            yield f"volume {volume['name']} is {kind}"
    for container in runs.containers(pod):
        own = container.get("securityContext", {})
        name = container["name"]
        if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
            yield f"{name} may gain privileges"
        if own.get("capabilities", {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
            yield f"{name} keeps capabilities"
        if own.get("runAsNonRoot", security.get("runAsNonRoot")) is not True:
            yield f"{name} may run as root"
        if own.get("runAsUser", security.get("runAsUser")) == 0:
            yield f"{name} runs as root"
        profile = own.get("seccompProfile", security.get("seccompProfile", {}))
        if profile.get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{name} has no seccomp profile"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"{name} takes a port of the host"


def policy(recorded: Recorded, name: str) -> dict[str, Any]:
    return recorded.one("NetworkPolicy", name).at("spec")


def namespaces_allowed(rule: Mapping[str, Any]) -> list[dict[str, str]]:
    return [peer["namespaceSelector"]["matchLabels"] for peer in rule["from"]]


def test_every_pod_runs_under_the_restricted_standard() -> None:
    templates = runs.pod_templates(runs.fleet())
    assert len(templates) == 3 + 3 + 2 + 1, "three servers, three fetches, two caches, one reserve"
    for resource, template in templates:
        assert list(violations(template["spec"])) == [], resource.name


def test_every_namespace_enforces_the_restricted_standard_and_names_its_environment() -> None:
    namespaces = runs.fleet().of_type("Namespace")
    assert {item.at("metadata.name") for item in namespaces} == {
        "keda", "monitoring", "warm-capacity", "near", "streamed", "shared",
    }  # fmt: skip
    for namespace in namespaces:
        labels = namespace.at("metadata.labels")
        modes = {f"pod-security.kubernetes.io/{mode}" for mode in ("enforce", "audit", "warn")}
        assert {labels[mode] for mode in modes} == {"restricted"}
        assert labels["coldstart.dev/environment"] == "prod"


def test_only_a_dev_stack_with_daemonset_disks_gets_a_privileged_namespace_and_says_why() -> None:
    recorded = runs.served(runs.dev_plan())
    namespace = recorded.one("Namespace", "chat")
    assert namespace.at("metadata.labels")[ENFORCE] == "privileged"
    assert "daemonset" in namespace.at("metadata.annotations")["coldstart.dev/privileged-because"]
    pod = runs.server(recorded).at("spec.template.spec")
    assert list(violations(pod)) == ["volume weights is hostPath"]


def test_pods_of_one_node_do_not_share_a_directory_of_the_daemonset_disk() -> None:
    pod = runs.server(runs.served(runs.dev_plan())).at("spec.template.spec")
    for container in runs.containers(pod):
        mount = next(m for m in container["volumeMounts"] if m["name"] == "weights")
        assert mount["subPathExpr"] == "$(POD_UID)"
        assert "POD_UID" in {item["name"] for item in container["env"]}


def test_every_container_states_its_resources_and_every_empty_directory_its_size() -> None:
    for resource, template in runs.pod_templates(runs.fleet()):
        for container in runs.containers(template["spec"]):
            stated = container["resources"]
            assert {"cpu", "memory"} <= set(stated["requests"]), (resource.name, container["name"])
            assert "memory" in stated["limits"], (resource.name, container["name"])
        for volume in template["spec"].get("volumes", []):
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"], (resource.name, volume["name"])


def test_every_image_is_pinned_by_digest_and_never_pulled_again() -> None:
    for resource, template in runs.pod_templates(runs.fleet()):
        for container in runs.containers(template["spec"]):
            assert "@sha256:" in container["image"], resource.name
            assert container["imagePullPolicy"] == "IfNotPresent"


def test_images_come_through_the_pull_through_cache_of_their_registry() -> None:
    recorded = runs.run(runs.LOCAL, warm=1)
    reserve = recorded.one("Deployment", "warm-capacity-l40s").at("spec.template.spec")
    assert runs.engine(recorded)["image"].startswith(f"{runs.MIRROR}/vllm/vllm-openai@")
    assert reserve["containers"][0]["image"].startswith("registry.k8s.io/pause@")


def test_no_pod_gets_a_token_of_the_api_server_or_variables_of_services() -> None:
    for resource, template in runs.pod_templates(runs.fleet()):
        assert template["spec"]["automountServiceAccountToken"] is False, resource.name
        assert template["spec"]["enableServiceLinks"] is False, resource.name
    for account in runs.fleet().of_type("ServiceAccount"):
        assert account.at("automountServiceAccountToken") is False


def test_the_api_key_and_the_token_never_stand_in_the_open() -> None:
    recorded = runs.fleet()
    everything = [*(r.inputs for r in recorded.resources), *(r.outputs for r in recorded.resources)]
    shown = list(open_texts([*everything, recorded.outputs]))
    assert not [text for text in shown if runs.API_KEY in text or runs.TOKEN in text]
    assert runs.API_KEY in set(secret_texts(recorded.outputs))
    for secret in recorded.of_type("Secret"):
        assert set(secret.options.additional_secret_outputs) == {"data", "stringData"}


def test_without_a_key_in_the_stack_file_one_is_generated_and_kept_secret() -> None:
    recorded = runs.served(runs.plan_for(runs.STREAM), keys=False)
    password = recorded.one("RandomPassword")
    assert (password.at("length"), password.at("special")) == (48, False)
    assert not recorded.one("Secret", "chat-api-key").at("metadata.name"), "a name per key"
    assert len(list(secret_texts(recorded.outputs["apiKey"]))) == 1
    assert [item.name for item in recorded.of_type("Secret")] == ["chat-api-key"]


def test_only_the_fetching_job_gets_the_hugging_face_token() -> None:
    for resource, template in runs.pod_templates(runs.fleet()):
        for container in runs.containers(template["spec"]):
            names = {item["name"] for item in container.get("env", [])}
            fetches = container["name"] == "fetch"
            assert ("HF_TOKEN" in names) == fetches, (resource.name, container["name"])
            assert (
                (("HF_HUB_OFFLINE", "1") in runs.variables(container).items())
                == (container["name"] == "engine")
                if "env" in container
                else True
            )


def test_jobs_that_write_and_servers_that_read_have_different_accounts() -> None:
    for resource, template in runs.pod_templates(runs.run(runs.LOCAL)):
        account = template["spec"].get("serviceAccountName")
        assert account == ("server" if resource.name == "chat" else "publisher")


def test_serving_pods_mount_weights_read_only() -> None:
    for way in (runs.LOCAL, runs.SHARED):
        mounts = runs.engine(runs.run(way))["volumeMounts"]
        assert [m["readOnly"] for m in mounts if m["name"] == "weights"] == [True]
    volumes = runs.server(runs.run(runs.SHARED)).at("spec.template.spec.volumes")
    claim = next(v for v in volumes if v["name"] == "weights")["persistentVolumeClaim"]
    assert claim["readOnly"] is True


def test_nothing_reaches_a_model_but_labelled_clients_and_prometheus() -> None:
    recorded = runs.run(runs.LOCAL)
    assert policy(recorded, "chat-deny-all") == {
        "podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": [],
    }  # fmt: skip
    (rule,) = policy(recorded, "chat-server")["ingress"]
    assert rule["ports"] == [{"port": 8000, "protocol": "TCP"}]
    assert namespaces_allowed(rule) == [
        {"coldstart.dev/client": "true"},
        {"kubernetes.io/metadata.name": "monitoring"},
    ]
    for job in ("chat-weights", "chat-compile-cache"):
        assert policy(recorded, job)["ingress"] == []


def test_a_model_that_scales_to_zero_is_reached_through_the_waking_proxy_only() -> None:
    recorded = runs.run(runs.STREAM, minimum=0)
    (rule,) = policy(recorded, "chat-server")["ingress"]
    assert {"kubernetes.io/metadata.name": "keda"} in namespaces_allowed(rule)
    assert {"coldstart.dev/client": "true"} not in namespaces_allowed(rule)
    clients, own = policy(recorded, "waking-proxy")["ingress"]
    assert namespaces_allowed(clients) == [{"coldstart.dev/client": "true"}]
    assert {"kubernetes.io/metadata.name": "keda"} in namespaces_allowed(own)


def test_pods_reach_dns_the_object_store_and_their_credentials_and_nothing_else() -> None:
    rules = policy(runs.run(runs.LOCAL), "chat-server")["egress"]
    ports = [sorted({(p["port"], p["protocol"]) for p in rule["ports"]}) for rule in rules]
    assert ports == [[(53, "TCP"), (53, "UDP")], [(443, "TCP")], [(80, "TCP")]]
    assert rules[1]["to"] == [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}]
    assert rules[2]["to"] == [{"ipBlock": {"cidr": "169.254.170.23/32"}}]


def test_a_server_that_reads_no_object_store_reaches_dns_only() -> None:
    rules = policy(runs.run(runs.SHARED, cache_mode="none"), "chat-server")["egress"]
    assert [p["port"] for rule in rules for p in rule["ports"]] == [53, 53]


def test_network_policies_select_the_pods_they_are_for() -> None:
    recorded = runs.run(runs.LOCAL)
    selected = {
        name: policy(recorded, f"chat-{name}")["podSelector"]["matchLabels"]
        for name in ("server", "weights", "compile-cache")
    }
    for resource, template in runs.pod_templates(recorded):
        labels = template["metadata"]["labels"]
        matching = [name for name, want in selected.items() if want.items() <= labels.items()]
        assert len(matching) == 1, resource.name


def test_each_model_waits_for_its_own_node_pool_and_identities() -> None:
    recorded = run_program("eks-prod")
    for model, pool, other in (("qwen3-32b", "a100", "l40s"), ("qwen3-8b", "l40s", "a100")):
        awaited = " ".join(recorded.one("Namespace", model).dependencies)
        assert f"::pool-{pool}-" in awaited
        assert f"::pool-{other}-" not in awaited
        assert f"::identities-{model}-server" in awaited


def awaits(recorded: Recorded, resource: Resource, awaited: Resource) -> bool:
    """Whether `resource` is made after `awaited`, by whatever lies between."""
    by_urn = {resource.urn: resource for resource in recorded.resources}

    def waits(resource: Resource, seen: set[str]) -> bool:
        if resource.urn == awaited.urn:
            return True
        ahead = {*resource.dependencies, *sum(resource.property_dependencies.values(), ())}
        fresh = ahead - seen
        return any(waits(by_urn[urn], seen | fresh) for urn in fresh if urn in by_urn)

    return waits(resource, set())


@pytest.mark.parametrize("way", [runs.LOCAL, runs.STREAM, runs.SHARED])
def test_everything_waits_for_the_cluster_and_uses_its_provider(way: str) -> None:
    recorded = runs.run(way, minimum=0, warm=1)
    ready = recorded.one("ConfigMap", "the-cluster-is-ready")
    own = [r for r in recorded.resources if r.type.startswith("kubernetes:") and r is not ready]
    assert [r.name for r in own if not awaits(recorded, r, ready)] == []
    assert {r.provider for r in own} == {recorded.one("pulumi:providers:kubernetes").urn}


@pytest.mark.parametrize("way", [runs.LOCAL, runs.STREAM, runs.SHARED])
def test_what_lies_in_a_namespace_is_made_after_it(way: str) -> None:
    """Namespaces are plain text, so that nothing orders them but what is written down."""
    recorded = runs.run(way, minimum=0, warm=1)
    made = {
        r.inputs["metadata"]["name"]: r
        for r in recorded.resources
        if r.type == "kubernetes:core/v1:Namespace"
    }
    inside = [
        (resource, made[namespace])
        for resource in recorded.resources
        if (namespace := (resource.inputs.get("metadata") or {}).get("namespace")) in made
    ]
    assert len(inside) > 20
    assert [r.name for r, namespace in inside if not awaits(recorded, r, namespace)] == []
