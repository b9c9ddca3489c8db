"""What the environment says, and what an empty word in it means."""

from __future__ import annotations

from pathlib import Path

import pytest

from governance import env, local


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_DIR", "")
    monkeypatch.setenv("BASE_URL", "")
    assert env.text("BASE_URL", "http://127.0.0.1:8000") == "http://127.0.0.1:8000"
    assert local.data_dir().name == ".data"


def test_a_missing_value_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "")
    with pytest.raises(env.SettingError, match="SECRET_KEY is not set"):
        env.secret("SECRET_KEY")


def test_a_placeholder_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "changeme-" * 8)
    with pytest.raises(env.SettingError, match="SECRET_KEY must be a random text"):
        env.secret("SECRET_KEY")


def test_a_file_gives_the_value(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x" * 40 + "\n")
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "secret"))
    assert env.secret("SECRET_KEY") == "x" * 40
