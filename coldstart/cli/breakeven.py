"""`coldstart breakeven`: a dedicated replica against tokens by the piece and GPUs by the second."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from coldstart.cli.shared import ROOT, JsonOption, RootOption, print_json, told

FLAGS = {
    "usd_per_hour": "--gpu-usd-per-hour",
    "input_usd_per_million": "--input-usd-per-million",
    "output_usd_per_million": "--output-usd-per-million",
    "input_tokens": "--input-tokens",
    "output_tokens": "--output-tokens",
    "capacity_requests_per_second": "--requests-per-second-capacity",
    "requests_per_second": "--requests-per-second",
    "usd_per_second": "--gpu-usd-per-second",
    "request_seconds": "--request-seconds",
    "start_seconds": "--cold-start-seconds",
    "idle_seconds": "--idle-seconds",
}
"""The flag that gives a figure of `Case` or `GpuBySecond`."""


def _flag(name: str, text: str) -> Any:
    return typer.Option(FLAGS[name], help=text)


GpuUsd = Annotated[float | None, _flag("usd_per_hour", "All GPUs of one replica, an hour.")]
InputUsd = Annotated[float | None, _flag("input_usd_per_million", "A million input tokens.")]
OutputUsd = Annotated[float | None, _flag("output_usd_per_million", "A million output tokens.")]
InputTokens = Annotated[float | None, _flag("input_tokens", "Of a mean prompt.")]
OutputTokens = Annotated[float | None, _flag("output_tokens", "Of a mean answer.")]
Capacity = Annotated[
    float | None, _flag("capacity_requests_per_second", "The most one replica answers.")
]
Rate = Annotated[float | None, _flag("requests_per_second", "Your mean traffic.")]
SecondUsd = Annotated[float | None, _flag("usd_per_second", "A serverless GPU worker, a second.")]
RequestSeconds = Annotated[float | None, _flag("request_seconds", "How long one request runs.")]
StartSeconds = Annotated[float | None, _flag("start_seconds", "Of a serverless GPU worker.")]
IdleSeconds = Annotated[float | None, _flag("idle_seconds", "Until an idle worker stops.")]
StackName = Annotated[str | None, typer.Option("--stack", help="Price a replica of this stack.")]
ModelName = Annotated[
    str | None, typer.Option("--model", help="A model of the stack; alone, of the catalog.")
]
Against = Annotated[
    str | None, typer.Option("--against", help="One provider of serverless tokens in the catalog.")
]
Change = Annotated[float, typer.Option("--change", help="Percent up and down for sensitivity.")]


def breakeven(
    gpu_usd_per_hour: GpuUsd = None,
    input_usd_per_million: InputUsd = None,
    output_usd_per_million: OutputUsd = None,
    input_tokens: InputTokens = None,
    output_tokens: OutputTokens = None,
    requests_per_second_capacity: Capacity = None,
    requests_per_second: Rate = None,
    gpu_usd_per_second: SecondUsd = None,
    request_seconds: RequestSeconds = None,
    cold_start_seconds: StartSeconds = None,
    idle_seconds: IdleSeconds = None,
    stack: StackName = None,
    model: ModelName = None,
    against: Against = None,
    change: Change = 20.0,
    json_output: JsonOption = False,
    root: RootOption = ROOT,
) -> None:
    """From which traffic a GPU of your own is cheaper than serverless inference. In US dollars.

    With --stack and --model a replica of a stack file is priced; its traffic gives the lengths.

    Example: coldstart breakeven --gpu-usd-per-hour 1.88 --model openai/gpt-oss-120b
    --against digitalocean --input-tokens 80 --output-tokens 220
    """
    with told():
        from coldstart.cli.breakeven_case import Given, Worker, answered
        from coldstart.cli.breakeven_text import as_data, as_text

        given = Given(
            gpu_usd_per_hour,
            input_tokens,
            output_tokens,
            requests_per_second_capacity,
            requests_per_second,
        )
        worker = Worker(gpu_usd_per_second, request_seconds, cold_start_seconds, idle_seconds)
        prices = input_usd_per_million, output_usd_per_million
        answer = answered(given, worker, (root, stack), model, against, prices, change)
        if json_output:
            print_json(as_data(answer))
        else:
            sys.stdout.write(as_text(answer))
