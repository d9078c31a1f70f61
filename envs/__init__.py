"""Task suites: what can be played, and the lanes that play it."""
