"""Learning the values of places on a random walk, with a loop and gradients of one's own.

A walker on seven places steps left or right at random until it falls off an end; the right end pays
1.  The value of place k is the chance to end there, k / 8, and equals the mean of its neighbours'.
Half the squared difference of the two is descended along both (residual gradient), so that several
forward passes are alive at once.
"""

import numpy as np

import downslope as ds

PLACES = 7
encoded = np.eye(PLACES)
left, right = np.eye(PLACES, k=-1), np.eye(PLACES, k=1)  # a row of zeros is off the end: value 0
pays = encoded[:, -1:]  # falling off the right end

# The parameters lie in memory of this program's; another process could map them too.
memory = np.zeros(PLACES)
net = ds.Network(PLACES, [ds.Dense(1, use_bias=False)], dtype="float64", parameters=memory)
trainer = ds.Trainer(net, optimizer=ds.SGD(0.4))
here, to_left, to_right = (ds.Pass(net) for _ in range(3))

for _ in range(3000):
    neighbours = to_left.forward(left) + to_right.forward(right) + pays
    error = here.forward(encoded) - 0.5 * neighbours
    here.backward(error, net.gradients)
    to_left.backward(-0.5 * error, net.gradients, accumulate=True)
    to_right.backward(-0.5 * error, net.gradients, accumulate=True)
    trainer.update()

for place, value in enumerate(memory, start=1):
    print(f"place {place}: value {value:.4f}, exact {place / (PLACES + 1):.4f}")
