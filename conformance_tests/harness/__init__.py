"""What a rule and a backend are put through."""
