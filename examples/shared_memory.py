"""One process trains a network, another uses it meanwhile: the parameters lie in shared memory.

The user makes its network over the same memory and predicts; nothing is sent or copied.  A number
that the trainer counts up before and after each change keeps the user from taking parameters half
changed: while it is odd, they are changing.
"""

import multiprocessing
from multiprocessing.shared_memory import SharedMemory

import numpy as np

import downslope as ds

SHAPE = {"widths": [1, 32, 1], "activation": "tanh"}
SIZE = ds.Network(**SHAPE).parameters.size


def views(memory):
    """The sequence number, and the parameters after it."""
    sequence = np.ndarray(1, np.int64, memory.buf)
    return sequence, np.ndarray(SIZE, np.float32, memory.buf, offset=64)


def train(name):
    """Learn sin(3 x) in the memory of this name."""
    memory = SharedMemory(name)
    sequence, parameters = views(memory)
    parameters[:] = ds.Network(**SHAPE, seed=0).parameters
    net = ds.Network(**SHAPE, parameters=parameters)
    trainer = ds.Trainer(net, optimizer=ds.Adam(0.01))
    rng = np.random.default_rng(0)
    for _ in range(3000):
        x = rng.uniform(-1, 1, size=(64, 1)).astype(np.float32)
        trainer.compute_gradients(x, np.sin(3 * x))
        sequence += 1
        trainer.update()  # writes into the shared memory
        sequence += 1
    del net, trainer, sequence, parameters  # views keep the memory from being closed
    memory.close()


def use(memory, trainer):
    """Predict as long as the trainer lives, and show how the network gets better."""
    sequence, parameters = views(memory)
    net = ds.Network(**SHAPE, parameters=parameters)
    x = np.linspace(-1, 1, 200, dtype=np.float32)[:, None]
    shown = -1
    while trainer.is_alive() or shown < sequence[0] // 2:
        before = int(sequence[0])
        y = net.predict(x)
        if before % 2 == 1 or sequence[0] != before:
            continue  # it changed meanwhile
        if before // 2 >= shown + 1000 or not trainer.is_alive():
            shown = before // 2
            print(f"after {shown:4} steps: error {np.abs(y - np.sin(3 * x)).mean():.4f}")


if __name__ == "__main__":
    memory = SharedMemory(create=True, size=64 + 4 * SIZE)
    try:
        trainer = multiprocessing.get_context("spawn").Process(target=train, args=(memory.name,))
        trainer.start()
        use(memory, trainer)
        trainer.join()
    finally:
        memory.close()
        memory.unlink()
