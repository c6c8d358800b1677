"""Modules that are copied into every exported folder, for diffusers."""
