"""PyTorch, eager: a `Sequential`, the fused optimiser, mini-batches by index from tensors."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

import downslope as ds
from benches.peers.peer import Peer, Predict
from downslope.cases import Case

ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU, "identity": nn.Identity}


class PyTorch(Peer):
    def __init__(self, case: Case, x: np.ndarray, y: np.ndarray, threads: int) -> None:
        torch.set_num_threads(threads)
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)
        self.batch = case.batch
        self.model = sequential(case)
        self.optimizer = make_optimizer(case, self.model)

    @classmethod
    def version(cls) -> str:
        return f"PyTorch {torch.__version__}"

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.mse_loss(self.model(x), y)

    def train(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = self.loss(x, y)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def epoch(self, *, shuffle: bool = True) -> float:
        order = torch.randperm(len(self.x)) if shuffle else torch.arange(len(self.x))
        total = torch.zeros((), dtype=self.x.dtype)
        for rows in order.split(self.batch):
            total += self.train(self.x[rows], self.y[rows])
        return total.item() * self.batch / len(self.x)

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        return self.train(torch.from_numpy(x), torch.from_numpy(y)).item()

    @torch.inference_mode()
    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.model(torch.from_numpy(x)).numpy()

    @property
    def parameters(self) -> np.ndarray:
        # a Linear keeps its weights as (outputs, inputs)
        arrays = (p.detach().numpy().T.ravel() for p in self.model.parameters())
        return np.concatenate(list(arrays))


def sequential(case: Case) -> nn.Sequential:
    activations = [case.activation] * (len(case.widths) - 2) + [case.output]
    modules = []
    for (weights, bias), activation in zip(case.layers(), activations, strict=True):
        linear = nn.Linear(*weights.shape, dtype=getattr(torch, case.dtype))
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weights.T))
            linear.bias.copy_(torch.from_numpy(bias))
        modules.append(linear)
        if activation != "identity":
            modules.append(ACTIVATIONS[activation]())
    return nn.Sequential(*modules)


def make_optimizer(case: Case, model: nn.Module) -> torch.optim.Optimizer:
    ours = case.optimizer
    if isinstance(ours, ds.Adam):
        betas = ours.beta_1, ours.beta_2
        return torch.optim.Adam(
            model.parameters(), lr=ours.learning_rate, betas=betas, eps=ours.epsilon, fused=True
        )
    return torch.optim.SGD(model.parameters(), lr=ours.learning_rate, fused=True)


def classify(
    widths: list[int], batch: int, x: np.ndarray, labels: np.ndarray, seed: int, threads: int
) -> Iterator[Predict]:
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    images, targets = torch.from_numpy(x), torch.from_numpy(labels)
    inputs, hidden, outputs = widths
    model = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    @torch.inference_mode()
    def predict(x: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(x)).argmax(dim=1).numpy()

    while True:
        for rows in torch.randperm(len(images)).split(batch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[rows]), targets[rows]).backward()
            optimizer.step()
        yield predict
