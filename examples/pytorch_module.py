"""A downslope network in a PyTorch model: PyTorch differentiates and steps, downslope computes.

Two views of a digit, its upper and its lower half, go through the same network; one of PyTorch's
layers puts the two together.  The network's parameters are one tensor, over downslope's memory.
"""

import numpy as np
import torch
from torch import nn

import downslope as ds
from downslope.digits import split_digits
from downslope.interop.torch import as_module


class Halves(nn.Module):
    """Class scores from two halves seen by one network."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen
        self.together = nn.Linear(2 * seen.network.outputs, 10)

    def forward(self, x):
        return self.together(torch.cat([self.seen(x[:, :32]), self.seen(x[:, 32:])], dim=1))


torch.manual_seed(0)
digits = split_digits()
net = ds.Network([32, 32, 16], output="relu", seed=0)
model = Halves(as_module(net))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.003)
images, labels = (torch.from_numpy(part) for part in digits.training)

for epoch in range(15):
    for batch in torch.randperm(len(images)).split(64):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()  # changes net.parameters, too
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1:2}: loss of the last batch {loss.item():.3f}")

with torch.no_grad():
    found = model(torch.from_numpy(digits.test.images)).argmax(1).numpy()
print(f"right on {100 * np.mean(found == digits.test.labels):.1f} % of the test images")
