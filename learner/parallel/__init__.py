"""Several learners of one run: what they add up with each other, and how they keep in step."""
