"""Weight files: their headers, their numbers, and how they are written."""
