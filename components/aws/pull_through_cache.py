"""A cache of upstream registries in the account's own registry, filled by the first pull."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import ComponentResource, ResourceOptions

from components.aws.account import Account
from components.aws.iam import document

UPSTREAM_HOSTS = {"docker.io": "registry-1.docker.io"}
"""Hosts ECR knows by another name than images do (ECR user guide, pull through cache)."""

KEPT_IMAGES = 30
"""Per repository. Counted over all images: one that is pulled by digest has no tag, and a rule for
untagged ones would delete exactly the pinned images."""


@dataclass(frozen=True)
class PullThroughCacheArgs:
    """Which upstreams, by host, under which repository prefix.

    `docker_hub_credential` is the ARN of a Secrets Manager secret.
    """

    prefixes: Mapping[str, str]
    docker_hub_credential: str | None
    account: Account


class PullThroughCache(ComponentResource):
    """One rule and one template for new repositories per upstream."""

    def __init__(
        self, name: str, args: PullThroughCacheArgs, opts: ResourceOptions | None = None
    ) -> None:
        super().__init__("coldstart:aws:PullThroughCache", name, opts=opts)
        child = ResourceOptions(parent=self)
        for upstream, prefix in args.prefixes.items():
            template = aws.ecr.RepositoryCreationTemplate(
                f"{name}-{prefix}",
                prefix=prefix,
                description=f"Repositories cached from {upstream}",
                applied_fors=["PULL_THROUGH_CACHE"],
                # A cache has to follow its upstream's tags.
                image_tag_mutability="MUTABLE",
                encryption_configurations=[{"encryption_type": "AES256"}],
                lifecycle_policy=lifecycle_policy(),
                opts=child,
            )
            aws.ecr.PullThroughCacheRule(
                f"{name}-{prefix}",
                ecr_repository_prefix=prefix,
                upstream_registry_url=UPSTREAM_HOSTS.get(upstream, upstream),
                credential_arn=args.docker_hub_credential if upstream == "docker.io" else None,
                opts=ResourceOptions.merge(child, ResourceOptions(depends_on=[template])),
            )
        self.mirrors = registry_mirrors(args.account, args.prefixes)
        self.register_outputs({"registryMirrors": self.mirrors})


def registry_mirrors(account: Account, prefixes: Mapping[str, str]) -> dict[str, str]:
    """What replaces an upstream host at the front of an image reference."""
    host = f"{account.id}.dkr.ecr.{account.region}.{account.dns_suffix}"
    return {upstream: f"{host}/{prefix}" for upstream, prefix in prefixes.items()}


def node_policy(account: Account, prefixes: Iterable[str]) -> str:
    """What a node's role needs so that its first pull of an image fills the cache."""
    return document(
        {
            "Sid": "FillPullThroughCache",
            "Effect": "Allow",
            "Action": ["ecr:CreateRepository", "ecr:BatchImportUpstreamImage"],
            "Resource": [account.arn("ecr", f"repository/{prefix}/*") for prefix in prefixes],
        }
    )


def lifecycle_policy() -> str:
    """Keeps the newest images of a repository."""
    return json.dumps(
        {
            "rules": [
                {
                    "rulePriority": 1,
                    "description": f"Keep the newest {KEPT_IMAGES}",
                    "selection": {
                        "tagStatus": "any",
                        "countType": "imageCountMoreThan",
                        "countNumber": KEPT_IMAGES,
                    },
                    "action": {"type": "expire"},
                }
            ]
        }
    )
