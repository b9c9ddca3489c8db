"""The documentation names what there is, and nothing else."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from drf_spectacular.generators import SchemaGenerator

from gateway.contract import keys
from governance.topics import TOPICS

ROOT = Path(__file__).resolve().parent.parent


def test_every_setting_is_documented_and_no_other() -> None:
    code = (ROOT / "governance" / "settings.py").read_text() + (ROOT / "gateway" / "plane" / "settings.py").read_text()
    read = set(
        re.findall(r"""(?:env\.\w+|text|secret|words|integer|boolean|_text|_required)\(\s*(?:environ,\s*)?["']([A-Z_]+)["']""", code)
    )

    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE))

    assert read <= documented
    assert {"SECRET_KEY", "DATABASE_URL", "OUTBOUND_ALLOW"} <= read
    assert documented - read <= {"DATA_DIR"}


def test_links_between_documents_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]:
        for target, section in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
            where = page.parent / target if target else page
            assert target.startswith("http") or where.exists(), f"{page.relative_to(ROOT)} links to {target}"
            assert not section or where.suffix != ".md" or section in _sections(where), (
                f"{page.relative_to(ROOT)} links to {target}#{section}"
            )


def _sections(page: Path) -> set[str]:
    """Addresses of the headings of a page, as renderers of Markdown make them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


def test_published_pattern_for_secret_scanners_matches_what_is_given_out() -> None:
    [pattern] = re.findall(r"keys and\s+API tokens match `([^`]+)`", (ROOT / "docs" / "catalog.md").read_text())

    given_out = [keys.generate("ghk", keys.new_id(), keys.new_id()), keys.generate("ght", "platform", keys.new_id())]

    assert all(re.fullmatch(pattern, text) for text in given_out)
    assert not re.search(pattern, given_out[0][:-1])


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_openapi_document_is_the_one_that_the_code_makes() -> None:
    checked_in = yaml.load((ROOT / "docs" / "openapi.yaml").read_text(), Loader=yaml.CSafeLoader)  # seven seconds less than in Python

    made = SchemaGenerator(urlconf="governance.urls_api").get_schema(request=None, public=True)

    assert made["paths"].keys() == checked_in["paths"].keys(), "run `make schema`"
    assert made["components"]["schemas"].keys() == checked_in["components"]["schemas"].keys(), "run `make schema`"


def _texts(node: ast.expr) -> Iterator[str]:
    """The texts that an expression can be; of one that is put together, none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from (*_texts(node.body), *_texts(node.orelse))


def test_every_topic_that_is_told_is_known_to_channels_and_documented() -> None:
    told: set[str] = set()
    for app in ("governance", "catalog", "costs", "rollouts", "operations", "gateway/publish"):
        for path in (ROOT / app).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "notify":
                    told |= {text for word in node.keywords if word.arg == "topic" for text in _texts(word.value)}
                elif (
                    isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "tell" and len(node.args) > 1
                ):
                    told |= set(_texts(node.args[1]))
                elif isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == "TOPIC" for to in node.targets):
                    told |= set(_texts(node.value))
    documents = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))

    assert told <= set(TOPICS)
    assert {"budget.threshold", "cost.showback", "gate.blocked", "cohort.left"} <= told
    assert [topic for topic in TOPICS if f"`{topic}`" not in documents] == []
    assert list(TOPICS) == sorted(set(TOPICS))
