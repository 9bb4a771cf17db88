"""The sections of the configuration, each with its own checks: what keys mean, and what fits."""
