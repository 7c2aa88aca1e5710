"""The documentation: what stands in the reference, in the site's navigation, and how docstrings are written."""

import ast
import re
from pathlib import Path

import lerac_fast
import lerac_fast.optim

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SOURCES = sorted(
    path for package in ("lerac_fast", "experiments/lerac_experiments") for path in (ROOT / package).rglob("*.py")
)


def test_the_reference_has_every_public_name_and_no_other() -> None:
    documented = [
        name
        for page in (DOCS / "api").glob("*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    ]
    public = [f"{package.__name__}.{name}" for package in (lerac_fast, lerac_fast.optim) for name in package.__all__]
    assert sorted(documented) == sorted(public + _names_of_integrations())


def _names_of_integrations() -> list[str]:
    """From their text, as they cannot be imported where their libraries are not installed."""
    return [
        f"lerac_fast.integrations.{path.stem}.{name}"
        for path in (ROOT / "lerac_fast/integrations").glob("[!_]*.py")
        for line in re.findall(r"^__all__ = (\[.*\])$", path.read_text(), re.MULTILINE)
        for name in ast.literal_eval(line)
    ]


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [page.relative_to(DOCS) for folder in (DOCS, DOCS / "api") for page in folder.glob("*.md")]
    assert len(pages) > 10
    assert [page for page in pages if f": {page}\n" not in navigation] == []


def test_docstrings_are_in_markdown() -> None:
    """`name` for code: neither roles of Sphinx, :func:`name`, nor its double backticks, directives and `::`."""
    markup = re.compile(r":[a-z]+:`|``|^ *\.\. [a-z]+::|::$", re.MULTILINE)
    found = {str(path.relative_to(ROOT)): markup.findall(path.read_text()) for path in SOURCES}
    assert {path: marks for path, marks in found.items() if marks} == {}
