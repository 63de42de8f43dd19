"""The page at `/ui`: upload a picture, see what it is, say whether that is right."""

PAGE = "/ui"
