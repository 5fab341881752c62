"""Serve the files outside docs/ that pages link to: pictures, tables, reports and a few Markdown files.

A page links to such a file by its path in the repository, so that the link also works on a code host.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "results/README.md": "results.md",
}
"""Markdown files outside docs/ that are pages of the site: path in the repository -> path in the site."""
REPORT = "report.html"
"""The file that a link to a folder of results opens."""
LINK = re.compile(r"(?<=\]\()[^)#\s]+(?=[)#])")
NAMED_FENCE = re.compile(r"^(```\w+) \w+$", re.MULTILINE)
"""The head of a code block that a test finds by the word after its language."""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the Markdown files of PAGES to the site."""
    for source, page in PAGES.items():
        content = (_root(config) / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite a page's links to files of the repository, and add these files to the site."""
    sources = {target: source for source, target in PAGES.items()}
    uri = page.file.src_uri
    folder = posixpath.dirname(sources.get(uri, f"docs/{uri}"))

    def rewrite(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, link[0]))
        served = _serve(path, config, files)
        return posixpath.relpath(served, posixpath.dirname(uri) or ".") if served else link[0]

    return LINK.sub(rewrite, NAMED_FENCE.sub(r"\1", markdown))


def _serve(path: str, config: MkDocsConfig, files: Files) -> str:
    """The place in the site of a file of the repository; '' where there is none, and mkdocs warns."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    place = _root(config) / path
    if place.is_dir():
        path, place = f"{path}/{REPORT}", place / REPORT
    if path.startswith("..") or not place.is_file():
        return ""
    if not files.get_file_from_path(path):
        files.append(File.generated(config, path, abs_src_path=str(place)))
    return path


def _root(config: MkDocsConfig) -> Path:
    return Path(config.docs_dir).parent
