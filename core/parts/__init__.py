"""Parts that several rules share: declarations to take over, and functions to call.

moments        a mean of the gradient over the root of a mean of squares; where eps goes
momentum       momentum in every form that libraries give it
layerwise      steps rescaled to the size of their parameter
rectification  how many gradients a mean of squares is worth
factored       state kept as one vector per axis
slow           weights that follow the weights of another rule
matrix         which axis of a parameter is the output; orthogonalisation
"""
