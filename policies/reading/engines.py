"""vLLM engines: which containers run one, and what its command line says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from policies.reading.command_lines import (
    commands_of,
    is_open,
    takes_variables_from_elsewhere,
    variable,
)
from policies.reading.values import at, is_true
from policies.reading.workloads import Container, Pod

# Images whose entry point is the engine itself, so that `args` are its arguments.
_ENGINE_IMAGES = frozenset(
    {"vllm-openai", "vllm-openai-rocm", "vllm-openai-cpu", "vllm-cpu-release-repo"}
)
_SHORT = {
    "-tp": "tensor-parallel-size",
    "-pp": "pipeline-parallel-size",
    "-dp": "data-parallel-size",
    "-q": "quantization",
    "-O": "optimization-level",
    "-sc": "speculative-config",
    "-cc": "compilation-config",
}
# The version may follow a name: images made from vLLM have tags such as lmcache-v0.8.5-20250418.
_VERSION = re.compile(
    r"(?:[a-z][a-z0-9]*[-_])*v?(\d+)\.(\d+)(?:\.(\d+))?(?:[.\-+_a-z].*)?", re.IGNORECASE
)
_HUB_MODEL = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Engine:
    """One `vllm serve` of a container; `words` are what follows it."""

    container: Container
    words: tuple[str, ...]
    pod: Pod

    @cached_property
    def flags(self) -> Mapping[str, str | None]:
        """Stated flags without dashes (`tensor-parallel-size`), the last value of each.

        None stands where a flag has no value, which is how switches are written.
        """
        return dict(self._flags())

    def _flags(self) -> Iterator[tuple[str, str | None]]:
        for place, word in enumerate(self.words):
            name, equals, value = word.partition("=")
            if name in _SHORT:
                key = _SHORT[name]
            elif name.startswith("--") and len(name) > 2:
                key = name[2:].replace("_", "-")
            else:
                continue
            if equals:
                yield key, value
                continue
            following = self.words[place + 1] if place + 1 < len(self.words) else None
            is_value = following is not None and not re.match(r"-[-a-zA-Z]", following)
            yield key, following if is_value else None

    def value(self, *names: str) -> str | None:
        """The value of the first of these flags that has one."""
        return next((found for name in names if (found := self.flags.get(name)) is not None), None)

    def number(self, *names: str) -> int | None:
        """The whole number a flag states, None without one that can be read."""
        found = self.value(*names)
        return int(found) if found is not None and re.fullmatch(r"\d{1,9}", found) else None

    @property
    def tells_all(self) -> bool:
        """Whether a flag that is missing here cannot come from anywhere else."""
        return "config" not in self.flags and not any(
            is_open(word) for word in self.words if not word.startswith("-")
        )

    @property
    def model(self) -> str | None:
        """The model's path, URI or repository; None where it is not stated readably."""
        stated = self.value("model")
        if stated is None and self.words and not self.words[0].startswith("-"):
            stated = self.words[0]
        return None if is_open(stated) else stated

    @property
    def hub_model(self) -> str | None:
        """The repository on the model hub, for a model that is neither a path nor a URI."""
        model = self.model
        return model if model is not None and _HUB_MODEL.fullmatch(model) else None

    def variable(self, name: str) -> str | None:
        """A variable the container states itself."""
        return variable(self.container, name)

    @property
    def weights_directory(self) -> str | None:
        """The directory weights are read from: the model's path, or the cache of the model hub.

        None for a model in an object store, and where the directory cannot be read.
        """
        model = self.model
        if model is not None and model.startswith("/"):
            return model.rstrip("/") or None
        if self.hub_model is None:
            return None
        home = self.home
        stated = (
            self.value("download-dir")
            or self.variable("HF_HUB_CACHE")
            or self.variable("HF_HOME")
            or (f"{home}/.cache/huggingface" if home else None)
        )
        return None if is_open(stated) else stated

    @property
    def cache_root(self) -> str | None:
        """Where the engine keeps what it compiled; None where that cannot be read."""
        for name, below in (("VLLM_CACHE_ROOT", ""), ("XDG_CACHE_HOME", "/vllm")):
            stated = self.variable(name)
            if stated:
                return None if is_open(stated) else stated.rstrip("/") + below
        home = self.home
        return f"{home}/.cache/vllm" if home else None

    @property
    def home(self) -> str | None:
        """The home directory; None where it depends on the image's own users."""
        if takes_variables_from_elsewhere(self.container):
            return None
        stated = self.variable("HOME")
        if stated:
            return None if is_open(stated) else stated.rstrip("/")
        # The images of the vLLM project run as root unless the pod says otherwise; others need not.
        if not _is_engine_image(self.container):
            return None
        contexts = (self.container.spec, self.pod.spec)
        users = [at(context, "securityContext", "runAsUser") for context in contexts]
        runs_as = next((user for user in users if user is not None), None)
        other = any(is_true(at(item, "securityContext", "runAsNonRoot")) for item in contexts)
        return "/root" if runs_as == 0 or (runs_as is None and not other) else None

    @property
    def version(self) -> tuple[int, int] | None:
        """Major and minor version by the image's tag; None for a digest or another tag."""
        image = str(at(self.container.spec, "image", default=""))
        tag = image.split("@")[0].rsplit("/", 1)[-1].partition(":")[2]
        match = _VERSION.fullmatch(tag)
        return (int(match[1]), int(match[2])) if match and "vllm" in image else None

    def is_without(self, gone_since: tuple[int, int]) -> bool:
        """Whether what vLLM dropped with a version is missing in this image.

        By the image's tag; an image of the vLLM project without a version counts as a current one,
        and nothing is known of other images.
        """
        if self.version is not None:
            return self.version >= gone_since
        image = str(at(self.container.spec, "image", default=""))
        tag = image.split("@")[0].rsplit("/", 1)[-1].partition(":")[2]
        return _is_engine_image(self.container) and tag in ("", "latest", "nightly")


def engines_of(pod: Pod) -> Iterator[Engine]:
    """Every vLLM engine among the containers of a pod."""
    for container in pod.containers(with_init=False):
        yield from engines_in(pod, container)


def engines_in(pod: Pod, container: Container) -> Iterator[Engine]:
    """The vLLM engines a container starts. Raises NotYetKnown where its command is not known."""
    commands = list(commands_of(container))
    found = False
    for words in commands:
        start = _start_of_arguments(words)
        if start is not None:
            found = True
            yield Engine(container, words[start:], pod)
    if not found and not at(container.spec, "command") and _is_engine_image(container):
        yield Engine(container, commands[0] if commands else (), pod)


def _start_of_arguments(words: tuple[str, ...]) -> int | None:
    for place, word in enumerate(words):
        if word.rsplit("/", 1)[-1] == "vllm" and words[place + 1 : place + 2] == ("serve",):
            return place + 2
        if re.fullmatch(r"vllm\.entrypoints\.(?:openai\.)?(?:api_server|grpc_server)", word):
            return place + 1
    return None


def _is_engine_image(container: Container) -> bool:
    image = str(at(container.spec, "image", default=""))
    return image.split("@")[0].rsplit("/", 1)[-1].split(":")[0] in _ENGINE_IMAGES
