"""What ``samestep parity`` finds, as text, as a page and for machines."""
