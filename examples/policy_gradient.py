"""Balancing poles: REINFORCE with a loop, an environment and gradients of one's own.

64 carts with a pole each are simulated at once (the equations of Barto, Sutton and Anderson, 1983).
The network gives the chance of a push to the right.  After a round, each decision's log-probability
is raised or lowered by how much longer the pole stood afterwards than others did at that time.
"""

import numpy as np

import downslope as ds

CARTS, MOST_STEPS, DISCOUNT = 64, 200, 0.98
rng = np.random.default_rng(0)


def advance(state, push_right):
    """The state (place, speed, angle, turning) of each cart 0.02 s later."""
    _, speed, angle, turning = state.T
    force = np.where(push_right, 10.0, -10.0)
    sine, cosine = np.sin(angle), np.cos(angle)
    common = (force + 0.05 * turning**2 * sine) / 1.1
    twist = (9.8 * sine - cosine * common) / (0.5 * (4 / 3 - 0.1 * cosine**2 / 1.1))
    change = np.stack([speed, common - 0.05 * twist * cosine / 1.1, turning, twist], axis=1)
    return state + 0.02 * change


def stands(state):
    return (np.abs(state[:, 0]) < 2.4) & (np.abs(state[:, 2]) < 0.21)


net = ds.Network([4, 32, 1], activation="tanh", output="sigmoid", dtype="float64", seed=0)
trainer = ds.Trainer(net, optimizer=ds.Adam(0.01))

for round_ in range(61):
    state, alive = rng.uniform(-0.05, 0.05, size=(CARTS, 4)), np.full(CARTS, True)
    states, pushes, lives = [], [], []
    for _ in range(MOST_STEPS):
        push = rng.random(CARTS) < net.predict(state)[:, 0]
        states.append(state)
        pushes.append(push)
        lives.append(alive)
        state = np.where(alive[:, None], advance(state, push), state)
        alive = alive & stands(state)
        if not alive.any():
            break
    lives = np.array(lives, float)  # (steps, carts); each step alive is worth 1

    returns = lives.copy()
    for t in reversed(range(len(returns) - 1)):
        returns[t] += DISCOUNT * returns[t + 1]
    others = (returns * lives).sum(axis=1) / lives.sum(axis=1)
    advantage = lives * (returns - others[:, None])

    chance = net.forward(np.concatenate(states))
    push = np.concatenate(pushes)[:, None]
    d_log = np.where(push, 1 / chance, -1 / (1 - chance))  # of each decision's log-probability
    net.backward(-advantage.reshape(-1, 1) * d_log / lives.sum())  # update() goes down
    trainer.update()
    if round_ % 15 == 0:
        print(f"round {round_:2}: a pole stands {lives.sum(axis=0).mean():5.1f} of 200 steps")
