"""Helm charts as Pulumi installs them: which chart it is and what its values say."""

from __future__ import annotations

from policies.reading.peer_mirrors import is_chart
from policies.reading.values import Resource, at, list_at, text_at


def chart_name(resource: Resource) -> str:
    """Name of the chart that a resource installs; empty for a resource that installs none.

    Raises NotYetKnown when the chart is not known yet.
    """
    if not is_chart(resource):
        return ""
    return text_at(resource.properties, "chart").rstrip("/").rsplit("/", 1)[-1]


def chart_source(resource: Resource) -> str:
    """Chart and repository in lower case, to tell charts of the same name apart."""
    parts = (
        text_at(resource.properties, "chart"),
        text_at(resource.properties, "repositoryOpts", "repo"),
        text_at(resource.properties, "repo"),
    )
    return " ".join(parts).lower()


def has_value_files(resource: Resource) -> bool:
    """Whether files hold values too, so that a value missing in the program may be set there."""
    return bool(list_at(resource.properties, "valueYamlFiles")) or bool(
        at(resource.properties, "valuesFiles")
    )
