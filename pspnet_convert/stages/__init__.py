"""The stages: one module each, whose function takes the job and the options that matter, and returns the outcome.

A stage says what its work depends on and what it leaves; the work itself is done by the modules beside this package.
"""
