"""`coldstart lint` and `coldstart rules`: the policy pack on files."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from coldstart.cli.shared import progress, refuse, told

PRESETS = ("baseline", "production", "development")
FORMATS = ("text", "json", "sarif", "github")
"""Names that help shows before the rules are read; a test holds them to what `policies` has."""
_RULE_FORMATS = ("text", "json", "policy-config")
PresetOption = Annotated[str, typer.Option(help=f"Levels of the rules: {', '.join(PRESETS)}.")]


def lint(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Files, folders, or - for standard input."),
    ],
    preset: PresetOption = "baseline",
    config: Annotated[
        Path | None, typer.Option(help="Levels and options by rule, as for Pulumi's policy packs.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="Accepted findings, each with a reason and an end.")
    ] = None,
    output_format: Annotated[
        str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")
    ] = "text",
    strict: Annotated[
        bool, typer.Option("--strict", help="Warnings and undecided rules fail as well.")
    ] = False,
) -> None:
    """Judge Kubernetes YAML, `pulumi preview --json` or `pulumi stack export` by the policy pack.

    Each PATH is judged as one stack. Exit codes: 0 nothing to mend, 1 violations, 2 something
    could not be read or the settings are wrong.

    Example: helm template chart | coldstart lint - --preset production
    """
    with told():
        if output_format not in FORMATS:
            refuse(f"--format: {output_format!r} is none of {', '.join(FORMATS)}")
        from policies.lint import baseline as baselines
        from policies.lint.evaluate import evaluate
        from policies.lint.formats import FORMATS as WRITERS
        from policies.lint.settings import SettingsError, settings_of
        from policies.lint.sources import read

        try:
            settings = settings_of(preset, config)
            accepted = baselines.read(baseline) if baseline else ()
        except SettingsError as error:
            refuse(str(error))
        report = evaluate(read(paths, sys.stdin.buffer), settings)
        today = datetime.datetime.now(tz=datetime.UTC).date()
        split = baselines.split(report.violations, accepted, today)
        sys.stdout.write(WRITERS[output_format](report, split))
        if report.problems:
            raise typer.Exit(2)
        if not report.resources:
            progress(f"nothing to judge: no object in {', '.join(paths)}; is it empty?")
            raise typer.Exit(2)
        failing = [item for item in split.open if strict or item.level == "mandatory"]
        raise typer.Exit(1 if failing or (strict and report.undecided) else 0)


def rules(
    preset: PresetOption = "baseline",
    output_format: Annotated[
        str, typer.Option("--format", help=f"One of {', '.join(_RULE_FORMATS)}.")
    ] = "text",
) -> None:
    """List the rules with their levels.

    Example: coldstart rules --preset production --format policy-config > policy.json
    """
    with told():
        if preset not in PRESETS:
            refuse(f"--preset: {preset!r} is none of {', '.join(PRESETS)}")
        if output_format not in _RULE_FORMATS:
            refuse(f"--format: {output_format!r} is none of {', '.join(_RULE_FORMATS)}")
        from policies.presets import levels, policy_config
        from policies.rules import RULES

        if output_format == "policy-config":
            content = json.dumps(policy_config(preset), indent=2)
        elif output_format == "json":
            content = json.dumps(_described(preset), indent=2)
        else:
            level_of = levels(preset)
            width = max(len(rule.name) for rule in RULES)
            content = "\n".join(
                f"{rule.code}  {rule.name:<{width}}  {level_of[rule.name]:<9}  {rule.severity:<8}"
                f"  {rule.title}"
                for rule in RULES
            )
        sys.stdout.write(content + "\n")


def _described(preset: str) -> list[dict[str, object]]:
    from policies.presets import levels
    from policies.rules import RULES

    level_of = levels(preset)
    return [
        {
            "code": rule.code,
            "name": rule.name,
            "concern": rule.concern,
            "title": rule.title,
            "description": rule.description,
            "severity": rule.severity,
            "level": level_of[rule.name],
            "tags": list(rule.tags),
            "frameworks": list(rule.frameworks),
            "remediation": rule.remediation,
            "reason": rule.reason,
            "links": list(rule.links),
            "options": {
                option.name: {"schema": dict(option.schema), "meaning": option.meaning}
                for option in rule.options
            },
        }
        for rule in RULES
    ]
