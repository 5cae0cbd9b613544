"""Where pictures come from: one small module a source."""
