"""What a trained network's derivatives tell: by the inputs, and by the parameters row by row.

The network learns y = x1^2 + sin(2 x2) from rows some of whose targets are wrong.  A third input
has nothing to do with y.
"""

import numpy as np

import downslope as ds

rng = np.random.default_rng(0)
x = rng.uniform(-1.5, 1.5, size=(600, 3))
y = x[:, :1] ** 2 + np.sin(2 * x[:, 1:2])
wrong = rng.choice(len(x), 6, replace=False)
y[wrong] += 3

net = ds.Network([3, 32, 32, 1], activation="tanh", dtype="float64", seed=0)
trainer = ds.Trainer(net, "huber", optimizer=ds.Adam(0.01))  # which wrong rows draw less
trainer.fit(x, y, epochs=150)

# The Jacobian, d outputs / d inputs of each row, beside the derivatives of the function learnt.
points = np.array([[0.5, 0.0, 0.0], [-1.0, 1.0, 0.0]])
one = ds.Pass(net)
one.forward(points)
for point, [slopes] in zip(points, one.jacobian(), strict=True):
    exact = 2 * point[0], 2 * np.cos(2 * point[1]), 0.0
    print(f"at {point}: slopes {slopes.round(1)}, exact {np.round(exact, 1)}")

# The gradient of a sum of outputs by the inputs, in one pass back: how much each input counts.
one.forward(x)
importance = np.abs(one.backward(np.ones_like(y))).mean(axis=0)
print(f"mean size of the slopes: {importance.round(2)}; the third input does not count")

# The gradients of each row's own loss: the rows that pull hardest do not fit the others.
pull = np.linalg.norm(trainer.row_gradients(x, y), axis=1)
found = np.argsort(pull)[-len(wrong) :]
print(f"rows that pull hardest: {sorted(found.tolist())}")
print(f"rows with wrong targets: {sorted(wrong.tolist())}")
