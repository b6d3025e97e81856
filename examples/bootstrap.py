"""How sure is a network?  Fifty of them, each trained on another bootstrap sample of the rows.

Their mean is the prediction, and their spread says where it is worth little: between the data, and
beyond them (where even so it promises too much).  Writes bootstrap.png.
"""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import downslope as ds

rng = np.random.default_rng(1)
x = np.concatenate([rng.uniform(-2, -0.6, 40), rng.uniform(0.4, 1.4, 60)])[:, None]
y = np.sin(3 * x) + 0.15 * rng.normal(size=x.shape)

n = 50
counts = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), size=n)  # of each row in each sample
ensemble = ds.Ensemble(n, [1, 32, 32, 1], seed=0)
histories = ensemble.fit(x, y, optimizer=ds.Adam(0.01), epochs=300, sample_weight=counts)

at = np.linspace(-2.6, 2.2, 300)[:, None]
mean, spread = ensemble.mean_and_spread(at)
for place in (40, 120, 170, 290):
    values = [v[place, 0] for v in (at, mean, spread, np.sin(3 * at))]
    print("x = {:5.2f}: {:5.2f} +- {:.2f}, in truth {:5.2f}".format(*values))

figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
low, high = (mean - 2 * spread)[:, 0], (mean + 2 * spread)[:, 0]
axes.fill_between(at[:, 0], low, high, alpha=0.25, label="mean ± 2 spreads")
axes.plot(at, mean, label="mean of 50 networks")
axes.plot(at, np.sin(3 * at), "k--", linewidth=1, label="sin 3x, to be found")
axes.plot(x, y, ".", color="tab:orange", label="data")
axes.set(xlabel="x", ylabel="y", ylim=(-4, 3))
axes.legend(loc="upper center", ncols=2)
figure.savefig("bootstrap.png", dpi=120)
print("bootstrap.png shows it")
