"""The ``art-perception`` command."""
