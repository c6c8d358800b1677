"""Modules that every exported folder has a copy of, for diffusers."""
