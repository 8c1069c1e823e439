"""Which sources belong to a user's own part."""

from fedapm_mpi.config import plugin_sources
from tests.support.own_files import PLAIN, here, write  # noqa: F401


def test_what_belongs_to_a_part(here):  # noqa: F811
    write("pack/__init__.py", "from . import inner\n")
    write("pack/inner.py", "import json, torch\nfrom .deep import thing\n")
    write("pack/deep.py", "thing = 1\n\n\ndef later():\n    import beside_pack\n")
    write("beside_pack.py", "from pack.unused import *\n")
    write("pack/unused.py", "")
    write("unrelated.py", "")
    from fedapm_mpi.models import models

    write("pack/part.py", PLAIN + "import pack.inner as i\n")
    models.get("pack.part:plain")
    found = plugin_sources.hashes({"model": {"name": "pack.part:plain"}})
    assert sorted(found) == [
        "beside_pack.py",
        "pack/__init__.py",
        "pack/deep.py",
        "pack/inner.py",
        "pack/part.py",
        "pack/unused.py",
    ]
    models.get("math:sqrt")
    models.get("json:loads")
    models.get("builtins:dict")
    found = plugin_sources.hashes(
        {"model": "math:sqrt", "algorithm": "json:loads", "placement": "builtins:dict"}
    )
    assert found["builtins"].startswith("built into Python 3.")
    assert {len(digest) for key, digest in found.items() if key != "builtins"} <= {
        64,
        len(found["builtins"]),
    }
