"""Draw the README's picture: the bundled clip beside the URDF that was made from it, as it moves."""

import tempfile
from importlib.resources import files
from pathlib import Path

from art_perception.cli.run import run_bag
from art_perception.viz.figure import write_figure

TARGET = Path(__file__).parents[1] / "docs" / "images" / "demo.gif"

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = run_bag(files("art_perception") / "data_files" / "laptop.mcap", Path(folder) / "result").reconstruction
    TARGET.parent.mkdir(exist_ok=True)
    write_figure(TARGET, found, height=280, count=12)
    print(f"{TARGET}: {TARGET.stat().st_size / 1e6:.1f} MB")
