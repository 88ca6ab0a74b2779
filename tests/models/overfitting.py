"""Training a network on one image until it knows it, for every network's test."""

import torch
from torch import nn

from saltseg.models.losses import binary_cross_entropy


def overfit(network: nn.Module, image: torch.Tensor, mask: torch.Tensor, rate: float) -> float:
    """The cross-entropy after 80 steps of Adam; about 0.7 before."""
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    for _ in range(80):
        optimizer.zero_grad()
        loss = binary_cross_entropy(network(image), mask)
        loss.backward()
        optimizer.step()
    return loss.item()
