"""A small decoder-only transformer for text, with LayerNorm before each sublayer, as in GPT-2 [Radford et al. 2019].

The embedding and the output layer share their weights [arXiv 1608.05859].
"""

import math

import torch
from torch import Tensor, nn

from lca.errors import UsageError

HEADS = 4
CHANNELS = 64


class Attention(nn.Module):
    """Causal self-attention with several heads."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        B, S, C = x.shape
        query, key, value = self.query_key_value(x).view(B, S, 3, HEADS, C // HEADS).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        out: Tensor = self.out(attended.transpose(1, 2).reshape(B, S, C))
        return out


class Block(nn.Module):
    """Two sublayers with residual connections: self-attention, and two dense layers that act on each position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(channels), Attention(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.dense1, self.dense2 = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.dense2(nn.functional.gelu(self.dense1(self.norm2(x))))
        return out


class Transformer(nn.Module):
    """A map from tokens, (B, S), to the logits of the token that follows each, (B, S, vocabulary)."""

    def __init__(self, vocabulary: int, context: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, channels)
        self.position = nn.Embedding(context, channels)
        self.blocks = nn.Sequential(*(Block(channels) for _ in range(blocks)))
        self.norm = nn.LayerNorm(channels)
        self.out = nn.Linear(channels, vocabulary, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.position.weight[: tokens.shape[1]]
        logits: Tensor = self.out(self.norm(self.blocks(x)))
        return logits


def transformer(vocabulary: int, context: int, *, blocks: int = 4, width: float = 1.0) -> nn.Module:
    """Return a transformer with 64 · `width` channels.

    The initial weights are normal with standard deviation 0.02, biases are 0 and norms are 1. The standard
    deviation of the last weights in each sublayer is divided by √(2 · blocks), so that the sum over the blocks does not
    grow with their number.
    """
    channels = round(CHANNELS * width)
    if blocks < 1 or channels < HEADS or channels % HEADS:
        raise UsageError(
            "blocks and width",
            expected=f"at least one block, and a width for which {CHANNELS} · width is a multiple of {HEADS}",
            found=f"{blocks} blocks and width {width:g}, which gives {channels} channels",
        )
    model = Transformer(vocabulary, context, channels, blocks)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                ends = name.endswith(("attention.out.weight", "dense2.weight"))
                nn.init.normal_(parameter, std=0.02 / (math.sqrt(2 * blocks) if ends else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
    return model
