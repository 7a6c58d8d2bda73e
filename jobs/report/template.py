"""The pages' templates, each whole in itself: the style stands inside."""

from __future__ import annotations

import functools
import importlib.resources

import jinja2
from markupsafe import Markup

from jobs.report.printed import HEAD


@functools.cache
def template(name: str) -> jinja2.Template:
    """The template of that file name; text put into it is escaped."""

    def read(file: str) -> str:
        return importlib.resources.files("jobs.report").joinpath(file).read_text(encoding="utf-8")

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(style=Markup(read("style.css")), HEAD=HEAD)
    return environment.from_string(read(name))
