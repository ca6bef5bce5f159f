"""PointNet++ (Qi et al., 2017) of a partial cloud: features of places on it, and one of all of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from art_perception.geometry.points import ball_query, farthest_points, gather
from art_perception.models.sim2art import mlp


@dataclass(frozen=True, slots=True)
class PointEncoderConfig:
    """Size of the encoder; lengths in units of the cloud it is given."""

    places: tuple[int, int] = (96, 24)
    """Farthest points that become the centres of groups, at both levels."""
    neighbours: tuple[int, int] = (24, 12)
    """Points of a group."""
    radii: tuple[float, float] = (0.4, 1.0)
    """Radius of a group."""
    width: int = 128
    """Channels of a place; the feature of the whole cloud has twice as many."""


class PointEncoder(nn.Module):
    """Two levels of sampling and grouping, then the maximum over all places."""

    def __init__(self, config: PointEncoderConfig) -> None:
        super().__init__()
        self.config, w = config, config.width
        self.near, self.near_out = mlp(6, w // 2, w // 2), mlp(w // 2, w, w // 2)
        self.far, self.far_out = mlp(w // 2 + 6, w, w), mlp(w, w, w)
        self.whole = mlp(w + 3, 2 * w, 2 * w)
        lively(self)

    def forward(self, cloud: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Clouds (B, N, 3), N at least the places of the first level, in any but sorted order.

        Returns:
            Places (B, M, 3), their features (B, M, C), and the feature (B, 2 C) of every cloud.
        """
        (places, fewer), (near, far), (small, large) = self.config.places, self.config.neighbours, self.config.radii
        centres = gather(cloud, farthest_points(cloud, places))
        own = self.near_out(_grouped(self.near, centres, cloud, cloud[..., :0], small, near))
        middle = gather(centres, farthest_points(centres, fewer))
        tokens = self.far_out(_grouped(self.far, middle, centres, own, large, far))
        return middle, tokens, self.whole(torch.cat([tokens, middle], -1)).amax(1)


def lively(network: nn.Module) -> None:
    """Weights to begin with that keep the variance of what passes through (He et al., 2015).

    With torch's own, twelve layers later clouds differ by a hundredth of what they have in common, and the category
    is all that the layers behind can learn from.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)


def _grouped(net: nn.Module, centres: Tensor, cloud: Tensor, features: Tensor, radius: float, count: int) -> Tensor:
    """Maximum (B, M, C) over what the net makes of the members of every group: offset, place and feature of each."""
    index = ball_query(centres, cloud, radius, count)
    index = torch.where(index < 0, index[..., :1], index)  # a centre is a member, so the first one always exists
    place = gather(cloud, index)
    members = torch.cat([(place - centres[:, :, None]) / radius, place, gather(features, index)], -1)
    return net(members).amax(2)
