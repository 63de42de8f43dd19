"""Pure ASGI, one concern a file; `front.py` puts them in order."""
