"""Render the clip that ships with the package: our own procedural laptop, small enough for a repository."""

import shutil
import tempfile
from pathlib import Path

from art_perception.cli.simulate import SimulateOptions, write_clip
from art_perception.data.config import SimulateConfig
from art_perception.data.objects import make_object
from art_perception.data.simulate import simulate

TARGET = Path(__file__).parents[1] / "art_perception" / "data_files" / "laptop.mcap"
SEED = 5

if __name__ == "__main__":
    clip = simulate(make_object("laptop", SEED), SimulateConfig(width=320, height=240), SEED)
    with tempfile.TemporaryDirectory() as folder:
        write_clip(clip, SimulateOptions(out=Path(folder) / "laptop"))
        TARGET.parent.mkdir(exist_ok=True)
        shutil.copy(Path(folder) / "laptop" / "laptop.mcap", TARGET)
    print(f"{TARGET}: {TARGET.stat().st_size / 1e6:.1f} MB")
