"""Pages: one file for each area of the site."""
