"""What several rules share: fields, slots and arithmetic that a rule takes over by inheriting them.

moments     a mean of the gradient over the root of a mean of squares; where eps goes
momentum    momentum in every form that libraries give it
layerwise   steps rescaled to the size of their parameter
factored    state kept as one vector per axis
matrix      which axis of a parameter is the output; orthogonalisation
"""
