"""How a provider's lists come in pages, in any of the ways that a profile can name."""
