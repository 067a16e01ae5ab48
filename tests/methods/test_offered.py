"""Methods that installed packages offer by their entry points."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysl import methods
from raysl.errors import InputError
from raysl.templates import new_method
from tests.methods.test_own import run_config

ENTRY_POINTS = """[raysl.methods]
notmodule = offered.spread2:Config
byol = offered.byol
broken = offered.broken
gone = offered.gone
misnamed = offered.misnamed
spread2 = offered.spread2
"""


def test_an_installed_package_offers_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    new_method("even_spread")
    text = Path("even_spread.py").read_text(encoding="utf-8").replace("EvenSpread", "Method")
    fields = 'class Config(base.MethodConfig):\n    name: str = "{}"\n'
    package = tmp_path / "site" / "offered"
    package.mkdir(parents=True)
    for name, code in {
        "__init__": "",
        "spread2": text.replace("class Config(base.MethodConfig):\n", fields.format("spread2")),
        "misnamed": text.replace("class Config(base.MethodConfig):\n", fields.format("other")),
        "broken": "1 / 0",
        "byol": "",
    }.items():
        (package / f"{name}.py").write_text(code, encoding="utf-8")
    facts = tmp_path / "site" / "offered-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: offered\nVersion: 1.0\n", encoding="utf-8")
    (facts / "entry_points.txt").write_text(ENTRY_POINTS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "site")
    methods._offered.cache_clear()
    try:
        assert "spread2" in methods.method_names()
        config = run_config("spread2", "method.alpha=1.5")
        assert methods.method_class(config.method).__module__ == "offered.spread2"
        assert config.to_dict()["method"]["alpha"] == 1.5
        for name, told in {
            "broken": "cannot be imported: ZeroDivisionError",
            "gone": "cannot be imported: ModuleNotFoundError",
            "misnamed": "its Config has name = 'other'",
            "byol": "is raysl's own, but the entry point offered.byol",
            "notmodule": "is not a module",
            "spread3": "did you mean 'spread2'",
        }.items():
            with pytest.raises(InputError, match=told):
                run_config(name)
    finally:
        methods._offered.cache_clear()
