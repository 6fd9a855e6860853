"""The cost of an optimizer step, compared with other libraries: ``samestep bench``.

models       the shapes that are stepped
opponents    the optimizer of each library for each rule, with equal hyperparameters
frameworks   a step of ours, a step of theirs and a plain copy, in each framework
timing       taking turns, medians and paired ratios
traffic      the bytes that a rule must move
targets      the limits to reach
run          all of it in order
results      the rows and the file they are kept in
drawing      the picture
"""
