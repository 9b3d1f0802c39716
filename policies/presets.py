"""Levels of all rules for an environment, as a policy configuration.

`baseline` is what a rule is without configuration: what is always wrong is mandatory. `production`
asks for more, `development` lets go of what costs money or time there.

`python -m policies.presets PRESET` prints the configuration for `--policy-pack-config`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from policies.rule import Level, Rule
from policies.rules import RULES

_LEVELS: Mapping[str, Callable[[Rule], Level]] = {
    "baseline": lambda rule: rule.level,
    "production": lambda rule: rule.production,
    "development": lambda rule: rule.development,
}

PRESETS = tuple(_LEVELS)


def levels(preset: str) -> dict[str, Level]:
    """The level of every rule by name. Raises KeyError for a preset that does not exist."""
    level_of = _LEVELS[preset]
    return {rule.name: level_of(rule) for rule in RULES}


def policy_config(preset: str) -> dict[str, dict[str, Any]]:
    """What `pulumi preview --policy-pack-config` reads, for one preset."""
    return {name: {"enforcementLevel": level} for name, level in levels(preset).items()}


def main(arguments: Sequence[str]) -> int:
    """Print the configuration of a preset; 2, with the presets there are, for another name."""
    preset = arguments[0] if len(arguments) == 1 else ""
    if preset not in PRESETS:
        sys.stderr.write(f"give one preset: {', '.join(PRESETS)}\n")
        return 2
    sys.stdout.write(json.dumps(policy_config(preset), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
