"""Front-end files of npm packages, exposed one by one, and the icon sprite made of the icons that are used.

Nothing of a third party is kept in the repository: `make install` fetches the packages by their lock file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import BaseFinder
from django.core.checks import CheckMessage, Error
from django.core.files.storage import FileSystemStorage

PACKAGES = Path(settings.BASE_DIR) / "node_modules"
BUILT = Path(settings.BASE_DIR) / ".cache" / "assets"
SPRITE = "icons.svg"
FILES = {
    "vendor/tabler.min.css": "@tabler/core/dist/css/tabler.min.css",
    "vendor/tabler.min.css.map": "@tabler/core/dist/css/tabler.min.css.map",
    "vendor/plotly-basic.min.js": "plotly.js-basic-dist-min/plotly-basic.min.js",
    "vendor/inter.css": "@fontsource-variable/inter/index.css",
}
_FONTS = PACKAGES / "@fontsource-variable" / "inter" / "files"
_ICON_USE = re.compile(r"""(?:\{% icon "|icon=")([a-z0-9-]+)""")


def files() -> dict[str, Path]:
    """Static name to file. Missing packages are reported by the system check, not here."""
    found = {name: PACKAGES / path for name, path in FILES.items()}
    for font in sorted(_FONTS.glob("inter-*-wght-normal.woff2")):
        found[f"vendor/files/{font.name}"] = font
    if (BUILT / SPRITE).exists():
        found[SPRITE] = BUILT / SPRITE
    return {name: path for name, path in found.items() if path.exists()}


def used_icons() -> set[str]:
    """Names of Tabler icons that templates and Python files mention."""
    base = Path(settings.BASE_DIR)
    sources = [
        *base.glob("templates/**/*.html"),
        *(path for app in ("governance", "catalog", "costs", "rollouts", "operations") for path in base.glob(f"{app}/**/*.py")),
    ]
    return {name for path in sources for name in _ICON_USE.findall(path.read_text())}


def build() -> Path:
    """Write the sprite. Raises KeyError for an icon that Tabler does not have."""
    sprite = (PACKAGES / "@tabler" / "icons-sprite" / "dist" / "tabler-sprite.svg").read_text()
    symbols = dict(re.findall(r'(?s)<symbol id="tabler-([a-z0-9-]+)"(.*?</symbol>)', sprite))
    chosen = "".join(f'<symbol id="{name}"{symbols[name]}' for name in sorted(used_icons()))
    BUILT.mkdir(parents=True, exist_ok=True)
    target = BUILT / SPRITE
    scratch = target.with_suffix(".new")
    scratch.write_text(f'<svg xmlns="http://www.w3.org/2000/svg">{chosen}</svg>')
    scratch.replace(target)
    return target


class PackageFinder(BaseFinder):
    """A staticfiles finder over the explicit list."""

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        missing = [path for path in FILES.values() if not (PACKAGES / path).exists()]
        return (
            [Error(f"front-end files are missing: {', '.join(missing)}", hint="Run `make install`.", id="governance.E001")]
            if missing
            else []
        )

    def find(self, path: str, find_all: bool = False, **kwargs: Any) -> Any:
        found = files().get(path)
        if found is None:
            return []
        return [str(found)] if find_all else str(found)

    def list(self, ignore_patterns: Iterable[str] | None) -> Iterator[tuple[str, FileSystemStorage]]:
        for name, path in files().items():
            yield name, _SingleFile(name, path)


class _SingleFile(FileSystemStorage):
    """collectstatic asks a storage for a name; this one has exactly one."""

    def __init__(self, name: str, path_on_disk: Path) -> None:
        super().__init__(location=str(path_on_disk.parent))
        self._only, self._path = name, path_on_disk
        self.prefix = ""

    def path(self, name: str) -> str:
        if name != self._only:
            raise FileNotFoundError(name)
        return str(self._path)
