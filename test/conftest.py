"""What several test modules share."""

from importlib.resources import files

import pytest


@pytest.fixture(scope="session")
def sample_run(tmp_path_factory):
    """The bundled clip, reconstructed once for all tests: where the result is and what was found."""
    from art_perception.cli.run import run_bag

    return run_bag(files("art_perception") / "data_files" / "laptop.mcap", tmp_path_factory.mktemp("sample") / "result")
