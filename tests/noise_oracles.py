"""The oracles of the noise of a training step: Philox4x32-10, and what is made of its words."""

from __future__ import annotations

import statistics

import numpy as np

from numpy_reference import ACTIVATIONS, Network, back_through, flat


def philox_words(seed: int, stream: int, blocks: np.ndarray) -> np.ndarray:
    """The words (4, n) of the blocks of those numbers (Salmon and others, 2011, section 3.3)."""
    ones = np.uint64(2**32 - 1)
    half = np.uint64(32)
    blocks = blocks.astype(np.uint64)
    stream_words = [np.full_like(blocks, word) for word in (stream % 2**32, stream >> 32)]
    c = [blocks & ones, blocks >> half, *stream_words]
    for turn in range(10):
        k = [(seed + turn * 0x9E3779B9) % 2**32, ((seed >> 32) + turn * 0xBB67AE85) % 2**32]
        p_0, p_2 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [
            (p_2 >> half) ^ c[1] ^ np.uint64(k[0]),
            p_2 & ones,
            (p_0 >> half) ^ c[3] ^ np.uint64(k[1]),
            p_0 & ones,
        ]
    return np.array(c)


def dropout_mask(seed: int, stream: int, first: int, n: int, dropped: int) -> np.ndarray:
    """Elements first .. first + n: 256 to 32 blocks, by word, half of the word, block."""
    chunk, k = np.divmod(np.arange(n, dtype=np.uint64) + np.uint64(first), np.uint64(256))
    word, half, block = k // 64, k % 64 // 32, k % 32
    words = philox_words(seed, stream, chunk * np.uint64(32) + block)
    bits = words[word.astype(int), np.arange(n)] >> (np.uint64(16) * half) & np.uint64(0xFFFF)
    return np.where(bits < dropped, 0.0, 65536 / (65536 - dropped))


def normal_noise(seed: int, stream: int, first: int, n: int) -> np.ndarray:
    """Elements first .. first + n: 128 to 32 blocks, by word and block."""
    chunk, k = np.divmod(np.arange(n, dtype=np.uint64) + np.uint64(first), np.uint64(128))
    word, block = k // 32, k % 32
    words = philox_words(seed, stream, chunk * np.uint64(32) + block)
    chosen = words[word.astype(int), np.arange(n)] >> np.uint64(9)
    quantile = statistics.NormalDist().inv_cdf
    return np.array([quantile((2 * int(k) + 1) * 2.0**-24) for k in chosen])


class NoisyNetwork(Network):
    """A network in training: `masks` has one for each layer but the last, or None."""

    masks: list[np.ndarray | None]

    def draw(self, seed: int, step: int, rows: int, rates: list[float]) -> None:
        """The masks of a step, with the dropout rates of the layers."""
        self.masks = [
            dropout_mask(
                seed,
                (4 << 48) + step,
                (number + 1) << 48,
                rows * layer.weights.shape[1],
                round(rate * 65536),
            ).reshape(rows, -1)
            if rate
            else None
            for number, (layer, rate) in enumerate(zip(self.layers, rates, strict=True))
        ]

    def forward(self, x: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        zs, ys = [], [x]
        for layer, mask in zip(self.layers, self.masks, strict=True):
            zs.append(layer.net_input(ys[-1]))
            y = ACTIVATIONS[layer.activation](zs[-1], layer.parameter).astype(self.dtype)
            ys.append(y if mask is None else y * mask)
        return zs, ys

    def backward(
        self, zs: list[np.ndarray], ys: list[np.ndarray], delta: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        gradients: list[np.ndarray] = []
        for i in reversed(range(len(self.layers))):
            layer, x = self.layers[i], ys[i]
            gradients = [x.T @ delta, layer.bias_gradient(delta), *gradients]
            d_x = delta @ layer.weights.T
            if i > 0:
                below, mask = self.layers[i - 1], self.masks[i - 1]
                d_y = d_x if mask is None else d_x * mask
                delta = back_through(below.activation, zs[i - 1], d_y, below.parameter)
        return flat(gradients), d_x
