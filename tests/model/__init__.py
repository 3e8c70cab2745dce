"""Models of the view protocol: small enough to be searched through. See docs/model.md."""
