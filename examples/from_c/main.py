"""Learns 1 - x^2 row by row in C, then climbs the hill from Cython: run it after setup.py."""

import numpy as np
import online

import downslope as ds

x = np.random.default_rng(0).uniform(-1, 1, size=(200, 1)).astype(np.float32)
net = ds.Network([1, 16, 1], activation="tanh", seed=0)
session = ds.Session(ds.Trainer(net, optimizer=ds.Adam(0.003)), rows=1)
print(f"loss {online.learn(session.capsule, x, 1 - x**2, 300):.5f}")

place = np.array([0.8], dtype=np.float32)
height = online.steepest(session.capsule, place, 300, 0.05)
print(f"the top is at {abs(place[0]):.1f}, {height:.1f} high")
