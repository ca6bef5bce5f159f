"""``art-perception view``: a result folder in the web browser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from art_perception.cli.options import parse
from art_perception.viz.viewer import serve


@dataclass(frozen=True, slots=True)
class ViewOptions:
    """Show a result in the web browser: parts, axes, joint sliders and the recorded motion. Ctrl-C ends it."""

    folder: Positional[Path]
    """Result folder of `run` or `demo`."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in."""
    port: int = 8080
    """TCP port."""


def main(arguments: list[str]) -> int:
    """Entry point of the command."""
    options = parse(ViewOptions, "view", arguments)
    serve(options.folder, options.host, options.port)
    return 0
