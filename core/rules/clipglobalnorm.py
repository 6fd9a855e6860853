from samestep.vocabulary import Wrapper, hyper, shrinkage, sqrt


class ClipGlobalNorm(Wrapper):
    """ClipGlobalNorm: the gradients of all parameters together no longer than a norm.

        norm = sqrt(sum of grad^2 over all parameters) + norm_eps
        grad = grad min(1, max_norm / norm),  and the wrapped rule's step with it

    The gradient is clipped before ``maximize`` and before coupled weight decay. A NaN norm makes
    every gradient NaN; an infinite norm makes finite elements 0 and infinite elements NaN. In torch
    the norm runs over the parameters of the optimizer.

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural
        networks", arXiv 1211.5063, Algorithm 1, which has no norm_eps.
    Agrees with: optax.clip_by_global_norm; samestep.clip_grads; and with norm_eps=1e-6
        torch.nn.utils.clip_grad_norm_ and mlx.optimizers.clip_grad_norm.
    Differs from: torch's and optax's in narrow dtypes, which they square as they are.
    Shapes: grad keeps its shape; no state of its own.
    """

    reads = "tree"

    max_norm = hyper(
        1.0,
        "largest norm of all gradients",
        unit="gradient",
        gt=0,
        typical=0.1,
        infinite=True,
        whole=True,
    )
    norm_eps = hyper(0.0, "added to the norm", unit="gradient", ge=0, whole=True)

    def local(self, xp, grad, param, state, s):
        return {}, {"squares": xp.sum(grad * grad)}

    def combine(self, xp, sums, shared, s):
        return {"clip": shrinkage(xp, sqrt(xp, sums.squares) + s.norm_eps, s.max_norm)}

    def prepare(self, xp, grad, param, state, s):
        return state.clip * grad
