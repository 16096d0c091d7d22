"""The real loop: sample, label with the teacher, train, export, check, swap. There is one implementation."""
