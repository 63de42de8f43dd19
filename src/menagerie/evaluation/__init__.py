"""How good a model is, measured on the served bytes in the serving runtime."""
