"""A key whose making was not answered: it may be there, so that is said, and no empty file stays behind."""

from pathlib import Path

import pytest

from catalog.cli.client import Api
from catalog.cli.errors import CliError
from catalog.cli.kinds.keys import _create_key
from catalog.cli.kinds.kind import Options
from catalog.cli.manifests import Document
from tests.road.product import free_port


def test_key_that_may_have_been_made_is_told_of(tmp_path: Path) -> None:
    spec = {"owner": "bob@acme.example", "project": "checkout", "secretTo": {"file": "ci.key"}}
    document = Document("Key", "ci", spec, "keys.yaml:1")

    with pytest.raises(CliError, match="Whether Key ci was made is not known"):
        _create_key(Api(f"http://127.0.0.1:{free_port()}", "ght_x"), document, Options(base=tmp_path))

    assert list(tmp_path.iterdir()) == []
