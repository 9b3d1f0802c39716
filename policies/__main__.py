"""Entry point of the policy pack: the Pulumi engine runs this folder."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def _load_this_folder_as_policies() -> None:
    """Make `policies.*` importable whatever the folder is called: the pack is copied on its own."""
    if "policies" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "policies", HERE / "__init__.py", submodule_search_locations=[str(HERE)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{HERE / '__init__.py'} cannot be loaded as the package 'policies'")
    package = importlib.util.module_from_spec(spec)
    sys.modules["policies"] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    _load_this_folder_as_policies()
    from policies.pack import serve

    serve()
