"""Subscriptions that follow their publishers: raw or compressed, reliable or best effort, said plainly when missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy

from art_perception.ros.diagnostics import RateMeter

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

if TYPE_CHECKING:
    from rclpy.node import Node

Reliability = Literal["auto", "reliable", "best_effort"]
_POLICIES = {"reliable": QoSReliabilityPolicy.RELIABLE, "best_effort": QoSReliabilityPolicy.BEST_EFFORT}


@dataclass(frozen=True, slots=True)
class Variant:
    """One form in which an input may arrive: a topic and its message type."""

    topic: str
    type: Any

    @property
    def type_name(self) -> str:
        """ROS name of the type, e.g. sensor_msgs/msg/Image."""
        return f"{self.type.__module__.split('.')[0]}/msg/{self.type.__name__}"


def latched(depth: int = 1) -> QoSProfile:
    """Reliable and transient local: late joiners receive the last ``depth`` messages."""
    return QoSProfile(
        depth=depth,
        history=QoSHistoryPolicy.KEEP_LAST,
        reliability=QoSReliabilityPolicy.RELIABLE,
        durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
    )


def choose_reliability(wanted: Reliability, offered: Sequence[QoSReliabilityPolicy]) -> QoSReliabilityPolicy:
    """Return what to ask for: in ``auto``, RELIABLE unless some publisher offers only best effort."""
    if wanted != "auto":
        return _POLICIES[wanted]
    best_effort = QoSReliabilityPolicy.BEST_EFFORT
    return best_effort if best_effort in offered else QoSReliabilityPolicy.RELIABLE


class TopicInput:
    """One input of a node; call :meth:`follow_publishers` now and then."""

    def __init__(
        self,
        node: Node,
        name: str,
        variants: Sequence[Variant],
        callback: Callable[[Any], None],
        reliability: Reliability,
        depth: int,
    ) -> None:
        self._node = node
        self._callback = callback
        self._wanted = reliability
        self._depth = depth
        self._variants = list(variants)
        self.name = name
        self.rate = RateMeter()
        self.received = 0
        self.incompatible = ""
        self._subscribe(self._variants[0], choose_reliability(reliability, ()))

    @property
    def topic(self) -> str:
        """Topic in use, after remapping."""
        return self._subscription.topic_name

    @property
    def has_publisher(self) -> bool:
        """Whether anyone publishes the topic in use."""
        return bool(self._publishers(self._variant))

    def close(self) -> None:
        """Stop listening."""
        self._node.destroy_subscription(self._subscription)

    def follow_publishers(self) -> None:
        """Subscribe anew when the publishers ask for another transport or reliability than the current one."""
        variant = next((v for v in self._variants if self._publishers(v)), self._variant)
        offered = [info.qos_profile.reliability for info in self._publishers(variant)]
        reliability = choose_reliability(self._wanted, offered) if offered else self._reliability
        if (variant, reliability) != (self._variant, self._reliability):
            self.close()
            self._subscribe(variant, reliability)

    def missing(self) -> str:
        """Why nothing arrives, or an empty string when messages do."""
        if self.rate.hz > 0:
            return ""
        count = len(self._publishers(self._variant))
        return f"{self.name} on {self.topic}; publishers {count}; QoS {self._reliability.name.lower()}"

    def _publishers(self, variant: Variant) -> list[Any]:
        infos = self._node.get_publishers_info_by_topic(self._node.resolve_topic_name(variant.topic))
        return [info for info in infos if info.topic_type == variant.type_name]

    def _subscribe(self, variant: Variant, reliability: QoSReliabilityPolicy) -> None:
        self._variant, self._reliability = variant, reliability
        self.incompatible = ""
        qos = QoSProfile(depth=self._depth, history=QoSHistoryPolicy.KEEP_LAST, reliability=reliability)
        events = SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible)
        self._subscription = self._node.create_subscription(
            variant.type, variant.topic, self._on_message, qos, event_callbacks=events
        )

    def _on_message(self, message: Any) -> None:
        self.received += 1
        self.rate.tick()
        self._callback(message)

    def _on_incompatible(self, event: Any) -> None:
        if self._wanted == "auto":
            return  # follow_publishers() adapts
        policy = getattr(event.last_policy_kind, "name", event.last_policy_kind)
        self.incompatible = (
            f"{self.name}: {event.total_count} publisher(s) of {self.topic} offer an incompatible QoS ({policy}) while "
            f"reliability is {self._wanted}: set reliability to auto"
        )
