"""The lowest error: `best` puts trees over networks that look at similar listings, and learns from rows left out."""
