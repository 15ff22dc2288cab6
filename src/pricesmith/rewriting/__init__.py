"""`pricesmith rewrite`: a language model rewrites the listings of a catalog, if that lowers the error."""
