"""A rule of your own: one file, outside the package, native in every framework.

Run it to train the same line in torch, JAX and MLX. Put it before the whole conformance suite with
``SAMESTEP_RULES=quasi_hyperbolic_momentum.py pytest --pyargs samestep.conformance -k QHM``.
"""

from samestep import Rule, ema, hyper, slot, weights


class QHM(Rule):
    """Quasi-hyperbolic momentum: a weighted mean of plain and momentum gradient.

        m     = beta m + (1 - beta) grad
        param = param - lr ((1 - nu) grad + nu m)

    Source: Ma and Yarats, "Quasi-hyperbolic momentum and Adam for deep learning",
        arXiv 1810.06801, equations 3 and 4.
    Agrees with: facebookresearch/qhoptim. Differs from: nothing known.
    Shapes: grad, param and m are equal, any shape.
    """

    lr = hyper(1.0, "step size", unit="parameter/gradient", ge=0)
    beta = hyper(0.999, "decay per step of m", unit="1/step", ge=0, lt=1)
    nu = hyper(0.7, "weight of the momentum", unit="1", ge=0, le=1)

    m = slot("mean of the gradient")

    def scalars(self, xp, t):
        return {"beta": weights(self.beta), "mix": weights(self.nu)}

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.beta)
        return ema(m, grad, s.mix), {"m": m}


if __name__ == "__main__":
    import numpy

    from samestep.parity.backend import backends

    inputs = numpy.linspace(-1, 1, 64).reshape(-1, 1)
    targets = 3 * inputs - 0.5
    for library in ("torch", "jax", "mlx"):
        backend = backends()[library]
        x, y = backend.array(inputs, "float32"), backend.array(targets, "float32")
        run = backend.start(QHM(lr=0.3), {"w": numpy.zeros((1, 1)), "b": numpy.zeros(1)}, "float32")
        for _ in range(200):
            loss, grads = backend.value_and_grad(
                lambda xp, p, x, y: xp.mean((xp.matmul(x, p["w"]) + p["b"] - y) ** 2),
                run.params(),
                x,
                y,
            )
            run.step({path: backend.numpy(grad) for path, grad in grads.items()})
        w, b = (backend.numpy(run.params()[path]).item() for path in ("w", "b"))
        print(f"{library:6} loss {loss:.2e}  y = {w:.4f} x + {b:.4f}")
