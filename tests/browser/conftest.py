"""A real browser, started once, and reports opened in it from files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from axe import AxeError, axe_source
from playwright.sync_api import Browser, Page, sync_playwright

from coldstart.planning import plan_stack
from coldstart.report import summary
from coldstart.report.page import page as report_page
from coldstart.spec import load_stack
from tests.unit import report_samples as samples

ROOT = Path(__file__).parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
MISSING = (
    "no browser found: install Chromium (Debian: apt-get install chromium), "
    "or name one by COLDSTART_BROWSER=/path/to/chromium"
)


@dataclass(slots=True)
class Opened:
    """A page, and what it asked for and said since it was opened."""

    page: Page
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


Open = Callable[..., Opened]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    named = os.environ.get("COLDSTART_BROWSER")
    path = named or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None or not Path(path).is_file():
        pytest.exit(MISSING if not named else f"COLDSTART_BROWSER: {named} is no file", 2)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture(scope="session")
def found() -> dict[str, Any]:
    return summary(plan_stack(load_stack(ROOT, "eks-prod")))


@pytest.fixture(scope="session")
def report_file(found: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with every section."""
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(report_page(found, samples.EVERYTHING), encoding="utf-8")
    return file


@pytest.fixture
def opened(browser: Browser, report_file: Path) -> Iterator[Open]:
    """Opens a file at a width, in a colour scheme."""
    with ExitStack() as stack:

        def do(width: int = 1280, scheme: str = "light", file: Path = report_file) -> Opened:
            context = browser.new_context(
                viewport={"width": width, "height": 900},
                color_scheme=scheme,  # type: ignore[arg-type]
            )
            stack.callback(context.close)
            found = Opened(context.new_page())
            found.page.on("request", lambda request: found.requests.append(request.url))
            found.page.on("console", lambda message: found.messages.append(message.text))
            found.page.on("pageerror", lambda error: found.messages.append(str(error)))
            found.page.on("dialog", lambda dialog: found.messages.append(dialog.message))
            found.page.goto(file.as_uri())
            return found

        yield do


@pytest.fixture(scope="session")
def axe() -> str:
    try:
        return axe_source()
    except AxeError as error:
        pytest.fail(str(error))
