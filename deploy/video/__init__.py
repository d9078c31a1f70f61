"""Films of episodes: what is played, what is drawn beside it, and the file it goes into."""
