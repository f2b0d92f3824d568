"""Shared by the configuration tests: writing a file and loading it, or collecting its problems."""

from collections.abc import Mapping
from pathlib import Path

from relay.config.load import load
from relay.config.problems import ConfigInvalid, Problem
from relay.config.schema.file import Config

MINIMAL = "version: 1\nplatforms: {a: {url: https://a.example/}}\n"


def write(directory: Path, text: str, name: str = "config.yaml") -> Path:
    """Write a file and return its path."""
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return path


def loaded(directory: Path, text: str, environ: Mapping[str, str] | None = None) -> Config:
    """Load a valid configuration."""
    return load(write(directory, text), environ=environ or {})


def problems(directory: Path, text: str, environ: Mapping[str, str] | None = None) -> list[Problem]:
    """Return the problems of an invalid configuration."""
    try:
        loaded(directory, text, environ)
    except ConfigInvalid as invalid:
        return list(invalid.problems)
    raise AssertionError("the configuration was accepted")


def codes(directory: Path, text: str, environ: Mapping[str, str] | None = None) -> list[tuple[int, int, str]]:
    """Return line, column and code of every problem."""
    return [(problem.line, problem.col, problem.code) for problem in problems(directory, text, environ)]


def platform(directory: Path, settings: str, environ: Mapping[str, str] | None = None) -> list[Problem]:
    """Return the problems of a platform with these settings, each on a line of its own from line 5 on."""
    body = "".join(f"    {line}\n" for line in settings.splitlines())
    return problems(directory, f"version: 1\nplatforms:\n  a:\n    url: https://a.example/\n{body}", environ)
