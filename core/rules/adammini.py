from samestep.parts import moments
from samestep.parts.blocks import heads, mean_of_block, per, per_row
from samestep.parts.moments import corrections, over_root
from samestep.vocabulary import Rule, ema, slot


class AdamMini(Rule):
    """Adam-mini: Adam with one mean square for every block of a parameter.

        m     = beta1 m + (1 - beta1) grad
        v     = beta2 v + (1 - beta2) mean(grad^2)       the mean over an output row, over the rows
                                                         of a head, or over the whole parameter
        param = (1 - lr weight_decay) param - lr m_hat / (sqrt(v_hat) + eps)

    A vector is one block. Rows are those of queries and keys with per="head" and their number of
    heads, and of other matrices, embeddings and heads of the model with "row".

    Source: Zhang et al., "Adam-mini: use fewer learning rates to gain more", arXiv 2406.16793, in
        the form of adam-mini 1.1.1.
    Agrees with: adam_mini 1.1.1, in which names of parameters choose the block.
    Differs from: adam_mini in embeddings and the last layer, which it leaves to AdamW; there, too,
        a name that matches nothing is one block without a word.
    Shapes: grad, param and m are equal, the outputs first; v has one number per output.
    """

    needs = "axes"

    lr, betas = moments.lr, moments.betas
    eps, eps_root, eps_at = moments.eps, moments.eps_root, moments.eps_at
    per, heads = per, heads
    bias_correction = moments.bias_correction

    m = moments.m
    v = slot("mean of the squared gradient of a block, per output", init=per_row)

    scalars = corrections

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.beta1)
        v = ema(state.v, mean_of_block(xp, grad * grad, self.per, self.heads), s.beta2)
        return over_root(xp, s.unbias_m * m, v, s.root), {"m": m, "v": v}
