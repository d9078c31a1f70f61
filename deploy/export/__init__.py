"""A trained agent as a folder to give away: named arrays, settings, scores, and no pickle."""
