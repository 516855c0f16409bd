"""HTTP routes and bodies; knows no policy."""
