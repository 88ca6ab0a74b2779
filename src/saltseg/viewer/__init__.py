"""The page that `saltseg view` serves on this machine."""
