"""Words and amounts of money in text: currencies, tokenization, formatting."""
