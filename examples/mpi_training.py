"""Ranks of an MPI job train one network together: mpiexec -n 4 python mpi_training.py

Every rank runs this program with the same data, computes the gradients of its share of each batch,
and makes the same update; only what is printed or written is for one rank.  On one rank alone it is
a training like any other.
"""

import numpy as np
from mpi4py import MPI

import downslope as ds
from downslope.digits import split_digits

comm = MPI.COMM_WORLD
digits = split_digits()
x, y = digits.training
net = ds.Network([64, 64, 10], output="softmax", seed=0)
trainer = ds.Trainer(net, "cross_entropy", ds.Adam(0.002), communicator=comm, threads=1)

history = trainer.fit(
    x,
    y,
    epochs=100,
    batch_size=120,  # of all ranks together
    validation_data=digits.validation,
    callbacks=[ds.EarlyStopping(patience=5, restore_best_weights=True)],  # on all ranks at once
)

# Each rank tests its share of the rows, and the counts are summed.
x, y = (part[comm.rank :: comm.size] for part in digits.test)
right = comm.allreduce(int((net.predict(x).argmax(axis=1) == y).sum()))
equal = all(np.array_equal(net.parameters, other) for other in comm.allgather(net.parameters))
if comm.rank == 0:
    print(f"{comm.size} ranks, {history.epochs} epochs, least loss {min(history.val_loss):.3f}")
    print(f"right on {100 * right / len(digits.test.labels):.1f} % of the test images")
    print(f"the same parameters on all ranks: {equal}")
