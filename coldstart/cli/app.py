"""Commands. Exit codes: 0 fine, 1 the engine or a mandatory policy said no, 2 bad input."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from coldstart.catalog import CatalogError
from coldstart.cli import lint, simulate, text
from coldstart.cli.cluster import cluster_app
from coldstart.cli.rehearsal import Done, outcome_data, preview_stack, rehearse_stack, up_stack
from coldstart.cli.target import Target
from coldstart.controlplane import ControlPlaneError
from coldstart.engine import (
    ClusterAccessError,
    DeadlineError,
    RehearsalError,
    Result,
    ToolchainError,
)
from coldstart.engine.build import BuildError
from coldstart.planning import PlanFailedError, StackPlan, plan_stack
from coldstart.report import summary
from coldstart.spec import SpecError, load_stack, stack_file

ROOT = Path(__file__).resolve().parents[2]

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Plan LLM serving stacks; rehearse them with the real Pulumi engine, with no account.",
)
app.add_typer(cluster_app, name="cluster")
app.command()(lint.lint)
app.command()(lint.rules)
app.command()(simulate.simulate)
StackArgument = Annotated[str, typer.Argument(help="A file stacks/Pulumi.<STACK>.yaml.")]
RootOption = Annotated[Path, typer.Option("--root", hidden=True, help="Another checkout.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data for machines.")]
TargetOption = Annotated[
    Target, typer.Option(help="What stands behind Kubernetes; the cloud is a stand-in in any case.")
]


@app.command()
def plan(
    stack: StackArgument = "eks-prod",
    json_output: JsonOption = False,
    why: Annotated[bool, typer.Option("--why", help="Also say what was turned down.")] = False,
    root: RootOption = ROOT,
) -> None:
    """Print every decision, the predicted cold starts and the cost. Takes no engine.

    Example: coldstart plan eks-prod --why
    """
    with _told():
        found = summary(_plan(root, stack))
        if json_output:
            _print_json(found)
        else:
            text.print_plan(_console(), found, alternatives=why)


@app.command()
def preview(
    stack: StackArgument = "eks-prod",
    json_output: JsonOption = False,
    policies: Annotated[bool, typer.Option(help="Judge the preview by the policy pack.")] = True,
    target: TargetOption = Target.STAND_INS,
    root: RootOption = ROOT,
) -> None:
    """Run `pulumi preview` for real against stand-in clouds, then sum it up.

    Example: coldstart preview eks-prod --json
    """
    with _told():
        found = _plan(root, stack)
        result = preview_stack(root, found.spec, _progress, policies=policies, target=target)
        if json_output:
            _print_json({**summary(found), "preview": outcome_data(result)})
        else:
            _print_preview(_console(), summary(found), result)
        raise typer.Exit(0 if result.ok else 1)


@app.command()
def up(
    stack: StackArgument = "eks-prod",
    json_output: JsonOption = False,
    target: TargetOption = Target.LOCAL,
    root: RootOption = ROOT,
) -> None:
    """Make a stack so: its Kubernetes objects on a real control plane, its cloud a stand-in.

    A control plane that `coldstart cluster up` started keeps them; otherwise one is started for
    this and ended. Example: coldstart up eks-dev
    """
    with _told():
        found = _plan(root, stack)
        done = up_stack(root, found.spec, _progress, target)
        if json_output:
            _print_json({"stack": stack, "up": outcome_data(done.result)})
        else:
            _print_up(_console(), stack, done)
        raise typer.Exit(0 if done.result.ok else 1)


@app.command()
def rehearse(
    stack: StackArgument = "eks-prod",
    json_output: JsonOption = False,
    target: TargetOption = Target.STAND_INS,
    root: RootOption = ROOT,
) -> None:
    """Preview, up, a second up, refresh and destroy against stand-in clouds, each checked.

    Example: coldstart rehearse eks-dev
    """
    with _told():
        found = _plan(root, stack)
        acts = rehearse_stack(root, found.spec, _progress, target)
        if json_output:
            _print_json({"stack": stack, "acts": [act.data() for act in acts]})
        else:
            text.print_acts(_console(), acts)
        raise typer.Exit(0 if all(act.ok for act in acts) else 1)


@app.command()
def check(
    stack: StackArgument = "eks-prod",
    json_output: JsonOption = False,
    root: RootOption = ROOT,
) -> None:
    """Read a stack file and say everything that is wrong with it. Takes a second.

    Example: coldstart check eks-prod
    """
    with _told():
        found = _plan(root, stack)
        file = stack_file(root, stack).relative_to(root).as_posix()
        if json_output:
            _print_json({"stack": stack, "file": file, "ok": True})
        else:
            _console().print(
                f"{file}: node pools: {len(found.pools)}, models: {len(found.models)}, ok"
            )


def _plan(root: Path, stack: str) -> StackPlan:
    return plan_stack(load_stack(root, stack))


def _print_preview(console: Console, found: dict[str, Any], result: Result) -> None:
    if result.resources:
        text.print_resources(console, result)
    if result.policy_results or result.violations:
        text.print_policies(console, result)
    text.print_plan(console, found, alternatives=False)
    text.print_messages(console, result)
    console.print(
        f"Preview of {found['stack']}: {'ok' if result.ok else 'refused'}, "
        f"{sum(result.summary.values())} resources, {result.duration_seconds:.0f} s. "
        "Nothing was created, no account was used."
    )


def _print_up(console: Console, stack: str, done: Done) -> None:
    result = done.result
    if result.resources:
        text.print_resources(console, result, done=True)
    if result.violations:
        text.print_policies(console, result)
    text.print_messages(console, result)
    console.print(
        f"Up of {stack}: {'ok' if result.ok else 'refused'}, "
        f"{sum(result.summary.values())} resources, {len(result.warnings)} warnings, "
        f"{result.duration_seconds:.0f} s. No account was used.",
        highlight=False,
    )
    if done.kubeconfig is not None:
        console.print(
            f"It stays until: coldstart cluster down\n  export KUBECONFIG={done.kubeconfig}"
        )
    else:
        console.print("Nothing of it is left; after `coldstart cluster up` it would stay.")


def _print_json(data: Any) -> None:
    json.dump(data, sys.stdout, indent=2)
    sys.stdout.write("\n")


def _console() -> Console:
    """Full width when piped, so that a log keeps its lines whole."""
    return Console() if sys.stdout.isatty() else Console(width=160)


def _progress(message: str) -> None:
    print(message, file=sys.stderr, flush=True)  # noqa: T201 - progress goes beside the answer


@contextmanager
def _told() -> Iterator[None]:
    """Turn what a user can mend into its message and an exit code."""
    try:
        yield
    except (SpecError, PlanFailedError, CatalogError) as error:
        _progress(str(error))
        raise typer.Exit(2) from None
    except (
        BuildError,
        ClusterAccessError,
        ControlPlaneError,
        DeadlineError,
        RehearsalError,
        ToolchainError,
    ) as error:
        _progress(str(error))
        raise typer.Exit(2) from None
    except KeyboardInterrupt as end:
        _progress("interrupted; nothing was left running")
        number = end.args[0] if end.args else signal.SIGINT
        raise typer.Exit(128 + number) from None


def _end(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(number)


def main() -> None:
    """Entry point of `python -m coldstart`; a polite kill ends the engine as Ctrl-C does.

    A signal that the caller has told us to ignore, as nohup does, stays ignored.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    app()
