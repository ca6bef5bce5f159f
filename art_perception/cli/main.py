"""The console script ``art-perception``: finds the command, turns bad input into one line and exit code 2.

Every command lives in a module of its own that is imported only when it is called, so that ``--help`` is immediate and
``doctor`` runs even where numpy does not import.
"""

from __future__ import annotations

import difflib
import logging
import os
import sys
from collections.abc import Callable, Sequence

from art_perception.cli.signals import end_on_signals
from art_perception.errors import ArtPerceptionError, UsageError

BAD_INPUT = 2
SUMMARIES = {
    "demo": "reconstruct the bundled clip and compare the result with the truth",
    "run": "turn a recorded bag into a URDF, joint states and a report",
    "evaluate": "run on bags with ground truth and score the results",
    "simulate": "render a bag with ground truth",
    "generate": "draw a new object of a category as a URDF",
    "train": "train a network: sim2art or kinediff3d",
    "track": "follow a known URDF through a recorded bag",
    "view": "show a result in the web browser",
    "check": "validate a URDF and its meshes",
    "doctor": "diagnose this installation",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: command line without the program's name; None means the process's own, which signals may then end.

    Returns:
        Exit code: 0, 2 for bad input, or what the command says.
    """
    if argv is None:
        end_on_signals()
    arguments = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return _dispatch(arguments)
    except ArtPerceptionError as error:
        return _fail(str(error))
    except ImportError as error:
        if (error.name or "").startswith("art_perception"):
            raise
        return _fail(f"a library cannot be imported ({error}): run `art-perception doctor` to see what to install")
    except BrokenPipeError:  # the reader of a pipe, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _fail(sentence: str) -> int:
    print("art-perception: " + " ".join(sentence.split()), file=sys.stderr)
    return BAD_INPUT


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return 0
    if arguments[0] == "--version":
        return _print_version()
    return find_command(arguments[0])(arguments[1:])


def overview() -> str:
    """Text of ``art-perception --help``."""
    width = max(map(len, SUMMARIES))
    lines = [f"  {name.ljust(width)}  {summary}" for name, summary in SUMMARIES.items()]
    return "\n".join(
        [
            "usage: art-perception COMMAND ...",
            "",
            "RGB-D video of a moving articulated object in, URDF and live joint states out.",
            "",
            *lines,
            "",
            "`art-perception COMMAND --help` lists the options of a command.",
        ]
    )


def _print_version() -> int:
    from art_perception import __version__

    print(__version__)
    return 0


def find_command(name: str) -> Callable[[list[str]], int]:
    """Import a command's module and return its entry point.

    Raises:
        UsageError: there is no such command.
    """
    match name:
        case "demo":
            from art_perception.cli import demo

            return demo.main
        case "run":
            from art_perception.cli import run

            return run.main
        case "evaluate":
            from art_perception.cli import evaluate

            return evaluate.main
        case "simulate":
            from art_perception.cli import simulate

            return simulate.main
        case "generate":
            from art_perception.cli import generate

            return generate.main
        case "train":
            from art_perception.cli import train

            return train.main
        case "track":
            from art_perception.cli import track

            return track.main
        case "view":
            from art_perception.cli import view

            return view.main
        case "check":
            from art_perception.cli import check

            return check.main
        case "doctor":
            from art_perception.cli import doctor

            return doctor.main
        case _:
            close = difflib.get_close_matches(name, SUMMARIES, 1, 0.5)
            hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(SUMMARIES)}"
            raise UsageError(f"unknown command {name!r}: {hint}")


if __name__ == "__main__":
    raise SystemExit(main())
