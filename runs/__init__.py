"""Recipes: flag files, each opening with what it measures and how long that takes."""
