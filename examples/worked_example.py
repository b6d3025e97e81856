"""A 2-2-2 network by hand: forward pass, back-propagation, one step of gradient descent.

Sigmoid everywhere, one bias for each layer, input (0.95, 0.06), target (0.05, 0.82), the error half
the sum of squares.  A well-known article works this example with rounded numbers; it prints a new
w5 of 0.1807289, but descent subtracts the gradient: 0.1792705.
"""

import downslope as ds

w1, w2, w3, w4, w5, w6, w7, w8 = 0.10, 0.15, 0.03, 0.08, 0.18, 0.06, 0.11, 0.26
x, target = [[0.95, 0.06]], [[0.05, 0.82]]

net = ds.Network(
    2,
    [  # weights are (inputs, outputs): h1 = f(w1 x1 + w2 x2 + b1)
        ds.Dense(2, "sigmoid", weights=[[w1, w3], [w2, w4]], bias=0.05, shared_bias=True),
        ds.Dense(2, "sigmoid", weights=[[w5, w7], [w6, w8]], bias=0.42, shared_bias=True),
    ],
    dtype="float64",
)
hidden, output = net.layers

[[y1, y2]] = net.predict(x)
print(f"y1 = {y1:.6f}, y2 = {y2:.6f}")
print(f"E  = {net.evaluate(x, target, loss='half_squared_error'):.6f}")

trainer = ds.Trainer(net, loss="half_squared_error", optimizer=ds.SGD(0.01))
trainer.compute_gradients(x, target)
(dw1, dw3, dw2, dw4, db1), (dw5, dw7, dw6, dw8, db2) = net.gradients.reshape(2, 5)
for name, gradient in zip(
    ("w1", "w2", "w3", "w4", "b1", "w5", "w6", "w7", "w8", "b2"),
    (dw1, dw2, dw3, dw4, db1, dw5, dw6, dw7, dw8, db2),
    strict=True,
):
    print(f"dE/d{name} = {gradient:+.9f}")

trainer.update()
print(f"w5 after one step = {output.weights[0, 0]:.9f}")
