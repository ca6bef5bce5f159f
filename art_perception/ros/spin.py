"""Run a node until it ends or is told to stop, and leave nothing behind."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation

from art_perception.errors import ArtPerceptionError
from art_perception.io.cleanup import abandon

_SHUTDOWN_S = 0.3  # after a signal publishing fails a moment before rclpy.ok() turns false


class ClosableNode(Protocol):
    """A node with something to stop before it is destroyed."""

    def close(self) -> bool:
        """Stop threads; return whether all have ended."""

    def destroy_node(self) -> Any:
        """Free the node's handles; rclpy's own method."""


N = TypeVar("N", bound=ClosableNode)


def spin(node: Any) -> None:
    """Serve callbacks on the calling thread until shutdown."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.spin()


def run_node(make: Callable[[], N], args: list[str] | None = None, run: Callable[[N], None] = spin) -> int:
    """Initialise rclpy, run the node that ``make`` builds, and clean up.

    Args:
        make: builds the node.
        args: command line; None means that of the process.
        run: works on the main thread until the node is done.

    Returns:
        Exit code: 0 at the node's own end and after SIGINT or SIGTERM, 2 with one line why when it cannot go on.
    """
    rclpy.init(args=args)
    node: N | None = None
    code = 0
    try:
        node = make()
        run(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except rclpy_implementation.RCLError:
        time.sleep(_SHUTDOWN_S)
        if rclpy.ok():  # otherwise a signal came while something was being published
            raise
    except ArtPerceptionError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    finally:
        stopped = _close(node)
    if not stopped:
        _leave(code)
    return code


def _close(node: ClosableNode | None) -> bool:
    """Stop the node's threads, then ROS; False when a thread computes on."""
    stopped = node is None or node.close()
    if node is not None and stopped:
        node.destroy_node()
    rclpy.try_shutdown()
    return stopped


def _leave(code: int) -> None:
    """End the process in the middle of a computation: ros2 launch kills what is there five seconds after SIGINT."""
    abandon()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
