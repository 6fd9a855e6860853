"""What is compared: anybody's optimizer, by a name, made and stepped with NumPy on both ends."""
