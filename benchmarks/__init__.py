"""What an optimizer step costs, beside the libraries' own optimizers: ``samestep bench``.

models       the shapes that are stepped
libraries    which optimizer of which library is which rule, with equal hyperparameters
frameworks   a step of ours, a step of theirs and a plain copy, in each framework
timing       taking turns, medians and paired ratios
traffic      the bytes that a rule must move
targets      what is to be reached
run          all of it in order
results      the rows and the file they are kept in
report       the tables and the picture
"""
