"""The command ``saltseg``: one module for each group of verbs."""
