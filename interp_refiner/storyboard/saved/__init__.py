"""Exported folders: their weights, components and model card."""
