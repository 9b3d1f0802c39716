"""`coldstart preview`, `up` and `rehearse`: the real engine, no account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldstart.cli.shared import (
    DEFAULT_STACK,
    ROOT,
    JsonOption,
    RootOption,
    StackArgument,
    Target,
    TargetOption,
    console,
    planned,
    print_json,
    progress,
    told,
)

if TYPE_CHECKING:
    from rich.console import Console

    from coldstart.cli.rehearsal import Done
    from coldstart.engine import Result


def preview(
    stack: StackArgument = DEFAULT_STACK,
    json_output: JsonOption = False,
    policies: Annotated[bool, typer.Option(help="Judge the preview by the policy pack.")] = True,
    target: TargetOption = Target.STAND_INS,
    root: RootOption = ROOT,
) -> None:
    """Run `pulumi preview` for real against stand-in clouds, then sum it up.

    Example: coldstart preview eks-prod --json
    """
    with told():
        found = planned(root, stack)
        from coldstart.cli.rehearsal import outcome_data, preview_stack
        from coldstart.report import summary

        result = preview_stack(root, found.spec, progress, policies=policies, target=target)
        if json_output:
            print_json({**summary(found), "preview": outcome_data(result)})
        else:
            _print_preview(console(), summary(found), result)
        raise typer.Exit(0 if result.ok else 1)


def up(
    stack: StackArgument = DEFAULT_STACK,
    json_output: JsonOption = False,
    target: TargetOption = Target.LOCAL,
    root: RootOption = ROOT,
) -> None:
    """Make a stack so: its Kubernetes objects on a real control plane, its cloud a stand-in.

    A control plane that `coldstart cluster up` started keeps them; otherwise one is started for
    this and ended. Example: coldstart up eks-dev
    """
    with told():
        found = planned(root, stack)
        from coldstart.cli.rehearsal import outcome_data, up_stack

        done = up_stack(root, found.spec, progress, target)
        if json_output:
            print_json({"stack": stack, "up": outcome_data(done.result)})
        else:
            _print_up(console(), stack, done)
        raise typer.Exit(0 if done.result.ok else 1)


def rehearse(
    stack: StackArgument = DEFAULT_STACK,
    json_output: JsonOption = False,
    target: TargetOption = Target.STAND_INS,
    root: RootOption = ROOT,
) -> None:
    """Preview, up, a second up, refresh and destroy against stand-in clouds, each checked.

    Example: coldstart rehearse eks-dev
    """
    with told():
        found = planned(root, stack)
        from coldstart.cli import text
        from coldstart.cli.rehearsal import rehearse_stack

        acts = rehearse_stack(root, found.spec, progress, target)
        if json_output:
            print_json({"stack": stack, "acts": [act.data() for act in acts]})
        else:
            text.print_acts(console(), acts)
        raise typer.Exit(0 if all(act.ok for act in acts) else 1)


def _print_preview(out: Console, found: dict[str, Any], result: Result) -> None:
    from coldstart.cli import text

    if result.resources:
        text.print_resources(out, result)
    if result.policy_results or result.violations:
        text.print_policies(out, result)
    text.print_plan(out, found, alternatives=False)
    text.print_messages(out, result)
    out.print(
        f"Preview of {found['stack']}: {'ok' if result.ok else 'refused'}, "
        f"{sum(result.summary.values())} resources, {result.duration_seconds:.0f} s. "
        "Nothing was created, no account was used."
    )


def _print_up(out: Console, stack: str, done: Done) -> None:
    from coldstart.cli import text

    result = done.result
    if result.resources:
        text.print_resources(out, result, done=True)
    if result.violations:
        text.print_policies(out, result)
    text.print_messages(out, result)
    out.print(
        f"Up of {stack}: {'ok' if result.ok else 'refused'}, "
        f"{sum(result.summary.values())} resources, {len(result.warnings)} warnings, "
        f"{result.duration_seconds:.0f} s. No account was used.",
    )
    if done.kubeconfig is not None:
        out.print(f"It stays until: coldstart cluster down\n  export KUBECONFIG={done.kubeconfig}")
    else:
        out.print("Nothing of it is left; after `coldstart cluster up` it would stay.")
