"""Render a page from a template. The page is one file that loads nothing."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from sparsity.report.plots import svg_of


def render(template: str, **values: Any) -> str:
    """Return the page. template: the name of a file of this folder. Texts in values are escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def embed(content: bytes, kind: str) -> str:
    """Return content as a link that holds it. kind: its media type, such as image/png."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def embed_figure(figure: Figure) -> str:
    """Return a figure as a link that holds its SVG."""
    return embed(svg_of(figure), "image/svg+xml")
