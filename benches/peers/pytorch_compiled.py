"""PyTorch with torch.compile: forward, loss and backward compiled; the fused optimiser."""

import numpy as np
import torch

from benches.peers.pytorch import PyTorch
from downslope.cases import Case


class PyTorchCompiled(PyTorch):
    def __init__(self, case: Case, x: np.ndarray, y: np.ndarray, threads: int) -> None:
        super().__init__(case, x, y, threads)
        # A graph for each shape, as dynamic shapes cost speed, and none left from other networks.
        torch.compiler.reset()
        self.loss = torch.compile(super().loss, dynamic=False)
        self.compiled_model = torch.compile(self.model, dynamic=False)

    @torch.inference_mode()
    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.compiled_model(torch.from_numpy(x)).numpy()
