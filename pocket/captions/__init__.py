"""A scene -> one of its many captions."""
