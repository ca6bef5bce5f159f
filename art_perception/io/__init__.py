"""Recordings in, result directories out."""
