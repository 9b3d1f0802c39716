"""What `coldstart init` writes runs through the whole program, with no engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from coldstart.cli.app import app
from tests.program.harness import read_config, run_program

FLAGS = (
    *("--region", "us-east-1", "--model", "Qwen/Qwen3-8B", "--requests-per-second", "2"),
    *("--prompt-tokens", "800", "--output-tokens", "250", "--ttft", "2s", "--tpot", "50ms"),
    *("--admin-cidr", "203.0.113.0/24", "--budget", "5m"),
)


@pytest.mark.parametrize("environment", ["prod", "dev"])
def test_a_stack_file_that_init_wrote_previews_with_its_pool_and_its_model(
    environment: str, tmp_path: Path
) -> None:
    words = ["init", "--root", str(tmp_path), "--name", "chat", "--environment", environment]
    done = CliRunner().invoke(app, [*words, *FLAGS])
    assert done.exit_code == 0, done.stderr
    config = read_config(tmp_path / "stacks" / "Pulumi.chat.yaml")
    found = run_program("chat", preview=True, config=config)
    pool = found.one("kubernetes:karpenter.sh/v1:NodePool")
    assert pool.at("metadata.name") == "l40s"
    assert "l40s" in str(pool.at("spec.template.spec.nodeClassRef.name"))
    assert 0 < found.outputs["coldStart"]["qwen3-8b"] < 300
