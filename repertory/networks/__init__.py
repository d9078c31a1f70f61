"""Policy and value networks, shared by actors (acting) and learners (training)."""
