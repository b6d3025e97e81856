"""A downslope network inside a JAX program: an unknown term in a law of motion.

A falling body is braked by the air in a way that is not known: its speed follows dv/dt = g - f(v),
where f is a network.  It is found from noisy speeds, by JAX's derivative of the whole simulation;
the network runs on downslope, forward and backward.
"""

import jax
import jax.numpy as jnp
import numpy as np

import downslope as ds
from downslope.interop.jax import as_function

STEP, STEPS = 0.05, 10
rng = np.random.default_rng(0)


def simulate(braked, v):
    """Speeds (STEPS, bodies) after each step, from the first ones."""

    def advance(v, _):
        v = v + STEP * (9.81 - braked(v))
        return v, v

    return jax.lax.scan(advance, v, length=STEPS)[1]


first = jnp.asarray(rng.uniform(0, 8, size=32), "float32")
true = simulate(lambda v: 0.15 * v**2, first)
measured = true + 0.05 * rng.normal(size=true.shape).astype("float32")

net = ds.Network([1, 16, 1], activation="tanh", seed=0)
network = as_function(net)


def brake(parameters, v):
    """In m/s^2: what comes in and goes out of the network is of the size of 1."""
    return 10 * network(parameters, v[:, None] / 4 - 1)[:, 0]


@jax.jit
@jax.value_and_grad
def loss(parameters):
    speeds = simulate(lambda v: brake(parameters, v), first)
    return ((speeds - measured) ** 2).mean()


# The gradients come from JAX, the steps from downslope's Adam, in place.
trainer = ds.Trainer(net, optimizer=ds.Adam(0.02))
for step in range(1001):
    value, net.gradients = loss(jnp.array(net.parameters))  # a copy: update() changes them
    trainer.update()
    if step % 250 == 0:
        print(f"step {step}: mean squared error {value:.4f}; that of the noise is 0.0025")

for v in (2.0, 4.0, 6.0):
    found = 10 * net.predict_one([v / 4 - 1]).item()
    print(f"brake at {v:.0f} m/s: {found:.2f}, in truth {0.15 * v**2:.2f}")
