"""`coldstart lint` and `coldstart rules` as their users run them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from policies.examples import examples_of
from policies.lint.formats import FORMATS
from policies.presets import PRESETS
from policies.rules import RULES

ROOT = Path(__file__).resolve().parents[2]
RULE = "kubernetes-pod-require-pinned-gpu-image"
DEADLINE_SECONDS = 60
OPEN = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: a, namespace: n}
spec:
  template:
    spec:
      containers:
        - name: engine
          readinessProbe: {httpGet: {path: /, port: 80}, initialDelaySeconds: $DELAY}
          resources: {limits: {nvidia.com/gpu: 1}}
"""


def coldstart(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "coldstart", *map(str, arguments)],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


@pytest.fixture
def only(tmp_path: Path) -> Path:
    """A configuration in which one rule is asked."""
    file = tmp_path / "only.json"
    file.write_text(json.dumps({"all": "disabled", RULE: "mandatory"}))
    return file


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A manifest that breaks the rule."""
    examples = examples_of(RULE)
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump_all(examples.documents_after(examples.violations[0])))
    return file


def test_violations_end_with_1_and_a_clean_manifest_with_0(only: Path, bad: Path):
    refused = coldstart("lint", bad, "--config", only)
    assert refused.returncode == 1
    assert f"{bad}:1: error: " in refused.stdout and RULE in refused.stdout
    good = yaml.safe_dump_all(examples_of(RULE).documents)
    passed = coldstart("lint", "-", "--config", only, stdin=good)
    assert (passed.returncode, passed.stderr) == (0, "")
    assert "1 rules: 0 errors" in passed.stdout


def test_a_file_that_cannot_be_read_ends_with_2_and_the_rest_is_judged(
    tmp_path: Path, only: Path, bad: Path
):
    (tmp_path / "broken.yaml").write_text("apiVersion: [")
    done = coldstart("lint", tmp_path, "--config", only)
    assert done.returncode == 2
    assert "cannot be checked" in done.stdout and RULE in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("written", FORMATS)
def test_a_rule_with_options_that_is_undecided_is_told(tmp_path: Path, written: str):
    file = tmp_path / "open.yaml"
    file.write_text(OPEN)
    config = tmp_path / "c.yaml"
    config.write_text("all: disabled\nkubernetes-pod-forbid-initial-delay: mandatory\n")
    done = coldstart("lint", file, "--config", config, "--format", written)
    assert (done.returncode, done.stderr) == (0, "")
    assert "readinessProbe.initialDelaySeconds" in done.stdout
    assert coldstart("lint", file, "--config", config, "--strict").returncode == 1


def test_warnings_fail_only_when_asked(tmp_path: Path, bad: Path):
    config = tmp_path / "c.yaml"
    config.write_text(f"all: disabled\n{RULE}: advisory\n")
    assert coldstart("lint", bad, "--config", config).returncode == 0
    assert coldstart("lint", bad, "--config", config, "--strict").returncode == 1


def _baseline(tmp_path: Path, **fields: str) -> Path:
    file = tmp_path / "baseline.yaml"
    entry = {"rule": RULE, "resource": "Deployment *", "reason": "rebuilt in May"} | fields
    file.write_text(yaml.safe_dump({"accepted": [entry]}))
    return file


def test_the_baseline_accepts_until_its_last_day(tmp_path: Path, only: Path, bad: Path):
    valid = _baseline(tmp_path, expires="2999-01-01")
    done = coldstart("lint", bad, "--config", only, "--baseline", valid)
    assert done.returncode == 0 and "accepted by the baseline" in done.stdout
    over = _baseline(tmp_path, expires="2020-01-01")
    done = coldstart("lint", bad, "--config", only, "--baseline", over)
    assert done.returncode == 1 and "accepted until 2020-01-01, over" in done.stdout


def test_an_entry_that_accepts_nothing_is_told(tmp_path: Path, only: Path, bad: Path):
    stale = _baseline(tmp_path, expires="2999-01-01", resource="Deployment other/thing")
    done = coldstart("lint", bad, "--config", only, "--baseline", stale)
    assert done.returncode == 1 and "nothing to accept" in done.stdout


WRONG_BASELINES = [
    ({"expires": "soon"}, "is no day"),
    ({"expires": "2999-01-01", "reason": " "}, "reason: text is expected"),
    ({"expires": "2999-01-01", "rule": "no-such-rule"}, "there is no rule no-such-rule"),
    ({"expires": "2999-01-01", "because": "x"}, "because: there is no such field"),
]


@pytest.mark.parametrize(("fields", "says"), WRONG_BASELINES)
def test_a_wrong_baseline_is_refused(tmp_path: Path, bad: Path, fields: dict[str, str], says: str):
    done = coldstart("lint", bad, "--baseline", _baseline(tmp_path, **fields))
    assert done.returncode == 2 and says in done.stderr and done.stdout == ""


WRONG_SETTINGS = [
    ("kubernetes-pod-require-pinned-image: advisory", f"did you mean {RULE}?"),
    (f"{RULE}: loud", "'loud' is none of advisory, mandatory, disabled"),
    (f"{RULE}: {{enforcementLevel: advisory, colour: red}}", "there is no such option"),
    (
        "kubernetes-daemonset-forbid-privileged-disk-setup: {environment: test}",
        "'test' is not one of",
    ),
    ("[1]", "a mapping from rule names"),
    ("a: [", "not valid YAML"),
]


@pytest.mark.parametrize(("text", "says"), WRONG_SETTINGS)
def test_wrong_settings_are_refused_before_anything_is_read(
    tmp_path: Path, bad: Path, text: str, says: str
):
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    done = coldstart("lint", bad, "--config", file)
    assert done.returncode == 2 and says in done.stderr and done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_field_that_a_baseline_does_not_have_is_refused(tmp_path: Path, bad: Path):
    file = _baseline(tmp_path, expires="2999-01-01")
    file.write_text(file.read_text() + "acepted: []\n")
    done = coldstart("lint", bad, "--baseline", file)
    assert done.returncode == 2 and "acepted: there is no such field" in done.stderr


def test_sarif_names_rule_place_and_accepted_findings(tmp_path: Path, only: Path, bad: Path):
    valid = _baseline(tmp_path, expires="2999-01-01")
    done = coldstart("lint", bad, "--config", only, "--baseline", valid, "--format", "sarif")
    content = json.loads(done.stdout)
    (run,) = content["runs"]
    result = run["results"][0]
    assert content["version"] == "2.1.0" and result["suppressions"] == [{"kind": "external"}]
    place = result["locations"][0]["physicalLocation"]
    assert place["region"] == {"startLine": 1}
    ids = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert result["ruleId"] in ids and len(set(ids)) == len(RULES)


NEEDED = {
    "sarifLog": ("version", "runs"),
    "run": ("tool", "results"),
    "rule": ("id", "shortDescription", "helpUri"),
    "result": ("ruleId", "message", "locations", "level"),
    "notification": ("message", "level"),
}
"""What SARIF 2.1.0 requires, and what code scanning needs beside it."""
URI_REFERENCE = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-F]{2})+")


def test_sarif_has_the_required_fields_and_only_what_its_schema_allows(tmp_path: Path):
    folder = tmp_path / "a folder, <odd>"
    folder.mkdir()
    violation = examples_of(RULE).documents_after(examples_of(RULE).violations[0])
    (folder / "bad.yaml").write_text(yaml.safe_dump_all(violation))
    (folder / "broken.yaml").write_text("apiVersion: [")
    (folder / "open.yaml").write_text(OPEN)
    config = tmp_path / "c.yaml"
    config.write_text("all: mandatory\n")
    done = coldstart("lint", folder, "-", "--config", config, "--format", "sarif", stdin="a: [")
    assert done.returncode == 2
    content = json.loads(done.stdout)
    run = content["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    told = run["invocations"][0]["toolExecutionNotifications"]
    for kind, items in {
        "sarifLog": [content],
        "run": [run],
        "rule": rules,
        "result": run["results"],
        "notification": told,
    }.items():
        assert items and all(set(NEEDED[kind]) <= set(item) for item in items), kind
    for item in (*run["results"], *told):
        for location in item["locations"]:
            place = location["physicalLocation"]
            assert URI_REFERENCE.fullmatch(place["artifactLocation"]["uri"])
            assert place["region"]["startLine"] >= 1
    for rule in rules:
        tags = rule["properties"]["tags"]
        assert len(set(tags)) == len(tags)
    assert any("known only after deployment" in item["message"]["text"] for item in told)


def test_sarif_names_files_of_the_working_folder_from_there(only: Path):
    files = [
        item["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for path in ("tests/policy/missing.yaml", ROOT / "tests/policy/missing.yaml")
        for item in json.loads(
            coldstart("lint", path, "--config", only, "--format", "sarif").stdout
        )["runs"][0]["invocations"][0]["toolExecutionNotifications"]
    ]
    assert files == ["tests/policy/missing.yaml"] * 2


def test_names_of_a_manifest_neither_start_a_line_nor_steer_a_terminal(tmp_path: Path):
    examples = examples_of(RULE)
    documents = examples.documents_after(examples.violations[0])
    documents[0]["metadata"]["name"] = "x\n::error::100%, y\x1b[31m"
    file = tmp_path / "bad.yaml"
    file.write_text(json.dumps(documents[0]))
    config = tmp_path / "c.yaml"
    config.write_text(f"all: disabled\n{RULE}: mandatory\n")
    said = coldstart("lint", file, "--config", config).stdout
    assert "\x1b" not in said and "\n::error" not in said and "x\\n::error::100%, y" in said
    marked = coldstart("lint", file, "--config", config, "--format", "github").stdout
    assert marked.count("\n::error") == 0 and "x%0A::error::100%25, y" in marked


def test_github_is_told_what_is_open_and_what_the_baseline_no_longer_does(
    tmp_path: Path, bad: Path
):
    config = tmp_path / "c.yaml"
    rule = "kubernetes-pod-forbid-initial-delay"
    config.write_text(f"all: disabled\n{rule}: mandatory\n")
    bad.write_text(OPEN)
    over = _baseline(tmp_path, expires="2020-01-01")
    done = coldstart(
        "lint", bad, "--config", config, "--baseline", over, "--format", "github"
    ).stdout
    assert "::notice file=" in done and "known only after deployment" in done
    assert "::notice title=baseline::" in done and "accepted until 2020-01-01, over" in done


def test_json_and_github_say_the_same_findings(only: Path, bad: Path):
    data = json.loads(coldstart("lint", bad, "--config", only, "--format", "json").stdout)
    marked = coldstart("lint", bad, "--config", only, "--format", "github").stdout
    assert len(data["violations"]) == marked.count("::error ") == 1
    assert data["violations"][0]["rule"] == RULE
    assert f"file={bad},line=1," in marked


@pytest.mark.parametrize("preset", PRESETS)
def test_the_rules_are_listed_with_the_levels_of_a_preset(preset: str):
    listed = coldstart("rules", "--preset", preset).stdout.splitlines()
    assert [line.split()[0] for line in listed] == [rule.code for rule in RULES]
    data = json.loads(coldstart("rules", "--preset", preset, "--format", "json").stdout)
    config = coldstart("rules", "--preset", preset, "--format", "policy-config").stdout
    assert {item["name"]: {"enforcementLevel": item["level"]} for item in data} == json.loads(
        config
    )


@pytest.mark.parametrize(
    "arguments",
    [("rules", "--preset", "x"), ("rules", "--format", "x"), ("lint", "-", "--format", "x")],
)
def test_unknown_words_are_answered_with_the_known_ones(arguments: tuple[str, ...]):
    done = coldstart(*arguments)
    assert done.returncode == 2 and "is none of" in done.stderr


def test_input_without_any_object_is_no_clean_bill(tmp_path: Path):
    text = "just words\n"
    file = tmp_path / "empty.yaml"
    file.write_text(text)
    for word in (str(file), "-"):
        done = coldstart("lint", word, stdin=text)
        assert done.returncode == 2, done.stdout
        assert done.stderr == f"nothing to judge: no object in {word}; is it empty?\n"


def test_an_empty_file_or_pipe_is_no_clean_bill(tmp_path: Path):
    file = tmp_path / "empty.yaml"
    file.touch()
    for word, called in ((str(file), str(file)), ("-", "<stdin>")):
        done = coldstart("lint", word, stdin="")
        assert done.returncode == 2
        assert f"{called}:1: cannot be checked: empty; see what was to write it" in done.stdout
