"""What the tests of test_interop_mpi.py run by mpiexec: one of the jobs below, on every rank."""

import os
import signal
import sys

import numpy as np
from mpi4py import MPI

import downslope as ds

COMM = MPI.COMM_WORLD


def data():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(101, 4)).astype(np.float32)
    return x, (x[:, 0] > x[:, 1]).astype(int), rng.uniform(0.5, 2, size=101)


def train(rank_order, communicator=COMM, callbacks=()):
    """A run whose every part counts: shuffling, weights, a ragged last batch, early stopping."""
    x, y, weight = data()
    seed = 11 + COMM.rank if communicator else 11  # rank 0's counts
    layers = [ds.Dense(9, "tanh", l2=1e-3), ds.Dense(3, "tanh"), ds.Dense(2, "softmax")]
    net = ds.Network(4, layers, seed=seed)
    trainer = ds.Trainer(
        net,
        "cross_entropy",
        ds.Adam(ds.schedules.Exponential(0.05, steps=200)),
        communicator=communicator,
        rank_order=rank_order,
    )
    stop = ds.EarlyStopping("val_loss", patience=2, restore_best_weights=True)
    history = trainer.fit(
        x[:91],
        y[:91],
        sample_weight=weight[:91],
        batch_size=20,
        epochs=60,
        validation_data=(x[91:], y[91:]),
        callbacks=[stop, *callbacks],
    )
    loss = trainer.step(x, y)
    trainer.step(x[:1], y[:1])  # fewer rows than ranks
    return (
        net.parameters,
        trainer.state,
        np.array(history.val_loss),
        np.array([*history.loss, loss]),
    )


def job_train(folder, rank_order):
    np.savez(os.path.join(folder, f"{COMM.rank}.npz"), *train(rank_order))


def job_diverge(folder):
    x, *_ = data()
    net = ds.Network([4, 3, 2], seed=0)
    trainer = ds.Trainer(net, optimizer=ds.SGD(1e30), communicator=COMM)
    try:
        trainer.fit(x, x[:, :2], epochs=5)
    except FloatingPointError:
        np.save(os.path.join(folder, f"{COMM.rank}.npy"), net.parameters)


def job_differ(folder):
    try:
        ds.Trainer(ds.Network([4, 3 + COMM.rank, 2], seed=0), communicator=COMM)
    except ValueError as error:
        if "all ranks must train the same network" in str(error):
            np.save(os.path.join(folder, f"{COMM.rank}.npy"), 0)


def job_begin(folder):
    """Many trainers, one after the other; each begins as rank 0's."""
    for _ in range(3000):
        state = np.full((1, 3), float(COMM.rank), np.float32)
        net = ds.Network([2, 1], seed=COMM.rank)
        momentum = ds.SGD(0.1, momentum=0.9)
        trainer = ds.Trainer(net, optimizer=momentum, state=state, communicator=COMM)
    try:
        ds.Session(trainer, rows=1)
    except ValueError as error:
        if "without a communicator" in str(error):
            np.save(os.path.join(folder, f"{COMM.rank}.npy"), [net.parameters, *state])


class Trouble(ds.Callback):
    """What happens to the last rank after its third epoch."""

    def __init__(self, kind):
        self.kind = kind

    def on_epoch_end(self, trainer, epoch, logs):
        if COMM.rank == COMM.size - 1 and epoch == 2:
            if self.kind == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("trouble on this rank alone")


def job_trouble(folder, kind):
    train("any", callbacks=[Trouble(kind)])


if __name__ == "__main__":
    globals()[f"job_{sys.argv[1]}"](*sys.argv[2:])
