"""The commands: parse, call one function, print. No logic of their own, and nothing heavy imported early."""
